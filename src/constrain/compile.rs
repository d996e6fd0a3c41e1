//! Compiles a grammar's text to a matcher, or refuses it with the name of its field.
//!
//! Compiling runs on a thread of its own, because it needs a large stack; the request's thread waits for it. Its work
//! is bounded by `bounds` and by the limits given to llguidance below. The latest few results are kept under a lock
//! that only HTTP threads take, for as long as copying one takes.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use llguidance::api::{ParserLimits, StopReason, TopLevelGrammar};
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;

use super::constraint::Constraint;
use super::follow::Follower;
use super::json::with_json_options;
use super::patience::Watchdog;
use super::thinking::{Guide, Thinking};
use super::tools::{Tool, ToolChoice};
use super::vocabulary::Vocabulary;
use super::{bounds, forms, gbnf, tools};
use crate::chat::{CallForm, CallStyle};
use crate::tokenizer::Tokenizer;
use crate::types::limits::{GRAMMAR_REPEAT_MAX, GRAMMAR_STACK_BYTES, GRAMMARS_KEPT};
use crate::types::{RequestError, Token};

/// The limits given to llguidance. The initial lexer fuel is used up in a second at most; the lexer fuel and items of a
/// step, in about 10 ms a mask. A lexer state takes one to two KiB.
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

/// The language of a grammar's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    JsonSchema,
    Regex,
    Lark,
}

struct KeptGrammar {
    language: Language,
    text: Arc<str>,
    matcher: Matcher,
}

/// Compiles grammars for one vocabulary. Shared by all HTTP threads.
pub struct Constrainer {
    tokenizer: Arc<Tokenizer>,
    /// Made for the first grammar: for 150,000 tokens this takes 0.4 s and 85 MiB, which a server without grammars
    /// saves.
    prepared: OnceLock<Result<PreparedVocabulary, String>>,
    /// The latest compiled grammars; the last used is last.
    kept: Mutex<Vec<KeptGrammar>>,
    watchdog: Arc<Watchdog>,
    looks_ahead: bool,
}

/// The vocabulary in the form that grammars need.
struct PreparedVocabulary {
    vocabulary: Arc<Vocabulary>,
    factory: Arc<ParserFactory>,
}

impl PreparedVocabulary {
    fn new(tokenizer: &Tokenizer) -> Result<PreparedVocabulary, String> {
        let vocabulary = Vocabulary::new(tokenizer)
            .ok_or_else(|| "this model has no token that ends a text, so none can be constrained".to_owned())?;
        let mut factory = ParserFactory::new_simple(&vocabulary.env).map_err(|error| error.to_string())?;
        factory.quiet();
        *factory.limits_mut() = limits();
        Ok(PreparedVocabulary { vocabulary: Arc::new(vocabulary), factory: Arc::new(factory) })
    }
}

