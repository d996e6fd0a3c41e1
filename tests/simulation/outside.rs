//! Small worlds with a store of blocks outside the cells.

use std::sync::{Arc, Mutex};

use cllm::engine::{PromptMemory, PromptStats};
use cllm::handoff::ReplyReader;
use cllm::types::{AccountId, Class, FinishReason, GenerateParams, Identity, Owner, Share, Tier};

use crate::dice::Dice;
use crate::ends::Reported;
use crate::small::{Small, reason, small, small_with_checkpoints};
use crate::store::{FakeStore, Seen, StoreShape};

const BLOCK: usize = 4;

/// A store that keeps everything. Blocks on the disk come after `slowness` requests for them.
fn calm(ram_blocks: usize, slowness: usize) -> StoreShape {
    let bytes = BLOCK * size_of::<u64>();
    StoreShape {
        block_tokens: BLOCK,
        ram_max: ram_blocks * bytes,
        disk_max: 1_000 * bytes,
        slowness,
        forgets: 0.0,
        damages: 0.0,
        survives: false,
    }
}

fn with_store(cells: Option<u32>, shape: StoreShape) -> Small {
    small(cells, 64).storing(shape)
}

impl Small {
    fn storing(self, shape: StoreShape) -> Small {
        let store = FakeStore::new(shape, Dice::new(3), Arc::new(Mutex::new(Seen::default())));
        let memory = PromptMemory { store: Box::new(store), identity: Identity::default(), block_tokens: BLOCK };
        self.remembering(memory)
    }
}

fn stats(world: &Small) -> PromptStats {
    *world.engine.prompt_stats().expect("it has a store")
}

fn ended(readers: &mut [ReplyReader]) -> bool {
    readers.iter_mut().all(|reader| reason(reader) == Some(FinishReason::Length))
}

/// Sends a prompt of 40 tokens of `space`, and lets three other requests take its cells.
fn asked_and_evicted(world: &mut Small, space: Owner) {
    let asked = world.ask_for(40, 0, GenerateParams { max_tokens: 2, space, ..GenerateParams::default() });
    world.steps(40);
    assert!(ended(&mut [asked]));
    let mut others = [world.ask(0, 5, 3), world.ask(0, 6, 3), world.ask(0, 7, 3)];
    world.steps(40);
    assert!(ended(&mut others));
}

#[test]
fn what_the_cells_lost_comes_from_outside() {
    for (cells, ram, tier) in [(None, 100, Tier::Ram), (Some(60), 100, Tier::Ram), (Some(60), 0, Tier::Disk)] {
        let mut world = with_store(cells, calm(ram, 3));
        asked_and_evicted(&mut world, Owner(0));
        let before = world.engine.stats().prompt_tokens_decoded;
        let again = world.ask(40, 0, 2);
        world.steps(40);
        assert!(ended(&mut [again]));
        let restored = stats(&world).restored[tier as usize];
        assert_eq!((restored.requests, restored.tokens), (1, 36), "{tier:?}: nine blocks; the last token must be read");
        assert_eq!(world.engine.stats().prompt_tokens_decoded - before, 4, "{tier:?}");
        // The decoder takes 20 us for each block. Waiting takes no time here, which counts as 1 ns.
        let rates = stats(&world).rates;
        let waited_ns = if tier == Tier::Disk { 1 } else { 0 };
        assert_eq!((rates.save_ns, rates.restore_ns, rates.disk_ns), (20_000, 20_000, waited_ns), "{tier:?}");
    }
}

/// The end of an answer was sent before its last step, and what was restored for it, were counted.
#[test]
fn all_is_counted_before_the_end_is_sent() {
    let mut world = with_store(None, calm(100, 0));
    asked_and_evicted(&mut world, Owner(0));
    let reader = world.ask(40, 0, 2);
    world.ends.watched.borrow_mut().reader = Some(reader);
    world.steps(40);
    let counts = |reported: Option<Reported>| {
        let Reported { steps, stats, moved } = reported.expect("a report");
        let tokens = (stats.prompt_tokens_decoded, stats.prompt_tokens_cached, stats.generated_tokens);
        (steps, stats.steps, stats.rows, tokens, moved.expect("a store").restored)
    };
    let watched = world.ends.watched.borrow();
    assert_eq!(counts(watched.before), counts(watched.after));
    assert_eq!(watched.after.map(|after| after.steps), watched.after.map(|after| after.stats.steps));
}

#[test]
fn a_request_that_takes_anothers_slot_begins_with_its_blocks() {
    let mut world = with_store(None, calm(100, 0));
    asked_and_evicted(&mut world, Owner(0));
    let share = Share { account: AccountId(1), class: Class::Batch, ..Share::default() };
    let batch = GenerateParams { max_tokens: 50, share, ..GenerateParams::default() };
    let _batch = [0; 3].map(|_| world.ask_for(0, 4, batch.clone()));
    world.steps(6);
    let mut again = world.ask(40, 0, 2);
    let mut rounds = 0..40;
    while reason(&mut again).is_none() && rounds.next().is_some() {
        world.steps(1);
    }
    let restored = stats(&world).restored[Tier::Ram as usize];
    assert_eq!((world.engine.stats().gave_way, restored.requests, restored.tokens), (1, 1, 36));
}

