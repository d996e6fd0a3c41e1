//! Notes of what the parsers of requests look for. The OpenAPI document is made of them, so that it always agrees with
//! the parsers. Notes are taken only on the thread that makes the document.
//!
//! A note is a place in a body, such as `messages[].role`, and a schema of what may stand there. Two notes of one place
//! are two alternatives; a note without a `type` adds to the one before it.

use std::cell::RefCell;

use serde_json::Value;

/// Places and schemas, in the order in which the parsers looked for them.
pub type Notes = Vec<(String, Value)>;

thread_local! {
    static NOTES: RefCell<Option<Notes>> = const { RefCell::new(None) };
}

/// Whether notes are taken on this thread.
pub fn are_taken() -> bool {
    NOTES.with_borrow(Option::is_some)
}

/// Notes that a value of `schema` may stand at `path`.
pub fn note(path: &str, schema: impl FnOnce() -> Value) {
    NOTES.with_borrow_mut(|notes| {
        if let Some(notes) = notes {
            notes.push((place(path), schema()));
        }
    });
}

/// Runs `parse` and returns its result, with the notes that it took.
pub fn noting<T>(parse: impl FnOnce() -> T) -> (T, Notes) {
    NOTES.set(Some(Notes::new()));
    let parsed = parse();
    (parsed, NOTES.take().unwrap_or_default())
}

/// A path without its array indices: one place for all entries of an array.
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
        note("unheard", || panic!("no request collects notes"));
        let (_, notes) = noting(|| note("a[12].b[0][3]", || json!(1)));
        assert_eq!(notes, [("a[].b[][]".to_owned(), json!(1))]);
        assert_eq!(noting(|| ()).1, []);
    }
}
