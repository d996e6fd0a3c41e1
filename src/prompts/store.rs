//! The batching thread's side of both tiers: which blocks are where, and the jobs for the disk thread.
//!
//! A block that is put is in RAM at once and is written soon after, so that a crash loses little. While it waits to be
//! written, its memory counts and isn't released. A block that is fetched is read into RAM, where room is reserved for
//! it when it is requested. So the bytes in RAM, on their way to the disk and on their way from it are together never
//! more than the size of the RAM tier; only a block that the engine is copying into cells at that moment may exceed it.
//!
//! No call here waits: both queues to and from the disk thread are lock-free, and a job for which there is no place is
//! tried again at the next call.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;

use super::carried::Carried;
use super::header;
use super::lru::Lru;
use super::medium::{Medium, Plain};
use super::worker::{DiskJob, DiskReport, Warned, Worker};
use crate::handoff::{Sender, ring};
use crate::metrics::PromptTiers;
use crate::types::StartupError;
use crate::types::limits::{
    PROMPT_AHEAD_MAX, PROMPT_END_MS_MAX, PROMPT_JOBS_MAX, PROMPT_OPEN_MS_MAX, PROMPT_READS_MAX, PROMPT_UNSAVED_MAX,
};
use crate::types::prompts::{BlockBytes, BlockName, Fetched, Held, Identity, PromptStore, Tier};

/// The sizes of the tiers, and the disk's folder.
pub struct StoreOptions {
    /// Most bytes in RAM.
    pub ram_bytes: u64,
    /// The disk tier; `None`: there is none.
    pub disk: Option<DiskOptions>,
    /// What the state of a block depends on besides its tokens.
    pub identity: Identity,
    /// Wakes the batching thread when a block that it asked for has been read.
    pub wake: Box<dyn Fn() + Send>,
    /// The counters of both tiers.
    pub metrics: Arc<PromptTiers>,
}

/// The disk tier's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// The folder's path.
    pub folder: PathBuf,
    /// Most bytes of its files together.
    pub bytes: u64,
}

/// The tiers.
pub struct Store {
    /// Blocks that an appliance carries: the state, and its CRC-32 until it was compared.
    carried: HashMap<BlockName, (BlockBytes, Option<u32>)>,
    ram: Lru<InRam>,
    disk: Option<Disk>,
    metrics: Arc<PromptTiers>,
}

/// A block in RAM.
#[derive(Clone)]
struct InRam {
    state: BlockBytes,
    tokens: u32,
}

