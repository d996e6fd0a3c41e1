//! Bounds stand in `src/types/limits.rs` and below it, where a reader finds all of them with their reasons. The rule is written at
//! the top of that file.

use super::source::{Source, complaints, hold, root, src};

/// Why a bound stands in the file that uses it.
enum Kind {
    /// A file format, a foreign protocol, another program or C++ of this project fixes it.
    Fact,
    /// Only the file of one algorithm can explain it.
    Detail,
}
use Kind::{Detail, Fact};

/// The files with bounds of their own: path, names, kind, and what fixes or explains them.
const ELSEWHERE: &[(&str, &[&str], Kind, &str)] = &[
    ("src/appliance/mod.rs", &["FOOTER_BYTES"], Fact, "fixed by the format of appliances"),
    ("src/chat/guard.rs", &["FIRSTS_MAX"], Detail, "how marks are searched for"),
    ("src/chat/prompt.rs", &["NEAR_BYTES"], Detail, "how the next text of a rendering is found"),
    ("src/chat/values.rs", &["SCANNED_MAX"], Detail, "how a key of a map is found"),
    ("src/config/settings/compute.rs", &["THREADS_MAX"], Fact, "fixed by ggml: GGML_MAX_N_THREADS"),
    ("src/engine/budget.rs", &["CHUNK_MIN"], Detail, "how prompts are cut into chunks"),
    ("src/engine/memory/rates.rs", &["ROWS_MIN"], Detail, "how the cost of a row is measured"),
    (
        "src/engine/speculate/allot.rs",
        &["SLOWER_MAX", "ALONE_STEPS_MAX", "STEPS_MAX"],
        Detail,
        "how guesses are weighed",
    ),
    ("src/engine/speculate/earlier.rs", &["ALIKE_MIN", "ANSWER_MIN"], Detail, "how alike two prompts must be"),
    ("src/engine/speculate/index.rs", &["PLACES_MAX", "MATCH_MAX", "ENTRIES_MIN"], Detail, "how matches are compared"),
    ("src/gguf/read.rs", &["DIMS_MAX"], Fact, "fixed by ggml: GGML_MAX_DIMS"),
    ("src/http/dialect/ollama/about.rs", &["FOREVER_S"], Detail, "how a model without an end is described"),
    ("src/http/rate.rs", &["WINDOW_S", "SECOND_US"], Fact, "fixed by the limits that are given for each minute"),
    ("src/kv_events/zmtp.rs", &["GREETING_BYTES"], Fact, "fixed by ZMTP 3.1"),
    ("src/llama/exact.rs", &["HEADS_OF_A_GROUP_MAX"], Fact, "fixed by src/llama/attention/problem.h"),
    ("src/measure/cpu.rs", &["FIRST_SAMPLE"], Detail, "how the use of CPUs is sampled"),
    (
        "src/measure/stages/client.rs",
        &["LAST_EVENT_BYTES_MAX"],
        Detail,
        "how the end of a stream is read; benches compile this file, too",
    ),
    ("src/measure/tune/compare.rs", &["GAIN_MIN", "MIXED_STEPS_MAX"], Detail, "how two knobs are compared"),
    ("src/measure/tune/mod.rs", &["RUN", "RUN_QUICK"], Detail, "how long one run measures"),
    ("src/null_decoder.rs", &["WORDS_MAX"], Detail, "how its text is made"),
    ("src/prompts/header.rs", &["HEADER_BYTES", "KV_TYPE_BYTES"], Fact, "fixed by the format of prompt files"),
    ("src/sample/mass.rs", &["SORTED_MAX"], Detail, "how the shortest prefix is found"),
    ("src/synth/alphabet.rs", &["SIZE_MIN", "WORDPIECE_SIZE_MIN"], Fact, "fixed by the alphabet"),
    ("src/synth/shape.rs", &["LAYERS_MAX"], Fact, "fixed by llama.cpp: LLAMA_MAX_LAYERS"),
    ("src/synth/weights.rs", &["ROW_BLOCKS_MIN"], Detail, "how random weights are made"),
    ("src/tokenizer/bpe.rs", &["SCAN_MAX"], Detail, "how a word's symbols are merged"),
    ("src/types/hub.rs", &["REPO_BYTES_MAX"], Fact, "fixed by Hugging Face"),
];

