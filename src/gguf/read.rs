//! Reads a GGUF's metadata and list of tensors. Runs once at start-up, on the calling thread.
//!
//! Every count and length is compared with the bytes left in the file before memory is allocated. So memory is bounded by
//! the size of the header, and the header by `GGUF_HEADER_BYTES_MAX`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::{Strs, Value, ValueType, block_of};
use crate::types::StartupError;
use crate::types::limits::{GGUF_HEADER_BYTES_MAX, GGUF_NAME_BYTES_MAX};

/// Most dimensions of a tensor, as in ggml (GGML_MAX_DIMS).
const DIMS_MAX: u32 = 4;

/// One tensor as the header describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// The tensor's name.
    pub name: String,
    /// Elements along each dimension, the fastest first.
    pub dims: Vec<u64>,
    /// The number of its ggml type.
    pub ggml_type: u32,
    /// Bytes from the start of the data section.
    pub offset: u64,
    /// Bytes of its data; `None`: the size of its type isn't known here.
    pub bytes: Option<u64>,
}

/// A GGUF without its tensor data.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    keys: Vec<String>,
    values: HashMap<String, Value>,
    tensors: Vec<TensorInfo>,
    data_offset: u64,
    file_bytes: u64,
}

impl GgufFile {
    /// Reads the header of `path`.
    ///
    /// # Errors
    /// The file isn't GGUF, ends within the header, or has counts that can't be true. Missing tensor data is no error here:
    /// see `check_complete`.
    pub fn open(path: &Path) -> Result<GgufFile, StartupError> {
        let refuse = |reason: String| StartupError::Model { path: path.to_owned(), reason };
        let file = File::open(path).map_err(|e| refuse(e.to_string()))?;
        let meta = file.metadata().map_err(|e| refuse(e.to_string()))?;
        if meta.is_dir() {
            return Err(refuse("is a directory".to_owned()));
        }
        Self::read(BufReader::new(file), meta.len(), path).map_err(refuse)
    }

