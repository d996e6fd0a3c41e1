//! Guesses in small worlds made by hand: what they gain, and when there are none.

use cllm::handoff::ReplyReader;
use cllm::types::seams::Outcome;
use cllm::types::{FinishReason, GenerateParams, Sequel, Token, TokenMask, Verdict};

use crate::fake_decoder::Pace;
use crate::shape::N_VOCAB;
use crate::small::{Small, pieces, reason, small, small_paced, small_recurrent};

impl Small {
    fn guessing(mut self) -> Small {
        self.engine = self.engine.speculating();
        self
    }

    /// Asks for 40 tokens after a prompt that is equal in each world.
    fn ask_expecting(&self, prediction: &[u32]) -> ReplyReader {
        let prediction = prediction.iter().copied().map(Token).collect();
        self.ask_for(6, 0, GenerateParams { max_tokens: 40, prediction, ..GenerateParams::default() })
    }

    /// Asks for the same 40 tokens, under a grammar.
    fn ask_allowed(&self) -> ReplyReader {
        self.ask_for(6, 0, GenerateParams { constrained: true, max_tokens: 40, ..GenerateParams::default() })
    }

    fn tried(&self) -> u64 {
        self.engine.stats().guesses.iter().map(|guesses| guesses.tried).sum()
    }

    fn accepted(&self) -> u64 {
        self.engine.stats().guesses.iter().map(|guesses| guesses.accepted).sum()
    }
}

/// The whole text of a single request, and the steps it took.
fn alone(mut world: Small, prediction: &[u32]) -> (Vec<u32>, u64) {
    let mut reader = world.ask_expecting(prediction);
    world.steps(60);
    let text = pieces(&mut reader);
    assert_eq!(reason(&mut reader), Some(FinishReason::Length));
    (text, world.engine.stats().steps)
}

#[test]
fn what_is_expected_comes_in_few_steps() {
    let (text, plain) = alone(small(None, 64), &[]);
    let (same, steps) = alone(small(None, 64).guessing(), &text);
    assert_eq!((&same, plain), (&text, 40));
    assert!(steps < 16, "{steps} steps of at most 8 rows");
}

#[test]
fn what_is_expected_wrongly_changes_nothing_and_is_soon_tried_no_more() {
    let (text, _) = alone(small(None, 64), &[]);
    let other: Vec<u32> = text.iter().map(|token| (token + 1) % 16).collect();
    let world = small(None, 64).guessing();
    let (same, steps) = alone(world, &other);
    assert_eq!((same, steps), (text, 40));
}

/// `--speculate on` has no effect for such a model. If the engine is told to guess nevertheless, the first wrong guess
/// costs a new prefill, and no further tokens are guessed.
#[test]
fn a_cache_that_cannot_cut_is_left_alone() {
    let (text, _) = alone(small(None, 64), &[]);
    let wrong_from_the_tenth = text.iter().enumerate().map(|(i, token)| if i < 9 { *token } else { (token + 1) % 16 });
    let mut world = small_recurrent().guessing();
    let mut reader = world.ask_expecting(&wrong_from_the_tenth.collect::<Vec<_>>());
    while world.tried() == world.accepted() {
        world.steps(1);
    }
    let tried = world.tried();
    world.steps(80);
    assert_eq!((pieces(&mut reader), world.tried()), (text, tried));
    assert_eq!(reason(&mut reader), Some(FinishReason::Length));
}

#[test]
fn where_there_was_no_room_the_next_step_has_no_guesses_and_no_request_gives_way() {
    let (text, _) = alone(small(Some(64), 64), &[]);
    let mut world = small(Some(64), 64).guessing();
    let mut reader = world.ask_expecting(&text);
    while world.accepted() == 0 {
        world.steps(1);
    }
    let rows = |world: &Small| world.engine.stats().rows;
    let tried = world.tried();
    world.forced.set(Some(Outcome::NoRoom));
    world.steps(1);
    assert!(world.tried() > tried, "it had guesses");
    world.forced.set(None);
    let (tried, before) = (world.tried(), rows(&world));
    world.steps(1);
    assert_eq!((world.tried() - tried, rows(&world) - before), (0, 1));
    let stats = *world.engine.stats();
    assert_eq!((stats.preemptions, stats.evictions), (0, 0));
    world.steps(60);
    assert_eq!(pieces(&mut reader), text);
    assert!(world.tried() > tried, "and then some again");
}

#[test]
fn a_step_that_reads_a_prompt_has_no_guesses() {
    let (text, _) = alone(small(None, 64), &[]);
    let mut world = small(None, 64).guessing();
    let _expected = world.ask_expecting(&text);
    while world.accepted() == 0 {
        world.steps(1);
    }
    let _long = world.ask(0, 30, 1);
    world.steps(1);
    let tried = world.tried();
    // 30 rows, at most 8 a step with the one that decodes.
    for _ in 0..3 {
        world.steps(1);
        assert_eq!(world.tried(), tried);
    }
}

