//! What we promise each other about this project's files, checked. One file for each kind of rule; a rule is a function from a
//! file to complaints, and beside it stand the test that holds all files to it and one that breaks it.
//!
//! ```text
//! rooms     which room of src/ may name which
//! circles   no files that name each other
//! map       ARCHITECTURE.md and src/lib.rs show every room
//! bounds    every bound among the limits
//! danger    where `unsafe` lives, and where nothing may panic
//! form      how files open, and how long they get
//! types     each visible type has a name of its own
//! words     comments and tests' names say what they speak of
//! names     nothing of one machine, and no file that does not exist
//! manifest  the order and the reasons of Cargo.toml's dependencies
//! source    a file as rules see it; literals   its code without comments and strings
//! ```

#[path = "tidy/bounds.rs"]
mod bounds;
#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/danger.rs"]
mod danger;
#[path = "tidy/form.rs"]
mod form;
#[path = "tidy/literals.rs"]
mod literals;
#[path = "tidy/manifest.rs"]
mod manifest;
#[path = "tidy/map.rs"]
mod map;
#[path = "tidy/names.rs"]
mod names;
#[path = "tidy/rooms.rs"]
mod rooms;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/types.rs"]
mod types;
#[path = "tidy/words.rs"]
mod words;
