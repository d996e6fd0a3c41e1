//! `/v1/responses`: OpenAI's newer shape around the same chat.

use serde_json::{Value, json};

use super::server::Server;
use super::{CHAT, ask, user};

const RESPONSES: &str = "/v1/responses";

fn weather() -> Value {
    let city = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    json!({"type": "function", "name": "get_weather", "description": "Weather of a city", "parameters": city})
}

/// A stream's events: each has its name as its type, and the next number.
fn stream(server: &Server, body: &Value) -> Vec<Value> {
    let mut body = body.clone();
    body["stream"] = json!(true);
    let answer = server.client().post(RESPONSES, &body);
    assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("text/event-stream")), "{}", answer.text());
    let text = answer.text();
    let events = text.split_terminator("\n\n").enumerate().map(|(i, event)| {
        let (name, data) = event.split_once('\n').expect("two lines");
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
        assert_eq!(
            (Some(&data["type"]), &data["sequence_number"]),
            (name.strip_prefix("event: ").map(Value::from).as_ref(), &json!(i))
        );
        data
    });
    events.collect()
}

/// The output that the events of a stream put together, which must be the one that its last event shows.
fn put_together(events: &[Value]) -> Value {
    let mut output: Vec<Value> = Vec::new();
    let mut deltas = String::new();
    for event in events {
        let index = event["output_index"].as_u64().unwrap_or(0) as usize;
        match event["type"].as_str().unwrap() {
            "response.output_item.added" => {
                assert_eq!((index, &event["item"]["status"]), (output.len(), &json!("in_progress")));
                output.push(event["item"].clone());
                deltas.clear();
            }
            "response.output_text.delta"
            | "response.reasoning_text.delta"
            | "response.function_call_arguments.delta" => {
                assert_eq!(event["item_id"], output[index]["id"]);
                deltas += event["delta"].as_str().unwrap();
            }
            "response.output_text.done" | "response.reasoning_text.done" => assert_eq!(event["text"], json!(deltas)),
            "response.function_call_arguments.done" => assert_eq!(event["arguments"], json!(deltas)),
            "response.content_part.done" => assert_eq!(event["part"]["text"], json!(deltas)),
            "response.output_item.done" => {
                assert_eq!(event["item"]["id"], output[index]["id"]);
                output[index] = event["item"].clone();
            }
            _ => {}
        }
    }
    json!(output)
}

/// The output without ids, which differ between two responses to one request.
fn without_names(mut output: Value) -> Value {
    for item in output.as_array_mut().expect("items") {
        for name in ["id", "call_id"] {
            item.as_object_mut().unwrap().remove(name);
        }
    }
    output
}

#[test]
fn a_response_says_what_a_chat_says_whole_and_in_events() {
    // One slot, so the second request reuses the cells of the first.
    let server = Server::start("-np 1");
    let question = "How do I change the port?";
    let chat = ask(&server, CHAT, &json!({"messages": user(question), "temperature": 0}));
    let body = json!({"input": question, "temperature": 0, "metadata": {"a": "b"}});
    let whole = ask(&server, RESPONSES, &body);
    assert_eq!(whole["output"][0]["content"][0]["text"], chat["choices"][0]["message"]["content"]);
    assert_eq!(
        (&whole["status"], &whole["store"], &whole["metadata"]["a"]),
        (&json!("completed"), &json!(false), &json!("b"))
    );
    let usage = &whole["usage"];
    assert_eq!(
        (&usage["input_tokens"], &usage["output_tokens"]),
        (&chat["usage"]["prompt_tokens"], &chat["usage"]["completion_tokens"])
    );
    assert!(usage["input_tokens_details"]["cached_tokens"].as_u64().unwrap() > 0, "{usage}");
    let events = stream(&server, &body);
    let names: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let added =
        ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"];
    let done =
        ["response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed"];
    assert_eq!((&names[..4], &names[names.len() - 4..]), (&added[..], &done[..]));
    assert!(names[4..names.len() - 4].iter().all(|name| *name == "response.output_text.delta"), "{names:?}");
    let last = &events.last().unwrap()["response"];
    assert_eq!(put_together(&events), last["output"]);
    assert_eq!(without_names(last["output"].clone()), without_names(whole["output"].clone()));
    assert_eq!(last["usage"]["output_tokens"], usage["output_tokens"]);
}

