//! `/v1/messages`: Anthropic's shape around the same chat.

use serde_json::{Value, json};

use super::server::Server;
use super::{CHAT, ask, user};

const MESSAGES: &str = "/v1/messages";
const COUNT: &str = "/v1/messages/count_tokens";

fn weather() -> Value {
    let city = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    json!([{"name": "get_weather", "description": "Weather of a city", "input_schema": city}])
}

/// A stream's events with their names; each name is its data's type, too.
fn stream(server: &Server, body: &Value) -> Vec<(String, Value)> {
    let mut body = body.clone();
    body["stream"] = json!(true);
    let answer = server.client().post(MESSAGES, &body);
    assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("text/event-stream")), "{}", answer.text());
    let text = answer.text();
    let events = text.split_terminator("\n\n").filter(|event| !event.starts_with("event: ping\n")).map(|event| {
        let (name, data) = event.split_once('\n').expect("two lines");
        let name = name.strip_prefix("event: ").expect("a name").to_owned();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
        assert_eq!(data["type"], name);
        (name, data)
    });
    events.collect()
}

/// The message that a client assembles from a stream: it must equal a whole answer.
fn put_together(events: &[(String, Value)]) -> Value {
    let mut message = events[0].1["message"].clone();
    let mut inputs: Vec<String> = Vec::new();
    for (name, data) in &events[1..] {
        let index = data["index"].as_u64().unwrap_or(0) as usize;
        match name.as_str() {
            "content_block_start" => {
                let blocks = message["content"].as_array_mut().unwrap();
                assert_eq!(blocks.len(), index);
                blocks.push(data["content_block"].clone());
                inputs.push(String::new());
            }
            "content_block_delta" => {
                let delta = &data["delta"];
                let block = &mut message["content"][index];
                let mut grow = |field: &str| {
                    block[field] = json!(block[field].as_str().unwrap().to_owned() + delta[field].as_str().unwrap());
                };
                match delta["type"].as_str().unwrap() {
                    "text_delta" => grow("text"),
                    "thinking_delta" => grow("thinking"),
                    "signature_delta" => grow("signature"),
                    "input_json_delta" => inputs[index] += delta["partial_json"].as_str().unwrap(),
                    other => panic!("{other}"),
                }
            }
            "content_block_stop" if !inputs[index].is_empty() => {
                message["content"][index]["input"] = serde_json::from_str(&inputs[index]).expect("an input is JSON");
            }
            "content_block_stop" | "message_stop" => {}
            "message_delta" => {
                message["stop_reason"] = data["delta"]["stop_reason"].clone();
                message["stop_sequence"] = data["delta"]["stop_sequence"].clone();
                message["usage"] = data["usage"].clone();
            }
            other => panic!("{other}"),
        }
    }
    assert_eq!(events.last().unwrap().0, "message_stop");
    message
}

