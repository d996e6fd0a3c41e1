//! `cllm bench speculation`: measures the gain from guessing tokens, on texts that repeat and on texts that don't, with one
//! stream and with several.
//!
//! Drives the server's engine in place over the model's real steps. For kinds of text with a given answer, its tokens are
//! made the most likely ones after the model has computed its logits (`script`). So steps take their real time, and the
//! text repeats as its kind says, with any model. Runs with and without guesses alternate within each round. The engine
//! keeps what it has learnt from round to round, as in a server. Round 0 warms up and isn't counted. Tokens a second are
//! counted from the time when all streams have their first token. Texts that follow a schema have their own threads
//! (`constrained`).

mod constrained;
mod script;
mod workload;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write;
use std::io::IsTerminal;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use super::median;
use super::witness::Witness;
use crate::clock::MonotonicClock;
use crate::config::definition::scope::BENCH;
use crate::config::settings::compute::DECODER;
use crate::config::{Config, DecoderKind, Flags, LogLevel};
use crate::constrain::Constrainer;
use crate::engine::{Engine, EngineParts, GuessCounts, PromptRows, RoundOutcome, Stats};
use crate::handoff::{ReplyPool, ReplyReader, ReplyState, Sender, Shutdown, Submission, Wake, ring};
use crate::llama::{self, LlamaDecoder, Model};
use crate::logging;
use crate::model_file::ModelFile;
use crate::server::decoder::{llama_decoder, load_model};
use crate::server::defaults::plan;
use crate::server::fetch;
use crate::server::vocabulary;
use crate::tokenizer::Tokenizer;
use crate::topology::{CorePlan, CpuId, Machine, pin};
use crate::types::limits::REPLY_PIECES_MAX;
use crate::types::seams::Clock;
use crate::types::{GenerateParams, RequestId, StartupError};
use script::{Scripted, Scripts};
use workload::{BenchText, TextKind};

/// Show what guessing tokens brings: texts that repeat and texts that don't
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Kinds of text:
  edit    A file, then the same file with three small edits
  quote   A document, then an answer that quotes it
  json    An object, then an object with the same fields and other values
  schema  An object that must follow a JSON schema with twelve fields
  free    The model's own text, at temperature 0.8
  random  Random tokens, which can't be guessed

Examples:
  cllm bench speculation -m model.gguf
  cllm bench speculation -m model.gguf --streams 1,4 --kinds edit,schema
  cllm bench speculation -m model.gguf --streams 16 --tokens 100")]
pub struct SpeculationArgs {
    /// Streams at once
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,4,16",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub streams: Vec<u16>,
    /// Kinds of text, see below [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_enum, hide_possible_values = true)]
    pub kinds: Vec<TextKind>,
    /// Tokens of each prompt (roughly) and of each answer
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub tokens: u32,
    /// Rounds that count; one more warms up
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,
    /// Print JSON instead of the table
    #[arg(long)]
    pub json: bool,
    /// The settings given as flags.
    #[command(flatten)]
    pub flags: Flags<BENCH>,
}

/// One kind of text with one number of streams.
struct TextLine {
    kind: TextKind,
    streams: usize,
    /// Tokens a second, one entry for each round.
    without: Vec<f64>,
    with: Vec<f64>,
    /// Over all rounds with guesses: the steps that generated tokens, these tokens, and the guesses.
    steps: u64,
    tokens: u64,
    guesses: GuessCounts,
}

impl TextLine {
    fn ratios(&self) -> Vec<f64> {
        self.with.iter().zip(&self.without).map(|(with, without)| with / without).collect()
    }
}

/// The results of one run.
struct SpeculationRun {
    rate: f64,
    steps: u64,
    tokens: u64,
    guesses: GuessCounts,
}