impl Constrainer {
    /// A compiler for this tokenizer's vocabulary.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Constrainer {
        let (prepared, kept) = (OnceLock::new(), Mutex::default());
        Constrainer { tokenizer, prepared, kept, watchdog: Arc::default(), looks_ahead: false }
    }

    /// Whether guides also look ahead (`ahead.rs`), for an engine that guesses tokens.
    #[must_use]
    pub fn looking_ahead(self, looks_ahead: bool) -> Constrainer {
        Constrainer { looks_ahead, ..self }
    }

    /// A constraint to JSON text that follows `schema`.
    ///
    /// # Errors
    /// The schema can't be compiled; the refusal names `field`.
    pub fn json_schema(&self, schema: &Value, field: &str) -> Result<Constraint, RequestError> {
        if !schema.is_object() && !schema.is_boolean() {
            return Err(RequestError::field(field, "must be a JSON schema: an object, true or false"));
        }
        bounds::schema(schema, field)?;
        self.compile(Language::JsonSchema, with_json_options(schema).to_string(), field)
    }

    /// Like `json_schema`, but parts that can't be compiled are dropped from the schema: first the parts that
    /// llguidance can skip and that [`loosened`] drops, then everything except that the text is JSON. If so, the second
    /// value says why.
    ///
    /// # Errors
    /// The model has no token that ends a text, so nothing can be constrained.
    pub fn lenient_schema(&self, schema: &Value, field: &str) -> Result<(Constraint, Option<String>), RequestError> {
        let schema = if bounds::nesting(schema, field).is_ok() { without_prose(schema) } else { schema.clone() };
        let why = match self.json_schema(&schema, field) {
            Ok(constraint) => return Ok((constraint, None)),
            Err(why) => why.to_string(),
        };
        let lenient = bounds::nesting(&schema, field).and_then(|()| {
            let schema = loosened(&schema);
            bounds::schema(&schema, field)?;
            self.compile(Language::JsonSchema, with_lenient_options(&schema).to_string(), field)
        });
        let constraint = match lenient {
            Ok(constraint) => constraint,
            Err(_) => self.json_schema(&serde_json::json!({"type": "object"}), field)?,
        };
        Ok((constraint, Some(why)))
    }

    /// A constraint to a JSON object.
    ///
    /// # Errors
    /// As for `json_schema`.
    pub fn json_object(&self, field: &str) -> Result<Constraint, RequestError> {
        self.json_schema(&serde_json::json!({"type": "object"}), field)
    }

    /// A constraint to text that `regex` matches from its first to its last character.
    ///
    /// # Errors
    /// As for `json_schema`.
    pub fn regex(&self, regex: &str, field: &str) -> Result<Constraint, RequestError> {
        bounds::regex(regex, field)?;
        self.compile(Language::Regex, regex.to_owned(), field)
    }

    /// A constraint to the `start` of a Lark grammar or the `root` of a GBNF grammar. The grammar's text shows which of
    /// the two it is.
    ///
    /// # Errors
    /// As for `json_schema`.
    pub fn grammar(&self, grammar: &str, field: &str) -> Result<Constraint, RequestError> {
        if gbnf::is_gbnf(grammar) { self.gbnf(grammar, field) } else { self.lark(grammar, field) }
    }

    /// A constraint to the `start` of a Lark grammar.
    ///
    /// # Errors
    /// As for `json_schema`.
    pub fn lark(&self, grammar: &str, field: &str) -> Result<Constraint, RequestError> {
        bounds::lark(grammar, field)?;
        self.compile(Language::Lark, grammar.to_owned(), field)
    }

    /// A constraint to the `root` of a GBNF grammar.
    ///
    /// # Errors
    /// As for `json_schema`.
    pub fn gbnf(&self, grammar: &str, field: &str) -> Result<Constraint, RequestError> {
        bounds::size(grammar.len(), field)?;
        let lark = gbnf::to_lark(grammar).map_err(|why| RequestError::field(field, why))?;
        self.compile(Language::Lark, lark, field)
    }

    /// A constraint to text with calls of `tools`, as `choice` requires, in the style `style`; several calls only if
    /// `parallel`. `None`: the text is free. If a tool's schema can't be compiled, its arguments are held to the parts
    /// that can be, or to any object; the second value names these tools.
    ///
    /// # Errors
    /// A tool or `choice` can't be used, or the model has no token that ends a text. The refusal names `tools` or `tool_choice`.
    pub fn tool_calls(
        &self,
        style: CallStyle,
        tools: &[Tool],
        choice: &ToolChoice,
        parallel: bool,
    ) -> Result<(Option<Constraint>, Vec<String>), RequestError> {
        self.calls(tools, |tools| tools::to_lark(style, tools, choice, parallel, &|mark| self.silent(mark)))
    }

    /// Compiles the grammar that `to_lark` makes of the tools; see `tool_calls`.
    fn calls(
        &self,
        tools: &[Tool],
        to_lark: impl Fn(&[Tool]) -> Result<Option<String>, RequestError>,
    ) -> Result<(Option<Constraint>, Vec<String>), RequestError> {
        let mut tools: Vec<Tool> = tools.iter().map(brief).collect();
        let attempt = |tools: &[Tool]| {
            let lark = to_lark(tools)?;
            lark.map(|lark| self.compile(Language::Lark, lark, "tools")).transpose()
        };
        let first = attempt(&tools);
        if first.is_ok() {
            return Ok((first?, Vec::new()));
        }
        let mut loose = Vec::new();
        for tool in &mut tools {
            if tool.parameters.is_null() || self.json_schema(&tool.parameters, "tools").is_ok() {
                continue;
            }
            loose.push(tool.name.clone());
            let schema = bounds::nesting(&tool.parameters, "tools").map(|()| loosened(&tool.parameters));
            let fits = |schema: &Value| self.json_schema(schema, "tools").is_ok();
            tool.parameters = schema.ok().filter(fits).unwrap_or(Value::Null);
        }
        let second = attempt(&tools);
        if second.is_ok() {
            return Ok((second?, loose));
        }
        // Each schema compiles, but all together don't.
        tools.iter_mut().for_each(|tool| tool.parameters = Value::Null);
        Ok((attempt(&tools)?, tools.into_iter().map(|tool| tool.name).collect()))
    }

    /// Like `tool_calls`, in a form read from the model's template.
    ///
    /// # Errors
    /// As `tool_calls`.
    pub fn calls_in_form(
        &self,
        form: &CallForm,
        tools: &[Tool],
        choice: &ToolChoice,
        parallel: bool,
    ) -> Result<(Option<Constraint>, Vec<String>), RequestError> {
        self.calls(tools, |tools| forms::to_lark(form, tools, choice, parallel, &|mark| self.silent(mark)))
    }

    /// The text that a model with calls in this style writes before a text of another constraint (`Constraint::before`).
    /// `field` is the field of that constraint. `None`: there is no such text.
    ///
    /// # Errors
    /// The model has no token that ends a text.
    pub fn before_text(&self, style: CallStyle, field: &str) -> Result<Option<Constraint>, RequestError> {
        let lark = tools::before_text(style, &|mark| self.silent(mark));
        lark.map(|lark| self.compile(Language::Lark, lark, field)).transpose()
    }

    /// Like `before_text`, for a form read from the model's template.
    ///
    /// # Errors
    /// As for `before_text`.
    pub fn before_text_in_form(&self, form: &CallForm, field: &str) -> Result<Option<Constraint>, RequestError> {
        let lark = forms::before_text(form, &|mark| self.silent(mark));
        lark.map(|lark| self.compile(Language::Lark, lark, field)).transpose()
    }

    /// A guide for a request's text: the answer is held to `answer`, after a thought as `thinking` describes. `None`:
    /// the request needs no masks.
    ///
    /// # Errors
    /// The model has no token that ends a text.
    pub fn guide(&self, answer: Option<Constraint>, thinking: Option<Thinking>) -> Result<Option<Guide>, RequestError> {
        if answer.is_none() && thinking.as_ref().is_none_or(|thinking| thinking.budget.is_none()) {
            return Ok(None);
        }
        let prepared = self.prepared.get_or_init(|| PreparedVocabulary::new(&self.tokenizer));
        let prepared = prepared.as_ref().map_err(|why| RequestError::field("reasoning_budget_tokens", why.as_str()))?;
        let vocabulary = Arc::clone(&prepared.vocabulary);
        let guide = Guide::new(answer, thinking, Arc::clone(&self.tokenizer), vocabulary);
        Ok(Some(guide.looking_ahead(self.looks_ahead)))
    }

    /// The control token with this name, if its text isn't shown.
    fn silent(&self, name: &str) -> Option<Token> {
        self.tokenizer.token_of(name).filter(|token| self.tokenizer.table().bytes(*token).is_empty())
    }

    fn compile(&self, language: Language, text: String, field: &str) -> Result<Constraint, RequestError> {
        let prepared = self.prepared.get_or_init(|| PreparedVocabulary::new(&self.tokenizer));
        let PreparedVocabulary { vocabulary, factory } =
            prepared.as_ref().map_err(|why| RequestError::field(field, why.as_str()))?;
        if let Some(matcher) = self.find(language, &text) {
            return Ok(Constraint::new(Follower::new(
                matcher,
                Arc::clone(&self.watchdog),
                Arc::clone(vocabulary),
                field,
            )));
        }
        let text: Arc<str> = text.into();
        let refuse = |why: &str| RequestError::field(field, format!("can't be followed: {why}"));
        let (factory, watchdog, theirs) = (Arc::clone(factory), Arc::clone(&self.watchdog), Arc::clone(&text));
        let thread = std::thread::Builder::new()
            .name("grammar".into())
            .stack_size(GRAMMAR_STACK_BYTES)
            .spawn(move || build(&factory, &watchdog, language, &theirs))
            .map_err(|error| refuse(&error.to_string()))?;
        let built = thread.join().unwrap_or_else(|_| Err("the grammar compiler panicked".to_owned()));
        let matcher = built.map_err(|why| refuse(&why))?;
        self.keep(KeptGrammar { language, text, matcher: matcher.deep_clone() });
        Ok(Constraint::new(Follower::new(matcher, Arc::clone(&self.watchdog), Arc::clone(vocabulary), field)))
    }

    fn find(&self, language: Language, text: &str) -> Option<Matcher> {
        let mut kept = self.kept();
        let place = kept.iter().position(|kept| kept.language == language && &*kept.text == text)?;
        kept[place..].rotate_left(1);
        kept.last().map(|kept| kept.matcher.deep_clone())
    }

    fn keep(&self, new: KeptGrammar) {
        let mut kept = self.kept();
        if kept.len() == GRAMMARS_KEPT {
            kept.remove(0);
        }
        kept.push(new);
    }

    fn kept(&self) -> MutexGuard<'_, Vec<KeptGrammar>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Compiles a grammar and computes its first mask, so that a grammar without any text is refused.
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
        _ if matcher.is_cancelled() => Err("it is too ambiguous, so its first step takes too long".to_owned()),
        Ok(first) if !first.is_zero() => Ok(matcher),
        Err(error) if matcher.stop_reason() != StopReason::NoExtensionBias => Err(why(&error)),
        _ => Err("no text matches it".to_owned()),
    }
}

