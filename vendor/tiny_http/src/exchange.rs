//! A worker's hold on a connection between a request and the end of its answer. Waits for the client where it must, and
//! never longer than `Limits::write_stall_timeout` without a byte taken. Whatever becomes of the worker, its `Drop` ends
//! the exchange: with a 500 as long as nothing was sent, by closing the connection after that.

use crate::conn::{Conn, Unsent};
use crate::fault::Fault;
use crate::hub::Hub;
use crate::watch::ClientWatch;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(crate) struct Exchange {
    hub: Arc<Hub>,
    conn: Arc<Conn>,
    watch: ClientWatch,
    progress: Progress,
}

#[derive(PartialEq)]
enum Progress {
    Unanswered,
    Begun,
    Over,
}

impl Exchange {
    pub(crate) fn new(hub: Arc<Hub>, conn: Arc<Conn>) -> Exchange {
        let request = conn.watch.begin();
        let watch = ClientWatch::new(Arc::clone(&conn.watch), request);
        Exchange { hub, conn, watch, progress: Progress::Unanswered }
    }

    pub(crate) fn watch(&self) -> &ClientWatch {
        &self.watch
    }

    pub(crate) fn peer(&self) -> Option<&SocketAddr> {
        self.conn.peer.as_ref()
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.conn.is_secure
    }

    /// What an answer of unknown length may take when it has to be held in memory.
    pub(crate) fn buffered_bytes_max(&self) -> usize {
        self.hub.limits.body_bytes_max
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.hub.is_draining.load(Ordering::Acquire)
    }

    /// Sends part of the answer, in one write when the socket has room.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.progress == Progress::Over {
            return Err(ErrorKind::NotConnected.into());
        }
        self.progress = Progress::Begun;
        let result = self.conn.inner().transport.write_all(bytes, self.hub.limits.write_stall_timeout);
        result.inspect_err(|error| self.give_up(error))
    }

    /// Sends the last part of the answer. What the client doesn't take at once is left to the event loop, as long as
    /// `Limits::unsent_bytes_max` allows; then `Ok` means that the answer is on its way.
    pub(crate) fn finish(mut self, bytes: &[u8], keep_alive: bool) -> io::Result<()> {
        if self.progress == Progress::Over {
            return Err(ErrorKind::NotConnected.into());
        }
        self.progress = Progress::Begun;
        match self.try_finish(bytes, keep_alive) {
            Ok(()) => {
                self.progress = Progress::Over;
                self.hub.end(&self.conn);
                Ok(())
            }
            Err(error) => {
                self.give_up(&error);
                Err(error)
            }
        }
    }

    fn try_finish(&self, bytes: &[u8], keep_alive: bool) -> io::Result<()> {
        let mut inner = self.conn.inner();
        let mut sent = 0;
        let result = loop {
            if sent == bytes.len() {
                break inner.transport.flush();
            }
            match inner.transport.write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(error) => break Err(error),
            }
        };
        let rest = &bytes[sent..];
        match result {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut lease = self.hub.unsent.lease();
                if lease.cover(rest.len()) {
                    let unsent = Unsent { bytes: rest.to_vec(), sent: 0, keep_alive, _lease: Some(lease) };
                    self.hub.flush_later(&self.conn, &mut inner, unsent);
                    return Ok(());
                }
                inner.transport.write_all(rest, self.hub.limits.write_stall_timeout)?;
            }
            Err(error) => return Err(error),
        }
        self.hub.settle(&self.conn, &mut inner, keep_alive);
        Ok(())
    }

    /// The client doesn't take its answer: it counts as gone, and the connection closes.
    fn give_up(&mut self, error: &io::Error) {
        if self.conn.watch.leave() {
            self.hub.stats.add_disconnect();
        }
        if error.kind() == ErrorKind::TimedOut {
            self.hub.stats.add_timeout();
        }
        self.close();
    }

    fn close(&mut self) {
        self.progress = Progress::Over;
        self.hub.close(&self.conn, &mut self.conn.inner());
        self.hub.end(&self.conn);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        match self.progress {
            Progress::Over => {}
            Progress::Begun => self.close(),
            Progress::Unanswered => {
                self.progress = Progress::Over;
                self.hub.refuse(&self.conn, &mut self.conn.inner(), Fault::UNANSWERED);
                self.hub.end(&self.conn);
            }
        }
    }
}
