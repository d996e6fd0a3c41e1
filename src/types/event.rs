//! What the batching thread tells an HTTP thread about one request: pieces, then exactly one terminal.

use super::Token;

/// One generated token and how far the text may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub token: Token,
    /// Bytes of the generated text, counted from its start, that no stop string can take back any more.
    /// Less than all bytes while a stop string may be forming.
    pub text_end: u32,
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FinishReason {
    /// An end-of-generation token.
    Eos = 1,
    /// A stop string appeared; the text ends before it.
    Stop = 2,
    /// `max_tokens` were generated.
    Length = 3,
    /// The request's deadline passed; what was generated so far stands.
    Deadline = 4,
    /// The client went away.
    Cancelled = 5,
    /// The server is shutting down and the grace period is over.
    Shutdown = 6,
    /// The engine could not go on with this request; a fault of ours, counted and logged.
    EngineError = 7,
    /// The request's grammar leads nowhere, or takes more time or memory to follow than it may.
    Grammar = 8,
    /// Every input's embedding is made; nothing was generated.
    Embedded = 9,
}

impl FinishReason {
    /// The name on the wire.
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

    /// The inverse of `self as u8`.
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

/// The last word on a request. Each accepted request gets exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    pub reason: FinishReason,
    /// Bytes of the generated text that stand (a stop string is cut off).
    pub text_end: u32,
    pub generated_tokens: u32,
    pub prompt_tokens: u32,
    /// Generated tokens of the thought before the answer, with its marks; a closing mark without bytes isn't counted.
    pub thought_tokens: u32,
    /// Guesses of generated tokens that had a row in a step, and those of them that came true.
    pub guesses: u32,
    pub guesses_accepted: u32,
    /// Prompt tokens taken from the KV cache instead of being decoded.
    pub cached_tokens: u32,
    /// Which of the request's stop strings ended the text, by its place among them.
    pub stop: Option<u8>,
    /// Microseconds from arrival in the ring to admission into a slot.
    pub queue_us: u64,
    /// Microseconds from admission to the first generated token.
    pub prefill_us: u64,
    /// Microseconds from the first generated token to the end.
    pub decode_us: u64,
}
