//! `attention.cpp` takes the place of ggml's attention on a CPU; here are its tests, and whether it is there.

use super::context::FlashAttention;

/// Whether fused attention on the CPU is ours, over a 16-bit cache: cells that a row may not see cost it nothing, and it sums
/// in 32 bits.
pub const IS_OURS: bool = cfg!(own_attention);

/// Whether attention runs fused in a small model, whose texts shall not depend on who else is served and on what is cached.
/// llama.cpp's own on a CPU sums in 16 bits for one row and for a few, in 32 for many; what it saves a small model is lost in
/// the rest of a step. Ours has the same bits always, and saves more than half of a step.
pub fn for_small_models() -> FlashAttention {
    if IS_OURS { FlashAttention::Auto } else { FlashAttention::Off }
}

#[cfg(all(test, own_attention))]
mod tests {
    use llama_cpp_sys_2 as sys;

    const HIDDEN: u16 = 0xFC00;

    /// One call: `heads` queries of `tokens` tokens over `kv_heads` keys and values of `cells` cells, in each of `streams`.
    #[derive(Clone, Copy, Debug)]
    struct Case {
        dk: usize,
        dv: usize,
        heads: usize,
        kv_heads: usize,
        tokens: usize,
        cells: usize,
        streams: usize,
        softcap: f32,
        sinks: bool,
        sees: fn(&Case, usize, usize) -> bool,
        threads: i32,
    }

    const CASE: Case = Case {
        dk: 64,
        dv: 64,
        heads: 4,
        kv_heads: 2,
        tokens: 1,
        cells: 256,
        streams: 1,
        softcap: 0.0,
        sinks: false,
        sees: all_before,
        threads: 2,
    };

    /// A piece of one text, its tokens in the last cells.
    fn all_before(case: &Case, token: usize, cell: usize) -> bool {
        cell + case.tokens <= case.cells + token
    }

    /// Sequences that took cells in turn.
    fn every_nth(case: &Case, token: usize, cell: usize) -> bool {
        cell % case.tokens == token
    }

    /// Four sequences in the first half, then a piece of a fifth in the second.
    fn four_and_a_piece(case: &Case, token: usize, cell: usize) -> bool {
        let half = case.cells / 2;
        if token < 4 { cell < half && cell % 4 == token } else { cell >= half && all_before(case, token, cell) }
    }

    fn without_pattern(_: &Case, token: usize, cell: usize) -> bool {
        (token * 7_919 + cell * 104_729) % 13 < 6
    }

    fn nothing(_: &Case, token: usize, _: usize) -> bool {
        token % 2 == 1
    }

