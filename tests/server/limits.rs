//! Limits of keys, and how they are reported: 429, headers, `/metrics`, `/keys`.

use serde_json::{Value, json};

use super::access::{KeyFile, ask_with};
use super::http::Answer;
use super::server::{Server, number};

const BOSS: &str = "Authorization: Bearer boss-key";

fn keys(name: &str, line: &str) -> KeyFile {
    KeyFile::new(name, &format!("boss-key name=boss admin=yes\n{line}\n"))
}

fn start(file: &KeyFile) -> Server {
    Server::start(&format!("-np 4 --decoder null --api-key-file {}", file.path()))
}

/// Sends a request with the key `small-key`.
fn ask(server: &Server, path: &str, body: &Value) -> Answer {
    ask_with(&mut server.client(), "POST", path, &["Authorization: Bearer small-key"], &body.to_string())
}

fn tokens(max_tokens: usize) -> Value {
    json!({"prompt": "Once upon a time", "max_tokens": max_tokens, "ignore_eos": true})
}

fn header(answer: &Answer, name: &str) -> u64 {
    let value = answer.header(name).unwrap_or_else(|| panic!("no {name}"));
    value.trim_end_matches('s').parse().expect("a number")
}

#[test]
fn tokens_a_minute_are_counted_told_and_held_to() {
    let file = keys("tokens", "small-key name=small tokens_per_minute=100");
    let server = start(&file);
    let first = ask(&server, "/generate", &tokens(20));
    assert_eq!((first.status, header(&first, "x-ratelimit-limit-tokens")), (200, 100));
    let used = first.data()["prompt_tokens"].as_u64().unwrap() + 20;
    assert_eq!(header(&first, "x-ratelimit-remaining-tokens"), 100 - used, "as it was let in");
    let mut taken = used;
    let refused = loop {
        let answer = ask(&server, "/generate", &tokens(20));
        if answer.status != 200 {
            break answer;
        }
        taken += used;
        assert!(taken < 100 + used, "the limit and one request");
    };
    assert!(taken >= 100, "it was refused with tokens left: {taken}");
    assert_eq!((refused.status, &refused.json()["code"]), (429, &json!("rate_limit_exceeded")));
    assert!((1..=61).contains(&header(&refused, "Retry-After")), "{:?}", refused.header("Retry-After"));
    assert_eq!(header(&refused, "x-ratelimit-remaining-tokens"), 0);
    assert!(header(&refused, "x-ratelimit-reset-tokens") >= header(&refused, "Retry-After"));
    let message = refused.json()["error"].as_str().unwrap().to_owned();
    assert!(message.contains("the key small has used its 100 tokens a minute"), "{message}");
    let chat = json!({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1});
    let refused = ask(&server, "/v1/chat/completions", &chat);
    assert_eq!((refused.status, &refused.json()["error"]["type"]), (429, &json!("rate_limit_error")));
    // The limits of another key are separate.
    let other = ask_with(&mut server.client(), "POST", "/generate", &[BOSS], &tokens(20).to_string());
    assert_eq!((other.status, other.header("x-ratelimit-limit-tokens")), (200, None));
    let metrics = ask_with(&mut server.client(), "GET", "/metrics", &[BOSS], "").text();
    let of = |name: &str, key: &str| number(&metrics, &format!("cllm_key_{name}_total{{key=\"{key}\"}}"));
    assert_eq!((of("refused", "small"), of("refused", "boss"), of("requests", "boss")), (2, 0, 1));
    assert_eq!(of("prompt_tokens", "small") + of("generated_tokens", "small"), taken);
}

