//! Tests with real threads and real parking, for what loom's small models can't reach. `tests/loom_handoff/` tries the
//! interleavings.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use super::{Inbox, Pace, Refused, ReplyPool, ReplyState, Sender, Submission, Wake, Woke, ring, wait_any};
use crate::types::{FinishReason, GenerateParams, Piece, RequestId, Terminal, Token};

fn piece(n: u32) -> Piece {
    Piece { token: Token(n), text_end: n.wrapping_mul(3) }
}

fn terminal(reason: FinishReason, generated_tokens: u32) -> Terminal {
    Terminal {
        reason,
        text_end: u32::MAX,
        generated_tokens,
        prompt_tokens: u32::MAX - 1,
        cached_tokens: 7,
        restored_tokens: 0,
        thought_tokens: 11,
        guesses: 13,
        guesses_accepted: 12,
        gave_way: 3,
        stop: Some(15),
        queue_us: u64::MAX,
        prefill_us: 1 << 40,
        decode_us: 3,
    }
}

/// Reads everything until the terminal, in order.
fn read_all(reader: &mut super::ReplyReader, wish: Wake) -> (Vec<Piece>, Terminal) {
    let mut pieces = Vec::new();
    loop {
        match reader.wait(None, wish) {
            ReplyState::Pieces => assert!(reader.read_into(&mut pieces) > 0),
            ReplyState::Finished(terminal) => {
                assert_eq!(reader.read_into(&mut pieces), 0);
                return (pieces, terminal);
            }
            ReplyState::TimedOut => unreachable!("no deadline was given"),
        }
    }
}

#[test]
fn a_full_ring_and_a_closed_one_give_the_value_back() {
    let (sender, inbox) = ring(2);
    assert_eq!((sender.push(1), sender.push(2), sender.push(3)), (Ok(()), Ok(()), Err(Refused::Full(3))));
    assert_eq!((sender.len(), sender.capacity()), (2, 2));
    inbox.close();
    assert_eq!(sender.push(4), Err(Refused::Closed(4)));
    let mut waiting = VecDeque::new();
    assert_eq!(inbox.drain_into(&mut waiting), 2);
    assert_eq!(waiting, [1, 2]);
}

#[test]
fn a_dropped_inbox_refuses_and_answers_what_waited() {
    let pool = ReplyPool::new(1, 4);
    let (sender, inbox) = ring(1);
    let (reply, mut reader) = pool.claim().unwrap();
    let submission = Submission {
        id: RequestId(1),
        prompt: vec![Token(1)],
        params: GenerateParams::default(),
        arrived_us: 0,
        deadline_us: None,
        reply,
    };
    sender.push(submission).unwrap();
    drop(inbox);
    let (pieces, last) = read_all(&mut reader, Wake::AtEnd);
    assert_eq!((pieces.len(), last.reason), (0, FinishReason::EngineError));
}

#[test]
fn park_remembers_a_wake_and_honours_its_timeout() {
    let (sender, inbox) = ring::<u8>(1);
    sender.wake_handle().wake();
    inbox.wake_handle().wake();
    assert_eq!(inbox.park(None), Woke::Rung);
    assert_eq!(inbox.park(Some(Duration::from_millis(2))), Woke::TimedOut);
    assert_eq!(inbox.park(Some(Duration::ZERO)), Woke::TimedOut);
    sender.wake_handle().wake();
    assert_eq!(inbox.park(Some(Duration::MAX)), Woke::Rung);
    // An unpark by other code on the thread ends no sleep.
    thread::current().unpark();
    assert_eq!(inbox.park(Some(Duration::from_millis(2))), Woke::TimedOut);
}

