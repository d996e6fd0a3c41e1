//! Parses the body of `/completion`, with llama-server's names and defaults, without the model. Pure.

use serde_json::{Value, json};

use crate::http::ask::fields::{Fields, wrong_type};
use crate::http::ask::format::format;
use crate::http::ask::generation::{Defaults, Generation, Input, PromptPart};
use crate::http::ask::notes::note;
use crate::http::ask::sampling::{sampling, stops};
use crate::http::ask::warnings::{self, warn};
use crate::types::limits::{CHOICES_MAX, LOGIT_BIAS_MAX, RESPONSE_FIELDS_MAX, TOP_LOGPROBS_MAX};
use crate::types::{RequestError, SamplingParams, Token};

/// What a bias applies to.
#[derive(Clone, Debug, PartialEq)]
enum Biased {
    Token(u32),
    /// Each token of this text.
    Text(String),
}

/// Which fields an answer has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswerShape {
    /// Whether the body had an array of prompts; the answer is then an array, too.
    pub is_array: bool,
    /// Whether the answer contains the tokens' ids.
    pub return_tokens: bool,
    /// Whether each event of a stream has timings.
    pub timings_per_token: bool,
    /// Whether a stream has events while the prompt is prefilled.
    pub return_progress: bool,
    /// Paths, with `/`, of the fields to keep in a whole answer or in a stream's last event. Empty: all fields.
    pub response_fields: Vec<String>,
    /// The samplers that are on, where the request has a list of them. Told again in the answer.
    pub samplers: Option<Vec<&'static str>>,
}

impl AnswerShape {
    fn take(fields: &mut Fields) -> Result<AnswerShape, RequestError> {
        const LIST: &str = "response_fields";
        let listed = fields.array(LIST, RESPONSE_FIELDS_MAX)?.unwrap_or_default();
        note("response_fields[]", || json!({"type": "string"}));
        let path = |(i, value): (usize, Value)| match value {
            Value::String(path) => Ok(path),
            other => Err(wrong_type(&format!("{LIST}[{i}]"), "a string", &other)),
        };
        Ok(AnswerShape {
            is_array: false,
            samplers: None,
            return_tokens: fields.bool("return_tokens")?.unwrap_or(false),
            timings_per_token: fields.bool("timings_per_token")?.unwrap_or(false),
            return_progress: fields.bool("return_progress")?.unwrap_or(false),
            response_fields: listed.into_iter().enumerate().map(path).collect::<Result<_, _>>()?,
        })
    }

    /// The wanted fields of an answer, each under its whole path. Fields that the answer doesn't have are skipped.
    pub fn wanted(&self, answer: Value) -> Value {
        if self.response_fields.is_empty() {
            return answer;
        }
        let found = |path: &String| {
            let value = path.split('/').try_fold(&answer, |value, name| value.as_object()?.get(name))?;
            Some((path.clone(), value.clone()))
        };
        Value::Object(self.response_fields.iter().filter_map(found).collect())
    }
}

/// Parses the body of `/completion`.
///
/// # Errors
/// A field has the wrong type or is out of bounds.
pub fn parse(body: &[u8], defaults: &Defaults, fresh_seed: u64) -> Result<(Generation, AnswerShape), RequestError> {
    let mut fields = Fields::parse(body)?;
    let (prompts, is_array) = match fields.take_noted("prompt", || json!({"type": "string", "minLength": 1})) {
        None => return Err(RequestError::field("prompt", "is missing")),
        Some(value) => prompts(value)?,
    };
    let inputs = prompts.into_iter().map(Input::Prompt).collect();
    let (generation, shape) = parse_rest(inputs, fields, defaults, fresh_seed)?;
    Ok((generation, AnswerShape { is_array, ..shape }))
}