    /// Like `open`, for a GGUF that lies at `offset..offset + bytes` of `path`.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_part(path: &Path, offset: u64, bytes: u64) -> Result<GgufFile, StartupError> {
        let refuse = |reason: String| StartupError::Model { path: path.to_owned(), reason };
        let mut file = File::open(path).map_err(|e| refuse(e.to_string()))?;
        file.seek(SeekFrom::Start(offset)).map_err(|e| refuse(e.to_string()))?;
        Self::read(BufReader::new(file.take(bytes)), bytes, path).map_err(refuse)
    }

    /// Like `open`, from a reader with `file_bytes` bytes; `path` is used only in messages.
    ///
    /// # Errors
    /// Why it is no GGUF that can be used.
    pub fn read(from: impl Read, file_bytes: u64, path: &Path) -> Result<GgufFile, String> {
        let mut input = HeaderInput { from, at: 0, end: file_bytes };
        let magic: [u8; 4] = input.array().map_err(|_| "not a GGUF file (too short)".to_owned())?;
        if &magic != b"GGUF" {
            return Err("not a GGUF file".to_owned());
        }
        let version = input.u32()?;
        if version == 0 || version > 0xffff {
            return Err("a big-endian or damaged GGUF, which can't be read here".to_owned());
        }
        if !(2..=3).contains(&version) {
            return Err(format!("GGUF version {version} is not supported (2 and 3 are)"));
        }
        let n_tensors = input.u64()?;
        let n_keys = input.u64()?;
        input.expect_room(n_keys, 13, "metadata keys")?;
        input.expect_room(n_tensors, 25, "tensors")?;

        let mut keys = Vec::new();
        let mut values = HashMap::new();
        for _ in 0..n_keys {
            let key = input.name("a metadata key")?;
            let ty = input.value_type(&key)?;
            let value = input.value(ty, &key)?;
            if values.insert(key.clone(), value).is_some() {
                return Err(format!("metadata key {key:?} appears twice"));
            }
            keys.push(key);
        }

        let mut tensors = Vec::new();
        for _ in 0..n_tensors {
            tensors.push(input.tensor()?);
        }
        let alignment = match values.get("general.alignment") {
            None => 32,
            Some(Value::U32(n)) if n.is_power_of_two() => u64::from(*n),
            Some(_) => return Err("general.alignment is not a power of two".to_owned()),
        };
        let data_offset = input.at.next_multiple_of(alignment);
        Ok(GgufFile { path: path.to_owned(), keys, values, tensors, data_offset, file_bytes })
    }

    /// The path that it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Metadata keys in file order.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// The value of `key`, of any type.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// The value of `key`, if it is a string of UTF-8.
    pub fn str(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::Str(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The value of `key`, if it is an integer that fits in 64 bits without a sign.
    pub fn u64(&self, key: &str) -> Option<u64> {
        match *self.get(key)? {
            Value::U8(v) => Some(v.into()),
            Value::U16(v) => Some(v.into()),
            Value::U32(v) => Some(v.into()),
            Value::U64(v) => Some(v),
            Value::I8(v) => v.try_into().ok(),
            Value::I16(v) => v.try_into().ok(),
            Value::I32(v) => v.try_into().ok(),
            Value::I64(v) => v.try_into().ok(),
            _ => None,
        }
    }

    /// The value of `key`, if it is an integer that fits in 32 bits without a sign.
    pub fn u32(&self, key: &str) -> Option<u32> {
        self.u64(key)?.try_into().ok()
    }

    /// The value of `key`, if it is a boolean.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match *self.get(key)? {
            Value::Bool(v) => Some(v),
            _ => None,
        }
    }

    /// The value of `key`, if it is a floating-point number.
    pub fn f32(&self, key: &str) -> Option<f32> {
        match *self.get(key)? {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(v as f32),
            _ => None,
        }
    }

    /// The value of `key`, if it is an array of strings.
    pub fn strs(&self, key: &str) -> Option<&Strs> {
        match self.get(key)? {
            Value::Strs(strs) => Some(strs),
            _ => None,
        }
    }

    /// The value of `key`, if it is an array of `i32` or `u32`. The bits of a `u32` are kept.
    pub fn i32s(&self, key: &str) -> Option<Vec<i32>> {
        match self.get(key)? {
            Value::Nums { ty: ValueType::I32 | ValueType::U32, raw } => {
                Some(raw.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect())
            }
            _ => None,
        }
    }

    /// The value of `key`, if it is an array of `f32`.
    pub fn f32s(&self, key: &str) -> Option<Vec<f32>> {
        match self.get(key)? {
            Value::Nums { ty: ValueType::F32, raw } => {
                Some(raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
            }
            _ => None,
        }
    }

    /// The tensors in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Where the tensor data begins, in bytes from the start of the file.
    pub fn data_offset(&self) -> u64 {
        self.data_offset
    }

    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Checks that the file contains every tensor's data.
    ///
    /// # Errors
    /// The file is shorter, probably because a download was interrupted.
    pub fn check_complete(&self) -> Result<(), StartupError> {
        let mut needed = 0;
        for tensor in &self.tensors {
            let end = tensor.bytes.and_then(|n| self.data_offset.checked_add(tensor.offset)?.checked_add(n));
            needed = needed.max(end.unwrap_or(0));
        }
        if needed > self.file_bytes {
            let reason = format!(
                "truncated: its tensors need {needed} bytes, the file has {} (download again?)",
                self.file_bytes
            );
            return Err(StartupError::Model { path: self.path.clone(), reason });
        }
        Ok(())
    }
}

/// The reader, and the bytes that are left of it.
struct HeaderInput<R> {
    from: R,
    at: u64,
    end: u64,
}

impl<R: Read> HeaderInput<R> {
    fn left(&self) -> u64 {
        self.end.saturating_sub(self.at).min(GGUF_HEADER_BYTES_MAX.saturating_sub(self.at))
    }

