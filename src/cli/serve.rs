//! `cllm serve`: the server's arguments, and `--check`.

use crate::config::settings::scope::SERVE;
use crate::config::{Config, Flags};
use crate::topology::{Machine, Plan};
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
    #[command(flatten)]
    pub flags: Flags<SERVE>,
}

/// A checked configuration and the machine it shall run on.
#[derive(Debug)]
pub struct Prepared {
    pub config: Config,
    pub machine: Machine,
    pub plan: Plan,
}

/// Layers, checks and plans; loads nothing yet.
///
/// # Errors
/// The first setting or file that can't be used.
pub fn prepare(args: &ServeArgs) -> Result<Prepared, StartupError> {
    let config = Config::load(&args.flags.0)?;
    let machine = Machine::detect();
    let plan =
        machine.plan(config.threads).map_err(|reason| StartupError::Config { name: "--threads".to_owned(), reason })?;
    config.check_files()?;
    Ok(Prepared { config, machine, plan })
}

impl Prepared {
    /// What `--check` prints: a valid configuration file.
    pub fn report(&self) -> String {
        let Prepared { config, machine, plan } = self;
        let (cpus, cores) = (machine.cpus(), machine.physical_cores());
        let mut report = format!("# cllm {} would serve with\n", env!("CARGO_PKG_VERSION"));
        report += &config.to_toml();
        report += &format!("# threads, on {cpus} CPUs of {cores} physical cores: {plan}\n");
        for name in config.unknown_vars() {
            report += &format!("# warning: {name} is set, but there is no such setting\n");
        }
        report
    }
}
