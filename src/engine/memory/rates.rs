//! The cost of prefilling one token of a prompt, and of restoring one block instead. Plain arithmetic over measured
//! times.

/// A step with fewer prompt rows than this isn't used to measure the cost of a row.
const ROWS_MIN: usize = 16;

/// Moving means, in nanoseconds; 0 before the first measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// To prefill one token.
    pub read_ns: u64,
    /// To put one block from memory into cells.
    pub restore_ns: u64,
    /// A request's wait for one block from the disk.
    pub disk_ns: u64,
    /// To save one block.
    pub save_ns: u64,
}

impl Rates {
    /// Learns from a step of `decoding` decode rows and `prompt` prompt rows that took `step_us`. `decode_us` is the
    /// duration of a step without prompt rows, 0 if unknown.
    pub(super) fn learn_reading(&mut self, decoding: usize, prompt: usize, step_us: u64, decode_us: u64) {
        if prompt < ROWS_MIN || (decoding > 0 && decode_us == 0) {
            return;
        }
        let others_us = if decoding > 0 { decode_us } else { 0 };
        mean(&mut self.read_ns, step_us.saturating_sub(others_us) * 1_000 / prompt as u64);
    }

    /// Learns that putting one block into cells took `us`.
    pub(super) fn learn_restoring(&mut self, us: u64) {
        mean(&mut self.restore_ns, us * 1_000);
    }

    /// Learns that a request waited `us` for a block from the disk.
    pub(super) fn learn_waiting(&mut self, us: u64) {
        mean(&mut self.disk_ns, us * 1_000);
    }

    /// Learns that saving one block took `us`.
    pub(super) fn learn_saving(&mut self, us: u64) {
        mean(&mut self.save_ns, us * 1_000);
    }

    /// Whether restoring `blocks` blocks, `of_disk` of them from the disk, is faster than prefilling `tokens` tokens.
    /// True before prefilling was measured, so that the first blocks measure the cost of restoring.
    pub(super) fn pays(&self, tokens: usize, blocks: usize, of_disk: usize) -> bool {
        self.read_ns == 0
            || blocks as u64 * self.restore_ns + of_disk as u64 * self.disk_ns < self.read_us(tokens) * 1_000
    }

    /// How long prefilling `tokens` tokens takes, in microseconds; 0 if unknown.
    pub(super) fn read_us(&self, tokens: usize) -> u64 {
        tokens as u64 * self.read_ns / 1_000
    }

    /// How long putting a block into cells takes, in microseconds.
    pub(super) fn restore_us(&self) -> u64 {
        self.restore_ns / 1_000
    }

    /// How long saving a block takes, in microseconds.
    pub(super) fn save_us(&self) -> u64 {
        self.save_ns / 1_000
    }

    /// Lowers the measured costs of restoring after blocks weren't restored because of them, so that restoring is tried
    /// again some time.
    pub(super) fn forget_a_little(&mut self) {
        self.restore_ns -= self.restore_ns / 16;
        self.disk_ns -= self.disk_ns / 16;
    }
}

/// Moves `mean` a quarter of the way to `new`.
fn mean(mean: &mut u64, new: u64) {
    *mean = if *mean == 0 { new.max(1) } else { ((3 * *mean + new) / 4).max(1) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Rates {
        let mut rates = Rates::default();
        // 100 us a token; 3 ms a block, and 5 ms more from the disk.
        rates.learn_reading(0, 512, 51_200, 0);
        rates.learn_restoring(3_000);
        rates.learn_waiting(5_000);
        rates
    }

    #[test]
    fn blocks_are_brought_where_that_is_cheaper() {
        let rates = measured();
        assert!(rates.pays(64, 1, 0) && !rates.pays(64, 1, 1), "6.4 ms against 3 and 8");
        assert!(rates.pays(640, 10, 6) && !rates.pays(640, 10, 7));
        assert!(Rates::default().pays(64, 1, 1), "what has not been measured is tried");
    }

    #[test]
    fn reading_beside_others_costs_what_it_adds() {
        let mut rates = Rates::default();
        rates.learn_reading(4, 20, 60_000, 0);
        rates.learn_reading(4, 3, 60_000, 50_000);
        assert_eq!(rates.read_us(1), 0, "neither says what a row costs");
        rates.learn_reading(4, 20, 60_000, 50_000);
        assert_eq!(rates.read_us(20), 10_000);
    }

    #[test]
    fn what_seemed_dear_is_tried_again_some_time() {
        let mut rates = measured();
        (0..40).for_each(|_| rates.learn_restoring(100_000));
        assert!(!rates.pays(64, 1, 0));
        (0..60).for_each(|_| rates.forget_a_little());
        assert!(rates.pays(64, 1, 0));
    }
}
