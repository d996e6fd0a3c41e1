//! From a grammar's text to something that can be followed, or a refusal that names the field.
//!
//! Compiling runs on a thread of its own for its stack; the request's thread waits for it. Its work is bounded by
//! `bounds` and by llguidance's own limits below. The few latest results are kept under a lock that HTTP threads alone
//! take, and hold only to copy one.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use llguidance::api::{ParserLimits, StopReason, TopLevelGrammar};
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;

use super::follow::Constraint;
use super::patience::Watchdog;
use super::tools::{CallForm, Tool, ToolChoice};
use super::vocabulary::Vocabulary;
use super::{bounds, gbnf, tools};
use crate::tokenizer::Tokenizer;
use crate::types::limits::{GRAMMAR_STACK_BYTES, GRAMMARS_KEPT};
use crate::types::{RequestError, Token};

/// What llguidance may spend. All of the first is gone in a second at most, of the second and third in some 10 ms, a mask;
/// a lexer state takes one to two KiB.
fn limits() -> ParserLimits {
    ParserLimits {
        initial_lexer_fuel: 500_000,
        step_lexer_fuel: 200_000,
        step_max_items: 50_000,
        max_items_in_row: 2_000,
        max_lexer_states: 20_000,
        max_grammar_size: 100_000,
        precompute_large_lexemes: false,
        verbose_errors: false,
    }
}

/// What may stand between the parts of a JSON text: so that both compact and indented JSON are possible, and blanks do
/// not go on without end, which a hot sampler would find.
const JSON_SPACE: &str = r" |\n[ \t]{0,20}";

/// What a grammar is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    JsonSchema,
    Regex,
    Lark,
}

struct Kept {
    language: Language,
    text: Arc<str>,
    matcher: Matcher,
}

/// Compiles grammars for one vocabulary. Shared by all HTTP threads.
pub struct Constrainer {
    tokenizer: Arc<Tokenizer>,
    /// Made for the first grammar: with 150,000 tokens that takes 0.4 s and 85 MiB, which nobody else should pay.
    prepared: OnceLock<Result<Prepared, String>>,
    /// The latest used is last.
    kept: Mutex<Vec<Kept>>,
    watchdog: Arc<Watchdog>,
}

/// The vocabulary as grammars need it.
struct Prepared {
    vocabulary: Arc<Vocabulary>,
    factory: Arc<ParserFactory>,
}

impl Prepared {
    fn new(tokenizer: &Tokenizer) -> Result<Prepared, String> {
        let vocabulary = Vocabulary::new(tokenizer)
            .ok_or_else(|| "this model has no token that ends a text, so none can be constrained".to_owned())?;
        let mut factory = ParserFactory::new_simple(&vocabulary.env).map_err(|error| error.to_string())?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(Prepared { vocabulary: Arc::new(vocabulary), factory: Arc::new(factory) })
    }
}

impl Constrainer {
    pub fn new(tokenizer: Arc<Tokenizer>) -> Constrainer {
        Constrainer { tokenizer, prepared: OnceLock::new(), kept: Mutex::default(), watchdog: Arc::default() }
    }

    /// Text that is JSON and follows `schema`. `field` is what a refusal names.
    pub fn json_schema(&self, schema: &Value, field: &str) -> Result<Constraint, RequestError> {
        if !schema.is_object() && !schema.is_boolean() {
            return Err(RequestError::field(field, "must be a JSON schema: an object, true or false"));
        }
        bounds::schema(schema, field)?;
        self.compile(Language::JsonSchema, with_json_options(schema).to_string(), field)
    }

    /// Text that is a JSON object.
    pub fn json_object(&self, field: &str) -> Result<Constraint, RequestError> {
        self.json_schema(&serde_json::json!({"type": "object"}), field)
    }

    /// Text that `regex` matches from its first to its last character.
    pub fn regex(&self, regex: &str, field: &str) -> Result<Constraint, RequestError> {
        bounds::regex(regex, field)?;
        self.compile(Language::Regex, regex.to_owned(), field)
    }

    /// Text of a Lark grammar's `start`, or of a GBNF grammar's `root`; which of the two it is shows.
    pub fn grammar(&self, grammar: &str, field: &str) -> Result<Constraint, RequestError> {
        if gbnf::is_gbnf(grammar) { self.gbnf(grammar, field) } else { self.lark(grammar, field) }
    }

    pub fn lark(&self, grammar: &str, field: &str) -> Result<Constraint, RequestError> {
        bounds::lark(grammar, field)?;
        self.compile(Language::Lark, grammar.to_owned(), field)
    }

