//! `--prompt-disk` through the front door: what a server kept is of use to the next one, whichever way the first one ended, and changes no
//! text. `CLLM_TEST_KILLS=200` kills that often. The built-in model has a buffer for each slot, of which no block can be copied, unless
//! prompts are to be kept (`--prompt-ram` or `--prompt-disk`), or slots share a pool (`--kv-unified`).

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cllm::prompts::FileFault;
use cllm::prompts::inspect::{self, Depth};
use serde_json::{Value, json};

use super::dice::Dice;
use super::server::{Server, number};

/// Kills without `CLLM_TEST_KILLS`: half a second each.
const KILLS: usize = 12;
/// Tokens of a block.
const BLOCK: u64 = cllm::types::limits::PROMPT_BLOCK_TOKENS as u64;

/// A folder that is removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("cllm-server-prompts-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Folder(path)
    }

    pub fn blocks(&self) -> usize {
        inspect::files(&self.0, Depth::Header).unwrap().iter().filter(|found| found.block.is_ok()).count()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A prompt of about 500 tokens. Every fourth has the same beginning.
fn prompt(at: usize) -> String {
    let word = ["river", "lamp", "mill", "fox"][at % 4];
    let shared = format!("The {word} is old. It stands by the port, and a server loads it twice. ").repeat(25);
    format!("{shared}Now number {at} begins:")
}

fn request(at: usize) -> Value {
    json!({"prompt": prompt(at), "temperature": 0, "max_tokens": 24, "ignore_eos": true})
}

/// The prompt's tokens, how many of them were not prefilled, and the text.
fn ask(server: &Server, at: usize) -> (u64, u64, Value) {
    let data = server.generate(&request(at)).data();
    let cached = data["timings"]["cached_prompt_tokens"].as_u64().unwrap();
    (data["prompt_tokens"].as_u64().unwrap(), cached, data["text"].clone())
}

#[test]
fn the_next_server_begins_with_what_the_disk_has() {
    let folder = Folder::new("restart");
    let line = format!("-c 16384 --prompt-disk {}:1GB", folder.0.display());
    let mut server = Server::start(&line);
    let (tokens, cached, text) = ask(&server, 0);
    assert_eq!(cached, 0);
    ask(&server, 1);
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
    assert!(folder.blocks() as u64 >= (tokens - 1) / BLOCK, "{tokens} tokens in {} blocks", folder.blocks());

    let server = Server::start(&line);
    let data = server.generate(&request(0)).data();
    let whole = (tokens - 1) / BLOCK * BLOCK;
    assert_eq!((&data["timings"]["cached_prompt_tokens"], &data["text"]), (&json!(whole), &text), "all whole blocks");
    // It is told in the answer, in the log and in the metrics, of each tier apart.
    assert_eq!(data["timings"]["restored_prompt_tokens"], whole);
    let line = server.request_line(data["id"].as_str().unwrap());
    assert_eq!((&line["cached_tokens"], &line["restored_tokens"]), (&json!(whole), &json!(whole)), "{line}");
    let of = |name: &str, tier: &str| server.metric(&format!("cllm_prompt_{name}{{tier=\"{tier}\"}}"));
    assert_eq!((of("hits_total", "disk"), of("hits_total", "ram"), of("hits_total", "file")), (1, 0, 0));
    assert_eq!((of("restored_tokens_total", "disk"), of("restored_tokens_total", "ram")), (whole, 0));
    assert_eq!(of("restored_bytes_total", "disk"), server.metric("cllm_prompt_disk_read_bytes_total"));
    assert!(of("memory_blocks", "disk") >= whole / BLOCK && of("memory_bytes", "disk") > 0);
    for cost in ["read_token", "restore_block", "await_block"] {
        let name = format!("cllm_prompt_cost_seconds{{of=\"{cost}\"}} ");
        let metrics = server.metrics();
        let seconds = metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse::<f64>().ok());
        assert!(seconds.is_some_and(|seconds| seconds > 0.0 && seconds < 60.0), "{cost}: {seconds:?}");
    }
    let mut body = request(1);
    body["max_tokens"] = json!(1);
    let usage = server.client().post("/v1/completions", &body).json()["usage"].clone();
    let whole = (usage["prompt_tokens"].as_u64().unwrap() - 1) / BLOCK * BLOCK;
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], whole, "{usage}");
    // Another prompt starts with the common beginning.
    let (_, cached, other) = ask(&server, 4);
    assert!(cached >= BLOCK, "{cached}");
    for layout in ["--kv-unified", "--kv-unified=false", ""] {
        let without = Server::start(&format!("-c 16384 --prompt-ram off {layout}"));
        assert_eq!((ask(&without, 0).2, ask(&without, 4).2), (text.clone(), other.clone()), "{layout}");
    }
}

