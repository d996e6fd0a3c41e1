//! Data beside the pieces: masks for the engine, scores for the reader.

use loom::thread;

use super::handoff::pool::ReplyPool;
use super::handoff::reader::{ReplyState, Wake};
use super::handoff::ring::ring;
use super::types::{FinishReason, Token, TokenLogprobs, TokenMask, Verdict};
use super::{model, piece, terminal};

/// Words that differ in each mask and at each position, so that a mixture of two masks shows.
fn mask_words(number: u64) -> TokenMask {
    let mut mask = TokenMask::none(128);
    mask.words_mut().copy_from_slice(&[number + 1, (number + 1) << 32]);
    mask
}

/// A writer takes each mask before it writes the piece, and sleeps on the bell if the mask isn't there. No mask is lost,
/// torn or taken twice, and no wake-up is lost.
#[test]
fn masks_come_whole_and_wake_the_waiting_thread() {
    model(|| {
        let (sender, inbox) = ring::<u8>(1);
        let inbox = inbox.with_looks(0);
        let pool = ReplyPool::with_masks(1, 2, 128, sender.wake_handle());
        let (mut writer, mut reader) = pool.claim().unwrap();
        let batch = thread::spawn(move || {
            let mut mask = TokenMask::none(128);
            for n in 0..2 {
                let verdict = loop {
                    match writer.verdict(&mut mask) {
                        Some(verdict) => break verdict,
                        None => drop(inbox.park(None)),
                    }
                };
                assert_eq!((verdict, &mask), (Verdict::Allow, &mask_words(n)));
                writer.push(piece(n as u32)).unwrap();
            }
            while writer.verdict(&mut mask).is_none() {
                inbox.park(None);
            }
            assert_eq!((writer.verdict(&mut mask), &mask), (Some(Verdict::Complete), &mask_words(1)));
            writer.finish(terminal(FinishReason::Eos, 2));
        });
        let mut pieces = Vec::new();
        reader.publish(Verdict::Allow, &mask_words(0));
        for n in 1..=2 {
            assert_eq!(reader.wait(None, Wake::EachPiece), ReplyState::Pieces);
            assert_eq!(reader.read_into(&mut pieces), 1);
            let verdict = if n == 2 { Verdict::Complete } else { Verdict::Allow };
            reader.publish(verdict, &mask_words(n));
        }
        assert_eq!(reader.wait(None, Wake::EachPiece), ReplyState::Finished(terminal(FinishReason::Eos, 2)));
        batch.join().unwrap();
    });
}

/// A writer follows a path, or waits for masks that the path doesn't have yet. Each mask is the one of its place, whichever
/// way it came. The reader may read several pieces together.
#[test]
fn along_a_path_each_mask_is_the_one_of_its_place() {
    model(|| {
        let (sender, inbox) = ring::<u8>(1);
        let inbox = inbox.with_looks(0);
        let pool = ReplyPool::with_masks(1, 2, 128, sender.wake_handle());
        let (mut writer, mut reader) = pool.claim().unwrap();
        let said = |n: u64| if n == 2 { Verdict::Complete } else { Verdict::Allow };
        let batch = thread::spawn(move || {
            let mut mask = TokenMask::none(128);
            for n in 0..=2 {
                let verdict = loop {
                    match writer.verdict(&mut mask) {
                        Some(verdict) => break verdict,
                        None => drop(inbox.park(None)),
                    }
                };
                assert_eq!(verdict, said(n));
                if verdict == Verdict::Allow {
                    assert_eq!(mask, mask_words(n));
                    writer.push(piece(n as u32)).unwrap();
                }
            }
            writer.finish(terminal(FinishReason::Eos, 2));
        });
        reader.publish(Verdict::Allow, &mask_words(0));
        let mut path = reader.new_path();
        (1..=2).for_each(|n| path.push(piece(n as u32 - 1).token, false, said(n), &mask_words(n)));
        reader.publish_path(path);
        let mut pieces = Vec::new();
        while let ReplyState::Pieces = reader.wait(None, Wake::EachPiece) {
            reader.read_into(&mut pieces);
            let n = pieces.len() as u64;
            reader.publish(said(n), &mask_words(n));
        }
        assert_eq!(pieces.len(), 2);
        batch.join().unwrap();
    });
}

/// The next request in a slot finds no mask of the request before.
#[test]
fn a_reused_slot_has_no_mask() {
    model(|| {
        let pool = ReplyPool::with_masks(1, 2, 128, ring::<u8>(1).0.wake_handle());
        let (writer, mut reader) = pool.claim().unwrap();
        let batch = thread::spawn(move || drop(writer));
        reader.publish(Verdict::Allow, &mask_words(5));
        let path = reader.new_path();
        reader.publish_path(path);
        drop(reader);
        batch.join().unwrap();
        let (mut writer, mut reader) = pool.claim().unwrap();
        let mut mask = TokenMask::none(128);
        assert!(writer.ahead().is_empty());
        assert_eq!(writer.verdict(&mut mask), None);
        reader.publish(Verdict::Allow, &mask_words(6));
        assert_eq!((writer.verdict(&mut mask), mask), (Some(Verdict::Allow), mask_words(6)));
    });
}

/// The scores of a piece can be read when the piece can, also when cells are reused.
#[test]
fn scores_come_with_their_pieces() {
    let scores =
        |n: u32| TokenLogprobs { chosen: -(n as f32), top: (0..n % 3).map(|t| (Token(t), -1.0 - t as f32)).collect() };
    model(move || {
        let pool = ReplyPool::new(1, 1);
        let (mut writer, mut reader) = pool.claim_with_logprobs(2, 9, 2).unwrap();
        let writes = thread::spawn(move || {
            (0..2).for_each(|n| writer.put_prompt(n, &scores(7 + n as u32)));
            for n in 1..=2 {
                while !writer.has_room() {
                    thread::yield_now();
                }
                writer.push_scored(piece(n), Some(&scores(n))).unwrap();
            }
            while !writer.has_room() {
                thread::yield_now();
            }
            writer.put_end(Token(5), &scores(4));
            writer.finish(terminal(FinishReason::Eos, 2));
        });
        let (mut pieces, mut read) = (Vec::new(), Vec::new());
        while let ReplyState::Pieces = reader.wait(None, Wake::EachPiece) {
            assert_eq!(reader.prompt_scores(), Some(vec![scores(7), scores(8)]));
            reader.read_scored_into(&mut pieces, &mut read);
        }
        assert_eq!(reader.end_scores(), Some((Token(5), scores(4))));
        assert_eq!((pieces, read), (vec![piece(1), piece(2)], vec![scores(1), scores(2)]));
        writes.join().unwrap();
    });
}
