//! Memory that an HTTP thread keeps from one request to the next, so that the next one allocates less.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::thread::LocalKey;

/// Buffers of one kind. Each thread has a place for one of them.
pub trait Keep: Default + 'static {
    /// The thread's place.
    fn place() -> &'static LocalKey<Cell<Self>>;

    /// Empties them for the next request. Returns whether they are small enough to be kept.
    fn clear(&mut self) -> bool;
}

/// The thread's buffers, or new ones while another request of the thread has these. They go back when this is dropped.
pub struct Kept<T: Keep>(T);

impl<T: Keep> Kept<T> {
    /// Takes the buffers out of the thread's place.
    pub fn take() -> Kept<T> {
        Kept(T::place().take())
    }
}

impl<T: Keep> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Keep> DerefMut for Kept<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Keep> Drop for Kept<T> {
    fn drop(&mut self) {
        if self.0.clear() {
            T::place().set(std::mem::take(&mut self.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Up to 8 bytes are kept.
    #[derive(Default)]
    struct Buffer {
        bytes: Vec<u8>,
    }

    thread_local! {
        static BUFFER: Cell<Buffer> = Cell::default();
    }

    impl Keep for Buffer {
        fn place() -> &'static LocalKey<Cell<Self>> {
            &BUFFER
        }

        fn clear(&mut self) -> bool {
            self.bytes.clear();
            self.bytes.capacity() <= 8
        }
    }

    #[test]
    fn small_buffers_come_back_empty_and_large_ones_do_not() {
        let mut first = Kept::<Buffer>::take();
        first.bytes.reserve_exact(8);
        first.bytes.extend_from_slice(b"abc");
        let at = first.bytes.as_ptr();
        assert_eq!(Kept::<Buffer>::take().bytes.capacity(), 0, "the thread's are taken");
        drop(first);
        let mut second = Kept::<Buffer>::take();
        assert_eq!((second.bytes.as_ptr(), second.bytes.len()), (at, 0));
        second.bytes.reserve_exact(9);
        drop(second);
        assert_eq!(Kept::<Buffer>::take().bytes.capacity(), 0);
    }
}
