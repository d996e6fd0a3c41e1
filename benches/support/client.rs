//! `cllm serve` as a child process, and requests to it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::Value;

#[path = "../../src/measure/stages/client.rs"]
#[allow(dead_code)]
mod http;

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

/// One keep-alive connection of the client of `cllm bench stages`. Whatever fails ends the bench.
pub struct Client(http::Client);

impl Client {
    pub fn connect(addr: &str) -> Client {
        Client(http::Client::connect(addr).expect("the server listens"))
    }

    pub fn get(&mut self, path: &str) -> String {
        let body = self.0.post(format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").as_bytes());
        String::from_utf8(body.expect("a whole answer")).expect("UTF-8")
    }

    /// The `data` of a whole response.
    pub fn generate(&mut self, body: &Value) -> Value {
        let answer = self.0.post(&http::request("/generate", &body.to_string())).expect("a whole answer");
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        assert_eq!(answer["success"], true, "{answer}");
        answer["data"].clone()
    }

    /// Calls `on_token` with the time of each token's event, until it returns false or the stream ends. The connection can't
    /// be used afterwards.
    pub fn stream_until(&mut self, body: &Value, mut on_token: impl FnMut(Instant) -> bool) {
        let mut body = body.clone();
        body["stream"] = true.into();
        let is_last = |line: &[u8]| line.windows(11).any(|part| part == b"\"done\":true");
        let read = self.0.chunks(&http::request("/generate", &body.to_string()), |chunk| {
            let mut events = chunk.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"data: "));
            events.all(|event| !is_last(event) && on_token(Instant::now()))
        });
        read.expect("a stream");
    }

    /// Reads a stream to its end and returns the number of its events. The connection can be used again.
    pub fn events(&mut self, path: &str, body: &Value) -> usize {
        let (_, streamed) = self.0.stream(&http::request(path, &body.to_string())).expect("a stream");
        streamed.events as usize
    }
}
