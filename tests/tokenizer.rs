//! Ids must equal llama.cpp's: on synthetic vocabularies of every kind, and on a real one if it is available.

mod tokenizer_support;

use std::path::{Path, PathBuf};
use std::time::Instant;

use cllm::gguf::{GgufFile, Value};
use cllm::tokenizer::{Tokenizer, pre};
use cllm::types::{ModelPlace, Token};
use tokenizer_support::*;

/// One name for each way of cutting. These are tested with the full number of random strings.
const REPRESENTATIVES: &[&str] = &[
    "default",
    "llama-bpe",
    "jais-2",
    "deepseek-llm",
    "deepseek-v3",
    "spark2_5",
    "youtu",
    "deepseek-coder",
    "falcon",
    "starcoder",
    "gpt-2",
    "qwen2",
    "qwen35",
    "bloom",
    "viking",
    "tekken",
    "chameleon",
    "gpt-4o",
    "granite-embed-multi-97m",
    "tiny_aya",
    "kimi-k2",
    "superbpe",
    "bailingmoe",
    "seed-coder",
    "ufakzeka",
    "afmoe",
    "laguna",
    "exaone-moe",
    "minicpm5",
];

/// The number of random strings for each vocabulary.
fn strings() -> usize {
    std::env::var("CLLM_TEST_STRINGS").ok().and_then(|s| s.parse().ok()).unwrap_or(10_000)
}

