//! ggml's quantisation: turns rows of `f32` into the bytes of a tensor. For `cllm synth` and its tests; any thread may call
//! it.

use std::ffi::CStr;

use llama_cpp_sys_2 as sys;

/// The tensor types that `cllm synth` writes. Their discriminants are ggml's numbers, as in a GGUF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum TensorType {
    /// 32-bit floats.
    F32 = 0,
    /// 16-bit floats.
    F16 = 1,
    /// Blocks of 32 numbers of 4 bits with one scale.
    Q4_0 = 2,
    /// Blocks of 32 numbers of 5 bits with one scale.
    Q5_0 = 6,
    /// Blocks of 32 numbers of 5 bits with a scale and a minimum.
    Q5_1 = 7,
    /// Blocks of 32 numbers of 8 bits with one scale.
    Q8_0 = 8,
    /// Superblocks of 256 numbers of 4 bits, with scales and minima of 6 bits for each 32.
    Q4K = 12,
    /// Superblocks of 256 numbers of 5 bits, with scales and minima of 6 bits for each 32.
    Q5K = 13,
    /// Superblocks of 256 numbers of 6 bits, with scales of 8 bits for each 16.
    Q6K = 14,
}

impl TensorType {
    /// All types.
    pub const ALL: [TensorType; 9] = {
        use TensorType::*;
        [F32, F16, Q4_0, Q5_0, Q5_1, Q8_0, Q4K, Q5K, Q6K]
    };

    /// The number of elements in one block. A row's length is a multiple of it.
    pub fn block_elements(self) -> usize {
        // SAFETY: reads a constant table of ggml's; the discriminants are its indices (`names_are_ggmls`).
        let elements = unsafe { sys::ggml_blck_size(self as sys::ggml_type) };
        elements.unsigned_abs() as usize
    }

    /// Bytes of a row of `elements` elements, a multiple of `block_elements`.
    ///
    /// # Panics
    /// If `elements` isn't such a multiple.
    pub fn row_bytes(self, elements: usize) -> usize {
        assert!(elements.is_multiple_of(self.block_elements()), "{elements} elements don't fill blocks of {self:?}");
        // SAFETY: as above; ggml asserts the multiple, which holds.
        unsafe { sys::ggml_row_size(self as sys::ggml_type, elements as i64) }
    }

    /// Quantises `values`, whole rows of `row_elements` each.
    ///
    /// # Panics
    /// If `values` isn't whole rows or a row isn't whole blocks.
    pub fn quantize(self, values: &[f32], row_elements: usize) -> Vec<u8> {
        assert!(row_elements > 0 && values.len().is_multiple_of(row_elements), "whole rows only");
        let rows = values.len() / row_elements;
        let mut bytes = vec![0u8; rows * self.row_bytes(row_elements)];
        // SAFETY: `values` holds rows * row_elements floats and `bytes` exactly the result's size, which ggml computes
        // with the same `ggml_row_size`. Rows are whole blocks (`row_bytes`). None of our types needs an importance
        // matrix, so null is allowed. `start` is 0. We believe that no C++ is involved: this is C and can't throw.
        let written = unsafe {
            sys::ggml_quantize_chunk(
                self as sys::ggml_type,
                values.as_ptr(),
                bytes.as_mut_ptr().cast(),
                0,
                rows as i64,
                row_elements as i64,
                std::ptr::null(),
            )
        };
        assert_eq!(written, bytes.len(), "ggml filled the buffer");
        bytes
    }
}

/// ggml's name for the tensor type with this number; `None`: ggml doesn't know the number.
pub fn type_name(ggml_type: u32) -> Option<&'static str> {
    let ggml_type = ggml_type as sys::ggml_type;
    if !(0..sys::GGML_TYPE_COUNT).contains(&ggml_type) {
        return None;
    }
    // SAFETY: the number is within ggml's table; the name is a constant string, or null for retired numbers.
    let name = unsafe {
        let name = sys::ggml_type_name(ggml_type);
        if name.is_null() {
            return None;
        }
        CStr::from_ptr(name)
    };
    name.to_str().ok().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ggmls() {
        let names: Vec<_> = TensorType::ALL.iter().map(|ty| type_name(*ty as u32).unwrap()).collect();
        assert_eq!(names, ["f32", "f16", "q4_0", "q5_0", "q5_1", "q8_0", "q4_K", "q5_K", "q6_K"]);
        assert_eq!(type_name(u32::MAX), None);
    }

    #[test]
    fn rows_have_the_sizes_that_gguf_readers_expect() {
        for ty in TensorType::ALL {
            let (elements, bytes) = crate::gguf::block_of(ty as u32).unwrap();
            assert_eq!((ty.block_elements() as u64, ty.row_bytes(ty.block_elements()) as u64), (elements, bytes));
            let values: Vec<f32> = (0..512).map(|i| (i as f32 * 0.37).sin()).collect();
            assert_eq!(ty.quantize(&values, 256).len(), 2 * ty.row_bytes(256), "{ty:?}");
        }
    }

    #[test]
    fn f16_and_q8_0_keep_the_values() {
        let values: Vec<f32> = (0..64).map(|i| i as f32 - 32.0).collect();
        let bytes = TensorType::Q8_0.quantize(&values, 64);
        // A block: its scale as f16, then 32 signed bytes. The first block's extreme, -32, is stored as -127.
        assert_eq!(bytes[2] as i8, -127);
        assert_eq!(TensorType::F16.quantize(&[1.0; 32], 32)[..2], 0x3c00u16.to_le_bytes());
    }
}
