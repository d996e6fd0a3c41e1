//! Models of each kind of memory, with random weights: hybrid, recurrent, and with sliding windows. Each answers, and a
//! text doesn't depend on other requests if the server says so.

use std::path::PathBuf;

use cllm::synth::{Quant, Spec};
use cllm::types::limits::CHECKPOINT_TOKENS;
use serde_json::{Value, json};

use super::at_once;
use super::server::Server;

/// The small shape of each kind, and its architecture in `/model/info`.
pub const KINDS: [(&str, &str); 4] =
    [("lfm2-tiny", "lfm2"), ("mamba-tiny", "mamba"), ("gemma3-tiny", "gemma3"), ("gpt-oss-tiny", "gpt-oss")];

/// A server of a shape with random weights, with the flags in `line`. The model's file is removed when the server
/// listens.
pub fn serve(shape: &str, line: &str) -> Server {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("served-{shape}-{}.gguf", std::process::id()));
    Spec::named(shape, Quant::Q4KM, 2026).expect("a shape").write(&path, true, |_| {}).expect("there is room");
    let server = Server::start(&format!("-m {} {line}", path.display()));
    std::fs::remove_file(path).expect("it is there");
    server
}

fn requests(prompts: usize) -> Vec<Value> {
    let word = |i: usize| ["babe ", "dozi ", "kuku lala ", "ve ", "no such word, "][i % 5];
    let prompt = |i: usize| format!("{i} {}", (0..5 + 7 * i).map(|at| word(at * i + at / 3)).collect::<String>());
    let request = |i: usize| {
        let temperature = if i.is_multiple_of(2) { 0.0 } else { 0.9 };
        json!({"prompt": prompt(i), "temperature": temperature, "seed": i, "max_tokens": 24, "ignore_eos": true})
    };
    (0..prompts).map(request).collect()
}

fn text(server: &Server, request: &Value) -> String {
    let data = server.generate(request).data();
    assert_eq!(data["generated_tokens"], 24);
    data["text"].as_str().expect("a text").to_owned()
}

#[test]
fn each_kind_answers_alone_as_in_company() {
    let requests = requests(12);
    for (shape, architecture) in KINDS {
        let server = serve(shape, "-np 4 -c 8192");
        let info = server.client().get("/model/info").data();
        assert_eq!((&info["architecture"], &info["exact"]), (&json!(architecture), &json!(true)), "{shape}");
        let alone = at_once(1, &requests, |request| text(&server, request));
        let different: std::collections::HashSet<&String> = alone.iter().collect();
        assert!(different.len() * 4 > alone.len() * 3, "{shape}: texts don't depend on their prompts: {alone:?}");
        drop(server);
        let cold = serve(shape, "-np 4 -c 8192");
        assert_eq!(at_once(4, &requests, |request| text(&cold, request)), alone, "{shape}: 4 at once");
        assert_eq!(at_once(4, &requests, |request| text(&cold, request)), alone, "{shape}: again");
    }
}

/// The total number of prompt tokens that were decoded.
fn decoded(server: &Server) -> u64 {
    server.metric("cllm_prompt_tokens_decoded_total")
}

/// A chat template may render an answer differently from what the model wrote, so that the next turn has only the
/// prompt in common with the last one. The server must not prefill that prompt again. A second server, which prefills
/// something else before each turn, must give the same texts.
#[test]
fn a_conversation_reads_only_what_is_new_and_says_what_a_cold_server_says() {
    const TURNS: usize = 20;
    for (shape, _) in KINDS {
        let (server, cold) = (serve(shape, "-np 2 -c 8192"), serve(shape, "-np 1 -c 4096 --prompt-ram off"));
        let turn = |role: &str, content: &str| json!({"role": role, "content": content});
        let mut messages = vec![turn("system", &"babe dozi kuku ".repeat(20))];
        let (mut before, mut read_in_all, mut read_most) = (0, 0, 0);
        for number in 0..TURNS {
            messages.push(turn("user", &format!("{number} lala ve {}", "dozi kuku gaga ".repeat(number % 7))));
            let temperature = if number % 2 == 0 { 0.0 } else { 0.9 };
            let request = json!({"messages": messages, "temperature": temperature, "seed": number, "max_tokens": 16, "ignore_eos": true});
            let decoded_before = decoded(&server);
            let data = server.generate(&request).data();
            let read = decoded(&server) - decoded_before;
            let prompt = data["prompt_tokens"].as_u64().expect("a number");
            let new = prompt - before;
            assert!(read <= new + CHECKPOINT_TOKENS as u64, "{shape}, turn {number}: {read} read, {new} are new");
            assert_eq!(data["timings"]["cached_prompt_tokens"].as_u64(), Some(prompt - read));
            (before, read_in_all, read_most) = (prompt, read_in_all + read, read_most.max(read));
            cold.generate(&json!({"prompt": format!("{number} something else"), "max_tokens": 1}));
            let alone = cold.generate(&request).data();
            let cached = alone["timings"]["cached_prompt_tokens"].as_u64().expect("a number");
            assert!(cached < 16, "{shape}, turn {number}: {cached} of a cold prompt were cached");
            assert_eq!(data["text"], alone["text"], "{shape}, turn {number}");
            messages.push(turn("assistant", data["text"].as_str().expect("a text")));
        }
        println!(
            "{shape}: {TURNS} turns, {before} tokens at the end, {read_in_all} read, {read_most} in one turn at most"
        );
        assert!(read_in_all < before + 2 * CHECKPOINT_TOKENS as u64, "{shape}: {read_in_all} of {before} were read");
    }
}

