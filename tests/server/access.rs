//! Which clients are admitted: API keys and their file, pages of other sites.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::http::{Answer, Client};
use super::server::Server;

/// A file of one test, removed at its end.
pub struct KeyFile(PathBuf);

impl KeyFile {
    pub fn new(name: &str, text: &str) -> KeyFile {
        let file = KeyFile(std::env::temp_dir().join(format!("cllm-keys-{}-{name}", std::process::id())));
        file.write(text);
        file
    }

    pub fn write(&self, text: &str) {
        std::fs::write(&self.0, text).unwrap();
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Sends a request with additional headers; the body is empty unless it is a POST.
fn ask(client: &mut Client, method: &str, path: &str, headers: &[&str]) -> Answer {
    let body = if method == "POST" {
        json!({"prompt": "Hi", "max_tokens": 1, "stream": true}).to_string()
    } else {
        String::new()
    };
    ask_with(client, method, path, headers, &body)
}

/// Like `ask`, with this body.
pub fn ask_with(client: &mut Client, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
    client.write(head.as_bytes()).expect("the request is taken");
    client.answer(method == "HEAD").expect("there is an answer")
}

#[test]
fn everything_but_probes_needs_a_key() {
    let file = KeyFile::new("many", "# two\nalpha\nbeta\n");
    let server = Server::start(&format!("-np 1 --api-key gamma --api-key-file {}", file.path()));
    let mut client = server.client();
    for path in ["/health", "/ready"] {
        assert_eq!(ask(&mut client, "GET", path, &[]).status, 200, "{path}");
    }
    let closed = [
        ("GET", "/"),
        ("GET", "/metrics"),
        ("GET", "/model/info"),
        ("GET", "/v1/models"),
        ("GET", "/props"),
        ("GET", "/nowhere"),
        ("PUT", "/generate"),
        ("POST", "/generate"),
        ("POST", "/generate_stream"),
        ("POST", "/v1/completions"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/encode"),
        ("POST", "/tokenize"),
    ];
    for (method, path) in closed {
        for headers in
            [&[] as &[&str], &["Authorization: Bearer alph"], &["X-Api-Key: alpha2"], &["Authorization: Basic alpha"]]
        {
            let answer = ask(&mut client, method, path, headers);
            assert_eq!(
                (answer.status, answer.header("WWW-Authenticate")),
                (401, Some("Bearer")),
                "{method} {path} {headers:?}"
            );
            assert!(answer.header("X-Request-Id").is_some());
            let body = answer.json();
            let openai = path.starts_with("/v1/") || ["/props", "/tokenize"].contains(&path);
            let code = if openai { &body["error"]["code"] } else { &body["code"] };
            assert_eq!(code, "invalid_api_key", "{path}: {body}");
        }
    }
    for headers in ["Authorization: Bearer alpha", "authorization: bearer beta", "x-api-key: gamma"] {
        for (method, path) in [("GET", "/"), ("GET", "/v1/models"), ("POST", "/generate"), ("POST", "/v1/completions")]
        {
            assert_eq!(ask(&mut client, method, path, &[headers]).status, 200, "{headers} {path}");
        }
        assert_eq!(ask(&mut client, "GET", "/nowhere", &[headers]).status, 404);
    }
}

#[test]
fn of_several_keys_the_good_one_counts() {
    let server = Server::start("-np 1 --api-key good");
    let mut client = server.client();
    let both = ["Authorization: Bearer dummy", "x-api-key: good"];
    for headers in [&both[..], &["x-api-key: dummy, good"], &["Authorization: Bearer dummy,good"]] {
        assert_eq!(ask(&mut client, "GET", "/v1/models", headers).status, 200, "{headers:?}");
    }
    assert_eq!(ask(&mut client, "GET", "/v1/models", &["x-api-key: dummy, other"]).status, 401);
}

#[test]
fn sighup_changes_the_keys() {
    let file = KeyFile::new("reload", "old\n");
    let server = Server::start(&format!("-np 1 --api-key-file {}", file.path()));
    let mut client = server.client();
    let mut status =
        |key: &str| ask(&mut client, "GET", "/v1/models", &[&format!("Authorization: Bearer {key}")]).status;
    assert_eq!((status("old"), status("new")), (200, 401));
    // An empty list of keys would admit every client, so the old keys stay.
    file.write("# none\n");
    server.signal("HUP");
    server.logged("API keys not reloaded");
    assert_eq!((status("old"), status("new")), (200, 401));
    file.write("new\n");
    server.signal("HUP");
    server.logged("API keys reloaded");
    assert_eq!((status("old"), status("new")), (401, 200));
}

#[test]
fn metrics_may_be_open_where_all_else_asks_for_a_key() {
    let server = Server::start("-np 1 --api-key gamma --metrics-key none");
    let mut client = server.client();
    for method in ["GET", "HEAD"] {
        let answer = ask(&mut client, method, "/metrics", &[]);
        assert_eq!(answer.status, 200, "{method}");
    }
    assert!(ask(&mut client, "GET", "/metrics", &[]).text().contains("vllm:num_requests_waiting"));
    // Another method, and all other routes.
    for (method, path) in [("POST", "/metrics"), ("GET", "/v1/models"), ("GET", "/slots"), ("POST", "/generate")] {
        assert_eq!(ask(&mut client, method, path, &[]).status, 401, "{method} {path}");
    }
    let closed = Server::start("-np 1 --api-key gamma --metrics-key same");
    assert_eq!(ask(&mut closed.client(), "GET", "/metrics", &[]).status, 401);
}

#[test]
fn pages_of_named_sites_may_ask() {
    let server = Server::start("-np 1 --api-key alpha --cors https://chat.example,http://localhost:3000");
    let mut client = server.client();
    let wants = "Access-Control-Request-Method: POST";
    let preflight = ask(&mut client, "OPTIONS", "/v1/chat/completions", &["Origin: https://chat.example", wants]);
    assert_eq!(preflight.status, 204, "without a key: browsers send none with it");
    assert_eq!(preflight.header("Access-Control-Allow-Origin"), Some("https://chat.example"));
    let allowed = preflight.header("Access-Control-Allow-Headers").expect("headers");
    assert!(allowed.contains("Authorization") && allowed.contains("Content-Type"), "{allowed}");
    let key = "Authorization: Bearer alpha";
    for (method, path) in [("GET", "/v1/models"), ("POST", "/generate"), ("POST", "/v1/completions")] {
        let answer = ask(&mut client, method, path, &[key, "Origin: http://localhost:3000"]);
        assert_eq!((answer.status, answer.header("Vary")), (200, Some("Origin")), "{path}");
        assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("http://localhost:3000"), "{path}");
        let other = ask(&mut client, method, path, &[key, "Origin: https://evil.example"]);
        assert_eq!(other.header("Access-Control-Allow-Origin"), None, "{path}");
    }
    // A page must also be able to read why it was refused.
    let refused = ask(&mut client, "GET", "/v1/models", &["Origin: https://chat.example"]);
    assert_eq!((refused.status, refused.header("Access-Control-Allow-Origin")), (401, Some("https://chat.example")));
}

#[test]
fn pages_of_other_sites_may_not_ask_unless_told() {
    let server = Server::start("-np 1");
    let mut client = server.client();
    let headers = ["Origin: https://chat.example", "Access-Control-Request-Method: POST"];
    assert_eq!(ask(&mut client, "OPTIONS", "/v1/chat/completions", &headers).status, 405);
    assert_eq!(ask(&mut client, "GET", "/v1/models", &headers).header("Access-Control-Allow-Origin"), None);
    let open = Server::start("-np 1 --cors *");
    let answer = ask(&mut open.client(), "GET", "/v1/models", &headers);
    assert_eq!((answer.header("Access-Control-Allow-Origin"), answer.header("Vary")), (Some("*"), None));
}

#[test]
fn llama_servers_routes_answer_as_there() {
    let server = Server::start("-np 2 --alias mine");
    let mut client = server.client();
    let text = "naïve 日本語 🦀";
    let ids = client.post("/tokenize", &json!({"content": text})).json()["tokens"].clone();
    assert_eq!(ids, client.post("/encode", &json!({"text": text})).data()["tokens"]);
    assert_eq!(client.post("/detokenize", &json!({"tokens": ids})).json()["content"], text);
    let pieces = client.post("/tokenize", &json!({"content": text, "with_pieces": true})).json()["tokens"].clone();
    let bytes = |piece: &Value| match piece {
        Value::String(text) => text.as_bytes().to_vec(),
        list => list.as_array().unwrap().iter().map(|b| b.as_u64().unwrap() as u8).collect(),
    };
    let pieces = pieces.as_array().unwrap();
    assert_eq!(pieces.iter().flat_map(|token| bytes(&token["piece"])).collect::<Vec<u8>>(), text.as_bytes());
    assert_eq!(pieces.iter().map(|token| token["id"].clone()).collect::<Value>(), ids);

    let messages = json!([{"role": "user", "content": "Hi"}]);
    let prompt = client.post("/apply-template", &json!({"messages": messages})).json()["prompt"].clone();
    let prompt = prompt.as_str().unwrap();
    assert!(
        prompt.contains("<|im_start|>user\nHi<|im_end|>") && prompt.ends_with("<|im_start|>assistant\n"),
        "{prompt:?}"
    );
    let count = client.post("/tokenize", &json!({"content": prompt})).json()["tokens"].as_array().unwrap().len();
    let usage =
        client.post("/v1/chat/completions", &json!({"messages": messages, "max_tokens": 1})).json()["usage"].clone();
    assert_eq!(usage["prompt_tokens"], count);

    let props = client.get("/props").json();
    assert_eq!((&props["total_slots"], &props["model_alias"]), (&json!(2), &json!("mine")));
    assert!(props["chat_template"].as_str().unwrap().contains("im_start"));
    assert_eq!(props["default_generation_settings"]["n_ctx"], client.get("/model/info").data()["n_ctx"]);
    for (path, body, param) in [
        ("/tokenize", json!({}), "content"),
        ("/tokenize", json!({"content": 3}), "content"),
        ("/detokenize", json!({"tokens": [-1]}), "tokens[0]"),
        ("/apply-template", json!({"messages": []}), "messages"),
    ] {
        let answer = client.post(path, &body);
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!(param)), "{path} {body}");
    }
}

