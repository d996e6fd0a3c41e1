//! Reasons for which the server doesn't start: exit code 1 and one line, for a model that can't be used or a port in
//! use.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use cllm::gguf::{GgufWriter, Value};

use super::server::Server;

/// Checks for one line on stderr, besides log lines, that contains `parts`, and for exit code 1.
fn refused(args: &[&str], parts: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cllm"));
    let output = command.args(args).stdin(Stdio::null()).output().expect("the program runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {:?} {stderr}", output.status);
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.starts_with("{\"timestamp\"")).collect();
    let [line] = lines.as_slice() else { panic!("{args:?}: {stderr}") };
    assert!(line.starts_with("cllm: ") && parts.iter().all(|part| line.contains(part)), "{parts:?}: {line}");
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("cllm-refusals-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn with(&self, name: &str, content: &[u8]) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path.to_string_lossy().into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn models_that_cannot_be_used_are_named_with_the_reason() {
    let folder = Folder::new("models");
    let built_in = include_bytes!("../../vendor/model/cllm-tiny.gguf");
    let architecture = |name: &str| {
        let mut writer = GgufWriter::new();
        writer.add_kv("general.architecture", Value::Str(name.as_bytes().to_vec()));
        writer.into_bytes()
    };
    let mut other = built_in.to_vec();
    // The architecture's name, in the first key and in the names of all others.
    for at in 0..other.len() - 5 {
        if &other[at..at + 5] == b"qwen3" {
            other[at..at + 5].copy_from_slice(b"qwenX");
        }
    }
    for (name, content, reason) in [
        ("empty.gguf", Vec::new(), ""),
        ("text.gguf", b"Once upon a time, there was a text that was no model.".to_vec(), "not a GGUF"),
        ("head.gguf", built_in[..100].to_vec(), ""),
        ("metadata.gguf", built_in[..20_000].to_vec(), ""),
        ("tensors.gguf", built_in[..built_in.len() - 5_000].to_vec(), ""),
        ("keys.gguf", architecture("nonsense"), ""),
        ("other.gguf", other, "qwenX"),
    ] {
        let path = folder.with(name, &content);
        for command in [["serve", "--port", "0", "-m", &path], ["generate", "hello", "-n", "1", "-m"]] {
            let mut args = command.to_vec();
            args.extend((command[0] == "generate").then_some(path.as_str()));
            refused(&args, &[name, reason]);
        }
    }
    refused(&["serve", "-m", &folder.0.to_string_lossy()], &["folder"]);
    refused(&["serve", "-m", "/nowhere/model.gguf"], &["/nowhere/model.gguf", "No such file"]);
}

#[test]
fn a_taken_port_and_bad_settings_are_named() {
    let folder = Folder::new("settings");
    let server = Server::start("-np 1");
    let port = server.addr().port().to_string();
    refused(&["serve", "--port", &port], &[&port, "in use"]);
    refused(&["serve", "--host", "256.1.1.1", "--port", "0"], &["256.1.1.1"]);
    let template = folder.with("broken.jinja", b"hello\n{% if %}");
    refused(&["serve", "--port", "0", "--chat-template", &template], &["broken.jinja", "line 2"]);
    let config = folder.with("cllm.toml", b"port = 0\n\nparalel = 3\n");
    refused(&["serve", "--config", &config], &["paralel", "cllm.toml line 3"]);
    refused(&["serve", "--prot", "1"], &["--prot"]);
}
