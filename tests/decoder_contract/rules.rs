//! The rules: functions of a subject and a way to make fresh decoders.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cllm::types::seams::{Decoder, Outcome, Row};
use cllm::types::{Pos, SeqId, Token};

use crate::subjects::Subject;

/// Makes an empty decoder.
pub type Make<'a> = &'a dyn Fn() -> Box<dyn Decoder>;

/// The result of a rule that isn't broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruled {
    Kept,
    /// The rule is about something that this decoder's cache doesn't have.
    DoesNotApply,
}

/// The result of a rule, or how it is broken.
pub type Found = Result<Ruled, String>;

pub struct Rule {
    pub name: &'static str,
    pub check: fn(&Subject, Make) -> Found,
}

pub const RULES: &[Rule] = &[
    Rule { name: "a step that is done holds its rows", check: holds_rows },
    Rule { name: "each row finds its own logits", check: own_logits },
    Rule { name: "cutting a prompt into steps changes nothing", check: chunks },
    Rule { name: "logits may be overwritten", check: overwritten },
    Rule { name: "the end of a sequence is removed, or nothing is", check: cut },
    Rule { name: "a cut far back loses nothing, or is refused", check: cut_far },
    Rule { name: "a sequence can always be emptied", check: emptied },
    Rule { name: "emptying an empty sequence succeeds", check: emptied_twice },
    Rule { name: "a beginning is copied, or nothing is", check: copied },
    Rule { name: "a copy outlives its source", check: copy_outlives },
    Rule { name: "without room nothing is written", check: no_room },
    Rule { name: "a copy in a shared buffer takes no cells", check: copy_is_free },
    Rule { name: "what a copy holds stays taken", check: copy_keeps_cells },
    Rule { name: "a gap between positions is refused", check: gap },
    Rule { name: "resting forgets nothing", check: rests },
    Rule { name: "sequences beside those of a step keep what they hold", check: bystanders },
    Rule { name: "a state that was saved is restored", check: restored },
    Rule { name: "without room nothing is restored", check: restored_without_room },
    Rule { name: "a checkpoint brings a sequence back", check: resumed },
];

/// Fails the rule unless the condition holds.
macro_rules! ensure {
    ($holds:expr, $($how:tt)+) => {
        match $holds {
            true => {}
            false => return Err(format!($($how)+)),
        }
    };
}

/// A different text for each `kind`.
fn text(decoder: &dyn Decoder, kind: u32, len: usize) -> Vec<Token> {
    let n_vocab = decoder.capacity().n_vocab as u32;
    (0..len as u32).map(|i| Token((3 + kind * 31 + i * 5) % n_vocab)).collect()
}

/// Rows of `tokens[from..to]`; the last one wants logits.
fn rows(seq: u16, tokens: &[Token], from: usize, to: usize) -> Vec<Row> {
    let row = |i: usize| Row { token: tokens[i], pos: Pos(i as u32), seq: SeqId(seq), wants_logits: i + 1 == to };
    (from..to).map(row).collect()
}

fn done(decoder: &mut dyn Decoder, rows: &[Row]) -> Result<(), String> {
    match decoder.decode(rows) {
        Outcome::Done => Ok(()),
        other => Err(format!("a step of {} rows is {other:?}", rows.len())),
    }
}

/// Tokens that `seq` holds.
fn held(decoder: &dyn Decoder, seq: u16) -> usize {
    decoder.seq_pos_max(SeqId(seq)).map_or(0, |pos| pos.plus(1).count_before())
}

/// Decodes `tokens[from..]` of `seq` in one step and returns the last row's logits.
fn read(decoder: &mut dyn Decoder, seq: u16, tokens: &[Token], from: usize) -> Result<Vec<f32>, String> {
    let rows = rows(seq, tokens, from, tokens.len());
    done(decoder, &rows)?;
    Ok(decoder.logits(rows.len() - 1).to_vec())
}