#[test]
fn a_reply_without_room_for_them_has_no_guesses() {
    let (text, _) = alone(small(None, 64), &[]);
    let mut world = small(None, 1).guessing();
    let mut reader = world.ask_expecting(&text);
    let mut got = Vec::new();
    while got.len() < text.len() {
        world.steps(1);
        got.extend(pieces(&mut reader));
    }
    assert_eq!((got, world.tried()), (text, 0));
}

#[test]
fn switched_off_it_guesses_nothing_and_on_again_it_does() {
    let (text, _) = alone(small(None, 64), &[]);
    let mut world = small(None, 64).guessing();
    for (on, guesses) in [(false, false), (true, true), (true, true), (false, false)] {
        world.engine.speculate(on);
        let tried = world.tried();
        let mut reader = world.ask_expecting(&text);
        world.steps(60);
        assert_eq!((pieces(&mut reader), world.tried() > tried), (text.clone(), guesses));
    }
}

/// One of two sequences has no more guesses. It has gained time by its own, so the other's long steps still have theirs.
#[test]
fn a_sequence_that_has_gained_takes_part_in_the_others_long_steps() {
    let (text, _) = alone(small(None, 64), &[]);
    // 2 rows take 1,200 us and 5 to 8 rows 2,600.
    let pace = Pace { step_us: 1_000, row_us: 100, cell_ns: 0, restore_us: 0 };
    let mut world = small_paced(pace).guessing();
    let (_long, mut short) = (world.ask_expecting(&text), world.ask_expecting(&text[..16]));
    let mut got = 0;
    while got < 17 {
        world.steps(1);
        got += pieces(&mut short).len();
    }
    let tried = world.tried();
    world.steps(3);
    let each = (world.tried() - tried) as f64 / 3.0;
    assert!(each >= 3.0, "{each} guesses a step, where a step of 1.1 times the time has room for one");
}

fn all_tokens() -> TokenMask {
    let mut all = TokenMask::none(N_VOCAB);
    (0..N_VOCAB as u32).for_each(|id| all.set(Token(id), true));
    all
}

/// The text of a request with a grammar that allows everything, and the steps it took. The reader publishes a mask behind each
/// token, and `sequel` with the first mask.
fn allowed(mut world: Small, sequel: Option<Sequel>) -> (Vec<u32>, u64, u64) {
    let (mut reader, mut text, mut sequel) = (world.ask_allowed(), Vec::new(), sequel);
    let all = all_tokens();
    reader.publish(Verdict::Allow, &all);
    for _ in 0..100 {
        world.steps(1);
        let new = pieces(&mut reader);
        text.extend(&new);
        if !new.is_empty() && text.len() < 40 {
            reader.publish(Verdict::Allow, &all);
            if let Some(sequel) = sequel.take() {
                let mut path = reader.new_path();
                path.sequels.push(sequel);
                reader.publish_path(path);
            }
        }
    }
    assert_eq!(reason(&mut reader), Some(FinishReason::Length));
    (text, world.engine.stats().steps, world.accepted())
}

/// What a grammar forces behind a string was guessed one step after the string's end.
#[test]
fn what_is_expected_behind_a_token_is_guessed_as_soon_as_that_token_comes() {
    let (text, plain) = alone(small(None, 64), &[]);
    let at = (4..20).find(|at| !text[..*at].contains(&text[*at])).expect("a token that is new there");
    let sequel = |tokens: &[u32]| {
        let tokens = tokens.iter().copied().map(Token).collect();
        Some(Sequel { behind: Token(text[at]), tokens })
    };
    let (same, steps, accepted) = allowed(small(None, 64).guessing(), sequel(&text[at + 1..at + 5]));
    // The mask behind the first guess isn't there during the step, so one guess comes true.
    assert_eq!((&same, steps < plain, accepted > 0), (&text, true, true), "{steps} steps");
    let wrong = [(text[at + 1] + 1) % 16];
    assert_eq!(allowed(small(None, 64).guessing(), sequel(&wrong)).0, text);
    assert_eq!(allowed(small(None, 64), sequel(&text[at + 1..at + 5])), (text.clone(), plain, 0));
}

/// Each guess is right, but the mask behind the token before it comes a step late, so its row is in vain.
#[test]
fn where_masks_come_late_what_is_expected_behind_a_token_is_soon_guessed_no_more() {
    let (text, _) = alone(small(None, 64), &[]);
    let mut world = small_paced(Pace { step_us: 1_000, row_us: 200, cell_ns: 0, restore_us: 0 }).guessing();
    let (mut reader, mut same, all) = (world.ask_allowed(), Vec::new(), all_tokens());
    reader.publish(Verdict::Allow, &all);
    while same.len() < text.len() {
        world.steps(1);
        let new = pieces(&mut reader);
        same.extend(&new);
        if new.is_empty() || same.len() == text.len() {
            continue;
        }
        world.steps(1);
        reader.publish(Verdict::Allow, &all);
        let mut path = reader.new_path();
        let next = text.get(same.len() + 1).copied().map(Token);
        path.sequels.push(Sequel { behind: Token(text[same.len()]), tokens: next.into_iter().collect() });
        reader.publish_path(path);
    }
    assert_eq!((same, world.accepted()), (text, 0));
    assert!((1..13).contains(&world.tried()), "{} guesses of 38", world.tried());
}
