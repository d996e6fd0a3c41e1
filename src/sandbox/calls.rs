//! Which system calls are refused, by seccomp: groups of calls that a server doesn't need once it serves. A refused call
//! returns EPERM, which libraries handle as an error. Killing the process instead would end all running requests.
//!
//! Why a list of refused calls and not of allowed ones: the calls of glibc, mimalloc and llama.cpp change with their
//! versions and with the machine, and a call that is missing from a list of allowed ones stops the server. The promise made
//! here (no programs, no connections, no files) can be listed completely. The unit of `cllm install --systemd` adds
//! systemd's list of allowed calls.
//!
//! Cost: the kernel looks up calls that are refused or allowed whatever their arguments in its own table. For the few other
//! calls it runs some hundred steps of a compiled filter, at most a microsecond. Linux before 5.16 also treats a process
//! with a filter as one that runs untrusted code, and slows its loads and stores (`spec_store_bypass_disable`).

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter_all_threads,
};

use super::Needs;

/// The rules of each call's number. The call is refused if any of its rules holds, or if it has no rules.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Numbers of calls that libc doesn't name on every machine. Numbers from 424 on are equal on all machines.
const SYS_FCHMODAT2: c_long = 452;
const SYS_SETXATTRAT: c_long = 463;
const SYS_REMOVEXATTRAT: c_long = 466;
const SYS_OPEN_TREE_ATTR: c_long = 467;
const SYS_FILE_SETATTR: c_long = 469;

/// Calls that start programs. `clone` also starts threads, so its arguments are checked in `rules`.
const PROGRAMS: &[c_long] = &[libc::SYS_execve, libc::SYS_execveat];

/// Calls that make sockets or send data to an address. Accepting connections and using them stays allowed.
const NETWORK: &[c_long] =
    &[libc::SYS_socket, libc::SYS_connect, libc::SYS_bind, libc::SYS_listen, libc::SYS_sendmsg, libc::SYS_sendmmsg];

/// Calls that read or change other processes' memory, descriptors or state.
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

/// Parts of the kernel that a server doesn't need: io_uring, which would bypass this list; calls that attackers have often
/// used; and administration of the machine.
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

/// Calls that change files. Landlock doesn't refuse changes of owner, mode and attributes; on a kernel without Landlock,
/// only this list refuses the others.
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

/// Calls of `FILES` that a folder of its own needs. Landlock limits them to that folder.
#[cfg(target_arch = "x86_64")]
const RENAMES: &[c_long] = &[libc::SYS_rename, libc::SYS_renameat, libc::SYS_renameat2];
#[cfg(not(target_arch = "x86_64"))]
const RENAMES: &[c_long] = &[libc::SYS_renameat, libc::SYS_renameat2];

/// Calls that remove files. They are refused if the server has no file of its own to remove at its end.
const REMOVALS: &[c_long] = &[libc::SYS_unlinkat];

/// Older names of calls above, which only some kinds of machine have.
#[cfg(target_arch = "x86_64")]
mod old {
    use libc::c_long;

    /// Calls that start programs.
    pub const PROGRAMS: &[c_long] = &[libc::SYS_fork, libc::SYS_vfork];
    /// Parts of the kernel that a server doesn't need.
    pub const KERNEL: &[c_long] = &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_uselib];
    /// Calls that change files.
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
    /// Calls that remove files.
    pub const REMOVALS: &[c_long] = &[libc::SYS_unlink, libc::SYS_rmdir];
    /// `open`, and the index of its flags among the arguments.
    pub const OPEN: &[(c_long, u8)] = &[(libc::SYS_open, 1)];
    /// The bit in the numbers of calls of the x32 ABI. The kernel reports them as calls of x86-64.
    pub const X32_BIT: i64 = 0x4000_0000;
    /// Numbers of calls that only the x32 ABI has.
    pub const X32_ONLY: std::ops::RangeInclusive<i64> = 512..=547;
}

#[cfg(not(target_arch = "x86_64"))]
mod old {
    use libc::c_long;

