//! The disk tier of the memory for prompts, as processes see it: a child that is killed while it writes, and `cllm prompts`.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use cllm::prompts::inspect::{self, Depth};
use cllm::prompts::{DiskOptions, FileFault, Store, StoreOptions, bytes_on_disk};
use cllm::types::prompts::{BlockName, Identity, PromptStore};

#[path = "support/dice.rs"]
mod dice;
use dice::Dice;

/// Names the folder for the child of the test that kills it. `CLLM_TEST...` is no setting.
const CHILD: &str = "CLLM_TEST_PROMPTS";
/// So small that the child evicts all the time.
const SIZE: u64 = 4 << 20;

struct Scratch(PathBuf);

impl Scratch {
    fn new(called: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("cllm-tests-prompts-{called}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn open(folder: &Path) -> Store {
    let disk = Some(DiskOptions { folder: folder.to_owned(), bytes: SIZE });
    let identity = Identity { model: [7; 32], kv_type: "f16".to_owned(), kernels: 1 };
    let options =
        StoreOptions { ram_bytes: 1 << 20, disk, identity, wake: Box::new(|| ()), metrics: std::sync::Arc::default() };
    Store::open(options).unwrap()
}

fn name(at: u64) -> BlockName {
    let mut name = [3; 32];
    name[..8].copy_from_slice(&at.to_le_bytes());
    BlockName(name)
}

/// The state of a block follows from its name: 10 to 200 KB.
fn state(name: &BlockName) -> Vec<u8> {
    let mut dice = Dice::new(u64::from_le_bytes(name.0[..8].try_into().unwrap()));
    let words = dice.within(1_000..=25_000);
    (0..words).flat_map(|_| dice.next().to_le_bytes()).collect()
}

/// A test that does nothing unless it is the child of `what_kill_9_leaves_are_complete_blocks`: then it writes until it
/// is killed.
#[test]
fn a_child_that_writes() {
    let Ok(folder) = std::env::var(CHILD) else { return };
    let mut store = open(Path::new(&folder));
    println!("open");
    let mut at = u64::from(std::process::id()) << 32;
    loop {
        store.put(name(at), (at % 8 > 0).then(|| name(at - 1)), 64, state(&name(at)));
        at += 1;
        while !store.is_idle() {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

#[test]
fn what_kill_9_leaves_are_complete_blocks() {
    let scratch = Scratch::new("kill");
    let mut dice = Dice::new(9);
    let (mut blocks, mut unfinished) = (0, 0);
    for round in 0..200 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_child_that_writes", "--nocapture"])
            .env(CHILD, &scratch.0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("open") {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "the child ended");
        }
        std::thread::sleep(Duration::from_micros(dice.within(0..=20_000) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        for found in inspect::files(&scratch.0, Depth::Whole).unwrap() {
            match found.block {
                Ok(header) => {
                    let file = std::fs::read(scratch.0.join(&found.file)).unwrap();
                    assert!(file.ends_with(&state(&header.name)), "round {round}");
                    blocks += 1;
                }
                Err(FileFault::Unfinished) => unfinished += 1,
                Err(fault) => panic!("round {round}: {} is {fault}", found.file),
            }
        }
        // The next start removes incomplete files.
        drop(open(&scratch.0));
        let files = inspect::files(&scratch.0, Depth::Header).unwrap();
        assert!(files.iter().all(|found| found.block.is_ok()), "round {round}");
        let bytes: u64 = files.iter().map(|found| found.bytes.next_multiple_of(4096)).sum();
        assert!(bytes <= SIZE, "round {round}: {bytes}");
    }
    assert!(blocks > 1_000 && unfinished > 5, "the kills hit writes: {blocks} blocks, {unfinished} unfinished");
}

fn prompts(action: &str, folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cllm")).args(["prompts", action]).arg(folder).output().unwrap()
}

fn text(output: &Output) -> (i32, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[test]
fn a_folder_is_listed_verified_and_cleared() {
    let scratch = Scratch::new("cli");
    let (code, said) = text(&prompts("list", &scratch.0));
    assert!(code == 1 && said.starts_with("cllm: "), "{said}");
    let mut store = open(&scratch.0);
    let (code, said) = text(&prompts("clear", &scratch.0));
    assert!(code == 1 && said.contains("a server uses it"), "before a block is written: {said}");
    (0..3).for_each(|at| store.put(name(at), at.checked_sub(1).map(name), 64, state(&name(at))));
    let (code, said) = text(&prompts("clear", &scratch.0));
    assert!(code == 1 && said.contains("a server uses it"), "{said}");
    drop(store);
    std::fs::write(scratch.0.join("notes.txt"), "mine").unwrap();
    let bytes: u64 = (0..3).map(|at| bytes_on_disk(state(&name(at)).len() as u64)).sum();
    assert!(bytes < SIZE);

    let (code, said) = text(&prompts("list", &scratch.0));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("3 blocks, 192 tokens") && said.contains("notes.txt: not a block"), "{said}");
    assert!(said.contains("0000000000000000      64") && said.contains("f16       07070707"), "{said}");
    let (code, said) = text(&prompts("verify", &scratch.0));
    assert_eq!((code, said.lines().last()), (0, Some("3 blocks are sound")));

    let file = format!("0100000000000000{}.kv", "03".repeat(24));
    let path = scratch.0.join(&file);
    let mut content = std::fs::read(&path).unwrap();
    content[5_000] ^= 0x10;
    std::fs::write(&path, &content).unwrap();
    let (code, said) = text(&prompts("verify", &scratch.0));
    assert!(code == 1 && said.contains(&format!("{file}: damaged\n")), "{said}");
    assert!(said.contains("1 of 3 blocks can't be used"), "{said}");
    assert_eq!(text(&prompts("list", &scratch.0)).0, 0, "a list reads headers only");
    assert!(
        said.lines()
            .chain(text(&prompts("list", &scratch.0)).1.lines())
            .all(|line| { line.chars().count() <= 80 || line.starts_with("cllm: ") })
    );

    let (code, said) = text(&prompts("clear", &scratch.0));
    assert!(code == 0 && said.starts_with("Removed 3 files, "), "{said}");
    assert!(scratch.0.join("notes.txt").exists() && !path.exists());
    assert!(text(&prompts("list", &scratch.0)).1.contains("\n0 blocks, 0 tokens, 0.0 MiB\n"));
}

/// A folder that can't be written to causes one warning, and the store serves from RAM.
#[test]
fn a_folder_that_is_a_file_or_may_not_be_entered_is_no_error() {
    let scratch = Scratch::new("denied");
    std::fs::create_dir_all(&scratch.0).unwrap();
    let file = scratch.0.join("file");
    std::fs::write(&file, "").unwrap();
    let read_only = scratch.0.join("read-only");
    std::fs::create_dir(&read_only).unwrap();
    std::fs::set_permissions(&read_only, std::fs::Permissions::from_mode(0o500)).unwrap();
    for folder in [file, read_only] {
        let mut store = open(&folder);
        store.put(name(1), None, 64, state(&name(1)));
        assert!(!store.wants(&name(1)));
        let may_write = rustix::process::geteuid().is_root() && folder.is_dir();
        assert_eq!(store.survives(), may_write, "{}: root may write to any folder", folder.display());
    }
}