/// What is known about the disk, and its pending jobs.
struct Disk {
    /// The blocks on the disk; `None`: the folder isn't open yet, or can't be used.
    index: Option<Lru<()>>,
    /// Whether the folder may still be opened.
    may_open: bool,
    jobs: Sender<DiskJob>,
    reports: Arc<ArrayQueue<DiskReport>>,
    /// Jobs without a report.
    under_way: usize,
    /// Blocks in RAM that must be written, in their order.
    unsaved: VecDeque<BlockName>,
    /// Blocks that are being written, with the bytes reserved for each on the disk. In RAM they are pinned.
    saving: HashMap<BlockName, u64>,
    /// The bytes of `saving` in RAM.
    saving_bytes: u64,
    /// Whether the latest write failed. Then only one is tried at a time.
    is_failing: bool,
    /// Blocks to remove from the disk that the disk thread hasn't been told of.
    to_remove: Vec<BlockName>,
    /// Blocks to read, in order.
    ahead: VecDeque<BlockName>,
    /// Blocks that are being read, with the bytes reserved for each in RAM.
    coming: HashMap<BlockName, u64>,
    /// Blocks that were read and not taken by the engine yet. They are pinned.
    untaken: HashSet<BlockName>,
    /// Bytes of `coming` and `untaken`.
    ahead_bytes: u64,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens the tiers. If there is a disk tier, starts the disk thread and waits a moment until its folder is open.
    ///
    /// # Errors
    /// The system can't start a thread.
    pub fn open(options: StoreOptions) -> Result<Store, StartupError> {
        let Some(disk) = options.disk.clone() else {
            return Ok(Store::in_ram(options.ram_bytes, options.metrics));
        };
        let medium = Plain::new(&disk.folder);
        let (mut store, worker) = Store::with_worker(options, &disk, medium);
        let thread = std::thread::Builder::new().name("prompts".into()).spawn(|| worker.run()).map_err(|error| {
            StartupError::System { doing: "start the thread of --prompt-disk".into(), reason: error.to_string() }
        })?;
        let until = Instant::now() + Duration::from_millis(PROMPT_OPEN_MS_MAX);
        if let Some(disk) = &mut store.disk {
            disk.thread = Some(thread);
        }
        while store.disk.as_ref().is_some_and(|disk| disk.may_open) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
            store.hear();
        }
        Ok(store)
    }

    /// A store without a disk.
    pub fn in_ram(bytes: u64, metrics: Arc<PromptTiers>) -> Store {
        metrics.ram_bytes_max.set(bytes);
        Store { carried: HashMap::new(), ram: Lru::new(bytes), disk: None, metrics }
    }

    /// Adds the blocks of an appliance, which take no memory of the RAM tier.
    #[must_use]
    pub fn carrying(mut self, blocks: Vec<Carried>) -> Store {
        self.carried = blocks.into_iter().map(|block| (block.name, (block.state, Some(block.crc)))).collect();
        self
    }

    /// A carried block, if its checksum is right. Damage is logged once, and the block forgotten.
    fn carried(&mut self, name: &BlockName) -> Option<BlockBytes> {
        let (state, unchecked) = self.carried.get_mut(name)?;
        if let Some(crc) = unchecked.take()
            && crc32fast::hash(state) != crc
        {
            self.metrics.damaged.inc();
            tracing::warn!(
                "prompt memory: a block that this program carries is damaged; its tokens are prefilled again"
            );
            self.carried.remove(name);
            return None;
        }
        Some(state.clone())
    }

    /// A store and the disk thread's state, which the caller runs: on a thread, or step by step in a test.
    pub fn with_worker<M: Medium>(options: StoreOptions, disk: &DiskOptions, medium: M) -> (Store, Worker<M>) {
        // One place more, so that there is always one for `Stop`.
        let (jobs, inbox) = ring(PROMPT_JOBS_MAX + 1);
        // One place more, for `Opened`.
        let reports = Arc::new(ArrayQueue::new(PROMPT_JOBS_MAX + 1));
        let worker = Worker {
            medium: Some(medium),
            folder: None,
            path: disk.folder.clone(),
            size: disk.bytes,
            identity: options.identity,
            inbox: inbox.with_looks(0),
            reports: Arc::clone(&reports),
            wake: options.wake,
            metrics: Arc::clone(&options.metrics),
            reads: VecDeque::new(),
            writes: VecDeque::new(),
            is_stopping: false,
            paused_until: None,
            warned: Warned::default(),
        };
        options.metrics.disk_bytes_max.set(disk.bytes);
        let mut store = Store::in_ram(options.ram_bytes, options.metrics);
        store.disk = Some(Disk {
            index: None,
            may_open: true,
            jobs,
            reports,
            under_way: 0,
            unsaved: VecDeque::new(),
            saving: HashMap::new(),
            saving_bytes: 0,
            is_failing: false,
            to_remove: Vec::new(),
            ahead: VecDeque::new(),
            coming: HashMap::new(),
            untaken: HashSet::new(),
            ahead_bytes: 0,
            thread: None,
        });
        (store, worker)
    }

    /// Bytes in RAM, and bytes on the disk.
    pub fn bytes(&self) -> (u64, u64) {
        let index = self.disk.as_ref().and_then(|disk| disk.index.as_ref());
        (self.ram.bytes(), index.map_or(0, Lru::bytes))
    }

    /// Whether the disk thread has no work for this store.
    pub fn is_idle(&mut self) -> bool {
        self.hear();
        self.disk.as_ref().is_none_or(|disk| disk.under_way == 0 && (disk.unsaved.is_empty() || disk.index.is_none()))
    }

    /// Handles the disk thread's reports, and gives it more jobs.
    fn hear(&mut self) {
        self.metrics.ram_bytes.set(self.ram.bytes());
        self.metrics.ram_blocks.set(self.ram.count() as u64);
        let Some(disk) = &mut self.disk else { return };
        while let Some(report) = disk.reports.pop() {
            match report {
                DiskReport::Opened(index) => {
                    (disk.index, disk.may_open) = (Some(index), false);
                }
                DiskReport::Closed => {
                    disk.may_open = false;
                    disk.unsaved.clear();
                }
                DiskReport::Read(name, block) => {
                    disk.under_way -= 1;
                    disk.has_come(&mut self.ram, name, block);
                }
                DiskReport::Written(name, is_written) => {
                    disk.under_way -= 1;
                    disk.is_written(&mut self.ram, name, is_written);
                }
            }
        }
        disk.read_on(&mut self.ram);
        disk.save_on(&mut self.ram, &self.carried, &self.metrics);
        self.metrics.ram_bytes.set(self.ram.bytes());
        self.metrics.ram_blocks.set(self.ram.count() as u64);
        if let Some(index) = &disk.index {
            self.metrics.disk_bytes.set(index.bytes());
            self.metrics.disk_blocks.set(index.count() as u64);
        }
    }
}

