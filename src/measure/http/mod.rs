//! `cllm bench http`: a load generator for servers that generate text, cllm's or any other.
//!
//! ```text
//! target    the server: its address, its API, what its answers say; wire: HTTP to it
//! workload  the requests, and when they are sent
//! drive     the closed and the open loop
//! measure   histograms, failures by kind; report: text, JSON
//! ```
//!
//! Each client is a thread with its own connection. Two servers (`--vs`) are driven in turn with the same requests.

mod drive;
mod failure;
mod measure;
mod report;
mod target;
mod wire;
mod workload;

use std::fs;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::witness::Witness;
use crate::types::StartupError;
use crate::types::limits::BENCH_REQUESTS_MAX;
use drive::{LiveCounts, Load, LoadPhase, LoadSettings, drive};
use failure::RequestFailure;
use report::{HttpReport, Level};
use target::{Api, Ask, Target};
use wire::{HttpWire, Until};
use workload::{BenchDice, HttpWorkload, Length};

/// Put load on a server and measure it: ours or any other
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Lengths: 128, 64..256 (any of these) or ~128 (exponential with this mean).

Examples:
  cllm bench http                                 cllm on its usual port
  cllm bench http --concurrency 1,8,32 --stream   Three levels, one by one
  cllm bench http --rate 2,4,8 --stream           Requests at a rate
  cllm bench http --vs http://127.0.0.1:8000      Another server beside it")]
pub struct HttpArgs {
    /// The server, or one of its routes
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Another server, which gets the same requests in turn
    #[arg(long, value_name = "URL")]
    pub vs: Option<String>,
    /// completions, chat or native [default: by the server]
    #[arg(long, value_enum, hide_possible_values = true, value_name = "API")]
    pub api: Option<Api>,
    /// The model's name [default: the server's first]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// A key, if the server requires one
    #[arg(long, value_name = "KEY", env = "OPENAI_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// Clients at once; a list is run one by one
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "8",
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub concurrency: Vec<u16>,
    /// Requests a second, at random times, instead of clients
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = rate)]
    pub rate: Vec<f64>,
    /// Connections that --rate may use
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub connections: u16,
    /// Requests for each level [default: 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=BENCH_REQUESTS_MAX))]
    pub requests: Option<u32>,
    /// Most seconds for each level
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub duration: Option<f64>,
    /// Tokens of a prompt, roughly
    #[arg(long, value_name = "LENGTH", default_value = "128")]
    pub prompt_tokens: Length,
    /// Tokens to generate
    #[arg(long, value_name = "LENGTH", default_value = "64")]
    pub max_tokens: Length,
    /// Tokens that all prompts share at their beginning
    #[arg(long, value_name = "TOKENS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    pub shared_prefix: u32,
    /// Ask for events, which also gives TTFT and ITL
    #[arg(long)]
    pub stream: bool,
    /// Temperature
    #[arg(long, value_name = "T", default_value_t = 0.0, value_parser = temperature)]
    pub temp: f64,
    /// Don't send ignore_eos, which some servers refuse
    #[arg(long)]
    pub respect_eos: bool,
    /// Requests before counting begins
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(0..=10_000))]
    pub warmup: u16,
    /// Rounds for each level [default: 1; with --vs 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub rounds: Option<u16>,
    /// Seconds one request may take
    #[arg(long, value_name = "S", default_value_t = 120.0, value_parser = seconds)]
    pub timeout: f64,
    /// Seed of prompts, lengths and arrivals
    #[arg(long, value_name = "SEED", default_value_t = 2026)]
    pub seed: u64,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
    /// Also write the JSON to this file, after each level
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.001..=1e6).contains(&rate) { Ok(rate) } else { Err("not from 0.001 to 1000000".to_owned()) }
}

fn temperature(text: &str) -> Result<f64, String> {
    let temperature: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=100.0).contains(&temperature) { Ok(temperature) } else { Err("not from 0 to 100".to_owned()) }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.001..=1e6).contains(&seconds) { Ok(seconds) } else { Err("not from 0.001 to 1000000".to_owned()) }
}

/// A server that has answered, and the average number of words in a token of its vocabulary.
struct ReadyTarget {
    target: Target,
    words_per_token: f64,
}

