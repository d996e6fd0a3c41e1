//! Embeddings over HTTP: the real program with synthetic BERT models and the built-in model, compared with llama.cpp's own
//! pooled embeddings of the same tokens.

#[path = "../support/http.rs"]
#[allow(dead_code)]
mod http;
#[path = "../support/server.rs"]
#[allow(dead_code)]
mod server;

mod rank;
mod refusals;
mod same;
mod shared;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use cllm::llama::raw::pooled::{RawPooling, pooled};
use cllm::synth::{Quant, Spec};
use serde_json::{Value, json};
use server::Server;

const EMBEDDINGS: &str = "/v1/embeddings";
/// The length of an embedding of `bert-tiny`.
const N_EMBD: usize = 128;

/// The built-in model as a file.
fn built_in() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vendor/model/cllm-tiny.gguf")
}

/// A model file, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn bert() -> Scratch {
        Scratch::of("bert-tiny")
    }

    /// A model that ranks texts.
    fn ranking() -> Scratch {
        Scratch::of("bert-tiny-rank")
    }

    fn of(shape: &str) -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // ORDERING: Relaxed; only the number's uniqueness matters.
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("cllm-embeddings-{}-{n}.gguf", std::process::id()));
        let spec = Spec::named(shape, Quant::Q8_0, 2026).expect("a shape of the table");
        spec.write(&path, true, |_| {}).expect("there is room");
        Scratch(path)
    }

    fn server(&self, line: &str) -> Server {
        Server::start(&format!("-m {} {line}", self.0.display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The response to a valid request.
fn ask(server: &Server, body: &Value) -> Value {
    let answer = server.client().post(EMBEDDINGS, body);
    assert_eq!(answer.status, 200, "{body}: {}", answer.text());
    answer.json()
}

/// The embeddings of a response, in order.
fn vectors(answer: &Value) -> Vec<Vec<f32>> {
    let data = answer["data"].as_array().expect("data");
    let vector = |(i, item): (usize, &Value)| {
        assert_eq!((item["index"].as_u64(), &item["object"]), (Some(i as u64), &json!("embedding")));
        let numbers = item["embedding"].as_array().expect("numbers");
        numbers.iter().map(|x| x.as_f64().expect("a number") as f32).collect()
    };
    data.iter().enumerate().map(vector).collect()
}

/// The embeddings of inputs.
fn embed(server: &Server, input: &Value) -> Vec<Vec<f32>> {
    vectors(&ask(server, &json!({"input": input})))
}

/// The ids of a text, including special tokens.
fn ids(server: &Server, text: &str) -> Vec<i32> {
    let data =
        server.client().post("/encode", &json!({"text": text, "add_special": true, "parse_special": true})).data();
    data["tokens"].as_array().expect("tokens").iter().map(|id| id.as_i64().expect("an id") as i32).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Checks that `vectors` equal llama.cpp's embeddings of the same tokens. Returns the smallest cosine.
fn assert_llama_cpps(model: &Path, inputs: &[Vec<i32>], pooling: RawPooling, vectors: &[Vec<f32>]) -> f64 {
    let own = pooled(model, inputs, pooling);
    assert_eq!(own.len(), vectors.len());
    let cosines = own.iter().zip(vectors).map(|(own, vector)| cosine(own, vector));
    let worst = cosines.fold(1.0, f64::min);
    println!("{} inputs, {pooling:?}: worst cosine {worst:.7}", inputs.len());
    assert!(worst >= 0.9999, "{pooling:?}: {worst}");
    worst
}

/// A text of `words` generated words. Each seed gives another text.
fn text(words: usize, seed: usize) -> String {
    let word = |i: usize| {
        let n = (i + 1) * (seed * 7 + 13);
        let syllable = |n: usize| format!("{}{}", b"bcdfghjk"[n % 8] as char, b"aeiou"[n / 8 % 5] as char);
        (0..n % 3 + 1).map(|k| syllable(n / (k + 1))).collect::<String>()
    };
    (0..words).map(word).collect::<Vec<_>>().join(" ")
}