fn seed() -> u64 {
    std::env::var("CLLM_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_122)
}

/// Compares `strings()` strings with each representative of quarter `part`.
fn representatives(part: usize) {
    on_big_stack(|| {
        for (i, name) in REPRESENTATIVES.iter().enumerate().filter(|(i, _)| i % 4 == part) {
            let started = Instant::now();
            let seed = seed() + i as u64;
            let file = byte_level(name, seed).write(name);
            let pair = Pair::open(&file.0, name, seed);
            pair.check_table();
            let calls = pair.check_random(strings(), false);
            let seconds = started.elapsed().as_secs_f64();
            println!("{name}: {} strings in {calls} calls, seed {seed}, {seconds:.1} s", strings());
        }
    });
}

#[test]
fn byte_level_ids_equal_llama_cpp_a() {
    representatives(0);
}

#[test]
fn byte_level_ids_equal_llama_cpp_b() {
    representatives(1);
}

#[test]
fn byte_level_ids_equal_llama_cpp_c() {
    representatives(2);
}

#[test]
fn byte_level_ids_equal_llama_cpp_d() {
    representatives(3);
}

/// Every name has the way of cutting and the defaults that llama.cpp gives it.
#[test]
fn every_pre_tokenizer_name_is_known() {
    on_big_stack(|| {
        for (i, name) in pre::NAMES.iter().enumerate() {
            if matches!(*name, "gemma4" | "granite-embed-multi-311m" | "mmbert" | "sarvam-moe" | "whitespace") {
                continue; // written in UTF-8: tested below
            }
            // All names share a few vocabularies, because training one takes longer than the comparison.
            let seed = seed() + 100 + i as u64 % 4;
            let mut draft = byte_level(name, seed);
            if i % 3 == 1 {
                draft.kv.add_kv("tokenizer.ggml.add_bos_token", Value::Bool(i % 2 == 0));
                draft.kv.add_kv("tokenizer.ggml.add_eos_token", Value::Bool(true));
            }
            if i % 5 == 2 {
                draft.kv.add_kv("general.name", Value::str("A Phi-3 of sorts"));
            }
            let file = draft.write(&format!("name-{name}"));
            let pair = Pair::open(&file.0, name, seed);
            pair.check_table();
            pair.check_random(20, true);
        }
    });
}

/// A vocabulary of byte-pair merges over UTF-8, with escaped spaces and `<0xXX>` for other bytes.
fn utf8_level(model: &str, pre: &str, seed: u64) -> Draft {
    let mut rng = Dice::new(seed);
    let mut draft = Draft::new(model);
    draft.kv.add_kv("tokenizer.ggml.pre", Value::str(pre));
    draft.token("<pad>", CONTROL, 0.0);
    for b in 0..=255 {
        draft.token(&format!("<0x{b:02X}>"), BYTE, 0.0);
    }
    let escape = |text: String| if pre == "whitespace" { text.replace(' ', "") } else { text.replace(' ', "▁") };
    let texts: Vec<String> = (0..300).map(|_| escape(random_text(&mut rng))).collect();
    let split = |text: &String| text.chars().filter(|c| *c != ' ' && *c != '\0').map(String::from).collect();
    let lines: Vec<Vec<String>> = texts.iter().map(split).collect();
    for c in lines.iter().flatten() {
        if rng.below(8) > 0 {
            draft.token(c, NORMAL, 0.0);
        }
    }
    let merges = train(lines, 700, &mut rng);
    for (a, b) in &merges {
        if rng.below(12) > 0 {
            draft.token(&format!("{a}{b}"), NORMAL, 0.0);
        }
    }
    draft.token("\n", NORMAL, 0.0);
    draft.token("\n\n", NORMAL, 0.0);
    draft.token("\n\n\n", NORMAL, 0.0);
    draft.merges(&merges);
    specials(&mut draft);
    draft
}

#[test]
fn utf8_level_ids_equal_llama_cpp() {
    on_big_stack(|| {
        let kinds = [
            ("gemma4", "gemma4"),
            ("gpt2", "granite-embed-multi-311m"),
            ("gpt2", "mmbert"),
            ("gpt2", "sarvam-moe"),
            ("whitespace", "whitespace"),
        ];
        for (i, (model, pre)) in kinds.into_iter().enumerate() {
            let seed = seed() + 300 + i as u64;
            let file = utf8_level(model, pre, seed).write(&format!("utf8-{pre}"));
            let pair = Pair::open(&file.0, pre, seed);
            pair.check_table();
            pair.check_random(strings(), false);
        }
    });
}

/// A SentencePiece vocabulary: pieces with scores, some of them equal, and single bytes.
fn sentence_piece(seed: u64) -> Draft {
    let mut rng = Dice::new(seed);
    let mut draft = Draft::new("llama");
    draft.token("<unk>", UNKNOWN, 0.0);
    draft.token("<s>", CONTROL, 0.0);
    draft.token("</s>", CONTROL, 0.0);
    for b in 0..=255 {
        draft.token(&format!("<0x{b:02X}>"), BYTE, 0.0);
    }
    let texts: Vec<String> = (0..300).map(|_| format!("▁{}", random_text(&mut rng).replace(' ', "▁"))).collect();
    let lines: Vec<Vec<String>> =
        texts.iter().map(|t| t.chars().filter(|c| *c != '\0').map(String::from).collect()).collect();
    let chars: Vec<String> = lines.iter().flatten().cloned().collect();
    for (i, (a, b)) in train(lines, 900, &mut rng).iter().enumerate() {
        // Some scores are equal, some are out of order.
        let score = if rng.below(4) == 0 { -100.0 } else { -(i as f32) / 3.0 };
        draft.token(&format!("{a}{b}"), NORMAL, score);
    }
    for c in &chars {
        if rng.below(4) > 0 {
            draft.token(c, NORMAL, -1000.0 - rng.below(500) as f32);
        }
    }
    specials(&mut draft);
    draft
}

#[test]
fn sentence_piece_ids_equal_llama_cpp() {
    on_big_stack(|| {
        for variant in 0..4u64 {
            let seed = seed() + 400 + variant;
            let mut draft = sentence_piece(seed);
            match variant {
                1 => {
                    draft.kv.add_kv("tokenizer.ggml.add_space_prefix", Value::Bool(false));
                    draft.kv.add_kv("tokenizer.ggml.add_eos_token", Value::Bool(true));
                }
                2 => {
                    draft.kv.add_kv("general.name", Value::str("Phi-3-mini"));
                    draft.kv.add_kv("tokenizer.ggml.add_bos_token", Value::Bool(false));
                }
                3 => {
                    draft.kv.add_kv("general.architecture", Value::str("gemma"));
                    draft.token("<end_of_turn>", NORMAL, 0.0);
                    draft.token("<turn|>", NORMAL, 0.0);
                }
                _ => {}
            }
            let file = draft.write(&format!("spm-{variant}"));
            let pair = Pair::open(&file.0, "llama", seed);
            pair.check_table();
            pair.check_random(strings(), variant == 0);
        }
    });
}

#[test]
fn word_piece_ids_equal_llama_cpp() {
    on_big_stack(|| {
        for variant in 0..3u64 {
            let seed = seed() + 500 + variant;
            let mut rng = Dice::new(seed);
            let mut draft = Draft::new("bert");
            for (name, text) in [
                ("padding", "[PAD]"),
                ("unknown", "[UNK]"),
                ("bos", "[CLS]"),
                ("seperator", "[SEP]"),
                ("mask", "[MASK]"),
            ] {
                let id = draft.token(text, if name == "unknown" { UNKNOWN } else { CONTROL }, 0.0);
                draft.id_key(name, id);
            }
            for _ in 0..400 {
                for word in random_text(&mut rng).to_lowercase().split_whitespace() {
                    let chars: Vec<char> = word.chars().filter(|c| *c != '\0').collect();
                    if chars.is_empty() {
                        continue;
                    }
                    let (from, to) = (rng.below(chars.len()), 1 + rng.below(chars.len()));
                    let piece: String = chars[from.min(to)..from.max(to)].iter().collect();
                    let piece = if piece.is_empty() { chars[..1].iter().collect() } else { piece };
                    draft.token(&if rng.below(2) == 0 { format!("▁{piece}") } else { piece }, NORMAL, 0.0);
                    draft.token(&chars[0].to_string(), NORMAL, 0.0);
                    draft.token(&format!("▁{}", chars[0]), NORMAL, 0.0);
                }
            }
            draft.token("▁", NORMAL, 0.0);
            specials(&mut draft);
            if variant == 1 {
                draft.kv.add_kv("tokenizer.ggml.normalizer.lowercase", Value::Bool(false));
            }
            if variant == 2 {
                draft.kv.add_kv("tokenizer.ggml.normalizer.strip_accents", Value::Bool(false));
                draft.kv.add_kv("general.name", Value::str("modern-bert"));
            }
            let file = draft.write(&format!("wpm-{variant}"));
            let pair = Pair::open(&file.0, "bert", seed);
            pair.check_table();
            pair.check_random(strings(), variant == 0);
        }
    });
}

/// Every code point's category, lower case and white space equal llama.cpp's.
#[test]
fn every_code_point_is_cut_as_llama_cpp_cuts_it() {
    on_big_stack(|| {
        for (i, name) in ["qwen35", "gpt-2", "deepseek-v3"].into_iter().enumerate() {
            let file = byte_level(name, seed() + 600 + i as u64).write(&format!("points-{name}"));
            let pair = Pair::open(&file.0, name, seed());
            // Planes 0 to 3 and 14. All other planes are private use or unassigned.
            let points: Vec<char> = (0..0x34000).chain(0xe0000..0xe0200).filter_map(char::from_u32).collect();
            let per_text = if name == "deepseek-v3" { 512 } else { 64 };
            for block in points.chunks(per_text) {
                let text: String = block.iter().map(|c| format!("x{c}y {c}9 '{c}\n")).collect();
                pair.check(&text, false, false);
            }
        }
        let mut draft = Draft::new("bert");
        draft.token("[PAD]", CONTROL, 0.0);
        for (name, text) in [("unknown", "[UNK]"), ("bos", "[CLS]"), ("seperator", "[SEP]")] {
            let id = draft.token(text, CONTROL, 0.0);
            draft.id_key(name, id);
        }
        for c in (0x21..0x3000).filter_map(char::from_u32) {
            draft.token(&c.to_string(), NORMAL, 0.0);
            draft.token(&format!("▁{c}"), NORMAL, 0.0);
        }
        let file = draft.write("points-bert");
        let pair = Pair::open(&file.0, "bert", seed());
        let points: Vec<char> = (0..0x34000).filter_map(char::from_u32).collect();
        for block in points.chunks(64) {
            let text: String = block.iter().map(|c| format!("x{c}y ")).collect();
            pair.check(&text, false, false);
        }
    });
}

/// The folder with a real vocabulary and its cases; `None`: it isn't there. With `CLLM_SHARED_DATA` set it must be there.
fn shared_data() -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let named = std::env::var_os("CLLM_SHARED_DATA").map(PathBuf::from);
    let folder = named.clone().unwrap_or(beside);
    let here = folder.join("ggml-vocab-qwen2.gguf").exists();
    if !here {
        assert!(named.is_none(), "CLLM_SHARED_DATA: no ggml-vocab-qwen2.gguf in {}", folder.display());
        println!("skipped: no ggml-vocab-qwen2.gguf in {}", folder.display());
    }
    here.then_some(folder)
}