/// Measures and prints the report. The first Ctrl-C ends it with the results so far, a second one at once.
///
/// # Errors
/// The model can't be loaded, a step failed, or nothing was measured.
pub fn run(args: &SpeculationArgs, witness: &mut Witness) -> Result<(), StartupError> {
    let stop = super::stop_on_ctrl_c()?;
    let mut config = Config::load(&args.flags.0)?;
    if config.decoder != DecoderKind::Llama {
        return Err(config.refuse(&DECODER, "the null decoder's steps take no time, so guessing saves nothing"));
    }
    logging::init(config.log_level.min(LogLevel::Warn), config.log_format);
    fetch::fetch(&mut config.model)?;
    config.check_files()?;
    llama::backend_init();
    let streams_max = args.streams.iter().copied().max().unwrap_or(1);
    // Room for a quote's last sentence, and for lines that are a little longer than planned.
    let cells = (args.tokens as usize * 2 + 512).next_multiple_of(256);
    config.parallel = streams_max;
    config.ctx_total = Some((cells * usize::from(streams_max)) as u32);
    let machine = Machine::detect();
    let plan = plan(&machine, &config)?;
    let file = ModelFile::open_unverified(&config.model)?;
    let tokenizer = Arc::new(vocabulary::load(&config, &file, &file.gguf()?)?);
    let model = load_model(&config, &file)?;
    if !model.can_cut() {
        let reason = "a recurrent model's state can't be rolled back, so nothing is guessed".to_owned();
        return Err(StartupError::Model { path: model.path().to_owned(), reason });
    }
    witness.begin(Vec::new())?;
    // Runs on another thread, because llama.cpp pins the thread that makes a threadpool.
    let measured = std::thread::scope(|scope| {
        let measure = || measure(args, &config, &plan, &model, &tokenizer, &stop);
        let thread = std::thread::Builder::new().name("bench-speculation".to_owned()).spawn_scoped(scope, measure);
        let joined =
            thread.map(|thread| thread.join().unwrap_or_else(|_| (Vec::new(), Some("it panicked".to_owned()))));
        joined.unwrap_or_else(|error| (Vec::new(), Some(error.to_string())))
    });
    witness.end();
    let (lines, failure) = measured;
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    let partial = failure.is_some() || stop.load(Ordering::Relaxed);
    if !lines.is_empty() {
        let text =
            if args.json { to_json(args, &model, &lines, partial) } else { table(args, &model, &lines, partial) };
        witness.print(&text)?;
    }
    let failed = |reason: String| StartupError::System { doing: "measure".into(), reason };
    match failure {
        Some(reason) => Err(failed(reason)),
        None if lines.is_empty() => Err(failed("stopped before the first round".into())),
        None => Ok(()),
    }
}

/// Measures all lines. Also returns why it ended early, if it did.
fn measure(
    args: &SpeculationArgs,
    config: &Config,
    plan: &CorePlan,
    model: &Arc<Model>,
    tokenizer: &Arc<Tokenizer>,
    stop: &AtomicBool,
) -> (Vec<TextLine>, Option<String>) {
    let _ = pin(plan.batch);
    let decoder = match llama_decoder(config, plan, model) {
        Ok(decoder) => decoder,
        Err(error) => return (Vec::new(), Some(error.to_string())),
    };
    let mut bench = Bench::new(decoder, tokenizer, usize::from(config.parallel), &plan.http);
    let kinds = if args.kinds.is_empty() { &TextKind::ALL[..] } else { &args.kinds };
    let mut lines = Vec::new();
    for kind in kinds {
        for streams in args.streams.iter().map(|streams| usize::from(*streams)) {
            let (without, with, guesses) = (Vec::new(), Vec::new(), GuessCounts::default());
            let mut line = TextLine { kind: *kind, streams, without, with, steps: 0, tokens: 0, guesses };
            for round in 0..=args.rounds {
                if std::io::stderr().is_terminal() {
                    eprint!("\r\x1b[K{} x {streams}, round {round} of {}", kind.name(), args.rounds);
                }
                let mut run = |speculates| {
                    let texts = (0..streams).map(|stream| {
                        workload::text(
                            *kind,
                            tokenizer,
                            args.tokens as usize,
                            stream,
                            u64::from(round) << 8 | *kind as u64,
                        )
                    });
                    bench.run(*kind, texts.collect(), args.tokens as usize, speculates, u64::from(round), stop)
                };
                // Each of the two runs goes first in every other round.
                let runs = match round % 2 {
                    0 => run(false).and_then(|without| Ok((without, run(true)?))),
                    _ => run(true).and_then(|with| Ok((run(false)?, with))),
                };
                let (without, with) = match runs {
                    Ok(runs) => runs,
                    Err(_) if stop.load(Ordering::Relaxed) => break,
                    Err(reason) => return (lines, Some(reason)),
                };
                if round > 0 {
                    line.without.push(without.rate);
                    line.with.push(with.rate);
                    line.steps += with.steps;
                    line.tokens += with.tokens;
                    line.guesses.tried += with.guesses.tried;
                    line.guesses.accepted += with.guesses.accepted;
                }
            }
            if !line.with.is_empty() {
                lines.push(line);
            }
            if stop.load(Ordering::Relaxed) {
                return (lines, None);
            }
        }
    }
    (lines, None)
}

