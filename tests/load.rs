//! Runs `cllm bench http` against a tiny server with known answers, and against cllm.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

#[path = "support/http.rs"]
#[allow(dead_code)]
mod http;
#[path = "support/server.rs"]
#[allow(dead_code)]
mod server;

/// Runs the bench on `url`.
fn bench(url: &str, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cllm"));
    command.args(["bench", "http", "--url", url]).args(line.split_whitespace());
    command.env_remove("OPENAI_API_KEY").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Checks for exit code 1 and one line on stderr that contains `named`.
fn one_line(output: &Output, named: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.lines().count() == 1 && stderr.contains(named), "doesn't say {named:?}: {stderr}");
}

/// A server with known answers. It counts completions, and `answer` decides the status and the time of each.
struct Known {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl Known {
    /// `answer`: the status and time of the completion with this number; `None` closes the server.
    fn start(answer: impl Fn(usize) -> Option<(u16, Duration)> + Send + Sync + 'static) -> Known {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, answer) = (Arc::clone(&asked), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if answer(count.load(Ordering::SeqCst)).is_none() {
                    return;
                }
                let (count, answer) = (Arc::clone(&count), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream.unwrap(), &count, answer.as_ref()));
            }
        });
        Known { url, asked }
    }
}

fn serve(stream: TcpStream, count: &AtomicUsize, answer: &dyn Fn(usize) -> Option<(u16, Duration)>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let (mut line, mut length, mut first) = (String::new(), 0, String::new());
        while reader.read_line(&mut line).ok().filter(|n| *n > 0)? > 2 {
            if first.is_empty() {
                first.clone_from(&line);
            }
            let low = line.to_ascii_lowercase();
            length = low.strip_prefix("content-length: ").map_or(length, |n| n.trim().parse().unwrap());
            line.clear();
        }
        reader.read_exact(&mut vec![0; length]).ok()?;
        let (status, body) = if first.starts_with("GET") {
            (200, r#"{"data":[{"id":"known"}]}"#.to_owned())
        } else {
            let (status, time) = answer(count.fetch_add(1, Ordering::SeqCst))?;
            std::thread::sleep(time);
            let body = match status {
                200 => r#"{"choices":[{"text":"x"}],"usage":{"prompt_tokens":9,"completion_tokens":4}}"#,
                _ => r#"{"error":{"message":"no room today"}}"#,
            };
            (status, body.to_owned())
        };
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).ok()?;
    }
}

/// The number of requests that the bench sends before it begins to measure.
const FIRST: usize = 2;

#[test]
fn what_cannot_begin_is_one_line() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    one_line(&bench(&format!("http://{gone}"), "").output().unwrap(), "no connection");
    one_line(&bench("https://127.0.0.1", "").output().unwrap(), "https isn't supported");
    let known = Known::start(|_| Some((503, Duration::ZERO)));
    one_line(&bench(&known.url, "").output().unwrap(), "status 503: no room today");
    one_line(&bench(&known.url, "--requests 0").output().unwrap(), "--requests");
    one_line(&bench(&known.url, "--out /nowhere/report.json").output().unwrap(), "--out: /nowhere/report.json");
    assert_eq!(known.asked.load(Ordering::SeqCst), 1, "nothing is asked of a server before the flags are right");
    let output =
        bench(&Known::start(|n| Some((if n < FIRST { 200 } else { 500 }, Duration::ZERO))).url, "").output().unwrap();
    one_line(&output, "no request was answered: status 500: no room today");
}

#[test]
fn answers_tokens_and_failures_add_up() {
    let known = Known::start(|n| Some((if n % 3 == 2 { 429 } else { 200 }, Duration::ZERO)));
    let report = json(&bench(&known.url, "--requests 30 --warmup 0 --concurrency 1,4 --json").output().unwrap());
    assert_eq!(report["partial"], false);
    assert_eq!(known.asked.load(Ordering::SeqCst), FIRST + 60);
    for level in report["levels"].as_array().unwrap() {
        let server = &level["servers"][0];
        assert_eq!(server["requests_answered"], 20, "{level}");
        assert_eq!(server["failures"]["http_429"]["count"], 10, "{level}");
        assert_eq!((server["generated_tokens"].as_u64(), server["prompt_tokens"].as_u64()), (Some(80), Some(180)));
        assert_eq!(server["e2e"]["count"], 20);
    }
}

