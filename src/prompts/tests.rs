//! Compares the tiers with a model of what they should hold: sizes, damage, a failing disk, and the order of eviction.

use std::collections::HashMap;
use std::io::{self, Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use super::folder::{BlockUnread, PromptFolder};
use super::medium::LOCK;
use super::*;
use crate::metrics::PromptTiers;
use crate::types::prompts::{BlockBytes, BlockName, Fetched, Held, Identity, PromptStore, Tier};

/// SplitMix64.
pub(super) struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (z ^ (z >> 27)) % n
    }
}

/// A block's name.
pub(super) fn name(at: u64) -> BlockName {
    let mut name = [0xB1; 32];
    name[..8].copy_from_slice(&at.to_le_bytes());
    BlockName(name)
}

pub(super) fn identity() -> Identity {
    Identity { model: [7; 32], kv_type: "f16".to_owned(), kernels: 1 }
}

/// The state of block `at`: 1 to 9 pages.
fn state(at: u64) -> Vec<u8> {
    let mut dice = Dice::new(at);
    let bytes = 1 + dice.below(9 * 4096);
    (0..bytes).map(|_| dice.below(256) as u8).collect()
}

/// A folder that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(called: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("cllm-prompts-{called}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Scratch(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != LOCK).collect()
    }

    /// Bytes of all files, as `du` counts them.
    fn bytes(&self) -> u64 {
        let pages = |name: &String| std::fs::metadata(self.0.join(name)).unwrap().len().next_multiple_of(4096);
        self.names().iter().map(pages).sum()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn options(ram_bytes: u64) -> StoreOptions {
    StoreOptions { ram_bytes, disk: None, identity: identity(), wake: Box::new(|| ()), metrics: Arc::default() }
}

fn opened<M: Medium>(medium: M, size: u64) -> (PromptFolder<M>, folder::OpenedFolder) {
    PromptFolder::open(medium, size, identity()).unwrap_or_else(|_| panic!("the folder opens"))
}

/// Writes blocks 0..n as one chain.
fn write_chain(folder: &mut PromptFolder<impl Medium>, n: u64) {
    for at in 0..n {
        folder.write(name(at), at.checked_sub(1).map(name), 64, &state(at)).unwrap();
    }
}

#[test]
fn what_was_written_is_read_after_a_restart() {
    let scratch = Scratch::new("restart");
    let (mut folder, opened_first) = opened(Plain::new(&scratch.0), 1 << 30);
    assert_eq!((opened_first.index.count(), opened_first.foreign, opened_first.removed), (0, 0, 0));
    write_chain(&mut folder, 20);
    drop(folder);
    let (mut folder, again) = opened(Plain::new(&scratch.0), 1 << 30);
    assert_eq!((again.index.count(), again.first), (20, None));
    for at in 0..20 {
        assert_eq!(again.index.about(&name(at)).unwrap().1, at.checked_sub(1).map(name));
        assert_eq!(folder.read(&name(at)).unwrap(), (64, state(at)));
    }
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&scratch.0), 0o700);
    assert!(scratch.names().iter().all(|file| mode(&scratch.0.join(file)) == 0o600));
}

#[test]
fn a_byte_flipped_in_each_of_200_files_is_noticed() {
    let scratch = Scratch::new("flipped");
    let (mut folder, _) = opened(Plain::new(&scratch.0), 1 << 30);
    write_chain(&mut folder, 200);
    drop(folder);
    let mut dice = Dice::new(5);
    for file in scratch.names() {
        let path = scratch.0.join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        // Half of the changes are in the header.
        let within = if dice.below(2) == 0 { 4096 } else { bytes.len() as u64 };
        bytes[dice.below(within) as usize] ^= 1 << dice.below(8);
        std::fs::write(&path, bytes).unwrap();
    }
    let faults = inspect::files(&scratch.0, inspect::Depth::Whole).unwrap();
    assert_eq!(faults.iter().filter(|found| found.block.is_err()).count(), 200);
    let (mut folder, opened) = opened(Plain::new(&scratch.0), 1 << 30);
    let mut noticed = opened.removed;
    assert!(noticed > 50, "headers are read at start");
    for at in opened.index.names() {
        noticed += usize::from(matches!(folder.read(at), Err(BlockUnread::Fault(_))));
    }
    assert_eq!((noticed, scratch.names().len()), (200, 0), "all are noticed and removed");
}

