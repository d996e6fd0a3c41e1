//! How a constrained text goes on where its grammar leaves little open: keys of JSON, what stands between them, the rest of an enum.
//!
//! A copy of the grammar goes ahead of the text. What bytes it forces is certain; where it may only choose a blank before what is
//! forced, the blank is guessed to be the one that stood between the same characters before. Which tokens the bytes are is the
//! sampler's choice, so they are guessed to be those that the tokenizer makes; beside each stands what may come behind it.

use super::follow::Follower;
use crate::tokenizer::Tokenizer;
use crate::types::limits::{PATH_BEGINS_WITHIN, PATH_BYTES_MAX, PATH_TOKENS_MAX};
use crate::types::{Path, Token, Verdict};

#[cfg(test)]
mod tests;

/// Behind it, what a grammar with blanks forces shows.
const A_BLANK: &[u8] = b" ";

/// The longest run of blanks that is remembered.
const BLANK_BYTES_MAX: usize = 24;

/// The blanks of a text: which stood between two characters, last.
#[derive(Debug, Default)]
pub struct Blanks {
    /// The latest byte that is no blank, and the blanks behind it.
    before: u8,
    run: Vec<u8>,
    /// By the bytes before and behind. JSON has about ten pairs.
    seen: Vec<(u8, u8, Vec<u8>)>,
}

const PAIRS_MAX: usize = 32;

impl Blanks {
    /// The text goes on with `bytes`.
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
                    None if self.seen.len() < PAIRS_MAX => self.seen.push((pair.0, pair.1, self.run.clone())),
                    None => {}
                }
            }
            self.before = *byte;
            self.run.clear();
        }
    }

    /// What stands between these two characters, as far as is known: as before, or as in `{"a": 1, "b": 2}`, with each key on a
    /// line of its own where the first one is.
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

/// Puts into `path` how the text goes on behind `last`, its latest token. `answer` is at its end, and its mask the latest. Nothing, if
/// too much is open.
pub fn look(answer: &Follower, tokenizer: &Tokenizer, blanks: &Blanks, last: Option<Token>, path: &mut Path) {
    if answer.mask().len() > PATH_BEGINS_WITHIN {
        return;
    }
    let bytes = bytes_ahead(answer, blanks);
    let tokens = tokens_of(&bytes, tokenizer, last);
    go(answer, &tokens, path);
}

/// Puts into `path` what may come behind each of `tokens`, as far as they are allowed.
pub fn go(answer: &Follower, tokens: &[Token], path: &mut Path) {
    let Some(first) = tokens.first().filter(|first| answer.mask().allows(**first)) else { return };
    let mut scout = answer.scout();
    let mut is_certain = answer.mask().len() == 1;
    let mut next = Some(first);
    for behind in (1..=tokens.len()).take(PATH_TOKENS_MAX) {
        let Some(token) = next else { break };
        scout.take(*token);
        let verdict = scout.verdict();
        // An error may be the looking's own: what comes is found out when it has come.
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

/// The bytes that come next where the grammar leaves nothing open but blanks.
fn bytes_ahead(answer: &Follower, blanks: &Blanks) -> Vec<u8> {
    let mut ahead = answer.forced();
    let (mut before, mut run) = (blanks.before, blanks.run.as_slice());
    while ahead.len() < PATH_BYTES_MAX {
        if let Some(last) = ahead.last() {
            (before, run) = (*last, &[]);
        }
        // Behind a blank it shows what is forced there.
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

/// `bytes` as the tokenizer has them behind the text's latest token. Without the last of them where that is a blank, which is mostly
/// of one token with what comes behind it.
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
