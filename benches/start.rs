//! How long a server takes to become ready, and how much memory it keeps: an appliance compared with a plain file.
//!
//! `cargo bench --bench start -- [--model FILE] [--rounds N]`
//!
//! Without `--model` it makes the Qwen3-0.6B shape in Q4_K_M under `target/`. All variants start in turn within a round,
//! with the file in the page cache; medians and the ratio of each round are printed. Memory is read when the server is
//! ready, and again half a second after an answer, when the server has given back the pages of the file; `at most` is the
//! peak until then. State your machine beside the figures; docs/appliance.md has those of two shared cores.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

#[path = "support/client.rs"]
#[allow(dead_code)]
mod client;

use client::{Client, Server};

const MIB: f64 = 1_048_576.0;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|i| args.get(i + 1)).cloned();
    let rounds: usize = value("--rounds").map_or(7, |n| n.parse().expect("--rounds takes a number"));
    let model = value("--model").unwrap_or_else(qwen_shape);
    let appliance = target("start-appliance");
    cllm(&["bundle", "--force", "-m", &model, "-o", &appliance]);
    println!("model {model}, {rounds} rounds, load {}", load());

    let own = env!("CARGO_BIN_EXE_cllm");
    let (plain, carried) = (vec!["-m", model.as_str()], Vec::new());
    for (heading, flags) in [
        ("2,048 cells", &["-c", "2048"][..]),
        ("2,048 cells, --no-repack", &["-c", "2048", "--no-repack"]),
        ("context by default", &[]),
    ] {
        let [plain, carried] = [&plain, &carried].map(|model| [model, flags].concat());
        let runs: Vec<[Run; 2]> =
            (0..=rounds).map(|_| [Run::of(own, &plain), Run::of(&appliance, &carried)]).skip(1).collect();
        println!("\n{heading}");
        let column = |i: usize, what: fn(&Run) -> f64| runs.iter().map(|pair| what(&pair[i])).collect::<Vec<f64>>();
        let ratio =
            |what: fn(&Run) -> f64| runs.iter().map(|pair| what(&pair[1]) / what(&pair[0])).collect::<Vec<f64>>();
        row("ready, plain file", &column(0, |run| run.ready_s), "s");
        row("ready, appliance", &column(1, |run| run.ready_s), "s");
        row("appliance / plain", &ratio(|run| run.ready_s), "");
        row("resident when ready, plain file", &column(0, |run| run.when_ready), "MiB");
        row("resident, plain file", &column(0, |run| run.resident), "MiB");
        row("resident, appliance", &column(1, |run| run.resident), "MiB");
        row("appliance / plain", &ratio(|run| run.resident), "");
        row("at most, plain file", &column(0, |run| run.at_most), "MiB");
        row("at most, appliance", &column(1, |run| run.at_most), "MiB");
    }

    println!("\nthe built-in model");
    let runs: Vec<Run> = (0..=rounds).map(|_| Run::of(own, &[])).skip(1).collect();
    row("ready", &runs.iter().map(|run| run.ready_s).collect::<Vec<_>>(), "s");
    row("resident", &runs.iter().map(|run| run.resident).collect::<Vec<_>>(), "MiB");

    println!("\ntwo copies of the appliance, --no-repack");
    let copies = [0, 1].map(|_| Server::start_program(&appliance, &["-c", "2048", "--no-repack"]));
    copies.iter().for_each(answer);
    for server in &copies {
        let (resident, shared) = mapped(server, &appliance);
        println!("  of the mapped weights {resident:.0} MiB are resident, {shared:.0} MiB of them shared");
    }
}

/// The measurements of one start.
struct Run {
    ready_s: f64,
    /// MiB in memory before the first request. Weights that are used as they are in the file are not in memory yet.
    when_ready: f64,
    /// MiB in memory after an answer.
    resident: f64,
    /// The peak until then, in MiB.
    at_most: f64,
}

impl Run {
    fn of(program: &str, args: &[&str]) -> Run {
        let started = Instant::now();
        let server = Server::start_program(program, args);
        let ready_s = started.elapsed().as_secs_f64();
        let when_ready = memory(&server, "VmRSS:");
        answer(&server);
        Run { ready_s, when_ready, resident: memory(&server, "VmRSS:"), at_most: memory(&server, "VmHWM:") }
    }
}

/// A number of the process' status, in MiB.
fn memory(server: &Server, name: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("on Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a size");
    kib(line) * 1_024.0 / MIB
}

/// Lets the server answer once, and waits until it has freed the memory for that.
fn answer(server: &Server) {
    let body = json!({"prompt": "Once upon a time", "max_tokens": 4, "temperature": 0, "ignore_eos": true});
    Client::connect(&server.addr).generate(&body);
    std::thread::sleep(Duration::from_millis(500));
}

/// Resident and shared MiB of the read-only shared mappings of `path`. The program's own parts are mapped differently.
fn mapped(server: &Server, path: &str) -> (f64, f64) {
    let smaps = std::fs::read_to_string(format!("/proc/{}/smaps", server.pid())).expect("on Linux");
    let (mut is_weights, mut resident, mut shared) = (false, 0.0, 0.0);
    for line in smaps.lines() {
        match line.split_once(':') {
            Some(("Rss", rest)) if is_weights => resident += kib(rest),
            Some(("Shared_Clean" | "Shared_Dirty", rest)) if is_weights => shared += kib(rest),
            _ if line.contains('-') && line.contains(" r--s ") => is_weights = line.ends_with(path),
            _ if line.split('-').next().is_some_and(|start| u64::from_str_radix(start, 16).is_ok()) => {
                is_weights = false
            }
            _ => {}
        }
    }
    (resident * 1_024.0 / MIB, shared * 1_024.0 / MIB)
}

fn kib(text: &str) -> f64 {
    text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

fn qwen_shape() -> String {
    let path = target("qwen3-0.6b-q4_k_m.gguf");
    if !PathBuf::from(&path).exists() {
        cllm(&["synth", "--shape", "qwen3-0.6b", "--quant", "q4_k_m", "-o", &path]);
    }
    path
}

fn target(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target").join(name).display().to_string()
}

fn cllm(args: &[&str]) {
    let status = Command::new(env!("CARGO_BIN_EXE_cllm")).args(args).status();
    assert!(status.is_ok_and(|status| status.success()), "cllm {args:?}");
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}

fn row(name: &str, values: &[f64], unit: &str) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.first().copied().unwrap_or(f64::NAN), sorted.last().copied().unwrap_or(f64::NAN));
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
    println!("  {name:<34}{median:>9.3} {unit:<6} ({low:.3} .. {high:.3})");
}
