//! The properties of characters that llama.cpp uses: category, white space, lower case, first character of the
//! decomposition.
//!
//! The standard library and the regex crates follow newer versions of Unicode. Ids must equal llama.cpp's, so the data of
//! its version is in `unicode_data.rs`.

use std::sync::LazyLock;

use super::unicode_data::{CATEGORY_RUNS, DECOMPOSED, LOWERCASE, WHITE_SPACE};

/// Flag of every character, so that 0 means "after the end". The further flags give the category or a property, and are
/// llama.cpp's.
pub const KNOWN: u8 = 1;
/// Flag of category N.
pub const NUMBER: u8 = 2;
/// Flag of category L.
pub const LETTER: u8 = 4;
/// Flag of category M.
pub const MARK: u8 = 8;
/// Flag of category P.
pub const PUNCTUATION: u8 = 16;
/// Flag of category S.
pub const SYMBOL: u8 = 32;
/// Flag of category C.
pub const CONTROL: u8 = 64;
/// Flag of white space.
pub const SPACE: u8 = 128;

static FLAGS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let of_category = [0, NUMBER, LETTER, 0, MARK, PUNCTUATION, SYMBOL, CONTROL];
    let mut flags = vec![KNOWN; 0x11_0000];
    for (i, &run) in CATEGORY_RUNS.iter().enumerate() {
        let end = CATEGORY_RUNS.get(i + 1).map_or(0x11_0000, |next| next >> 4) as usize;
        flags[(run >> 4) as usize..end].iter_mut().for_each(|f| *f |= of_category[(run & 15) as usize]);
    }
    WHITE_SPACE.iter().for_each(|&c| flags[c as usize] |= SPACE);
    flags
});

/// The flags of all code points, one byte for each. Built when it is first used.
pub fn flags() -> &'static [u8] {
    &FLAGS
}

/// The lower case of `c`, as one character.
pub fn lower(c: u32) -> u32 {
    let i = LOWERCASE.partition_point(|&(first, ..)| first <= c);
    match LOWERCASE[..i].last() {
        Some(&(first, last, step, delta)) if c <= last && (c - first).is_multiple_of(step) => {
            c.wrapping_add_signed(delta)
        }
        _ => c,
    }
}

/// The first character of the canonical decomposition of `c`.
pub fn decomposed(c: u32) -> u32 {
    let i = DECOMPOSED.partition_point(|&(first, ..)| first <= c);
    match DECOMPOSED[..i].last() {
        Some(&(_, last, to)) if c <= last => to,
        _ => c,
    }
}

/// Whether the Kimi pre-tokenizer treats `c` as a Han character.
pub fn is_han(c: u32) -> bool {
    matches!(c, 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x20000..=0x2a6df | 0x2a700..=0x2ebef
        | 0x2f800..=0x2fa1f)
}

/// Whether BERT's normaliser makes `c` a word of its own. (llama.cpp has 0x2b920 where 0x2b820 would be expected.)
pub fn is_bert_chinese(c: u32) -> bool {
    matches!(c, 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x20000..=0x2a6df | 0x2a700..=0x2b81f
        | 0x2b920..=0x2ceaf | 0x2f800..=0x2fa1f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_have_their_category() {
        let of = |c: char| flags()[c as usize];
        assert_eq!(of('a'), KNOWN | LETTER);
        assert_eq!(of('٣'), KNOWN | NUMBER);
        assert_eq!(of('\u{301}'), KNOWN | MARK);
        assert_eq!(of('\n'), KNOWN | CONTROL | SPACE);
        assert_eq!(of('\u{3000}'), KNOWN | SPACE);
        assert_eq!(lower('Å' as u32), 'å' as u32);
        assert_eq!(lower('İ' as u32), 'i' as u32);
        assert_eq!(decomposed('é' as u32), 'e' as u32);
    }
}
