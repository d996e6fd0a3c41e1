//! llama.cpp's own tokenizer: the reference for tests, and the fallback for vocabularies that `src/tokenizer/` doesn't
//! support. Any thread may call it.
//!
//! It never runs on the caller's stack: llama.cpp's `std::regex` recurses once for each character of a long run. So each
//! call starts a thread with a (virtual) stack that grows with the text, and text longer than `LLAMA_TOKENIZED_BYTES_MAX` is refused.

use std::ffi::c_char;
use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use super::shim::{RawPlace, with_place};
use crate::types::limits::{
    LLAMA_TOKENIZED_BYTES_MAX, LLAMA_TOKENIZER_STACK_BYTES_MIN, LLAMA_TOKENIZER_STACK_BYTES_PER_BYTE,
};
use crate::types::{ModelPlace, RequestError, StartupError, Token};

unsafe extern "C" {
    fn cllm_vocab_load(place: *const RawPlace, err: *mut c_char, err_bytes: usize) -> *mut sys::llama_model;
    fn cllm_vocab_tokenize(
        vocab: *const sys::llama_vocab,
        text: *const c_char,
        bytes: i32,
        out: *mut i32,
        max: i32,
        add_special: bool,
        parse_special: bool,
        err: *mut c_char,
        err_bytes: usize,
    ) -> i32;
    fn cllm_vocab_piece(
        vocab: *const sys::llama_vocab,
        token: i32,
        out: *mut c_char,
        max: i32,
        special: bool,
        err: *mut c_char,
        err_bytes: usize,
    ) -> i32;
}

/// A buffer for a message from the shim.
struct MessageBuffer([u8; 256]);

impl MessageBuffer {
    fn new() -> MessageBuffer {
        MessageBuffer([0; 256])
    }

    fn text(&self) -> String {
        let end = self.0.iter().position(|&b| b == 0).unwrap_or(self.0.len());
        String::from_utf8_lossy(&self.0[..end]).replace('\n', " ").trim().to_owned()
    }
}

/// Silences llama.cpp's log in the whole process. For tools and tests that load only vocabularies.
pub fn silence_log() {
    unsafe extern "C" fn nothing(_: sys::ggml_log_level, _: *const c_char, _: *mut std::ffi::c_void) {}
    // SAFETY: the callback touches nothing, and no user data is needed.
    unsafe { sys::llama_log_set(Some(nothing), std::ptr::null_mut()) }
}

/// A GGUF's vocabulary as llama.cpp reads it, without the model's tensors.
///
/// llama.cpp aborts on some broken vocabularies (two tokens of one text): read it with `tokenizer::Tokenizer` first,
/// which refuses those.
#[derive(Debug)]
pub struct LlamaVocab {
    model: NonNull<sys::llama_model>,
}

// SAFETY: a loaded vocabulary is never written again; llama_tokenize and llama_token_to_piece take it as const and
// keep their working state on the stack. We believe the last part from reading llama-vocab.cpp.
unsafe impl Send for LlamaVocab {}
// SAFETY: as above.
unsafe impl Sync for LlamaVocab {}

impl Drop for LlamaVocab {
    fn drop(&mut self) {
        // SAFETY: `model` came from cllm_vocab_load, is owned by self alone and not used after this.
        unsafe { sys::llama_model_free(self.model.as_ptr()) }
    }
}

impl LlamaVocab {
    /// Loads the vocabulary of the GGUF at `place`.
    ///
    /// # Errors
    /// The file can't be read, or llama.cpp can't use its vocabulary.
    pub fn open(place: &ModelPlace) -> Result<LlamaVocab, StartupError> {
        let refuse = |reason: String| StartupError::Model { path: place.path.clone(), reason };
        let mut message = MessageBuffer::new();
        let model = with_place(place, |place| {
            // SAFETY: `place` is alive and `message` writable for its length, both for the whole call.
            unsafe { cllm_vocab_load(place, message.0.as_mut_ptr().cast(), message.0.len()) }
        });
        match NonNull::new(model.ok_or_else(|| refuse("its path holds a NUL byte".to_owned()))?) {
            Some(model) => Ok(LlamaVocab { model }),
            None => Err(refuse(message.text())),
        }
    }

    fn vocab(&self) -> *const sys::llama_vocab {
        // SAFETY: the model is alive as long as self.
        unsafe { sys::llama_model_get_vocab(self.model.as_ptr()) }
    }

    /// The number of tokens of the vocabulary.
    pub fn n_vocab(&self) -> usize {
        // SAFETY: the vocabulary is alive as long as self.
        unsafe { sys::llama_vocab_n_tokens(self.vocab()) }.max(0) as usize
    }

    /// Whether llama.cpp ends a generation at this token.
    pub fn is_eog(&self, token: Token) -> bool {
        // SAFETY: the vocabulary is alive as long as self. llama.cpp looks the id up in a set, so any id is allowed.
        token.index() < self.n_vocab() && unsafe { sys::llama_vocab_is_eog(self.vocab(), token.0 as i32) }
    }

