//! A generation from its submission to its answer, the same for every dialect.
//!
//! ```text
//! submit   from tokens to reply slots: places, claim, push
//! choices  answers as they come, told to a listener
//! deliver  answers brought to their client: whole, or in events
//! answer   why a generation ended otherwise than it should
//! refused  what the layer below refuses
//! ```

pub mod answer;
pub mod choices;
pub mod deliver;
mod refused;
pub mod submit;
