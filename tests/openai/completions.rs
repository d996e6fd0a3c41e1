//! `/v1/completions`: prompts of all shapes, echo, best_of, suffix.

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
    // Scores that were needed to rank are shown only if asked for.
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
    assert!(list("top_logprobs").iter().all(|top| top.as_object().unwrap().len() == 2));
}

#[test]
fn a_vocabulary_that_cant_fill_in_says_so() {
    let server = Server::start("-np 1");
    let body = json!({"prompt": "fn main() {", "suffix": "}", "max_tokens": 4});
    let answer = server.client().post(COMPLETIONS, &body);
    assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!("suffix")));
}
