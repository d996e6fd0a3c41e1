//! Real models with weights that mean something, from other people's files.

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

/// Greedy and by seed, some with a long beginning in common.
fn requests() -> Vec<Value> {
    let beginning = "A list of what a traveller should know of a country before the first day there. ".repeat(8);
    let mut requests = capitals();
    for (i, mut request) in capitals().into_iter().enumerate() {
        if i % 2 == 0 {
            request["prompt"] = json!(format!("{beginning}{}", request["prompt"].as_str().unwrap()));
        }
        request["temperature"] = json!(0.9);
        request["seed"] = json!(i);
        requests.push(request);
    }
    requests
}

#[test]
fn a_real_models_text_is_the_same_alone_and_in_company() {
    for model in [SMOLLM2, GEMMA3] {
        let Some(path) = real_model(model) else { continue };
        let start = || Server::start(&format!("-m {} -c 8192", path.display()));
        let (server, requests) = (start(), requests());
        let alone = at_once(1, &requests, |request| text(&server, request));
        assert_eq!(at_once(1, &requests, |request| text(&server, request)), alone, "{model}, cached");
        assert_eq!(at_once(8, &requests, |request| text(&server, request)), alone, "{model}, eight at once");
        drop(server);
        let cold = start();
        assert_eq!(at_once(8, &requests, |request| text(&cold, request)), alone, "{model}, eight at once, cold");
    }
}

#[test]
fn a_server_says_whether_texts_depend_on_what_else_is_served() {
    let exact = |flags: &str| Server::start(flags).client().get("/model/info").data()["exact"].clone();
    assert_eq!(exact(""), json!(true));
    assert_eq!(exact("--kv-type q8_0"), json!(false));
    assert_eq!(exact("--flash-attn off"), json!(false));
}
