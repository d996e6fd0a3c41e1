//! Models of each kind of memory, with random weights: hybrid, recurrent, and with sliding windows. Each answers, and a text doesn't
//! depend on what else is served where the server says so.

use std::path::PathBuf;

use cllm::synth::{Quant, Spec};
use serde_json::{Value, json};

use super::at_once;
use super::server::Server;

/// The small shape of each kind, and what `/model/info` says of its architecture.
pub const KINDS: [(&str, &str); 4] =
    [("lfm2-tiny", "lfm2"), ("mamba-tiny", "mamba"), ("gemma3-tiny", "gemma3"), ("gpt-oss-tiny", "gpt-oss")];

/// A server of a shape with random weights, with the flags in `line`. Its file is gone when it listens.
pub fn serve(shape: &str, line: &str) -> Server {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("served-{shape}-{}.gguf", std::process::id()));
    Spec::named(shape, Quant::Q4KM, 2026).expect("a shape").write(&path, true, |_| {}).expect("there is room");
    let server = Server::start(&format!("-m {} {line}", path.display()));
    std::fs::remove_file(path).expect("it is there");
    server
}

fn requests(prompts: usize) -> Vec<Value> {
    let word = |i: usize| ["babe ", "dozi ", "kuku lala ", "ve ", "no such word, "][i % 5];
    let prompt = |i: usize| format!("{i} {}", (0..5 + 7 * i).map(|at| word(at * i + at / 3)).collect::<String>());
    let request = |i: usize| {
        let temperature = if i.is_multiple_of(2) { 0.0 } else { 0.9 };
        json!({"prompt": prompt(i), "temperature": temperature, "seed": i, "max_tokens": 24, "ignore_eos": true})
    };
    (0..prompts).map(request).collect()
}

fn text(server: &Server, request: &Value) -> String {
    let data = server.generate(request).data();
    assert_eq!(data["generated_tokens"], 24);
    data["text"].as_str().expect("a text").to_owned()
}

#[test]
fn each_kind_answers_alone_as_in_company() {
    let requests = requests(12);
    for (shape, architecture) in KINDS {
        let server = serve(shape, "-np 4 -c 8192");
        let info = server.client().get("/model/info").data();
        assert_eq!((&info["architecture"], &info["exact"]), (&json!(architecture), &json!(true)), "{shape}");
        let alone = at_once(1, &requests, |request| text(&server, request));
        let different: std::collections::HashSet<&String> = alone.iter().collect();
        assert!(different.len() * 4 > alone.len() * 3, "{shape}: texts don't depend on their prompts: {alone:?}");
        drop(server);
        let cold = serve(shape, "-np 4 -c 8192");
        assert_eq!(at_once(4, &requests, |request| text(&cold, request)), alone, "{shape}: 4 at once");
        assert_eq!(at_once(4, &requests, |request| text(&cold, request)), alone, "{shape}: again");
    }
}
