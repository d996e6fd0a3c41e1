//! Caches of models with sliding windows: which cells may be lost, and the bits of logits where windows have few cells.

use std::sync::Arc;

use cllm::llama::{Context, ContextParams, KvLayout, LlamaDecoder, Model};
use cllm::types::seams::{Decoder, Outcome};
use cllm::types::{Pos, SeqId, Token};

use super::dice::Dice;
use super::models::{GEMMA3, real_model};
use super::{alone, bits, block, decoder, differing, forget, keeping, loaded, marks, params, read, row, shapes, text};

/// Most rows of a step where windows have few cells: as many cells as that are added to the windows.
const WINDOW_ROWS_MAX: usize = 64;

fn window_params(seqs: u16, cells: u32, layout: KvLayout) -> ContextParams {
    ContextParams { windows_only: true, rows_max: WINDOW_ROWS_MAX, ..params(seqs, cells, layout) }
}

/// As `decoder_with`, with cells for windows only.
pub fn windows_with(model: &Arc<Model>, seqs: u16, spare: u16, cells: u32, layout: KvLayout) -> LlamaDecoder {
    let context = Context::new(model.clone(), &window_params(seqs + spare, cells, layout)).expect("a context");
    assert!(context.windows_only());
    LlamaDecoder::new(context, layout, seqs, WINDOW_ROWS_MAX)
}

/// llama.cpp gives cells that a sequence's next token would not see to another sequence. If the first sequence is then
/// cut to an earlier position, the decoder refuses; continued from its end, it gives the same bits as before.
#[test]
fn a_sequence_that_lost_cells_behind_its_window_is_not_cut_to_where_it_would_see_them() {
    for (path, len) in shapes() {
        let model = loaded(&path);
        std::fs::remove_file(&path).expect("it is there");
        let Some(window) = model.window().map(|tokens| tokens as usize) else { continue };
        let whole = text(&model, 6, len + window);
        let wanted = alone(&model, &whole);
        let mut decoder = decoder(&model, 4, 2_048);
        read(&mut decoder, 0, &text(&model, 1, 20), 0, || 64);
        let begun = window + 60;
        read(&mut decoder, 1, &whole[..begun], 0, || 64);
        let cut = |decoder: &mut LlamaDecoder, len: usize| decoder.seq_remove(SeqId(1), Pos(len as u32)..Pos::MAX);
        assert!(decoder.seq_copy(SeqId(1), SeqId(2), 40), "nothing is lost yet");
        forget(&mut decoder, 2);
        // Another text takes the cells of the first, and behind those the first ones of the second.
        forget(&mut decoder, 0);
        read(&mut decoder, 0, &text(&model, 2, 60), 0, || 64);
        let was = path.display();
        assert!(!decoder.seq_copy(SeqId(1), SeqId(3), 40) && decoder.seq_pos_max(SeqId(3)).is_none(), "{was}: a copy");
        assert!(!cut(&mut decoder, 40), "{was}: its first tokens are gone");
        assert_eq!(decoder.seq_pos_max(SeqId(1)), Some(Pos(begun as u32 - 1)), "{was}: nothing has changed");
        assert!(cut(&mut decoder, begun - 1), "{was}: the end of a text whose window is whole");
        let found = read(&mut decoder, 1, &whole, begun - 1, || 30);
        assert!(!found.is_empty() && differing(&found, &wanted).is_empty(), "{was}");
    }
}

/// The cells of a window are reused in the order of the buffer, not of positions: later tokens of a text may be gone
/// while its first one is still there.
#[test]
fn a_sequence_that_lost_cells_amid_its_window_is_neither_cut_nor_saved_there() {
    for (path, len) in shapes() {
        let model = loaded(&path);
        std::fs::remove_file(&path).expect("it is there");
        let Some(window) = model.window().map(|tokens| tokens as usize) else { continue };
        let was = path.display();
        let whole = text(&model, 6, len + window);
        let wanted = alone(&model, &whole);
        let begun = window + 180;
        let mut decoder = keeping(&model, 4, 2_048);
        // Positions 24 to 47 lie before positions 0 to 23.
        read(&mut decoder, 0, &text(&model, 1, 20), 0, || 20);
        read(&mut decoder, 3, &text(&model, 3, 24), 0, || 24);
        read(&mut decoder, 1, &whole[..24], 0, || 24);
        forget(&mut decoder, 3);
        read(&mut decoder, 1, &whole[..begun], 24, || 8);
        let mut block_0 = Vec::new();
        assert!(decoder.save(SeqId(1), block(0), &mut block_0), "{was}: nothing is lost yet");
        // Another text takes the cells of the first one, and behind those the ones of positions 24 to 43.
        forget(&mut decoder, 0);
        read(&mut decoder, 2, &text(&model, 2, 40), 0, || 40);
        assert!(!decoder.save(SeqId(1), block(0), &mut Vec::new()), "{was}: some of its cells are gone");
        let mut block_1 = Vec::new();
        assert!(
            decoder.save(SeqId(1), block(1), &mut block_1) && block_0.len() == block_1.len(),
            "{was}: all are there"
        );
        assert!(!decoder.seq_copy(SeqId(1), SeqId(3), 50), "{was}: a copy");
        assert!(!decoder.seq_remove(SeqId(1), Pos(50)..Pos::MAX), "{was}: a cut");
        assert!(decoder.seq_remove(SeqId(1), Pos(begun as u32 - 1)..Pos::MAX), "{was}: its window is whole");
        let found = read(&mut decoder, 1, &whole, begun - 1, || 30);
        assert!(!found.is_empty() && differing(&found, &wanted).is_empty(), "{was}");
    }
}

