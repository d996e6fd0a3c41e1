//! A generation from its parsed request to its answer, written once for all dialects: check, read, submit, deliver, record.
//!
//! ```text
//! speaks     what a dialect gives to this room
//! generate   the whole way of a request that generates
//! read       inputs -> tokens
//! constrain  formats and thoughts -> what the constrainer is asked for
//! submit     from tokens to reply slots: places, claim, push
//! choices    answers as they come, told to a listener
//! deliver    answers brought to their client: whole, or in events
//! numbers    inputs whose embeddings or scores are wanted
//! scored     log-probabilities in an answer
//! call_ids   names for tool calls
//! failure    why a generation ended otherwise than it should
//! refuse     every refusal of every route
//! ```

pub mod call_ids;
pub mod choices;
mod constrain;
pub mod deliver;
pub mod failure;
mod generate;
pub mod kept;
pub mod numbers;
mod read;
pub mod refuse;
pub mod scored;
pub mod speaks;
mod submit;