    /// The token at the beginning of a text; `None`: there is none.
    pub fn bos(&self) -> Option<Token> {
        // SAFETY: the vocabulary is alive as long as self.
        u32::try_from(unsafe { sys::llama_vocab_bos(self.vocab()) }).ok().map(Token)
    }

    /// The token at the end of a text; `None`: there is none.
    pub fn eos(&self) -> Option<Token> {
        // SAFETY: the vocabulary is alive as long as self.
        u32::try_from(unsafe { sys::llama_vocab_eos(self.vocab()) }).ok().map(Token)
    }

    /// The ids of `text`, tokenised on a thread that is started for this call. Too slow for anything but a fallback.
    ///
    /// # Errors
    /// The text is longer than `LLAMA_TOKENIZED_BYTES_MAX`, no thread can be started, or llama.cpp's tokenizer fails.
    pub fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<Token>, RequestError> {
        if text.len() > LLAMA_TOKENIZED_BYTES_MAX {
            let message = format!(
                "the text has {} bytes, this vocabulary's tokenizer takes {LLAMA_TOKENIZED_BYTES_MAX}",
                text.len()
            );
            return Err(RequestError::field("prompt", message));
        }
        let stack = LLAMA_TOKENIZER_STACK_BYTES_MIN + text.len() * LLAMA_TOKENIZER_STACK_BYTES_PER_BYTE;
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("tokenize".to_owned())
                .stack_size(stack)
                .spawn_scoped(scope, || self.tokenize_here(text, add_special, parse_special))
                .map_err(|e| RequestError::field("prompt", format!("can't start a thread to tokenise: {e}")))?
                .join()
                .unwrap_or_else(|_| Err(RequestError::field("prompt", "the tokenizer failed")))
        })
    }

    /// Like `tokenize`, on the caller's stack, for many short texts. The caller must have 1 KiB of stack for each byte of
    /// the longest text.
    ///
    /// # Errors
    /// llama.cpp's tokenizer fails.
    ///
    /// # Panics
    /// If the text is longer than `LLAMA_TOKENIZED_BYTES_MAX`.
    pub fn tokenize_here(
        &self,
        text: &str,
        add_special: bool,
        parse_special: bool,
    ) -> Result<Vec<Token>, RequestError> {
        assert!(text.len() <= LLAMA_TOKENIZED_BYTES_MAX, "a text longer than LLAMA_TOKENIZED_BYTES_MAX");
        // Each token has at least one byte, except BOS, EOS and an added space.
        let mut ids = vec![0i32; text.len() + 4];
        loop {
            let mut message = MessageBuffer::new();
            // SAFETY: the vocabulary is alive as long as self; `text` and `ids` are readable and writable for the
            // lengths given (both below i32::MAX by LLAMA_TOKENIZED_BYTES_MAX), `message` for its own.
            let n = unsafe {
                cllm_vocab_tokenize(
                    self.vocab(),
                    text.as_ptr().cast(),
                    text.len() as i32,
                    ids.as_mut_ptr(),
                    ids.len() as i32,
                    add_special,
                    parse_special,
                    message.0.as_mut_ptr().cast(),
                    message.0.len(),
                )
            };
            match usize::try_from(n) {
                Err(_) => return Err(RequestError::field("prompt", message.text())),
                Ok(n) if n > ids.len() => ids.resize(n, 0),
                Ok(n) => {
                    // A negative id in llama.cpp's output means that the vocabulary has no such token.
                    return ids[..n]
                        .iter()
                        .map(|&id| u32::try_from(id).map(Token))
                        .collect::<Result<_, _>>()
                        .map_err(|_| RequestError::field("prompt", "the vocabulary has no token for unknown text"));
                }
            }
        }
    }

    /// The bytes that a token stands for. With `special`, control tokens give their text; otherwise they give nothing.
    ///
    /// # Errors
    /// The vocabulary has no such token.
    pub fn piece(&self, token: Token, special: bool) -> Result<Vec<u8>, RequestError> {
        let mut bytes = vec![0u8; 64];
        loop {
            let mut message = MessageBuffer::new();
            // SAFETY: as in `tokenize_here`; the shim refuses ids outside the vocabulary.
            let n = unsafe {
                cllm_vocab_piece(
                    self.vocab(),
                    i32::try_from(token.0).unwrap_or(-1),
                    bytes.as_mut_ptr().cast(),
                    bytes.len() as i32,
                    special,
                    message.0.as_mut_ptr().cast(),
                    message.0.len(),
                )
            };
            match usize::try_from(n) {
                Err(_) => return Err(RequestError::field("tokens", message.text())),
                Ok(n) if n > bytes.len() => bytes.resize(n, 0),
                Ok(n) => {
                    bytes.truncate(n);
                    return Ok(bytes);
                }
            }
        }
    }
}
