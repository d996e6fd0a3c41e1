//! Which system calls are refused: seccomp. Families that no server needs once it serves, each answered with EPERM, which a
//! library takes for a no; a process that is killed would take everybody's requests along.
//!
//! Why a list of what is refused, and not of what is allowed: the calls of glibc, of mimalloc and of llama.cpp change with
//! their versions and with the machine, and one that is missing from a list of allowed ones is an outage. What is
//! promised here - no programs, no connections, no files - can be named whole. The unit of `cllm install --systemd` lays
//! systemd's list of allowed ones over it.
//!
//! What it costs: calls that are refused or allowed whatever their arguments are looked up in the kernel's own table; for
//! the few others some hundred steps of a compiled filter, a microsecond at most. Linux before 5.16 also takes a process
//! with a filter for one that runs strangers' code, and slows its loads and stores (`spec_store_bypass_disable`).

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter_all_threads,
};

use super::Needs;

/// Rules of one call: refused if any of them holds, always if there is none.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Calls that libc doesn't name on every machine. Numbers from 424 on are the same everywhere.
const SYS_FCHMODAT2: c_long = 452;
const SYS_SETXATTRAT: c_long = 463;
const SYS_REMOVEXATTRAT: c_long = 466;
const SYS_OPEN_TREE_ATTR: c_long = 467;
const SYS_FILE_SETATTR: c_long = 469;

/// Other programs. Threads are started by `clone`, which is looked at more closely.
const PROGRAMS: &[c_long] = &[libc::SYS_execve, libc::SYS_execveat];

/// New sockets, and data sent to an address. Accepting is no part of it, nor what goes over a connection.
const NETWORK: &[c_long] =
    &[libc::SYS_socket, libc::SYS_connect, libc::SYS_bind, libc::SYS_listen, libc::SYS_sendmsg, libc::SYS_sendmmsg];

/// Other processes' memory, descriptors and fate.
const PROCESSES: &[c_long] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
];

/// Parts of the kernel that have no business with a server: io_uring, which would go around this list; what has been a way
/// into the kernel often; and the machine's own administration.
const KERNEL: &[c_long] = &[
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_personality,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    SYS_OPEN_TREE_ATTR,
    libc::SYS_mount_setattr,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_vhangup,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
];

/// Changes to files. Landlock lets owners, modes and attributes be changed; and where there is no Landlock, nothing else
/// stands before the rest.
const FILES: &[c_long] = &[
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_renameat2,
    libc::SYS_truncate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    SYS_FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    SYS_SETXATTRAT,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    SYS_REMOVEXATTRAT,
    SYS_FILE_SETATTR,
];

/// Removing files, where no path of our own is removed at the end.
const REMOVALS: &[c_long] = &[libc::SYS_unlinkat];

/// The same under the names that only this kind of machine has.
#[cfg(target_arch = "x86_64")]
mod old {
    use libc::c_long;

    pub const PROGRAMS: &[c_long] = &[libc::SYS_fork, libc::SYS_vfork];
    pub const KERNEL: &[c_long] = &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_uselib];
    pub const FILES: &[c_long] = &[
        libc::SYS_creat,
        libc::SYS_mkdir,
        libc::SYS_mknod,
        libc::SYS_symlink,
        libc::SYS_link,
        libc::SYS_rename,
        libc::SYS_renameat,
        libc::SYS_chmod,
        libc::SYS_chown,
        libc::SYS_lchown,
        libc::SYS_utime,
        libc::SYS_utimes,
        libc::SYS_futimesat,
    ];
    pub const REMOVALS: &[c_long] = &[libc::SYS_unlink, libc::SYS_rmdir];
    /// `open` and the place of its flags among the arguments.
    pub const OPEN: &[(c_long, u8)] = &[(libc::SYS_open, 1)];
    /// Numbers of the x32 ABI, which pass for this machine's own: they carry this bit.
    pub const X32_BIT: i64 = 0x4000_0000;
    /// Those that only x32 has.
    pub const X32_ONLY: std::ops::RangeInclusive<i64> = 512..=547;
}

#[cfg(not(target_arch = "x86_64"))]
mod old {
    use libc::c_long;

    pub const PROGRAMS: &[c_long] = &[];
    pub const KERNEL: &[c_long] = &[];
    pub const FILES: &[c_long] = &[libc::SYS_renameat];
    pub const REMOVALS: &[c_long] = &[];
    pub const OPEN: &[(c_long, u8)] = &[];
}

