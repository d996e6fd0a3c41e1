//! The answers of one request while they are generated: one, or `n` at the same time, each separated into content,
//! thoughts and calls.
//!
//! One HTTP thread waits for all of them. For one choice a listener gets the same events in the same order, however the
//! pieces arrived, so streams and whole answers are made of the same events.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::LocalKey;
use std::time::{Duration, Instant};

use super::failure::{GenerationFailure, failure_of};
use super::kept::{Keep, Kept};
use super::submit::Accepted;
use crate::chat::{OutputParser, Said};
use crate::constrain::wait_any;
use crate::handoff::{Canceller, Pace, ReplyState, Wake};
use crate::http::service::Service;
use crate::tokenizer::TextAssembler;
use crate::types::limits::CHOICE_KEPT_MAX;
use crate::types::{Piece, Terminal, Token, TokenLogprobs};

/// A token of the text and its log probabilities.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The token.
    pub token: Token,
    /// Characters of the text before the token.
    pub text_offset: usize,
    /// Its log probability and those of alternatives.
    pub scores: TokenLogprobs,
}

/// Gets the events of answers while they are generated.
pub trait Listener {
    /// The log probabilities of the prompt of choice number `choice`, except its first token's. Called before all other
    /// events of the choice, if the request asked for them.
    fn scored_prompt(&mut self, _choice: usize, _scores: Vec<TokenLogprobs>) {}

    /// Choice number `choice` ended with a token that isn't part of its text. Called before `ended`, if the request
    /// asked for log probabilities.
    fn ended_by(&mut self, _choice: usize, _last: Scored) {}

    /// The longest sleep before `looked` is called, for a listener that also reports values that don't come with
    /// pieces. `None`: sleep until there is a piece.
    fn looks_every(&self) -> Option<Duration> {
        None
    }

    /// Called after each sleep, with or without pieces, before the events of the pieces.
    fn looked(&mut self) {}

    /// Choice number `choice` has one more token. Its text follows in a later event, if it has any.
    fn took(&mut self, _choice: usize, _token: Token) {}

    /// Choice number `choice` has more content, thought or call. `scored` holds the tokens whose log probabilities
    /// weren't taken yet.
    fn said(&mut self, choice: usize, said: Said<'_>, scored: &mut Vec<Scored>);

    /// Choice number `choice` has ended, with `n_calls` calls of tools.
    fn ended(&mut self, choice: usize, end: &Terminal, n_calls: usize, scored: &mut Vec<Scored>);
}

/// All answers of one request.
pub struct Choices {
    list: Vec<Choice>,
}

struct Choice {
    accepted: Accepted,
    text: TextAssembler,
    parser: OutputParser,
    with_marks: bool,
    log: Option<Log>,
    /// Whether the prompt's log probabilities were reported.
    prompt_told: bool,
    end: Option<Terminal>,
    own: Kept<Buffers>,
}

/// Buffers for reading an answer.
#[derive(Default)]
struct Buffers {
    /// Pieces that were read and not reported yet.
    pieces: Vec<Piece>,
    /// Text that is final and wasn't parsed yet.
    shown: String,
}

thread_local! {
    static BUFFERS: Cell<Buffers> = Cell::default();
}

impl Keep for Buffers {
    fn place() -> &'static LocalKey<Cell<Self>> {
        &BUFFERS
    }

    fn clear(&mut self) -> bool {
        self.pieces.clear();
        self.shown.clear();
        self.pieces.capacity() <= CHOICE_KEPT_MAX && self.shown.capacity() <= CHOICE_KEPT_MAX
    }
}

/// Tokens with their log probabilities, held back until their text is final.
#[derive(Default)]
struct Log {
    unread: Vec<TokenLogprobs>,
    /// (byte of the text at which the token begins, its length in bytes, token).
    held: VecDeque<(usize, usize, Scored)>,
    certain: Vec<Scored>,
    bytes: usize,
    chars: usize,
}

impl Choices {
    /// `parser` makes the parser of each answer. `with_marks`: the parser reads marks that are control tokens, whose
    /// text the vocabulary doesn't show.
    pub fn new(
        accepted: Vec<Accepted>,
        with_logprobs: bool,
        with_marks: bool,
        parser: impl Fn() -> OutputParser,
    ) -> Choices {
        let choice = |accepted| Choice {
            accepted,
            text: TextAssembler::default(),
            parser: parser(),
            with_marks,
            log: with_logprobs.then(Log::default),
            prompt_told: false,
            end: None,
            own: Kept::take(),
        };
        Choices { list: accepted.into_iter().map(choice).collect() }
    }

    /// Handles with which another thread cancels all answers.
    pub fn cancellers(&self) -> Vec<Canceller> {
        self.list.iter().map(|choice| choice.accepted.reader.canceller()).collect()
    }

    /// Sleeps until all answers have ended, or one of them must be read, or `until`; then reports all events. Returns
    /// whether all have ended.
    pub fn wait_for_end(&mut self, service: &Service, listener: &mut impl Listener, until: Option<Instant>) -> bool {
        self.sleep(until, Wake::AtEnd);
        self.tell(service, listener)
    }

    /// Sleeps until there is something to write, as `pace` decides, or all answers have ended, or a keep-alive is due;
    /// then reports all events. Returns whether all have ended.
    pub fn wait_for_text(&mut self, service: &Service, pace: &mut Pace, listener: &mut impl Listener) -> bool {
        match listener.looks_every() {
            None => pace.wait(|until, wish| self.sleep(until, wish)),
            Some(every) => {
                let look_at = || Instant::now().checked_add(every);
                pace.wait(|until, wish| self.sleep(until.into_iter().chain(look_at()).min(), wish));
                listener.looked();
            }
        }
        pace.look_on(|| self.list.iter().map(|choice| choice.accepted.reader.published()).sum());
        self.tell(service, listener)
    }

