//! Two answers, and what of one differs from the other.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

/// In which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only llama-server's answer has it.
    Absent,
    /// Only ours has it.
    Added,
    /// A whole number for llama-server is a whole number here, and so on. A fraction there may be a whole number here.
    Type,
    Value,
}

/// One field.
#[derive(Debug)]
pub struct Difference {
    pub kind: Kind,
    /// Names with points between; an array's entries are `[]`.
    pub path: String,
    theirs: Value,
    ours: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { kind, path, theirs, ours } = self;
        match kind {
            Kind::Absent => write!(to, "absent: {path}, {theirs} there"),
            Kind::Added => write!(to, "added: {path}, {ours} here"),
            Kind::Type => write!(to, "type of {path}: {theirs} there, {ours} here"),
            Kind::Value => match (theirs, ours) {
                (Value::Array(theirs), Value::Array(ours)) => {
                    write!(to, "value of {path}: {} entries there, {} here", theirs.len(), ours.len())
                }
                _ => write!(to, "value of {path}: {theirs} there, {ours} here"),
            },
        }
    }
}

/// By how much logarithms of probabilities may differ, and probabilities: other kernels round otherwise.
const LOGPROB_WITHIN: f64 = 0.25;
/// By what part other fractions may: some are kept as 32 bits.
const FRACTION_WITHIN: f64 = 1e-6;

/// All differences of two recorded answers.
pub fn compare(theirs: &Value, ours: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    let (mut theirs, mut ours) = (theirs.clone(), ours.clone());
    let events = |told: &mut Value| told.as_object_mut().and_then(|told| told.remove("events"));
    let (their_events, our_events) = (events(&mut theirs), events(&mut ours));
    walk("", &theirs, &ours, &mut found);
    match (their_events, our_events) {
        (Some(Value::Array(theirs)), Some(Value::Array(ours))) => streams(&theirs, &ours, &mut found),
        (None, None) => {}
        (theirs, ours) => walk("events", &json!(theirs), &json!(ours), &mut found),
    }
    found
}

fn walk(path: &str, theirs: &Value, ours: &Value, found: &mut Vec<Difference>) {
    let differ = |kind, path: &str, theirs: &Value, ours: &Value| Difference {
        kind,
        path: path.to_owned(),
        theirs: theirs.clone(),
        ours: ours.clone(),
    };
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            let under = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            for (name, value) in theirs {
                match ours.get(name) {
                    None => found.push(differ(Kind::Absent, &under(name), value, &Value::Null)),
                    Some(other) => walk(&under(name), value, other, found),
                }
            }
            for (name, value) in ours.iter().filter(|(name, _)| !theirs.contains_key(*name)) {
                found.push(differ(Kind::Added, &under(name), &Value::Null, value));
            }
        }
        (Value::Array(their_list), Value::Array(our_list)) => {
            if their_list.len() != our_list.len() {
                found.push(differ(Kind::Value, path, theirs, ours));
            }
            for (theirs, ours) in their_list.iter().zip(our_list) {
                walk(&format!("{path}[]"), theirs, ours, found);
            }
        }
        _ if !same_type(theirs, ours) => found.push(differ(Kind::Type, path, theirs, ours)),
        _ if !same_value(path, theirs, ours) => found.push(differ(Kind::Value, path, theirs, ours)),
        _ => {}
    }
}

fn same_type(theirs: &Value, ours: &Value) -> bool {
    match (theirs, ours) {
        (Value::Number(theirs), Value::Number(ours)) => theirs.is_f64() || !ours.is_f64(),
        _ => std::mem::discriminant(theirs) == std::mem::discriminant(ours),
    }
}

fn same_value(path: &str, theirs: &Value, ours: &Value) -> bool {
    match (theirs.as_f64(), ours.as_f64()) {
        (Some(theirs), Some(ours)) if path.ends_with("prob") || path.contains("logprobs") => {
            (theirs - ours).abs() <= LOGPROB_WITHIN
        }
        (Some(theirs), Some(ours)) => (theirs - ours).abs() <= FRACTION_WITHIN * theirs.abs(),
        _ => theirs == ours,
    }
}

/// The events of a stream, of which one may hold more tokens than another: the kinds in their order, one of each kind, and all texts
/// put together.
fn streams(theirs: &[Value], ours: &[Value], found: &mut Vec<Difference>) {
    let kinds = |events: &[Value]| {
        let mut kinds: Vec<String> = events.iter().map(kind_of).collect();
        kinds.dedup();
        kinds
    };
    let (their_kinds, our_kinds) = (kinds(theirs), kinds(ours));
    let text = |kinds: &[String]| json!(kinds.join(", "));
    walk("events", &text(&their_kinds), &text(&our_kinds), found);
    walk("events text", &json!(text_of(theirs)), &json!(text_of(ours)), found);
    let mut each = their_kinds;
    each.sort();
    each.dedup();
    for kind in &each {
        let first = |events: &[Value]| events.iter().find(|event| kind_of(event) == *kind).cloned();
        if let (Some(theirs), Some(ours)) = (first(theirs), first(ours)) {
            let mut of_one = Vec::new();
            walk(&format!("events {kind}"), &theirs, &ours, &mut of_one);
            // A piece may hold more tokens than one.
            found.extend(of_one.into_iter().filter(|one| kind != "piece" || one.kind != Kind::Value));
        }
    }
}

/// What an event tells.
fn kind_of(event: &Value) -> String {
    let choice = &event["choices"][0];
    let kind = if event.get("error").is_some() {
        "error"
    } else if event["prompt_progress"].is_object() {
        "progress"
    } else if event["stop"] == true {
        "end"
    } else if event.get("stop").is_some() {
        "piece"
    } else if choice.is_null() {
        "usage"
    } else if choice["finish_reason"].is_string() {
        "finish"
    } else if choice["delta"]["role"].is_string() {
        "role"
    } else {
        "piece"
    };
    kind.to_owned()
}

/// The texts of all events, those of each answer together.
fn text_of(events: &[Value]) -> String {
    let mut texts: BTreeMap<u64, String> = BTreeMap::new();
    for event in events {
        let choice = &event["choices"][0];
        let index = event["index"].as_u64().or(choice["index"].as_u64()).unwrap_or(0);
        let parts = [&event["content"], &choice["delta"]["content"], &choice["text"]];
        texts.entry(index).or_default().extend(parts.into_iter().filter_map(Value::as_str));
    }
    texts.into_values().collect::<Vec<_>>().join("|")
}
