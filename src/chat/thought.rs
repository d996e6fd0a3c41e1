//! The marks around a model's thought, read from what its template makes of a thought in history; where templates leave thoughts
//! out of history, told by marks that published models have.

use serde_json::{Value, json};

use super::form::{Render, marks_in};

/// Marks around a thought, without white space around them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thought {
    pub open: String,
    pub close: String,
}

/// Marks of published models whose templates name them without rendering a thought of an earlier turn.
const KNOWN: [(&str, &str); 7] = [
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought", "<channel|>"),
    ("<thinking>", "</thinking>"),
    // Apriel: its prompt ends with the first.
    ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
];

/// Words that no template has.
const THOUGHT: &str = "qzthought";
const TEXT: &str = "qztext";

impl Thought {
    pub fn new(open: &str, close: &str) -> Thought {
        Thought { open: open.to_owned(), close: close.to_owned() }
    }

    /// `text`: the template's. `name`: what it calls an assistant's thought.
    pub fn of(text: &str, render: Render<'_>, name: &str) -> Option<Thought> {
        let known = || {
            // A template that only cuts thoughts out knows the closing mark alone.
            let pair = KNOWN.iter().find(|(_, close)| text.contains(close));
            pair.map(|(open, close)| Thought::new(open, close))
        };
        rendered(render, name).or_else(known)
    }
}

/// What stands around a thought where the template writes one.
fn rendered(render: Render<'_>, name: &str) -> Option<Thought> {
    let user = || json!({"role": "user", "content": "qzuser"});
    let call =
        json!({"id": "qzidaaaaa", "type": "function", "function": {"name": "qzname", "arguments": {"qzkey": "x"}}});
    let said = |thought: bool, calls: bool| {
        let mut turn = json!({"role": "assistant", "content": TEXT});
        if thought {
            turn[name] = json!(THOUGHT);
        }
        if calls {
            turn["tool_calls"] = json!([call]);
        }
        turn
    };
    let result = || json!({"role": "tool", "tool_call_id": "qzidaaaaa", "name": "qzname", "content": "qzresult"});
    let turns = |thought: bool| -> [Vec<Value>; 3] {
        [
            vec![user(), said(thought, false)],
            vec![user(), said(thought, false), user()],
            vec![user(), said(thought, true), result()],
        ]
    };
    let with_and_without = turns(true).into_iter().zip(turns(false));
    with_and_without.into_iter().find_map(|(with, without)| {
        let (with, without) = (render(&with, &[], false)?, render(&without, &[], false).unwrap_or_default());
        let (before, behind) = with.split_once(THOUGHT)?;
        let (before, behind) = (before.trim_end(), behind.trim_start());
        let close = *marks_in(behind).first().filter(|mark| behind.starts_with(**mark))?;
        let open = before.rfind(*marks_in(before).last()?)?;
        let open = &before[open..];
        // What stands before an answer, too, begins a turn and no thought.
        let begins_turns = without.split_once(TEXT).is_some_and(|(before, _)| before.trim_end().ends_with(open));
        let is_mark = open.len() <= 40 && !open.contains('\n') && !begins_turns;
        is_mark.then(|| Thought::new(open, close))
    })
}
