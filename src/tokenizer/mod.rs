//! Text to tokens and back, on HTTP threads. Built from a GGUF's metadata; ids are equal to llama.cpp's.
//!
//! The steps of encoding: `special` cuts out special tokens; `split` (with `pattern`) cuts the rest into words as `pre`
//! says for the vocabulary's pre-tokenizer; `bpe`, `spm` or `wordpiece` turns words into tokens. `vocab` holds the
//! metadata, with llama.cpp's corrections. A tokenizer is read-only once it is built, and encoding takes no lock, so any
//! number of threads share one. A `tokenizer.json` named by the user goes through the `tokenizers` crate (`json`). That
//! crate can't replace the code for a GGUF: its `BPE` needs every merge in the vocabulary and merges by rank only, and its
//! expressions follow another Unicode version and another regex engine than llama.cpp's.
//!
//! Kinds of vocabulary that are not supported here (T5's, RWKV's, PLaMo's, ...) go to the fallback that the caller
//! provides, which is llama.cpp itself; `fallback_reason` says so.
//!
//! Known differences from llama.cpp, none of which was seen with real files:
//! - Special tokens of equal length that overlap in a text: in llama.cpp the order of an unstable sort decides; here the
//!   lower id comes first.
//! - Several tokens that could be one fill-in-the-middle token by name, and none in the metadata: llama.cpp takes the first
//!   of its hash table; here the lowest id.
//! - Special tokens that aren't UTF-8 don't match inside characters.
//! - A vocabulary that requires a BOS or EOS that it doesn't have aborts llama.cpp; here nothing is added.

mod assembler;
mod bpe;
mod breakers;
mod byte_alphabet;
mod json;
mod pattern;
pub mod pre;
mod special;
mod split;
mod spm;
mod text_map;
mod unicode;
mod unicode_data;
mod utf8;
mod vocab;
mod wordpiece;

use std::path::Path;
use std::sync::Arc;

pub use assembler::TextAssembler;
pub use breakers::Breakers;
pub use utf8::Utf8Assembler;
pub use vocab::VocabKind;

use crate::gguf::GgufFile;
use crate::types::limits::TOKENIZED_BYTES_MAX;
use crate::types::{RequestError, StartupError, Token, TokenTable};

use bpe::Bpe;
use special::{Fragment, Specials};
use spm::Spm;
use vocab::{Vocab, VocabUnread};
use wordpiece::WordPiece;

/// Another tokenizer, for vocabularies that are not supported here: llama.cpp's, behind closures.
pub struct OtherTokenizer {
    /// Tokens of the vocabulary.
    pub n_vocab: usize,
    /// The token at the beginning of a text; `None`: there is none.
    pub bos: Option<Token>,
    /// The token at the end of a text; `None`: there is none.
    pub eos: Option<Token>,
    /// The ids of a text, from `(text, add_special, parse_special)`, which mean what they do in `Tokenizer::encode`.
    #[allow(clippy::type_complexity)]
    pub tokenize: Box<dyn Fn(&str, bool, bool) -> Result<Vec<Token>, RequestError> + Send + Sync>,
    /// A token's bytes, from `(token, shows_control)`. If `shows_control`, control tokens give their text.
    #[allow(clippy::type_complexity)]
    pub piece: Box<dyn Fn(Token, bool) -> Vec<u8> + Send + Sync>,
    /// Whether a token ends a generation.
    pub is_eog: Box<dyn Fn(Token) -> bool + Send + Sync>,
}

/// A vocabulary that is ready to use. Share it in an `Arc`.
pub struct Tokenizer {
    engine: Algorithm,
    table: Arc<TokenTable>,
    /// The metadata's vocabulary; `None` with the fallback, and with a `tokenizer.json` without a GGUF.
    vocab: Option<Vocab>,
    bos: Option<Token>,
    eos: Option<Token>,
    eog: Vec<Token>,
    /// A separator that is added once more between two texts that form one input, as XLM-RoBERTa needs it: `<s> first
    /// </s></s> second </s>`.
    pair_sep: Option<Token>,
    /// The length of the longest token in bytes.
    bytes_max: usize,
    fallback_reason: Option<String>,
}

// A process has one of these, so the size of the largest variant doesn't matter.
#[allow(clippy::large_enum_variant)]
enum Algorithm {
    Bpe(Bpe, Specials),
    Spm(Spm, Specials),
    WordPiece(WordPiece, Specials),
    Json(json::JsonEngine),
    Fallback(OtherTokenizer),
}

