//! Checks the handoff in every interleaving that loom can find.
//!
//! The room's own files are compiled a second time here, against a `sync` made of loom's types. That needs no `--cfg loom`,
//! which would rebuild llama.cpp, and no feature. The search is bounded by the number of preemptions (`PREEMPTIONS`). A
//! lost wake-up shows as a deadlock in loom, a lost or torn value as a failed assertion.
//!
//! loom can't show a load that is carried out after a later store. `ReplySlot::head` guards against that (a cell is read before
//! it is given back); these models catch the two in the wrong order, but not a weaker ordering.

/// The types that the room's files import as `crate::types`.
pub use cllm::types;

#[allow(dead_code, reason = "models use a part of the room")]
#[path = "../../src/handoff"]
mod handoff {
    pub mod bell;
    mod canceller;
    mod lease;
    pub mod pace;
    mod paths;
    pub mod pool;
    pub mod reader;
    pub mod reply;
    pub mod ring;
    mod side;
    mod words;
    mod writer;

    /// The names of the room's own `sync`. Each is no stronger than the original.
    pub mod sync {
        use std::collections::VecDeque;
        use std::time::Duration;

        pub use loom::hint::spin_loop;
        pub use loom::sync::Arc;
        pub use loom::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
        pub use loom::thread::yield_now;
        /// Written once before it is read, so loom need not track it.
        pub use std::sync::OnceLock;

        use loom::sync::{Condvar, Mutex};

        /// Behaves as crossbeam's queue promises: a push Releases its value to the pop that takes it, and a pop may find
        /// nothing even after a push that it has not synchronised with. (With a plain lock around everything, a look at the
        /// empty queue would order the two threads, and hide a fault of the bell.)
        pub struct ArrayQueue<T> {
            values: Mutex<VecDeque<T>>,
            count: AtomicUsize,
            capacity: usize,
        }

        impl<T> ArrayQueue<T> {
            pub fn new(capacity: usize) -> Self {
                ArrayQueue { values: Mutex::new(VecDeque::new()), count: AtomicUsize::new(0), capacity }
            }

            pub fn push(&self, value: T) -> Result<(), T> {
                let mut values = self.values.lock().unwrap();
                if values.len() == self.capacity {
                    return Err(value);
                }
                values.push_back(value);
                self.count.store(values.len(), Ordering::Release);
                Ok(())
            }

            pub fn pop(&self) -> Option<T> {
                if self.count.load(Ordering::Acquire) == 0 {
                    return None;
                }
                let mut values = self.values.lock().unwrap();
                let value = values.pop_front();
                self.count.store(values.len(), Ordering::Release);
                value
            }

            pub fn len(&self) -> usize {
                self.count.load(Ordering::Acquire)
            }

            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            pub fn capacity(&self) -> usize {
                self.capacity
            }
        }

        /// A thread's parking token, as documented for `std::thread::park`. loom's own `park` orders the two threads even
        /// if no thread parks, and wakes a thread that waits for something else.
        #[derive(Clone, Debug)]
        pub struct Thread {
            token: std::sync::Arc<(Mutex<bool>, Condvar)>,
            id: loom::thread::ThreadId,
        }

        impl Thread {
            pub fn id(&self) -> loom::thread::ThreadId {
                self.id
            }

            pub fn unpark(&self) {
                *self.token.0.lock().unwrap() = true;
                self.token.1.notify_one();
            }
        }

        loom::thread_local! {
            static CURRENT: Thread = Thread {
                token: std::sync::Arc::new((Mutex::new(false), Condvar::new())),
                id: loom::thread::current().id(),
            };
        }

        pub fn current() -> Thread {
            CURRENT.with(Thread::clone)
        }

        pub fn park() {
            let me = current();
            let mut token = me.token.0.lock().unwrap();
            while !*token {
                token = me.token.1.wait(token).unwrap();
            }
            *token = false;
        }

        /// loom has no clock: a deadline has passed, or it never comes. If it never comes, another event must end the
        /// sleep; otherwise loom reports a deadlock.
        pub fn park_timeout(_: Duration) {
            park();
        }
    }
}

mod beside;