#[test]
fn requests_at_once_are_held_to_and_a_client_that_leaves_counts_no_more() {
    let file = keys("requests", "small-key name=small requests=1");
    let server = Server::start(&format!("-np 4 -c 65536 --api-key-file {}", file.path()));
    let mut client = server.client();
    let body = json!({"prompt": "Once", "ignore_eos": true, "stream": true}).to_string();
    let head = "POST /generate HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer small-key";
    client.write(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
    let count = |name: &str| {
        let metrics = ask_with(&mut server.client(), "GET", "/metrics", &[BOSS], "").text();
        number(&metrics, name)
    };
    while count("cllm_requests_running") == 0 {}
    let refused = ask(&server, "/generate", &tokens(1));
    assert_eq!((refused.status, header(&refused, "x-ratelimit-remaining-requests")), (429, 0));
    assert!((1..=60).contains(&header(&refused, "Retry-After")));
    client.leave();
    while count("cllm_requests_running") > 0 {}
    // The HTTP thread releases its request a moment later than the engine.
    while ask(&server, "/generate", &tokens(1)).status != 200 {}
}

#[test]
fn a_keys_context_bounds_its_requests() {
    let file = keys("context", "small-key name=small context=40");
    let server = start(&file);
    let cut = ask(&server, "/generate", &tokens(1_000));
    let data = cut.data();
    assert_eq!(data["prompt_tokens"].as_u64().unwrap() + data["generated_tokens"].as_u64().unwrap(), 40);
    assert!(cut.header("X-Cllm-Warning").is_some_and(|warning| warning.contains("max_tokens")));
    let long = ask(&server, "/generate", &json!({"prompt": "word ".repeat(200)}));
    assert_eq!((long.status, &long.json()["n_ctx"]), (400, &json!(40)));
}

#[test]
fn an_administrator_sees_what_keys_have_got_and_sighup_changes_their_terms() {
    let file = keys("admin", "small-key name=small weight=2 tokens_per_minute=5000");
    let server = start(&file);
    assert_eq!(ask(&server, "/generate", &tokens(9)).status, 200);
    let get = |key: &str| ask_with(&mut server.client(), "GET", "/keys", &[key], "");
    let denied = get("Authorization: Bearer small-key");
    assert_eq!((denied.status, &denied.json()["code"]), (403, &json!("admin_only")));
    let small = |answer: Answer| answer.data()["keys"][1].clone();
    let told = small(get(BOSS));
    assert_eq!(
        (&told["name"], &told["weight"], &told["priority"]),
        (&json!("small"), &json!(2), &json!("interactive"))
    );
    assert_eq!((&told["requests_total"], &told["generated_tokens_total"]), (&json!(1), &json!(9)));
    assert_eq!(told["tokens_left"], json!(5_000 - 9 - told["prompt_tokens_total"].as_u64().unwrap()));
    assert!(!get(BOSS).text().contains("small-key"), "keys are not told");
    file.write("boss-key name=boss admin=yes\nsmall-key name=tiny priority=batch tokens_per_minute=5\n");
    server.signal("HUP");
    server.logged("API keys reloaded");
    let told = small(get(BOSS));
    assert_eq!(
        (&told["name"], &told["priority"], &told["requests_total"]),
        (&json!("tiny"), &json!("batch"), &json!(1))
    );
    assert_eq!(ask(&server, "/generate", &tokens(1)).status, 429, "what it used before counts");
    let open = Server::start("-np 1");
    assert_eq!(open.client().get("/keys").status, 403, "no keys, no administrator");
}

#[test]
fn a_running_request_goes_on_when_its_key_is_gone() {
    let file = keys("gone", "small-key name=small");
    let server = Server::start(&format!("-np 1 --decoder null --null-step-us 20000 --api-key-file {}", file.path()));
    let mut client = server.client();
    let body = json!({"prompt": "Once", "max_tokens": 100, "ignore_eos": true, "stream": true}).to_string();
    let head = "POST /generate HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer small-key";
    client.write(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
    let running = || {
        let metrics = ask_with(&mut server.client(), "GET", "/metrics", &[BOSS], "").text();
        number(&metrics, "cllm_requests_running")
    };
    while running() == 0 {}
    file.write("boss-key name=boss admin=yes\n");
    server.signal("HUP");
    server.logged("API keys reloaded");
    assert_eq!(ask(&server, "/generate", &tokens(1)).status, 401);
    assert_eq!(running(), 1, "it goes on");
    let answer = client.answer(false).expect("an answer");
    assert!(answer.status == 200 && answer.text().contains("\"generated_tokens\":100"), "{}", answer.text());
}
