//! Random texts over the built-in model's vocabulary: every text that the masks allow must be a text of the grammar.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::patience::thread_time;
use super::{Constrainer, Constraint};
use crate::gguf::GgufFile;
use crate::tokenizer::Tokenizer;
use crate::types::limits::GRAMMAR_CPU_MS_PER_TOKEN;
use crate::types::{RequestError, Token, TokenMask, Verdict};

pub(super) fn parts() -> &'static (Arc<Tokenizer>, Constrainer) {
    static PARTS: OnceLock<(Arc<Tokenizer>, Constrainer)> = OnceLock::new();
    PARTS.get_or_init(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vendor/model/cllm-tiny.gguf");
        let gguf = GgufFile::open(&path).expect("the built-in model");
        let tokenizer = Tokenizer::from_gguf(&gguf, || panic!("a covered vocabulary")).expect("a tokenizer");
        let tokenizer = Arc::new(tokenizer);
        (Arc::clone(&tokenizer), Constrainer::new(tokenizer))
    })
}

pub(super) fn made(what: impl FnOnce(&Constrainer) -> Result<Constraint, RequestError>) -> Constraint {
    what(&parts().1).unwrap_or_else(|error| panic!("{error}"))
}

fn is_allowed(mask: &TokenMask) -> Vec<Token> {
    (0..parts().0.n_vocab() as u32).map(Token).filter(|token| mask.allows(*token)).collect()
}

/// A random text: tokens are chosen by `seed`. It ends with one chance in three where it may end, and always where it
/// must. `None`: no end within `tokens_max` tokens.
pub(super) fn walk(constraint: Constraint, seed: u64, tokens_max: usize) -> Option<String> {
    walk_from(constraint, "", seed, tokens_max)
}

/// Like `walk`, for a text that begins with `begin`.
pub(super) fn walk_from(mut constraint: Constraint, begin: &str, seed: u64, tokens_max: usize) -> Option<String> {
    let table = parts().0.table();
    let mut dice = crate::dice::Dice::new(seed);
    let mut below = |n: usize| dice.below(n);
    let mut bytes = Vec::new();
    for token in parts().0.encode(begin, false, false).expect("tokens") {
        assert_eq!(constraint.verdict(), Verdict::Allow);
        assert!(constraint.mask().allows(token), "{begin:?} is no beginning");
        bytes.extend_from_slice(table.bytes(token));
        constraint.take(token);
    }
    for _ in 0..tokens_max {
        match constraint.verdict() {
            Verdict::Complete => return Some(String::from_utf8(bytes).expect("only text is allowed")),
            Verdict::Broken | Verdict::DeadEnd => panic!("no way on after {:?}", String::from_utf8_lossy(&bytes)),
            Verdict::Allow => {}
        }
        let (ends, goes_on): (Vec<Token>, Vec<Token>) =
            is_allowed(constraint.mask()).into_iter().partition(|token| table.is_eog(*token));
        if !ends.is_empty() && (goes_on.is_empty() || below(3) == 0) {
            return Some(String::from_utf8(bytes).expect("only text is allowed"));
        }
        let token = goes_on[below(goes_on.len())];
        bytes.extend_from_slice(table.bytes(token));
        constraint.take(token);
    }
    None
}

/// The texts that ended, of 60 random ones.
pub(super) fn walks(make: impl Fn(&Constrainer) -> Result<Constraint, RequestError>) -> Vec<String> {
    (0..60).filter_map(|seed| walk(made(&make), seed, 120)).collect()
}

#[test]
fn json_follows_its_schema() {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "age": {"type": "integer", "minimum": 18, "maximum": 99},
            "pets": {"type": "array", "items": {"enum": ["cat", "dog", null]}, "maxItems": 2},
        },
        "required": ["age", "name"],
        "additionalProperties": false,
    });
    let texts = walks(|all| all.json_schema(&schema, "json_schema"));
    assert!(texts.len() > 20, "{} walks ended", texts.len());
    for text in &texts {
        let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(jsonschema::is_valid(&schema, &value), "{text}");
    }
    let first: Vec<&str> = texts.iter().map(|text| text.trim_start_matches(['{', ' ', '\n', '\t', '\r'])).collect();
    assert!(first.iter().all(|text| text.starts_with("\"name\"")), "properties come in the schema's order");
}

#[test]
fn a_json_object_is_one() {
    let texts = walks(|all| all.json_object("response_format"));
    assert!(!texts.is_empty());
    for text in texts {
        // JSON's numbers are unbounded, those of serde_json aren't.
        match serde_json::from_str::<Value>(&text) {
            Ok(value) => assert!(value.is_object(), "{text}"),
            Err(error) => assert!(error.to_string().starts_with("number out of range"), "{error}: {text}"),
        }
    }
}

