//! `--supervise`: a server that is killed is restarted on the same socket, and every client gets an answer or an end.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::dice::Dice;
use super::http::Client;
use super::server::Server;
use super::{endless, exactly};

const CLIENTS: usize = 8;

/// Kills for about a minute, most of which the supervisor waits before another start. `CLLM_KILLS` sets their number.
fn kills() -> usize {
    std::env::var("CLLM_KILLS").map_or(100, |n| n.parse().expect("a number"))
}

fn signal(name: &str, pid: u64) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status();
    assert!(sent.expect("there is a shell").success());
}

fn lives(pid: u64) -> bool {
    // A zombie is dead.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Tells the clients to stop, also if a test fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_killed_server_comes_back_and_no_client_hangs() {
    let server = Server::start("--supervise -np 4 --queue 16");
    let mut pid = server.pids_started().pop().expect("the first server");
    let (stop, killed_at) = (AtomicBool::new(false), Mutex::new(Instant::now()));
    let (answers, errors) = (AtomicU64::new(0), AtomicU64::new(0));
    // Times from a kill to the supervisor's message, from there to the next start, and from there until the server is
    // ready.
    let (heard, (mut started, mut loaded)) = (Mutex::new(Vec::new()), (Vec::new(), Vec::new()));
    let load = |i: usize| {
        let mut dice = Dice::new(i as u64);
        while !stop.load(Ordering::Relaxed) {
            // The socket never closes, so this always succeeds. A client that reads either gets an answer or an end;
            // otherwise `Client` panics after two minutes.
            let mut client = Client::connect(server.addr());
            let path = if i.is_multiple_of(2) { "/generate" } else { "/generate_stream" };
            let body = exactly(dice.within(1..=300)).to_string();
            let sent = client.request("POST", path, body.as_bytes());
            match sent.and_then(|()| client.answer(false)) {
                Ok(answer) => {
                    assert!([200, 429, 503].contains(&answer.status), "{}", answer.text());
                    answers.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    assert_ne!(error.kind(), ErrorKind::WouldBlock, "it hangs");
                    errors.fetch_add(1, Ordering::Relaxed);
                    heard.lock().unwrap().push(killed_at.lock().unwrap().elapsed());
                }
            }
        }
    };
    thread::scope(|scope| {
        let until_here = StopAtEnd(&stop);
        let clients: Vec<_> = (0..CLIENTS).map(|i| scope.spawn(move || load(i))).collect();
        let mut dice = Dice::new(CLIENTS as u64);
        for _ in 0..kills() {
            server.wait_until("under load", |metrics| super::server::number(metrics, "cllm_requests_running") >= 2);
            thread::sleep(Duration::from_millis(dice.within(0..=50) as u64));
            let killed = Instant::now();
            *killed_at.lock().unwrap() = killed;
            signal("KILL", pid);
            server.logged("was ended by SIGKILL; it is started again");
            server.logged("server started");
            started.push(killed.elapsed());
            pid = *server.pids_started().last().unwrap();
            // Waits in the backlog until the new server accepts it.
            let mut client = Client::connect(server.addr());
            let answer = client.get("/ready");
            assert_eq!(answer.status, 200);
            loaded.push(killed.elapsed() - started[started.len() - 1]);
        }
        drop(until_here);
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
    let worst = |list: &[Duration]| list.iter().max().copied().unwrap_or_default();
    let (heard, started, loaded) = (worst(&heard.lock().unwrap()), worst(&started), worst(&loaded));
    println!(
        "{} kills: {} answers, {} ended connections, noticed within {} ms; started again within {} ms, ready {} ms later",
        kills(),
        answers.load(Ordering::Relaxed),
        errors.load(Ordering::Relaxed),
        heard.as_millis(),
        started.as_millis(),
        loaded.as_millis()
    );
    assert!(heard < Duration::from_secs(1), "in flight they hear of it within a second: {heard:?}");
    assert!(started < Duration::from_secs(1), "what isn't loading takes no second: {started:?}");
    assert!(answers.load(Ordering::Relaxed) > 0 && errors.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_signal_drains_through_the_supervisor() {
    let mut server = Server::start("--supervise -np 2 -c 131072 --grace-ms 3600000");
    let pid = server.pids_started()[0];
    let mut stream = server.stream(&endless());
    assert!(stream.next().is_some());
    server.signal("HUP");
    server.logged("log level reloaded");
    server.signal("TERM");
    server.logged("stopping");
    let answer = server.client().get("/ready");
    assert_eq!((answer.status, &answer.json()["code"]), (503, &json!("shutting_down")));
    assert!(stream.next().is_some(), "who was in goes on");
    server.signal("TERM");
    assert_eq!(stream.finish().1["finish_reason"], "shutdown");
    assert_eq!(server.exit().code(), Some(0));
    assert!(!lives(pid) && Client::try_connect(server.addr()).is_err());
}

#[test]
fn a_server_ends_with_its_supervisor() {
    let mut server = Server::start("--supervise");
    let pid = server.pids_started()[0];
    server.signal("KILL");
    server.exit();
    let started = Instant::now();
    while lives(pid) {
        assert!(started.elapsed() < Duration::from_secs(120), "the server goes on alone");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_path_is_the_supervisors() {
    let path = std::env::temp_dir().join(format!("cllm-supervised-{}.sock", std::process::id()));
    let mut server = Server::start(&format!("--supervise --host unix:{}", path.display()));
    signal("ABRT", server.pids_started()[0]);
    server.logged("was ended by SIGABRT");
    let mut client = Client::over(UnixStream::connect(&path).expect("the path stays"));
    assert_eq!(client.get("/ready").status, 200);
    server.signal("TERM");
    assert_eq!(server.exit().code(), Some(0));
    assert!(!path.exists());
}

/// A server that can't start isn't started again.
#[test]
fn a_server_that_refuses_to_start_ends_it() {
    let path = std::env::temp_dir().join(format!("cllm-supervised-{}.gguf", std::process::id()));
    std::fs::write(&path, b"GGUF and nothing more").unwrap();
    let line = ["serve", "--supervise", "--port", "0", "--log-format", "json", "-m", path.to_str().unwrap()];
    let output = Command::new(env!("CARGO_BIN_EXE_cllm")).args(line).output().unwrap();
    std::fs::remove_file(&path).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.matches("server started").count(), 1, "{said}");
    assert!(said.contains("cllm: serve: the server ended with code 1"), "{said}");
}
