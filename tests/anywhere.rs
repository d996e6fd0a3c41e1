//! Runs the program in places other than the one it was built in: in an empty root directory, and on other CPUs.
//! `CLLM_PORTABLE` names a program of `make portable` to use instead of this build (`make portability`).

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use cllm::appliance::BuiltFor;
use serde_json::json;

#[path = "support/http.rs"]
#[allow(dead_code)]
mod http;

use http::Client;

/// A test fails after this time, because the program must be hanging.
const HANG: Duration = Duration::from_secs(120);
/// Libraries of glibc and of the kernel.
const GLIBC: &[&str] = &["ld-linux", "libc.so", "libm.so", "libpthread.so", "libdl.so", "librt.so", "linux-vdso"];
/// The id of the user in the empty root directory, which owns no files.
const NOBODY: u32 = 65_534;

/// The program under test.
fn program() -> PathBuf {
    std::env::var_os("CLLM_PORTABLE").map_or_else(|| env!("CARGO_BIN_EXE_cllm").into(), PathBuf::from)
}

fn built_for() -> BuiltFor {
    let built_for = BuiltFor::read(&program()).expect("it can be read").expect("it is stamped");
    assert!(std::env::var_os("CLLM_PORTABLE").is_none() || built_for.is_portable(), "{built_for:?}");
    built_for
}

/// A command without the variables of this shell.
fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CLLM_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// The shared libraries that the program needs: each one's path, or its name if it has none.
fn libraries() -> Vec<PathBuf> {
    let list = said(&clean("ldd").arg(program()).output().expect("ldd, of glibc, runs"));
    let file = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.iter().find(|word| word.starts_with('/')).or(words.first()).map(PathBuf::from)
    };
    list.lines().filter_map(file).collect()
}

#[test]
fn it_needs_only_glibcs_own_libraries() {
    let libraries = libraries();
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names: Vec<String> = libraries.iter().map(name).collect();
    assert!(names.iter().any(|name| name.starts_with("libc.so")), "{names:?}");
    let others: Vec<&String> = names.iter().filter(|name| !GLIBC.iter().any(|known| name.starts_with(known))).collect();
    assert!(others.is_empty(), "needs {others:?}");
}

/// What libstdc++ needs from glibc 2.36 on is linked into the program.
#[test]
fn it_needs_no_glibc_as_new_as_the_compilers() {
    let wanted =
        said(&clean("nm").args(["-D", "--undefined-only"]).arg(program()).output().expect("nm, of binutils, runs"));
    assert!(wanted.contains(" getrandom@") && !wanted.contains("arc4random"), "{wanted}");
}

/// A directory with an appliance and glibc's libraries, removed at the end.
struct Root(PathBuf);

impl Root {
    fn new(name: &str, bundle: &[&str]) -> Root {
        let folder = std::env::temp_dir().join(format!("cllm-anywhere-{}-{name}", std::process::id()));
        let root = Root(folder.canonicalize().unwrap_or(folder));
        std::fs::create_dir_all(root.0.join("bin")).expect("a folder");
        for library in libraries().iter().filter(|path| path.is_absolute()) {
            let copy = root.0.join(library.strip_prefix("/").expect("absolute"));
            std::fs::create_dir_all(copy.parent().expect("a folder")).expect("folders");
            std::fs::copy(library, copy).expect("copied");
        }
        std::fs::write(root.0.join("cllm.toml"), "max-tokens = 12\n").expect("written");
        let config = root.0.join("cllm.toml");
        let mut command = clean(env!("CARGO_BIN_EXE_cllm"));
        if std::env::var_os("CLLM_PORTABLE").is_some() {
            command.args(["bundle", "--portable", "--program"]).arg(program());
        } else {
            command.arg("bundle");
        }
        command.args(bundle).arg("--config").arg(&config).arg("-o").arg(root.0.join("bin/appliance"));
        said(&command.output().expect("it runs"));
        std::fs::remove_file(config).expect("removed");
        root
    }

