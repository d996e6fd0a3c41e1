//! What a generation says on the wire, and the text that its pieces add up to.

use serde_json::{Value, json};

use super::submit::Accepted;
use crate::tokenizer::Utf8Assembler;
use crate::types::{FinishReason, Piece, Terminal, TokenTable};

/// Puts pieces together to text, which it gives out up to where it can't be taken back.
#[derive(Default)]
pub struct TextAssembler {
    /// Bytes of all pieces; those before `shown` have been given out.
    bytes: Vec<u8>,
    shown: usize,
    utf8: Utf8Assembler,
}

impl TextAssembler {
    /// Adds a piece and appends to `out` the text that is certain now; perhaps none, never half a character.
    pub fn push(&mut self, piece: Piece, table: &TokenTable, out: &mut String) {
        self.bytes.extend_from_slice(table.bytes(piece.token));
        self.show(piece.text_end as usize, out);
    }

    /// The rest, up to where the text ends.
    pub fn finish(&mut self, text_end: u32, out: &mut String) {
        self.show(text_end as usize, out);
        self.utf8.finish(out);
    }

    fn show(&mut self, end: usize, out: &mut String) {
        let end = end.min(self.bytes.len());
        if end > self.shown {
            self.utf8.push(&self.bytes[self.shown..end], out);
            self.shown = end;
        }
    }
}

/// The `data` of a finished generation.
pub fn generation(accepted: &Accepted, text: &str, end: &Terminal) -> Value {
    let seconds = |us: u64| us as f64 / 1e6;
    let (queue, prefill, decode) = (seconds(end.queue_us), seconds(end.prefill_us), seconds(end.decode_us));
    // The first token comes with the prefill; the others take the decode time.
    let rate = |tokens: u32, s: f64| if s > 0.0 { f64::from(tokens) / s } else { 0.0 };
    json!({
        "id": accepted.id.to_string(),
        "text": text,
        "response_time": queue + prefill + decode,
        "tokens_per_second": rate(end.generated_tokens, prefill + decode),
        "generated_tokens": end.generated_tokens,
        "prompt_tokens": end.prompt_tokens,
        "max_tokens": accepted.max_tokens,
        "finish_reason": end.reason.as_str(),
        "seed": accepted.seed,
        "timings": {
            "queue_s": queue,
            "prefill_s": prefill,
            "decode_s": decode,
            "cached_prompt_tokens": end.cached_tokens,
            "prompt_tokens_per_second": rate(end.prompt_tokens - end.cached_tokens, prefill),
            "decode_tokens_per_second": rate(end.generated_tokens.saturating_sub(1), decode),
        },
    })
}

/// The status of an answer that ended so, and the slug of an error.
pub fn status_of(reason: FinishReason) -> Result<u16, (u16, &'static str, &'static str)> {
    match reason {
        FinishReason::Eos | FinishReason::Stop | FinishReason::Length => Ok(200),
        FinishReason::Deadline => Err((408, "the deadline passed; data holds what was generated", "deadline_exceeded")),
        FinishReason::Cancelled => Err((499, "the client went away", "cancelled")),
        FinishReason::Shutdown => Err((503, "the server is shutting down", "shutting_down")),
        FinishReason::EngineError => Err((500, "the engine could not go on with this request", "engine_error")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Token;

    #[test]
    fn held_back_text_comes_late_and_cut_text_never() {
        let table = TokenTable::new([&b"ab"[..], b"\xc3", b"\xa9!", b"EN"], &[]);
        let mut text = TextAssembler::default();
        let mut out = String::new();
        let mut push = |token, text_end, out: &mut String| {
            text.push(Piece { token: Token(token), text_end }, &table, out);
        };
        push(0, 2, &mut out);
        push(1, 3, &mut out);
        assert_eq!(out, "ab");
        push(2, 5, &mut out);
        assert_eq!(out, "abé!");
        push(3, 5, &mut out);
        text.finish(6, &mut out);
        assert_eq!(out, "abé!E");
    }
}
