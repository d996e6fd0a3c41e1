//! The real decoder over real models with the default layout, compared bit for bit: a row's logits equal those that it has
//! alone, whatever other rows the step has, however its prompt was cut, and wherever its cells lie in the buffer.
//!
//! `CLLM_BITS_MODEL=FILE` names one more model.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cllm::llama::{
    Context, ContextParams, FlashAttention, KvLayout, LlamaDecoder, Model, ModelParams, ThreadpoolParams,
};
use cllm::synth::{Quant, Spec};
use cllm::types::seams::{Decoder, Outcome, Row};
use cllm::types::{KvTypes, Pos, SeqId, Token};

#[path = "../support/dice.rs"]
mod dice;
#[path = "../support/models.rs"]
mod models;
mod threads;
mod windows;

use dice::Dice;
use models::{GEMMA3, SMOLLM2, real_model};
use windows::windows_with;

const ROWS_MAX: usize = 512;

/// The models, each with a length of text that exceeds the model's window, if it has one.
fn models() -> Vec<(PathBuf, usize)> {
    let more = std::env::var_os("CLLM_BITS_MODEL").map(|path| (PathBuf::from(path), 150));
    let real = [(SMOLLM2, 150), (GEMMA3, 560)];
    real.into_iter().filter_map(|(name, len)| Some((real_model(name)?, len))).chain(more).collect()
}

/// The small shapes of each kind of memory with random weights: hybrid, recurrent, and two with sliding windows of 64 and 128 tokens.
fn shapes() -> Vec<(PathBuf, usize)> {
    // Tests of one process may run at the same time, and each removes its files.
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let own = format!("{}-{}", std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed));
    let written = |name: &&str| {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("bits-{name}-{own}.gguf"));
        Spec::named(name, Quant::Q4KM, 2026).expect("a shape").write(&path, true, |_| {}).expect("there is room");
        (path, 200)
    };
    ["lfm2-tiny", "mamba-tiny", "gemma3-tiny", "gpt-oss-tiny"].iter().map(written).collect()
}

fn loaded(path: &Path) -> Arc<Model> {
    Arc::new(Model::load(&ModelParams::new(path), &mut |_| true).expect("it loads"))
}

fn decoder(model: &Arc<Model>, seqs: u16, cells: u32) -> LlamaDecoder {
    decoder_of(model, seqs, cells, KvLayout::Pool)
}

fn decoder_of(model: &Arc<Model>, seqs: u16, cells: u32, layout: KvLayout) -> LlamaDecoder {
    decoder_with(model, seqs, 0, cells, layout)
}

/// A decoder whose context has `spare` sequences more than `seqs`.
fn decoder_with(model: &Arc<Model>, seqs: u16, spare: u16, cells: u32, layout: KvLayout) -> LlamaDecoder {
    let context = Context::new(model.clone(), &params(seqs + spare, cells, layout)).expect("a context");
    LlamaDecoder::new(context, layout, seqs, ROWS_MAX)
}

fn params(seqs: u16, cells_total: u32, layout: KvLayout) -> ContextParams {
    ContextParams {
        cells_total,
        seqs,
        layout,
        rows_max: ROWS_MAX,
        outputs_max: 64,
        kv_types: KvTypes::F16,
        windows_only: false,
        flash_attention: FlashAttention::Auto,
        threadpool: ThreadpoolParams { threads: 1, cores: Vec::new(), poll: 0 },
    }
}

fn text(model: &Model, seed: u64, len: usize) -> Vec<Token> {
    let mut dice = Dice::new(seed);
    (0..len).map(|_| Token(dice.below(model.n_vocab().min(20_000)) as u32)).collect()
}

fn row(seq: u16, text: &[Token], pos: usize, wants_logits: bool) -> Row {
    Row { token: text[pos], pos: Pos(pos as u32), seq: SeqId(seq), wants_logits }
}

