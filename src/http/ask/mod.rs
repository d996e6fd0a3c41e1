//! What a request means, whatever its dialect: typed values out of JSON. Pure; knows no service and no socket.
//!
//! ```text
//! fields      JSON object -> typed values, each error naming its field
//! notes       what the parsers look for, noted while they look: the OpenAPI document is made of that
//! params      what a native request says
//! sampling    how tokens are drawn
//! format      the shape that a text must have
//! warnings    what was ignored or changed in a request, for X-Cllm-Warning
//! surrogates  halves of surrogate pairs in a body
//! ```

pub mod fields;
pub mod format;
pub mod notes;
pub mod params;
pub mod sampling;
mod surrogates;
pub mod warnings;
