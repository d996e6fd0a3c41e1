//! Real models with weights that mean something, from other people's files.

use serde_json::{Value, json};

use super::at_once;
use super::models::{GEMMA3, SMOLLM2, real_model};
use super::server::Server;

fn capitals() -> Vec<Value> {
    let countries = ["France", "Germany", "Italy", "Japan", "Egypt", "Spain", "Greece", "Russia"];
    let request =
        |country| json!({"prompt": format!("The capital of {country} is"), "temperature": 0, "max_tokens": 24});
    countries.into_iter().map(request).collect()
}

fn text(server: &Server, request: &Value) -> String {
    server.generate(request).data()["text"].as_str().unwrap().to_owned()
}

#[test]
fn real_models_speak_of_what_they_are_asked() {
    for (model, part) in [(SMOLLM2, "Paris"), (GEMMA3, "city in France")] {
        let Some(path) = real_model(model) else { continue };
        let server = Server::start(&format!("-m {}", path.display()));
        let answer = text(&server, &capitals()[0]);
        assert!(answer.contains(part), "{model}: {answer}");
    }
}

/// With a buffer for each sequence.
#[test]
fn a_real_models_text_is_the_same_alone_and_in_company() {
    let Some(path) = real_model(SMOLLM2) else { return };
    let server = Server::start(&format!("-m {} --kv-unified=false -np 8", path.display()));
    let alone = at_once(1, &capitals(), |request| text(&server, request));
    assert_eq!(at_once(8, &capitals(), |request| text(&server, request)), alone);
}