/// The logits after `tokens` from a decoder that holds nothing else.
fn alone(subject: &Subject, tokens: &[Token]) -> Result<Vec<f32>, String> {
    read(&mut *subject.make(), 0, tokens, 0)
}

fn same(subject: &Subject, is: &[f32], should: &[f32], what: &str) -> Result<(), String> {
    ensure!(is.len() == should.len(), "{what}: {} logits", is.len());
    let far = is
        .iter()
        .zip(should)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |far: f32, d| if d > far || d.is_nan() { d } else { far });
    ensure!(far <= subject.tolerance, "{what}: logits are {far} away");
    Ok(())
}

fn holds_rows(_: &Subject, make: Make) -> Found {
    let mut decoder = make();
    let (long, short) = (text(&*decoder, 0, 7), text(&*decoder, 2, 3));
    let both: Vec<Row> = rows(0, &long, 0, 5).into_iter().chain(rows(2, &short, 0, 3)).collect();
    done(&mut *decoder, &both)?;
    let now = [0, 1, 2].map(|seq| held(&*decoder, seq));
    ensure!(now == [5, 0, 3], "{now:?} held after 5, 0 and 3 rows");
    done(&mut *decoder, &rows(0, &long, 5, 7))?;
    ensure!(held(&*decoder, 0) == 7, "{} held after 2 more", held(&*decoder, 0));
    Ok(Ruled::Kept)
}

fn own_logits(subject: &Subject, make: Make) -> Found {
    let mut decoder = make();
    let texts: Vec<Vec<Token>> = (0..3).map(|seq| text(&*decoder, seq, 4 + seq as usize * 3)).collect();
    let mut step: Vec<Row> =
        (0..3).flat_map(|seq| rows(seq, &texts[usize::from(seq)], 0, texts[usize::from(seq)].len())).collect();
    // One in the middle of a prompt wants logits, too.
    step[1].wants_logits = true;
    done(&mut *decoder, &step)?;
    let wanted: Vec<usize> = (0..step.len()).filter(|i| step[*i].wants_logits).collect();
    for i in wanted.into_iter().rev() {
        let Row { seq, pos, .. } = step[i];
        let expected = alone(subject, &texts[seq.index()][..pos.plus(1).count_before()])?;
        same(subject, decoder.logits(i), &expected, &format!("row {i} of {}", step.len()))?;
    }
    Ok(Ruled::Kept)
}

fn chunks(subject: &Subject, make: Make) -> Found {
    let mut decoder = make();
    let tokens = text(&*decoder, 1, 12);
    for (from, to) in [(0, 1), (1, 8), (8, 11)] {
        done(&mut *decoder, &rows(1, &tokens, from, to))?;
        same(subject, decoder.logits(to - from - 1), &alone(subject, &tokens[..to])?, &format!("{to} tokens"))?;
    }
    Ok(Ruled::Kept)
}

fn overwritten(subject: &Subject, make: Make) -> Found {
    if !subject.writes_all_logits {
        return Ok(Ruled::DoesNotApply);
    }
    let mut decoder = make();
    let tokens = text(&*decoder, 3, 5);
    done(&mut *decoder, &rows(0, &tokens, 0, 4))?;
    decoder.logits(3).fill(77.0);
    done(&mut *decoder, &rows(0, &tokens, 4, 5))?;
    same(subject, decoder.logits(0), &alone(subject, &tokens)?, "after logits were overwritten")?;
    Ok(Ruled::Kept)
}

