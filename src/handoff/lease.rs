//! References to a reply slot: those of the two halves of a reply, which keep the slot in use, and those of cancellers,
//! which don't.

use std::ops::Deref;

use super::bell::WakeHandle;
use super::reply::ReplySlot;
use super::sync::{Arc, ArrayQueue, Ordering};

/// The state shared by all slots of a pool.
pub(super) struct PoolShared {
    pub(super) slots: Box<[ReplySlot]>,
    /// Indices of the free slots. Lock-free; its push and pop order the accesses of a slot's last user before those of
    /// its next user.
    pub(super) free: ArrayQueue<usize>,
    pub(super) wake: Option<WakeHandle>,
}

/// One half's reference to a slot. The drop of the second half's reference returns the slot to the pool.
pub(super) struct Lease {
    pub(super) shared: Arc<PoolShared>,
    pub(super) index: usize,
}

/// A reference to a slot that doesn't keep the slot from being reused.
pub(super) struct Unowned {
    shared: Arc<PoolShared>,
    index: usize,
}

impl PoolShared {
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
    type Target = ReplySlot;

    fn deref(&self) -> &ReplySlot {
        &self.shared.slots[self.index]
    }
}

impl Unowned {
    pub(super) fn wake_batch(&self) {
        self.shared.wake_batch();
    }
}

impl Deref for Unowned {
    type Target = ReplySlot;

    fn deref(&self) -> &ReplySlot {
        &self.shared.slots[self.index]
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // ORDERING: see `ReplySlot::halves`.
        if self.halves.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.forget_paths();
            self.shared.free.push(self.index).expect("a slot is freed once");
        }
    }
}