    /// Calls that start programs: none.
    pub const PROGRAMS: &[c_long] = &[];
    /// Parts of the kernel that a server doesn't need: none.
    pub const KERNEL: &[c_long] = &[];
    /// Calls that change files.
    pub const FILES: &[c_long] = &[libc::SYS_renameat];
    /// Calls that remove files: none.
    pub const REMOVALS: &[c_long] = &[];
    /// Calls that open a file, with the index of their flags: none.
    pub const OPEN: &[(c_long, u8)] = &[];
}

/// Calls with arguments in memory, where a filter can't read them, and with an older form that has its arguments in
/// registers. If these calls return ENOSYS, glibc and other libraries use the older form.
const UNSEEN: &[c_long] = &[libc::SYS_clone3, libc::SYS_openat2];

/// Refuses the calls for all threads of this process, including threads that start later.
///
/// # Errors
/// Why the kernel doesn't accept the filter.
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
    let removals: &[&[c_long]] =
        if needs.removable.is_none() && needs.own.is_none() { &[REMOVALS, old::REMOVALS] } else { &[] };
    for number in whole.iter().chain(removals).copied().flatten() {
        rules.insert(*number, Vec::new());
    }
    // `clone` is allowed only with CLONE_THREAD: without it, it would start a new process.
    let thread = libc::CLONE_THREAD as u64;
    rules.insert(libc::SYS_clone, vec![when(0, SeccompCmpOp::MaskedEq(thread), 0)?]);
    // Signals may be sent only to this process: `abort` sends itself one.
    let own = u64::from(std::process::id());
    for number in [libc::SYS_kill, libc::SYS_tgkill] {
        rules.insert(number, vec![when(0, SeccompCmpOp::Ne, own)?]);
    }
    rules.insert(libc::SYS_prlimit64, vec![when(0, SeccompCmpOp::Ne, 0)?]);
    if needs.own.is_some() {
        RENAMES.iter().for_each(|number| drop(rules.remove(number)));
        // The time of an open file may be set, that of a file by its name may not.
        let by_name = SeccompCondition::new(1, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?;
        rules.insert(libc::SYS_utimensat, vec![SeccompRule::new(vec![by_name])?]);
    }
    // No memory may become executable after start-up.
    let exec = libc::PROT_EXEC as u64;
    for number in [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_pkey_mprotect] {
        rules.insert(number, vec![when(2, SeccompCmpOp::MaskedEq(exec), exec)?]);
    }
    // The fifth argument is an address: a datagram could be sent there without a connection.
    let address = SeccompCondition::new(4, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?;
    rules.insert(libc::SYS_sendto, vec![SeccompRule::new(vec![address])?]);
    // These requests type characters into the terminal that the server was started from. The type of a request in libc
    // depends on the C library, hence the cast.
    #[allow(clippy::unnecessary_cast)]
    let typing = [libc::TIOCSTI, libc::TIOCLINUX].map(|request| when(1, SeccompCmpOp::Eq, request as u64));
    rules.insert(libc::SYS_ioctl, typing.into_iter().collect::<Result<_, _>>()?);
    for (number, flags) in [(libc::SYS_openat, 2)].iter().chain(old::OPEN) {
        if needs.own.is_some() {
            // Landlock limits it to the folder. On a kernel without Landlock any file may be opened then; the log says so.
            rules.remove(number);
            continue;
        }
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

/// One rule for each flag of an open call that creates or changes a file; `flags` is the index of that argument.
fn for_writing(flags: u8) -> Result<Vec<SeccompRule>, BackendError> {
    let made_without_name = libc::O_TMPFILE & !libc::O_DIRECTORY;
    [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC, made_without_name]
        .map(|flag| when(flags, SeccompCmpOp::MaskedEq(flag as u64), flag as u64))
        .into_iter()
        .collect()
}

/// A rule that holds if the argument with this index, as 32 bits, has the relation `compares` to `with`.
fn when(argument: u8, compares: SeccompCmpOp, with: u64) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compares, with)?])
}
