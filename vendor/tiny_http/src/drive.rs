//! What the owner of a connection does with it: reads, writes, refuses, closes. Runs on the thread that took the socket's
//! event, on a worker that has just answered, and on the keeper. Never waits for a client.

use crate::conn::{Conn, ConnId, Inner, Phase, Unsent};
use crate::fault::Fault;
use crate::header::Header;
use crate::hub::Hub;
use crate::intake::{Event, Parsed, Stage};
use crate::limits::{HalfClose, LINGER_BYTES_MAX, READ_BYTES};
use crate::refusal;
use crate::request::Request;
use rustix::event::epoll::EventFlags;
use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

thread_local! {
    /// The buffer of a thread's reads. The kernel allocates its zeroed pages when they are written, so a thread that
    /// receives only small requests uses one page.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// The result of one look at a connection.
enum Step {
    /// There is nothing to do until the next event.
    Wait,
    /// The phase has changed: look again.
    Again,
    Request(Box<Parsed>),
}

impl Hub {
    /// Handles an event of the connection `id`.
    pub(crate) fn on_event(self: &Arc<Hub>, id: ConnId, flags: EventFlags) -> Option<Request> {
        let conn = self.table.get(id)?;
        let is_reset = flags.intersects(EventFlags::HUP | EventFlags::ERR);
        let has_ended = flags.contains(EventFlags::RDHUP);
        if has_ended || is_reset {
            conn.note_end();
        }
        if is_reset || (has_ended && self.limits.half_close == HalfClose::Disconnected) {
            self.on_leave(&conn, is_reset);
        }
        if conn.claim() { self.advance(&conn) } else { None }
    }

    /// The client of `conn` has left, or has announced that it will.
    pub(crate) fn on_leave(&self, conn: &Conn, is_reset: bool) {
        conn.watch.leave(|| self.count_leaving(is_reset));
    }

    /// Counts a client that left while its request was being answered.
    pub(crate) fn count_leaving(&self, is_reset: bool) {
        self.stats.add_disconnect();
        if !is_reset {
            self.stats.add_half_close();
        }
    }

    /// Drives an owned connection as far as possible. Then releases it, or returns a request that now owns it.
    pub(crate) fn advance(self: &Arc<Hub>, conn: &Arc<Conn>) -> Option<Request> {
        let mut inner = conn.inner();
        loop {
            if conn.take_news() {
                inner.is_drained = false;
            }
            let step = match inner.phase {
                Phase::Receiving => self.go_on_receiving(conn, &mut inner),
                Phase::Flushing(_) => self.go_on_flushing(conn, &mut inner),
                Phase::Lingering { .. } => self.go_on_lingering(conn, &mut inner),
                Phase::Closed => return None,
                Phase::Serving => unreachable!("a request in a worker's hands owns its connection"),
            };
            match step {
                Step::Request(parsed) => return Some(self.begin(conn, &mut inner, *parsed)),
                Step::Again => continue,
                Step::Wait if matches!(inner.phase, Phase::Closed) => return None,
                Step::Wait if conn.try_release() => return None,
                Step::Wait => {}
            }
        }
    }

    /// Returns a complete request. While a worker holds it, its connection has no deadline.
    fn begin(self: &Arc<Hub>, conn: &Arc<Conn>, inner: &mut Inner, parsed: Parsed) -> Request {
        inner.phase = Phase::Serving;
        inner.has_served = true;
        self.clear_deadline(conn);
        self.stats.add_request();
        self.stats.begun();
        Request::new(Arc::clone(self), Arc::clone(conn), parsed)
    }

    /// Called when a request's answer is sent or given up. `inner.phase` says whether the connection receives again or
    /// closes.
    pub(crate) fn end(self: &Arc<Hub>, conn: &Arc<Conn>) {
        self.forget(conn);
        if let Some(request) = self.advance(conn) {
            self.push_request(request);
        }
    }

    /// Counts the request on this connection as ended, and ends its watch.
    pub(crate) fn forget(&self, conn: &Conn) {
        self.stats.ended();
        conn.watch.end();
    }

    pub(crate) fn clear_deadline(&self, conn: &Conn) {
        self.table.set_deadline(conn.id, u64::MAX);
    }

    /// After a sent answer: prepares for the next request, or for closing.
    pub(crate) fn settle(&self, conn: &Conn, inner: &mut Inner, keep_alive: bool) {
        if keep_alive && !self.is_draining.load(Ordering::Acquire) {
            inner.phase = Phase::Receiving;
            inner.timed = Stage::Idle;
            self.set_deadline(conn.id, self.limits.idle_timeout);
        } else {
            self.linger(conn, inner);
        }
    }

    fn go_on_receiving(&self, conn: &Arc<Conn>, inner: &mut Inner) -> Step {
        loop {
            match inner.intake.advance(&self.limits) {
                Event::Request(parsed) => return Step::Request(parsed),
                Event::Fault(fault) => {
                    self.refuse(conn, inner, fault);
                    return Step::Again;
                }
                Event::Continue => {
                    let line = b"HTTP/1.1 100 Continue\r\n\r\n";
                    if !matches!(inner.transport.write(line), Ok(count) if count == line.len()) {
                        self.close(conn, inner);
                        return Step::Wait;
                    }
                }
                Event::NeedMore if !inner.is_drained => match read_some(inner) {
                    Ok(0) => {
                        self.on_end(conn, inner);
                        return Step::Again;
                    }
                    Ok(count) => {
                        let is_short = count < READ_BYTES && inner.transport.short_read_means_empty();
                        inner.is_drained = is_short && !conn.has_ended();
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => inner.is_drained = true,
                    Err(_) => {
                        self.close(conn, inner);
                        return Step::Wait;
                    }
                },
                Event::NeedMore => {
                    // Sends what TLS has left of its handshake. An error will show again at the next read.
                    let _ = inner.transport.flush();
                    self.set_stage_deadline(conn, inner);
                    self.watch_for_room(conn, inner);
                    return Step::Wait;
                }
            }
        }
    }

    /// The client closed its sending side while the connection was receiving.
    fn on_end(&self, conn: &Arc<Conn>, inner: &mut Inner) {
        if inner.intake.stage() == Stage::Idle {
            self.close(conn, inner);
        } else {
            self.refuse(conn, inner, Fault::bad_request("the connection ended within a request"));
        }
    }

    fn set_stage_deadline(&self, conn: &Conn, inner: &mut Inner) {
        let stage = inner.intake.stage();
        // A new connection that has sent nothing keeps the deadline that it got when it was accepted.
        let is_new = stage == Stage::Idle && !inner.has_served;
        if stage == inner.timed || is_new {
            return;
        }
        inner.timed = stage;
        self.set_deadline(
            conn.id,
            match stage {
                Stage::Idle => self.limits.idle_timeout,
                Stage::Head => self.limits.head_timeout,
                Stage::Body => self.limits.body_timeout,
            },
        );
    }

    fn go_on_flushing(&self, conn: &Conn, inner: &mut Inner) -> Step {
        let Phase::Flushing(unsent) = &mut inner.phase else { return Step::Again };
        let before = unsent.sent;
        let result = loop {
            if unsent.sent == unsent.bytes.len() {
                break inner.transport.flush();
            }
            match inner.transport.write(&unsent.bytes[unsent.sent..]) {
                Ok(count) => unsent.sent += count,
                Err(error) => break Err(error),
            }
        };
        let (has_moved, keep_alive) = (unsent.sent > before, unsent.keep_alive);
        match result {
            Ok(()) => {
                self.settle(conn, inner, keep_alive);
                self.watch_for_room(conn, inner);
                Step::Again
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if has_moved {
                    self.set_deadline(conn.id, self.limits.write_stall_timeout);
                }
                self.watch_for_room(conn, inner);
                Step::Wait
            }
            Err(_) => {
                self.close(conn, inner);
                Step::Wait
            }
        }
    }

    fn go_on_lingering(&self, conn: &Conn, inner: &mut Inner) -> Step {
        loop {
            let Phase::Lingering { bytes_left } = &mut inner.phase else { return Step::Again };
            let read = SCRATCH.with_borrow_mut(|scratch| inner.transport.read(scratch));
            match read {
                Ok(count @ 1..) if count < *bytes_left => *bytes_left -= count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Step::Wait,
                Ok(_) | Err(_) => {
                    self.close(conn, inner);
                    return Step::Wait;
                }
            }
        }
    }

    /// Leaves the rest of an answer to the thread that takes the event of a writable socket.
    pub(crate) fn flush_later(&self, conn: &Conn, inner: &mut Inner, unsent: Unsent) {
        inner.phase = Phase::Flushing(unsent);
        self.set_deadline(conn.id, self.limits.write_stall_timeout);
        self.watch_for_room(conn, inner);
    }

    /// Answers the request that is arriving with `fault`, and closes the connection.
    pub(crate) fn refuse(&self, conn: &Conn, inner: &mut Inner, fault: Fault) {
        let (url, headers) = inner.intake.so_far();
        self.refuse_request(conn, inner, fault, url.as_deref(), &headers);
    }

    /// Answers a request with this target and these fields with `fault`, and closes the connection.
    pub(crate) fn refuse_request(
        &self,
        conn: &Conn,
        inner: &mut Inner,
        fault: Fault,
        url: Option<&str>,
        headers: &[Header],
    ) {
        self.stats.add_refused(fault.status);
        if !inner.transport.can_answer() {
            return self.close(conn, inner);
        }
        let bytes = self.refusal_of(fault, url, headers);
        self.flush_later(conn, inner, Unsent { bytes, sent: 0, keep_alive: false, _lease: None });
    }

    /// The bytes of a refusal, head and body.
    pub(crate) fn refusal_of(&self, fault: Fault, url: Option<&str>, headers: &[Header]) -> Vec<u8> {
        let refused = fault.refused(url, headers);
        fault.answer(&self.shape.get().map_or_else(|| refusal::plain(&refused), |shape| shape(&refused)))
    }

    fn linger(&self, conn: &Conn, inner: &mut Inner) {
        inner.transport.end_writing();
        inner.phase = Phase::Lingering { bytes_left: LINGER_BYTES_MAX };
        self.set_deadline(conn.id, self.limits.linger_timeout);
    }

    /// Takes the connection out of the table. Its descriptor is closed when the last thread drops it.
    pub(crate) fn close(&self, conn: &Conn, inner: &mut Inner) {
        if matches!(inner.phase, Phase::Closed) {
            return;
        }
        inner.phase = Phase::Closed;
        inner.transport.cut();
        self.table.remove(conn);
        self.stats.closed();
        if self.is_accept_stalled.load(Ordering::Acquire) {
            self.wake_keeper();
        }
    }

    /// Called by the keeper when a deadline has passed.
    pub(crate) fn on_deadline(self: &Arc<Hub>, conn: &Arc<Conn>) {
        if !conn.claim() {
            return;
        }
        let mut inner = conn.inner();
        if self.table.deadline(conn.id) <= self.now_ms() {
            match (&inner.phase, inner.intake.stage()) {
                // The place, and this deadline with it, may belong to another connection by now.
                (Phase::Closed, _) => {}
                (Phase::Receiving, Stage::Head) => self.refuse(conn, &mut inner, Fault::HEAD_TIMEOUT),
                (Phase::Receiving, Stage::Body) => self.refuse(conn, &mut inner, Fault::BODY_TIMEOUT),
                _ => {
                    self.stats.add_timeout();
                    self.close(conn, &mut inner);
                }
            }
        }
        drop(inner);
        if let Some(request) = self.advance(conn) {
            self.push_request(request);
        }
    }

    /// Makes epoll report a writable socket if and only if there is something to write.
    fn watch_for_room(&self, conn: &Conn, inner: &mut Inner) {
        let wants_room = matches!(inner.phase, Phase::Flushing(_)) || inner.transport.is_unflushed();
        if wants_room != inner.wants_room {
            inner.wants_room = wants_room;
            if self.rewatch_conn(inner.transport.fd(), conn.id, wants_room).is_err() {
                self.close(conn, inner);
            }
        }
    }
}

fn read_some(inner: &mut Inner) -> io::Result<usize> {
    SCRATCH.with_borrow_mut(|scratch| {
        let count = inner.transport.read(scratch)?;
        inner.intake.push(&scratch[..count]);
        Ok(count)
    })
}