/// The bits of the logits of row `i` of the latest step.
fn bits(decoder: &mut LlamaDecoder, i: usize) -> Vec<u32> {
    decoder.logits(i).iter().map(|x| x.to_bits()).collect()
}

/// Positions at which logits are compared: the first and last of blocks, and the last of the text.
fn marks(len: usize) -> Vec<usize> {
    let mut marks = vec![
        0,
        1,
        31,
        32,
        33,
        63,
        64,
        127,
        128,
        200,
        255,
        256,
        511,
        512,
        513,
        600,
        1_023,
        1_024,
        1_025,
        1_100,
        len - 1,
    ];
    marks.retain(|mark| *mark < len);
    marks.dedup();
    marks
}

/// Decodes `text` from position `from` on, with `cut` rows in each step, and returns the logits at the marks.
fn read(
    decoder: &mut LlamaDecoder,
    seq: u16,
    text: &[Token],
    from: usize,
    mut cut: impl FnMut() -> usize,
) -> Vec<(usize, Vec<u32>)> {
    let marks = marks(text.len());
    let (mut at, mut found) = (from, Vec::new());
    while at < text.len() {
        let end = text.len().min(at + cut());
        let rows: Vec<Row> = (at..end).map(|pos| row(seq, text, pos, marks.contains(&pos))).collect();
        assert_eq!(decoder.decode(&rows), Outcome::Done);
        for (i, row) in rows.iter().enumerate().filter(|(_, row)| row.wants_logits) {
            found.push((row.pos.0 as usize, bits(decoder, i)));
        }
        at = end;
    }
    found
}

fn forget(decoder: &mut LlamaDecoder, seq: u16) {
    assert!(decoder.seq_remove(SeqId(seq), Pos(0)..Pos::MAX));
}

/// Positions at which the logits of `found` differ from those of `wanted`.
fn differing(found: &[(usize, Vec<u32>)], wanted: &[(usize, Vec<u32>)]) -> Vec<usize> {
    let of = |pos: usize| wanted.iter().find(|(at, _)| *at == pos).expect("a mark");
    found.iter().filter(|(pos, bits)| of(*pos).1 != *bits).map(|(pos, _)| *pos).collect()
}

/// The logits of a text that is alone in the buffer, decoded in as few steps as possible.
fn alone(model: &Arc<Model>, text: &[Token]) -> Vec<(usize, Vec<u32>)> {
    read(&mut decoder(model, 1, 1_024), 0, text, 0, || ROWS_MAX)
}

#[test]
fn logits_have_the_same_bits_however_a_prompt_is_cut() {
    for (path, len) in models() {
        let model = loaded(&path);
        let text = text(&model, 1, len);
        let wanted = alone(&model, &text);
        let mut decoder = decoder(&model, 2, 2_048);
        for way in 0..10 {
            let mut dice = Dice::new(way);
            let mut at = 0;
            let found = read(&mut decoder, 0, &text, 0, || {
                let rows = match way {
                    // The last 60 tokens one by one, like an answer.
                    0 if at < len - 60 => len - 60,
                    0 => 1,
                    1 => 33,
                    2 => 256,
                    _ => 1 + dice.below([15, 40, 100, 400][way as usize % 4]),
                };
                at += rows;
                rows
            });
            forget(&mut decoder, 0);
            assert!(differing(&found, &wanted).is_empty(), "{}, way {way} to cut", path.display());
        }
    }
}