#[test]
fn a_cut_answer_is_incomplete() {
    let server = Server::start("-np 1");
    let body =
        json!({"input": "How do I change the port?", "temperature": 0, "max_output_tokens": 2, "ignore_eos": true});
    let whole = ask(&server, RESPONSES, &body);
    let reason = &whole["incomplete_details"]["reason"];
    assert_eq!((&whole["status"], reason), (&json!("incomplete"), &json!("max_output_tokens")));
    assert_eq!(whole["output"][0]["status"], "incomplete");
    let events = stream(&server, &body);
    assert_eq!(events.last().unwrap()["type"], "response.incomplete");
    assert_eq!(put_together(&events), events.last().unwrap()["response"]["output"]);
}

#[test]
fn functions_are_called_and_their_results_read() {
    let server = Server::start("-np 1");
    let body = json!({"input": "What is the weather in Paris?", "temperature": 0, "max_output_tokens": 200,
        "tools": [weather(), {"type": "web_search"}], "tool_choice": "required"});
    let answer = server.client().post(RESPONSES, &body);
    assert!(answer.header("X-Cllm-Warning").is_some_and(|text| text.contains("web_search")), "{}", answer.text());
    let output = answer.json()["output"].clone();
    let call = &output[0];
    assert_eq!((&call["type"], &call["name"]), (&json!("function_call"), &json!("get_weather")), "{output}");
    let events = stream(&server, &body);
    assert_eq!(put_together(&events), events.last().unwrap()["response"]["output"]);
    assert_eq!(without_names(put_together(&events)), without_names(output.clone()));
    let result = json!({"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"});
    let history = json!([{"role": "user", "content": "What is the weather in Paris?"}, call, result]);
    let next = json!({"input": history, "tools": [weather()], "max_output_tokens": 20, "temperature": 0});
    assert_eq!(ask(&server, RESPONSES, &next)["output"][0]["type"], "message");
}

#[test]
fn a_format_is_followed() {
    let server = Server::start("-np 1");
    let schema = json!({"type": "object", "properties": {"port": {"type": "integer", "maximum": 99999}}, "required": ["port"], "additionalProperties": false});
    let format = json!({"format": {"type": "json_schema", "name": "port", "schema": schema}});
    let body = json!({"input": "Which port?", "text": format, "temperature": 0, "max_output_tokens": 100});
    let answer = ask(&server, RESPONSES, &body);
    let text = answer["output"][0]["content"][0]["text"].as_str().expect("a text");
    assert!(serde_json::from_str::<Value>(text).expect("JSON")["port"].is_i64(), "{text}");
}

#[test]
fn what_would_need_storage_is_refused_and_errors_are_openais() {
    let server = Server::start("-np 1");
    for (extra, field) in [
        (json!({"previous_response_id": "resp_1"}), "previous_response_id"),
        (json!({"background": true}), "background"),
        (json!({"conversation": "conv_1"}), "conversation"),
        (json!({"text": {"format": {"type": "json_schema", "strict": true, "schema": {"type": 3}}}}), "text.format"),
    ] {
        let mut body = json!({"input": "Hi"});
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        let answer = server.client().post(RESPONSES, &body);
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!(field)), "{}", answer.text());
        if field != "text.format" {
            assert!(answer.text().contains("nothing is stored"), "{}", answer.text());
        }
    }
    let late = json!({"input": "Hi", "deadline_ms": 30, "ignore_eos": true});
    assert_eq!(server.client().post(RESPONSES, &late).status, 408);
    assert_eq!(stream(&server, &late).last().unwrap()["type"], "response.failed");
    let odd = server.client().post(RESPONSES, &json!({"input": "Hi", "max_output_tokens": 1, "zeal": 1}));
    assert!(odd.header("X-Cllm-Warning").is_some_and(|text| text.contains("zeal")));
}
