//! Structured output: JSON schemas, regular expressions, grammars and tool calls as masks over the next token.
//!
//! Runs on HTTP threads. A request's grammar is compiled on its own thread before it is submitted; then its reader follows
//! the pieces (`guided`) and publishes one mask a piece while the batching thread decodes that very piece. Where tokens are
//! guessed it also looks ahead (`ahead`) and publishes masks of pieces to come. The engine knows masks, never grammars.
//!
//! ```text
//! vocabulary  our token table as the trie that grammars are walked over
//! bounds      size and nesting, checked before any parser that recurses
//! compile     text -> matcher, within bounds of time and memory; a few compiled ones are kept
//! gbnf        llama.cpp's grammars -> Lark
//! tools       tool definitions -> Lark; forms: in a form that was read from the model's template; literal: its arguments as in a
//!             programming language
//! patience    how long a grammar may take
//! follow      one grammar and its text: tokens in, verdicts out; constraint: any of several of them, or one behind another
//! thinking    a thought before the constrained answer, and its budget
//! ahead       how the text goes on where a grammar leaves little open
//! guided      a reply reader that follows while it reads
//! ```
//!
//! What a constraint means beside the other parameters: `stop` strings and `max_tokens` end the text wherever it is, and
//! the finish reason says so; an end-of-generation token is possible only where the grammar may end, never with
//! `ignore_eos`. A model that thinks does so freely first, and the constraint begins behind the thought, which can't be the end.
//! Once nothing but the end can come, the request ends with `stop`, `ignore_eos` or not.

mod ahead;
mod bounds;
mod compile;
mod constraint;
mod follow;
mod forms;
mod gbnf;
mod guided;
mod json;
mod literal;
mod patience;
#[cfg(test)]
mod tests;
mod thinking;
mod tools;
mod vocabulary;

pub use compile::Constrainer;
pub use constraint::Constraint;
pub use guided::{GuidedReader, wait_any};
pub use thinking::{Guide, Thinking};
pub use tools::{Tool, ToolChoice};
