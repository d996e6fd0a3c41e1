//! The pages of the model file in memory. ggml repacks most tensors into a second copy and doesn't read their pages in the
//! file again. The token embedding is still read there, one row for each token. So the pages are given back after loading,
//! and again whenever the engine is idle. They are read-only and stay in the page cache.

use std::ops::Range;
use std::path::Path;

/// The address ranges at which the weights are mapped; empty if they aren't mapped.
#[derive(Debug, Default)]
pub(super) struct FileMapping {
    /// Ranges of addresses, in whole pages.
    ranges: Vec<Range<usize>>,
    is_copied: bool,
}

impl FileMapping {
    /// The mappings of `path` from the file offset `model_offset` on. In an executable that carries a model, the bytes
    /// before it are the program itself, and its relocated pages must stay in memory.
    pub(super) fn find(path: &Path, model_offset: u64) -> FileMapping {
        let (Ok(maps), Ok(path)) = (std::fs::read_to_string("/proc/self/maps"), path.canonicalize()) else {
            return FileMapping::default();
        };
        let ranges = maps.lines().filter_map(|line| mapped_at(line, &path, model_offset)).collect();
        FileMapping { ranges, is_copied: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The addresses of the largest mapping; empty if there is none.
    pub(super) fn largest(&self) -> Range<usize> {
        self.ranges.iter().max_by_key(|range| range.len()).cloned().unwrap_or(0..0)
    }

    /// Says whether the weights have a second copy. Only then does `release_read` do anything. Without a second copy all
    /// pages would have to be mapped again, and with huge pages the weights need fewer entries of the TLB.
    pub(super) fn is_copied(&mut self, is_copied: bool) {
        self.is_copied = is_copied;
        #[cfg(target_os = "linux")]
        if is_copied {
            // One row of the embedding is shorter than a page, and reading it must not load a huge page of two megabytes.
            self.advise(libc::MADV_NOHUGEPAGE);
        }
    }

    /// Gives all pages back to the system.
    pub(super) fn release(&self) {
        #[cfg(target_os = "linux")]
        self.advise(libc::MADV_DONTNEED);
    }

    /// Locks the pages of those `weights` that lie in the mapping into memory. The lock ends with the mapping. Returns how
    /// many bytes of weights could not be locked.
    pub(super) fn lock(&self, weights: &[Range<usize>]) -> usize {
        let is_mapped = |weight: &Range<usize>| {
            self.ranges.iter().any(|range| range.start <= weight.start && weight.end <= range.end)
        };
        let mask = page_bytes() as usize - 1;
        let is_unlocked = |weight: &&Range<usize>| {
            let (start, end) = (weight.start & !mask, (weight.end + mask) & !mask);
            // SAFETY: it reads pages of a live mapping and keeps them in memory; mappings are whole pages.
            unsafe { libc::mlock(start as *const std::ffi::c_void, end - start) != 0 }
        };
        weights.iter().filter(|weight| is_mapped(weight)).filter(is_unlocked).map(|weight| weight.len()).sum()
    }

    /// Gives back the pages that were read since, if the weights have a second copy.
    pub(super) fn release_read(&self) {
        if self.is_copied {
            self.release();
        }
    }

    #[cfg(target_os = "linux")]
    fn advise(&self, advice: libc::c_int) {
        for range in &self.ranges {
            // SAFETY: the mapping is read-only and its file lives as long as the model: the system reads dropped pages
            // again when they are needed. We believe that no other process truncates the file meanwhile; that would break
            // the mapping with or without this call.
            unsafe { libc::madvise(range.start as *mut std::ffi::c_void, range.len(), advice) };
        }
    }
}

/// The addresses in one line of `/proc/self/maps`, if it maps `path` read-only from the file offset `model_offset` or
/// later.
fn mapped_at(line: &str, path: &Path, model_offset: u64) -> Option<Range<usize>> {
    // `start-end perms offset dev inode   path`
    let mut fields = line.splitn(6, ' ');
    let (range, perms) = (fields.next()?, fields.next()?);
    let offset = u64::from_str_radix(fields.next()?, 16).ok()?;
    let mapped = fields.nth(2)?.trim_start();
    if Path::new(mapped) != path || perms.contains('w') || offset < model_offset {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

/// Bytes in memory of this process that belong to no file; 0 if the system doesn't say.
pub(super) fn own_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = statm.split(' ').skip(1).map_while(|pages| pages.parse::<u64>().ok());
    let (resident, of_files) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    resident.saturating_sub(of_files) * page_bytes()
}

fn page_bytes() -> u64 {
    // SAFETY: the call returns a constant of the system.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4_096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_models_own_read_only_pages_are_found() {
        let at = |line: &str, offset| mapped_at(line, Path::new("/a model.gguf"), offset);
        assert_eq!(at("10000-30000 r--s 00002000 fe:00 77                 /a model.gguf", 0), Some(0x10000..0x30000));
        assert_eq!(at("10000-30000 r--s 00002000 fe:00 77                 /a model.gguf", 0x3000), None, "the program");
        assert_eq!(at("10000-30000 rw-p 00002000 fe:00 77                 /a model.gguf", 0), None, "writable");
        assert_eq!(at("10000-30000 r--s 00002000 fe:00 77                 /b.gguf", 0), None);
        assert_eq!(at("10000-30000 rw-p 00000000 00:00 0", 0), None);
    }

    #[test]
    fn own_bytes_grow_with_what_is_written() {
        let before = own_bytes();
        let written = std::hint::black_box(vec![1u8; 64 << 20]);
        assert!(own_bytes() >= before + (60 << 20), "{}", written.len());
    }
}