    /// Checks that `count` items of at least `bytes_min` bytes each fit in the rest of the file.
    fn expect_room(&self, count: u64, bytes_min: u64, what: &str) -> Result<(), String> {
        match count.checked_mul(bytes_min) {
            Some(bytes) if bytes <= self.left() => Ok(()),
            _ if self.end > GGUF_HEADER_BYTES_MAX => Err(format!("damaged: {count} {what} don't fit in a GGUF header")),
            _ => Err(format!("truncated or damaged: {count} {what} don't fit in the {} bytes left", self.left())),
        }
    }

    fn bytes(&mut self, n: u64) -> Result<Vec<u8>, String> {
        self.expect_room(n, 1, "bytes")?;
        let mut out = vec![0; n as usize];
        self.from.read_exact(&mut out).map_err(|e| format!("read failed in the header: {e}"))?;
        self.at += n;
        Ok(out)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        if self.left() < N as u64 {
            return Err("truncated in the header".to_owned());
        }
        let mut out = [0; N];
        self.from.read_exact(&mut out).map_err(|e| format!("read failed in the header: {e}"))?;
        self.at += N as u64;
        Ok(out)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    fn name(&mut self, what: &str) -> Result<String, String> {
        let n = self.u64()?;
        if n > GGUF_NAME_BYTES_MAX {
            return Err(format!("truncated or damaged: {what} of {n} bytes"));
        }
        String::from_utf8(self.bytes(n)?).map_err(|_| format!("damaged: {what} is not UTF-8"))
    }

    fn value_type(&mut self, key: &str) -> Result<ValueType, String> {
        let code = self.u32()?;
        ValueType::from_u32(code).ok_or_else(|| format!("damaged: {key:?} has the unknown value type {code}"))
    }

    fn value(&mut self, ty: ValueType, key: &str) -> Result<Value, String> {
        Ok(match ty {
            ValueType::U8 => Value::U8(self.array::<1>()?[0]),
            ValueType::I8 => Value::I8(i8::from_le_bytes(self.array()?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(self.array()?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(self.array()?)),
            ValueType::U32 => Value::U32(self.u32()?),
            ValueType::I32 => Value::I32(i32::from_le_bytes(self.array()?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(self.array()?)),
            ValueType::Bool => Value::Bool(self.array::<1>()?[0] != 0),
            ValueType::U64 => Value::U64(self.u64()?),
            ValueType::I64 => Value::I64(i64::from_le_bytes(self.array()?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(self.array()?)),
            ValueType::Str => {
                let n = self.u64()?;
                Value::Str(self.bytes(n)?)
            }
            ValueType::Array => {
                let ty = self.value_type(key)?;
                let n = self.u64()?;
                match ty.size() {
                    Some(size) => {
                        self.expect_room(n, size as u64, "array entries")?;
                        Value::Nums { ty, raw: self.bytes(n * size as u64)? }
                    }
                    None if ty == ValueType::Str => {
                        self.expect_room(n, 8, "strings")?;
                        let mut strs = Strs::default();
                        for _ in 0..n {
                            let len = self.u64()?;
                            let text = self.bytes(len)?;
                            strs.push(&text);
                        }
                        Value::Strs(strs)
                    }
                    None => return Err(format!("{key:?} is an array of arrays, which GGUF readers don't accept")),
                }
            }
        })
    }

    fn tensor(&mut self) -> Result<TensorInfo, String> {
        let name = self.name("a tensor name")?;
        let n_dims = self.u32()?;
        if n_dims > DIMS_MAX {
            return Err(format!("damaged: tensor {name:?} has {n_dims} dimensions"));
        }
        let dims = (0..n_dims).map(|_| self.u64()).collect::<Result<Vec<_>, _>>()?;
        let ggml_type = self.u32()?;
        let offset = self.u64()?;
        let elements = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
        let elements = elements.ok_or_else(|| format!("damaged: tensor {name:?} is absurdly large"))?;
        let bytes = block_of(ggml_type).and_then(|(block, bytes)| elements.div_ceil(block).checked_mul(bytes));
        Ok(TensorInfo { name, dims, ggml_type, offset, bytes })
    }
}
