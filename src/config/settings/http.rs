//! Settings of the server: where it listens, which clients may use it, for how long, and how it ends.

use std::time::Duration;

use super::context::{PARALLEL, QUEUE};
use crate::config::definition::scope::{GENERATE, SERVE};
use crate::config::definition::takes::{
    File, Millis, NonEmptyText, Number, OneOf, Open, PRIVATE_FILE, Secret, Switch, text,
};
use crate::config::definition::{About, Definition, Fallback, Picker, Setting};
use crate::config::{KeySources, SandboxMode, TlsFiles, UNIX_PREFIX, keys};
use crate::types::limits::{
    DEADLINE_MS_MAX, HTTP_THREADS_MAX, HTTP_THREADS_SPARE, KV_BLOCK_TOKENS, KV_BLOCK_TOKENS_MAX, STREAM_PING_MS,
};
use crate::types::{EventsAddress, FairBy, KvEvents, StartupError};

const GROUP: About = About::group("HTTP");

group! {
    /// An address, a host name, or `unix:` and a path.
    HOST: NonEmptyText<String> = Setting {
        about: About { key: "host", help: "Address, or unix:PATH", ..GROUP },
        takes: NonEmptyText { name: "ADDRESS", read: host },
        default: Fallback::Text("127.0.0.1"),
    };

    /// The port; 0 is any free one.
    PORT: Number<u16> = Setting {
        about: About { key: "port", help: "Port to listen on, 0 for any", ..GROUP },
        takes: Number { name: "PORT", within: 0..=65_535 },
        default: Fallback::Is(8080),
    };

    /// The certificate chain of HTTPS.
    TLS_CERT: Open<File> = Setting {
        about: About { key: "tls-cert", help: "PEM certificate chain: HTTPS; reread on SIGHUP", ..GROUP },
        takes: PRIVATE_FILE,
        default: Fallback::Unset(None, "", "plain HTTP"),
    };

    /// The private key of HTTPS.
    TLS_KEY: Open<File> = Setting {
        about: About { key: "tls-key", help: "PEM private key of --tls-cert", ..GROUP },
        takes: PRIVATE_FILE,
        default: Fallback::Unset(None, "", "plain HTTP"),
    };

    /// One API key.
    API_KEY: Open<Secret> = Setting {
        about: About { key: "api-key", help: "Key that clients must send; better as CLLM_API_KEY", ..GROUP },
        takes: Open { of: Secret(NonEmptyText { name: "KEY", read: api_key }), words: &[] },
        default: Fallback::Unset(None, "", "no key is required"),
    };

    /// A file of API keys.
    API_KEY_FILE: Open<File> = Setting {
        about: About { key: "api-key-file", help: "File of keys and their terms; reread on SIGHUP", ..GROUP },
        takes: PRIVATE_FILE,
        default: Fallback::Unset(None, "", "no key is required"),
    };

    /// Whether `GET /metrics` requires no key.
    METRICS_KEY: OneOf<bool> = Setting {
        about: About { key: "metrics-key", help: "Key for GET /metrics: same (default) or none", ..GROUP },
        takes: OneOf { name: "WHEN", words: &[("same", false), ("none", true)] },
        default: Fallback::Is(false),
    };

    /// Where KV events are published.
    KV_EVENTS: Open<NonEmptyText<EventsAddress>> = Setting {
        about: About { key: "kv-events", help: "Publish KV events: tcp://HOST:PORT or ipc://PATH", ..GROUP },
        takes: Open { of: NonEmptyText { name: "ADDRESS", read: EventsAddress::parse }, words: &[] },
        default: Fallback::Unset(None, "", "none are published"),
    };

    /// The topic of KV events.
    KV_EVENTS_TOPIC: Open<NonEmptyText<String>> = Setting {
        about: About { key: "kv-events-topic", help: "Topic of KV events; llm-d needs kv@POD@MODEL", ..GROUP },
        takes: text("TOPIC"),
        default: Fallback::Unset(None, "none", "none"),
    };

    /// Tokens of a block of the KV cache, as routers are told.
    KV_BLOCK_SIZE: Number<usize> = Setting {
        about: About { key: "kv-block-size", help: "Tokens of a block in KV events", ..GROUP },
        takes: Number { name: "TOKENS", within: 1..=KV_BLOCK_TOKENS_MAX },
        default: Fallback::Is(KV_BLOCK_TOKENS),
    };

    /// Which requests belong to one account.
    FAIR_BY: OneOf<FairBy> = Setting {
        about: About { key: "fair-by", help: "Requests take turns by none, key or address", ..GROUP },
        takes: OneOf {
            name: "WHAT",
            words: &[("none", FairBy::None), ("key", FairBy::Key), ("address", FairBy::Address)],
        },
        default: Fallback::Rule(
            |pick| Ok(if api_keys(pick)?.are_there() { FairBy::Key } else { FairBy::None }),
            "key, given keys",
        ),
    };

    /// Whether requests of one API key may reuse KV cells of another key's requests.
    SHARE_PROMPTS: Switch = Setting {
        about: About {
            key: "share-prompts",
            help: "Keys share cached prompts; timing may reveal them",
            ..GROUP
        },
        takes: Switch { on: true },
        default: Fallback::Is(false),
    };

    /// Origins of web pages that may send requests.
    CORS: Open<NonEmptyText<Vec<String>>> = Setting {
        about: About { key: "cors", help: "Origins of allowed web pages, with commas, or *", ..GROUP },
        takes: Open { of: NonEmptyText { name: "ORIGINS", read: origins }, words: &[] },
        default: Fallback::Unset(None, "", "pages of other sites are refused"),
    };

    /// Threads that answer requests.
    HTTP_THREADS: Number<usize> = Setting {
        about: About { key: "http-threads", help: "HTTP threads", ..GROUP },
        takes: Number { name: "N", within: 1..=HTTP_THREADS_MAX },
        default: Fallback::Rule(
            |pick| {
                let requests = usize::from(pick.take(&PARALLEL)?) + pick.take(&QUEUE)?;
                Ok((requests + HTTP_THREADS_SPARE).min(HTTP_THREADS_MAX))
            },
            "slots + queue + 4",
        ),
    };

    /// The longest time for a request, from its last byte read.
    DEADLINE_MS: Open<Millis> = Setting {
        about: About {
            key: "deadline-ms",
            help: "Longest time for one request",
            scope: SERVE | GENERATE,
            ..GROUP
        },
        takes: Open { of: Millis { within: 1..=DEADLINE_MS_MAX }, words: &["0", "-1"] },
        default: Fallback::Unset(None, "none", "none"),
    };

    /// The longest time in which a stream sends nothing.
    STREAM_PING: Millis = Setting {
        about: About { key: "stream-ping-ms", help: "Longest silence of a stream", ..GROUP },
        takes: Millis { within: 1..=DEADLINE_MS_MAX },
        default: Fallback::Is(Duration::from_millis(STREAM_PING_MS)),
    };

    /// The longest time that running requests may continue after SIGTERM.
    GRACE_MS: Millis = Setting {
        about: About { key: "grace-ms", help: "Longest wait for requests on exit", ..GROUP },
        takes: Millis { within: 0..=DEADLINE_MS_MAX },
        default: Fallback::Is(Duration::from_millis(30_000)),
    };

    /// Whether a second process without a model watches the server and restarts it after a crash.
    SUPERVISE: Switch = Setting {
        about: About { key: "supervise", help: "Restart the server when it crashes", ..GROUP },
        takes: Switch { on: true },
        default: Fallback::Is(false),
    };

    /// Whether the server gives up, once it serves, the rights that it no longer needs.
    SANDBOX: OneOf<SandboxMode> = Setting {
        about: About { key: "sandbox", help: "Give up rights before serving: auto (default), on or off", ..GROUP },
        takes: OneOf {
            name: "WHEN",
            words: &[("auto", SandboxMode::Auto), ("on", SandboxMode::On), ("off", SandboxMode::Off)],
        },
        default: Fallback::Is(SandboxMode::Auto),
    };
}

