//! `cllm bench decode`: measures prefill and generation over batch sizes and threads, with the decoder of the server, and
//! how much of the memory's read speed generation reaches.
//!
//! A step that generates reads the weights once, however many sequences it has. So bytes of weights times steps a second is
//! the bandwidth that is reached. (Keys and values are read in addition and not counted.) The ceiling is what as many
//! threads read from a plain buffer in the same round. A model that fits in the CPU's caches may exceed it; a model that
//! uses only some of its experts in each step reads less than is counted.

use std::fmt::Write;
use std::hint::black_box;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use super::median;
use super::witness::Witness;
use crate::config::definition::scope::BENCH;
use crate::config::settings::compute::DECODER;
use crate::config::{Config, DecoderKind, Flags};
use crate::llama::{self, Model, attention, matrix};
use crate::model_file::ModelFile;
use crate::server::decoder::{llama_decoder, load_model};
use crate::server::defaults::plan;
use crate::server::fetch;
use crate::topology::{CorePlan, Machine, pin};
use crate::types::limits::BANDWIDTH_READ_BYTES;
use crate::types::seams::{Decoder, Outcome, Row};
use crate::types::{Pos, SeqId, StartupError, Token};
use crate::{llama::LlamaDecoder, logging};

/// Measure llama.cpp here: prompts, generation, bandwidth
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cllm bench decode -m model.gguf
  cllm bench decode -m model.gguf --batch 1,8,32 --thread-counts 1,2,4
  cllm bench decode -m model.gguf --beside ggml")]
pub struct DecodeBenchArgs {
    /// Tokens of the prompt that is read
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub prompt_tokens: u32,
    /// Tokens generated for each sequence
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_tokens: u32,
    /// Sequences that generate at once
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,4,8",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    pub batch: Vec<u16>,
    /// Compute threads [default: 1, 2, 4 ... to the cores]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=512))]
    pub thread_counts: Vec<u16>,
    /// Rounds that count; one more warms up
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,
    /// Also measure ggml's kernels: ggml (all) or matrices; loads a second model
    #[arg(long, value_name = "WHAT", value_enum, hide_possible_values = true)]
    pub beside: Option<Beside>,
    /// Print JSON instead of the table
    #[arg(long)]
    pub json: bool,
    /// The settings given as flags.
    #[command(flatten)]
    pub flags: Flags<BENCH>,
}

/// What of ggml's own is measured beside what serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Beside {
    /// Its attention and its products of matrices
    Ggml,
    /// Its products of matrices
    Matrices,
}

impl Beside {
    fn name(self) -> &'static str {
        match self {
            Beside::Ggml => "ggml",
            Beside::Matrices => "ggml's matrices",
        }
    }

    /// Runs `work` with ggml's kernels in the place of ours.
    fn instead<T>(self, work: impl FnOnce() -> T) -> T {
        matrix::leave_to_ggml(true);
        attention::leave_to_ggml(self == Beside::Ggml);
        let done = work();
        attention::leave_to_ggml(false);
        matrix::leave_to_ggml(false);
        done
    }
}

/// A second copy of the model in memory, for ggml's kernels.
type Second = Option<(Beside, Arc<Model>)>;

/// The results for one number of threads.
struct Column {
    threads: usize,
    /// Bytes a second that these threads read from the buffer, one entry for each round.
    ceiling: Vec<f64>,
    ours: DecodeRates,
    /// The rates of ggml's kernels in the same rounds, with `--beside`.
    beside: Option<DecodeRates>,
}

/// Tokens a second, one entry for each round.
struct DecodeRates {
    prompt: Vec<f64>,
    /// A list for each batch size.
    generated: Vec<Vec<f64>>,
}

impl DecodeRates {
    fn none(batches: usize) -> DecodeRates {
        DecodeRates { prompt: Vec::new(), generated: vec![Vec::new(); batches] }
    }

    fn add(&mut self, prompt: f64, generated: Vec<f64>) {
        self.prompt.push(prompt);
        self.generated.iter_mut().zip(generated).for_each(|(all, rate)| all.push(rate));
    }
}

