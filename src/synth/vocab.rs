//! The tokens of a synthetic model: another file's vocabulary, or generated words in byte-level BPE or WordPiece.

use super::alphabet::{SIZE_MIN, SPECIAL, WORDPIECE_CHARS, WORDPIECE_SIZE_MIN, WORDPIECE_SPECIAL};
use super::shape::{Arch, ModelShape};
use crate::gguf::{GgufFile, GgufWriter, Strs, Value};

/// The character before a token that begins a word.
const WORD_START: char = '\u{2581}';

/// ChatML.
const CHAT_TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n\
    {{ message.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// GGUF's numbers for kinds of tokens.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const UNUSED: i32 = 5;

const MODEL: &str = "tokenizer.ggml.model";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";

/// A vocabulary, as the metadata keys that describe it.
#[derive(Debug)]
pub struct SynthVocab {
    keys: Vec<(String, Value)>,
    len: usize,
}

impl SynthVocab {
    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Always false: a vocabulary has at least its single bytes or characters.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds its metadata keys.
    pub fn describe(&self, writer: &mut GgufWriter) {
        for (key, value) in &self.keys {
            writer.add_kv(key, value.clone());
        }
    }

    /// The vocabulary of another GGUF. Unused tokens are added at its end up to `len`, as real models pad their embeddings.
    ///
    /// # Errors
    /// The file has no vocabulary, or arrays of different lengths.
    pub fn copied(from: &GgufFile, len: usize) -> Result<SynthVocab, String> {
        let tokens = from.strs(TOKENS).ok_or("holds no vocabulary")?;
        let known = tokens.len();
        let len = known.max(len);
        let mut keys = Vec::new();
        for key in from.keys().iter().filter(|key| key.starts_with("tokenizer.")) {
            let value = from.get(key).ok_or("a metadata key has no value")?.clone();
            if [TYPES, SCORES].contains(&key.as_str()) && value.array_len() != Some(known) {
                return Err(format!("{key} has another length than {TOKENS}"));
            }
            keys.push((key.clone(), padded(key, value, known, len)));
        }
        Ok(SynthVocab { keys, len })
    }

    /// 256 bytes, generated words of the syllables ba, be, ... zu with their merges, and the special tokens.
    ///
    /// # Panics
    /// If `len` is below `SIZE_MIN`.
    pub fn synthetic(len: usize) -> SynthVocab {
        assert!(len >= SIZE_MIN, "a vocabulary holds at least {SIZE_MIN} tokens");
        let words = len - SIZE_MIN;
        let bytes = (0..=255).map(|byte| byte_char(byte).to_string());
        let (words, merges) = made_up_words(words);
        let specials = SPECIAL.map(String::from);
        let tokens: Strs = bytes.chain(words).chain(specials).collect();
        assert_eq!(tokens.len(), len);
        let mut types = vec![NORMAL; len];
        types[len - SPECIAL.len()..].fill(CONTROL);
        let special = |i: usize| Value::U32((len - SPECIAL.len() + i) as u32);
        let keys = [
            (MODEL, Value::str("gpt2")),
            ("tokenizer.ggml.pre", Value::str("qwen2")),
            (TOKENS, Value::Strs(tokens)),
            (TYPES, Value::i32s(&types)),
            ("tokenizer.ggml.merges", Value::Strs(merges.into_iter().collect())),
            ("tokenizer.ggml.bos_token_id", special(0)),
            ("tokenizer.ggml.eos_token_id", special(2)),
            ("tokenizer.ggml.padding_token_id", special(0)),
            ("tokenizer.ggml.add_bos_token", Value::Bool(false)),
            ("tokenizer.chat_template", Value::str(CHAT_TEMPLATE)),
        ];
        SynthVocab { keys: keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(), len }
    }

    /// A WordPiece vocabulary: the special tokens, each character at the start of a word and inside one, and generated
    /// words.
    ///
    /// # Panics
    /// If `len` is below `WORDPIECE_SIZE_MIN`.
    pub fn wordpiece(len: usize) -> SynthVocab {
        assert!(len >= WORDPIECE_SIZE_MIN, "a vocabulary holds at least {WORDPIECE_SIZE_MIN} tokens");
        let chars = WORDPIECE_CHARS.chars().flat_map(|c| [format!("{WORD_START}{c}"), c.to_string()]);
        let space = byte_char(b' ');
        let (words, _) = made_up_words(len - WORDPIECE_SIZE_MIN);
        let words = words.into_iter().map(|word| word.replace(space, "\u{2581}"));
        let tokens: Strs = WORDPIECE_SPECIAL.map(String::from).into_iter().chain(chars).chain(words).collect();
        assert_eq!(tokens.len(), len);
        let mut types = vec![NORMAL; len];
        types[..WORDPIECE_SPECIAL.len()].fill(CONTROL);
        let special = |name: &str| {
            Value::U32(WORDPIECE_SPECIAL.iter().position(|special| *special == name).unwrap_or_default() as u32)
        };
        let keys = [
            (MODEL, Value::str("bert")),
            ("tokenizer.ggml.pre", Value::str("default")),
            (TOKENS, Value::Strs(tokens)),
            (TYPES, Value::i32s(&types)),
            ("tokenizer.ggml.padding_token_id", special("[PAD]")),
            ("tokenizer.ggml.unknown_token_id", special("[UNK]")),
            ("tokenizer.ggml.bos_token_id", special("[CLS]")),
            ("tokenizer.ggml.cls_token_id", special("[CLS]")),
            ("tokenizer.ggml.seperator_token_id", special("[SEP]")),
            ("tokenizer.ggml.mask_token_id", special("[MASK]")),
        ];
        SynthVocab { keys: keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(), len }
    }

    /// The generated vocabulary for `shape`.
    pub fn for_shape(shape: &ModelShape) -> SynthVocab {
        if shape.arch == Arch::Bert { SynthVocab::wordpiece(shape.vocab) } else { SynthVocab::synthetic(shape.vocab) }
    }
}

/// The per-token array `value` with entries for the ids `known..len` added.
fn padded(key: &str, value: Value, known: usize, len: usize) -> Value {
    match (key, value) {
        (TOKENS, Value::Strs(mut tokens)) => {
            (known..len).for_each(|id| tokens.push(format!("[PAD{id}]").as_bytes()));
            Value::Strs(tokens)
        }
        (TYPES, Value::Nums { ty, mut raw }) => {
            (known..len).for_each(|_| raw.extend_from_slice(&UNUSED.to_le_bytes()));
            Value::Nums { ty, raw }
        }
        (SCORES, Value::Nums { ty, mut raw }) => {
            (known..len).for_each(|_| raw.extend_from_slice(&(-1e9f32).to_le_bytes()));
            Value::Nums { ty, raw }
        }
        (_, value) => value,
    }
}

/// `n` words, shortest first, and for each the two tokens that merge into it. Some words begin with a space. Each is a row
/// of two-letter syllables, so only one merge leads to each word.
fn made_up_words(n: usize) -> (Vec<String>, Vec<String>) {
    let syllables: Vec<(char, char)> =
        "bcdfghjklmnpqrstvwxyz".chars().flat_map(|c| "aeiou".chars().map(move |v| (c, v))).collect();
    let mut words: Vec<String> = Vec::with_capacity(n);
    let mut merges = Vec::with_capacity(n);
    for &(c, v) in syllables.iter().take(n) {
        words.push(format!("{c}{v}"));
        merges.push(format!("{c} {v}"));
    }
    let space = byte_char(b' ');
    for &(c, v) in syllables.iter().take(n - words.len()) {
        words.push(format!("{space}{c}{v}"));
        merges.push(format!("{space} {c}{v}"));
    }
    // Longer words: each shorter word with each syllable added.
    let mut stem = 0;
    while words.len() < n {
        for (c, v) in syllables.iter().take(n - words.len()) {
            let word = &words[stem];
            merges.push(format!("{word} {c}{v}"));
            words.push(format!("{word}{c}{v}"));
        }
        stem += 1;
    }
    (words, merges)
}

/// The printable character that stands for a byte in byte-level BPE (GPT-2's table).
fn byte_char(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let nth = (0..byte).filter(|b| !printable(*b)).count() as u32;
    char::from_u32(256 + nth).expect("below the surrogates")
}