#[test]
fn logits_have_the_same_bits_with_any_number_of_rows_in_the_step() {
    const OTHERS: u16 = 32;
    for (path, _) in models() {
        let model = loaded(&path);
        let mut decoder = decoder(&model, OTHERS + 1, 4_096);
        let texts: Vec<Vec<Token>> =
            (0..=OTHERS).map(|seq| text(&model, u64::from(seq), 40 + usize::from(seq) * 3)).collect();
        for (seq, text) in (0..).zip(&texts) {
            let read_so_far = &text[..text.len() - 1];
            read(&mut decoder, seq, read_so_far, 0, || ROWS_MAX);
        }
        let mut wanted = None;
        for rows in 1..=usize::from(OTHERS) + 1 {
            // The compared row is the last, the first, or between others.
            let order = [rows - 1, 0, rows / 2][rows % 3];
            let mut seqs: Vec<u16> = (1..rows as u16).collect();
            seqs.insert(order, 0);
            let last = |seq: u16| texts[usize::from(seq)].len() - 1;
            let step: Vec<Row> = seqs.iter().map(|&seq| row(seq, &texts[usize::from(seq)], last(seq), true)).collect();
            assert_eq!(decoder.decode(&step), Outcome::Done);
            let found = bits(&mut decoder, order);
            for &seq in &seqs {
                assert!(decoder.seq_remove(SeqId(seq), Pos(last(seq) as u32)..Pos::MAX));
            }
            let wanted = wanted.get_or_insert_with(|| found.clone());
            assert!(found == *wanted, "{}, {rows} rows", path.display());
        }
    }
}

/// Two sequences take cells in turn, one of them is removed, and a third takes its cells and those behind them.
#[test]
fn logits_have_the_same_bits_wherever_the_cells_lie() {
    for (path, len) in models() {
        let model = loaded(&path);
        let third = text(&model, 3, len);
        let wanted = alone(&model, &third);
        let mut decoder = decoder(&model, 4, 1_024);
        let (first, second) = (text(&model, 1, 60), text(&model, 2, 60));
        for pos in 0..60 {
            assert_eq!(decoder.decode(&[row(0, &first, pos, false), row(1, &second, pos, false)]), Outcome::Done);
        }
        forget(&mut decoder, 0);
        let mut dice = Dice::new(5);
        let found = read(&mut decoder, 2, &third, 0, || 1 + dice.below(40));
        assert!(differing(&found, &wanted).is_empty(), "{}, in holes", path.display());

        // The text wraps around the end of the buffer, where fewer cells are left than it needs.
        forget(&mut decoder, 2);
        forget(&mut decoder, 1);
        let long = text(&model, 4, 600);
        read(&mut decoder, 1, &long, 0, || ROWS_MAX);
        let begun = third.len() / 3;
        read(&mut decoder, 2, &third[..begun], 0, || 50);
        forget(&mut decoder, 1);
        let found = read(&mut decoder, 2, &third, begun, || 7);
        assert!(differing(&found, &wanted).is_empty(), "{}, around the end", path.display());
    }
}

#[test]
fn logits_have_the_same_bits_behind_a_beginning_that_another_sequence_read() {
    for (path, len) in models() {
        let model = loaded(&path);
        let whole = text(&model, 6, len);
        let wanted = alone(&model, &whole);
        let layouts = [KvLayout::Pool, KvLayout::Separate];
        // The second layout only for short texts, because it is slow.
        for layout in layouts.into_iter().take(if len < ROWS_MAX { 2 } else { 1 }) {
            let mut decoder = decoder_of(&model, 3, 3 * 1_024, layout);
            for shared in [1, 32, 77] {
                // The other sequence continues with a different text, or is removed.
                let mut other = whole[..shared].to_vec();
                other.extend(text(&model, 7, 40));
                read(&mut decoder, 0, &other, 0, || 64);
                assert!(decoder.seq_copy(SeqId(0), SeqId(1), shared));
                let going_on = text(&model, 8, other.len() + 30);
                let both = |pos: usize, i: usize| [row(0, &going_on, pos, false), row(1, &whole, shared + i, false)];
                for i in 0..20 {
                    assert_eq!(decoder.decode(&both(other.len() + i, i)), Outcome::Done);
                }
                if shared % 2 == 0 {
                    forget(&mut decoder, 0);
                }
                let mut dice = Dice::new(9);
                let found = read(&mut decoder, 1, &whole, shared + 20, || 1 + dice.below(90));
                assert!(differing(&found, &wanted).is_empty(), "{}, {layout:?}, {shared} shared", path.display());
                forget(&mut decoder, 0);
                forget(&mut decoder, 1);
            }
        }
    }
}

