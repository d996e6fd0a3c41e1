//! Builds everything from a checked configuration to a running batching thread, for `serve` and `generate`.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::context::{ContextChoice, ContextFacts};
use super::decoder::{chosen_decoder, load_model, null_capacity};
use super::defaults::flash_attention;
use super::embed;
use super::observer::{MetricsObserver, StepTracer};
use super::prompts::{Prompts, carried};
use crate::chat::{ChatTemplate, TemplateSource};
use crate::clock::MonotonicClock;
use crate::config::{Config, DecoderKind};
use crate::engine::{EmbedEngine, EmbedParts, Engine, EngineParts, Observer, PromptMemory, PromptRows, Reserve};
use crate::gguf::GgufFile;
use crate::handoff::{
    BlockQuery, BlockReader, BlockWriter, Inbox, InputsSubmission, ReplyPool, Shutdown, Submission, Submitter,
    block_feed, ring,
};
use crate::http::{Embedding, ModelInfo};
use crate::llama::{self, LlamaEncoder, Model};
use crate::metrics::Metrics;
use crate::model_file::ModelFile;
use crate::null_decoder::NullDecoder;
use crate::prompts::carried::Carried;
use crate::tokenizer::Tokenizer;
use crate::topology::{CorePlan, pin};
use crate::trace::{TraceReader, trace_buffer};
use crate::types::limits::REPLY_PIECES_MAX;
use crate::types::seams::{Decoder, Encoder};
use crate::types::{Pooling, StartupError};

/// A loaded model and its running batching thread.
pub struct Stack {
    /// The model's tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Submits requests to the batching thread.
    pub submitter: Submitter,
    /// The reply slots of all requests.
    pub replies: ReplyPool,
    /// The server's counters.
    pub metrics: Arc<Metrics>,
    /// The stage of shutdown, which all threads read.
    pub shutdown: Shutdown,
    /// The clock from which all times are read.
    pub clock: MonotonicClock,
    /// Facts about the model that the HTTP routes report.
    pub model: ModelInfo,
    /// Reads the recorded steps; `None`: they aren't recorded.
    pub trace: Option<TraceReader>,
    /// Changes of the KV cache's blocks, and questions about them; `None`: no KV events are published.
    pub blocks: Option<(BlockReader, BlockQuery)>,
    /// The batching thread. It returns whether the decoder still worked at its end.
    pub batch: JoinHandle<bool>,
    /// Whether tokens are guessed.
    pub speculates: bool,
}

/// A loaded decoder without its context.
pub enum Loaded {
    /// A model, how it pools embeddings if it makes them, the facts for choosing its context, and the prompts that this
    /// executable carries. All this is collected now, because the sandbox may hide the files later.
    Model(Arc<Model>, Option<Pooling>, ContextFacts, Vec<Carried>),
    /// The null decoder, which computes nothing.
    Null {
        /// How long each step takes.
        step: Duration,
    },
}

impl Stack {
    /// Loads the model, makes the context and starts the batching thread.
    ///
    /// # Errors
    /// The model can't be served; one line says why.
    pub fn start(
        config: &Config,
        plan: &CorePlan,
        file: &ModelFile,
        gguf: &GgufFile,
        tokenizer: Tokenizer,
        template: &ChatTemplate,
    ) -> Result<Stack, StartupError> {
        // A single request has no use for a prompt store.
        let mut config = config.clone();
        (config.prompt_ram, config.prompt_disk) = (Some(0), None);
        let config = &config;
        Stack::over(config, plan, Stack::load(config, file, gguf)?, gguf, tokenizer, template)
    }

    /// Reads all files that are needed. Starts no lasting thread.
    ///
    /// # Errors
    /// The file is damaged or the model can't be loaded.
    pub fn load(config: &Config, file: &ModelFile, gguf: &GgufFile) -> Result<Loaded, StartupError> {
        gguf.check_complete()?;
        match config.decoder {
            DecoderKind::Llama => {
                let pooling = embed::pooling(config, gguf)?;
                let mut facts = ContextFacts::of(config, gguf, ModelFile::bytes(&config.model));
                let carried = carried()?;
                facts.keeps_prompts |= !carried.is_empty();
                if config.prompt_disk.is_some() || !carried.is_empty() {
                    let unread =
                        |error| StartupError::Model { path: file.path().to_owned(), reason: format!("{error}") };
                    facts.model_digest = file.digest().map_err(unread)?;
                }
                Ok(Loaded::Model(load_model(config, file)?, pooling, facts, carried))
            }
            DecoderKind::Null { step } => {
                file.verify()?;
                Ok(Loaded::Null { step })
            }
        }
    }

