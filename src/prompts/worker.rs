//! The disk thread: opens the folder, then reads and writes blocks for the batching thread. Reads go before writes,
//! because a request waits for them. Only this thread waits for the disk.
//!
//! Only this thread logs about the folder: one warning for each kind of trouble, however often it happens.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;

use super::folder::{BlockUnread, OpenedFolder, PromptFolder};
use super::lru::Lru;
use super::medium::Medium;
use crate::handoff::Inbox;
use crate::metrics::PromptTiers;
use crate::types::limits::{PROMPT_LOCK_RETRY_MS, PROMPT_WRITE_PAUSE_MS};
use crate::types::prompts::{BlockBytes, BlockName, Identity};

/// Jobs from the batching thread. Each but `Stop` gets exactly one report.
#[derive(Debug)]
pub(super) enum DiskJob {
    Read(BlockName),
    Write {
        name: BlockName,
        parent: Option<BlockName>,
        tokens: u32,
        state: BlockBytes,
        /// Blocks to remove, to make room for it.
        remove: Vec<BlockName>,
    },
    /// Finish all jobs given before, then end.
    Stop,
}

/// Reports to the batching thread.
#[derive(Debug)]
pub(super) enum DiskReport {
    /// The folder is open, and contains these blocks.
    Opened(Lru<()>),
    /// The folder can't be used.
    Closed,
    /// A block's tokens and state; `None`: it couldn't be read.
    Read(BlockName, Option<(u32, Vec<u8>)>),
    /// Whether a block was written.
    Written(BlockName, bool),
}

/// The disk thread's state.
pub struct Worker<M> {
    pub(super) medium: Option<M>,
    pub(super) folder: Option<PromptFolder<M>>,
    /// The folder's path, for the log.
    pub(super) path: PathBuf,
    pub(super) size: u64,
    pub(super) identity: Identity,
    pub(super) inbox: Inbox<DiskJob>,
    pub(super) reports: Arc<ArrayQueue<DiskReport>>,
    pub(super) wake: Box<dyn Fn() + Send>,
    pub(super) metrics: Arc<PromptTiers>,
    pub(super) reads: VecDeque<BlockName>,
    pub(super) writes: VecDeque<DiskJob>,
    pub(super) is_stopping: bool,
    /// When writing may be tried again, after the latest write failed.
    pub(super) paused_until: Option<Instant>,
    pub(super) warned: Warned,
}

/// The kinds of trouble that were logged.
#[derive(Debug, Default)]
pub(super) struct Warned {
    locked: bool,
    unread: bool,
    unwritten: bool,
}

impl<M: Medium> Worker<M> {
    /// Works until the job `Stop`.
    pub fn run(mut self) {
        while !self.open() {
            self.inbox.park(Some(Duration::from_millis(PROMPT_LOCK_RETRY_MS)));
            self.drain();
            if self.is_stopping {
                return;
            }
        }
        while self.turn() {
            if self.reads.is_empty() && self.writes.is_empty() && self.inbox.is_empty() {
                self.inbox.park(None);
            }
        }
    }

    /// Does one job. Returns `false` after the last.
    pub fn turn(&mut self) -> bool {
        self.drain();
        if let Some(name) = self.reads.pop_front() {
            self.read(name);
        } else if let Some(job) = self.writes.pop_front() {
            self.write(job);
        } else {
            return !self.is_stopping;
        }
        true
    }

    fn drain(&mut self) {
        while let Some(job) = self.inbox.pop() {
            match job {
                DiskJob::Read(name) => self.reads.push_back(name),
                DiskJob::Write { .. } => self.writes.push_back(job),
                DiskJob::Stop => self.is_stopping = true,
            }
        }
    }