/// The state at the end of a prompt is in the store. It is found in a prompt that goes on for many checkpoints.
#[test]
fn a_state_far_before_the_end_of_a_prompt_is_found() {
    let mut world = small_with_checkpoints(4).storing(calm(100, 0));
    let short = world.ask(6, 0, 1);
    world.steps(20);
    assert!(ended(&mut [short]));
    let mut others = [world.ask(0, 5, 3), world.ask(0, 6, 3), world.ask(0, 7, 3)];
    world.steps(40);
    assert!(ended(&mut others));
    let long = world.ask(6, 44, 2);
    world.steps(40);
    assert!(ended(&mut [long]));
    assert_eq!(stats(&world).restored[Tier::Ram as usize].tokens, 6, "{:?}", stats(&world));
}

#[test]
fn what_cells_hold_of_a_beginning_is_not_restored_again() {
    let mut world = with_store(None, calm(100, 0));
    asked_and_evicted(&mut world, Owner(0));
    let short = world.ask(16, 0, 1);
    world.steps(20);
    assert!(ended(&mut [short]));
    let (restored, decoded) =
        (stats(&world).restored[Tier::Ram as usize].tokens, world.engine.stats().prompt_tokens_decoded);
    let long = world.ask(40, 0, 2);
    world.steps(40);
    assert!(ended(&mut [long]));
    assert_eq!(stats(&world).restored[Tier::Ram as usize].tokens - restored, 20, "behind the 16 tokens in cells");
    assert_eq!(world.engine.stats().prompt_tokens_decoded - decoded, 4);
}

#[test]
fn what_one_key_left_outside_is_no_other_keys() {
    let mut world = with_store(None, calm(100, 0));
    asked_and_evicted(&mut world, Owner(1));
    let before = world.engine.stats().prompt_tokens_decoded;
    let params = |space| GenerateParams { max_tokens: 2, space, ..GenerateParams::default() };
    let other = world.ask_for(40, 0, params(Owner(2)));
    world.steps(40);
    assert!(ended(&mut [other]));
    assert_eq!(world.engine.stats().prompt_tokens_decoded - before, 40);
    assert_eq!(stats(&world).restored, PromptStats::default().restored);
    let own = world.ask_for(40, 0, params(Owner(1)));
    world.steps(40);
    assert!(ended(&mut [own]));
    assert_eq!(stats(&world).restored[Tier::Ram as usize].tokens, 36);
}

/// Both requests have the beginning; it is restored once, and both continue from the same cells.
#[test]
fn a_request_waits_for_another_that_brings_its_beginning() {
    let mut world = with_store(Some(120), calm(0, 6));
    asked_and_evicted(&mut world, Owner(0));
    let before = world.engine.stats().prompt_tokens_decoded;
    let mut both = [world.ask(40, 1, 2), world.ask(40, 2, 2)];
    world.steps(60);
    assert!(ended(&mut both));
    assert_eq!(stats(&world).restored[Tier::Disk as usize].tokens, 40);
    let decoded = world.engine.stats().prompt_tokens_decoded - before;
    assert_eq!(decoded, 1 + 2, "the beginning was read by none");
}

/// A request that decodes gets a step between any two attempts to move blocks, also while blocks come slowly.
#[test]
fn a_request_that_decodes_goes_on_while_blocks_come() {
    let mut world = with_store(None, calm(0, 30));
    asked_and_evicted(&mut world, Owner(0));
    let mut decodes = world.ask(0, 3, 60);
    world.steps(5);
    let steps = world.engine.stats().steps;
    let _restores = world.ask(40, 0, 2);
    world.steps(20);
    assert_eq!(stats(&world).restoring, 1, "its blocks are slow");
    assert_eq!(world.engine.stats().steps - steps, 20, "each round had a step");
    world.steps(60);
    assert_eq!(reason(&mut decodes), Some(FinishReason::Length));
}

/// Behind many cells the first rows make a step long. A request that decodes doesn't wait for them and for a block in the same round.
#[test]
fn the_rows_behind_restored_blocks_come_a_round_after_the_last_block() {
    let mut world = with_store(None, calm(100, 0));
    asked_and_evicted(&mut world, Owner(0));
    let _decodes = world.ask(0, 3, 60);
    world.steps(5);
    let again = world.ask(40, 0, 2);
    let counts =
        |world: &Small| (stats(world).restored[Tier::Ram as usize].tokens, world.engine.stats().prompt_tokens_decoded);
    let before = counts(&world);
    for _ in 0..30 {
        let (restored, decoded) = counts(&world);
        world.steps(1);
        let now = counts(&world);
        assert!(now.0 == restored || now.1 == decoded, "{restored} and {decoded}, then {now:?}");
    }
    assert!(ended(&mut [again]));
    let now = counts(&world);
    assert_eq!((now.0 - before.0, now.1 - before.1), (36, 4));
}

/// If blocks outlive the process, a request is saved while it runs, otherwise after it has ended.
#[test]
fn running_requests_are_saved_where_blocks_outlive_the_process() {
    for survives in [false, true] {
        let mut world = with_store(None, StoreShape { survives, ..calm(100, 0) });
        let _runs = world.ask(20, 0, 30);
        world.steps(12);
        assert_eq!(stats(&world).saved_blocks > 0, survives);
        world.steps(60);
        assert!(stats(&world).saved_blocks >= 48 / BLOCK as u64, "{:?}", stats(&world));
    }
}
