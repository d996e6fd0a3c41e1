//! Whatever a client sends gets a true status and JSON, and the server continues.

use serde_json::{Value, json};

use super::server::{Server, number};
use super::{endless, exactly};

/// Body of `/generate`, status, code, and a part of the message.
type Case = (String, u16, &'static str, &'static str);

fn generate_cases() -> Vec<Case> {
    let case = |body: &str, code, part| (body.to_owned(), 400, code, part);
    let field = |extra: &str, part| case(&format!("{{\"prompt\": \"a\", {extra}}}"), "invalid_field", part);
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    vec![
        case("", "invalid_json", "line 1 column 0: the body is empty"),
        case("{\"prompt\": \"a\",\n \"max_tokens\" 3}", "invalid_json", "line 2 column 15"),
        case("{\"prompt\": \"a\"", "invalid_json", "line 1 column 14"),
        case("{'prompt': 'a'}", "invalid_json", "line 1 column 2"),
        case("{\"prompt\": \"a\"} x", "invalid_json", "line 1 column 17"),
        case("{\"prompt\": \"a\", \"temperature\": NaN}", "invalid_json", "line 1 column"),
        case("{\"prompt\": \"a\", \"temperature\": -Infinity}", "invalid_json", "line 1 column"),
        case("{\"prompt\": \"a\", \"temperature\": 1e999}", "invalid_json", "number out of range"),
        case(&deep("[", "]"), "invalid_json", "recursion limit"),
        case(&deep("{\"prompt\":", "}"), "invalid_json", "recursion limit"),
        case("[]", "invalid_field", "body: must be a JSON object, not an array"),
        case("null", "invalid_field", "body: must be a JSON object, not null"),
        case("\"prompt\"", "invalid_field", "body: must be a JSON object, not a string"),
        case("{}", "invalid_field", "prompt: is missing"),
        case("{\"prompt\": \"\"}", "invalid_field", "prompt: must not be empty"),
        case("{\"prompt\": null}", "invalid_field", "prompt: is missing"),
        case("{\"prompt\": 3}", "invalid_field", "prompt: must be a string, not a number"),
        case("{\"prompt\": [\"a\"]}", "invalid_field", "prompt: must be a string, not an array"),
        case("{\"messages\": \"a\"}", "invalid_field", "messages: must be an array"),
        case("{\"messages\": []}", "invalid_field", "messages: must not be empty"),
        case("{\"messages\": [3]}", "invalid_field", "messages[0]"),
        case("{\"messages\": [{\"role\": \"king\", \"content\": \"a\"}]}", "invalid_field", "messages[0].role"),
        case("{\"messages\": [{\"role\": \"user\"}]}", "invalid_field", "messages[0].content: is missing"),
        case("{\"messages\": [{\"role\": \"user\", \"content\": 3}]}", "invalid_field", "messages[0].content: must be"),
        case("{\"messages\": [{\"content\": \"a\"}]}", "invalid_field", "messages[0].role: is missing"),
        field("\"messages\": []", "messages"),
        field("\"max_tokens\": 1.5", "max_tokens"),
        field("\"max_tokens\": \"3\"", "max_tokens: must be a whole number, not a string"),
        field("\"max_tokens\": 1e30", "max_tokens"),
        field("\"max_tokens\": 99999999999999999999999999", "max_tokens"),
        field("\"temperature\": -0.1", "temperature: must be from 0 to 100"),
        field("\"temperature\": 1e300", "temperature"),
        field("\"temperature\": \"hot\"", "temperature: must be a number, not a string"),
        field("\"temperature\": []", "temperature"),
        field("\"top_p\": -0.1", "top_p"),
        field("\"top_p\": 1.1", "top_p"),
        field("\"min_p\": -1", "min_p"),
        field("\"top_k\": 1.5", "top_k"),
        field("\"repetition_penalty\": 0", "repetition_penalty"),
        field("\"repetition_penalty\": 1e9", "repetition_penalty"),
        field("\"seed\": 1.5", "seed"),
        field("\"seed\": \"x\"", "seed"),
        field("\"stop\": 3", "stop"),
        field("\"stop\": [\"a\", 3]", "stop"),
        field("\"stream\": \"yes\"", "stream: must be true or false"),
        field("\"ignore_eos\": 1", "ignore_eos"),
        field("\"deadline_ms\": 0", "deadline_ms"),
        field("\"deadline_ms\": -5", "deadline_ms"),
        field("\"logit_bias\": []", "logit_bias"),
        field("\"logit_bias\": {\"x\": 1}", "logit_bias"),
        field("\"logit_bias\": {\"99999999\": 1}", "logit_bias: 99999999 is no token id"),
        field("\"logit_bias\": {\"-1\": 1}", "logit_bias"),
        field("\"logit_bias\": {\"1\": 1e9}", "logit_bias"),
        field("\"logit_bias\": {\"1\": \"x\"}", "logit_bias"),
    ]
}

