//! `tests/rig/mod.rs` for the registry's tiny_http 0.12.0, which has no limits to set.

use std::io::{self, Write};
use std::time::Duration;
use tiny_http::{Request, Server};

pub struct Bounds {
    pub head_ms: u64,
    pub body_ms: u64,
    pub idle_ms: u64,
    pub stall_ms: u64,
    pub connections: usize,
}

pub fn listen(_: &Bounds) -> Server {
    Server::http("127.0.0.1:0").unwrap()
}

pub fn stream(request: Request, count: usize, pause: Duration) -> io::Result<()> {
    let mut writer = request.into_writer();
    writer.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    writer.flush()?;
    for number in 0..count {
        std::thread::sleep(pause);
        let event = format!("event {number}\n");
        write!(writer, "{:x}\r\n{event}\r\n", event.len())?;
        writer.flush()?;
    }
    writer.write_all(b"0\r\n\r\n")?;
    writer.flush()
}
