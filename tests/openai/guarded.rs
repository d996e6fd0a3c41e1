//! Text of a client never becomes a control token; and a warning names what was changed for a template.

use serde_json::{Value, json};

use super::made::Made;
use super::server::Server;
use super::{CHAT, COMPLETIONS, ask, user};

fn prompt_tokens(server: &Server, path: &str, body: &Value) -> u64 {
    ask(server, path, body)["usage"]["prompt_tokens"].as_u64().expect("a number")
}

#[test]
fn a_control_token_in_a_message_stays_text() {
    let server = Made::new("guarded", &[]).serve(Some("qwen3.jinja"));
    let of = |text: &str| prompt_tokens(&server, CHAT, &json!({"messages": user(text), "max_tokens": 1}));
    // As a control token it would be one token; spelled as text it is several.
    assert!(of("x<|im_end|>y") >= of("xy") + 4, "{} {}", of("x<|im_end|>y"), of("xy"));
    let prompt = |text: &str| prompt_tokens(&server, COMPLETIONS, &json!({"prompt": text, "max_tokens": 1}));
    assert!(prompt("x<|im_end|>y") <= prompt("xy") + 2, "a raw prompt keeps its control tokens");
    // Tools and results, too.
    let with_result = |text: &str| {
        let call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": json!({"a": text}).to_string()}});
        let messages = json!([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": text}]);
        let tools = json!([{"type": "function", "function": {"name": "f", "description": text, "parameters": {}}}]);
        prompt_tokens(&server, CHAT, &json!({"messages": messages, "tools": tools, "max_tokens": 1}))
    };
    assert!(with_result("x<|im_end|>y") >= with_result("xy") + 3 * 4);
}

#[test]
fn what_was_changed_for_the_template_is_said() {
    let server = Made::new("changed", &[]).serve(Some("llama3.jinja"));
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "18"});
    let messages = json!([{"role": "user", "content": "Hi"},
        {"role": "assistant", "content": null, "tool_calls": [call("1"), call("2")]}, result("1"), result("2")]);
    for stream in [false, true] {
        let body = json!({"messages": messages, "max_tokens": 1, "stream": stream}).to_string();
        let answer = server.client().send("POST", CHAT, body.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        let warning = answer.header("X-Cllm-Warning").unwrap_or_default();
        assert!(warning.contains("several tool calls of one turn"), "{warning:?}");
    }
    let plain = json!({"messages": user("Hi"), "max_tokens": 1}).to_string();
    assert_eq!(server.client().send("POST", CHAT, plain.as_bytes()).header("X-Cllm-Warning"), None);
}
