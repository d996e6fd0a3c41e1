//! An HTTP/1.1 client: one blocking keep-alive connection that returns each piece of a body when it arrives.
//!
//! Every wait ends at the request's deadline, or soon after Ctrl-C.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::failure::RequestFailure;
use crate::types::limits::{WIRE_CONNECT_S_MAX, WIRE_FIELDS_MAX, WIRE_HEAD_BYTES_MAX, WIRE_LOOK_MS, WIRE_READ_BYTES};

/// The longest time to make a connection.
const CONNECT: Duration = Duration::from_secs(WIRE_CONNECT_S_MAX);

/// The conditions that end a wait.
#[derive(Clone, Copy)]
pub struct Until<'a> {
    /// The time at which the wait ends.
    pub deadline: Instant,
    /// Set by Ctrl-C, which ends the wait, too.
    pub stop: &'a AtomicBool,
}

/// One connection. It is made when it is needed, and kept as long as the server keeps it.
pub struct HttpWire {
    addr: String,
    stream: Option<TcpStream>,
    /// Bytes of the response that have arrived and are not yet parsed.
    buffer: Vec<u8>,
    body: Body,
    keep: bool,
}

/// How much of the body is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Length(u64),
    /// Bytes left of this chunk; `None`: the next bytes are the size of a chunk.
    Chunked(Option<u64>),
    UntilClose,
    Over,
}

impl HttpWire {
    /// A connection to `addr`, host and port, which isn't made yet.
    pub fn new(addr: &str) -> HttpWire {
        HttpWire { addr: addr.to_owned(), stream: None, buffer: Vec::new(), body: Body::Over, keep: false }
    }

    /// Sends a request, reads the head of the response and returns its status. If a kept connection turns out to be closed,
    /// connects again once.
    pub fn ask(&mut self, request: &[u8], until: Until) -> Result<u16, RequestFailure> {
        if !self.keep || self.body != Body::Over {
            self.stream = None;
        }
        let reused = self.stream.is_some();
        match self.try_ask(request, until) {
            Err(RequestFailure::Closed) if reused && self.buffer.is_empty() => {
                self.stream = None;
                self.try_ask(request, until)
            }
            other => other,
        }
        .inspect_err(|_| self.stream = None)
    }

    fn try_ask(&mut self, request: &[u8], until: Until) -> Result<u16, RequestFailure> {
        self.buffer.clear();
        if self.stream.is_none() {
            self.stream = Some(connect(&self.addr, until)?);
        }
        let stream = self.stream.as_mut().ok_or(RequestFailure::Closed)?;
        stream.write_all(request).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => RequestFailure::Timeout,
            _ => RequestFailure::Closed,
        })?;
        loop {
            let mut fields = [httparse::EMPTY_HEADER; WIRE_FIELDS_MAX];
            let mut head = httparse::Response::new(&mut fields);
            match head.parse(&self.buffer) {
                Ok(httparse::Status::Complete(length)) => {
                    let status = head.code.unwrap_or(0);
                    let (body, keep) = framing(&head);
                    self.buffer.drain(..length);
                    // 100 and other 1xx: the final response follows.
                    if status / 100 != 1 {
                        let empty = matches!(status, 204 | 304);
                        self.body = if empty { Body::Over } else { body };
                        self.keep = keep && body != Body::UntilClose;
                        return Ok(status);
                    }
                }
                Ok(httparse::Status::Partial) if self.buffer.len() < WIRE_HEAD_BYTES_MAX => self.more(until)?,
                _ => return Err(RequestFailure::Malformed),
            }
        }
    }

    /// Appends to `into` the bytes of the body that have arrived; waits if there are none. `false`: the body is complete.
    pub fn body(&mut self, into: &mut Vec<u8>, until: Until) -> Result<bool, RequestFailure> {
        let before = into.len();
        let result = loop {
            match self.take(into) {
                Err(failure) => break Err(failure),
                Ok(()) if into.len() > before => break Ok(true),
                Ok(()) if self.body == Body::Over => break Ok(false),
                Ok(()) => match self.more(until) {
                    Err(RequestFailure::Closed) if self.body == Body::UntilClose => self.body = Body::Over,
                    Err(failure) => break Err(failure),
                    Ok(()) => {}
                },
            }
        };
        result.inspect_err(|_| self.stream = None)
    }

    /// Moves bytes of the body from the buffer to `into`.
    fn take(&mut self, into: &mut Vec<u8>) -> Result<(), RequestFailure> {
        loop {
            match &mut self.body {
                Body::Over => return Ok(()),
                Body::UntilClose => {
                    into.append(&mut self.buffer);
                    return Ok(());
                }
                Body::Length(left) => {
                    let n = (*left).min(self.buffer.len() as u64);
                    into.extend(self.buffer.drain(..n as usize));
                    *left -= n;
                    if *left == 0 {
                        self.body = Body::Over;
                    }
                    return Ok(());
                }
                Body::Chunked(None) => match httparse::parse_chunk_size(&self.buffer) {
                    // Without trailers the body ends with `0\r
                    // \r
                    // `.
                    Ok(httparse::Status::Complete((at, 0))) => match self.buffer.get(at..at + 2) {
                        Some(b"\r\n") => {
                            self.buffer.drain(..at + 2);
                            self.body = Body::Over;
                        }
                        Some(_) => return Err(RequestFailure::Malformed),
                        None => return Ok(()),
                    },
                    Ok(httparse::Status::Complete((at, size))) => {
                        self.buffer.drain(..at);
                        self.body = Body::Chunked(Some(size.checked_add(2).ok_or(RequestFailure::Malformed)?));
                    }
                    Ok(httparse::Status::Partial) => return Ok(()),
                    Err(_) => return Err(RequestFailure::Malformed),
                },
                Body::Chunked(Some(left)) => {
                    // The last two bytes are the line end after the data.
                    let data = left.saturating_sub(2).min(self.buffer.len() as u64);
                    into.extend(self.buffer.drain(..data as usize));
                    *left -= data;
                    if *left > 2 || self.buffer.len() < 2 {
                        return Ok(());
                    }
                    if !self.buffer.starts_with(b"\r\n") {
                        return Err(RequestFailure::Malformed);
                    }
                    self.buffer.drain(..2);
                    self.body = Body::Chunked(None);
                }
            }
        }
    }

    fn more(&mut self, until: Until) -> Result<(), RequestFailure> {
        let stream = self.stream.as_mut().ok_or(RequestFailure::Closed)?;
        let filled = self.buffer.len();
        self.buffer.resize(filled + WIRE_READ_BYTES, 0);
        let read = loop {
            // ORDERING: Relaxed; no other data is published with the flag.
            if until.stop.load(Ordering::Relaxed) {
                break Err(RequestFailure::Stopped);
            }
            let left = until.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break Err(RequestFailure::Timeout);
            }
            let wait = left.min(Duration::from_millis(WIRE_LOOK_MS)).max(Duration::from_millis(1));
            match stream.set_read_timeout(Some(wait)).and_then(|()| stream.read(&mut self.buffer[filled..])) {
                Ok(0) => break Err(RequestFailure::Closed),
                Ok(n) => break Ok(n),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => break Err(RequestFailure::Closed),
                },
            }
        };
        self.buffer.truncate(filled + read.as_ref().map_or(0, |n| *n));
        read.map(|_| ())
    }
}

