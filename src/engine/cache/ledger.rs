//! How many sequences hold each cell of a KV buffer that all sequences share. The count is exact: room is never estimated.
//!
//! llama.cpp shares a cell between sequences when a prefix is copied. The ledger mirrors that with a reference count
//! a cell. Cell numbers here are ours; only their number and their sharing match llama.cpp's.

/// Reference counts of `total` cells.
#[derive(Debug)]
pub struct Ledger {
    /// Sequences that hold the cell.
    holders: Vec<u16>,
    /// Of those, how many serve a request now.
    live_holders: Vec<u16>,
    free: Vec<u32>,
    live: usize,
}

impl Ledger {
    pub fn new(total: u32) -> Ledger {
        let total_cells = total as usize;
        Ledger {
            holders: vec![0; total_cells],
            live_holders: vec![0; total_cells],
            free: (0..total).rev().collect(),
            live: 0,
        }
    }

    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Cells that at least one live sequence holds.
    pub fn live(&self) -> usize {
        self.live
    }

    pub fn is_live(&self, cell: u32) -> bool {
        self.live_holders[cell as usize] > 0
    }

    /// Whether exactly one live sequence holds the cell.
    pub fn is_live_once(&self, cell: u32) -> bool {
        self.live_holders[cell as usize] == 1
    }

    pub fn total(&self) -> usize {
        self.holders.len()
    }

    /// A fresh cell for a live sequence.
    pub fn take(&mut self) -> u32 {
        let cell = self.free.pop().expect("the decoder accepted a row, so there was a free cell");
        self.holders[cell as usize] = 1;
        self.live_holders[cell as usize] = 1;
        self.live += 1;
        cell
    }

    /// One more sequence, live, holds the cell.
    pub fn share(&mut self, cell: u32) {
        self.holders[cell as usize] += 1;
        self.enliven(cell);
    }

    /// A sequence that isn't live gives the cell up.
    pub fn release(&mut self, cell: u32) {
        let holders = &mut self.holders[cell as usize];
        assert!(*holders > 0, "cell {cell} released twice");
        *holders -= 1;
        if *holders == 0 {
            self.free.push(cell);
        }
    }

    /// A holder begins to serve a request.
    pub fn enliven(&mut self, cell: u32) {
        let live = &mut self.live_holders[cell as usize];
        *live += 1;
        if *live == 1 {
            self.live += 1;
        }
    }

    /// A holder stops serving.
    pub fn retire(&mut self, cell: u32) {
        let live = &mut self.live_holders[cell as usize];
        assert!(*live > 0, "cell {cell} retired twice");
        *live -= 1;
        if *live == 0 {
            self.live -= 1;
        }
    }
}
