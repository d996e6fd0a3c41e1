//! How much memory this process could still use: the kernel's estimate, limited by control groups.
//!
//! Linux only; unknown on other systems. Reads a few small files once at start-up.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that could be allocated without swapping or evicting memory in use; `None` if the system doesn't say.
pub fn available_bytes() -> Option<u64> {
    let machine = of_machine(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    Some(folders(&groups).iter().filter_map(|folder| of_group(folder)).fold(machine, u64::min))
}

/// `MemAvailable` in `/proc/meminfo`, converted from KiB to bytes.
fn of_machine(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1_024)
}

/// The folders of the control groups of this process and of all groups above them, from `/proc/self/cgroup`.
fn folders(groups: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let root = match controllers {
            "" => "/sys/fs/cgroup",
            other if other.split(',').any(|name| name == "memory") => "/sys/fs/cgroup/memory",
            _ => continue,
        };
        let inside = Path::new(root).join(path.trim_start_matches('/'));
        all.extend(inside.ancestors().take_while(|folder| folder.starts_with(root)).map(Path::to_owned));
    }
    all
}

/// Bytes below the limit of the control group in `folder`; `None` if it has no limit. Inactive cached file pages count as
/// free.
fn of_group(folder: &Path) -> Option<u64> {
    let number = |names: [&str; 2]| {
        let text = names.into_iter().find_map(|name| fs::read_to_string(folder.join(name)).ok())?;
        text.trim().parse::<u64>().ok()
    };
    let limit = number(["memory.max", "memory.limit_in_bytes"])?;
    let used = number(["memory.current", "memory.usage_in_bytes"])?;
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let idle = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse::<u64>().ok());
    Some(limit.saturating_sub(used.saturating_sub(idle.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        assert_eq!(of_machine("MemTotal:  9 kB\nMemAvailable:   24039956 kB\n"), Some(24_039_956 << 10));
        assert_eq!(of_machine("MemTotal: 9 kB\n"), None);
        let names = |text| folders(text).iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>();
        assert_eq!(names("0::/a/b\n"), ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup"]);
        assert_eq!(names("4:memory:/x\n3:cpu:/x\n"), ["/sys/fs/cgroup/memory/x", "/sys/fs/cgroup/memory"]);
    }

    #[test]
    fn a_groups_limit_counts() {
        let folder = std::env::temp_dir().join(format!("cllm-memory-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert_eq!(of_group(&folder), None);
        for (name, text) in
            [("memory.max", "1000\n"), ("memory.current", "700\n"), ("memory.stat", "anon 1\ninactive_file 150\n")]
        {
            fs::write(folder.join(name), text).unwrap();
        }
        assert_eq!(of_group(&folder), Some(450));
        fs::write(folder.join("memory.max"), "max\n").unwrap();
        assert_eq!(of_group(&folder), None);
        fs::remove_dir_all(&folder).unwrap();
    }
}
