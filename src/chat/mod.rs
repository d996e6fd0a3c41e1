//! Messages to prompt: the model's own Jinja template, run on HTTP threads. Pure; knows nothing of HTTP or the engine.

mod template;

pub use template::{ChatTemplate, Message, TemplateSource};
