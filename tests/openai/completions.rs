//! `/v1/completions`: prompts of all shapes, echo, best_of, suffix.

use cllm::config::ModelSource;
use cllm::llama::raw::logits::logits;
use cllm::model_file::ModelFile;
use cllm::types::Token;
use serde_json::{Value, json};

use super::server::Server;
use super::{COMPLETIONS, ask, stream, tokens};

fn texts(answer: &Value) -> Vec<String> {
    let choices = answer["choices"].as_array().expect("choices");
    assert!(choices.iter().enumerate().all(|(i, choice)| choice["index"] == i));
    choices.iter().map(|choice| choice["text"].as_str().expect("text").to_owned()).collect()
}

#[test]
fn prompts_come_in_four_shapes() {
    let server = Server::start("-np 4");
    let request = |prompt: Value| json!({"prompt": prompt, "temperature": 0, "max_tokens": 6});
    let one = |text: &str| texts(&ask(&server, COMPLETIONS, &request(json!(text)))).remove(0);
    let (a, b) = ("Once upon a time", "The port is");
    let (ids_a, ids_b) = (tokens(&server, a), tokens(&server, b));
    let both = vec![one(a), one(b)];
    assert_ne!(both[0], both[1]);
    let answer = ask(&server, COMPLETIONS, &request(json!([a, b])));
    assert_eq!(texts(&answer), both);
    assert_eq!(answer["object"], "text_completion");
    assert_eq!(answer["usage"]["prompt_tokens"], ids_a.len() + ids_b.len());
    assert_eq!(answer["usage"]["completion_tokens"], 12);
    assert_eq!(texts(&ask(&server, COMPLETIONS, &request(json!(ids_a)))), both[..1]);
    assert_eq!(texts(&ask(&server, COMPLETIONS, &request(json!([ids_a, ids_b])))), both);
    let native = server.generate(&request(json!(a))).data();
    assert_eq!(native["text"], both[0]);
}

#[test]
fn an_echo_shows_the_prompt_first() {
    let server = Server::start("-np 2");
    let body = json!({"prompt": ["Once upon a time", "The port is"], "temperature": 0, "max_tokens": 5, "n": 2});
    let plain = texts(&ask(&server, COMPLETIONS, &body));
    let mut echoing = body.clone();
    echoing["echo"] = json!(true);
    let echoed = texts(&ask(&server, COMPLETIONS, &echoing));
    let prompts = ["Once upon a time", "Once upon a time", "The port is", "The port is"];
    for ((echoed, plain), prompt) in echoed.iter().zip(&plain).zip(prompts) {
        assert_eq!(echoed, &format!("{prompt}{plain}"));
    }
    let mut streamed = vec![String::new(); 4];
    for event in stream(&server, COMPLETIONS, &echoing) {
        let choice = &event["choices"][0];
        streamed[choice["index"].as_u64().unwrap() as usize] += choice["text"].as_str().unwrap();
    }
    assert_eq!(streamed, echoed);
    let ids = tokens(&server, "Once upon a time");
    echoing["prompt"] = json!(ids);
    assert_eq!(texts(&ask(&server, COMPLETIONS, &echoing))[0], echoed[0]);
}

#[test]
fn best_of_shows_the_likeliest() {
    let server = Server::start("-np 8");
    let body = |n: usize, best_of: usize| {
        json!({"prompt": "Once upon a time", "temperature": 2.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 11,
               "max_tokens": 12, "n": n, "best_of": best_of, "logprobs": 0, "ignore_eos": true})
    };
    let mean = |choice: &Value| {
        let logprobs = choice["logprobs"]["token_logprobs"].as_array().unwrap();
        logprobs.iter().map(|logprob| logprob.as_f64().unwrap()).sum::<f64>() / logprobs.len() as f64
    };
    let all = ask(&server, COMPLETIONS, &body(8, 8));
    let mut ranked: Vec<&Value> = all["choices"].as_array().unwrap().iter().collect();
    ranked.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
    let best = ask(&server, COMPLETIONS, &body(2, 8));
    let shown: Vec<Value> = ranked[..2].iter().map(|choice| choice["text"].clone()).collect();
    assert_eq!(texts(&best), shown);
    assert!(mean(ranked[0]) > mean(ranked[7]));
    assert_eq!(best["usage"]["completion_tokens"], 8 * 12, "all of them were generated");
    // Log probabilities that were only needed for ranking are not shown.
    let mut quiet = body(1, 3);
    quiet.as_object_mut().unwrap().remove("logprobs");
    assert!(ask(&server, COMPLETIONS, &quiet)["choices"][0]["logprobs"].is_null());
}