    /// Makes the context of a loaded model and starts the batching thread.
    ///
    /// # Errors
    /// The context can't be made.
    pub fn over(
        config: &Config,
        plan: &CorePlan,
        loaded: Loaded,
        gguf: &GgufFile,
        tokenizer: Tokenizer,
        template: &ChatTemplate,
    ) -> Result<Stack, StartupError> {
        match loaded {
            Loaded::Model(model, Some(pooling), ..) => {
                let encoder = embed::encoder(config, plan, &model, gguf)?;
                Stack::on_encoder(config, plan, encoder, pooling, &model, gguf, tokenizer, template)
            }
            Loaded::Model(model, None, facts, carried) => {
                let choice = ContextChoice::new(config, &facts);
                let prompts = Prompts::new(config, &facts).carrying(carried);
                Stack::of_size(config, plan, &model, &choice, prompts, gguf, tokenizer, template)
            }
            Loaded::Null { step } => {
                let arch = gguf.str("general.architecture").unwrap_or_default();
                let n_ctx_train = gguf.u64(&format!("{arch}.context_length")).unwrap_or(0) as usize;
                let capacity = null_capacity(config, n_ctx_train, tokenizer.n_vocab());
                let decoder = NullDecoder::new(capacity, tokenizer.table(), step);
                let quantisation = "none".to_owned();
                let (exact, can_cut) = (true, true);
                let weights = LoadedWeights { quantisation, n_params: 0, size_bytes: 0, n_ctx_train, exact, can_cut };
                // The null decoder measures the cost of serving, so guessing, which saves steps, is off unless it is asked
                // for.
                let mut config = config.clone();
                config.speculate = Some(config.speculate == Some(true));
                Stack::on_decoder(&config, plan, decoder, weights, Prompts::none(), gguf, tokenizer, template)
            }
        }
    }

    /// Like `over`, for a loaded model that generates text.
    ///
    /// # Errors
    /// The context can't be made.
    pub fn on_model(
        config: &Config,
        plan: &CorePlan,
        model: &Arc<Model>,
        gguf: &GgufFile,
        tokenizer: Tokenizer,
        template: &ChatTemplate,
    ) -> Result<Stack, StartupError> {
        let choice = ContextChoice::new(config, &ContextFacts::of(config, gguf, model.size_bytes()));
        Stack::of_size(config, plan, model, &choice, Prompts::none(), gguf, tokenizer, template)
    }

    #[allow(clippy::too_many_arguments)]
    fn of_size(
        config: &Config,
        plan: &CorePlan,
        model: &Arc<Model>,
        choice: &ContextChoice,
        prompts: Prompts,
        gguf: &GgufFile,
        tokenizer: Tokenizer,
        template: &ChatTemplate,
    ) -> Result<Stack, StartupError> {
        check_vocabulary(model, &tokenizer)?;
        let decoder = chosen_decoder(config, plan, model, choice, !prompts.is_none())?;
        let against = llama::exact::reason_against(model, config.kv_types, flash_attention(config));
        match against {
            None => tracing::info!("exact: a text doesn't depend on other requests, nor on what the cache holds"),
            Some(reason) => tracing::info!(reason, "not exact: a text may depend on other requests"),
        }
        let weights = LoadedWeights { exact: against.is_none(), ..LoadedWeights::of(model) };
        Stack::on_decoder(config, plan, decoder, weights, prompts, gguf, tokenizer, template)
    }

