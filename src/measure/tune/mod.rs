//! `cllm tune`: tries which settings serve this model fastest on this machine, and writes them into a configuration file.
//!
//! ```text
//! knobs    the settings, the values worth trying, and why others aren't
//! measure  one run: a new context under the load of a server
//! compare  runs values in turn, and decides whether one is faster beyond the noise
//! report   the evidence: text, comments of the file, JSON
//! ```
//!
//! Settings are tuned one after the other, each with the values chosen before it. At the end all chosen values together are
//! compared with the defaults once more, because the best of many measured values is partly luck. The weights are loaded once.

mod compare;
mod knobs;
mod measure;
mod report;

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::config::definition::Definition;
use crate::config::definition::scope::TUNE;
use crate::config::flags::CONFIG_KEY;
use crate::config::settings::compute::DECODER;
use crate::config::settings::model::{EMBEDDINGS, MODEL};
use crate::config::{Config, DecoderKind, EditedFile, Flags, LogLevel, Origin, quoted};
use crate::measure::stages::report::machine;
use crate::measure::stages::workload::StagesWorkload;
use crate::measure::stop_on_ctrl_c;
use crate::model_file::ModelFile;
use crate::server::decoder::load_model;
use crate::server::defaults::plan;
use crate::server::vocabulary;
use crate::topology::Machine;
use crate::types::StartupError;
use crate::types::limits::TUNE_REQUESTS_MAX;
use crate::{llama, logging};
use compare::{Comparison, Series};
use knobs::{Knob, knobs};
use measure::{Halt, Run, TuneBench};
use report::{MARK, TuneReport};

/// How long a run takes. With the fewest requests it may take longer.
const RUN: Duration = Duration::from_secs(3);
const RUN_QUICK: Duration = Duration::from_millis(700);

/// Find the settings that serve a model fastest here, and write them down
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Tried in turn: threads, flash-attn, kv-unified, step-tokens. A setting that a
flag or a CLLM_* variable gives is taken as it is.

Examples:
  cllm tune -m model.gguf > cllm.toml             Print the settings
  cllm tune -m model.gguf --config cllm.toml      Write them into a file
  cllm serve --config cllm.toml                   ... and use them
  cllm tune -m model.gguf --quick --json          What was measured")]
pub struct TuneArgs {
    /// Rounds for each setting [default: 5; --quick: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(3..=1_000))]
    pub rounds: Option<u32>,
    /// Shorter runs: a third of the time, less is found
    #[arg(long)]
    pub quick: bool,
    /// Most tokens of a prompt [default: 256; --quick: 128]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(4..=65_536))]
    pub prompt_tokens: Option<u32>,
    /// Most tokens of an answer [default: 48; --quick: 24]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(4..=65_536))]
    pub max_tokens: Option<u32>,
    /// Print what was measured as JSON
    #[arg(long)]
    pub json: bool,
    /// The settings given as flags.
    #[command(flatten)]
    pub flags: Flags<TUNE>,
}

/// Measures, chooses and writes the file. The first Ctrl-C ends it with the results so far and leaves the file unchanged, a
/// second one ends it at once.
///
/// # Errors
/// The model can't be loaded, the file can't be written, or it ended before it was done.
pub fn run(args: &TuneArgs) -> Result<(), StartupError> {
    let path = args.flags.0.get(CONFIG_KEY).map(Path::new);
    let file = path.map(EditedFile::read).transpose()?;
    let mut typed = args.flags.0.clone();
    if path.is_some_and(|path| !path.exists()) {
        // A file that doesn't exist yet has no settings. The file that CLLM_CONFIG names must not be read.
        typed.insert(CONFIG_KEY, "/dev/null".to_owned());
    }
    let config = Config::load(&typed)?;
    refuse_what_cannot_be_tuned(&config)?;
    logging::init(config.log_level.min(LogLevel::Warn), config.log_format);
    config.check_files()?;
    let model_line = model_line(&config, file.as_ref())?;
    file.as_ref().map(EditedFile::check_writable).transpose()?;
    let stop = stop_on_ctrl_c()?;
    llama::backend_init();

    let report = measure(args, &config, &stop)?;
    let whole = report.partial.is_none();
    let text = match (args.json, &file) {
        (true, _) => report.json(),
        (false, None) => report.toml(model_line.as_deref().filter(|_| whole)),
        (false, Some(_)) => report.lines().join("\n") + "\n",
    };
    crate::console::print(&text)?;
    if let Some(why) = &report.partial {
        let unchanged = path.map_or(String::new(), |path| format!("; {} is as it was", path.display()));
        return Err(failed(format!("{why}{unchanged}")));
    }
    let Some(path) = path else { return Ok(()) };
    write(path, &report, model_line.as_deref())?;
    if args.json {
        return Ok(());
    }
    let settings = TuneReport::assignments(&report.settings());
    let said = if settings.is_empty() { "nothing but the defaults".to_owned() } else { settings.join(", ") };
    crate::console::print(&format!("\n{}: {said}\n", path.display()))
}