/// Measures and prints the report. The first Ctrl-C ends it with the results so far, a second one at once.
///
/// # Errors
/// A server can't be reached or refuses, the report can't be written, or no request was answered.
pub fn run(args: &HttpArgs, witness: &mut Witness) -> Result<(), StartupError> {
    let unusable = |name: &str, reason: String| StartupError::Config { name: name.to_owned(), reason };
    let urls: Vec<(&str, &String)> = [("--url", Some(&args.url)), ("--vs", args.vs.as_ref())]
        .into_iter()
        .filter_map(|(n, u)| Some((n, u?)))
        .collect();
    let mut targets = Vec::new();
    for (name, url) in &urls {
        let (mut target, route_api) =
            Target::parse(url, args.api_key.clone()).map_err(|reason| unusable(name, format!("{url}: {reason}")))?;
        target.model.clone_from(&args.model);
        targets.push((target, args.api.or(route_api)));
    }
    if let Some(path) = &args.out {
        fs::write(path, "").map_err(|error| unusable("--out", format!("{}: {error}", path.display())))?;
    }
    let stop = super::stop_on_ctrl_c()?;

    let settings = settings(args);
    let mut ready = Vec::new();
    for ((mut target, api), (name, url)) in targets.into_iter().zip(&urls) {
        let refused = |failure: RequestFailure| unusable(name, format!("{url}: {failure}"));
        target.discover(api, settings.timeout.min(Duration::from_secs(10)), &stop).map_err(refused)?;
        let words_per_token = calibrate(&target, &settings, &stop).map_err(refused)?;
        ready.push(ReadyTarget { target, words_per_token });
    }
    let mut report = HttpReport {
        servers: ready
            .iter()
            .map(|server| (server.target.url.clone(), described(&server.target, args.stream)))
            .collect(),
        workload: workload_json(args, &settings),
        words: workload_words(args),
        levels: Vec::new(),
        partial: None,
    };
    let loads: Vec<Load> = if args.rate.is_empty() {
        args.concurrency.iter().map(|clients| Load::Closed { clients: usize::from(*clients) }).collect()
    } else {
        let connections = usize::from(args.connections);
        args.rate.iter().map(|rate| Load::Open { rate: *rate, connections }).collect()
    };
    let (mut lost, mut unwritten) = (None, None);
    witness.begin(Vec::new())?;
    for load in loads {
        let begun_us = witness.now_us();
        lost = level(args, &settings, &ready, load, &mut report, &stop);
        witness.mark(|| load.words(), begun_us);
        if stop.load(Ordering::Relaxed) {
            report.partial = Some("stopped by Ctrl-C".to_owned());
        }
        if let Some((url, failure)) = &lost {
            report.partial = Some(format!("{url} is gone, {failure}"));
        }
        if let Some(path) = &args.out
            && let Err(error) = fs::write(path, report.json())
        {
            // The results are still printed.
            unwritten = Some(unusable("--out", format!("{}: {error}", path.display())));
        }
        if report.partial.is_some() {
            break;
        }
    }
    witness.end();
    witness.print(&if args.json { report.json() } else { report.text() })?;
    match (lost, report.answered(), report.example()) {
        (Some((url, failure)), ..) => Err(unusable(&url, failure.to_string())),
        (None, 0, Some(example)) => Err(unusable(&args.url, format!("no request was answered: {example}"))),
        _ => unwritten.map_or(Ok(()), Err),
    }
}

