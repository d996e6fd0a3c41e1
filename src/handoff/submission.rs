//! One validated request on its way from an HTTP thread to the batching thread.
//!
//! A server's engine either generates or makes embeddings; each kind has its own ring.

use super::bell::WakeHandle;
use super::ring::{Refused, Sender};
use super::vectors::VectorsWriter;
use super::writer::ReplyWriter;
use crate::types::{GenerateParams, RequestId, Share, Token};

/// What the ring carries for a generation. Dropping one answers its reader with `EngineError`, so that no request is
/// lost without an answer.
#[derive(Debug)]
pub struct Submission {
    /// The request's number.
    pub id: RequestId,
    /// At least one token; with `params.max_tokens` it fits a sequence's context.
    pub prompt: Vec<Token>,
    /// How to generate.
    pub params: GenerateParams,
    /// When it was pushed: microseconds on the server's clock, which starts with the process.
    pub arrived_us: u64,
    /// When to end the request, in microseconds on the same clock; `None`: no deadline.
    pub deadline_us: Option<u64>,
    /// Where the pieces and the one terminal go.
    pub reply: ReplyWriter,
}

/// A request for embeddings. Dropping it answers its reader with `EngineError`.
#[derive(Debug)]
pub struct InputsSubmission {
    /// The request's number.
    pub id: RequestId,
    /// The tokens of all inputs, one after the other.
    pub tokens: Vec<Token>,
    /// Where each input ends in `tokens`: at least one input, each of at least one token and at most the encoder's
    /// `input_max`.
    pub ends: Vec<usize>,
    /// The account and the class that the queue counts it for.
    pub share: Share,
    /// When it was pushed: microseconds on the server's clock, which starts with the process.
    pub arrived_us: u64,
    /// When to end the request, in microseconds on the same clock; `None`: no deadline.
    pub deadline_us: Option<u64>,
    /// Where the one terminal goes; no pieces.
    pub reply: ReplyWriter,
    /// Room for `ends.len()` embeddings in the inputs' order, not normalised.
    pub vectors: VectorsWriter,
}

/// The HTTP threads' way into the engine, which either generates or makes embeddings.
#[derive(Clone)]
pub enum Submitter {
    /// The ring of an engine that generates.
    Generations(Sender<Submission>),
    /// The ring of an engine that makes embeddings.
    Embeddings(Sender<InputsSubmission>),
}

impl Submitter {
    /// Submits a generation. An engine that makes embeddings refuses it as `Closed`. A refused submission is dropped,
    /// and its reader gets `EngineError`.
    ///
    /// # Errors
    /// The ring is full or closed, or the engine makes embeddings.
    pub fn push(&self, submission: Submission) -> Result<(), Refused<()>> {
        match self {
            Submitter::Generations(ring) => ring.push(submission).map_err(Refused::emptied),
            Submitter::Embeddings(_) => Err(Refused::Closed(())),
        }
    }

    /// Submits inputs for embeddings. An engine that generates refuses them as `Closed`. A refused submission is
    /// dropped, and its reader gets `EngineError`.
    ///
    /// # Errors
    /// The ring is full or closed, or the engine generates.
    pub fn push_inputs(&self, submission: InputsSubmission) -> Result<(), Refused<()>> {
        match self {
            Submitter::Generations(_) => Err(Refused::Closed(())),
            Submitter::Embeddings(ring) => ring.push(submission).map_err(Refused::emptied),
        }
    }

    /// Whether the engine makes embeddings.
    pub fn embeds(&self) -> bool {
        matches!(self, Submitter::Embeddings(_))
    }

    /// A handle that wakes the batching thread.
    pub fn wake_handle(&self) -> WakeHandle {
        match self {
            Submitter::Generations(ring) => ring.wake_handle(),
            Submitter::Embeddings(ring) => ring.wake_handle(),
        }
    }
}
