//! Controls headless Chromium over the pipe of its DevTools protocol: JSON messages, each ended by a zero byte, on
//! descriptors 3 and 4.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A test fails after this time, because the browser must be hanging.
const HANG: Duration = Duration::from_secs(120);
/// A browser that takes longer to close is killed.
const CLOSE: Duration = Duration::from_secs(10);
/// The number of the next profile folder in this process.
static PROFILES: AtomicU32 = AtomicU32::new(0);

/// A browser with one page. Closed when it is dropped.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    profile: PathBuf,
    session: String,
    next_id: Cell<u64>,
    /// Requests that wait for an answer of the test, as reported by `Fetch.requestPaused`.
    paused: Vec<Value>,
    /// Errors of scripts: exceptions, and refusals by the content security policy.
    pub complaints: Vec<String>,
}

impl Browser {
    pub fn start() -> Browser {
        let n = PROFILES.fetch_add(1, Ordering::Relaxed);
        let profile = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("page-{}-{n}", std::process::id()));
        let script = r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#;
        let mut command = Command::new("sh");
        command.args(["-c", script, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]);
        command.args(["--no-first-run", "--disable-background-networking", "--disable-component-update"]);
        command.args(["--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe"]);
        command.arg(format!("--user-data-dir={}", profile.display()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("there is a shell");
        let (to, from) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let from = messages(from);
        let (session, next_id) = (String::new(), Cell::new(1));
        let mut browser =
            Browser { child, to, from, profile, session, next_id, paused: Vec::new(), complaints: Vec::new() };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attached = browser.call("Target.attachToTarget", json!({"targetId": target["targetId"], "flatten": true}));
        browser.session = attached["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, json!({}));
        }
        browser.resize(1360, 860);
        browser
    }

    /// Calls a method and waits for its result.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.next_id.replace(self.next_id.get() + 1);
        let mut message = json!({"id": id, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let sent = self.to.write_all(format!("{message}\0").as_bytes());
        sent.expect("Chromium runs (Debian: apt-get install chromium)");
        loop {
            let answer = self.read();
            if answer["id"] == id {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
        }
    }

    fn read(&mut self) -> Value {
        let message = self.from.recv_timeout(HANG).expect("Chromium answers (Debian: apt-get install chromium)");
        let params = &message["params"];
        match message["method"].as_str() {
            Some("Fetch.requestPaused") => self.paused.push(params.clone()),
            Some("Runtime.exceptionThrown") => self.complaints.push(params["exceptionDetails"].to_string()),
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                self.complaints.push(params["entry"]["text"].to_string());
            }
            _ => {}
        }
        message
    }

    pub fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({"url": url}));
        self.wait("document.readyState === 'complete'");
    }

    pub fn resize(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// Sets the system's colour scheme, `light` or `dark`.
    pub fn prefers(&mut self, scheme: &str) {
        let feature = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.call("Emulation.setEmulatedMedia", json!({"features": feature}));
    }

    /// The value of an expression.
    pub fn eval(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let result = self.call("Runtime.evaluate", asked);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    pub fn text(&mut self, selector: &str) -> String {
        let value = self.eval(&format!("document.querySelector({})?.textContent ?? ''", json!(selector)));
        value.as_str().expect("text").to_owned()
    }

    /// Waits until an expression becomes true.
    pub fn wait(&mut self, expression: &str) {
        let started = Instant::now();
        while self.eval(&format!("Boolean({expression})")) != true {
            if started.elapsed() > HANG {
                let page = self.eval("document.body.innerText");
                panic!("never {expression}; {:?}; the page: {page}", self.complaints);
            }
            sleep(Duration::from_millis(20));
        }
    }

    pub fn click(&mut self, selector: &str) {
        self.eval(&format!("document.querySelector({}).click()", json!(selector)));
    }

    /// Types `text` into the focused element, key by key.
    pub fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }

    /// Presses one key, or one key with `Shift+`.
    pub fn press(&mut self, key: &str) {
        let (shift, key) = key.strip_prefix("Shift+").map_or((0, key), |key| (8, key));
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            "Tab" => 9,
            _ => 0,
        };
        let text = if key == "Enter" {
            "\r"
        } else if key.len() == 1 {
            key
        } else {
            ""
        };
        let mut event = json!({"type": "keyDown", "key": key, "windowsVirtualKeyCode": code, "modifiers": shift});
        if !text.is_empty() {
            event["text"] = json!(text);
        }
        self.call("Input.dispatchKeyEvent", event);
        self.call("Input.dispatchKeyEvent", json!({"type": "keyUp", "key": key, "windowsVirtualKeyCode": code}));
    }

