//! The server under load: its address, which of three APIs is used, and how its answers are read.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::failure::RequestFailure;
use super::wire::{HttpWire, Until};
use crate::types::limits::ERROR_CHARS_MAX;

/// The API of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Api {
    /// `/v1/completions`.
    Completions,
    /// `/v1/chat/completions`.
    Chat,
    /// cLLM's `/generate` and `/generate_stream`.
    Native,
}

/// A server and its API. It has no connection, so copies are cheap to share between threads.
#[derive(Clone, Debug)]
pub struct Target {
    /// The URL as the user typed it.
    pub url: String,
    /// Host and port.
    pub addr: String,
    /// The path in front of each route; empty for most servers.
    prefix: String,
    /// Which routes requests use.
    pub api: Api,
    /// The model's name in requests of OpenAI's APIs.
    pub model: Option<String>,
    key: Option<String>,
}

/// The content of one request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The prompt's text.
    pub prompt: String,
    /// Most tokens to generate.
    pub max_tokens: usize,
    /// The sampling temperature.
    pub temperature: f64,
    /// Whether to ask the server to ignore end-of-generation tokens.
    pub ignore_eos: bool,
    /// Whether the answer is streamed.
    pub stream: bool,
}

/// The content of one answer.
#[derive(Clone, Debug, Default)]
pub struct MeasuredAnswer {
    /// Generated tokens as the server counts them; in a stream without a count, the number of pieces with text.
    pub tokens: u64,
    /// Prompt tokens; `None`: the server doesn't count them.
    pub prompt_tokens: Option<u64>,
    /// When each piece with text arrived; empty without streaming.
    pub pieces_at: Vec<Instant>,
}