#[test]
fn regular_expressions_match_from_end_to_end() {
    let is_date = |text: &str| {
        text.len() == 10
            && text.char_indices().all(|(i, c)| if i == 4 || i == 7 { c == '-' } else { c.is_ascii_digit() })
    };
    let texts = walks(|all| all.regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", "regex"));
    assert_eq!(texts.len(), 60);
    texts.iter().for_each(|text| assert!(is_date(text), "{text}"));
    assert!(walks(|all| all.regex("a/b\nc|d", "regex")).iter().all(|text| text == "a/b\nc" || text == "d"));
}

/// Whether a text is a sum in brackets, which both grammars below describe.
fn is_sum(text: &str) -> bool {
    fn term(rest: &str) -> Option<&str> {
        if let Some(rest) = rest.strip_prefix('(') {
            return sum(rest)?.strip_prefix(')');
        }
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        (digits.len() < rest.len()).then_some(digits)
    }
    fn sum(rest: &str) -> Option<&str> {
        let mut rest = term(rest)?;
        while let Some(next) = rest.strip_prefix(" + ") {
            rest = term(next)?;
        }
        Some(rest)
    }
    sum(text) == Some("")
}

const LARK: &str = "start: sum\nsum: term (\" + \" term)*\nterm: \"(\" sum \")\" | /[0-9]+/\n";
const GBNF: &str = r#"# sums
root ::= sum
sum  ::= term (" + " term)*   # of terms
term ::= "(" sum ")" |
         [0-9]+
"#;

#[test]
fn recursive_grammars_in_both_languages() {
    for grammar in [LARK, GBNF] {
        let texts = walks(|all| all.grammar(grammar, "grammar"));
        assert!(texts.len() > 20 && texts.iter().any(|text| text.contains('(')), "{texts:?}");
        texts.iter().for_each(|text| assert!(is_sum(text), "{text}"));
    }
}

/// A grammar like llama.cpp's JSON grammar: rules down to characters, white space at the ends of rules.
#[test]
fn gbnf_down_to_characters() {
    let grammar = r#"
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,1})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
"#;
    let texts = walks(|all| all.grammar(grammar, "grammar"));
    assert!(texts.len() > 10, "{} walks ended", texts.len());
    for text in texts {
        // The grammar itself allows halves of surrogate pairs.
        let told = serde_json::from_str::<Value>(&text);
        assert!(told.is_ok() || text.contains("\\u"), "{text}: {told:?}");
    }
}

#[test]
fn gbnf_repetitions_and_classes() {
    let is = |grammar: &str, good: fn(&str) -> bool| {
        let texts = walks(|all| all.gbnf(grammar, "grammar"));
        assert!(texts.len() > 30, "{grammar}: {}", texts.len());
        texts.iter().for_each(|text| assert!(good(text), "{grammar}: {text:?}"));
    };
    is("root ::= \"ab\"{2,3}", |text| text == "abab" || text == "ababab");
    is("root ::= x{2}\nx ::= \"(\" x? \")\"", |text| text.starts_with('(') && text.len() >= 4);
    is("root ::= [^a-z\\n]{3}", |text| text.chars().count() == 3 && !text.contains(|c: char| c.is_ascii_lowercase()));
    is("root ::= \"\\u00e9\\x41\\\"\" .? ", |text| text.starts_with("éA\""));
    is("root ::= [a\\-\\]]{2}", |text| text.chars().all(|c| "a-]".contains(c)));
    is("root ::= (\"a\" | ) \"b\"", |text| text == "ab" || text == "b");
}