impl Tokenizer {
    /// Builds the tokenizer from metadata. `fallback` is called only if the vocabulary's kind is not supported.
    ///
    /// # Errors
    /// The metadata contradict each other, or `fallback` fails.
    pub fn from_gguf(
        gguf: &GgufFile,
        fallback: impl FnOnce() -> Result<OtherTokenizer, StartupError>,
    ) -> Result<Tokenizer, StartupError> {
        let refuse = |reason| StartupError::Model { path: gguf.path().to_owned(), reason };
        match native(gguf) {
            Ok((engine, vocab)) => Ok(Tokenizer { pair_sep: pair_sep(gguf), ..Self::with_vocab(engine, vocab) }),
            Err(VocabUnread::Broken(reason)) => Err(refuse(reason)),
            Err(VocabUnread::Foreign(reason)) => {
                let fallback = fallback()?;
                let ids = || (0..fallback.n_vocab as u32).map(Token);
                let pieces: Vec<Vec<u8>> = ids().map(|t| (fallback.piece)(t, false)).collect();
                let eog: Vec<Token> = ids().filter(|t| (fallback.is_eog)(*t)).collect();
                Ok(Tokenizer {
                    table: Arc::new(TokenTable::new(pieces.iter().map(Vec::as_slice), &eog)),
                    vocab: None,
                    bos: fallback.bos,
                    eos: fallback.eos,
                    eog,
                    pair_sep: pair_sep(gguf),
                    bytes_max: usize::MAX,
                    fallback_reason: Some(reason),
                    engine: Algorithm::Fallback(fallback),
                })
            }
        }
    }

    /// Uses the `tokenizer.json` at `path` to encode. If `model` is given, that GGUF still says what ids mean, how many
    /// there are and which end a generation.
    ///
    /// # Errors
    /// The file can't be read or used, or it has more tokens than the model.
    pub fn from_json(path: &Path, model: Option<&GgufFile>) -> Result<Tokenizer, StartupError> {
        let refuse = |reason| StartupError::Model { path: path.to_owned(), reason };
        let json = json::JsonEngine::open(path).map_err(refuse)?;
        match model.map(native) {
            Some(Ok((_, vocab))) => {
                if json.n_vocab() > vocab.len() {
                    let reason = format!("has ids up to {}, the model has only {} tokens", json.n_vocab(), vocab.len());
                    return Err(refuse(reason));
                }
                let pair_sep = model.and_then(pair_sep);
                Ok(Tokenizer { pair_sep, ..Self::with_vocab(Algorithm::Json(json), vocab) })
            }
            _ => {
                let (pieces, eog) = (json.pieces(), json.eog());
                Ok(Tokenizer {
                    table: Arc::new(TokenTable::new(pieces.iter().map(Vec::as_slice), &eog)),
                    vocab: None,
                    bos: None,
                    eos: None,
                    eog,
                    pair_sep: model.and_then(pair_sep),
                    bytes_max: usize::MAX,
                    fallback_reason: None,
                    engine: Algorithm::Json(json),
                })
            }
        }
    }

    fn with_vocab(engine: Algorithm, vocab: Vocab) -> Tokenizer {
        let byte_encode = byte_encode(&vocab);
        let pieces: Vec<Vec<u8>> = (0..vocab.len() as u32).map(|id| vocab.piece(id, byte_encode, false)).collect();
        Tokenizer {
            engine,
            table: Arc::new(TokenTable::new(pieces.iter().map(Vec::as_slice), &vocab.eog)),
            bos: vocab.bos,
            eos: vocab.eos,
            eog: vocab.eog.clone(),
            pair_sep: None,
            bytes_max: (0..vocab.len() as u32).map(|id| vocab.texts.text(id).len()).max().unwrap_or(1),
            vocab: Some(vocab),
            fallback_reason: None,
        }
    }

