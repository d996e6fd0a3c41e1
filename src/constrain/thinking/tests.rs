//! Thoughts before a constrained answer and within one: where they begin, and where a budget closes them.

use serde_json::json;

use super::super::tests::{made, parts};
use super::super::{Thinking, Tool, ToolChoice};
use super::*;
use crate::chat::CallStyle;

const CLOSING: &str = " Enough.";

/// The text as one token for each character.
fn letters(text: &str) -> Vec<Token> {
    let letter = |c: char| parts().0.encode(&c.to_string(), false, false).expect("a letter");
    text.chars().flat_map(letter).collect()
}

fn tokens(text: &str) -> Vec<Token> {
    parts().0.encode(text, false, false).expect("short text")
}

fn guide(answer: Constraint, thinking: Thinking) -> Guide {
    parts().1.guide(Some(answer), Some(thinking)).expect("a vocabulary with an end").expect("a guide")
}

fn marks(open: &str, close: &str) -> ThoughtMarks {
    ThoughtMarks { open: open.into(), close: close.into(), ..ThoughtMarks::default() }
}

/// Follows `text` as far as it is allowed, and returns the number of tokens left.
fn follow(guide: &mut Guide, text: &[Token]) -> usize {
    for (at, token) in text.iter().enumerate() {
        if guide.verdict() != Verdict::Allow || !guide.mask().allows(*token) {
            return text.len() - at;
        }
        guide.take(*token);
    }
    0
}

/// The letters that must come, up to where there is a choice.
fn forced(guide: &mut Guide) -> String {
    let mut text = Vec::new();
    loop {
        assert_eq!(guide.verdict(), Verdict::Allow);
        let ids = (0..parts().0.n_vocab() as u32).map(Token);
        let allowed: Vec<Token> = ids.filter(|token| guide.mask().allows(*token)).take(2).collect();
        let [only] = allowed.as_slice() else { return String::from_utf8(text).expect("text") };
        text.extend_from_slice(parts().0.table().bytes(*only));
        guide.take(*only);
    }
}

/// The tokens of a text depend on what follows it: a mark that is plain text may be made of other tokens than the mark
/// alone.
#[test]
fn a_mark_may_come_in_any_tokens() {
    let thinking = || Thinking {
        marks: marks("<muse>", "</muse>"),
        open: tokens("<muse>"),
        closing: tokens(&format!("{CLOSING}</muse>")),
        budget: Some(12),
        ..Thinking::default()
    };
    assert!(thinking().open.len() > 1 && thinking().open != letters("<muse>"));
    let begun = || guide(made(|all| all.regex("[a-z<> ]*!", "regex")), thinking());
    for mark in [letters("<muse>"), tokens("<muse>"), letters("<mu").into_iter().chain(tokens("se>")).collect()] {
        let mut guide = begun();
        // The answer allows no capitals, so it has not begun.
        assert_eq!(follow(&mut guide, &[mark.clone(), letters("A1")].concat()), 0, "{mark:?}");
        assert_eq!(follow(&mut guide, &letters("</muse>so <muse>!")), 0, "{mark:?}");
        assert_eq!(guide.verdict(), Verdict::Complete);
        // With a budget.
        let mut guide = begun();
        assert_eq!(follow(&mut guide, &[mark, letters("ABCDEFGHIJKL")].concat()), 0);
        assert_eq!(forced(&mut guide), format!("{CLOSING}</muse>"));
    }
    // A text that begins like the mark may be an answer.
    let mut guide = begun();
    assert_eq!(follow(&mut guide, &letters("<mus!")), 0);
    assert_eq!(guide.verdict(), Verdict::Complete);
    let mut guide = begun();
    assert_eq!(follow(&mut guide, &letters("<musA")), 1);
}

/// GPT-OSS may think several times before it calls a tool: the budget is that of all its thoughts together.
#[test]
fn a_budget_is_that_of_all_thoughts_in_channels() {
    const OPEN: &str = "<|channel|>analysis<|message|>";
    const NEXT: &str = "<|end|><|start|>assistant";
    // Of the marks, the last letter of the first counts, and all but the last letter of the second.
    const BUDGET: usize = 22;
    let tools = [Tool { name: "now".into(), parameters: json!({"additionalProperties": false}) }];
    let begun = || {
        let calls =
            |choice| made(|all| Ok(all.tool_calls(CallStyle::Harmony, &tools, choice, true)?.0.expect("tools")));
        let thinking = Thinking {
            marks: marks("", "<|channel|>final<|message|>"),
            closing: letters(&format!("{CLOSING}<|end|>")),
            budget: Some(BUDGET),
            within: Some(ThoughtMarks { again: true, ..marks(OPEN, "<|end|>") }),
            ..Thinking::default()
        };
        guide(calls(&ToolChoice::Auto), thinking)
    };
    let call = "<|channel|>commentary to=functions.now <|constrain|>json<|message|>{}";
    // The thought ends within the budget.
    let mut guide = begun();
    assert_eq!(follow(&mut guide, &letters(&format!("{OPEN}So.{NEXT}{OPEN}And.{NEXT}{call}"))), 0);
    assert_eq!(guide.verdict(), Verdict::Complete);
    // One letter too many, in the first thought or in the second. A message to the user between them isn't counted.
    let aside = format!("<|channel|>commentary<|message|>I look it up.{NEXT}");
    for thoughts in [
        format!("{OPEN}Well, how is that so?"),
        format!("{OPEN}So.{NEXT}{aside}{OPEN}And then so"),
        format!("{aside}{OPEN}Well, how is that so?"),
    ] {
        let mut guide = begun();
        assert_eq!(follow(&mut guide, &letters(&thoughts)), 0, "{thoughts}");
        let closed = forced(&mut guide);
        assert!(closed.starts_with(&format!("{CLOSING}<|end|>")), "{thoughts}{closed}");
        // No further thought may have a letter.
        let rest = closed[CLOSING.len()..].to_owned();
        let next = NEXT.strip_prefix(&rest).unwrap_or_default();
        assert_eq!(follow(&mut guide, &letters(&format!("{next}{OPEN}"))), 0, "{thoughts}{closed}");
        assert!(forced(&mut guide).starts_with(CLOSING), "{thoughts}");
    }
}
