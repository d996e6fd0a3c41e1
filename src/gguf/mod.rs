//! The GGUF container: a reader of everything but tensor data, with bounded memory, and a writer that streams.
//!
//! Safe Rust without llama.cpp: a truncated or hostile file gives one line of `StartupError`, never an abort. This room
//! doesn't know what the keys mean; the tokenizer, the chat room and llama.cpp do.

mod read;
mod split;
mod write;

pub use read::{GgufFile, TensorInfo};
pub use split::split_names;
pub use write::{GgufWriter, TensorStream};

/// The number of a value's type in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ValueType {
    /// An unsigned integer of 8 bits.
    U8 = 0,
    /// A signed integer of 8 bits.
    I8 = 1,
    /// An unsigned integer of 16 bits.
    U16 = 2,
    /// A signed integer of 16 bits.
    I16 = 3,
    /// An unsigned integer of 32 bits.
    U32 = 4,
    /// A signed integer of 32 bits.
    I32 = 5,
    /// A floating-point number of 32 bits.
    F32 = 6,
    /// A boolean, one byte.
    Bool = 7,
    /// A string: its length as 64 bits, then its bytes.
    Str = 8,
    /// An array: the type and the number of its entries, then the entries.
    Array = 9,
    /// An unsigned integer of 64 bits.
    U64 = 10,
    /// A signed integer of 64 bits.
    I64 = 11,
    /// A floating-point number of 64 bits.
    F64 = 12,
}

impl ValueType {
    pub(crate) fn from_u32(code: u32) -> Option<ValueType> {
        use ValueType::*;
        [U8, I8, U16, I16, U32, I32, F32, Bool, Str, Array, U64, I64, F64].get(code as usize).copied()
    }

    /// Bytes of one value; `None` for strings and arrays, which carry their own length.
    pub fn size(self) -> Option<usize> {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => Some(1),
            ValueType::U16 | ValueType::I16 => Some(2),
            ValueType::U32 | ValueType::I32 | ValueType::F32 => Some(4),
            ValueType::U64 | ValueType::I64 | ValueType::F64 => Some(8),
            ValueType::Str | ValueType::Array => None,
        }
    }
}

/// One metadata value. Strings are bytes: GGUF requires UTF-8, but some files contain other bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An unsigned integer of 8 bits.
    U8(u8),
    /// A signed integer of 8 bits.
    I8(i8),
    /// An unsigned integer of 16 bits.
    U16(u16),
    /// A signed integer of 16 bits.
    I16(i16),
    /// An unsigned integer of 32 bits.
    U32(u32),
    /// A signed integer of 32 bits.
    I32(i32),
    /// A floating-point number of 32 bits.
    F32(f32),
    /// A boolean.
    Bool(bool),
    /// A string.
    Str(Vec<u8>),
    /// An unsigned integer of 64 bits.
    U64(u64),
    /// A signed integer of 64 bits.
    I64(i64),
    /// A floating-point number of 64 bits.
    F64(f64),
    /// An array of strings.
    Strs(Strs),
    /// An array of numbers.
    Nums {
        /// The type of each entry.
        ty: ValueType,
        /// The entries as they are in the file, little-endian, `ty.size()` bytes each.
        raw: Vec<u8>,
    },
}

impl Value {
    /// A string value.
    pub fn str(text: &str) -> Value {
        Value::Str(text.as_bytes().to_vec())
    }

    /// An array of `i32`.
    pub fn i32s(values: &[i32]) -> Value {
        Value::Nums { ty: ValueType::I32, raw: values.iter().flat_map(|v| v.to_le_bytes()).collect() }
    }

    /// An array of `f32`.
    pub fn f32s(values: &[f32]) -> Value {
        Value::Nums { ty: ValueType::F32, raw: values.iter().flat_map(|v| v.to_le_bytes()).collect() }
    }

    /// The number of entries of an array; `None` for other values.
    pub fn array_len(&self) -> Option<usize> {
        match self {
            Value::Strs(strs) => Some(strs.len()),
            Value::Nums { ty, raw } => ty.size().map(|size| raw.len() / size),
            _ => None,
        }
    }
}

/// Many strings in one buffer, so that a vocabulary of 150,000 tokens needs only two allocations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Strs {
    bytes: Vec<u8>,
    /// String `i` is `bytes[ends[i - 1]..ends[i]]`.
    ends: Vec<usize>,
}

impl Strs {
    /// Appends a string.
    pub fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
    }

    /// The number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no strings.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// String number `i`.
    pub fn get(&self, i: usize) -> &[u8] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.bytes[start..self.ends[i]]
    }

    /// All strings in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.get(i))
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for Strs {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Strs {
        let mut strs = Strs::default();
        texts.into_iter().for_each(|text| strs.push(text.as_ref()));
        strs
    }
}

/// Elements and bytes of one block of the ggml tensor type with this number; `None`: the number isn't in this table. From
/// ggml's type table (GGML_TYPE_* in ggml.h).
pub fn block_of(ggml_type: u32) -> Option<(u64, u64)> {
    Some(match ggml_type {
        0 | 26 => (1, 4),      // F32, I32
        1 | 25 | 30 => (1, 2), // F16, I16, BF16
        2 | 20 => (32, 18),    // Q4_0, IQ4_NL
        3 => (32, 20),         // Q4_1
        6 => (32, 22),         // Q5_0
        7 => (32, 24),         // Q5_1
        8 => (32, 34),         // Q8_0
        9 => (32, 36),         // Q8_1
        10 => (256, 84),       // Q2_K
        11 | 21 => (256, 110), // Q3_K, IQ3_S
        12 => (256, 144),      // Q4_K
        13 => (256, 176),      // Q5_K
        14 => (256, 210),      // Q6_K
        15 => (256, 292),      // Q8_K
        16 | 35 => (256, 66),  // IQ2_XXS, TQ2_0
        17 => (256, 74),       // IQ2_XS
        18 => (256, 98),       // IQ3_XXS
        19 => (256, 50),       // IQ1_S
        22 => (256, 82),       // IQ2_S
        23 => (256, 136),      // IQ4_XS
        24 => (1, 1),          // I8
        27 | 28 => (1, 8),     // I64, F64
        29 => (256, 56),       // IQ1_M
        34 => (256, 54),       // TQ1_0
        39 => (32, 17),        // MXFP4
        40 => (64, 36),        // NVFP4
        _ => return None,
    })
}