/// Parses all fields but the prompts, which are `inputs`.
///
/// # Errors
/// A field has the wrong type or is out of bounds.
pub fn parse_rest(
    inputs: Vec<Input>,
    mut fields: Fields,
    defaults: &Defaults,
    fresh_seed: u64,
) -> Result<(Generation, AnswerShape), RequestError> {
    let mut generation = Generation::new(inputs, defaults, fresh_seed);
    generation.shows_prompts = true;
    generation.max_tokens = n_predict(&mut fields)?.map_or(defaults.max_tokens, |n| usize::try_from(n).ok());
    let biases = fields.take_noted("logit_bias", || json!({"type": "object", "maxProperties": LOGIT_BIAS_MAX}));
    // A negative seed means a random one.
    let seed = fields.take("seed").filter(|seed| seed.as_i64().is_none_or(|seed| seed >= 0));
    if let Some(seed) = seed {
        fields.put("seed", seed);
    }
    generation.sampling = sampling(&mut fields, &defaults.sampling, fresh_seed)?;
    let samplers = only_named(&mut fields, &mut generation.sampling)?;
    for (on, bias) in logit_bias(biases)? {
        match on {
            Biased::Token(token) => generation.sampling.logit_bias.push((token, bias)),
            Biased::Text(text) => generation.biased_texts.push((text, bias)),
        }
    }
    generation.stop = stops(&mut fields)?;
    generation.take_common(&mut fields, defaults)?;
    // `cache_prompt` has no effect: cached cells of a prompt are always reused, which doesn't change the text.
    fields.bool("cache_prompt")?;
    // `n_keep` has no effect: a prompt is always kept whole.
    fields.signed("n_keep", -1..=i64::from(u32::MAX))?;
    fields.string("model")?;
    let n_probs = fields.integer("n_probs", 0..=TOP_LOGPROBS_MAX as u64)?;
    generation.scores.top = n_probs.map(|n| n as usize).filter(|n| *n > 0);
    generation.scores.sampled = fields.bool("post_sampling_probs")?.unwrap_or(false);
    generation.format = format(&mut fields, None)?;
    let shape = AnswerShape { samplers, ..AnswerShape::take(&mut fields)? };
    if generation.inputs.len() > 1 {
        for (name, is_wanted) in
            [("return_progress", shape.return_progress), ("timings_per_token", shape.timings_per_token)]
        {
            if is_wanted {
                warn(format!("{name}: ignored, it is for requests of one prompt"));
            }
        }
    }
    warnings::ignored(&fields.unknown());
    Ok((generation, shape))
}

/// Takes `n_predict`, or `max_tokens`; a negative number means as many as fit.
fn n_predict(fields: &mut Fields) -> Result<Option<i64>, RequestError> {
    let most = -2..=i64::from(u32::MAX);
    let (own, other) = (fields.signed("n_predict", most.clone())?, fields.signed("max_tokens", most)?);
    Ok(own.or(other))
}

/// The samplers that `samplers` may name, each with its names, in the order in which they run here. What draws stands in no list of
/// llama-server's, and may be named.
pub const SAMPLERS: [&[&str]; 9] = [
    &["penalties"],
    &["dry"],
    &["top_n_sigma"],
    &["top_k"],
    &["typ_p", "typical_p"],
    &["top_p"],
    &["min_p"],
    &["xtc"],
    &["temperature"],
];
const DRAWS: &str = "dist";

/// The sampler that a letter names, as llama.cpp's command line has them. A letter that names none is its own name.
fn of_letter(letter: char) -> String {
    let name = match letter {
        'e' => "penalties",
        'd' => "dry",
        's' => "top_n_sigma",
        'k' => "top_k",
        'y' => "typ_p",
        'p' => "top_p",
        'm' => "min_p",
        'x' => "xtc",
        't' => "temperature",
        other => return other.to_string(),
    };
    name.to_owned()
}