/// A small model has one buffer for all slots where prompts are to be kept, and each slot has its share of it for certain; a user's own
/// layout stays.
#[test]
fn a_small_model_keeps_prompts_where_it_is_told_to() {
    for (flags, keeps) in [
        ("--prompt-ram 64MiB", true),
        ("", false),
        ("--prompt-ram off", false),
        ("--prompt-ram 64MiB --kv-unified=false", false),
    ] {
        let server = Server::start(&format!("-c 4096 -np 2 {flags}"));
        if !flags.contains("off") {
            assert_eq!(server.logged_at_first("prompts are kept in KV cells only"), !keeps, "{flags}");
        }
        let (tokens, _, text) = ask(&server, 0);
        // The others take both sequences, and a request's whole share.
        let _ = [ask(&server, 1), ask(&server, 2), ask(&server, 3)];
        let (_, cached, again) = ask(&server, 0);
        assert_eq!(again, text, "{flags}");
        let restored = server.metric("cllm_prompt_restored_tokens_total{tier=\"ram\"}");
        assert_eq!(restored, if keeps { (tokens - 1) / BLOCK * BLOCK } else { 0 }, "{flags}");
        assert!(cached >= restored && (keeps || cached < BLOCK), "{flags}: {cached}");
        let longer = json!({"prompt": "a ".repeat(4_000), "max_tokens": 1});
        assert_ne!(server.client().post("/generate", &longer).status, 200, "{flags}: more than a share");
    }
}

#[test]
fn a_folder_that_cannot_be_used_costs_a_warning() {
    let folder = Folder::new("file");
    std::fs::write(&folder.0, "no folder").unwrap();
    let server = Server::start(&format!("--kv-unified --prompt-disk {}", folder.0.display()));
    assert!(server.logged_at_first("prompt memory: can't use "));
    assert_eq!(ask(&server, 0).2, ask(&Server::start("--kv-unified --prompt-ram off"), 0).2);
    let _ = std::fs::remove_file(&folder.0);
}

/// Four clients send prompts with common beginnings to a server that is killed at random moments, again and again.
#[test]
fn a_server_that_is_killed_leaves_nothing_wrong() {
    let kills = std::env::var("CLLM_TEST_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number"));
    let folder = Folder::new("kill");
    let without = Server::start("-c 16384 --kv-unified --prompt-ram off");
    let texts: Vec<Value> = (0..16).map(|at| ask(&without, at).2).collect();
    let line = format!("-c 4096 -np 4 --kv-unified --prompt-disk {}:16MB", folder.0.display());
    let (mut dice, mut restored) = (Dice::new(3), 0);
    for round in 0..kills {
        let mut server = Server::start(&line);
        let first = round * 5 % 16;
        let (_, cached, text) = ask(&server, first);
        assert_eq!(text, texts[first], "round {round}");
        restored += usize::from(cached > 0);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let (is_over, texts) = (&is_over, &texts);
            let addr = server.addr();
            for client in 0..4 {
                scope.spawn(move || {
                    let mut at = client;
                    // ORDERING: Relaxed; the flag only ends the loop.
                    while !is_over.load(Ordering::Relaxed) {
                        at = (at + 5) % 16;
                        let Ok(mut client) = super::http::Client::try_connect(addr) else { return };
                        let body = request(at).to_string();
                        let sent = client.request("POST", "/generate", body.as_bytes());
                        let Ok(answer) = sent.and_then(|()| client.answer(false)) else { return };
                        assert_eq!(answer.data()["text"], texts[at], "round {round}");
                    }
                });
            }
            thread::sleep(Duration::from_micros(dice.within(0..=400_000) as u64));
            server.signal("KILL");
            server.exit();
            is_over.store(true, Ordering::Relaxed);
        });
        for found in inspect::files(&folder.0, Depth::Whole).unwrap() {
            assert!(matches!(found.block, Ok(_) | Err(FileFault::Unfinished)), "round {round}: {found:?}");
        }
    }
    println!("{kills} kills, {restored} first answers that began with what the disk had");
    assert!(restored * 2 > kills, "{restored} of {kills} servers began with what was kept");
}

