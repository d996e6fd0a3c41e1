//! A GGUF's vocabulary as llama.cpp reads it: texts, kinds, scores, special ids, and which tokens end a generation.
//!
//! llama.cpp corrects mistakes of converters by looking at the texts of tokens. These corrections change ids, so they are
//! made here, too. Where llama.cpp takes the first of several tokens in its hash table, the lowest id is taken here.

use crate::gguf::{GgufFile, Value};
use crate::types::Token;

use super::text_map::TextMap;

/// Attribute of a token: ordinary text. The attributes are llama.cpp's (`llama_token_attr`), one bit each.
pub const NORMAL: u8 = 1;
/// Attribute: the token stands for text that the vocabulary can't spell.
pub const UNKNOWN: u8 = 2;
/// Attribute: a control token, which has no text in an answer.
pub const CONTROL: u8 = 4;
/// Attribute: a token that a user added; it is always found in a prompt.
pub const USER_DEFINED: u8 = 8;
/// Attribute: a single byte.
pub const BYTE: u8 = 16;
/// Attribute: white space before the token's text in a prompt is removed.
pub const LSTRIP: u8 = 32;
/// Attribute: white space after the token's text in a prompt is removed.
pub const RSTRIP: u8 = 64;

/// How the vocabulary's texts become ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VocabKind {
    /// Byte-pair merges by rank.
    Bpe,
    /// SentencePiece's BPE: merges by score, bytes as a fallback.
    Spm,
    /// BERT's WordPiece: longest match within a word.
    WordPiece,
}

/// Why `Vocab::read` failed.
pub enum VocabUnread {
    /// The metadata contradicts itself. llama.cpp would refuse it or abort.
    Broken(String),
    /// A kind of vocabulary that is not supported here.
    Foreign(String),
}

/// All metadata about tokens.
#[derive(Debug)]
pub struct Vocab {
    /// How its texts become ids.
    pub kind: VocabKind,
    /// `tokenizer.ggml.model`, as written.
    pub model: String,
    /// The name of the pre-tokenizer; empty if the file names none.
    pub pre: String,
    /// The text of each token, by id.
    pub texts: TextMap,
    /// The attributes of each token, by id: the bits above.
    pub attrs: Vec<u8>,
    /// The score of each token, by id; 0 where the file has none.
    pub scores: Vec<f32>,
    /// The token at the beginning of a text.
    pub bos: Option<Token>,
    /// The token at the end of a text.
    pub eos: Option<Token>,
    /// The token for text that the vocabulary can't spell.
    pub unk: Option<Token>,
    /// The token between two texts of one input.
    pub sep: Option<Token>,
    /// Whether `add_special` adds BOS at the beginning.
    pub add_bos: bool,
    /// Whether `add_special` adds EOS (or SEP) at the end.
    pub add_eos: bool,
    /// Whether a space is put before a text.
    pub add_space_prefix: bool,
    /// Whether a text is put into lower case (WordPiece).
    pub lowercase: bool,
    /// Whether accents are removed from a text (WordPiece).
    pub strip_accents: bool,
    /// The tokens that end a generation, ascending.
    pub eog: Vec<Token>,
    /// The fill-in-the-middle tokens: before the text in front of the gap, before the text behind it, and before the text
    /// that fills it.
    pub fim: Option<[Token; 3]>,
    /// The token before the name of a project.
    pub fim_rep: Option<Token>,
    /// The token before the name of each file of a project.
    pub fim_sep: Option<Token>,
}