fn cut(subject: &Subject, make: Make) -> Found {
    let mut decoder = make();
    let mut tokens = text(&*decoder, 0, 9);
    done(&mut *decoder, &rows(0, &tokens, 0, 8))?;
    if decoder.seq_remove(SeqId(0), Pos(3)..Pos::MAX) {
        ensure!(held(&*decoder, 0) == 3, "{} held after a cut to 3", held(&*decoder, 0));
        tokens.truncate(3);
        tokens.extend(text(&*decoder, 9, 4));
    } else {
        ensure!(!subject.can_cut, "this cache can cut, and refuses");
        ensure!(held(&*decoder, 0) == 8, "{} held after a cut that was refused", held(&*decoder, 0));
    }
    let from = held(&*decoder, 0);
    let logits = read(&mut *decoder, 0, &tokens, from)?;
    same(subject, &logits, &alone(subject, &tokens)?, "behind the cut")?;
    Ok(Ruled::Kept)
}

/// Layers with a sliding window may have given away what a sequence saw before: the decoder must know it.
fn cut_far(subject: &Subject, make: Make) -> Found {
    let mut decoder = make();
    if decoder.capacity().cells_per_seq < 100 {
        return Ok(Ruled::DoesNotApply);
    }
    let mut tokens = text(&*decoder, 0, 100);
    write(&mut *decoder, 0, &tokens)?;
    // Nearly all cells are taken, some of them anew, so that those outside of windows are reused.
    for (seq, len) in [(1, 100), (2, 50), (2, 40)] {
        ensure!(decoder.seq_remove(SeqId(seq), Pos(0)..Pos::MAX), "a sequence can't be emptied");
        let other = text(&*decoder, 13 + len as u32, len);
        write(&mut *decoder, seq, &other)?;
    }
    if !decoder.seq_remove(SeqId(0), Pos(50)..Pos::MAX) {
        ensure!(held(&*decoder, 0) == 100, "{} held after a refusal", held(&*decoder, 0));
        return Ok(Ruled::DoesNotApply);
    }
    ensure!(held(&*decoder, 0) == 50, "{} held after a cut to 50", held(&*decoder, 0));
    tokens.truncate(50);
    tokens.extend(text(&*decoder, 9, 1));
    let logits = read(&mut *decoder, 0, &tokens, 50)?;
    let mut other = subject.make();
    write(&mut *other, 0, &tokens[..50])?;
    same(subject, &logits, &read(&mut *other, 0, &tokens, 50)?, "behind the cut")?;
    Ok(Ruled::Kept)
}

fn emptied(subject: &Subject, make: Make) -> Found {
    let mut decoder = make();
    let (gone, stays) = (text(&*decoder, 0, 6), text(&*decoder, 1, 7));
    done(&mut *decoder, &rows(0, &gone, 0, 6))?;
    done(&mut *decoder, &rows(1, &stays, 0, 6))?;
    ensure!(decoder.seq_remove(SeqId(0), Pos(0)..Pos::MAX), "refused");
    ensure!(held(&*decoder, 0) == 0 && held(&*decoder, 1) == 6, "{:?} held", [0, 1].map(|seq| held(&*decoder, seq)));
    let anew = text(&*decoder, 8, 5);
    let logits = read(&mut *decoder, 0, &anew, 0)?;
    same(subject, &logits, &alone(subject, &anew)?, "a text in an emptied sequence")?;
    let logits = read(&mut *decoder, 1, &stays, 6)?;
    same(subject, &logits, &alone(subject, &stays)?, "the other sequence")?;
    Ok(Ruled::Kept)
}

fn emptied_twice(_: &Subject, make: Make) -> Found {
    let mut decoder = make();
    ensure!(decoder.seq_remove(SeqId(1), Pos(0)..Pos::MAX), "an empty sequence refuses");
    ensure!(held(&*decoder, 1) == 0, "{} held", held(&*decoder, 1));
    Ok(Ruled::Kept)
}

