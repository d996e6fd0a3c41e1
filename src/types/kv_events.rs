//! What `--kv-events` says: where blocks of the KV cache are published, under which topic, and how large a block is.

use std::fmt;
use std::path::PathBuf;

/// The settings of KV events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEvents {
    /// Where subscribers connect.
    pub address: EventsAddress,
    /// The first frame of each message, which subscribers filter by. llm-d wants `kv@POD@MODEL`.
    pub topic: String,
}

/// Where subscribers connect, in ZeroMQ's way of writing addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventsAddress {
    /// `tcp://HOST:PORT`.
    Tcp {
        /// A name or an address. `*` in the setting is kept as `0.0.0.0`.
        host: String,
        /// The port; 0 lets the operating system choose a free one.
        port: u16,
    },
    /// `ipc://PATH`, a Unix-domain socket.
    Ipc(PathBuf),
}

impl EventsAddress {
    /// Reads an address in ZeroMQ's notation. Names aren't looked up here.
    ///
    /// # Errors
    /// What is wrong with the address.
    pub fn parse(text: &str) -> Result<EventsAddress, String> {
        let refused = || format!("{text:?} is no address like tcp://127.0.0.1:5556, tcp://*:5556 or ipc:///run/events");
        if let Some(path) = text.strip_prefix("ipc://") {
            return if path.is_empty() { Err(refused()) } else { Ok(EventsAddress::Ipc(path.into())) };
        }
        let (host, port) = text.strip_prefix("tcp://").and_then(|rest| rest.rsplit_once(':')).ok_or_else(refused)?;
        let port = port.parse().map_err(|_| refused())?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_name = !bare.is_empty() && bare.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:%".contains(c));
        match bare {
            "*" => Ok(EventsAddress::Tcp { host: "0.0.0.0".to_owned(), port }),
            _ if is_name => Ok(EventsAddress::Tcp { host: bare.to_owned(), port }),
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for EventsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventsAddress::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            EventsAddress::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            EventsAddress::Ipc(path) => write!(f, "ipc://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_zeromq_writes_them() {
        let tcp = |host: &str, port| Ok(EventsAddress::Tcp { host: host.to_owned(), port });
        assert_eq!(EventsAddress::parse("tcp://*:5556"), tcp("0.0.0.0", 5556));
        assert_eq!(EventsAddress::parse("tcp://127.0.0.1:0"), tcp("127.0.0.1", 0));
        assert_eq!(EventsAddress::parse("tcp://[::1]:5556"), tcp("::1", 5556));
        assert_eq!(EventsAddress::parse("ipc:///run/events"), Ok(EventsAddress::Ipc("/run/events".into())));
        assert_eq!(EventsAddress::parse("tcp://[::]:1").unwrap().to_string(), "tcp://[::]:1");
        for bad in
            ["", "tcp://", "tcp://*", "tcp://:5556", "tcp://a b:1", "tcp://h:70000", "ipc://", "udp://h:1", "h:1"]
        {
            assert!(EventsAddress::parse(bad).unwrap_err().contains("is no address"), "{bad}");
        }
    }
}