/// A system prompt of about 200 tokens, and how many tokens of a request with it were cached.
fn system() -> Value {
    let text =
        "You help people use cllm. You answer briefly, name the flag, and never guess what a setting does. ".repeat(8);
    json!({"role": "system", "content": text})
}

fn cached_of_chat(server: &Server) -> (u64, Value) {
    let messages = [system(), json!({"role": "user", "content": "How do I change the port?"})];
    let body = json!({"messages": messages, "temperature": 0, "max_tokens": 16});
    let data = server.generate(&body).data();
    (data["timings"]["cached_prompt_tokens"].as_u64().unwrap(), data["text"].clone())
}

#[test]
fn prompts_are_read_before_the_first_request() {
    let folder = Folder::new("warm");
    std::fs::create_dir(&folder.0).unwrap();
    let file = folder.0.join("warm.json");
    let chat = json!({"messages": [system()]});
    std::fs::write(&file, format!("{chat}\n{}\n", json!({"prompt": prompt(1)}))).unwrap();
    let server = Server::start(&format!("--kv-unified --prompt-ram off --warm {}", file.display()));
    assert!(server.logged_at_first("warm"));
    let cold = Server::start("--kv-unified --prompt-ram off");
    let ((cached, text), (nothing, same)) = (cached_of_chat(&server), cached_of_chat(&cold));
    assert!(cached > 100 && nothing == 0, "{cached}");
    assert_eq!(text, same);
    let (tokens, cached, _) = ask(&server, 1);
    assert_eq!(cached, tokens - 1, "the whole prompt but its last token");

    std::fs::write(&file, "\"a\"\n{}\n").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_cllm")).args(["serve", "--warm"]).arg(&file).output();
    let said = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(said.contains("cllm: --warm: ") && said.contains("prompt 2: is neither"), "{said}");
}

/// The appliance carries the state of its prompts: a fresh machine prefills none of them.
#[test]
fn an_appliance_begins_behind_its_prompts() {
    let folder = Folder::new("bundle");
    std::fs::create_dir(&folder.0).unwrap();
    let (file, appliance) = (folder.0.join("warm.json"), folder.0.join("appliance"));
    std::fs::write(&file, json!({"messages": [system()]}).to_string()).unwrap();
    let mut bundle = std::process::Command::new(env!("CARGO_BIN_EXE_cllm"));
    let output = bundle.arg("bundle").arg("--warm").arg(&file).arg("-o").arg(&appliance).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("tokens in") && said.contains("prompts"), "{said}");

    let script = format!("exec {} \"$@\"", appliance.display());
    let server = Server::through(&script, std::process::Stdio::null(), "");
    assert!(server.logged_at_first("prompts: this program carries some"));
    // At its start it has taken the blocks that it carries, and read what follows the last one. A step is counted once it is over.
    server.wait_until("the start is counted", |metrics| number(metrics, "cllm_prompt_tokens_decoded_total") > 0);
    let restored = server.metric("cllm_prompt_restored_tokens_total{tier=\"file\"}");
    let read = server.metric("cllm_prompt_tokens_decoded_total");
    assert!(
        restored >= 2 * BLOCK && restored.is_multiple_of(BLOCK) && read < BLOCK + 16,
        "{restored} restored, {read} read"
    );
    let (cached, text) = cached_of_chat(&server);
    assert!(cached > restored, "{cached} cached, {restored} restored");
    assert_eq!(text, cached_of_chat(&Server::start("--kv-unified --prompt-ram off")).1);
    let help = std::process::Command::new(&appliance).arg("info").output().unwrap();
    assert!(help.status.success());
}