impl Disk {
    fn has(&self, name: &BlockName) -> bool {
        self.index.as_ref().is_some_and(|index| index.has(name))
    }

    /// Handles the end of a read.
    fn has_come(&mut self, ram: &mut Lru<InRam>, name: BlockName, block: Option<(u32, Vec<u8>)>) {
        let Some(kept) = self.coming.remove(&name) else { return };
        ram.unreserve(kept);
        self.ahead_bytes -= kept;
        let Some(index) = &mut self.index else { return };
        let Some((tokens, state)) = block else {
            index.remove(&name);
            return;
        };
        let (parent, bytes) = (index.about(&name).and_then(|about| about.1), state.len() as u64);
        // The block may have been put meanwhile; and a file that was replaced may be larger than the reserved room.
        if ram.has(&name) || bytes > kept {
            return;
        }
        ram.insert(name, parent, bytes, InRam { state: BlockBytes::new(state), tokens });
        ram.pin(&name);
        self.untaken.insert(name);
        self.ahead_bytes += bytes;
    }

    /// Handles the end of a write.
    fn is_written(&mut self, ram: &mut Lru<InRam>, name: BlockName, is_written: bool) {
        let Some(kept) = self.saving.remove(&name) else { return };
        ram.unpin(&name);
        let (bytes, parent) = ram.about(&name).unwrap_or_default();
        self.saving_bytes -= bytes;
        self.is_failing = !is_written;
        let Some(index) = &mut self.index else { return };
        index.unreserve(kept);
        if is_written {
            index.insert(name, parent, kept, ());
        } else {
            self.save_later(name);
        }
    }

    /// Adds a block to those that must be written. Beyond a bound the oldest waiting ones are left unsaved.
    fn save_later(&mut self, name: BlockName) {
        self.unsaved.push_back(name);
        if self.unsaved.len() > PROMPT_UNSAVED_MAX {
            self.unsaved.pop_front();
        }
    }

