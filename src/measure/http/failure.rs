//! Why a request failed: kinds that a report can count.

use std::fmt;

/// Why one request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
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

impl Failure {
    /// The name under which the report counts it.
    pub fn kind(&self) -> String {
        match self {
            Failure::Connect(_) => "connect".to_owned(),
            Failure::Timeout => "timeout".to_owned(),
            Failure::Closed => "closed".to_owned(),
            Failure::Malformed => "malformed".to_owned(),
            Failure::Status(status, _) => format!("http_{status}"),
            Failure::Refused(_) => "error_in_answer".to_owned(),
            Failure::Stopped => "stopped".to_owned(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Connect(why) => write!(f, "no connection: {why}"),
            Failure::Timeout => f.write_str("no answer in time"),
            Failure::Closed => f.write_str("the server closed the connection before its answer was complete"),
            Failure::Malformed => f.write_str("the answer can't be understood"),
            Failure::Status(status, said) if said.is_empty() => write!(f, "status {status}"),
            Failure::Status(status, said) => write!(f, "status {status}: {said}"),
            Failure::Refused(said) => write!(f, "the answer says: {said}"),
            Failure::Stopped => f.write_str("stopped"),
        }
    }
}
