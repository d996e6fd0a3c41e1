//! The types of settings' values that no other room has.

use std::path::PathBuf;
use std::time::Duration;

use crate::types::HubModel;

/// The beginning of a host that is the path of a socket.
pub(super) const UNIX_PREFIX: &str = "unix:";

/// Where the weights come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// The small model inside the binary.
    BuiltIn,
    /// A GGUF file.
    File(PathBuf),
    /// A model's name on the hub. The model may not have been fetched yet.
    Hub(HubModel),
}

/// Which decoder runs the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecoderKind {
    /// llama.cpp, with a model.
    Llama,
    /// No model: each step takes a fixed time, so that everything else can be measured.
    Null {
        /// How long each step takes.
        step: Duration,
    },
}

/// Whether attention is computed in one fused operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlashAttn {
    /// llama.cpp decides, by backend and model.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// The least important level that the log shows, from few lines to many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Failures of the server.
    Error,
    /// Problems that need attention.
    Warn,
    /// The usual events, such as requests.
    Info,
    /// Details for finding problems.
    Debug,
    /// Everything.
    Trace,
}

/// Whether the server gives up, once it serves, the rights that it no longer needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SandboxMode {
    /// It gives up what the kernel lets it give up.
    Auto,
    /// It gives them up, and doesn't start if the kernel can't enforce it.
    On,
    /// It keeps all rights.
    Off,
}

/// The format of the log's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Text.
    Text,
    /// One JSON object a line.
    Json,
}

/// The two files of HTTPS, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain; the server's own certificate comes first.
    pub cert: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
}
