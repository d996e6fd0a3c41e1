//! How a constrained text goes on where its grammar leaves little choice: keys of JSON, the punctuation around them,
//! the rest of an enum.
//!
//! A copy of the grammar runs ahead of the text. The bytes that the grammar forces are certain. Where the grammar only
//! chooses white space, the white space that last stood between the same two characters is guessed. The sampler decides
//! which tokens make up the bytes, so the tokenizer's choice is guessed; each token comes with the mask behind it.
//!
//! Within a free string the same is done for the place behind its closing quote, before the text gets there. What a grammar
//! allows there may depend on the string, so these guesses have no masks.

use super::follow::Follower;
use crate::tokenizer::Tokenizer;
use crate::types::limits::{BLANK_BYTES_MAX, BLANK_PAIRS_MAX, PATH_BEGINS_WITHIN, PATH_BYTES_MAX, PATH_TOKENS_MAX};
use crate::types::{Path, Sequel, Token, Verdict};

#[cfg(test)]
mod tests;

/// What ends a string of JSON.
const VALUE_ENDS: [&str; 2] = ["\"", "\","];

/// Appended to find out what the grammar forces after white space.
const A_BLANK: &[u8] = b" ";

/// The white space of a text: the latest run between each pair of characters.
#[derive(Debug, Default)]
pub struct Blanks {
    /// The latest byte that isn't white space, and the white space after it.
    before: u8,
    run: Vec<u8>,
    /// (byte before, byte after, white space between). JSON has about ten pairs.
    seen: Vec<(u8, u8, Vec<u8>)>,
}

impl Blanks {
    /// Records that the text goes on with `bytes`.
    pub fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if byte.is_ascii_whitespace() {
                if self.run.len() <= BLANK_BYTES_MAX {
                    self.run.push(*byte);
                }
                continue;
            }
            if !byte.is_ascii_alphanumeric() && self.run.len() <= BLANK_BYTES_MAX {
                let pair = (self.before, *byte);
                match self.seen.iter().position(|(before, behind, _)| (*before, *behind) == pair) {
                    Some(known) => self.seen[known].2.clone_from(&self.run),
                    None if self.seen.len() < BLANK_PAIRS_MAX => self.seen.push((pair.0, pair.1, self.run.clone())),
                    None => {}
                }
            }
            self.before = *byte;
            self.run.clear();
        }
    }

    /// The white space to expect between these two characters: what stood there before. A key is expected on a line of
    /// its own if the first one was. Otherwise as in `{"a": 1, "b": 2}`.
    fn usual(&self, before: u8, behind: u8) -> &[u8] {
        let seen = |before: u8| self.seen.iter().find(|(at, next, _)| (*at, *next) == (before, behind));
        let on_a_line = || seen(b'{').filter(|(.., run)| before == b',' && run.contains(&b'\n'));
        match (seen(before).or_else(on_a_line), before) {
            (Some((.., run)), _) => run,
            (None, b':' | b',') => b" ",
            (None, _) => b"",
        }
    }
}

/// Whether the text is in a free value: the grammar allows so many tokens that it doesn't determine the next ones. `answer`
/// has read the whole text, and its mask is up to date.
pub fn is_free(answer: &Follower) -> bool {
    answer.mask().len() > PATH_BEGINS_WITHIN
}

/// Fills `path` with how the text goes on behind `last`, its latest token. `answer` as for `is_free`; the text isn't in a
/// free value.
pub fn look(answer: &Follower, tokenizer: &Tokenizer, blanks: &Blanks, last: Option<Token>, path: &mut Path) {
    let bytes = bytes_ahead(answer, blanks.before, &blanks.run, blanks);
    let tokens = tokens_of(&bytes, tokenizer, last);
    go(answer, &tokens, path);
}

