//! Tests that each setting is the same thing wherever it is set: as a flag under each of its names, as a variable and as a key
//! of the file.

use std::collections::BTreeSet;
use std::path::Path;

use clap::Parser;

use super::{all, find};
use crate::config::definition::scope::SERVE;
use crate::config::definition::{About, Definition, ValueKind};
use crate::config::flags::{Flags, Typed, expand_two_letter_flags};
use crate::config::{Config, Layers};
use crate::types::StartupError;

/// `cllm serve` without its other arguments.
#[derive(Debug, Parser)]
struct Probe {
    #[command(flatten)]
    flags: Flags<SERVE>,
}

/// The settings that these words of a command line set.
fn typed(words: &[String]) -> Result<Typed, clap::Error> {
    let words = [&["cllm".to_owned()][..], words].concat();
    Probe::try_parse_from(expand_two_letter_flags(words)).map(|probe| probe.flags.0)
}

/// Pairs of a setting's key and its text.
type Pairs<'a> = [(&'a str, &'a str)];

fn by_flags(pairs: &Pairs) -> Result<Config, StartupError> {
    let words: Vec<String> = pairs.iter().map(|(key, text)| format!("--{key}={text}")).collect();
    let typed = typed(&words).expect("clap checks only words, and the caller gave good ones");
    Config::from_flags(&typed)
}

fn by_variables(pairs: &Pairs) -> Result<Config, StartupError> {
    let vars = pairs.iter().map(|(key, text)| (find(key).unwrap().variable(), (*text).to_owned()));
    Config::resolve(Layers::read(&Typed::new(), vars)?)
}

fn by_file(pairs: &Pairs, quote: &str) -> Result<Config, StartupError> {
    let text: String = pairs.iter().map(|(key, text)| format!("{key} = {quote}{text}{quote}\n")).collect();
    let mut layers = Layers::default();
    layers.read_file(Path::new("/etc/cllm.toml"), &text)?;
    Config::resolve(layers)
}

/// What the program reads of a configuration, without where it came from.
fn values(config: Config) -> Config {
    Config { shown: Vec::new(), file: None, ..config }
}

/// The reason of a refusal, without the name of the place.
fn reason(refusal: StartupError) -> String {
    match refusal {
        StartupError::Config { reason, .. } => reason,
        other => panic!("{other}"),
    }
}

/// Texts that a setting accepts, and texts that it refuses.
fn samples(setting: &dyn Definition) -> (Vec<String>, Vec<String>) {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let of = |good: &[&str], bad: &[&str]| (owned(good), owned(bad));
    let accepts = setting.accepts();
    match (setting.kind(), accepts.strip_prefix("from ").and_then(|bounds| bounds.split_once(" to "))) {
        (ValueKind::OneOf(words, _), _) => (owned(&words), Vec::new()),
        (ValueKind::Switch, _) => of(&["true", "false", "on", "0"], &["maybe"]),
        (ValueKind::File { .. }, _) => of(&["/a file"], &[]),
        (ValueKind::Folder(_), _) => of(&["/a", "/a:2GB", "off"], &["/a:2XB"]),
        (ValueKind::Value(_), Some((least, most))) => {
            let beyond = (most.parse::<u128>().unwrap() + 1).to_string();
            (owned(&[least, most]), owned(&["-2", &beyond, "x", "NaN"]))
        }
        (ValueKind::Value(_), None) => match setting.about().key {
            "top-p" => of(&["0.5", "1"], &["0", "1.5", "x"]),
            "prompt-ram" => of(&["2GB", "4096", "off"], &["lots"]),
            "hf-repo" => of(&["org/name", "org/name:Q8_0"], &["name"]),
            "hf-file" => of(&["x.gguf"], &["x.bin"]),
            "host" => of(&["::1", "unix:/run/x"], &["http://x", "unix:"]),
            "api-key" => of(&["hush"], &["two words"]),
            "kv-events" => of(&["tcp://*:5556", "ipc:///run/x"], &["5556"]),
            "cors" => of(&["*", "https://a.example, https://b.example"], &["https://a.example/", "x"]),
            _ => of(&["one", "two words"], &[]),
        },
    }
}

/// Settings without which this one says nothing.
fn beside(key: &str) -> &'static Pairs<'static> {
    match key {
        "tls-cert" => &[("tls-key", "/k")],
        "tls-key" => &[("tls-cert", "/c")],
        "hf-file" => &[("hf-repo", "org/name")],
        "null-step-us" => &[("decoder", "null")],
        "kv-events-topic" => &[("kv-events", "tcp://*:5556")],
        _ => &[],
    }
}

#[test]
fn each_value_is_the_same_from_flag_variable_and_file() {
    for setting in all() {
        let key = setting.about().key;
        // Of the two files of HTTPS neither may be set alone.
        let unset = values(by_flags(beside(key)).or_else(|_| by_flags(&[])).unwrap());
        let (good, _) = samples(setting);
        let mut changes = 0;
        for text in &good {
            let pairs = [beside(key), &[(key, text.as_str())]].concat();
            let flag = values(by_flags(&pairs).unwrap());
            assert_eq!(flag, values(by_variables(&pairs).unwrap()), "{key} = {text}");
            assert_eq!(flag, values(by_file(&pairs, "\"").unwrap()), "{key} = {text}");
            // TOML's own numbers and booleans. Its integers end at 2^63 - 1.
            let is_bare = beside(key).is_empty() && text.parse::<f64>().is_ok_and(|number| number < 9e18);
            if is_bare || ["true", "false"].contains(&text.as_str()) {
                assert_eq!(flag, values(by_file(&[(key, text.as_str())], "").unwrap()), "{key} = {text}");
            }
            changes += usize::from(flag != unset);
        }
        assert!(changes > 0, "no part of the program reads {key}");
    }
}

