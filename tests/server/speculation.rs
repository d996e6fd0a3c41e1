//! Guesses change no answer: the same requests with and without guesses give equal answers, to the last bit of a log
//! probability.
//!
//! `CLLM_SPECULATION=full` sends 200 prompts to the built-in model, to SmolLM2, and to the file that
//! `CLLM_SPECULATION_MODEL` names; the default is 36 prompts to the built-in model.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::at_once;
use super::models::{SMOLLM2, real_model};
use super::server::{Server, number};

/// Requests with every feature in turn; many have answers that repeat the prompt.
fn requests(count: usize, tokens: usize) -> Vec<Value> {
    let file: String = (0..12).map(|i| format!("    let value_{i} = read(\"field_{i}\", {i});\n")).collect();
    let asks = [
        format!("Repeat this file:\n{file}\nThe file again:\n"),
        "Count: one two three four five six seven, one two three four five".to_owned(),
        "Tell me a story about a fox and a hen.".to_owned(),
        "How do I stream tokens? Say it twice.".to_owned(),
    ];
    let request = |i: usize| {
        let ask = format!("{} ({})", asks[i % asks.len()], i / asks.len());
        let mut request = json!({
            "messages": [{"role": "user", "content": ask}], "max_tokens": tokens, "seed": i,
            "temperature": if i.is_multiple_of(2) { 0.0 } else { 0.8 },
        });
        let schema = json!({"type": "object", "properties": {
            "first_name": {"type": "string", "maxLength": 12}, "years_of_age": {"type": "integer", "maximum": 150},
            "favourite": {"enum": ["streaming tokens", "streaming text", "none"]}, "is_certain": {"type": "boolean"}},
            "required": ["first_name", "years_of_age", "favourite", "is_certain"], "additionalProperties": false});
        let format = json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}});
        let more = match i % 11 {
            0 => json!({"ignore_eos": true}),
            1 => json!({"logprobs": true, "top_logprobs": 3}),
            2 => json!({"stop": ["e t", "\n\n"]}),
            3 => json!({"n": 2}),
            4 => json!({"repetition_penalty": 1.2, "frequency_penalty": 0.3, "ignore_eos": true}),
            5 => json!({"prediction": {"type": "content", "content": file}, "logprobs": true}),
            6 => json!({"response_format": {"type": "json_object"}}),
            7 => json!({"mirostat": 2, "ignore_eos": true}),
            8 => json!({"response_format": format, "logprobs": true, "top_logprobs": 2}),
            9 => json!({"response_format": format, "n": 2, "repetition_penalty": 1.1, "stop": ["is_c"]}),
            _ => json!({"min_tokens": 20, "dry_multiplier": 0.8}),
        };
        more.as_object().unwrap().iter().for_each(|(name, value)| request[name] = value.clone());
        request
    };
    (0..count).map(request).collect()
}

/// The parts of an answer that don't differ between two equal requests.
fn said(server: &Server, request: &Value) -> Value {
    let answer = server.client().post("/v1/chat/completions", request);
    assert_eq!(answer.status, 200, "{request}: {}", answer.text());
    answer.json()["choices"].clone()
}

fn compare(model: &str, count: usize, tokens: usize) {
    let start = |speculate: &str| Server::start(&format!("{model} -c 8192 --speculate {speculate}"));
    let requests = requests(count, tokens);
    let off = start("off");
    let without = at_once(1, &requests, |request| said(&off, request));
    assert_eq!(guesses(&off, "cllm_guesses_total"), 0);
    drop(off);
    let on = start("auto");
    for streams in [1, 4] {
        let with = at_once(streams, &requests, |request| said(&on, request));
        for ((request, with), without) in requests.iter().zip(&with).zip(&without) {
            assert_eq!(with, without, "{streams} at once: {request}");
        }
    }
    let (tried, accepted) = (guesses(&on, "cllm_guesses_total"), guesses(&on, "cllm_guesses_accepted_total"));
    println!("{model}: {count} requests, {accepted} of {tried} guesses came true");
    assert!(accepted > 0 && tried > accepted, "{accepted} of {tried} guesses came true: this shows nothing");
}

fn guesses(server: &Server, name: &str) -> u64 {
    let metrics = server.metrics();
    ["own", "prediction", "grammar", "earlier"]
        .iter()
        .map(|source| number(&metrics, &format!("{name}{{source=\"{source}\"}}")))
        .sum()
}

#[test]
fn answers_are_the_same_with_guesses_and_without() {
    let full = std::env::var("CLLM_SPECULATION").is_ok_and(|value| value == "full");
    let (count, tokens) = if full { (200, 120) } else { (36, 60) };
    compare("", count, tokens);
    if let Some(path) = real_model(SMOLLM2).filter(|_| full) {
        compare(&format!("-m {}", path.display()), count, tokens);
    }
    if let Some(path) = std::env::var_os("CLLM_SPECULATION_MODEL").map(PathBuf::from) {
        compare(&format!("-m {}", path.display()), count, tokens);
    }
}

