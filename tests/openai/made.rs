//! Models made for a test: random weights, the built-in vocabulary with control tokens added.

use std::path::{Path, PathBuf};
use std::process::Command;

use cllm::gguf::{GgufFile, GgufWriter, Value};

use super::own_templates::own_template;
use super::server::Server;

/// GGUF's token type.
const CONTROL: i32 = 3;

/// A folder with a model in it; gone when dropped.
pub struct Made {
    folder: PathBuf,
}

impl Made {
    /// `marks` are the names of its control tokens.
    pub fn new(name: &str, marks: &[&str]) -> Made {
        let folder = std::env::temp_dir().join(format!("cllm-made-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let made = Made { folder };
        let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("vendor/model/cllm-tiny.gguf");
        let file = GgufFile::open(&built_in).expect("the built-in model");
        let mut vocabulary = GgufWriter::new();
        for key in file.keys().iter().filter(|key| key.starts_with("tokenizer.")) {
            let value = file.get(key).expect("a value").clone();
            let value = match (key.as_str(), value) {
                ("tokenizer.ggml.tokens", Value::Strs(mut tokens)) => {
                    marks.iter().for_each(|mark| tokens.push(mark.as_bytes()));
                    Value::Strs(tokens)
                }
                ("tokenizer.ggml.token_type", Value::Nums { ty, mut raw }) => {
                    marks.iter().for_each(|_| raw.extend_from_slice(&CONTROL.to_le_bytes()));
                    Value::Nums { ty, raw }
                }
                (_, value) => value,
            };
            vocabulary.add_kv(key, value);
        }
        let path = made.folder.join("vocabulary.gguf");
        std::fs::write(&path, vocabulary.into_bytes()).expect("a file");
        let synth = Command::new(env!("CARGO_BIN_EXE_cllm"))
            .args(["synth", "--shape", "tiny", "--ctx", "4096", "--seed", "7", "--vocab-from"])
            .arg(&path)
            .arg("-o")
            .arg(made.model())
            .output()
            .expect("the program runs");
        assert!(synth.status.success(), "{}", String::from_utf8_lossy(&synth.stderr));
        made
    }

    fn model(&self) -> PathBuf {
        self.folder.join("model.gguf")
    }

    /// Serves it, with one of `own_templates`.
    pub fn serve(&self, template: Option<&str>) -> Server {
        let mut line = format!("-m {} -np 2 -c 8192", self.model().display());
        if let Some(name) = template {
            let path = self.folder.join(name);
            std::fs::write(&path, own_template(name)).expect("a file");
            line += &format!(" --chat-template {}", path.display());
        }
        Server::start(&line)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