#[test]
fn what_cannot_be_followed_is_refused_by_name() {
    let all = &parts().1;
    let said = |error: Option<RequestError>| match error {
        Some(RequestError::Field { field, message }) => format!("{field}: {message}"),
        other => panic!("{other:?}"),
    };
    for (schema, why) in [
        (json!(3), "must be a JSON schema"),
        (json!({"type": "strin"}), "can't be followed"),
        (json!({"not": {"type": "string"}}), "can't be followed"),
        (json!({"type": "array", "uniqueItems": true}), "can't be followed"),
        (json!({"if": {}, "then": {}}), "can't be followed"),
        (json!({"$ref": "#/nowhere"}), "can't be followed"),
        (json!({"$ref": "http://example.com/schema"}), "can't be followed"),
        (json!({"$ref": "#"}), "can't be followed"),
        (json!({"type": "string", "pattern": "("}), "can't be followed"),
        (json!({"type": "integer", "minimum": 3, "maximum": 2}), "can't be followed"),
        (json!({"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]}), "can't be followed"),
        (json!(false), "can't be followed"),
        (
            json!({"allOf": (0..20).map(|i| json!({"anyOf": [{"properties": {format!("a{i}"): {"type": "null"}}},
            {"properties": {format!("b{i}"): {"type": "null"}}}]})).collect::<Vec<_>>()}),
            "can't be followed",
        ),
        (json!({"maxLength": 1e6}), "counts to 1000000"),
        (json!({"description": "x".repeat(70_000)}), "at most 65536"),
    ] {
        let error = said(all.json_schema(&schema, "response_format").err());
        assert!(error.starts_with("response_format: ") && error.contains(why), "{error}");
    }
    for regex in ["a(", "(?=a)b", r"(a)\1", "a{9999}", &"(".repeat(1000), &"a".repeat(70_000)] {
        let error = said(all.regex(regex, "regex").err());
        assert!(error.starts_with("regex: "), "{error}");
    }
    let doubling =
        (0..60).fold("start: A0\nA60: \"x\"\n".to_owned(), |all, i| format!("{all}A{i}: A{0} A{0}\n", i + 1));
    for grammar in [
        "",
        "foo: \"a\"",
        "start: foo",
        "start: start \"a\"",
        "%%%",
        &doubling,
        &format!("start: {}", "(".repeat(60_000)),
        "root ::= x",
        "root ::= \"a",
        "root ::= [b-a]",
        "root ::= []",
        "root ::= *",
        "root ::= <tool>",
        "root ::= \"a\"{3,1}",
        "root ::= \"a\"{99999}",
        "root ::= root",
        "x ::= \"a\"",
        &format!("root ::= {}", "(".repeat(60_000)),
    ] {
        let error = said(all.grammar(grammar, "grammar").err());
        assert!(error.starts_with("grammar: "), "{error}");
    }
}

/// Chains of rules as long as the size limit allows: each link is a stack frame in llguidance.
#[test]
fn long_chains_do_not_overflow_the_stack() {
    let rules = (0..5_000).fold(String::from("start: a0\na5000: \"x\"\n"), |all, i| format!("{all}a{i}: a{}\n", i + 1));
    assert_eq!(walk(made(|all| all.lark(&rules, "grammar")), 1, 9).as_deref(), Some("x"));
    let tokens = (0..5_000).fold(String::from("start: A0\nA5000: \"x\"\n"), |all, i| format!("{all}A{i}:A{}\n", i + 1));
    assert_eq!(walk(made(|all| all.lark(&tokens, "grammar")), 1, 9).as_deref(), Some("x"));
    let gbnf =
        (0..4_000).fold(String::from("root ::= a0\na4000 ::= \"x\"\n"), |all, i| format!("{all}a{i} ::= a{}\n", i + 1));
    let made_or_refused = parts().1.gbnf(&gbnf, "grammar").map(|constraint| walk(constraint, 1, 9));
    assert_eq!(made_or_refused.ok().flatten().as_deref(), Some("x"));
    let mut defs: serde_json::Map<String, Value> =
        (0..2_000).map(|i| (format!("d{i}"), json!({"$ref": format!("#/$defs/d{}", i + 1)}))).collect();
    defs.insert("d2000".into(), json!({"const": 7}));
    let schema = json!({"$defs": defs, "$ref": "#/$defs/d0"});
    assert_eq!(walk(made(|all| all.json_schema(&schema, "json_schema")), 1, 9).as_deref(), Some("7"));
}

/// `n` rules that mean the same, with the shortest names.
fn alike(n: usize) -> String {
    let letter = |i: usize| char::from(b'a' + (i % 26) as u8);
    let names: Vec<String> = (0..n).map(|i| [letter(i / 676), letter(i / 26), letter(i)].iter().collect()).collect();
    let rules: String = names.iter().map(|name| format!("{name}:\"a\" s|\"a\"\n")).collect();
    format!("start:s\ns:{}\n{rules}", names.join("|"))
}

/// Small grammars that are expensive to follow, each in another way.
fn hostile() -> Vec<(&'static str, String)> {
    let many =
        |n: usize, body: &dyn Fn(usize) -> String| (0..n).map(|i| format!("r{i}: {}\n", body(i))).collect::<String>();
    let any = |n: usize| (0..n).map(|i| format!("r{i}")).collect::<Vec<_>>().join(" | ");
    vec![
        ("doubles", "start: s\ns: s s | \"a\"\n".into()),
        ("trebles", "start: s\ns: s s s | s s | \"a\" | \n".into()),
        ("fifty alike", format!("start: {}\n{}", any(50), many(50, &|i| format!("\"a\" r{i} | \"a\"")))),
        ("thousands alike", alike(3_300)),
        (
            "thousands of beginnings",
            format!("start: x start | x\nx: {}\n{}", any(2_800), many(2_800, &|_| "\"a\"".into())),
        ),
        ("nothing in a thousand ways", format!("start: {} \"a\" start | \"a\"\nn: \"b\" |\n", "n ".repeat(2_000))),
        ("all in each", format!("start: x\nx: {}\n{}", any(200), many(200, &|_| "x x | \"a\"".into()))),
        ("many words for one", {
            let words: Vec<String> = (1..400).map(|n| format!("/[a-z]{{1,{n}}}/")).collect();
            format!("start: (x \" \"?)+\nx: {}\n", words.join(" | "))
        }),
    ]
}

/// A hostile grammar delays no other request: it is refused, or its text ends, after about a second of work.
#[test]
fn hostile_grammars_end_in_time() {
    let (tokenizer, all) = parts();
    let a = tokenizer.encode("a", false, false).expect("short text")[0];
    let seconds = |since: Duration| (thread_time() - since).as_secs_f64();
    for (name, grammar) in hostile() {
        let began = Instant::now();
        let made = all.grammar(&grammar, "grammar");
        let compiled_s = began.elapsed().as_secs_f64();
        let (since, mut tokens, mut dearest_s, mut ended) = (thread_time(), 0, 0f64, None);
        if let Ok(mut constraint) = made {
            while tokens < 3_000 && ended.is_none() {
                let step = thread_time();
                match constraint.verdict() {
                    Verdict::Allow if constraint.mask().allows(a) => constraint.take(a),
                    verdict => ended = Some(verdict),
                }
                tokens += 1;
                dearest_s = dearest_s.max(seconds(step));
            }
        }
        let all_s = seconds(since);
        println!(
            "{name}: {compiled_s:.2} s to compile, {tokens} tokens in {all_s:.2} s, {dearest_s:.2} s at once, {ended:?}"
        );
        assert!(compiled_s < 8.0, "{name} took {compiled_s} s to compile");
        let may_s = 3.5 + f64::from(tokens) * GRAMMAR_CPU_MS_PER_TOKEN as f64 / 1e3;
        assert!(dearest_s < 2.5 && all_s < may_s, "{name}: {dearest_s} s at once, {all_s} s in all");
    }
}

#[test]
fn without_an_end_token_the_text_goes_on_as_long_as_it_can() {
    let mut constraint = made(|all| all.regex("ab?", "regex")).ignoring_eos(true);
    let take = |constraint: &mut Constraint, text: &str| {
        assert_eq!(constraint.verdict(), Verdict::Allow);
        let token = parts().0.encode(text, false, false).expect("short text")[0];
        assert!(constraint.mask().allows(token));
        constraint.take(token);
    };
    take(&mut constraint, "a");
    assert_eq!(constraint.verdict(), Verdict::Allow);
    assert!(parts().0.eog().iter().all(|token| !constraint.mask().allows(*token)));
    take(&mut constraint, "b");
    assert_eq!(constraint.verdict(), Verdict::Complete);
}

/// A grammar from the cache starts at its beginning, whatever its last user did.
#[test]
fn a_kept_grammar_is_new_to_each() {
    let make = || made(|all| all.regex("[0-7][a-f]", "regex"));
    let fresh = |mut constraint: Constraint| (constraint.verdict(), constraint.mask().clone());
    let first = fresh(make());
    let mut used = make();
    used.verdict();
    used.take(is_allowed(used.mask())[0]);
    assert_eq!(fresh(make()), first);
    assert_ne!(fresh(used), first);
}

/// A text of either of two grammars, one of them after another: every text that the masks allow is one of these.
#[test]
fn a_constraint_may_be_any_of_two_or_one_behind_another() {
    let (mut firsts, mut seconds) = (0, 0);
    for seed in 0..60 {
        let either = made(|all| {
            let first = all.regex("yes|(ye[0-9]x)", "regex")?;
            Ok(first.or(all.regex("said: ", "regex")?.before(all.regex("(yes|no)[a-c]{2}", "regex")?)))
        });
        let text = walk(either, seed, 20).expect("an end");
        let fits = |rest: &str| rest.len() == 2 && rest.bytes().all(|byte| (b'a'..=b'c').contains(&byte));
        let is_first = text == "yes" || (text.len() == 4 && text.starts_with("ye") && text.ends_with('x'));
        let behind = text.strip_prefix("said: ");
        let of_second = behind.and_then(|rest| rest.strip_prefix("yes").or(rest.strip_prefix("no")));
        assert!(is_first || of_second.is_some_and(fits), "{text:?}");
        firsts += usize::from(is_first);
        seconds += usize::from(of_second.is_some());
    }
    assert!(firsts > 0 && seconds > 0, "{firsts} and {seconds}");
}