fn copied(subject: &Subject, make: Make) -> Found {
    let mut decoder = make();
    // The copy's sequence held another text before.
    let other = text(&*decoder, 13, 3);
    done(&mut *decoder, &rows(2, &other, 0, 3))?;
    let mut source = text(&*decoder, 0, 8);
    done(&mut *decoder, &rows(0, &source, 0, 8))?;
    ensure!(decoder.seq_remove(SeqId(2), Pos(0)..Pos::MAX), "a sequence can't be emptied");
    let was_copied = decoder.seq_copy(SeqId(0), SeqId(2), 5);
    ensure!(was_copied || !subject.can_cut, "this cache can copy, and refuses");
    let expected = if was_copied { 5 } else { 0 };
    ensure!(held(&*decoder, 2) == expected, "{} held by the copy, not {expected}", held(&*decoder, 2));
    ensure!(held(&*decoder, 0) == 8, "{} held by the source", held(&*decoder, 0));
    let mut other = source[..expected].to_vec();
    other.extend(text(&*decoder, 7, 3));
    let logits = read(&mut *decoder, 2, &other, expected)?;
    same(subject, &logits, &alone(subject, &other)?, "behind the copy")?;
    source.extend(text(&*decoder, 6, 1));
    let logits = read(&mut *decoder, 0, &source, 8)?;
    same(subject, &logits, &alone(subject, &source)?, "the source")?;
    Ok(Ruled::Kept)
}

fn copy_outlives(subject: &Subject, make: Make) -> Found {
    let mut decoder = make();
    let tokens = text(&*decoder, 4, 7);
    done(&mut *decoder, &rows(0, &tokens, 0, 6))?;
    if !decoder.seq_copy(SeqId(0), SeqId(1), 6) {
        return Ok(Ruled::DoesNotApply);
    }
    ensure!(decoder.seq_remove(SeqId(0), Pos(0)..Pos::MAX), "the source can't be emptied");
    ensure!(held(&*decoder, 1) == 6, "{} held by the copy", held(&*decoder, 1));
    // What the source writes next must not overwrite the copy.
    let other = text(&*decoder, 5, 6);
    done(&mut *decoder, &rows(0, &other, 0, 6))?;
    let logits = read(&mut *decoder, 1, &tokens, 6)?;
    same(subject, &logits, &alone(subject, &tokens)?, "the copy")?;
    Ok(Ruled::Kept)
}

/// Decodes `tokens` of `seq`, which is empty, in as many steps as that takes.
fn write(decoder: &mut dyn Decoder, seq: u16, tokens: &[Token]) -> Result<(), String> {
    let rows_max = decoder.capacity().rows_max;
    for from in (0..tokens.len()).step_by(rows_max) {
        done(decoder, &rows(seq, tokens, from, tokens.len().min(from + rows_max)))?;
    }
    Ok(())
}

/// Fills sequences from the last one down until `free` cells of the shared buffer are left. `None`: there is no shared buffer, or
/// the sequences but the first can't fill it.
fn fill(decoder: &mut dyn Decoder, free: usize) -> Result<Option<Vec<u16>>, String> {
    let capacity = decoder.capacity();
    let Some(total) = capacity.cells_common else { return Ok(None) };
    if u32::from(capacity.seqs - 1) * capacity.cells_per_seq < total {
        return Ok(None);
    }
    let (mut left, mut filled) = (total as usize - free, Vec::new());
    for seq in (1..capacity.seqs).rev() {
        let len = left.min(capacity.cells_per_seq as usize);
        let tokens = text(decoder, u32::from(seq), len);
        write(decoder, seq, &tokens)?;
        left -= len;
        if len > 0 {
            filled.push(seq);
        }
    }
    assert_eq!(left, 0, "all but `free` cells are taken");
    Ok(Some(filled))
}

