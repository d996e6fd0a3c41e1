//! Fields of `/completion` that choose what the answer contains, and fields that it doesn't know.

use serde_json::{Value, json};

use super::server::Server;
use super::{ask, endless};

const COMPLETION: &str = "/completion";

fn events(server: &Server, mut body: Value) -> Vec<Value> {
    body["stream"] = json!(true);
    let mut events = server.client().events(COMPLETION, &body);
    std::iter::from_fn(|| events.next()).collect()
}

#[test]
fn an_answer_has_the_fields_that_are_wanted() {
    let server = Server::start("-np 1");
    let wanted = json!(["content", "timings/prompt_n", "generation_settings/top_k", "nothing", "timings/nothing"]);
    let body =
        json!({"prompt": "Once upon a time", "temperature": 0, "n_predict": 6, "top_k": 7, "response_fields": wanted});
    let whole = ask(&server, COMPLETION, &json!({"prompt": "Once upon a time", "temperature": 0, "n_predict": 6}));
    let answer = ask(&server, COMPLETION, &body);
    let names: Vec<&String> = answer.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["content", "timings/prompt_n", "generation_settings/top_k"]);
    assert_eq!((&answer["content"], &answer["generation_settings/top_k"]), (&whole["content"], &json!(7)));
    let streamed = events(&server, body);
    let (last, before) = streamed.split_last().expect("events");
    assert_eq!(last.as_object().map(|object| object.len()), Some(3), "{last}");
    assert!(before.iter().all(|event| event["stop"] == false && event["tokens"].is_array()), "{before:?}");
}

#[test]
fn a_stream_tells_timings_with_each_token() {
    let server = Server::start("-np 1");
    let body = json!({"prompt": "Once upon a time", "temperature": 0, "n_predict": 12, "timings_per_token": true});
    let n_prompt = events(&server, body.clone())[0]["tokens_evaluated"].as_u64().expect("a number");
    let streamed = events(&server, body.clone());
    let mut predicted = 0;
    for event in &streamed {
        let timings = &event["timings"];
        assert_eq!((&timings["cache_n"], &timings["prompt_n"]), (&json!(n_prompt - 1), &json!(1)), "{event}");
        let n = timings["predicted_n"].as_u64().expect("a number");
        assert!(n >= predicted && event["tokens_predicted"] == n, "{event}");
        assert!(timings["prompt_ms"].as_f64().is_some_and(|ms| ms >= 0.0), "{event}");
        predicted = n;
    }
    assert_eq!(predicted, 12);
    let mut without = body;
    without["timings_per_token"] = json!(false);
    let told = events(&server, without).iter().filter(|event| event["timings"].is_object()).count();
    assert_eq!(told, 1, "the last has them in any case");
}

#[test]
fn a_stream_tells_how_far_its_prompt_is() {
    let server = Server::start("-np 1 -c 4096");
    let prompt = "The quick brown fox jumps over the lazy dog. ".repeat(200);
    let body = json!({"prompt": prompt, "temperature": 0, "n_predict": 4, "return_progress": true});
    for round in 0..2 {
        let streamed = events(&server, body.clone());
        let told = streamed.iter().take_while(|event| event["prompt_progress"].is_object()).count();
        assert!(told >= 1, "{streamed:?}");
        assert!(streamed[told..].iter().all(|event| event.get("prompt_progress").is_none()), "all before the text");
        let total = streamed.last().expect("an end")["tokens_evaluated"].as_u64().expect("a number");
        let mut read = 0;
        for event in &streamed[..told] {
            let progress = &event["prompt_progress"];
            let number = |name: &str| progress[name].as_u64().unwrap_or_else(|| panic!("{name}: {event}"));
            assert_eq!((number("total"), number("cache")), (total, if round == 0 { 0 } else { total - 1 }), "{event}");
            assert!(number("processed") >= read.max(number("cache")) && number("time_ms") < 60_000, "{event}");
            assert_eq!((&event["content"], &event["stop"]), (&json!(""), &json!(false)));
            read = number("processed");
        }
        assert_eq!(read, total, "the last says that all has been read");
    }
    let several = json!({"prompt": ["a", "b"], "n_predict": 1, "return_progress": true, "timings_per_token": true});
    let answer = server.client().post(COMPLETION, &several);
    let warning = answer.header("X-Cllm-Warning").unwrap_or_default();
    assert!(warning.contains("return_progress: ignored") && warning.contains("timings_per_token"), "{warning}");
}

