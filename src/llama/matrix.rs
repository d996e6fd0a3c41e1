//! Declares and tests `kernels/`, which multiplies matrices on the CPU in place of ggml, and says whether this build has
//! it.

use std::ops::Range;

/// Whether this build multiplies matrices on the CPU with `kernels/`: a row's result then has the same bits for every
/// number of rows.
pub const IS_OURS: bool = cfg!(own_matrix);

#[cfg(own_matrix)]
mod raw {
    unsafe extern "C" {
        /// Adds the buffer type of `kernels/` to ggml's list.
        pub fn cllm_matrix_install();
        /// Sets whether ggml computes all products from now on.
        pub fn cllm_matrix_leave_to_ggml(leave: bool);
        /// Sets whether weights are locked into memory; returns the bytes that couldn't be locked since the last call.
        pub fn cllm_matrix_lock(lock: bool) -> usize;
        /// Names the mapping of the file from which this thread loads weights.
        pub fn cllm_matrix_read_from(mapping: *const std::ffi::c_void, size: usize);
        /// The number of weights since the last call whose products depend on the number of rows.
        pub fn cllm_matrix_take_inexact() -> usize;
    }
}

/// Offers the buffer type of `kernels/` to all models loaded from now on. Must be called once, before the first is loaded.
pub(super) fn install() {
    // SAFETY: no model is being loaded yet, so no thread reads ggml's list of buffer types.
    #[cfg(own_matrix)]
    unsafe {
        raw::cllm_matrix_install();
    }
}

/// With `true`, models loaded from now on, and all matrices that don't use the buffer type of `kernels/`, are computed by
/// ggml; `false` ends that. For benches that compare the two.
pub fn leave_to_ggml(leave: bool) {
    // SAFETY: the call sets an atomic.
    #[cfg(own_matrix)]
    unsafe {
        raw::cllm_matrix_leave_to_ggml(leave);
    }
    #[cfg(not(own_matrix))]
    let _ = leave;
}

/// Sets whether weights loaded from now on are locked into memory. llama.cpp locks only weights that are used as they lie
/// in the file. Returns how many bytes couldn't be locked since the last call.
pub(super) fn lock(lock: bool) -> usize {
    #[cfg(own_matrix)]
    {
        // SAFETY: the call sets two atomics.
        unsafe { raw::cllm_matrix_lock(lock) }
    }
    #[cfg(not(own_matrix))]
    {
        let _ = lock;
        0
    }
}

/// Names the read-only mapping of the file from which this thread loads weights: its pages are given back as soon as their
/// weights have been laid out. An empty range ends that, which must happen before the mapping ends.
pub(super) fn read_from(mapping: Range<usize>) {
    // SAFETY: the call sets two words of this thread. Only addresses inside a mapping that `FileMapping` found are given
    // back.
    #[cfg(own_matrix)]
    unsafe {
        raw::cllm_matrix_read_from(mapping.start as *const std::ffi::c_void, mapping.len());
    }
    #[cfg(not(own_matrix))]
    let _ = mapping;
}

/// The number of weights, since the last call, that were left to kernels of ggml in which sums depend on the number of
/// rows.
pub(super) fn take_inexact() -> usize {
    #[cfg(own_matrix)]
    {
        // SAFETY: the call sets an atomic.
        unsafe { raw::cllm_matrix_take_inexact() }
    }
    #[cfg(not(own_matrix))]
    0
}

#[cfg(all(test, own_matrix))]
mod tests {
    use llama_cpp_sys_2 as sys;

    use crate::llama::raw::matrix::{MatrixShape, RandomNumbers, TYPES, Trial, expected};

    /// The largest allowed error of a product, relative to the lengths of row and column. Rows are rounded to 8 bits,
    /// except for 16-bit weights.
    fn off_by_max(kind: sys::ggml_type) -> f64 {
        if matches!(kind, sys::GGML_TYPE_F16 | sys::GGML_TYPE_BF16) { 1e-6 } else { 0.01 }
    }

    /// Shapes of weights: values of a column, columns. The last tile of 16 columns is full, or has 1, 5 or 15.
    const SHAPES: [(usize, usize); 5] = [(256, 16), (512, 33), (768, 53), (1_024, 15), (2_048, 1)];

