//! Messages to prompt, and answer to what was said: the model's own Jinja template, and the marks it has the model write.
//! Pure, run on HTTP threads; knows nothing of HTTP or the engine.
//!
//! ```text
//! message   one turn
//! template  turns and tools -> prompt; python: what templates expect of Jinja's home
//! style     how a model with this template thinks and calls tools
//! output    the answer's text -> content, reasoning, tool calls, as it comes; call: one call's JSON
//! ```

mod call;
mod message;
mod output;
mod python;
mod style;
mod template;
#[cfg(test)]
mod tests;

pub use message::{Message, ToolCall};
pub use output::{OutputParser, Said};
pub use style::{CallStyle, Style};
pub use template::{ChatTemplate, Conversation, TemplateSource};
