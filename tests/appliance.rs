//! An executable that carries its model: written, described, taken apart, served from, and refused when damaged.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Damage done to the bytes of an appliance.
type Change = Box<dyn FnOnce(&mut Vec<u8>)>;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vendor/model/cllm-tiny.gguf");

fn run(program: impl AsRef<Path>, args: &[&str]) -> Output {
    let mut command = Command::new(program.as_ref());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CLLM_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null()).output().expect("it runs")
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn refused(output: &Output, named: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.lines().count() == 1 && stderr.contains(named), "doesn't say {named:?}: {stderr}");
}

/// A folder with an appliance in it, removed at the end.
struct World(PathBuf);

impl World {
    fn new(name: &str) -> World {
        let folder = std::env::temp_dir().join(format!("cllm-appliance-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let world = World(folder);
        std::fs::write(world.0.join("cllm.toml"), "max-tokens = 77\n").expect("written");
        said(&run(env!("CARGO_BIN_EXE_cllm"), &world.bundle()));
        world
    }

    fn text(&self, name: &str) -> &'static str {
        self.0.join(name).to_str().expect("UTF-8").to_owned().leak()
    }

    fn bundle(&self) -> [&'static str; 7] {
        ["bundle", "-m", MODEL, "--config", self.text("cllm.toml"), "-o", self.text("appliance")]
    }

    fn appliance(&self) -> PathBuf {
        self.0.join("appliance")
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("a folder");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    /// Where the model and the manifest begin.
    fn places(&self) -> (usize, usize) {
        let bytes = std::fs::read(self.appliance()).expect("read");
        let model = std::fs::read(MODEL).expect("read");
        let at = (0..bytes.len()).step_by(65_536).find(|at| bytes[*at..].starts_with(&model)).expect("page-aligned");
        (at, at + model.len() + "max-tokens = 77\n".len())
    }

    /// A copy whose bytes `change` has changed.
    fn damaged(&self, change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
        let (path, mut bytes) = (self.0.join("damaged"), std::fs::read(self.appliance()).expect("read"));
        change(&mut bytes);
        std::fs::copy(self.appliance(), &path).expect("copied");
        std::fs::write(&path, bytes).expect("written");
        path
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn it_gives_back_what_it_carries_and_is_not_replaced_unasked() {
    let world = World::new("parts");
    assert!(said(&run(world.appliance(), &["info"])).contains("cllm-tiny"));
    assert!(said(&run(env!("CARGO_BIN_EXE_cllm"), &["bundle", "--verify", world.text("appliance")])).contains("model"));
    refused(&run(world.appliance(), &["extract", "-o", world.text("")]), "cllm.toml: it exists");
    said(&run(world.appliance(), &["extract", "--force", "-o", world.text("")]));
    assert!(std::fs::read(world.0.join("model.gguf")).expect("extracted") == std::fs::read(MODEL).expect("read"));
    refused(&run(env!("CARGO_BIN_EXE_cllm"), &world.bundle()), "--force");
    let forced = [&world.bundle()[..], &["--force"]].concat();
    said(&run(env!("CARGO_BIN_EXE_cllm"), &forced));
    let again = ["bundle", "-m", MODEL, "-o", world.text("second")];
    said(&run(world.appliance(), &again));
    refused(&run(env!("CARGO_BIN_EXE_cllm"), &["extract"]), "carries nothing");
    assert!(world.files().iter().all(|name| !name.ends_with(".partial")), "{:?}", world.files());
}

#[test]
fn its_configuration_is_weaker_than_flags_and_names_no_files() {
    let world = World::new("config");
    assert!(said(&run(world.appliance(), &["--check"])).contains("max-tokens = 77"));
    assert!(said(&run(world.appliance(), &["serve", "--check", "--max-tokens", "5"])).contains("max-tokens = 5"));
    std::fs::write(world.0.join("cllm.toml"), "model = \"other.gguf\"\n").expect("written");
    let forced = [&world.bundle()[..], &["--force"]].concat();
    refused(&run(env!("CARGO_BIN_EXE_cllm"), &forced), "model in");
}

#[test]
fn it_says_what_the_plain_model_says() {
    let world = World::new("generate");
    let (model, carries) = (world.text("random.gguf"), world.text("random"));
    said(&run(env!("CARGO_BIN_EXE_cllm"), &["synth", "--shape", "tiny", "-o", model]));
    said(&run(env!("CARGO_BIN_EXE_cllm"), &["bundle", "-m", model, "-o", carries]));
    let words = ["generate", "--temperature", "0", "--max-tokens", "12", "Once upon a time"];
    let plain = said(&run(env!("CARGO_BIN_EXE_cllm"), &[&words[..], &["-m", model]].concat()));
    assert_eq!(said(&run(carries, &words)), plain);
    assert_ne!(said(&run(env!("CARGO_BIN_EXE_cllm"), &words)), plain, "the built-in model says something else");
}

#[test]
fn cut_off_or_altered_it_refuses_to_start() {
    let world = World::new("damage");
    let (model, manifest) = world.places();
    let cases: [(&str, Change); 6] = [
        ("manifest", Box::new(|bytes| bytes.truncate(bytes.len() - 1))),
        ("manifest", Box::new(move |bytes| bytes.truncate(model + 1_000))),
        ("manifest", Box::new(move |bytes| bytes[manifest + 20] ^= 1)),
        ("manifest", Box::new(|bytes| bytes.extend(*b"more"))),
        ("model", Box::new(move |bytes| bytes[model + 100_000] ^= 1)),
        ("configuration", Box::new(move |bytes| bytes[manifest - 2] ^= 1)),
    ];
    for (named, change) in cases {
        let damaged = world.damaged(change);
        refused(&run(&damaged, &["generate", "--max-tokens", "1", "Hi"]), named);
        refused(&run(env!("CARGO_BIN_EXE_cllm"), &["bundle", "--verify", world.text("damaged")]), named);
        // Its model is compared while it is loaded, and nobody is told where it listens before that is done.
        refused(&run(&damaged, &["serve", "--port", "0", "--log-level", "error"]), named);
        refused(&run(&damaged, &["serve", "--port", "0", "--decoder", "null", "--log-level", "error"]), named);
    }
}

#[test]
fn what_was_altered_is_not_extracted() {
    let world = World::new("extract");
    let (model, _) = world.places();
    let damaged = world.damaged(|bytes| bytes[model + 100_000] ^= 1);
    refused(&run(&damaged, &["extract", "--force", "-o", world.text("")]), "model");
    let left: Vec<String> =
        world.files().into_iter().filter(|name| name.contains("model") || name.contains("partial")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The weights are mapped from the executable's own pages.
#[test]
fn the_model_is_mapped_from_the_executable() {
    let world = World::new("mapped");
    let (model, _) = world.places();
    let mut server = Command::new(world.appliance())
        .args(["--port", "0"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let log = BufReader::new(server.stderr.take().expect("piped"));
    let ready = log.lines().map_while(Result::ok).any(|line| line.contains("http://") || line.contains("ready"));
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", server.id())).expect("maps");
    server.kill().expect("ended");
    server.wait().expect("ended");
    assert!(ready, "it never said where it listens");
    let path = world.appliance();
    let from_model = |line: &str| {
        let offset = line.split(' ').nth(2).and_then(|hex| usize::from_str_radix(hex, 16).ok());
        line.contains(" r--s ") && line.ends_with(path.to_str().expect("UTF-8")) && offset >= Some(model)
    };
    assert!(maps.lines().any(from_model), "{maps}");
}