    fn shape(kind: sys::ggml_type, k: usize, columns: usize) -> MatrixShape {
        MatrixShape { kind, k, columns, experts: 0 }
    }

    #[test]
    fn products_are_those_of_64_bits() {
        for (_, kind) in TYPES {
            for (k, columns) in SHAPES {
                let mut numbers = RandomNumbers::new(k as u64);
                let trial = Trial::new(shape(kind, k, columns), &numbers.some(k * columns), 2, true).expect("a kernel");
                for count in [1, 2, 3, 5, 16, 17, 40] {
                    let rows = numbers.some(k * count);
                    let (got, wanted) = (trial.run(&rows, None), expected(&trial, &rows, None));
                    for (at, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
                        let off = (f64::from(*got) - wanted.value).abs() / wanted.lengths;
                        assert!(
                            off < off_by_max(kind),
                            "type {kind}, {k} x {columns}, {count} rows: {at} is off by {off:e}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn columns_without_values_and_rows_of_zeros_give_zeros() {
        for (_, kind) in TYPES {
            let trial = Trial::new(shape(kind, 256, 20), &[0.0; 256 * 20], 1, true).expect("a kernel");
            assert!(trial.run(&RandomNumbers::new(1).some(256), None).iter().all(|x| *x == 0.0), "type {kind}");
            let trial =
                Trial::new(shape(kind, 256, 20), &RandomNumbers::new(2).some(256 * 20), 1, true).expect("a kernel");
            assert!(trial.run(&[0.0; 256], None).iter().all(|x| *x == 0.0), "type {kind}");
        }
    }

    #[test]
    fn a_row_has_the_same_bits_for_every_number_of_rows_and_of_threads() {
        const ROWS_MAX: usize = 512;
        let counts = (1..=33).chain([64, 65, 127, 200, 512]);
        let (k, columns) = (1_024, 149);
        for (_, kind) in TYPES {
            let mut numbers = RandomNumbers::new(7);
            let weights = numbers.some(k * columns);
            let rows = numbers.some(k * ROWS_MAX);
            let alone = Trial::new(shape(kind, k, columns), &weights, 1, true).expect("a kernel");
            let wanted: Vec<f32> = rows.chunks(k).flat_map(|row| alone.run(row, None)).collect();
            for threads in [1, 2, 3] {
                let trial = Trial::new(shape(kind, k, columns), &weights, threads, true).expect("a kernel");
                for count in counts.clone() {
                    let from = (count * 37) % (ROWS_MAX + 1 - count);
                    let got = trial.run(&rows[from * k..][..count * k], None);
                    assert!(
                        got == wanted[from * columns..][..count * columns],
                        "type {kind}, {count} rows, {threads} threads"
                    );
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_with_the_matrix_that_was_chosen_for_it() {
        let (k, columns, experts) = (512, 40, 5);
        for (_, kind) in TYPES {
            let mut numbers = RandomNumbers::new(11);
            let weights = numbers.some(k * columns * experts);
            let of_expert = |expert: usize| {
                let weights = &weights[expert * k * columns..][..k * columns];
                Trial::new(shape(kind, k, columns), weights, 1, true).expect("a kernel")
            };
            let alone: Vec<Trial> = (0..experts).map(of_expert).collect();
            for threads in [1, 2] {
                let all = MatrixShape { experts, ..shape(kind, k, columns) };
                let trial = Trial::new(all, &weights, threads, true).expect("a kernel");
                for count in [1, 2, 7, 33, 70] {
                    let rows = numbers.some(k * count);
                    let chosen: Vec<i32> = (0..count).map(|row| (row * row % experts) as i32).collect();
                    let got = trial.run(&rows, Some(&chosen));
                    for (row, &expert) in chosen.iter().enumerate() {
                        let wanted = alone[expert as usize].run(&rows[row * k..][..k], None);
                        assert!(got[row * columns..][..columns] == wanted, "type {kind}, row {row} of {count}");
                    }
                }
            }
        }
    }

    #[test]
    fn other_types_are_left_to_ggml() {
        for kind in [sys::GGML_TYPE_IQ4_NL, sys::GGML_TYPE_Q2_K, sys::GGML_TYPE_Q3_K, sys::GGML_TYPE_F32] {
            assert!(Trial::new(shape(kind, 256, 16), &[1.0; 256 * 16], 1, true).is_none(), "type {kind}");
        }
    }
}