/// If an earlier message is edited, the prefill starts at the last checkpoint before it. Requests that arrive together
/// and share a beginning prefill it once, up to its last checkpoint.
#[test]
fn recurrent_models_go_back_to_a_checkpoint_and_share_beginnings() {
    const SHARED: usize = 700;
    for shape in ["lfm2-tiny", "mamba-tiny"] {
        for layout in ["", "--kv-unified"] {
            let flags = format!("-np 4 -c 16384 {layout}");
            let server = serve(shape, &flags);
            let beginning = "babe dozi kuku lala ".repeat(SHARED / 4);
            let ask = |end: &str| json!({"prompt": format!("{beginning}{end}"), "temperature": 0, "max_tokens": 16, "ignore_eos": true});
            let first = server.generate(&ask("one")).data();
            let prompt = first["prompt_tokens"].as_u64().expect("a number");
            assert!(prompt > 2 * CHECKPOINT_TOKENS as u64, "{prompt} tokens");
            let ends: Vec<String> = (0..4).map(|i| format!("{i} other end")).collect();
            let requests: Vec<Value> = ends.iter().map(|end| ask(end)).collect();
            let read_before = decoded(&server);
            let text = |server: &Server, request: &Value| server.generate(request).data()["text"].clone();
            let texts = at_once(4, &requests, |request| text(&server, request));
            let read = decoded(&server) - read_before;
            let most = 4 * (CHECKPOINT_TOKENS as u64 + 32);
            assert!(read <= most, "{shape} {layout}: {read} read of 4 times {prompt}");
            assert!(server.metric("cllm_checkpoints_used_total") >= 3, "{}", server.metrics());
            let fresh = serve(shape, &flags);
            let read_before = decoded(&fresh);
            let together = at_once(4, &requests, |request| text(&fresh, request));
            let read = decoded(&fresh) - read_before;
            assert!(read <= prompt + most, "{shape} {layout}: {read} read of 4 times {prompt}");
            assert_eq!(together, texts, "{shape} {layout}");
            let cold: Vec<Value> = requests.iter().map(|request| text(&serve(shape, &flags), request)).collect();
            assert_eq!(cold, texts, "{shape} {layout}");
        }
    }
}

/// Each type of the cache, and keys of another type than values. ggml computes attention over them, and the server
/// reports that texts aren't exact.
#[test]
fn each_type_of_the_cache_is_served_and_called_inexact() {
    let names = ["q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"];
    let alike = names.map(|name| format!("--kv-type {name}"));
    let mixed =
        ["-ctk q8_0 -ctv q4_0", "-ctk q4_0 -ctv q8_0", "-ctk f16 -ctv iq4_nl", "-ctv q5_1", "--kv-type q5_0 -ctk f16"];
    let requests = requests(4);
    let plain = serve("gemma3-tiny", "-np 2 -c 4096");
    assert_eq!(plain.client().get("/model/info").data()["exact"], true);
    let wanted = at_once(1, &requests, |request| text(&plain, request));
    for flags in alike.iter().map(String::as_str).chain(mixed) {
        let server = serve("gemma3-tiny", &format!("-np 2 -c 4096 {flags}"));
        assert_eq!(server.client().get("/model/info").data()["exact"], false, "{flags}");
        let texts = at_once(2, &requests, |request| text(&server, request));
        assert!(texts.iter().all(|text| !text.is_empty()));
        // With 8 bits, most first tokens are those of 16 bits.
        if flags == "--kv-type q8_0" {
            let begin =
                |texts: &[String]| texts.iter().map(|text| text.chars().take(2).collect()).collect::<Vec<String>>();
            let same = begin(&texts).iter().zip(begin(&wanted)).filter(|(a, b)| **a == *b).count();
            assert!(same >= 3, "{texts:?} for {wanted:?}");
        }
    }
    // A model without attention has no such cache.
    assert_eq!(serve("mamba-tiny", "-np 2 --kv-type q4_0").client().get("/model/info").data()["exact"], true);
}
