//! The state that all HTTP threads share. Built once at start-up; only counters change.

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

/// Facts about the model and the server, for `/model/info`.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// The model's name, by which clients select it.
    pub name: String,
    /// The path of its file; empty for the null decoder's.
    pub path: String,
    /// The architecture, as GGUF names it.
    pub architecture: String,
    /// The quantisation, as GGUF names it.
    pub quantisation: String,
    /// Number of parameters.
    pub n_params: u64,
    /// Size of the model's tensors, in bytes.
    pub size_bytes: u64,
    /// Tokens of context that the model was trained with.
    pub n_ctx_train: usize,
    /// Whether a text depends neither on the other requests nor on the contents of the cache. Only for models that
    /// generate.
    pub exact: bool,
    /// The tokenizer: model and pre-tokenizer.
    pub tokenizer: String,
    /// Where the chat template comes from: `model`, `file` or `chatml`.
    pub chat_template: &'static str,
    /// Requests that can run at the same time.
    pub slots: usize,
    /// Most tokens of a request's prompt and answer together, or of one input for an embedding.
    pub n_ctx: usize,
    /// Facts about its embeddings. `None`: the model generates.
    pub embedding: Option<Embedding>,
}

/// Facts about a model's embeddings.
#[derive(Clone, Copy, Debug)]
pub struct Embedding {
    /// Numbers of one embedding.
    pub n_embd: usize,
    /// How the tokens' embeddings become one.
    pub pooling: Pooling,
}

/// The parts of a service.
pub struct ServiceParts {
    /// The model's tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The compiler of grammars.
    pub constrainer: Constrainer,
    /// API keys and allowed origins.
    pub access: Access,
    /// Whether `GET /metrics` needs no key.
    pub metrics_are_open: bool,
    /// The chat template.
    pub template: ChatTemplate,
    /// The ring to the engine.
    pub submitter: Submitter,
    /// The reply slots, with room for masks over the vocabulary. One more than `in_flight_max`, because a client that
    /// has its answer may send its next request before the batching thread has released the last slot.
    pub replies: ReplyPool,
    /// Most generations that are accepted and not answered yet; beyond it, requests get 429.
    pub in_flight_max: usize,
    /// The longest silence of a stream, after which it sends a keep-alive.
    pub stream_ping: Duration,
    /// The counters for `/metrics`.
    pub metrics: Arc<Metrics>,
    /// The stage of shutdown.
    pub shutdown: Shutdown,
    /// Reads recorded steps; `None`: steps aren't recorded.
    pub trace: Option<TraceReader>,
    /// The server's clock.
    pub clock: Arc<dyn Clock + Send + Sync>,
    /// Defaults of requests.
    pub defaults: Defaults,
    /// Facts about the model, for the routes that report them.
    pub model: ModelInfo,
    /// Whether the log contains prompts.
    pub log_prompts: bool,
    /// Whether requests of one API key may reuse KV cells of another key's requests.
    pub shares_prompts: bool,
}

/// The state that all HTTP threads share.
pub struct Service {
    pub(in crate::http) parts: ServiceParts,
    /// The next request's number. ORDERING: Relaxed; `fetch_add` alone makes sure that each number is used once.
    next_id: AtomicU64,
    /// Generations accepted and not answered yet. ORDERING: Relaxed; written by all HTTP threads, a count that
    /// publishes no other data.
    in_flight: Arc<AtomicUsize>,
    /// Whether a `POST /benchmark` is running.
    ///
    /// ORDERING: written by the HTTP thread that runs it, AcqRel to begin and Release to end.
    pub(in crate::http) benchmarking: AtomicBool,
    /// Whether a `GET /debug/trace` is being answered.
    ///
    /// ORDERING: as for `benchmarking`.
    pub(in crate::http) tracing: AtomicBool,
    /// Mixed into the seeds of requests that have none.
    seed_base: u64,
    /// Unix time in seconds.
    pub(in crate::http) started_at_s: u64,
    /// The document at `/openapi.json`, made at the first request for it.
    pub(in crate::http) openapi: OnceLock<Value>,
    /// Makes sure that clients' texts never become control tokens.
    pub(in crate::http) guard: Guard,
    /// Control tokens whose text is needed to read an answer: the template's marks of calls and thoughts.
    marks: Vec<(Token, Arc<str>)>,
    /// Asks the batching thread which blocks the cache holds; `None`: KV events are off.
    pub(in crate::http) blocks: Option<Mutex<BlockQuery>>,
    /// The texts at which DRY lets repetitions end, as tokens.
    pub(in crate::http) breakers: Breakers,
}

/// A place for one generation in flight, given back when dropped.
pub(in crate::http) struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Service {
    /// Builds the service. `seed_base`: any number that differs from run to run.
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

    /// Lets `GET /debug/kv-blocks` ask which blocks the cache holds.
    #[must_use]
    pub fn telling_blocks(self, query: Option<BlockQuery>) -> Service {
        Service { blocks: query.map(Mutex::new), ..self }
    }

    /// API keys and allowed origins.
    pub fn access(&self) -> &Access {
        &self.parts.access
    }

    /// Takes `n` places; `None` if fewer are free.
    pub(in crate::http) fn take_places(&self, n: usize) -> Option<Vec<InFlight>> {
        let max = self.parts.in_flight_max;
        let add = |taken: usize| taken.checked_add(n).filter(|sum| *sum <= max);
        let taken = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        taken.is_ok().then(|| (0..n).map(|_| InFlight(Arc::clone(&self.in_flight))).collect())
    }

    /// All marks that are control tokens, with their texts.
    pub(in crate::http) fn silent_marks(&self) -> Vec<(Token, Vec<u8>)> {
        self.marks.iter().map(|(token, text)| (*token, text.as_bytes().to_vec())).collect()
    }

    /// The text of a mark that is a control token; `None` for other tokens.
    pub(in crate::http) fn mark_of(&self, token: Token) -> Option<&Arc<str>> {
        self.marks.iter().find(|(mark, _)| *mark == token).map(|(_, text)| text)
    }

    pub(in crate::http) fn next_id(&self) -> RequestId {
        RequestId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }

    /// A seed for a request that has none: 53 bits, so that JSON clients can send it back exactly.
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
