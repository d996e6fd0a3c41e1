//! One attention as ggml's graph computes it, over random queries, keys and values. For tests and a bench; the server never
//! uses it.

use std::time::{Duration, Instant};

use llama_cpp_sys_2 as sys;

/// Minus infinity in 16 bits: a cell that a row may not see.
pub const HIDDEN: u16 = 0xFC00;

/// The shape of one attention: `heads` query heads of `tokens` tokens over `kv_heads` key and value heads of `cells` cells,
/// in each of `streams`.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Length of one head's key.
    pub dk: usize,
    /// Length of one head's value.
    pub dv: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; they divide the query heads.
    pub kv_heads: usize,
    /// Tokens, one query each, in each stream.
    pub tokens: usize,
    /// Cells in each stream.
    pub cells: usize,
    /// Separate KV buffers.
    pub streams: usize,
    /// Scores are squeezed into plus or minus this value; 0: they aren't.
    pub softcap: f32,
    /// Whether each head has a sink: a score that takes part in the softmax but has no value.
    pub sinks: bool,
    /// Whether a token (second argument) may see a cell (third).
    pub sees: fn(&Case, usize, usize) -> bool,
    /// Compute threads.
    pub threads: i32,
}

/// The cells of one text, computed for its last tokens: each token sees the cells before it and its own.
pub fn all_before(case: &Case, token: usize, cell: usize) -> bool {
    cell + case.tokens <= case.cells + token
}

/// As many sequences as tokens, with alternating cells: token `t` sees cells `t`, `t + tokens`, ...
pub fn every_nth(case: &Case, token: usize, cell: usize) -> bool {
    cell % case.tokens == token
}

/// Four sequences in the first half of the cells, then a piece of a fifth sequence in the second half.
pub fn four_and_a_piece(case: &Case, token: usize, cell: usize) -> bool {
    let half = case.cells / 2;
    if token < 4 { cell < half && cell % 4 == token } else { cell >= half && all_before(case, token, cell) }
}

/// A generator of numbers between -1 and 1; the seed determines them.
struct CaseNumbers(u64);

impl CaseNumbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

fn half(x: f32) -> u16 {
    // SAFETY: a pure function.
    unsafe { sys::ggml_fp32_to_fp16(x) }
}

/// Converts 16 bits to 32.
pub fn single(x: u16) -> f32 {
    // SAFETY: a pure function.
    unsafe { sys::ggml_fp16_to_fp32(x) }
}

/// The inputs of a case: queries `[stream][token][head][dk]`, keys and values `[stream][cell][head][dk or dv]` in 16 bits,
/// the mask `[stream][token][cell]`, and one sink for each head.
pub struct Data {
    /// The queries, `[stream][token][head][dk]`.
    pub queries: Vec<f32>,
    /// The keys, `[stream][cell][head][dk]`, 16-bit floats.
    pub keys: Vec<u16>,
    /// The values, `[stream][cell][head][dv]`, 16-bit floats.
    pub values: Vec<u16>,
    /// 0 where a token may see a cell, otherwise `HIDDEN`: `[stream][token][cell]`, 16-bit floats.
    pub mask: Vec<u16>,
    /// One sink for each head; empty if the case has none.
    pub sinks: Vec<f32>,
}

impl Data {
    /// Random inputs; the case determines them.
    pub fn of(case: &Case) -> Data {
        let mut numbers = CaseNumbers(1);
        let mut halves = |n: usize, by: f32| (0..n).map(|_| half(numbers.next() * by)).collect::<Vec<_>>();
        let kv = case.kv_heads * case.cells * case.streams;
        let (keys, values) = (halves(case.dk * kv, 2.0), halves(case.dv * kv, 1.0));
        let queries = (0..case.dk * case.heads * case.tokens * case.streams).map(|_| numbers.next() * 3.0).collect();
        let sinks = (0..case.heads).map(|_| numbers.next() * 2.0).collect();
        let rows = (0..case.streams).flat_map(|_| 0..case.tokens);
        let mask = rows
            .flat_map(|token| (0..case.cells).map(move |cell| if (case.sees)(case, token, cell) { 0 } else { HIDDEN }));
        Data { queries, keys, values, mask: mask.collect(), sinks }
    }
}

