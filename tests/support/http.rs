//! An HTTP/1.1 client for tests: keep-alive, chunked bodies, server-sent events, raw bytes. Blocking; one connection for
//! each client. Panics if a response isn't what a correct server sends.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

/// A test fails after this time, because the server must be hanging.
const HANG: Duration = Duration::from_secs(120);

/// The connection of a client.
pub trait Wire: Read + Write + Send {
    /// Closes both directions.
    fn cut(&self);
}

impl Wire for TcpStream {
    fn cut(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

impl Wire for UnixStream {
    fn cut(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

/// A connection.
pub struct Client {
    stream: BufReader<Box<dyn Wire>>,
}

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("the body is UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}: {}", self.status, self.text()))
    }

    /// The `data` of a successful response.
    pub fn data(&self) -> Value {
        let body = self.json();
        assert!(self.status == 200 && body["success"] == true, "{} {body}", self.status);
        body["data"].clone()
    }
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Client {
        Client::try_connect(addr).expect("the server listens")
    }

    pub fn try_connect(addr: SocketAddr) -> std::io::Result<Client> {
        let stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(HANG))?;
        stream.set_write_timeout(Some(HANG))?;
        stream.set_nodelay(true)?;
        Ok(Client::over(stream))
    }

    /// A client over an existing connection.
    pub fn over(wire: impl Wire + 'static) -> Client {
        Client { stream: BufReader::new(Box::new(wire)) }
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, b"")
    }

    pub fn post(&mut self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, body.to_string().as_bytes())
    }

    pub fn send(&mut self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.request(method, path, body).expect("the request is taken");
        self.answer(method == "HEAD").expect("there is an answer")
    }

    /// Writes a request without waiting for the response.
    pub fn request(&mut self, method: &str, path: &str, body: &[u8]) -> std::io::Result<()> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.write(&[head.as_bytes(), body].concat())
    }

    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads a response. `Err`: the connection ended before or in it.
    pub fn answer(&mut self, is_head: bool) -> std::io::Result<Answer> {
        let (status, headers) = self.head()?;
        let mut answer = Answer { status, headers, body: Vec::new() };
        if is_head || status == 204 {
            return Ok(answer);
        }
        if answer.header("Transfer-Encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            while let Some(chunk) = self.chunk()? {
                answer.body.extend(chunk);
            }
        } else {
            let length = answer.header("Content-Length").expect("a length or chunks");
            answer.body = vec![0; length.parse().expect("a length is a number")];
            self.stream.read_exact(&mut answer.body)?;
        }
        Ok(answer)
    }

    /// Sends a request that is answered with a stream of events.
    pub fn events(mut self, path: &str, body: &Value) -> Events {
        self.request("POST", path, body.to_string().as_bytes()).expect("the request is taken");
        let (status, headers) = self.head().expect("there is an answer");
        assert_eq!(status, 200, "a stream begins with 200");
        let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        assert!(chunked && headers.iter().any(|(_, value)| value == "text/event-stream"), "{headers:?}");
        Events { client: self, unread: Vec::new(), has_ended: false }
    }

    /// Closes the connection as a killed process does.
    pub fn leave(self) {
        self.stream.get_ref().cut();
    }

    fn head(&mut self) -> std::io::Result<(u16, Vec<(String, String)>)> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {first:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok((status, headers));
            }
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no header: {line:?}"));
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        assert!(line.ends_with("\r\n"), "a line ends with CR LF: {line:?}");
        line.truncate(line.len() - 2);
        Ok(line)
    }

    /// The next chunk; `None` for the last one.
    fn chunk(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let size = self.line()?;
        let size = usize::from_str_radix(&size, 16).unwrap_or_else(|_| panic!("no chunk size: {size:?}"));
        let mut chunk = vec![0; size];
        self.stream.read_exact(&mut chunk)?;
        assert_eq!(self.line()?, "", "a chunk ends with CR LF");
        Ok((size > 0).then_some(chunk))
    }
}

/// A stream of server-sent events.
pub struct Events {
    client: Client,
    unread: Vec<u8>,
    has_ended: bool,
}

impl Events {
    /// The JSON of the next event; `None` after the last. Comments are skipped.
    pub fn next(&mut self) -> Option<Value> {
        loop {
            let event = self.block()?;
            if event.starts_with(':') {
                continue;
            }
            let json = event.strip_prefix("data: ").unwrap_or_else(|| panic!("no data: {event:?}"));
            return Some(serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}")));
        }
    }

    /// The lines up to the next empty line; `None` after the last.
    pub fn block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.unread.drain(..end + 2).collect();
                let block = String::from_utf8(block).expect("an event never holds half a character");
                return Some(block.trim_end().to_owned());
            }
            match self.client.chunk().expect("a stream ends with its last chunk") {
                Some(chunk) => {
                    assert!(!self.has_ended);
                    self.unread.extend(chunk);
                }
                None => {
                    self.has_ended = true;
                    assert!(self.unread.is_empty(), "half an event at the end");
                    return None;
                }
            }
        }
    }

    /// Reads to the end. Returns the text and the last event.
    pub fn finish(&mut self) -> (String, Value) {
        let mut text = String::new();
        while let Some(event) = self.next() {
            text += event["token"].as_str().expect("a token is a string");
            if event["done"] == true {
                assert_eq!(self.next(), None, "nothing follows the last event");
                return (text, event);
            }
        }
        panic!("the stream ended without its last event, after {text:?}");
    }

    /// Closes the connection as a killed process does.
    pub fn leave(self) {
        self.client.leave();
    }

    /// The connection, to be used again after the last event.
    pub fn into_client(self) -> Client {
        self.client
    }
}
