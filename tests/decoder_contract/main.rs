//! The contract of `Decoder` (`src/types/seams.rs`) as a suite of rules, run over every decoder: llama.cpp's in all its
//! layouts of the cache, with our kernels and with ggml's, also over models that can't cut their cache; the fake one of
//! the simulation; and the null one. A second test breaks each rule on each decoder and checks that the suite notices.

use std::sync::Mutex;

mod breaks;
mod rules;
mod subjects;

#[path = "../support/dice.rs"]
mod dice;
#[path = "../support/fake_decoder.rs"]
#[allow(dead_code)]
mod fake_decoder;

use breaks::{Broken, FAULTS};
use rules::{RULES, Ruled};
use subjects::subjects;

/// The switch to ggml's kernels applies to the whole process, so tests run one after the other.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn every_decoder_keeps_every_rule() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for subject in subjects() {
        let mut kept = 0;
        for rule in RULES {
            match (rule.check)(&subject, &|| subject.make()) {
                Ok(Ruled::Kept) => kept += 1,
                Ok(Ruled::DoesNotApply) => println!("{}: {}: does not apply", subject.name, rule.name),
                Err(how) => panic!("{}: {}: {how}", subject.name, rule.name),
            }
        }
        println!("{}: {kept} of {} rules", subject.name, RULES.len());
    }
}

#[test]
fn a_broken_rule_is_seen_on_every_decoder() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for subject in subjects() {
        let mut seen = 0;
        for rule in RULES {
            let fault = FAULTS.iter().find(|fault| fault.breaks == rule.name).expect("each rule has a fault");
            let applies = matches!((rule.check)(&subject, &|| subject.make()), Ok(Ruled::Kept));
            let found = (rule.check)(&subject, &|| Box::new(Broken::new(subject.make(), fault.kind)));
            match found {
                Err(how) if applies => {
                    seen += 1;
                    println!("{}: {:?}: {how}", subject.name, fault.kind);
                }
                _ => assert!(!applies, "{}: {:?} goes unseen", subject.name, fault.kind),
            }
        }
        assert!(seen >= 10, "{}: only {seen}", subject.name);
    }
    assert_eq!(FAULTS.len(), RULES.len(), "one fault a rule");
}