/// Measures and prints the report. The first Ctrl-C ends it with the results so far, a second one at once.
///
/// # Errors
/// The model can't be loaded, a step failed, or nothing was measured.
pub fn run(args: &DecodeBenchArgs, witness: &mut Witness) -> Result<(), StartupError> {
    let unusable = |name: &str, reason: &str| StartupError::Config { name: name.to_owned(), reason: reason.to_owned() };
    let stop = super::stop_on_ctrl_c()?;
    let mut config = Config::load(&args.flags.0)?;
    if config.decoder != DecoderKind::Llama {
        return Err(config.refuse(&DECODER, "only llama.cpp can be measured, not the null decoder"));
    }
    logging::init(config.log_level.min(crate::config::LogLevel::Warn), config.log_format);
    fetch::fetch(&mut config.model)?;
    config.check_files()?;
    llama::backend_init();
    let batch_max = args.batch.iter().copied().max().unwrap_or(1);
    let cells = (args.prompt_tokens.max(args.max_tokens) as usize + 1).next_multiple_of(256);
    config.parallel = batch_max;
    config.ctx_total = Some((cells * usize::from(batch_max)) as u32);
    let machine = Machine::detect();
    let counts: Vec<usize> = match (&args.thread_counts[..], config.threads) {
        ([], Some(threads)) => vec![threads],
        ([], None) => {
            let cores = machine.physical_cores().max(1);
            let powers = std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|n| *n < cores);
            powers.chain([cores]).collect()
        }
        (counts, _) => counts.iter().map(|count| usize::from(*count)).collect(),
    };
    let mut plans = Vec::new();
    for threads in counts {
        config.threads = Some(threads);
        plans.push(plan(&machine, &config).map_err(|error| match error {
            StartupError::Config { reason, .. } if !args.thread_counts.is_empty() => {
                unusable("--thread-counts", &reason)
            }
            error => error,
        })?);
    }
    let load = || load_model(&config, &ModelFile::open_unverified(&config.model)?);
    let model = load()?;
    let second: Second = match args.beside {
        Some(beside) => Some((beside, beside.instead(load)?)),
        None => None,
    };
    let buffer = vec![1_u64; BANDWIDTH_READ_BYTES / 8];
    let mut columns = Vec::new();
    let mut failure = None;
    witness.begin(Vec::new())?;
    for plan in &plans {
        let begun_us = witness.now_us();
        // Runs on another thread, because llama.cpp pins the thread that makes a threadpool.
        let column = std::thread::scope(|scope| {
            let measure = || column(args, &config, plan, (&model, &second), &buffer, &stop);
            let thread = std::thread::Builder::new().name("bench-decode".to_owned()).spawn_scoped(scope, measure);
            let joined =
                thread.map(|thread| thread.join().unwrap_or_else(|_| Err("the bench's thread panicked".to_owned())));
            joined.unwrap_or_else(|error| Err(error.to_string()))
        });
        witness.mark(|| format!("{} threads", plan.compute.len()), begun_us);
        match column {
            Ok(column) => columns.push(column),
            Err(reason) => failure = Some(reason),
        }
        if failure.is_some() || stop.load(Ordering::Relaxed) {
            break;
        }
    }
    witness.end();
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    columns.retain(|column| !column.ours.prompt.is_empty());
    let partial = stop.load(Ordering::Relaxed) || failure.is_some();
    if !columns.is_empty() {
        let text =
            if args.json { to_json(args, &model, &columns, partial) } else { table(args, &model, &columns, partial) };
        witness.print(&text)?;
    }
    match failure {
        Some(reason) => Err(StartupError::System { doing: "measure".into(), reason }),
        None if columns.is_empty() => {
            Err(StartupError::System { doing: "measure".into(), reason: "stopped before the first round".into() })
        }
        None => Ok(()),
    }
}