fn no_room(subject: &Subject, make: Make) -> Found {
    if !subject.has_cells {
        return Ok(Ruled::DoesNotApply);
    }
    let mut decoder = make();
    let Some(filled) = fill(&mut *decoder, 3)? else { return Ok(Ruled::DoesNotApply) };
    let before: Vec<usize> = (0..decoder.capacity().seqs).map(|seq| held(&*decoder, seq)).collect();
    let tokens = text(&*decoder, 0, 5);
    let outcome = decoder.decode(&rows(0, &tokens, 0, 5));
    ensure!(outcome == Outcome::NoRoom, "5 rows in 3 cells are {outcome:?}");
    let after: Vec<usize> = (0..decoder.capacity().seqs).map(|seq| held(&*decoder, seq)).collect();
    ensure!(before == after, "{after:?} held, before {before:?}");
    ensure!(decoder.seq_remove(SeqId(filled[0]), Pos(0)..Pos::MAX), "a sequence can't be emptied");
    let logits = read(&mut *decoder, 0, &tokens, 0)?;
    same(subject, &logits, &alone(subject, &tokens)?, "once there was room")?;
    Ok(Ruled::Kept)
}

fn copy_is_free(_: &Subject, make: Make) -> Found {
    let mut decoder = make();
    let Some(filled) = fill(&mut *decoder, 2)? else { return Ok(Ruled::DoesNotApply) };
    let (from, len) = (filled[0], held(&*decoder, filled[0]) / 2);
    if !decoder.seq_copy(SeqId(from), SeqId(0), len) {
        return Ok(Ruled::DoesNotApply);
    }
    ensure!(held(&*decoder, 0) == len, "{} held by the copy", held(&*decoder, 0));
    let more = text(&*decoder, 11, len + 2);
    done(&mut *decoder, &rows(0, &more, len, len + 2))?;
    Ok(Ruled::Kept)
}

fn copy_keeps_cells(_: &Subject, make: Make) -> Found {
    let mut decoder = make();
    let Some(filled) = fill(&mut *decoder, 2)? else { return Ok(Ruled::DoesNotApply) };
    let (from, all) = (filled[0], held(&*decoder, filled[0]));
    if !decoder.seq_copy(SeqId(from), SeqId(0), all / 2) {
        return Ok(Ruled::DoesNotApply);
    }
    ensure!(decoder.seq_remove(SeqId(from), Pos(0)..Pos::MAX), "the source can't be emptied");
    // Free are the two cells that were left, and those of the source that the copy doesn't hold.
    let free = 2 + all - all / 2;
    let more = text(&*decoder, 11, free + 1);
    write(&mut *decoder, from, &more[..free])?;
    let outcome = decoder.decode(&rows(from, &more, free, free + 1));
    ensure!(outcome == Outcome::NoRoom, "a row without a cell is {outcome:?}");
    ensure!(held(&*decoder, 0) == all / 2, "{} held by the copy", held(&*decoder, 0));
    Ok(Ruled::Kept)
}

/// A step that breaks the rules of positions is a fault of the caller: the decoder returns `Invalid`, or panics.
fn gap(subject: &Subject, make: Make) -> Found {
    let mut decoder = make();
    let tokens = text(&*decoder, 0, 9);
    done(&mut *decoder, &rows(0, &tokens, 0, 4))?;
    let refused = catch_unwind(AssertUnwindSafe(|| decoder.decode(&rows(0, &tokens, 6, 8))));
    let Ok(outcome) = refused else { return Ok(Ruled::Kept) };
    ensure!(outcome == Outcome::Invalid, "two tokens left out are {outcome:?}");
    ensure!(held(&*decoder, 0) == 4, "{} held", held(&*decoder, 0));
    let logits = read(&mut *decoder, 0, &tokens[..6], 4)?;
    same(subject, &logits, &alone(subject, &tokens[..6])?, "after the refusal")?;
    Ok(Ruled::Kept)
}

fn rests(subject: &Subject, make: Make) -> Found {
    let mut decoder = make();
    let tokens = text(&*decoder, 0, 6);
    done(&mut *decoder, &rows(0, &tokens, 0, 5))?;
    decoder.rest();
    decoder.idle();
    ensure!(held(&*decoder, 0) == 5, "{} held", held(&*decoder, 0));
    let logits = read(&mut *decoder, 0, &tokens, 5)?;
    same(subject, &logits, &alone(subject, &tokens)?, "after a rest")?;
    Ok(Ruled::Kept)
}

