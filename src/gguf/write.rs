//! Writes a GGUF: metadata and list of tensors first, then each tensor's data as a stream. So a model of many gigabytes is
//! never in memory.

use std::io::{self, Write};

use super::{Value, ValueType};

/// The data of each tensor begins at a multiple of this many bytes (the format's default).
const ALIGNMENT: u64 = 32;

/// The metadata and the tensors of a new file. `start` writes the header and returns the stream for the data.
#[derive(Debug, Default)]
pub struct GgufWriter {
    keys: Vec<(String, Value)>,
    tensors: Vec<Planned>,
    data_bytes: u64,
}

#[derive(Debug)]
struct Planned {
    name: String,
    dims: Vec<u64>,
    ggml_type: u32,
    offset: u64,
    bytes: u64,
}

impl GgufWriter {
    /// A file without metadata and tensors.
    pub fn new() -> GgufWriter {
        GgufWriter::default()
    }

    /// Adds a metadata key, or replaces its value.
    pub fn add_kv(&mut self, key: &str, value: Value) -> &mut GgufWriter {
        match self.keys.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => *old = value,
            None => self.keys.push((key.to_owned(), value)),
        }
        self
    }

    /// Adds a tensor of `bytes` bytes; `dims[0]` is the width of a row. Tensors' data must be written in the order of these
    /// calls.
    pub fn add_tensor(&mut self, name: &str, dims: &[u64], ggml_type: u32, bytes: u64) -> &mut GgufWriter {
        let offset = self.data_bytes;
        self.tensors.push(Planned { name: name.to_owned(), dims: dims.to_vec(), ggml_type, offset, bytes });
        self.data_bytes = (offset + bytes).next_multiple_of(ALIGNMENT);
        self
    }

    /// Writes the header: magic number, metadata, list of tensors and padding.
    ///
    /// # Errors
    /// `to` can't be written to.
    pub fn start<W: Write>(self, mut to: W) -> io::Result<TensorStream<W>> {
        let mut head = Vec::new();
        head.extend_from_slice(b"GGUF");
        head.extend_from_slice(&3u32.to_le_bytes());
        head.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        head.extend_from_slice(&(self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            put_str(&mut head, key.as_bytes());
            put_value(&mut head, value);
        }
        for tensor in &self.tensors {
            put_str(&mut head, tensor.name.as_bytes());
            head.extend_from_slice(&(tensor.dims.len() as u32).to_le_bytes());
            tensor.dims.iter().for_each(|d| head.extend_from_slice(&d.to_le_bytes()));
            head.extend_from_slice(&tensor.ggml_type.to_le_bytes());
            head.extend_from_slice(&tensor.offset.to_le_bytes());
        }
        head.resize((head.len() as u64).next_multiple_of(ALIGNMENT) as usize, 0);
        to.write_all(&head)?;
        let sizes = self.tensors.iter().map(|t| t.bytes).collect();
        Ok(TensorStream { to, sizes, tensor: 0, written: 0 })
    }

    /// The bytes of a file without tensors, such as a vocabulary.
    ///
    /// # Panics
    /// If tensors were added.
    pub fn into_bytes(self) -> Vec<u8> {
        assert!(self.tensors.is_empty(), "tensors have data: use `start`");
        let mut out = Vec::new();
        self.start(&mut out).and_then(TensorStream::finish).expect("writing to memory doesn't fail");
        out
    }
}

/// Takes the data of the tensors in order, in pieces of any size.
pub struct TensorStream<W> {
    to: W,
    sizes: Vec<u64>,
    /// The index of the current tensor, and how many of its bytes are written.
    tensor: usize,
    written: u64,
}

impl<W: Write> TensorStream<W> {
    /// Writes the next bytes of the current tensor, and the padding at its end.
    ///
    /// # Errors
    /// `data` goes beyond the end of the tensor, or writing fails.
    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        let size =
            *self.sizes.get(self.tensor).ok_or_else(|| io::Error::other("there is more data than the tensors have"))?;
        let now = self.written + data.len() as u64;
        if now > size {
            return Err(io::Error::other(format!("tensor {} has {size} bytes, {now} were given", self.tensor)));
        }
        self.to.write_all(data)?;
        self.written = now;
        if now == size {
            let padding = size.next_multiple_of(ALIGNMENT) - size;
            self.to.write_all(&[0; ALIGNMENT as usize][..padding as usize])?;
            self.tensor += 1;
            self.written = 0;
        }
        Ok(())
    }

    /// Flushes.
    ///
    /// # Errors
    /// Data of some tensors is missing, or flushing fails.
    pub fn finish(mut self) -> io::Result<W> {
        if self.tensor != self.sizes.len() {
            return Err(io::Error::other(format!("only {} of {} tensors were written", self.tensor, self.sizes.len())));
        }
        self.to.flush()?;
        Ok(self.to)
    }
}

fn put_str(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text);
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let mut put = |ty: ValueType, bytes: &[u8]| {
        out.extend_from_slice(&(ty as u32).to_le_bytes());
        out.extend_from_slice(bytes);
    };
    match value {
        Value::U8(v) => put(ValueType::U8, &[*v]),
        Value::I8(v) => put(ValueType::I8, &v.to_le_bytes()),
        Value::U16(v) => put(ValueType::U16, &v.to_le_bytes()),
        Value::I16(v) => put(ValueType::I16, &v.to_le_bytes()),
        Value::U32(v) => put(ValueType::U32, &v.to_le_bytes()),
        Value::I32(v) => put(ValueType::I32, &v.to_le_bytes()),
        Value::F32(v) => put(ValueType::F32, &v.to_le_bytes()),
        Value::Bool(v) => put(ValueType::Bool, &[u8::from(*v)]),
        Value::U64(v) => put(ValueType::U64, &v.to_le_bytes()),
        Value::I64(v) => put(ValueType::I64, &v.to_le_bytes()),
        Value::F64(v) => put(ValueType::F64, &v.to_le_bytes()),
        Value::Str(text) => {
            put(ValueType::Str, &(text.len() as u64).to_le_bytes());
            out.extend_from_slice(text);
        }
        Value::Strs(strs) => {
            put(ValueType::Array, &(ValueType::Str as u32).to_le_bytes());
            out.extend_from_slice(&(strs.len() as u64).to_le_bytes());
            strs.iter().for_each(|text| put_str(out, text));
        }
        Value::Nums { ty, raw } => {
            put(ValueType::Array, &(*ty as u32).to_le_bytes());
            out.extend_from_slice(&(value.array_len().expect("an array") as u64).to_le_bytes());
            out.extend_from_slice(raw);
        }
    }
}
