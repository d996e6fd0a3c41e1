//! How many sequences hold each cell of a KV buffer that all sequences share. The count is exact: free room is never
//! estimated.
//!
//! llama.cpp shares a cell between sequences when a prefix is copied. The ledger mirrors that with a reference count
//! for each cell. The cell numbers here are ours; only the number of cells and their sharing match llama.cpp's.

/// Reference counts of all cells of a buffer.
#[derive(Debug)]
pub struct Ledger {
    /// How many sequences hold each cell.
    holders: Vec<u16>,
    /// How many of these serve a request now.
    live_holders: Vec<u16>,
    free: Vec<u32>,
    live: usize,
}

impl Ledger {
    /// A buffer of `total` cells, all free.
    pub fn new(total: u32) -> Ledger {
        let total_cells = total as usize;
        Ledger {
            holders: vec![0; total_cells],
            live_holders: vec![0; total_cells],
            free: (0..total).rev().collect(),
            live: 0,
        }
    }

    /// Cells that no sequence holds.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Cells that at least one running request holds.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Whether a running request holds the cell.
    pub fn is_live(&self, cell: u32) -> bool {
        self.live_holders[cell as usize] > 0
    }

    /// Whether exactly one running request holds the cell.
    pub fn is_live_once(&self, cell: u32) -> bool {
        self.live_holders[cell as usize] == 1
    }

    /// The number of all cells.
    pub fn total(&self) -> usize {
        self.holders.len()
    }

    /// Takes a free cell for a running request.
    pub fn take(&mut self) -> u32 {
        let cell = self.free.pop().expect("the decoder accepted a row, so there was a free cell");
        self.holders[cell as usize] = 1;
        self.live_holders[cell as usize] = 1;
        self.live += 1;
        cell
    }

    /// Adds a running request as a holder of the cell.
    pub fn share(&mut self, cell: u32) {
        self.holders[cell as usize] += 1;
        self.enliven(cell);
    }

    /// Removes an idle sequence as a holder of the cell.
    pub fn release(&mut self, cell: u32) {
        let holders = &mut self.holders[cell as usize];
        assert!(*holders > 0, "cell {cell} released twice");
        *holders -= 1;
        if *holders == 0 {
            self.free.push(cell);
        }
    }

    /// A sequence that holds the cell begins to serve a request.
    pub fn enliven(&mut self, cell: u32) {
        let live = &mut self.live_holders[cell as usize];
        *live += 1;
        if *live == 1 {
            self.live += 1;
        }
    }

    /// A sequence that holds the cell stops serving a request.
    pub fn retire(&mut self, cell: u32) {
        let live = &mut self.live_holders[cell as usize];
        assert!(*live > 0, "cell {cell} retired twice");
        *live -= 1;
        if *live == 0 {
            self.live -= 1;
        }
    }
}