#[test]
fn logprobs_say_where_each_token_stands() {
    let server = Server::start("-np 1");
    // Characters of one to four bytes, which tokens may cut.
    let body = json!({"prompt": "So: ", "regex": "(é日🦀a)+", "temperature": 0, "max_tokens": 20, "logprobs": 2,
        "ignore_eos": true});
    let answer = ask(&server, COMPLETIONS, &body);
    let (text, logprobs) = (texts(&answer).remove(0), &answer["choices"][0]["logprobs"]);
    let list = |name: &str| logprobs[name].as_array().unwrap().clone();
    assert_eq!((list("tokens").len(), list("token_logprobs").len(), list("top_logprobs").len()), (20, 20, 20));
    let chars: Vec<char> = text.chars().collect();
    let mut whole = 0;
    for (token, offset) in list("tokens").iter().zip(list("text_offset")) {
        let (token, offset) = (token.as_str().unwrap(), offset.as_u64().unwrap() as usize);
        if !token.contains(char::REPLACEMENT_CHARACTER) {
            let there: String = chars[offset..].iter().take(token.chars().count()).collect();
            assert_eq!(there, token);
            whole += 1;
        }
    }
    assert!(whole >= 2 && text.starts_with("é日🦀"), "{text}");
    // The chosen token is always among them.
    assert!(list("top_logprobs").iter().zip(list("tokens")).all(|(top, token)| {
        let top = top.as_object().unwrap();
        (2..=3).contains(&top.len()) && top.contains_key(token.as_str().unwrap())
    }));
}

/// For each token but the first, its log probability by llama.cpp's own logits, and the three largest there.
fn reference(ids: &[u64]) -> Vec<(f64, Vec<f64>)> {
    let tokens: Vec<Token> = ids.iter().map(|id| Token(*id as u32)).collect();
    let file = ModelFile::open(&ModelSource::BuiltIn).expect("it comes with the program");
    let rows = logits(file.path(), &tokens);
    let scores = |row: &[f32], token: Token| {
        let best = f64::from(row.iter().copied().fold(f32::MIN, f32::max));
        let sum: f64 = row.iter().map(|logit| (f64::from(*logit) - best).exp()).sum();
        let mut all: Vec<f64> = row.iter().map(|logit| f64::from(*logit) - best - sum.ln()).collect();
        let chosen = all[token.index()];
        all.sort_by(|a, b| b.total_cmp(a));
        all.truncate(3);
        (chosen, all)
    };
    rows.iter().zip(&tokens[1..]).map(|(row, token)| scores(row, *token)).collect()
}

/// Checks that the numbers of `logprobs` equal those of `reference`. The first token has none.
fn assert_scored(logprobs: &Value, reference: &[(f64, Vec<f64>)]) {
    let list = |name: &str| logprobs[name].as_array().unwrap().clone();
    assert!(list("token_logprobs")[0].is_null() && list("top_logprobs")[0].is_null());
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-3, "{a}, not {b}");
    for ((logprob, top), (chosen, likeliest)) in
        list("token_logprobs")[1..].iter().zip(&list("top_logprobs")[1..]).zip(reference)
    {
        near(logprob.as_f64().unwrap(), *chosen);
        // Several tokens that are parts of characters have equal texts.
        if top.as_object().unwrap().keys().any(|key| key.contains(char::REPLACEMENT_CHARACTER)) {
            continue;
        }
        let mut top: Vec<f64> = top.as_object().unwrap().values().map(|value| value.as_f64().unwrap()).collect();
        assert!(top.contains(&logprob.as_f64().unwrap()), "the token itself is among them, to the last bit");
        top.sort_by(|a, b| b.total_cmp(a));
        top.iter().zip(likeliest).for_each(|(a, b)| near(*a, *b));
    }
}

