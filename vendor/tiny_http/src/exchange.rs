//! A worker's hold on a connection from a request to the end of its answer. Waits for the client where it must, but never
//! longer than `Limits::write_stall_timeout` without a byte taken. If a worker drops it early, `Drop` ends the exchange:
//! with a 500 if nothing was sent yet, otherwise by closing the connection.

use crate::conn::{Conn, Inner, Phase, Unsent};
use crate::fault::Fault;
use crate::head::Head;
use crate::hub::Hub;
use crate::intake::Stage;
use crate::watch::ClientWatch;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(crate) struct Exchange {
    hub: Arc<Hub>,
    conn: Arc<Conn>,
    watch: ClientWatch,
    /// The request's head, kept so that a request that is dropped also gets a fitting answer.
    head: Head,
    progress: Progress,
}

#[derive(PartialEq)]
enum Progress {
    Unanswered,
    Begun,
    Over,
}

impl Exchange {
    pub(crate) fn new(hub: Arc<Hub>, conn: Arc<Conn>, head: Head) -> Exchange {
        let (request, has_left) = conn.watch.begin();
        if has_left {
            hub.count_leaving(false);
        }
        let watch = ClientWatch::new(Arc::clone(&conn.watch), request);
        Exchange { hub, conn, watch, head, progress: Progress::Unanswered }
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
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

    /// Most bytes of an answer of unknown length that must be held in memory.
    pub(crate) fn buffered_bytes_max(&self) -> usize {
        self.hub.limits.body_bytes_max
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.hub.is_draining.load(Ordering::Acquire)
    }

    /// Sends a part of the answer, in one write if the socket has room.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.progress == Progress::Over {
            return Err(ErrorKind::NotConnected.into());
        }
        self.progress = Progress::Begun;
        let result = self.conn.inner().transport.write_all(bytes, self.hub.limits.write_stall_timeout);
        result.inspect_err(|error| {
            self.note_failure(error);
            self.close();
        })
    }

    /// Sends the last part of the answer. Bytes that the client doesn't take at once are left to the event loop, as long as
    /// `Limits::unsent_bytes_max` allows. `Ok` then means that the answer is being sent.
    pub(crate) fn finish(mut self, bytes: &[u8], keep_alive: bool) -> io::Result<()> {
        if self.progress == Progress::Over {
            return Err(ErrorKind::NotConnected.into());
        }
        self.progress = Progress::Over;
        let mut inner = self.conn.inner();
        let is_released = keep_alive && self.release_early(&mut inner);
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
        let result = match result {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.finish_later(&mut inner, &bytes[sent..], keep_alive, is_released)
            }
            Ok(()) if !is_released => {
                self.hub.settle(&self.conn, &mut inner, keep_alive);
                Ok(())
            }
            result => result,
        };
        if let Err(error) = &result {
            self.note_failure(error);
            self.hub.close(&self.conn, &mut inner);
        }
        drop(inner);
        if !is_released {
            self.hub.end(&self.conn);
        }
        result
    }

    /// Releases the connection before the last write, if it has no events, while holding the lock that the next owner
    /// needs. The next request of a fast client then wakes a thread that can serve it. If the connection were released
    /// after the write, the woken thread would find it still owned, and a second thread would have to be woken.
    fn release_early(&self, inner: &mut Inner) -> bool {
        let is_idle = inner.is_drained && inner.intake.stage() == Stage::Idle && !inner.transport.is_secure();
        if !is_idle || self.is_draining() {
            return false;
        }
        // While the connection is owned, no other thread looks at the phase, so it may be set before it is true.
        self.hub.settle(&self.conn, inner, true);
        if self.conn.try_release() {
            self.hub.forget(&self.conn);
            return true;
        }
        inner.phase = Phase::Serving;
        self.hub.clear_deadline(&self.conn);
        false
    }

    /// The client reads more slowly than it is answered: leaves `rest` to the event loop, or waits if too much is left
    /// there already. A released connection can't be waited for, because other threads may want the lock.
    fn finish_later(&self, inner: &mut Inner, rest: &[u8], keep_alive: bool, is_released: bool) -> io::Result<()> {
        let mut lease = self.hub.unsent.lease();
        if lease.cover(rest.len()) || is_released {
            let unsent = Unsent { bytes: rest.to_vec(), sent: 0, keep_alive, _lease: Some(lease) };
            self.hub.flush_later(&self.conn, inner, unsent);
            return Ok(());
        }
        inner.transport.write_all(rest, self.hub.limits.write_stall_timeout)?;
        self.hub.settle(&self.conn, inner, keep_alive);
        Ok(())
    }

    fn note_failure(&self, error: &io::Error) {
        self.hub.on_leave(&self.conn, true);
        if error.kind() == ErrorKind::TimedOut {
            self.hub.stats.add_timeout();
        }
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
                let (url, headers) = (Some(self.head.url.as_str()), self.head.headers.as_slice());
                let mut inner = self.conn.inner();
                self.hub.refuse_request(&self.conn, &mut inner, Fault::UNANSWERED, url, headers);
                drop(inner);
                self.hub.end(&self.conn);
            }
        }
    }
}
