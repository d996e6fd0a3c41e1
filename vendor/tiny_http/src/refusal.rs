//! How refusals look: the crate's own form, or one that the server's owner sets. Runs on the thread that refuses; plain
//! values.

use crate::header::Header;

/// A request that this crate answers itself, and why: it can't be read, is too large, arrived too slowly, or was dropped
/// without an answer.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    /// The status of the answer, which can't be changed.
    pub status: u16,
    /// The name of the error for programs.
    pub slug: &'static str,
    /// A sentence for people. It needs no escaping in JSON.
    pub message: &'static str,
    /// The request target, as far as it arrived; printable ASCII. `None`: it is unknown.
    pub url: Option<&'a str>,
    /// The header fields that arrived and could be read.
    pub headers: &'a [Header],
}

/// The answer's fields and body.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Fields besides those of framing, including `Content-Type`.
    pub headers: Vec<Header>,
    /// The body.
    pub body: Vec<u8>,
}

/// A function that shapes refusals.
pub(crate) type Shape = Box<dyn Fn(&Refused<'_>) -> Refusal + Send + Sync>;

/// The crate's own form: JSON.
pub(crate) fn plain(refused: &Refused<'_>) -> Refusal {
    let body = format!(r#"{{"success":false,"error":"{}","code":"{}"}}"#, refused.message, refused.slug);
    let json = Header::from_bytes("Content-Type", "application/json");
    Refusal { headers: json.into_iter().collect(), body: body.into_bytes() }
}
