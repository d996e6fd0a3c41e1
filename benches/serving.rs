//! How much of llama.cpp's decoding speed the socket delivers, and how much a new request slows the others.
//!
//! `cargo bench --bench serving -- [throughput|threads|stall|prefix|memory|idle|constrained|routes] [--model FILE] [--rounds N] [--requests N]`
//!
//! `routes` serves the built-in model, whose steps are so short that the cost of routes shows. The others make the Qwen3-0.6B
//! shape in Q4_K_M under `target/` unless `--model` names a file. Both variants alternate within a round; medians and the ratio of
//! each round are printed. State your machine beside the figures; those of the README are from two shared cores.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cllm::gguf::GgufFile;
use cllm::llama::attention::IS_OURS;
use cllm::llama::raw::decode::RawThread;
use cllm::llama::{FlashAttention, KvLayout};
use cllm::tokenizer::Tokenizer;
use cllm::types::ModelPlace;
use serde_json::{Value, json};

#[path = "support/client.rs"]
mod client;

use client::{Client, Server};

/// Requests of the workload in DESIGN's stages; `--requests` sets another number.
const REQUESTS: usize = 40;
const CLIENTS: usize = 8;
const PROMPT_TOKENS: usize = 32;
const MAX_TOKENS: usize = 50;
const SEED: u64 = 2026;
/// `routes` sends this many times as many requests, because the built-in model is faster than the shape.
const ROUTES_MORE: usize = 10;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|i| args.get(i + 1)).cloned();
    let rounds = value("--rounds").map_or(7, |n| n.parse().expect("--rounds takes a number"));
    let requests = value("--requests").map_or(REQUESTS, |n| n.parse().expect("--requests takes a number"));
    let model = value("--model").unwrap_or_else(qwen_shape);
    let bench = Bench { texts: Texts::new(&model), model, rounds, requests };
    let all = ["throughput", "threads", "stall", "prefix", "memory", "idle", "constrained", "routes"];
    let chosen: Vec<&str> = all.into_iter().filter(|name| args.iter().any(|arg| arg == name)).collect();
    println!("model {}, seed {SEED}, {rounds} rounds, load {}", bench.model, load());
    for name in if chosen.is_empty() { all.to_vec() } else { chosen } {
        match name {
            "throughput" => bench.throughput(),
            "threads" => bench.threads(),
            "stall" => bench.stall(),
            "prefix" => bench.prefix(),
            "memory" => bench.memory(),
            "constrained" => bench.constrained(),
            "routes" => bench.routes(),
            _ => bench.idle(),
        }
    }
}

struct Bench {
    model: String,
    texts: Texts,
    rounds: usize,
    requests: usize,
}

impl Bench {
    /// Tokens a second of the raw loop and over HTTP, in turn.
    fn throughput(&self) {
        let cores = cores();
        let layout = if IS_OURS { KvLayout::Shares } else { KvLayout::Separate };
        let flash = FlashAttention::Auto;
        let raw = RawThread::start(&ModelPlace::at(&self.model), CLIENTS, 512, &cores, flash, layout);
        let server = Server::start(&["-m", &self.model, "-c", "4096", "-t", &cores.len().to_string()]);
        let (mut raw_rates, mut http_rates) = (Vec::new(), Vec::new());
        for round in 0..=self.rounds {
            let prompts: Vec<_> =
                (0..self.requests).map(|i| self.texts.prompt(PROMPT_TOKENS, round * 1_000 + i)).collect();
            let started = Instant::now();
            let tokens: usize = prompts
                .chunks(CLIENTS)
                .map(|wave| raw.generate(wave.iter().map(|(_, ids)| ids.clone()).collect(), MAX_TOKENS))
                .sum();
            let raw_rate = tokens as f64 / started.elapsed().as_secs_f64();
            let http_rate = http_rate(&server, prompts.iter().map(|(text, _)| text.clone()).collect());
            // Round 0 warms up.
            if round > 0 {
                raw_rates.push(raw_rate);
                http_rates.push(http_rate);
            }
        }
        let ratios: Vec<f64> = http_rates.iter().zip(&raw_rates).map(|(http, raw)| http / raw).collect();
        println!(
            "\n{} requests, {CLIENTS} at once, {PROMPT_TOKENS} prompt tokens, {MAX_TOKENS} generated, greedy",
            self.requests
        );
        row("raw FFI loop", &raw_rates, "tok/s");
        row("through HTTP", &http_rates, "tok/s");
        row("HTTP / raw", &ratios, "");
    }