#[test]
fn an_open_loop_charges_a_slow_server_from_when_a_request_was_due() {
    // 20 ms for each answer on one connection, at 200 requests a second: the 40th request is due after 0.2 s and sent after
    // 0.78 s.
    let known = Known::start(|_| Some((200, Duration::from_millis(20))));
    let line = "--requests 40 --warmup 0 --rate 200 --connections 1 --json";
    let report = json(&bench(&known.url, line).output().unwrap());
    let server = &report["levels"][0]["servers"][0];
    assert_eq!(server["requests_answered"], 40);
    assert!(server["e2e"]["max_ms"].as_f64().unwrap() > 200.0, "{}", server["e2e"]["max_ms"]);
    assert!(server["sent_late"]["max_ms"].as_f64().unwrap() > 180.0, "{}", server["sent_late"]["max_ms"]);
    // In a closed loop each answer takes 20 ms, and there is no queue.
    let report = json(&bench(&known.url, "--requests 10 --warmup 0 --concurrency 1 --json").output().unwrap());
    assert_eq!(report["levels"][0]["servers"][0]["sent_late"]["p50_ms"], 0.001);
}

#[test]
fn a_server_that_goes_away_leaves_what_was_measured() {
    let known = Known::start(|n| (n < FIRST + 10).then_some((200, Duration::ZERO)));
    let out = std::env::temp_dir().join(format!("cllm-load-{}.json", std::process::id()));
    let line = format!("--requests 5000 --warmup 0 --concurrency 4,8 --out {}", out.display());
    let output = bench(&known.url, &line).output().unwrap();
    one_line(&output, "no connection");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("Partial: ") && text.contains("is gone"), "{text}");
    let report: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
    std::fs::remove_file(out).unwrap();
    assert_eq!(report["partial"], true);
    assert_eq!(report["levels"][0]["servers"][0]["requests_answered"], 10);
}

#[test]
fn ctrl_c_prints_what_was_measured() {
    let known = Known::start(|_| Some((200, Duration::from_millis(5))));
    let mut child = bench(&known.url, "--requests 1000000 --warmup 0").spawn().unwrap();
    while known.asked.load(Ordering::SeqCst) < 50 {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("Partial: stopped by Ctrl-C."), "{output:?}");
    assert!(text.contains("E2E"), "{text}");
}

#[test]
fn two_servers_are_driven_in_turn() {
    let (slow, quick) =
        (Known::start(|_| Some((200, Duration::from_millis(40)))), Known::start(|_| Some((200, Duration::ZERO))));
    let line = format!("--requests 8 --warmup 0 --rounds 3 --json --vs {}", quick.url);
    let report = json(&bench(&slow.url, &line).output().unwrap());
    assert_eq!(slow.asked.load(Ordering::SeqCst), FIRST + 24);
    assert_eq!(quick.asked.load(Ordering::SeqCst), FIRST + 24);
    let figures = report["levels"][0]["ratios_first_to_second"].as_array().unwrap();
    let e2e = figures.iter().find(|ratio| ratio["figure"] == "E2E p50, ms").unwrap();
    assert!(e2e["median"].as_f64().unwrap() > 1.0, "{e2e}");
}

#[test]
fn our_own_server_is_asked_by_all_its_apis() {
    let server = server::Server::start("--parallel 4");
    let url = format!("http://{}", server.addr());
    for api in ["completions", "chat", "native"] {
        for stream in ["", "--stream"] {
            let line = format!("--requests 6 --warmup 1 --concurrency 3 --max-tokens 5 --json --api {api} {stream}");
            let report = json(&bench(&url, &line).output().unwrap());
            let measured = &report["levels"][0]["servers"][0];
            assert_eq!(measured["requests_answered"], 6, "{api} {stream}: {measured}");
            assert_eq!(measured["generated_tokens"], 30, "{api} {stream}: {measured}");
            assert_eq!(measured["ttft"].is_object(), !stream.is_empty(), "{api} {stream}");
        }
    }
}

