//! `cllm serve` as a child process, and a minimal HTTP client: keep-alive, whole responses, event streams.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::Value;

/// `cllm serve` on a free port; killed when dropped.
pub struct Server {
    child: Child,
    pub addr: String,
}

impl Server {
    pub fn start(args: &[&str]) -> Server {
        Server::start_program(env!("CARGO_BIN_EXE_cllm"), args)
    }

    /// Like `start`, with another program, such as an appliance.
    pub fn start_program(program: &str, args: &[&str]) -> Server {
        let mut child = Command::new(program)
            .args(["serve", "--port", "0", "--log-format", "json"])
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let addr = loop {
            let line = lines.next().expect("the server says where it listens").expect("UTF-8");
            if let Some((_, rest)) = line.split_once("listening on http://") {
                break rest.split('"').next().unwrap_or_default().to_owned();
            }
            assert!(line.starts_with('{'), "{line}");
        };
        std::thread::spawn(move || lines.for_each(drop));
        Server { child, addr }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The value of one of the server's metrics.
    pub fn metric(&self, name: &str) -> f64 {
        let text = Client::connect(&self.addr).get("/metrics");
        let line = text.lines().find(|line| line.starts_with(name) && !line.starts_with('#'));
        let line = line.unwrap_or_else(|| panic!("no metric {name}"));
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One keep-alive connection.
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(addr: &str) -> Client {
        let stream = TcpStream::connect(addr).expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket");
        Client { stream: BufReader::new(stream) }
    }

    pub fn get(&mut self, path: &str) -> String {
        write!(self.stream.get_mut(), "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
        self.body()
    }

    /// The `data` of a whole response.
    pub fn generate(&mut self, body: &Value) -> Value {
        self.send(body);
        let answer: Value = serde_json::from_str(&self.body()).expect("JSON");
        assert_eq!(answer["success"], true, "{answer}");
        answer["data"].clone()
    }

    /// Calls `on_token` with the time of each token's event, until it returns true or the stream ends. The connection can't
    /// be used afterwards.
    pub fn stream_until(&mut self, body: &Value, mut on_token: impl FnMut(Instant) -> bool) {
        let mut body = body.clone();
        body["stream"] = true.into();
        self.send(&body);
        self.head();
        let mut line = String::new();
        loop {
            line.clear();
            if self.stream.read_line(&mut line).expect("readable") == 0 || line.contains("\"done\":true") {
                return;
            }
            if line.starts_with("data: ") && !on_token(Instant::now()) {
                return;
            }
        }
    }

    /// Reads a stream to its end and returns the number of its events. The connection can be used again.
    pub fn events(&mut self, path: &str, body: &Value) -> usize {
        self.send_to(path, body);
        assert!(self.head().is_none(), "a stream has no length");
        let (mut count, mut line, mut chunk) = (0, String::new(), Vec::new());
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("readable");
            let size = usize::from_str_radix(line.trim_end(), 16).expect("a chunk's size");
            chunk.resize(size + 2, 0);
            self.stream.read_exact(&mut chunk).expect("the whole chunk");
            if size == 0 {
                return count;
            }
            // Counts only line ends, so that the client's work is the same for both kinds of stream.
            count += chunk.windows(2).filter(|pair| *pair == b"\n\n").count();
        }
    }

    fn send(&mut self, body: &Value) {
        self.send_to("/generate", body);
    }

    fn send_to(&mut self, path: &str, body: &Value) {
        let body = body.to_string();
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        self.stream.get_mut().write_all(format!("{head}{body}").as_bytes()).expect("sent");
    }

    /// Reads the head; returns the length of the body if it was given.
    fn head(&mut self) -> Option<usize> {
        let mut length = None;
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("readable");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
            if line.trim_end().is_empty() {
                return length;
            }
        }
    }

    fn body(&mut self) -> String {
        let length = self.head().expect("a whole answer has a length");
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("the whole body");
        String::from_utf8(body).expect("UTF-8")
    }
}
