//! Embeddings on their way from the batching thread to an HTTP thread, beside a reply slot.
//!
//! The HTTP thread of the request allocates the memory, so that other requests don't pay for it. The batching thread
//! fills it and hands it over as a whole, once, before the reply's terminal. It passes by ownership: neither side can
//! see what the other still writes.

use std::sync::{Arc, OnceLock};

/// Makes both halves of a room for `len` numbers, all 0.
pub fn vectors(len: usize) -> (VectorsWriter, VectorsReader) {
    let place = Arc::new(OnceLock::new());
    (VectorsWriter { numbers: vec![0.0; len], place: Arc::clone(&place) }, VectorsReader { place })
}

/// The batching thread's half. If it is dropped without `publish`, the reader gets nothing.
#[derive(Debug)]
pub struct VectorsWriter {
    numbers: Vec<f32>,
    place: Arc<OnceLock<Vec<f32>>>,
}

impl VectorsWriter {
    /// The numbers, to be written: all embeddings one after the other, in the order of the inputs.
    pub fn numbers(&mut self) -> &mut [f32] {
        &mut self.numbers
    }

    /// Hands the numbers to the reader.
    pub fn publish(self) {
        // There is one writer and this call consumes it, so the place is empty.
        let _ = self.place.set(self.numbers);
    }
}

/// The HTTP thread's half.
#[derive(Debug)]
pub struct VectorsReader {
    place: Arc<OnceLock<Vec<f32>>>,
}

impl VectorsReader {
    /// The published numbers; `None` before that, and for a request that ended without them.
    pub fn numbers(&self) -> Option<&[f32]> {
        self.place.get().map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::vectors;

    #[test]
    fn numbers_arrive_whole_or_not_at_all() {
        let (mut writer, reader) = vectors(2);
        writer.numbers()[1] = 3.0;
        assert_eq!(reader.numbers(), None);
        writer.publish();
        assert_eq!(reader.numbers(), Some(&[0.0, 3.0][..]));
        let (writer, reader) = vectors(2);
        drop(writer);
        assert_eq!(reader.numbers(), None);
    }
}
