//! `--sandbox`: what a running server can no longer do, tried in each of its threads; and that its other functions work
//! as before. If the kernel has no Landlock, the tests say so and check only what seccomp refuses.

use std::ffi::CString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use super::exactly;
use super::server::Server;

/// A folder of one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("cllm-sandbox-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    /// Replaces a file as renewing programs do: a new file takes its place.
    fn replace(&self, name: &str, text: &str) {
        std::fs::write(self.path("new"), text).unwrap();
        std::fs::rename(self.path("new"), self.path(name)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether this kernel has Landlock, as it tells a process that restricts itself.
fn has_landlock() -> bool {
    let asked = std::thread::spawn(|| {
        let rules = cllm::sandbox::files::FileRules::new(&cllm::sandbox::Needs::default());
        rules.and_then(cllm::sandbox::files::FileRules::enforce)
    });
    let answer = asked.join().unwrap();
    if let Err(why) = &answer {
        println!("only seccomp is tested, no landlock: {why}");
    }
    answer.is_ok()
}

/// A field of each thread's status, as the kernel reports it.
fn status_of_threads(server: &Server, name: &str) -> Vec<String> {
    let text = |id: &i32| std::fs::read_to_string(format!("/proc/{}/task/{id}/status", server.id())).unwrap();
    let value = |text: String| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
        line.unwrap_or_else(|| panic!("no {name}: {text}")).to_owned()
    };
    server.threads().iter().map(|id| value(text(id))).collect()
}

#[test]
fn every_thread_is_confined_by_default_and_none_without() {
    for (line, seccomp, privileges) in
        [("", "2", "1"), ("--sandbox auto --supervise", "2", "1"), ("--sandbox off", "0", "0")]
    {
        let server = Server::start(line);
        let server_threads = server.threads();
        assert!(server_threads.len() > 40, "HTTP threads and the others: {server_threads:?}");
        for (name, is) in [("Seccomp", seccomp), ("NoNewPrivs", privileges)] {
            let values = status_of_threads(&server, name);
            assert!(values.iter().all(|value| value == is), "{line:?}: {name} {values:?}");
        }
    }
}

#[test]
fn it_says_what_is_in_force() {
    let server = Server::start("");
    let landlock = has_landlock();
    assert!(server.logged_at_first("sandbox: landlock ABI ") == landlock, "landlock: {landlock}");
    assert!(server.logged_at_first("seccomp"));
    let silent = Server::start("--sandbox off");
    assert!(!silent.logged_at_first("sandbox"));
}

/// Uses every function of a running server: the sandbox must not prevent any.
#[test]
fn a_confined_server_does_its_work() {
    let folder = Folder::new("work");
    folder.replace("keys", "alpha\n");
    folder.replace("cllm.toml", "log-level = \"info\"\n");
    let must = if has_landlock() { "on" } else { "auto" };
    let line = format!(
        "--sandbox {must} --threads 2 --api-key-file {} --config {}",
        folder.path("keys"),
        folder.path("cllm.toml")
    );
    let mut server = Server::start(&line);
    let ask = |key: &str, path: &str, body: &serde_json::Value| {
        let (mut client, body) = (server.client(), body.to_string());
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {key}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        client.write(head.as_bytes()).unwrap();
        client.answer(false).expect("an answer")
    };
    assert_eq!(ask("alpha", "/generate", &exactly(50)).data()["generated_tokens"], 50);
    assert!(ask("alpha", "/generate_stream", &exactly(50)).text().contains("\"done\":true"));
    // Compiled on a thread of its own, with a stack of its own.
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false});
    let shaped = ask("alpha", "/generate", &json!({"prompt": "A record: ", "json_schema": schema, "max_tokens": 60}));
    assert_eq!(shaped.status, 200, "{}", shaped.text());
    // Threads of its own, too.
    let figures = ask("alpha", "/benchmark", &json!({"requests": 16, "concurrency": 8, "max_tokens": 10}));
    assert_eq!(figures.data()["successful_requests"], 16);

    folder.replace("keys", "beta\n");
    folder.replace("cllm.toml", "log-level = \"warn\"\n");
    server.signal("HUP");
    server.logged("API keys reloaded");
    server.logged("log level reloaded");
    assert_eq!(
        (ask("alpha", "/generate", &exactly(1)).status, ask("beta", "/generate", &exactly(1)).status),
        (401, 200)
    );
    // An invalid key file changes nothing, and can still be read later.
    folder.replace("keys", "# none\n");
    server.signal("HUP");
    server.logged("API keys not reloaded");
    assert_eq!(ask("beta", "/generate", &exactly(1)).status, 200);
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
}

