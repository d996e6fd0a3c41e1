//! The settings as flags of clap. Their values stay text here; `Config::resolve` checks them.

use std::collections::BTreeMap;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueHint};

use super::definition::{About, Definition, ValueKind, scope};
use super::settings;

/// Maps a setting's key to the text typed for it. `config` is one of the keys.
pub type Typed = BTreeMap<&'static str, String>;

/// The flags of the subcommands in `SCOPE`, to be flattened into their arguments.
#[derive(Clone, Debug, Default)]
pub struct Flags<const SCOPE: u8>(pub Typed);

/// The key of the flag that names the configuration file.
pub const CONFIG_KEY: &str = "config";

/// The settings that the subcommands in `scope` take as flags.
fn within(scope: u8) -> impl Iterator<Item = &'static dyn Definition> {
    settings::all().filter(move |setting| setting.about().scope & scope != 0)
}

impl<const SCOPE: u8> Args for Flags<SCOPE> {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new(CONFIG_KEY).long(CONFIG_KEY).value_name("FILE").value_hint(ValueHint::FilePath).help(
            match SCOPE {
                scope::TUNE => "The TOML file to write; its other keys hold, and stay",
                _ => "A TOML file; the long flags below are its keys",
            },
        );
        within(SCOPE).fold(command.arg(config), |command, setting| command.arg(arg(setting)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const SCOPE: u8> FromArgMatches for Flags<SCOPE> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let keys = within(SCOPE).map(|setting| setting.about().key);
        let typed = keys.chain([CONFIG_KEY]).filter_map(|key| Some((key, matches.get_one::<String>(key)?.clone())));
        Ok(Flags(typed.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn arg(setting: &'static dyn Definition) -> Arg {
    let About { key, short, aliases, heading, .. } = *setting.about();
    let mut arg = Arg::new(key)
        .long(key)
        .help(setting.help())
        .help_heading(heading)
        .action(ArgAction::Set)
        .overrides_with(key)
        .allow_negative_numbers(true)
        .aliases(aliases.iter().copied());
    if let Some(short) = short {
        arg = arg.short(short);
    }
    match setting.kind() {
        ValueKind::Value(name) => arg.value_name(name),
        ValueKind::Folder(name) => arg.value_name(name).value_hint(ValueHint::DirPath),
        ValueKind::File { name, .. } => arg.value_name(name).value_hint(ValueHint::FilePath),
        // `Config::resolve` checks the word. The words are given here only for the help and for completions.
        ValueKind::OneOf(words, name) => {
            arg.value_name(name).value_parser(PossibleValuesParser::new(words)).hide_possible_values(true)
        }
        ValueKind::Switch => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("BOOL")
            .hide_possible_values(true),
    }
}

/// Rewrites `-np 4` and `-np=4` to the long flags that clap can read. Arguments after `--` stay as they are.
pub fn expand_two_letter_flags(argv: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut literal = false;
    let expand = |word: String| {
        literal |= word == "--";
        let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
        match settings::all().map(Definition::about).find(|about| about.two_letters == Some(name)) {
            Some(About { key, .. }) if !literal => match value {
                Some(value) => format!("--{key}={value}"),
                None => format!("--{key}"),
            },
            _ => word,
        }
    };
    argv.into_iter().map(expand).collect()
}

#[cfg(test)]
mod tests {
    use super::expand_two_letter_flags;

    #[test]
    fn two_letter_flags_become_long_ones_before_a_double_dash() {
        let words = ["cllm", "serve", "-np", "4", "-ngl=99", "--", "-np"].map(String::from);
        let expanded = expand_two_letter_flags(words);
        assert_eq!(expanded, ["cllm", "serve", "--parallel", "4", "--gpu-layers=99", "--", "-np"]);
    }
}
