//! Errors of a request, as an answer: a status, a slug for programs, a sentence for people. Plain values, any thread. Never
//! writes to a socket.

use crate::StatusCode;
use crate::header::Header;
use crate::refusal::{Refusal, Refused};

/// A refusal. Only constant data, so that nothing a client sent is repeated to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) status: u16,
    pub(crate) slug: &'static str,
    pub(crate) message: &'static str,
}

impl Fault {
    pub(crate) const fn bad_request(message: &'static str) -> Fault {
        Fault { status: 400, slug: "bad_request", message }
    }

    pub(crate) const HEAD_TIMEOUT: Fault =
        Fault { status: 408, slug: "head_timeout", message: "the request head took too long to arrive" };
    pub(crate) const BODY_TIMEOUT: Fault =
        Fault { status: 408, slug: "body_timeout", message: "the request body took too long to arrive" };
    pub(crate) const LENGTH_REQUIRED: Fault =
        Fault { status: 411, slug: "length_required", message: "a body over HTTP/1.0 needs a Content-Length" };
    pub(crate) const BODY_TOO_LARGE: Fault =
        Fault { status: 413, slug: "body_too_large", message: "the request body is larger than this server accepts" };
    pub(crate) const EXPECTATION: Fault =
        Fault { status: 417, slug: "expectation_failed", message: "the only expectation met here is 100-continue" };
    pub(crate) const HEAD_TOO_LARGE: Fault =
        Fault { status: 431, slug: "head_too_large", message: "the request head is larger than this server accepts" };
    pub(crate) const TOO_MANY_HEADERS: Fault =
        Fault { status: 431, slug: "too_many_headers", message: "the request has more header fields than accepted" };
    pub(crate) const UNANSWERED: Fault =
        Fault { status: 500, slug: "internal_error", message: "the server gave no answer to this request" };
    pub(crate) const TRANSFER_CODING: Fault =
        Fault { status: 501, slug: "transfer_coding", message: "the only transfer coding understood here is chunked" };
    pub(crate) const CONNECT: Fault =
        Fault { status: 501, slug: "not_implemented", message: "this server is no proxy" };
    pub(crate) const TOO_MANY_CONNECTIONS: Fault =
        Fault { status: 503, slug: "too_many_connections", message: "all connections are taken, try again later" };
    pub(crate) const BODIES_FULL: Fault =
        Fault { status: 503, slug: "overloaded", message: "too many request bodies at a time, try again later" };
    pub(crate) const VERSION: Fault =
        Fault { status: 505, slug: "http_version", message: "this server speaks HTTP/1.0 and HTTP/1.1" };

    /// This fault for the function that shapes the answer.
    pub(crate) fn refused<'a>(&self, url: Option<&'a str>, headers: &'a [Header]) -> Refused<'a> {
        Refused { status: self.status, slug: self.slug, message: self.message, url, headers }
    }

    /// The whole answer, head and body. The connection closes after it.
    pub(crate) fn answer(&self, refusal: &Refusal) -> Vec<u8> {
        let retry = if self.status == 503 { "Retry-After: 1\r\n" } else { "" };
        let fields = refusal.headers.iter().map(|header| format!("{header}\r\n"));
        let head = format!(
            "HTTP/1.1 {} {}\r\nDate: {}\r\n{}Content-Length: {}\r\n{retry}Connection: close\r\n\r\n",
            self.status,
            StatusCode(self.status).default_reason_phrase(),
            crate::date::now(),
            fields.collect::<String>(),
            refusal.body.len(),
        );
        [head.as_bytes(), &refusal.body].concat()
    }
}