    /// Tokens a second with one compute thread and with two, in turn.
    fn threads(&self) {
        let one = Server::start(&["-m", &self.model, "-c", "4096", "-t", "1"]);
        let two = Server::start(&["-m", &self.model, "-c", "4096", "-t", "2"]);
        let (mut ones, mut twos) = (Vec::new(), Vec::new());
        for round in 0..self.rounds {
            let texts =
                |salt: usize| (0..16).map(|i| self.texts.prompt(PROMPT_TOKENS, salt + round * 100 + i).0).collect();
            ones.push(http_rate(&one, texts(50_000)));
            twos.push(http_rate(&two, texts(60_000)));
        }
        let ratios: Vec<f64> = twos.iter().zip(&ones).map(|(two, one)| two / one).collect();
        println!("\ncompute threads, through HTTP");
        row("1 thread", &ones, "tok/s");
        row("2 threads", &twos, "tok/s");
        row("2 / 1", &ratios, "");
    }

    /// Four streams decode while a prompt of 1,500 tokens arrives.
    fn stall(&self) {
        let server = Server::start(&["-m", &self.model, "-c", "16384"]);
        let (mut gaps, mut usual, mut alone, mut beside) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut shares, mut steps_with) = (Vec::new(), Vec::new());
        for round in 0..self.rounds {
            let newcomer = |salt: usize| {
                let text = self.texts.prompt(1_500, salt + round).0;
                let body = json!({"prompt": text, "max_tokens": 2, "temperature": 0, "ignore_eos": true});
                let started = Instant::now();
                let data = Client::connect(&server.addr).generate(&body);
                assert_eq!(data["timings"]["cached_prompt_tokens"], 0);
                (started, data["timings"]["prefill_s"].as_f64().unwrap_or(0.0))
            };
            alone.push(newcomer(70_000).1);
            let arrivals: Mutex<Vec<Vec<Instant>>> = Mutex::new(Vec::new());
            let (mut window, mut ttft) = ((Instant::now(), Instant::now()), 0.0);
            let stop_at = std::sync::atomic::AtomicBool::new(false);
            let mut steps = 0.0;
            std::thread::scope(|scope| {
                for i in 0..4 {
                    let (arrivals, texts, addr) = (&arrivals, &self.texts, &server.addr);
                    let stop_at = &stop_at;
                    scope.spawn(move || {
                        let text = texts.prompt(PROMPT_TOKENS, 80_000 + round * 10 + i).0;
                        let body = json!({"prompt": text, "max_tokens": 1_500, "temperature": 0, "ignore_eos": true});
                        let mut times = Vec::new();
                        let mut client = Client::connect(addr);
                        client.stream_until(&body, |at| {
                            times.push(at);
                            !stop_at.load(std::sync::atomic::Ordering::Relaxed)
                        });
                        arrivals.lock().expect("no panic").push(times);
                    });
                }
                std::thread::sleep(Duration::from_secs(4));
                let before = server.metric("cllm_steps_total");
                let (started, prefill_s) = newcomer(90_000);
                steps = server.metric("cllm_steps_total") - before;
                ttft = prefill_s;
                window = (started, Instant::now());
                std::thread::sleep(Duration::from_millis(300));
                stop_at.store(true, std::sync::atomic::Ordering::Relaxed);
            });
            let (mut quiet, mut stalled): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
            for times in arrivals.into_inner().expect("no panic") {
                for pair in times.windows(2) {
                    let gap = (pair[1] - pair[0]).as_secs_f64();
                    if pair[1] > window.0 && pair[0] < window.1 { stalled.push(gap) } else { quiet.push(gap) }
                }
            }
            let usual_gap = median(&quiet);
            usual.push(usual_gap * 1e3);
            gaps.push(stalled.iter().fold(0.0, |a: f64, b| a.max(*b)) / usual_gap);
            beside.push(ttft);
            steps_with.push(steps);
            // The new request's own time: its steps, without the time that the other requests' rows take in each.
            shares.push((ttft - steps * usual_gap) / alone[round]);
        }
        println!("\nfour streams decode, a prompt of 1,500 tokens arrives");
        row("usual gap", &usual, "ms");
        row("longest gap / usual", &gaps, "x");
        row("prefill alone", &alone, "s");
        row("prefill beside four", &beside, "s");
        row("steps it took", &steps_with, "");
        row("(beside - others' share) / alone", &shares, "x");
    }

    /// Eight clients with one prefix of 600 tokens and 20 of their own; then a chat's second turn.
    fn prefix(&self) {
        let server = Server::start(&["-m", &self.model, "-c", "8192"]);
        let prefix = self.texts.prompt(600, 100_000).0;
        let before = server.metric("cllm_prompt_tokens_decoded_total");
        let total: u64 = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..8)
                .map(|i| {
                    let (texts, prefix, addr) = (&self.texts, &prefix, &server.addr);
                    scope.spawn(move || {
                        let text = format!("{prefix} {}", texts.prompt(20, 110_000 + i).0);
                        let body = json!({"prompt": text, "max_tokens": 4, "temperature": 0, "ignore_eos": true});
                        Client::connect(addr).generate(&body)["prompt_tokens"].as_u64().unwrap_or(0)
                    })
                })
                .collect();
            clients.into_iter().map(|client| client.join().expect("an answer")).sum()
        });
        let decoded = server.metric("cllm_prompt_tokens_decoded_total") - before;
        println!("\neight prompts together, {total} tokens with one prefix of 600: decoded {decoded}");
        let mut client = Client::connect(&server.addr);
        let first = self.texts.prompt(300, 120_000).0;
        let ask = |client: &mut Client, messages: Value| {
            client.generate(&json!({"messages": messages, "max_tokens": 30, "temperature": 0, "ignore_eos": true}))
        };
        let one = ask(&mut client, json!([{"role": "user", "content": first}]));
        let two = ask(
            &mut client,
            json!([
                {"role": "user", "content": first},
                {"role": "assistant", "content": one["text"]},
                {"role": "user", "content": "And then?"}
            ]),
        );
        println!(
            "a chat's second turn: {} prompt tokens, {} of them from the cache",
            two["prompt_tokens"], two["timings"]["cached_prompt_tokens"]
        );
    }

    /// Resident memory with 8 slots and 4,096 cells.
    fn memory(&self) {
        let server = Server::start(&["-m", &self.model, "-c", "4096", "-np", "8"]);
        let texts: Vec<_> = (0..16).map(|i| self.texts.prompt(PROMPT_TOKENS, 130_000 + i).0).collect();
        http_rate(&server, texts);
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("on Linux");
        let kib = |key: &str| -> f64 {
            let line = status.lines().find(|line| line.starts_with(key));
            line.and_then(|line| line.split_whitespace().nth(1)).and_then(|kib| kib.parse().ok()).unwrap_or(0.0)
                / 1024.0
        };
        let gguf = GgufFile::open(self.model.as_ref()).expect("a GGUF");
        let number = |key: &str| gguf.u64(&format!("{}.{key}", gguf.str("general.architecture").unwrap_or("")));
        let (layers, heads) = (number("block_count").unwrap_or(0), number("attention.head_count_kv").unwrap_or(0));
        let width = number("attention.key_length").unwrap_or(0);
        let kv = (4_096 * layers * heads * width * 2 * 2) as f64 / f64::from(1 << 20);
        let weights = gguf.file_bytes() as f64 / f64::from(1 << 20);
        println!("\nmemory after 16 requests, 8 slots, 4,096 cells, MiB");
        println!(
            "  resident {:.0} = weights {weights:.0} + KV {kv:.0} + {:.0}",
            kib("VmRSS"),
            kib("VmRSS") - weights - kv
        );
        println!("  peak {:.0}, of which anonymous now {:.0}", kib("VmHWM"), kib("RssAnon"));
    }

    /// Seven unconstrained requests run with an eighth that is unconstrained or constrained, in turn: tokens a second of
    /// the seven.
    fn constrained(&self) {
        let server = Server::start(&["-m", &self.model, "-c", "8192", "-np", "8"]);
        let record = json!({"type": "object", "properties": {
            "name": {"type": "string"}, "age": {"type": "integer"},
            "friends": {"type": "array", "items": {"type": "string"}, "minItems": 200},
        }, "required": ["name", "age", "friends"], "additionalProperties": false});
        let (mut free, mut beside, mut eighth, mut awaited) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut run = |round: usize, constrained: bool| {
            let body = |i: usize, max_tokens: usize| {
                let text = self.texts.prompt(PROMPT_TOKENS, 150_000 + round * 16 + i).0;
                json!({"prompt": text, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": true})
            };
            let over = std::sync::atomic::AtomicBool::new(false);
            let (addr, over) = (&server.addr, &over);
            let before = server.metric("cllm_masks_awaited_total");
            let mut tokens = 0;
            let rate = std::thread::scope(|scope| {
                // The eighth runs until the seven have ended, and is then cancelled.
                let mut last = body(7, 800);
                if constrained {
                    last["json_schema"] = record.clone();
                    last["temperature"] = json!(0.8);
                    last["seed"] = json!(round);
                }
                let last = scope.spawn(move || {
                    let mut tokens = 0;
                    Client::connect(addr).stream_until(&last, |_| {
                        tokens += 1;
                        !over.load(std::sync::atomic::Ordering::Relaxed)
                    });
                    tokens
                });
                let started = Instant::now();
                let seven: Vec<_> = (0..7)
                    .map(|i| {
                        let body = body(i, 2 * MAX_TOKENS);
                        scope.spawn(move || Client::connect(addr).generate(&body)["generated_tokens"].as_u64())
                    })
                    .collect();
                let sum: u64 = seven.into_iter().filter_map(|client| client.join().expect("an answer")).sum();
                let rate = sum as f64 / started.elapsed().as_secs_f64();
                over.store(true, std::sync::atomic::Ordering::Relaxed);
                tokens = last.join().expect("a stream");
                rate
            });
            if constrained {
                eighth.push(f64::from(tokens));
                awaited.push(server.metric("cllm_masks_awaited_total") - before);
            }
            rate
        };
        for round in 0..=self.rounds {
            // The order alternates, too.
            let (a, b) = match round % 2 {
                0 => {
                    let a = run(2 * round, false);
                    (a, run(2 * round + 1, true))
                }
                _ => {
                    let b = run(2 * round, true);
                    (run(2 * round + 1, false), b)
                }
            };
            if round > 0 {
                free.push(a);
                beside.push(b);
            }
        }
        let ratios: Vec<f64> = beside.iter().zip(&free).map(|(beside, free)| beside / free).collect();
        println!(
            "\nseven free requests of {} tokens, beside an eighth that is free or follows a schema",
            2 * MAX_TOKENS
        );
        row("seven, beside a free one", &free, "tok/s");
        row("seven, beside a constrained one", &beside, "tok/s");
        row("constrained / free", &ratios, "");
        row("the constrained one's events", &eighth, "");
        row("its tokens that came after a step", &awaited, "");
    }

    /// Events of `/generate_stream` and of `/v1/chat/completions`, in turn: the same conversations, the same tokens.
    fn routes(&self) {
        let server = Server::start(&["-np", "8"]);
        let streams = self.requests * ROUTES_MORE;
        let run = |path: &str, round: usize| {
            let queue = Mutex::new((0..streams).collect::<Vec<usize>>());
            let started = Instant::now();
            std::thread::scope(|scope| {
                for _ in 0..CLIENTS {
                    scope.spawn(|| {
                        let mut client = Client::connect(&server.addr);
                        loop {
                            let Some(i) = queue.lock().expect("no panic").pop() else { return };
                            let text = format!("Question {round} {i}: how do I change the port?");
                            let body = json!({"messages": [{"role": "user", "content": text}], "max_tokens": MAX_TOKENS,
                                "temperature": 0, "ignore_eos": true, "stream": true});
                            assert!(client.events(path, &body) > MAX_TOKENS / 2, "most tokens have an event");
                        }
                    });
                }
            });
            (streams * MAX_TOKENS) as f64 / started.elapsed().as_secs_f64()
        };
        let (mut native, mut chat) = (Vec::new(), Vec::new());
        for round in 0..=self.rounds {
            let own = || run("/generate_stream", 2 * round);
            let other = || run("/v1/chat/completions", 2 * round + 1);
            // The order alternates.
            let (own, other) = if round % 2 == 0 {
                let own = own();
                (own, other())
            } else {
                let other = other();
                (own(), other)
            };
            if round > 0 {
                native.push(own);
                chat.push(other);
            }
        }
        let ratios: Vec<f64> = chat.iter().zip(&native).map(|(chat, native)| chat / native).collect();
        println!("\nthe built-in model, {CLIENTS} clients, {streams} streams of {MAX_TOKENS} tokens");
        row("/generate_stream", &native, "tok/s");
        row("/v1/chat/completions", &chat, "tok/s");
        row("chat / generate", &ratios, "");
        println!("  ratio of the medians {:.4}", median(&chat) / median(&native));
    }

    /// CPU time of a server without requests, over 10 s.
    fn idle(&self) {
        let server = Server::start(&["-m", &self.model, "-c", "4096"]);
        http_rate(&server, vec![self.texts.prompt(PROMPT_TOKENS, 140_000).0]);
        std::thread::sleep(Duration::from_secs(1));
        let ticks = || -> f64 {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("on Linux");
            let fields: Vec<f64> =
                stat.rsplit(')').next().unwrap_or("").split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect();
            fields[11] + fields[12]
        };
        let before = ticks();
        std::thread::sleep(Duration::from_secs(10));
        println!("\nidle: {:.2} % of one core over 10 s", (ticks() - before) / 100.0 / 10.0 * 100.0);
    }
}

/// Sends `texts` from `CLIENTS` keep-alive connections. Returns generated tokens a second.
fn http_rate(server: &Server, texts: Vec<String>) -> f64 {
    let queue = Mutex::new(texts);
    let tokens = Mutex::new(0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = Client::connect(&server.addr);
                loop {
                    let Some(text) = queue.lock().expect("no panic").pop() else { return };
                    let body = json!({"prompt": text, "max_tokens": MAX_TOKENS, "temperature": 0, "ignore_eos": true});
                    let data = client.generate(&body);
                    *tokens.lock().expect("no panic") += data["generated_tokens"].as_u64().unwrap_or(0);
                }
            });
        }
    });
    *tokens.lock().expect("no panic") as f64 / started.elapsed().as_secs_f64()
}

