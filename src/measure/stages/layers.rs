//! The eleven stages. Each runs the workload once and returns the number of generated tokens. None skips a layer of the
//! stages before it.
//!
//! Stages 0 to 3 have a decoder each, on a thread each, because a threadpool pins the thread that makes it. Stages 4 to 10
//! share one running stack, as all requests to a server do, and send requests from `concurrency` threads in turn.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tiny_http::Server;

use super::client;
use super::report::{self, SocketRates};
use super::served::{Served, drive};
use super::workload::{StagePrompt, StagesWorkload};
use crate::clock::MonotonicClock;
use crate::config::{Config, DecoderKind};
use crate::engine::{Engine, EngineParts, Observer, PromptRows};
use crate::handoff::{ReplyPool, Shutdown, Stage, Submitter, ring};
use crate::http::Access;
use crate::llama::raw::decode::RawThread;
use crate::llama::{self, Model};
use crate::logging;
use crate::measure::witness::Traced;
use crate::model_file::ModelFile;
use crate::null_decoder::NullDecoder;
use crate::sample::{SampleScratch, Sampler};
use crate::server::context::ContextChoice;
use crate::server::decoder::{llama_decoder, load_model, null_capacity};
use crate::server::defaults::flash_attention;
use crate::server::defaults::plan;
use crate::server::observer::StepTracer;
use crate::server::service::{service, spawn_workers};
use crate::server::stack::Stack;
use crate::server::template::chat_template;
use crate::server::{listen, vocabulary};
use crate::tokenizer::Tokenizer;
use crate::topology::{CorePlan, Machine};
use crate::trace::{TraceWriter, trace_buffer};
use crate::types::limits::{REPLY_PIECES_MAX, STAGES_END_S_MAX};
use crate::types::seams::{Decoder, Outcome, Row};
use crate::types::{Pos, SeqId, StartupError, Token};

fn gone() -> StartupError {
    StartupError::System { doing: "start a stage".into(), reason: "the stage's thread ended".into() }
}

/// The layer that each stage adds.
pub const STAGES: [&str; 11] = [
    "raw llama_decode, argmax",
    "our Decoder",
    "sampler",
    "engine, driven in place",
    "ring, replies, batching thread",
    "tokenizer",
    "generate: JSON in, JSON out",
    "router and handler",
    "HTTP over loopback",
    "HTTP, streaming",
    "POST /benchmark",
];

type Batch = Arc<Vec<StagePrompt>>;
type Job = Box<dyn FnMut(Batch) -> Result<usize, String>>;

/// A stage without the batching thread, on its own thread.
struct InPlace {
    jobs: mpsc::Sender<Batch>,
    done: mpsc::Receiver<Result<usize, String>>,
}

impl InPlace {
    fn start(
        stage: u8,
        make: impl FnOnce() -> Result<Job, StartupError> + Send + 'static,
    ) -> Result<InPlace, StartupError> {
        let (jobs, jobs_in) = mpsc::channel::<Batch>();
        let (done_out, done) = mpsc::channel();
        let (ready_out, ready) = mpsc::channel();
        let thread = std::thread::Builder::new().name(format!("stage-{stage}"));
        let spawned = thread.spawn(move || match make() {
            Err(error) => drop(ready_out.send(Err(error))),
            Ok(mut job) => {
                let _ = ready_out.send(Ok(()));
                jobs_in.into_iter().for_each(|batch| drop(done_out.send(job(batch))));
            }
        });
        spawned.map_err(|_| gone())?;
        ready.recv().map_err(|_| gone())??;
        Ok(InPlace { jobs, done })
    }

    fn run(&self, batch: Batch) -> Result<usize, String> {
        self.jobs.send(batch).map_err(|_| "the stage's thread ended".to_owned())?;
        self.done.recv().map_err(|_| "the stage's thread ended".to_owned())?
    }
}

/// The stack of stages 4 to 10, and the server in front of it.
struct SharedStack {
    stack: Stack,
    served: Served,
    server: Arc<Server>,
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
}

/// All stages, ready to run.
pub struct Stages {
    workload: StagesWorkload,
    tokenizer: Tokenizer,
    name: String,
    raw: Option<RawThread>,
    /// Whether bare sockets are measured, too. With a model's steps, their speed says nothing.
    compares_sockets: bool,
    in_place: BTreeMap<u8, InPlace>,
    /// The recorded steps of stage 3.
    in_place_trace: Option<Traced>,
    shared: Option<SharedStack>,
    /// The events of the latest streaming run.
    streamed: client::Streamed,
    /// The rates of sockets, one entry for each round.
    socket_rates: Vec<SocketRates>,
    /// The number of writes and of tokens in the streaming stage, over all rounds.
    writes: (u64, u64),
}

