//! Real models with trained weights.

use serde_json::{Value, json};

use super::at_once;
use super::models::{GEMMA3, SMOLLM2, real_model};
use super::server::Server;

fn capitals() -> Vec<Value> {
    let countries = ["France", "Germany", "Italy", "Japan", "Egypt", "Spain", "Greece", "Russia"];
    let request =
        |country| json!({"prompt": format!("The capital of {country} is"), "temperature": 0, "max_tokens": 20});
    countries.into_iter().map(request).collect()
}

fn text(server: &Server, request: &Value) -> String {
    server.generate(request).data()["text"].as_str().unwrap().to_owned()
}

#[test]
fn real_models_speak_of_what_they_are_asked() {
    for (model, part) in [(SMOLLM2, "Paris"), (GEMMA3, "France")] {
        let Some(path) = real_model(model) else { continue };
        let server = Server::start(&format!("-m {}", path.display()));
        let answer = text(&server, &capitals()[0]);
        assert!(answer.contains(part), "{model}: {answer}");
    }
}

/// Gemma's embedding is most of its file, and gets another layout for the output: page by page, so that it is never in
/// memory twice.
#[test]
#[cfg(target_os = "linux")]
fn a_tensor_is_in_memory_once_while_it_is_laid_out() {
    let Some(path) = real_model(GEMMA3) else { return };
    let server = Server::start(&format!("-m {} -c 2048", path.display()));
    let (resident, at_most) = (kib(&server, "VmRSS:"), kib(&server, "VmHWM:"));
    assert!(at_most * 10 < resident * 12, "{resident} KiB when ready, {at_most} at most");
}

/// A line of the process' status.
#[cfg(target_os = "linux")]
fn kib(server: &Server, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a size");
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Most weights get another layout. Of the file, only the parts in use are locked: the embedding and the vectors.
#[test]
#[cfg(target_os = "linux")]
fn locked_weights_are_in_memory_once() {
    let Some(path) = real_model(SMOLLM2) else { return };
    let file = std::fs::metadata(&path).unwrap().len() / 1024;
    let server = Server::start(&format!("-m {} -c 2048 --mlock", path.display()));
    let locked = kib(&server, "VmLck:");
    if server.logged_at_first("could not be locked") {
        assert!(locked < file, "the warning is true: {locked} of {file} KiB are locked");
        return;
    }
    assert!(locked * 100 > file * 95, "{locked} KiB locked, the file has {file}");
    assert!(locked * 100 < file * 140, "{locked} KiB locked, the file has {file}");
    let (resident, at_most) = (kib(&server, "VmRSS:"), kib(&server, "VmHWM:"));
    assert!(at_most * 10 < resident * 12, "{resident} KiB when ready, {at_most} at most");
}

#[test]
fn a_server_says_whether_texts_depend_on_what_else_is_served() {
    let exact = |flags: &str| Server::start(flags).client().get("/model/info").data()["exact"].clone();
    assert_eq!(exact(""), json!(true));
    assert_eq!(exact("--kv-type q8_0"), json!(false));
    assert_eq!(exact("--flash-attn off"), json!(false));
}

/// Questions, half of which an agent's tools answer.
fn questions() -> Vec<String> {
    let cities =
        ["Paris", "Rome", "Berlin", "Oslo", "Cairo", "Lima", "Delhi", "Tokyo", "Bonn", "Kyiv", "Bern", "Riga", "Baku"];
    let weather = cities.iter().map(|city| format!("What is the weather in {city}?"));
    let sums = (1..=25).map(|n| format!("What is {n} plus {}?", n * 3));
    weather.chain(cities[..12].iter().map(|city| format!("Will it rain in {city} today?"))).chain(sums).collect()
}

/// SmolLM2's template doesn't support tools: they are described in Hermes' form, and calls are held to it.
#[test]
fn a_real_model_calls_tools_that_its_template_does_not_know() {
    let Some(path) = real_model(SMOLLM2) else { return };
    let server = Server::start(&format!("-m {} -np 4 -c 8192", path.display()));
    let city = json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"],
        "additionalProperties": false});
    let number = json!({"type": "integer", "minimum": 0, "maximum": 999});
    let sum = json!({"type": "object", "properties": {"a": number, "b": number}, "required": ["a", "b"], "additionalProperties": false});
    let tools = json!([
        {"type": "function", "function": {"name": "get_weather", "description": "The weather in a city", "parameters": city}},
        {"type": "function", "function": {"name": "add", "description": "Adds two numbers", "parameters": sum}},
    ]);
    let bodies: Vec<Value> = questions()
        .iter()
        .enumerate()
        .map(|(i, question)| {
            json!({"messages": [{"role": "user", "content": question}], "tools": tools, "temperature": 0, "max_tokens": 40,
                "tool_choice": if i % 2 == 0 { "auto" } else { "required" }})
        })
        .collect();
    assert_eq!(bodies.len(), 50);
    let answers = at_once(4, &bodies, |body| {
        let answer = server.client().post("/v1/chat/completions", body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let warning = answer.header("X-Cllm-Warning").unwrap_or_default().to_owned();
        assert!(warning.contains("no place for them"), "{warning:?}");
        answer.json()["choices"][0].clone()
    });
    let mut n_calls = 0;
    for (body, turn) in bodies.iter().zip(&answers) {
        let content = turn["message"]["content"].as_str().unwrap_or_default();
        assert!(!content.contains("tool_call>"), "{turn}");
        let calls = turn["message"]["tool_calls"].as_array().cloned().unwrap_or_default();
        let is_cut = turn["finish_reason"] == "length";
        for call in &calls {
            let arguments = call["function"]["arguments"].as_str().expect("a text");
            let schema = if call["function"]["name"] == "add" { &sum } else { &city };
            let value = serde_json::from_str::<Value>(arguments);
            assert!(is_cut || value.is_ok_and(|value| jsonschema::is_valid(schema, &value)), "{turn}");
        }
        assert!(is_cut || body["tool_choice"] == "auto" || !calls.is_empty(), "{turn}");
        n_calls += usize::from(!calls.is_empty());
    }
    println!("{n_calls} of 50 answers are calls");
    assert!(n_calls >= 25, "{n_calls}");
}
