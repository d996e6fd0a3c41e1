//! Runs `cllm tune`: it writes a valid configuration, reports errors in one line, and leaves other lines of the file
//! unchanged.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use cllm::llama::attention::IS_OURS;
use serde_json::Value;

/// Flags for little work, with only one setting left to try.
const LITTLE: &str = "--quick --prompt-tokens 16 --max-tokens 4 -np 2 -t 1 --flash-attn auto --kv-unified=false";

fn cllm(line: &str, vars: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cllm"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CLLM_")) {
        command.env_remove(name);
    }
    command.args(line.split_whitespace()).envs(vars.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn done(line: &str) -> String {
    let output = cllm(line, &[]).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    stdout(&output)
}

/// Checks a refusal: exit code 1, nothing on stdout, and one line on stderr that contains `named`.
fn refused(line: &str, named: &str) {
    let output = cllm(line, &[]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{line}: {stderr}");
    assert!(output.stdout.is_empty(), "{line} wrote to stdout");
    assert!(stderr.lines().count() == 1 && stderr.contains(named), "{line} doesn't say {named:?}: {stderr}");
}

/// A temporary folder for one test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("cllm-tune-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn with(&self, name: &str, content: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path.to_string_lossy().into_owned()
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The settings that `cllm serve --config FILE --check` attributes to the file.
fn served(file: &str) -> Vec<String> {
    let text = done(&format!("serve --check --config {file}"));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split('#').next().unwrap().trim().to_owned()).collect()
}

#[test]
fn all_four_settings_are_tried_or_said_why_not() {
    let text = done("tune --quick --prompt-tokens 16 --max-tokens 4 -np 2 --json");
    let report: Value = serde_json::from_str(&text).unwrap();
    let tried = report["tried"].as_array().unwrap();
    let keys: Vec<_> = tried.iter().map(|tried| tried["setting"].as_str().unwrap()).collect();
    assert_eq!(keys, ["threads", "flash-attn", "kv-unified", "step-tokens"]);
    assert_eq!((&report["partial"], &report["rounds"]), (&false.into(), &3.into()));
    for tried in tried {
        let Some(values) = tried["values"].as_array() else {
            // A machine with one CPU has no other number of threads. And the built-in model is small, so llama.cpp's own
            // fused attention isn't tried, because its texts depend on other requests.
            let setting = tried["setting"].as_str().unwrap();
            assert!(setting == "threads" || setting == "flash-attn" && !IS_OURS, "{report}");
            assert!(tried["not_tried"].is_string(), "{report}");
            continue;
        };
        assert!(values.len() > 1 && values[0]["rounds"].as_array().unwrap().len() == 3, "{report}");
        assert!(values.iter().all(|value| value["tokens_per_second"].as_f64().unwrap() > 0.0), "{report}");
        // The default is chosen unless another value won beyond the noise.
        let chosen = values.iter().position(|value| value["value"] == tried["chosen"]).unwrap();
        assert!(chosen == 0 || values[chosen]["gain_beyond_noise"] == true, "{report}");
    }
    let changed = report["settings"].as_object().unwrap().len();
    assert!(changed == 0 || report["all_together"][1]["gain_beyond_noise"] == true, "{report}");
}

#[test]
fn the_file_it_writes_serves_and_keeps_what_it_held() {
    let scratch = Scratch::new("keeps");
    let theirs = "# Our server.\nport = 9191 # behind the proxy\n\nalias = \"ours\"\n";
    let file = scratch.with("cllm.toml", &format!("{theirs}step_tokens = 100\n# tune: of an earlier run\nqueue = 7\n"));
    let over = AtomicBool::new(false);
    let said = std::thread::scope(|scope| {
        // A concurrent reader sees a complete file, the old or the new one.
        let seen = scope.spawn(|| {
            let mut seen = 0;
            while !over.load(Ordering::Relaxed) {
                let text = std::fs::read_to_string(&file).unwrap();
                assert!(text.contains("queue = 7\n") && text.starts_with(theirs), "half a file: {text}");
                seen += 1;
            }
            seen
        });
        let said = cllm(&format!("tune {LITTLE} --config {file}"), &[]).output().unwrap();
        over.store(true, Ordering::Relaxed);
        assert!(seen.join().unwrap() > 0);
        said
    });
    assert!(said.status.success(), "{said:?}");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with(&format!("{theirs}queue = 7\n# tune: cllm ")), "{text}");
    assert!(!text.contains("an earlier run"), "{text}");
    assert!(text.contains("\n# tune: threads: not tried: given by --threads\n"), "{text}");
    // The file's earlier value was tried, too. Its line is written again only if it won.
    assert!(text.contains("\n# tune:   100 "), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_eq!(scratch.files(), ["cllm.toml"], "nothing is left beside it");

    let settings = served(&file);
    for expected in ["port = 9191", "alias = \"ours\"", "queue = 7"] {
        assert!(settings.iter().any(|line| line == expected), "no {expected}: {settings:?}");
    }
    let step: Vec<_> = settings.iter().filter(|line| line.starts_with("step-tokens")).collect();
    let written: Vec<_> = text.lines().filter(|line| line.starts_with("step-tokens")).collect();
    assert_eq!(step, written);
    let said = stdout(&said);
    let last = said.lines().last().unwrap();
    assert!(last.starts_with(&format!("{file}: ")), "{said}");
    assert!(said.lines().all(|line| line.chars().count() <= 80 || line.starts_with(&file)), "{said}");

    // A second run replaces the comments with the evidence.
    done(&format!("tune {LITTLE} --config {file}"));
    let again = std::fs::read_to_string(&file).unwrap();
    assert_eq!(again.matches("# tune: cllm ").count(), 1, "{again}");
    assert!(again.starts_with(&format!("{theirs}queue = 7\n# tune: cllm ")), "{again}");
}

#[test]
fn a_model_that_was_named_is_in_what_it_prints_and_writes() {
    let scratch = Scratch::new("model");
    let (model, file) = (scratch.with("tiny.gguf", ""), scratch.0.join("new.toml"));
    done(&format!("synth --shape tiny --layers 2 --force -o {model}"));
    let file = file.to_string_lossy();
    let printed = done(&format!("tune {LITTLE} -m {model}"));
    assert!(printed.contains(&format!("\nmodel = \"{model}\"\n")), "{printed}");
    let saved = scratch.with("saved.toml", &printed);
    assert!(served(&saved).contains(&format!("model = \"{model}\"")));

    done(&format!("tune {LITTLE} -m {model} --config {file}"));
    assert!(served(&file).contains(&format!("model = \"{model}\"")));
    // The file now names the model, so the flag isn't needed. A different model is refused.
    let again = done(&format!("tune {LITTLE} --config {file}"));
    assert!(again.contains("\ntiny.gguf\n"), "{again}");
    assert_eq!(std::fs::read_to_string(&*file).unwrap().matches("model = ").count(), 1);
    let other = scratch.with("other.gguf", "GGUF");
    let before = std::fs::read_to_string(&*file).unwrap();
    refused(&format!("tune -m {other} --config {file}"), "--model: --config is for another model, ");
    assert_eq!(std::fs::read_to_string(&*file).unwrap(), before);
}

#[test]
fn what_cannot_begin_is_one_line() {
    let scratch = Scratch::new("wrong");
    let folder = scratch.0.to_string_lossy().into_owned();
    let text = scratch.with("notes.gguf", "not a model");
    let broken = scratch.with("broken.toml", "port = \n");
    let unknown = scratch.with("unknown.toml", "prot = 1\n");
    let null = scratch.with("null.toml", "decoder = \"null\"\n");
    refused("tune -m /nowhere.gguf", "model /nowhere.gguf: ");
    refused(&format!("tune -m {text}"), "not a GGUF file");
    refused("tune --config /nowhere/cllm.toml", "--config: /nowhere/cllm.toml: ");
    refused(&format!("tune --config {folder}"), "--config: ");
    refused(&format!("tune --config {broken}"), "broken.toml line 1");
    refused(&format!("tune --config {unknown}"), "prot in ");
    refused(&format!("tune --config {null}"), "only llama.cpp can be tuned, not the null decoder");
    refused("tune --rounds 2", "--rounds");
    refused("tune --prompt-tokens 0", "--prompt-tokens");
    refused("tune --threads 4096", "--threads");
    refused("tune --port 1", "--port");
    let embeddings = cllm("tune", &[("CLLM_EMBEDDINGS", "true")]).output().unwrap();
    assert!(String::from_utf8_lossy(&embeddings.stderr).contains("CLLM_EMBEDDINGS"), "{embeddings:?}");
    let bert = scratch.0.join("bert.gguf").to_string_lossy().into_owned();
    done(&format!("synth --shape bert-tiny --quant q8_0 -o {bert}"));
    refused(&format!("tune -m {bert}"), "it makes no text, only embeddings");
    assert_eq!(scratch.files(), ["bert.gguf", "broken.toml", "notes.gguf", "null.toml", "unknown.toml"]);
}

#[test]
fn ctrl_c_prints_what_was_measured_and_leaves_the_file_alone() {
    let scratch = Scratch::new("stopped");
    let theirs = "port = 9191\nstep-tokens = 100\n";
    let file = scratch.with("cllm.toml", theirs);
    for to_file in [true, false] {
        let config = if to_file { format!("--config {file}") } else { String::new() };
        let mut child = cllm(&format!("tune {LITTLE} --rounds 1000 {config}"), &[]).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let round = lines.find(|line| line.starts_with("step-tokens, round 2 of 1000: "));
        assert!(round.is_some_and(|line| line.ends_with(" tok/s")), "no such line");
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        let rest: Vec<String> = lines.collect();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let last = rest.last().unwrap();
        assert!(last.starts_with("cllm: tune: stopped by Ctrl-C"), "{rest:?}");
        assert_eq!(last.contains("cllm.toml is as it was"), to_file, "{rest:?}");
        let text = stdout(&output);
        assert!(text.contains("PARTIAL: stopped by Ctrl-C") && text.contains("step-tokens: unfinished"), "{text}");
        assert!(text.contains("measured (default)"), "{text}");
        // The output has only comments, so that saved as a file it sets nothing.
        assert!(to_file || text.lines().all(|line| line.starts_with("# tune: ")), "{text}");
        assert_eq!(std::fs::read_to_string(Path::new(&file)).unwrap(), theirs);
    }
    assert_eq!(scratch.files(), ["cllm.toml"]);
}