// The state of the models themselves, in std's types, which loom doesn't track.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use handoff::bell::Woke;
use handoff::pace::Pace;
use handoff::pool::ReplyPool;
use handoff::reader::{ReplyReader, ReplyState, Wake, wait_any};
use handoff::ring::{Refused, ring};
use loom::thread;
use types::{FinishReason, Piece, Terminal, Token};

/// Involuntary switches in one execution. Most concurrency faults need at most two.
const PREEMPTIONS: usize = 3;

/// Runs `check` in every interleaving within the bound, and prints their number (`-- --nocapture`).
fn model(check: impl Fn() + Send + Sync + 'static) {
    let runs = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&runs);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        check();
    });
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    println!("{name}: {} interleavings", runs.load(Ordering::Relaxed));
}

fn piece(n: u32) -> Piece {
    Piece { token: Token(n), text_end: n * 10 }
}

fn terminal(reason: FinishReason, generated_tokens: u32) -> Terminal {
    Terminal {
        reason,
        text_end: 1,
        generated_tokens,
        prompt_tokens: 2,
        cached_tokens: 3,
        restored_tokens: 0,
        thought_tokens: 7,
        guesses: 9,
        guesses_accepted: 8,
        gave_way: 2,
        stop: Some(2),
        queue_us: 4,
        prefill_us: 5,
        decode_us: 6,
    }
}

/// Reads all pieces and the terminal. After that nothing may be unread, and the terminal must not change.
fn read_all(reader: &mut ReplyReader, wish: Wake) -> (Vec<Piece>, Terminal) {
    let mut pieces = Vec::new();
    loop {
        match reader.wait(None, wish) {
            ReplyState::Pieces => assert!(reader.read_into(&mut pieces) > 0),
            ReplyState::Finished(last) => {
                assert_eq!(reader.read_into(&mut pieces), 0);
                assert_eq!(reader.wait(None, wish), ReplyState::Finished(last));
                return (pieces, last);
            }
            ReplyState::TimedOut => unreachable!(),
        }
    }
}

// ---- the ring and its bell ----

/// Two producers, and one consumer that parks when it finds nothing.
#[test]
fn ring_loses_no_wake_up() {
    model(|| {
        let (sender, inbox) = ring(2);
        let inbox = inbox.with_looks(0);
        let producers: Vec<_> = [1, 2]
            .map(|n| {
                let sender = sender.clone();
                thread::spawn(move || sender.push(n).unwrap())
            })
            .into();
        let mut sum = 0;
        while sum < 3 {
            match inbox.pop() {
                Some(n) => sum += n,
                None => assert_eq!(inbox.park(None), Woke::Rung),
            }
        }
        assert_eq!(inbox.pop(), None);
        producers.into_iter().for_each(|producer| producer.join().unwrap());
    });
}

/// The consumer's park may end by its timeout. A ring at that moment must not be lost.
#[test]
fn a_timed_out_park_loses_no_ring() {
    model(|| {
        let (sender, inbox) = ring(1);
        let inbox = inbox.with_looks(1);
        let producer = thread::spawn(move || sender.push(1).unwrap());
        inbox.park(Some(Duration::ZERO));
        while inbox.pop().is_none() {
            inbox.park(None);
        }
        producer.join().unwrap();
    });
}

/// What is written before `wake` is seen after `park`, even if an earlier token was left on the thread.
#[test]
fn wake_carries_what_was_written_before() {
    model(|| {
        let (sender, inbox) = ring::<u8>(1);
        let inbox = inbox.with_looks(0);
        let flag = Arc::new(loom::sync::atomic::AtomicBool::new(false));
        handoff::sync::current().unpark();
        let (wake, theirs) = (sender.wake_handle(), flag.clone());
        let waker = thread::spawn(move || {
            theirs.store(true, Ordering::Relaxed);
            wake.wake();
        });
        assert_eq!(inbox.park(None), Woke::Rung);
        assert!(flag.load(Ordering::Relaxed));
        waker.join().unwrap();
    });
}