    /// Starts as many writes as may be pending.
    fn save_on(
        &mut self,
        ram: &mut Lru<InRam>,
        carried: &HashMap<BlockName, (BlockBytes, Option<u32>)>,
        metrics: &PromptTiers,
    ) {
        let Some(index) = &mut self.index else { return };
        let most = if self.is_failing { 1 } else { PROMPT_JOBS_MAX - PROMPT_READS_MAX };
        while self.saving.len() < most
            && let Some(name) = self.unsaved.front().copied()
        {
            let Some((bytes, parent)) = ram.about(&name).filter(|_| !index.has(&name)) else {
                self.unsaved.pop_front();
                continue;
            };
            // At most half of the RAM tier waits for the disk, so that there is always room for new blocks.
            if self.saving_bytes + bytes > ram.size() / 2 && !self.saving.is_empty() {
                return;
            }
            self.unsaved.pop_front();
            let on_disk = header::bytes_on_disk(bytes);
            let Some(InRam { state, tokens }) = ram.value(&name).cloned() else { continue };
            // The nearest block before it that is on the disk; those between are on their way there.
            let mut before = parent;
            while let Some(between) = before.filter(|name| self.saving.contains_key(name)) {
                before = ram.about(&between).and_then(|about| about.1);
            }
            let is_reachable = before.is_none_or(|before| index.has(&before) || carried.contains_key(&before));
            if !is_reachable || !index.make_room(before.as_ref(), on_disk, &mut self.to_remove) {
                metrics.dropped.inc();
                continue;
            }
            index.reserve(on_disk);
            ram.pin(&name);
            self.saving.insert(name, on_disk);
            self.saving_bytes += bytes;
            self.under_way += 1;
            let remove = std::mem::take(&mut self.to_remove);
            let pushed = self.jobs.push(DiskJob::Write { name, parent, tokens, state, remove });
            assert!(pushed.is_ok(), "there is a place for each job");
        }
    }

    /// Starts as many reads as may be pending.
    fn read_on(&mut self, ram: &mut Lru<InRam>) {
        let Some(index) = &self.index else { return self.ahead.clear() };
        while self.coming.len() < PROMPT_READS_MAX
            && let Some(name) = self.ahead.front().copied()
        {
            let wanted = !ram.has(&name) && !self.coming.contains_key(&name);
            let Some((bytes, _)) = index.about(&name).filter(|_| wanted) else {
                self.ahead.pop_front();
                continue;
            };
            // At most half of the RAM tier is read ahead of the engine.
            if self.ahead_bytes + bytes > ram.size() / 2 && self.ahead_bytes > 0 {
                return;
            }
            // Room is made anywhere, not only behind its parent: of a chain longer than the RAM tier, the blocks that
            // the engine has taken may be evicted.
            let mut evicted = Vec::new();
            if !ram.make_room(None, bytes, &mut evicted) {
                return;
            }
            self.ahead.pop_front();
            ram.reserve(bytes);
            self.coming.insert(name, bytes);
            self.ahead_bytes += bytes;
            self.under_way += 1;
            let pushed = self.jobs.push(DiskJob::Read(name));
            assert!(pushed.is_ok(), "there is a place for each job");
        }
    }

    /// Blocks that were read ahead and not taken may be evicted from now on. Their request may be gone.
    fn let_go(&mut self, ram: &mut Lru<InRam>) {
        for name in self.untaken.drain() {
            self.ahead_bytes -= ram.about(&name).map_or(0, |about| about.0);
            ram.unpin(&name);
        }
    }
}

impl PromptStore for Store {
    fn held(&mut self, names: &[BlockName]) -> Held {
        self.hear();
        let on_disk = |name: &BlockName| self.disk.as_ref().is_some_and(|disk| disk.has(name));
        let in_memory = |name: &BlockName| self.ram.has(name) || self.carried.contains_key(name);
        let ram = names.iter().take_while(|name| in_memory(name)).count();
        let all = ram + names[ram..].iter().take_while(|name| in_memory(name) || on_disk(name)).count();
        // A use of a block counts as a use of all before it.
        if let Some(last) = all.checked_sub(1).map(|last| names[last]) {
            self.ram.touch(&last);
            if let Some(index) = self.disk.as_mut().and_then(|disk| disk.index.as_mut()) {
                index.touch(&last);
            }
        }
        Held { all, ram }
    }

