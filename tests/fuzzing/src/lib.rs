//! The rooms of cllm that the targets call, compiled with counters of coverage, and what the targets share.
//! `run` builds and runs them; the files of `bin/` are the targets.

// The rooms have more functions than the targets need.
#![allow(dead_code, unused_imports)]

// Files of tests/support name the crate whose rooms they use.
extern crate self as cllm;

include!("../../support/rooms.rs");
pub mod last;
#[path = "../../support/no_model.rs"]
pub mod no_model;
pub mod served;
