//! What holds on to a reply slot: the two halves of a reply, and cancellers, which don't keep it from its next use.

use std::ops::Deref;

use super::bell::WakeHandle;
use super::reply::Slot;
use super::sync::{Arc, ArrayQueue, Ordering};

/// All slots of a pool.
pub(super) struct Shared {
    pub(super) slots: Box<[Slot]>,
    /// Indices of the slots that are free. Lock-free; its push and pop hand a slot from its last user to its next.
    pub(super) free: ArrayQueue<usize>,
    pub(super) wake: Option<WakeHandle>,
}

/// One half's hold on a slot. The second of the two to be dropped returns it to the pool.
pub(super) struct Lease {
    pub(super) shared: Arc<Shared>,
    pub(super) index: usize,
}

/// A reference to a slot that doesn't keep the slot from being reused.
pub(super) struct Unowned {
    shared: Arc<Shared>,
    index: usize,
}

impl Shared {
    /// Wakes the batching thread, if this pool knows it.
    fn wake_batch(&self) {
        if let Some(wake) = &self.wake {
            wake.wake();
        }
    }
}

impl Lease {
    pub(super) fn wake_batch(&self) {
        self.shared.wake_batch();
    }

    pub(super) fn unowned(&self) -> Unowned {
        Unowned { shared: Arc::clone(&self.shared), index: self.index }
    }
}

impl Deref for Lease {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        &self.shared.slots[self.index]
    }
}

impl Unowned {
    pub(super) fn wake_batch(&self) {
        self.shared.wake_batch();
    }
}

impl Deref for Unowned {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        &self.shared.slots[self.index]
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // ORDERING: see `Slot::halves`.
        if self.halves.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.forget_paths();
            self.shared.free.push(self.index).expect("a slot is freed once");
        }
    }
}