    #[allow(clippy::too_many_arguments)]
    fn on_decoder(
        config: &Config,
        plan: &CorePlan,
        decoder: impl Decoder + Send + 'static,
        weights: LoadedWeights,
        prompts: Prompts,
        gguf: &GgufFile,
        tokenizer: Tokenizer,
        template: &ChatTemplate,
    ) -> Result<Stack, StartupError> {
        let capacity = decoder.capacity();
        let slots = usize::from(config.parallel);
        let n_ctx = capacity.cells_common.unwrap_or(capacity.cells_per_seq).min(capacity.cells_per_seq) as usize;
        let cells_total =
            capacity.cells_common.map_or(u64::from(capacity.cells_per_seq) * u64::from(capacity.seqs), u64::from);
        let speculates = speculates(config, &weights);
        let info = info(config, weights, gguf, &tokenizer, template, n_ctx);
        // Requests for which a slot is free also pass through the ring, because many may arrive between two steps.
        let (sender, inbox) = ring(slots + config.queue);
        let tokenizer = Arc::new(tokenizer);
        let metrics = Arc::new(Metrics::default());
        metrics.engine.kv_cells_total.set(cells_total);
        let (shutdown, clock) = (Shutdown::default(), MonotonicClock::start());
        let (places, n_vocab) = (slots + config.queue + 1, tokenizer.n_vocab());
        let replies = ReplyPool::with_masks(places, REPLY_PIECES_MAX, n_vocab, sender.wake_handle());
        let observer = MetricsObserver::new(Arc::clone(&metrics));
        let memory = match decoder.keeps_blocks() {
            true => prompts.open(sender.wake_handle(), Arc::clone(&metrics.prompts))?,
            false => {
                if config.prompt_disk.is_some() {
                    tracing::warn!("--prompt-disk has no effect with this model and this layout of the KV cache");
                }
                None
            }
        };
        metrics.kv_block_tokens.set(config.kv_block_tokens as u64);
        let feed = config.kv_events.as_ref().map(|_| block_feed(config.kv_block_tokens));
        let (writer, blocks) = feed.map(|(writer, reader, query)| (writer, (reader, query))).unzip();
        let table = &tokenizer;
        let (batch, trace) = if config.trace {
            let (tracer, reader) = trace_buffer();
            let observer = (observer, StepTracer(tracer));
            let batch = spawn_batch(
                config, plan, decoder, memory, inbox, table, observer, &shutdown, clock, speculates, writer,
            )?;
            (batch, Some(reader))
        } else {
            // If steps aren't recorded, the observer compiles to nothing.
            const { assert!(!MetricsObserver::TRACES) };
            let batch = spawn_batch(
                config, plan, decoder, memory, inbox, table, observer, &shutdown, clock, speculates, writer,
            )?;
            (batch, None)
        };
        let submitter = Submitter::Generations(sender);
        Ok(Stack {
            tokenizer,
            submitter,
            replies,
            metrics,
            shutdown,
            clock,
            model: info,
            trace,
            blocks,
            batch,
            speculates,
        })
    }

    /// Like `on_model`, with an encoder: makes embeddings instead of text.
    #[allow(clippy::too_many_arguments)]
    fn on_encoder(
        config: &Config,
        plan: &CorePlan,
        encoder: LlamaEncoder,
        pooling: Pooling,
        model: &Model,
        gguf: &GgufFile,
        tokenizer: Tokenizer,
        template: &ChatTemplate,
    ) -> Result<Stack, StartupError> {
        check_vocabulary(model, &tokenizer)?;
        let capacity = encoder.capacity();
        let mut info = info(config, LoadedWeights::of(model), gguf, &tokenizer, template, capacity.input_max);
        info.embedding = Some(Embedding { n_embd: capacity.n_embd, pooling });
        let in_flight = usize::from(config.parallel) + config.queue;
        let (sender, inbox) = ring::<InputsSubmission>(in_flight);
        let metrics = Arc::new(Metrics::default());
        let cells = if capacity.whole { 0 } else { capacity.input_max as u64 * u64::from(capacity.seqs) };
        metrics.engine.kv_cells_total.set(cells);
        let (shutdown, clock) = (Shutdown::default(), MonotonicClock::start());
        // Embeddings travel beside the reply slots, so the slots need no room for pieces.
        let replies = ReplyPool::with_wake(in_flight + 1, 1, sender.wake_handle());
        let observer = MetricsObserver::new(Arc::clone(&metrics));
        let parts = EmbedParts { encoder, clock, observer, inbox, shutdown: shutdown.clone(), pooling };
        let batch = spawn_pinned(plan, move || EmbedEngine::new(parts).run())?;
        let (tokenizer, submitter) = (Arc::new(tokenizer), Submitter::Embeddings(sender));
        Ok(Stack {
            tokenizer,
            submitter,
            replies,
            metrics,
            shutdown,
            clock,
            model: info,
            trace: None,
            blocks: None,
            batch,
            speculates: false,
        })
    }
}

/// # Errors
/// The vocabulary in the file and the model's have different sizes.
fn check_vocabulary(model: &Model, tokenizer: &Tokenizer) -> Result<(), StartupError> {
    if tokenizer.n_vocab() == model.n_vocab() {
        return Ok(());
    }
    let reason = format!("{} tokens in the vocabulary, {} in the model", tokenizer.n_vocab(), model.n_vocab());
    Err(StartupError::Model { path: model.path().to_owned(), reason })
}

