//! Reads the three places that set settings: the configuration file, the variables and the flags.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::definition::VARIABLE_PREFIX;
use super::flags::{CONFIG_KEY, Typed};
use super::layers::{Layers, Origin};
use super::{file, settings};
use crate::appliance;
use crate::types::StartupError;

/// Variables `CLLM_*` that are no settings: tests, benches and the supervisor use them.
const OTHER_VARIABLES: &[&str] = &["CLLM_SHARED_DATA", "CLLM_BENCH", "CLLM_TEST", "CLLM_SIM", "CLLM_SUPERVISOR"];

/// The name that messages give to the configuration inside an appliance.
const CARRIED: &str = "(the appliance's configuration)";

impl Layers {
    /// Reads the configuration file named in `flags` or `vars`, and lets variables override the file and flags override
    /// both. An empty variable counts as unset.
    ///
    /// # Errors
    /// The file can't be read, isn't TOML, or names no setting.
    pub fn read(flags: &Typed, vars: impl IntoIterator<Item = (String, String)>) -> Result<Layers, StartupError> {
        let vars: BTreeMap<String, String> =
            vars.into_iter().filter(|(name, value)| name.starts_with(VARIABLE_PREFIX) && !value.is_empty()).collect();
        let mut layers = Layers::default();
        let config_var = format!("{VARIABLE_PREFIX}CONFIG");
        let config = flags
            .get(CONFIG_KEY)
            .map(|path| (path, "--config"))
            .or(vars.get(&config_var).map(|path| (path, "CLLM_CONFIG")));
        if let Some((path, name)) = config {
            let path = PathBuf::from(path);
            let text = std::fs::read_to_string(&path).map_err(|error| StartupError::Config {
                name: name.to_owned(),
                reason: format!("{}: {error}", path.display()),
            })?;
            layers.read_file(&path, &text)?;
            layers.file = Some(path);
        }
        if let (None, Some(appliance)) = (config, appliance::own()?) {
            layers.read_file(Path::new(CARRIED), &appliance.config)?;
        }
        for (name, value) in vars {
            match settings::all().find(|setting| setting.variable() == name) {
                Some(setting) => layers.set(setting.about().key, value, Origin::Variable(name)),
                None if name == config_var || OTHER_VARIABLES.iter().any(|other| name.starts_with(other)) => {}
                None => layers.unknown_vars.push(name),
            }
        }
        for (key, value) in flags.iter().filter(|(key, _)| **key != CONFIG_KEY) {
            layers.set(key, value.clone(), Origin::Flag(format!("--{key}")));
        }
        Ok(layers)
    }

    /// Sets what `text`, the content of `path`, sets.
    ///
    /// # Errors
    /// As `file::parse`.
    pub(super) fn read_file(&mut self, path: &Path, text: &str) -> Result<(), StartupError> {
        for entry in file::parse(path, text)? {
            self.set(entry.key, entry.value, Origin::File { path: path.to_owned(), line: entry.line });
        }
        Ok(())
    }
}
