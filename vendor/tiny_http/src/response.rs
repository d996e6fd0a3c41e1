//! Answers with a body that is known or can be read completely. Runs on the worker that answers.

use crate::exchange::Exchange;
use crate::header::Header;
use crate::limits::BLOCK_BYTES;
use crate::message::{HTTPVersion, StatusCode};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Cursor, Read, Write};
use std::sync::mpsc::Receiver;

/// An answer: status, header fields and a body to be read from `R`.
pub struct Response<R> {
    reader: R,
    status_code: StatusCode,
    headers: Vec<Header>,
    data_length: Option<usize>,
    additional_headers: Option<Receiver<Header>>,
    closes: bool,
}

/// An answer with a body that is read from a trait object.
pub type ResponseBox = Response<Box<dyn Read + Send>>;

/// The properties of an answer that follow from its request.
pub(crate) struct Answer {
    pub(crate) is_head: bool,
    pub(crate) version: HTTPVersion,
    pub(crate) keep_alive: bool,
}

/// How a client finds the end of a body.
#[derive(Clone, Copy)]
pub(crate) enum Length {
    Known(usize),
    Chunked,
    /// There is no body, or its length isn't stated.
    Untold,
}

thread_local! {
    /// A thread's buffer, in which head and body are joined so that one write sends both.
    static OUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// This thread's buffer, empty. Return it with [`give_back`]; otherwise the next call makes a new one.
pub(crate) fn take_out() -> Vec<u8> {
    let mut out = OUT.take();
    out.clear();
    out
}

/// Keeps a buffer for this thread's next answer, unless it has grown large.
pub(crate) fn give_back(out: Vec<u8>) {
    if out.capacity() <= 2 * BLOCK_BYTES {
        OUT.set(out);
    }
}

impl<R: Read> Response<R> {
    /// An answer from its parts. With `data_length`, exactly that many bytes are read from `data`; without, all of them.
    pub fn new(
        status_code: StatusCode,
        headers: Vec<Header>,
        data: R,
        data_length: Option<usize>,
        additional_headers: Option<Receiver<Header>>,
    ) -> Response<R> {
        let own = Vec::with_capacity(headers.len());
        let mut response =
            Response { reader: data, status_code, headers: own, data_length, additional_headers, closes: false };
        headers.into_iter().for_each(|header| response.add_header(header));
        response
    }

    /// Adds a header field. `Content-Length` sets the length, `Content-Type` replaces an earlier one, `Connection: close`
    /// closes the connection after this answer. Transfer-Encoding, Trailer, Upgrade and Keep-Alive are left out, because
    /// this crate sets them.
    pub fn add_header<H: Into<Header>>(&mut self, header: H) {
        let header = header.into();
        let is = |name| header.field.equiv(name);
        if is("Content-Length") {
            self.data_length = header.value.parse().ok().or(self.data_length);
        } else if is("Connection") {
            self.closes |= header.value.split(',').any(|option| option.trim().eq_ignore_ascii_case("close"));
        } else if !is_about_framing(&header) {
            if is("Content-Type") {
                self.headers.retain(|known| !known.field.equiv("Content-Type"));
            }
            self.headers.push(header);
        }
    }

    /// Like [`Response::add_header`], for chained calls.
    pub fn with_header<H: Into<Header>>(mut self, header: H) -> Response<R> {
        self.add_header(header);
        self
    }

    /// Replaces the status.
    pub fn with_status_code<S: Into<StatusCode>>(mut self, code: S) -> Response<R> {
        self.status_code = code.into();
        self
    }

    /// Replaces the body.
    pub fn with_data<S: Read>(self, reader: S, data_length: Option<usize>) -> Response<S> {
        let Response { status_code, headers, additional_headers, closes, .. } = self;
        Response { reader, status_code, headers, data_length, additional_headers, closes }
    }

    /// The status.
    pub fn status_code(&self) -> StatusCode {
        self.status_code
    }

    /// The body's length, if it was given.
    pub fn data_length(&self) -> Option<usize> {
        self.data_length
    }

    /// The header fields so far.
    pub fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// The body.
    pub fn into_reader(self) -> R {
        self.reader
    }

    /// This answer with its body as a trait object.
    pub fn boxed(self) -> ResponseBox
    where
        R: Send + 'static,
    {
        let length = self.data_length;
        let Response { reader, status_code, headers, additional_headers, closes, .. } = self;
        let reader: Box<dyn Read + Send> = Box::new(reader);
        Response { reader, status_code, headers, data_length: length, additional_headers, closes }
    }

    /// Sends the answer.
    pub(crate) fn deliver(mut self, exchange: Exchange, answer: &Answer) -> io::Result<()> {
        if let Some(more) = self.additional_headers.take() {
            more.try_iter().for_each(|header| self.add_header(header));
        }
        let keep_alive = answer.keep_alive && !self.closes;
        let mut out = take_out();
        let result = self.assemble(exchange, &mut out, answer, keep_alive);
        give_back(out);
        result
    }

    fn assemble(mut self, exchange: Exchange, out: &mut Vec<u8>, answer: &Answer, keep_alive: bool) -> io::Result<()> {
        let (status, headers) = (self.status_code, std::mem::take(&mut self.headers));
        let head = |out: &mut Vec<u8>, length| append_head(out, status, &headers, length, answer.version, keep_alive);
        if status.is_bodiless() || answer.is_head {
            let length = self.data_length.filter(|_| !status.is_bodiless()).map_or(Length::Untold, Length::Known);
            head(out, length);
            return exchange.finish(out, keep_alive);
        }
        if let Some(length) = self.data_length {
            head(out, Length::Known(length));
            return self.send_known(exchange, out, length, keep_alive);
        }
        let is_chunked = answer.version >= HTTPVersion(1, 1);
        let held_max = if is_chunked { BLOCK_BYTES } else { exchange.buffered_bytes_max() };
        let mut body = Vec::new();
        self.reader.by_ref().take(held_max as u64 + 1).read_to_end(&mut body)?;
        if body.len() <= held_max {
            head(out, Length::Known(body.len()));
            out.extend_from_slice(&body);
            exchange.finish(out, keep_alive)
        } else if is_chunked {
            head(out, Length::Chunked);
            self.send_chunked(exchange, out, body, keep_alive)
        } else {
            Err(io::Error::other("an answer of unknown length is too large for an HTTP/1.0 client"))
        }
    }

    /// Sends the head in `out` and `length` bytes of the body, block by block.
    fn send_known(
        mut self,
        mut exchange: Exchange,
        out: &mut Vec<u8>,
        length: usize,
        keep_alive: bool,
    ) -> io::Result<()> {
        let mut left = length;
        loop {
            let block = left.min(BLOCK_BYTES);
            let start = out.len();
            out.resize(start + block, 0);
            self.reader.read_exact(&mut out[start..])?;
            left -= block;
            if left == 0 {
                return exchange.finish(out, keep_alive);
            }
            exchange.send(out)?;
            out.clear();
        }
    }

    /// Sends the head in `out`, the first block in `body` and the rest of the reader as chunks.
    fn send_chunked(
        mut self,
        mut exchange: Exchange,
        out: &mut Vec<u8>,
        mut body: Vec<u8>,
        keep_alive: bool,
    ) -> io::Result<()> {
        while !body.is_empty() {
            append_chunk(out, &body);
            exchange.send(out)?;
            out.clear();
            body.clear();
            self.reader.by_ref().take(BLOCK_BYTES as u64).read_to_end(&mut body)?;
        }
        exchange.finish(LAST_CHUNK, keep_alive)
    }
}

/// The end of a chunked body.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Whether this field says how the body is sent, which only this crate decides.
pub(crate) fn is_about_framing(header: &Header) -> bool {
    ["Transfer-Encoding", "Trailer", "Upgrade", "Keep-Alive", "Connection", "Content-Length"]
        .iter()
        .any(|name| header.field.equiv(name))
}

/// Appends one chunk. Empty data is skipped, because an empty chunk ends the body.
pub(crate) fn append_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        append_chunk_size(out, data.len());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the line before a chunk of `bytes` bytes: the number in hexadecimal without leading zeros. A stream does this
/// for each event; `write!` would take 250 instructions more.
fn append_chunk_size(out: &mut Vec<u8>, bytes: usize) {
    const DIGITS: usize = usize::BITS as usize / 4;
    let mut line = [0; DIGITS + 2];
    line[DIGITS..].copy_from_slice(b"\r\n");
    let (mut at, mut left) = (DIGITS, bytes);
    loop {
        at -= 1;
        line[at] = b"0123456789abcdef"[left & 0xf];
        left >>= 4;
        if left == 0 {
            return out.extend_from_slice(&line[at..]);
        }
    }
}

/// Appends the status line, the header fields and the empty line.
pub(crate) fn append_head(
    out: &mut Vec<u8>,
    status: StatusCode,
    headers: &[Header],
    length: Length,
    version: HTTPVersion,
    keep_alive: bool,
) {
    let _ = write!(out, "HTTP/1.1 {:03} {}\r\n", status.0, status.default_reason_phrase());
    if !headers.iter().any(|header| header.field.equiv("Date")) {
        out.extend_from_slice(b"Date: ");
        crate::date::append_now(out);
        out.extend_from_slice(b"\r\n");
    }
    for header in headers {
        out.extend_from_slice(header.field.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(header.value.as_str().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    match length {
        Length::Known(bytes) => drop(write!(out, "Content-Length: {bytes}\r\n")),
        Length::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Length::Untold => {}
    }
    match (keep_alive, version >= HTTPVersion(1, 1)) {
        (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
        (true, false) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (true, true) => {}
    }
    out.extend_from_slice(b"\r\n");
}

impl Response<File> {
    /// An answer with a file's content, from its current position.
    pub fn from_file(file: File) -> Response<File> {
        let length = file.metadata().ok().and_then(|meta| usize::try_from(meta.len()).ok());
        Response::new(StatusCode(200), Vec::new(), file, length, None)
    }
}

impl Response<Cursor<Vec<u8>>> {
    /// An answer with these bytes.
    pub fn from_data<D: Into<Vec<u8>>>(data: D) -> Response<Cursor<Vec<u8>>> {
        let data = data.into();
        let length = data.len();
        Response::new(StatusCode(200), Vec::new(), Cursor::new(data), Some(length), None)
    }

    /// An answer with a text, as `text/plain; charset=UTF-8`.
    pub fn from_string<S: Into<String>>(data: S) -> Response<Cursor<Vec<u8>>> {
        let content_type = Header::from_bytes("Content-Type", "text/plain; charset=UTF-8");
        let mut response = Response::from_data(data.into().into_bytes());
        response.headers.extend(content_type);
        response
    }
}

impl Response<io::Empty> {
    /// An answer with a status and no body.
    pub fn empty<S: Into<StatusCode>>(status_code: S) -> Response<io::Empty> {
        Response::new(status_code.into(), Vec::new(), io::empty(), Some(0), None)
    }

    /// Like `empty`, under its older name.
    pub fn new_empty(status_code: StatusCode) -> Response<io::Empty> {
        Response::empty(status_code)
    }
}

impl<R> std::fmt::Debug for Response<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response")
            .field("status_code", &self.status_code)
            .field("headers", &self.headers)
            .field("data_length", &self.data_length)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::append_chunk_size;

    #[test]
    fn a_length_in_hexadecimal_is_what_format_makes_of_it() {
        let lengths = (0..=0x1_0001).chain([0xf_ffff, 0x10_0000, usize::MAX >> 1, usize::MAX]);
        for length in lengths {
            let mut out = Vec::new();
            append_chunk_size(&mut out, length);
            assert_eq!(out, format!("{length:x}\r\n").into_bytes());
        }
    }
}
