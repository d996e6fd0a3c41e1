//! A complete, validated request in a worker's hands, and the ways to answer it. Answering consumes it, so no request is
//! answered twice. Dropping it answers 500, so none stays unanswered.

use crate::budget::Lease;
use crate::conn::Conn;
use crate::exchange::Exchange;
use crate::header::Header;
use crate::hub::Hub;
use crate::intake::Parsed;
use crate::message::{HTTPVersion, Method, StatusCode};
use crate::response::{Answer, Response};
use crate::stream::ResponseStream;
use crate::watch::ClientWatch;
use std::fmt;
use std::io::{self, Cursor, Read};
use std::net::SocketAddr;
use std::sync::Arc;

/// A request. Its body has arrived, so reading it never waits.
pub struct Request {
    body: Vec<u8>,
    /// The body's part of `Limits::bodies_bytes_max`.
    _lease: Lease,
    read_bytes: usize,
    exchange: Exchange,
}

impl Request {
    pub(crate) fn new(hub: Arc<Hub>, conn: Arc<Conn>, parsed: Parsed) -> Request {
        let Parsed { head, body, lease } = parsed;
        Request { body, _lease: lease, read_bytes: 0, exchange: Exchange::new(hub, conn, head) }
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.exchange.head().method
    }

    /// The request target as it was sent: path and query, an absolute URL, or `*` with OPTIONS. Printable ASCII.
    pub fn url(&self) -> &str {
        &self.exchange.head().url
    }

    /// HTTP/1.0 or HTTP/1.1.
    pub fn http_version(&self) -> &HTTPVersion {
        &self.exchange.head().version
    }

    /// The header fields, in the order they came.
    pub fn headers(&self) -> &[Header] {
        &self.exchange.head().headers
    }

    /// The body's length in bytes. Always known, because chunked bodies are already decoded.
    pub fn body_length(&self) -> Option<usize> {
        Some(self.body.len())
    }

    /// The client's address; `None` over a Unix-domain socket.
    pub fn remote_addr(&self) -> Option<&SocketAddr> {
        self.exchange.peer()
    }

    /// Whether it came over TLS.
    pub fn secure(&self) -> bool {
        self.exchange.is_secure()
    }

    /// The whole body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// A reader of the body. The body has arrived: no read waits, fails or ends early.
    pub fn as_reader(&mut self) -> &mut dyn Read {
        self
    }

    /// A watch that tells whether the client is still there while the answer is made. Clones can be passed to other
    /// threads.
    pub fn watch(&self) -> ClientWatch {
        self.exchange.watch().clone()
    }

    /// Whether the client has left: [`ClientWatch::is_disconnected`].
    pub fn is_disconnected(&self) -> bool {
        self.exchange.watch().is_disconnected()
    }

    /// Sends the answer. `Ok` means that the kernel has it or, for a slow client, the event loop. An error means that the
    /// client won't get it. Waits only for a client that doesn't read while `unsent_bytes_max` is used up, and while a body
    /// of more than 64 KiB is read from its reader.
    pub fn respond<R: Read>(self, response: Response<R>) -> io::Result<()> {
        let (exchange, answer) = self.into_answer();
        response.deliver(exchange, &answer)
    }

    /// Sends the head of a streamed answer and starts its body. Over HTTP/1.1 the body is chunked; an HTTP/1.0 client gets
    /// it in one piece at the end. Content-Length and other fields about framing are left out.
    pub fn into_stream<S: Into<StatusCode>>(self, status: S, headers: Vec<Header>) -> io::Result<ResponseStream> {
        let (exchange, answer) = self.into_answer();
        ResponseStream::open(exchange, &answer, status.into(), headers, &[])
    }

    /// Like [`Request::into_stream`], and sends the first event in the same write as the head.
    pub fn into_stream_with<S: Into<StatusCode>>(
        self,
        status: S,
        headers: Vec<Header>,
        first_event: &[u8],
    ) -> io::Result<ResponseStream> {
        let (exchange, answer) = self.into_answer();
        ResponseStream::open(exchange, &answer, status.into(), headers, first_event)
    }

    /// Sends a complete streamed answer: the head, all events and the end in one write, if the client takes that much at
    /// once. Otherwise like [`Request::into_stream`] and [`ResponseStream::finish`].
    pub fn respond_streamed<S: Into<StatusCode>>(
        self,
        status: S,
        headers: Vec<Header>,
        events: &[u8],
    ) -> io::Result<()> {
        let (exchange, answer) = self.into_answer();
        ResponseStream::send_whole(exchange, &answer, status.into(), headers, events)
    }

    /// Frees the body before the answer is written, so that a slow client doesn't hold its memory.
    fn into_answer(self) -> (Exchange, Answer) {
        let head = self.exchange.head();
        let keep_alive = head.keep_alive && !self.exchange.is_draining();
        let answer = Answer { is_head: head.method == Method::Head, version: head.version, keep_alive };
        (self.exchange, answer)
    }
}

impl Read for Request {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut rest = Cursor::new(&self.body[self.read_bytes..]);
        let count = rest.read(buffer)?;
        self.read_bytes += count;
        Ok(count)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} {} from {:?})", self.method(), self.url(), self.remote_addr())
    }
}
