//! How files open, and how long they get.

use super::source::{Source, complaints, hold, src};

const LINES_MAX: usize = 600;

fn opens_with_prose(source: &Source) -> Vec<String> {
    let opens = source.text.starts_with("//! ");
    if opens { Vec::new() } else { vec![source.complaint(0, "doesn't open with `//!` prose")] }
}

fn not_too_long(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines <= LINES_MAX || source.path.ends_with("_data.rs") {
        return Vec::new();
    }
    vec![source.complaint(lines - 1, format!("{lines} lines; split at {LINES_MAX}"))]
}

#[test]
fn each_file_opens_with_prose() {
    hold(opens_with_prose, &src());
}

#[test]
fn no_file_is_too_long() {
    hold(not_too_long, &src());
}

#[test]
fn about_prose_and_length() {
    assert_eq!(complaints(opens_with_prose, "src/types/ids.rs", "use x;\n//! late"), 1);
    assert_eq!(complaints(opens_with_prose, "src/types/ids.rs", "//! What it is."), 0);
    assert_eq!(complaints(not_too_long, "src/types/ids.rs", &"x\n".repeat(LINES_MAX + 1)), 1);
    assert_eq!(complaints(not_too_long, "src/types/ids.rs", &"x\n".repeat(LINES_MAX)), 0);
}
