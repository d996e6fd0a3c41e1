//! The settings as flags of clap. Their values stay text here; `Config::resolve` checks them.

use std::collections::BTreeMap;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, ValueHint};

use super::settings::{Kind, SETTINGS, Setting, TWO_LETTER_FLAGS, scope};

/// Maps a setting's key to the text typed for it. `config` is one of the keys.
pub type Typed = BTreeMap<&'static str, String>;

/// The flags of the subcommands in `SCOPE`, to be flattened into their arguments.
#[derive(Clone, Debug, Default)]
pub struct Flags<const SCOPE: u8>(pub Typed);

/// The key of the flag that names the configuration file.
pub const CONFIG_KEY: &str = "config";

impl<const SCOPE: u8> Args for Flags<SCOPE> {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new(CONFIG_KEY).long(CONFIG_KEY).value_name("FILE").value_hint(ValueHint::FilePath).help(
            match SCOPE {
                scope::TUNE => "The TOML file to write; its other keys hold, and stay",
                _ => "A TOML file; the long flags below are its keys",
            },
        );
        let rows = SETTINGS.iter().filter(|setting| setting.scope & SCOPE != 0);
        rows.fold(command.arg(config), |command, setting| command.arg(arg(setting)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const SCOPE: u8> FromArgMatches for Flags<SCOPE> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let rows = SETTINGS.iter().filter(|setting| setting.scope & SCOPE != 0).map(|setting| setting.key);
        let typed = rows.chain([CONFIG_KEY]).filter_map(|key| Some((key, matches.get_one::<String>(key)?.clone())));
        Ok(Flags(typed.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn arg(setting: &'static Setting) -> Arg {
    let mut arg = Arg::new(setting.key)
        .long(setting.key)
        .help(setting.help)
        .help_heading(setting.heading)
        .action(ArgAction::Set)
        .overrides_with(setting.key)
        .allow_negative_numbers(true)
        .aliases(setting.aliases.iter().copied());
    if let Some(short) = setting.short {
        arg = arg.short(short);
    }
    match setting.kind {
        Kind::Value(name) => arg.value_name(name),
        Kind::Folder(name) => arg.value_name(name).value_hint(ValueHint::DirPath),
        Kind::File(name) => arg.value_name(name).value_hint(ValueHint::FilePath),
        // `Config::resolve` checks the word. The words are given here only for the help and for completions.
        Kind::OneOf(words, name) => {
            arg.value_name(name).value_parser(PossibleValuesParser::new(words)).hide_possible_values(true)
        }
        Kind::Switch => arg
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
        match TWO_LETTER_FLAGS.iter().find(|(short, _)| *short == name) {
            Some((_, long)) if !literal => match value {
                Some(value) => format!("{long}={value}"),
                None => (*long).to_owned(),
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