#[test]
fn a_prompts_tokens_are_as_likely_as_llama_cpp_says() {
    let server = Server::start("-np 4");
    let long = "Once upon a time a fox asked how to change the port. é日🦀 The port is 8080, she said. ".repeat(12);
    for text in ["The port is 8080.", "A", &long] {
        let ids = tokens(&server, text);
        let expected = reference(&ids);
        // The result must not depend on what the cache holds of the prompt.
        ask(&server, COMPLETIONS, &json!({"prompt": text, "max_tokens": 2, "temperature": 0}));
        for (prompt, max_tokens) in [(json!(text), 0), (json!(ids), 0), (json!(text), 1), (json!(ids), 6)] {
            let body = json!({"prompt": prompt, "echo": true, "logprobs": 3, "max_tokens": max_tokens, "temperature": 0,
                "ignore_eos": true});
            // Other requests run at the same time, one of them with equal text.
            let free = json!({"prompt": text, "max_tokens": 40, "temperature": 0, "ignore_eos": true});
            let others = std::thread::scope(|scope| {
                let others = [&free, &free, &body].map(|body| scope.spawn(|| ask(&server, COMPLETIONS, body)));
                let answer = ask(&server, COMPLETIONS, &body);
                let [free, too, same] = others.map(|other| other.join().expect("it is answered"));
                assert_eq!(texts(&free), texts(&too));
                [answer, same]
            });
            for answer in others {
                let (text_all, logprobs) = (texts(&answer).remove(0), &answer["choices"][0]["logprobs"]);
                assert!(text_all.starts_with(text) && (max_tokens > 0 || text_all == text));
                assert_eq!(logprobs["tokens"].as_array().unwrap().len(), ids.len() + max_tokens);
                assert_scored(logprobs, &expected);
                assert_eq!(answer["usage"]["completion_tokens"], max_tokens);
                assert_eq!(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 0, "all of it is read");
                assert_eq!(answer["choices"][0]["finish_reason"], "length");
                let chars: Vec<char> = text_all.chars().collect();
                for (token, offset) in logprobs["tokens"].as_array().unwrap().iter().zip(offsets(logprobs)) {
                    let token = token.as_str().unwrap();
                    if !token.contains(char::REPLACEMENT_CHARACTER) {
                        assert_eq!(chars[offset..].iter().take(token.chars().count()).collect::<String>(), token);
                    }
                }
            }
        }
    }
}

fn offsets(logprobs: &Value) -> Vec<usize> {
    logprobs["text_offset"].as_array().unwrap().iter().map(|offset| offset.as_u64().unwrap() as usize).collect()
}

/// Evaluation harnesses ask for one token more and take the last entry of the list for it, whatever it is.
#[test]
fn a_token_that_ends_the_text_is_scored_like_any_other() {
    let server = Server::start("-np 1");
    let prompt = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>";
    let bias: Value = serde_json::from_str(&format!("{{\"{}\": 100}}", tokens(&server, "<|im_end|>")[0])).unwrap();
    let body = json!({"prompt": prompt, "echo": true, "logprobs": 1, "max_tokens": 1, "logit_bias": bias});
    let answer = ask(&server, COMPLETIONS, &body);
    let (choice, n_prompt) = (&answer["choices"][0], tokens(&server, prompt).len());
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!(prompt), &json!("stop")));
    assert_eq!(choice["logprobs"]["tokens"].as_array().unwrap().len(), n_prompt + 1);
    assert_eq!(choice["logprobs"]["tokens"][n_prompt], "<|im_end|>");
    assert!(choice["logprobs"]["token_logprobs"][n_prompt].as_f64().unwrap() < 0.0);
    assert_eq!(offsets(&choice["logprobs"])[n_prompt], prompt.chars().count());
    assert_eq!(answer["usage"]["completion_tokens"], 0);
}

#[test]
fn a_vocabulary_that_cant_fill_in_says_so() {
    let server = Server::start("-np 1");
    let body = json!({"prompt": "fn main() {", "suffix": "}", "max_tokens": 4});
    let answer = server.client().post(COMPLETIONS, &body);
    assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!("suffix")));
}