#[test]
fn each_bad_generation_is_refused_by_name() {
    let server = Server::start("-np 1");
    let mut client = server.client();
    for path in ["/generate", "/generate_stream"] {
        for (body, status, code, part) in generate_cases() {
            let answer = client.send("POST", path, body.as_bytes());
            let short: String = body.chars().take(80).collect();
            let said = answer.json();
            let message = said["error"].as_str().unwrap();
            assert_eq!((answer.status, said["code"].as_str()), (status, Some(code)), "{short}: {message}");
            assert!(message.contains(part), "{short}: {message}");
            assert_eq!((&said["success"], answer.header("Content-Type")), (&json!(false), Some("application/json")));
            match code {
                "invalid_json" => assert!(said["line"].is_u64() && said["column"].is_u64(), "{said}"),
                _ => assert!(part.starts_with(said["field"].as_str().unwrap().split('[').next().unwrap()), "{said}"),
            }
        }
    }
    assert_eq!(client.post("/generate", &exactly(1)).status, 200);
    // Only the valid request was decoded.
    server.wait_until("one step", |metrics| number(metrics, "cllm_steps_total") > 0);
    assert_eq!(server.metric("cllm_steps_total"), 1);
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let server = Server::start("-np 1");
    let mut client = server.client();
    for body in [
        &b"\xff\xfe"[..],
        b"{\"prompt\": \"\xc3\x28\"}",
        b"{\"prompt\": \"\xed\xa0\x80\"}",
        b"\0",
        b"\xef\xbb\xbf{\"prompt\": \"a\"}",
    ] {
        let answer = client.send("POST", "/generate", body);
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("invalid_json")), "{body:?}");
    }
    assert_eq!(client.post("/generate", &exactly(1)).status, 200);
}

#[test]
fn what_does_not_fit_the_context_says_by_how_much() {
    let server = Server::start("-np 2");
    let mut client = server.client();
    let n_ctx = client.get("/model/info").data()["n_ctx"].as_u64().unwrap();
    let long = "word ".repeat(n_ctx as usize);
    let length = client.post("/encode", &json!({"text": long})).data()["length"].as_u64().unwrap();
    assert!(length > n_ctx);
    let turn = json!([{"role": "user", "content": long}]);
    for (body, prompt_tokens) in [
        (json!({"prompt": long}), length),
        (json!({"prompt": long, "max_tokens": 5}), length),
        (json!({"messages": turn, "max_tokens": 5}), 0),
    ] {
        let answer = client.post("/generate", &body);
        let said = answer.json();
        assert_eq!((answer.status, &said["code"]), (400, &json!("context_length_exceeded")));
        assert_eq!(said["n_ctx"], n_ctx);
        assert!(
            said["n_prompt_tokens"] == prompt_tokens
                || prompt_tokens == 0 && said["n_prompt_tokens"].as_u64() > Some(length),
            "{said}"
        );
    }
    // The request that fills the context to its last cell succeeds.
    let all = client.post("/generate", &exactly(n_ctx as usize - 4)).data();
    assert_eq!(all["prompt_tokens"], 4, "{all}");
    assert_eq!(all["generated_tokens"], n_ctx - 4);
    assert_eq!(client.post("/generate", &endless()).data()["generated_tokens"], n_ctx - 4);
}

#[test]
fn unknown_fields_are_named_in_a_header() {
    let server = Server::start("-np 1");
    let mut client = server.client();
    for (path, name) in [("/generate", "n_predict"), ("/generate_stream", "best_of")] {
        let answer = client.post(path, &json!({"prompt": "a", "max_tokens": 1, name: 1, "zé\r\nX: y": 2}));
        assert_eq!(answer.status, 200);
        let warning = answer.header("X-Cllm-Warning").expect("a warning");
        assert!(warning.contains(name) && warning.is_ascii(), "{warning}");
        assert_eq!(answer.header("X"), None, "a name can't become a header");
    }
    let quiet = client.post("/generate", &json!({"prompt": "a", "max_tokens": 1}));
    assert_eq!(quiet.header("X-Cllm-Warning"), None);
}

