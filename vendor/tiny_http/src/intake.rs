//! Bytes in, requests out: the state machine between a socket and a worker. Pure and incremental. It returns one request at
//! a time, and only when it is complete and valid. Runs on the thread that owns the connection. Never reads a socket, a
//! clock or a lock, so that fuzzing runs the code that serves.

use crate::budget::{Budget, Lease};
use crate::chunked::Decoder;
use crate::fault::Fault;
use crate::head::{self, Framing, Head};
use crate::header::Header;
use crate::limits::{KEPT_BUFFER_BYTES, Limits};
use std::mem;
use std::sync::Arc;

/// A complete request.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    /// The body's part of `Limits::bodies_bytes_max`, held as long as the body.
    pub(crate) lease: Lease,
}

/// What the bytes so far amount to.
#[derive(Debug)]
pub(crate) enum Event {
    /// No complete request: read more.
    NeedMore,
    /// Send `100 Continue`, then continue.
    Continue,
    /// A request. The bytes after it are kept for the next one.
    Request(Box<Parsed>),
    /// Refuse and close. The following bytes have no meaning.
    Fault(Fault),
}

/// The part of a request that is awaited, which decides the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing of a request has arrived.
    Idle,
    Head,
    Body,
}

#[derive(Debug)]
struct Body {
    parsed: Box<Parsed>,
    decoder: Option<Decoder>,
    asked_to_continue: bool,
}

/// The state machine of one connection.
#[derive(Debug)]
pub(crate) struct Intake {
    bytes: Vec<u8>,
    /// `bytes[..searched]` contains no end of a head.
    searched: usize,
    /// Whether an empty line before the request line was skipped (RFC 9112, 2.2). A second one is an error.
    skipped_line: bool,
    body: Option<Body>,
    bodies: Arc<Budget>,
}

impl Intake {
    pub(crate) fn new(bodies: Arc<Budget>) -> Intake {
        Intake { bytes: Vec::new(), searched: 0, skipped_line: false, body: None, bodies }
    }

    /// Adds the bytes of a read.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.body {
            Some(_) => Stage::Body,
            None if self.bytes.is_empty() && !self.skipped_line => Stage::Idle,
            None => Stage::Head,
        }
    }

    /// Target and header fields of the request that is arriving, as far as they are complete and readable.
    pub(crate) fn so_far(&self) -> (Option<String>, Vec<Header>) {
        match &self.body {
            Some(body) => (Some(body.parsed.head.url.clone()), body.parsed.head.headers.clone()),
            None => head::glimpse(&self.bytes),
        }
    }

    /// Processes bytes until there is an event.
    pub(crate) fn advance(&mut self, limits: &Limits) -> Event {
        if self.body.is_none() {
            match self.head(limits) {
                Ok(Some(head)) => self.begin_body(head),
                Ok(None) => return Event::NeedMore,
                Err(fault) => return Event::Fault(fault),
            }
        }
        match self.fill_body(limits) {
            Err(fault) => Event::Fault(fault),
            Ok(true) => self.finish(),
            Ok(false) if self.owes_continue() => Event::Continue,
            Ok(false) => Event::NeedMore,
        }
    }

    /// Whether the client waits for `100 Continue`. True only in the first call for a request.
    fn owes_continue(&mut self) -> bool {
        let Some(body) = &mut self.body else { return false };
        !mem::replace(&mut body.asked_to_continue, true) && body.parsed.head.expects_continue
    }

    /// Finds the end of the head and reads it; `None`: it isn't complete.
    fn head(&mut self, limits: &Limits) -> Result<Option<Head>, Fault> {
        if !self.skipped_line && self.bytes.starts_with(b"\r\n") {
            self.drop_front(2);
            self.skipped_line = true;
        }
        let mut searched = self.searched;
        while let Some(step) = self.bytes[searched..].iter().position(|byte| *byte == b'\n') {
            let line_end = searched + step;
            if line_end == 0 || self.bytes[line_end - 1] != b'\r' {
                return Err(Fault::bad_request("a line of the request head ends without a carriage return"));
            }
            searched = line_end + 1;
            if searched > limits.head_bytes_max {
                return Err(Fault::HEAD_TOO_LARGE);
            }
            if self.bytes[..searched].ends_with(b"\r\n\r\n") {
                let head = head::parse(&self.bytes[..searched], limits)?;
                self.drop_front(searched);
                self.skipped_line = false;
                return Ok(Some(head));
            }
            if searched == 2 {
                return Err(Fault::bad_request("the request line is empty"));
            }
        }
        self.searched = self.bytes.len();
        if self.bytes.len() > limits.head_bytes_max { Err(Fault::HEAD_TOO_LARGE) } else { Ok(None) }
    }

    fn begin_body(&mut self, head: Head) {
        let decoder = (head.framing == Framing::Chunked).then(Decoder::new);
        let parsed = Box::new(Parsed { head, body: Vec::new(), lease: self.bodies.lease() });
        self.body = Some(Body { parsed, decoder, asked_to_continue: false });
    }

    /// Moves bytes into the body. Returns whether it is complete. Memory grows with the bytes received, not with those
    /// announced.
    fn fill_body(&mut self, limits: &Limits) -> Result<bool, Fault> {
        let Some(Body { parsed, decoder, .. }) = &mut self.body else { return Ok(false) };
        let (taken, is_complete) = match (decoder, parsed.head.framing) {
            (Some(decoder), _) => {
                let taken = decoder.decode(&self.bytes, &mut parsed.body, limits.body_bytes_max)?;
                (taken, decoder.is_done())
            }
            (None, Framing::Length(length)) => {
                let taken = self.bytes.len().min(length - parsed.body.len());
                make_room(&mut parsed.body, taken, length);
                parsed.body.extend_from_slice(&self.bytes[..taken]);
                (taken, parsed.body.len() == length)
            }
            (None, Framing::Chunked) => unreachable!("a chunked body has a decoder"),
        };
        if !parsed.lease.cover(parsed.body.capacity()) {
            return Err(Fault::BODIES_FULL);
        }
        self.drop_front(taken);
        Ok(is_complete)
    }

    fn finish(&mut self) -> Event {
        match self.body.take() {
            Some(body) => Event::Request(body.parsed),
            None => Event::NeedMore,
        }
    }

    /// Removes the first `count` bytes, and frees a large buffer when it is empty.
    fn drop_front(&mut self, count: usize) {
        self.searched = 0;
        if count < self.bytes.len() {
            self.bytes.drain(..count);
        } else if self.bytes.capacity() > KEPT_BUFFER_BYTES {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
    }
}