/// The engine and its clients. They share one thread unless answers are constrained.
struct Bench {
    engine: Engine<Scripted<LlamaDecoder>, MonotonicClock, ()>,
    scripts: Scripts,
    parts: Parts,
}

/// The parts that clients on other threads also need.
struct Parts {
    sender: Sender<Submission>,
    replies: ReplyPool,
    clock: MonotonicClock,
    /// One without paths and one with them.
    constrainers: [Constrainer; 2],
    /// The cores of clients on other threads.
    http: Vec<CpuId>,
}

impl Bench {
    fn new(decoder: LlamaDecoder, tokenizer: &Arc<Tokenizer>, slots: usize, http: &[CpuId]) -> Bench {
        let scripts: Scripts = Rc::new(RefCell::new(HashMap::new()));
        let (sender, inbox) = ring(slots);
        let clock = MonotonicClock::start();
        let engine = Engine::new(EngineParts {
            decoder: Scripted::new(decoder, Rc::clone(&scripts)),
            clock,
            observer: (),
            inbox,
            table: Arc::clone(tokenizer.table()),
            shutdown: Shutdown::default(),
            slots,
            prompt_rows: PromptRows::Measured,
        });
        let replies = ReplyPool::with_masks(slots + 1, REPLY_PIECES_MAX, tokenizer.n_vocab(), sender.wake_handle());
        let constrainers = [false, true].map(|looks| Constrainer::new(Arc::clone(tokenizer)).looking_ahead(looks));
        let parts = Parts { sender, replies, clock, constrainers, http: http.to_vec() };
        Bench { engine: engine.speculating(), scripts, parts }
    }

    /// Generates `max_tokens` tokens for each of `texts`.
    fn run(
        &mut self,
        kind: TextKind,
        texts: Vec<BenchText>,
        max_tokens: usize,
        speculates: bool,
        seed: u64,
        stop: &AtomicBool,
    ) -> Result<SpeculationRun, String> {
        if kind == TextKind::Schema {
            return self.run_constrained(texts, speculates, stop);
        }
        self.engine.speculate(speculates);
        let streams = texts.len();
        let mut readers = Vec::new();
        self.scripts.borrow_mut().clear();
        for (i, BenchText { prompt, answer, .. }) in texts.into_iter().enumerate() {
            if let Some(answer) = answer {
                let whole = prompt.iter().chain(&answer).copied().collect();
                self.scripts.borrow_mut().insert(prompt[0], whole);
            }
            let sampling = kind.sampling(seed << 8 | i as u64);
            let params = GenerateParams { sampling, max_tokens, ignore_eos: true, ..GenerateParams::default() };
            let (reply, reader) = self.parts.replies.claim().ok_or("no reply slot")?;
            let (id, arrived_us) = (RequestId(i as u64), self.parts.clock.now_us());
            let submission = Submission { id, prompt, params, arrived_us, deadline_us: None, reply };
            self.parts.sender.push(submission).map_err(|_| "the ring is full".to_owned())?;
            readers.push(reader);
        }
        let mut tokens = vec![0_usize; streams];
        let mut begun: Option<(Instant, usize, Stats)> = None;
        loop {
            if stop.load(Ordering::Relaxed) {
                drop(readers);
                while self.engine.has_work() {
                    self.engine.step();
                }
                return Err("stopped".to_owned());
            }
            if self.engine.step() == RoundOutcome::Broken {
                return Err("llama.cpp can't continue".to_owned());
            }
            let is_over = read(&mut readers, &mut tokens);
            if begun.is_none() && tokens.iter().all(|tokens| *tokens > 0) {
                begun = Some((Instant::now(), tokens.iter().sum(), *self.engine.stats()));
            }
            if is_over {
                break;
            }
        }
        let all: usize = tokens.iter().sum();
        if all != streams * max_tokens {
            return Err(format!("{all} tokens instead of {}", streams * max_tokens));
        }
        let (since, before, stats) = begun.ok_or("no token was generated")?;
        Ok(SpeculationRun {
            rate: (all - before) as f64 / since.elapsed().as_secs_f64(),
            steps: self.engine.stats().steps - stats.steps,
            tokens: (all - before) as u64,
            guesses: guesses_since(&stats, self.engine.stats()),
        })
    }
}