#[test]
fn paths_and_methods_that_lead_nowhere_say_so() {
    let server = Server::start("-np 1");
    let mut client = server.client();
    for (method, path, status, allow) in [
        ("GET", "/generate", 405, "POST"),
        ("PUT", "/generate_stream", 405, "POST"),
        ("DELETE", "/encode", 405, "POST"),
        ("POST", "/metrics", 405, "GET, HEAD"),
        ("POST", "/", 405, "GET, HEAD"),
        ("PATCH", "/health", 405, "GET, HEAD"),
        ("GET", "/nowhere", 404, ""),
        ("GET", "/../etc/passwd", 404, ""),
        ("GET", "/%67enerate", 404, ""),
    ] {
        let answer = client.send(method, path, b"");
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.json()["success"], false);
        assert_eq!(answer.header("Allow").unwrap_or(""), allow, "{method} {path}");
    }
    assert_eq!(client.send("POST", "/generate?x=1", br#"{"prompt": "a", "max_tokens": 1}"#).status, 200);
}

#[test]
fn bad_tokens_and_texts_are_refused_by_name() {
    let server = Server::start("-np 1");
    let mut client = server.client();
    for (path, body, part) in [
        ("/encode", "", "invalid JSON at line 1 column 0"),
        ("/encode", "{}", "text: is missing"),
        ("/encode", "{\"text\": 3}", "text: must be a string"),
        ("/encode", "{\"text\": \"a\", \"add_special\": 1}", "add_special"),
        ("/decode", "{}", "tokens: is missing"),
        ("/decode", "{\"tokens\": \"1 2\"}", "tokens: must be an array"),
        ("/decode", "{\"tokens\": [1, -1]}", "tokens[1]"),
        ("/decode", "{\"tokens\": [1, 2, 1.5]}", "tokens[2]"),
        ("/decode", "{\"tokens\": [99999999]}", "tokens[0]"),
        ("/decode", "{\"tokens\": [4294967296]}", "tokens[0]"),
    ] {
        let answer = client.send("POST", path, body.as_bytes());
        let message = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(answer.status == 400 && message.contains(part), "{path} {body}: {} {message}", answer.status);
    }
    assert_eq!(client.post("/encode", &json!({"text": "a"})).status, 200);
}

#[test]
fn what_breaks_http_itself_is_answered_and_closed() {
    let server = Server::start("-np 1");
    let huge = format!("POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 1u64 << 40);
    let over = format!("POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", (8 << 20) + 1);
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(20_000));
    for (bytes, status) in [
        (huge.as_str(), 413),
        (over.as_str(), 413),
        (head.as_str(), 431),
        ("GET / HTTP/2.0\r\n\r\n", 505),
        ("nonsense\r\n\r\n", 400),
        ("POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        ("POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        ("POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        ("POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST /generate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        ("POST /generate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    ] {
        let mut client = server.client();
        client.write(bytes.as_bytes()).unwrap();
        let answer = client.answer(false).unwrap_or_else(|error| panic!("{error} for {bytes:.60}"));
        assert_eq!(answer.status, status, "{bytes:.60}");
        assert!(answer.json()["error"].is_string());
    }
    assert_eq!(server.generate(&exactly(1)).status, 200);
}

/// A prompt of the largest allowed body costs memory and time, and nothing else fails.
#[test]
fn the_largest_bodies_are_answered() {
    let server = Server::start("-np 1");
    let mut client = server.client();
    for text in ["a".repeat(4 << 20), " ".repeat(4 << 20), "word ".repeat(800_000), "é".repeat(2 << 20)] {
        let answer = client.post("/generate", &json!({"prompt": text}));
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("context_length_exceeded")));
    }
    let many: Vec<Value> = vec![json!({"role": "user", "content": "a"}); 20_000];
    assert_eq!(client.post("/generate", &json!({"messages": many})).status, 400);
    assert_eq!(client.post("/generate", &exactly(1)).status, 200);
}