/// For models of each kind of memory, except those whose cache can't be cut. In each step every sequence has a
/// different number of rows.
#[test]
fn logits_have_the_same_bits_in_the_company_of_other_sequences() {
    const SEQS: u16 = 5;
    for (path, len) in shapes() {
        let model = loaded(&path);
        let texts: Vec<Vec<Token>> =
            (0..SEQS).map(|seq| text(&model, u64::from(seq), len + 11 * usize::from(seq))).collect();
        let wanted: Vec<_> = texts.iter().map(|text| alone(&model, text)).collect();
        for layout in [KvLayout::Pool, KvLayout::Separate] {
            let mut decoder = decoder_of(&model, SEQS, u32::from(SEQS) * 512, layout);
            let (mut at, mut dice) = ([0; SEQS as usize], Dice::new(3));
            while (0..usize::from(SEQS)).any(|seq| at[seq] < texts[seq].len()) {
                let mut step = Vec::new();
                for (seq, text) in (0..).zip(&texts) {
                    let from = at[usize::from(seq)];
                    let most = *dice.pick(&[2, 40]);
                    let end = text.len().min(from + dice.below(most));
                    let marks = marks(text.len());
                    step.extend((from..end).map(|pos| row(seq, text, pos, marks.contains(&pos))));
                    at[usize::from(seq)] = end;
                }
                if step.is_empty() {
                    continue;
                }
                assert_eq!(decoder.decode(&step), Outcome::Done);
                for (i, row) in step.iter().enumerate().filter(|(_, row)| row.wants_logits) {
                    let found = [(row.pos.0 as usize, bits(&mut decoder, i))];
                    let differ = differing(&found, &wanted[row.seq.index()]);
                    assert!(differ.is_empty(), "{}, {layout:?}, sequence {:?}: {differ:?}", path.display(), row.seq);
                }
            }
        }
        std::fs::remove_file(path).expect("it is there");
    }
}

/// Tokens of a block that is saved and restored.
const BLOCK: usize = 64;

fn keeping(model: &Arc<Model>, seqs: u16, cells: u32) -> LlamaDecoder {
    decoder_with(model, seqs, 1, cells, KvLayout::Pool).with_spare_sequence()
}

fn block(i: usize) -> std::ops::Range<Pos> {
    Pos((i * BLOCK) as u32)..Pos(((i + 1) * BLOCK) as u32)
}