/// Four producers against one consumer that parks whenever it finds nothing: a lost wake-up would make the test hang.
#[test]
fn ring_stress() {
    const EACH: u64 = 20_000;
    let (sender, inbox): (Sender<u64>, Inbox<u64>) = ring(8);
    let producers: Vec<_> = (0..4)
        .map(|_| {
            let sender = sender.clone();
            thread::spawn(move || {
                for n in 1..=EACH {
                    let mut value = n;
                    while let Err(refused) = sender.push(value) {
                        value = refused.into_inner();
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let (mut waiting, mut count, mut sum) = (VecDeque::new(), 0, 0);
    while count < 4 * EACH {
        if inbox.drain_into(&mut waiting) == 0 {
            inbox.park(None);
        }
        count += waiting.len() as u64;
        sum += waiting.drain(..).sum::<u64>();
    }
    assert_eq!(sum, 4 * EACH * (EACH + 1) / 2);
    producers.into_iter().for_each(|producer| producer.join().unwrap());
}

#[test]
fn an_exhausted_pool_says_so_and_recovers() {
    let pool = ReplyPool::new(2, 4);
    let first = pool.claim().unwrap();
    let (writer, reader) = pool.claim().unwrap();
    assert!(pool.claim().is_none());
    drop(writer);
    assert!(pool.claim().is_none(), "the reader still holds it");
    drop(reader);
    assert_eq!(pool.free(), 1);
    drop(pool.claim().unwrap());
    drop(first);
    assert_eq!((pool.free(), pool.capacity()), (2, 2));
}

#[test]
fn every_field_of_a_terminal_arrives() {
    let pool = ReplyPool::new(1, 1);
    for code in 1..=7 {
        let (mut writer, mut reader) = pool.claim().unwrap();
        let sent = terminal(FinishReason::from_u8(code).unwrap(), u32::from(code));
        writer.push(piece(u32::MAX)).unwrap();
        writer.finish(sent);
        assert_eq!(read_all(&mut reader, Wake::EachPiece), (vec![piece(u32::MAX)], sent));
        assert_eq!(reader.wait(None, Wake::AtEnd), ReplyState::Finished(sent));
    }
}

#[test]
fn a_dropped_writer_is_an_engine_error_with_the_counts_so_far() {
    let pool = ReplyPool::new(1, 4);
    let (mut writer, mut reader) = pool.claim().unwrap();
    writer.push(piece(1)).unwrap();
    writer.push(piece(2)).unwrap();
    drop(writer);
    let (pieces, last) = read_all(&mut reader, Wake::AtEnd);
    assert_eq!(pieces, [piece(1), piece(2)]);
    assert_eq!((last.reason, last.generated_tokens, last.text_end), (FinishReason::EngineError, 2, piece(2).text_end));
}

#[test]
fn a_full_reply_gives_the_piece_back_and_asks_for_room() {
    let (sender, inbox) = ring::<u8>(1);
    let pool = ReplyPool::with_wake(1, 3, sender.wake_handle());
    let (mut writer, mut reader) = pool.claim().unwrap();
    for n in 0..4 {
        assert!(writer.has_room());
        writer.push(piece(n)).unwrap();
    }
    assert_eq!(writer.push(piece(4)), Err(piece(4)));
    assert!(!writer.has_room());
    assert_eq!(inbox.park(Some(Duration::ZERO)), Woke::TimedOut);
    let mut pieces = Vec::new();
    assert_eq!(reader.read_into(&mut pieces), 4);
    assert_eq!(inbox.park(None), Woke::Rung);
    assert!(writer.has_room());
    writer.push(piece(4)).unwrap();
}

#[test]
fn a_reused_slot_has_all_its_room_and_no_more() {
    let pool = ReplyPool::new(1, 4);
    for _ in 0..3 {
        let (mut writer, mut reader) = pool.claim().unwrap();
        for n in 0..4 {
            writer.push(piece(n)).unwrap();
        }
        assert!(!writer.has_room());
        assert_eq!(writer.push(piece(4)), Err(piece(4)));
        assert_eq!(reader.read_into(&mut Vec::new()), 4);
    }
}

#[test]
fn cancel_wakes_the_batching_thread_once() {
    let (sender, inbox) = ring::<u8>(1);
    let pool = ReplyPool::with_wake(1, 1, sender.wake_handle());
    let (writer, reader) = pool.claim().unwrap();
    assert!(!writer.is_cancelled());
    reader.cancel();
    assert!(writer.is_cancelled());
    assert_eq!(inbox.park(None), Woke::Rung);
    drop(reader);
    assert_eq!(inbox.park(Some(Duration::ZERO)), Woke::TimedOut);
    // Dropping the writer doesn't wake a reader that has its terminal.
    drop(writer);
    let (writer, reader) = pool.claim().unwrap();
    assert!(!writer.is_cancelled());
    writer.finish(terminal(FinishReason::Eos, 0));
    drop(reader);
    assert_eq!(inbox.park(Some(Duration::ZERO)), Woke::TimedOut);
}

#[test]
fn a_canceller_ends_its_own_request_and_none_that_comes_later() {
    let (sender, inbox) = ring::<u8>(1);
    let pool = ReplyPool::with_wake(1, 1, sender.wake_handle());
    let (writer, reader) = pool.claim().unwrap();
    let canceller = reader.canceller();
    canceller.cancel();
    assert!(writer.is_cancelled());
    assert_eq!(inbox.park(None), Woke::Rung);
    canceller.cancel();
    assert_eq!(inbox.park(Some(Duration::ZERO)), Woke::TimedOut, "the batching thread is woken once");
    drop((writer, reader));
    let (writer, reader) = pool.claim().unwrap();
    canceller.cancel();
    assert!(!writer.is_cancelled());
    writer.finish(terminal(FinishReason::Eos, 0));
    drop(reader);
}

#[test]
fn a_thread_that_waits_for_any_reply_returns_at_news_or_at_the_deadline() {
    let pool = ReplyPool::new(2, 4);
    let (mut writer, reader) = pool.claim().unwrap();
    let (_other_writer, other_reader) = pool.claim().unwrap();
    let readers = [other_reader, reader];
    let soon = Instant::now() + Duration::from_millis(2);
    assert!(!wait_any(readers.iter(), Some(soon), Wake::EachPiece), "nothing has happened");
    writer.push(piece(1)).unwrap();
    let late = Instant::now() + Duration::from_secs(2);
    assert!(wait_any(readers.iter(), Some(late), Wake::EachPiece));
    assert!(Instant::now() < late, "a piece is news at once");
}

#[test]
fn a_reader_times_out_and_goes_on() {
    let pool = ReplyPool::new(1, 4);
    let (mut writer, mut reader) = pool.claim().unwrap();
    let soon = || Some(Instant::now() + Duration::from_millis(2));
    assert_eq!(reader.wait(soon(), Wake::EachPiece), ReplyState::TimedOut);
    writer.push(piece(1)).unwrap();
    assert_eq!(reader.wait(soon(), Wake::AtEnd), ReplyState::TimedOut, "one of four is not more than half");
    assert_eq!(reader.wait(None, Wake::EachPiece), ReplyState::Pieces);
}

/// Sends requests of every length through few, small slots. The batching thread visits them round-robin, as the engine
/// does.
#[test]
fn reply_stress() {
    const READERS: u32 = 4;
    const REQUESTS: u32 = 400;
    let (sender, inbox) = ring(READERS as usize);
    let pool = ReplyPool::with_wake(READERS as usize, 8, sender.wake_handle());
    let batch = thread::spawn(move || {
        let mut waiting: VecDeque<(u32, u32, super::ReplyWriter)> = VecDeque::new();
        let (mut finished, mut cancelled) = (0, 0);
        while finished < READERS * REQUESTS {
            let drained = inbox.drain_into(&mut waiting);
            let mut moved = drained > 0;
            for _ in 0..waiting.len() {
                let (sent, length, mut writer) = waiting.pop_front().unwrap();
                if writer.is_cancelled() {
                    writer.finish(terminal(FinishReason::Cancelled, sent));
                    (finished, cancelled, moved) = (finished + 1, cancelled + 1, true);
                } else if sent == length {
                    writer.finish(terminal(FinishReason::Length, sent));
                    (finished, moved) = (finished + 1, true);
                } else if writer.has_room() {
                    writer.push(piece(sent)).unwrap();
                    moved = true;
                    waiting.push_back((sent + 1, length, writer));
                } else {
                    waiting.push_back((sent, length, writer));
                }
            }
            if !moved {
                inbox.park(None);
            }
        }
        cancelled
    });
    let readers: Vec<_> = (0..READERS)
        .map(|n| {
            let (sender, pool) = (sender.clone(), pool.clone());
            thread::spawn(move || {
                for request in 0..REQUESTS {
                    let length = (request * 7 + n) % 61;
                    let wish = if request % 2 == 0 { Wake::EachPiece } else { Wake::AtEnd };
                    let (writer, mut reader) = loop {
                        // The batching thread may hold a finished slot a moment longer than its reader.
                        match pool.claim() {
                            Some(halves) => break halves,
                            None => thread::yield_now(),
                        }
                    };
                    sender.push((0, length, writer)).unwrap();
                    if request % 5 == 4 {
                        reader.cancel();
                    }
                    let (pieces, last) = read_all(&mut reader, wish);
                    assert_eq!(last, terminal(last.reason, pieces.len() as u32));
                    assert!(pieces.iter().copied().eq((0..pieces.len() as u32).map(piece)));
                    assert!(last.reason == FinishReason::Cancelled || pieces.len() as u32 == length);
                }
            })
        })
        .collect();
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    assert!(batch.join().unwrap() <= READERS * REQUESTS / 5);
    assert_eq!(pool.free(), READERS as usize);
}

/// A rest that never ends within a test.
const LONG: Duration = Duration::from_secs(3_600);

fn pace_with_rest(rest: Duration) -> Pace {
    Pace::new(LONG).resting(rest)
}

/// The sleeps of one `wait`, as (has a deadline, wish); `news` says what each sleep found.
fn sleeps(pace: &mut Pace, news: &[bool]) -> Vec<(bool, Wake)> {
    let mut seen = Vec::new();
    pace.wait(|until, wish| {
        seen.push((until.is_some(), wish));
        news[seen.len() - 1]
    });
    assert_eq!(seen.len(), news.len());
    seen
}

#[test]
fn the_first_write_waits_for_nothing_and_a_quick_stream_rests_until_it_is_slow() {
    let (bell, rest, look) = ((true, Wake::EachPiece), (true, Wake::AtEnd), (true, Wake::EachPiece));
    let mut pace = pace_with_rest(LONG);
    assert_eq!(sleeps(&mut pace, &[false, false, false, false, true]), [look, look, look, look, bell]);
    // A piece without text causes no write.
    assert_eq!(sleeps(&mut pace, &[false, true]), [look, look], "it came while others had their turn");
    for _ in 0..3 {
        pace.writes();
        assert_eq!(sleeps(&mut pace, &[false, true]), [rest, look], "pieces waited");
    }
    pace.writes();
    assert_eq!(sleeps(&mut pace, &[true]), [rest], "the end, or many pieces");
    pace.writes();
    assert_eq!(sleeps(&mut pace, &[false, false, true]), [rest, look, bell], "none had come");
    assert_eq!(sleeps(&mut pace, &[true]), [bell]);
    pace.writes();
    assert_eq!(sleeps(&mut pace, &[true]), [rest], "two writes close to each other");
}

#[test]
fn a_slow_stream_never_rests_but_once() {
    let mut pace = pace_with_rest(Duration::ZERO);
    sleeps(&mut pace, &[true]);
    pace.writes();
    sleeps(&mut pace, &[false, false, true]);
    for _ in 0..3 {
        pace.writes();
        assert_eq!(sleeps(&mut pace, &[true]), [(true, Wake::EachPiece)]);
    }
}

fn paced(pace: &mut Pace, reader: &mut super::ReplyReader) -> Option<ReplyState> {
    pace.wait(|until, wish| reader.wait(until, wish) != ReplyState::TimedOut);
    reader.poll(Wake::EachPiece)
}

/// Both rests are longer than the test, so only the event under test can end them.
#[test]
fn the_end_and_a_filling_slot_end_a_rest() {
    let pool = ReplyPool::new(1, 8);
    let (mut writer, mut reader) = pool.claim().unwrap();
    let (mut pace, mut pieces) = (pace_with_rest(LONG), Vec::new());
    pace.writes();
    let writes = thread::spawn(move || {
        (0..5).for_each(|n| writer.push(piece(n)).unwrap());
        writer
    });
    assert_eq!(paced(&mut pace, &mut reader), Some(ReplyState::Pieces));
    let mut writer = writes.join().unwrap();
    assert_eq!(reader.read_into(&mut pieces), 5, "not before it was more than half full");
    pace.writes();
    let writes = thread::spawn(move || {
        writer.push(piece(5)).unwrap();
        writer.finish(terminal(FinishReason::Length, 6));
    });
    assert_eq!(paced(&mut pace, &mut reader), Some(ReplyState::Pieces));
    writes.join().unwrap();
    assert_eq!(reader.read_into(&mut pieces), 1);
    assert_eq!(paced(&mut pace, &mut reader), Some(ReplyState::Finished(terminal(FinishReason::Length, 6))));
}

#[test]
fn what_came_during_a_rest_leaves_together() {
    const REST: Duration = Duration::from_millis(50);
    let pool = ReplyPool::new(1, 64);
    let (mut writer, mut reader) = pool.claim().unwrap();
    let (mut pace, mut pieces) = (pace_with_rest(REST), Vec::new());
    writer.push(piece(0)).unwrap();
    assert_eq!(paced(&mut pace, &mut reader), Some(ReplyState::Pieces));
    assert_eq!(reader.read_into(&mut pieces), 1);
    let written = Instant::now();
    pace.writes();
    writer.push(piece(1)).unwrap();
    let writes = thread::spawn(move || {
        writer.push(piece(2)).unwrap();
        writer
    });
    assert_eq!(paced(&mut pace, &mut reader), Some(ReplyState::Pieces));
    assert!(written.elapsed() >= REST);
    let _writer = writes.join().unwrap();
    assert_eq!(reader.read_into(&mut pieces), 2);
}

#[test]
fn before_its_first_write_a_stream_looks_on_while_more_comes() {
    let looks = |pace: &Pace, found: &[u64]| {
        let mut found = found.iter();
        pace.look_on(|| *found.next().expect("it has seen enough"));
        found.len()
    };
    let mut pace = pace_with_rest(LONG).looking_on(LONG);
    assert_eq!(looks(&pace, &[1]), 0, "the first piece alone leaves at once");
    assert_eq!(looks(&pace, &[0]), 0, "an end without a piece");
    assert_eq!(looks(&pace, &[2, 2]), 0, "nothing more has come");
    assert_eq!(looks(&pace, &[2, 3, 9, 9]), 0, "more has, and then no more");
    assert_eq!(looks(&pace_with_rest(LONG).looking_on(Duration::ZERO), &[2, 3, 4]), 2, "not for ever");
    pace.writes();
    assert_eq!(looks(&pace, &[2]), 1, "not after it");
}

#[test]
fn a_silent_stream_is_due_for_a_sign_until_it_gives_one_or_writes() {
    let mut pace = Pace::new(Duration::ZERO);
    assert!(pace.is_silent(), "without any patience");
    pace.signs();
    assert!(pace.is_silent(), "it is due again at once");
    // A stream that is due for a keep-alive doesn't sleep: each sleep's deadline has passed.
    pace.wait(|until, _| {
        assert!(until.expect("each has an end") <= Instant::now());
        false
    });
    for act in [Pace::signs, Pace::writes] {
        let mut pace = Pace::new(LONG).due();
        assert!(pace.is_silent());
        act(&mut pace);
        assert!(!pace.is_silent());
    }
}