#[test]
fn decode_measures_each_batch_and_number_of_threads() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cllm"));
    let line = "bench decode --prompt-tokens 16 --max-tokens 4 --batch 1,3 --thread-counts 1 --rounds 2 --json";
    let report = json(&command.args(line.split_whitespace()).output().unwrap());
    let threads = report["threads"].as_array().unwrap();
    assert_eq!((threads.len(), report["partial"].as_bool()), (1, Some(false)));
    assert_eq!(threads[0]["prompt_rounds"].as_array().unwrap().len(), 2);
    let generated = threads[0]["generated"].as_array().unwrap();
    let batches: Vec<_> =
        generated.iter().map(|g| (g["batch"].as_u64(), g["rounds"].as_array().unwrap().len())).collect();
    assert_eq!(batches, [(Some(1), 2), (Some(3), 2)]);
    assert!(generated.iter().all(|g| g["tokens_per_second"].as_f64().unwrap() > 0.0), "{report}");
    one_line(&command.args(["--decoder", "null"]).output().unwrap(), "--decoder");
}

#[test]
fn a_profile_is_a_flame_graph_a_timeline_and_the_report() {
    let out = std::env::temp_dir().join(format!("cllm-profile-{}", std::process::id()));
    let profile = |out: &std::path::Path, bench: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cllm"));
        command.args(["profile", "--frequency", "1000", "--out"]).arg(out).arg("--").args(bench.split_whitespace());
        command.stdin(Stdio::null()).output().unwrap()
    };
    // Enough requests to sample each thread: the kernel's clock gives one sample in 4 ms of CPU time.
    const REQUESTS: usize = 2_000;
    let output = profile(&out, &format!("bench stages --decoder null --only 3,4,9 --rounds 1 --requests {REQUESTS}"));
    assert!(output.status.success(), "{output:?}");
    let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    let report = read("report.txt");
    assert!(report.contains("engine, driven in place") && String::from_utf8_lossy(&output.stdout).starts_with(&report));
    let svg = read("cpu.svg");
    assert!(svg.contains("<svg") && svg.contains("batch") && svg.contains("http"), "threads have no names");
    let folded = read("cpu.folded");
    assert!(!folded.contains("first_sample") && !folded.contains("clone3"), "{folded}");
    let timeline: Value = serde_json::from_str(&read("timeline.json")).unwrap();
    let events = timeline["traceEvents"].as_array().unwrap();
    let named = |name: &str| events.iter().filter(|event| event["name"] == name).count();
    for name in ["step", "rows", "tokens", "requests"] {
        assert!(named(name) >= REQUESTS * 50 / 8, "{name}: {}", named(name));
    }
    // A part of a step has a span if it took a microsecond, and few parts of the null decoder's steps do. All spans fill the steps.
    let taken_us = |name: &str| -> Vec<u64> {
        let spans = events.iter().filter(|event| event["ph"] == "X" && event["name"] == name);
        spans.map(|span| span["dur"].as_u64().unwrap()).collect()
    };
    let parts = ["admit", "plan", "decode", "sample", "reply"].map(taken_us);
    assert!(parts.iter().all(|spans| !spans.is_empty()), "no span of some part");
    assert_eq!(parts.iter().flatten().sum::<u64>(), taken_us("step").iter().sum::<u64>());
    // The steps of stage 9 lie inside the stage's mark.
    let mark = events.iter().find(|event| event["name"] == "stage 9, round 1").unwrap();
    let (from, to) = (mark["ts"].as_u64().unwrap(), mark["ts"].as_u64().unwrap() + mark["dur"].as_u64().unwrap());
    let inside = events.iter().filter(|event| event["name"] == "step" && event["tid"] == 1).filter(|step| {
        let ts = step["ts"].as_u64().unwrap();
        from <= ts && ts <= to
    });
    assert!(inside.count() > 0, "two clocks");
    assert!(events.iter().any(|event| event["args"]["name"] == "stage 3"), "stage 3 isn't recorded");
    std::fs::remove_dir_all(&out).unwrap();
    std::fs::write(&out, "").unwrap();
    one_line(&profile(&out, "stages"), "--out: ");
    std::fs::remove_file(&out).unwrap();
    one_line(&profile(&out, "swim"), "the bench: ");
    assert!(!out.exists(), "made before the words were read");
}