/// Turns off samplers that `samplers` doesn't name. A temperature of 0 stays, because it means the most likely token. Returns the names of
/// the samplers that are on; `None`: the request has no list.
fn only_named(fields: &mut Fields, params: &mut SamplingParams) -> Result<Option<Vec<&'static str>>, RequestError> {
    const NAME: &str = "samplers";
    let value = fields.take_noted(NAME, || json!({"type": "array"}));
    note(NAME, || json!({"type": "string"}));
    note("samplers[]", || json!({"type": "string"}));
    let names: Vec<String> = match value {
        None => return Ok(None),
        Some(Value::String(letters)) => letters.chars().map(of_letter).collect(),
        Some(Value::Array(list)) => {
            let name = |(i, value): (usize, Value)| match value {
                Value::String(name) => Ok(name),
                other => Err(wrong_type(&format!("{NAME}[{i}]"), "a string", &other)),
            };
            list.into_iter().enumerate().map(name).collect::<Result<_, _>>()?
        }
        Some(other) => return Err(wrong_type(NAME, "an array of names, or a string of letters", &other)),
    };
    let mut places = Vec::new();
    for name in &names {
        match SAMPLERS.iter().position(|names| names.contains(&name.as_str())) {
            Some(place) => places.push(place),
            None if name == DRAWS => {}
            None => warnings::warn(format!("samplers: {name} is not known here")),
        }
    }
    if !places.is_sorted() {
        warnings::warn("samplers: they run in the order penalties to temperature");
    }
    let is_off = |place: usize| !places.contains(&place);
    let all: [(usize, &mut f32, f32); 6] = [
        (1, &mut params.dry.multiplier, 0.0),
        (2, &mut params.top_n_sigma, 0.0),
        (4, &mut params.typical_p, 1.0),
        (5, &mut params.top_p, 1.0),
        (6, &mut params.min_p, 0.0),
        (7, &mut params.xtc_probability, 0.0),
    ];
    for (_, number, off) in all.into_iter().filter(|(place, ..)| is_off(*place)) {
        *number = off;
    }
    if is_off(0) {
        params.penalty_last_n = 0;
    }
    if is_off(3) {
        params.top_k = 0;
    }
    if is_off(8) && params.temperature > 0.0 {
        (params.temperature, params.dynatemp_range) = (1.0, 0.0);
    }
    Ok(Some(places.iter().filter_map(|place| SAMPLERS[*place].first().copied()).collect()))
}

/// Reads `{"id": bias}` or `[[id, bias], ["text", bias]]`; a bias of `false` forbids the token.
fn logit_bias(value: Option<Value>) -> Result<Vec<(Biased, f32)>, RequestError> {
    note("logit_bias", || {
        let bias = json!({"anyOf": [{"type": "number", "minimum": -100, "maximum": 100}, {"const": false}]});
        json!({"additionalProperties": bias})
    });
    note("logit_bias", || json!({"type": "array", "maxItems": LOGIT_BIAS_MAX}));
    note("logit_bias[]", || json!({"type": "array", "minItems": 2, "maxItems": 2}));
    const NAME: &str = "logit_bias";
    const WANTED: &str =
        "an object, or an array of pairs of a token id or a text and a number from -100 to 100 or false";
    let pairs: Vec<(Value, Value)> = match value {
        None => return Ok(Vec::new()),
        Some(Value::Object(map)) => map.into_iter().map(|(id, bias)| (id.into(), bias)).collect(),
        Some(Value::Array(list)) => {
            let pair = |entry: Value| match entry {
                Value::Array(pair) => <[Value; 2]>::try_from(pair).map(|[on, bias]| (on, bias)).ok(),
                _ => None,
            };
            let pairs: Option<Vec<_>> = list.into_iter().map(pair).collect();
            pairs.ok_or_else(|| RequestError::field(NAME, format!("must be {WANTED}")))?
        }
        Some(other) => return Err(wrong_type(NAME, WANTED, &other)),
    };
    if pairs.len() > LOGIT_BIAS_MAX {
        return Err(RequestError::field(NAME, format!("has {} entries, at most {LOGIT_BIAS_MAX}", pairs.len())));
    }
    let one = |(on, bias): (Value, Value)| {
        let refuse = || RequestError::field(NAME, format!("must be {WANTED}; {on} with {bias} is no such pair"));
        let biased = match &on {
            Value::Number(id) => Biased::Token(id.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(refuse)?),
            Value::String(text) => text.parse().map_or_else(|_| Biased::Text(text.clone()), Biased::Token),
            _ => return Err(refuse()),
        };
        match (&bias, bias.as_f64()) {
            (Value::Bool(false), _) => Ok((biased, f32::NEG_INFINITY)),
            (_, Some(bias)) if (-100.0..=100.0).contains(&bias) => Ok((biased, bias as f32)),
            _ => Err(refuse()),
        }
    };
    pairs.into_iter().map(one).collect()
}

