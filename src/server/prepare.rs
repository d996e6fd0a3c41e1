//! Checks the settings of a server before a model is loaded, and prints them for `--check`.

use super::context::{ContextChoice, ContextFacts};
use super::defaults::plan;
use super::prompts::Prompts;
use super::template::chat_template;
use super::{embed, fetch, listen, model_sampling, vocabulary};
use crate::config::flags::Typed;
use crate::config::{Config, DecoderKind, ModelSource};
use crate::model_file::ModelFile;
use crate::topology::{CorePlan, Machine};
use crate::types::StartupError;

/// A checked configuration, and the machine to run it on.
#[derive(Debug)]
pub struct Prepared {
    /// The checked settings.
    pub config: Config,
    /// The CPUs of the machine.
    pub machine: Machine,
    /// The core of each thread.
    pub plan: CorePlan,
}

impl Prepared {
    /// Reads and checks the settings, and assigns the cores. Loads no model.
    ///
    /// # Errors
    /// The first setting or file that can't be used.
    pub fn new(flags: &Typed) -> Result<Prepared, StartupError> {
        let mut config = Config::load(flags)?;
        fetch::look_up(&mut config.model)?;
        let machine = Machine::detect();
        let plan = plan(&machine, &config)?;
        config.check_files()?;
        config.tls.as_ref().map(listen::certificate).transpose()?;
        config.api_keys.read()?;
        Ok(Prepared { config, machine, plan })
    }

    /// The output of `--check`: a valid configuration file.
    pub fn report(&self) -> String {
        let Prepared { config, machine, plan } = self;
        let (cpus, cores) = (machine.cpus(), machine.physical_cores());
        let mut report = format!("# cllm {} would serve with\n", env!("CARGO_PKG_VERSION"));
        report += &config.to_toml();
        report += &self.of_model();
        report += &format!("# threads, on {cpus} CPUs of {cores} physical cores: {plan}\n");
        for name in config.unknown_vars() {
            report += &format!("# warning: {name} is set, but there is no such setting\n");
        }
        report
    }

    /// Comments about the model: the size of the context and what limits it, whether tool calls can be read, and the
    /// recommended sampling. Empty if the model makes no text or has not been fetched.
    fn of_model(&self) -> String {
        let config = &self.config;
        if config.decoder != DecoderKind::Llama || matches!(config.model, ModelSource::Hub(_)) {
            return String::new();
        }
        let Ok(file) = ModelFile::open_unverified(&config.model) else { return String::new() };
        let Ok(gguf) = file.gguf() else { return String::new() };
        if embed::pooling(config, &gguf).is_ok_and(|pooling| pooling.is_some()) {
            return String::new();
        }
        let facts = ContextFacts::of(config, &gguf, ModelFile::bytes(&config.model));
        let choice = ContextChoice::new(config, &facts);
        let template = vocabulary::load(config, &file, &gguf).and_then(|words| chat_template(config, &gguf, &words));
        let of_calls = template.ok().and_then(|template| template.style().warning());
        let warnings = choice.warning().into_iter().chain(of_calls);
        let warnings: String = warnings.map(|warning| format!("# warning: {warning}\n")).collect();
        let from_model = match model_sampling::apply(&mut config.clone(), &gguf) {
            said if said.is_empty() => String::new(),
            said => format!("# sampling, from the model: {}\n", said.join(", ")),
        };
        let prompts = Prompts::new(config, &facts);
        format!("# context: {choice}\n# prompts: {prompts}\n{warnings}{from_model}")
    }
}
