//! An executable that carries its model: written, described, extracted, served from, and refused when it is damaged.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use clap::CommandFactory;
use cllm::appliance::BuiltFor;

/// A change to the bytes of an appliance.
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

/// A folder with an appliance, removed at the end.
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

    /// The offsets of the model and of the manifest.
    fn places(&self) -> (usize, usize) {
        let bytes = std::fs::read(self.appliance()).expect("read");
        let model = std::fs::read(MODEL).expect("read");
        let at = (0..bytes.len()).step_by(65_536).find(|at| bytes[*at..].starts_with(&model)).expect("page-aligned");
        (at, at + model.len() + "max-tokens = 77\n".len())
    }

    /// A copy of the appliance, changed by `change`.
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
        // The model is compared with its SHA-256 while it is loaded. The address is logged only after that.
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

/// Copies `from` to `to`, and replaces the stamp: as if compiled for `cpu` with `features`.
fn stamped(from: &Path, to: &Path, cpu: &str, features: &str) {
    let is = BuiltFor::read(from).expect("read").expect("it is stamped");
    let was = format!("{}\0{}\0", is.cpu, is.features.join(","));
    let mut bytes = std::fs::read(from).expect("read");
    let at = bytes.windows(was.len()).position(|window| window == was.as_bytes()).expect("the stamp");
    let mut now = format!("{cpu}\0{features}\0").into_bytes();
    now.resize(was.len(), 0);
    bytes[at..at + was.len()].copy_from_slice(&now);
    std::fs::create_dir_all(to.parent().expect("a folder")).expect("folders");
    std::fs::copy(from, to).expect("copied");
    std::fs::write(to, bytes).expect("written");
}

#[test]
fn the_program_in_front_is_the_one_that_was_asked_for() {
    let world = World::new("program");
    let own = Path::new(env!("CARGO_BIN_EXE_cllm"));
    let (here, beside) = (world.0.join("release/cllm"), world.0.join("portable/release/cllm"));
    std::fs::create_dir_all(world.0.join("release")).expect("a folder");
    std::fs::copy(own, &here).expect("copied");
    let output = world.text("portable-appliance");
    let portable = ["bundle", "--portable", "-m", MODEL, "-o", output, "--force"];
    let named = |program: &'static str| [&portable[..], &["--program", program]].concat();
    let is_portable = BuiltFor::read(own).expect("read").expect("it is stamped").is_portable();
    // Only a program of `make portable` helps.
    match is_portable {
        true => drop(said(&run(&here, &portable))),
        false => refused(&run(&here, &portable), "`make portable`"),
    }
    stamped(own, &world.0.join("other"), "native", "sse,avx512f");
    refused(&run(&here, &named(world.text("other"))), "compiled for the CPU of one machine; `make portable`");
    refused(&run(&here, &named(MODEL)), "isn't cllm");
    refused(&run(&here, &named(world.text("nowhere"))), "nowhere");
    // A program where `make portable` puts it is found.
    stamped(own, &beside, "x86-64-v3", "sse,avx2");
    if !is_portable {
        assert!(said(&run(&here, &portable)).contains("compiled for x86-64-v3"));
        assert_eq!(BuiltFor::read(Path::new(output)).expect("read").expect("stamped").features, ["sse", "avx2"]);
    }
    assert!(said(&run(own, &named(beside.to_str().expect("UTF-8").to_owned().leak()))).contains("x86-64-v3"));
    assert!(said(&run(own, &["bundle", "--verify", output])).contains("model"));
    assert!(said(&run(output, &["info"])).contains("cllm-tiny"));
}

/// On a terminal, which `script` emulates.
#[test]
fn bundling_shows_how_far_it_is() {
    let world = World::new("progress");
    let line = format!("{} bundle -m {MODEL} -o {}", env!("CARGO_BIN_EXE_cllm"), world.text("second"));
    let shown = said(&run("/usr/bin/script", &["-qec", line.leak(), "/dev/null"]));
    assert!(shown.contains("MiB of "), "{shown:?}");
}