impl Vocab {
    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.attrs.len()
    }

    /// Reads the vocabulary. `add_bos` and `no_bos` are the pre-tokenizer's defaults.
    pub fn read(gguf: &GgufFile, add_bos: bool, no_bos: bool) -> Result<Vocab, VocabUnread> {
        let model = gguf.str("tokenizer.ggml.model").unwrap_or("").to_owned();
        let pre = pre_name(gguf).to_owned();
        let broken = |reason: &str| VocabUnread::Broken(reason.to_owned());
        let (kind, bos, eos, unk, sep) = match model.as_str() {
            "llama" => (VocabKind::Spm, Some(1), Some(2), Some(0), None),
            "bert" => (VocabKind::WordPiece, Some(101), None, Some(100), Some(102)),
            "gpt2" | "whitespace" => (VocabKind::Bpe, Some(11), Some(11), None, None),
            "gemma4" => (VocabKind::Bpe, None, None, None, None),
            "" => return Err(broken("holds no vocabulary (tokenizer.ggml.model is missing)")),
            other => return Err(VocabUnread::Foreign(format!("vocabulary kind {other:?}"))),
        };

        let tokens = gguf.strs("tokenizer.ggml.tokens").ok_or_else(|| broken("tokenizer.ggml.tokens is missing"))?;
        if tokens.is_empty() {
            return Err(broken("its vocabulary is empty"));
        }
        let mut texts = TextMap::with_capacity(tokens.len());
        for (i, text) in tokens.iter().enumerate() {
            // llama.cpp reads texts as C strings, which end at the first NUL.
            let text = text.split(|&b| b == 0).next().unwrap_or_default();
            let named = format!("[EMPTY_{i}]");
            let text = if text.is_empty() { named.as_bytes() } else { text };
            if let (first, false) = texts.insert(text) {
                let text = String::from_utf8_lossy(text);
                return Err(VocabUnread::Broken(format!("tokens {first} and {i} are both {text:?}")));
            }
        }

        let n = tokens.len();
        let types = match gguf.get("tokenizer.ggml.token_type") {
            None => vec![1; n],
            Some(_) => gguf.i32s("tokenizer.ggml.token_type").unwrap_or_default(),
        };
        let scores = match gguf.get("tokenizer.ggml.scores") {
            None => vec![0.0; n],
            Some(_) => match gguf.f32s("tokenizer.ggml.scores") {
                Some(scores) => scores,
                None => gguf.i32s("tokenizer.ggml.scores").unwrap_or_default().into_iter().map(|s| s as f32).collect(),
            },
        };
        if types.len() < n || scores.len() < n {
            return Err(broken("fewer token types or scores than tokens, or of the wrong type"));
        }
        let attrs = types[..n].iter().map(|t| match t {
            1 => NORMAL,
            2 => UNKNOWN,
            3 => CONTROL,
            4 => USER_DEFINED,
            6 => BYTE,
            _ => 0, // Unused and undefined tokens have no attribute.
        });
        let mut vocab = Vocab {
            kind,
            model,
            pre,
            attrs: attrs.collect(),
            texts,
            scores,
            bos: None,
            eos: None,
            unk: None,
            sep: None,
            add_bos: add_bos || kind != VocabKind::Bpe,
            add_eos: false,
            add_space_prefix: kind == VocabKind::Spm,
            lowercase: true,
            strip_accents: true,
            eog: Vec::new(),
            fim: None,
            fim_rep: None,
            fim_sep: None,
        };
        let id = |name: &str, default: Option<u32>| {
            let in_range = |id: &u32| (*id as usize) < n;
            let named = gguf.u32(&format!("tokenizer.ggml.{name}_token_id")).filter(in_range);
            named.or(default.filter(in_range)).map(Token)
        };
        vocab.bos = id("bos", bos.filter(|_| !no_bos));
        vocab.eos = id("eos", eos);
        vocab.unk = id("unknown", unk);
        vocab.sep = id("seperator", sep);
        vocab.flags(gguf);
        let eot = id("eot", None);
        let eom = id("eom", None);
        let first_of = |names: [&str; 2]| names.iter().find_map(|name| id(name, None));
        vocab.correct(Given {
            eot,
            eom,
            fim_pre: first_of(["prefix", "fim_pre"]),
            fim_suf: first_of(["suffix", "fim_suf"]),
            fim_mid: first_of(["middle", "fim_mid"]),
            fim_pad: id("fim_pad", None),
            fim_rep: id("fim_rep", None),
            fim_sep: id("fim_sep", None),
        });
        vocab.strip_attributes(gguf);
        Ok(vocab)
    }

    fn flags(&mut self, gguf: &GgufFile) {
        let flag = |name: &str, default: bool| gguf.bool(&format!("tokenizer.ggml.{name}")).unwrap_or(default);
        self.add_space_prefix = flag("add_space_prefix", self.add_space_prefix);
        self.add_bos = flag("add_bos_token", self.add_bos);
        self.add_eos = flag("add_eos_token", false);
        if self.kind == VocabKind::Bpe && matches!(self.pre.as_str(), "gemma4" | "granite-embed-multi-311m") {
            self.add_bos = true;
        }
        let lowercase_default = self.pre != "whitespace" || self.kind != VocabKind::Bpe;
        self.lowercase = flag("normalizer.lowercase", lowercase_default);
        self.strip_accents = flag("normalizer.strip_accents", self.lowercase);
    }

    /// Marks control tokens that the converter missed, and collects the end-of-generation tokens.
    fn correct(&mut self, given: Given) {
        let find = |vocab: &Vocab, names: &[&str]| {
            names.iter().filter_map(|name| vocab.texts.get(name.as_bytes())).min().map(Token)
        };
        // If the metadata gives an id, names are ignored; otherwise the token with one of the names becomes a control
        // token.
        let settle = |vocab: &mut Vocab, given: Option<Token>, names: &[&str]| {
            given.or_else(|| {
                let found = find(vocab, names)?;
                vocab.attrs[found.index()] |= CONTROL;
                Some(found)
            })
        };
        let eot = settle(self, given.eot, EOT_NAMES);
        let eom = settle(self, given.eom, &["<|eom_id|>"]);
        let fim_pre = settle(self, given.fim_pre, FIM_PRE_NAMES);
        let fim_suf = settle(self, given.fim_suf, FIM_SUF_NAMES);
        let fim_mid = settle(self, given.fim_mid, FIM_MID_NAMES);
        if let (Some(pre), Some(suf), Some(mid)) = (fim_pre, fim_suf, fim_mid) {
            self.fim = Some([pre, suf, mid]);
        }
        let fim_pad = settle(self, given.fim_pad, FIM_PAD_NAMES);
        let fim_rep = settle(self, given.fim_rep, FIM_REP_NAMES);
        let fim_sep = settle(self, given.fim_sep, &["<|file_sep|>"]);
        (self.fim_rep, self.fim_sep) = (fim_rep, fim_sep);

        let mut eog: Vec<Token> = [fim_pad, fim_rep, fim_sep].into_iter().flatten().collect();
        for name in eog_names() {
            if let Some(token) = find(self, &[name]) {
                self.attrs[token.index()] |= CONTROL;
                eog.push(token);
            }
        }
        for name in ["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"] {
            if let Some(token) = find(self, &[name]) {
                self.attrs[token.index()] = USER_DEFINED;
            }
        }
        eog.extend([self.eos, eot, eom].into_iter().flatten());
        eog.sort_unstable();
        eog.dedup();

        let among = |eog: &[Token], name: &str| find(self, &[name]).filter(|token| eog.contains(token));
        let has = |name: &str| among(&eog, name).is_some();
        let has_call = has("<|call|>") || has("<|calls|>");
        let harmony = has_call && (has("<|return|>") || has("<|flush|>"));
        let end = among(&eog, "<|end|>").filter(|_| harmony);
        let marked = has("<|tool_response>") || has("<|plamo:eos|>");
        let s = among(&eog, "</s>").filter(|_| marked);
        for (token, attr) in [(end, USER_DEFINED), (s, NORMAL)] {
            if let Some(token) = token {
                eog.retain(|t| *t != token);
                self.attrs[token.index()] = attr;
            }
        }
        self.eog = eog;
    }

    /// Marks special tokens that remove white space beside them. Only the model's name tells which.
    fn strip_attributes(&mut self, gguf: &GgufFile) {
        let pre = gguf.str("tokenizer.ggml.pre").unwrap_or("");
        let arch = gguf.str("general.architecture").unwrap_or("");
        let name = match gguf.get("general.name") {
            Some(Value::Str(name)) => String::from_utf8_lossy(name).to_ascii_lowercase(),
            _ => String::new(),
        };
        let any = |text: &str, of: &[&str]| of.iter().any(|part| text.contains(part));
        if any(pre, &["jina-v2-de", "jina-v2-es", "jina-v2-code", "mmbert"])
            || any(arch, &["nomic-bert-moe", "jina-bert-v3"])
        {
            self.set_attr("<mask>", LSTRIP, true);
        } else if any(&name, &["phi-3", "phi3"]) {
            let special = CONTROL | USER_DEFINED | UNKNOWN;
            self.attrs.iter_mut().filter(|a| **a & special != 0).for_each(|a| *a |= RSTRIP);
            self.set_attr("</s>", RSTRIP, true);
            ["<unk>", "<s>", "<|endoftext|>"].into_iter().for_each(|text| self.set_attr(text, RSTRIP, false));
        } else if any(&name, &["modern-bert"]) {
            self.set_attr("[MASK]", LSTRIP, true);
        }
    }

    fn set_attr(&mut self, text: &str, attr: u8, on: bool) {
        if let Some(id) = self.texts.get(text.as_bytes()) {
            let attrs = &mut self.attrs[id as usize];
            *attrs = if on { *attrs | attr } else { *attrs & !attr };
        }
    }

    /// The bytes that a token stands for. A control token gives its text if `shows_control`, otherwise nothing; a token of
    /// no known kind gives nothing.
    pub fn piece(&self, token: u32, byte_encode: bool, shows_control: bool) -> Vec<u8> {
        let (attr, text) = (self.attrs[token as usize], self.texts.text(token));
        if attr & (CONTROL | UNKNOWN) != 0 {
            return if shows_control { text.to_vec() } else { Vec::new() };
        }
        if attr & USER_DEFINED != 0 {
            text.to_vec()
        } else if attr & NORMAL != 0 {
            if byte_encode { super::byte_alphabet::decode_lossy(text) } else { unescape_spaces(text) }
        } else if attr & BYTE != 0 {
            vec![byte_value(text)]
        } else {
            Vec::new()
        }
    }
}