/// Random letters of an exact number of tokens.
struct Texts(Tokenizer);

impl Texts {
    fn new(model: &str) -> Texts {
        let gguf = GgufFile::open(model.as_ref()).expect("a GGUF");
        Texts(Tokenizer::from_gguf(&gguf, || panic!("a covered vocabulary")).expect("a tokenizer"))
    }

    /// The text number `salt`, which has `tokens` tokens, and their ids.
    fn prompt(&self, tokens: usize, salt: usize) -> (String, Vec<i32>) {
        let mut state = SEED ^ (salt as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut text = String::new();
        loop {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push(if (state >> 60) == 0 { ' ' } else { char::from(b'a' + ((state >> 33) % 26) as u8) });
            // A text of fewer letters has too few tokens and need not be tokenised.
            if text.len() >= tokens {
                let ids = self.0.encode(&text, true, true).expect("short text");
                if ids.len() >= tokens {
                    return (text, ids.iter().map(|token| token.0 as i32).collect());
                }
            }
        }
    }
}

fn qwen_shape() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/qwen3-0.6b-q4_k_m.gguf");
    if !path.exists() {
        let made = Command::new(env!("CARGO_BIN_EXE_cllm"))
            .args(["synth", "--shape", "qwen3-0.6b", "--quant", "q4_k_m", "-o"])
            .arg(&path)
            .status();
        assert!(made.is_ok_and(|status| status.success()), "cllm synth");
    }
    path.display().to_string()
}

fn cores() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).take(2).collect()
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn row(name: &str, values: &[f64], unit: &str) {
    let low = values.iter().fold(f64::INFINITY, |a, b| a.min(*b));
    let high = values.iter().fold(0.0f64, |a, b| a.max(*b));
    println!("  {name:<34}{:>9.3} {unit:<6} ({low:.3} .. {high:.3})", median(values));
}