    /// The ids of `text`. `add_special`: add BOS and EOS (or the special tokens of this kind) as the metadata says;
    /// `parse_special`: turn the texts of control tokens in `text` into those tokens. User-defined tokens are always found.
    ///
    /// The time is near-linear in the text's length for every text. The stack used doesn't depend on the text.
    ///
    /// # Errors
    /// The text is too long, or the vocabulary has no tokens for it.
    pub fn encode(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<Token>, RequestError> {
        self.encode_parts(text, add_special, parse_special, &[])
    }

    /// The ids of a chat's prompt. The template's control tokens are found, but none inside the client's own text.
    /// `barriers` are ascending offsets: a text that begins at or before a barrier and ends after it doesn't become a
    /// control token. Without barriers the ids are those of `encode`.
    ///
    /// # Errors
    /// As `encode`.
    pub fn encode_chat(&self, text: &str, add_special: bool, barriers: &[usize]) -> Result<Vec<Token>, RequestError> {
        match &self.engine {
            Algorithm::Json(_) | Algorithm::Fallback(_) if !barriers.is_empty() => {
                self.encode_split(text, add_special, barriers)
            }
            _ => self.encode_parts(text, add_special, true, barriers),
        }
    }

    /// For engines without barriers: cuts the text at each barrier, even inside a word.
    fn encode_split(&self, text: &str, add_special: bool, barriers: &[usize]) -> Result<Vec<Token>, RequestError> {
        let mut out = Vec::new();
        let mut from = 0;
        for end in barriers.iter().copied().chain([text.len()]) {
            if end > from {
                out.extend(self.encode(&text[from..end], false, true)?);
                from = end;
            }
        }
        if add_special {
            let (bare, framed) = (self.encode("a", false, true)?, self.encode("a", true, true)?);
            let at = framed.windows(bare.len().max(1)).position(|window| window == bare).unwrap_or(0);
            out.splice(0..0, framed[..at].iter().copied());
            out.extend_from_slice(framed.get(at + bare.len()..).unwrap_or_default());
        }
        Ok(out)
    }

    /// The texts that `encode` turns into control tokens with `parse_special`.
    pub fn control_texts(&self) -> Vec<String> {
        match &self.engine {
            Algorithm::Bpe(_, specials) | Algorithm::Spm(_, specials) | Algorithm::WordPiece(_, specials) => {
                specials.control_texts().map(str::to_owned).collect()
            }
            Algorithm::Json(_) | Algorithm::Fallback(_) => {
                let ids = (0..self.n_vocab() as u32).map(Token);
                let silent = ids.filter(|token| self.table.bytes(*token).is_empty());
                silent.filter_map(|token| String::from_utf8(self.piece(token, true)).ok()).collect()
            }
        }
    }

    fn encode_parts(
        &self,
        text: &str,
        add_special: bool,
        parse_special: bool,
        barriers: &[usize],
    ) -> Result<Vec<Token>, RequestError> {
        if text.len() > TOKENIZED_BYTES_MAX {
            let message = format!("the text has {} bytes, at most {TOKENIZED_BYTES_MAX} can be tokenised", text.len());
            return Err(RequestError::field("prompt", message));
        }
        let refuse = |message: String| RequestError::field("prompt", message);
        let vocab = self.vocab.as_ref();
        // About as many tokens as the text has. If it has more, the vector grows.
        let mut out = Vec::with_capacity(text.len() / 3 + 2);
        match (&self.engine, vocab) {
            (Algorithm::Json(json), _) => json.encode(text, add_special, parse_special, &mut out).map_err(refuse)?,
            (Algorithm::Fallback(fallback), _) => return (fallback.tokenize)(text, add_special, parse_special),
            (Algorithm::Bpe(bpe, specials), Some(vocab)) => {
                out.extend(vocab.bos.filter(|_| add_special && vocab.add_bos).map(|t| t.0));
                for piece in specials.cut(text, parse_special, barriers) {
                    match piece {
                        Fragment::Token(token) => out.push(token.0),
                        Fragment::Text(text) => bpe.encode(vocab, text, &mut out),
                    }
                }
                out.extend(vocab.eos.filter(|_| add_special && vocab.add_eos).map(|t| t.0));
            }
            (Algorithm::Spm(spm, specials), Some(vocab)) => {
                out.extend(vocab.bos.filter(|_| add_special && vocab.add_bos).map(|t| t.0));
                let mut after_special = true;
                for piece in specials.cut(text, parse_special, barriers) {
                    match piece {
                        Fragment::Token(token) => out.push(token.0),
                        Fragment::Text(text) => {
                            let prefix = if after_special && vocab.add_space_prefix { "\u{2581}" } else { "" };
                            let escaped = format!("{prefix}{}", text.replace(' ', "\u{2581}"));
                            spm.encode(vocab, &escaped, &mut out).map_err(refuse)?;
                        }
                    }
                    after_special = matches!(piece, Fragment::Token(_));
                }
                out.extend(vocab.eos.filter(|_| add_special && vocab.add_eos).map(|t| t.0));
            }
            (Algorithm::WordPiece(wordpiece, specials), Some(vocab)) => {
                out.extend(vocab.bos.filter(|_| add_special).map(|t| t.0));
                for piece in specials.cut(text, parse_special, barriers) {
                    match piece {
                        Fragment::Token(token) => out.push(token.0),
                        Fragment::Text(text) => wordpiece.encode(vocab, text, &mut out).map_err(refuse)?,
                    }
                }
                out.extend(vocab.sep.filter(|_| add_special).map(|t| t.0));
            }
            (Algorithm::Bpe(..) | Algorithm::Spm(..) | Algorithm::WordPiece(..), None) => {
                unreachable!("built with a vocabulary")
            }
        }
        Ok(out.into_iter().map(Token).collect())
    }

    /// Two texts as one input, as ranking models were trained: `[CLS] first [SEP] second [SEP]` for a BERT, `<s> first
    /// </s></s> second </s>` for an XLM-RoBERTa. The tokens that `encode` puts before a text come first, the tokens that it
    /// puts after a text follow each text, and a separator is added between them if the file requires one more.
    ///
    /// # Errors
    /// As `encode`.
    pub fn encode_pair(&self, first: &str, second: &str) -> Result<Vec<Token>, RequestError> {
        let frame = self.encode("", true, false)?;
        let plain = self.encode(first, false, false)?;
        let mut pair = self.encode(first, true, false)?;
        let before =
            usize::from(frame.first().is_some_and(|token| pair.first() == Some(token) && plain.first() != Some(token)));
        let behind = pair.get(before + plain.len()..).unwrap_or_default().to_vec();
        pair.extend(self.pair_sep);
        pair.extend(self.encode(second, false, false)?);
        pair.extend(behind);
        Ok(pair)
    }

    /// A lower bound on the number of tokens that `encode` gives for `text`, computed without tokenising. So a prompt that
    /// can't fit in the context is refused before its megabytes cost time. 0 if a vocabulary may drop text.
    pub fn n_tokens_min(&self, text: &str) -> usize {
        let swallows = |vocab: &Vocab| vocab.attrs.iter().any(|a| a & (vocab::LSTRIP | vocab::RSTRIP) != 0);
        match (&self.engine, &self.vocab) {
            (Algorithm::Bpe(bpe, _), Some(vocab)) if bpe.keeps_all() && !swallows(vocab) => {
                text.len() / self.bytes_max.max(1)
            }
            (Algorithm::Spm(..), Some(vocab)) if !swallows(vocab) => text.len() / self.bytes_max.max(1),
            _ => 0,
        }
    }

    /// The bytes of `tokens`, one after the other. With `show_special`, control tokens give their text; otherwise they give
    /// nothing.
    pub fn decode_bytes(&self, tokens: &[Token], show_special: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for &token in tokens {
            match show_special {
                true => out.extend_from_slice(&self.piece(token, true)),
                false => out.extend_from_slice(self.table.bytes(token)),
            }
        }
        out
    }

    /// Like `decode_bytes`, as text. Bytes that aren't UTF-8 become U+FFFD, and the space that SentencePiece adds before a
    /// text is removed.
    pub fn decode(&self, tokens: &[Token], show_special: bool) -> String {
        let tokens_of_text = match tokens.split_first() {
            Some((first, rest)) if !show_special && Some(*first) == self.bos => rest,
            _ => tokens,
        };
        let bytes = self.decode_bytes(tokens_of_text, show_special);
        let prefixed = self.vocab.as_ref().is_some_and(|v| v.kind == VocabKind::Spm && v.add_space_prefix);
        let bytes = if prefixed { bytes.strip_prefix(b" ").unwrap_or(&bytes) } else { &bytes };
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// The bytes of one token; none for an id outside the vocabulary.
    pub fn piece(&self, token: Token, show_special: bool) -> Vec<u8> {
        match (&self.vocab, &self.engine) {
            _ if !show_special || token.index() >= self.n_vocab() => self.table.bytes(token).to_vec(),
            (Some(vocab), _) => vocab.piece(token.0, byte_encode(vocab), true),
            (None, Algorithm::Fallback(fallback)) => (fallback.piece)(token, true),
            (None, Algorithm::Json(json)) => json.shown(token.0),
            (None, _) => self.table.bytes(token).to_vec(),
        }
    }

    /// The bytes of all tokens, as llama.cpp's `token_to_piece(special = false)` gives them, and the end-of-generation
    /// tokens.
    pub fn table(&self) -> &Arc<TokenTable> {
        &self.table
    }

    /// The token with exactly this text, as the vocabulary spells it.
    pub fn token_of(&self, text: &str) -> Option<Token> {
        match (&self.vocab, &self.engine) {
            (Some(vocab), _) => vocab.texts.get(text.as_bytes()).map(Token),
            (None, Algorithm::Json(json)) => json.token_of(text),
            _ => None,
        }
    }

    /// Tokens that end a generation, ascending.
    pub fn eog(&self) -> &[Token] {
        &self.eog
    }

    /// The token at the beginning of a text; `None`: there is none.
    pub fn bos(&self) -> Option<Token> {
        self.bos
    }

    /// The token at the end of a text; `None`: there is none.
    pub fn eos(&self) -> Option<Token> {
        self.eos
    }

    /// The fill-in-the-middle tokens: before the text in front of the gap, before the text behind it, and before the text
    /// that fills it.
    pub fn fim(&self) -> Option<[Token; 3]> {
        self.vocab.as_ref()?.fim
    }

    /// The token before the name of a project; its files follow.
    pub fn fim_rep(&self) -> Option<Token> {
        self.vocab.as_ref()?.fim_rep
    }

    /// The token before the name of each file of a project.
    pub fn fim_sep(&self) -> Option<Token> {
        self.vocab.as_ref()?.fim_sep
    }

    /// Whether `add_special` adds a BOS in front.
    pub fn add_bos(&self) -> bool {
        self.vocab.as_ref().is_some_and(|v| v.add_bos && v.bos.is_some())
    }

    /// Whether `add_special` adds an EOS (or SEP) at the end.
    pub fn add_eos(&self) -> bool {
        self.vocab.as_ref().is_some_and(|v| (v.add_eos && v.eos.is_some()) || v.kind == VocabKind::WordPiece)
    }

    /// The number of tokens of the vocabulary.
    pub fn n_vocab(&self) -> usize {
        self.table.n_vocab()
    }

    /// Model and pre-tokenizer in the form "gpt2/qwen2", for logs.
    pub fn kind(&self) -> String {
        match (&self.engine, &self.vocab) {
            (Algorithm::Json(_), _) => "tokenizer.json".to_owned(),
            (Algorithm::Fallback(_), _) => "llama.cpp".to_owned(),
            (_, Some(vocab)) if vocab.kind == VocabKind::Bpe => {
                format!("{}/{}", vocab.model, if vocab.pre.is_empty() { "default" } else { &vocab.pre })
            }
            (_, Some(vocab)) => vocab.model.clone(),
            (_, None) => unreachable!("built with a vocabulary"),
        }
    }

    /// Why llama.cpp's own tokenizer is used; `None`: it isn't.
    pub fn fallback_reason(&self) -> Option<&str> {
        self.fallback_reason.as_deref()
    }
}

/// The separator that the file requires between two texts, besides the token that ends the first. BERT has none, because
/// it already ends the first text with one.
fn pair_sep(gguf: &GgufFile) -> Option<Token> {
    let wanted = gguf.bool("tokenizer.ggml.add_sep_token") == Some(true);
    let is_bert = gguf.str("tokenizer.ggml.model") == Some("bert");
    // The misspelling is GGUF's own.
    gguf.u64("tokenizer.ggml.seperator_token_id").filter(|_| wanted && !is_bert).map(|id| Token(id as u32))
}

fn native(gguf: &GgufFile) -> Result<(Algorithm, Vocab), VocabUnread> {
    let name = vocab::pre_name(gguf);
    let is_bpe = matches!(gguf.str("tokenizer.ggml.model"), Some("gpt2" | "whitespace" | "gemma4"));
    let pre = if is_bpe { pre::pre_of(name) } else { pre::pre_of("") };
    let Some(pre) = pre else {
        return Err(VocabUnread::Foreign(format!("pre-tokenizer {name:?}")));
    };
    let vocab = Vocab::read(gguf, is_bpe && pre.add_bos, is_bpe && pre.no_bos)?;
    let specials = Specials::new(&vocab);
    let engine = match vocab.kind {
        VocabKind::Bpe => Algorithm::Bpe(Bpe::new(gguf, &vocab, pre).map_err(VocabUnread::Broken)?, specials),
        VocabKind::Spm => Algorithm::Spm(Spm::new(&vocab), specials),
        VocabKind::WordPiece => Algorithm::WordPiece(WordPiece::new(&vocab), specials),
    };
    Ok((engine, vocab))
}

/// Whether the texts of tokens are written in GPT-2's byte alphabet.
fn byte_encode(vocab: &Vocab) -> bool {
    vocab.kind == VocabKind::Bpe && pre::pre_of(&vocab.pre).is_some_and(|pre| !pre.escape_spaces)
}
