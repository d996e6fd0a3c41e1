//! `/completion`, as llama-server's users know it.

use serde_json::{Value, json};

use super::server::Server;
use super::{COMPLETIONS, ask, tokens};

const COMPLETION: &str = "/completion";

fn with(body: &Value, extra: Value) -> Value {
    let mut body = body.clone();
    extra.as_object().expect("an object").iter().for_each(|(name, value)| body[name] = value.clone());
    body
}

/// The events of a stream, which has no `[DONE]`.
fn events(server: &Server, body: &Value) -> Vec<Value> {
    let mut events = server.client().events(COMPLETION, &with(body, json!({"stream": true})));
    std::iter::from_fn(|| events.next()).collect()
}

#[test]
fn an_answer_has_llama_servers_fields() {
    let server = Server::start("-np 1");
    let body = json!({"prompt": "Once upon a time", "temperature": 0, "n_predict": 12});
    let other = ask(&server, COMPLETIONS, &json!({"prompt": "Once upon a time", "temperature": 0, "max_tokens": 12}));
    let text = other["choices"][0]["text"].as_str().expect("text");
    let answer = ask(&server, COMPLETION, &body);
    assert_eq!((&answer["content"], &answer["stop_type"]), (&json!(text), &json!("limit")));
    assert_eq!((&answer["stop"], &answer["truncated"], &answer["index"]), (&json!(true), &json!(false), &json!(0)));
    assert_eq!((&answer["prompt"], &answer["stopping_word"]), (&json!("Once upon a time"), &json!("")));
    let n_prompt = other["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!((&answer["tokens_evaluated"], &answer["tokens_predicted"]), (&json!(n_prompt), &json!(12)));
    assert_eq!(answer["tokens_cached"], n_prompt + 11);
    assert_eq!((&answer["tokens"], answer.get("completion_probabilities")), (&json!([]), None));
    assert_eq!(answer["generation_settings"]["n_predict"], 12);
    let timings = &answer["timings"];
    assert_eq!((&timings["cache_n"], &timings["prompt_n"]), (&json!(n_prompt - 1), &json!(1)), "it was read before");
    assert_eq!(timings["predicted_n"], 12);
    let number = |name: &str| timings[name].as_f64().expect("a number");
    assert!(number("prompt_ms") > 0.0 && number("predicted_ms") > 0.0, "{timings}");
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs();
    assert!(close(number("predicted_per_token_ms"), number("predicted_ms") / 12.0), "{timings}");
    assert!(close(number("predicted_per_second"), 12e3 / number("predicted_ms")), "{timings}");
    let listed = ask(&server, COMPLETION, &with(&body, json!({"return_tokens": true})));
    assert_eq!(listed["tokens"], json!(tokens(&server, text)));
}

#[test]
fn it_says_why_it_stopped() {
    let server = Server::start("-np 1 -c 256");
    let body = json!({"prompt": "Once upon a time", "temperature": 0, "n_predict": 40});
    let free = ask(&server, COMPLETION, &body);
    let words: Vec<&str> = free["content"].as_str().unwrap().split_inclusive(' ').collect();
    let stops = json!(["nothing of the kind", words[4], ""]);
    let cut = ask(&server, COMPLETION, &with(&body, json!({"stop": stops})));
    assert_eq!((&cut["stop_type"], &cut["stopping_word"]), (&json!("word"), &json!(words[4])));
    assert!(free["content"].as_str().unwrap().starts_with(cut["content"].as_str().unwrap()));
    let turn = "<|im_start|>user\nHow do I change the port?<|im_end|>\n<|im_start|>assistant\n";
    let whole = ask(&server, COMPLETION, &json!({"prompt": turn, "temperature": 0}));
    assert_eq!((&whole["stop_type"], &whole["stopping_word"]), (&json!("eos"), &json!("")));
    // If more tokens are asked for than fit, as many as fit are generated.
    for n_predict in [-1, 100_000] {
        let more = json!({"n_predict": n_predict, "ignore_eos": true});
        let full = ask(&server, COMPLETION, &with(&body, more));
        let all = full["tokens_evaluated"].as_u64().unwrap() + full["tokens_predicted"].as_u64().unwrap();
        assert_eq!((all, &full["stop_type"]), (256, &json!("limit")));
        assert_eq!(full["truncated"], true);
    }
}

#[test]
fn none_to_predict_reads_the_prompt() {
    let server = Server::start("-np 1");
    let prompt = "What is a fox? ".repeat(10);
    let body = json!({"prompt": prompt, "n_predict": 0, "n_probs": 2, "return_tokens": true});
    let quiet = ask(&server, COMPLETION, &body);
    assert_eq!((&quiet["content"], &quiet["tokens_predicted"]), (&json!(""), &json!(0)));
    assert_eq!((&quiet["tokens"], &quiet["completion_probabilities"]), (&json!([]), &json!([])));
    assert_eq!(quiet["timings"]["cache_n"], 0);
    let streamed = events(&server, &body);
    assert_eq!((streamed.len(), &streamed[0]["content"]), (1, &json!("")));
    let n = quiet["tokens_evaluated"].as_u64().unwrap();
    assert_eq!(streamed[0]["timings"]["cache_n"], n - 1);
}

#[test]
fn a_stream_put_together_is_the_whole_answer() {
    let server = Server::start("-np 4");
    let texts = ["Once upon a time", "The port is"];
    for (i, extra) in [
        json!({}),
        json!({"stop": ["the", "."], "n_probs": 3}),
        json!({"temperature": 1.5, "n_probs": 1, "ignore_eos": true}),
        json!({"prompt": texts, "temperature": 2.0}),
        json!({"grammar": "root ::= [a-f]+", "n_predict": 5}),
    ]
    .into_iter()
    .enumerate()
    {
        let body = with(
            &json!({"prompt": texts[0], "n_predict": 30, "temperature": 0, "seed": i, "return_tokens": true}),
            extra,
        );
        let whole = ask(&server, COMPLETION, &body);
        let whole = whole.as_array().cloned().unwrap_or_else(|| vec![whole]);
        let mut joined: Vec<(String, Vec<Value>, Vec<Value>)> = vec![Default::default(); whole.len()];
        let mut ends = vec![Value::Null; whole.len()];
        for event in events(&server, &body) {
            let index = event["index"].as_u64().expect("an index") as usize;
            assert!(ends[index].is_null(), "nothing follows the end");
            let (content, tokens, scored) = &mut joined[index];
            *content += event["content"].as_str().expect("content");
            tokens.extend(event["tokens"].as_array().expect("tokens").iter().cloned());
            scored.extend(event["completion_probabilities"].as_array().into_iter().flatten().cloned());
            if event["stop"] == true {
                ends[index] = event;
            } else {
                assert_eq!(event["tokens_predicted"], tokens.len());
            }
        }
        for ((whole, (content, tokens, scored)), end) in whole.iter().zip(joined).zip(ends) {
            assert_eq!((&whole["content"], &whole["tokens"]), (&json!(content), &json!(tokens)), "{body}");
            assert_eq!(whole["completion_probabilities"].as_array().cloned().unwrap_or_default(), scored, "{body}");
            for name in ["stop_type", "stopping_word", "tokens_predicted", "tokens_evaluated", "truncated"] {
                assert_eq!(whole[name], end[name], "{name} of {body}");
            }
        }
    }
}

#[test]
fn probabilities_are_those_of_the_other_route() {
    let server = Server::start("-np 2");
    let common = json!({"prompt": "Once upon a time", "temperature": 0.9, "seed": 4});
    let mine = ask(&server, COMPLETION, &with(&common, json!({"n_predict": 8, "n_probs": 4})));
    let other = ask(&server, COMPLETIONS, &with(&common, json!({"max_tokens": 8, "logprobs": 4})));
    let logprobs = &other["choices"][0]["logprobs"];
    let list = mine["completion_probabilities"].as_array().expect("a list");
    assert_eq!(list.len(), 8);
    for (i, entry) in list.iter().enumerate() {
        assert_eq!((&entry["token"], &entry["logprob"]), (&logprobs["tokens"][i], &logprobs["token_logprobs"][i]));
        let top = entry["top_logprobs"].as_array().expect("a list");
        assert_eq!(top.len(), 4);
        for other in top {
            assert_eq!(logprobs["top_logprobs"][i][other["token"].as_str().unwrap()], other["logprob"]);
        }
        let ids = tokens(&server, entry["token"].as_str().unwrap());
        assert_eq!(json!(ids), json!([entry["id"]]));
    }
}

#[test]
fn prompts_are_texts_tokens_or_both_and_a_bias_forbids() {
    let server = Server::start("-np 2");
    let body = |prompt: Value| json!({"prompt": prompt, "temperature": 0, "n_predict": 6});
    let content = |body: &Value| ask(&server, COMPLETION, body)["content"].as_str().expect("content").to_owned();
    let whole = content(&body(json!("Once upon a time")));
    let ids = tokens(&server, "Once upon a time");
    assert_eq!(content(&body(json!(ids))), whole);
    let mut mixed: Vec<Value> = ids[..2].iter().map(|id| json!(id)).collect();
    let rest = ask(&server, "/detokenize", &json!({"tokens": ids[2..]}));
    mixed.push(rest["content"].clone());
    assert_eq!(content(&body(json!(mixed))), whole);
    let both = ask(&server, COMPLETION, &body(json!(["Once upon a time", "The port is"])));
    assert_eq!(both[0]["content"], whole);
    assert_eq!(both[1]["content"], content(&body(json!("The port is"))));
    let first = tokens(&server, &whole)[0];
    for bias in [json!([[first, false]]), json!({first.to_string(): -100})] {
        let other = content(&with(&body(json!("Once upon a time")), json!({"logit_bias": bias})));
        assert_ne!(tokens(&server, &other)[0], first);
    }
    let word = ask(&server, "/detokenize", &json!({"tokens": [first]}))["content"].clone();
    let other = content(&with(&body(json!("Once upon a time")), json!({"logit_bias": [[word, false]]})));
    assert_ne!(tokens(&server, &other)[0], first);
    for (bad, param) in [
        (json!({"prompt": [99_999_999]}), "prompt[0]"),
        (json!({"logit_bias": [[99_999_999, 1]]}), "logit_bias"),
        (json!({"prompt": vec!["a"; 16]}), "prompt"),
    ] {
        let server = Server::start("-np 1 --queue 3");
        let answer = server.client().post(COMPLETION, &with(&body(json!("a")), bad));
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!(param)));
    }
}

