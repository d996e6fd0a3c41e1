//! The storms at full size. `storm [burst|drips|limit|disconnects|events]`, all of them without an argument.

#[path = "../tests/storming/mod.rs"]
mod storming;

use std::process::Command;
use storming::Target;

fn target(workers: usize) -> Target {
    let mut command = Command::new(std::env::current_exe().unwrap());
    Target::start(command.args(["serve", &workers.to_string()]))
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let wanted = arguments.next();
    if wanted.as_deref() == Some("serve") {
        return storming::serve(arguments.next().unwrap().parse().unwrap());
    }
    let is_wanted = |name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    if is_wanted("burst") {
        storming::burst(&target(4), 1000);
    }
    if is_wanted("drips") {
        storming::drips(&target(4), 1000, 9, 1500);
    }
    if is_wanted("limit") {
        storming::limit(&target(4), 1024);
    }
    if is_wanted("disconnects") {
        storming::disconnects(&target(104), 10_000, 100);
    }
    if is_wanted("events") {
        storming::events(&target(4), 32, 5);
    }
}
