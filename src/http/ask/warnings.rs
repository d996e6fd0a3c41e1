//! What this thread ignored or changed in the request that it serves, for the answer's `X-Cllm-Warning`.
//!
//! An HTTP thread serves one request from its first byte to its last, so the list belongs to the thread. Parsers add to
//! it without a parameter for it, and the answer's head has it on every route, also for streams.

use std::cell::RefCell;

use crate::types::limits::WARNING_BYTES_MAX;

thread_local! {
    static WARNINGS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Removes the warnings of the previous request. Called when a request arrives.
pub fn forget() {
    WARNINGS.with_borrow_mut(Vec::clear);
}

/// Adds a sentence: the field's name, and what was done with it. A repeated sentence is added once.
pub fn warn(text: impl Into<String>) {
    let text = text.into();
    WARNINGS.with_borrow_mut(|all| {
        if !all.contains(&text) {
            all.push(text);
        }
    });
}

/// Adds a warning that names the fields that the route doesn't know.
pub fn ignored(unknown: &[String]) {
    if !unknown.is_empty() {
        warn(format!("ignored unknown fields: {}", unknown.join(", ")));
    }
}

/// The header's value, printable ASCII of at most `WARNING_BYTES_MAX` bytes; `None` if there are no warnings.
pub fn value() -> Option<String> {
    WARNINGS.with_borrow(|all| {
        if all.is_empty() {
            return None;
        }
        let mut text: String =
            all.join("; ").chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
        if text.len() > WARNING_BYTES_MAX {
            text.truncate(WARNING_BYTES_MAX - 3);
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
        assert_eq!(value().unwrap().len(), WARNING_BYTES_MAX);
        forget();
        assert_eq!(value(), None);
    }
}
