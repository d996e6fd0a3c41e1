//! Requests that are refused, and the JSON of each refusal.

use std::process::Command;

use serde_json::{Value, json};

use super::server::Server;
use super::{EMBEDDINGS, N_EMBD, Scratch};

#[test]
fn bad_input_names_its_param() {
    let model = Scratch::bert();
    let server = model.server("");
    let mut client = server.client();
    let long = vec!["ba"; 511].join(" ");
    for (body, param) in [
        (json!({}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": ["a", ""]}), "input[1]"),
        (json!({"input": [5, 2_048]}), "input[1]"),
        (json!({"input": [[5], [6, 99_999]]}), "input[1][1]"),
        (json!({"input": long}), "input"),
        (json!({"input": ["a", long]}), "input[1]"),
        (json!({"input": vec![5; 513]}), "input"),
        (json!({"input": "a", "dimensions": N_EMBD + 1}), "dimensions"),
        (json!({"input": "a", "encoding_format": "int8"}), "encoding_format"),
    ] {
        let answer = client.post(EMBEDDINGS, &body);
        let error = &answer.json()["error"];
        let told = (answer.status, &error["param"], &error["type"], &error["code"]);
        let expected = (400, &json!(param), &json!("invalid_request_error"), &json!("invalid_field"));
        assert_eq!(told, expected, "{}", answer.text());
    }
    let message = client.post(EMBEDDINGS, &json!({"input": vec![5; 513]})).json()["error"]["message"].clone();
    assert_eq!(message, "input: has 513 tokens, at most 512 fit");
    let answer = client.send("POST", EMBEDDINGS, b"{\"input\": ");
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &json!("invalid_json")));
    assert_eq!(client.get(EMBEDDINGS).status, 405);
    assert_eq!(server.metric("cllm_steps_total"), 0, "nothing of it was read");
    assert_eq!(client.post(EMBEDDINGS, &json!({"input": vec![5; 512]})).status, 200);
}

#[test]
fn a_model_that_embeds_does_not_generate() {
    let model = Scratch::bert();
    let server = model.server("");
    let mut client = server.client();
    let chat = json!({"messages": [{"role": "user", "content": "Hi"}], "prompt": "Hi", "max_tokens": 4});
    let code = |answer: &Value, path: &str| match path {
        "/v1/messages" => answer["error"]["message"].clone(),
        path if path.starts_with("/v1/") || path == "/completion" => answer["error"]["code"].clone(),
        _ => answer["code"].clone(),
    };
    let routes = [
        "/generate",
        "/generate_stream",
        "/benchmark",
        "/completion",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/messages",
    ];
    for path in routes {
        let answer = client.post(path, &chat);
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        assert!(answer.text().contains(EMBEDDINGS), "it says where to go: {}", answer.text());
        let told = code(&answer.json(), path);
        assert!(path == "/v1/messages" || told == "not_supported", "{path}: {told}");
    }
    assert_eq!(server.metric("cllm_requests_rejected_total{code=\"not_supported\"}"), routes.len() as u64);
    // Routes that don't need the engine still work.
    assert_eq!(client.post("/tokenize", &json!({"content": "ba"})).status, 200);

    let output = Command::new(env!("CARGO_BIN_EXE_cllm"))
        .args(["generate", "-m", &model.0.display().to_string(), "Hi"])
        .output()
        .expect("the program runs");
    let line = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), line.lines().count()), (Some(1), 1), "{line}");
    assert!(line.contains("embeddings"), "{line}");
}

#[test]
fn a_model_that_generates_names_the_flag() {
    let server = Server::start("");
    let answer = server.client().post(EMBEDDINGS, &json!({"input": "a"}));
    let error = &answer.json()["error"];
    assert_eq!((answer.status, &error["code"]), (400, &json!("not_supported")), "{error}");
    assert!(error["message"].as_str().is_some_and(|message| message.contains("--embeddings")), "{error}");
}

#[test]
fn a_key_is_asked_for_here_too() {
    let model = Scratch::bert();
    let server = model.server("--api-key secret");
    let mut client = server.client();
    let body = json!({"input": "ba"}).to_string();
    assert_eq!(client.send("POST", EMBEDDINGS, body.as_bytes()).status, 401);
    let head = format!(
        "POST {EMBEDDINGS} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer secret\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    client.write(head.as_bytes()).unwrap();
    assert_eq!(client.answer(false).unwrap().status, 200);
}