    fn report(&self, report: DiskReport) {
        // There is room for a report of each pending job.
        let mut report = Err(report);
        while let Err(value) = report {
            report = self.reports.push(value);
            if report.is_err() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        (self.wake)();
    }

    /// Opens the folder. Returns `false` if another process uses it, so that it must be tried again.
    pub fn open(&mut self) -> bool {
        let Some(medium) = self.medium.take() else { return true };
        match PromptFolder::open(medium, self.size, self.identity.clone()) {
            Ok((folder, opened)) => {
                self.say_opened(&opened);
                self.folder = Some(folder);
                self.report(DiskReport::Opened(opened.index));
            }
            Err((medium, None)) => {
                if !std::mem::replace(&mut self.warned.locked, true) {
                    let folder = self.path.display();
                    tracing::warn!("prompt memory: another process uses {folder}; without a disk until it ends");
                }
                self.medium = Some(medium);
                return false;
            }
            Err((_, Some(error))) => {
                tracing::warn!("prompt memory: can't use {}: {error}; without a disk", self.path.display());
                self.metrics.disk_errors.inc();
                self.report(DiskReport::Closed);
            }
        }
        true
    }

    fn say_opened(&self, opened: &OpenedFolder) {
        let (folder, blocks) = (self.path.display(), opened.index.count());
        let mib = opened.index.bytes() >> 20;
        if let Some((file, fault)) = &opened.first {
            let (removed, foreign) = (opened.removed, opened.foreign);
            tracing::warn!(removed, foreign, "prompt memory: {folder} has unusable files: {file} is {fault}");
        }
        self.metrics.damaged.add(opened.removed as u64);
        tracing::info!(blocks, mib, "prompt memory: {folder} is open");
    }

    fn read(&mut self, name: BlockName) {
        let started = Instant::now();
        let Some(folder) = &mut self.folder else { return self.report(DiskReport::Read(name, None)) };
        let block = match folder.read(&name) {
            Ok(block) => {
                self.metrics.disk_read_bytes.add(block.1.len() as u64);
                self.metrics.disk_read_us.add(started.elapsed().as_micros() as u64);
                Some(block)
            }
            Err(unread) => {
                match &unread {
                    BlockUnread::Fault(_) => self.metrics.damaged.inc(),
                    BlockUnread::Io(_) => self.metrics.disk_errors.inc(),
                }
                if !std::mem::replace(&mut self.warned.unread, true) {
                    let (file, why) = (super::header::file_name(&name), unread.to_string());
                    tracing::warn!(
                        "prompt memory: {}/{file}: {why}; its tokens are prefilled again",
                        self.path.display()
                    );
                }
                None
            }
        };
        self.report(DiskReport::Read(name, block));
    }

    fn write(&mut self, job: DiskJob) {
        let DiskJob::Write { name, parent, tokens, state, remove } = job else { return };
        let is_paused = self.paused_until.is_some_and(|until| Instant::now() < until);
        let Some(folder) = &mut self.folder else { return self.report(DiskReport::Written(name, false)) };
        // Blocks are removed even while nothing is written, because the batching thread has forgotten them.
        let mut removed = Ok(());
        for name in &remove {
            // Each is tried, also after one that couldn't be removed.
            removed = removed.and(folder.remove(name));
        }
        let written = match is_paused {
            true => None,
            false => Some(removed.and_then(|()| folder.write(name, parent, tokens, &state))),
        };
        match &written {
            Some(Ok(())) => self.metrics.disk_written_bytes.add(state.len() as u64),
            Some(Err(error)) => {
                self.metrics.disk_errors.inc();
                self.paused_until = Instant::now().checked_add(Duration::from_millis(PROMPT_WRITE_PAUSE_MS));
                if !std::mem::replace(&mut self.warned.unwritten, true) {
                    tracing::warn!("prompt memory: can't write to {}: {error}; it is tried again", self.path.display());
                }
            }
            None => {}
        }
        // The state is freed before the report says so.
        drop(state);
        self.report(DiskReport::Written(name, matches!(written, Some(Ok(())))));
    }
}