/// Blocks are saved in one context and restored in others: in one that has made no step, in holes that other texts
/// left, and into cells that held other positions.
#[test]
fn logits_have_the_same_bits_behind_a_beginning_that_was_restored() {
    for (path, len) in models() {
        let model = loaded(&path);
        let whole = text(&model, 6, len);
        let wanted = alone(&model, &whole);
        let (mut source, blocks) = (keeping(&model, 2, 1_024), (len - 1) / BLOCK);
        read(&mut source, 1, &text(&model, 7, 40), 0, || 9);
        read(&mut source, 0, &whole, 0, || 100);
        let saved: Vec<Vec<u8>> = (0..blocks)
            .map(|i| {
                let mut bytes = Vec::new();
                assert!(source.save(SeqId(0), block(i), &mut bytes), "{}, block {i}", path.display());
                bytes
            })
            .collect();
        assert!(saved.iter().all(|bytes| bytes.len() == saved[0].len()), "blocks are of one size");
        println!("{}: {} bytes a block of {BLOCK}", path.display(), saved[0].len());
        let restored = |decoder: &mut LlamaDecoder, how: &str| {
            for (i, bytes) in saved.iter().enumerate() {
                assert!(decoder.restore(SeqId(2), block(i), bytes), "{}, {how}, block {i}", path.display());
                assert_eq!(decoder.seq_pos_max(SeqId(2)), Some(Pos(((i + 1) * BLOCK - 1) as u32)));
            }
            let found = read(decoder, 2, &whole, blocks * BLOCK, || 3);
            assert!(!found.is_empty() && differing(&found, &wanted).is_empty(), "{}, {how}", path.display());
            forget(decoder, 2);
        };
        restored(&mut keeping(&model, 3, 1_024), "before the first step");

        let mut decoder = keeping(&model, 3, 2_048);
        let (first, second) = (text(&model, 1, 300), text(&model, 2, 300));
        for pos in 0..300 {
            assert_eq!(decoder.decode(&[row(0, &first, pos, false), row(1, &second, pos, false)]), Outcome::Done);
        }
        forget(&mut decoder, 0);
        restored(&mut decoder, "in holes");
        // A step between two restores, and cells that held other positions of the same text.
        read(&mut decoder, 0, &whole, 0, || 77);
        forget(&mut decoder, 1);
        restored(&mut decoder, "again");
        assert!(!decoder.restore(SeqId(2), block(0), &saved[0][..saved[0].len() - 1]), "half a block");
        assert!(blocks < 2 || !decoder.restore(SeqId(2), block(0), &saved[1]), "another block");
        assert_eq!(decoder.seq_pos_max(SeqId(2)), None, "nothing has changed");
    }
}

/// Of models that can't be cut, and of those whose windows have few cells: states are saved where a sequence was, with the cells since the one before or as a whole, and restored in
/// other contexts one after the other, in the company of others.
#[test]
fn logits_have_the_same_bits_behind_a_state_that_was_restored() {
    for (path, len) in shapes() {
        let model = loaded(&path);
        std::fs::remove_file(&path).expect("it is there");
        let whole = text(&model, 6, len);
        let wanted = alone(&model, &whole);
        let keeping = |seqs, layout| match (model.is_recurrent(), model.can_cut()) {
            (true, _) => decoder_of(&model, seqs, 2_048, layout).with_whole_sequences(),
            (false, false) => decoder_with(&model, seqs, 1, 2_048, KvLayout::Pool).with_spare_sequence(),
            (false, true) => windows_with(&model, seqs, 1, 2_048, KvLayout::Pool).with_spare_sequence(),
        };
        let ends = [50, 100, 150, 177];
        let piece = |i: usize| {
            let is_first = i == 0 || model.is_recurrent();
            Pos(if is_first { 0 } else { ends[i - 1] as u32 })..Pos(ends[i] as u32)
        };
        let mut source = keeping(2, KvLayout::Pool);
        read(&mut source, 1, &text(&model, 7, 40), 0, || 9);
        let (mut saved, mut from) = (Vec::new(), 0);
        for (i, end) in ends.into_iter().enumerate() {
            read(&mut source, 0, &whole[..end], from, || 23);
            let mut bytes = Vec::new();
            let late = Pos(0)..Pos(end as u32 - 1);
            assert!(!source.save(SeqId(0), late, &mut bytes) && bytes.is_empty(), "a state of other tokens");
            assert!(source.save(SeqId(0), piece(i), &mut bytes), "{}, state {i}", path.display());
            saved.push(bytes);
            from = end;
        }
        println!("{}: {} bytes a state", path.display(), saved[0].len());
        // Saving changed nothing.
        assert!(differing(&read(&mut source, 0, &whole, from, || 5), &wanted).is_empty(), "{}", path.display());
        for layout in [KvLayout::Pool, KvLayout::Separate] {
            let mut decoder = keeping(3, layout);
            read(&mut decoder, 1, &text(&model, 8, 90), 0, || 17);
            for last in [3, 1, 2, 0] {
                let pieces = if model.is_recurrent() { last..last + 1 } else { 0..last + 1 };
                for i in pieces {
                    let short = &saved[i][..saved[i].len() - 1];
                    assert!(!decoder.restore(SeqId(2), piece(i), short), "{}, state {i}", path.display());
                    assert!(decoder.restore(SeqId(2), piece(i), &saved[i]), "{}, state {i}", path.display());
                    assert_eq!(decoder.seq_pos_max(SeqId(2)), Some(Pos(ends[i] as u32 - 1)));
                    // Another sequence goes on between two pieces.
                    read(&mut decoder, 0, &text(&model, 9, 12), 0, || 5);
                    forget(&mut decoder, 0);
                }
                let found = read(&mut decoder, 2, &whole, ends[last], || 3);
                assert!(!found.is_empty() && differing(&found, &wanted).is_empty(), "{}, {last}", path.display());
                forget(&mut decoder, 2);
            }
        }
    }
}

