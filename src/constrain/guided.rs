//! A reply reader that follows the request's grammar while it reads. Used for streams, whole answers and the command
//! line.

use std::collections::VecDeque;
use std::time::Instant;

use super::thinking::Guide;
use crate::handoff::{self, Canceller, ReplyReader, ReplyState, Wake};
use crate::types::{Piece, Token, TokenLogprobs, Verdict};

/// Wraps a `ReplyReader`. For a request without a constraint it changes nothing.
pub struct GuidedReader {
    reader: ReplyReader,
    guide: Option<Guide>,
    n_read: usize,
    /// Tokens of the latest path that the text hasn't reached yet.
    ahead: VecDeque<Token>,
    /// Whether the text has left the latest path, or has passed its end.
    is_to_look: bool,
}

impl GuidedReader {
    /// Publishes which tokens may come first. To be called before the request is submitted, so that its prefill needn't
    /// wait for the mask.
    pub fn new(mut reader: ReplyReader, mut guide: Option<Guide>) -> GuidedReader {
        if let Some(guide) = &mut guide {
            let verdict = guide.verdict();
            reader.publish(verdict, guide.mask());
        }
        let is_to_look = guide.is_some();
        GuidedReader { reader, guide, n_read: 0, ahead: VecDeque::new(), is_to_look }
    }

    /// Like `ReplyReader::wait`. For a constrained request it waits for each piece, whatever `wish` is, because each
    /// piece needs a mask. Looks ahead first.
    pub fn wait(&mut self, deadline: Option<Instant>, wish: Wake) -> ReplyState {
        self.look_ahead();
        self.reader.wait(deadline, self.needed(wish))
    }

    /// Publishes how the text may go on, if that is wanted and new. Called after the pieces read were passed on and
    /// before the thread sleeps, so that it delays no text.
    pub fn look_ahead(&mut self) {
        let Some(guide) = self.guide.as_mut().filter(|_| std::mem::take(&mut self.is_to_look)) else { return };
        let mut path = self.reader.new_path();
        guide.look_ahead(&mut path);
        self.ahead.extend(path.steps().iter().map(|step| step.token));
        if !path.is_empty() {
            self.reader.publish_path(path);
        }
    }

    /// Like `ReplyReader::poll`.
    pub fn poll(&self, wish: Wake) -> Option<ReplyState> {
        self.reader.poll(self.needed(wish))
    }

    fn needed(&self, wish: Wake) -> Wake {
        if self.guide.is_some() { Wake::EachPiece } else { wish }
    }

    /// Like `ReplyReader::read_into`. Publishes which tokens may follow before it returns the pieces.
    pub fn read_into(&mut self, out: &mut Vec<Piece>) -> usize {
        self.read_scored_into(out, &mut Vec::new())
    }

    /// Like `ReplyReader::read_scored_into`. Publishes which tokens may follow before it returns the pieces.
    pub fn read_scored_into(&mut self, out: &mut Vec<Piece>, scores: &mut Vec<TokenLogprobs>) -> usize {
        let count = self.reader.read_scored_into(out, scores);
        self.n_read += count;
        if let Some(guide) = &mut self.guide
            && count > 0
        {
            for Piece { token, .. } in &out[out.len() - count..] {
                guide.take(*token);
                if self.ahead.pop_front() != Some(*token) {
                    self.ahead.clear();
                }
            }
            self.is_to_look = self.ahead.is_empty();
            let verdict = guide.verdict();
            self.reader.publish(verdict, guide.mask());
            if verdict != Verdict::Allow {
                self.guide = None;
            }
        }
        count
    }

    /// Like `ReplyReader::prompt_scores`.
    pub fn prompt_scores(&self) -> Option<Vec<TokenLogprobs>> {
        self.reader.prompt_scores()
    }

    /// Like `ReplyReader::end_scores`.
    pub fn end_scores(&self) -> Option<(Token, TokenLogprobs)> {
        self.reader.end_scores()
    }

    /// The number of pieces read so far.
    pub fn n_read(&self) -> usize {
        self.n_read
    }

    /// Like `ReplyReader::published`.
    pub fn published(&self) -> u64 {
        self.reader.published()
    }

    /// Like `ReplyReader::canceller`.
    pub fn canceller(&self) -> Canceller {
        self.reader.canceller()
    }
}

/// Like `handoff::wait_any`. If one of the readers is constrained, it waits for each piece of all.
pub fn wait_any<'a>(
    readers: impl Iterator<Item = &'a GuidedReader> + Clone,
    deadline: Option<Instant>,
    wish: Wake,
) -> bool {
    let constrained = readers.clone().any(|reader| reader.guide.is_some());
    let wish = if constrained { Wake::EachPiece } else { wish };
    handoff::wait_any(readers.map(|reader| &reader.reader), deadline, wish)
}
