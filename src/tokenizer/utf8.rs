//! Turns bytes into whole characters, for streams with tokens that end in the middle of a character.

/// Holds back the beginning of a character until its other bytes come. Over all bytes together, `push` and `finish` append
/// what `String::from_utf8_lossy` gives for them.
#[derive(Clone, Debug, Default)]
pub struct Utf8Assembler {
    /// The beginning of one character, at most three bytes.
    held: [u8; 4],
    held_len: usize,
}

impl Utf8Assembler {
    /// An assembler that holds nothing back.
    pub fn new() -> Utf8Assembler {
        Utf8Assembler::default()
    }

    /// Takes `bytes` and appends to `out` all characters that are complete.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut String) {
        // Takes one byte after the other until the held character is complete or invalid.
        while self.held_len > 0 && !bytes.is_empty() {
            self.held[self.held_len] = bytes[0];
            let with_next = &self.held[..=self.held_len];
            match std::str::from_utf8(with_next) {
                Ok(text) => {
                    out.push_str(text);
                    self.held_len = 0;
                    bytes = &bytes[1..];
                }
                Err(e) if e.error_len().is_none() => {
                    self.held_len += 1;
                    bytes = &bytes[1..];
                }
                // The held bytes can't continue with this byte: they become one replacement character, and the byte begins
                // a new one.
                Err(_) => {
                    out.push(char::REPLACEMENT_CHARACTER);
                    self.held_len = 0;
                }
            }
        }
        // The usual case: the bytes are whole characters.
        if let Ok(text) = std::str::from_utf8(bytes) {
            return out.push_str(text);
        }
        for chunk in bytes.utf8_chunks() {
            out.push_str(chunk.valid());
            let invalid = chunk.invalid();
            let is_last = invalid.as_ptr_range().end == bytes.as_ptr_range().end;
            let may_go_on = is_last && std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
            if may_go_on {
                self.held[..invalid.len()].copy_from_slice(invalid);
                self.held_len = invalid.len();
            } else if !invalid.is_empty() {
                out.push(char::REPLACEMENT_CHARACTER);
            }
        }
    }

    /// Ends the text: appends a replacement character for held bytes.
    pub fn finish(&mut self, out: &mut String) {
        if self.held_len > 0 {
            out.push(char::REPLACEMENT_CHARACTER);
            self.held_len = 0;
        }
    }

    /// The number of held bytes.
    pub fn held(&self) -> usize {
        self.held_len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_split_of_any_bytes_reads_as_from_utf8_lossy() {
        let mut dice = crate::dice::Dice::new(0x5eed);
        let mut below = |n: usize| dice.below(n);
        let parts: [&[u8]; 9] = [
            "é".as_bytes(),
            "漢".as_bytes(),
            "👩‍🚀".as_bytes(),
            b"ab",
            b"\xf0\x9f",
            b"\xe2",
            b"\x80",
            b"\xc0",
            b"\xed\xa0",
        ];
        for round in 0..20_000 {
            let bytes: Vec<u8> = (0..below(8)).flat_map(|_| parts[below(parts.len())].iter().copied()).collect();
            let (mut assembler, mut out, mut at) = (Utf8Assembler::new(), String::new(), 0);
            while at < bytes.len() {
                let to = (at + 1 + below(3)).min(bytes.len());
                assembler.push(&bytes[at..to], &mut out);
                at = to;
            }
            assembler.finish(&mut out);
            assert_eq!(out, String::from_utf8_lossy(&bytes), "round {round}: {bytes:x?}");
        }
    }

    #[test]
    fn half_a_character_waits() {
        let (mut assembler, mut out) = (Utf8Assembler::new(), String::new());
        assembler.push(b"a\xe6\xbc", &mut out);
        assert_eq!((out.as_str(), assembler.held()), ("a", 2));
        assembler.push(b"\xa2b", &mut out);
        assert_eq!(out, "a漢b");
    }
}
