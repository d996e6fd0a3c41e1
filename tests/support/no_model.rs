//! A service without a model: what its HTTP threads need, before there is an engine. Used by tests, by `tests/fuzzing` and by
//! `benches/instructions`; each adds an engine over the decoder of its choice.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cllm::chat::ChatTemplate;
use cllm::clock::MonotonicClock;
use cllm::constrain::Constrainer;
use cllm::gguf::GgufFile;
use cllm::handoff::{Inbox, ReplyPool, Sender, Shutdown, Submission, Submitter, ring};
use cllm::http::{Access, Defaults, ModelInfo, ServiceParts};
use cllm::tokenizer::Tokenizer;
use cllm::types::SamplingParams;
use cllm::types::limits::REPLY_PIECES_MAX;

/// The parts of a service, and what its engine shares with it.
pub struct NoModel {
    pub parts: ServiceParts,
    pub sender: Sender<Submission>,
    pub inbox: Inbox<Submission>,
    pub clock: MonotonicClock,
}

/// The parts of a service that accepts `in_flight_max` requests, of which `slots` run at the same time, of `n_ctx` tokens each.
pub fn no_model(
    tokenizer: &Arc<Tokenizer>,
    template: ChatTemplate,
    slots: usize,
    in_flight_max: usize,
    n_ctx: usize,
) -> NoModel {
    let (sender, inbox) = ring(in_flight_max);
    let clock = MonotonicClock::start();
    let wake = sender.wake_handle();
    let parts = ServiceParts {
        constrainer: Constrainer::new(Arc::clone(tokenizer)),
        access: Access::new(&[], Vec::new()),
        template,
        submitter: Submitter::Generations(sender.clone()),
        replies: ReplyPool::with_masks(in_flight_max + 1, REPLY_PIECES_MAX, tokenizer.n_vocab(), wake),
        in_flight_max,
        stream_ping: Duration::from_secs(10),
        metrics: Arc::default(),
        shutdown: Shutdown::default(),
        clock: Arc::new(clock),
        trace: None,
        defaults: Defaults { sampling: SamplingParams::default(), seed: None, max_tokens: None, deadline_ms: None },
        model: ModelInfo {
            name: "none".to_owned(),
            path: String::new(),
            architecture: String::new(),
            quantisation: String::new(),
            n_params: 0,
            size_bytes: 0,
            n_ctx_train: n_ctx,
            exact: true,
            tokenizer: tokenizer.kind(),
            chat_template: "file",
            slots,
            n_ctx,
            embedding: None,
        },
        metrics_are_open: false,
        log_prompts: false,
        shares_prompts: false,
        tokenizer: Arc::clone(tokenizer),
    };
    NoModel { parts, sender, inbox, clock }
}

/// The built-in model's tokenizer.
///
/// # Panics
/// If the model's file is damaged.
pub fn built_in_tokenizer() -> Tokenizer {
    let model: &[u8] = include_bytes!("../../vendor/model/cllm-tiny.gguf");
    let gguf = GgufFile::read(model, model.len() as u64, Path::new("cllm-tiny.gguf")).expect("the built-in model");
    Tokenizer::from_gguf(&gguf, || panic!("a vocabulary of our own")).expect("a tokenizer")
}