impl Stages {
    /// Loads the model and makes what the stages `chosen` need.
    ///
    /// # Errors
    /// The model can't be loaded, or a thread or server can't start.
    pub fn start(config: &Config, workload: StagesWorkload, chosen: &[u8]) -> Result<Stages, StartupError> {
        logging::init(config.log_level.min(crate::config::LogLevel::Warn), config.log_format);
        config.check_files()?;
        llama::backend_init();
        let plan = plan(&Machine::detect(), config)?;
        // Must live as long as the model: its pages are unmapped when this value is dropped.
        let file = ModelFile::open_unverified(&config.model)?;
        let gguf = file.gguf()?;
        let tokenizer = vocabulary::load(config, &file, &gguf)?;
        let model = match config.decoder {
            DecoderKind::Llama => Some(load_model(config, &file)?),
            DecoderKind::Null { .. } => None,
        };
        let mut layers = Stages {
            workload,
            name: config.model_path().map_or("built-in model".to_owned(), |path| path.display().to_string()),
            raw: None,
            compares_sockets: matches!(config.decoder, DecoderKind::Null { .. }),
            in_place: BTreeMap::new(),
            in_place_trace: None,
            shared: None,
            streamed: client::Streamed::default(),
            socket_rates: Vec::new(),
            writes: (0, 0),
            tokenizer,
        };
        if let DecoderKind::Null { step } = config.decoder {
            layers.name = format!("null decoder, {} us a step, vocabulary of the {}", step.as_micros(), layers.name);
        }
        if config.speculate == Some(true) {
            layers.name += ", tokens guessed";
        }
        for stage in chosen.iter().copied() {
            match stage {
                0 => {
                    let cores: Vec<usize> = plan.compute.iter().map(|cpu| cpu.0).collect();
                    let (seqs, cells) = (workload.concurrency, workload.cells());
                    let layout =
                        ContextChoice::least(config, model.as_ref().map_or(0, |model| model.n_ctx_train())).layout;
                    let flash = flash_attention(config);
                    layers.raw = Some(RawThread::start(&file.place(), seqs, cells, &cores, flash, layout));
                }
                1..=3 => {
                    let (writer, reader) = trace_buffer();
                    let records = config.trace && stage == 3;
                    let clock = MonotonicClock::start();
                    if records {
                        layers.in_place_trace = Some(Traced { name: "stage 3", reader, clock });
                    }
                    let writer = records.then_some(writer);
                    let in_place = layers.start_in_place(stage, config, &plan, model.as_ref(), (clock, writer))?;
                    layers.in_place.insert(stage, in_place);
                }
                _ if layers.shared.is_none() => {
                    let tokenizer = vocabulary::load(config, &file, &gguf)?;
                    let template = chat_template(config, &gguf, &tokenizer)?;
                    // Runs on another thread: a threadpool pins the thread that makes it, and clients would inherit that.
                    let stack = std::thread::scope(|scope| {
                        let start = || match &model {
                            Some(model) => Stack::on_model(config, &plan, model, &gguf, tokenizer, &template),
                            None => Stack::start(config, &plan, &file, &gguf, tokenizer, &template),
                        };
                        scope.spawn(start).join().unwrap_or_else(|_| Err(gone()))
                    })?;
                    let server = Arc::new(listen::listen(config, listen::bind(config)?)?);
                    let service = service(config, &stack, template, Access::new(&[], Vec::new()), None);
                    let stop = Arc::new(AtomicBool::new(false));
                    let workers = spawn_workers(config, &plan, &server, &service, &stop)?;
                    let addr = server.server_addr().to_string();
                    let Submitter::Generations(submissions) = stack.submitter.clone() else {
                        return Err(StartupError::System {
                            doing: "measure".to_owned(),
                            reason: "this model makes embeddings, not text".to_owned(),
                        });
                    };
                    let served = Served {
                        tokenizer: Arc::clone(&stack.tokenizer),
                        submissions,
                        replies: stack.replies.clone(),
                        clock: stack.clock,
                        service,
                        addr,
                    };
                    layers.shared = Some(SharedStack { stack, served, server, stop, workers });
                }
                _ => {}
            }
        }
        Ok(layers)
    }

