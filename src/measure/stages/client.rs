//! A minimal HTTP client: keep-alive, whole responses, event streams. And a test of what sockets alone can do with the same
//! bytes.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use tiny_http::ResponseBox;

/// How many last bytes of a stream are searched for the final count. The last event has some 300 bytes.
const LAST_EVENT_BYTES_MAX: usize = 512;

/// One keep-alive connection.
pub struct Client {
    stream: BufReader<TcpStream>,
    line: Vec<u8>,
    chunk: Vec<u8>,
}

/// A complete request with a JSON body, as bytes. Made before the clock starts.
pub fn request(path: &str, body: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// What streams contained: the number of events, and their bytes including framing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Streamed {
    /// Events.
    pub events: u64,
    /// Bytes of the events, including framing.
    pub bytes: u64,
}

impl Streamed {
    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Streamed) {
        self.events += other.events;
        self.bytes += other.bytes;
    }
}

impl Client {
    /// Connects to `addr`, a host and a port.
    pub fn connect(addr: &str) -> io::Result<Client> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        let stream = BufReader::with_capacity(16 << 10, stream);
        Ok(Client { stream, line: Vec::new(), chunk: Vec::new() })
    }

    /// Sends a request and returns the body of the whole response.
    pub fn post(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        self.stream.get_mut().write_all(request)?;
        let Framing::Length(length) = self.head()? else { return Err(bad("a whole answer has a length")) };
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }

    /// Reads one stream to its end. Returns the token count in its last event, and the events and bytes.
    pub fn stream(&mut self, request: &[u8]) -> io::Result<(usize, Streamed)> {
        let (mut events, mut tokens) = (0, None);
        let bytes = self.chunks(request, |chunk| {
            // There are two line ends after each event, and one after the chunk.
            events += (chunk.iter().filter(|byte| **byte == b'\n').count() / 2) as u64;
            tokens = after(&chunk[chunk.len().saturating_sub(LAST_EVENT_BYTES_MAX)..], b"\"generated_tokens\":");
            true
        })?;
        Ok((tokens.unwrap_or(0), Streamed { events, bytes }))
    }

    /// Sends a request and gives each chunk of its stream, with the line end behind it, to `on_chunk`, until the stream ends or that
    /// returns false; then the connection can't be used again. Returns the bytes that were read, including framing.
    pub fn chunks(&mut self, request: &[u8], mut on_chunk: impl FnMut(&[u8]) -> bool) -> io::Result<u64> {
        self.stream.get_mut().write_all(request)?;
        if !matches!(self.head()?, Framing::Chunked) {
            return Err(bad("a stream is chunked"));
        }
        let mut bytes = 0;
        loop {
            let framing = self.line()?;
            let size =
                std::str::from_utf8(&self.line).ok().and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
            let whole = size.ok_or_else(|| bad("a chunk has a size"))? + 2;
            // The buffer only grows, so that its bytes are cleared once.
            if self.chunk.len() < whole {
                self.chunk.resize(whole, 0);
            }
            let chunk = &mut self.chunk[..whole];
            self.stream.read_exact(chunk)?;
            bytes += (framing + whole) as u64;
            if size == Some(0) || !on_chunk(chunk) {
                return Ok(bytes);
            }
        }
    }

    /// Reads one line into `self.line` and returns its length in bytes.
    fn line(&mut self) -> io::Result<usize> {
        self.line.clear();
        match self.stream.read_until(b'\n', &mut self.line)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            n => Ok(n),
        }
    }

    fn head(&mut self) -> io::Result<Framing> {
        let mut framing = Framing::Untold;
        loop {
            self.line()?;
            let line = self.line.trim_ascii_end();
            if line.is_empty() {
                return Ok(framing);
            }
            let value_of = |name: &[u8]| {
                let (field, value) = line.split_at_checked(name.len())?;
                field.eq_ignore_ascii_case(name).then_some(value)
            };
            if let Some(length) = value_of(b"content-length: ") {
                let length = std::str::from_utf8(length).ok().and_then(|text| text.parse().ok());
                framing = length.map_or(Framing::Untold, Framing::Length);
            } else if value_of(b"transfer-encoding: ").is_some_and(|value| value.eq_ignore_ascii_case(b"chunked")) {
                framing = Framing::Chunked;
            }
        }
    }
}

enum Framing {
    Untold,
    Length(usize),
    Chunked,
}

fn bad(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// The number after `name` in `text`.
fn after(text: &[u8], name: &[u8]) -> Option<usize> {
    let at = text.windows(name.len()).position(|part| part == name)? + name.len();
    let digits = text[at..].iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(&text[at..at + digits]).ok()?.parse().ok()
}

/// Reads a whole response that has no connection.
pub fn read_all(answer: ResponseBox) -> io::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(answer.data_length().unwrap_or(0));
    answer.into_reader().read_to_end(&mut body)?;
    Ok(body)
}

/// Sends as many events as `like` has, each of their mean size and in its own write, over `pairs` loopback connections with
/// a writing and a reading thread each. Returns events a second.
pub fn bare_sockets(like: &Streamed, pairs: usize) -> io::Result<f64> {
    let each = (like.events / pairs as u64).max(1);
    let event = vec![b'x'; (like.bytes / like.events.max(1)).max(1) as usize];
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let mut ends = Vec::new();
    for _ in 0..pairs {
        let writer = TcpStream::connect(addr)?;
        writer.set_nodelay(true)?;
        ends.push((writer, listener.accept()?.0));
    }
    let started = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = ends
            .into_iter()
            .flat_map(|(mut writer, mut reader)| {
                let event = &event;
                let write = scope.spawn(move || (0..each).try_for_each(|_| writer.write_all(event)));
                let read = scope.spawn(move || {
                    let (mut left, mut into) = (each as usize * event.len(), vec![0; 16 << 10]);
                    while left > 0 {
                        match reader.read(&mut into)? {
                            0 => return Err(ErrorKind::UnexpectedEof.into()),
                            n => left -= n,
                        }
                    }
                    Ok(())
                });
                [write, read]
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(bad("a thread panicked"))))
    })?;
    Ok((each * pairs as u64) as f64 / started.elapsed().as_secs_f64())
}
