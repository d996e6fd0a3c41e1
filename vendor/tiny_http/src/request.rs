//! A complete, validated request in a worker's hands, and the ways to answer it. Answering consumes it, so no request is
//! answered twice; dropping it answers 500, so none is forgotten.

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

/// A request. Its body has arrived; reading it never waits.
pub struct Request {
    body: Vec<u8>,
    /// The body's share of `Limits::bodies_bytes_max`.
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

    /// The body's length in bytes. Always known, a chunked body has been decoded by now.
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

    /// Reads the body. Ours is already here: no read waits, fails or ends early.
    pub fn as_reader(&mut self) -> &mut dyn Read {
        self
    }

    /// Tells whether the client is still there, for as long as the answer takes. Clone it to where the work is done.
    pub fn watch(&self) -> ClientWatch {
        self.exchange.watch().clone()
    }

    /// Whether the client has left: [`ClientWatch::is_disconnected`].
    pub fn is_disconnected(&self) -> bool {
        self.exchange.watch().is_disconnected()
    }

    /// Sends the answer. `Ok` means that it is with the kernel, or with the event loop when the client reads slowly; an
    /// error, that the client won't get it. Waits only for a client that doesn't read while `unsent_bytes_max` is used
    /// up, or while a body of more than 64 KiB is read from its reader.
    pub fn respond<R: Read>(self, response: Response<R>) -> io::Result<()> {
        let (exchange, answer) = self.into_answer();
        response.deliver(exchange, &answer)
    }

    /// Sends the head of a streamed answer and opens its body. Over HTTP/1.1 the body is chunked; an HTTP/1.0 client
    /// gets it in one piece at the end. Content-Length and other fields about framing are left out.
    pub fn into_stream<S: Into<StatusCode>>(self, status: S, headers: Vec<Header>) -> io::Result<ResponseStream> {
        let (exchange, answer) = self.into_answer();
        ResponseStream::open(exchange, &answer, status.into(), headers, &[])
    }

    /// Like [`Request::into_stream`], with the first event in the same write as the head.
    pub fn into_stream_with<S: Into<StatusCode>>(
        self,
        status: S,
        headers: Vec<Header>,
        first_event: &[u8],
    ) -> io::Result<ResponseStream> {
        let (exchange, answer) = self.into_answer();
        ResponseStream::open(exchange, &answer, status.into(), headers, first_event)
    }

    /// Sends a streamed answer that is over already: the head, all its events and its end in one write, where the client
    /// takes that much at once. Otherwise as [`Request::into_stream`] and [`ResponseStream::finish`].
    pub fn respond_streamed<S: Into<StatusCode>>(
        self,
        status: S,
        headers: Vec<Header>,
        events: &[u8],
    ) -> io::Result<()> {
        let (exchange, answer) = self.into_answer();
        ResponseStream::send_whole(exchange, &answer, status.into(), headers, events)
    }

    /// The body is given back before the answer is written: a slow client shouldn't hold it.
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
