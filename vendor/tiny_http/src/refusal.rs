//! How refusals look: as the crate has it, or as the server's owner wants it. Runs on whichever thread refuses; plain
//! values.

use crate::header::Header;

/// A request that this crate answers itself, and why: it can't be read, it is too large, it came too slowly, or nobody
/// answered it.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    /// The status of the answer, which stays.
    pub status: u16,
    /// What programs match on.
    pub slug: &'static str,
    /// A sentence for people. Needs no escaping in JSON.
    pub message: &'static str,
    /// The request target, as far as it came; printable ASCII. `None`: nothing of it is known.
    pub url: Option<&'a str>,
    /// The header fields that came and could be read.
    pub headers: &'a [Header],
}

/// What is said instead.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Fields beside those of framing; `Content-Type` belongs to them.
    pub headers: Vec<Header>,
    /// The body.
    pub body: Vec<u8>,
}

/// Makes one of the other.
pub(crate) type Shape = Box<dyn Fn(&Refused<'_>) -> Refusal + Send + Sync>;

/// The crate's own way: JSON.
pub(crate) fn plain(refused: &Refused<'_>) -> Refusal {
    let body = format!(r#"{{"success":false,"error":"{}","code":"{}"}}"#, refused.message, refused.slug);
    let json = Header::from_bytes("Content-Type", "application/json");
    Refusal { headers: json.into_iter().collect(), body: body.into_bytes() }
}
