//! Messages to prompt, and answer to what was said: the model's own Jinja template, and the marks it has the model write.
//! Pure, run on HTTP threads; knows nothing of HTTP or the engine.
//!
//! ```text
//! message   one turn
//! template  the compiled template; python, python_print, strftime, values: what templates expect of Jinja's home
//! facts     what trial renderings tell of a template
//! prompt    turns and tools -> prompt; repair, described, written: turns that the template refuses or loses; guard: texts are no control tokens
//! continued an answer that has begun
//! form      how a model writes calls, read from what its template renders; the reader of such calls
//! thought   the marks around a thought
//! style     how a model with this template thinks and calls tools
//! harmony   heads of messages in channels
//! output    the answer's text -> content, reasoning, tool calls, as it comes; call: one call's JSON
//! ```

mod call;
mod continued;
mod described;
mod facts;
mod form;
mod guard;
mod harmony;
mod message;
mod output;
mod prompt;
mod python;
mod python_print;
mod repair;
mod said;
mod strftime;
mod style;
mod template;
#[cfg(test)]
mod tests;
mod thought;
mod values;
mod written;

pub use facts::{TemplateFacts, ToolsVariable};
pub use form::{Arguments, Bit, CallForm, Notation, Tagged, first_mark, marks_in};
pub use guard::Guard;
pub use message::{Conversation, Message, ToolCall};
pub use output::OutputParser;
pub use prompt::ChatPrompt;
pub use said::Said;
pub use style::{CallStyle, FormOrigin, HARMONY_CALL, HARMONY_THOUGHT, Style};
pub use template::{ChatTemplate, TemplateSource};
pub use thought::Thought;