/// The two files of HTTPS.
///
/// # Errors
/// Only one of them is set.
pub fn tls(pick: &mut Picker) -> Result<Option<TlsFiles>, StartupError> {
    match (pick.take(&TLS_CERT)?, pick.take(&TLS_KEY)?) {
        (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(pick.refuse(&TLS_CERT, "needs --tls-key as well")),
        (None, Some(_)) => Err(pick.refuse(&TLS_KEY, "needs --tls-cert as well")),
    }
}

/// Where API keys come from.
///
/// # Errors
/// The key can't be one.
pub fn api_keys(pick: &mut Picker) -> Result<KeySources, StartupError> {
    Ok(KeySources { key: pick.take(&API_KEY)?, file: pick.take(&API_KEY_FILE)? })
}

/// Where KV events are published, and under which topic.
///
/// # Errors
/// The address can't be used.
pub fn kv_events(pick: &mut Picker) -> Result<Option<KvEvents>, StartupError> {
    let topic = pick.take(&KV_EVENTS_TOPIC)?.unwrap_or_default();
    Ok(pick.take(&KV_EVENTS)?.map(|address| KvEvents { address, topic }))
}

fn host(text: &str) -> Result<String, String> {
    match text.strip_prefix(UNIX_PREFIX) {
        Some("") => Err("unix: needs a path after it".to_owned()),
        None if text.contains(|c: char| c.is_whitespace() || c == '/') => {
            Err("not an address, a host name or unix:PATH".to_owned())
        }
        _ => Ok(text.to_owned()),
    }
}

fn api_key(text: &str) -> Result<String, String> {
    keys::complaint(text).map_or_else(|| Ok(text.to_owned()), Err)
}

fn origins(text: &str) -> Result<Vec<String>, String> {
    let origins: Vec<String> = text.split(',').map(|origin| origin.trim().to_owned()).collect();
    match origins.iter().find(|origin| !is_origin(origin)) {
        Some(bad) => Err(format!("{bad:?} is no origin like https://example.org, nor *")),
        None => Ok(origins),
    }
}

/// Whether `text` is an origin as browsers send it: scheme, host and perhaps a port; no path and no slash at the end. `*`
/// also counts as one.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    text == "*"
        || host
            .is_some_and(|host| !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && !b"/?#,".contains(&b)))
}
