//! What two renderings have in common, cut where no mark is split.

/// Bytes of the longest common beginning.
pub fn common_prefix(a: &str, b: &str) -> usize {
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b);
    same.map(|(c, _)| c.len_utf8()).sum()
}

/// Bytes of the longest common end.
pub fn common_suffix(a: &str, b: &str) -> usize {
    let same = a.chars().rev().zip(b.chars().rev()).take_while(|(a, b)| a == b);
    same.map(|(c, _)| c.len_utf8()).sum()
}

/// `at`, or the beginning of the mark that a cut there would split.
pub fn before_mark(text: &str, at: usize) -> usize {
    match open_mark(&text[..at]) {
        Some(open) if is_mark_end(&text[at..]) => open,
        _ => at,
    }
}

/// `at`, or the end of the mark that a cut there would split.
pub fn after_mark(text: &str, at: usize) -> usize {
    match open_mark(&text[..at]) {
        Some(_) if is_mark_end(&text[at..]) => at + text[at..].find(['>', ']']).map_or(0, |end| end + 1),
        _ => at,
    }
}

/// Where the mark begins that isn't closed at the end of `text`.
fn open_mark(text: &str) -> Option<usize> {
    let open = text.rfind(['<', '['])?;
    let inner = &text[open + 1..];
    let is_open = !inner.contains(['>', ']', '{', '"']) && !inner.contains(char::is_whitespace);
    // A list's bracket is no mark: letters follow one in capitals.
    let is_list = text[open..].starts_with('[')
        && (inner.is_empty() || !inner.starts_with(|c: char| c.is_ascii_uppercase() || c == '/'));
    (is_open && !is_list).then_some(open)
}

/// Whether `text` goes on with the rest of a mark.
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
        assert_eq!((common_prefix("", "a"), common_suffix("éa", "êa")), (0, 1));
    }
}
