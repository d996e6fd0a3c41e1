//! Texts of several sections of attention, which several threads compute together.

use std::sync::Arc;

use cllm::llama::{Context, ContextParams, KvLayout, LlamaDecoder, Model, ThreadpoolParams};
use cllm::types::seams::{Decoder, Outcome, Row};

use super::{ROWS_MAX, bits, differing, loaded, marks, models, params, read, row, text};

fn decoder_with_threads(model: &Arc<Model>, threads: usize) -> LlamaDecoder {
    let threadpool = ThreadpoolParams { threads, cores: Vec::new(), poll: 0 };
    let params = ContextParams { threadpool, ..params(2, 4_096, KvLayout::Pool) };
    LlamaDecoder::new(Context::new(model.clone(), &params).expect("a context"), KvLayout::Pool, 2, ROWS_MAX)
}

/// A long text is read in large steps by one thread. Then it is read in smaller steps, and its last 60 tokens one, two or three at a time
/// beside a short text, by one thread and by two.
#[test]
fn logits_of_a_long_text_have_the_same_bits_with_any_number_of_threads() {
    const LEN: usize = 1_150;
    for (path, _) in models() {
        let model = loaded(&path);
        let (long, short) = (text(&model, 1, LEN), text(&model, 2, 200));
        let wanted = read(&mut decoder_with_threads(&model, 1), 0, &long, 0, || ROWS_MAX);
        for threads in 1..=2 {
            let mut decoder = decoder_with_threads(&model, threads);
            let mut found = read(&mut decoder, 0, &long[..LEN - 60], 0, || 190);
            // The end of this part is no mark of the whole text.
            found.retain(|(pos, _)| marks(LEN).contains(pos));
            let mut at = LEN - 60;
            for step in 0.. {
                let end = LEN.min(at + 1 + step % 3);
                let mut rows: Vec<Row> = (at..end).map(|pos| row(0, &long, pos, marks(LEN).contains(&pos))).collect();
                rows.push(row(1, &short, step, false));
                assert_eq!(decoder.decode(&rows), Outcome::Done);
                for (i, row) in rows.iter().enumerate().filter(|(_, row)| row.wants_logits) {
                    found.push((row.pos.0 as usize, bits(&mut decoder, i)));
                }
                at = end;
                if at == LEN {
                    break;
                }
            }
            assert!(found.len() == wanted.len(), "all marks are compared");
            assert!(differing(&found, &wanted).is_empty(), "{}, {threads} threads", path.display());
        }
    }
}