#[test]
fn qwen2_cases_of_llama_cpp() {
    let Some(folder) = shared_data() else { return };
    let gguf = GgufFile::open(&folder.join("ggml-vocab-qwen2.gguf")).expect("a GGUF");
    let tokenizer = Tokenizer::from_gguf(&gguf, || panic!("no fallback expected")).expect("a tokenizer");
    let inp = std::fs::read_to_string(folder.join("ggml-vocab-qwen2.gguf.inp")).expect("cases");
    let out = std::fs::read_to_string(folder.join("ggml-vocab-qwen2.gguf.out")).expect("ids");
    let cases: Vec<&str> = inp.split("\n__ggml_vocab_test__\n").collect();
    let lines: Vec<&str> = out.lines().collect();
    let cases = &cases[..lines.len()];
    assert!(cases.len() > 40, "only {} cases", cases.len());
    for (case, line) in cases.iter().zip(&lines) {
        let ids: Vec<u32> = line.split_whitespace().map(|id| id.parse().expect("an id")).collect();
        let ours = tokenizer.encode(case, false, false).expect("ids");
        assert_eq!(ours.iter().map(|t| t.0).collect::<Vec<_>>(), ids, "{case:?}");
        assert_eq!(tokenizer.decode(&ours, false), *case);
    }
    println!("{} cases equal", cases.len());
}