/// An object with a few fields: its keys must need no steps of their own.
#[test]
fn what_a_grammar_forces_takes_few_steps() {
    let ask = |server: &Server| {
        let fields = ["first_name", "last_name", "place_of_birth", "nationality"];
        let properties: serde_json::Map<String, Value> =
            fields.iter().map(|name| ((*name).to_owned(), json!({"type": "boolean"}))).collect();
        let schema =
            json!({"type": "object", "properties": properties, "required": fields, "additionalProperties": false});
        let body = json!({"prompt": "Say so.", "json_schema": schema, "n_predict": 200, "temperature": 0});
        // A step is counted after the answers that it ends.
        let steps = || {
            server.wait_for(0, 0);
            number(&server.metrics(), "cllm_steps_total")
        };
        let before = steps();
        let answer = server.client().post("/completion", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        let text: Value = serde_json::from_str(answer["content"].as_str().unwrap()).unwrap();
        assert_eq!(text.as_object().map(|object| object.len()), Some(4), "{text}");
        (text, answer["tokens_predicted"].clone(), steps() - before)
    };
    let start = |speculate: &str| Server::start(&format!("--speculate {speculate} --decoder null --null-step-us 3000"));
    let (on, off) = (start("on"), start("off"));
    // The cost of steps is learnt first.
    on.generate(&json!({"prompt": "a", "max_tokens": 60, "temperature": 0, "ignore_eos": true}));
    let ((text, tokens, plain), (same, same_tokens, steps)) = (ask(&off), ask(&on));
    assert_eq!((&text, &tokens), (&same, &same_tokens));
    let (tried, true_ones) = ["cllm_guesses_total", "cllm_guesses_accepted_total"]
        .map(|name| number(&on.metrics(), &format!("{name}{{source=\"grammar\"}}")))
        .into();
    println!("{tokens} tokens in {plain} steps, with guesses in {steps}: {true_ones} of {tried} came true");
    // If the engine learns late that a text is complete, it decodes a row for its last token, which is one more step in
    // either run.
    let saved = plain - steps;
    assert!(true_ones > 2 && saved.abs_diff(true_ones) <= 1, "{plain} steps, {steps} with {true_ones} of {tried}");
    assert_eq!(number(&off.metrics(), "cllm_guesses_total{source=\"grammar\"}"), 0);
}

/// A question is asked again with its key, with another key, and on a server without keys: only the first and the last
/// may use the earlier answer as guesses.
#[test]
fn earlier_answers_are_guesses_for_their_own_key_alone() {
    let start = |keys: &str| Server::start(&format!("--speculate on --decoder null --null-step-us 2000 {keys}"));
    let send = |server: &Server, what: &str, key: &str, body: &str| {
        let head = format!("{what} HTTP/1.1\r\nHost: cllm\r\nAuthorization: Bearer {key}");
        let mut client = server.client();
        client.write(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
        client.answer(false).unwrap()
    };
    let ask = |server: &Server, key: &str| {
        let body = json!({"prompt": "Once upon a time there was a key", "n_predict": 60, "temperature": 3,
            "top_k": 0, "seed": 5, "ignore_eos": true});
        let answer = send(server, "POST /completion", key, &body.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["content"].clone()
    };
    let came_true = |server: &Server, key: &str| {
        let metrics = send(server, "GET /metrics", key, "").text();
        number(&metrics, "cllm_guesses_accepted_total{source=\"earlier\"}")
    };
    let keys = std::env::temp_dir().join(format!("cllm-speculation-keys-{}", std::process::id()));
    std::fs::write(&keys, "alpha\nbeta\n").unwrap();
    let server = start(&format!("--api-key-file {}", keys.display()));
    std::fs::remove_file(&keys).unwrap();
    let text = ask(&server, "alpha");
    assert_eq!(ask(&server, "beta"), text);
    assert_eq!(came_true(&server, "beta"), 0, "another key's answer was a guess");
    assert_eq!(ask(&server, "alpha"), text);
    assert!(came_true(&server, "alpha") > 20, "{}", came_true(&server, "alpha"));
    let open = start("");
    assert_eq!([ask(&open, "none"), ask(&open, "another")], [text.clone(), text]);
    assert!(came_true(&open, "none") > 20);
}

#[test]
fn what_was_guessed_is_told() {
    let server = Server::start("--speculate on --decoder null --null-step-us 2000");
    let told = "expected to be something else ".repeat(30);
    let messages = json!([{"role": "user", "content": "Say something."}]);
    let ask = |prediction: &str| {
        let body = json!({"messages": messages, "max_tokens": 100, "temperature": 0, "ignore_eos": true,
            "prediction": {"type": "content", "content": prediction}});
        let answer = server.client().post("/v1/chat/completions", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let usage = |answer: &Value| {
        let details = &answer["usage"]["completion_tokens_details"];
        (
            details["accepted_prediction_tokens"].as_u64().unwrap(),
            details["rejected_prediction_tokens"].as_u64().unwrap(),
        )
    };
    let plain = ask(&told);
    assert_eq!(usage(&plain).0, 0, "nothing of it comes true");
    let text = plain["choices"][0]["message"]["content"].as_str().unwrap();
    let expected = ask(text);
    assert_eq!(expected["choices"][0]["message"]["content"], text);
    // Tokenising a generated text gives back its tokens in most cases, not in all.
    assert!(usage(&expected).0 > 20, "{:?}", usage(&expected));
    assert!(number(&server.metrics(), "cllm_guesses_accepted_total{source=\"prediction\"}") > 20);
    let native = server.generate(&json!({"prompt": "a", "max_tokens": 600, "temperature": 0, "ignore_eos": true}));
    let timings = &native.data()["timings"];
    // The text repeats its words.
    assert!(timings["guesses_accepted"].as_u64().unwrap() > 100, "{timings}");
    assert!(timings["guesses"].as_u64() >= timings["guesses_accepted"].as_u64());
    let quiet = Server::start("--decoder null");
    assert_eq!(quiet.generate(&json!({"prompt": "a", "max_tokens": 600})).data()["timings"]["guesses"], 0);
}
