//! The definitions of all settings, one file for each group of the help. Each is a flag, a `CLLM_*` variable and a key of the
//! configuration file.
//!
//! Names follow llama.cpp where the meaning is the same. To add a setting: define it in its group, and give `Config` the
//! field that the program reads.

/// Declares the settings of a group, and `ALL` of them in the order of the help.
macro_rules! group {
    ($($(#[$doc:meta])* $name:ident: $takes:ty = $setting:expr;)*) => {
        $($(#[$doc])* pub static $name: Setting<$takes> = $setting;)*

        /// All settings of this group, in the order of the help.
        pub static ALL: &[&dyn Definition] = &[$(&$name),*];
    };
}

pub mod compute;
pub mod context;
pub mod http;
pub mod log;
pub mod model;
pub mod sampling;

use super::definition::Definition;

/// All settings, in the order of the help.
pub fn all() -> impl Iterator<Item = &'static dyn Definition> {
    let groups = [model::ALL, context::ALL, compute::ALL, http::ALL, sampling::ALL, log::ALL];
    groups.into_iter().flatten().copied()
}

/// The setting of `key`; `None`: there is no such setting.
pub fn find(key: &str) -> Option<&'static dyn Definition> {
    all().find(|setting| setting.about().key == key)
}

#[cfg(test)]
mod tests;
