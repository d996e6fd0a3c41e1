//! Shared by the tokenizer's tests: random text from a seed, small vocabularies trained on it, and the comparison with
//! llama.cpp, which shortens a failing text.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use cllm::gguf::{GgufFile, GgufWriter, Strs, Value};
use cllm::llama::{LlamaVocab, vocab::silence_log};
use cllm::tokenizer::{OtherTokenizer, Tokenizer};
use cllm::types::{ModelPlace, Token};

#[path = "../support/dice.rs"]
mod dice;

pub use dice::Dice;

fn pick(dice: &mut Dice, of: &[&'static str]) -> &'static str {
    of[dice.below(of.len())]
}

fn char_in(dice: &mut Dice, first: u32, last: u32) -> char {
    char::from_u32(first + dice.below((last - first + 1) as usize) as u32).unwrap_or('\u{fffd}')
}

pub const SPECIALS: &[&str] = &[
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<tool>",
    "[USER]",
    "<|im_",
    "<unk>",
    "<mask>",
    "</s>",
    "<s>",
    "<|fim_pad|>",
    "[MASK]",
    "▁▁▁",
    "\u{2028}!",
    "<|end|>",
];

const WORDS: &[&str] = &[
    "the",
    "Hello",
    "WORLD",
    "can't",
    "CAN'T",
    "we'Ve",
    "I'LL",
    "it'S",
    "don'T",
    "you're",
    "'re",
    "'Dm",
    "'ſ",
    "über",
    "naïve",
    "ÉCOLE",
    "привет",
    "МИР",
    "Ελλάδα",
    "مرحبا",
    "שלום",
    "नमस्ते",
    "ไทยแลนด์",
    "ខ្មែរ",
    "မြန်မာ",
    "漢字",
    "日本語の",
    "カタカナ",
    "한국어",
    "ㄅㄆㄇ",
    "İstanbul",
    "ǅungla",
    "ﬁn",
    "x̂y",
    "e\u{301}\u{302}",
    "IMGIMGABCZ",
    "<sentinel:12>",
    "camelCase",
    "HTMLParser",
    "snake_case",
    "ｆｕｌｌ",
    "ᾼ",
    "Ⅷ",
    "½",
    "٣٤٥",
    "१२३",
    "²³",
    "1234567",
    "12",
    "007",
    "3.14159",
    "1,000,000",
];
const SPACES: &[&str] = &[
    " ",
    "  ",
    "   ",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    " \n ",
    "\u{a0}",
    "\u{3000}",
    "\u{2003}\u{2003}",
    "\u{85}",
    "\u{b}",
    "\u{c}",
    "\u{1c}",
    "\u{2028}",
    "\u{1680}",
    "        ",
    "\u{200b}",
];
const EMOJI: &[&str] = &["😀", "👩‍🚀", "👨‍👩‍👧‍👦", "🇩🇪🇯🇵", "👍🏽", "❤️", "☃", "1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🦙"];
const MARKS: &[&str] = &[
    "!", "?!", "...", "…", "。", "，", "、", "(", ")", "[", "]", "{", "}", "\"", "'", "’", "“", "#", "$", "€", "+",
    "<=>", "^", "~", "|", "`", "\\", "/", "_", "-", "—", "@", "%", "&", "*", ";", ":", "！", "；", "‘", "‟", "︰",
    "﹏", "।", "۔", "،", "©", "∑", "➜", "/n", "=",
];

/// A string of mixed scripts, emoji, controls, combining marks, white space runs, digits, contractions and special texts.
pub fn random_text(rng: &mut Dice) -> String {
    let mut text = String::new();
    for _ in 0..1 + rng.below(12) {
        match rng.below(20) {
            0..=5 => text.push_str(pick(rng, WORDS)),
            6..=8 => text.push_str(pick(rng, SPACES)),
            9 => text.push_str(pick(rng, EMOJI)),
            10..=12 => text.push_str(pick(rng, MARKS)),
            13 => text.push_str(pick(rng, SPECIALS)),
            14 => text.extend((0..1 + rng.below(4)).map(|_| char_in(rng, 0, 0x7f))),
            15 => text.extend((0..1 + rng.below(4)).map(|_| char_in(rng, 0x80, 0x24f))),
            16 => text.push(char_in(rng, 0x300, 0x36f)),
            17 => text.extend((0..1 + rng.below(3)).map(|_| char_in(rng, 0x370, 0xffff))),
            18 => text.push(char_in(rng, 0x1_0000, 0x1_ffff)),
            _ => {
                let c = pick(rng, &["a", "A", " ", "\n", "é", "7", "'", "漢", "!", "\u{301}"]);
                text.push_str(&c.repeat(1 + rng.below(9)));
            }
        }
        if rng.below(3) == 0 {
            text.push(' ');
        }
    }
    text
}

/// Merges learnt from `lines` of symbols. They cross words on purpose: if a pre-tokenizer cuts differently, ids differ.
pub fn train(mut lines: Vec<Vec<String>>, n: usize, rng: &mut Dice) -> Vec<(String, String)> {
    let mut merges: Vec<(String, String)> = Vec::new();
    while merges.len() < n {
        let mut counts: HashMap<(&str, &str), usize> = HashMap::new();
        for line in &lines {
            line.windows(2).for_each(|w| *counts.entry((&w[0], &w[1])).or_default() += 1);
        }
        let mut pairs: Vec<_> = counts.into_iter().map(|((a, b), n)| (n, a.to_owned(), b.to_owned())).collect();
        pairs.sort_unstable_by(|a, b| b.cmp(a));
        if pairs.is_empty() {
            break;
        }
        // Several of the most frequent pairs at once, in random order: ranks need not follow frequency.
        for _ in 0..8 {
            let (_, a, b) = pairs[rng.below(pairs.len().min(40))].clone();
            if a.len() + b.len() < 40 && !merges.contains(&(a.clone(), b.clone())) {
                merges.push((a.clone(), b.clone()));
            }
            for line in &mut lines {
                let mut out: Vec<String> = Vec::with_capacity(line.len());
                for symbol in line.drain(..) {
                    match out.last_mut() {
                        Some(last) if *last == a && symbol == b => last.push_str(&symbol),
                        _ => out.push(symbol),
                    }
                }
                *line = out;
            }
        }
    }
    merges
}

pub const NORMAL: i32 = 1;
pub const UNKNOWN: i32 = 2;
pub const CONTROL: i32 = 3;
pub const USER: i32 = 4;
pub const UNUSED: i32 = 5;
pub const BYTE: i32 = 6;

/// A vocabulary that is being built.
pub struct Draft {
    pub kv: GgufWriter,
    tokens: Vec<(String, i32, f32)>,
    ids: HashMap<String, usize>,
}

impl Draft {
    pub fn new(model: &str) -> Draft {
        let mut kv = GgufWriter::new();
        kv.add_kv("general.architecture", Value::str("llama"));
        kv.add_kv("general.name", Value::str("synthetic"));
        for (key, n) in
            [("block_count", 1), ("context_length", 64), ("embedding_length", 64), ("feed_forward_length", 64)]
        {
            kv.add_kv(&format!("llama.{key}"), Value::U32(n));
        }
        kv.add_kv("llama.attention.head_count", Value::U32(1));
        kv.add_kv("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
        kv.add_kv("tokenizer.ggml.model", Value::str(model));
        Draft { kv, tokens: Vec::new(), ids: HashMap::new() }
    }

    /// Adds a token, unless its text exists. Returns its id.
    pub fn token(&mut self, text: &str, kind: i32, score: f32) -> usize {
        let next = self.tokens.len();
        let id = *self.ids.entry(text.to_owned()).or_insert(next);
        if id == next {
            self.tokens.push((text.to_owned(), kind, score));
        }
        id
    }

    pub fn id_key(&mut self, name: &str, id: usize) {
        self.kv.add_kv(&format!("tokenizer.ggml.{name}_token_id"), Value::U32(id as u32));
    }

    pub fn merges(&mut self, merges: &[(String, String)]) {
        let merges: Strs = merges.iter().map(|(a, b)| format!("{a} {b}")).collect();
        self.kv.add_kv("tokenizer.ggml.merges", Value::Strs(merges));
    }

    /// Writes the file; ids are in the order of `token`.
    pub fn write(mut self, name: &str) -> Scratch {
        let texts: Strs = self.tokens.iter().map(|t| t.0.as_str()).collect();
        let kinds: Vec<i32> = self.tokens.iter().map(|t| t.1).collect();
        let scores: Vec<f32> = self.tokens.iter().map(|t| t.2).collect();
        self.kv.add_kv("tokenizer.ggml.tokens", Value::Strs(texts));
        self.kv.add_kv("tokenizer.ggml.token_type", Value::i32s(&kinds));
        self.kv.add_kv("tokenizer.ggml.scores", Value::f32s(&scores));
        Scratch::write(name, &self.kv.into_bytes())
    }
}

/// A file that is removed when this value is dropped.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn write(name: &str, bytes: &[u8]) -> Scratch {
        let path = std::env::temp_dir().join(format!("cllm-{}-{name}.gguf", std::process::id()));
        std::fs::write(&path, bytes).expect("the temporary folder can be written");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The bytes of a text in GPT-2's spelling, one string for each byte.
pub fn spell_bytes(text: &str) -> Vec<String> {
    text.bytes().map(spell_byte).collect()
}

/// The merges of `seed`. They are learnt once in a process and shared by vocabularies.
fn byte_level_merges(seed: u64) -> Vec<(String, String)> {
    static LEARNT: Mutex<BTreeMap<u64, Vec<(String, String)>>> = Mutex::new(BTreeMap::new());
    let mut learnt = LEARNT.lock().expect("nobody panicked while learning");
    let learn = || {
        let mut rng = Dice::new(seed);
        let lines = (0..300).map(|_| spell_bytes(&random_text(&mut rng))).collect();
        train(lines, 700, &mut rng)
    };
    learnt.entry(seed).or_insert_with(learn).clone()
}

/// A byte-level vocabulary for the pre-tokenizer `pre`.
pub fn byte_level(pre: &str, seed: u64) -> Draft {
    let mut draft = Draft::new("gpt2");
    draft.kv.add_kv("tokenizer.ggml.pre", Value::str(pre));
    for b in 0..=255 {
        draft.token(&spell_byte(b), NORMAL, 0.0);
    }
    let merges = byte_level_merges(seed);
    for (a, b) in &merges {
        draft.token(&format!("{a}{b}"), NORMAL, 0.0);
    }
    draft.merges(&merges);
    specials(&mut draft);
    draft
}

pub fn spell_byte(b: u8) -> String {
    let printable = |b: u8| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if printable(b) {
        return (b as char).to_string();
    }
    let before = (0..b).filter(|&x| !printable(x)).count() as u32;
    char::from_u32(0x100 + before).expect("a letter").to_string()
}

/// Adds special tokens of every kind, and the ids in the metadata.
pub fn specials(draft: &mut Draft) {
    for (i, text) in SPECIALS.iter().enumerate() {
        let kind = [CONTROL, CONTROL, CONTROL, USER, USER, USER, UNKNOWN, CONTROL, CONTROL, CONTROL][i.min(9)];
        let kind = if ["▁▁▁", "\u{2028}!"].contains(text) { USER } else { kind };
        let id = draft.token(text, kind, 0.0);
        match *text {
            "<s>" => draft.id_key("bos", id),
            "</s>" => draft.id_key("eos", id),
            // Named in the metadata, because llama.cpp would otherwise choose between this and "[PAD]" by the order of its
            // hash table.
            "<|fim_pad|>" => draft.id_key("fim_pad", id),
            _ => {}
        }
    }
    draft.token("<|unused_1|>", UNUSED, 0.0);
    draft.token("  ", USER, 0.0);
    draft.token("Ġuser", NORMAL, 0.0);
}

/// Both tokenizers of one file.
pub struct Pair {
    pub ours: Tokenizer,
    pub theirs: LlamaVocab,
    pub seed: u64,
    pub name: String,
}

impl Pair {
    pub fn open(path: &Path, name: &str, seed: u64) -> Pair {
        silence_log();
        let gguf = GgufFile::open(path).unwrap_or_else(|e| panic!("{name}: {e}"));
        let ours = Tokenizer::from_gguf(&gguf, || panic!("{name}: no fallback expected"))
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(ours.fallback_reason(), None);
        let theirs = LlamaVocab::open(&ModelPlace::at(path)).unwrap_or_else(|e| panic!("{name}: {e}"));
        Pair { ours, theirs, seed, name: name.to_owned() }
    }

    fn differs(&self, text: &str, add: bool, parse: bool) -> bool {
        let theirs = self.theirs.tokenize_here(text, add, parse);
        theirs.is_ok() && self.ours.encode(text, add, parse) != theirs
    }

    /// Compares the ids of `text`. On a difference, panics with the seed and the shortest text that still differs.
    pub fn check(&self, text: &str, add: bool, parse: bool) {
        if !self.differs(text, add, parse) {
            return;
        }
        let mut chars: Vec<char> = text.chars().collect();
        let mut step = chars.len() / 2;
        while step > 0 {
            let mut at = 0;
            while at < chars.len() {
                let mut shorter = chars.clone();
                shorter.drain(at..(at + step).min(chars.len()));
                match self.differs(&shorter.iter().collect::<String>(), add, parse) {
                    true => chars = shorter,
                    false => at += step,
                }
            }
            step /= 2;
        }
        let short: String = chars.into_iter().collect();
        panic!(
            "{}: ids differ for {short:?} (add_special {add}, parse_special {parse}, seed {}, from {text:?})\n\
             ours   {:?}\ntheirs {:?}",
            self.name,
            self.seed,
            self.shown(&self.ours.encode(&short, add, parse).expect("no error")),
            self.shown(&self.theirs.tokenize_here(&short, add, parse).expect("no error")),
        );
    }

    fn shown(&self, ids: &[Token]) -> Vec<(u32, String)> {
        let show = |t: &Token| (t.0, String::from_utf8_lossy(&self.ours.piece(*t, true)).into_owned());
        ids.iter().map(show).collect()
    }

    /// Compares `n` random strings and returns the number of comparisons. With `all_flags`, each string with every
    /// combination of flags, otherwise with one in turn. Most comparisons join several strings, because llama.cpp compiles
    /// its expressions for each call.
    pub fn check_random(&self, n: usize, all_flags: bool) -> usize {
        let mut rng = Dice::new(self.seed ^ 0xabcd);
        let (mut done, mut calls) = (0, 0);
        while done < n {
            let together = if all_flags || done * 10 < n { 1 } else { 16.min(n - done) };
            let text: String = (0..together).map(|_| random_text(&mut rng)).collect();
            done += together;
            for flags in 0..4 {
                if all_flags || flags == calls % 4 {
                    self.check(&text, flags & 1 != 0, flags & 2 != 0);
                }
            }
            calls += 1;
        }
        calls
    }

    /// Compares the bytes of every token, the end-of-generation tokens and the special ids.
    pub fn check_table(&self) {
        assert_eq!(self.ours.n_vocab(), self.theirs.n_vocab(), "{}", self.name);
        for id in 0..self.ours.n_vocab() as u32 {
            let token = Token(id);
            for special in [false, true] {
                let theirs = self.theirs.piece(token, special).expect("a token");
                assert_eq!(self.ours.piece(token, special), theirs, "{}: token {id}, special {special}", self.name);
            }
            assert_eq!(self.ours.table().is_eog(token), self.theirs.is_eog(token), "{}: eog {id}", self.name);
        }
        assert_eq!((self.ours.bos(), self.ours.eos()), (self.theirs.bos(), self.theirs.eos()), "{}", self.name);
    }
}

/// llama.cpp's tokenizer as a fallback.
#[allow(dead_code)]
pub fn fallback_of(path: &Path) -> OtherTokenizer {
    let vocab = std::sync::Arc::new(LlamaVocab::open(&ModelPlace::at(path)).expect("a vocabulary"));
    let (a, b, c) = (vocab.clone(), vocab.clone(), vocab.clone());
    OtherTokenizer {
        n_vocab: vocab.n_vocab(),
        bos: vocab.bos(),
        eos: vocab.eos(),
        tokenize: Box::new(move |text, add, parse| a.tokenize(text, add, parse)),
        piece: Box::new(move |token, special| b.piece(token, special).unwrap_or_default()),
        is_eog: Box::new(move |token| c.is_eog(token)),
    }
}

/// Runs `body` on a thread with enough stack for the recursion of llama.cpp's `std::regex`.
pub fn on_big_stack(body: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(256 << 20).spawn_scoped(scope, body).expect("a thread");
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}