/// A full ring returns the value, and values that it accepted arrive once.
#[test]
fn full_ring_gives_back() {
    model(|| {
        let (sender, inbox) = ring(1);
        let inbox = inbox.with_looks(0);
        let producer = thread::spawn(move || [1, 2].map(|n| sender.push(n)));
        let mut popped = Vec::new();
        while popped.is_empty() {
            match inbox.pop() {
                Some(n) => popped.push(n),
                None => drop(inbox.park(None)),
            }
        }
        let results = producer.join().unwrap();
        popped.extend(std::iter::from_fn(|| inbox.pop()));
        assert_eq!(results[0], Ok(()));
        match &results[1] {
            Ok(()) => assert_eq!(popped, [1, 2]),
            Err(Refused::Full(2)) => assert_eq!(popped, [1]),
            other => panic!("{other:?}"),
        }
    });
}

/// After `close` all accepted values are there, and no further ones arrive.
#[test]
fn close_loses_nothing_accepted() {
    model(|| {
        let (sender, inbox) = ring(2);
        let producers: Vec<_> = [1, 2]
            .map(|n| {
                let sender = sender.clone();
                thread::spawn(move || match sender.push(n) {
                    Ok(()) => n,
                    Err(refused) => {
                        assert_eq!(refused, Refused::Closed(n));
                        0
                    }
                })
            })
            .into();
        inbox.close();
        let drained: i32 = std::iter::from_fn(|| inbox.pop()).sum();
        let accepted: i32 = producers.into_iter().map(|producer| producer.join().unwrap()).sum();
        assert_eq!(drained, accepted);
        assert_eq!(inbox.pop(), None);
    });
}

// ---- the reply slot ----

fn writes_and_reads(cells: usize, pieces: u32, wish: Wake) {
    let pool = ReplyPool::new(1, cells);
    let (mut writer, mut reader) = pool.claim().unwrap();
    let batch = thread::spawn(move || {
        for n in 0..pieces {
            let mut next = piece(n);
            while let Err(back) = writer.push(next) {
                next = back;
                thread::yield_now();
            }
        }
        writer.finish(terminal(FinishReason::Eos, pieces));
    });
    let (got, last) = read_all(&mut reader, wish);
    assert!(got.into_iter().eq((0..pieces).map(piece)));
    assert_eq!(last, terminal(FinishReason::Eos, pieces));
    batch.join().unwrap();
}

#[test]
fn streaming_reader_sees_all_pieces_then_the_terminal() {
    model(|| writes_and_reads(2, 2, Wake::EachPiece));
}

#[test]
fn waiting_reader_sees_all_pieces_then_the_terminal() {
    model(|| writes_and_reads(4, 2, Wake::AtEnd));
}

/// More pieces than cells: cells are reused, and a reader that waits for the end is woken to make room.
#[test]
fn small_reply_wakes_its_reader_and_overwrites_nothing_unread() {
    model(|| writes_and_reads(2, 4, Wake::AtEnd));
}

#[test]
fn smallest_reply_streams() {
    model(|| writes_and_reads(1, 3, Wake::EachPiece));
}

/// A token that an earlier request left on the reader's thread costs one look and no piece.
#[test]
fn stale_unpark_is_harmless() {
    model(|| {
        handoff::sync::current().unpark();
        writes_and_reads(2, 1, Wake::EachPiece);
    });
}

/// A writer that finds the reply full and sleeps on the bell is woken when the reader makes room.
#[test]
fn writer_that_waits_for_room_is_woken() {
    model(|| {
        let (sender, inbox) = ring::<u8>(1);
        let inbox = inbox.with_looks(0);
        let pool = ReplyPool::with_wake(1, 1, sender.wake_handle());
        let (mut writer, mut reader) = pool.claim().unwrap();
        let batch = thread::spawn(move || {
            for n in 0..2 {
                while !writer.has_room() {
                    inbox.park(None);
                }
                writer.push(piece(n)).unwrap();
            }
            writer.finish(terminal(FinishReason::Length, 2));
        });
        let (got, _) = read_all(&mut reader, Wake::EachPiece);
        assert_eq!(got, [piece(0), piece(1)]);
        batch.join().unwrap();
    });
}

