//! The real decoder over the built-in model: properties that the engine relies on and a fake can't show.

use std::sync::Arc;

use cllm::config::ModelSource;
use cllm::llama::{
    Context, ContextParams, FlashAttention, KvLayout, LlamaDecoder, Model, ModelParams, ThreadpoolParams,
};
use cllm::model_file::ModelFile;
use cllm::types::seams::{Decoder, Outcome, Row};
use cllm::types::{KvTypes, Pos, SeqId, Token};

const SEQS: u16 = 6;
const ROWS_MAX: usize = 32;

fn decoder() -> LlamaDecoder {
    decoder_of(64)
}

/// A decoder with this many cells for each sequence.
fn decoder_of(cells: u32) -> LlamaDecoder {
    cllm::llama::backend_init();
    let file = ModelFile::open(&ModelSource::BuiltIn).expect("it comes with the program");
    let model = Arc::new(Model::load(&ModelParams::new(file.path()), &mut |_| true).expect("it loads"));
    let params = ContextParams {
        cells_total: cells * u32::from(SEQS),
        seqs: SEQS,
        layout: KvLayout::Separate,
        rows_max: ROWS_MAX,
        outputs_max: usize::from(SEQS),
        kv_types: KvTypes::F16,
        windows_only: false,
        flash_attention: FlashAttention::Off,
        threadpool: ThreadpoolParams { threads: 1, cores: Vec::new(), poll: 0 },
    };
    LlamaDecoder::new(Context::new(model, &params).expect("a context"), KvLayout::Separate, SEQS, ROWS_MAX)
}

fn prompt(seq: u16, len: u32) -> Vec<Row> {
    let last = len - 1;
    (0..len)
        .map(|i| Row {
            token: Token(300 + u32::from(seq) * 31 + i),
            pos: Pos(i),
            seq: SeqId(seq),
            wants_logits: i == last,
        })
        .collect()
}

fn next(seq: u16, pos: u32) -> Row {
    Row { token: Token(500 + u32::from(seq)), pos: Pos(pos), seq: SeqId(seq), wants_logits: true }
}

#[test]
fn idle_sequences_between_busy_ones_lend_a_row_and_keep_what_they_hold() {
    let mut decoder = decoder();
    for seq in [0, 1, 3, 4] {
        assert_eq!(decoder.decode(&prompt(seq, 5)), Outcome::Done);
    }
    let alone: Vec<Vec<f32>> = [0, 4]
        .into_iter()
        .map(|seq| {
            assert_eq!(decoder.decode(&[next(seq, 5)]), Outcome::Done);
            let logits = decoder.logits(0).to_vec();
            assert!(decoder.seq_remove(SeqId(seq), Pos(5)..Pos::MAX));
            logits
        })
        .collect();
    // Sequences 1 and 3 hold five tokens, 2 is empty.
    assert_eq!(decoder.decode(&[next(0, 5), next(4, 5)]), Outcome::Done);
    assert_eq!(decoder.bridged(), 3, "one pass");
    assert!(decoder.logits(0) == alone[0] && decoder.logits(1) == alone[1], "each row finds its own logits");
    for (seq, held) in [(0, Some(5)), (1, Some(4)), (2, None), (3, Some(4)), (4, Some(5))] {
        assert_eq!(decoder.seq_pos_max(SeqId(seq)), held.map(Pos), "{seq}");
    }
}

#[test]
fn chunks_and_far_sequences_are_not_joined() {
    let mut decoder = decoder();
    assert_eq!(decoder.decode(&prompt(0, 5)), Outcome::Done);
    assert_eq!(decoder.decode(&prompt(5, 5)), Outcome::Done);
    assert_eq!(decoder.decode(&[next(0, 5), next(5, 5)]), Outcome::Done);
    assert_eq!(decoder.bridged(), 0, "four idle ones cost as much as a pass");
    let rows: Vec<Row> = [next(0, 6)].into_iter().chain(prompt(2, 3)).collect();
    assert_eq!(decoder.decode(&rows), Outcome::Done);
    assert_eq!(decoder.bridged(), 0, "a chunk is a pass of its own");
}

/// Resident bytes of this process that belong to no file.
#[cfg(target_os = "linux")]
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("it says so");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
}

/// llama.cpp itself writes zeros to all cells at the start, which takes memory for all.
#[cfg(target_os = "linux")]
#[test]
fn a_cell_takes_memory_when_it_is_used() {
    let before = resident_bytes();
    // A cell of the built-in model has 1 KiB: 600 MiB for all cells, and 60 bytes of bookkeeping for each.
    let mut decoder = decoder_of(100 << 10);
    let row = |pos: u32| Row { token: Token(1), pos: Pos(pos), seq: SeqId(5), wants_logits: true };
    for pos in 0..32 {
        assert_eq!(decoder.decode(&[row(pos)]), Outcome::Done);
        assert!(decoder.logits(0).iter().all(|logit| logit.is_finite()));
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 100 << 20, "{} MiB", grown >> 20);
}
