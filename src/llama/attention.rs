//! Declares and tests `attention/`, which computes attention on the CPU in place of ggml, and says whether this build has
//! it.

use super::context::FlashAttention;
use crate::types::SeqId;

/// Whether this build computes fused attention on the CPU with `attention/`, for a 16-bit cache. It skips cells that a row
/// may not see, and it sums in 32 bits.
pub const IS_OURS: bool = cfg!(own_attention);

/// The kind of attention for small models: fused if `IS_OURS`. Texts must not depend on other requests or on what is
/// cached. ggml's fused attention breaks that, because it sums in 16 bits for one or a few rows and in 32 bits for many.
/// `attention/` always gives the same bits, and saves more than half of a step.
pub fn for_small_models() -> FlashAttention {
    if IS_OURS { FlashAttention::Auto } else { FlashAttention::Off }
}

/// With `true`, ggml computes all attention from now on; `false` ends that. For benches that compare the two.
pub fn leave_to_ggml(leave: bool) {
    #[cfg(own_attention)]
    {
        unsafe extern "C" {
            fn cllm_attention_leave_to_ggml(leave: bool);
        }
        // SAFETY: the call sets an atomic.
        unsafe { cllm_attention_leave_to_ggml(leave) }
    }
    #[cfg(not(own_attention))]
    let _ = leave;
}

/// Must be called on the decoding thread after one sequence's whole buffer was copied over another's: attention sums in the
/// order of positions and caches where each position lies.
pub(super) fn stream_copied(from: SeqId, to: SeqId) {
    #[cfg(own_attention)]
    {
        unsafe extern "C" {
            fn cllm_attention_stream_copied(from: i32, to: i32);
        }
        // SAFETY: the call copies inside a list that it owns. The caller has checked that both are sequences of a context.
        unsafe { cllm_attention_stream_copied(i32::from(from.0), i32::from(to.0)) }
    }
    #[cfg(not(own_attention))]
    let _ = (from, to);
}

/// Must be called after cells got the state of others without a step, before the next one.
pub(super) fn cells_restored() {
    #[cfg(own_attention)]
    {
        unsafe extern "C" {
            fn cllm_attention_cells_restored();
        }
        // SAFETY: the call counts under a lock.
        unsafe { cllm_attention_cells_restored() }
    }
}

/// Whether any attention so far was computed by ggml, or by `attention/` without positions. Then a row's bits may depend on
/// the other rows of its step.
pub fn is_inexact() -> bool {
    #[cfg(own_attention)]
    {
        unsafe extern "C" {
            fn cllm_attention_is_inexact() -> bool;
        }
        // SAFETY: the call reads an atomic.
        unsafe { cllm_attention_is_inexact() }
    }
    #[cfg(not(own_attention))]
    true
}

#[cfg(all(test, own_attention))]
mod tests {
    use crate::llama::raw::attention::{Case, Data, all_before, computed, every_nth, expected, four_and_a_piece};

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

    fn without_pattern(_: &Case, token: usize, cell: usize) -> bool {
        (token * 7_919 + cell * 104_729) % 13 < 6
    }

    fn nothing(_: &Case, token: usize, _: usize) -> bool {
        token % 2 == 1
    }

    /// The error bound of `attention/`, which sums in 32 bits.
    const OURS_OFF_BY: f64 = 2e-5;
    /// The error bound of ggml, which sums in 16 bits when there are fewer tokens than a tile.
    const GGMLS_OFF_BY: f64 = 2e-2;

    fn off_by(case: &Case) -> f64 {
        let data = Data::of(case);
        crate::llama::raw::attention::off_by(&computed(case, &data, 1).0, &expected(case, &data))
    }

    fn check(case: Case) {
        let wrong = off_by(&case);
        assert!(wrong < OURS_OFF_BY, "off by {wrong:e}: {case:?}");
    }

    #[test]
    fn it_is_attention_whichever_cells_a_row_sees() {
        for sees in [all_before, every_nth, without_pattern, nothing, four_and_a_piece] {
            for tokens in [1, 2, 4, 5, 9, 17, 33, 70] {
                for cells in [70, 256, 500] {
                    check(Case { sees, tokens, cells, ..CASE });
                }
            }
        }
    }

