//! Random weights. Quantising 600 million numbers takes minutes, copying quantised blocks takes seconds.
//!
//! For each type and width a pool of blocks is drawn from a normal distribution and quantised once. A row is a sequence of
//! blocks that are picked from the pool at random. Rows differ from each other: with 4,096 blocks there are 2.8e14 rows of
//! 4 blocks. Shorter rows are drawn number by number, since equal rows of the output matrix would give equal logits. This
//! doesn't change the time of decoding, which reads each weight once whatever its value. Matrices have a standard deviation
//! of 1 / sqrt(width), so that activations keep their size from layer to layer. The output norm is 4, which gives logits
//! the spread of a trained model: a few likely tokens instead of 150,000 equal ones.

use std::collections::HashMap;
use std::io;

use super::tensors::{Role, Tensor};
use crate::llama::quantize::TensorType;

/// Blocks of a pool: 4,096 x 256 values quantise in well under a second and stay in the L2 cache afterwards.
const POOL_BLOCKS: usize = 4_096;
/// Elements of a block in the pool if a row is a whole number of them, otherwise 32. Both are whole blocks of the types in
/// use.
const BLOCK_ELEMENTS: usize = 256;
/// Rows of fewer blocks are drawn number by number, because too many of them would be equal.
const ROW_BLOCKS_MIN: usize = 4;
/// The weights of the output norm, which become the standard deviation of logits. The largest logits are then about four
/// times this, as in a trained model.
const OUTPUT_NORM: f32 = 4.0;
/// Standard deviation of biases: small compared with activations of about 1, but not zero.
const BIAS: f32 = 0.1;
/// The weights of a norm of what a layer adds. Gemma begins with embeddings of length sqrt(width). With smaller weights
/// these would outweigh all layers, and a text would repeat its last token.
const ADDED_NORM: f32 = 4.0;
/// The time steps of a state space for an input of zero, before softplus: about 0.02, as in a trained Mamba, so that a
/// state remembers about ten to a hundred tokens.
const TIME_STEP: f32 = -4.0;

/// Writes tensors one after the other. The same seed and order of tensors give the same bytes.
pub struct Weights {
    random: Random,
    pools: HashMap<(TensorType, usize), Pool>,
    row: Vec<u8>,
}

struct Pool {
    bytes: Vec<u8>,
    block_bytes: usize,
}

impl Weights {
    /// A generator of weights; `seed` determines them.
    pub fn new(seed: u64) -> Self {
        Weights { random: Random(seed), pools: HashMap::new(), row: Vec::new() }
    }

    /// Passes the bytes of `tensor` to `sink`, one row at a time.
    pub fn write(
        &mut self,
        tensor: &Tensor,
        ty: TensorType,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let width = tensor.width();
        // For roles that are no matrices: mean and standard deviation of a number, by its index in its row.
        let plain: Option<fn(usize) -> (f32, f32)> = match tensor.role {
            Role::Norm => Some(|_| (1.0, 0.05)),
            Role::AddedNorm => Some(|_| (ADDED_NORM, 0.05 * ADDED_NORM)),
            Role::OutputNorm => Some(|_| (OUTPUT_NORM, 0.05 * OUTPUT_NORM)),
            Role::Bias => Some(|_| (0.0, BIAS)),
            Role::TimeStep => Some(|_| (TIME_STEP, 1.0)),
            // As Mamba's training begins: -1, -2, ...
            Role::Decay => Some(|at| (-(at as f32 + 1.0), 0.05)),
            Role::Embedding | Role::Output | Role::Lookup | Role::AttnV | Role::FfnDown | Role::Matrix => None,
        };
        if let Some(spread) = plain {
            return (0..tensor.rows()).try_for_each(|_| {
                let value = |at| {
                    let (mean, deviation) = spread(at);
                    mean + deviation * self.random.normal()
                };
                let values: Vec<f32> = (0..width).map(value).collect();
                sink(&ty.quantize(&values, width))
            });
        }
        let block = if width.is_multiple_of(BLOCK_ELEMENTS) { BLOCK_ELEMENTS } else { 32 };
        let Weights { random, pools, row } = self;
        let draw = |n: usize, random: &mut Random| -> Vec<f32> {
            let scale = 1.0 / (width as f32).sqrt();
            (0..n).map(|_| scale * random.normal()).collect()
        };
        if width / block < ROW_BLOCKS_MIN {
            return (0..tensor.rows()).try_for_each(|_| sink(&ty.quantize(&draw(width, random), width)));
        }
        let pool = pools.entry((ty, width)).or_insert_with(|| {
            let values = draw(POOL_BLOCKS * block, random);
            Pool { bytes: ty.quantize(&values, block), block_bytes: ty.row_bytes(block) }
        });
        for _ in 0..tensor.rows() {
            row.clear();
            for _ in 0..width / block {
                let start = (random.next() as usize % POOL_BLOCKS) * pool.block_bytes;
                row.extend_from_slice(&pool.bytes[start..start + pool.block_bytes]);
            }
            sink(row)?;
        }
        Ok(())
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014): a small generator that gives the same numbers on all machines.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A normal deviate, mean 0 and standard deviation 1 (Box and Muller 1958).
    fn normal(&mut self) -> f32 {
        let unit = |bits: u64| ((bits >> 40) as f32 + 0.5) / (1u64 << 24) as f32;
        let (u, v) = (unit(self.next()), unit(self.next()));
        (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
    }
}
