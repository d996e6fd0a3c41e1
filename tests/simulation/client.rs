//! One client: its request, how it reads, what it received, and whether that is correct.

use std::time::Instant;

use cllm::handoff::{ReplyReader, ReplyState, Wake};
use cllm::types::{FinishReason, Piece, Sequel, Terminal, Token, TokenLogprobs, TokenMask, TokenTable, Verdict};

use crate::dice::Dice;
use crate::oracle::{Answer, Scores};
use crate::shape::{Ask, N_VOCAB};

/// What a client will do besides reading, and before which round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quit {
    /// Cancels its request, and still reads.
    Cancels { round: u64 },
    /// Drops its reader.
    Vanishes { round: u64 },
}

pub struct Client {
    pub id: u64,
    pub ask: Ask,
    pub arrived_us: u64,
    pub deadline_us: Option<u64>,
    pub quit: Option<Quit>,
    /// The probability that it reads, in each round.
    pub reads: f64,
    /// The probability that it has computed a mask, in each round.
    pub thinks: f64,
    /// The probability that it publishes a path with a mask.
    pub looks_ahead: f64,
    pub will: Vec<Token>,
    pub gave_path: bool,
    /// The verdict on the next token that it has not published yet.
    pub owes: Option<(Verdict, TokenMask)>,
    pub reader: Option<ReplyReader>,
    pub cancelled: bool,
    pub pieces: Vec<Piece>,
    /// The log probabilities that came with the pieces.
    pub scores: Vec<TokenLogprobs>,
    pub terminal: Option<Terminal>,
}

impl Client {
    /// Whether it has its terminal.
    pub fn is_done(&self) -> bool {
        self.terminal.is_some() || self.reader.is_none()
    }

    /// Cancels or leaves if its round has come.
    pub fn maybe_quit(&mut self, round: u64) {
        match self.quit {
            Some(Quit::Cancels { round: when }) if when <= round && !self.cancelled => {
                self.cancelled = true;
                self.reader.as_ref().expect("it still reads").cancel();
            }
            Some(Quit::Vanishes { round: when }) if when <= round => {
                self.cancelled = true;
                self.reader = None;
            }
            _ => {}
        }
    }

    /// Reads with its probability. Returns whether this was the end.
    pub fn maybe_read(&mut self, dice: &mut Dice, long_ago: Instant) -> bool {
        if !dice.chance(self.reads) || self.terminal.is_some() {
            return false;
        }
        self.read();
        let Some(reader) = &mut self.reader else { return false };
        if let ReplyState::Finished(terminal) = reader.wait(Some(long_ago), Wake::EachPiece) {
            self.terminal = Some(terminal);
        }
        self.terminal.is_some()
    }

    /// Reads the pieces that are there, and returns their number.
    pub fn read(&mut self) -> usize {
        let Some(reader) = &mut self.reader else { return 0 };
        let count = reader.read_scored_into(&mut self.pieces, &mut self.scores);
        if let Some(grammar) = self.ask.grammar.filter(|_| count > 0) {
            // Along a path several pieces may come, also while an earlier mask is still unpublished.
            assert!(self.owes.is_none() || self.gave_path, "a token came without its mask");
            assert!(count == 1 || self.gave_path, "tokens came without their masks");
            self.owes = Some(grammar.next(&self.tokens()));
        }
        count
    }

    /// Publishes its verdict with its probability.
    pub fn maybe_publish(&mut self, dice: &mut Dice) {
        if self.owes.is_some() && dice.chance(self.thinks) {
            let (owed, reader) = (self.owes.take(), self.reader.as_mut());
            if let (Some((verdict, mask)), Some(reader)) = (owed, reader) {
                reader.publish(verdict, &mask);
                self.maybe_look_ahead(dice);
            }
        }
    }