#[test]
fn probabilities_after_sampling_are_those_it_was_drawn_from() {
    let server = Server::start("-np 1");
    let base = json!({"prompt": "Once upon a time", "n_predict": 8, "n_probs": 5, "post_sampling_probs": true, "seed": 3,
        "temperature": 1.0, "top_k": 3, "top_p": 1.0, "min_p": 0.0});
    let entries =
        |body: &Value| ask(&server, COMPLETION, body)["completion_probabilities"].as_array().expect("a list").clone();
    let own = {
        let mut body = base.clone();
        body["post_sampling_probs"] = json!(false);
        entries(&body)
    };
    for (entry, own) in entries(&base).iter().zip(&own) {
        assert!(entry.get("logprob").is_none() && entry.get("top_logprobs").is_none(), "{entry}");
        let top = entry["top_probs"].as_array().expect("a list");
        assert_eq!(top.len(), 3, "top-k leaves three: {entry}");
        let sum: f64 = top.iter().map(|one| one["prob"].as_f64().expect("a number")).sum();
        assert!((sum - 1.0).abs() < 1e-4, "{sum}");
        assert!(top.iter().any(|one| one["id"] == entry["id"] && one["prob"] == entry["prob"]), "{entry}");
        // Top-k doesn't change ratios of probabilities.
        let model = |i: usize| own["top_logprobs"][i]["logprob"].as_f64().expect("a number").exp();
        let share = model(0) / (model(0) + model(1) + model(2));
        assert_eq!(top[0]["id"], own["top_logprobs"][0]["id"]);
        assert!((top[0]["prob"].as_f64().unwrap() - share).abs() < 1e-4, "{entry} for {share}");
    }
    let mut greedy = base.clone();
    greedy["temperature"] = json!(0);
    assert!(
        entries(&greedy).iter().all(|entry| entry["prob"] == 1.0 && entry["top_probs"].as_array().unwrap().len() == 1)
    );
    let mut held = base;
    held["grammar"] = json!("root ::= [ab]+");
    for entry in entries(&held) {
        // The grammar allows these letters, and after one of them the end.
        let allowed = |one: &Value| {
            let text = one["token"].as_str().expect("a text");
            text == "<|im_end|>" || (!text.is_empty() && text.chars().all(|c| "ab".contains(c)))
        };
        assert!(allowed(&entry), "{entry}");
        assert!(entry["top_probs"].as_array().expect("a list").iter().all(allowed), "{entry}");
    }
}

#[test]
fn what_is_unknown_is_named_and_a_deadline_is_kept() {
    let server = Server::start("-np 1 -c 100000");
    let body =
        json!({"prompt": "a", "n_predict": 1, "n_keep": -1, "id_slot": 0, "lora": [], "samplers": ["top_k", "infill"]});
    let answer = server.client().post(COMPLETION, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let warning = answer.header("X-Cllm-Warning").unwrap_or_default();
    assert!(warning.contains("ignored unknown fields: id_slot, lora") && warning.contains("infill"), "{warning}");
    assert!(!warning.contains("n_keep"), "a prompt is kept whole: {warning}");
    let mut body = endless();
    body["deadline_ms"] = json!(50);
    let late = server.client().post(COMPLETION, &body);
    assert_eq!(
        (late.status, late.json()["error"]["code"].as_str()),
        (408, Some("deadline_exceeded")),
        "{}",
        late.text()
    );
}
