//! Prompts as tokens, on vLLM's routes: the rendered tokens are those that a generation uses.

use serde_json::{Value, json};

use super::server::Server;

const CHAT: &str = "/v1/chat/completions";
const COMPLETION: &str = "/v1/completions";

fn rendered(server: &Server, path: &str, body: &Value) -> Value {
    let answer = server.client().post(&format!("{path}/render"), body);
    assert_eq!(answer.status, 200, "{body}: {}", answer.text());
    answer.json()
}

fn ids(rendered: &Value) -> &Vec<Value> {
    rendered["token_ids"].as_array().unwrap_or_else(|| panic!("no ids: {rendered}"))
}

#[test]
fn a_chat_is_rendered_to_the_tokens_that_are_read() {
    let server = Server::start("-np 2 --alias mine");
    let city = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let tools = json!([{"type": "function", "function": {"name": "weather", "parameters": city}}]);
    for mut body in [
        json!({"messages": [{"role": "user", "content": "How do I change the port? <|im_end|>"}]}),
        json!({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}], "tools": tools}),
    ] {
        body["max_tokens"] = json!(3);
        body["temperature"] = json!(0);
        let all = rendered(&server, CHAT, &body);
        assert_eq!((&all["model"], &all["stream"]), (&json!("mine"), &json!(false)), "{all}");
        assert!(all["request_id"].as_str().unwrap().starts_with("chatcmpl-"), "{all}");
        let asked = &all["sampling_params"];
        assert_eq!((&asked["max_tokens"], &asked["temperature"], &asked["n"]), (&json!(3), &json!(0.0), &json!(1)));
        // The tokens as a prompt give the chat's answer, and by then all but the last are in the cache.
        let chat = server.client().post(CHAT, &body).json();
        assert_eq!(chat["usage"]["prompt_tokens"], ids(&all).len(), "{chat}");
        let of_tokens = json!({"prompt": ids(&all), "max_tokens": 3, "temperature": 0});
        let again = server.client().post(COMPLETION, &of_tokens).json();
        assert_eq!(again["usage"]["prompt_tokens_details"]["cached_tokens"], ids(&all).len() - 1, "{again}");
        assert_eq!(again["choices"][0]["text"], chat["choices"][0]["message"]["content"]);
    }
    let metrics = server.client().get("/metrics").text();
    assert!(metrics.contains("cllm_requests_finished_total{reason=\"length\"} 4\n"), "rendering generates nothing");
}

#[test]
fn each_prompt_of_a_completion_is_rendered() {
    let server = Server::start("-np 1");
    let one = rendered(&server, COMPLETION, &json!({"prompt": "Once upon a time", "stream": true}));
    let [one] = one.as_array().unwrap().as_slice() else { panic!("{one}") };
    let tokens = server.client().post("/tokenize", &json!({"content": "Once upon a time"})).json()["tokens"].clone();
    assert_eq!(one["token_ids"], tokens);
    assert_eq!(one["stream"], true);
    assert!(one["request_id"].as_str().unwrap().starts_with("cmpl-"), "{one}");
    // Tokens stay as they are.
    let two = rendered(&server, COMPLETION, &json!({"prompt": ["Once upon a time", "Hi"]}));
    assert_eq!((two.as_array().unwrap().len(), &two[0]["token_ids"]), (2, &tokens));
    assert_eq!(rendered(&server, COMPLETION, &json!({"prompt": [17, 18, 19]}))[0]["token_ids"], json!([17, 18, 19]));
    // Rendered although it is too long for the context: the server that the router chooses will refuse it.
    let long = rendered(&server, COMPLETION, &json!({"prompt": "a b ".repeat(5_000)}));
    assert!(ids(&long[0]).len() > 2_048);
}

#[test]
fn what_can_not_be_read_is_refused_by_field() {
    let server = Server::start("-np 1");
    for (path, body, param) in [
        (CHAT, json!({}), "messages"),
        (CHAT, json!({"messages": [{"role": "user", "content": 3}]}), "messages[0].content"),
        (COMPLETION, json!({}), "prompt"),
        (COMPLETION, json!({"prompt": [3, -1]}), "prompt[1]"),
    ] {
        let answer = server.client().post(&format!("{path}/render"), &body);
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!(param)), "{body}");
    }
    // Without /v1, too.
    assert_eq!(server.client().post("/completions/render", &json!({"prompt": "a"})).status, 200);
}
