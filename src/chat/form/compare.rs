//! The common beginning and end of two renderings, cut so that no mark is split.

/// Length of the longest common beginning, in bytes.
pub fn common_prefix(a: &str, b: &str) -> usize {
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b);
    same.map(|(c, _)| c.len_utf8()).sum()
}

/// Length of the longest common end, in bytes.
pub fn common_suffix(a: &str, b: &str) -> usize {
    let same = a.chars().rev().zip(b.chars().rev()).take_while(|(a, b)| a == b);
    same.map(|(c, _)| c.len_utf8()).sum()
}

/// Returns `at`, or the beginning of the mark that a cut at `at` would split.
pub fn before_mark(text: &str, at: usize) -> usize {
    match open_mark(&text[..at]) {
        Some(open) if is_mark_end(&text[at..]) => open,
        _ => at,
    }
}

/// Returns `at`, or the end of the mark that a cut at `at` would split.
pub fn after_mark(text: &str, at: usize) -> usize {
    match open_mark(&text[..at]) {
        Some(_) if is_mark_end(&text[at..]) => at + text[at..].find(['>', ']']).map_or(0, |end| end + 1),
        _ => at,
    }
}

/// The beginning of a mark that is still open at the end of `text`.
fn open_mark(text: &str) -> Option<usize> {
    let open = text.rfind(['<', '['])?;
    let inner = &text[open + 1..];
    let is_open = !inner.contains(['>', ']', '{', '"']) && !inner.contains(char::is_whitespace);
    // The bracket of a list is no mark: a mark's bracket is followed by capital letters.
    let is_list = text[open..].starts_with('[')
        && (inner.is_empty() || !inner.starts_with(|c: char| c.is_ascii_uppercase() || c == '/'));
    (is_open && !is_list).then_some(open)
}

/// Whether `text` begins with the rest of a mark.
fn is_mark_end(text: &str) -> bool {
    text.find(['>', ']', '=']).is_some_and(|end| !text[..end].contains(['<', '{', '\n']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_split_no_mark() {
        let (a, b) = ("x<|START_ACTION|>[", "x<|START_TEXT|>y");
        assert_eq!(before_mark(a, common_prefix(a, b)), 1);
        let (a, b) = ("]<|END_ACTION|><|END|>\n", "<|END_TEXT|><|END|>\n");
        let at = a.len() - common_suffix(a, b);
        assert_eq!(&a[after_mark(a, at)..], "<|END|>\n");
        let (a, b) = (">\n<parameter=", ">\n</function>");
        assert_eq!(before_mark(a, common_prefix(a, b)), 2);
        assert_eq!(before_mark("a[{", 2), 2);
        assert_eq!(after_mark("[TOOL_CALLS]x", "[TOOL".len()), "[TOOL_CALLS]".len());
        assert_eq!((common_prefix("", "a"), common_suffix("éa", "êa")), (0, 1));
    }
}