/// The output of ggml's graph, `[stream][token][head][dv]`, and the time of the quickest of `times` runs, which is at least
/// 1.
///
/// # Panics
/// ggml can't compute this case.
pub fn computed(case: &Case, data: &Data, times: usize) -> (Vec<f32>, Duration) {
    let fill = |tensor: *mut sys::ggml_tensor, bytes: *const u8, len: usize| {
        // SAFETY: the tensor was made with room for as many bytes.
        unsafe { std::ptr::copy_nonoverlapping(bytes, sys::ggml_get_data(tensor).cast::<u8>(), len) }
    };
    let i = |n: usize| n as i64;
    // SAFETY: one graph over tensors of one ggml context, all made, filled and computed here, in bounds.
    unsafe {
        let params = sys::ggml_init_params { mem_size: 64 << 20, mem_buffer: std::ptr::null_mut(), no_alloc: false };
        let ctx = sys::ggml_init(params);
        let new = |kind, a, b, c, d| sys::ggml_new_tensor_4d(ctx, kind, i(a), i(b), i(c), i(d));
        let q = new(sys::GGML_TYPE_F32, case.dk, case.heads, case.tokens, case.streams);
        let k = new(sys::GGML_TYPE_F16, case.dk, case.kv_heads, case.cells, case.streams);
        let v = new(sys::GGML_TYPE_F16, case.dv, case.kv_heads, case.cells, case.streams);
        let mask = new(sys::GGML_TYPE_F16, case.cells, case.tokens, 1, case.streams);
        let sinks = sys::ggml_new_tensor_4d(ctx, sys::GGML_TYPE_F32, i(case.heads), 1, 1, 1);
        fill(q, data.queries.as_ptr().cast(), data.queries.len() * 4);
        fill(k, data.keys.as_ptr().cast(), data.keys.len() * 2);
        fill(v, data.values.as_ptr().cast(), data.values.len() * 2);
        fill(mask, data.mask.as_ptr().cast(), data.mask.len() * 2);
        fill(sinks, data.sinks.as_ptr().cast(), data.sinks.len() * 4);
        let heads_apart = |tensor| sys::ggml_permute(ctx, tensor, 0, 2, 1, 3);
        let scale = 1.0 / (case.dk as f32).sqrt();
        let out = sys::ggml_flash_attn_ext(
            ctx,
            heads_apart(q),
            heads_apart(k),
            heads_apart(v),
            mask,
            scale,
            0.0,
            case.softcap,
        );
        if case.sinks {
            sys::ggml_flash_attn_ext_add_sinks(out, sinks);
        }
        let graph = sys::ggml_new_graph(ctx);
        sys::ggml_build_forward_expand(graph, out);
        let mut plan = sys::ggml_graph_plan(graph, case.threads, std::ptr::null_mut());
        let mut work = vec![0u8; plan.work_size];
        plan.work_data = work.as_mut_ptr();
        let mut run = || {
            let started = Instant::now();
            assert_eq!(sys::ggml_graph_compute(graph, &mut plan), sys::GGML_STATUS_SUCCESS);
            started.elapsed()
        };
        // A result that no thread writes stays a huge number.
        let n = case.dv * case.heads * case.tokens * case.streams;
        std::ptr::write_bytes(sys::ggml_get_data(out).cast::<u8>(), 0x7F, n * 4);
        let quickest = (0..times).map(|_| run()).min().expect("at least one run");
        let result = std::slice::from_raw_parts(sys::ggml_get_data(out).cast::<f32>(), n).to_vec();
        sys::ggml_free(ctx);
        (result, quickest)
    }
}

/// The output by attention's definition, computed in 64 bits.
pub fn expected(case: &Case, data: &Data) -> Vec<f64> {
    let mut out = Vec::new();
    for stream in 0..case.streams {
        for token in 0..case.tokens {
            for head in 0..case.heads {
                out.extend(expected_row(case, data, stream, token, head));
            }
        }
    }
    out
}

fn expected_row(case: &Case, data: &Data, stream: usize, token: usize, head: usize) -> Vec<f64> {
    let row = stream * case.tokens + token;
    let query = &data.queries[(row * case.heads + head) * case.dk..][..case.dk];
    let kv_head = head / (case.heads / case.kv_heads);
    let at = |cell: usize| (stream * case.cells + cell) * case.kv_heads + kv_head;
    let score = |cell: usize| {
        let key = &data.keys[at(cell) * case.dk..][..case.dk];
        let dot: f64 = query.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(single(*k))).sum();
        let scaled = dot / (case.dk as f64).sqrt();
        let cap = f64::from(case.softcap);
        if cap == 0.0 { scaled } else { cap * (scaled / cap).tanh() }
    };
    let seen = || (0..case.cells).filter(|cell| data.mask[row * case.cells + cell] != HIDDEN);
    let scores: Vec<f64> = seen().map(score).collect();
    let sink = if case.sinks { f64::from(data.sinks[head]) } else { f64::NEG_INFINITY };
    let largest = scores.iter().copied().fold(sink, f64::max);
    let mut sum = (sink - largest).exp();
    let mut out = vec![0.0; case.dv];
    if scores.is_empty() {
        return out;
    }
    for (cell, score) in seen().zip(scores) {
        let weight = (score - largest).exp();
        sum += weight;
        let value = &data.values[at(cell) * case.dv..][..case.dv];
        out.iter_mut().zip(value).for_each(|(out, v)| *out += weight * f64::from(single(*v)));
    }
    out.iter().map(|x| x / sum).collect()
}

/// The largest difference between an element of `computed` and that of `expected`.
pub fn off_by(computed: &[f32], expected: &[f64]) -> f64 {
    let differences = computed.iter().zip(expected).map(|(ours, exact)| (f64::from(*ours) - exact).abs());
    differences.fold(0.0, |a, b| if b.is_nan() { f64::INFINITY } else { a.max(b) })
}