    fn start_in_place(
        &self,
        stage: u8,
        config: &Config,
        plan: &CorePlan,
        model: Option<&Arc<Model>>,
        trace: (MonotonicClock, Option<TraceWriter>),
    ) -> Result<InPlace, StartupError> {
        let (config, plan, workload) = (config.clone(), plan.clone(), self.workload);
        let table = Arc::clone(self.tokenizer.table());
        match (model.cloned(), config.decoder) {
            (Some(model), _) => InPlace::start(stage, move || {
                let decoder = llama_decoder(&config, &plan, &model)?;
                let speculates = config.speculate == Some(true) && model.can_cut();
                Ok(job(stage, decoder, table, workload, trace, speculates))
            }),
            (None, decoder) => InPlace::start(stage, move || {
                let step = if let DecoderKind::Null { step } = decoder { step } else { Duration::ZERO };
                let capacity = null_capacity(&config, workload.cells(), table.n_vocab());
                let decoder = NullDecoder::new(capacity, &table, step);
                Ok(job(stage, decoder, table, workload, trace, config.speculate == Some(true)))
            }),
        }
    }

    /// The engines that record their steps.
    pub fn traced(&self) -> Vec<Traced> {
        let shared = self.shared.as_ref().and_then(|shared| {
            Some(Traced { name: "batch", reader: shared.stack.trace.clone()?, clock: shared.stack.clock })
        });
        shared.into_iter().chain(self.in_place_trace.clone()).collect()
    }

    /// The name of what is measured: the model, or the null decoder.
    pub fn title(&self) -> String {
        self.name.clone()
    }

    /// Runs `stage` once and returns tokens a second.
    ///
    /// # Errors
    /// In words: a request failed, or there were fewer tokens than requested.
    pub fn rate(&mut self, stage: u8, round: u32) -> Result<f64, String> {
        let salt = u64::from(round) * STAGES.len() as u64 + u64::from(stage);
        let prompts: Batch = Arc::new(self.workload.prompts(&self.tokenizer, salt));
        let expected = self.workload.requests * self.workload.max_tokens;
        let writes_before = self.stream_writes();
        let ready = self.shared.as_ref().map(|shared| shared.served.ready(stage, &prompts, &self.workload));
        let ready = ready.transpose()?.unwrap_or_default();
        let started = Instant::now();
        let tokens = match (stage, &self.raw, self.in_place.get(&stage), &self.shared) {
            (0, Some(raw), ..) => prompts
                .chunks(self.workload.concurrency)
                .map(|wave| {
                    let ids = |prompt: &StagePrompt| prompt.tokens.iter().map(|token| token.0 as i32).collect();
                    raw.generate(wave.iter().map(ids).collect(), self.workload.max_tokens)
                })
                .sum(),
            (_, _, Some(in_place), _) => in_place.run(Arc::clone(&prompts))?,
            (_, _, _, Some(shared)) => shared.served.run(stage, &prompts, &self.workload, ready, &mut self.streamed)?,
            _ => return Err("this stage was not started".to_owned()),
        };
        let rate = tokens as f64 / started.elapsed().as_secs_f64();
        if tokens != expected {
            return Err(format!("{tokens} tokens instead of {expected}"));
        }
        if stage == 9 && round > 0 && self.compares_sockets {
            self.writes.0 += self.stream_writes() - writes_before;
            self.writes.1 += tokens as u64;
            let bare = |pairs| client::bare_sockets(&self.streamed, pairs).map_err(|error| error.to_string());
            let (pair, pairs) = (bare(1)?, bare(self.workload.concurrency)?);
            let streams = self.streamed.events as f64 / (tokens as f64 / rate);
            self.socket_rates.push(SocketRates { streams, pair, pairs });
        }
        Ok(rate)
    }

    /// The results for sockets in the streaming stage, in words.
    pub fn sockets(&self) -> Option<String> {
        if self.socket_rates.is_empty() {
            return None;
        }
        let writes = self.writes.0 as f64 / self.writes.1.max(1) as f64;
        Some(report::sockets(&self.socket_rates, self.workload.concurrency, writes))
    }

