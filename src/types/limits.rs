//! Every bound in one place, with its unit and the arithmetic or the reason behind it.
//!
//! **The rule.** A number that bounds a queue, a buffer, a wait, a length, or a value that a client, a setting or a file gives
//! stands here. Two kinds of bound stand in the file that uses them instead:
//!
//! - *A fact*: a number that a file format, a foreign protocol, another program or C++ of this project fixes, and that we can't choose.
//!   Its comment names the source, such as ggml's `GGML_MAX_DIMS`.
//! - *A detail of an algorithm*: a number that only the file of one algorithm can explain, and that changes nothing but how well or
//!   how fast the algorithm works, such as up to how many entries are sorted instead of split.
//!
//! A bound's name ends in `_MAX`, `_MIN`, `_EVERY`, `_KEPT` or a unit (`_BYTES`, `_MS`, `_US`). `tests/tidy/bounds.rs` refuses a constant of
//! such a name elsewhere in `src/`, unless its list names the constant's kind.
//!
//! Defaults of settings stand with the settings. A range that belongs to one sampling parameter or to one flag of a bench, such as a
//! temperature from 0 to 100, stands in the definition of the parameter or flag, beside its name, default and help.
//!
//! ```text
//! engine    the KV cache, the steps, fairness, the ring and the reply slots
//! http      requests and their answers: bodies, fields, streams, keys, records of steps, KV events
//! text      tokenizers, chat templates, tool calls, grammars, schemas
//! files     model files, downloads, prompts on disk, the supervisor
//! measure   the laboratory
//! ```

mod engine;
mod files;
mod http;
mod measure;
mod text;

pub use engine::*;
pub use files::*;
pub use http::*;
pub use measure::*;
pub use text::*;