#[test]
fn qwen2_random_strings_equal_llama_cpp() {
    let Some(folder) = shared_data() else { return };
    on_big_stack(|| {
        let pair = Pair::open(&folder.join("ggml-vocab-qwen2.gguf"), "qwen2", seed());
        pair.check_table();
        pair.check_random(strings(), true);
    });
}

#[test]
fn byte_level_decode_undoes_encode() {
    let seed = seed() + 700;
    let mut rng = Dice::new(seed);
    for name in ["gpt-2", "qwen2", "gpt-4o", "deepseek-llm"] {
        let file = byte_level(name, seed).write(&format!("undo-{name}"));
        let gguf = GgufFile::open(&file.0).expect("a GGUF");
        let tokenizer = Tokenizer::from_gguf(&gguf, || panic!("no fallback expected")).expect("a tokenizer");
        for _ in 0..2_000 {
            let text = random_text(&mut rng);
            let ids = tokenizer.encode(&text, false, false).expect("ids");
            assert_eq!(tokenizer.decode(&ids, false), text, "{name}, seed {seed}");
        }
    }
}

const RUNS: &[&str] =
    &["a", "A", " ", "é", "7", "\n", "'", "!", "漢", "a ", "\u{301}", "👍", "é7", "\r\n ", "Aé", "<", "<tool>"];

/// Tokenises runs of `bytes` bytes, followed by each of `ends`.
fn check_runs(file: &Path, name: &str, bytes: usize, ends: &[&str]) {
    let gguf = GgufFile::open(file).expect("a GGUF");
    let tokenizer = Tokenizer::from_gguf(&gguf, || panic!("no fallback expected")).expect("a tokenizer");
    let all = Instant::now();
    for run in RUNS {
        for end in ends {
            let text = run.repeat(bytes / run.len()) + end;
            let started = Instant::now();
            let ids = tokenizer.encode(&text, true, true).expect("ids");
            let ms = started.elapsed().as_millis();
            assert!(ids.len() >= tokenizer.n_tokens_min(&text), "{name}: {run:?}");
            assert!(ms < 20_000, "{name}: {bytes} bytes of {run:?} took {ms} ms");
        }
    }
    println!("{name}: {} runs of {bytes} bytes, {:.1} s", RUNS.len() * ends.len(), all.elapsed().as_secs_f64());
}