fn info(
    config: &Config,
    weights: LoadedWeights,
    gguf: &GgufFile,
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    n_ctx: usize,
) -> ModelInfo {
    ModelInfo {
        name: config.alias.clone().unwrap_or_else(|| model_name(config, gguf)),
        path: gguf.path().display().to_string(),
        architecture: gguf.str("general.architecture").unwrap_or("unknown").to_owned(),
        quantisation: weights.quantisation,
        n_params: weights.n_params,
        size_bytes: weights.size_bytes,
        n_ctx_train: weights.n_ctx_train,
        exact: weights.exact,
        tokenizer: tokenizer.kind(),
        chat_template: match template.source() {
            TemplateSource::Model => "model",
            TemplateSource::File => "file",
            TemplateSource::ChatMl => "chatml",
        },
        slots: usize::from(config.parallel),
        n_ctx,
        embedding: None,
    }
}

/// Whether tokens are guessed: if that can't change a text, unless `--speculate` says otherwise.
fn speculates(config: &Config, weights: &LoadedWeights) -> bool {
    let wanted = config.speculate.unwrap_or(weights.exact);
    if config.speculate == Some(true) && !weights.can_cut {
        tracing::warn!("--speculate on has no effect: a recurrent model's state can't be rolled back");
    }
    wanted && weights.can_cut
}

/// Properties of the loaded weights. The null decoder has none.
struct LoadedWeights {
    quantisation: String,
    n_params: u64,
    size_bytes: u64,
    n_ctx_train: usize,
    /// Whether texts don't depend on other requests in the same steps.
    exact: bool,
    /// Whether the end of a sequence can be removed from the cache.
    can_cut: bool,
}

impl LoadedWeights {
    fn of(model: &Model) -> LoadedWeights {
        LoadedWeights {
            quantisation: model.quantisation(),
            n_params: model.n_params(),
            size_bytes: model.size_bytes(),
            n_ctx_train: model.n_ctx_train(),
            exact: false,
            can_cut: model.can_cut(),
        }
    }
}

/// The model's name in answers: the one in the GGUF, otherwise the file's.
fn model_name(config: &Config, gguf: &GgufFile) -> String {
    let stem = |config: &Config| Some(config.model_path()?.file_stem()?.to_string_lossy().into_owned());
    gguf.str("general.name").map(str::to_owned).or_else(|| stem(config)).unwrap_or_else(|| "model".to_owned())
}

#[allow(clippy::too_many_arguments)]
fn spawn_batch(
    config: &Config,
    plan: &CorePlan,
    decoder: impl Decoder + Send + 'static,
    memory: Option<PromptMemory>,
    inbox: Inbox<Submission>,
    tokenizer: &Arc<Tokenizer>,
    observer: impl Observer + Send + 'static,
    shutdown: &Shutdown,
    clock: MonotonicClock,
    speculates: bool,
    blocks: Option<BlockWriter>,
) -> Result<JoinHandle<bool>, StartupError> {
    let parts = EngineParts {
        decoder,
        clock,
        observer,
        inbox,
        table: Arc::clone(tokenizer.table()),
        shutdown: shutdown.clone(),
        slots: usize::from(config.parallel),
        prompt_rows: config.step_tokens.map_or(PromptRows::Measured, PromptRows::Fixed),
    };
    let capacity = parts.decoder.capacity();
    // In a pool one sequence may take more than its share. Few sequences do, so not every one needs room for all cells.
    let is_pool = capacity.cells_common.is_some_and(|all| capacity.cells_per_seq > all / u32::from(capacity.seqs));
    let reserve = if is_pool { Reserve::Share } else { Reserve::ToTheEnd };
    spawn_pinned(plan, move || {
        let mut engine = Engine::new(parts).reserving(reserve);
        if let Some(memory) = memory {
            engine = engine.remembering(memory);
        }
        if let Some(writer) = blocks {
            engine = engine.telling(writer);
        }
        if speculates { engine.speculating().run() } else { engine.run() }
    })
}

/// Starts the batching thread and pins it.
///
/// # Errors
/// The system can't start more threads.
fn spawn_pinned(
    plan: &CorePlan,
    run: impl FnOnce() -> bool + Send + 'static,
) -> Result<JoinHandle<bool>, StartupError> {
    let core = plan.batch;
    std::thread::Builder::new()
        .name("batch".into())
        .spawn(move || {
            if !pin(core) {
                tracing::warn!(core = core.0, "the batching thread could not be pinned");
            }
            run()
        })
        .map_err(|error| StartupError::System { doing: "start the batching thread".into(), reason: error.to_string() })
}
