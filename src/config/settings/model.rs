//! Settings about the model: its weights, its name, its vocabulary, and whether it makes embeddings.

use std::cmp::Ordering;

use crate::config::ModelSource;
use crate::config::definition::scope::{BENCH, GENERATE, SERVE, TEXT, TUNE};
use crate::config::definition::takes::{FILE, File, NonEmptyText, OneOf, Open, Switch, text};
use crate::config::definition::{About, Definition, Fallback, Picker, Setting};
use crate::types::{HubModel, Pooling, StartupError};

const GROUP: About = About::group("Model");

group! {
    /// A file with the weights.
    MODEL: Open<File> = Setting {
        about: About {
            key: "model",
            short: Some('m'),
            help: "A GGUF file",
            scope: SERVE | GENERATE | TEXT | BENCH | TUNE,
            ..GROUP
        },
        takes: FILE,
        default: Fallback::Unset(None, "the built-in model", "the built-in model"),
    };

    /// A repository of the hub that has the weights.
    HF_REPO: Open<NonEmptyText<String>> = Setting {
        about: About {
            key: "hf-repo",
            two_letters: Some("-hf"),
            aliases: &["hf"],
            help: "ORG/NAME[:QUANT] on Hugging Face",
            scope: SERVE | GENERATE | TEXT | BENCH,
            ..GROUP
        },
        takes: text("REPO"),
        default: Fallback::Unset(None, "", "none"),
    };

    /// The file of that repository.
    HF_FILE: Open<NonEmptyText<String>> = Setting {
        about: About {
            key: "hf-file",
            two_letters: Some("-hff"),
            help: "The file in --hf-repo",
            scope: SERVE | GENERATE | TEXT | BENCH,
            ..GROUP
        },
        takes: text("NAME"),
        default: Fallback::Unset(None, "by QUANT", "by its QUANT"),
    };

    /// The model's name in answers.
    ALIAS: Open<NonEmptyText<String>> = Setting {
        about: About { key: "alias", short: Some('a'), help: "The model's name in answers", ..GROUP },
        takes: text("NAME"),
        default: Fallback::Unset(None, "its own", "the model's own name"),
    };

    /// Another vocabulary than the GGUF's.
    TOKENIZER: Open<File> = Setting {
        about: About {
            key: "tokenizer",
            help: "A tokenizer.json instead of the GGUF's vocabulary",
            scope: SERVE | GENERATE | TEXT | TUNE,
            ..GROUP
        },
        takes: FILE,
        default: Fallback::Unset(None, "", "the GGUF's vocabulary"),
    };

    /// Another chat template than the GGUF's.
    CHAT_TEMPLATE: Open<File> = Setting {
        about: About {
            key: "chat-template",
            help: "A Jinja file instead of the GGUF's chat template",
            scope: SERVE | GENERATE,
            ..GROUP
        },
        takes: FILE,
        default: Fallback::Unset(None, "", "the GGUF's template"),
    };

    /// Embeddings instead of text.
    EMBEDDINGS: Switch = Setting {
        about: About { key: "embeddings", help: "Make embeddings instead of text, with any model", ..GROUP },
        takes: Switch { on: true },
        default: Fallback::Is(false),
    };

    /// How the vectors of a text's tokens become one.
    POOLING: OneOf<Option<Pooling>> = Setting {
        about: About {
            key: "pooling",
            help: "How embeddings are pooled: auto, mean, cls or last",
            ..GROUP
        },
        takes: OneOf {
            name: "HOW",
            words: &[
                ("auto", None),
                ("mean", Some(Pooling::Mean)),
                ("cls", Some(Pooling::Cls)),
                ("last", Some(Pooling::Last)),
            ],
        },
        default: Fallback::Is(None),
    };
}

/// The model of `--model` or `--hf-repo`: the one set in the stronger place.
///
/// # Errors
/// Both are set in the same place, or a name isn't one of the hub's.
pub fn source(pick: &mut Picker) -> Result<ModelSource, StartupError> {
    match pick.strength(&MODEL).cmp(&pick.strength(&HF_REPO)) {
        Ordering::Less => pick.forget(&MODEL),
        Ordering::Greater => {
            pick.forget(&HF_REPO);
            pick.forget(&HF_FILE);
        }
        Ordering::Equal if pick.strength(&MODEL) > 0 => {
            let reason = format!("can't be used with {}, because each names a model", pick.name_of(&HF_REPO));
            return Err(pick.refuse(&MODEL, reason));
        }
        Ordering::Equal => {}
    }
    let (path, repo, file) = (pick.take(&MODEL)?, pick.take(&HF_REPO)?, pick.take(&HF_FILE)?);
    match (path, repo) {
        (Some(path), _) => Ok(ModelSource::File(path)),
        (None, Some(repo)) => match HubModel::parse(&repo, file.as_deref()) {
            Ok(model) => Ok(ModelSource::Hub(model)),
            Err(reason) => Err(pick.refuse(&HF_REPO, reason)),
        },
        (None, None) if file.is_some() => Err(pick.refuse(&HF_FILE, "needs --hf-repo as well")),
        (None, None) => Ok(ModelSource::BuiltIn),
    }
}