#[test]
fn an_answer_is_that_of_the_other_api_in_another_shape() {
    let server = Server::start("-np 1");
    let question = user("How do I change the port?");
    let body = json!({"model": "any", "max_tokens": 60, "messages": question, "temperature": 0, "system": "Be brief."});
    let messages = json!([{"role": "system", "content": "Be brief."}, question[0]]);
    let other = ask(&server, CHAT, &json!({"messages": messages, "temperature": 0, "max_tokens": 60}));
    let answer = ask(&server, MESSAGES, &body);
    assert_eq!(answer["content"], json!([{"type": "text", "text": other["choices"][0]["message"]["content"]}]));
    assert_eq!((&answer["type"], &answer["role"]), (&json!("message"), &json!("assistant")));
    assert!(answer["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!((&answer["stop_reason"], &answer["stop_sequence"]), (&json!("end_turn"), &Value::Null));
    let usage = &answer["usage"];
    let count = |name: &str| usage[name].as_u64().unwrap();
    assert_eq!(count("output_tokens"), other["usage"]["completion_tokens"]);
    // It is the second request with this prompt.
    assert_eq!(
        (count("input_tokens"), count("input_tokens") + count("cache_read_input_tokens")),
        (1, other["usage"]["prompt_tokens"].as_u64().unwrap())
    );
    let counted = ask(&server, COUNT, &json!({"messages": question, "system": "Be brief."}));
    assert_eq!(counted, json!({"input_tokens": other["usage"]["prompt_tokens"]}));
}

#[test]
fn it_says_why_it_stopped() {
    let server = Server::start("-np 1");
    let body = |max: u64, stops: Value| json!({"max_tokens": max, "messages": user("How do I change the port?"), "temperature": 0, "stop_sequences": stops});
    let reason = |body: &Value| {
        let answer = ask(&server, MESSAGES, body);
        (answer["stop_reason"].clone(), answer["stop_sequence"].clone())
    };
    assert_eq!(reason(&body(3, json!([]))), (json!("max_tokens"), Value::Null));
    assert_eq!(reason(&body(60, json!([" serve"]))), (json!("stop_sequence"), json!(" serve")));
    let several = body(60, json!(["nothing of the kind", " serve", "serve"]));
    assert_eq!(reason(&several), (json!("stop_sequence"), json!(" serve")));
    let streamed = put_together(&stream(&server, &several));
    assert_eq!(streamed["stop_sequence"], " serve");
    assert_eq!(reason(&body(60, json!(["never", "at all"]))), (json!("end_turn"), Value::Null));
}

#[test]
fn a_stream_put_together_is_the_whole_answer() {
    let server = Server::start("-np 1");
    let ask_for = |text: &str, extra: Value| {
        let mut body = json!({"max_tokens": 80, "messages": user(text), "temperature": 0, "tools": weather()});
        extra.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        body
    };
    for body in [
        ask_for("Tell me a story", json!({"tools": []})),
        ask_for("Tell me a story", json!({"tool_choice": {"type": "none"}, "stop_sequences": ["."]})),
        ask_for("What is the weather in Paris?", json!({})),
        ask_for("What is the weather in Paris?", json!({"tool_choice": {"type": "any"}})),
        ask_for("Hi", json!({"tool_choice": {"type": "tool", "name": "get_weather"}})),
    ] {
        let whole = ask(&server, MESSAGES, &body);
        let mut streamed = put_together(&stream(&server, &body));
        // Ids differ, and so does the number of cached tokens.
        streamed["id"] = whole["id"].clone();
        assert_eq!(streamed["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
        streamed["usage"] = whole["usage"].clone();
        for (i, block) in whole["content"].as_array().unwrap().iter().enumerate() {
            if block["type"] == "tool_use" {
                streamed["content"][i]["id"] = block["id"].clone();
            }
        }
        assert_eq!(streamed, whole, "{body}");
    }
}

#[test]
fn a_tool_is_called_and_its_result_read() {
    let server = Server::start("-np 1");
    let question = "What is the weather in Paris?";
    let body = json!({"max_tokens": 80, "messages": user(question), "temperature": 0, "tools": weather(),
        "tool_choice": {"type": "any"}});
    let answer = ask(&server, MESSAGES, &body);
    let call = answer["content"].as_array().unwrap().iter().find(|block| block["type"] == "tool_use").expect("a call");
    assert_eq!((&call["name"], &call["input"]), (&json!("get_weather"), &json!({"city": "Paris"})));
    assert_eq!(answer["stop_reason"], "tool_use");
    let result = json!([{"type": "tool_result", "tool_use_id": call["id"], "content": "{\"weather\": \"sunny\"}"}]);
    let turns = json!([user(question)[0], {"role": "assistant", "content": answer["content"]},
        {"role": "user", "content": result}]);
    let next = json!({"max_tokens": 80, "messages": turns, "temperature": 0, "tools": weather()});
    let answer = ask(&server, MESSAGES, &next);
    assert_eq!((&answer["content"][0]["type"], &answer["stop_reason"]), (&json!("text"), &json!("end_turn")));
}

#[test]
fn errors_have_its_shape() {
    let server = Server::start("-np 1 --api-key secret");
    let mut client = server.client();
    let mut error = |method: &str, path: &str, key: &str, body: &str| {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nx-api-key: {key}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        client.write(head.as_bytes()).unwrap();
        let answer = client.answer(false).unwrap();
        let json = answer.json();
        assert_eq!(json["type"], "error", "{json}");
        assert!(json["error"]["message"].as_str().is_some_and(|text| !text.is_empty()));
        (answer.status, json["error"]["type"].as_str().unwrap().to_owned())
    };
    let is = |status: u16, kind: &str| (status, kind.to_owned());
    assert_eq!(error("POST", MESSAGES, "wrong", "{}"), is(401, "authentication_error"));
    assert_eq!(error("POST", MESSAGES, "secret", "{"), is(400, "invalid_request_error"));
    assert_eq!(error("POST", COUNT, "secret", "{}"), is(400, "invalid_request_error"));
    assert_eq!(error("GET", MESSAGES, "secret", ""), is(405, "invalid_request_error"));
    assert_eq!(error("POST", "/v1/messages/batches", "secret", "{}"), is(404, "not_found_error"));
}
