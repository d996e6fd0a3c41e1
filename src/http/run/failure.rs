//! Why a generation failed.

use crate::types::FinishReason;

/// Why a generation failed, for its client.
#[derive(Debug)]
pub struct GenerationFailure {
    /// The HTTP status.
    pub status: u16,
    /// The message for people.
    pub message: String,
    /// The word for programs, such as `deadline`.
    pub code: &'static str,
    /// The field of the request that is to blame.
    pub field: Option<String>,
}

/// The failure that `reason` means for a client; `None`: the generation ended well. `constrained_by` is the field whose
/// grammar the text followed.
pub fn failure_of(reason: FinishReason, constrained_by: Option<&str>) -> Option<GenerationFailure> {
    let (status, message, code) = match reason {
        FinishReason::Eos | FinishReason::Stop | FinishReason::Length | FinishReason::Embedded => return None,
        FinishReason::Deadline => (408, "the deadline passed", "deadline_exceeded"),
        FinishReason::Cancelled => (499, "the client went away", "cancelled"),
        FinishReason::Shutdown => (503, "the server is shutting down", "shutting_down"),
        FinishReason::EngineError => (500, "the engine could not go on with this request", "engine_error"),
        FinishReason::Grammar => {
            let field = constrained_by.unwrap_or("grammar").to_owned();
            let message = format!(
                "{field}: the text can't be continued by this: it is too ambiguous at this point, or nothing may come next"
            );
            return Some(GenerationFailure { status: 400, message, code: "invalid_field", field: Some(field) });
        }
    };
    Some(GenerationFailure { status, message: message.to_owned(), code, field: None })
}
