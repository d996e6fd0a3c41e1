//! A reply reader that follows the request's grammar while it reads: for streams, whole answers and the command line alike.

use std::collections::VecDeque;
use std::time::Instant;

use super::thinking::Guide;
use crate::handoff::{self, Canceller, ReplyReader, State, Wake};
use crate::types::{Piece, Token, TokenLogprobs, Verdict};

/// Like the `ReplyReader` in it. A request without a constraint reads just as before.
pub struct GuidedReader {
    reader: ReplyReader,
    guide: Option<Guide>,
    n_read: usize,
    /// What is still to come of the path that was given last.
    ahead: VecDeque<Token>,
    /// Something has come that the path doesn't say.
    is_to_look: bool,
}

impl GuidedReader {
    /// Publishes what may come first: call it before the request is submitted, so that its prefill waits for nothing.
    pub fn new(mut reader: ReplyReader, mut guide: Option<Guide>) -> GuidedReader {
        if let Some(guide) = &mut guide {
            let verdict = guide.verdict();
            reader.publish(verdict, guide.mask());
        }
        let is_to_look = guide.is_some();
        GuidedReader { reader, guide, n_read: 0, ahead: VecDeque::new(), is_to_look }
    }

    /// As `ReplyReader::wait`; a constrained request's reader is needed after each piece, whatever its caller wishes for. Looks ahead
    /// first.
    pub fn wait(&mut self, deadline: Option<Instant>, wish: Wake) -> State {
        self.look_ahead();
        self.reader.wait(deadline, self.needed(wish))
    }

    /// Tells the engine how the text may go on, if that is wanted and new: after what was read has been passed on, before the thread
    /// sleeps.
    pub fn look_ahead(&mut self) {
        let Some(guide) = self.guide.as_ref().filter(|_| std::mem::take(&mut self.is_to_look)) else { return };
        let mut path = self.reader.new_path();
        guide.look_ahead(&mut path);
        self.ahead.extend(path.steps().iter().map(|step| step.token));
        if !self.ahead.is_empty() {
            self.reader.publish_path(path);
        }
    }

    /// As `ReplyReader::poll`.
    pub fn poll(&self, wish: Wake) -> Option<State> {
        self.reader.poll(self.needed(wish))
    }

    fn needed(&self, wish: Wake) -> Wake {
        if self.guide.is_some() { Wake::EachPiece } else { wish }
    }

    /// As `ReplyReader::read_into`, and before anything is done with the pieces, the engine is told what may follow them.
    pub fn read_into(&mut self, out: &mut Vec<Piece>) -> usize {
        self.read_scored_into(out, &mut Vec::new())
    }

    /// As `ReplyReader::read_scored_into`, likewise.
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

    /// As `ReplyReader::prompt_scores`.
    pub fn prompt_scores(&self) -> Option<Vec<TokenLogprobs>> {
        self.reader.prompt_scores()
    }

    /// As `ReplyReader::end_scores`.
    pub fn end_scores(&self) -> Option<(Token, TokenLogprobs)> {
        self.reader.end_scores()
    }

    /// Pieces read so far.
    pub fn n_read(&self) -> usize {
        self.n_read
    }

    /// As `ReplyReader::published`.
    pub fn published(&self) -> u64 {
        self.reader.published()
    }

    /// As `ReplyReader::canceller`.
    pub fn canceller(&self) -> Canceller {
        self.reader.canceller()
    }
}

/// As `handoff::wait_any`; if one of them is constrained, all are looked at after each piece.
pub fn wait_any<'a>(
    readers: impl Iterator<Item = &'a GuidedReader> + Clone,
    deadline: Option<Instant>,
    wish: Wake,
) -> bool {
    let constrained = readers.clone().any(|reader| reader.guide.is_some());
    let wish = if constrained { Wake::EachPiece } else { wish };
    handoff::wait_any(readers.map(|reader| &reader.reader), deadline, wish)
}
