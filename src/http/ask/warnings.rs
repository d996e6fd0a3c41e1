//! What this thread ignored or changed in the request that it serves, for the answer's `X-Cllm-Warning`.
//!
//! An HTTP thread serves one request from its first byte to its last, so the list belongs to the thread: parsers add to it
//! without being handed one, and the answer's head carries it on every route, streams included.

use std::cell::RefCell;

/// Bytes of the header's value: enough for a few sentences, and far below what clients accept.
const BYTES_MAX: usize = 1_000;

thread_local! {
    static WARNINGS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Forgets the warnings of the request before. Called when a request arrives.
pub fn forget() {
    WARNINGS.with_borrow_mut(Vec::clear);
}

/// Adds a sentence: the field's name, and what became of it. A sentence that stands already is not repeated.
pub fn warn(text: impl Into<String>) {
    let text = text.into();
    WARNINGS.with_borrow_mut(|all| {
        if !all.contains(&text) {
            all.push(text);
        }
    });
}

/// Names the fields that the route does not know.
pub fn ignored(unknown: &[String]) {
    if !unknown.is_empty() {
        warn(format!("ignored unknown fields: {}", unknown.join(", ")));
    }
}

/// The header's value, printable ASCII of at most `BYTES_MAX` bytes; `None` without warnings.
pub fn value() -> Option<String> {
    WARNINGS.with_borrow(|all| {
        if all.is_empty() {
            return None;
        }
        let mut text: String =
            all.join("; ").chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
        if text.len() > BYTES_MAX {
            text.truncate(BYTES_MAX - 3);
            text.push_str("...");
        }
        Some(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_one_line_of_ascii_and_end_with_the_request() {
        forget();
        assert_eq!(value(), None);
        ignored(&[]);
        assert_eq!(value(), None);
        ignored(&["zeal".into(), "z\u{e9}\r\nX-Evil: 1".into()]);
        warn("stop: empty strings were left out");
        warn("stop: empty strings were left out");
        assert_eq!(value().unwrap(), "ignored unknown fields: zeal, z???X-Evil: 1; stop: empty strings were left out");
        warn("x".repeat(5_000));
        assert_eq!(value().unwrap().len(), BYTES_MAX);
        forget();
        assert_eq!(value(), None);
    }
}
