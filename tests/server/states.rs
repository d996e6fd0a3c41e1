//! Models whose cache can't be cut, with states outside the KV cache: a conversation goes on from the last checkpoint before the difference
//! after an eviction, a restart and a crash, whatever happens to the files, and its texts are a cold server's.

use cllm::prompts::inspect::{self, Depth};
use cllm::types::limits::CHECKPOINT_TOKENS;
use serde_json::{Value, json};

use super::access::{KeyFile, ask_with};
use super::prompts::Folder;
use super::server::{Server, number};
use super::shapes::serve;

/// A hybrid model, a recurrent one, and two whose windows have few cells; with the flags for that.
const SHAPES: [(&str, &str); 4] =
    [("lfm2-tiny", ""), ("mamba-tiny", ""), ("gemma3-tiny", "--swa window"), ("gpt-oss-tiny", "--swa window")];

/// A conversation that grows by a turn at a time.
struct Talk {
    messages: Vec<Value>,
    turns: usize,
    /// Tokens of the latest prompt.
    prompt: u64,
}

/// What a turn took.
struct Turn {
    read: u64,
    /// Tokens that its prompt has more than the one before.
    new: u64,
    text: Value,
    request: Value,
}

fn message(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

impl Talk {
    fn new(about: &str) -> Talk {
        let system = format!("{about} {}", "babe dozi kuku ".repeat(90));
        Talk { messages: vec![message("system", &system)], turns: 0, prompt: 0 }
    }

    fn turn(&mut self, server: &Server) -> Turn {
        let number = self.turns;
        self.messages.push(message("user", &format!("{number} lala ve {}", "dozi kuku gaga ".repeat(number % 7))));
        let temperature = if number.is_multiple_of(2) { 0.0 } else { 0.9 };
        let request = json!({
            "messages": self.messages, "temperature": temperature, "seed": number, "max_tokens": 16, "ignore_eos": true,
        });
        let before = server.metric("cllm_prompt_tokens_decoded_total");
        let data = server.generate(&request).data();
        let read = server.metric("cllm_prompt_tokens_decoded_total") - before;
        let prompt = data["prompt_tokens"].as_u64().expect("a number");
        assert_eq!(data["timings"]["cached_prompt_tokens"].as_u64(), Some(prompt - read));
        self.messages.push(message("assistant", data["text"].as_str().expect("a text")));
        self.turns += 1;
        let new = prompt - std::mem::replace(&mut self.prompt, prompt);
        Turn { read, new, text: data["text"].clone(), request }
    }
}

/// Waits until the disk has all that is in memory.
fn all_written(server: &Server) {
    let blocks = |metrics: &str, tier: &str| number(metrics, &format!("cllm_prompt_memory_blocks{{tier=\"{tier}\"}}"));
    server.wait_until("written", |metrics| {
        blocks(metrics, "ram") > 0 && blocks(metrics, "ram") <= blocks(metrics, "disk")
    });
}

/// Servers of a conversation.
const SERVERS: usize = 5;

/// Twenty turns. After each fourth the server is ended in order, or killed, and another one goes on.
#[test]
fn a_conversation_goes_on_from_the_disk_after_each_restart() {
    for (shape, flags) in SHAPES {
        let (folder, cold) = (Folder::new(shape), serve(shape, "-np 1 -c 4096 --prompt-ram off"));
        let line = format!("-np 2 -c 8192 --kv-unified {flags} --prompt-disk {}:1GB", folder.0.display());
        let (mut talk, mut read_in_all) = (Talk::new("one"), 0);
        for number in 0..SERVERS {
            let mut server = serve(shape, &line);
            for _ in 0..20 / SERVERS {
                let turn = talk.turn(&server);
                let most = turn.new + CHECKPOINT_TOKENS as u64;
                assert!(turn.read <= most, "{shape}, turn {}: {} read", talk.turns, turn.read);
                read_in_all += turn.read;
                cold.generate(&json!({"prompt": format!("{} something else", talk.turns), "max_tokens": 1}));
                let text = &cold.generate(&turn.request).data()["text"];
                assert_eq!(&turn.text, text, "{shape}, turn {}", talk.turns);
            }
            all_written(&server);
            server.signal(if number % 2 == 0 { "TERM" } else { "KILL" });
            server.exit();
        }
        println!("{shape}: 20 turns on {SERVERS} servers, {} tokens at the end, {read_in_all} read", talk.prompt);
        assert!(talk.prompt > 4 * CHECKPOINT_TOKENS as u64, "{} tokens", talk.prompt);
        // From the last checkpoint on: the end of the prompt before, or less than a fourth of a stretch before it.
        let most = talk.prompt + 20 * CHECKPOINT_TOKENS as u64 / 4;
        assert!(read_in_all <= most, "{shape}: {read_in_all} read of {}", talk.prompt);
    }
}

/// Two conversations take turns in the only sequence. What one evicts comes back from RAM; without that tier it is read.
#[test]
fn what_was_evicted_comes_back_from_ram() {
    for (shape, flags) in SHAPES {
        let flags = format!("-np 1 -c 4096 --kv-unified {flags}");
        let (server, without) = (serve(shape, &flags), serve(shape, &format!("{flags} --prompt-ram off")));
        let mut read = [0, 0];
        for (tier, server) in [&server, &without].into_iter().enumerate() {
            let mut talks = [Talk::new("one"), Talk::new("two")];
            for _ in 0..4 {
                for talk in &mut talks {
                    let (turn, whole) = (talk.turn(server), talk.prompt);
                    let most = if tier == 0 { turn.new + CHECKPOINT_TOKENS as u64 } else { whole };
                    assert!(turn.read <= most, "{shape}: {} read of {whole}, {} are new", turn.read, turn.new);
                    read[tier] += turn.read;
                }
            }
        }
        assert!(read[0] * 2 < read[1], "{shape}: {read:?}");
    }
}

/// A prompt of `--warm` ends with a checkpoint where a real request's own part begins, also where it is shorter than a stretch from one
/// checkpoint to the next. A second start brings it from the disk.
#[test]
fn the_first_request_begins_behind_the_prompts_of_warm() {
    for (shape, flags) in SHAPES {
        for words in [30, 600] {
            let folder = Folder::new(&format!("warm-{shape}-{words}"));
            std::fs::create_dir(&folder.0).expect("a new folder");
            let system = message("system", &"babe dozi kuku ".repeat(words / 3));
            let file = folder.0.join("warm.json");
            std::fs::write(&file, json!({"messages": [system]}).to_string()).expect("there is room");
            let kept = folder.0.join("kept");
            let line = format!("-np 2 -c 4096 --kv-unified {flags} --prompt-disk {}:1GB", kept.display());
            let request = json!({
                "messages": [system, message("user", "lala ve gaga")],
                "temperature": 0, "max_tokens": 16, "ignore_eos": true,
            });
            let text = serve(shape, "-np 1 -c 4096 --prompt-ram off").generate(&request).data()["text"].clone();
            for start in ["first", "second"] {
                let mut server = serve(shape, &format!("{line} --warm {}", file.display()));
                assert!(server.logged_at_first("warm"), "{shape}");
                let restored: u64 = ["ram", "disk"]
                    .map(|tier| server.metric(&format!("cllm_prompt_restored_tokens_total{{tier=\"{tier}\"}}")))
                    .iter()
                    .sum();
                let expected = if start == "second" && words > 2 * CHECKPOINT_TOKENS { CHECKPOINT_TOKENS } else { 0 };
                assert!(restored >= expected as u64, "{shape}, {start} start: {restored} restored");
                let data = server.generate(&request).data();
                let (tokens, cached) = (&data["prompt_tokens"], &data["timings"]["cached_prompt_tokens"]);
                let read = tokens.as_u64().expect("a number") - cached.as_u64().expect("a number");
                assert!(read <= 32, "{shape}, {words} words, {start} start: {read} of {tokens} read");
                assert_eq!(data["text"], text, "{shape}, {words} words, {start} start");
                server.signal("TERM");
                assert!(server.exit().success());
            }
        }
    }
}

/// A key's prompts never speed up another's. With one sequence, what the first key left has to come from RAM.
#[test]
fn states_are_of_the_key_that_left_them() {
    for (shape, flags) in SHAPES {
        let file = KeyFile::new(&format!("states-{shape}"), "first\nsecond\n");
        let server = serve(shape, &format!("-np 1 -c 4096 --kv-unified {flags} --api-key-file {}", file.path()));
        let body = json!({"prompt": "babe dozi kuku lala ".repeat(160), "max_tokens": 2}).to_string();
        let cached = |key: &str| {
            let key = format!("Authorization: Bearer {key}");
            let answer = ask_with(&mut server.client(), "POST", "/generate", &[&key], &body);
            answer.data()["timings"]["cached_prompt_tokens"].as_u64().expect("a number")
        };
        assert_eq!(cached("first"), 0, "{shape}");
        assert_eq!(cached("second"), 0, "{shape}");
        assert!(cached("first") >= CHECKPOINT_TOKENS as u64, "{shape}");
    }
}

/// One byte is another in each file: all are noticed, and texts are as they were. The folder stays within its size.
#[test]
fn damaged_states_are_read_again_as_tokens() {
    for (shape, flags) in SHAPES {
        let folder = Folder::new(&format!("damaged-{shape}"));
        let line = format!("-np 2 -c 8192 --kv-unified {flags} --prompt-disk {}:2MB", folder.0.display());
        let mut server = serve(shape, &line);
        let ask = |server: &Server, at: usize| {
            let prompt = format!("{at} {}", "babe dozi kuku lala ".repeat(160 + 20 * at));
            let request = json!({"prompt": prompt, "temperature": 0, "max_tokens": 16, "ignore_eos": true});
            let data = server.generate(&request).data();
            (data["timings"]["cached_prompt_tokens"].as_u64().expect("a number"), data["text"].clone())
        };
        let texts: Vec<Value> = (0..6).map(|at| ask(&server, at).1).collect();
        all_written_or_dropped(&server);
        server.signal("TERM");
        assert!(server.exit().success());
        let files = inspect::files(&folder.0, Depth::Whole).expect("a folder");
        let bytes: u64 = files.iter().map(|found| found.bytes).sum();
        assert!(bytes <= 2_000_000 && folder.blocks() > 2, "{bytes} bytes in {} files", folder.blocks());
        for (i, found) in files.iter().filter(|found| found.block.is_ok()).enumerate() {
            let path = folder.0.join(&found.file);
            let mut content = std::fs::read(&path).expect("a file");
            // In the state, so that the start doesn't notice it.
            let at = 4_096 + (i * 7_919) % (content.len() - 4_096);
            content[at] ^= 1 << (i % 8);
            std::fs::write(&path, content).expect("it can be written");
        }
        let damaged = inspect::files(&folder.0, Depth::Whole).expect("a folder");
        assert!(damaged.iter().all(|found| found.block.is_err()), "{damaged:?}");
        let server = serve(shape, &line);
        for at in (0..6).rev() {
            let (cached, text) = ask(&server, at);
            assert_eq!((cached, &text), (0, &texts[at]), "{shape}, prompt {at}");
        }
        assert!(server.metric("cllm_prompt_disk_damaged_total") > 0, "{shape}");
    }
}

/// Waits until nothing waits to be written.
fn all_written_or_dropped(server: &Server) {
    server.wait_until("written", |metrics| {
        number(metrics, "cllm_prompt_disk_written_bytes_total") > 0
            && number(metrics, "cllm_prompt_memory_blocks{tier=\"disk\"}") > 2
    });
}
