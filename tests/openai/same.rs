//! A stream has the content of a whole answer with the same seed: text, usage, finish reason, log probabilities.

use serde_json::{Map, Value, json};

use super::dice::Dice;
use super::server::Server;
use super::{CHAT, COMPLETIONS, ask, stream};

/// One choice put together from its events.
#[derive(Debug, Default)]
struct Choice {
    text: String,
    role: Option<String>,
    finish_reason: Option<String>,
    logprobs: Vec<Value>,
}

fn put_together(events: &[Value], n: usize) -> (Vec<Choice>, Value) {
    let mut choices: Vec<Choice> = (0..n).map(|_| Choice::default()).collect();
    let mut usage = Value::Null;
    for event in events {
        assert_eq!((&event["id"], &event["created"]), (&events[0]["id"], &events[0]["created"]));
        let list = event["choices"].as_array().expect("choices");
        if list.is_empty() {
            usage = event["usage"].clone();
            continue;
        }
        assert!(usage.is_null(), "the usage comes last");
        let choice = &mut choices[list[0]["index"].as_u64().expect("an index") as usize];
        assert_eq!(choice.finish_reason, None, "nothing follows the finish reason");
        let delta = &list[0]["delta"];
        choice.text += delta["content"].as_str().or(list[0]["text"].as_str()).unwrap_or_default();
        if let Some(role) = delta["role"].as_str() {
            assert!(choice.role.replace(role.to_owned()).is_none() && choice.logprobs.is_empty());
        }
        choice.logprobs.extend(list[0]["logprobs"]["content"].as_array().into_iter().flatten().cloned());
        choice.logprobs.extend(columns(&list[0]["logprobs"]));
        choice.finish_reason = list[0]["finish_reason"].as_str().map(str::to_owned);
    }
    (choices, usage)
}

/// The four lists of a completion's log-probabilities as one.
fn columns(logprobs: &Value) -> Vec<Value> {
    let at = |i: usize| json!(COLUMNS.map(|name| logprobs[name][i].clone()));
    let len = |name: &str| logprobs[name].as_array().map_or(0, Vec::len);
    assert!(COLUMNS.iter().all(|name| len(name) == len("tokens")), "{logprobs}");
    (0..len("tokens")).map(at).collect()
}

/// Whether numbers differ only in their last digits, because a prompt's rows are computed together with those of other
/// requests.
fn near(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| near(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| near(a, b)))
        }
        _ => a == b || a.as_f64().zip(b.as_f64()).is_some_and(|(a, b)| (a - b).abs() < 1e-4),
    }
}

const COLUMNS: [&str; 4] = ["tokens", "token_logprobs", "top_logprobs", "text_offset"];

fn parameters(dice: &mut Dice, chat: bool) -> Map<String, Value> {
    let mut body = Map::new();
    let mut put = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
    put("seed", json!(dice.below(1 << 30)));
    put("max_tokens", json!(dice.within(1..=40)));
    put("temperature", json!(*dice.pick(&[0.0, 0.7, 1.5, 3.0])));
    put("n", json!(dice.within(1..=3)));
    if dice.chance(0.4) {
        put("stop", json!(*dice.pick(&["e", " the", "\n", "zq", "ll"])));
    }
    if dice.chance(0.3) {
        put("stop", json!(["cllm s", "--", "fox and"]));
    }
    if dice.chance(0.3) {
        put("ignore_eos", json!(true));
    }
    if dice.chance(0.3) {
        put("top_p", json!(*dice.pick(&[0.0, 0.3, 1.0])));
        put("top_k", json!(*dice.pick(&[-1, 0, 5])));
        put("min_p", json!(0.0));
    }
    if dice.chance(0.3) {
        put("presence_penalty", json!(1.5));
        put("frequency_penalty", json!(-0.5));
        put("repetition_penalty", json!(1.2));
    }
    if dice.chance(0.2) {
        put("logit_bias", json!({"300": 20, "17": -100}));
    }
    match (dice.chance(0.5), chat) {
        (false, _) => {}
        (true, true) => {
            put("logprobs", json!(true));
            put("top_logprobs", json!(dice.within(0..=3)));
        }
        (true, false) => put("logprobs", json!(dice.within(0..=3))),
    }
    let question = *dice.pick(&["How do I change the port?", "Tell me a story", "é日🦀→", "Once upon a time", "A"]);
    if chat {
        put("messages", json!([{"role": "user", "content": question}]));
    } else {
        put("prompt", json!(question));
        if dice.chance(0.4) {
            body.insert("echo".to_owned(), json!(true));
            if dice.chance(0.2) {
                body.insert("max_tokens".to_owned(), json!(0));
            }
        }
    }
    body
}

