//! Fair shares in worlds made by hand: how long one account waits for another, and what each gets.

use cllm::types::limits::BATCH_SHARE_PERCENT;
use cllm::types::{AccountId, Class, Share, Token, Weight};

use super::{Fair, Order, Seen, run};
use crate::dice::Dice;

fn share(account: u64, weight: u32) -> Share {
    let weight = Weight::new(weight).expect("within bounds");
    Share { account: AccountId(account), weight, ..Share::default() }
}

/// A prompt is charged when it is admitted. Its account gets back what wasn't read of it when the client went away, and so the next turns.
#[test]
fn what_a_cancelled_prompt_was_charged_in_advance_is_given_back() {
    let shares = vec![share(1, 1), share(2, 1)];
    let mut world = Fair::of_size(Dice::new(5), 1, (8, 8), shares, Order::Fair);
    let long = world.prompt(0, 80..=80);
    world.ask(0, 0, long, 1);
    world.step();
    for account in [0, 1] {
        for _ in 0..5 {
            let short = world.prompt(0, 4..=4);
            world.ask(account, 0, short, 1);
        }
    }
    world.step();
    // The slot is empty in the round in which its request ends, which `step` would refuse.
    world.asks[0].reader = None;
    (0..14).for_each(|_| _ = world.engine.step());
    let order: Vec<u64> = world.watch.0.borrow().let_in.iter().map(|(_, id)| *id).collect();
    assert_eq!(order[..6], [0, 1, 2, 3, 4, 5], "{order:?}");
}

/// Rounds until a request of the second account has its first token, after `first` requests of the first account have
/// arrived.
fn rounds_until_served(first: usize, order: Order) -> u64 {
    let mut world = Fair::new(7, 8, vec![share(1, 1), share(2, 1)], order);
    for _ in 0..first {
        let prompt = world.prompt(0, 4..=4);
        let max_tokens = world.dice.within(20..=40);
        world.ask(0, 0, prompt, max_tokens);
    }
    // The requests in the slots end at different times.
    (0..60).for_each(|_| {
        world.step();
        world.read();
    });
    let prompt = world.prompt(0, 4..=4);
    world.ask(1, 0, prompt, 40);
    let (id, sent) = (world.asks.len() - 1, world.rounds);
    while !world.asks[id].runs {
        world.step();
        world.read();
    }
    world.rounds - sent
}

/// 100 requests of one key and then 1 of another, 8 slots. The longest request has 4 tokens of prompt and 40 of answer.
#[test]
fn one_request_behind_a_hundred_of_another_account() {
    let alone = 41.0;
    let fair = rounds_until_served(100, Order::Fair);
    let in_order = rounds_until_served(100, Order::AsTheyCome);
    println!("behind 100 requests: {fair} steps in fair turns, {in_order} as they come, one request takes {alone}");
    assert!(fair as f64 <= 1.2 * alone, "{fair} steps");
    assert!(in_order as f64 > 4.0 * alone, "in order of arrival it would wait {in_order} steps");
}

/// Without fairness the drift exceeds the bound, so the check can fail.
#[test]
fn as_requests_come_the_bound_is_broken() {
    let mut seen = Seen::default();
    (0..300).for_each(|seed| run(seed, Order::AsTheyCome, &mut seen));
    println!("the largest drift as requests come: {:.0} % of the bound", seen.drift_max * 100.0);
    println!("of the classes: {:.0} %", seen.class_drift_max * 100.0);
    assert!(seen.drift_max > 1.0 && seen.class_drift_max > 1.0);
}

/// An account of class batch and an interactive one, on 8 slots. A step has 24 rows, of which 16 are of prompts while others decode.
fn beside_batch(order: Order) -> Fair {
    let batch = Share { class: Class::Batch, ..share(1, 1) };
    Fair::of_size(Dice::new(5), 8, (24, 16), vec![batch, share(2, 1)], order)
}

/// Beside endless interactive requests batch gets its share and no more.
#[test]
fn batch_gives_way_and_keeps_its_part() {
    let mut world = beside_batch(Order::Fair);
    for _ in 0..500 {
        let prompt = world.prompt(0, 8..=8);
        world.ask(0, 0, prompt, 60);
    }
    (0..40).for_each(|_| _ = world.step());
    let before = [world.work(0), world.work(1)];
    for _ in 0..3_000 {
        world.read();
        while world.open(1) < 12 {
            let prompt = world.prompt(0, 8..=8);
            world.ask(1, 0, prompt, 20);
        }
        world.step();
    }
    let gave_way = world.engine.stats().gave_way;
    let [batch, interactive] = [0, 1].map(|account| (world.work(account) - before[account]) as f64);
    let part = batch / (batch + interactive) * 100.0;
    println!("batch got {part:.1} % of the work; {gave_way} times a request of it gave way");
    assert!(gave_way >= 7, "{gave_way}");
    assert!((part - f64::from(BATCH_SHARE_PERCENT)).abs() < 1.0, "{part}");
}