/// One thread reads two replies. The first has no piece until the second has ended.
#[test]
fn a_reader_of_two_replies_misses_neither() {
    for wish in [Wake::EachPiece, Wake::AtEnd] {
        model(move || {
            let pool = ReplyPool::new(2, 2);
            let (silent, quiet) = pool.claim().unwrap();
            let (mut writer, mut busy) = pool.claim().unwrap();
            let writes = thread::spawn(move || {
                writer.push(piece(1)).unwrap();
                writer.finish(terminal(FinishReason::Eos, 1));
            });
            let mut pieces = Vec::new();
            let last = loop {
                assert!(wait_any([&quiet, &busy].into_iter(), None, wish));
                assert_eq!(quiet.poll(Wake::EachPiece), None);
                match busy.poll(Wake::EachPiece) {
                    Some(ReplyState::Pieces) => assert!(busy.read_into(&mut pieces) > 0),
                    Some(ReplyState::Finished(last)) => break last,
                    other => panic!("woken for nothing: {other:?}"),
                }
            };
            assert_eq!((pieces, last.reason), (vec![piece(1)], FinishReason::Eos));
            silent.finish(terminal(FinishReason::Stop, 0));
            assert!(wait_any([&quiet].into_iter(), None, wish));
            assert!(matches!(quiet.poll(wish), Some(ReplyState::Finished(_))));
            writes.join().unwrap();
        });
    }
}

/// A rest that never ends by time, and a rest that is over at once.
const RESTS: [Duration; 2] = [Duration::from_secs(3_600), Duration::ZERO];

/// A stream rests after its first write. It is woken by its end or by a writer that has no room left, or it waits for the
/// next piece in time.
#[test]
fn a_stream_that_rests_misses_nothing() {
    for rest in RESTS {
        for (cells, n) in [(2, 3), (4, 2)] {
            model(move || {
                let pool = ReplyPool::new(1, cells);
                let (mut writer, mut reader) = pool.claim().unwrap();
                let batch = thread::spawn(move || {
                    for n in 0..n {
                        while !writer.has_room() {
                            thread::yield_now();
                        }
                        writer.push(piece(n)).unwrap();
                    }
                    writer.finish(terminal(FinishReason::Eos, n));
                });
                let (mut pace, mut pieces) = (Pace::new(RESTS[0]).resting(rest), Vec::new());
                let last = loop {
                    pace.wait(|until, wish| reader.wait(until, wish) != ReplyState::TimedOut);
                    match reader.poll(Wake::EachPiece) {
                        Some(ReplyState::Pieces) => assert!(reader.read_into(&mut pieces) > 0),
                        Some(ReplyState::Finished(last)) => break last,
                        other => panic!("woken for nothing: {other:?}"),
                    }
                    pace.writes();
                };
                assert!(pieces.into_iter().eq((0..n).map(piece)));
                assert_eq!(last, terminal(FinishReason::Eos, n));
                batch.join().unwrap();
            });
        }
    }
}

/// Two streams that rest in one thread, like the one in the test above.
#[test]
fn two_that_rest_miss_nothing() {
    for rest in RESTS {
        model(move || {
            let pool = ReplyPool::new(2, 2);
            let (silent, quiet) = pool.claim().unwrap();
            let (mut writer, mut busy) = pool.claim().unwrap();
            let writes = thread::spawn(move || {
                (0..2).for_each(|n| writer.push(piece(n)).unwrap());
                writer.finish(terminal(FinishReason::Eos, 2));
            });
            let (mut pace, mut pieces) = (Pace::new(RESTS[0]).resting(rest), Vec::new());
            loop {
                pace.wait(|until, wish| wait_any([&quiet, &busy].into_iter(), until, wish));
                match busy.poll(Wake::EachPiece) {
                    Some(ReplyState::Pieces) => assert!(busy.read_into(&mut pieces) > 0),
                    Some(ReplyState::Finished(_)) => break,
                    other => panic!("woken for nothing: {other:?}"),
                }
                pace.writes();
            }
            assert_eq!(pieces, [piece(0), piece(1)]);
            silent.finish(terminal(FinishReason::Stop, 0));
            pace.wait(|until, wish| wait_any([&quiet].into_iter(), until, wish));
            assert!(matches!(quiet.poll(Wake::AtEnd), Some(ReplyState::Finished(_))));
            writes.join().unwrap();
        });
    }
}