/// Fills `path` with `tokens`, as far as they are allowed, and with the mask behind each.
pub fn go(answer: &Follower, tokens: &[Token], path: &mut Path) {
    let Some(first) = tokens.first().filter(|first| answer.mask().allows(**first)) else { return };
    let mut scout = answer.scout();
    let mut is_certain = answer.mask().len() == 1;
    let mut next = Some(first);
    for behind in (1..=tokens.len()).take(PATH_TOKENS_MAX) {
        let Some(token) = next else { break };
        scout.take(*token);
        let verdict = scout.verdict();
        // The error may come from looking ahead itself. If not, it comes again when the text gets here.
        if matches!(verdict, Verdict::Broken | Verdict::DeadEnd) {
            break;
        }
        path.push(*token, is_certain, verdict, scout.mask());
        if verdict == Verdict::Complete {
            break;
        }
        is_certain = scout.mask().len() == 1;
        next = tokens.get(behind).filter(|token| scout.mask().allows(**token));
    }
}

/// Adds to `path` what follows the free string in which the text is, behind each token that may end it. `answer` as for
/// `is_free`. Returns whether there is something to expect.
pub fn look_behind_value(answer: &Follower, tokenizer: &Tokenizer, blanks: &Blanks, path: &mut Path) -> bool {
    // With optional fields, it isn't certain that a comma comes behind the quote.
    for end in VALUE_ENDS {
        let (Some(there), Some(before)) = (answer.scout_over(end.as_bytes()), end.bytes().last()) else { continue };
        let bytes = bytes_ahead(&there, before, &[], blanks);
        if bytes.is_empty() {
            continue;
        }
        let mut add = |tokens: Vec<Token>| {
            let Some((behind, rest)) = tokens.split_first().filter(|(_, rest)| !rest.is_empty()) else { return };
            let tokens = rest.iter().copied().take(PATH_TOKENS_MAX).collect();
            path.sequels.push(Sequel { behind: *behind, tokens });
        };
        let whole = tokens_of(&[end.as_bytes(), &bytes].concat(), tokenizer, None);
        let quote = tokenizer.encode(end, false, false).unwrap_or_default();
        if let [quote] = quote[..]
            && whole.first() != Some(&quote)
        {
            add([&[quote], &tokens_of(&bytes, tokenizer, Some(quote))[..]].concat());
        }
        add(whole);
        return true;
    }
    false
}

/// The next bytes behind `before`, which isn't white space, and the white space `run`, as far as the grammar leaves no choice
/// but white space.
fn bytes_ahead(answer: &Follower, mut before: u8, mut run: &[u8], blanks: &Blanks) -> Vec<u8> {
    let mut ahead = answer.forced();
    while ahead.len() < PATH_BYTES_MAX {
        if let Some(last) = ahead.last() {
            (before, run) = (*last, &[]);
        }
        // Behind one blank the grammar shows which byte it forces next.
        let Some(there) = answer.scout_over(&[&ahead, A_BLANK].concat()) else { break };
        let forced = there.forced();
        let Some(starts) = forced.first() else { break };
        let Some(rest) = blanks.usual(before, *starts).strip_prefix(run) else { break };
        let longer = [&ahead, rest, &forced].concat();
        if answer.scout_over(&longer).is_none() {
            break;
        }
        ahead = longer;
    }
    ahead
}

/// The tokens of `bytes` after the text's latest token. A last token that is a blank is dropped, because the tokenizer
/// usually joins it with what follows.
fn tokens_of(bytes: &[u8], tokenizer: &Tokenizer, last: Option<Token>) -> Vec<Token> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    };
    let encode = |text: &str| tokenizer.encode(text, false, false).unwrap_or_default();
    let before = last.and_then(|last| std::str::from_utf8(tokenizer.table().bytes(last)).ok()).unwrap_or_default();
    let mut tokens = encode(&[before, text].concat());
    let is_behind = !before.is_empty() && tokens.first() == last.as_ref();
    match is_behind {
        true => _ = tokens.remove(0),
        false => tokens = encode(text),
    }
    let is_blank = |token: &Token| tokenizer.table().bytes(*token).iter().all(u8::is_ascii_whitespace);
    if tokens.last().is_some_and(is_blank) {
        tokens.pop();
    }
    tokens
}