fn bystanders(subject: &Subject, make: Make) -> Found {
    let mut decoder = make();
    let texts: Vec<Vec<Token>> = (0..3).map(|seq| text(&*decoder, seq, 6)).collect();
    for seq in 0..3 {
        done(&mut *decoder, &rows(seq, &texts[usize::from(seq)], 0, 5))?;
    }
    let step: Vec<Row> = rows(0, &texts[0], 5, 6).into_iter().chain(rows(2, &texts[2], 5, 6)).collect();
    done(&mut *decoder, &step)?;
    let now = [0, 1, 2].map(|seq| held(&*decoder, seq));
    ensure!(now == [6, 5, 6], "{now:?} held");
    for (row, seq) in [0, 2].into_iter().enumerate() {
        same(subject, decoder.logits(row), &alone(subject, &texts[seq])?, &format!("sequence {seq} of the step"))?;
    }
    let logits = read(&mut *decoder, 1, &texts[1], 5)?;
    same(subject, &logits, &alone(subject, &texts[1])?, "the sequence between")?;
    Ok(Ruled::Kept)
}

fn restored(subject: &Subject, make: Make) -> Found {
    let mut decoder = make();
    if !decoder.keeps_blocks() {
        return Ok(Ruled::DoesNotApply);
    }
    // The sequence that is restored held another text before, in other cells.
    let (tokens, other) = (text(&*decoder, 2, 9), text(&*decoder, 13, 3));
    done(&mut *decoder, &rows(1, &other, 0, 3))?;
    // A state with parts is saved in two, each of them when the sequence ended there; any other as a whole.
    let has_parts = decoder.checkpoint_rule().is_none_or(|rule| !rule.is_whole);
    let ends: &[usize] = if has_parts { &[5, 8] } else { &[8] };
    let (mut blocks, mut from) = (Vec::new(), 0);
    for to in ends.iter().copied() {
        done(&mut *decoder, &rows(0, &tokens, from, to))?;
        let (range, mut state) = (Pos(from as u32)..Pos(to as u32), vec![77]);
        if !decoder.save(SeqId(0), range.clone(), &mut state) {
            ensure!(state == [77] && !subject.can_cut, "{} bytes are left of a refusal", state.len() - 1);
            return Ok(Ruled::DoesNotApply);
        }
        ensure!(state.len() > 1 && state[0] == 77, "{} bytes behind those that were there", state.len() - 1);
        ensure!(held(&*decoder, 0) == to, "{} held by the source", held(&*decoder, 0));
        blocks.push((range, state.split_off(1)));
        from = to;
    }
    for seq in [1, 0] {
        ensure!(decoder.seq_remove(SeqId(seq), Pos(0)..Pos::MAX), "sequence {seq} can't be emptied");
    }
    for (range, state) in &blocks {
        ensure!(decoder.restore(SeqId(1), range.clone(), state), "its own state of {range:?} is refused");
        let end = range.end.count_before();
        ensure!(held(&*decoder, 1) == end, "{} held after {end} were restored", held(&*decoder, 1));
    }
    let logits = read(&mut *decoder, 1, &tokens, 8)?;
    same(subject, &logits, &alone(subject, &tokens)?, "behind what was restored")?;
    // Half of a state is refused, in an empty sequence and behind cells.
    for (range, state) in &blocks {
        let before = held(&*decoder, 2);
        ensure!(!decoder.restore(SeqId(2), range.clone(), &state[..state.len() / 2]), "half of {range:?} is taken");
        ensure!(held(&*decoder, 2) == before, "{} held after a refusal, before {before}", held(&*decoder, 2));
        ensure!(decoder.restore(SeqId(2), range.clone(), state), "{range:?} is refused after a refusal");
    }
    let logits = read(&mut *decoder, 2, &tokens, 8)?;
    same(subject, &logits, &alone(subject, &tokens)?, "behind what was refused once")?;
    Ok(Ruled::Kept)
}

