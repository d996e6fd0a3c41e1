//! Paths over the built-in model's vocabulary, compared with the grammar itself.

use serde_json::{Value, json};

use super::super::tests::{made, parts};
use super::*;
use crate::constrain::Constraint;
use crate::types::TokenMask;

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "full_name": {"type": "string", "maxLength": 30},
            "age": {"type": "integer"},
            "kind": {"enum": ["mountain", "mountain range", "sea"]},
            "is_open": {"type": "boolean"},
        },
        "required": ["full_name", "age", "kind", "is_open"],
        "additionalProperties": false,
    })
}

/// Results of following a text with a look ahead at each token.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    /// Tokens of the text, and how many of them were the first token of the path made before.
    tokens: usize,
    said: usize,
    /// The texts of the paths, each once.
    ways: Vec<String>,
}

/// Follows the tokens of `text`. A second grammar that starts from the beginning checks each path.
fn follow(make: impl Fn() -> Constraint, text: &str) -> Seen {
    let tokenizer = &parts().0;
    let tokens = tokenizer.encode(text, false, false).unwrap();
    let (mut constraint, mut blanks, mut seen) = (make(), Blanks::default(), Seen::default());
    for (at, token) in tokens.iter().enumerate() {
        assert_eq!(constraint.verdict(), Verdict::Allow);
        let mut path = Path::default();
        path.begin(at as u64);
        let only = constraint.only_way().unwrap();
        if !is_free(only) {
            look(only, tokenizer, &blanks, at.checked_sub(1).map(|last| tokens[last]), &mut path);
        }
        check(&make, &tokens[..at], &path);
        seen.tokens += 1;
        seen.said += usize::from(path.steps().first().is_some_and(|step| step.token == *token));
        let way: Vec<Token> = path.steps().iter().map(|step| step.token).collect();
        let way = tokenizer.decode(&way, false);
        if !way.is_empty() && !seen.ways.contains(&way) {
            seen.ways.push(way);
        }
        assert!(constraint.mask().allows(*token), "behind {at} tokens of {text}");
        constraint.take(*token);
        blanks.take(tokenizer.table().bytes(*token));
    }
    seen
}

fn check(make: &impl Fn() -> Constraint, before: &[Token], path: &Path) {
    let mut fresh = make();
    let mut told = fresh.verdict();
    for token in before {
        fresh.take(*token);
        told = fresh.verdict();
    }
    let count = |mask: &TokenMask| (0..parts().0.n_vocab() as u32).filter(|id| mask.allows(Token(*id))).count();
    for step in path.steps() {
        assert_eq!(told, Verdict::Allow);
        assert!(fresh.mask().allows(step.token), "a way goes where nothing may");
        assert_eq!(step.is_certain, count(fresh.mask()) == 1);
        fresh.take(step.token);
        told = fresh.verdict();
        assert_eq!(told, step.verdict);
        assert!(told != Verdict::Allow || *fresh.mask() == step.mask, "behind {before:?} and {:?}", step.token);
    }
}

#[test]
fn keys_and_what_stands_around_them_are_said_with_the_masks_that_come() {
    let make = || made(|all| all.json_schema(&schema(), "json_schema"));
    let compact = r#"{"full_name": "A B", "age": 31, "kind": "mountain range", "is_open": true}"#;
    let lines = "{\n  \"full_name\": \"A B\",\n  \"age\": 31,\n  \"kind\": \"sea\",\n  \"is_open\": false\n}";
    for text in [compact, lines] {
        let Seen { tokens, said, ways } = follow(make, text);
        assert!(said * 2 > tokens, "{said} of {tokens}: {ways:#?}");
    }
    let Seen { ways, .. } = follow(make, lines);
    assert!(ways.iter().any(|way| way.ends_with("kind\": \"")), "{ways:#?}");
    assert!(ways.iter().any(|way| way == "a\",\n  \"is_open\":"), "{ways:#?}");
}

#[test]
fn what_is_open_has_no_way_ahead() {
    let make = || made(|all| all.regex("[a-z ]{1,40}", "regex"));
    assert_eq!(follow(make, "any text at all").ways, Vec::<String>::new());
    let make = || made(|all| all.regex("(yes|yesterday), it was", "regex"));
    let ways = follow(make, "yesterday, it was").ways;
    assert!(ways.iter().any(|way| way.ends_with(", it was")), "{ways:?}");
}

/// The texts that are expected behind the string in which `text` ends, with the token that ends it.
fn behind_string(make: impl Fn() -> Constraint, text: &str) -> Vec<String> {
    let tokenizer = &parts().0;
    let (mut constraint, mut blanks, mut path) = (make(), Blanks::default(), Path::default());
    for token in tokenizer.encode(text, false, false).unwrap() {
        constraint.take(token);
        blanks.take(tokenizer.table().bytes(token));
    }
    assert_eq!(constraint.verdict(), Verdict::Allow);
    let only = constraint.only_way().unwrap();
    assert!(is_free(only), "{} tokens", only.mask().len());
    assert_eq!(look_behind_value(only, tokenizer, &blanks, &mut path), !path.sequels.is_empty());
    let whole = |Sequel { behind, tokens }: &Sequel| tokenizer.decode(&[&[*behind], &tokens[..]].concat(), false);
    path.sequels.iter().map(whole).collect()
}

#[test]
fn what_comes_behind_a_string_is_expected_within_the_string() {
    let make = || made(|all| all.json_schema(&schema(), "json_schema"));
    let ends = behind_string(make, "{\n  \"full_name\": \"Ada Lov");
    assert!(!ends.is_empty() && ends.iter().all(|end| end == "\",\n  \"age\":"), "{ends:?}");
    let optional = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"const": "other"}}});
    let make = || made(|all| all.json_schema(&optional, "json_schema"));
    let ends = behind_string(make, r#"{"a": "Ada Lov"#);
    assert!(ends.iter().all(|end| end.starts_with("\",")), "{ends:?}");
    // The string can't end yet.
    let make = || made(|all| all.regex("\"[^\"]{40,}\" is all", "regex"));
    assert_eq!(behind_string(make, "\"Ada Lov"), Vec::<String>::new());
}

#[test]
fn blanks_are_those_of_before() {
    let mut blanks = Blanks::default();
    blanks.take(b"{\n  \"a\": 1,");
    assert_eq!((blanks.usual(b'{', b'"'), blanks.usual(b',', b'"')), (&b"\n  "[..], &b"\n  "[..]));
    assert_eq!((blanks.usual(b':', b'"'), blanks.usual(b']', b',')), (&b" "[..], &b""[..]));
    blanks.take(b" \"b\" : \"c\"");
    assert_eq!((blanks.usual(b',', b'"'), blanks.usual(b'"', b':')), (&b" "[..], &b" "[..]));
    blanks.take(&[b' '; 1_000]);
    assert!(blanks.run.len() <= BLANK_BYTES_MAX + 1);
}
