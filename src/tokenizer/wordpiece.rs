//! BERT's WordPiece as in llama.cpp: words are normalised, get a space mark in front, and are cut by longest match.
//!
//! A word of which some part matches no token becomes one unknown token.

use super::unicode::{self, CONTROL, MARK, PUNCTUATION, SPACE, SYMBOL};
use super::vocab::Vocab;

/// The lengths that tokens have, so that other lengths aren't looked up.
#[derive(Debug)]
pub struct WordPiece {
    lengths: Vec<usize>,
}

impl WordPiece {
    /// Collects the lengths of the tokens in `vocab`.
    pub fn new(vocab: &Vocab) -> WordPiece {
        let mut lengths: Vec<usize> = (0..vocab.len() as u32).map(|id| vocab.texts.text(id).len()).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.dedup();
        WordPiece { lengths }
    }

    /// Appends the ids of `text`.
    ///
    /// # Errors
    /// The text has an unknown word, and the vocabulary has no unknown token.
    pub fn encode(&self, vocab: &Vocab, text: &str, out: &mut Vec<u32>) -> Result<(), String> {
        let mut word = String::new();
        let table = unicode::flags();
        for c in text.chars() {
            let c = if vocab.strip_accents { unicode::decomposed(c as u32) } else { c as u32 };
            let flags = table[c as usize];
            if flags & SPACE != 0 {
                self.end_word(vocab, &mut word, out)?;
                continue;
            }
            if c == 0 || c == 0xfffd || flags & CONTROL != 0 || (vocab.strip_accents && flags & MARK != 0) {
                continue;
            }
            let lower = if vocab.lowercase { unicode::lower(c) } else { c };
            let lower = char::from_u32(lower).expect("lower case of a character");
            let alone = flags & PUNCTUATION != 0 || (c < 0x7f && flags & SYMBOL != 0) || unicode::is_bert_chinese(c);
            if alone {
                self.end_word(vocab, &mut word, out)?;
                word.push(lower);
                self.end_word(vocab, &mut word, out)?;
            } else {
                word.push(lower);
            }
        }
        self.end_word(vocab, &mut word, out)
    }

    fn end_word(&self, vocab: &Vocab, word: &mut String, out: &mut Vec<u32>) -> Result<(), String> {
        if word.is_empty() {
            return Ok(());
        }
        let marked = format!("\u{2581}{word}");
        word.clear();
        let before = out.len();
        let mut rest = marked.as_bytes();
        while !rest.is_empty() {
            let longest = self.lengths.iter().filter(|&&n| n <= rest.len());
            match longest.filter_map(|&n| Some((n, vocab.texts.get(&rest[..n])?))).next() {
                Some((n, token)) => {
                    out.push(token);
                    rest = &rest[n..];
                }
                None => {
                    out.truncate(before);
                    break;
                }
            }
        }
        if out.len() == before {
            out.push(vocab.unk.ok_or("the vocabulary has no unknown token")?.0);
        }
        Ok(())
    }
}
