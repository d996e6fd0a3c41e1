//! GPT-2's byte alphabet: writes each byte as one printable character, so that vocabularies are text.

use std::sync::LazyLock;

/// The character of each byte: the byte's own if it is printable, otherwise the next one from U+0100 on.
static CHARS: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut next = 0x100;
    std::array::from_fn(|b| match b {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => b as u8 as char,
        _ => {
            next += 1;
            char::from_u32(next - 1).expect("a letter of Latin Extended-A")
        }
    })
});

/// The byte of each character below U+0180.
static BYTES: LazyLock<[Option<u8>; 0x180]> = LazyLock::new(|| {
    let mut bytes = [None; 0x180];
    CHARS.iter().enumerate().for_each(|(b, &c)| bytes[c as usize] = Some(b as u8));
    bytes
});

/// The character that stands for `byte`.
pub fn char_of(byte: u8) -> char {
    CHARS[byte as usize]
}

fn byte_of(c: char) -> Option<u8> {
    *BYTES.get(c as usize)?
}

/// The bytes that a token's text stands for; `None` if a character isn't in the alphabet.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    std::str::from_utf8(text).ok()?.chars().map(byte_of).collect()
}

/// Like `decode`, and renders characters that aren't in the alphabet as llama.cpp does.
pub fn decode_lossy(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for c in String::from_utf8_lossy(text).chars() {
        match byte_of(c) {
            Some(byte) => out.push(byte),
            None => {
                out.extend_from_slice(b"[UNK_BYTE_0x");
                let mut utf8 = [0; 4];
                let hex = c.encode_utf8(&mut utf8).bytes().map(|b| format!("{b:02x}")).collect::<String>();
                out.extend_from_slice(hex.as_bytes());
                out.extend_from_slice(text);
                out.push(b']');
            }
        }
    }
    out
}

/// The text that stands for `bytes`.
pub fn encode(bytes: &[u8]) -> String {
    bytes.iter().map(|&b| char_of(b)).collect()
}