    /// Returns whether the event `wish` has happened to any answer before the deadline.
    fn sleep(&mut self, deadline: Option<Instant>, wish: Wake) -> bool {
        match self.list.as_mut_slice() {
            // A reply that has ended reports its end again.
            [one] => one.accepted.reader.wait(deadline, wish) != ReplyState::TimedOut,
            many => {
                many.iter_mut().for_each(|choice| choice.accepted.reader.look_ahead());
                let unended = many.iter().filter(|choice| choice.end.is_none());
                wait_any(unended.map(|choice| &choice.accepted.reader), deadline, wish)
            }
        }
    }

    fn tell(&mut self, service: &Service, listener: &mut impl Listener) -> bool {
        for (index, choice) in self.list.iter_mut().enumerate().filter(|(_, choice)| choice.end.is_none()) {
            choice.tell(service, index, listener);
        }
        self.list.iter().all(|choice| choice.end.is_some())
    }

    /// The terminals of the answers that have ended.
    pub fn ends(&self) -> impl Iterator<Item = &Terminal> {
        self.list.iter().filter_map(|choice| choice.end.as_ref())
    }

    /// The failure of the first answer that failed.
    pub fn failure(&self) -> Option<GenerationFailure> {
        let failure = |choice: &Choice| failure_of(choice.end?.reason, choice.accepted.constrained_by.as_deref());
        self.list.iter().find_map(failure)
    }
}

impl Choice {
    fn tell(&mut self, service: &Service, index: usize, listener: &mut impl Listener) {
        if self.log.is_some() && !self.prompt_told {
            // Nothing is read before this: a piece that comes between a poll and a read would be told ahead of the prompt.
            match self.accepted.reader.poll(Wake::EachPiece) {
                None | Some(ReplyState::TimedOut) => return,
                Some(ReplyState::Pieces | ReplyState::Finished(_)) => self.prompt_told = true,
            }
            let scores = self.accepted.reader.prompt_scores();
            scores.into_iter().for_each(|scores| listener.scored_prompt(index, scores));
        }
        loop {
            self.pieces(service, index, listener);
            // The terminal often follows the last pieces at once, and is then reported with them.
            match self.accepted.reader.poll(Wake::EachPiece) {
                None | Some(ReplyState::TimedOut) => return,
                Some(ReplyState::Pieces) => {}
                Some(ReplyState::Finished(end)) => {
                    self.accepted.ended(&end);
                    let shown = &mut self.own.shown;
                    shown.clear();
                    self.text.finish(end.text_end, shown);
                    let mut certain = Vec::new();
                    if let Some(log) = &mut self.log {
                        log.finish(&end);
                        certain = std::mem::take(&mut log.certain);
                    }
                    let mut tell = |said: Said<'_>| listener.said(index, said, &mut certain);
                    self.parser.push(shown, &mut tell);
                    self.parser.finish(&mut tell);
                    if let (Some(log), Some((token, scores))) = (&self.log, self.accepted.reader.end_scores()) {
                        listener.ended_by(index, Scored { token, text_offset: log.chars, scores });
                    }
                    listener.ended(index, &end, self.parser.n_calls(), &mut certain);
                    self.end = Some(end);
                    return;
                }
            }
        }
    }

    fn pieces(&mut self, service: &Service, index: usize, listener: &mut impl Listener) {
        let table = service.parts.tokenizer.table();
        let mut none = Vec::new();
        let Buffers { pieces, shown } = &mut *self.own;
        match &mut self.log {
            None => self.accepted.reader.read_into(pieces),
            Some(log) => self.accepted.reader.read_scored_into(pieces, &mut log.unread),
        };
        let mut unread = self.log.as_mut().map(|log| std::mem::take(&mut log.unread).into_iter());
        for piece in pieces.drain(..) {
            listener.took(index, piece.token);
            if self.with_marks
                && let Some(mark) = service.mark_of(piece.token)
            {
                self.text.mark(Arc::clone(mark));
            }
            let certain_now = match self.text.pass(piece, table) {
                Some(text) => text,
                None => {
                    shown.clear();
                    self.text.push(piece, table, shown);
                    shown.as_str()
                }
            };
            if let (Some(log), Some(scores)) = (&mut self.log, unread.as_mut().and_then(Iterator::next)) {
                log.push(piece, table.bytes(piece.token), scores);
            }
            if !certain_now.is_empty() {
                let certain = self.log.as_mut().map_or(&mut none, |log| &mut log.certain);
                self.parser.push(certain_now, &mut |said| listener.said(index, said, certain));
            }
        }
    }
}

impl Log {
    fn push(&mut self, piece: Piece, bytes: &[u8], scores: TokenLogprobs) {
        let scored = Scored { token: piece.token, text_offset: self.chars, scores };
        self.held.push_back((self.bytes, bytes.len(), scored));
        self.bytes += bytes.len();
        // A character counts for the token with its first byte.
        self.chars += bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
        self.release(piece.text_end as usize);
    }

    /// Releases the tokens whose text begins within the first `text_end` bytes.
    fn release(&mut self, text_end: usize) {
        let is_certain =
            |(start, len, _): &(usize, usize, Scored)| *start < text_end || (*len == 0 && *start <= text_end);
        while self.held.front().is_some_and(is_certain) {
            self.certain.extend(self.held.pop_front().map(|(_, _, scored)| scored));
        }
    }

    /// Text that a stop string cut off isn't part of the answer.
    fn finish(&mut self, end: &Terminal) {
        self.release(end.text_end as usize);
        self.held.clear();
    }
}