fn restored_without_room(subject: &Subject, make: Make) -> Found {
    let mut decoder = make();
    if !decoder.keeps_blocks() || !subject.can_cut {
        return Ok(Ruled::DoesNotApply);
    }
    let Some(filled) = fill(&mut *decoder, 3)? else { return Ok(Ruled::DoesNotApply) };
    let mut state = Vec::new();
    ensure!(decoder.save(SeqId(filled[0]), Pos(0)..Pos(5), &mut state), "a part can't be saved");
    ensure!(!decoder.restore(SeqId(0), Pos(0)..Pos(5), &state), "5 tokens are restored in 3 cells");
    ensure!(held(&*decoder, 0) == 0, "{} held after a refusal", held(&*decoder, 0));
    state.clear();
    ensure!(decoder.save(SeqId(filled[0]), Pos(0)..Pos(2), &mut state), "a part can't be saved");
    ensure!(!decoder.restore(SeqId(0), Pos(0)..Pos(3), &state), "the state of 2 tokens is taken for that of 3");
    // All three cells are still free, and no more than these.
    let tokens = text(&*decoder, 1, 4);
    let logits = read(&mut *decoder, 0, &tokens[..3], 0)?;
    same(subject, &logits, &alone(subject, &tokens[..3])?, "in the cells that were left")?;
    let outcome = decoder.decode(&rows(0, &tokens, 3, 4));
    ensure!(outcome == Outcome::NoRoom, "a row without a cell is {outcome:?}");
    Ok(Ruled::Kept)
}

fn resumed(subject: &Subject, make: Make) -> Found {
    let mut decoder = make();
    if decoder.checkpoint_rule().is_none() {
        return Ok(Ruled::DoesNotApply);
    }
    let mut tokens = text(&*decoder, 3, 9);
    done(&mut *decoder, &rows(0, &tokens, 0, 5))?;
    let Some(state) = decoder.checkpoint(SeqId(0)) else { return Err("there is no checkpoint".to_owned()) };
    done(&mut *decoder, &rows(0, &tokens, 5, 8))?;
    // Another sequence goes on from there, and the source behind its own end.
    ensure!(decoder.resume(SeqId(0), SeqId(2), 5, &state), "another sequence is refused the checkpoint");
    ensure!(held(&*decoder, 2) == 5 && held(&*decoder, 0) == 8, "{:?} held", [2, 0].map(|seq| held(&*decoder, seq)));
    let mut other = tokens[..5].to_vec();
    other.extend(text(&*decoder, 10, 3));
    let logits = read(&mut *decoder, 2, &other, 5)?;
    same(subject, &logits, &alone(subject, &other)?, "another sequence behind the checkpoint")?;
    let logits = read(&mut *decoder, 0, &tokens, 8)?;
    same(subject, &logits, &alone(subject, &tokens)?, "the source")?;
    // The source goes back.
    ensure!(decoder.resume(SeqId(0), SeqId(0), 5, &state), "the sequence itself is refused its checkpoint");
    ensure!(held(&*decoder, 0) == 5, "{} held after it went back to 5", held(&*decoder, 0));
    tokens.truncate(5);
    tokens.extend(text(&*decoder, 12, 2));
    let logits = read(&mut *decoder, 0, &tokens, 5)?;
    same(subject, &logits, &alone(subject, &tokens)?, "the sequence behind its checkpoint")?;
    // Of a state that is none, nothing is left. That is a fault of the caller: the decoder refuses, or panics.
    let half = &state[..state.len() / 2];
    let Ok(is_taken) = catch_unwind(AssertUnwindSafe(|| decoder.resume(SeqId(0), SeqId(1), 5, half))) else {
        return Ok(Ruled::Kept);
    };
    ensure!(!is_taken && held(&*decoder, 1) == 0, "{} held after half a checkpoint", held(&*decoder, 1));
    Ok(Ruled::Kept)
}
