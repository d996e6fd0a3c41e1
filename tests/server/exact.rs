//! Each request gets exactly the text that it gets alone: whatever other requests run, whatever is cached, streamed or
//! not, greedy or sampled.

use serde_json::{Value, json};

use super::at_once;
use super::dice::Dice;
use super::server::Server;

const PROMPTS: usize = 200;

/// Characters of several bytes, of scripts the model never saw, controls, and text that looks like special tokens.
const ODD: &[&str] = &[
    "naïve café 日本語",
    "🦀🦀 hi",
    "a\u{301}\u{301}\u{301} e",
    "\t\n  x\r\n",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "0x1f 3.14 == \\u0000",
    "مرحبا שלום",
    "\u{200b}\u{feff}z",
];

fn prompts() -> Vec<Value> {
    let questions = include_str!("../../vendor/model/heldout.jsonl").lines();
    let questions: Vec<String> = questions
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["question"].as_str().unwrap().to_owned())
        .collect();
    let user = |text: &str| json!({"messages": [{"role": "user", "content": text}]});
    let mut prompts: Vec<Value> = (0..90).map(|i| user(&questions[i * 2])).collect();
    for i in 0..40 {
        let system = ["You are a helpful assistant.", "Answer in one short sentence.", "Du bist höflich."][i % 3];
        prompts.push(json!({"messages": [
            {"role": "system", "content": system},
            {"role": "user", "content": questions[i * 2 + 1]},
        ]}));
    }
    let heroes = ["a fox", "a robot", "a small cat", "the moon", "two friends", "an old mill"];
    prompts.extend((0..30).map(|i| user(&format!("Tell me a story about {} ({i})", heroes[i % heroes.len()]))));
    let starts = ["Once upon a time", "The server", "To load a model, ", "curl http", "Q: port?\nA:"];
    prompts.extend((0..20).map(|i| json!({"prompt": format!("{} {}", starts[i % starts.len()], "and ".repeat(i))})));
    prompts.extend((0..PROMPTS - prompts.len()).map(|i| json!({"prompt": format!("{}{i}", ODD[i % ODD.len()])})));
    prompts
}

/// Stop strings: none, one letter, over several tokens, one in the other, of several bytes, a line's end.
fn stops() -> Vec<Value> {
    vec![
        Value::Null,
        json!("."),
        json!(["cllm serve", "the "]),
        json!(["se", "serve", "rve -m", "e"]),
        json!(["é", "→", "日本", "🦀", "\u{301}"]),
        json!("\n"),
    ]
}

/// `max_tokens`, and whether to go on past the end of the text.
const LIMITS: &[(usize, bool)] = &[(1, false), (2, false), (7, false), (64, false), (300, false), (40, true)];

/// Each prompt with one combination of stops and limits, in turn; with all of them if `CLLM_EXACT=full`.
fn requests() -> Vec<Value> {
    let (stops, full) = (stops(), std::env::var("CLLM_EXACT").is_ok_and(|value| value == "full"));
    let combinations = stops.len() * LIMITS.len();
    let mut requests = Vec::new();
    for (i, prompt) in prompts().into_iter().enumerate() {
        // 36 combinations and 200 prompts: the step size lets each kind of prompt meet each combination.
        let mine = if full { 0..combinations } else { i * 7 % combinations..i * 7 % combinations + 1 };
        for combination in mine {
            let (max_tokens, ignore_eos) = LIMITS[combination / stops.len()];
            let mut request = prompt.clone();
            request["max_tokens"] = json!(max_tokens);
            request["ignore_eos"] = json!(ignore_eos);
            request["stop"] = stops[combination % stops.len()].clone();
            requests.push(request);
        }
    }
    requests
}

fn greedy() -> Vec<Value> {
    let mut requests = requests();
    requests.iter_mut().for_each(|request| request["temperature"] = json!(0));
    requests
}

/// Seeds and sampling of several kinds, penalties among them.
fn sampled() -> Vec<Value> {
    let mut dice = Dice::new(7);
    let mut requests = requests();
    for request in &mut requests {
        request["seed"] = json!(dice.below(1000));
        request["temperature"] = json!(0.8);
        match dice.below(4) {
            0 => {}
            1 => {
                request["top_k"] = json!(0);
                request["top_p"] = json!(1.0);
                request["min_p"] = json!(0.0);
            }
            2 => {
                request["repetition_penalty"] = json!(1.1);
                request["presence_penalty"] = json!(0.3);
                request["frequency_penalty"] = json!(0.2);
            }
            _ => {
                request["top_k"] = json!(5);
                request["typical_p"] = json!(0.9);
                request["temperature"] = json!(1.3);
                request["logit_bias"] = json!({"100": 2.5, "101": -100});
            }
        }
    }
    requests
}

/// The parts of an answer that must be equal.
fn whole(server: &Server, request: &Value) -> Value {
    let data = server.generate(request).data();
    json!([data["text"], data["finish_reason"], data["generated_tokens"], data["prompt_tokens"]])
}

fn streamed(server: &Server, request: &Value) -> Value {
    let (text, end) = server.stream(request).finish();
    json!([text, end["finish_reason"], end["generated_tokens"], end["prompt_tokens"]])
}

fn each_gets_what_it_would_have_got_alone(requests: &[Value]) {
    let alone = Server::start("");
    let expected = at_once(1, requests, |request| whole(&alone, request));
    let lengths: Vec<u64> = expected.iter().filter_map(|answer| answer[2].as_u64()).collect();
    assert!(lengths.iter().filter(|length| **length > 20).count() > requests.len() / 10, "hardly any text to compare");
    for reason in ["stop", "length"] {
        assert!(expected.iter().filter(|answer| answer[1] == reason).count() > requests.len() / 5, "few {reason}");
    }
    let same = |how: &str, answers: Vec<Value>| {
        let differing: Vec<usize> = (0..requests.len()).filter(|i| answers[*i] != expected[*i]).collect();
        let Some(first) = differing.first() else { return };
        let (request, alone, here) = (&requests[*first], &expected[*first], &answers[*first]);
        panic!("{how}: {} of {} differ; {request}\nalone {alone}\nhere  {here}", differing.len(), requests.len());
    };
    same("alone, cached", at_once(1, requests, |request| whole(&alone, request)));
    drop(alone);
    let shared = Server::start("");
    same("eight at once", at_once(8, requests, |request| whole(&shared, request)));
    same("eight at once, streamed, cached", at_once(8, requests, |request| streamed(&shared, request)));
    drop(shared);
    let shared = Server::start("-np 16");
    same("sixteen at once", at_once(16, requests, |request| whole(&shared, request)));
    // The gauges show the latest round, and an answer may be sent before its round ends.
    shared.wait_for(0, 0);
}

#[test]
fn greedy_text_is_the_same_alone_and_in_company() {
    each_gets_what_it_would_have_got_alone(&greedy());
}

#[test]
fn sampled_text_is_the_same_alone_and_in_company_by_seed() {
    each_gets_what_it_would_have_got_alone(&sampled());
}
