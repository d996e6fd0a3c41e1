//! The service that `cllm install --systemd` writes, checked by systemd's own tools; and the messages of a running
//! server to its manager.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::exactly;
use super::server::Server;

/// A folder of one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("cllm-systemd-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    fn with(&self, name: &str, text: &str) -> String {
        std::fs::write(self.0.join(name), text).unwrap();
        self.path(name)
    }

    fn install(&self, flags: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cllm"));
        command.args(["install", "--systemd", "-o", self.0.to_str().unwrap()]).args(flags).output().unwrap()
    }

    fn analyzed(&self, words: &[&str]) -> (bool, String) {
        let output = Command::new("systemd-analyze").args(words).current_dir(&self.0).output();
        let output = output.expect("systemd-analyze runs (Debian: apt-get install systemd)");
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Every option that changes the written files.
fn everything(folder: &Folder) -> Vec<String> {
    let template = folder.with("a template %i $HOME.jinja", "{{ messages }}");
    let config = folder.with("cllm.toml", "parallel = 4\n");
    let keys = folder.with("keys", "alpha\n");
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600)).unwrap();
    let flags =
        ["--chat-template", &template, "--config", &config, "--api-key-file", &keys, "--mlock", "--host", "::1"];
    flags.iter().map(|flag| (*flag).to_owned()).collect()
}

#[test]
fn the_units_are_valid_and_hardened() {
    for name in ["plain", "everything"] {
        let folder = Folder::new(name);
        let flags = if name == "plain" { Vec::new() } else { everything(&folder) };
        let output = folder.install(&flags.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let (is_valid, said) = folder.analyzed(&["verify", "./cllm.service", "./cllm.socket"]);
        assert!(is_valid && said.trim().is_empty(), "{said}");
        let (_, said) = folder.analyzed(&["security", "--offline=yes", "--no-pager", "./cllm.service"]);
        let overall = said.lines().find_map(|line| line.split_once("Overall exposure level for cllm.service: "));
        let level = overall.and_then(|(_, level)| level.split(' ').next()?.parse::<f64>().ok());
        println!("{name}: exposure {level:?}");
        assert!(level.expect("a level") < 3.0, "{said}");
    }
}

#[test]
fn the_service_can_read_what_it_serves_and_no_other_user_its_keys() {
    let folder = Folder::new("reads");
    let flags = everything(&folder);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    assert!(folder.install(&flags).status.success());
    let unit = std::fs::read_to_string(folder.path("cllm.service")).unwrap();
    let template = folder.path("a template %%i $$HOME.jinja");
    assert!(unit.contains(&format!("\"--chat-template={template}\"")), "{unit}");
    assert!(unit.contains(&format!("BindReadOnlyPaths=\"{template}\"")), "the service has a /tmp of its own: {unit}");
    assert!(unit.contains(&format!("LoadCredential=api-key-file:{}", folder.path("keys"))), "{unit}");
    assert!(unit.contains("--api-key-file=%d/api-key-file") && unit.contains("LimitMEMLOCK=infinity"), "{unit}");
    assert!(std::fs::read_to_string(folder.path("cllm.socket")).unwrap().contains("ListenStream=[::1]:8080\n"));

    let model = folder.with("closed.gguf", "GGUF");
    std::fs::set_permissions(&model, std::fs::Permissions::from_mode(0o600)).unwrap();
    for (flags, named) in [
        (vec![], "cllm.service: it exists; --force"),
        (vec!["--force", "--api-key", "k"], "--api-key: every user of the machine can read"),
        (vec!["--force", "--port", "0"], "--port: a service needs"),
        (vec!["--force", "--host", "localhost"], "--host: a service needs"),
        (vec!["--force", "-m", &model], "other users can't read it"),
        (vec!["--force", "-m", "/nowhere.gguf"], "/nowhere.gguf"),
    ] {
        let output = folder.install(&flags);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(named) && said.lines().count() == 1, "{said}");
    }
    assert_eq!(std::fs::read_to_string(folder.path("cllm.service")).unwrap(), unit, "a refusal changes nothing");
}