/// Steps until the first token of each of 40 interactive requests, one after the other, with 500 batch requests beside them or none.
fn steps_to_first_token(batch: usize, order: Order) -> Vec<u64> {
    let mut world = beside_batch(order);
    for _ in 0..batch {
        let prompt = world.prompt(0, 20..=20);
        world.ask(0, 0, prompt, 60);
    }
    (0..70).for_each(|_| {
        world.step();
        world.read();
    });
    let mut taken = Vec::new();
    for i in 0..40 {
        (0..i % 7).for_each(|_| {
            world.step();
            world.read();
        });
        let prompt = world.prompt(0, 60..=60);
        world.ask(1, 0, prompt, 8);
        let (id, sent) = (world.asks.len() - 1, world.rounds);
        while world.asks[id].reader.is_some() {
            world.step();
            world.read();
        }
        taken.push(world.asks[id].first_token.expect("it was answered") - sent);
    }
    taken.sort_unstable();
    taken
}

/// An interactive stream beside 500 batch requests: its time to the first token, in steps.
#[test]
fn a_stream_beside_a_batch_has_its_first_token_as_soon_as_alone() {
    let (alone, beside) = (steps_to_first_token(0, Order::Fair), steps_to_first_token(500, Order::Fair));
    let in_order = steps_to_first_token(500, Order::AsTheyCome);
    let [alone, beside, in_order] = [alone, beside, in_order].map(|steps| (steps[20], steps[39]));
    println!("steps to the first token, median and most: {alone:?} alone, {beside:?} beside a batch of 500");
    println!("{in_order:?} as they come: the first waits for the whole batch");
    assert!(2 * beside.0 <= 3 * alone.0, "{beside:?} beside {alone:?}");
    // The rest of the prompt of a batch request that has just begun may be prefilled first.
    assert!(beside.1 <= 2 * alone.1 + 2, "{beside:?} beside {alone:?}");
    assert!(in_order.1 > 100 * alone.0);
}

/// Batch requests with little room and many rivals progress between two displacements.
#[test]
fn a_batch_request_that_gives_way_again_and_again_comes_to_its_end() {
    let batch = Share { class: Class::Batch, ..share(1, 1) };
    let mut world = Fair::new(11, 1, vec![batch, share(2, 1)], Order::Fair);
    let prompt = world.prompt(0, 24..=24);
    world.ask(0, 0, prompt, 40);
    world.step();
    while world.asks[0].reader.is_some() {
        // A rival arrives as soon as the batch request has its slot back.
        if world.open(1) == 0 && world.asks[0].runs {
            let prompt = world.prompt(0, 1..=1);
            world.ask(1, 0, prompt, 1);
        }
        world.step();
        world.read();
    }
    println!("it gave way {} times in {} rounds", world.gave_way_max, world.rounds);
    assert!((10..=64).contains(&world.gave_way_max), "{}", world.gave_way_max);
}

/// Two accounts whose prompts have a beginning each, on one slot without a sequence to spare, so that one beginning at a time is in the
/// cache: requests of one account follow each other within the credit.
#[test]
fn a_ready_beginning_is_used_before_another_takes_its_place() {
    let mut world = Fair::of_size(Dice::new(3), 1, (64, 64), vec![share(1, 1), share(2, 1)], Order::Fair);
    for i in 0..60 {
        for account in [0, 1] {
            let beginning = (0..40).map(|at| Token((at % 7) as u32 + 8 * account));
            let prompt = beginning.chain([Token(16 + i % 16)]).collect();
            world.ask(account as usize, 0, prompt, 4);
        }
    }
    while world.asks.iter().any(|ask| ask.reader.is_some()) {
        world.step();
        world.read();
    }
    let let_in = &world.watch.0.borrow().let_in;
    let account = |(_, id): &(u64, u64)| world.asks[*id as usize].account;
    let changes = let_in.windows(2).filter(|two| account(&two[0]) != account(&two[1])).count();
    println!("of 120 requests on one slot, {changes} were of another account than the one before");
    assert!((2..=20).contains(&changes), "{changes}");
}

#[test]
fn work_follows_the_weights() {
    let weights = [1, 1, 2, 4];
    let shares = weights.iter().enumerate().map(|(i, weight)| share(i as u64, *weight)).collect();
    let mut world = Fair::new(3, 8, shares, Order::Fair);
    while world.rounds < 6_000 {
        for account in 0..weights.len() {
            while world.open(account) < 16 {
                let prompt = world.prompt(0, 1..=16);
                let max_tokens = world.dice.within(1..=32);
                world.ask(account, 0, prompt, max_tokens);
            }
        }
        world.step();
        world.read();
    }
    let work: Vec<u64> = (0..weights.len()).map(|account| world.work(account)).collect();
    let (all, parts) = (work.iter().sum::<u64>() as f64, weights.iter().sum::<u32>());
    println!("weights {weights:?}: work {work:?} in {} steps", world.rounds);
    for (work, weight) in work.iter().zip(weights) {
        let off = *work as f64 / all / (f64::from(weight) / f64::from(parts)) - 1.0;
        println!("weight {weight}: {:+.2} % of its share", off * 100.0);
        assert!(off.abs() <= 0.05, "weight {weight}: {off}");
    }
}