    pub fn gbnf(&self, grammar: &str, field: &str) -> Result<Constraint, RequestError> {
        bounds::size(grammar.len(), field)?;
        let lark = gbnf::to_lark(grammar).map_err(|why| RequestError::field(field, why))?;
        self.compile(Language::Lark, lark, field)
    }

    /// Text with calls of `tools` as `choice` has it, in the form of the model; several of them only if `parallel`.
    /// `None`: the text is free.
    pub fn tool_calls(
        &self,
        form: CallForm,
        tools: &[Tool],
        choice: &ToolChoice,
        parallel: bool,
    ) -> Result<Option<Constraint>, RequestError> {
        let Some(lark) = tools::to_lark(form, tools, choice, parallel, &|mark| self.silent(mark))? else {
            return Ok(None);
        };
        self.compile(Language::Lark, lark, "tools").map(Some)
    }

    /// The control token of this name, whose text isn't shown.
    fn silent(&self, name: &str) -> Option<Token> {
        self.tokenizer.token_of(name).filter(|token| self.tokenizer.table().bytes(*token).is_empty())
    }

    fn compile(&self, language: Language, text: String, field: &str) -> Result<Constraint, RequestError> {
        let prepared = self.prepared.get_or_init(|| Prepared::new(&self.tokenizer));
        let Prepared { vocabulary, factory } =
            prepared.as_ref().map_err(|why| RequestError::field(field, why.as_str()))?;
        if let Some(matcher) = self.find(language, &text) {
            return Ok(Constraint::new(matcher, Arc::clone(&self.watchdog), Arc::clone(vocabulary), field));
        }
        let text: Arc<str> = text.into();
        let refuse = |why: &str| RequestError::field(field, format!("can't be followed: {why}"));
        let (factory, watchdog, theirs) = (Arc::clone(factory), Arc::clone(&self.watchdog), Arc::clone(&text));
        let thread = std::thread::Builder::new()
            .name("grammar".into())
            .stack_size(GRAMMAR_STACK_BYTES)
            .spawn(move || build(&factory, &watchdog, language, &theirs))
            .map_err(|error| refuse(&error.to_string()))?;
        let built = thread.join().unwrap_or_else(|_| Err("its compiler failed".to_owned()));
        let matcher = built.map_err(|why| refuse(&why))?;
        self.keep(Kept { language, text, matcher: matcher.deep_clone() });
        Ok(Constraint::new(matcher, Arc::clone(&self.watchdog), Arc::clone(vocabulary), field))
    }

    fn find(&self, language: Language, text: &str) -> Option<Matcher> {
        let mut kept = self.kept();
        let place = kept.iter().position(|kept| kept.language == language && &*kept.text == text)?;
        kept[place..].rotate_left(1);
        kept.last().map(|kept| kept.matcher.deep_clone())
    }

    fn keep(&self, new: Kept) {
        let mut kept = self.kept();
        if kept.len() == GRAMMARS_KEPT {
            kept.remove(0);
        }
        kept.push(new);
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Compiles, and works out the first mask: what can't even begin is refused.
fn build(factory: &ParserFactory, watchdog: &Watchdog, language: Language, text: &str) -> Result<Matcher, String> {
    let why = |error: &dyn std::fmt::Display| {
        let text = error.to_string();
        let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        line.trim_end_matches("<non-verbose/>").chars().take(300).collect::<String>()
    };
    let grammar = match language {
        Language::JsonSchema => TopLevelGrammar::from_tagged_str("json_schema", text).map_err(|error| why(&error))?,
        Language::Regex => TopLevelGrammar::from_regex(text),
        Language::Lark => TopLevelGrammar::from_lark(text.to_owned()),
    };
    let parser = factory.create_parser(grammar).map_err(|error| why(&error))?;
    let mut matcher = Matcher::new(Ok(parser)).into_cancellable();
    let step = matcher.cancellation_handle().map(|handle| watchdog.watch(handle));
    let first = matcher.compute_mask_or_eos();
    drop(step);
    match first {
        _ if matcher.is_cancelled() => Err("it is too ambiguous".to_owned()),
        Ok(first) if !first.is_zero() => Ok(matcher),
        Err(error) if matcher.stop_reason() != StopReason::NoExtensionBias => Err(why(&error)),
        _ => Err("no text does".to_owned()),
    }
}

/// A schema with how its JSON may be spaced.
pub(super) fn with_json_options(schema: &Value) -> Value {
    let mut schema = match schema {
        Value::Bool(false) => serde_json::json!({"not": {}}),
        Value::Object(_) => schema.clone(),
        _ => serde_json::json!({}),
    };
    schema["x-guidance"] = serde_json::json!({"whitespace_pattern": JSON_SPACE});
    schema
}