/// Long runs of one character need neither deep recursion nor quadratic time: a megabyte on one vocabulary of each kind,
/// and 128 KiB (minutes in quadratic time) on every pre-tokenizer.
#[test]
fn hostile_runs_are_tokenised_in_time() {
    if let Some(folder) = shared_data() {
        check_runs(&folder.join("ggml-vocab-qwen2.gguf"), "qwen2 (real)", 1 << 20, &["", "x", "7"]);
    }
    check_runs(&sentence_piece(1).write("hostile-spm").0, "llama", 1 << 20, &["", "x", "7"]);
}

fn hostile_runs(part: usize) {
    for (_, name) in REPRESENTATIVES.iter().enumerate().filter(|(i, _)| i % 2 == part) {
        let file = byte_level(name, 1).write(&format!("hostile-{name}"));
        check_runs(&file.0, name, 1 << 17, &["", "x"]);
    }
}

#[test]
fn hostile_runs_on_every_pre_tokenizer_a() {
    hostile_runs(0);
}

#[test]
fn hostile_runs_on_every_pre_tokenizer_b() {
    hostile_runs(1);
}

/// Spaces, then a digit: the expression `\s+$` must not search the whole run from each of its positions.
#[test]
fn white_space_before_a_digit_takes_no_time_squared() {
    let file = byte_level("deepseek-llm", 1).write("spaces");
    let gguf = GgufFile::open(&file.0).expect("a GGUF");
    let tokenizer = Tokenizer::from_gguf(&gguf, || panic!("no fallback expected")).expect("a tokenizer");
    let started = Instant::now();
    tokenizer.encode(&(" ".repeat(1 << 20) + "7"), false, false).expect("ids");
    assert!(started.elapsed().as_secs() < 20);
}

/// Prints the throughput on plain English. Nothing is asserted.
#[test]
fn english_throughput() {
    let Some(folder) = shared_data() else { return };
    let gguf = GgufFile::open(&folder.join("ggml-vocab-qwen2.gguf")).expect("a GGUF");
    let tokenizer = Tokenizer::from_gguf(&gguf, || panic!("no fallback expected")).expect("a tokenizer");
    let prose = "It was the best of times, it was the worst of times; the server answered eight people at once, and each \
                 of them got exactly the text they would have got alone. How many tokens is that? About 1,234, perhaps.\n";
    let text = prose.repeat((1 << 20) / prose.len());
    let mut best = f64::MAX;
    for _ in 0..7 {
        let started = Instant::now();
        tokenizer.encode(&text, false, false).expect("ids");
        best = best.min(started.elapsed().as_secs_f64());
    }
    println!("qwen2, English: {:.1} MB/s (best of 7 on {} bytes)", text.len() as f64 / best / 1e6, text.len());
}

/// A `tokenizer.json` with the same content as the GGUF gives the same ids.
#[test]
fn tokenizer_json_can_be_named() {
    let mut rng = Dice::new(7);
    let lines = (0..200).map(|_| spell_bytes(&random_text(&mut rng))).collect();
    let merges = train(lines, 300, &mut rng);
    let mut draft = Draft::new("gpt2");
    draft.kv.add_kv("tokenizer.ggml.pre", Value::str("gpt-2"));
    let mut texts: Vec<String> = (0..=255).map(spell_byte).collect();
    for (a, b) in &merges {
        let merged = format!("{a}{b}");
        if !texts.contains(&merged) {
            texts.push(merged);
        }
    }
    texts.iter().for_each(|t| {
        draft.token(t, NORMAL, 0.0);
    });
    let end = draft.token("<|im_end|>", CONTROL, 0.0);
    draft.id_key("eos", end);
    draft.merges(&merges);
    let file = draft.write("json");
    let vocab: serde_json::Map<String, serde_json::Value> =
        texts.iter().enumerate().map(|(i, t)| (t.clone(), i.into())).collect();
    let written = serde_json::json!({
        "version": "1.0",
        "added_tokens": [{"id": end, "content": "<|im_end|>", "special": true, "single_word": false, "lstrip": false,
                          "rstrip": false, "normalized": false}],
        "normalizer": null, "post_processor": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges.iter().map(|(a, b)| format!("{a} {b}")).collect::<Vec<_>>()},
    });
    let json = Scratch::write("json-file", written.to_string().as_bytes());
    let gguf = GgufFile::open(&file.0).expect("a GGUF");
    let ours = Tokenizer::from_gguf(&gguf, || panic!("no fallback expected")).expect("a tokenizer");
    for named in [Tokenizer::from_json(&json.0, None), Tokenizer::from_json(&json.0, Some(&gguf))] {
        let named = named.expect("a tokenizer");
        for text in ["Hello world, it's 12345 o'clock!", "naïve über  \n\n x", "a<|im_end|>b"] {
            for parse in [false, true] {
                let ids = named.encode(text, false, parse).expect("ids");
                assert_eq!(ids, ours.encode(text, false, parse).expect("ids"), "{text:?}");
                assert_eq!(named.decode(&ids, true), text);
            }
        }
        assert_eq!(named.eog(), &[Token(end as u32)]);
        assert_eq!(named.n_vocab(), ours.n_vocab());
    }
    assert!(Tokenizer::from_json(&file.0, None).is_err(), "not JSON");
}

