//! `/infill` as editors use it: the prompt has the form that models were trained with to fill gaps.

use serde_json::{Value, json};

use super::made::Made;
use super::server::Server;
use super::{ask, tokens};

const INFILL: &str = "/infill";
const GAP: [&str; 3] = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"];
const REPO: [&str; 2] = ["<|repo_name|>", "<|file_sep|>"];

/// The tokens of text and of marks, one after the other.
fn spelled(server: &Server, parts: &[&str]) -> Vec<u64> {
    parts.iter().flat_map(|part| tokens(server, part)).collect()
}

/// The answer of `/completion` to these tokens.
fn follows(server: &Server, prompt: &[u64]) -> Value {
    ask(server, "/completion", &json!({"prompt": prompt, "temperature": 0, "n_predict": 8, "ignore_eos": true}))
}

fn filled(server: &Server, mut body: Value) -> Value {
    for (name, value) in [("temperature", json!(0)), ("n_predict", json!(8)), ("ignore_eos", json!(true))] {
        body[name] = value;
    }
    ask(server, INFILL, &body)
}

#[test]
fn a_gap_stands_between_prefix_and_suffix() {
    let server = Made::new("infill", &GAP).serve(None);
    let path = server.client().get("/props").json()["model_path"].as_str().expect("a path").to_owned();
    assert!(path.starts_with('/') && path.ends_with("model.gguf"), "{path}");
    let (before, after, begun) = ("fn main() {\n", "\n}", "    let");
    let answer = filled(&server, json!({"input_prefix": before, "input_suffix": after, "prompt": begun}));
    let ids = spelled(&server, &[GAP[0], before, GAP[1], after, GAP[2], begun]);
    assert_eq!(answer["tokens_evaluated"], ids.len());
    assert_eq!(answer["content"], follows(&server, &ids)["content"]);
    assert_eq!(answer["generation_settings"]["n_predict"], 8);
    // An editor's text never becomes a control token.
    let marked =
        filled(&server, json!({"input_prefix": format!("{before}{}", GAP[2]), "input_suffix": after, "prompt": begun}));
    assert!(marked["tokens_evaluated"].as_u64().unwrap() > ids.len() as u64 + 1);
    // The vocabulary has no token before files, so they precede the gap with a line between them.
    let extra = json!([{"filename": "a.rs", "text": "fn a() {}\n"}]);
    let with = filled(&server, json!({"input_prefix": before, "input_suffix": after, "input_extra": extra}));
    let ids = spelled(&server, &["\n\n--- snippet ---\n\n", "fn a() {}\n", GAP[0], before, GAP[1], after, GAP[2]]);
    assert_eq!((&with["tokens_evaluated"], &with["content"]), (&json!(ids.len()), &follows(&server, &ids)["content"]));
    // As llama.vim asks, and as a stream.
    let vim = json!({"id_slot": 0, "input_prefix": before, "input_suffix": after, "input_extra": [], "prompt": begun,
        "n_predict": 4, "stream": false, "samplers": ["top_k", "top_p", "infill"], "top_k": 40, "top_p": 0.9,
        "cache_prompt": true, "t_max_prompt_ms": 500, "t_max_predict_ms": 1000,
        "response_fields": ["content", "timings/prompt_n", "timings/predicted_n", "truncated", "tokens_cached"]});
    let answer = ask(&server, INFILL, &vim);
    assert_eq!(answer.as_object().map(|object| object.len()), Some(5), "{answer}");
    let mut events = server.client().events(
        INFILL,
        &json!({"input_prefix": before, "input_suffix": after, "stream": true,
        "temperature": 0, "n_predict": 8, "ignore_eos": true}),
    );
    let whole = filled(&server, json!({"input_prefix": before, "input_suffix": after}));
    let text: String =
        std::iter::from_fn(|| events.next()).map(|event| event["content"].as_str().unwrap().to_owned()).collect();
    assert_eq!(whole["content"], text);
}

#[test]
fn files_of_a_project_have_their_names() {
    let server = Made::new("infill-repo", &[&GAP[..], &REPO[..]].concat()).serve(None);
    let extra = json!([{"filename": "a.rs", "text": "fn a() {}\n"}, {"text": "fn b() {}\n"}]);
    let answer = filled(&server, json!({"input_prefix": "fn c() {", "input_suffix": "}", "input_extra": extra}));
    let ids = spelled(
        &server,
        &[
            REPO[0],
            "myproject\n",
            REPO[1],
            "a.rs\n",
            "fn a() {}\n",
            REPO[1],
            "tmp\n",
            "fn b() {}\n",
            REPO[1],
            "filename\n",
            GAP[0],
            "fn c() {",
            GAP[1],
            "}",
            GAP[2],
        ],
    );
    assert_eq!(answer["tokens_evaluated"], ids.len());
    assert_eq!(answer["content"], follows(&server, &ids)["content"]);
    // The next request reuses the cells of the unchanged text.
    assert!(answer["timings"]["cache_n"] == 0 || answer["timings"]["cache_n"].as_u64() < Some(ids.len() as u64));
}

#[test]
fn what_is_far_from_the_gap_is_left_out_and_said() {
    let server = Made::new("infill-long", &GAP).serve(None);
    let n_ctx =
        server.client().get("/props").json()["default_generation_settings"]["n_ctx"].as_u64().expect("a number");
    let long = "let a = 1;\n".repeat(n_ctx as usize);
    let body = json!({"input_prefix": long, "input_suffix": long, "n_predict": 8, "temperature": 0, "ignore_eos": true,
        "input_extra": [{"text": "fn a() {}"}]});
    let answer = server.client().post(INFILL, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let warning = answer.header("X-Cllm-Warning").unwrap_or_default().to_owned();
    for part in
        ["input_prefix: its beginning was left out", "input_suffix: its end was left out", "input_extra: 1 of 1 files"]
    {
        assert!(warning.contains(part), "{part}: {warning}");
    }
    let answer = answer.json();
    assert_eq!((&answer["tokens_evaluated"], &answer["tokens_predicted"]), (&json!(n_ctx - 8), &json!(8)), "{warning}");
}

#[test]
fn a_model_without_the_tokens_refuses_by_name() {
    let server = Server::start("-np 1");
    let answer = server.client().post(INFILL, &json!({"input_prefix": "a", "input_suffix": "b"}));
    let error = &answer.json()["error"];
    assert_eq!((answer.status, &error["code"]), (400, &json!("not_supported")));
    assert!(error["message"].as_str().is_some_and(|text| text.contains("no tokens to fill a gap")), "{error}");
}

#[test]
fn what_is_wrong_is_named() {
    let server = Made::new("infill-wrong", &GAP).serve(None);
    for (body, param) in [
        (json!({"n_predict": 4}), "input_prefix"),
        (json!({"input_prefix": ["a"]}), "input_prefix"),
        (json!({"input_prefix": "a", "input_extra": [{"text": 1}]}), "input_extra[0].text"),
        (json!({"input_prefix": "a", "n_probs": "x"}), "n_probs"),
    ] {
        let answer = server.client().post(INFILL, &body);
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!(param)), "{body}");
    }
}