/// Of models that can't be cut, and of those whose windows have few cells: a sequence goes back to a checkpoint, and another continues from
/// it, in both layouts.
#[test]
fn logits_have_the_same_bits_behind_a_checkpoint() {
    const KEPT: usize = 77;
    for (path, len) in shapes() {
        let model = loaded(&path);
        std::fs::remove_file(&path).expect("it is there");
        let whole = text(&model, 6, len);
        let wanted = alone(&model, &whole);
        let mut other = whole[..KEPT].to_vec();
        other.extend(text(&model, 7, 60));
        for layout in [KvLayout::Pool, KvLayout::Separate] {
            let mut decoder = match model.can_cut() {
                true => windows_with(&model, 3, 0, 3 * 512, layout),
                false => decoder_of(&model, 3, 3 * 512, layout),
            };
            assert!(decoder.checkpoint_rule().is_some());
            read(&mut decoder, 0, &whole[..KEPT], 0, || 30);
            let state = decoder.checkpoint(SeqId(0)).expect("a state");
            read(&mut decoder, 0, &other, KEPT, || 13);
            assert!(!decoder.seq_remove(SeqId(0), Pos(KEPT as u32)..Pos::MAX), "it can't be cut");
            assert!(!decoder.seq_copy(SeqId(0), SeqId(1), KEPT), "its state is another");
            // Another sequence first, while the source holds more tokens.
            let in_place_only = model.can_cut() && layout == KvLayout::Separate;
            for (from, to) in [(0, 1), (0, 2), (0, 0), (1, 1)] {
                if in_place_only && to > 0 {
                    assert!(from == to || !decoder.resume(SeqId(from), SeqId(to), KEPT, &state));
                    assert_eq!(decoder.seq_pos_max(SeqId(to)), None, "nothing has changed");
                    continue;
                }
                assert!(decoder.resume(SeqId(from), SeqId(to), KEPT, &state), "{layout:?}, {from} to {to}");
                assert_eq!(decoder.seq_pos_max(SeqId(to)), Some(Pos(KEPT as u32 - 1)));
                let mut dice = Dice::new(9);
                let found = read(&mut decoder, to, &whole, KEPT, || 1 + dice.below(40));
                assert!(!found.is_empty());
                let differ = differing(&found, &wanted);
                assert!(differ.is_empty(), "{}, {layout:?}, {from} to {to}: {differ:?}", path.display());
            }
            if in_place_only {
                continue;
            }
            // A whole sequence can be copied without a checkpoint.
            forget(&mut decoder, 2);
            assert!(decoder.resume(SeqId(0), SeqId(2), KEPT, &state));
            forget(&mut decoder, 1);
            assert!(decoder.seq_copy(SeqId(2), SeqId(1), KEPT));
            let found = read(&mut decoder, 1, &whole, KEPT, || 21);
            assert!(differing(&found, &wanted).is_empty(), "{}, {layout:?}, a copy", path.display());
        }
    }
}
