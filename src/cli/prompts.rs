//! `cllm prompts`: what a folder of `--prompt-disk` holds, whether it is sound, and emptying it.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueHint};

use crate::console::print;
use crate::prompts::FileFault;
use crate::prompts::inspect::{self, Depth, Found};
use crate::types::StartupError;

/// List, check or remove the prompts in a folder of --prompt-disk
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cllm prompts list /var/lib/cllm/prompts
  cllm prompts verify /var/lib/cllm/prompts && echo sound")]
pub struct PromptsArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print one line for each block of tokens, and their sum
    List(FolderArgs),
    /// Remove all blocks; other files stay
    Clear(FolderArgs),
    /// Read all blocks and compare their checksums; fails if one is unsound
    Verify(FolderArgs),
}

#[derive(Debug, clap::Args)]
struct FolderArgs {
    /// The folder of --prompt-disk
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    folder: PathBuf,
}

/// Lists, removes or checks, and prints what came of it.
///
/// # Errors
/// The folder can't be read or changed, a server uses what is to be removed, or a block is unsound.
pub fn run(args: &PromptsArgs) -> Result<(), StartupError> {
    match &args.action {
        Action::List(FolderArgs { folder }) => {
            let files = inspect::files(folder, Depth::Header).map_err(|error| failed("read", folder, &error))?;
            print(&table(&files))
        }
        Action::Clear(FolderArgs { folder }) => {
            match inspect::clear(folder).map_err(|error| failed("clear", folder, &error))? {
                Some((files, bytes)) => print(&format!("Removed {files} files, {}.\n", mib(bytes))),
                None => Err(failed("clear", folder, &io::Error::other("a server uses it; stop the server first"))),
            }
        }
        Action::Verify(FolderArgs { folder }) => {
            let files = inspect::files(folder, Depth::Whole).map_err(|error| failed("read", folder, &error))?;
            print(&faults(&files))?;
            match files.iter().filter(|found| is_unsound(found)).count() {
                0 => Ok(()),
                unsound => {
                    let reason = format!("{unsound} of {} blocks can't be used", blocks(&files) + unsound);
                    Err(failed("verify", folder, &io::Error::other(reason)))
                }
            }
        }
    }
}

fn failed(doing: &str, folder: &Path, reason: &io::Error) -> StartupError {
    StartupError::System { doing: format!("{doing} {}", folder.display()), reason: reason.to_string() }
}

/// Whether a file should be a block and isn't. Files of others and unfinished ones are no fault of a folder.
fn is_unsound(found: &Found) -> bool {
    match found.block {
        Ok(_) | Err(FileFault::Unfinished) => false,
        Err(FileFault::Foreign) => found.has_name,
        Err(_) => true,
    }
}

fn blocks(files: &[Found]) -> usize {
    files.iter().filter(|found| found.block.is_ok()).count()
}

/// The blocks, 63 columns wide, then their sum.
fn table(files: &[Found]) -> String {
    let mut text = format!("{:<16}  {:>6}  {:>11}  {:<8}  {:<8}\n", "block", "tokens", "size", "KV type", "model");
    let (mut tokens, mut bytes) = (0, 0);
    for found in files {
        let Ok(block) = &found.block else { continue };
        let (name, model) = (hex(&block.name.0[..8]), hex(&block.identity.model[..4]));
        let (size, kv_type) = (mib(found.bytes), &block.identity.kv_type);
        text += &format!("{name}  {:>6}  {size:>11}  {kv_type:<8}  {model}\n", block.tokens);
        (tokens, bytes) = (tokens + u64::from(block.tokens), bytes + found.bytes);
    }
    let blocks = blocks(files);
    format!("{text}{blocks} blocks, {tokens} tokens, {}\n{}", mib(bytes), unusable(files))
}

/// One line for each file that is no sound block, then their number.
fn faults(files: &[Found]) -> String {
    format!("{}{} blocks are sound\n", unusable(files), blocks(files))
}

fn unusable(files: &[Found]) -> String {
    let lines = files.iter().filter_map(|found| Some(format!("{}: {}\n", found.file, found.block.as_ref().err()?)));
    lines.collect()
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