#[test]
fn the_path_it_listens_on_is_removed_at_the_end() {
    let folder = Folder::new("path");
    let path = folder.path("cllm.sock");
    let mut server = Server::start(&format!("--host unix:{path}"));
    assert!(std::fs::exists(&path).unwrap());
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
    assert!(!std::fs::exists(&path).unwrap());
}

#[cfg(target_arch = "x86_64")]
mod from_inside {
    use std::io;

    use libc as sys;

    use super::super::inject::{Arg, Stopped};
    use super::*;
    use Arg::{Bytes, Number};

    const HERE: Arg = Number(sys::AT_FDCWD as i64);
    const SECRET: Arg = Bytes(b"/etc/passwd\0");
    const NEW: Arg = Bytes(b"/tmp/cllm-sandbox-was-here\0");
    const PROGRAM: Arg = Bytes(b"/bin/true\0");
    /// 127.0.0.1:1.
    const ADDRESS: Arg = Bytes(&[2, 0, 0, 1, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    const NULL: Arg = Number(0);
    const NOBODY: Arg = Number(-1);
    const X32: i64 = 0x4000_0000;

    struct Try {
        what: &'static str,
        number: i64,
        args: &'static [Arg<'static>],
        /// Whether it may be tried if it isn't refused.
        is_harmless: bool,
    }

    const fn harmless(what: &'static str, number: i64, args: &'static [Arg<'static>]) -> Try {
        Try { what, number, args, is_harmless: true }
    }

    const fn drastic(what: &'static str, number: i64, args: &'static [Arg<'static>]) -> Try {
        Try { what, number, args, is_harmless: false }
    }

    const MAP_PRIVATE_ANONYMOUS: i64 = (sys::MAP_PRIVATE | sys::MAP_ANONYMOUS) as i64;

    /// Calls that a server doesn't need. Without the sandbox, the harmless ones don't end in EPERM.
    #[rustfmt::skip]
    const REFUSED: &[Try] = &[
        harmless("open a file to write", sys::SYS_openat, &[HERE, SECRET, Number((sys::O_WRONLY) as i64)]),
        harmless("open a file to write, the old way", sys::SYS_open, &[SECRET, Number((sys::O_RDWR) as i64)]),
        drastic("make a file", sys::SYS_openat, &[HERE, NEW, Number((sys::O_CREAT) as i64), Number(0o600)]),
        harmless("make a file without a name", sys::SYS_openat, &[HERE, Bytes(b"/tmp\0"), Number((sys::O_TMPFILE | sys::O_RDWR) as i64), Number(0o600)]),
        drastic("make a file, the oldest way", sys::SYS_creat, &[NEW, Number(0o600)]),
        drastic("make a folder", sys::SYS_mkdir, &[NEW, Number(0o700)]),
        drastic("remove a file", sys::SYS_unlinkat, &[HERE, NEW, NULL]),
        drastic("rename a file", sys::SYS_rename, &[NEW, Bytes(b"/tmp/cllm-sandbox-went-there\0")]),
        drastic("change a mode", sys::SYS_fchmodat, &[HERE, NEW, Number(0o666)]),
        drastic("execve", sys::SYS_execve, &[PROGRAM, NULL, NULL]),
        drastic("execveat", sys::SYS_execveat, &[HERE, PROGRAM, NULL, NULL, NULL]),
        drastic("execve by its x32 number", sys::SYS_execve | X32, &[PROGRAM, NULL, NULL]),
        drastic("x32's own execve", 520 | X32, &[PROGRAM, NULL, NULL]),
        drastic("fork", sys::SYS_fork, &[]),
        drastic("vfork", sys::SYS_vfork, &[]),
        drastic("clone a process", sys::SYS_clone, &[Number(sys::SIGCHLD as i64), NULL, NULL, NULL, NULL]),
        harmless("map new code", sys::SYS_mmap, &[NULL, Number(4_096), Number((sys::PROT_READ | sys::PROT_EXEC) as i64), Number(MAP_PRIVATE_ANONYMOUS), NOBODY, NULL]),
        harmless("make code of data", sys::SYS_mprotect, &[NULL, NULL, Number(sys::PROT_EXEC as i64)]),
        harmless("a TCP socket", sys::SYS_socket, &[Number(sys::AF_INET as i64), Number(sys::SOCK_STREAM as i64), NULL]),
        harmless("a UDP socket", sys::SYS_socket, &[Number(sys::AF_INET6 as i64), Number(sys::SOCK_DGRAM as i64), NULL]),
        harmless("a Unix-domain socket", sys::SYS_socket, &[Number(sys::AF_UNIX as i64), Number(sys::SOCK_STREAM as i64), NULL]),
        harmless("connect", sys::SYS_connect, &[NOBODY, ADDRESS, Number(16)]),
        harmless("bind", sys::SYS_bind, &[NOBODY, ADDRESS, Number(16)]),
        harmless("listen", sys::SYS_listen, &[NOBODY, Number(1)]),
        harmless("send to an address", sys::SYS_sendto, &[NOBODY, SECRET, Number(1), NULL, ADDRESS, Number(16)]),
        harmless("send a message", sys::SYS_sendmsg, &[NOBODY, NULL, NULL]),
        harmless("ptrace", sys::SYS_ptrace, &[Number(sys::PTRACE_ATTACH as i64), NOBODY, NULL, NULL]),
        harmless("read another's memory", sys::SYS_process_vm_readv, &[NOBODY, NULL, NULL, NULL, NULL, NULL]),
        harmless("write another's memory", sys::SYS_process_vm_writev, &[NOBODY, NULL, NULL, NULL, NULL, NULL]),
        harmless("another's descriptors", sys::SYS_pidfd_getfd, &[NOBODY, NULL, NULL]),
        harmless("a signal to another", sys::SYS_kill, &[Number(1 << 30), NULL]),
        harmless("a signal to another's thread", sys::SYS_tgkill, &[Number(1 << 30), Number(1 << 30), NULL]),
        harmless("io_uring", sys::SYS_io_uring_setup, &[NULL, NULL]),
        harmless("bpf", sys::SYS_bpf, &[NOBODY, NULL, NULL]),
        harmless("userfaultfd", sys::SYS_userfaultfd, &[NOBODY]),
        harmless("perf_event_open", sys::SYS_perf_event_open, &[NULL, NULL, NULL, NULL, NULL]),
        harmless("keyctl", sys::SYS_keyctl, &[NOBODY]),
        harmless("namespaces", sys::SYS_unshare, &[NULL]),
        harmless("mount", sys::SYS_mount, &[NULL, NULL, NULL, NULL, NULL]),
        harmless("kernel modules", sys::SYS_finit_module, &[NOBODY, NULL, Number(-1)]),
        harmless("kexec", sys::SYS_kexec_load, &[NULL, Number(1 << 20), NULL, NULL]),
        harmless("type into the terminal", sys::SYS_ioctl, &[NOBODY, Number(sys::TIOCSTI as i64), NULL]),
        harmless("another's limits", sys::SYS_prlimit64, &[Number(1 << 30), NULL, NULL, NULL]),
    ];

    fn is_denied(answer: &io::Result<i64>) -> bool {
        let errno = answer.as_ref().err().and_then(io::Error::raw_os_error);
        [Some(sys::EPERM), Some(sys::EACCES)].contains(&errno)
    }

    /// Calls `with` for each thread, with its name and id.
    fn each_thread(server: &Server, mut with: impl FnMut(&str, &Stopped)) -> usize {
        let threads = server.threads();
        for id in &threads {
            let name = std::fs::read_to_string(format!("/proc/{}/task/{id}/comm", server.id())).unwrap();
            with(&format!("{} ({id})", name.trim()), &Stopped::at(*id));
        }
        threads.len()
    }

    #[test]
    fn no_thread_can_open_or_run_or_connect() {
        let mut server = Server::start("--threads 2");
        let landlock = has_landlock();
        let threads = each_thread(&server, |name, thread| {
            for attempt in REFUSED {
                let answer = thread.call(attempt.number, attempt.args);
                assert_eq!(errno(&answer), Some(sys::EPERM), "{name}: {}: {answer:?}", attempt.what);
            }
            // If these calls return ENOSYS, libraries use their older form.
            for number in [sys::SYS_clone3, sys::SYS_openat2] {
                let answer = thread.call(number, &[HERE, SECRET, NULL, NULL]);
                assert_eq!(errno(&answer), Some(sys::ENOSYS), "{name}: {number}: {answer:?}");
            }
            // No file is read again here, so no file can be opened.
            for path in [SECRET, Bytes(b"/proc/self/maps\0"), Bytes(b".\0")] {
                let answer = thread.call(sys::SYS_openat, &[HERE, path, NULL]);
                assert!(is_denied(&answer), "{name}: {answer:?}");
            }
        });
        println!("{threads} threads, {} attempts each, landlock: {landlock}", REFUSED.len() + 5);
        assert!(threads > 40);
        // The thread continues where it was.
        assert_eq!(server.generate(&exactly(20)).data()["generated_tokens"], 20);
        server.signal("TERM");
        assert_eq!(server.exit().code(), Some(0));
    }

    fn errno(answer: &io::Result<i64>) -> Option<i32> {
        answer.as_ref().err().and_then(io::Error::raw_os_error)
    }

    /// The refusals in the test above are caused by the sandbox.
    #[test]
    fn without_it_threads_can() {
        let server = Server::start("--sandbox off --threads 2");
        each_thread(&server, |name, thread| {
            for attempt in REFUSED.iter().filter(|attempt| attempt.is_harmless) {
                let answer = thread.call(attempt.number, attempt.args);
                // A user other than root may be refused some of these calls anyway.
                let may = |number| {
                    [
                        sys::SYS_bpf,
                        sys::SYS_perf_event_open,
                        sys::SYS_mount,
                        sys::SYS_kexec_load,
                        sys::SYS_finit_module,
                        sys::SYS_openat,
                        sys::SYS_open,
                        sys::SYS_userfaultfd,
                        sys::SYS_io_uring_setup,
                    ]
                    .contains(&number)
                };
                assert!(!is_denied(&answer) || may(attempt.number), "{name}: {}: {answer:?}", attempt.what);
            }
            let answer = thread.call(sys::SYS_openat, &[HERE, SECRET, NULL]);
            assert!(answer.is_ok_and(|file| file > 2), "{name}");
        });
    }

    /// Landlock's rules, in every thread, including those that started before the first request: only the files that
    /// SIGHUP reads again can be read.
    #[test]
    fn every_thread_reads_its_keys_folder_and_no_other() {
        let folder = Folder::new("reads");
        folder.replace("keys", "alpha\n");
        let server = Server::start(&format!("--threads 2 --api-key-file {}", folder.path("keys")));
        let landlock = has_landlock();
        let own = CString::new(folder.path("keys")).unwrap();
        let its_folder = CString::new(folder.path("")).unwrap();
        let (own, its_folder) = (Bytes(own.as_bytes_with_nul()), Bytes(its_folder.as_bytes_with_nul()));
        each_thread(&server, |name, thread| {
            let answer = thread.call(sys::SYS_openat, &[HERE, own, NULL]);
            assert!(answer.is_ok_and(|file| file > 2), "{name} may read its keys");
            let answer = thread.call(sys::SYS_openat, &[HERE, own, Number((sys::O_WRONLY) as i64)]);
            assert_eq!(errno(&answer), Some(sys::EPERM), "{name} may not write them");
            for (what, path) in [("other files", SECRET), ("the folder itself", its_folder), ("/", Bytes(b"/\0"))] {
                let answer = thread.call(sys::SYS_openat, &[HERE, path, NULL]);
                let expected = landlock.then_some(sys::EACCES);
                assert_eq!(errno(&answer), expected, "{name}: {what}");
            }
        });
    }

    /// The folder of `--prompt-disk` is the only place where a thread may make, rename, remove and list files.
    #[test]
    fn every_thread_writes_to_the_folder_of_prompts_and_to_no_other() {
        let folder = Folder::new("prompts");
        let (inside, outside) = (folder.path("inside"), folder.path("outside"));
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(format!("{outside}/file"), "").unwrap();
        let server = Server::start(&format!("--threads 2 --prompt-disk {inside}"));
        let landlock = has_landlock();
        let path = |text: String| CString::new(text).unwrap();
        let own = ["a", "b", ""].map(|name| path(format!("{inside}/{name}")));
        let others = ["file", "new", ""].map(|name| path(format!("{outside}/{name}")));
        let [a, b, own] = own.each_ref().map(|path| Bytes(path.as_bytes_with_nul()));
        let [file, new, other] = others.each_ref().map(|path| Bytes(path.as_bytes_with_nul()));
        let make = Number((sys::O_WRONLY | sys::O_CREAT) as i64);
        each_thread(&server, |name, thread| {
            for (what, number, args) in [
                ("make a file", sys::SYS_openat, &[HERE, a, make, Number(0o600)][..]),
                ("rename it", sys::SYS_rename, &[a, b]),
                ("read it", sys::SYS_openat, &[HERE, b, NULL]),
                ("remove it", sys::SYS_unlink, &[b]),
                ("list the folder", sys::SYS_openat, &[HERE, own, NULL]),
            ] {
                let answer = thread.call(number, args);
                assert!(answer.is_ok(), "{name}: {what}: {answer:?}");
            }
            for (what, number, args) in [
                ("make a file", sys::SYS_openat, &[HERE, new, make, Number(0o600)][..]),
                ("write to a file", sys::SYS_openat, &[HERE, file, Number((sys::O_WRONLY) as i64)]),
                ("read a file", sys::SYS_openat, &[HERE, file, NULL]),
                ("rename a file", sys::SYS_rename, &[file, new]),
                ("remove a file", sys::SYS_unlink, &[file]),
                ("list a folder", sys::SYS_openat, &[HERE, other, NULL]),
            ] {
                if landlock {
                    assert!(is_denied(&thread.call(number, args)), "{name}: {what}");
                }
            }
            for (what, number, args) in [
                ("make a folder", sys::SYS_mkdir, &[a, Number(0o700)][..]),
                ("change a mode", sys::SYS_fchmodat, &[HERE, own, Number(0o666)]),
                ("change a time by a name", sys::SYS_utimensat, &[HERE, own, NULL, NULL]),
            ] {
                assert_eq!(errno(&thread.call(number, args)), Some(sys::EPERM), "{name}: {what}");
            }
        });
        assert!(
            std::fs::exists(format!("{outside}/file")).unwrap() && !std::fs::exists(format!("{outside}/new")).unwrap()
        );
    }

    /// On such a kernel the log says so, and seccomp's refusals still apply.
    #[test]
    fn without_landlock_seccomp_stands_alone() {
        let me = std::env::current_exe().unwrap();
        let script = format!(
            "CLLM_TEST_WORDS=\"$*\" exec '{}' --exact sandbox::a_kernel_without_landlock --nocapture",
            me.display()
        );
        let server = Server::through(&script, Stdio::null(), "");
        assert!(server.logged_at_first("sandbox: seccomp; no landlock: "));
        each_thread(&server, |name, thread| {
            for attempt in REFUSED {
                let answer = thread.call(attempt.number, attempt.args);
                assert_eq!(errno(&answer), Some(sys::EPERM), "{name}: {}: {answer:?}", attempt.what);
            }
            let answer = thread.call(sys::SYS_openat, &[HERE, SECRET, NULL]);
            assert_eq!(errno(&answer), Some(sys::EPERM), "{name}: {answer:?}");
        });
        assert_eq!(server.generate(&exactly(20)).data()["generated_tokens"], 20);
    }

    #[test]
    fn without_landlock_on_means_no_start() {
        let me = std::env::current_exe().unwrap();
        // A server that starts in spite of this would run for ever.
        let output = Command::new("timeout")
            .arg("60")
            .arg(me)
            .args(["--exact", "sandbox::a_kernel_without_landlock", "--nocapture"])
            .env("CLLM_TEST_WORDS", "serve --port 0 --sandbox on --log-format json")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let line = said.lines().last().unwrap_or_default();
        assert!(line.starts_with("cllm: --sandbox on: landlock: "), "{said}");
    }
}

/// Becomes the server of two tests above, on a kernel without the calls of Landlock. Run by itself, it checks that such
/// a kernel answers this way.
#[test]
fn a_kernel_without_landlock() {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
    let missing = std::thread::spawn(|| {
        let calls = [libc::SYS_landlock_create_ruleset, libc::SYS_landlock_add_rule, libc::SYS_landlock_restrict_self];
        let arch = std::env::consts::ARCH.try_into().unwrap();
        let answer = SeccompAction::Errno(libc::ENOSYS as u32);
        let filter = SeccompFilter::new(calls.map(|n| (n, Vec::new())).into(), SeccompAction::Allow, answer, arch);
        let filter: BpfProgram = filter.unwrap().try_into().unwrap();
        apply_filter(&filter).unwrap();
        if let Ok(words) = std::env::var("CLLM_TEST_WORDS") {
            let mut command = Command::new(env!("CARGO_BIN_EXE_cllm"));
            panic!("{}", command.args(words.split_whitespace()).env_remove("CLLM_TEST_WORDS").exec());
        }
        cllm::sandbox::files::FileRules::new(&cllm::sandbox::Needs::default()).err()
    });
    assert!(missing.join().unwrap().is_some());
}

/// Landlock binds the calling thread and threads that it starts; seccomp binds all threads. In a process of its own.
#[test]
fn what_holds_for_threads_of_before_and_of_after() {
    const INSIDE: &str = "CLLM_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        return inside::run();
    }
    let me = std::env::current_exe().unwrap();
    let output = Command::new(me)
        .args(["--exact", "sandbox::what_holds_for_threads_of_before_and_of_after", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    // A process that became another program prints nothing at the end.
    assert!(output.status.success() && said.contains(inside::DONE), "{said}");
    println!("{said}");
}

mod inside {
    use std::fs::File;
    use std::io::{self, ErrorKind};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    use std::sync::{Arc, Barrier};
    use std::thread;

    use cllm::sandbox::files::FileRules;
    use cllm::sandbox::{Needs, calls};

    pub const DONE: &str = "all was refused";

    fn read(path: &str) -> io::Result<()> {
        File::open(path).map(drop)
    }

    /// Checks what every thread is refused in the end, whenever it started.
    fn refused_to_all(who: &str, addr: std::net::SocketAddr) {
        let tries: [(&str, io::Result<()>); 4] = [
            ("a connection", TcpStream::connect(addr).map(drop)),
            ("a child", Command::new("/bin/true").spawn().map(drop)),
            ("a program", Err(Command::new("/bin/true").exec())),
            ("a file to write", File::create(std::env::temp_dir().join("cllm-sandbox-was-here")).map(drop)),
        ];
        for (what, answer) in tries {
            let kind = answer.as_ref().err().map(io::Error::kind);
            assert_eq!(kind, Some(ErrorKind::PermissionDenied), "{who}: {what}: {answer:?}");
        }
    }

    pub fn run() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let folder = std::env::temp_dir().join(format!("cllm-inside-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (keys, secret) = (folder.join("keys").to_str().unwrap().to_owned(), "/etc/passwd");
        std::fs::write(&keys, "alpha").unwrap();
        // Before: all of it is possible.
        assert!(read(secret).is_ok() && read(&keys).is_ok() && TcpStream::connect(addr).is_ok());
        assert!(Command::new("/bin/true").status().unwrap().success());
        let mut needs = Needs::default();
        needs.reread(keys.as_ref());

        let all_is_shut = Arc::new(Barrier::new(3));
        let shut = Arc::clone(&all_is_shut);
        let early = thread::spawn(move || {
            shut.wait();
            refused_to_all("a thread of before", addr);
            assert!(read(secret).is_ok(), "Landlock isn't for threads of before: serve asks for it early");
        });
        let files = FileRules::new(&needs).and_then(FileRules::enforce);
        let is_shut = |who: &str| match &files {
            Ok(enforced) => {
                let kind = read(secret).err().map(|error| error.kind());
                assert_eq!(kind, Some(ErrorKind::PermissionDenied), "{who}, {enforced}");
            }
            Err(why) => println!("only seccomp is tested, no landlock: {why}"),
        };
        thread::scope(|scope| {
            let between = scope.spawn(|| {
                all_is_shut.wait();
                refused_to_all("a thread between", addr);
                is_shut("a thread between");
            });
            calls::refuse(&needs).expect("this kernel has seccomp");
            all_is_shut.wait();
            refused_to_all("the thread that asked", addr);
            is_shut("the thread that asked");
            let late = scope.spawn(|| {
                refused_to_all("a thread of after", addr);
                is_shut("a thread of after");
                assert!(read(&keys).is_ok(), "what is read again can be read");
            });
            [between, late].into_iter().for_each(|thread| thread.join().unwrap());
        });
        early.join().unwrap();
        println!("{DONE}");
    }
}

/// The manager hears of the start, the watchdog messages while idle, and the end, over the socket that was connected
/// before.
#[test]
fn a_manager_still_hears_it() {
    let folder = Folder::new("manager");
    let socket = std::os::unix::net::UnixDatagram::bind(folder.path("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let path = folder.path("notify");
    let script = format!("NOTIFY_SOCKET={path} WATCHDOG_USEC=100000 WATCHDOG_PID=$$ exec \"$0\" \"$@\"");
    let mut server = Server::through(&script, Stdio::null(), "");
    assert!(server.logged_at_first("seccomp"));
    let hear = || {
        let mut bytes = [0; 100];
        let length = socket.recv(&mut bytes).expect("word from the server");
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    assert_eq!([hear(), hear()], ["READY=1", "WATCHDOG=1"]);
    server.signal("TERM");
    while hear() != "STOPPING=1" {}
    assert_eq!(server.exit().code(), Some(0));
}