    /// Runs the appliance, by its name alone, as a user with few rights: as the user `nobody` if these tests run as root,
    /// otherwise as this user, which is root in a new user namespace.
    fn command(&self, args: &[&str]) -> Command {
        const SCRIPT: &str = r#"
            PATH="$PATH:/usr/sbin:/sbin" chroot="$(command -v chroot)" unshare="$(command -v unshare)"
            [ -n "$chroot" ] || { echo "chroot is missing (Debian: coreutils)"; exit 1; } >&2
            export PATH=/bin root="$1"; shift
            if [ "$uid" = 0 ]; then exec "$chroot" --userspec="$nobody:$nobody" "$root" appliance "$@"; fi
            [ -n "$unshare" ] || { echo "unshare is missing (Debian: util-linux)"; exit 1; } >&2
            exec "$unshare" --user --map-root-user "$chroot" "$root" appliance "$@""#;
        let mut command = clean("sh");
        command.env("uid", user().to_string()).env("nobody", NOBODY.to_string());
        command.args(["-c", SCRIPT, "sh"]).arg(&self.0).args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The id of the user that runs these tests.
fn user() -> u32 {
    std::fs::metadata("/proc/self").expect("Linux").uid()
}

/// A serving process. Killed when it is dropped.
struct Serving(Child, std::net::SocketAddr);

impl Serving {
    fn start(mut command: Command) -> Serving {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("it runs");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let mut seen = String::new();
        let address = loop {
            let from = seen.len();
            assert!(log.read_line(&mut seen).expect("the log") > 0, "it ended: {seen}");
            if let Some((_, rest)) = seen[from..].split_once("listening on http://") {
                break rest.split(['"', ' ', '\n']).next().and_then(|addr| addr.parse().ok()).expect("an address");
            }
        };
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Serving(child, address)
    }

    /// The answer to a greedy request, which is the same each time.
    fn answer(&self) -> String {
        let body = json!({"prompt": "How do I start the server?", "temperature": 0, "max_tokens": 24});
        let data = Client::connect(self.1).post("/generate", &body).data();
        data["text"].as_str().expect("text").to_owned()
    }

    /// Loads the page as a browser does, and checks that every script, style and picture that it names exists.
    fn page(&self) -> String {
        let mut client = Client::connect(self.1);
        client.write(b"GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n").expect("sent");
        let page = client.answer(false).expect("an answer").text();
        let assets: Vec<&str> = page.split("=\"page/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(assets.len() >= 3, "{page}");
        for asset in assets {
            assert_eq!(client.get(&format!("/page/{asset}")).status, 200, "{asset}");
        }
        page
    }

    fn stop(mut self) {
        let killed = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.0.id())]).status();
        assert!(killed.expect("a shell").success());
        let started = Instant::now();
        let status = loop {
            match self.0.try_wait().expect("a child") {
                Some(status) => break status,
                None => assert!(started.elapsed() < HANG, "it doesn't end"),
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        assert!(status.success(), "{status}");
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// There is no /proc, /dev, /tmp or /etc, and no folder that can be written.
#[test]
fn in_an_empty_root_directory_it_serves() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/vendor/model/cllm-tiny.gguf");
    let mut here = clean(program());
    here.args(["serve", "--port", "0"]);
    let here = Serving::start(here);
    let expected = here.answer();
    assert!(expected.contains("cllm serve"), "{expected}");
    here.stop();
    for (name, bundle) in [("built-in", &[][..]), ("carried", &["-m", model])] {
        let root = Root::new(name, bundle);
        assert!(names(&root.0).iter().all(|name| name == "bin" || name.starts_with("lib") || name == "usr"));
        assert_eq!(names(&root.0.join("bin")), ["appliance"]);
        let checked = said(&root.command(&["--check"]).output().expect("it runs"));
        assert!(checked.contains("max-tokens = 12"), "not what it carries: {checked}");
        let served = Serving::start(root.command(&["--port", "0"]));
        let process = format!("/proc/{}", served.0.id());
        assert_eq!(std::fs::read_link(format!("{process}/root")).expect("it runs"), root.0);
        let owner = if user() == 0 { NOBODY } else { user() };
        assert_eq!(std::fs::metadata(&process).expect("it runs").uid(), owner);
        assert_eq!(served.answer(), expected);
        assert!(served.page().contains("<html"));
        served.stop();
    }
}

/// Runs the program under an emulator of `cpu`. The emulator's messages about features that it can't emulate are removed.
fn emulated(cpu: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = clean("qemu-x86_64");
    let output = command.args(["-cpu", cpu]).arg(program()).args(args).output();
    let output = output.expect("qemu-x86_64 is missing (Debian: apt-get install qemu-user)");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let own: Vec<&str> = stderr.lines().filter(|line| !line.starts_with("qemu-x86_64: warning")).collect();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), own.join("\n"))
}

fn refused(said: &(Option<i32>, String, String), named: &str) {
    let (code, stdout, stderr) = said;
    assert_eq!((*code, stdout.as_str()), (Some(1), ""), "{stderr}");
    let one_line = stderr.lines().count() == 1 && stderr.starts_with("cllm: this CPU lacks ");
    assert!(one_line && stderr.contains(named), "doesn't name {named}: {stderr}");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_cpu_that_lacks_something_is_told_in_one_line() {
    let built_for = built_for();
    assert!(built_for.features.iter().any(|feature| feature == "avx2"), "compiled for {}", built_for.cpu);
    refused(&emulated("Nehalem", &["--version"]), " avx2, ");
    // This CPU has the instructions, but its system doesn't save the wide registers.
    refused(&emulated("Haswell,-xsave", &["--version"]), " avx2, ");
}

/// The program generates text, so an instruction that the CPU lacks would end it.
#[test]
#[cfg(target_arch = "x86_64")]
fn on_another_cpu_it_says_the_same_or_why_not() {
    let words = ["generate", "--temperature", "0", "--max-tokens", "12", "Tell me a story"];
    let here = said(&clean(program()).args(words).output().expect("it runs"));
    if built_for().is_portable() {
        assert_eq!(emulated("Haswell", &words), (Some(0), here, String::new()));
        return;
    }
    // The emulator doesn't support AVX-512 with any CPU.
    match emulated("max", &words) {
        (Some(0), there, _) => assert_eq!(there, here),
        lacking => {
            let named = built_for().features.into_iter().find(|name| lacking.2.contains(name));
            refused(&lacking, &named.expect("it names what is missing"));
        }
    }
}
