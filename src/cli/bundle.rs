//! `cllm bundle` puts a model and its configuration into one executable; `cllm extract` writes them out again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use clap::ValueHint;
use indicatif::{ProgressBar, ProgressStyle};

use super::pull::HubFlags;
use super::warm;
use crate::appliance::{self, Appliance, BuiltFor, Bundle};
use crate::config;
use crate::gguf::GgufFile;
use crate::types::StartupError;

/// Write one executable that carries a model and its configuration
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cllm bundle -m model.gguf -o appliance
  cllm bundle -m model.gguf --config cllm.toml -o appliance --force
  cllm bundle --portable -m model.gguf -o appliance
  cllm bundle --verify appliance
  ./appliance                      Serves; flags go to `serve`
  ./appliance info                 What is inside")]
pub struct BundleArgs {
    /// The GGUF file to carry [default: the built-in model]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "hf_repo")]
    model: Option<PathBuf>,
    #[command(flatten)]
    hub: HubFlags,
    /// The configuration to carry
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,
    /// JSON file of prompts to carry as read, as for `serve --warm`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    warm: Option<PathBuf>,
    /// The file to write
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, required_unless_present = "verify")]
    output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    /// For any x86-64-v3 CPU; needs the program of `make portable`
    #[arg(long)]
    portable: bool,
    /// The cllm to put in front of the model [default: this one]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    program: Option<PathBuf>,
    /// Compare every part of this appliance with its SHA-256
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["model", "hf_repo", "config", "warm", "output", "force", "portable", "program"])]
    verify: Option<PathBuf>,
}

/// Writes an appliance, or with `--verify` checks one.
///
/// # Errors
/// The model or the configuration can't be used, the file can't be written, or the checked appliance was altered.
pub fn run(args: &BundleArgs) -> Result<(), StartupError> {
    match (&args.verify, &args.output) {
        (Some(path), _) => verify(path),
        (None, Some(output)) => write(args, output),
        (None, None) => Ok(()),
    }
}