/// The prompts: a text, token ids (perhaps with texts between them), or an array of these. Also whether it was such an
/// array.
fn prompts(value: Value) -> Result<(Vec<Vec<PromptPart>>, bool), RequestError> {
    const WANTED: &str = "a string, an array of token ids and strings, or an array of such prompts";
    note("prompt", || json!({"type": "array", "minItems": 1}));
    note("prompt[]", || json!({"type": "string"}));
    note("prompt[]", || json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}));
    note("prompt[]", || json!({"type": "array", "minItems": 1}));
    note("prompt[][]", || json!({"type": "string"}));
    note("prompt[][]", || json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}));
    let list = match value {
        Value::String(_) => return Ok((vec![prompt(value, "prompt")?], false)),
        Value::Array(list) => list,
        other => return Err(wrong_type("prompt", WANTED, &other)),
    };
    if list.iter().any(Value::is_number) || list.is_empty() {
        return Ok((vec![prompt(Value::Array(list), "prompt")?], false));
    }
    if list.len() as u64 > CHOICES_MAX {
        return Err(RequestError::field("prompt", format!("has {} prompts, at most {CHOICES_MAX}", list.len())));
    }
    let all = list.into_iter().enumerate().map(|(i, entry)| prompt(entry, &format!("prompt[{i}]")));
    Ok((all.collect::<Result<_, _>>()?, true))
}

fn prompt(value: Value, path: &str) -> Result<Vec<PromptPart>, RequestError> {
    let parts = parts(value, path)?;
    let is_empty = parts.iter().all(|part| matches!(part, PromptPart::Text(text) if text.is_empty()));
    if is_empty { Err(RequestError::field(path, "must not be empty")) } else { Ok(parts) }
}

