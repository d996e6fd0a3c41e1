//! API keys: one in a setting, any number in a file. Read at start-up and at each SIGHUP.

use std::path::PathBuf;

use crate::types::limits::{API_KEY_BYTES_MAX, API_KEYS_MAX, KEY_MODELS_MAX, KEY_NAME_BYTES_MAX, MODEL_NAME_BYTES_MAX};
use crate::types::{Class, KeyLine, KeyTerms, StartupError, Weight};

/// The name of the key of `--api-key`.
const OF_SETTING: &str = "api-key";

/// Where API keys come from. If neither field is set, the server requires no key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KeySources {
    /// A single key, without terms.
    pub key: Option<String>,
    /// A file with one key on each line, followed by its terms. Blank lines and lines that begin with `#` are skipped.
    pub file: Option<PathBuf>,
}

/// Prints whether there is a key, never the key.
impl std::fmt::Debug for KeySources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeySources").field("key", &self.key.is_some()).field("file", &self.file).finish()
    }
}

impl KeySources {
    /// Whether any are configured.
    pub fn are_there(&self) -> bool {
        self.key.is_some() || self.file.is_some()
    }

    /// Reads all keys now, each with its terms.
    ///
    /// # Errors
    /// `StartupError::Config` when the file can't be read, holds none or too many, or has a line that can't be used. The
    /// message names the line, never what stands there: it may be a part of a key.
    pub fn read(&self) -> Result<Vec<KeyLine>, StartupError> {
        let alone = |key: &String| {
            let terms = KeyTerms { name: OF_SETTING.to_owned(), is_admin: true, ..KeyTerms::default() };
            KeyLine { key: key.clone(), terms }
        };
        let mut keys: Vec<KeyLine> = self.key.iter().map(alone).collect();
        if let Some(path) = &self.file {
            let refuse = |reason: String| StartupError::Config {
                name: "--api-key-file".to_owned(),
                reason: format!("{}: {reason}", path.display()),
            };
            let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
            read_lines(&text, &mut keys).map_err(refuse)?;
        }
        Ok(keys)
    }
}

/// Adds the keys in a file's text.
fn read_lines(text: &str, keys: &mut Vec<KeyLine>) -> Result<(), String> {
    let before = keys.len();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let refuse = |complaint: String| format!("line {number}: {complaint}");
        let key = read_line(line, number).map_err(refuse)?;
        if keys.iter().any(|other| other.terms.name == key.terms.name) {
            return Err(refuse("another key has this name".to_owned()));
        }
        if keys.iter().any(|other| other.key == key.key) {
            return Err(refuse("this key appears twice in the file".to_owned()));
        }
        if keys.len() == API_KEYS_MAX {
            return Err(refuse(format!("at most {API_KEYS_MAX} keys")));
        }
        keys.push(key);
    }
    if keys.len() == before { Err("the file has no key".to_owned()) } else { Ok(()) }
}

/// Parses line number `number`: `KEY NAME=VALUE...`.
fn read_line(line: &str, number: usize) -> Result<KeyLine, String> {
    let mut words = line.split_ascii_whitespace();
    let key = words.next().unwrap_or_default();
    if let Some(complaint) = complaint(key) {
        return Err(complaint);
    }
    let mut terms = KeyTerms { name: format!("key-{number}"), ..KeyTerms::default() };
    for (word, nth) in words.take_while(|word| !word.starts_with('#')).zip(2..) {
        let term = word.split_once('=').and_then(|(name, value)| {
            let term = TERMS.iter().find(|term| term.name == name)?;
            Some((term, value))
        });
        let Some((term, value)) = term else {
            let names: Vec<String> = TERMS.iter().map(|term| format!("{}=", term.name)).collect();
            return Err(format!("word {nth} begins with none of {}; a key is one word", names.join(", ")));
        };
        if (term.set)(&mut terms, value).is_none() {
            return Err(format!("{} must be {}", term.name, term.accepts));
        }
    }
    Ok(KeyLine { key: key.to_owned(), terms })
}

/// One of the terms that may follow a key.
struct Term {
    name: &'static str,
    /// The values that it accepts, for people.
    accepts: &'static str,
    /// Sets the term; `None` if the value can't be used.
    set: fn(&mut KeyTerms, &str) -> Option<()>,
}

const TERMS: &[Term] = &[
    Term {
        name: "name",
        accepts: "up to 64 letters, digits, - _ and .",
        set: |terms, value| {
            let is_fit = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
            let is_name = (1..=KEY_NAME_BYTES_MAX).contains(&value.len()) && value.bytes().all(is_fit);
            is_name.then(|| terms.name = value.to_owned())
        },
    },
    Term {
        name: "weight",
        accepts: "from 1 to 1000",
        set: |terms, value| {
            terms.weight = Weight::new(value.parse().ok()?)?;
            Some(())
        },
    },
    Term {
        name: "priority",
        accepts: "interactive or batch",
        set: |terms, value| {
            terms.class = Class::ALL.into_iter().find(|class| class.as_str() == value)?;
            Some(())
        },
    },
    Term {
        name: "tokens_per_minute",
        accepts: "a whole number from 1",
        set: |terms, value| {
            terms.limits.tokens_per_minute = Some(at_least_one(value)?);
            Some(())
        },
    },
    Term {
        name: "requests",
        accepts: "a whole number from 1",
        set: |terms, value| {
            terms.limits.requests = Some(at_least_one(value)?);
            Some(())
        },
    },
    Term {
        name: "context",
        accepts: "a whole number from 1",
        set: |terms, value| {
            terms.limits.context = Some(usize::try_from(at_least_one(value)?).ok()?);
            Some(())
        },
    },
    Term {
        name: "models",
        accepts: "names of models with commas between them, 64 at most",
        set: |terms, value| {
            let names: Vec<String> = value.split(',').map(str::to_owned).collect();
            let is_name = |name: &String| (1..=MODEL_NAME_BYTES_MAX).contains(&name.len());
            (names.len() <= KEY_MODELS_MAX && names.iter().all(is_name)).then(|| terms.models = names)
        },
    },
    Term {
        name: "admin",
        accepts: "yes or no",
        set: |terms, value| {
            terms.is_admin = ["no", "yes"].iter().position(|word| *word == value)? == 1;
            Some(())
        },
    },
];