impl Target {
    /// Reads a URL: `http://host[:port][/prefix][/v1]`, or the complete address of a route, which then decides the API.
    ///
    /// # Errors
    /// Why the URL can't be used, in words.
    pub fn parse(url: &str, key: Option<String>) -> Result<(Target, Option<Api>), String> {
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some(("https", _)) => return Err("https isn't supported; measure the plain port".to_owned()),
            Some((scheme, _)) => return Err(format!("{scheme}:// isn't http://")),
            None => url,
        };
        let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if host.is_empty() || host.contains('@') || host.contains(char::is_whitespace) {
            return Err("names no host, as http://127.0.0.1:8080 does".to_owned());
        }
        let has_port = host.rsplit_once(':').is_some_and(|(name, port)| !port.contains(']') && !name.is_empty());
        if has_port && host.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_err()) {
            return Err("its port is no number up to 65535".to_owned());
        }
        let addr = if has_port { host.to_owned() } else { format!("{host}:80") };
        let path = path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
        let routes = [
            ("/v1/chat/completions", Some(Api::Chat)),
            ("/v1/completions", Some(Api::Completions)),
            ("/generate_stream", Some(Api::Native)),
            ("/generate", Some(Api::Native)),
            ("/v1", None),
            ("", None),
        ];
        let found = routes.iter().find_map(|(route, api)| Some((path.strip_suffix(route)?, *api)));
        let (prefix, api) = found.unwrap_or((path, None));
        if prefix.bytes().any(|b| !b.is_ascii_graphic()) {
            return Err("its path has characters that no URL has".to_owned());
        }
        let target = Target {
            url: url.to_owned(),
            addr,
            prefix: prefix.to_owned(),
            api: api.unwrap_or(Api::Completions),
            model: None,
            key,
        };
        Ok((target, api))
    }

    /// Finds out which API to use. If `/v1/models` answers, OpenAI's API with the first model listed there; otherwise
    /// cLLM's own.
    ///
    /// # Errors
    /// The server doesn't answer at all.
    pub fn discover(&mut self, api: Option<Api>, timeout: Duration, stop: &AtomicBool) -> Result<(), RequestFailure> {
        let request = format!("GET {}/v1/models HTTP/1.1\r\n{}\r\n", self.prefix, self.fields());
        let until = Until { deadline: Instant::now() + timeout, stop };
        let mut wire = HttpWire::new(&self.addr);
        let (status, body) = whole(&mut wire, request.as_bytes(), until)?;
        let models: Option<Value> = serde_json::from_slice(&body).ok().filter(|_| status == 200);
        let first = models.as_ref().and_then(|list| list["data"][0]["id"].as_str()).map(str::to_owned);
        self.api = api.unwrap_or(if first.is_some() { Api::Completions } else { Api::Native });
        if matches!(status, 401 | 403) && api.is_none() {
            return Err(RequestFailure::Status(status, said(&body)));
        }
        self.model = self.model.take().or(first);
        Ok(())
    }

    /// The route that requests go to.
    pub fn path(&self, stream: bool) -> String {
        let route = match self.api {
            Api::Completions => "/v1/completions",
            Api::Chat => "/v1/chat/completions",
            Api::Native if stream => "/generate_stream",
            Api::Native => "/generate",
        };
        format!("{}{route}", self.prefix)
    }

    fn fields(&self) -> String {
        let key = self.key.as_ref().map_or(String::new(), |key| format!("Authorization: Bearer {key}\r\n"));
        format!("Host: {}\r\nAccept: */*\r\nUser-Agent: cllm-bench\r\n{key}", self.addr)
    }

    /// The bytes of a request.
    pub fn request(&self, ask: &Ask) -> Vec<u8> {
        let mut body = json!({"max_tokens": ask.max_tokens, "temperature": ask.temperature});
        match self.api {
            Api::Chat => body["messages"] = json!([{"role": "user", "content": ask.prompt}]),
            Api::Completions | Api::Native => body["prompt"] = json!(ask.prompt),
        }
        if ask.ignore_eos {
            body["ignore_eos"] = json!(true);
        }
        if self.api != Api::Native {
            body["model"] = json!(self.model.as_deref().unwrap_or("default"));
            body["stream"] = json!(ask.stream);
            if ask.stream {
                body["stream_options"] = json!({"include_usage": true});
            }
        }
        let body = body.to_string();
        let head = format!(
            "POST {} HTTP/1.1\r\n{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.path(ask.stream),
            self.fields(),
            body.len()
        );
        (head + &body).into_bytes()
    }

    /// Sends a request and reads the complete answer.
    pub fn ask(&self, wire: &mut HttpWire, ask: &Ask, until: Until) -> Result<MeasuredAnswer, RequestFailure> {
        let request = self.request(ask);
        if !ask.stream {
            let (status, body) = whole(wire, &request, until)?;
            return if status == 200 {
                self.read_whole(&body)
            } else {
                Err(RequestFailure::Status(status, said(&body)))
            };
        }
        let status = wire.ask(&request, until)?;
        let mut text = Vec::new();
        if status != 200 {
            while wire.body(&mut text, until)? {}
            return Err(RequestFailure::Status(status, said(&text)));
        }
        let mut stream = Stream::default();
        while wire.body(&mut text, until)? {
            let now = Instant::now();
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                stream.line(&line, now)?;
            }
        }
        stream.line(&text, Instant::now())?;
        stream.end()
    }

    fn read_whole(&self, body: &[u8]) -> Result<MeasuredAnswer, RequestFailure> {
        let answer: Value = serde_json::from_slice(body).map_err(|_| RequestFailure::Malformed)?;
        if answer["error"].is_object() || answer["error"].is_string() || answer["success"] == json!(false) {
            return Err(RequestFailure::Refused(said(body)));
        }
        let (counts, tokens) = match self.api {
            Api::Native if answer["data"].is_object() => (&answer["data"], "generated_tokens"),
            Api::Native => (&answer, "generated_tokens"),
            _ => (&answer["usage"], "completion_tokens"),
        };
        let tokens = counts[tokens].as_u64().ok_or(RequestFailure::Malformed)?;
        Ok(MeasuredAnswer { tokens, prompt_tokens: counts["prompt_tokens"].as_u64(), pieces_at: Vec::new() })
    }
}

/// The events of a stream so far.
#[derive(Default)]
struct Stream {
    answer: MeasuredAnswer,
    counted: Option<u64>,
    ended: bool,
}