    fn fetch(&mut self, names: &[BlockName]) {
        if let Some(disk) = &mut self.disk {
            disk.let_go(&mut self.ram);
            // The latest request comes first. An earlier one may be gone; if it isn't, it asks again.
            disk.ahead.truncate(PROMPT_AHEAD_MAX.saturating_sub(names.len()));
            names.iter().take(PROMPT_AHEAD_MAX).rev().for_each(|name| disk.ahead.push_front(*name));
        }
        self.hear();
    }

    fn get(&mut self, name: &BlockName) -> Fetched {
        self.hear();
        if let Some(InRam { state, .. }) = self.ram.value(name) {
            let state = state.clone();
            let mut tier = Tier::Ram;
            if let Some(disk) = &mut self.disk
                && disk.untaken.remove(name)
            {
                tier = Tier::Disk;
                disk.ahead_bytes -= state.len() as u64;
                self.ram.unpin(name);
                disk.read_on(&mut self.ram);
            }
            self.ram.touch(name);
            return Fetched::Ready(state, tier);
        }
        if let Some(state) = self.carried(name) {
            return Fetched::Ready(state, Tier::File);
        }
        let Some(disk) = &mut self.disk else { return Fetched::Gone };
        if !disk.coming.contains_key(name) {
            match disk.index.as_ref().and_then(|index| index.about(name)) {
                Some((bytes, _)) if bytes <= self.ram.size() => {}
                _ => return Fetched::Gone,
            }
            disk.ahead.retain(|other| other != name);
            disk.ahead.push_front(*name);
            disk.read_on(&mut self.ram);
            if !disk.coming.contains_key(name) {
                // Blocks that were read for another request may use up the room, and that request may never take them.
                disk.let_go(&mut self.ram);
                disk.read_on(&mut self.ram);
            }
        }
        Fetched::Coming
    }

    fn put(&mut self, name: BlockName, parent: Option<BlockName>, tokens: u32, bytes: Vec<u8>) {
        let (size, mut evicted) = (bytes.len() as u64, Vec::new());
        let on_disk = |name: &BlockName| self.disk.as_ref().is_some_and(|disk| disk.has(name));
        // Without its parent the block could never be reached.
        let is_here = |name: &BlockName| self.ram.has(name) || on_disk(name) || self.carried.contains_key(name);
        let is_reachable = parent.is_none_or(|parent| is_here(&parent));
        if self.ram.has(&name) {
            self.ram.touch(&name);
        } else if is_reachable && self.ram.make_room(parent.as_ref(), size, &mut evicted) {
            self.ram.insert(name, parent, size, InRam { state: BlockBytes::new(bytes), tokens });
        } else {
            self.metrics.dropped.inc();
        }
        if let Some(disk) = &mut self.disk
            && self.ram.has(&name)
            && !disk.has(&name)
            && !disk.saving.contains_key(&name)
            && (disk.may_open || disk.index.is_some())
        {
            disk.save_later(name);
        }
        self.hear();
    }

    fn wants(&mut self, name: &BlockName) -> bool {
        self.hear();
        let is_held = self.ram.has(name) || self.disk.as_ref().is_some_and(|disk| disk.has(name));
        if is_held {
            self.ram.touch(name);
            if let Some(index) = self.disk.as_mut().and_then(|disk| disk.index.as_mut()) {
                index.touch(name);
            }
        }
        !is_held && !self.carried.contains_key(name)
    }

    fn survives(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.may_open || disk.index.is_some())
    }
}

/// Lets the disk thread write all pending blocks, for a bounded time.
impl Drop for Store {
    fn drop(&mut self) {
        let until = Instant::now() + Duration::from_millis(PROMPT_END_MS_MAX);
        let is_threaded = self.disk.as_ref().is_some_and(|disk| disk.thread.is_some());
        while is_threaded && !self.is_idle() && !self.is_failing() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        let Some(disk) = &mut self.disk else { return };
        let _ = disk.jobs.push(DiskJob::Stop);
        let Some(thread) = disk.thread.take() else { return };
        while !thread.is_finished() && Instant::now() < until {
            while disk.reports.pop().is_some() {}
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Store {
    fn is_failing(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.is_failing)
    }
}
