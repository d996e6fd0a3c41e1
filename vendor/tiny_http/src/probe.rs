//! An entry point for fuzzing: bytes in, the server's reading of them out. Runs the state machine of the server without a
//! socket. Not part of the API.

use crate::budget::Budget;
use crate::intake::{Event, Intake};
use crate::limits::Limits;

/// The state of a connection after its last byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It waits for more bytes.
    Waiting,
    /// Refused with this status.
    Refused(u16),
    /// The last request asked for the connection to be closed.
    Closing,
}

/// A request as a handler would get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// The target.
    pub url: String,
    /// The number of header fields.
    pub headers: usize,
    /// The decoded body.
    pub body: Vec<u8>,
}

/// Feeds `pieces` one after the other, as reads would return them.
pub fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &Limits) -> (Vec<Seen>, End) {
    let mut intake = Intake::new(Budget::new(limits.bodies_bytes_max));
    let mut seen = Vec::new();
    for piece in pieces {
        intake.push(piece);
        loop {
            match intake.advance(limits) {
                Event::NeedMore => break,
                Event::Continue => {}
                Event::Fault(fault) => return (seen, End::Refused(fault.status)),
                Event::Request(parsed) => {
                    let head = parsed.head;
                    let (method, headers) = (head.method.as_str().to_owned(), head.headers.len());
                    seen.push(Seen { method, url: head.url, headers, body: parsed.body });
                    if !head.keep_alive {
                        return (seen, End::Closing);
                    }
                }
            }
        }
    }
    (seen, End::Waiting)
}