#[test]
fn texts_and_tokens_become_tokens() {
    let server = Server::start("-np 1");
    let ids = tokens(&server, "Once upon a time");
    let mixed = ask(&server, "/tokenize", &json!({"content": [ids[0], " upon a time"], "with_pieces": true}));
    let own: Vec<Value> = mixed["tokens"].as_array().expect("a list").iter().map(|one| one["id"].clone()).collect();
    assert_eq!(json!(own), json!(ids));
    assert_eq!(ask(&server, "/tokenize", &json!({"content": []}))["tokens"], json!([]));
    for (content, param) in
        [(json!(5), "content"), (json!(["a", {}]), "content[1]"), (json!([99_999_999]), "content[0]")]
    {
        let answer = server.client().post("/tokenize", &json!({"content": content}));
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!(param)));
    }
}

#[test]
fn an_answer_and_props_tell_how_is_sampled() {
    let server = Server::start("-np 1 --temperature 0.5");
    let usual = server.client().get("/props").json()["default_generation_settings"]["params"].clone();
    let body = json!({"prompt": "a", "n_predict": 1, "dry_multiplier": 0.5, "mirostat": 2, "mirostat_tau": 4,
        "samplers": ["dry", "temperature"], "logit_bias": [[5, -1.5]], "grammar": "root ::= [a-z]"});
    let settings = ask(&server, COMPLETION, &body)["generation_settings"].clone();
    for (name, usual_one, own) in [
        ("temperature", json!(0.5), json!(0.5)),
        ("dry_multiplier", json!(0.0), json!(0.5)),
        ("mirostat", json!(0), json!(2)),
        ("mirostat_tau", json!(5.0), json!(4.0)),
        ("n_predict", json!(-1), json!(1)),
        ("top_k", json!(40), json!(0)),
    ] {
        assert_eq!((&usual[name], &settings[name]), (&usual_one, &own), "{name}");
    }
    assert_eq!(usual["samplers"][0], "penalties");
    assert_eq!(settings["samplers"], json!(["dry", "temperature"]));
    assert_eq!(settings["logit_bias"], json!([{"bias": -1.5, "token": 5}]));
    assert_eq!(settings["grammar"], "root ::= [a-z]");
}