/// Calls that take their arguments from memory, where a filter can't look, and have an older form that doesn't: glibc and
/// others go back to that when they are told that there is no such call.
const UNSEEN: &[c_long] = &[libc::SYS_clone3, libc::SYS_openat2];

/// Refuses for all threads of this process, those to come included.
///
/// # Errors
/// Why the kernel doesn't take it.
pub fn refuse(needs: &Needs) -> Result<(), String> {
    let program = |rules: Rules, errno: i32| -> Result<BpfProgram, BackendError> {
        let arch = std::env::consts::ARCH.try_into()?;
        SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno as u32), arch)?.try_into()
    };
    let unseen = UNSEEN.iter().map(|number| (*number, Vec::new())).collect();
    let unseen = program(unseen, libc::ENOSYS).map_err(|error| error.to_string())?;
    let refused = rules(needs).and_then(|rules| program(rules, libc::EPERM)).map_err(|error| error.to_string())?;
    for program in [unseen, refused] {
        apply_filter_all_threads(&program).map_err(|error| error.to_string().replace('\n', " "))?;
    }
    Ok(())
}

fn rules(needs: &Needs) -> Result<Rules, BackendError> {
    let mut rules = Rules::new();
    let whole = [PROGRAMS, NETWORK, PROCESSES, KERNEL, FILES, old::PROGRAMS, old::KERNEL, old::FILES];
    let removals: &[&[c_long]] = if needs.removable.is_none() { &[REMOVALS, old::REMOVALS] } else { &[] };
    for number in whole.iter().chain(removals).copied().flatten() {
        rules.insert(*number, Vec::new());
    }
    // A thread shares its process; what doesn't is a process of its own.
    let thread = libc::CLONE_THREAD as u64;
    rules.insert(libc::SYS_clone, vec![when(0, SeccompCmpOp::MaskedEq(thread), 0)?]);
    // Signals go to this process alone: `abort` sends itself one.
    let own = u64::from(std::process::id());
    for number in [libc::SYS_kill, libc::SYS_tgkill] {
        rules.insert(number, vec![when(0, SeccompCmpOp::Ne, own)?]);
    }
    rules.insert(libc::SYS_prlimit64, vec![when(0, SeccompCmpOp::Ne, 0)?]);
    // Code is what was code at start-up.
    let exec = libc::PROT_EXEC as u64;
    for number in [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_pkey_mprotect] {
        rules.insert(number, vec![when(2, SeccompCmpOp::MaskedEq(exec), exec)?]);
    }
    // A datagram to an address needs no connection: it is the fifth argument.
    let address = SeccompCondition::new(4, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?;
    rules.insert(libc::SYS_sendto, vec![SeccompRule::new(vec![address])?]);
    // Words typed into the terminal that it was started from.
    // What libc calls the type of a request depends on the C library.
    #[allow(clippy::unnecessary_cast)]
    let typing = [libc::TIOCSTI, libc::TIOCLINUX].map(|request| when(1, SeccompCmpOp::Eq, request as u64));
    rules.insert(libc::SYS_ioctl, typing.into_iter().collect::<Result<_, _>>()?);
    for (number, flags) in [(libc::SYS_openat, 2)].iter().chain(old::OPEN) {
        let opens = if needs.readable.is_empty() { Vec::new() } else { for_writing(*flags)? };
        rules.insert(*number, opens);
    }
    #[cfg(target_arch = "x86_64")]
    {
        let twins: Vec<i64> = rules.keys().copied().chain(UNSEEN.iter().copied()).chain(old::X32_ONLY).collect();
        rules.extend(twins.into_iter().map(|number| (number | old::X32_BIT, Vec::new())));
    }
    Ok(rules)
}

/// One rule for each flag with which a file could be changed or made.
fn for_writing(flags: u8) -> Result<Vec<SeccompRule>, BackendError> {
    let made_without_name = libc::O_TMPFILE & !libc::O_DIRECTORY;
    [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC, made_without_name]
        .map(|flag| when(flags, SeccompCmpOp::MaskedEq(flag as u64), flag as u64))
        .into_iter()
        .collect()
}

/// Refused when the argument of this place, taken as 32 bits, compares so.
fn when(argument: u8, compares: SeccompCmpOp, with: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compares, with)?])
}