/// A text, or an array of token ids and texts, which may be empty. `path`: the field's name.
///
/// # Errors
/// The value has another type, or an entry of the array.
pub fn parts(value: Value, path: &str) -> Result<Vec<PromptPart>, RequestError> {
    match value {
        Value::String(text) => Ok(vec![PromptPart::Text(text)]),
        Value::Array(list) => {
            let part = |(i, entry): (usize, Value)| match (entry.as_u64().and_then(|id| u32::try_from(id).ok()), entry)
            {
                (Some(id), _) => Ok(PromptPart::Token(Token(id))),
                (None, Value::String(text)) => Ok(PromptPart::Text(text)),
                (None, other) => Err(RequestError::field(
                    format!("{path}[{i}]"),
                    format!("must be a token id or a string, not {other}"),
                )),
            };
            list.into_iter().enumerate().map(part).collect()
        }
        other => Err(wrong_type(path, "a string or an array of token ids and strings", &other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::ask::format::TextFormat;
    use crate::types::limits::PENALTY_LAST_N_MAX;

    fn read(extra: Value) -> Result<(Generation, AnswerShape), RequestError> {
        let mut body = json!({"prompt": "a"});
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        parse(body.to_string().as_bytes(), &Defaults::of_tests(), 7)
    }

    #[test]
    fn every_refusal_names_its_field() {
        for (extra, field) in [
            (json!({"prompt": null}), "prompt"),
            (json!({"prompt": ""}), "prompt"),
            (json!({"prompt": []}), "prompt"),
            (json!({"prompt": {"a": 1}}), "prompt"),
            (json!({"prompt": vec!["a"; 17]}), "prompt"),
            (json!({"prompt": [1, -1]}), "prompt[1]"),
            (json!({"prompt": [1, {}]}), "prompt[1]"),
            (json!({"prompt": ["a", ""]}), "prompt[1]"),
            (json!({"prompt": ["a", [3, 1.5]]}), "prompt[1][1]"),
            (json!({"n_predict": -3}), "n_predict"),
            (json!({"n_predict": "many"}), "n_predict"),
            (json!({"max_tokens": 1.5}), "max_tokens"),
            (json!({"n_probs": 21}), "n_probs"),
            (json!({"n_probs": true}), "n_probs"),
            (json!({"temperature": -1}), "temperature"),
            (json!({"repeat_penalty": "x"}), "repeat_penalty"),
            (json!({"seed": "x"}), "seed"),
            (json!({"stream": 1}), "stream"),
            (json!({"cache_prompt": 1}), "cache_prompt"),
            (json!({"return_tokens": 1}), "return_tokens"),
            (json!({"ignore_eos": 1}), "ignore_eos"),
            (json!({"grammar": 1}), "grammar"),
            (json!({"json_schema": 1}), "json_schema"),
            (json!({"n_keep": "all"}), "n_keep"),
            (json!({"samplers": 1}), "samplers"),
            (json!({"samplers": ["top_k", 1]}), "samplers[1]"),
            (json!({"timings_per_token": 1}), "timings_per_token"),
            (json!({"return_progress": "yes"}), "return_progress"),
            (json!({"post_sampling_probs": 1}), "post_sampling_probs"),
            (json!({"response_fields": "content"}), "response_fields"),
            (json!({"response_fields": ["content", 1]}), "response_fields[1]"),
            (json!({"json_schema": {}, "grammar": "root ::= \"a\""}), "json_schema"),
            (json!({"logit_bias": 1}), "logit_bias"),
            (json!({"logit_bias": [1, 2]}), "logit_bias"),
            (json!({"logit_bias": [[1, 2, 3]]}), "logit_bias"),
            (json!({"logit_bias": [[1.5, 2]]}), "logit_bias"),
            (json!({"logit_bias": [[1, 200]]}), "logit_bias"),
            (json!({"logit_bias": [[1, true]]}), "logit_bias"),
            (json!({"logit_bias": vec![json!([1, 2]); 1025]}), "logit_bias"),
        ] {
            match read(extra.clone()) {
                Err(RequestError::Field { field: named, .. }) => assert_eq!(named, field, "{extra}"),
                other => panic!("{extra}: {other:?}"),
            }
        }
    }

    #[test]
    fn samplers_that_are_not_named_are_off() {
        let all = json!({"repeat_penalty": 1.5, "dry_multiplier": 1, "top_k": 5, "top_p": 0.5, "typical_p": 0.5, "min_p": 0.5,
            "temperature": 0.5, "xtc_probability": 0.5});
        let with = |samplers: Value| {
            let mut body = all.clone();
            body["samplers"] = samplers;
            warnings::forget();
            (read(body).unwrap().0.sampling, warnings::value())
        };
        let (params, warning) = with(json!(["top_k", "top_p", "infill"]));
        assert_eq!((params.top_k, params.top_p, params.typical_p, params.min_p), (5, 0.5, 1.0, 0.0));
        assert_eq!((params.temperature, params.xtc_probability, params.penalty_last_n), (1.0, 0.0, 0));
        assert!(!params.dry.is_on());
        assert_eq!(warning.as_deref(), Some("samplers: infill is not known here"));
        let (params, warning) = with(json!(["temperature", "typ_p", "penalties"]));
        assert_eq!((params.temperature, params.typical_p, params.top_k, params.top_p), (0.5, 0.5, 0, 1.0));
        assert!(params.penalises() && warning.is_some_and(|text| text.contains("order")));
        assert_eq!(with(Value::Null), (read(all.clone()).unwrap().0.sampling, None));
        let (params, warning) = with(json!("kpi"));
        assert_eq!((params.top_k, params.top_p, params.typical_p, params.min_p), (5, 0.5, 1.0, 0.0));
        assert_eq!(warning.as_deref(), Some("samplers: i is not known here"));
        let greedy = read(json!({"temperature": 0, "samplers": []})).unwrap().0.sampling;
        assert_eq!((greedy.temperature, greedy.top_k), (0.0, 0));
    }

    #[test]
    fn an_answer_has_the_fields_that_are_wanted() {
        let shape = read(json!({"response_fields": ["a", "b/c", "b/x", "a/c", "d", "e/f/g"]})).unwrap().1;
        let answer = json!({"a": "text", "b": {"c": 1, "d": 2}, "e": {"f": {"g": [3]}}, "h": 4});
        assert_eq!(shape.wanted(answer.clone()), json!({"a": "text", "b/c": 1, "e/f/g": [3]}));
        assert_eq!(AnswerShape::default().wanted(answer.clone()), answer);
    }

    #[test]
    fn prompts_are_texts_tokens_or_both() {
        let text = |text: &str| PromptPart::Text(text.to_owned());
        let token = |id| PromptPart::Token(Token(id));
        let prompts = |prompt: Value| {
            let (generation, shape) = read(json!({"prompt": prompt})).unwrap();
            let parts = |input| match input {
                Input::Prompt(parts) => parts,
                other => panic!("{other:?}"),
            };
            (generation.inputs.into_iter().map(parts).collect::<Vec<_>>(), shape.is_array)
        };
        assert_eq!(prompts(json!("a")), (vec![vec![text("a")]], false));
        assert_eq!(prompts(json!([3, 4])), (vec![vec![token(3), token(4)]], false));
        assert_eq!(prompts(json!(["a", 4, ""])), (vec![vec![text("a"), token(4), text("")]], false));
        assert_eq!(prompts(json!(["a"])), (vec![vec![text("a")]], true));
        assert_eq!(prompts(json!(["a", [3, "b"]])), (vec![vec![text("a")], vec![token(3), text("b")]], true));
    }

    #[test]
    fn its_own_names_and_numbers_are_understood() {
        let (request, _) = read(json!({
            "n_predict": -1, "max_tokens": 5, "repeat_penalty": 1.5, "repeat_last_n": -1, "seed": -1, "top_k": -1,
            "stop": ["", "x"], "n_probs": 0, "grammar": "",
            "logit_bias": [[5, 1.5], ["ab", -2], [6, false]],
        }))
        .unwrap();
        let params = &request.sampling;
        assert_eq!((request.max_tokens, params.seed, params.top_k), (None, 7, 0));
        assert_eq!((params.repetition_penalty, params.penalty_last_n), (1.5, PENALTY_LAST_N_MAX));
        assert_eq!(
            (request.stop.clone(), request.scores.top, request.format.text.clone()),
            (vec![b"x".to_vec()], None, TextFormat::Any)
        );
        assert_eq!(params.logit_bias, [(5, 1.5), (6, f32::NEG_INFINITY)]);
        assert_eq!(request.biased_texts, [("ab".to_owned(), -2.0)]);
        assert_eq!(read(json!({"logit_bias": {"5": 1}})).unwrap().0.sampling.logit_bias, [(5, 1.0)]);
        assert_eq!(read(json!({"max_tokens": 5})).unwrap().0.max_tokens, Some(5));
        assert_eq!(read(json!({"n_predict": 0})).unwrap().0.max_tokens, Some(0));
        assert_eq!(read(json!({"seed": 9})).unwrap().0.sampling.seed, 9);
        assert_eq!(read(json!({"repeat_last_n": 0})).unwrap().0.sampling.penalty_last_n, 0);
        let schema = json!({"type": "object"});
        assert_eq!(read(json!({"json_schema": schema})).unwrap().0.format.text, TextFormat::LenientSchema(schema));
    }
}
