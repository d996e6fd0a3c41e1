//! Pieces and terminals as machine words, for slots that are made of atomics. Pure functions.

use crate::types::{FinishReason, Piece, Terminal, Token, Verdict};

/// Number of words of a packed terminal.
pub(super) const TERMINAL_WORDS: usize = 9;

/// Bits of the word `ReplySlot::masks` that hold the verdict; the bits above hold the mask's number.
pub(super) const VERDICT_BITS: u32 = 2;

pub(super) fn unpack_verdict(word: u64) -> Verdict {
    [Verdict::Allow, Verdict::Complete, Verdict::Broken, Verdict::DeadEnd]
        .into_iter()
        .find(|verdict| *verdict as u64 == word & 3)
        .expect("the word comes from `publish`")
}

pub(super) fn pack_piece(piece: Piece) -> u64 {
    pair(piece.token.0, piece.text_end)
}

pub(super) fn unpack_piece(word: u64) -> Piece {
    let (token, text_end) = unpair(word);
    Piece { token: Token(token), text_end }
}

pub(super) fn pack_terminal(terminal: &Terminal) -> [u64; TERMINAL_WORDS] {
    [
        pair(terminal.reason as u32, terminal.text_end),
        pair(terminal.generated_tokens, terminal.prompt_tokens),
        pair(terminal.cached_tokens, terminal.stop.map_or(0, |stop| u32::from(stop) + 1)),
        terminal.queue_us,
        terminal.prefill_us,
        terminal.decode_us,
        pair(terminal.thought_tokens, terminal.restored_tokens),
        u64::from(terminal.gave_way),
        pair(terminal.guesses, terminal.guesses_accepted),
    ]
}

pub(super) fn unpack_terminal(words: [u64; TERMINAL_WORDS]) -> Terminal {
    let [ends, tokens, cached, queue_us, prefill_us, decode_us, thought, gave_way, guessed] = words;
    let (reason, text_end) = unpair(ends);
    let (generated_tokens, prompt_tokens) = unpair(tokens);
    let (cached_tokens, stop) = unpair(cached);
    let (guesses, guesses_accepted) = unpair(guessed);
    let (thought_tokens, restored_tokens) = unpair(thought);
    Terminal {
        reason: FinishReason::from_u8(reason as u8).expect("the words come from `pack_terminal`"),
        text_end,
        generated_tokens,
        prompt_tokens,
        cached_tokens,
        thought_tokens,
        restored_tokens,
        guesses,
        guesses_accepted,
        gave_way: gave_way as u32,
        stop: stop.checked_sub(1).map(|stop| stop as u8),
        queue_us,
        prefill_us,
        decode_us,
    }
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn unpair(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}