fn refuse_what_cannot_be_tuned(config: &Config) -> Result<(), StartupError> {
    let refuse = |setting: &dyn Definition, reason: &str| {
        let key = setting.about().key;
        let name = match config.origin(setting) {
            Origin::Default => format!("--{key}"),
            origin => format!("{key} ({origin})"),
        };
        Err(StartupError::Config { name, reason: reason.to_owned() })
    };
    if config.decoder != DecoderKind::Llama {
        return refuse(&DECODER, "only llama.cpp can be tuned, not the null decoder");
    }
    if config.embeddings {
        return refuse(&EMBEDDINGS, "only the generation of text can be tuned");
    }
    Ok(())
}

/// The model's line for the file, as TOML: the model named by flags or variables, unless the file has it already.
///
/// # Errors
/// The file is for another model.
fn model_line(config: &Config, file: Option<&EditedFile>) -> Result<Option<String>, StartupError> {
    let (Some(model), Origin::Flag(name) | Origin::Variable(name)) = (config.model_path(), config.origin(&MODEL))
    else {
        return Ok(None);
    };
    let refuse = |reason: String| StartupError::Config { name: name.clone(), reason };
    let whole = std::path::absolute(model).map_err(|error| refuse(error.to_string()))?;
    let Some(theirs) = file.and_then(|file| file.value(MODEL.about.key)) else {
        return Ok(Some(quoted(&whole.to_string_lossy())));
    };
    let same = |a: &Path, b: &Path| a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b);
    if same(model, Path::new(theirs)) {
        return Ok(None);
    }
    Err(refuse(format!("--config is for another model, {theirs}; leave this out, or write another file")))
}

/// Writes the settings into the file. The file is read again, because it may have been changed meanwhile.
fn write(path: &Path, report: &TuneReport, model_line: Option<&str>) -> Result<(), StartupError> {
    let file = EditedFile::read(path)?;
    let tried: Vec<&str> = report.tried.iter().filter(|(_, tried)| tried.is_ok()).map(|(key, _)| *key).collect();
    let mut text = file.without(&tried, MARK);
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text += &report.toml(model_line.filter(|_| file.value(MODEL.about.key).is_none()));
    file.replace(&text)
}

fn measure(args: &TuneArgs, config: &Config, stop: &AtomicBool) -> Result<TuneReport, StartupError> {
    let machine_now = machine();
    let detected = Machine::detect();
    let mut usual = config.clone();
    // The default number of threads, whatever the file says now.
    usual.threads = None;
    let threads = plan(&detected, &usual)?.compute.len();
    let knobs = knobs(config, &detected, threads);
    usual.threads = config.threads;
    knobs.iter().filter(|knob| knob.others.is_ok()).for_each(|knob| knob.default.apply(&mut usual));

    let source = ModelFile::open_unverified(&config.model)?;
    let tokenizer = vocabulary::load(config, &source, &source.gguf()?)?;
    let model = load_model(config, &source)?;
    let name = config.model_path().map_or("the built-in model".into(), |path| {
        path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
    });
    let rounds = args.rounds.unwrap_or(if args.quick { 3 } else { 5 }) as usize;
    let table = Arc::clone(tokenizer.table());
    let mut bench = TuneBench { model, table, machine: detected, workload: workload(args, config), stop };
    let mut progress = TuneProgress::new();
    progress.say("warming up");
    let first = bench.run(&usual, 0).map_err(|halt| match halt {
        Halt::Stopped => failed("stopped by Ctrl-C before anything was measured".to_owned()),
        Halt::Failed(reason) => failed(reason),
    })?;
    let few = bench.workload.requests;
    bench.workload.requests = enough(few, first.seconds, args.quick);
    progress.seconds_each = first.seconds * bench.workload.requests as f64 / few as f64;

    let mut report = TuneReport {
        model: name,
        machine: machine_now,
        workload: bench.workload,
        rounds,
        threads,
        tried: Vec::new(),
        check: None,
        partial: None,
    };
    let mut current = usual.clone();
    let mut series_left: usize = knobs.iter().filter_map(|knob| Some(knob.others.as_ref().ok()?.len() + 1)).sum();
    for Knob { default, others } in knobs {
        let key = default.key();
        let others = match others {
            Ok(others) => others,
            Err(reason) => {
                report.tried.push((key, Err(reason)));
                continue;
            }
        };
        let series: Vec<Series> = [default].into_iter().chain(others).map(|choice| Series::new(vec![choice])).collect();
        series_left -= series.len();
        // Counts the two runs of the final comparison, too.
        progress.runs_after = (series_left + 2) * rounds;
        let made = compared(&bench, key, report.tried.len(), series, rounds, &current, &mut progress);
        report.partial = ended_early(key, &made);
        if let Ok(made) = made {
            made.series[made.chosen].choices.iter().for_each(|choice| choice.apply(&mut current));
            report.tried.push((key, Ok(made)));
        }
        if report.partial.is_some() {
            break;
        }
    }
    let chosen = report.chosen();
    if report.partial.is_none() && !chosen.is_empty() {
        let (series, key) = (vec![Series::new(Vec::new()), Series::new(chosen)], "all together");
        progress.runs_after = 0;
        let made = compared(&bench, key, knobs::COUNT, series, rounds, &usual, &mut progress);
        report.partial = ended_early(key, &made);
        report.check = made.ok();
    }
    progress.end();
    Ok(report)
}