fn column(
    args: &DecodeBenchArgs,
    config: &Config,
    plan: &CorePlan,
    (model, second): (&Arc<Model>, &Second),
    buffer: &[u64],
    stop: &AtomicBool,
) -> Result<Column, String> {
    let make = |model: &Arc<Model>| llama_decoder(config, plan, model).map_err(|error| error.to_string());
    let mut decoder = make(model)?;
    let mut second =
        second.as_ref().map(|(beside, model)| make(model).map(|decoder| (*beside, decoder))).transpose()?;
    let none = || DecodeRates::none(args.batch.len());
    let mut column =
        Column { threads: plan.compute.len(), ceiling: Vec::new(), ours: none(), beside: second.is_some().then(none) };
    for round in 0..=args.rounds {
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K{} threads, round {round} of {}", column.threads, args.rounds);
        }
        let ceiling = read_speed(buffer, plan);
        let prompt = |decoder: &mut LlamaDecoder| -> Result<f64, String> {
            Ok(f64::from(args.prompt_tokens) / read_prompt(decoder, args.prompt_tokens)?)
        };
        let rate = |decoder: &mut LlamaDecoder, batch: u16| -> Result<f64, String> {
            Ok(f64::from(args.max_tokens) * f64::from(batch) / generate(decoder, batch, args.max_tokens)?)
        };
        let (mut prompts, mut rates) = (Vec::new(), [Vec::new(), Vec::new()]);
        prompts.push(prompt(&mut decoder)?);
        if let Some((beside, decoder)) = &mut second {
            prompts.push(beside.instead(|| prompt(decoder))?);
        }
        for batch in &args.batch {
            if stop.load(Ordering::Relaxed) {
                return Ok(column);
            }
            rates[0].push(rate(&mut decoder, *batch)?);
            if let Some((beside, decoder)) = &mut second {
                rates[1].push(beside.instead(|| rate(decoder, *batch))?);
            }
        }
        if round > 0 {
            column.ceiling.push(ceiling);
            let both = [Some(&mut column.ours), column.beside.as_mut()];
            for ((of, prompt), rates) in both.into_iter().flatten().zip(prompts).zip(rates) {
                of.add(prompt, rates);
            }
        }
    }
    Ok(column)
}

/// Bytes a second that the plan's compute threads read from `buffer`. Each reads a part.
fn read_speed(buffer: &[u64], plan: &CorePlan) -> f64 {
    let part = buffer.len().div_ceil(plan.compute.len());
    let started = Instant::now();
    std::thread::scope(|scope| {
        for (cpu, words) in plan.compute.iter().zip(buffer.chunks(part)) {
            scope.spawn(move || {
                let _ = pin(*cpu);
                // In this form rustc adds whole vectors, several at a time. With sums in an array it gathers words with AVX-512,
                // which reads at a fifth of the speed.
                black_box(words.iter().copied().fold(0, u64::wrapping_add));
            });
        }
    });
    size_of_val(buffer) as f64 / started.elapsed().as_secs_f64()
}

/// Token `i` of a prompt: tokens that every vocabulary has, and no token twice in a row.
fn token(i: u32, n_vocab: usize) -> Token {
    Token((i.wrapping_mul(7_919) + 17) % n_vocab as u32)
}

fn decode(decoder: &mut LlamaDecoder, rows: &[Row]) -> Result<(), String> {
    match decoder.decode(rows) {
        Outcome::Done => Ok(()),
        other => Err(format!("decode said {other:?}")),
    }
}

/// Decodes one prompt of `tokens` tokens and returns the seconds.
fn read_prompt(decoder: &mut LlamaDecoder, tokens: u32) -> Result<f64, String> {
    let capacity = decoder.capacity();
    decoder.seq_remove(SeqId(0), Pos(0)..Pos::MAX);
    let row = |i| Row { token: token(i, capacity.n_vocab), pos: Pos(i), seq: SeqId(0), wants_logits: i + 1 == tokens };
    let rows: Vec<Row> = (0..tokens).map(row).collect();
    let started = Instant::now();
    rows.chunks(capacity.rows_max).try_for_each(|rows| decode(decoder, rows))?;
    Ok(started.elapsed().as_secs_f64())
}

/// Decodes `tokens` steps of `batch` sequences with one row each and returns the seconds.
fn generate(decoder: &mut LlamaDecoder, batch: u16, tokens: u32) -> Result<f64, String> {
    let n_vocab = decoder.capacity().n_vocab;
    for seq in 0..decoder.capacity().seqs {
        decoder.seq_remove(SeqId(seq), Pos(0)..Pos::MAX);
    }
    let started = Instant::now();
    for step in 0..tokens {
        let row = |seq: u16| Row {
            token: token(step + u32::from(seq), n_vocab),
            pos: Pos(step),
            seq: SeqId(seq),
            wants_logits: true,
        };
        decode(decoder, &(0..batch).map(row).collect::<Vec<_>>())?;
    }
    Ok(started.elapsed().as_secs_f64())
}

