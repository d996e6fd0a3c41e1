//! What a request means, whatever its dialect: typed values out of JSON. Pure; knows no service, no socket and no dialect.
//!
//! ```text
//! generation  what a client wants generated, as one value
//! fields      JSON object -> typed values, each error naming its field
//! parameter   the numbers that say how tokens are drawn, a row each
//! sampling    how tokens are drawn and where a text ends
//! format      the shape that a text must have; tools: what it may call
//! inputs      texts and token ids; gap: a gap in a text, with what is around it
//! notes       what the parsers look for, noted while they look: the OpenAPI document is made of that
//! warnings    what was ignored or changed in a request, for X-Cllm-Warning
//! surrogates  halves of surrogate pairs in a body
//! ```

pub mod fields;
pub mod format;
pub mod gap;
pub mod generation;
pub mod inputs;
pub mod notes;
pub mod parameter;
pub mod sampling;
mod surrogates;
pub mod tools;
pub mod warnings;
