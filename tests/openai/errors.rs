//! Errors in OpenAI's shape, with true statuses.

use serde_json::{Value, json};

use super::server::Server;
use super::{CHAT, COMPLETIONS, user};

#[test]
fn errors_name_their_param_and_have_openais_shape() {
    let server = Server::start("-np 1 -c 256");
    let mut client = server.client();
    let mut check = |path: &str, body: &str, status: u16, param: Value, code: &str| {
        let answer = client.send("POST", path, body.as_bytes());
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status, &error["param"], &error["code"]), (status, &param, &json!(code)), "{path} {body}");
        assert_eq!(error["type"], "invalid_request_error");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()));
        assert!(answer.header("X-Request-Id").is_some());
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
    };
    for path in [CHAT, COMPLETIONS] {
        check(path, "{oops", 400, Value::Null, "invalid_json");
        check(path, "[]", 400, json!("body"), "invalid_field");
        check(path, "", 400, Value::Null, "invalid_json");
    }
    let chat = |extra: Value| {
        let mut body = json!({"messages": user("Hi")});
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        body.to_string()
    };
    check(CHAT, "{}", 400, json!("messages"), "invalid_field");
    check(CHAT, &chat(json!({"temperature": "hot"})), 400, json!("temperature"), "invalid_field");
    check(CHAT, &chat(json!({"top_logprobs": 21, "logprobs": true})), 400, json!("top_logprobs"), "invalid_field");
    check(CHAT, &chat(json!({"logit_bias": {"99999999": 1}})), 400, json!("logit_bias"), "invalid_field");
    check(
        CHAT,
        &chat(json!({"messages": user(&"fox ".repeat(900))})),
        400,
        json!("messages"),
        "context_length_exceeded",
    );
    check(COMPLETIONS, r#"{"prompt": [99999999]}"#, 400, json!("prompt[0]"), "invalid_field");
    check(COMPLETIONS, r#"{"prompt": "a", "best_of": 99}"#, 400, json!("best_of"), "invalid_field");
    check("/v1/nowhere", "{}", 404, Value::Null, "not_found");
    let answer = server.client().get(CHAT);
    assert_eq!((answer.status, answer.header("Allow")), (405, Some("POST")));
    assert_eq!(answer.json()["error"]["code"], "method_not_allowed");
    assert_eq!(server.generate(&json!({"prompt": 3})).json()["success"], false, "the native shape is as it was");
}

#[test]
fn a_deadline_is_an_error_and_a_stream_says_so_in_an_event() {
    let server = Server::start("-np 1 -c 65536");
    let body = json!({"prompt": "Once upon a time", "temperature": 0, "ignore_eos": true, "deadline_ms": 300});
    let whole = server.client().post(COMPLETIONS, &body);
    assert_eq!((whole.status, &whole.json()["error"]["code"]), (408, &json!("deadline_exceeded")));
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let answer = server.client().post(COMPLETIONS, &streamed);
    let text = answer.text();
    match answer.status {
        // The deadline passed before any text.
        408 => assert!(text.contains("deadline_exceeded")),
        status => {
            assert_eq!(status, 200);
            let last = text.trim_end().rsplit("\n\n").next().unwrap();
            assert!(last.contains("\"error\"") && last.contains("deadline_exceeded"), "{last}");
            assert!(!text.contains("[DONE]"));
        }
    }
}

/// Refusals of the HTTP layer used to have the native format on every route, without a request id.
#[test]
fn what_never_reaches_a_route_is_refused_in_its_shape() {
    let server = Server::start("-np 1");
    let told = |head: &str| {
        let mut client = server.client();
        client.write(head.as_bytes()).unwrap();
        let answer = client.answer(false).unwrap();
        let name = answer.header("X-Request-Id").expect("a name").to_owned();
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        (answer.status, answer.json(), name)
    };
    let huge = "Host: a\r\nX-Request-Id: mine\r\nContent-Length: 99999999999\r\n\r\n";
    for path in [CHAT, COMPLETIONS, "/completion", "/tokenize"] {
        let (status, body, name) = told(&format!("POST {path} HTTP/1.1\r\n{huge}"));
        let error = json!({"message": body["error"]["message"], "type": "invalid_request_error", "param": null,
            "code": "body_too_large"});
        assert_eq!((status, &body["error"], name.as_str()), (413, &error, "mine"), "{path}");
    }
    let (status, body, _) = told(&format!("POST /v1/messages HTTP/1.1\r\n{huge}"));
    assert_eq!((status, &body["type"], &body["error"]["type"]), (413, &json!("error"), &json!("request_too_large")));
    let (status, body, _) = told(&format!("POST /generate HTTP/1.1\r\n{huge}"));
    assert_eq!((status, &body["success"], &body["code"]), (413, &json!(false), &json!("body_too_large")));
    let (status, body, name) = told("GET /v1/models HTTP/1.1\r\n\r\n");
    assert_eq!((status, &body["error"]["code"]), (400, &json!("bad_request")));
    assert!(name.starts_with("req-"), "{name}");
    let long = format!("GET /v1/models HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(20_000));
    let (status, body, _) = told(&long);
    assert_eq!((status, &body["error"]["code"]), (431, &json!("head_too_large")));
}
