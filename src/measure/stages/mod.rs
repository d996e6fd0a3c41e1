//! `cllm bench stages`: one workload through eleven stages. Each stage runs the server's real code with one layer more.
//!
//! The stages alternate, round after round, so that other load on the machine affects all of them. Round 0 warms up and isn't
//! counted. The report has medians, spreads, and each stage's ratio to the first stage within the same round.
//!
//! ```text
//! workload  prompts of an exact number of tokens, and what is generated from them
//! layers    the stages themselves
//! served    how the stages above the engine send requests
//! client    a minimal HTTP client, and bare sockets to compare it with
//! report    table, JSON, CSV, comparison; page: HTML
//! ```

mod client;
mod layers;
mod page;
pub(in crate::measure) mod report;
pub(in crate::measure) mod served;
pub(in crate::measure) mod workload;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use layers::{STAGES, Stages};
use report::{StageResults, StagesReport};
use workload::StagesWorkload;

use super::witness::Witness;
use crate::config::definition::scope::BENCH;
use crate::config::{Config, DecoderKind, Flags};
use crate::server::fetch;
use crate::types::StartupError;

/// Show what each layer costs, from raw llama.cpp to HTTP
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cllm bench stages                          The built-in model
  cllm bench stages --decoder null           Our own cost alone
  cllm bench stages -m model.gguf --html report.html
  cllm bench stages --only 3,8 --speculate   Several tokens a step
  cllm bench stages --only 0,8 --json > old.json
  cllm bench stages --only 0,8 --compare old.json")]
pub struct StagesArgs {
    /// Requests for each round [default: 40; null decoder: 800]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub requests: Option<u32>,
    /// Requests at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
    /// Tokens of each prompt
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(2..=65_536))]
    pub prompt_tokens: u32,
    /// Tokens generated for each request
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_tokens: u32,
    /// Rounds that count; one more warms up
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,
    /// Only these stages, by number
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(0..=10))]
    pub only: Vec<u8>,
    /// Guess tokens and check them, from stage 3 on
    #[arg(long)]
    pub speculate: bool,
    /// Don't warm up, for runs whose instructions are counted
    #[arg(long)]
    pub cold: bool,
    /// Print JSON instead of the table
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print CSV instead of the table
    #[arg(long)]
    pub csv: bool,
    /// Also write a page with the waterfall
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Show the change since this output of --json
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "csv"])]
    pub compare: Option<PathBuf>,
    /// The settings given as flags.
    #[command(flatten)]
    pub flags: Flags<BENCH>,
}

/// Measures and prints the report. The first Ctrl-C ends it with the results so far, a second one at once.
///
/// # Errors
/// The model can't be loaded, a file can't be read or written, or a stage failed before anything was measured.
pub fn run(args: &StagesArgs, witness: &mut Witness) -> Result<(), StartupError> {
    let unusable = |name: &str, reason: String| StartupError::Config { name: name.to_owned(), reason };
    let before = args.compare.as_ref().map(|path| {
        let text = fs::read_to_string(path).map_err(|error| error.to_string());
        let parsed = text.and_then(|text| report::parse(&text));
        parsed.map_err(|reason| unusable("--compare", format!("{}: {reason}", path.display())))
    });
    let before = before.transpose()?;
    if let Some(path) = &args.html {
        fs::write(path, "").map_err(|error| unusable("--html", format!("{}: {error}", path.display())))?;
    }
    let stop = super::stop_on_ctrl_c()?;

    let mut config = Config::load(&args.flags.0)?;
    fetch::fetch(&mut config.model)?;
    let is_null = config.decoder != DecoderKind::Llama;
    let workload = StagesWorkload {
        requests: args.requests.unwrap_or(if is_null { 800 } else { 40 }) as usize,
        concurrency: usize::from(args.concurrency),
        prompt_tokens: args.prompt_tokens as usize,
        max_tokens: args.max_tokens as usize,
    };
    workload.fit(&mut config);
    config.speculate = Some(args.speculate);
    config.trace = witness.is_present();
    // Stage 0 is llama.cpp's raw loop, which the null decoder doesn't have.
    let wanted = |stage: &u8| (args.only.is_empty() || args.only.contains(stage)) && !(is_null && *stage == 0);
    let chosen: Vec<u8> = (0..STAGES.len() as u8).filter(wanted).collect();
    if chosen.is_empty() {
        return Err(unusable("--only", "stage 0 is llama.cpp itself, which the null decoder does without".to_owned()));
    }
    let mut layers = Stages::start(&config, workload, &chosen)?;
    let mut report = StagesReport::new(&layers.title(), workload, args.rounds);
    report.stages = chosen.iter().map(|stage| StageResults::new(*stage, STAGES[usize::from(*stage)])).collect();
    witness.begin(layers.traced())?;
    'rounds: for round in 0..=args.rounds {
        if round == 0 && args.cold {
            continue;
        }
        for (i, stage) in chosen.iter().enumerate() {
            if stop.load(Ordering::Relaxed) {
                break 'rounds;
            }
            report.progress(round, *stage);
            let begun_us = witness.now_us();
            let rate = layers.rate(*stage, round);
            witness.mark(|| format!("stage {stage}, round {round}"), begun_us);
            match rate {
                Ok(rate) if round > 0 => report.stages[i].rates.push(rate),
                Ok(_) => {}
                Err(reason) => {
                    report.failure = Some(format!("stage {stage}: {reason}"));
                    break 'rounds;
                }
            }
        }
        if round > 0 {
            report.rounds_done += 1;
        }
    }
    witness.end();
    report.end_of_progress();
    report.sockets = layers.sockets();
    layers.stop();
    let page = args.html.as_ref().map_or(Ok(()), |path| {
        fs::write(path, page::render(&report))
            .map_err(|error| unusable("--html", format!("{}: {error}", path.display())))
    });
    let text = match (args.json, args.csv) {
        (true, _) => report.json(),
        (_, true) => report.csv(),
        _ => report.table(before.as_deref()),
    };
    witness.print(&text)?;
    let failed = |reason: String| Err(StartupError::System { doing: "measure".into(), reason });
    match report.failure {
        Some(reason) => failed(reason),
        None if report.is_empty() => failed("stopped before the first round".to_owned()),
        None => page,
    }
}