#[test]
fn the_model_is_listed() {
    let server = Server::start("-np 1 --alias org/mine");
    let mut client = server.client();
    let list = client.get("/v1/models").json();
    let model = &list["data"][0];
    assert_eq!(
        (&list["object"], &model["id"], &model["object"]),
        (&json!("list"), &json!("org/mine"), &json!("model"))
    );
    assert!(model["created"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(model["max_model_len"], client.get("/model/info").data()["n_ctx"]);
    for path in ["/v1/models/org/mine", "/v1/models/org%2Fmine"] {
        assert_eq!(&client.get(path).json(), model, "{path}");
    }
    let missing = client.get("/v1/models/other");
    assert_eq!((missing.status, &missing.json()["error"]["code"]), (404, &json!("model_not_found")));
}

#[test]
fn slots_show_the_requests_that_are_served_and_no_text() {
    let server = Server::start("-np 2 -c 8192");
    let idle = server.client().get("/slots").json();
    assert_eq!(idle.as_array().map(Vec::len), Some(2));
    assert!(
        idle.as_array().unwrap().iter().all(|slot| slot["state"] == "idle" && slot["is_processing"] == false),
        "{idle}"
    );
    let mut body = super::endless();
    body["max_tokens"] = json!(4_000);
    let mut stream = server.stream(&body);
    for _ in 0..5 {
        stream.next();
    }
    let n_prompt =
        server.client().post("/encode", &json!({"text": body["prompt"], "add_special": true})).data()["length"].clone();
    let text = server.client().get("/slots").text();
    assert!(!text.contains("Once"), "{text}");
    let slots: Value = serde_json::from_str(&text).unwrap();
    let busy: Vec<&Value> = slots.as_array().unwrap().iter().filter(|slot| slot["is_processing"] == true).collect();
    let [slot] = busy.as_slice() else { panic!("{slots}") };
    assert_eq!((&slot["state"], &slot["n_prompt_tokens"]), (&json!("decode"), &n_prompt));
    let number = |name: &str| slot[name].as_u64().unwrap_or_else(|| panic!("{name}: {slot}"));
    let decoded = slot["next_token"][0]["n_decoded"].as_u64().unwrap();
    assert!(decoded >= 4 && number("n_past") > number("n_prompt_tokens"), "{slot}");
    assert_eq!(slot["next_token"][0]["n_remain"], 4_000 - decoded);
    stream.leave();
    server.wait_until("idle", |metrics| super::server::number(metrics, "cllm_requests_running") == 0);
    assert!(server.client().get("/slots").json().as_array().unwrap().iter().all(|slot| slot["state"] == "idle"));
}

/// In each dialect a key that may not use the model gets 403, in the dialect's own format, and lists show it no model.
#[test]
fn a_key_is_held_to_its_models() {
    let keys = "any-key\nfox-key name=fox models=other,fox\nowl-key name=owl models=owl,org/owl\n";
    let file = KeyFile::new("models", keys);
    let server = Server::start(&format!("-np 1 --decoder null --alias fox --api-key-file {}", file.path()));
    let asks = |key: &str, method: &str, path: &str, body: &Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        ask_with(&mut server.client(), method, path, &[&format!("Authorization: Bearer {key}-key")], &body)
    };
    let chat = json!({"model": "owl", "max_tokens": 2, "messages": [{"role": "user", "content": "Hi"}]});
    let text = json!({"model": "owl", "prompt": "Hi", "max_tokens": 2, "n_predict": 2, "stream": false});
    let input = json!({"model": "owl", "input": "Hi", "max_output_tokens": 2});
    let question = json!({"model": "owl", "messages": [{"role": "user", "content": "Hi"}], "stream": false,
        "options": {"num_predict": 2}});
    for (path, body, code) in [
        ("/generate", &text, "/code"),
        ("/v1/completions", &text, "/error/code"),
        ("/v1/chat/completions", &chat, "/error/code"),
        ("/v1/responses", &input, "/error/code"),
        ("/completion", &text, ""),
        ("/v1/messages", &chat, "/error/type"),
        ("/api/chat", &question, ""),
        ("/v1/messages/count_tokens", &chat, "/error/type"),
        ("/tokenize", &json!({"content": "Hi"}), ""),
        ("/benchmark", &json!({"requests": 1, "max_tokens": 1}), "/code"),
    ] {
        for key in ["any", "fox"] {
            let answer = asks(key, "POST", path, body);
            assert_eq!(answer.status, 200, "{key} {path}: {}", answer.text());
        }
        let denied = asks("owl", "POST", path, body);
        assert_eq!(denied.status, 403, "{path}: {}", denied.text());
        assert!(denied.text().contains("the key owl may not use the model fox"), "{path}: {}", denied.text());
        let expected = if path.contains("messages") { "permission_error" } else { "model_denied" };
        assert!(code.is_empty() || denied.json().pointer(code) == Some(&json!(expected)), "{path}: {}", denied.text());
    }
    let list = |key: &str, path: &str, of: &str| {
        let answer = asks(key, "GET", path, &Value::Null);
        assert_eq!(answer.status, 200, "{path}");
        answer.json()[of].as_array().expect("a list").len()
    };
    for (path, of) in [("/v1/models", "data"), ("/api/tags", "models"), ("/api/ps", "models")] {
        assert_eq!(["any", "fox", "owl"].map(|key| list(key, path, of)), [1, 1, 0], "{path}");
    }
    let status = |key: &str, path: &str| asks(key, "GET", path, &Value::Null).status;
    for path in ["/v1/models/fox", "/v1/models/owl"] {
        assert_eq!(status("owl", path), 404);
    }
    assert_eq!((status("fox", "/v1/models/fox"), status("owl", "/props"), status("owl", "/metrics")), (200, 403, 200));
    // The new terms apply from the next request on.
    file.write("any-key\nowl-key name=owl models=owl,fox\n");
    server.signal("HUP");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while asks("owl", "POST", "/generate", &text).status != 200 {
        assert!(std::time::Instant::now() < until, "the file wasn't read again");
    }
}