#[test]
fn streams_and_whole_answers_are_the_same() {
    let server = Server::start("");
    let mut dice = Dice::new(5);
    let mut reasons = std::collections::BTreeSet::new();
    for round in 0..120 {
        let chat = round % 2 == 0;
        let path = if chat { CHAT } else { COMPLETIONS };
        let mut body = Value::Object(parameters(&mut dice, chat));
        let n = body["n"].as_u64().unwrap() as usize;
        let whole = ask(&server, path, &body);
        body["stream_options"] = json!({"include_usage": true});
        let events = stream(&server, path, &body);
        let (choices, usage) = put_together(&events, n);
        for (index, (choice, whole)) in choices.iter().zip(whole["choices"].as_array().unwrap()).enumerate() {
            let text = whole["message"]["content"].as_str().or(whole["text"].as_str());
            assert_eq!(Some(choice.text.as_str()), text, "choice {index} of {body}");
            assert_eq!(choice.finish_reason.as_deref(), whole["finish_reason"].as_str(), "choice {index} of {body}");
            let logprobs = &whole["logprobs"];
            let logprobs = logprobs["content"].as_array().cloned().unwrap_or_else(|| columns(logprobs));
            let same: fn(&Value, &Value) -> bool = if body.get("echo").is_some() { near } else { |a, b| a == b };
            let (streamed, logprobs) = (json!(choice.logprobs), json!(logprobs));
            assert!(same(&streamed, &logprobs), "choice {index} of {body}:\nstreamed {streamed}\nwhole    {logprobs}");
            assert_eq!(choice.role.is_some(), chat);
            reasons.insert(choice.finish_reason.clone());
        }
        for name in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            assert_eq!(usage[name], whole["usage"][name], "{name} of {body}");
        }
    }
    assert_eq!(reasons.len(), 2, "stops and limits were met: {reasons:?}");
}

/// The content of a turn's events: text, reasoning, calls.
#[derive(Debug, Default, PartialEq)]
struct Turn {
    content: String,
    reasoning: String,
    calls: Vec<(String, String)>,
    finish_reason: Option<String>,
}

impl Turn {
    fn of_message(choice: &Value) -> Turn {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let message = &choice["message"];
        let calls = message["tool_calls"].as_array().into_iter().flatten();
        let call = |call: &Value| (text(&call["function"]["name"]), text(&call["function"]["arguments"]));
        Turn {
            content: text(&message["content"]),
            reasoning: text(&message["reasoning_content"]),
            calls: calls.map(call).collect(),
            finish_reason: choice["finish_reason"].as_str().map(str::to_owned),
        }
    }

    fn add(&mut self, choice: &Value) {
        let (delta, text) = (&choice["delta"], |value: &Value| value.as_str().unwrap_or_default().to_owned());
        self.content += &text(&delta["content"]);
        self.reasoning += &text(&delta["reasoning_content"]);
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = call["index"].as_u64().expect("an index") as usize;
            if index == self.calls.len() {
                self.calls.push((text(&call["function"]["name"]), String::new()));
            }
            self.calls[index].1 += &text(&call["function"]["arguments"]);
        }
        self.finish_reason = choice["finish_reason"].as_str().map(str::to_owned).or(self.finish_reason.take());
    }
}

/// As above with tools and formats, several answers at once.
#[test]
fn streams_and_whole_answers_call_the_same_tools() {
    let server = Server::start("");
    let mut dice = Dice::new(6);
    let city =
        json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 9}}, "required": ["city"]});
    let sum = json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]});
    let tools = json!([super::shaped::tool("get_weather", &city), super::shaped::tool("add", &sum)]);
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..80 {
        let question = *dice.pick(&["What is the weather in Paris?", "What is 3 plus 4?", "Tell me a story", "Hi"]);
        let n = dice.within(1..=3);
        let mut body = json!({"messages": super::user(question), "seed": dice.below(1 << 30), "n": n,
            "max_tokens": dice.within(5..=70), "temperature": *dice.pick(&[0.0, 0.8, 2.0])});
        if dice.chance(0.2) {
            body["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "city", "schema": city}});
        } else {
            body["tools"] = tools.clone();
            let named = json!({"type": "function", "function": {"name": "add"}});
            body["tool_choice"] =
                dice.pick(&[json!("auto"), json!("auto"), json!("required"), json!("none"), named]).clone();
            body["parallel_tool_calls"] = json!(dice.chance(0.5));
        }
        if dice.chance(0.3) {
            body["stop"] = json!([*dice.pick(&["Paris", "fox", "\"b\""]), "nothing of the kind"]);
        }
        let whole = ask(&server, CHAT, &body);
        body["stream_options"] = json!({"include_usage": true});
        let (mut turns, mut usage) = (Vec::new(), Value::Null);
        turns.resize_with(n, Turn::default);
        for event in stream(&server, CHAT, &body) {
            match event["choices"].get(0) {
                None => usage = event["usage"].clone(),
                Some(choice) => turns[choice["index"].as_u64().expect("an index") as usize].add(choice),
            }
        }
        for (choice, streamed) in whole["choices"].as_array().expect("choices").iter().zip(turns) {
            let turn = Turn::of_message(choice);
            assert_eq!(streamed, turn, "{body}");
            seen.insert((turn.finish_reason.clone(), turn.calls.len()));
        }
        for name in ["prompt_tokens", "completion_tokens", "total_tokens"] {
            assert_eq!(usage[name], whole["usage"][name], "{name} of {body}");
        }
    }
    assert!(seen.iter().any(|(_, calls)| *calls == 1), "{seen:?}");
    let reasons: std::collections::BTreeSet<_> = seen.iter().map(|(reason, _)| reason.as_deref()).collect();
    assert_eq!(reasons, [Some("length"), Some("stop"), Some("tool_calls")].into());
}

#[test]
fn a_stream_tells_the_usage_only_if_asked() {
    let server = Server::start("-np 2");
    let body = json!({"messages": super::user("Hi"), "max_tokens": 3, "temperature": 0});
    assert!(stream(&server, CHAT, &body).iter().all(|event| event.get("usage").is_none()));
    let mut asked = body.clone();
    asked["stream_options"] = json!({"include_usage": true});
    let events = stream(&server, CHAT, &asked);
    let (last, others) = events.split_last().unwrap();
    assert!(others.iter().all(|event| event["usage"].is_null() && event.get("usage").is_some()));
    assert_eq!(last["usage"]["completion_tokens"], 3);
    assert!(last["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() > 0);
}