#[test]
fn what_is_not_ours_stays_and_what_is_ours_and_wrong_goes() {
    let scratch = Scratch::new("foreign");
    let (mut folder, _) = opened(Plain::new(&scratch.0), 1 << 30);
    write_chain(&mut folder, 4);
    drop(folder);
    let file = |at| scratch.0.join(header::file_name(&name(at)));
    let half = std::fs::read(file(1)).unwrap();
    std::fs::write(file(1), &half[..half.len() / 2]).unwrap();
    std::fs::rename(file(2), file(9)).unwrap();
    std::fs::write(file(3), b"a file of another program under our name").unwrap();
    std::fs::write(scratch.0.join(header::temporary_name(&name(4))), b"half a block").unwrap();
    std::fs::write(scratch.0.join("notes.txt"), b"mine").unwrap();
    std::fs::create_dir(scratch.0.join("folder.kv")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", file(5)).unwrap();
    let (_folder, opened) = opened(Plain::new(&scratch.0), 1 << 30);
    assert_eq!(opened.index.names().collect::<Vec<_>>(), [&name(0)]);
    assert_eq!((opened.removed, opened.foreign), (3, 3), "{:?}", opened.first);
    let mut left = scratch.names();
    left.sort();
    let mut expected =
        [header::file_name(&name(0)), header::file_name(&name(5)), "folder.kv".into(), "notes.txt".into()];
    expected.sort();
    assert_eq!(left, expected);
}

#[test]
fn a_smaller_size_keeps_the_beginnings_of_the_latest() {
    let scratch = Scratch::new("smaller");
    let (mut folder, _) = opened(Plain::new(&scratch.0), 1 << 30);
    write_chain(&mut folder, 30);
    folder.write(name(100), Some(name(3)), 64, &state(100)).unwrap();
    drop(folder);
    let all = scratch.bytes();
    let (_folder, opened) = opened(Plain::new(&scratch.0), all / 2);
    assert!(scratch.bytes() <= all / 2 && scratch.bytes() > all / 4, "{} of {all}", scratch.bytes());
    assert_eq!(opened.index.bytes(), scratch.bytes());
    for at in (0..4).chain([100]) {
        assert!(opened.index.has(&name(at)), "{at}");
    }
}

#[test]
fn a_folder_serves_one_process_and_the_next_takes_it_over() {
    let scratch = Scratch::new("two");
    let (folder, _) = opened(Plain::new(&scratch.0), 1 << 30);
    let disk = DiskOptions { folder: scratch.0.clone(), bytes: 1 << 30 };
    let (mut store, mut worker) = Store::with_worker(options(1 << 30), &disk, Plain::new(&scratch.0));
    assert!(!worker.open() && store.survives());
    store.put(name(1), None, 64, state(1));
    assert!(!worker.open() && worker.turn());
    assert_eq!(scratch.names().len(), 0, "the folder isn't this store's");
    drop(folder);
    assert!(worker.open());
    assert!(!store.is_idle(), "what came meanwhile is written now");
    assert!(worker.turn() && store.is_idle());
    assert_eq!(scratch.names(), [header::file_name(&name(1))]);
}

/// Files in memory, of which one call fails. All calls that change a file are counted.
#[derive(Clone, Default)]
struct InMemory(Arc<Mutex<Files>>);

#[derive(Default)]
struct Files {
    files: HashMap<String, (Vec<u8>, u64)>,
    calls: u64,
    fails_at: Option<u64>,
    /// Whether each call from `fails_at` on fails.
    fails_on: bool,
    /// The most bytes of all files together, in pages.
    bytes_max: u64,
}

impl InMemory {
    fn count(&self) -> io::Result<()> {
        let mut files = self.0.lock().unwrap();
        files.calls += 1;
        let bytes = files.files.values().map(|(bytes, _)| (bytes.len() as u64).next_multiple_of(4096)).sum();
        files.bytes_max = files.bytes_max.max(bytes);
        match files.fails_at {
            Some(at) if files.calls == at || (files.fails_on && files.calls > at) => {
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            _ => Ok(()),
        }
    }
}

struct MemoryFile(InMemory, String);

impl Write for MemoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.count()?;
        // A disk may also write only a part.
        let part = bytes.len().min(8192);
        self.0.0.lock().unwrap().files.get_mut(&self.1).unwrap().0.extend(&bytes[..part]);
        Ok(part)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Medium for InMemory {
    type In = Cursor<Vec<u8>>;
    type Out = MemoryFile;

    fn lock(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    fn list(&mut self) -> io::Result<Vec<(String, SystemTime)>> {
        let files = self.0.lock().unwrap();
        let time = |at: u64| SystemTime::UNIX_EPOCH + Duration::from_micros(at);
        Ok(files.files.iter().map(|(file, (_, used))| (file.clone(), time(*used))).collect())
    }

    fn open(&mut self, name: &str) -> io::Result<(Self::In, u64)> {
        let files = self.0.lock().unwrap();
        let (bytes, _) = files.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok((Cursor::new(bytes.clone()), bytes.len() as u64))
    }

    fn used(&mut self, _: &Self::In) {}

    fn create(&mut self, name: &str) -> io::Result<MemoryFile> {
        self.count()?;
        let calls = self.0.lock().unwrap().calls;
        self.0.lock().unwrap().files.insert(name.to_owned(), (Vec::new(), calls));
        Ok(MemoryFile(self.clone(), name.to_owned()))
    }

    fn sync(&mut self, _: &mut MemoryFile) -> io::Result<()> {
        self.count()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.count()?;
        let mut files = self.0.lock().unwrap();
        let file = files.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.count()?;
        self.0.lock().unwrap().files.remove(name).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// For every n: the n-th call that changes a file fails, once or from then on. Afterwards the folder's blocks are
/// complete, and the store goes on working.
#[test]
fn a_disk_that_is_full_at_any_call_leaves_only_complete_blocks() {
    let size = 40 * 4096;
    for fails_on in [false, true] {
        let mut fails_at = 1;
        loop {
            let medium = InMemory::default();
            (medium.0.lock().unwrap().fails_at, medium.0.lock().unwrap().fails_on) = (Some(fails_at), fails_on);
            let disk = DiskOptions { folder: PathBuf::from("memory"), bytes: size };
            let (mut store, mut worker) = Store::with_worker(options(1 << 20), &disk, medium.clone());
            assert!(worker.open());
            for at in 0..20 {
                store.put(name(at), at.checked_sub(1).filter(|at| at % 5 > 0).map(name), 64, state(at));
                worker.paused_until = None;
                assert!(worker.turn());
                assert!(matches!(store.get(&name(at)), Fetched::Ready(..)), "RAM has it, whatever the disk does");
            }
            let calls = medium.0.lock().unwrap().calls;
            assert!(medium.0.lock().unwrap().bytes_max <= size);
            medium.0.lock().unwrap().fails_at = None;
            let (mut folder, opened) = opened(medium.clone(), size);
            assert!(opened.first.is_none(), "{fails_at}: {:?}", opened.first);
            for at in opened.index.names() {
                let number = u64::from_le_bytes(at.0[..8].try_into().unwrap());
                assert_eq!(folder.read(at).unwrap(), (64, state(number)));
            }
            if fails_at > calls {
                assert!(opened.index.count() > 5);
                break;
            }
            fails_at += 1;
        }
        assert!(fails_at > 60, "{fails_at} calls");
    }
}

/// 10,000 conversations over a RAM tier and a disk tier that hold a part of them: neither exceeds its size, and a
/// fetched block equals the one that was put.
#[test]
fn both_tiers_stay_within_their_sizes_over_ten_thousand_conversations() {
    let (ram, on_disk) = (60 * 4096, 200 * 4096);
    let medium = InMemory::default();
    let disk = DiskOptions { folder: PathBuf::from("memory"), bytes: on_disk };
    let (mut store, mut worker) = Store::with_worker(options(ram), &disk, medium.clone());
    assert!(worker.open());
    let (mut dice, mut tiers) = (Dice::new(1), [0; 2]);
    for _ in 0..10_000 {
        let (of, blocks) = (dice.below(60) * 100, 1 + dice.below(12));
        let names: Vec<BlockName> = (of..of + blocks).map(name).collect();
        let Held { all, ram: in_ram } = store.held(&names);
        assert!(in_ram <= all && all <= names.len());
        store.fetch(&names[..all]);
        let mut restored = 0;
        for (at, block) in names[..all].iter().enumerate() {
            let mut turns = 0;
            let fetched = loop {
                match store.get(block) {
                    Fetched::Coming if turns < 100 => turns += usize::from(worker.turn()),
                    fetched => break fetched,
                }
            };
            let Fetched::Ready(bytes, tier) = fetched else { panic!("{at} of {all} is {fetched:?}") };
            assert_eq!(*bytes, *state(of + at as u64));
            tiers[usize::from(tier == Tier::Disk)] += 1;
            restored += 1;
        }
        for at in restored..names.len() {
            if store.wants(&names[at]) {
                store.put(names[at], at.checked_sub(1).map(|at| names[at]), 64, state(of + at as u64));
            }
            if dice.below(3) > 0 {
                worker.turn();
            }
            assert!(store.bytes().0 <= ram && store.bytes().1 <= on_disk);
        }
    }
    assert!(medium.0.lock().unwrap().bytes_max <= on_disk);
    assert!(tiers.iter().all(|count| *count > 1_000), "both tiers are used: {tiers:?}");
}

#[test]
fn without_a_disk_what_ram_evicts_is_gone() {
    let metrics = Arc::new(PromptTiers::default());
    let mut store = Store::in_ram(20 * 4096, Arc::clone(&metrics));
    for at in 0..20 {
        store.put(name(at), None, 64, state(at));
        assert!(store.bytes().0 <= 20 * 4096);
        assert_eq!(metrics.ram_bytes.get(), store.bytes().0, "what the metrics say");
        assert!(metrics.ram_blocks.get() > 0);
    }
    assert!(matches!(store.get(&name(0)), Fetched::Gone));
    assert!(matches!(store.get(&name(19)), Fetched::Ready(_, Tier::Ram)));
    assert!(store.wants(&name(0)) && !store.wants(&name(19)) && !store.survives());
    store.put(name(50), Some(name(0)), 64, state(50));
    assert!(store.wants(&name(50)), "behind a block that is gone it is of no use");
}

#[test]
fn a_chain_longer_than_the_ram_tier_comes_in_order() {
    let medium = InMemory::default();
    let (mut folder, _) = opened(medium.clone(), 1 << 30);
    write_chain(&mut folder, 60);
    drop(folder);
    let disk = DiskOptions { folder: PathBuf::from("memory"), bytes: 1 << 30 };
    let metrics = Arc::new(PromptTiers::default());
    let options = StoreOptions { metrics: Arc::clone(&metrics), ..options(30 * 4096) };
    let (mut store, mut worker) = Store::with_worker(options, &disk, medium);
    assert!(worker.open());
    let names: Vec<BlockName> = (0..60).map(name).collect();
    assert_eq!(store.held(&names), Held { all: 60, ram: 0 });
    // A request that never takes its blocks.
    store.fetch(&names[20..]);
    (0..20).for_each(|_| assert!(worker.turn()));
    store.fetch(&names);
    let mut turns = 0;
    for (at, block) in names.iter().enumerate() {
        loop {
            match store.get(block) {
                Fetched::Ready(bytes, tier) => {
                    assert_eq!((*bytes == *state(at as u64), tier), (true, Tier::Disk));
                    break;
                }
                Fetched::Coming => turns += usize::from(worker.turn()),
                Fetched::Gone => panic!("{at} is gone"),
            }
            assert!(store.bytes().0 <= 30 * 4096 && turns < 1_000);
        }
    }
    let all: u64 = (0..60).map(|at| state(at).len() as u64).sum();
    let (read, stale) = (metrics.disk_read_bytes.get(), 15 * 4096);
    assert!((all..all + stale + 9 * 4096).contains(&read), "no block is read twice for one request: {read} of {all}");
}

#[test]
fn a_damaged_block_is_gone_and_its_tokens_can_be_put_again() {
    let scratch = Scratch::new("again");
    let disk = DiskOptions { folder: scratch.0.clone(), bytes: 1 << 30 };
    let metrics = Arc::new(PromptTiers::default());
    let open = || {
        Store::open(StoreOptions { disk: Some(disk.clone()), metrics: Arc::clone(&metrics), ..options(1 << 30) })
            .unwrap()
    };
    let wait = |store: &mut Store| {
        let until = Instant::now() + Duration::from_secs(20);
        while !store.is_idle() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let mut store = open();
    (0..3).for_each(|at| store.put(name(at), at.checked_sub(1).map(name), 64, state(at)));
    drop(store);
    let file = scratch.0.join(header::file_name(&name(1)));
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let mut store = open();
    let names = [name(0), name(1), name(2)];
    assert_eq!(store.held(&names), Held { all: 3, ram: 0 });
    store.fetch(&names);
    wait(&mut store);
    assert!(matches!(store.get(&name(0)), Fetched::Ready(_, Tier::Disk)));
    assert!(matches!(store.get(&name(0)), Fetched::Ready(_, Tier::Ram)));
    assert!(matches!(store.get(&name(1)), Fetched::Gone));
    assert_eq!((store.held(&names).all, metrics.damaged.get()), (1, 1));
    assert!(store.wants(&name(1)));
    store.put(name(1), Some(name(0)), 64, state(1));
    wait(&mut store);
    assert!(file.exists());
}

#[test]
fn carried_blocks_come_from_memory_and_a_damaged_one_is_read_again() {
    let scratch = Scratch::new("carried");
    let (mut folder, _) = opened(Plain::new(&scratch.0), 1 << 30);
    write_chain(&mut folder, 3);
    drop(folder);
    let mut packed = Vec::new();
    assert_eq!(carried::pack(&scratch.0, &mut packed).unwrap(), (3, 192));
    assert_eq!(packed.len() % 4096, 0);
    let last = (0..packed.len()).rev().find(|at| packed[*at] != 0).unwrap();
    let unpacked = |bytes: &[u8]| {
        let bytes = bytes.to_vec();
        carried::unpack(&bytes, |range| Some(BlockBytes::new(bytes.get(range)?.to_vec())))
    };
    let names: Vec<BlockName> = (0..3).map(name).collect();
    let mut store = Store::in_ram(1 << 20, Arc::default()).carrying(unpacked(&packed).unwrap());
    assert_eq!(store.held(&names), Held { all: 3, ram: 3 });
    for at in 0..3 {
        assert!(!store.wants(&name(at)));
        let Fetched::Ready(bytes, Tier::File) = store.get(&name(at)) else { panic!("{at}") };
        assert_eq!(*bytes, *state(at));
    }
    store.put(name(3), Some(name(2)), 64, state(3));
    assert_eq!((store.held(&[names, vec![name(3)]].concat()).all, store.bytes().0), (4, state(3).len() as u64));

    packed[last] ^= 1;
    let metrics = Arc::new(PromptTiers::default());
    let mut store = Store::in_ram(1 << 20, Arc::clone(&metrics)).carrying(unpacked(&packed).unwrap());
    let gone = (0..3).filter(|at| matches!(store.get(&name(*at)), Fetched::Gone)).count();
    assert_eq!((gone, metrics.damaged.get()), (1, 1));
    packed[100] ^= 1;
    assert!(unpacked(&packed).unwrap_err().contains("at byte 0"));
    assert!(unpacked(&packed[..5_000]).is_err());
}