impl Stream {
    fn line(&mut self, line: &[u8], now: Instant) -> Result<(), RequestFailure> {
        let Some(data) = line.strip_prefix(b"data:") else { return Ok(()) };
        let data = data.trim_ascii();
        if data == b"[DONE]" {
            self.ended = true;
            return Ok(());
        }
        let event: Value = serde_json::from_slice(data).map_err(|_| RequestFailure::Malformed)?;
        if event["error"].is_object() || event["error"].is_string() {
            return Err(RequestFailure::Refused(said(data)));
        }
        let choice = &event["choices"][0];
        let has_text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        let texts =
            [&choice["text"], &choice["delta"]["content"], &choice["delta"]["reasoning_content"], &event["token"]];
        if texts.into_iter().any(has_text) {
            self.answer.pieces_at.push(now);
        }
        let counts = [&event["usage"]["completion_tokens"], &event["generated_tokens"]];
        self.counted = counts.into_iter().find_map(Value::as_u64).or(self.counted);
        let prompts = [&event["usage"]["prompt_tokens"], &event["prompt_tokens"]];
        self.answer.prompt_tokens = prompts.into_iter().find_map(Value::as_u64).or(self.answer.prompt_tokens);
        self.ended |= event["done"] == json!(true) || choice["finish_reason"].is_string();
        Ok(())
    }

    /// Ends a stream. Without an event that says it is done, the answer was cut short.
    fn end(mut self) -> Result<MeasuredAnswer, RequestFailure> {
        self.answer.tokens = self.counted.unwrap_or(self.answer.pieces_at.len() as u64);
        if self.ended { Ok(self.answer) } else { Err(RequestFailure::Closed) }
    }
}

fn whole(wire: &mut HttpWire, request: &[u8], until: Until) -> Result<(u16, Vec<u8>), RequestFailure> {
    let status = wire.ask(request, until)?;
    let mut body = Vec::new();
    while wire.body(&mut body, until)? {}
    Ok((status, body))
}

/// The server's error message in `body`, on one line.
fn said(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let words = [&value["error"]["message"], &value["error"], &value["message"], &value["detail"]];
    let text = words.into_iter().find_map(Value::as_str).map(str::to_owned);
    let text = text.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().filter(|c| !c.is_control()).take(ERROR_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_host_and_perhaps_a_route() {
        for (url, addr, path, api) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080", "/v1/completions", None),
            ("localhost:8000/v1/", "localhost:8000", "/v1/completions", None),
            ("http://[::1]:9/v1/chat/completions", "[::1]:9", "/v1/chat/completions", Some(Api::Chat)),
            ("http://box/llm/v1", "box:80", "/llm/v1/completions", None),
            ("http://[::1]", "[::1]:80", "/v1/completions", None),
        ] {
            let (target, found) = Target::parse(url, None).unwrap();
            assert_eq!((target.addr.as_str(), target.path(true).as_str(), found), (addr, path, api), "{url}");
        }
        for bad in ["https://host", "ftp://host", "http://", "http:///v1", "http://host:99999", "http://a b"] {
            assert!(Target::parse(bad, None).is_err(), "{bad}");
        }
    }

    #[test]
    fn streams_are_counted_by_the_server_or_by_their_pieces() {
        let read = |lines: &[&str]| {
            let mut stream = Stream::default();
            lines.iter().try_for_each(|line| stream.line(line.as_bytes(), Instant::now())).and_then(|()| stream.end())
        };
        let piece = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n";
        let role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n";
        let usage = "data: {\"choices\":[],\"usage\":{\"completion_tokens\":7,\"prompt_tokens\":3}}\n";
        let answer = read(&[role, piece, ": ping\n", "\n", piece, usage, "data: [DONE]\n"]).unwrap();
        assert_eq!((answer.tokens, answer.prompt_tokens, answer.pieces_at.len()), (7, Some(3), 2));
        assert_eq!(read(&[piece, piece, "data: [DONE]"]).unwrap().tokens, 2);
        let native =
            ["data: {\"token\":\"a\",\"done\":false}", "data: {\"token\":\"\",\"done\":true,\"generated_tokens\":5}"];
        assert_eq!(read(&native).unwrap().tokens, 5);
        assert_eq!(read(&[piece]).unwrap_err(), RequestFailure::Closed);
        let error = read(&["data: {\"error\":{\"message\":\"out of\\n room\"}}"]).unwrap_err();
        assert_eq!(error, RequestFailure::Refused("out of room".to_owned()));
    }
}
