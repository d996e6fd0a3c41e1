//! Checks that the compute threads of a running server are on different cores. On one core they would wait for each other
//! at every operation, and a token would take seconds.

#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_batching_thread_shares_no_core_with_a_ggml_worker() {
    if core_affinity::get_core_ids().is_none_or(|cores| cores.len() < 2) {
        eprintln!("needs two CPUs to be about anything");
        return;
    }
    let mut server = Server(
        Command::new(env!("CARGO_BIN_EXE_cllm"))
            .args(["serve", "--port", "0", "--threads", "2", "--log-format", "json"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts"),
    );
    let stderr = server.0.stderr.take().expect("piped");
    let started = BufReader::new(stderr).lines().map_while(Result::ok).any(|line| line.contains("listening on"));
    assert!(started, "the server listens");
    // The names of HTTP threads are set a moment after they start.
    let mut compute = compute_threads(server.0.id());
    for _ in 0..500 {
        if compute.len() == 2 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
        compute = compute_threads(server.0.id());
    }
    assert_eq!(compute.len(), 2, "{compute:?}");
    assert_ne!(compute[0].1, compute[1].1, "{compute:?}");
}

/// The name and the allowed CPUs of the batching thread and of ggml's workers. The main thread makes the workers, and they
/// keep its name.
fn compute_threads(pid: u32) -> Vec<(String, String)> {
    let mut compute = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).expect("Linux").flatten() {
        let read = |file: &str| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let name = read("comm").trim().to_owned();
        let is_main = task.file_name().to_string_lossy() == pid.to_string();
        if name == "batch" || (name == "cllm" && !is_main) {
            let status = read("status");
            let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            compute.push((name, allowed.unwrap_or("").trim().to_owned()));
        }
    }
    compute
}