/// Makes room for `more` bytes in `body`: doubles it, as a `Vec` grows, but never beyond `most`, the largest length it can
/// get.
pub(crate) fn make_room(body: &mut Vec<u8>, more: usize, most: usize) {
    let needed = body.len() + more;
    if needed > body.capacity() {
        let wanted = (2 * body.capacity()).min(most).max(needed);
        body.reserve_exact(wanted - body.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intake() -> Intake {
        Intake::new(Budget::new(1 << 20))
    }

    #[test]
    fn a_request_is_the_same_however_it_is_cut() {
        let input =
            b"\r\nPOST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nHost: h\r\n\r\n";
        for cut in 1..input.len() {
            let (mut intake, mut seen) = (intake(), Vec::new());
            for piece in input.chunks(cut) {
                intake.push(piece);
                while let Event::Request(parsed) = intake.advance(&Limits::default()) {
                    seen.push((parsed.head.url.clone(), parsed.body.clone()));
                }
            }
            assert_eq!(seen, [("/a".into(), b"abc".to_vec()), ("/b".into(), Vec::new())], "pieces of {cut}");
            assert_eq!(intake.stage(), Stage::Idle);
        }
    }

    #[test]
    fn an_announced_length_takes_no_memory() {
        let mut intake = intake();
        intake.push(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8000000\r\n\r\nx");
        assert!(matches!(intake.advance(&Limits::default()), Event::NeedMore));
        assert!(intake.body.as_ref().unwrap().parsed.body.capacity() < 64);
    }

    /// A body that grew by doubling took up to twice its length, so only half as many fitted into the budget.
    #[test]
    fn a_body_takes_no_more_than_its_length() {
        for head in ["Content-Length: 100000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n186a0\r\n"] {
            let limits = Limits { body_bytes_max: 100_000, ..Limits::default() };
            let mut intake = intake();
            intake.push(format!("POST / HTTP/1.1\r\nHost: h\r\n{head}").as_bytes());
            for _ in 0..99 {
                intake.push(&[b'x'; 1000]);
                assert!(matches!(intake.advance(&limits), Event::NeedMore));
            }
            assert!(intake.body.as_ref().unwrap().parsed.body.capacity() <= 100_000);
        }
    }

    #[test]
    fn all_bodies_together_are_bounded() {
        let budget = Budget::new(100_000);
        let request = |bytes| {
            [format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {bytes}\r\n\r\n").into_bytes(), vec![0; bytes]]
                .concat()
        };
        let (mut first, mut second) = (Intake::new(Arc::clone(&budget)), Intake::new(Arc::clone(&budget)));
        first.push(&request(60_000));
        second.push(&request(60_000));
        let Event::Request(held) = first.advance(&Limits::default()) else { panic!("the first fits") };
        assert!(matches!(second.advance(&Limits::default()), Event::Fault(Fault::BODIES_FULL)));
        drop((held, second));
        let mut third = Intake::new(budget);
        third.push(&request(60_000));
        assert!(matches!(third.advance(&Limits::default()), Event::Request(_)), "given back");
    }

    #[test]
    fn a_head_is_refused_as_soon_as_it_is_too_large() {
        let mut intake = intake();
        intake.push(&b"GET /".repeat(4000));
        assert!(matches!(intake.advance(&Limits::default()), Event::Fault(Fault::HEAD_TOO_LARGE)));
    }

    #[test]
    fn continue_is_said_once_and_only_while_the_body_is_awaited() {
        let head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
        let mut intake = intake();
        intake.push(head);
        assert!(matches!(intake.advance(&Limits::default()), Event::Continue));
        assert!(matches!(intake.advance(&Limits::default()), Event::NeedMore));
        intake.push(b"ab");
        assert!(matches!(intake.advance(&Limits::default()), Event::Request(_)));
        intake.push(&[head.as_slice(), b"ab"].concat());
        assert!(matches!(intake.advance(&Limits::default()), Event::Request(_)), "nobody waits for it");
    }
}
