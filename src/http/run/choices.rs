//! The answers of one request as they come: one of them, or `n` at once, each taken apart into what was said.
//!
//! One HTTP thread waits for all of them. A listener hears the same events in the same order for one choice, however
//! the pieces arrived: a stream and a whole answer are made of the same.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::failure::{Failure, failure_of};
use super::submit::Accepted;
use crate::chat::{OutputParser, Said};
use crate::constrain::wait_any;
use crate::handoff::{Canceller, Pace, State, Wake};
use crate::http::service::Service;
use crate::tokenizer::TextAssembler;
use crate::types::{Piece, Terminal, Token, TokenLogprobs};

/// A token of the text and how likely it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    pub token: Token,
    /// Characters of the text that begin before it.
    pub text_offset: usize,
    pub scores: TokenLogprobs,
}

/// What is told of answers as they come.
pub trait Listener {
    /// How likely the tokens of choice number `choice`'s prompt were, all but the first: before anything else of it, where
    /// that was asked for.
    fn scored_prompt(&mut self, _choice: usize, _scores: Vec<TokenLogprobs>) {}

    /// Choice number `choice` ends with a token that is no part of its text: before `ended`, where scores were asked for.
    fn ended_by(&mut self, _choice: usize, _last: Scored) {}

    /// How long to sleep at most before `looked` is called, for a listener that tells what no piece says. `None`: until there is
    /// a piece.
    fn looks_every(&self) -> Option<Duration> {
        None
    }

    /// A sleep is over, pieces or not: before these are told.
    fn looked(&mut self) {}

    /// Choice number `choice` has another token. What it says of that comes later, or not at all.
    fn took(&mut self, _choice: usize, _token: Token) {}

    /// Choice number `choice` said something. `scored` holds the tokens whose scores were not taken yet.
    fn said(&mut self, choice: usize, said: Said<'_>, scored: &mut Vec<Scored>);

    /// It has ended; `n_calls` tools were called.
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
    /// What is known of the prompt has been told.
    prompt_told: bool,
    end: Option<Terminal>,
    own: Buffers,
}

/// What an answer is read into. Its thread keeps the memory for the next request.
#[derive(Default)]
struct Buffers {
    /// Pieces that were read and are not told yet.
    pieces: Vec<Piece>,
    /// Text that is certain and was not parsed yet.
    shown: String,
}

thread_local! {
    static BUFFERS: Cell<Buffers> = Cell::default();
}

impl Buffers {
    /// Pieces, and bytes of text: memory for more isn't kept.
    const KEPT_MAX: usize = 4_096;

    fn keep(mut self) {
        if self.pieces.capacity() <= Buffers::KEPT_MAX && self.shown.capacity() <= Buffers::KEPT_MAX {
            self.pieces.clear();
            self.shown.clear();
            BUFFERS.set(self);
        }
    }
}

impl Drop for Choice {
    fn drop(&mut self) {
        std::mem::take(&mut self.own).keep();
    }
}

/// Tokens with their scores, held until their text is certain.
#[derive(Default)]
struct Log {
    unread: Vec<TokenLogprobs>,
    /// With the byte each begins at, and how many it has.
    held: VecDeque<(usize, usize, Scored)>,
    certain: Vec<Scored>,
    bytes: usize,
    chars: usize,
}

impl Choices {
    /// `parser` makes the parser of each; `with_marks`: it reads the marks that the vocabulary keeps silent.
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
            own: BUFFERS.take(),
        };
        Choices { list: accepted.into_iter().map(choice).collect() }
    }

    /// Handles with which another thread ends them all.
    pub fn cancellers(&self) -> Vec<Canceller> {
        self.list.iter().map(|choice| choice.accepted.reader.canceller()).collect()
    }

    /// Sleeps until all have ended, or one of them must be read, or `until`; then tells all there is. Returns whether all have
    /// ended.
    pub fn wait_for_end(&mut self, service: &Service, listener: &mut impl Listener, until: Option<Instant>) -> bool {
        self.sleep(until, Wake::AtEnd);
        self.tell(service, listener)
    }

    /// Sleeps until there is something to write, as `pace` has it, or all have ended, or a sign of life is due; then tells all
    /// there is. Returns whether all have ended.
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

    /// Returns whether what `wish` names has happened to any of them before the deadline.
    fn sleep(&mut self, deadline: Option<Instant>, wish: Wake) -> bool {
        match self.list.as_mut_slice() {
            // An ended one says so again.
            [one] => one.accepted.reader.wait(deadline, wish) != State::TimedOut,
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

    /// How the choices ended, without the ones that have not.
    pub fn ends(&self) -> impl Iterator<Item = &Terminal> {
        self.list.iter().filter_map(|choice| choice.end.as_ref())
    }

    /// Why the first of them failed that did.
    pub fn failure(&self) -> Option<Failure> {
        let failure = |choice: &Choice| failure_of(choice.end?.reason, choice.accepted.constrained_by.as_deref());
        self.list.iter().find_map(failure)
    }
}

impl Choice {
    fn tell(&mut self, service: &Service, index: usize, listener: &mut impl Listener) {
        if self.log.is_some() && !self.prompt_told && self.accepted.reader.poll(Wake::EachPiece).is_some() {
            self.prompt_told = true;
            let scores = self.accepted.reader.prompt_scores();
            scores.into_iter().for_each(|scores| listener.scored_prompt(index, scores));
        }
        loop {
            self.pieces(service, index, listener);
            // The end often stands right behind the last pieces, and is told with them.
            match self.accepted.reader.poll(Wake::EachPiece) {
                None | Some(State::TimedOut) => return,
                Some(State::Pieces) => {}
                Some(State::Finished(end)) => {
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
        let Buffers { pieces, shown } = &mut self.own;
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
        // Characters are counted where they begin.
        self.chars += bytes.iter().filter(|byte| **byte & 0xC0 != 0x80).count();
        self.release(piece.text_end as usize);
    }

    /// Makes tokens certain whose text begins within the first `text_end` bytes.
    fn release(&mut self, text_end: usize) {
        let is_certain =
            |(start, len, _): &(usize, usize, Scored)| *start < text_end || (*len == 0 && *start <= text_end);
        while self.held.front().is_some_and(is_certain) {
            self.certain.extend(self.held.pop_front().map(|(_, _, scored)| scored));
        }
    }

    /// What a stop string cut off isn't part of the text.
    fn finish(&mut self, end: &Terminal) {
        self.release(end.text_end as usize);
        self.held.clear();
    }
}