fn connect(addr: &str, until: Until) -> Result<TcpStream, RequestFailure> {
    let mut why = format!("{addr}: no such host");
    for resolved in addr.to_socket_addrs().map_err(|error| RequestFailure::Connect(format!("{addr}: {error}")))? {
        let left = until.deadline.saturating_duration_since(Instant::now()).clamp(Duration::from_millis(1), CONNECT);
        match TcpStream::connect_timeout(&resolved, left) {
            Ok(stream) => {
                let ready = stream.set_nodelay(true).and_then(|()| stream.set_write_timeout(Some(CONNECT)));
                ready.map_err(|error| RequestFailure::Connect(error.to_string()))?;
                return Ok(stream);
            }
            Err(error) => why = format!("{addr}: {error}"),
        }
    }
    Err(RequestFailure::Connect(why))
}

/// How the body ends, and whether the connection can be used again.
fn framing(head: &httparse::Response) -> (Body, bool) {
    let field = |name: &str| {
        let found = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        Some(String::from_utf8_lossy(found.value).trim().to_ascii_lowercase())
    };
    let connection = field("connection").unwrap_or_default();
    let keep = if head.version == Some(0) { connection.contains("keep-alive") } else { !connection.contains("close") };
    let body = match (field("transfer-encoding"), field("content-length").and_then(|text| text.parse().ok())) {
        (Some(coding), _) if coding.ends_with("chunked") => Body::Chunked(None),
        (_, Some(0)) => Body::Over,
        (_, Some(length)) => Body::Length(length),
        _ => Body::UntilClose,
    };
    (body, keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The status and body that a client reads from `answer`, sent in pieces of `step` bytes.
    fn read(answer: &'static [u8], step: usize) -> Result<(u16, Vec<u8>), RequestFailure> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            let mut request = [0; 64];
            let _ = stream.read(&mut request).unwrap();
            for piece in answer.chunks(step) {
                stream.write_all(piece).unwrap();
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        let stop = AtomicBool::new(false);
        let until = Until { deadline: Instant::now() + Duration::from_secs(20), stop: &stop };
        let mut wire = HttpWire::new(&addr);
        let answered = wire.ask(b"GET / HTTP/1.1\r\n\r\n", until);
        let mut body = Vec::new();
        let whole = answered.and_then(|status| {
            while wire.body(&mut body, until)? {}
            Ok((status, body))
        });
        server.join().unwrap();
        whole
    }

    #[test]
    fn bodies_end_by_length_by_chunks_and_by_closing() {
        for step in [1, 3, 1_000] {
            let chunked =
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA\r\n, \r\nworld!\r\n0\r\n\r\n";
            assert_eq!(read(chunked, step).unwrap(), (200, b"hello, \r\nworld!".to_vec()), "{step}");
            let length = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\nbusy";
            assert_eq!(read(length, step).unwrap(), (503, b"busy".to_vec()), "{step}");
            assert_eq!(read(b"HTTP/1.0 200 OK\r\n\r\nall of it", step).unwrap(), (200, b"all of it".to_vec()));
        }
    }

    #[test]
    fn broken_answers_are_told_apart() {
        assert_eq!(read(b"SSH-2.0-OpenSSH\r\n", 100), Err(RequestFailure::Malformed));
        assert_eq!(read(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", 100), Err(RequestFailure::Closed));
        assert_eq!(
            read(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", 100),
            Err(RequestFailure::Malformed)
        );
        assert_eq!(read(b"", 1), Err(RequestFailure::Closed));
    }
}
