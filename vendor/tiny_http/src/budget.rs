//! A budget of bytes that all connections share: many leases, one bound. Any thread; one atomic, no lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bound for the bytes of all leases together.
#[derive(Debug)]
pub(crate) struct Budget {
    /// ORDERING: a counter by itself, nothing is published through it, so every access is Relaxed.
    taken: AtomicUsize,
    bytes_max: usize,
}

/// A part of a [`Budget`], given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Arc<Budget> {
        Arc::new(Budget { taken: AtomicUsize::new(0), bytes_max })
    }

    /// A lease of no bytes yet.
    pub(crate) fn lease(self: &Arc<Budget>) -> Lease {
        Lease { budget: Arc::clone(self), bytes: 0 }
    }
}

impl Lease {
    /// Enlarges the lease to at least `bytes`. `false`: the budget is used up, and the lease is unchanged.
    #[must_use]
    pub(crate) fn cover(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return true;
        }
        let fits = |taken: usize| taken.checked_add(more).filter(|sum| *sum <= self.budget.bytes_max);
        if self.budget.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            return false;
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_share_one_bound_and_give_back() {
        let budget = Budget::new(10);
        let (mut a, mut b) = (budget.lease(), budget.lease());
        assert!(a.cover(6) && !b.cover(5) && b.cover(4));
        assert!(a.cover(3), "a lease never shrinks, covering less is free");
        drop(a);
        assert!(b.cover(10) && !budget.lease().cover(1));
    }
}
