//! Storms at a size that every test run can afford. The full size is `cargo run --release --example storm`.

mod storming;

use std::process::Command;
use storming::Target;

/// Not a test: the server that the storms are for, when this program is started as one.
#[test]
fn serve_for_storms() {
    if let Ok(workers) = std::env::var("STORM_WORKERS") {
        storming::serve(workers.parse().unwrap());
    }
}

fn target(workers: usize) -> Target {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "serve_for_storms", "--nocapture"]).env("STORM_WORKERS", workers.to_string());
    Target::start(&mut command)
}

#[test]
fn a_burst_of_streams_is_served_by_four_workers() {
    storming::burst(&target(4), 300);
}

#[test]
fn drippers_and_those_that_never_read_cost_little_memory() {
    storming::drips(&target(4), 200, 1, 200);
}

#[test]
fn the_1025th_connection_is_503_and_one_that_closes_makes_room() {
    storming::limit(&target(4), 1024);
}

#[test]
fn threads_descriptors_and_memory_return_after_disconnects() {
    storming::disconnects(&target(64), 1200, 60);
}

#[test]
fn a_streamed_event_costs_microseconds() {
    storming::events(&target(4), 8, 1);
}