/// Bytes of weights read a second, and its share of `ceiling`, as medians over rounds. `batch` sequences generate `rates`
/// tokens a second.
fn reached(rates: &[f64], batch: u16, weights: u64, ceiling: &[f64]) -> (f64, f64) {
    let bytes: Vec<f64> = rates.iter().map(|rate| rate / f64::from(batch) * weights as f64).collect();
    let parts: Vec<f64> = bytes.iter().zip(ceiling).map(|(bytes, ceiling)| bytes / ceiling).collect();
    (median(&bytes), median(&parts))
}

fn table(args: &DecodeBenchArgs, model: &Model, columns: &[Column], partial: bool) -> String {
    let mut text = format!(
        "{}, {:.0} MiB of weights\n{} prompt tokens, {} generated, median of {} rounds\n\n",
        model.description(),
        model.size_bytes() as f64 / f64::from(1 << 20),
        args.prompt_tokens,
        args.max_tokens,
        columns[0].ours.prompt.len(),
    );
    let _ = writeln!(text, "threads  what           tokens/s      range            GB/s   of the read speed");
    for column in columns {
        let line = |text: &mut String, what: String, rates: &[f64], bandwidth: String| {
            let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
            let most = rates.iter().copied().fold(0.0, f64::max);
            let range = format!("{least:.1} to {most:.1}");
            let line = format!("{:>7}  {what:<13}{:>10.1}  {range:<19}{bandwidth}", column.threads, median(rates));
            let _ = writeln!(text, "{}", line.trim_end());
        };
        let beside = |of: fn(&DecodeRates, usize) -> &[f64], i: usize| {
            let (name, theirs) = (args.beside?.name(), of(column.beside.as_ref()?, i));
            let ours = of(&column.ours, i);
            let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
            let (least, most) = ratios.iter().fold((f64::INFINITY, 0.0_f64), |(a, b), x| (a.min(*x), b.max(*x)));
            let ratio = median(&ratios);
            Some(format!("         {name} {:.1}, ratio {ratio:.2} ({least:.2} to {most:.2})\n", median(theirs)))
        };
        line(&mut text, format!("prompt {}", args.prompt_tokens), &column.ours.prompt, String::new());
        text += &beside(|rates, _| &rates.prompt[..], 0).unwrap_or_default();
        for (i, (batch, rates)) in args.batch.iter().zip(&column.ours.generated).enumerate() {
            let (bytes, part) = reached(rates, *batch, model.size_bytes(), &column.ceiling);
            let bandwidth =
                format!("{:>6.1}   {:.0} % of {:.1}", bytes / 1e9, part * 100.0, median(&column.ceiling) / 1e9);
            line(&mut text, format!("generate x {batch}"), rates, bandwidth);
            text += &beside(|rates, i| &rates.generated[i][..], i).unwrap_or_default();
        }
    }
    if partial {
        text += "\nPartial: it ended early.\n";
    }
    text
}

fn to_json(args: &DecodeBenchArgs, model: &Model, columns: &[Column], partial: bool) -> String {
    let column = |column: &Column| -> Value {
        let beside = column.beside.as_ref().map(|rates| {
            let what = args.beside.map(Beside::name);
            json!({"what": what, "prompt_rounds": rates.prompt, "generated_rounds": rates.generated})
        });
        let generated = args.batch.iter().zip(&column.ours.generated).map(|(batch, rates)| {
            let (bytes, part) = reached(rates, *batch, model.size_bytes(), &column.ceiling);
            json!({"batch": batch, "tokens_per_second": median(rates), "rounds": rates,
                "weight_bytes_per_second": bytes, "of_read_ceiling": part})
        });
        json!({
            "threads": column.threads,
            "read_ceiling_bytes_per_second": median(&column.ceiling),
            "prompt_tokens_per_second": median(&column.ours.prompt),
            "prompt_rounds": column.ours.prompt,
            "generated": generated.collect::<Vec<_>>(),
            "beside": beside,
        })
    };
    let report = json!({
        "bench": "decode", "partial": partial, "model": model.description(), "weight_bytes": model.size_bytes(),
        "prompt_tokens": args.prompt_tokens, "max_tokens": args.max_tokens,
        "threads": columns.iter().map(column).collect::<Vec<_>>(),
    });
    report.to_string() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidth_is_weights_times_steps() {
        // 80 tokens a second in steps of 8 tokens are 10 steps: 10 times the weights.
        let (bytes, part) = reached(&[80.0, 160.0, 40.0], 8, 1_000, &[20_000.0, 20_000.0, 20_000.0]);
        assert_eq!((bytes, part), (10_000.0, 0.5));
    }
}