/// All rounds of one level on all servers, in turn. A different server is first in each round. `Some`: the URL of a server
/// that is gone, and how its connection failed.
fn level(
    args: &HttpArgs,
    settings: &LoadSettings,
    ready: &[ReadyTarget],
    load: Load,
    report: &mut HttpReport,
    stop: &AtomicBool,
) -> Option<(String, RequestFailure)> {
    let rounds = u64::from(args.rounds.unwrap_or(if ready.len() == 2 { 3 } else { 1 }));
    report.levels.push(Level { load, rounds: vec![Vec::new(); ready.len()] });
    let number = report.levels.len() as u64;
    for round in 0..=rounds {
        let mut order: Vec<usize> = (0..ready.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for server in order {
            if stop.load(Ordering::Relaxed) {
                return None;
            }
            let ReadyTarget { target, words_per_token } = &ready[server];
            let mut phase = LoadPhase { target, load, salt: (number << 32) | round, words_per_token: *words_per_token };
            let warm_up = round == 0;
            if warm_up && args.warmup == 0 {
                continue;
            }
            let settings = if warm_up {
                phase.load = Load::Closed { clients: usize::from(args.warmup).min(4) };
                &LoadSettings { requests: u64::from(args.warmup), workload: settings.workload.clone(), ..*settings }
            } else {
                settings
            };
            let what = if warm_up { "warming up".to_owned() } else { load.words() };
            let title = match (ready.len(), rounds) {
                (1, 1) => what,
                (1, _) => format!("{what}, round {round}"),
                _ => format!("{} {what}, round {round}", if server == 0 { "A" } else { "B" }),
            };
            let live = LiveCounts::default();
            let watch = |over: &AtomicBool| progress(&title, settings, &live, over);
            let (measured, gone) = drive(settings, &phase, &live, stop, watch);
            if !warm_up {
                report.levels[number as usize - 1].rounds[server].push(measured);
            }
            if let Some(failure) = gone {
                return Some((target.url.clone(), failure));
            }
        }
    }
    None
}

fn settings(args: &HttpArgs) -> LoadSettings {
    LoadSettings {
        workload: HttpWorkload {
            prompt: args.prompt_tokens,
            output: args.max_tokens,
            shared_prefix: args.shared_prefix as usize,
            seed: args.seed,
        },
        requests: args.requests.map_or(if args.duration.is_some() { BENCH_REQUESTS_MAX as u64 } else { 64 }, u64::from),
        duration: args.duration.map(Duration::from_secs_f64),
        timeout: Duration::from_secs_f64(args.timeout),
        temperature: args.temp,
        ignore_eos: !args.respect_eos,
        stream: args.stream,
    }
}

/// Sends a short and a long request, and computes from the answers' token counts how many words make a token. For a server
/// that doesn't count tokens, one word counts as one token. If the server refuses, the error is reported here, before
/// anything is measured.
fn calibrate(target: &Target, settings: &LoadSettings, stop: &AtomicBool) -> Result<f64, RequestFailure> {
    const WORDS: [usize; 2] = [8, 72];
    let mut wire = HttpWire::new(&target.addr);
    let mut counted = Vec::new();
    for words in WORDS {
        let prompt = workload::words(words, &mut BenchDice::new(settings.workload.seed, 0, words as u64));
        let ask =
            Ask { prompt, max_tokens: 1, temperature: 0.0, ignore_eos: settings.ignore_eos, stream: settings.stream };
        let until = Until { deadline: Instant::now() + settings.timeout, stop };
        counted.extend(target.ask(&mut wire, &ask, until)?.prompt_tokens);
    }
    match counted[..] {
        [few, many] if many > few => Ok((WORDS[1] - WORDS[0]) as f64 / (many - few) as f64),
        _ => Ok(1.0),
    }
}

fn described(target: &Target, stream: bool) -> String {
    let model = target.model.as_deref().unwrap_or("model unnamed");
    format!("{model}, {}{}", target.path(stream), if stream { ", streaming" } else { "" })
}

fn workload_words(args: &HttpArgs) -> String {
    let amount = match (args.requests, args.duration) {
        (None, None) => "64 requests a level".to_owned(),
        (Some(n), None) => format!("{n} requests a level"),
        (None, Some(s)) => format!("{s} s a level"),
        (Some(n), Some(s)) => format!("{n} requests or {s} s a level"),
    };
    let shared = if args.shared_prefix > 0 { format!("{} shared + ", args.shared_prefix) } else { String::new() };
    let from = if args.rate.is_empty() { "sent" } else { "due" };
    format!(
        "{amount}, seed {}\nprompts of {shared}{} tokens, {} generated\nlatencies count from when a request was {from}",
        args.seed, args.prompt_tokens, args.max_tokens
    )
}

fn workload_json(args: &HttpArgs, settings: &LoadSettings) -> serde_json::Value {
    json!({
        "requests": args.requests.or(args.duration.is_none().then_some(64)),
        "duration_s": args.duration,
        "prompt_tokens": args.prompt_tokens.to_string(),
        "max_tokens": args.max_tokens.to_string(),
        "shared_prefix": args.shared_prefix,
        "stream": args.stream,
        "temperature": args.temp,
        "ignore_eos": settings.ignore_eos,
        "timeout_s": args.timeout,
        "seed": args.seed,
        "latencies_count_from": if args.rate.is_empty() { "sent" } else { "due" },
    })
}

/// Updates one line on a terminal four times a second until the phase is over.
fn progress(title: &str, settings: &LoadSettings, live: &LiveCounts, over: &AtomicBool) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let started = Instant::now();
    while !over.load(Ordering::Relaxed) {
        let count = |n: &std::sync::atomic::AtomicU64| n.load(Ordering::Relaxed);
        let elapsed = started.elapsed().as_secs_f64();
        let of = if settings.requests < BENCH_REQUESTS_MAX as u64 {
            format!("/{}", settings.requests)
        } else {
            String::new()
        };
        let line = format!(
            "{title}: {}{of} answered, {} failed, {} under way, {:.0} tokens/s, {elapsed:.0} s",
            count(&live.done),
            count(&live.failed),
            live.under_way.load(Ordering::Relaxed),
            count(&live.tokens) as f64 / elapsed.max(1e-3),
        );
        eprint!("\r\x1b[K{}", line.chars().take(79).collect::<String>());
        std::thread::sleep(Duration::from_millis(250));
    }
    eprint!("\r\x1b[K");
}
