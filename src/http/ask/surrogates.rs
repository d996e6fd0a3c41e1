//! Repairs JSON texts with halves of surrogate pairs (a lone `\ud83d`), which programs send that cut strings by UTF-16
//! units. JSON's grammar allows them, Rust's strings can't hold them. Each half becomes U+FFFD, as in browsers. Pure.

/// `body` with U+FFFD in place of each half without its partner; `None` if there is none.
pub fn mended(body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len());
    let (mut at, mut found) = (0, false);
    while at < body.len() {
        let rest = &body[at..];
        let taken = match (unit(rest), rest.get(6..).and_then(unit)) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => 12,
            (Some(0xd800..0xe000), _) => {
                out.extend_from_slice(b"\\ufffd");
                found = true;
                at += 6;
                continue;
            }
            // A backslash and the character that it escapes are skipped together: `\\\\ud83d` is a backslash and
            // letters.
            _ if rest[0] == b'\\' => 2.min(rest.len()),
            _ => 1,
        };
        out.extend_from_slice(&rest[..taken]);
        at += taken;
    }
    found.then_some(out)
}

/// The code unit of an escape `\uXXXX` at the beginning of `text`.
fn unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().all(u8::is_ascii_hexdigit).then_some(())?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::mended;

    #[test]
    fn halves_are_mended_and_pairs_stay() {
        for (text, expected) in [
            (r#"{"a": "\ud83d"}"#, Some(r#"{"a": "\ufffd"}"#)),
            (r#"{"a": "x\uDE00\ud83dy"}"#, Some(r#"{"a": "x\ufffd\ufffdy"}"#)),
            (r#"{"a": "\ud83d\ud83d\ude00"}"#, Some(r#"{"a": "\ufffd\ud83d\ude00"}"#)),
            (r#"{"a": "\ud83d\ude00"}"#, None),
            (r#"{"a": "\\ud83d"}"#, None),
            (r#"{"a": "\u00e4"}"#, None),
            (r#"{"a": "\"#, None),
        ] {
            assert_eq!(mended(text.as_bytes()).as_deref(), expected.map(str::as_bytes), "{text}");
        }
    }
}