fn failed(reason: String) -> StartupError {
    StartupError::System { doing: "tune".to_owned(), reason }
}

fn ended_early(key: &str, made: &Result<Comparison, String>) -> Option<String> {
    match made {
        Ok(made) => made.partial.then(|| "stopped by Ctrl-C before it was done".to_owned()),
        Err(reason) => Some(format!("{key}: {reason}")),
    }
}

/// The lengths, and the fewest requests: each slot is used at least once while others generate.
fn workload(args: &TuneArgs, config: &Config) -> StagesWorkload {
    let concurrency = usize::from(config.parallel);
    let (requests, prompt, answer) =
        if args.quick { (concurrency + concurrency.div_ceil(2), 128, 24) } else { (2 * concurrency, 256, 48) };
    StagesWorkload {
        requests,
        concurrency,
        prompt_tokens: args.prompt_tokens.unwrap_or(prompt) as usize,
        max_tokens: args.max_tokens.unwrap_or(answer) as usize,
    }
}

/// The number of requests that take about `RUN`, if `few` requests take `seconds`.
fn enough(few: usize, seconds: f64, quick: bool) -> usize {
    let while_s = if quick { RUN_QUICK } else { RUN }.as_secs_f64();
    ((few as f64 * while_s / seconds.max(1e-6)) as usize).clamp(few, TUNE_REQUESTS_MAX.max(few))
}

/// Runs `series` over `config` in turn. `number` makes its prompts differ from those of other comparisons.
fn compared(
    bench: &TuneBench<'_>,
    key: &str,
    number: usize,
    series: Vec<Series>,
    rounds: usize,
    config: &Config,
    progress: &mut TuneProgress,
) -> Result<Comparison, String> {
    progress.runs_left = series.len() * rounds;
    let made = Comparison::make(series, rounds, |round, series, i| {
        let mut config = config.clone();
        series.choices.iter().for_each(|choice| choice.apply(&mut config));
        let what = match &series.choices[..] {
            [one] => one.words(plan(&bench.machine, &config).map_or(0, |plan| plan.compute.len())),
            _ => if i == 0 { "defaults" } else { "as chosen" }.to_owned(),
        };
        progress.begin(format!("{key}, round {} of {rounds}", round + 1), &what);
        // All runs of a round have the same prompts; each round has others.
        let run = bench.run(&config, (1 + number as u64) << 32 | round as u64);
        progress.ran(&what, &run);
        run
    });
    progress.end();
    made
}

/// Shows progress: one changing line on a terminal, otherwise a line for each round.
struct TuneProgress {
    is_live: bool,
    /// The number of runs left in this comparison; `runs_after`: in those after it.
    runs_left: usize,
    runs_after: usize,
    seconds_each: f64,
    title: String,
    /// The results of this round so far.
    seen: Vec<String>,
}

impl TuneProgress {
    fn new() -> TuneProgress {
        let is_live = std::io::stderr().is_terminal();
        TuneProgress { is_live, runs_left: 0, runs_after: 0, seconds_each: 0.0, title: String::new(), seen: Vec::new() }
    }

    fn say(&self, what: &str) {
        if self.is_live {
            eprint!("\r\x1b[K{}", what.chars().take(79).collect::<String>());
        }
    }

    /// A run begins.
    fn begin(&mut self, title: String, what: &str) {
        if title != self.title {
            self.end();
            self.title = title;
        }
        let seconds = (self.runs_left + self.runs_after) as f64 * self.seconds_each;
        let left = match seconds {
            0.0..90.0 => format!("{seconds:.0} s"),
            _ => format!("{:.0} min", seconds / 60.0),
        };
        self.say(&format!("{}: {what}; at most {left} left", self.title));
    }

    fn ran(&mut self, what: &str, run: &Result<Run, Halt>) {
        self.runs_left = self.runs_left.saturating_sub(1);
        if let Ok(run) = run {
            self.seconds_each = (3.0 * self.seconds_each + run.seconds) / 4.0;
            self.seen.push(format!("{what} {:.1}", run.tokens_per_second));
        }
    }

    /// The round is over.
    fn end(&mut self) {
        let seen = std::mem::take(&mut self.seen).join(", ");
        if self.is_live {
            eprint!("\r\x1b[K");
        } else if !seen.is_empty() {
            eprintln!("{}: {seen} tok/s", self.title);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_takes_a_while_but_has_bounds() {
        assert_eq!(enough(16, 0.5, false), 96);
        assert_eq!(enough(16, 60.0, false), 16);
        assert_eq!(enough(16, 0.0, true), TUNE_REQUESTS_MAX);
    }
}