#[test]
fn every_subcommand_works_from_it() {
    let world = World::new("subcommands");
    let (bundled, synthetic, folder) = (world.text("second"), world.text("synth.gguf"), world.text("out"));
    let bench = "stages --only 0,8 --rounds 1 --requests 4 --max-tokens 4";
    std::fs::create_dir_all(folder).expect("a folder");
    for command in cllm::cli::Cli::command().get_subcommands() {
        let lines = match command.get_name() {
            // Other tests serve from an appliance.
            "serve" => vec!["serve --check".to_owned()],
            "generate" => vec!["generate --max-tokens 2 Hi".to_owned()],
            "encode" => vec!["encode Hi".to_owned()],
            "decode" => vec!["decode 17 18".to_owned()],
            "info" => vec!["info".to_owned()],
            "synth" => vec![format!("synth --shape tiny -o {synthetic}")],
            "install" => vec![format!("install --systemd -o {folder}")],
            "bench" => vec![
                format!("bench {bench}"),
                "bench decode --batch 1 --rounds 1 --prompt-tokens 8 --max-tokens 2 -t 1".to_owned(),
            ],
            "bundle" => vec![format!("bundle -o {bundled}")],
            "extract" => vec![format!("extract -o {folder}")],
            "profile" => vec![format!("profile --out {folder} -- {bench}")],
            "completions" => vec!["completions bash".to_owned()],
            "prompts" => vec![format!("prompts list {folder}")],
            // This command needs a network or takes minutes, so only its help is run.
            name @ ("pull" | "tune") => vec![format!("{name} --help")],
            other => panic!("{other} isn't tried"),
        };
        for line in lines {
            let output = run(world.appliance(), &line.split(' ').collect::<Vec<_>>());
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
            assert!(!output.stdout.is_empty(), "{line} prints nothing");
        }
    }
}

/// A server that has generated a token. Killed when it is dropped.
struct Serving(Child);

impl Serving {
    fn start(program: &Path, args: &[&str]) -> Serving {
        let mut command = Command::new(program);
        command.args(["--port", "0", "--log-format", "json"]).args(args).stderr(Stdio::piped()).stdout(Stdio::null());
        let mut server = Serving(command.spawn().expect("it starts"));
        let mut log = BufReader::new(server.0.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let address =
            log.find_map(|line| Some(line.split_once("listening on http://")?.1.split('"').next()?.to_owned()));
        let mut stream = TcpStream::connect(address.expect("it says where it listens")).expect("it listens");
        let body = r#"{"prompt": "Hi", "max_tokens": 1}"#;
        let head = format!("POST /generate HTTP/1.0\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(head.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        assert!(answer.contains("generated_tokens"), "{answer}");
        server
    }

    /// The read-only shared mappings of `path` from `offset` on, with the lines of `smaps` about each.
    fn mapped(&self, path: &Path, offset: usize) -> Vec<String> {
        let smaps = std::fs::read_to_string(format!("/proc/{}/smaps", self.0.id())).expect("smaps");
        let is_head = |line: &str| line.split('-').next().is_some_and(|at| usize::from_str_radix(at, 16).is_ok());
        let mut mappings: Vec<String> = Vec::new();
        for line in smaps.lines() {
            match mappings.last_mut() {
                Some(last) if !is_head(line) => *last += &format!("\n{line}"),
                _ => mappings.push(line.to_owned()),
            }
        }
        let of_weights = |mapping: &String| {
            let head = mapping.lines().next().unwrap_or_default();
            let at = head.split(' ').nth(2).and_then(|hex| usize::from_str_radix(hex, 16).ok());
            head.contains(" r--s ") && head.ends_with(path.to_str().expect("UTF-8")) && at >= Some(offset)
        };
        mappings.retain(of_weights);
        mappings
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The sum of `what` in `smaps` over all mappings, in KiB.
fn kib(mappings: &[String], what: &str) -> u64 {
    let lines = mappings.iter().flat_map(|mapping| mapping.lines());
    let numbers = lines.filter_map(|line| line.strip_prefix(what)?.split_whitespace().next()?.parse::<u64>().ok());
    numbers.sum()
}

/// The weights are mapped from the executable's pages, which all processes of this executable share.
#[test]
fn two_copies_share_the_weights_in_the_executable() {
    let world = World::new("mapped");
    let (model, _) = world.places();
    let path = world.appliance();
    let copies = [0, 1].map(|_| Serving::start(&path, &["--no-repack"]));
    let weights = std::fs::metadata(MODEL).expect("a model").len() / 1_024;
    for copy in &copies {
        let mappings = copy.mapped(&path, model);
        let (resident, shared) = (kib(&mappings, "Rss:"), kib(&mappings, "Shared_Clean:"));
        // Generating a token reads at least half of the weights.
        assert!(resident >= weights / 2, "{resident} of {weights} KiB: {mappings:#?}");
        assert_eq!(shared, resident, "{mappings:#?}");
    }
}