/// Guesses of all sources between two snapshots of the statistics.
fn guesses_since(before: &Stats, now: &Stats) -> GuessCounts {
    let sum = |of: fn(&GuessCounts) -> u64| {
        let all = |stats: &Stats| stats.guesses.iter().map(of).sum::<u64>();
        all(now) - all(before)
    };
    GuessCounts { tried: sum(|guesses| guesses.tried), accepted: sum(|guesses| guesses.accepted) }
}

/// Reads all pieces that have arrived. Returns whether all answers have ended.
fn read(readers: &mut [ReplyReader], tokens: &mut [usize]) -> bool {
    let (mut pieces, mut is_over) = (Vec::new(), true);
    for (reader, count) in readers.iter_mut().zip(tokens) {
        reader.read_into(&mut pieces);
        *count += pieces.drain(..).count();
        is_over &= matches!(reader.poll(Wake::AtEnd), Some(ReplyState::Finished(_)));
    }
    is_over
}

fn table(args: &SpeculationArgs, model: &Model, lines: &[TextLine], partial: bool) -> String {
    let mut text = format!(
        "{}\nprompts of about {} tokens, answers of {}, medians of {} rounds\n\n",
        model.description(),
        args.tokens,
        args.tokens,
        lines[0].with.len()
    );
    let _ = writeln!(text, "text    streams  without t/s  with t/s  ratio  range          a step  tried  true");
    for line in lines {
        let ratios = line.ratios();
        let (least, most) = ratios.iter().fold((f64::INFINITY, 0.0_f64), |(a, b), x| (a.min(*x), b.max(*x)));
        let true_part = match line.guesses {
            GuessCounts { tried: 0, .. } => "-".to_owned(),
            GuessCounts { tried, accepted } => format!("{:.0} %", 100.0 * accepted as f64 / tried as f64),
        };
        let _ = writeln!(
            text,
            "{:<7}{:>8}{:>13.1}{:>10.1}{:>7.2}  {:<13}{:>8.2}{:>7.2}{:>6}",
            line.kind.name(),
            line.streams,
            median(&line.without),
            median(&line.with),
            median(&ratios),
            format!("{least:.2} to {most:.2}"),
            line.tokens as f64 / line.steps as f64 / line.streams as f64,
            line.guesses.tried as f64 / line.tokens as f64,
            true_part,
        );
    }
    text += "\na step: tokens of one stream; tried: guesses for each token.\n";
    if partial {
        text += "Partial: it ended early.\n";
    }
    text
}

fn to_json(args: &SpeculationArgs, model: &Model, lines: &[TextLine], partial: bool) -> String {
    let line = |line: &TextLine| -> Value {
        json!({
            "kind": line.kind.name(), "streams": line.streams,
            "without_tokens_per_second": median(&line.without), "with_tokens_per_second": median(&line.with),
            "ratio": median(&line.ratios()), "ratios": line.ratios(),
            "without_rounds": line.without, "with_rounds": line.with,
            "tokens_per_step": line.tokens as f64 / line.steps as f64 / line.streams as f64,
            "guesses": line.guesses.tried, "guesses_accepted": line.guesses.accepted,
        })
    };
    let report = json!({
        "bench": "speculation", "partial": partial, "model": model.description(), "tokens": args.tokens,
        "lines": lines.iter().map(line).collect::<Vec<_>>(),
    });
    report.to_string() + "\n"
}