    /// Publishes a path with its probability: mostly the right tokens, some of them wrong.
    fn maybe_look_ahead(&mut self, dice: &mut Dice) {
        let (Some(grammar), true) = (self.ask.grammar, dice.chance(self.looks_ahead)) else { return };
        let mut tokens = self.tokens();
        let Some(reader) = &mut self.reader else { return };
        let mut path = reader.new_path();
        let (mut verdict, mut mask) = grammar.next(&tokens);
        for _ in 0..dice.within(1..=8) {
            let is_allowed = |token: &Token| verdict == Verdict::Allow && mask.allows(*token);
            let will = self.will.get(tokens.len()).copied().filter(|token| is_allowed(token) && dice.chance(0.9));
            let any = (0..N_VOCAB as u32).map(Token).filter(is_allowed).collect::<Vec<_>>();
            let Some(token) = will.or_else(|| (!any.is_empty()).then(|| *dice.pick(&any))) else { break };
            tokens.push(token);
            (verdict, mask) = grammar.next(&tokens);
            path.push(token, any.len() == 1, verdict, &mask);
        }
        // Also what may follow a later token, without masks: often what follows it in the answer.
        if let [behind, tokens @ ..] = &self.will[self.will.len().min(tokens.len() + dice.below(4))..] {
            let mut tokens = tokens[..tokens.len().min(dice.within(1..=6))].to_vec();
            tokens.push(Token(dice.below(N_VOCAB) as u32));
            path.sequels.push(Sequel { behind: *behind, tokens });
        }
        if !path.is_empty() {
            self.gave_path = true;
            reader.publish_path(path);
        }
    }

    /// The time at which its terminal was written.
    pub fn ended_us(&self, terminal: &Terminal) -> u64 {
        self.arrived_us + terminal.queue_us + terminal.prefill_us + terminal.decode_us
    }

    pub fn tokens(&self) -> Vec<Token> {
        self.pieces.iter().map(|piece| piece.token).collect()
    }

    /// All log probabilities of the finished reply.
    fn all_scores(&self) -> Scores {
        let reader = self.reader.as_ref().expect("it reads");
        let prompt = reader.prompt_scores().unwrap_or_default();
        Scores { prompt, own: self.scores.clone(), last: reader.end_scores() }
    }

    /// Compares the finished reply with the answer that this request gets alone. `fits`: whether it could be served at
    /// all. Returns whether it ended with an error that the request itself doesn't explain.
    pub fn check(&self, terminal: &Terminal, alone: &Answer, table: &TokenTable, fits: bool) -> bool {
        let tokens = self.tokens();
        assert_eq!(terminal.generated_tokens as usize, tokens.len(), "generated tokens aren't the pieces");
        assert_eq!(terminal.prompt_tokens as usize, self.ask.prompt.len());
        assert!(terminal.cached_tokens < terminal.prompt_tokens, "the last prompt token must be decoded");
        self.check_text_ends(terminal, table);
        let all: usize = tokens.iter().map(|token| table.bytes(*token).len()).sum();
        match terminal.reason {
            reason @ (FinishReason::Eos | FinishReason::Stop | FinishReason::Length | FinishReason::Grammar) => {
                assert!(fits, "it can't fit");
                let got = Answer { tokens, reason, text_end: terminal.text_end as usize, scores: self.all_scores() };
                assert_eq!(got, *alone, "not the answer it gets alone");
                return false;
            }
            FinishReason::EngineError if alone.reason == FinishReason::EngineError && tokens == alone.tokens => {
                return false;
            }
            FinishReason::EngineError if !fits => {
                assert!(tokens.is_empty());
                return false;
            }
            FinishReason::Cancelled => assert!(self.cancelled, "nobody cancelled"),
            FinishReason::Deadline => {
                let deadline = self.deadline_us.expect("a deadline");
                assert!(self.ended_us(terminal) >= deadline, "before the deadline");
            }
            FinishReason::Embedded => panic!("it asked for text"),
            FinishReason::Shutdown | FinishReason::EngineError => {}
        }
        assert!(alone.tokens.starts_with(&tokens), "cut off, and not a beginning of {alone:?}: {tokens:?}");
        let may_have_all =
            matches!(alone.reason, FinishReason::Eos | FinishReason::EngineError | FinishReason::Grammar)
                || self.ask.params.max_tokens == 0;
        assert!(may_have_all || tokens.len() < alone.tokens.len(), "it was complete");
        assert_eq!(terminal.text_end as usize, all, "what was generated stands");
        terminal.reason == FinishReason::EngineError
    }

    /// Checks that the final part of the text only grows, and never beyond the text.
    fn check_text_ends(&self, terminal: &Terminal, table: &TokenTable) {
        let (mut bytes, mut shown) = (0, 0);
        for piece in &self.pieces {
            bytes += table.bytes(piece.token).len();
            let text_end = piece.text_end as usize;
            assert!(shown <= text_end && text_end <= bytes, "text_end {text_end} after {shown} of {bytes}");
            shown = text_end;
        }
        assert!(shown <= terminal.text_end as usize, "text was shown and then taken back");
    }
}