    fn stream_writes(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| shared.stack.metrics.http.stream_writes.get())
    }

    /// Ends the server and the batching thread.
    pub fn stop(&mut self) {
        let Some(SharedStack { stack, server, stop, workers, .. }) = self.shared.take() else { return };
        stack.shutdown.advance(Stage::Now);
        stack.submitter.wake_handle().wake();
        stop.store(true, Ordering::Release);
        let until = Instant::now() + Duration::from_secs(STAGES_END_S_MAX);
        for worker in workers {
            while !worker.is_finished() && Instant::now() < until {
                server.unblock();
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let _ = stack.batch.join();
    }
}

/// Runs stage 1, 2 or 3 over `decoder`. Stage 3 records its steps if asked to, and guesses tokens if asked to.
fn job<D: Decoder + 'static>(
    stage: u8,
    mut decoder: D,
    table: Arc<crate::types::TokenTable>,
    workload: StagesWorkload,
    (clock, trace): (MonotonicClock, Option<TraceWriter>),
    speculates: bool,
) -> Job {
    if stage == 3 {
        return match trace {
            Some(writer) => engine_job(decoder, table, workload, (clock, StepTracer(writer)), speculates),
            None => engine_job(decoder, table, workload, (clock, ()), speculates),
        };
    }
    let params = workload.params();
    let n_vocab = decoder.capacity().n_vocab;
    let mut scratch = SampleScratch::new(n_vocab);
    let mut samplers: Vec<Sampler> = (0..workload.concurrency).map(|_| Sampler::new()).collect();
    Box::new(move |batch| {
        let mut tokens = 0;
        for wave in batch.chunks(workload.concurrency) {
            samplers.iter_mut().zip(wave).for_each(|(sampler, prompt)| sampler.reset(&params.sampling, &prompt.tokens));
            tokens += wave_of(&mut decoder, wave, params.max_tokens, &mut |seq, logits| {
                if stage == 1 {
                    return argmax(logits);
                }
                let token = samplers[seq].sample(&mut scratch, logits).unwrap_or_default();
                samplers[seq].accept(token);
                token
            })?;
        }
        Ok(tokens)
    })
}

/// Stage 3: drives the engine in place.
fn engine_job<D: Decoder + 'static>(
    decoder: D,
    table: Arc<crate::types::TokenTable>,
    workload: StagesWorkload,
    (clock, observer): (MonotonicClock, impl Observer + 'static),
    speculates: bool,
) -> Job {
    let (params, slots) = (workload.params(), workload.concurrency);
    let (sender, inbox) = ring(slots);
    let replies = ReplyPool::with_wake(slots + 1, REPLY_PIECES_MAX, sender.wake_handle());
    let parts = EngineParts {
        decoder,
        clock,
        observer,
        inbox,
        table,
        shutdown: Shutdown::default(),
        slots,
        prompt_rows: PromptRows::Measured,
    };
    let engine = Engine::new(parts);
    let mut engine = if speculates { engine.speculating() } else { engine };
    Box::new(move |batch| drive(&mut || _ = engine.step(), &sender, &replies, &clock, &batch, &params, slots))
}

/// Decodes all prompts together, then one token of each in every step. `choose` turns a sequence and its logits into a
/// token.
fn wave_of<D: Decoder>(
    decoder: &mut D,
    wave: &[StagePrompt],
    max_tokens: usize,
    choose: &mut dyn FnMut(usize, &mut [f32]) -> Token,
) -> Result<usize, String> {
    let seq = |i: usize| SeqId(i as u16);
    let mut rows = Vec::new();
    for (i, prompt) in wave.iter().enumerate() {
        decoder.seq_remove(seq(i), Pos(0)..Pos::MAX);
        let last = prompt.tokens.len() - 1;
        rows.extend(prompt.tokens.iter().enumerate().map(|(at, token)| Row {
            token: *token,
            pos: Pos(at as u32),
            seq: seq(i),
            wants_logits: at == last,
        }));
    }
    let mut next = vec![Token(0); wave.len()];
    for step in 1..=max_tokens {
        for part in rows.chunks(decoder.capacity().rows_max) {
            match decoder.decode(part) {
                Outcome::Done => {}
                other => return Err(format!("decode said {other:?}")),
            }
            for (i, row) in part.iter().enumerate().filter(|(_, row)| row.wants_logits) {
                next[row.seq.index()] = choose(row.seq.index(), decoder.logits(i));
            }
        }
        rows.clear();
        rows.extend(wave.iter().enumerate().map(|(i, prompt)| Row {
            token: next[i],
            pos: Pos((prompt.tokens.len() + step - 1) as u32),
            seq: seq(i),
            wants_logits: true,
        }));
    }
    Ok(wave.len() * max_tokens)
}

fn argmax(logits: &mut [f32]) -> Token {
    let mut best = 0;
    for (i, value) in logits.iter().enumerate() {
        if *value > logits[best] {
            best = i;
        }
    }
    Token(best as u32)
}
