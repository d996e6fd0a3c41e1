//! The samplers that few requests use, and what prevents a text from ending, through the public interface: each is
//! checked by its effect on a greedy text. `tests/sampling.rs` compares their choices with llama.cpp's.

use serde_json::{Value, json};

use super::server::Server;

/// A request that lets any token come, so that the effect of a sampler shows.
fn wild(more: Value) -> Value {
    let mut body = json!({"prompt": "Once upon a time", "temperature": 3.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0,
        "ignore_eos": true, "max_tokens": 40, "seed": 7});
    let (Some(all), Some(more)) = (body.as_object_mut(), more.as_object()) else { unreachable!("both are objects") };
    all.extend(more.clone());
    body
}

fn text(server: &Server, more: Value) -> String {
    server.generate(&wild(more)).data()["text"].as_str().expect("a text").to_owned()
}

/// The ids that llama-server's route generates.
fn tokens(server: &Server, more: Value) -> Vec<u64> {
    let mut body = wild(more);
    body["return_tokens"] = json!(true);
    let answer = server.client().post("/completion", &body).json();
    answer["tokens"].as_array().unwrap_or_else(|| panic!("{answer}")).iter().filter_map(Value::as_u64).collect()
}

#[test]
fn each_sampler_is_heard() {
    let server = Server::start("");
    let greedy = text(&server, json!({"temperature": 0}));
    let free = text(&server, json!({}));
    assert_ne!(greedy, free);
    for forced in [
        json!({"top_n_sigma": 1e-5}),
        json!({"mirostat": 2, "mirostat_tau": 0}),
        json!({"temperature": 0, "dynatemp_range": 1e-6}),
        json!({"top_p": 1e-6}),
    ] {
        assert_eq!(text(&server, forced.clone()), greedy, "{forced}");
    }
    for other in [
        json!({"temperature": 0, "dynatemp_range": 5, "dynatemp_exponent": 0}),
        json!({"xtc_probability": 1, "xtc_threshold": 0, "top_k": 2}),
        json!({"top_p": 1e-6, "min_keep": 500}),
        json!({"mirostat": 2, "mirostat_tau": 9}),
    ] {
        assert_ne!(text(&server, other.clone()), greedy, "{other}");
    }
    // Always the second of two candidates, without chance.
    let second = |seed: u64| text(&server, json!({"xtc_probability": 1, "xtc_threshold": 0, "top_k": 2, "seed": seed}));
    assert_eq!(second(1), second(2));
    // The chat and completion routes take these fields, too.
    let chat = |more: Value| {
        let mut body = wild(more);
        body["messages"] = json!([{"role": "user", "content": "Tell me a story"}]);
        body.as_object_mut().unwrap().remove("prompt");
        server.client().post("/v1/chat/completions", &body).json()["choices"][0]["message"]["content"].clone()
    };
    assert_eq!(chat(json!({"top_n_sigma": 1e-5})), chat(json!({"temperature": 0})));
    assert_eq!(tokens(&server, json!({"top_n_sigma": 1e-5})), tokens(&server, json!({"temperature": 0})));
}

#[test]
fn dry_ends_repetitions() {
    let server = Server::start("");
    let longest = |ids: &[u64]| {
        let agree = |a: usize, b: usize| ids[a..].iter().zip(&ids[b..]).take_while(|(x, y)| x == y).count();
        (0..ids.len()).flat_map(|a| (a + 1..ids.len()).map(move |b| (a, b))).map(|(a, b)| agree(a, b)).max()
    };
    let long = json!({"temperature": 0, "max_tokens": 300});
    assert!(longest(&tokens(&server, long)) > Some(5), "the model repeats itself");
    let dry = json!({"temperature": 0, "max_tokens": 300, "dry_multiplier": 1e6, "dry_base": 1, "dry_allowed_length": 2,
        "dry_penalty_last_n": -1, "dry_sequence_breakers": []});
    assert_eq!(longest(&tokens(&server, dry.clone())), Some(2));
    let mut everywhere = dry;
    everywhere["dry_sequence_breakers"] = json!([" ", "e", "a", "o", "t", "i"]);
    assert!(longest(&tokens(&server, everywhere)) > Some(2), "where repetitions end all the time, nothing is one");
}

#[test]
fn a_text_ends_no_sooner_than_it_may() {
    let server = Server::start("");
    let ask = |more: Value| {
        let mut body = wild(more);
        body["temperature"] = json!(0);
        body["ignore_eos"] = json!(false);
        body["messages"] = json!([{"role": "user", "content": "How do I change the port?"}]);
        body.as_object_mut().unwrap().remove("prompt");
        body["max_tokens"] = json!(300);
        server.generate(&body).data()
    };
    let usual = ask(json!({}));
    let length = usual["generated_tokens"].as_u64().unwrap();
    assert_eq!(usual["finish_reason"], "stop");
    let longer = ask(json!({"min_tokens": length + 20}));
    assert!(longer["generated_tokens"].as_u64() >= Some(length + 20), "{longer}");
    assert!(longer["text"].as_str().unwrap().starts_with(usual["text"].as_str().unwrap()));
    let stopped = ask(json!({"stop": ["e"]}));
    assert!(!stopped["text"].as_str().unwrap().contains('e'));
    let later = ask(json!({"stop": ["e"], "min_tokens": 10}));
    assert!(later["generated_tokens"].as_u64() > Some(10), "{later}");
    assert!(later["text"].as_str().unwrap().contains('e'));
}

#[test]
fn a_token_that_is_to_end_the_text_does() {
    let server = Server::start("");
    let all = tokens(&server, json!({"temperature": 0}));
    let end = all[9];
    let first = all.iter().position(|id| *id == end).unwrap();
    let body = wild(json!({"temperature": 0, "stop_token_ids": [end]}));
    let data = server.generate(&body).data();
    assert_eq!((data["finish_reason"].as_str(), data["generated_tokens"].as_u64()), (Some("stop"), Some(first as u64)));
    let kept_back = server.generate(&wild(json!({"temperature": 0, "stop_token_ids": [end], "min_tokens": 30}))).data();
    assert!(kept_back["generated_tokens"].as_u64() >= Some(30), "{kept_back}");
}
