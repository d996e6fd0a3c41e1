//! `cllm serve`: its arguments.

use crate::config::Flags;
use crate::config::definition::scope::SERVE;
use crate::console::print;
use crate::server::{self, Prepared};
use crate::types::StartupError;

/// Serve a model over HTTP
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each flag is also a variable (CLLM_CTX_SIZE for --ctx-size) and a key of the
--config file (ctx-size = 4096). Flags win over variables, these over the file.

Examples:
  cllm serve                                  The built-in model
  cllm serve -m model.gguf -np 16 -c 65536    16 at once, 4096 tokens each
  cllm serve --check --port 8081 > cllm.toml  Save the settings
  cllm serve --config cllm.toml               ... and use them")]
pub struct ServeArgs {
    /// Print the settings and where each came from; exit
    #[arg(long)]
    pub check: bool,
    /// The settings given as flags.
    #[command(flatten)]
    pub flags: Flags<SERVE>,
}

/// Serves until SIGTERM or SIGINT, or prints the settings.
///
/// # Errors
/// The server can't start, or the decoder broke while it served.
pub fn run(args: &ServeArgs) -> Result<(), StartupError> {
    let prepared = Prepared::new(&args.flags.0)?;
    if args.check { print(&prepared.report()) } else { server::run(prepared, &args.flags.0) }
}