/// The last words of a bound's name.
const LAST_WORDS: [&str; 8] = ["MAX", "MIN", "EVERY", "KEPT", "BYTES", "S", "MS", "US"];

/// The constants of `source` that have the name of a bound, or are a time, and whose value is written in digits: line and name. A constant
/// that only gives a bound of `limits.rs` another unit has no digits.
fn bounds(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let code = source.code();
    for (at, _) in code.match_indices("const ") {
        let Some((declared, value)) = code[at + 6..].split_once(';').and_then(|(all, _)| all.split_once('=')) else {
            continue;
        };
        let Some((name, of)) = declared.split_once(':').map(|(name, of)| (name.trim(), of.trim())) else { continue };
        let is_number = ["u", "i", "f"]
            .iter()
            .any(|start| of.strip_prefix(start).is_some_and(|bits| bits == "size" || bits.parse::<u32>().is_ok()));
        let is_named = name.rsplit_once('_').is_some_and(|(_, last)| LAST_WORDS.contains(&last));
        let words = value.split(|c: char| !c.is_alphanumeric() && c != '_');
        let has_digits = words.into_iter().any(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        if has_digits && (of == "Duration" || (is_number && is_named)) {
            found.push((code[..at].matches('\n').count(), name.to_owned()));
        }
    }
    found
}

fn bounds_in_one_place(source: &Source) -> Vec<String> {
    if source.path.starts_with("src/types/limits") || source.is_test() {
        return Vec::new();
    }
    let known = |name: &str| ELSEWHERE.iter().any(|(path, names, ..)| source.path == *path && names.contains(&name));
    let stray = bounds(source).into_iter().filter(|(_, name)| !known(name));
    stray
        .map(|(n, name)| source.complaint(n, format!("{name} is a bound, which belongs into src/types/limits.rs")))
        .collect()
}

#[test]
fn each_bound_stands_among_the_limits() {
    hold(bounds_in_one_place, &src());
}

#[test]
fn each_exception_is_there_and_says_why() {
    for (path, names, kind, why) in ELSEWHERE {
        let text = std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        let here = bounds(&Source { path: (*path).to_owned(), text });
        for name in *names {
            assert!(here.iter().any(|(_, known)| known == name), "{path} has no bound {name} any more");
        }
        let least = match kind {
            Fact => "fixed by ",
            Detail => "how ",
        };
        assert!(why.starts_with(least), "{path}: begin the reason with {least:?}");
    }
}

#[test]
fn about_bounds() {
    let count = |text: &str| complaints(bounds_in_one_place, "src/engine/plan.rs", text);
    assert_eq!(count("pub const ROWS_MAX: usize = 512;"), 1);
    assert_eq!(count("impl A {\n    const KEPT_BYTES: u64 = 16 << 10;\n}"), 1);
    assert_eq!(count("const NAP: Duration = Duration::from_millis(50);"), 1);
    assert_eq!(count("const NAP: Duration =\n    Duration::from_millis(NAP_MS);"), 0);
    assert_eq!(
        count("const LISTED_MAX: usize = ROWS_MAX;\nconst SHAPE: usize = 3;\nconst STEPS_US: &[u64] = &[1, 2];"),
        0
    );
    assert_eq!(count("// const ROWS_MAX: usize = 512;\n#[cfg(test)]\nmod tests { const ROWS_MAX: usize = 512; }"), 0);
    assert_eq!(complaints(bounds_in_one_place, "src/types/limits/engine.rs", "pub const ROWS_MAX: usize = 512;"), 0);
    assert_eq!(complaints(bounds_in_one_place, "src/gguf/read.rs", "const DIMS_MAX: u32 = 4;"), 0);
    assert_eq!(complaints(bounds_in_one_place, "src/gguf/write.rs", "const DIMS_MAX: u32 = 4;"), 1);
}