/// A copy of the tool whose schema has no descriptions, which the grammar doesn't need and which are most of its size.
fn brief(tool: &Tool) -> Tool {
    let parameters = match bounds::nesting(&tool.parameters, "tools") {
        Ok(()) => without_prose(&tool.parameters),
        Err(_) => tool.parameters.clone(),
    };
    Tool { name: tool.name.clone(), parameters }
}

/// Keywords whose value is a map from names to schemas.
const NAMED_SCHEMAS: [&str; 5] = ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];

/// Keywords that describe and don't restrict.
const PROSE: [&str; 8] =
    ["title", "description", "$comment", "default", "examples", "$schema", "deprecated", "readOnly"];

/// A copy of `schema` with only the keywords for which `keep(keyword, value)` holds, in each object that is a schema.
/// Recurses as deep as the schema is nested, which `bounds::nesting` has checked.
fn rebuilt(schema: &Value, keep: &dyn Fn(&str, &Value) -> bool) -> Value {
    match schema {
        Value::Array(all) => all.iter().map(|one| rebuilt(one, keep)).collect(),
        Value::Object(map) => {
            let fields = map.iter().filter(|(key, value)| keep(key, value)).map(|(key, value)| {
                let value = match (key.as_str(), value) {
                    ("const" | "enum", data) => data.clone(),
                    (name, Value::Object(named)) if NAMED_SCHEMAS.contains(&name) => {
                        Value::Object(named.iter().map(|(name, one)| (name.clone(), rebuilt(one, keep))).collect())
                    }
                    (_, other) => rebuilt(other, keep),
                };
                (key.clone(), value)
            });
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}

/// A copy of `schema` without descriptions.
fn without_prose(schema: &Value) -> Value {
    rebuilt(schema, &|key, _| !PROSE.contains(&key))
}

/// Whether the grammar compiler supports this keyword with this value.
fn can_be_followed(key: &str, value: &Value) -> bool {
    const KNOWN: [&str; 30] = [
        "type",
        "properties",
        "required",
        "additionalProperties",
        "patternProperties",
        "items",
        "prefixItems",
        "additionalItems",
        "minItems",
        "maxItems",
        "enum",
        "const",
        "anyOf",
        "oneOf",
        "allOf",
        "$ref",
        "$defs",
        "definitions",
        "minLength",
        "maxLength",
        "pattern",
        "format",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minProperties",
        "maxProperties",
        "$id",
    ];
    const FORMATS: [&str; 10] =
        ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];
    match (key, value) {
        ("pattern", Value::String(pattern)) => !pattern.contains("(?") && bounds::regex(pattern, "").is_ok(),
        ("format", Value::String(format)) => FORMATS.contains(&format.as_str()),
        ("patternProperties", _) => false,
        (_, Value::Number(count)) if bounds::COUNTS.contains(&key) => {
            count.as_u64().is_some_and(|count| count <= GRAMMAR_REPEAT_MAX)
        }
        _ => KNOWN.contains(&key),
    }
}

/// A copy of `schema` without what isn't supported: unknown keywords and formats, patterns that look around, large
/// counts.
fn loosened(schema: &Value) -> Value {
    rebuilt(schema, &can_be_followed)
}

/// Like [`with_json_options`]; llguidance then skips what it doesn't support.
fn with_lenient_options(schema: &Value) -> Value {
    let mut schema = with_json_options(schema);
    schema["x-guidance"]["lenient"] = Value::Bool(true);
    schema
}
