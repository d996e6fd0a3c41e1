//! Batch requests that give up their slots to interactive ones, in small worlds made by hand: in each phase, and with
//! each feature of a request. Each text must be the one that the request gets without rivals.

use cllm::handoff::{ReplyReader, Stage};
use cllm::types::{AccountId, Class, FinishReason, GenerateParams, Share, TokenMask, Verdict};

use crate::shape::N_VOCAB;
use crate::small::{Small, pieces, reason, small};

fn batch(max_tokens: usize) -> GenerateParams {
    let share = Share { account: AccountId(1), class: Class::Batch, ..Share::default() };
    GenerateParams { max_tokens, share, ..GenerateParams::default() }
}

fn interactive(max_tokens: usize) -> GenerateParams {
    let share = Share { account: AccountId(2), ..Share::default() };
    GenerateParams { max_tokens, share, ..GenerateParams::default() }
}

/// A request whose reply is read, and its text so far.
struct Asked {
    reader: ReplyReader,
    text: Vec<u32>,
    ended: Option<FinishReason>,
    /// Whether it is constrained. Its mask then allows all tokens.
    allows: bool,
    owes: bool,
}

impl Small {
    fn asked(&self, shared: u32, own: u32, params: GenerateParams) -> Asked {
        let allows = params.constrained;
        let reader = self.ask_for(shared, own, params);
        Asked { reader, text: Vec::new(), ended: None, allows, owes: allows }
    }

    /// Makes steps until all requests are answered.
    fn answer(&mut self, asked: &mut [Asked]) {
        for _ in 0..2_000 {
            asked.iter_mut().for_each(Asked::read);
            if asked.iter().all(|asked| asked.ended.is_some()) {
                return;
            }
            self.steps(1);
        }
        panic!("no end");
    }

    fn gave_way(&self) -> u64 {
        self.engine.stats().gave_way
    }
}

impl Asked {
    fn read(&mut self) {
        let new = pieces(&mut self.reader);
        self.owes |= self.allows && !new.is_empty();
        self.text.extend(new);
        if std::mem::take(&mut self.owes) && self.ended.is_none() {
            let mut all = TokenMask::none(N_VOCAB);
            (0..N_VOCAB as u32).for_each(|token| all.set(cllm::types::Token(token), true));
            self.reader.publish(Verdict::Allow, &all);
        }
        self.ended = self.ended.or_else(|| reason(&mut self.reader));
    }
}

/// Three batch requests with prompts of `shared` and `own` tokens, an interactive request `steps` steps later if
/// `rival`, and their texts.
fn texts(
    world: &mut Small,
    (shared, own): (u32, u32),
    params: &GenerateParams,
    steps: usize,
    rival: bool,
) -> Vec<Vec<u32>> {
    let mut asked: Vec<Asked> = (0..3).map(|_| world.asked(shared, own, params.clone())).collect();
    // Constrained requests get their first masks only after the rival has arrived.
    world.steps(steps);
    if rival {
        asked.push(world.asked(0, 2, interactive(3)));
        world.steps(1);
        assert_eq!((world.gave_way(), world.engine.stats().running), (1, 3), "at once");
    }
    world.answer(&mut asked);
    assert!(asked.iter().all(|asked| asked.ended == Some(FinishReason::Length)));
    asked.into_iter().take(3).map(|asked| asked.text).collect()
}

fn same_text(shape: (u32, u32), params: &GenerateParams, steps: usize) {
    for cells in [None, Some(192)] {
        let alone = texts(&mut small(cells, 64), shape, params, steps, false);
        let beside = texts(&mut small(cells, 64), shape, params, steps, true);
        assert_eq!(alone, beside);
    }
}

#[test]
fn while_it_generates() {
    same_text((0, 4), &batch(20), 8);
}

#[test]
fn while_its_prompt_is_read() {
    same_text((0, 40), &batch(8), 2);
}

#[test]
fn before_any_of_its_prompt_is_read() {
    same_text((0, 40), &batch(8), 1);
}

#[test]
fn while_it_waits_for_a_mask() {
    let params = GenerateParams { constrained: true, ..batch(6) };
    let mut world = small(None, 64);
    let alone = texts(&mut world, (0, 2), &params, 4, false);
    assert!(world.engine.stats().masks_awaited >= 3, "all three waited");
    assert_eq!(texts(&mut small(None, 64), (0, 2), &params, 4, true), alone);
}

#[test]
fn while_it_waits_for_the_beginning_that_another_reads() {
    let mut world = small(None, 64);
    texts(&mut world, (48, 4), &batch(6), 2, true);
    assert!(world.engine.stats().prefixes_awaited >= 2, "two followers");
    same_text((48, 4), &batch(6), 2);
}

