//! Products with one matrix as ggml's CPU backend computes them, with `kernels/` or with ggml's kernels, over random
//! numbers. For tests and a bench; the server never uses it.

use std::time::Duration;

use llama_cpp_sys_2 as sys;

/// The weight types that `kernels/` has kernels for: ggml's name and number.
pub const TYPES: [(&str, sys::ggml_type); 10] = [
    ("Q4_K", sys::GGML_TYPE_Q4_K),
    ("Q5_K", sys::GGML_TYPE_Q5_K),
    ("Q6_K", sys::GGML_TYPE_Q6_K),
    ("Q4_0", sys::GGML_TYPE_Q4_0),
    ("Q4_1", sys::GGML_TYPE_Q4_1),
    ("Q5_0", sys::GGML_TYPE_Q5_0),
    ("Q5_1", sys::GGML_TYPE_Q5_1),
    ("Q8_0", sys::GGML_TYPE_Q8_0),
    ("F16", sys::GGML_TYPE_F16),
    ("BF16", sys::GGML_TYPE_BF16),
];

/// The type and size of a matrix of weights.
#[derive(Clone, Copy, Debug)]
pub struct MatrixShape {
    /// The weights' type, by ggml's number.
    pub kind: sys::ggml_type,
    /// Length of a column, which is also that of a row.
    pub k: usize,
    /// Columns: numbers of a product.
    pub columns: usize,
    /// The number of expert matrices, of which each row uses one; 0: one matrix and no choice.
    pub experts: usize,
}

/// A generator of numbers between -1 and 1; the seed determines them.
pub struct RandomNumbers(u64);

impl RandomNumbers {
    /// A generator with this seed.
    pub fn new(seed: u64) -> RandomNumbers {
        RandomNumbers(seed)
    }

    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// The next `count` numbers.
    pub fn some(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }
}

#[cfg(own_matrix)]
mod raw {
    use std::ffi::c_int;

    /// The C side of `Trial`.
    #[repr(C)]
    pub struct RawTrial {
        _opaque: [u8; 0],
    }

    unsafe extern "C" {
        /// Makes a trial; null if `kernels/` doesn't have the type.
        pub fn cllm_trial_new(
            kind: c_int,
            k: i64,
            columns: i64,
            experts: i64,
            weights: *const f32,
            threads: c_int,
            ours: bool,
        ) -> *mut RawTrial;
        /// Multiplies `count` rows, and keeps them for `cllm_trial_time`.
        pub fn cllm_trial_run(trial: *mut RawTrial, rows: *const f32, count: i64, chosen: *const i32, out: *mut f32);
        /// The seconds that `times` repetitions of the last product take.
        pub fn cllm_trial_time(trial: *mut RawTrial, times: c_int) -> f64;
        /// Writes the weights after rounding to `out`.
        pub fn cllm_trial_weights(trial: *const RawTrial, out: *mut f32);
        /// Frees a trial.
        pub fn cllm_trial_free(trial: *mut RawTrial);
    }
}

/// One matrix in ggml's CPU backend.
#[cfg(own_matrix)]
pub struct Trial {
    raw: *mut raw::RawTrial,
    shape: MatrixShape,
}

#[cfg(own_matrix)]
impl Trial {
    /// Rounds `weights` (`[expert][column][k]`) to the type, and lays them out for `kernels/` if `ours`, otherwise for
    /// ggml's kernels. `None`: `kernels/` doesn't have this type.
    ///
    /// # Panics
    /// The number of weights isn't that of the shape.
    pub fn new(shape: MatrixShape, weights: &[f32], threads: i32, ours: bool) -> Option<Trial> {
        crate::llama::backend_init();
        assert_eq!(weights.len(), shape.k * shape.columns * shape.experts.max(1));
        let (k, columns, experts) = (shape.k as i64, shape.columns as i64, shape.experts as i64);
        // SAFETY: there are as many weights as the shape has; they are read during the call only.
        let raw =
            unsafe { raw::cllm_trial_new(shape.kind as i32, k, columns, experts, weights.as_ptr(), threads, ours) };
        (!raw.is_null()).then(|| Trial { raw, shape })
    }

    /// Multiplies `rows` (`[row][k]`), each with the matrix that `chosen` names, and returns `[row][column]`.
    ///
    /// # Panics
    /// A row isn't whole, or there are matrices to choose from and no choice for each row.
    pub fn run(&self, rows: &[f32], chosen: Option<&[i32]>) -> Vec<f32> {
        let count = rows.len() / self.shape.k;
        assert_eq!(rows.len(), count * self.shape.k);
        assert_eq!(chosen.map_or(0, <[i32]>::len), if self.shape.experts == 0 { 0 } else { count });
        assert!(chosen.unwrap_or(&[]).iter().all(|&expert| (expert as usize) < self.shape.experts));
        let mut out = vec![0.0; count * self.shape.columns];
        let chosen = chosen.map_or(std::ptr::null(), <[i32]>::as_ptr);
        // SAFETY: there are `count` rows, choices and results, as checked above. They are used during the call only.
        unsafe { raw::cllm_trial_run(self.raw, rows.as_ptr(), count as i64, chosen, out.as_mut_ptr()) };
        out
    }

    /// The mean time of the last product over `times` runs.
    pub fn time(&self, times: u32) -> Duration {
        // SAFETY: `run` was called before, and the trial keeps its rows.
        Duration::from_secs_f64(unsafe { raw::cllm_trial_time(self.raw, times as i32) } / f64::from(times))
    }

    /// The weights after rounding, `[expert][column][k]`.
    fn weights(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.shape.k * self.shape.columns * self.shape.experts.max(1)];
        // SAFETY: there is room for as many numbers as the shape has.
        unsafe { raw::cllm_trial_weights(self.raw, out.as_mut_ptr()) };
        out
    }
}

#[cfg(own_matrix)]
impl Drop for Trial {
    fn drop(&mut self) {
        // SAFETY: made once, freed once.
        unsafe { raw::cllm_trial_free(self.raw) }
    }
}

/// One element of a product by the definition, computed in 64 bits.
pub struct Expected {
    /// The element's value.
    pub value: f64,
    /// The length of the row times that of the column. Errors are measured relative to it.
    pub lengths: f64,
}

/// The elements that `run` should return, computed from the weights after rounding.
#[cfg(own_matrix)]
pub fn expected(trial: &Trial, rows: &[f32], chosen: Option<&[i32]>) -> Vec<Expected> {
    let MatrixShape { k, columns, .. } = trial.shape;
    let weights = trial.weights();
    let length = |of: &[f32]| of.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let one = |row: &[f32], column: &[f32]| Expected {
        value: row.iter().zip(column).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum(),
        lengths: length(row) * length(column),
    };
    let matrix = |row: usize| chosen.map_or(0, |chosen| chosen[row] as usize);
    rows.chunks(k)
        .enumerate()
        .flat_map(|(at, row)| {
            weights[matrix(at) * k * columns..].chunks(k).take(columns).map(move |column| one(row, column))
        })
        .collect()
}