/// Cells for windows only, which sequences take from each other as windows move on, with steps of all sizes of which the end is taken back
/// now and then. Each row's logits are those of a cache that keeps everything.
#[test]
fn logits_have_the_same_bits_where_windows_have_few_cells() {
    const SEQS: u16 = 4;
    let real = real_model(GEMMA3).map(|path| (path, 900, 1));
    let small = shapes().into_iter().map(|(path, len)| (path, 2 * len, SEQS));
    for (path, len, seqs) in small.chain(real) {
        let model = loaded(&path);
        if seqs > 1 {
            std::fs::remove_file(&path).expect("it is there");
        }
        let Some(window) = model.window() else { continue };
        let texts: Vec<Vec<Token>> =
            (0..seqs).map(|seq| text(&model, u64::from(seq), len + 11 * usize::from(seq))).collect();
        let wanted: Vec<_> = texts.iter().map(|text| alone(&model, text)).collect();
        let layouts = [KvLayout::Pool, KvLayout::Separate];
        for layout in layouts.into_iter().take(if seqs > 1 { 2 } else { 1 }) {
            let cells = 4_096;
            let few = Context::new(model.clone(), &window_params(seqs, cells, layout)).expect("a context");
            let all = Context::new(model.clone(), &params(seqs, cells, layout)).expect("a context");
            let [few, all] = [few, all].map(|context| context.memory_bytes().expect("it says so"));
            println!("{}, {layout:?}: {few} bytes of cells, {all} where windows have all", path.display());
            assert!(few * 4 < all * 3, "{few} of {all}");
            let mut decoder = windows_with(&model, seqs, 0, cells, layout);
            let (mut at, mut dice, mut steps) = (vec![0; usize::from(seqs)], Dice::new(3), 0);
            while (0..usize::from(seqs)).any(|seq| at[seq] < texts[seq].len()) {
                let (mut step, begun) = (Vec::new(), at.clone());
                for (seq, text) in (0..).zip(&texts) {
                    let from = at[usize::from(seq)];
                    let most = *dice.pick(&[2, WINDOW_ROWS_MAX / usize::from(seqs)]);
                    let end = text.len().min(from + dice.within(0..=most));
                    let marks = marks(text.len());
                    step.extend((from..end).map(|pos| row(seq, text, pos, marks.contains(&pos))));
                    at[usize::from(seq)] = end;
                }
                if step.is_empty() {
                    continue;
                }
                assert_eq!(decoder.decode(&step), Outcome::Done, "{}, {layout:?}", path.display());
                for (i, row) in step.iter().enumerate().filter(|(_, row)| row.wants_logits) {
                    let found = [(row.pos.0 as usize, bits(&mut decoder, i))];
                    let differ = differing(&found, &wanted[row.seq.index()]);
                    assert!(differ.is_empty(), "{}, {layout:?}, sequence {:?}: {differ:?}", path.display(), row.seq);
                }
                for seq in 0..usize::from(seqs) {
                    let (end, id) = (at[seq], SeqId(seq as u16));
                    if end > begun[seq] && begun[seq] > 0 && dice.chance(0.2) {
                        at[seq] = dice.within(begun[seq]..=end - 1);
                        let cut = Pos(at[seq] as u32)..Pos::MAX;
                        assert!(decoder.seq_remove(id, cut), "{}: the latest step's rows", path.display());
                        assert_eq!(decoder.seq_pos_max(id), Some(Pos(at[seq] as u32 - 1)));
                    }
                }
                steps += 1;
            }
            let far = Pos(len as u32 - window - 20)..Pos::MAX;
            assert!(!decoder.seq_remove(SeqId(0), far), "{}: its window is gone", path.display());
            println!("{}, {layout:?}: {steps} steps", path.display());
        }
    }
}