/// A leader is displaced whose follower is interactive. The rival is interactive, too, and has the leader's beginning
/// or another.
#[test]
fn while_another_waits_for_its_beginning() {
    for rival_shares in [0, 48] {
        let run = |rival: bool| {
            let mut world = small(None, 64);
            let mut asked = vec![world.asked(0, 2, interactive(30)), world.asked(48, 4, batch(6))];
            world.steps(1);
            asked.push(world.asked(48, 3, interactive(6)));
            world.steps(1);
            if rival {
                asked.push(world.asked(rival_shares, 2, interactive(6)));
                world.steps(1);
                assert_eq!(world.gave_way(), 1);
            }
            world.answer(&mut asked);
            asked.into_iter().take(3).map(|asked| asked.text).collect::<Vec<_>>()
        };
        assert_eq!(run(true), run(false));
    }
}

#[test]
fn while_guesses_are_checked() {
    let expecting = |prediction: &[u32]| {
        let prediction = prediction.iter().copied().map(cllm::types::Token).collect();
        GenerateParams { prediction, ..batch(30) }
    };
    let alone = texts(&mut small(Some(192), 64), (0, 4), &expecting(&[]), 3, false);
    let mut world = small(Some(192), 64);
    world.engine = world.engine.speculating();
    // The guesses are for the youngest request, which is the one to be displaced.
    let beside = texts(&mut world, (0, 4), &expecting(&alone[2]), 3, true);
    assert_eq!(alone, beside);
    assert!(world.engine.stats().guesses.iter().any(|guesses| guesses.accepted > 0));
}

/// Its client reads nothing, so no more tokens can be chosen for it.
#[test]
fn while_its_client_does_not_read() {
    let mut world = small(None, 1);
    let mut asked: Vec<Asked> = (0..3).map(|_| world.asked(0, 4, batch(8))).collect();
    world.steps(6);
    asked.push(world.asked(0, 2, interactive(2)));
    world.steps(1);
    assert_eq!(world.gave_way(), 1);
    world.answer(&mut asked);
    assert!(asked.iter().all(|asked| asked.text.len() == if asked.text.len() == 2 { 2 } else { 8 }));
}

#[test]
fn one_that_gave_way_hears_when_its_client_leaves_and_when_the_server_drains() {
    let mut world = small(None, 64);
    let mut asked: Vec<Asked> = (0..3).map(|_| world.asked(0, 4, batch(20))).collect();
    world.steps(6);
    asked.push(world.asked(0, 2, interactive(12)));
    world.steps(2);
    assert_eq!(world.gave_way(), 1);
    asked[2].reader.cancel();
    world.steps(1);
    asked[2].read();
    assert_eq!((asked[2].ended, asked[2].text.is_empty()), (Some(FinishReason::Cancelled), false));
    // Another request is displaced, and is finished while the server drains.
    asked.push(world.asked(0, 2, interactive(12)));
    world.steps(2);
    assert_eq!(world.gave_way(), 2);
    world.shutdown.advance(Stage::Draining);
    assert!(world.engine.run());
    asked.iter_mut().for_each(Asked::read);
    assert_eq!(asked.iter().filter(|asked| asked.ended == Some(FinishReason::Length)).count(), 4);
}

/// A slot is free but cells aren't: batch requests give up their cells, if that is enough.
#[test]
fn for_want_of_cells_batch_gives_way_and_never_in_vain() {
    let mut world = small(Some(60), 64);
    let mut asked = vec![world.asked(0, 4, batch(23)), world.asked(0, 4, batch(23))];
    world.steps(6);
    assert_eq!(world.engine.stats().running, 2, "26 cells each");
    asked.push(world.asked(0, 4, interactive(17)));
    world.steps(1);
    assert_eq!((world.gave_way(), world.engine.stats().running), (1, 2), "20 beside 26");
    world.answer(&mut asked);

    let mut world = small(Some(60), 64);
    let mut asked = vec![world.asked(0, 4, interactive(30)), world.asked(0, 4, batch(17))];
    world.steps(6);
    asked.push(world.asked(0, 4, interactive(30)));
    world.steps(3);
    assert_eq!(
        (world.gave_way(), world.engine.stats().running),
        (0, 2),
        "33 and 33 of 60: without batch it fits no better"
    );
    world.answer(&mut asked);
}

/// A batch request that was admitted as batch's share, while interactive requests wait, isn't displaced.
#[test]
fn one_that_is_batchs_part_stays() {
    let mut world = small(None, 64);
    let mut asked: Vec<Asked> = (0..6).map(|_| world.asked(0, 2, interactive(12))).collect();
    world.steps(1);
    asked.push(world.asked(0, 2, batch(12)));
    world.steps(60);
    asked.iter_mut().for_each(Asked::read);
    assert_eq!(world.gave_way(), 0);
    world.answer(&mut asked);
}
