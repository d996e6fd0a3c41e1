//! The decoders that are held to the contract.

use std::sync::Arc;
use std::time::Duration;

use cllm::config::ModelSource;
use cllm::llama::{
    self, Context, ContextParams, FlashAttention, KvLayout, LlamaDecoder, Model, ModelParams, ThreadpoolParams,
};
use cllm::model_file::ModelFile;
use cllm::null_decoder::NullDecoder;
use cllm::synth::{Quant, Spec};
use cllm::types::seams::{Capacity, CheckpointRule, Decoder};
use cllm::types::{KvTypes, Token, TokenTable};

use crate::dice::Dice;
use crate::fake_decoder::{FakeDecoder, Faults, VirtualClock};

const SEQS: u16 = 4;
const CELLS_PER_SEQ: u32 = 64;
const ROWS_MAX: usize = 32;

/// A decoder, and which properties it has.
pub struct Subject {
    pub name: String,
    /// Whether its cache can remove and copy a part of a sequence.
    pub can_cut: bool,
    /// Whether each token takes a cell. A recurrent state has one size for any number of tokens.
    pub has_cells: bool,
    /// Whether each step writes all logits anew. The null decoder doesn't, because that would cost more than everything
    /// else it does; samplers undo their changes.
    pub writes_all_logits: bool,
    /// The largest difference between the logits of equal tokens. 0 if their bits don't depend on the rest of the step.
    pub tolerance: f32,
    make: Box<dyn Fn() -> Box<dyn Decoder>>,
    /// Whether ggml computes everything, without our kernels.
    leaves_to_ggml: bool,
}

impl Subject {
    /// An empty decoder.
    pub fn make(&self) -> Box<dyn Decoder> {
        llama::attention::leave_to_ggml(self.leaves_to_ggml);
        llama::matrix::leave_to_ggml(self.leaves_to_ggml);
        (self.make)()
    }
}

pub fn subjects() -> Vec<Subject> {
    llama::backend_init();
    let cuts = Faults::default();
    let recurrent = Faults { recurrent: true, ..Faults::default() };
    let checkpoints = |is_whole| Some(CheckpointRule { every: 1, bytes_max: 1 << 20, is_whole });
    let fakes = [
        ("fake, a buffer for each sequence", None, cuts),
        ("fake, one buffer", Some(u32::from(SEQS) * CELLS_PER_SEQ), cuts),
        ("fake, one small buffer", Some(90), cuts),
        ("fake, recurrent", None, recurrent),
        ("fake, recurrent, with checkpoints", None, Faults { checkpoints: checkpoints(true), ..recurrent }),
        ("fake, hybrid, with checkpoints", None, Faults { checkpoints: checkpoints(false), ..recurrent }),
    ];
    let fakes = fakes.map(|(name, cells_common, faults)| Subject {
        name: name.to_owned(),
        can_cut: !faults.recurrent,
        has_cells: true,
        writes_all_logits: true,
        tolerance: 0.0,
        make: Box::new(move || Box::new(fake(cells_common, faults))),
        leaves_to_ggml: false,
    });
    let nulls = [
        ("null, a buffer for each sequence", None),
        ("null, one buffer", Some(u32::from(SEQS) * CELLS_PER_SEQ)),
        ("null, one small buffer", Some(90)),
    ];
    let nulls = nulls.map(|(name, cells_common)| Subject {
        name: name.to_owned(),
        can_cut: true,
        has_cells: true,
        writes_all_logits: false,
        tolerance: 0.0,
        make: Box::new(move || Box::new(null(cells_common))),
        leaves_to_ggml: false,
    });
    llamas().into_iter().chain(shapes()).chain(fakes).chain(nulls).collect()
}

fn capacity(cells_common: Option<u32>, n_vocab: usize) -> Capacity {
    Capacity { seqs: SEQS, cells_per_seq: CELLS_PER_SEQ, cells_common, rows_max: ROWS_MAX, n_vocab }
}

fn fake(cells_common: Option<u32>, faults: Faults) -> FakeDecoder {
    FakeDecoder::new(capacity(cells_common, 199), faults, Dice::new(1), VirtualClock::default())
}

fn null(cells_common: Option<u32>) -> NullDecoder {
    let pieces: Vec<Vec<u8>> = (0..199).map(|i| format!("w{i}").into_bytes()).collect();
    let table = TokenTable::new(pieces.iter().map(Vec::as_slice), &[Token(198)]);
    NullDecoder::new(capacity(cells_common, 199), &table, Duration::ZERO)
}

