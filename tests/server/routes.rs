//! The routes that don't generate, compared with `cllm encode` and `cllm decode`.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::exactly;
use super::server::{Server, number};

fn cllm(args: &[&str], stdin: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cllm"));
    let mut child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn encode_and_decode_agree_with_the_command_line() {
    let server = Server::start("-np 1");
    let mut client = server.client();
    for text in ["Hello, world", "", "a", "naïve 日本語 🦀\n\t x", "<|im_start|>user\nHi<|im_end|>", "   \n\n  12345"]
    {
        for (add, parse) in [(false, false), (true, true), (false, true)] {
            let body = json!({"text": text, "add_special": add, "parse_special": parse});
            let data = client.post("/encode", &body).data();
            let ids = data["tokens"].as_array().unwrap();
            assert_eq!(data["length"], ids.len());
            assert_eq!(client.post("/decode", &json!({"tokens": ids})).data()["text"], text);
            let mut args = vec!["encode", "--json", "-"];
            args.extend(add.then_some("--add-special"));
            args.extend(parse.then_some("--parse-special"));
            let typed: Value = serde_json::from_str(&cllm(&args, text)).unwrap();
            assert_eq!(&typed, &data["tokens"], "{text:?}");
            let words: Vec<String> = ids.iter().map(Value::to_string).collect();
            if !words.is_empty() {
                let words: Vec<&str> =
                    ["decode", "--special"].into_iter().chain(words.iter().map(String::as_str)).collect();
                assert_eq!(cllm(&words, ""), format!("{text}\n"), "{words:?}");
            }
        }
    }
}

#[test]
fn what_is_served_is_told() {
    let server = Server::start("-np 3 --alias mine");
    let mut client = server.client();
    let info = client.get("/model/info").data();
    assert_eq!((&info["name"], &info["slots"], &info["architecture"]), (&json!("mine"), &json!(3), &json!("qwen3")));
    for name in ["n_ctx", "n_ctx_train", "n_vocab", "n_params", "size_bytes"] {
        assert!(info[name].as_u64().unwrap() > 0, "{name}");
    }
    assert_eq!(client.get("/ready").data()["status"], "ready");
    let health = client.get("/health").data();
    assert_eq!(
        (&health["running"], &health["waiting"], &health["last_step_age_s"]),
        (&json!(0), &json!(0), &Value::Null)
    );
    client.post("/generate", &exactly(1)).data();
    server.wait_until("a step", |metrics| number(metrics, "cllm_steps_total") == 1);
    assert!(client.get("/health").data()["last_step_age_s"].as_f64().unwrap() >= 0.0);
    let index = client.get("/").text();
    assert!(index.contains("/generate") && index.contains("mine") && index.contains("curl"), "{index}");
}

#[test]
fn head_says_what_get_would_without_the_body() {
    let server = Server::start("-np 1");
    let mut client = server.client();
    for path in ["/", "/health", "/ready", "/metrics", "/model/info"] {
        let (head, get) = (client.send("HEAD", path, b""), client.get(path));
        assert_eq!((head.status, head.header("Content-Type")), (get.status, get.header("Content-Type")), "{path}");
    }
    assert_eq!(client.send("HEAD", "/nowhere", b"").status, 404);
    assert_eq!(client.get("/health").status, 200, "the connection is still in step");
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let server = Server::start("-np 2");
    for n in 1..=4 {
        server.generate(&exactly(n)).data();
    }
    server.wait_until("counted", |metrics| number(metrics, "cllm_generated_tokens_total") == 10);
    let answer = server.client().get("/metrics");
    assert_eq!(answer.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    let mut kinds = std::collections::BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("name and type");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(kinds.insert(name, kind).is_none(), "{name} twice");
        } else if !line.starts_with("# HELP ") {
            let (sample, value) = line.rsplit_once(' ').expect("a sample and its value");
            assert!(value.parse::<f64>().is_ok() && seen.insert(sample), "{line}");
            let name = sample.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let kind = kinds.get(name).or_else(|| kinds.get(family)).unwrap_or_else(|| panic!("no type: {line}"));
            assert!(*kind == "histogram" || kinds.contains_key(name), "{line}");
            assert!(sample.ends_with('}') || !sample.contains('{'), "{line}");
        }
    }
    assert_eq!(number(&text, "cllm_requests_finished_total{reason=\"length\"}"), 4);
    for name in [
        "time_to_first_token_seconds",
        "time_per_output_token_seconds",
        "e2e_request_latency_seconds",
        "request_queue_time_seconds",
    ] {
        assert_eq!(kinds.get(format!("vllm:{name}").as_str()), Some(&"histogram"), "{name}");
    }
    for name in ["num_requests_waiting", "num_requests_running", "kv_cache_usage_perc"] {
        assert_eq!(kinds.get(format!("vllm:{name}").as_str()), Some(&"gauge"), "{name}");
    }
    let count = |name: &str| number(&text, &format!("{name}{{model_name=\"cllm-tiny\"}}"));
    assert_eq!(count("vllm:time_to_first_token_seconds_count"), 4);
    assert_eq!(count("vllm:time_per_output_token_seconds_count"), 1 + 2 + 3);
}
