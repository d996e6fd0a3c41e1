//! What the parsers of requests look for, noted while they look: the OpenAPI document is made of it, so that it can't say
//! anything else. Noting is off but for the thread that makes the document.
//!
//! A note is a place in a body, such as `messages[].role`, and a schema for what may stand there. Two notes of one place
//! are two possibilities; one without a `type` says more of the one before it.

use std::cell::RefCell;

use serde_json::Value;

/// Places and schemas, in the order they were looked for.
pub type Notes = Vec<(String, Value)>;

thread_local! {
    static NOTES: RefCell<Option<Notes>> = const { RefCell::new(None) };
}

/// Whether this thread makes the document.
pub fn are_taken() -> bool {
    NOTES.with_borrow(Option::is_some)
}

/// Notes that at `path` something like `schema` may stand.
pub fn note(path: &str, schema: impl FnOnce() -> Value) {
    NOTES.with_borrow_mut(|notes| {
        if let Some(notes) = notes {
            notes.push((place(path), schema()));
        }
    });
}

/// What `parse` returns, and what it looked for.
pub fn noting<T>(parse: impl FnOnce() -> T) -> (T, Notes) {
    NOTES.set(Some(Notes::new()));
    let parsed = parse();
    (parsed, NOTES.take().unwrap_or_default())
}

/// A path with its numbers taken out: one place for all entries of an array.
pub fn place(path: &str) -> String {
    let mut parts = path.split('[');
    let mut place = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        place.push('[');
        place.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn notes_are_taken_where_they_are_asked_for() {
        note("nobody", || panic!("nobody listens"));
        let (_, notes) = noting(|| note("a[12].b[0][3]", || json!(1)));
        assert_eq!(notes, [("a[].b[][]".to_owned(), json!(1))]);
        assert_eq!(noting(|| ()).1, []);
    }
}