/// Query and document of a ranking model, framed as in training: an XLM-RoBERTa has two `</s>` between them.
#[test]
fn two_texts_are_one_input() {
    on_big_stack(|| {
        cllm::llama::vocab::silence_log();
        let mut draft = Draft::new("t5");
        draft.token("<pad>", CONTROL, 0.0);
        let end = draft.token("</s>", CONTROL, 0.0);
        draft.token("<unk>", UNKNOWN, 0.0);
        let start = draft.token("<s>", CONTROL, 0.0);
        let texts = ["\u{2581}", "a", "b", "ab", "\u{2581}ab", "\u{2581}b"];
        texts.iter().enumerate().for_each(|(i, text)| {
            draft.token(text, NORMAL, -(i as f32));
        });
        draft.id_key("bos", start);
        draft.id_key("eos", end);
        draft.id_key("seperator", end);
        for key in ["add_bos_token", "add_eos_token", "add_sep_token"] {
            draft.kv.add_kv(&format!("tokenizer.ggml.{key}"), Value::Bool(true));
        }
        let file = draft.write("pair-t5");
        let gguf = GgufFile::open(&file.0).expect("a GGUF");
        let tokenizer = Tokenizer::from_gguf(&gguf, || Ok(fallback_of(&file.0))).expect("the fallback");
        let plain = |text: &str| tokenizer.encode(text, false, false).expect("ids");
        let [start, end] = [start, end].map(|id| Token(id as u32));
        let (first, second) = (plain("ab"), plain("b"));
        assert!(!first.is_empty() && !second.is_empty() && first != second);
        let framed = [&[start][..], &first, &[end, end], &second, &[end]].concat();
        assert_eq!(tokenizer.encode_pair("ab", "b").expect("ids"), framed);
    });
}

/// Kinds that are not supported use the fallback, and the reason is given.
#[test]
fn other_kinds_fall_back() {
    on_big_stack(|| {
        cllm::llama::vocab::silence_log();
        let mut draft = Draft::new("t5");
        draft.token("<pad>", CONTROL, 0.0);
        draft.token("</s>", CONTROL, 0.0);
        draft.token("<unk>", UNKNOWN, 0.0);
        ["▁", "a", "b", "ab", "▁ab"].iter().enumerate().for_each(|(i, t)| {
            draft.token(t, NORMAL, -(i as f32));
        });
        let file = draft.write("t5");
        let gguf = GgufFile::open(&file.0).expect("a GGUF");
        let tokenizer = Tokenizer::from_gguf(&gguf, || Ok(fallback_of(&file.0))).expect("the fallback");
        assert!(tokenizer.fallback_reason().is_some_and(|reason| reason.contains("t5")));
        let ids = tokenizer.encode("ab ab", true, false).expect("ids");
        assert_eq!(
            ids,
            cllm::llama::LlamaVocab::open(&ModelPlace::at(&file.0))
                .expect("it")
                .tokenize("ab ab", true, false)
                .expect("ids")
        );
        assert!(tokenizer.decode(&ids, false).contains("ab"));

        let unknown = byte_level("no-such-pre", 1).write("unknown-pre");
        let gguf = GgufFile::open(&unknown.0).expect("a GGUF");
        let refused = Tokenizer::from_gguf(&gguf, || {
            cllm::llama::LlamaVocab::open(&ModelPlace::at(&unknown.0)).map(|_| fallback_of(&unknown.0))
        });
        assert!(refused.is_err(), "llama.cpp doesn't know it either");
    });
}