fn at_least_one(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| (1..=u64::from(u32::MAX)).contains(number))
}

/// Why `key` can't be an API key; `None`: it can.
pub(super) fn complaint(key: &str) -> Option<String> {
    if key.len() > API_KEY_BYTES_MAX {
        return Some(format!("the key has more than {API_KEY_BYTES_MAX} bytes"));
    }
    (!key.bytes().all(|b| b.is_ascii_graphic())).then(|| "a key is printable ASCII without spaces".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::KeyLimits;

    fn read(text: &str) -> Result<Vec<KeyLine>, String> {
        let path = std::env::temp_dir().join(format!("cllm-keys-{}-{:p}", std::process::id(), text));
        std::fs::write(&path, text).unwrap();
        let sources = KeySources { key: Some("first".to_owned()), file: Some(path.clone()) };
        let keys = sources.read().map_err(|error| error.to_string());
        std::fs::remove_file(path).unwrap();
        keys
    }

    #[test]
    fn a_file_has_a_key_a_line() {
        let keys = read("# ours\n\n  alpha \nbeta\r\n").unwrap();
        let keys: Vec<_> = keys.iter().map(|line| (line.key.as_str(), line.terms.name.as_str())).collect();
        assert_eq!(keys, [("first", "api-key"), ("alpha", "key-3"), ("beta", "key-4")]);
        for (text, reason) in [
            ("# none\n\n", "the file has no key"),
            ("good\nnot good\n", "line 2: word 2 begins with none of name=, weight="),
            ("kéy\n", "line 1: a key is printable ASCII"),
            (&"x".repeat(API_KEY_BYTES_MAX + 1), "line 1: the key has more than"),
            ("a name=x\nb name=x\n", "line 2: another key has this name"),
            ("first\n", "line 1: this key appears twice in the file"),
            ("a weight=0", "line 1: weight must be from 1 to 1000"),
            ("a weight=1001", "weight must be"),
            ("a priority=high", "priority must be interactive or batch"),
            ("a requests=0", "requests must be a whole number from 1"),
            ("a tokens_per_minute=-1", "tokens_per_minute must be"),
            ("a context=much", "context must be"),
            ("a admin=maybe", "admin must be yes or no"),
            ("a models=", "models must be names of models"),
            ("a models=one,,two", "models must be"),
            (&format!("a models=m{}", ",m".repeat(KEY_MODELS_MAX)), "64 at most"),
            ("a name=", "name must be up to 64 letters"),
            ("a name=a\"b", "name must be"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains("--api-key-file: ") && error.contains(reason), "{error}");
            assert!(!error.contains("good") && !error.contains("xxx"), "{error}");
        }
    }

    #[test]
    fn terms_stand_behind_a_key() {
        let keys = read("alpha name=chat weight=4 # people\nbeta\tname=night priority=batch\n").unwrap();
        let terms: Vec<_> =
            keys[1..].iter().map(|line| (&*line.terms.name, line.terms.weight.get(), line.terms.class)).collect();
        assert_eq!(terms, [("chat", 4, Class::Interactive), ("night", 1, Class::Batch)]);
        let keys = read("alpha tokens_per_minute=1000 requests=4 context=2048 admin=yes\nbeta admin=no").unwrap();
        let limits = KeyLimits { tokens_per_minute: Some(1_000), requests: Some(4), context: Some(2_048) };
        assert_eq!((keys[1].terms.limits, keys[2].terms.limits), (limits, KeyLimits::default()));
        let keys_of_models = read("alpha models=qwen3-0.6b,org/other:Q4_K_M\nbeta\n").unwrap();
        let may_use = |model: &str| keys_of_models.iter().map(|line| line.terms.may_use(model)).collect::<Vec<_>>();
        assert_eq!(may_use("qwen3-0.6b"), [true, true, true]);
        assert_eq!(may_use("org/other:Q4_K_M"), [true, true, true]);
        assert_eq!(may_use("other"), [true, false, true], "a key that names none may use all");
        let admins: Vec<bool> = keys.iter().map(|line| line.terms.is_admin).collect();
        assert_eq!(admins, [true, true, false], "the key of --api-key is one");
    }

    #[test]
    fn a_key_isnt_shown() {
        let sources = KeySources { key: Some("hush".to_owned()), file: None };
        assert!(!format!("{sources:?}{:?}", sources.read().unwrap()).contains("hush"));
    }
}
