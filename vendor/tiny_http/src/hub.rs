//! Where threads wait for work: one epoll instance. While a worker is free, nothing else distributes requests.
//!
//! A worker in `recv` polls for events for a moment, then sleeps in `epoll_wait`. It takes an event, reads the socket, and
//! returns if that completes a request. Sockets are registered edge-triggered, so the kernel wakes one thread for each
//! event, and a request never passes to another thread on its way.
//!
//! Two kinds of work pass through the queue (`queue.rs`). Requests for which no worker was waiting: the keeper found them
//! while all workers were busy, or they followed an answered request in the same bytes. And the further events, when the
//! kernel reports several at once, which saves system calls. A free worker takes from the queue before it waits.

use crate::budget::Budget;
use crate::conn::ConnId;
use crate::limits::{FAREWELL_CONNECTIONS, Limits, WORKER_LINGER};
use crate::listener::Listener;
use crate::queue::{Queue, Work};
use crate::refusal::Shape;
use crate::request::Request;
use crate::stats::Stats;
use crate::table::Table;
use crate::transport::timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Event data of the listener. No [`ConnId`] has this value.
const LISTENER: u64 = u64::MAX;
/// Event data of the eventfd.
const WAKE: u64 = u64::MAX - 1;

/// Most events taken from the kernel in one call. The calling thread handles the first; any thread may take the others.
const EVENTS_AT_ONCE: usize = 8;

/// What all threads of one server share.
pub(crate) struct Hub {
    epoll: OwnedFd,
    /// An eventfd that wakes a thread for `queue` and `unblocks`. Edge-triggered and never read: each write is an event.
    bell: OwnedFd,
    /// Whether the bell was rung and no thread has woken for it yet. Then ringing again isn't needed.
    ///
    /// ORDERING: SeqCst, as the counts below. A thread that rings has raised a count before. A thread that wakes clears the
    /// flag and reads the counts afterwards.
    is_rung: AtomicBool,
    pub(crate) table: Table,
    pub(crate) limits: Limits,
    pub(crate) stats: Stats,
    /// How refusals look. If it isn't set, `refusal::plain` is used.
    pub(crate) shape: OnceLock<Shape>,
    pub(crate) bodies: Arc<Budget>,
    pub(crate) unsent: Arc<Budget>,
    pub(crate) listener: Mutex<Option<Listener>>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<std::sync::RwLock<Arc<rustls::ServerConfig>>>,
    queue: Queue,
    /// ORDERING: `unblocks` and `waiting` are SeqCst, as the queue's length is. A thread that adds work raises a count and
    /// then reads `waiting`; a waiting thread raises `waiting` and then reads the counts. So at least one of them sees the
    /// other.
    unblocks: AtomicUsize,
    waiting: AtomicUsize,
    /// ORDERING: Relaxed. It alternates between queued requests and sockets, and any value will do.
    turn: AtomicU32,
    /// ORDERING: three flags that the keeper reads on its next tick, and an owner before it releases a connection. Release
    /// and Acquire, so that what happened before one was set is seen.
    pub(crate) is_accept_stalled: AtomicBool,
    pub(crate) is_draining: AtomicBool,
    pub(crate) is_abandoned: AtomicBool,
    /// ORDERING: SeqCst. The keeper sets it and then checks whether the table is empty; a new connection enters the table
    /// and then reads it. So at least one of them sees the other.
    pub(crate) is_keeper_asleep: AtomicBool,
    pub(crate) keeper: OnceLock<Thread>,
    start_ms: u64,
}

/// The result of a wait. `Bell` means that there may be work in the queue.
pub(crate) enum News {
    Arrivals,
    Bell,
    Conn(ConnId, EventFlags),
}

impl News {
    fn of(event: &Event) -> News {
        let flags = event.flags;
        match event.data.u64() {
            LISTENER => News::Arrivals,
            WAKE => News::Bell,
            bits => News::Conn(ConnId::from_bits(bits), flags),
        }
    }
}

/// The result of `recv`.
pub(crate) enum Received {
    Request(Request),
    TimeUp,
    Unblocked,
}

/// The kernel's coarse clock: accurate to a few milliseconds, and several times cheaper than the fine one. A deadline is
/// set for each request, and checked by a thread that ticks every 50 ms.
fn clock_ms() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

/// The events that epoll reports for a connection.
fn interest(wants_room: bool) -> EventFlags {
    let always = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
    if wants_room { always | EventFlags::OUT } else { always }
}