/// Prompts go to the state folder, the only one that the service may write to, unless they are off.
#[test]
fn the_service_keeps_prompts_in_its_state_folder() {
    for (flag, expected) in [
        (None, Some("--prompt-disk=%S/cllm/prompts\n")),
        (Some("--prompt-disk=/var/lib/cllm/p:2GB"), Some("--prompt-disk=/var/lib/cllm/p:2000000000\n")),
        (Some("--prompt-disk=off"), None),
    ] {
        let folder = Folder::new("prompts");
        let flags: Vec<&str> = flag.into_iter().chain(["--prompt-ram=1GiB"]).collect();
        assert!(folder.install(&flags).status.success());
        let unit = std::fs::read_to_string(folder.path("cllm.service")).unwrap();
        let state = "StateDirectory=cllm\nStateDirectoryMode=0700\n";
        assert_eq!(unit.contains(state), expected.is_some(), "{unit}");
        assert_eq!(expected.is_some_and(|word| unit.contains(word)), unit.contains("--prompt-disk"), "{unit}");
        assert!(unit.contains(" --prompt-ram=1GiB"), "{unit}");
    }
    let output = Folder::new("prompts").install(&["--prompt-disk=/srv/p"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("--prompt-disk: a service may write only"), "{said}");
}

/// A manager's end of the socket.
fn manager(folder: &Folder) -> (UnixDatagram, String) {
    let path = folder.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    (socket, path)
}

fn said(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 100];
    let length = socket.recv(&mut bytes).expect("word from the server");
    String::from_utf8(bytes[..length].to_vec()).unwrap()
}

/// Reads all messages that have come, and returns the number of watchdog messages.
fn fed(socket: &UnixDatagram) -> usize {
    socket.set_nonblocking(true).unwrap();
    let mut times = 0;
    while socket.recv(&mut [0; 100]).is_ok() {
        times += 1;
    }
    socket.set_nonblocking(false).unwrap();
    times
}

#[test]
fn a_manager_hears_of_start_and_end_and_of_steps() {
    let folder = Folder::new("notify");
    let (socket, path) = manager(&folder);
    socket.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    // The server checks every 50 ms and may send every 25 ms, so each check that finds progress sends a message.
    let script = format!("NOTIFY_SOCKET={path} WATCHDOG_USEC=100000 WATCHDOG_PID=$$ exec \"$0\" \"$@\"");
    let mut server = Server::through(&script, Stdio::null(), "-np 1 --decoder null --null-step-us 1000000");
    assert_eq!(said(&socket), "READY=1");
    for _ in 0..5 {
        assert_eq!(said(&socket), "WATCHDOG=1", "idle it goes round");
    }
    let before = server.metric("cllm_steps_total");
    let client = std::thread::scope(|scope| {
        let work = scope.spawn(|| server.generate(&exactly(4)).status);
        server.wait_for(1, 0);
        fed(&socket);
        let from = server.metric("cllm_steps_total");
        server.wait_until("three steps", |metrics| super::server::number(metrics, "cllm_steps_total") >= from + 3);
        let (times, steps) = (fed(&socket), server.metric("cllm_steps_total") - from);
        // One for each step, one for the change from idle, and one for a step that ended before the counting began.
        assert!((1..=steps as usize + 2).contains(&times), "{times} times in {steps} steps of a second");
        work.join().unwrap()
    });
    assert!(client == 200 && server.metric("cllm_steps_total") >= before + 4);
    fed(&socket);
    server.signal("TERM");
    while said(&socket) != "STOPPING=1" {}
    assert_eq!(server.exit().code(), Some(0));
}

#[test]
fn a_watchdog_for_another_process_is_not_fed() {
    let folder = Folder::new("other");
    let (socket, path) = manager(&folder);
    let script = format!("NOTIFY_SOCKET={path} WATCHDOG_USEC=100000 WATCHDOG_PID=1 exec \"$0\" \"$@\"");
    let mut server = Server::through(&script, Stdio::null(), "");
    assert_eq!(said(&socket), "READY=1");
    server.generate(&exactly(500));
    server.signal("TERM");
    assert_eq!(said(&socket), "STOPPING=1", "and nothing between");
    assert_eq!(server.exit().code(), Some(0));
}
