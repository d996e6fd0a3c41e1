//! The types of cached keys and values.

use std::fmt;

/// The number format of cached keys or values, by ggml's names. All but `F16` store blocks of 32 numbers with a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvType {
    /// 16-bit floats: 2 bytes a number.
    F16,
    /// 8 bits a number, with one scale a block.
    Q8_0,
    /// 5 bits a number, with a scale and a minimum for each block.
    Q5_1,
    /// 5 bits a number, with one scale a block.
    Q5_0,
    /// 4 bits a number, with a scale and a minimum for each block.
    Q4_1,
    /// 4 bits a number, with one scale a block.
    Q4_0,
    /// 4 bits a number, each the index of one of 16 values that lie closer together around zero.
    Iq4Nl,
}

impl KvType {
    /// Every type with its name in settings, the largest first.
    pub const NAMED: [(&'static str, KvType); 7] = [
        ("f16", KvType::F16),
        ("q8_0", KvType::Q8_0),
        ("q5_1", KvType::Q5_1),
        ("q5_0", KvType::Q5_0),
        ("q4_1", KvType::Q4_1),
        ("q4_0", KvType::Q4_0),
        ("iq4_nl", KvType::Iq4Nl),
    ];

    /// Its name in settings.
    pub fn as_str(self) -> &'static str {
        KvType::NAMED.into_iter().find(|(_, one)| *one == self).map_or("f16", |(name, _)| name)
    }

    /// Bytes that 32 numbers take.
    pub fn block_bytes(self) -> u64 {
        match self {
            KvType::F16 => 64,
            KvType::Q8_0 => 34,
            KvType::Q5_1 => 24,
            KvType::Q5_0 => 22,
            KvType::Q4_1 => 20,
            KvType::Q4_0 | KvType::Iq4Nl => 18,
        }
    }
}

/// The number formats of a cache's keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvTypes {
    /// The format of the keys.
    pub keys: KvType,
    /// The format of the values.
    pub values: KvType,
}

impl KvTypes {
    /// 16-bit floats for both, the only format that our own attention kernels read.
    pub const F16: KvTypes = KvTypes { keys: KvType::F16, values: KvType::F16 };
}

/// Writes `q8_0`, or `q8_0/q4_0` where keys and values differ.
impl fmt::Display for KvTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.keys.as_str())?;
        if self.keys == self.values { Ok(()) } else { write!(f, "/{}", self.values.as_str()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_file_format() {
        let ggml = [1, 8, 7, 6, 3, 2, 20];
        for ((name, one), ggml) in KvType::NAMED.into_iter().zip(ggml) {
            let (elements, bytes) = crate::gguf::block_of(ggml).expect("a known type");
            assert_eq!(one.block_bytes() * elements, bytes * 32, "{name}");
            assert_eq!(one.as_str(), name);
        }
        let mixed = KvTypes { keys: KvType::Q8_0, values: KvType::Iq4Nl };
        assert_eq!((mixed.to_string(), KvTypes::F16.to_string()), ("q8_0/iq4_nl".to_owned(), "f16".to_owned()));
    }
}