#[test]
fn each_bad_value_is_refused_alike_by_flag_variable_and_file() {
    for setting in all() {
        let key = setting.about().key;
        for text in samples(setting).1 {
            let pairs = [beside(key), &[(key, text.as_str())]].concat();
            let refusals = [by_flags(&pairs), by_variables(&pairs), by_file(&pairs, "\"")];
            let refusals = refusals.map(|config| config.expect_err(&format!("{key} = {text}")));
            let names =
                [&format!("--{key}: "), &format!("{}: ", setting.variable()), &format!("{key} in /etc/cllm.toml")];
            let asked =
                if key == "hf-file" { ["--hf-repo", "CLLM_HF_REPO", "hf-repo in"] } else { names.map(|s| &**s) };
            for (refusal, name) in refusals.iter().zip(asked) {
                assert!(refusal.to_string().starts_with(name), "{refusal} doesn't begin with {name}");
            }
            let [flag, variable, file] = refusals.map(reason);
            assert!(flag == variable && flag == file, "{key} = {text}: {flag}, {variable}, {file}");
        }
    }
}

/// clap refuses a word that isn't one of a setting's; elsewhere the same words are named.
#[test]
fn unknown_words_are_refused_everywhere() {
    for setting in all() {
        let (key, ValueKind::OneOf(words, _)) = (setting.about().key, setting.kind()) else { continue };
        assert!(typed(&[format!("--{key}=other")]).is_err(), "{key}");
        for refused in [by_variables(&[(key, "other")]), by_file(&[(key, "other")], "\"")] {
            let expected = format!("\"other\" is none of {}", words.join(", "));
            assert_eq!(reason(refused.unwrap_err()), expected);
        }
    }
}

#[test]
fn each_name_of_a_flag_sets_its_setting() {
    for setting in all() {
        let About { key, short, two_letters, aliases, .. } = *setting.about();
        let longs = [key].into_iter().chain(aliases.iter().copied()).map(|name| format!("--{name}"));
        let shorts = short.map(|short| format!("-{short}")).into_iter().chain(two_letters.map(str::to_owned));
        let text = samples(setting).0[0].clone();
        for name in longs.chain(shorts) {
            let said = Typed::from([(key, text.clone())]);
            let words =
                if setting.kind() == ValueKind::Switch { vec![name.clone()] } else { vec![name.clone(), text.clone()] };
            assert_eq!(typed(&words).unwrap(), said, "{name}");
            assert_eq!(typed(&[format!("{name}={text}")]).unwrap(), said, "{name}");
        }
    }
}

#[test]
fn no_setting_is_named_twice() {
    let (mut names, mut variables) = (BTreeSet::new(), BTreeSet::new());
    for setting in all() {
        let About { key, short, two_letters, aliases, heading, help, scope } = *setting.about();
        assert!(key.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{key}");
        let longs = [key].into_iter().chain(aliases.iter().copied()).map(|name| format!("--{name}"));
        let shorts = short.map(|short| format!("-{short}")).into_iter().chain(two_letters.map(str::to_owned));
        for name in longs.chain(shorts) {
            assert!(names.insert(name.clone()), "{name} twice");
        }
        assert!(variables.insert(setting.variable()), "{} twice", setting.variable());
        assert!(!heading.is_empty() && !help.is_empty() && scope & SERVE != 0, "{key}");
    }
    assert_eq!(find("ctx-size").unwrap().variable(), "CLLM_CTX_SIZE");
}

#[test]
fn each_default_is_a_value_that_may_be_set() {
    for setting in all() {
        let (key, usual) = (setting.about().key, setting.usual());
        assert_eq!(usual.value.is_some(), usual.does.is_empty(), "{key}: a value, or what is done without one");
        let Some(value) = usual.value else { continue };
        let text = value.trim_matches('"');
        assert_eq!(setting.check(text), Ok(()), "{key}");
        let said = values(by_file(&[(key, text)], "\"").unwrap());
        assert_eq!(said, values(Config::resolve(Layers::default()).unwrap()), "{key} = {text}");
        // Help that lists words marks the one that is the default.
        let (help, mark) = (setting.help(), " (default)");
        assert!(!help.contains(mark) || help.contains(&format!("{text}{mark}")), "{help}");
    }
}

/// The help is made from the definition.
#[test]
fn help_says_other_flags_and_the_default() {
    for (key, help) in [
        ("parallel", "-np: requests served at once [default: 8]"),
        ("hf-repo", "-hf: ORG/NAME[:QUANT] on Hugging Face"),
        ("queue", "Requests that may wait, then 429 [default: 4 a slot, at least 100]"),
        ("host", "Address, or unix:PATH [default: 127.0.0.1]"),
        ("temp", "Temperature, 0 is greedy [default: 0.8]"),
        ("mlock", "Keep the weights in memory, never swapped"),
        ("flash-attn", "-fa: fused attention: auto (default), on or off"),
        ("max-tokens", "Most tokens of an answer [default: -1, as many as fit]"),
    ] {
        assert_eq!(find(key).unwrap().help(), help);
    }
}
