//! The two error types that rooms share: `RequestError` refuses one request, `StartupError` ends a command.

use std::fmt;
use std::path::PathBuf;

/// Why a request is refused. The HTTP room turns it into a status; the message is written for the client.
#[derive(Clone, Debug, PartialEq)]
pub enum RequestError {
    /// 400: the body isn't JSON.
    Json {
        /// Line of the body at which reading stopped, from 1.
        line: usize,
        /// Column in this line, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// 400: a field is missing, of the wrong type or out of bounds.
    Field {
        /// The field's path in the body: `messages[0].role`.
        field: String,
        /// What is wrong with its value.
        message: String,
    },
    /// 400: the prompt leaves no room for a token in the context of one request.
    TooLong {
        /// Tokens of the prompt.
        n_prompt_tokens: usize,
        /// Tokens of the context of one request.
        n_ctx: usize,
    },
    /// 400: the loaded model can't do this. The message says which kind of server could.
    Unsupported(&'static str),
    /// 403: the request's API key may not use the model that is served here.
    ModelDenied {
        /// The key's name, not the key itself.
        key: String,
        /// The name of the model that is served here.
        model: String,
    },
    /// 429: the submission ring is full.
    QueueFull {
        /// Seconds until a retry makes sense, for `Retry-After`.
        retry_after_s: u32,
    },
    /// 429: a limit of the request's API key is reached.
    RateLimited {
        /// Which limit is reached.
        message: String,
        /// Seconds until a retry makes sense, for `Retry-After`.
        retry_after_s: u32,
    },
    /// 503: the server is draining and takes no new requests.
    ShuttingDown,
}

impl RequestError {
    /// Builds `Field`: the field that can't be used, and the reason for the client.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        RequestError::Field { field: field.into(), message: message.into() }
    }

    /// The HTTP status for this error.
    pub fn status(&self) -> u16 {
        match self {
            RequestError::Json { .. }
            | RequestError::Field { .. }
            | RequestError::TooLong { .. }
            | RequestError::Unsupported(_) => 400,
            RequestError::ModelDenied { .. } => 403,
            RequestError::QueueFull { .. } | RequestError::RateLimited { .. } => 429,
            RequestError::ShuttingDown => 503,
        }
    }

    /// The name of this error for programs, in snake case.
    pub fn code(&self) -> &'static str {
        match self {
            RequestError::Json { .. } => "invalid_json",
            RequestError::Field { .. } => "invalid_field",
            RequestError::TooLong { .. } => "context_length_exceeded",
            RequestError::Unsupported(_) => "not_supported",
            RequestError::ModelDenied { .. } => "model_denied",
            RequestError::QueueFull { .. } => "queue_full",
            RequestError::RateLimited { .. } => "rate_limit_exceeded",
            RequestError::ShuttingDown => "shutting_down",
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Json { line, column, message } => {
                write!(f, "invalid JSON at line {line} column {column}: {message}")
            }
            RequestError::Field { field, message } => write!(f, "{field}: {message}"),
            // OpenAI's wording: clients look for "maximum context length" and then shorten their prompt.
            RequestError::TooLong { n_prompt_tokens, n_ctx } => write!(
                f,
                "This model's maximum context length is {n_ctx} tokens. However, your messages resulted in {n_prompt_tokens} \
                 tokens. Please reduce the length of the messages, or serve with a larger -c or a smaller -np"
            ),
            RequestError::Unsupported(message) => f.write_str(message),
            RequestError::ModelDenied { key, model } => write!(
                f,
                "the key {key} may not use the model {model}, which is the one served here: models= behind the key in --api-key-file \
                 names those that it may use"
            ),
            RequestError::QueueFull { .. } => write!(f, "the queue is full, try again later"),
            RequestError::RateLimited { message, .. } => f.write_str(message),
            RequestError::ShuttingDown => write!(f, "the server is shutting down"),
        }
    }
}

impl std::error::Error for RequestError {}

/// Why a command can't begin. The program prints it as one line and exits with code 1.
#[derive(Debug)]
pub enum StartupError {
    /// The model file can't be used.
    Model {
        /// The model's file.
        path: PathBuf,
        /// One line from llama.cpp or from cllm.
        reason: String,
    },
    /// A model can't be fetched from the hub.
    Hub {
        /// The model's name on the hub.
        model: String,
        /// What failed.
        reason: String,
    },
    /// A flag, environment variable or key of the configuration file can't be used.
    Config {
        /// The flag, variable or key, as the user wrote it.
        name: String,
        /// What is wrong with its value.
        reason: String,
    },
    /// The server can't listen on this address.
    Listen {
        /// The address, `HOST:PORT` or a socket's path.
        addr: String,
        /// The operating system's reason.
        reason: String,
    },
    /// The operating system refused another call.
    System {
        /// What the call was for: `listen for signals`.
        doing: String,
        /// The operating system's reason.
        reason: String,
    },
}

impl fmt::Display for StartupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartupError::Model { path, reason } => write!(f, "model {}: {reason}", path.display()),
            StartupError::Hub { model, reason } => write!(f, "{model}: {reason}"),
            StartupError::Config { name, reason } => write!(f, "{name}: {reason}"),
            StartupError::Listen { addr, reason } => write!(f, "listen on {addr}: {reason}"),
            StartupError::System { doing, reason } => write!(f, "{doing}: {reason}"),
        }
    }
}

impl std::error::Error for StartupError {}