/// The special ids in the metadata.
struct Given {
    eot: Option<Token>,
    eom: Option<Token>,
    fim_pre: Option<Token>,
    fim_suf: Option<Token>,
    fim_mid: Option<Token>,
    fim_pad: Option<Token>,
    fim_rep: Option<Token>,
    fim_sep: Option<Token>,
}

/// The name of the pre-tokenizer. Gemma 4's model kind implies it.
pub fn pre_name(gguf: &GgufFile) -> &str {
    match gguf.str("tokenizer.ggml.model") {
        Some("gemma4") => "gemma4",
        _ => gguf.str("tokenizer.ggml.pre").unwrap_or(""),
    }
}

/// The texts of tokens that end a generation.
pub fn eog_names() -> impl Iterator<Item = &'static str> {
    EOT_NAMES.iter().chain(EOG_NAMES).copied()
}

/// The byte of `<0xXX>`. Invalid digits are handled as by C's `strtol`.
fn byte_value(text: &[u8]) -> u8 {
    let digits = text.get(3..).unwrap_or_default().iter().take(2);
    digits.map_while(|&b| (b as char).to_digit(16)).fold(0, |n, d| n * 16 + d as u8)
}

fn unescape_spaces(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        match rest.strip_prefix("\u{2581}".as_bytes()) {
            Some(after) => {
                out.push(b' ');
                rest = after;
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    out
}

const EOT_NAMES: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];
/// Further texts of tokens that end a generation.
const EOG_NAMES: &[&str] = &[
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "</s>",
    "<|eom_id|>",
    "[EOS]",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "[e~[",
];
const FIM_PRE_NAMES: &[&str] = &[
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<｜fim▁begin｜>",
    "<PRE>",
    "▁<PRE>",
    "<|code_prefix|>",
    "<|prefix|>",
];
const FIM_SUF_NAMES: &[&str] = &[
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<｜fim▁hole｜>",
    "<SUF>",
    "▁<SUF>",
    "<|code_suffix|>",
    "<|suffix|>",
];
const FIM_MID_NAMES: &[&str] = &[
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<｜fim▁end｜>",
    "<MID>",
    "▁<MID>",
    "<|code_middle|>",
    "<|middle|>",
];
const FIM_PAD_NAMES: &[&str] = &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"];
const FIM_REP_NAMES: &[&str] = &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"];
