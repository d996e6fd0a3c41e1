//! Vocabularies that have a template's marks as control tokens.

use std::path::Path;

use cllm::gguf::{self, GgufFile, GgufWriter};
use cllm::tokenizer::Tokenizer;

/// Texts in a template that look like control tokens: in angle or square brackets, without spaces.
pub fn spelled_tokens(template: &str) -> Vec<String> {
    let mut found = vec!["<BOS>".to_owned(), "<EOS>".to_owned()];
    for (open, close) in [('<', '>'), ('[', ']')] {
        for (at, _) in template.match_indices(open) {
            let Some(len) = template[at..].find(close) else { continue };
            let token = &template[at..=at + len];
            let inner = &token[1..len];
            let is_one = inner.chars().any(char::is_alphabetic)
                && inner.chars().all(|c| c.is_alphanumeric() || "|_/-:｜▁".contains(c))
                && (open == '<' || inner.chars().all(|c| c.is_uppercase() || "_/".contains(c)));
            if is_one && token.len() <= 60 {
                found.push(token.to_owned());
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The built-in vocabulary with these control tokens added.
pub fn tokenizer(name: &str, controls: &[String]) -> Tokenizer {
    const CONTROL: i32 = 3;
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("vendor/model/cllm-tiny.gguf");
    let file = GgufFile::open(&built_in).expect("the built-in model");
    let covered = || unreachable!("the vocabulary is covered");
    let base = Tokenizer::from_gguf(&file, covered).expect("a tokenizer");
    let controls: Vec<&String> = controls.iter().filter(|control| base.token_of(control).is_none()).collect();
    let mut vocabulary = GgufWriter::new();
    for key in file.keys().iter().filter(|key| key.starts_with("tokenizer.")) {
        let value = match (key.as_str(), file.get(key).expect("a value").clone()) {
            ("tokenizer.ggml.tokens", gguf::Value::Strs(mut tokens)) => {
                controls.iter().for_each(|control| tokens.push(control.as_bytes()));
                gguf::Value::Strs(tokens)
            }
            ("tokenizer.ggml.token_type", gguf::Value::Nums { ty, mut raw }) => {
                controls.iter().for_each(|_| raw.extend_from_slice(&CONTROL.to_le_bytes()));
                gguf::Value::Nums { ty, raw }
            }
            (_, value) => value,
        };
        vocabulary.add_kv(key, value);
    }
    let path = std::env::temp_dir().join(format!("cllm-guarded-{}-{name}.gguf", std::process::id()));
    std::fs::write(&path, vocabulary.into_bytes()).expect("a file");
    let made = GgufFile::open(&path).expect("it reads back");
    let tokenizer = Tokenizer::from_gguf(&made, covered).expect("a tokenizer");
    let _ = std::fs::remove_file(&path);
    tokenizer
}