/// The writer is dropped. The reader learns of it, with the counts so far.
#[test]
fn dropped_writer_leaves_no_reader_waiting() {
    model(|| {
        let pool = ReplyPool::new(1, 2);
        let (mut writer, mut reader) = pool.claim().unwrap();
        let batch = thread::spawn(move || {
            writer.push(piece(1)).unwrap();
            drop(writer);
        });
        let (got, last) = read_all(&mut reader, Wake::AtEnd);
        assert_eq!(got, [piece(1)]);
        assert_eq!((last.reason, last.generated_tokens, last.text_end), (FinishReason::EngineError, 1, 10));
        batch.join().unwrap();
    });
}

/// The reader cancels while the writer finishes: there is one terminal, of either kind, and the cancel wakes a parked
/// writer.
#[test]
fn cancel_against_finish() {
    model(|| {
        let (sender, inbox) = ring::<u8>(1);
        let inbox = inbox.with_looks(0);
        let pool = ReplyPool::with_wake(1, 2, sender.wake_handle());
        let (mut writer, mut reader) = pool.claim().unwrap();
        let batch = thread::spawn(move || {
            writer.push(piece(1)).unwrap();
            while !writer.is_cancelled() {
                inbox.park(None);
            }
            writer.finish(terminal(FinishReason::Cancelled, 1));
        });
        let past = Some(Instant::now() - Duration::from_secs(1));
        if reader.wait(past, Wake::AtEnd) == ReplyState::TimedOut {
            reader.cancel();
        }
        reader.cancel();
        let (got, last) = read_all(&mut reader, Wake::AtEnd);
        assert_eq!((got.as_slice(), last), ([piece(1)].as_slice(), terminal(FinishReason::Cancelled, 1)));
        batch.join().unwrap();
    });
}

/// Both halves are dropped at once, in either order: the slot is freed exactly once.
#[test]
fn a_slot_is_freed_once() {
    model(|| {
        let pool = ReplyPool::new(1, 2);
        let (writer, reader) = pool.claim().unwrap();
        let batch = thread::spawn(move || drop(writer));
        drop(reader);
        batch.join().unwrap();
        assert_eq!(pool.free(), 1);
        let second = pool.claim().unwrap();
        assert!(pool.claim().is_none());
        drop(second);
    });
}

/// The next request in the same slot sees none of the pieces, flags or terminal of the request before, even if its
/// reader cancelled and didn't wait. A canceller that is kept longer than its request never cancels the next request in
/// the slot.
#[test]
fn a_late_cancel_hits_no_other_request() {
    model(|| {
        let pool = ReplyPool::new(1, 2);
        let (writer, reader) = pool.claim().unwrap();
        let late = reader.canceller();
        writer.finish(terminal(FinishReason::Eos, 0));
        drop(reader);
        let other = thread::spawn(move || late.cancel());
        let (writer, _reader) = pool.claim().unwrap();
        other.join().unwrap();
        assert!(!writer.is_cancelled());
        writer.finish(terminal(FinishReason::Length, 0));
    });
}

#[test]
fn a_reused_slot_is_new() {
    model(|| {
        let pool = ReplyPool::new(1, 2);
        let (mut writer, reader) = pool.claim().unwrap();
        let batch = thread::spawn(move || {
            let _ = writer.push(piece(1));
            writer.finish(terminal(FinishReason::Eos, 1));
        });
        drop(reader);
        let claimed = loop {
            match pool.claim() {
                Some(halves) => break halves,
                None => thread::yield_now(),
            }
        };
        let (mut writer, mut reader) = claimed;
        let next = thread::spawn(move || {
            assert!(!writer.is_cancelled() && writer.has_room());
            writer.push(piece(2)).unwrap();
            writer.finish(terminal(FinishReason::Length, 1));
        });
        let (got, last) = read_all(&mut reader, Wake::EachPiece);
        assert_eq!((got.as_slice(), last), ([piece(2)].as_slice(), terminal(FinishReason::Length, 1)));
        batch.join().unwrap();
        next.join().unwrap();
    });
}
