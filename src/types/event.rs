//! What the batching thread sends an HTTP thread about one request: any number of pieces, then exactly one terminal.

use super::Token;

/// One generated token, and how much of the text is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The token's id in the model's vocabulary.
    pub token: Token,
    /// Bytes of the generated text, counted from its start, that are final: no stop string can cut them off any more. It is
    /// less than the length of the text while the text may end with the beginning of a stop string.
    pub text_end: u32,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FinishReason {
    /// The model chose an end-of-generation token.
    Eos = 1,
    /// The text contains a stop string; the answer ends before it.
    Stop = 2,
    /// The answer has `max_tokens` tokens.
    Length = 3,
    /// The request's deadline passed. The answer holds the tokens generated so far.
    Deadline = 4,
    /// The client closed the connection.
    Cancelled = 5,
    /// The server is shutting down, and its grace period is over.
    Shutdown = 6,
    /// The engine could not continue this request because of an internal error, which it counts and logs.
    EngineError = 7,
    /// The request's grammar allows no next token, or following it took more time or memory than a request may use.
    Grammar = 8,
    /// The embeddings of all inputs are computed. Nothing was generated.
    Embedded = 9,
}

impl FinishReason {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            FinishReason::Eos | FinishReason::Stop => "stop",
            FinishReason::Length => "length",
            FinishReason::Deadline => "deadline",
            FinishReason::Cancelled => "cancelled",
            FinishReason::Shutdown => "shutdown",
            FinishReason::EngineError => "error",
            FinishReason::Grammar => "grammar",
            FinishReason::Embedded => "embedded",
        }
    }

    /// The reason whose discriminant is `code`; `None` if there is none.
    pub fn from_u8(code: u8) -> Option<Self> {
        [
            FinishReason::Eos,
            FinishReason::Stop,
            FinishReason::Length,
            FinishReason::Deadline,
            FinishReason::Cancelled,
            FinishReason::Shutdown,
            FinishReason::EngineError,
            FinishReason::Grammar,
            FinishReason::Embedded,
        ]
        .into_iter()
        .find(|reason| *reason as u8 == code)
    }
}

/// The last event of a request. Each accepted request gets exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Why the generation ended.
    pub reason: FinishReason,
    /// Bytes of the generated text that belong to the answer: a stop string and what follows it are cut off.
    pub text_end: u32,
    /// Tokens generated, without an end-of-generation token that ended the text.
    pub generated_tokens: u32,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Generated tokens of the thought before the answer, its opening and closing mark included. A closing mark without
    /// bytes isn't counted.
    pub thought_tokens: u32,
    /// Guesses of speculative decoding that had a row in a step.
    pub guesses: u32,
    /// How many of these guesses the sampler then chose.
    pub guesses_accepted: u32,
    /// How often this request gave up its slot to an interactive request and was continued later.
    pub gave_way: u32,
    /// Prompt tokens that were not decoded, because their KV cells were already in the cache.
    pub cached_tokens: u32,
    /// How many of `cached_tokens` were restored from outside the KV cells (RAM, disk or a file).
    pub restored_tokens: u32,
    /// The index, among the request's stop strings, of the one that ended the text.
    pub stop: Option<u8>,
    /// Microseconds from arrival in the ring to admission into a slot.
    pub queue_us: u64,
    /// Microseconds from admission to the first generated token.
    pub prefill_us: u64,
    /// Microseconds from the first generated token to the end.
    pub decode_us: u64,
}
