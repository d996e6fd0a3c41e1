//! `cllm serve` as a child process on its own port, observed through its log, `/metrics` and `/proc`.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http::{Answer, Client, Events};

/// A test fails after this time, because the server must be hanging.
const HANG: Duration = Duration::from_secs(120);

/// A running server. Killed when it is dropped.
pub struct Server {
    child: Child,
    addr: SocketAddr,
    log: Mutex<Receiver<Value>>,
    /// Log lines about requests that were read while another line was searched.
    requests: Mutex<Vec<Value>>,
    /// The process ids that a supervisor logged as started.
    started: Mutex<Vec<u64>>,
    /// The log lines before the server listened.
    beginning: Vec<Value>,
}

impl Server {
    /// Serves the built-in model, with the flags in `line`.
    pub fn start(line: &str) -> Server {
        Server::launch(Command::new(env!("CARGO_BIN_EXE_cllm")), line)
    }

    /// Like `start`, through a shell: `script` ends with `exec "$0" "$@"`, which becomes the server.
    pub fn through(script: &str, stdin: impl Into<Stdio>, line: &str) -> Server {
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_cllm")]).stdin(stdin);
        Server::launch(command, line)
    }

    fn launch(mut command: Command, line: &str) -> Server {
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CLLM_")) {
            command.env_remove(name);
        }
        command.args(["serve", "--port", "0", "--log-format", "json"]).args(line.split_whitespace());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program runs");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let (lines, log) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(json!({"message": line}));
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        let (addr, log, requests) = (SocketAddr::from(([127, 0, 0, 1], 0)), Mutex::new(log), Mutex::default());
        let mut server = Server { child, addr, log, requests, started: Mutex::default(), beginning: Vec::new() };
        let (line, beginning) = server.read_log("listening on ");
        server.beginning = beginning;
        // A Unix-domain socket has no address; the test that asked for one knows its path.
        if let Some(addr) = line.split_once("://").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok()) {
            server.addr = addr;
        }
        server
    }

    /// Waits for a log message that holds `part`.
    pub fn logged(&self, part: &str) -> String {
        self.read_log(part).0
    }

    /// Whether a message with `part` was logged before it listened.
    pub fn logged_at_first(&self, part: &str) -> bool {
        self.beginning.iter().any(|line| line["message"].as_str().is_some_and(|message| message.contains(part)))
    }

    /// Waits for the log line about the request with this name.
    pub fn request_line(&self, id: &str) -> Value {
        let log = self.log.lock().expect("one reader");
        let mut requests = self.requests.lock().expect("one reader");
        if let Some(at) = requests.iter().position(|line| line["id"] == id) {
            return requests.remove(at);
        }
        loop {
            let line = log.recv_timeout(HANG).unwrap_or_else(|_| panic!("no line about {id}: {requests:?}"));
            match line["message"] == "request" {
                true if line["id"] == id => return line,
                true => requests.push(line),
                false => {}
            }
        }
    }

    /// The remaining log lines about requests, after the process has ended.
    pub fn rest_of_requests(&self) -> Vec<Value> {
        let mut lines = std::mem::take(&mut *self.requests.lock().expect("one reader"));
        let log = self.log.lock().expect("one reader");
        lines.extend(log.iter().filter(|line| line["message"] == "request"));
        lines
    }

    /// The process ids that a supervisor has logged as started, as far as the log was read.
    pub fn pids_started(&self) -> Vec<u64> {
        self.started.lock().expect("one reader").clone()
    }

    /// Whether the line about the request with this name was read while another line was searched.
    pub fn request_was_passed(&self, id: &str) -> bool {
        self.requests.lock().expect("one reader").iter().any(|line| line["id"] == id)
    }

    fn read_log(&self, part: &str) -> (String, Vec<Value>) {
        let (log, mut seen) = (self.log.lock().expect("one reader"), Vec::new());
        loop {
            let line = log.recv_timeout(HANG).unwrap_or_else(|_| panic!("no log line with {part:?}: {seen:?}"));
            if line["message"] == "server started" {
                self.started.lock().expect("one reader").extend(line["pid"].as_u64());
            }
            if line["message"] == "request" {
                self.requests.lock().expect("one reader").push(line.clone());
            }
            match line["message"].as_str() {
                Some(message) if message.contains(part) => return (message.to_owned(), seen),
                _ => seen.push(line),
            }
        }
    }

    /// The soft limit of descriptors of the process.
    pub fn descriptors_max(&self) -> u64 {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.child.id())).expect("Linux");
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a row for it");
        line.split_whitespace().next().and_then(|soft| soft.parse().ok()).expect("a number")
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn client(&self) -> Client {
        Client::connect(self.addr)
    }

    /// `POST /generate`, on a new connection.
    pub fn generate(&self, body: &Value) -> Answer {
        self.client().post("/generate", body)
    }

    /// `POST /generate_stream`, on a new connection.
    pub fn stream(&self, body: &Value) -> Events {
        self.client().events("/generate_stream", body)
    }

    /// The value of one metric, named with its labels.
    pub fn metric(&self, name: &str) -> u64 {
        number(&self.metrics(), name)
    }

    pub fn metrics(&self) -> String {
        self.client().get("/metrics").text()
    }

    /// Waits until `/metrics` satisfies `holds`.
    pub fn wait_until(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let started = Instant::now();
        loop {
            let metrics = self.metrics();
            if holds(&metrics) {
                return;
            }
            assert!(started.elapsed() < HANG, "never {what}: {metrics}");
            sleep(Duration::from_millis(2));
        }
    }

    /// Waits until `running` requests are in slots and `waiting` requests wait for one.
    pub fn wait_for(&self, running: u64, waiting: u64) {
        self.wait_until(&format!("{running} running and {waiting} waiting"), |metrics| {
            number(metrics, "cllm_requests_running") == running && number(metrics, "cllm_requests_waiting") == waiting
        });
    }

    /// The id of the process that serves. With a supervisor, the last one that it logged as started.
    pub fn id(&self) -> u64 {
        self.pids_started().last().copied().unwrap_or(u64::from(self.child.id()))
    }

    /// The ids of its threads.
    pub fn threads(&self) -> Vec<i32> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).expect("Linux");
        tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
    }

    /// The number of threads and of open files of the process.
    pub fn threads_and_files(&self) -> (usize, usize) {
        let count = |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", self.child.id())).expect("Linux").count();
        (count("task"), count("fd"))
    }

    /// Sends a signal, such as `TERM` or `INT`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status();
        assert!(sent.expect("there is a shell").success());
    }

    /// Waits for the process to end.
    pub fn exit(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(started.elapsed() < HANG, "the server doesn't end");
            sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value of the metric `name`, labels included, in the text of `/metrics`.
pub fn number(metrics: &str, name: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {metrics}"))
}