/// llama.cpp over small models with random weights: with a sliding window, with a recurrent state beside its cache, and
/// with a recurrent state alone. The last two can't be cut. Each as it is, and where it keeps blocks.
fn shapes() -> Vec<Subject> {
    let of_shape = |(shape, can_cut): (&'static str, bool)| {
        let path = std::env::temp_dir().join(format!("cllm-contract-{}-{shape}.gguf", std::process::id()));
        Spec::named(shape, Quant::Q8_0, 1).expect("there is such a shape").write(&path, true, |_| {}).expect("a file");
        let model = Arc::new(Model::load(&ModelParams::new(&path), &mut |_| true).expect("it loads"));
        std::fs::remove_file(&path).expect("it is there");
        assert_eq!(model.can_cut(), can_cut, "{shape}");
        let keeps = if model.is_recurrent() { Keeps::Sequences } else { Keeps::Blocks };
        let subject = |what: &str, keeps: Keeps, windows_only: bool| {
            let model = Arc::clone(&model);
            let made = Made { layout: KvLayout::Pool, flash_attention: FlashAttention::Auto, keeps, windows_only };
            Subject {
                name: format!("llama.cpp, {shape}{what}"),
                can_cut: can_cut && !windows_only,
                has_cells: shape != "mamba-tiny",
                writes_all_logits: true,
                tolerance: 1e-3,
                make: Box::new(move || Box::new(llama_decoder(&model, &made))),
                leaves_to_ggml: false,
            }
        };
        let mut subjects = vec![subject("", Keeps::Nothing, false), subject(", keeps blocks", keeps, false)];
        if model.window().is_some() {
            subjects.push(subject(", cells for windows only", Keeps::Nothing, true));
            subjects.push(subject(", cells for windows only, keeps blocks", keeps, true));
        }
        subjects
    };
    [("gemma3-tiny", true), ("lfm2-tiny", false), ("mamba-tiny", false)].into_iter().flat_map(of_shape).collect()
}

/// llama.cpp over the built-in model: each layout, with our kernels and with ggml's.
fn llamas() -> Vec<Subject> {
    let file = ModelFile::open(&ModelSource::BuiltIn).expect("it comes with the program");
    let model = Arc::new(Model::load(&ModelParams::new(file.path()), &mut |_| true).expect("it loads"));
    let layouts = [
        (KvLayout::Separate, Keeps::Nothing),
        (KvLayout::Shares, Keeps::Nothing),
        (KvLayout::Shares, Keeps::Blocks),
        (KvLayout::Pool, Keeps::Nothing),
        (KvLayout::Pool, Keeps::Blocks),
    ];
    let kernels = [
        ("ours", FlashAttention::Auto, false),
        ("ggml's", FlashAttention::Auto, true),
        ("ggml's, not fused", FlashAttention::Off, true),
    ];
    let mut subjects = Vec::new();
    for (layout, keeps) in layouts {
        for (kernel, flash_attention, leaves_to_ggml) in kernels {
            let model = Arc::clone(&model);
            let made = Made { layout, flash_attention, keeps, windows_only: false };
            subjects.push(Subject {
                name: format!("llama.cpp, {layout:?}, keeps {keeps:?}, kernels {kernel}"),
                can_cut: true,
                has_cells: true,
                writes_all_logits: true,
                // Our kernels give the same bits; ggml's sum in another order, or in 16 bits.
                tolerance: if leaves_to_ggml || !llama::attention::IS_OURS { 0.3 } else { 0.0 },
                make: Box::new(move || Box::new(llama_decoder(&model, &made))),
                leaves_to_ggml,
            });
        }
    }
    subjects
}

/// What a decoder of llama.cpp saves and restores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeps {
    Nothing,
    /// Parts of a sequence, by way of a spare one.
    Blocks,
    /// Whole sequences of a recurrent model.
    Sequences,
}

/// How a decoder of llama.cpp is made.
struct Made {
    layout: KvLayout,
    flash_attention: FlashAttention,
    keeps: Keeps,
    windows_only: bool,
}

fn llama_decoder(model: &Arc<Model>, made: &Made) -> LlamaDecoder {
    let params = ContextParams {
        cells_total: CELLS_PER_SEQ * u32::from(SEQS),
        seqs: SEQS + u16::from(made.keeps == Keeps::Blocks),
        layout: made.layout,
        rows_max: ROWS_MAX,
        outputs_max: usize::from(SEQS) + 2,
        kv_types: KvTypes::F16,
        windows_only: made.windows_only,
        flash_attention: made.flash_attention,
        threadpool: ThreadpoolParams { threads: 1, cores: Vec::new(), poll: 0 },
    };
    let context = Context::new(Arc::clone(model), &params).expect("a context");
    let decoder = LlamaDecoder::new(context, made.layout, SEQS, ROWS_MAX);
    match made.keeps {
        Keeps::Nothing => decoder,
        Keeps::Blocks => decoder.with_spare_sequence(),
        Keeps::Sequences => decoder.with_whole_sequences(),
    }
}
