//! Each conversation over HTTP: a server with each original template answers it.

use std::sync::Arc;
use std::time::Duration;

use cllm::null_decoder::NullDecoder;
use serde_json::{Value, json};

use super::data::{folder, read, templates};
use super::http::Client;
use super::in_process::{capacity, serve};
use super::vocabulary::tokenizer;

/// Conversations, by template and case, for which 400 is the right answer. There are none.
const REFUSED: &[(&str, &str)] = &[];

/// The body of a case, as a client sends it.
fn body(case: &Value) -> Value {
    let mut body = case.clone();
    (body["max_tokens"], body["temperature"]) = (json!(2), json!(0));
    body
}

#[test]
fn no_conversation_is_too_much_for_a_server_with_an_original_template() {
    let Some(folder) = folder() else { return };
    let cases: serde_json::Map<String, Value> = serde_json::from_str(&read(&folder.join("cases.json"))).expect("JSON");
    assert_eq!(cases.len(), 17);
    let tokenizer = Arc::new(tokenizer("served", &[]));
    let (mut n_templates, mut n_answers, mut n_warned, mut complaints) = (0, 0, 0, Vec::new());
    for (name, template) in templates(&folder) {
        let decoder = NullDecoder::new(capacity(&tokenizer), tokenizer.table(), Duration::ZERO);
        n_templates += 1;
        serve(&tokenizer, template, decoder, |addr| {
            let mut client = Client::connect(addr);
            for (case, given) in &cases {
                let answer = client.post("/v1/chat/completions", &body(given));
                let warning = answer.header("X-Cllm-Warning").unwrap_or_default();
                let is_refused = REFUSED.contains(&(name.as_str(), case.as_str()));
                let is_right = match answer.status {
                    200 => !is_refused && answer.json()["usage"]["completion_tokens"] == 2,
                    400 => is_refused,
                    _ => false,
                };
                if !is_right {
                    complaints.push(format!("{name} {case}: {} {warning} {}", answer.status, answer.text()));
                }
                n_answers += usize::from(answer.status == 200);
                n_warned += usize::from(answer.status == 200 && warning.contains("messages: "));
            }
        });
    }
    println!(
        "{n_templates} templates, {} requests: {n_answers} answers, {n_warned} of them to a changed conversation; {} are 400",
        n_templates * cases.len(),
        REFUSED.len()
    );
    assert!(complaints.is_empty(), "{} wrong:\n{}", complaints.len(), complaints.join("\n"));
    assert!(n_templates >= 50);
}
