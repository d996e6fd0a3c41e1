//! The marks around a model's thought, read from how its template renders a thought in history. If the template leaves
//! thoughts out of history, they are recognised by the marks of published models.

use serde_json::{Value, json};

use super::form::{RenderProbe, marks_in};

/// The marks around a thought, without surrounding white space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thought {
    /// The mark before a thought; empty if the model writes none.
    pub open: String,
    /// The mark after a thought.
    pub close: String,
}

/// Marks of published models whose templates contain them without rendering a thought of an earlier turn.
const KNOWN: [(&str, &str); 7] = [
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought", "<channel|>"),
    ("<thinking>", "</thinking>"),
    // Apriel: its prompt ends with the first mark.
    ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
];

/// A text that no template contains.
const THOUGHT: &str = "qzthought";
const TEXT: &str = "qztext";

impl Thought {
    /// Marks with these texts.
    pub fn new(open: &str, close: &str) -> Thought {
        Thought { open: open.to_owned(), close: close.to_owned() }
    }

    /// Finds the marks. `text`: the template's text; `name`: the key under which it reads an assistant's thought.
    pub fn of(text: &str, render: RenderProbe<'_>, name: &str) -> Option<Thought> {
        let known = || {
            // A template that only removes thoughts contains the closing mark alone.
            let pair = KNOWN.iter().find(|(_, close)| text.contains(close));
            pair.map(|(open, close)| Thought::new(open, close))
        };
        rendered(render, name).or_else(known)
    }
}

/// The text around a thought, if the template renders one.
fn rendered(render: RenderProbe<'_>, name: &str) -> Option<Thought> {
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
        // Text that also stands before an answer begins the turn, not the thought.
        let begins_turns = without.split_once(TEXT).is_some_and(|(before, _)| before.trim_end().ends_with(open));
        let is_mark = open.len() <= 40 && !open.contains('\n') && !begins_turns;
        is_mark.then(|| Thought::new(open, close))
    })
}