    #[test]
    fn a_tokens_result_has_the_same_bits_beside_any_other_rows() {
        for (heads, kv_heads, dk, sinks) in [(4, 2, 64, false), (16, 8, 128, true), (7, 1, 80, false)] {
            // Three sections of 512 positions.
            let all = Case { tokens: 40, cells: 1_300, heads, kv_heads, dk, sinks, softcap: 9.0, ..CASE };
            let data = Data::of(&all);
            let (results, _) = computed(&all, &data, 1);
            for (tokens, threads) in [(1, 1), (1, 2), (2, 3), (3, 2), (4, 4), (5, 1), (9, 2), (17, 3)] {
                let some = Case { tokens, threads, ..all };
                let last = |numbers: usize| (all.tokens - tokens) * numbers;
                let part = Data {
                    queries: data.queries[last(heads * dk)..].to_vec(),
                    mask: data.mask[last(all.cells)..].to_vec(),
                    keys: data.keys.clone(),
                    values: data.values.clone(),
                    sinks: data.sinks.clone(),
                };
                assert!(computed(&some, &part, 1).0 == results[last(heads * all.dv)..], "{some:?}");
            }
        }
    }

    #[test]
    fn heads_are_shared_out_among_any_number_of_threads() {
        for threads in [1, 2, 3, 4] {
            for (heads, kv_heads) in [(8, 8), (8, 2), (14, 2), (24, 3), (6, 1), (7, 1), (2, 1)] {
                for tokens in [1, 3, 20] {
                    for sees in [all_before, nothing, every_nth] {
                        check(Case { threads, heads, kv_heads, tokens, sees, streams: 2, ..CASE });
                    }
                }
            }
        }
    }

    #[test]
    fn a_long_text_is_shared_out_in_sections() {
        for threads in [2, 3, 4] {
            for (heads, kv_heads) in [(8, 8), (14, 2), (7, 1)] {
                for (tokens, sees) in [(1, all_before as fn(&Case, usize, usize) -> bool), (5, four_and_a_piece)] {
                    check(Case { threads, heads, kv_heads, tokens, sees, cells: 3_400, ..CASE });
                }
            }
        }
    }

    /// The cells that all blocks of a case load, and the pairs of a cell and a token that they compute.
    fn formed(case: &Case) -> (u64, u64) {
        unsafe extern "C" {
            fn cllm_attention_formed(cells: *mut u64, pairs: *mut u64);
        }
        // With one thread, this thread forms the blocks.
        let case = Case { threads: 1, ..*case };
        let data = Data::of(&case);
        drop(computed(&case, &data, 1));
        let (mut cells, mut pairs) = (0, 0);
        // SAFETY: both places outlive the call.
        unsafe { cllm_attention_formed(&mut cells, &mut pairs) }
        (cells, pairs)
    }

    /// Four texts of 20 cells, and behind them one token of a long text.
    fn four_beside_a_long_one(_: &Case, token: usize, cell: usize) -> bool {
        if token < 4 { cell / 20 == token } else { cell >= 80 }
    }

    /// 960 cells that all see, and 10 of each token's own.
    fn one_beginning(_: &Case, token: usize, cell: usize) -> bool {
        cell < 960 || (cell - 960) / 10 == token
    }

    #[test]
    fn tokens_are_computed_together_only_where_that_is_less_work() {
        let long = Case { tokens: 5, cells: 3_080, sees: four_beside_a_long_one, ..CASE };
        let (cells, pairs) = formed(&long);
        assert!(
            cells < 3_300 && pairs < 3_300,
            "{cells} cells, {pairs} pairs: the short texts skip the long one's cells"
        );
        let chunk = Case { tokens: 16, cells: 3_000, ..CASE };
        assert_eq!(formed(&chunk).0, 3_008, "a chunk of a prompt loads the cells before it once");
        let first = Case { tokens: 16, cells: 16, ..CASE };
        assert_eq!(formed(&first), (32, 32 * 16), "as does a prompt's first");
        let shared = Case { tokens: 4, cells: 1_000, sees: one_beginning, ..CASE };
        assert!(formed(&shared).0 < 1_100, "texts with one beginning load it once");
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