    /// Numbers between -1 and 1, the same for the same seed.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> f32 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        }
    }

    fn half(x: f32) -> u16 {
        // SAFETY: a pure function.
        unsafe { sys::ggml_fp32_to_fp16(x) }
    }

    fn single(x: u16) -> f32 {
        // SAFETY: a pure function.
        unsafe { sys::ggml_fp16_to_fp32(x) }
    }

    struct Data {
        queries: Vec<f32>,
        keys: Vec<u16>,
        values: Vec<u16>,
        mask: Vec<u16>,
        sinks: Vec<f32>,
    }

    impl Data {
        fn of(case: &Case) -> Data {
            let mut numbers = Numbers(1);
            let mut halves = |n: usize, by: f32| (0..n).map(|_| half(numbers.next() * by)).collect::<Vec<_>>();
            let kv = case.kv_heads * case.cells * case.streams;
            let (keys, values) = (halves(case.dk * kv, 2.0), halves(case.dv * kv, 1.0));
            let queries =
                (0..case.dk * case.heads * case.tokens * case.streams).map(|_| numbers.next() * 3.0).collect();
            let sinks = (0..case.heads).map(|_| numbers.next() * 2.0).collect();
            let rows = (0..case.streams).flat_map(|_| 0..case.tokens);
            let mask = rows.flat_map(|token| {
                (0..case.cells).map(move |cell| if (case.sees)(case, token, cell) { 0 } else { HIDDEN })
            });
            Data { queries, keys, values, mask: mask.collect(), sinks }
        }
    }

    /// What ggml's graph makes of it, `[stream][token][head][dv]`.
    fn computed(case: &Case, data: &Data) -> Vec<f32> {
        let fill = |tensor: *mut sys::ggml_tensor, bytes: *const u8, len: usize| {
            // SAFETY: the tensor was made with room for as many bytes.
            unsafe { std::ptr::copy_nonoverlapping(bytes, sys::ggml_get_data(tensor).cast::<u8>(), len) }
        };
        let i = |n: usize| n as i64;
        // SAFETY: one graph over tensors of one ggml context, all made, filled and computed here, in bounds.
        unsafe {
            let params =
                sys::ggml_init_params { mem_size: 64 << 20, mem_buffer: std::ptr::null_mut(), no_alloc: false };
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
            assert_eq!(sys::ggml_graph_compute_with_ctx(ctx, graph, case.threads), sys::GGML_STATUS_SUCCESS);
            let n = case.dv * case.heads * case.tokens * case.streams;
            let result = std::slice::from_raw_parts(sys::ggml_get_data(out).cast::<f32>(), n).to_vec();
            sys::ggml_free(ctx);
            result
        }
    }

    /// The same by the definition, in 64 bits.
    fn expected(case: &Case, data: &Data) -> Vec<f64> {
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

    /// Sums are kept in 32 bits.
    const OURS_OFF_BY: f64 = 2e-5;
    /// ggml keeps them in 16 below a tile of tokens.
    const GGMLS_OFF_BY: f64 = 2e-2;

    fn off_by(case: &Case) -> f64 {
        let data = Data::of(case);
        computed(case, &data)
            .iter()
            .zip(expected(case, &data))
            .map(|(ours, exact)| (f64::from(*ours) - exact).abs())
            .fold(0.0, |a: f64, b| if b.is_nan() { f64::INFINITY } else { a.max(b) })
    }

    fn check(case: Case) {
        let wrong = off_by(&case);
        assert!(wrong < OURS_OFF_BY, "off by {wrong:e}: {case:?}");
    }

    #[test]
    fn it_is_attention_whoever_sees_what() {
        for sees in [all_before, every_nth, without_pattern, nothing, four_and_a_piece] {
            for tokens in [1, 2, 4, 5, 9, 17, 33, 70] {
                for cells in [70, 256, 500] {
                    check(Case { sees, tokens, cells, ..CASE });
                }
            }
        }
    }

    #[test]
    fn a_tokens_result_has_the_same_bits_whoever_is_computed_with_it() {
        for (heads, kv_heads, dk, sinks) in [(4, 2, 64, false), (16, 8, 128, true), (7, 1, 80, false)] {
            let all = Case { tokens: 40, cells: 300, heads, kv_heads, dk, sinks, softcap: 9.0, ..CASE };
            let data = Data::of(&all);
            let results = computed(&all, &data);
            for tokens in [1, 2, 3, 4, 5, 9, 17] {
                let some = Case { tokens, ..all };
                let last = |numbers: usize| (all.tokens - tokens) * numbers;
                let part = Data {
                    queries: data.queries[last(heads * dk)..].to_vec(),
                    mask: data.mask[last(all.cells)..].to_vec(),
                    keys: data.keys.clone(),
                    values: data.values.clone(),
                    sinks: data.sinks.clone(),
                };
                assert!(computed(&some, &part) == results[last(heads * all.dv)..], "{some:?}");
            }
        }
    }

    #[test]
    fn heads_are_shared_out_among_any_number_of_threads() {
        for threads in [1, 2, 3, 4] {
            for (heads, kv_heads) in [(8, 8), (8, 2), (14, 2), (24, 3), (6, 1), (7, 1), (2, 1)] {
                for tokens in [1, 3, 20] {
                    check(Case { threads, heads, kv_heads, tokens, streams: 2, ..CASE });
                }
            }
        }
    }

    #[test]
    fn keys_and_values_have_sizes_of_their_own() {
        for (dk, dv) in [(16, 16), (80, 80), (96, 64), (192, 128), (128, 256)] {
            for tokens in [1, 12, 40] {
                check(Case { dk, dv, tokens, ..CASE });
            }
        }
    }

    #[test]
    fn scores_may_be_capped_and_attention_may_sink() {
        for tokens in [1, 3, 20, 64] {
            for (softcap, sinks) in [(5.0, false), (0.0, true), (5.0, true)] {
                check(Case { tokens, softcap, sinks, sees: without_pattern, ..CASE });
            }
        }
    }

    #[test]
    fn what_it_cannot_do_is_left_to_ggml() {
        let no_whole_vectors = Case { dk: 40, dv: 40, tokens: 3, sees: without_pattern, ..CASE };
        let wrong = off_by(&no_whole_vectors);
        assert!((OURS_OFF_BY..GGMLS_OFF_BY).contains(&wrong), "off by {wrong:e}");
    }
}
