//! How `promises.rs` starts a server and streams: here with this crate. `tests/registry/rig.rs` does the same with the registry's
//! tiny_http 0.12.0, so that the same promises can be held against it (`tests/against_registry.sh`).

use std::io;
use std::time::Duration;
use tiny_http::{ConfigListenAddr, Limits, Request, Server, ServerConfig};

/// The limits a test tightens, in milliseconds where they are times.
pub struct Bounds {
    pub head_ms: u64,
    pub body_ms: u64,
    pub idle_ms: u64,
    pub stall_ms: u64,
    pub connections: usize,
}

pub fn listen(bounds: &Bounds) -> Server {
    let addr = ConfigListenAddr::from_socket_addrs("127.0.0.1:0").unwrap();
    let limits = Limits {
        head_timeout: Duration::from_millis(bounds.head_ms),
        body_timeout: Duration::from_millis(bounds.body_ms),
        idle_timeout: Duration::from_millis(bounds.idle_ms),
        write_stall_timeout: Duration::from_millis(bounds.stall_ms),
        connections_max: bounds.connections,
        ..Limits::default()
    };
    Server::with_limits(ServerConfig { addr, ssl: None }, limits).unwrap()
}

/// Streams `count` events, `pause` before each, until the client is gone.
pub fn stream(request: Request, count: usize, pause: Duration) -> io::Result<()> {
    let mut stream = request.into_stream(200, Vec::new())?;
    for number in 0..count {
        std::thread::sleep(pause);
        stream.write_event(format!("event {number}\n").as_bytes())?;
    }
    stream.finish()
}
