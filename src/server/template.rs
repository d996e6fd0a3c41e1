//! Finds and compiles the chat template of a model.

use std::path::Path;

use crate::chat::{ChatTemplate, TemplateSource};
use crate::config::Config;
use crate::config::settings::model::CHAT_TEMPLATE;
use crate::gguf::GgufFile;
use crate::tokenizer::Tokenizer;
use crate::types::StartupError;

/// The model's chat template, the file named in its place, or ChatML.
///
/// # Errors
/// The file can't be read, or the template isn't valid Jinja.
pub fn chat_template(config: &Config, gguf: &GgufFile, tokenizer: &Tokenizer) -> Result<ChatTemplate, StartupError> {
    let refuse = |path: &Path, why: &str| config.refuse(&CHAT_TEMPLATE, format!("{}: {why}", path.display()));
    let text = match &config.chat_template {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| refuse(path, &error.to_string()))?;
            Some((text, TemplateSource::File))
        }
        None => gguf.str("tokenizer.chat_template").map(|text| (text.to_owned(), TemplateSource::Model)),
    };
    let text_of = |token: Option<_>| {
        token.map(|token| String::from_utf8_lossy(&tokenizer.piece(token, true)).into_owned()).unwrap_or_default()
    };
    let for_tools = gguf.str("tokenizer.chat_template.tool_use").filter(|_| config.chat_template.is_none());
    let compiled = ChatTemplate::new(text, text_of(tokenizer.bos()), text_of(tokenizer.eos()));
    let compiled = match for_tools {
        Some(text) => compiled.and_then(|template| template.with_tool_use(text.to_owned())),
        None => compiled,
    };
    compiled.map_err(|error| match (&config.chat_template, error) {
        (Some(path), StartupError::Config { reason, .. }) => refuse(path, &reason),
        (_, error) => error,
    })
}
