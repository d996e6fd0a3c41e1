//! Texts held to a format: schemas, expressions, and tools that are really called, whole and streamed.

use serde_json::{Value, json};

use crate::server::Server;
use crate::{CHAT, COMPLETIONS, ask, stream, user};

pub fn tool(name: &str, parameters: &Value) -> Value {
    json!({"type": "function", "function": {"name": name, "description": "", "parameters": parameters}})
}

fn tools() -> Value {
    let city = json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"],
        "additionalProperties": false});
    let sum = json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"], "additionalProperties": false});
    json!([tool("get_weather", &city), tool("add", &sum)])
}

/// The calls of a message, each as name and parsed arguments.
pub fn calls(message: &Value) -> Vec<(String, Value)> {
    let list = message["tool_calls"].as_array().cloned().unwrap_or_default();
    list.iter()
        .map(|call| {
            assert!(call["id"].as_str().is_some_and(|id| !id.is_empty()) && call["type"] == "function", "{call}");
            let text = |key: &str| call["function"][key].as_str().expect("a string").to_owned();
            (text("name"), serde_json::from_str(&text("arguments")).expect("arguments parse"))
        })
        .collect()
}

/// A stream's deltas put together to the message they make, and its finish reason.
pub fn joined(events: &[Value]) -> (Value, Value) {
    let (mut content, mut list, mut reason) = (String::new(), Vec::<Value>::new(), Value::Null);
    for choice in events.iter().filter_map(|event| event["choices"].get(0)) {
        content += choice["delta"]["content"].as_str().unwrap_or_default();
        for delta in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let index = delta["index"].as_u64().expect("an index") as usize;
            if index == list.len() {
                list.push(delta.clone());
                continue;
            }
            let more = delta["function"]["arguments"].as_str().unwrap_or_default();
            let arguments = list[index]["function"]["arguments"].as_str().unwrap_or_default().to_owned() + more;
            list[index]["function"]["arguments"] = arguments.into();
        }
        if !choice["finish_reason"].is_null() {
            reason = choice["finish_reason"].clone();
        }
    }
    (json!({"content": content, "tool_calls": list}), reason)
}

#[test]
fn a_tool_is_called_when_the_question_needs_it() {
    let server = Server::start("");
    let body = json!({"messages": user("What is the weather in Paris?"), "tools": tools(), "temperature": 0});
    let answer = ask(&server, CHAT, &body);
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{answer}");
    assert_eq!(calls(&choice["message"]), [("get_weather".to_owned(), json!({"city": "Paris"}))]);
    let (streamed, reason) = joined(&stream(&server, CHAT, &body));
    assert_eq!((calls(&streamed), reason), (calls(&choice["message"]), json!("tool_calls")));
    // A question that needs no tool gets no call.
    let body = json!({"messages": user("How do I change the port?"), "tools": tools(), "temperature": 0});
    let answer = ask(&server, CHAT, &body);
    assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{answer}");
    assert!(answer["choices"][0]["message"].get("tool_calls").is_none(), "{answer}");
}

#[test]
fn a_call_that_is_required_comes_whatever_was_asked() {
    let server = Server::start("");
    for (i, choice) in
        [json!("required"), json!({"type": "function", "function": {"name": "add"}})].into_iter().enumerate()
    {
        for seed in 0..8 {
            let body = json!({"messages": user("Tell me a story."), "tools": tools(), "tool_choice": choice,
                "temperature": 1.5, "seed": seed, "max_tokens": 400, "parallel_tool_calls": false});
            let answer = ask(&server, CHAT, &body);
            if answer["choices"][0]["finish_reason"] == "length" {
                continue;
            }
            assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls", "{answer}");
            let made = calls(&answer["choices"][0]["message"]);
            assert_eq!(made.len(), 1, "{answer}");
            assert!(i == 0 || made[0].0 == "add", "{answer}");
            let keys: Vec<&String> = made[0].1.as_object().expect("an object").keys().collect();
            assert_eq!(keys, if made[0].0 == "add" { vec!["a", "b"] } else { vec!["city"] });
            let (streamed, _) = joined(&stream(&server, CHAT, &body));
            assert_eq!(calls(&streamed), made);
        }
    }
}

#[test]
fn a_response_format_is_kept_for_each_of_n() {
    let server = Server::start("");
    let schema = json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120}}, "required": ["name", "age"],
        "additionalProperties": false});
    let format = json!({"type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": true}});
    let question = user("Anna is 31 years old. Give me name and age as JSON.");
    // The temperature is so high that only the format makes the text JSON.
    let body = json!({"messages": question, "response_format": format, "n": 3, "temperature": 4.0, "seed": 5,
        "top_k": 0, "top_p": 1, "min_p": 0, "max_tokens": 200});
    let answer = ask(&server, CHAT, &body);
    for choice in answer["choices"].as_array().expect("choices") {
        let beginning: String = choice["message"]["content"].as_str().expect("text").split_whitespace().collect();
        assert!(beginning.starts_with("{\"name\":\""), "{choice}");
        if choice["finish_reason"] == "length" {
            continue;
        }
        let text = choice["message"]["content"].as_str().expect("text");
        let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(value["name"].is_string() && value["age"].as_u64().is_some_and(|age| age <= 120), "{value}");
    }
    let greedy = json!({"messages": question, "response_format": format, "temperature": 0, "max_tokens": 200});
    let text = ask(&server, CHAT, &greedy)["choices"][0]["message"]["content"].as_str().expect("text").to_owned();
    assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), json!({"name": "Anna", "age": 31}));
    let object = json!({"messages": question, "response_format": {"type": "json_object"}, "temperature": 0});
    let text = ask(&server, CHAT, &object)["choices"][0]["message"]["content"].as_str().expect("text").to_owned();
    assert!(serde_json::from_str::<Value>(&text).expect("JSON").is_object());
    let regex = json!({"prompt": "The answer: ", "regex": "(yes|no)!", "temperature": 1.2, "seed": 1});
    let text = ask(&server, COMPLETIONS, &regex)["choices"][0]["text"].as_str().expect("text").to_owned();
    assert!(text == "yes!" || text == "no!", "{text}");
}

#[test]
fn a_schema_that_is_none_names_its_param() {
    let server = Server::start("");
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": {"type": "elephant"}}});
    let answer = server.client().post(CHAT, &json!({"messages": user("Hi"), "response_format": format}));
    assert_eq!(
        (answer.status, &answer.json()["error"]["param"]),
        (400, &json!("response_format")),
        "{}",
        answer.text()
    );
}
