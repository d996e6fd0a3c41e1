//! What all HTTP threads share. Built once at start-up; only counters change.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::access::Access;
use super::ask::generation::Defaults;
use crate::chat::{ChatTemplate, Guard};
use crate::constrain::Constrainer;
use crate::handoff::{BlockQuery, ReplyPool, Shutdown, Submitter};
use crate::metrics::Metrics;
use crate::tokenizer::{Breakers, Tokenizer};
use crate::trace::TraceReader;
use crate::types::seams::Clock;
use crate::types::{Pooling, RequestId, Token};

/// What `/model/info` tells.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    pub name: String,
    /// Where its file is; empty for the null decoder's.
    pub path: String,
    pub architecture: String,
    pub quantisation: String,
    pub n_params: u64,
    pub size_bytes: u64,
    pub n_ctx_train: usize,
    /// Whether a text doesn't depend on what else is served, nor on what the cache holds. Said of models that generate.
    pub exact: bool,
    pub tokenizer: String,
    /// `model`, `file` or `chatml`.
    pub chat_template: &'static str,
    pub slots: usize,
    /// Tokens that one request's prompt and answer may take together, or one input whose embedding is made.
    pub n_ctx: usize,
    /// `None`: it generates.
    pub embedding: Option<Embedding>,
}

/// What a model's embeddings are like.
#[derive(Clone, Copy, Debug)]
pub struct Embedding {
    /// Numbers of one.
    pub n_embd: usize,
    pub pooling: Pooling,
}

/// What a service is made of.
pub struct ServiceParts {
    pub tokenizer: Arc<Tokenizer>,
    pub constrainer: Constrainer,
    pub access: Access,
    /// `GET /metrics` asks for no key.
    pub metrics_are_open: bool,
    pub template: ChatTemplate,
    pub inbox: Submitter,
    /// With room for masks over the tokenizer's vocabulary. One reply more than `in_flight_max`: a client that has its answer may ask again before the batching thread has let
    /// go of the last one.
    pub replies: ReplyPool,
    /// Generations accepted and not yet answered; beyond it 429.
    pub in_flight_max: usize,
    /// The longest silence of a stream: at its end comes a sign of life.
    pub stream_ping: Duration,
    pub metrics: Arc<Metrics>,
    pub shutdown: Shutdown,
    /// `None`: steps aren't recorded.
    pub trace: Option<TraceReader>,
    pub clock: Arc<dyn Clock + Send + Sync>,
    pub defaults: Defaults,
    pub model: ModelInfo,
    /// Whether the log shows what was asked.
    pub log_prompts: bool,
    /// Whether requests of one API key may begin with what the cache holds of another's.
    pub shares_prompts: bool,
}

/// The shared side of every HTTP thread.
pub struct Service {
    pub(in crate::http) parts: ServiceParts,
    /// ORDERING: Relaxed; each value is handed out once, which `fetch_add` sees to alone.
    next_id: AtomicU64,
    /// ORDERING: Relaxed; written by all HTTP threads, a count that guards no memory.
    in_flight: Arc<AtomicUsize>,
    /// Whether a `POST /benchmark` runs.
    ///
    /// ORDERING: written by the HTTP thread that runs it, AcqRel to begin and Release to end.
    pub(in crate::http) benchmarking: AtomicBool,
    /// Whether a `GET /debug/trace` is being answered.
    ///
    /// ORDERING: as `benchmarking`.
    pub(in crate::http) tracing: AtomicBool,
    /// Mixed into the seeds of requests that name none.
    seed_base: u64,
    /// Unix time in seconds.
    pub(in crate::http) started_at_s: u64,
    /// The document at `/openapi.json`, made at the first request for it.
    pub(in crate::http) openapi: OnceLock<Value>,
    /// Keeps what clients write from being control tokens.
    pub(in crate::http) guard: Guard,
    /// Control tokens whose text must be seen to read an answer: the template's marks for calls and thoughts.
    marks: Vec<(Token, Arc<str>)>,
    /// Asks the batching thread which blocks the cache holds; `None`: it tells none.
    pub(in crate::http) blocks: Option<Mutex<BlockQuery>>,
    /// Where DRY lets repetitions end.
    pub(in crate::http) breakers: Breakers,
}

/// One generation in flight; given back when dropped.
pub(in crate::http) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Service {
    /// `seed_base`: any number that differs from run to run.
    pub fn new(parts: ServiceParts, seed_base: u64) -> Service {
        let tokenizer = &parts.tokenizer;
        let token = |mark: &str| Some((tokenizer.token_of(mark)?, Arc::from(mark)));
        let is_silent = |(token, _): &(Token, Arc<str>)| tokenizer.table().bytes(*token).is_empty();
        let marks = parts.template.style().marks().into_iter().filter_map(token).filter(is_silent).collect();
        let guard = Guard::new(tokenizer.control_texts());
        Service {
            marks,
            guard,
            parts,
            next_id: AtomicU64::new(1),
            in_flight: Arc::default(),
            benchmarking: AtomicBool::new(false),
            tracing: AtomicBool::new(false),
            seed_base,
            openapi: OnceLock::new(),
            blocks: None,
            breakers: Breakers::default(),
            started_at_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        }
    }

    /// Lets clients ask which blocks the cache holds.
    #[must_use]
    pub fn telling_blocks(self, query: Option<BlockQuery>) -> Service {
        Service { blocks: query.map(Mutex::new), ..self }
    }

    /// Which clients may ask.
    pub fn access(&self) -> &Access {
        &self.parts.access
    }

    /// `n` places among those in flight, if there are so many.
    pub(in crate::http) fn take_places(&self, n: usize) -> Option<Vec<Place>> {
        let max = self.parts.in_flight_max;
        let add = |taken: usize| taken.checked_add(n).filter(|sum| *sum <= max);
        let taken = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        taken.is_ok().then(|| (0..n).map(|_| Place(Arc::clone(&self.in_flight))).collect())
    }

    /// All marks that the vocabulary keeps silent, with their texts.
    pub(in crate::http) fn silent_marks(&self) -> Vec<(Token, Vec<u8>)> {
        self.marks.iter().map(|(token, text)| (*token, text.as_bytes().to_vec())).collect()
    }

    /// The text of a mark that the vocabulary keeps silent.
    pub(in crate::http) fn mark_of(&self, token: Token) -> Option<&Arc<str>> {
        self.marks.iter().find(|(mark, _)| *mark == token).map(|(_, text)| text)
    }

    pub(in crate::http) fn next_id(&self) -> RequestId {
        RequestId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    /// A seed for a request that names none: 53 bits, so that JSON clients can send it back.
    pub(in crate::http) fn fresh_seed(&self, id: RequestId) -> u64 {
        let mut z = self.seed_base.wrapping_add(id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) >> 11
    }

    pub(in crate::http) fn now_us(&self) -> u64 {
        self.parts.clock.now_us()
    }
}
