//! Why a request failed: kinds that a report can count.

use std::fmt;

/// Why one request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestFailure {
    /// The connection failed; the text says why.
    Connect(String),
    /// The answer wasn't complete in time.
    Timeout,
    /// The server closed the connection before the answer was complete.
    Closed,
    /// The response isn't HTTP, or not a response of this API.
    Malformed,
    /// A status other than 200, and the server's message.
    Status(u16, String),
    /// Status 200, but the response says that generation failed.
    Refused(String),
    /// The run was stopped by Ctrl-C, which isn't the server's fault.
    Stopped,
}

impl RequestFailure {
    /// The name under which the report counts it.
    pub fn kind(&self) -> String {
        match self {
            RequestFailure::Connect(_) => "connect".to_owned(),
            RequestFailure::Timeout => "timeout".to_owned(),
            RequestFailure::Closed => "closed".to_owned(),
            RequestFailure::Malformed => "malformed".to_owned(),
            RequestFailure::Status(status, _) => format!("http_{status}"),
            RequestFailure::Refused(_) => "error_in_answer".to_owned(),
            RequestFailure::Stopped => "stopped".to_owned(),
        }
    }
}

impl fmt::Display for RequestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestFailure::Connect(why) => write!(f, "no connection: {why}"),
            RequestFailure::Timeout => f.write_str("no answer in time"),
            RequestFailure::Closed => f.write_str("the server closed the connection before its answer was complete"),
            RequestFailure::Malformed => f.write_str("the answer can't be understood"),
            RequestFailure::Status(status, said) if said.is_empty() => write!(f, "status {status}"),
            RequestFailure::Status(status, said) => write!(f, "status {status}: {said}"),
            RequestFailure::Refused(said) => write!(f, "the answer says: {said}"),
            RequestFailure::Stopped => f.write_str("stopped"),
        }
    }
}
