//! One validated request on its way from an HTTP thread to the batching thread.

use super::reply::ReplyWriter;
use crate::types::{GenerateParams, RequestId, Token};

/// What the ring carries. Dropping one answers its reader with `EngineError`, so none can be lost silently.
#[derive(Debug)]
pub struct Submission {
    pub id: RequestId,
    /// At least one token; with `params.max_tokens` it fits a sequence's context.
    pub prompt: Vec<Token>,
    pub params: GenerateParams,
    /// When it was pushed: microseconds on the server's clock, which starts with the process.
    pub arrived_us: u64,
    /// When to give up, on the same clock.
    pub deadline_us: Option<u64>,
    /// Where the pieces and the one terminal go.
    pub reply: ReplyWriter,
}