fn write(args: &BundleArgs, output: &Path) -> Result<(), StartupError> {
    let (program, built_for) = program(args)?;
    let mut total = bytes_of(&program);
    let model = args.hub.fetch()?.or_else(|| args.model.clone());
    if let Some(path) = &model {
        let gguf = GgufFile::open(path)?;
        gguf.check_complete()?;
        if gguf.u64("split.count").is_some_and(|count| count > 1) {
            let reason = "is one of several files; join them with llama-gguf-split --merge first".to_owned();
            return Err(StartupError::Model { path: path.clone(), reason });
        }
        total += bytes_of(path);
    }
    let config = args.config.as_deref().map(carried).transpose()?;
    let bar = bar(total);
    let model = model.as_deref();
    let mut bundle = Bundle { program: &program, model, prompts: None, warm: None, config: config.as_deref() };
    let mut manifest = bundle.write(output, args.force, |bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    if let Some(warm) = &args.warm {
        let scratch = warm::ScratchFolder::new()?;
        // Computed by the appliance itself, so by the program and the settings that will use it.
        let (blocks, tokens) = warm::blocks(output, warm, &scratch).inspect_err(|_| drop(fs::remove_file(output)))?;
        (bundle.prompts, bundle.warm) = (Some(scratch.blocks()), Some(warm.as_path()));
        manifest = bundle.write(output, true, |_| {})?;
        crate::console::print(&format!("{}: {tokens} tokens in {blocks} blocks are read already\n", warm.display()))?;
    }
    let parts: Vec<_> = manifest.parts().map(|(name, part)| format!("{name} {:.1} MiB", mib(part.bytes))).collect();
    let (parts, machines) = (parts.join(", "), built_for.machines());
    crate::console::print(&format!("{}: {parts}; compiled for {machines}\n", output.display()))
}

/// The program that `make portable` builds, relative to the folder of one that `cargo build --release` builds.
const PORTABLE: &str = "../portable/release/cllm";

/// The program to put in front: the named one, otherwise this one or, with `--portable`, a portable one beside it.
fn program(args: &BundleArgs) -> Result<(PathBuf, BuiltFor), StartupError> {
    let refuse = |name: &str, reason: String| StartupError::Config { name: name.to_owned(), reason };
    let read = |name: &str, path: PathBuf| match BuiltFor::read(&path) {
        Ok(Some(built_for)) => Ok((path, built_for)),
        Ok(None) => Err(refuse(name, format!("{} isn't cllm", path.display()))),
        Err(error) => Err(refuse(name, format!("{}: {error}", path.display()))),
    };
    if let Some(path) = &args.program {
        let (path, built_for) = read("--program", path.clone())?;
        if args.portable && !built_for.is_portable() {
            let machines = built_for.machines();
            let reason = format!("{} was compiled for {machines}; `make portable` makes one", path.display());
            return Err(refuse("--portable", reason));
        }
        return Ok((path, built_for));
    }
    let own = appliance::own_path()
        .ok_or_else(|| refuse("--program", "the path of this executable is unknown".to_owned()))?;
    let (own, built_for) = read("--program", own)?;
    if !args.portable || built_for.is_portable() {
        return Ok((own, built_for));
    }
    let beside = own.parent().map(|folder| folder.join(PORTABLE)).filter(|path| path.exists());
    let beside = beside.map(|path| read("--portable", path)).transpose()?;
    beside.filter(|(_, built_for)| built_for.is_portable()).ok_or_else(|| {
        let machines = built_for.machines();
        let remedy = "`make portable` makes target/portable/release/cllm, which --program names";
        refuse("--portable", format!("this program was compiled for {machines}; {remedy}"))
    })
}

/// The text of a configuration, if it means the same on another machine.
fn carried(path: &Path) -> Result<String, StartupError> {
    let refuse = |reason: String| StartupError::Config { name: "--config".to_owned(), reason };
    let text = fs::read_to_string(path).map_err(|error| refuse(format!("{}: {error}", path.display())))?;
    config::check_carried(path, &text)?;
    Ok(text)
}

fn verify(path: &Path) -> Result<(), StartupError> {
    let appliance = appliance::read(path)
        .and_then(|found| found.ok_or_else(|| format!("{} is not an appliance", path.display())))
        .map_err(appliance::damaged)?;
    let bar = bar(appliance.manifest.parts().map(|(_, part)| part.bytes).sum());
    appliance.verify(|bytes| bar.inc(bytes)).map_err(appliance::damaged)?;
    bar.finish_and_clear();
    crate::console::print(&contents(&appliance))
}

/// The parts of an appliance, one on each line.
pub fn contents(appliance: &Appliance) -> String {
    let line = |(name, part): (&str, &appliance::AppliancePart)| {
        format!("{name:<14}{:>9.1} MiB  sha256 {}\n", mib(part.bytes), part.sha256)
    };
    appliance.manifest.parts().map(line).collect()
}

/// Write out the model and the configuration that this appliance carries
#[derive(Debug, clap::Args)]
pub struct ExtractArgs {
    /// The folder to write model.gguf and cllm.toml into
    #[arg(short, long, value_name = "FOLDER", value_hint = ValueHint::DirPath, default_value = ".")]
    output: PathBuf,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
}

/// Writes the parts into the folder.
///
/// # Errors
/// This program carries nothing, a file exists, or one can't be written.
pub fn extract(args: &ExtractArgs) -> Result<(), StartupError> {
    let none = || appliance::damaged("this program carries nothing; `cllm bundle` makes one that does".to_owned());
    let appliance = appliance::own()?.ok_or_else(none)?;
    let parts = [
        ("model.gguf", "model", &appliance.manifest.model),
        ("cllm.toml", "configuration", &appliance.manifest.config),
    ];
    for (file, name, part) in parts {
        let (path, Some(part)) = (args.output.join(file), part) else { continue };
        let refuse = |reason: String| StartupError::System { doing: format!("write {}", path.display()), reason };
        if path.exists() && !args.force {
            return Err(refuse("it exists; --force replaces it".to_owned()));
        }
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        let write = || {
            let mut out = File::create(&partial).map_err(|error| refuse(error.to_string()))?;
            appliance.copy_part(part, name, &mut out, |_| {}).map_err(appliance::damaged)?;
            fs::rename(&partial, &path).map_err(|error| refuse(error.to_string()))
        };
        write().inspect_err(|_| drop(fs::remove_file(&partial)))?;
        crate::console::print(&format!("{}\n", path.display()))?;
    }
    Ok(())
}

fn bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let style = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn bytes_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |about| about.len())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
