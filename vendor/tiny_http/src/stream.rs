//! Streamed answers: one event is one chunk and one write. Runs on any thread; a stream may be passed between threads.

use crate::exchange::Exchange;
use crate::header::Header;
use crate::message::{HTTPVersion, StatusCode};
use crate::response::{Answer, LAST_CHUNK, Length, append_chunk, append_head, give_back, is_about_framing, take_out};
use crate::watch::ClientWatch;
use std::io::{self, ErrorKind};

/// An answer that is being streamed. [`ResponseStream::finish`] ends it. If it is dropped before that, the connection
/// closes without the last chunk, so that the client knows that something is missing.
pub struct ResponseStream {
    exchange: Exchange,
    mode: Mode,
    keep_alive: bool,
    /// The buffer for each write. It grows to the largest event and stays.
    out: Vec<u8>,
}

enum Mode {
    Chunked,
    /// For HTTP/1.0: all events are held until the end, at most `Limits::body_bytes_max`.
    Held {
        status: StatusCode,
        headers: Vec<Header>,
        body: Vec<u8>,
    },
    /// For HEAD, and for statuses without a body: events are not sent.
    Silent,
}

impl ResponseStream {
    pub(crate) fn open(
        exchange: Exchange,
        answer: &Answer,
        status: StatusCode,
        headers: Vec<Header>,
        first_event: &[u8],
    ) -> io::Result<ResponseStream> {
        let mut stream = ResponseStream::prepare(exchange, answer, status, headers);
        match &mut stream.mode {
            Mode::Silent => {}
            Mode::Held { body, .. } => body.extend_from_slice(first_event),
            Mode::Chunked => append_chunk(&mut stream.out, first_event),
        }
        if !stream.out.is_empty() {
            stream.exchange.send(&stream.out)?;
        }
        Ok(stream)
    }

    /// Sends a complete stream in one write.
    pub(crate) fn send_whole(
        exchange: Exchange,
        answer: &Answer,
        status: StatusCode,
        headers: Vec<Header>,
        events: &[u8],
    ) -> io::Result<()> {
        ResponseStream::prepare(exchange, answer, status, headers).end(events)
    }

    /// Makes a stream; `out` then holds the head, unless it can't be sent yet.
    fn prepare(exchange: Exchange, answer: &Answer, status: StatusCode, mut headers: Vec<Header>) -> ResponseStream {
        let closes = |header: &Header| header.field.equiv("Connection") && header.value.eq_ignore_ascii_case("close");
        let keep_alive = answer.keep_alive && !headers.iter().any(closes);
        headers.retain(|header| !is_about_framing(header));
        let mut out = take_out();
        let mode = if status.is_bodiless() || answer.is_head {
            append_head(&mut out, status, &headers, Length::Untold, answer.version, keep_alive);
            Mode::Silent
        } else if answer.version < HTTPVersion(1, 1) {
            Mode::Held { status, headers, body: Vec::new() }
        } else {
            append_head(&mut out, status, &headers, Length::Chunked, answer.version, keep_alive);
            Mode::Chunked
        };
        ResponseStream { exchange, mode, keep_alive, out }
    }

    /// Sends one event as one chunk in one write; the kernel sends it at once. Waits while the client doesn't read, at most
    /// `Limits::write_stall_timeout`. An error means that the client is gone and nothing more can be sent. An empty event
    /// sends nothing.
    pub fn write_event(&mut self, event: &[u8]) -> io::Result<()> {
        if self.exchange.watch().is_disconnected() {
            return Err(io::Error::new(ErrorKind::ConnectionAborted, "the client has left"));
        }
        match &mut self.mode {
            Mode::Silent => Ok(()),
            Mode::Held { body, .. } => {
                if body.len() + event.len() > self.exchange.buffered_bytes_max() {
                    return Err(io::Error::other("the stream is too long to be held for an HTTP/1.0 client"));
                }
                body.extend_from_slice(event);
                Ok(())
            }
            Mode::Chunked if event.is_empty() => Ok(()),
            Mode::Chunked => {
                self.out.clear();
                append_chunk(&mut self.out, event);
                self.exchange.send(&self.out)
            }
        }
    }

    /// Ends the stream. The connection can then receive the next request.
    pub fn finish(self) -> io::Result<()> {
        self.finish_with(&[])
    }

    /// Sends a last event and the end of the stream in one write.
    pub fn finish_with(mut self, last_event: &[u8]) -> io::Result<()> {
        self.out.clear();
        self.end(last_event)
    }

    /// Sends `out`, a last event and the end.
    fn end(mut self, last_event: &[u8]) -> io::Result<()> {
        match self.mode {
            Mode::Silent => {}
            Mode::Chunked => {
                append_chunk(&mut self.out, last_event);
                self.out.extend_from_slice(LAST_CHUNK);
            }
            Mode::Held { status, headers, mut body } => {
                body.extend_from_slice(last_event);
                let length = Length::Known(body.len());
                append_head(&mut self.out, status, &headers, length, HTTPVersion(1, 0), self.keep_alive);
                self.out.append(&mut body);
            }
        }
        let result = self.exchange.finish(&self.out, self.keep_alive);
        give_back(self.out);
        result
    }

    /// Tells whether the client is still there, without writing.
    pub fn watch(&self) -> ClientWatch {
        self.exchange.watch().clone()
    }

    /// Whether the client has left: [`ClientWatch::is_disconnected`].
    pub fn is_disconnected(&self) -> bool {
        self.exchange.watch().is_disconnected()
    }
}

impl std::fmt::Debug for ResponseStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseStream").field("watch", self.exchange.watch()).finish_non_exhaustive()
    }
}