impl Hub {
    pub(crate) fn new(listener: Listener, limits: Limits) -> io::Result<Hub> {
        listener.set_nonblocking()?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &bell, EventData::new_u64(WAKE), EventFlags::IN | EventFlags::ET)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN | EventFlags::ET)?;
        Ok(Hub {
            epoll,
            bell,
            is_rung: AtomicBool::new(false),
            table: Table::new(limits.connections_max, FAREWELL_CONNECTIONS),
            stats: Stats::default(),
            shape: OnceLock::new(),
            bodies: Budget::new(limits.bodies_bytes_max),
            unsent: Budget::new(limits.unsent_bytes_max),
            listener: Mutex::new(Some(listener)),
            #[cfg(feature = "tls")]
            tls: None,
            queue: Queue::with_capacity(limits.connections_max),
            unblocks: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            turn: AtomicU32::new(0),
            is_accept_stalled: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            is_abandoned: AtomicBool::new(false),
            is_keeper_asleep: AtomicBool::new(false),
            keeper: OnceLock::new(),
            start_ms: clock_ms(),
            limits,
        })
    }

    /// Waits for a request, at most for `timeout`.
    pub(crate) fn recv(self: &Arc<Hub>, timeout: Option<Duration>) -> io::Result<Received> {
        let end = timeout.map(|timeout| Instant::now() + timeout);
        let mut has_lingered = false;
        loop {
            if let Some(request) = self.take_queued() {
                return Ok(Received::Request(request));
            }
            if self.take_unblock() {
                return Ok(Received::Unblocked);
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let has_work = self.has_work();
            let news = match (has_work, has_lingered) {
                (true, _) => Ok(None),
                (false, true) => self.wait(left),
                (false, false) => self.linger_and_wait(left),
            };
            has_lingered = true;
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            match news? {
                Some(news) => {
                    if let Some(request) = self.handle(news) {
                        return Ok(Received::Request(request));
                    }
                }
                None if !has_work && left.is_some_and(|left| left.is_zero()) => return Ok(Received::TimeUp),
                None => {}
            }
        }
    }

    /// Polls for a moment before it waits: a client on a fast network sends its next request at once, and waking a sleeping
    /// thread costs more than answering. Done once in each call of `recv`, so that bytes that complete no request don't
    /// prolong it.
    fn linger_and_wait(&self, timeout: Option<Duration>) -> io::Result<Option<News>> {
        let start = Instant::now();
        let most = timeout.map_or(WORKER_LINGER, |timeout| timeout.min(WORKER_LINGER));
        while start.elapsed() < most {
            let news = self.wait(Some(Duration::ZERO))?;
            if news.is_some() {
                return Ok(news);
            }
            std::thread::yield_now();
        }
        self.wait(timeout.map(|timeout| timeout.saturating_sub(start.elapsed())))
    }

    /// Waits for an event, and queues further ones. `None`: the time is up, or a signal came.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<Option<News>> {
        let mut events = [const { MaybeUninit::<Event>::uninit() }; EVENTS_AT_ONCE];
        let timeout = timeout.map(timespec);
        let events: &[Event] = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => &[],
            Err(error) => return Err(error.into()),
        };
        if !events.is_empty() {
            self.stats.add_wakeup();
        }
        let mut news = events.iter().map(News::of).filter(|news| match news {
            News::Bell => {
                self.is_rung.store(false, Ordering::SeqCst);
                false
            }
            _ => true,
        });
        let Some(first) = news.next() else { return Ok(events.first().map(|_| News::Bell)) };
        if events.len() > 1 {
            self.queue.extend(news);
            // This thread may be busy with the first event for long. If the bell was among the others, another thread must
            // be woken for it.
            self.ring_on();
        }
        Ok(Some(first))
    }

    /// Handles an event. Returns a request if the event completed one.
    pub(crate) fn handle(self: &Arc<Hub>, news: News) -> Option<Request> {
        match news {
            News::Arrivals => self.accept_waiting(),
            News::Bell => {}
            News::Conn(id, flags) => return self.on_event(id, flags),
        }
        None
    }

    /// Whether some worker waits for events.
    pub(crate) fn is_attended(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    fn has_work(&self) -> bool {
        self.queue.len() + self.unblocks.load(Ordering::SeqCst) > 0
    }

    /// Queues a request for the next free worker.
    pub(crate) fn push_request(&self, request: Request) {
        self.queue.push(request);
        self.ring();
    }

    /// Takes the next entry of the queue. If there is more work, or an unblock is pending, wakes another thread.
    fn pop(&self) -> Option<Work> {
        let work = self.queue.pop()?;
        self.ring_on();
        Some(work)
    }

    /// Handles queued work until it gives a request.
    fn take_queued(self: &Arc<Hub>) -> Option<Request> {
        while self.queue.len() > 0 {
            match self.pop()? {
                Work::News(news) => {
                    if let Some(request) = self.handle(news) {
                        return Some(request);
                    }
                }
                // Every second time the sockets come first, so that a pipelining client can't keep a worker busy alone.
                Work::Request(request) => {
                    if self.turn.fetch_add(1, Ordering::Relaxed).is_multiple_of(2)
                        && let Ok(Some(news)) = self.wait(Some(Duration::ZERO))
                        && let Some(earlier) = self.handle(news)
                    {
                        self.push_request(request);
                        return Some(earlier);
                    }
                    self.ring_on();
                    return Some(request);
                }
            }
        }
        None
    }

    /// Handles at most `events_max` events in place of a waiting worker, and queues the requests. Used when no worker
    /// waits.
    pub(crate) fn attend(self: &Arc<Hub>, events_max: usize) {
        for _ in 0..events_max {
            let Ok(Some(news)) = self.wait(Some(Duration::ZERO)) else { break };
            if let Some(request) = self.handle(news) {
                self.push_request(request);
            }
        }
        for _ in 0..self.queue.len() {
            match self.pop() {
                None => break,
                Some(Work::Request(request)) => self.push_request(request),
                Some(Work::News(news)) => {
                    if let Some(request) = self.handle(news) {
                        self.push_request(request);
                    }
                }
            }
        }
        // A worker may have begun to wait, and the bell that woke this thread was meant for it.
        self.ring_on();
    }

    /// Drops the queued work. Dropped requests are answered.
    pub(crate) fn clear_queue(&self) {
        drop(self.queue.take_all());
    }

    pub(crate) fn unblock(&self) {
        self.unblocks.fetch_add(1, Ordering::SeqCst);
        self.ring();
    }

    fn take_unblock(&self) -> bool {
        let taken = self.unblocks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if taken.is_ok() {
            self.ring_on();
        }
        taken.is_ok()
    }

    /// Wakes one waiting thread, if there is one. Several rings before a thread wakes become one, so the woken thread must
    /// ring again.
    fn ring(&self) {
        if self.is_attended() && !self.is_rung.swap(true, Ordering::SeqCst) {
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }

    /// Rings for work that other threads may have rung for and that this thread won't do.
    fn ring_on(&self) {
        if self.has_work() {
            self.ring();
        }
    }

    pub(crate) fn watch_conn(&self, fd: &OwnedFd, id: ConnId) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, EventData::new_u64(id.to_bits()), interest(false))?)
    }

    /// Changes the events that are reported for a connection. A state that already holds is reported again.
    pub(crate) fn rewatch_conn(&self, fd: &OwnedFd, id: ConnId, wants_room: bool) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, fd, EventData::new_u64(id.to_bits()), interest(wants_room))?)
    }

    /// Makes the kernel report the listener again if connections still wait to be accepted.
    pub(crate) fn rewatch_listener(&self, listener: impl AsFd) {
        let _ = epoll::modify(&self.epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN | EventFlags::ET);
    }

    /// Milliseconds since the server's start.
    pub(crate) fn now_ms(&self) -> u64 {
        clock_ms() - self.start_ms
    }

    pub(crate) fn set_deadline(&self, id: ConnId, from_now: Duration) {
        let at = self.now_ms().saturating_add(from_now.as_millis().max(1) as u64);
        self.table.set_deadline(id, at);
    }

    /// Wakes a sleeping keeper, because a new connection has a deadline.
    pub(crate) fn wake_sleeping_keeper(&self) {
        if self.is_keeper_asleep.swap(false, Ordering::SeqCst) {
            self.wake_keeper();
        }
    }

    pub(crate) fn wake_keeper(&self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rings were merged into one, and the woken thread found work in the queue before it saw the unblock.
    #[test]
    fn a_thread_that_takes_from_the_queue_rings_on_for_a_call_to_unblock() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let hub = Arc::new(Hub::new(listener.into(), Limits::default()).unwrap());
        hub.waiting.store(2, Ordering::SeqCst);
        hub.queue.extend(std::iter::once(News::Arrivals));
        hub.ring();
        hub.unblock();
        assert!(matches!(hub.wait(Some(Duration::ZERO)), Ok(Some(News::Bell))));
        assert!(hub.wait(Some(Duration::ZERO)).unwrap().is_none(), "one bell for both");
        assert!(matches!(hub.pop(), Some(Work::News(News::Arrivals))));
        assert!(matches!(hub.wait(Some(Duration::ZERO)), Ok(Some(News::Bell))), "the other thread is woken too");
    }

    /// The keeper took the bell of a worker that had just begun to wait; the worker then slept for ever.
    #[test]
    fn a_thread_that_attends_rings_on_for_a_call_to_unblock() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let hub = Arc::new(Hub::new(listener.into(), Limits::default()).unwrap());
        hub.waiting.store(1, Ordering::SeqCst);
        hub.unblock();
        hub.attend(1);
        assert!(matches!(hub.wait(Some(Duration::ZERO)), Ok(Some(News::Bell))), "the worker is woken");
    }
}