    /// Sets the folder for downloads, and returns it.
    pub fn downloads(&mut self) -> PathBuf {
        let folder = self.profile.join("downloads");
        let behaviour = json!({"behavior": "allow", "downloadPath": folder});
        // A call to the browser, not to the page.
        let session = std::mem::take(&mut self.session);
        self.call("Browser.setDownloadBehavior", behaviour);
        self.session = session;
        folder
    }

    /// The id of the focused element, or its text.
    pub fn focused(&mut self) -> String {
        let focused = self.eval("document.activeElement.id || document.activeElement.textContent");
        focused.as_str().expect("text").to_owned()
    }

    /// Answers the next request whose address contains `part` with `body`, after `trigger` has caused it. Returns the
    /// request's own body.
    pub fn answer_with(&mut self, part: &str, content_type: &str, body: &str, trigger: impl Fn(&mut Browser)) -> Value {
        self.call("Fetch.enable", json!({"patterns": [{"urlPattern": format!("*{part}*")}]}));
        trigger(self);
        while self.paused.is_empty() {
            self.read();
        }
        let paused = self.paused.remove(0);
        let id = paused["requestId"].clone();
        let answer = json!({
            "requestId": id, "responseCode": 200, "body": base64(body.as_bytes()),
            "responseHeaders": [{"name": "Content-Type", "value": content_type}],
        });
        self.call("Fetch.fulfillRequest", answer);
        self.call("Fetch.disable", json!({}));
        serde_json::from_str(paused["request"]["postData"].as_str().expect("a body")).expect("JSON")
    }

    /// Saves a screenshot as `target/page/NAME.png`.
    pub fn screenshot(&mut self, name: &str) {
        let shot = self.call("Page.captureScreenshot", json!({"format": "png"}));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target").join("page");
        std::fs::create_dir_all(&folder).expect("target can be written");
        let bytes = unbase64(shot["data"].as_str().expect("a picture"));
        std::fs::write(folder.join(format!("{name}.png")), bytes).expect("target can be written");
    }
}

impl Drop for Browser {
    /// Asks the browser to close, so that its processes end before its folder is removed.
    fn drop(&mut self) {
        let id = self.next_id.get();
        let asked = self.to.write_all(format!("{}\0", json!({"id": id, "method": "Browser.close"})).as_bytes());
        let started = Instant::now();
        while asked.is_ok() && started.elapsed() < CLOSE && matches!(self.child.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        while std::fs::remove_dir_all(&self.profile).is_err() && self.profile.exists() && started.elapsed() < CLOSE {
            sleep(Duration::from_millis(20));
        }
    }
}

fn messages(from: ChildStdout) -> Receiver<Value> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for message in BufReader::new(from).split(0).map_while(Result::ok) {
            let message = serde_json::from_slice(&message).expect("the protocol speaks JSON");
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    receiver
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let digits = |chunk: &[u8]| {
        let word = (0..3).fold(0_u32, |word, i| word << 8 | u32::from(chunk.get(i).copied().unwrap_or(0)));
        let digit = |i: usize| char::from(ALPHABET[(word >> (18 - 6 * i) & 63) as usize]);
        (0..4).map(|i| if i <= chunk.len() { digit(i) } else { '=' }).collect::<String>()
    };
    bytes.chunks(3).map(digits).collect()
}

fn unbase64(text: &str) -> Vec<u8> {
    let digits: Vec<u32> =
        text.bytes().filter_map(|b| ALPHABET.iter().position(|a| *a == b)).map(|digit| digit as u32).collect();
    let bytes = |chunk: &[u32]| {
        let word = (0..4).fold(0, |word, i| word << 6 | chunk.get(i).copied().unwrap_or(0));
        word.to_be_bytes()[1..chunk.len()].to_vec()
    };
    digits.chunks(4).flat_map(bytes).collect()
}
