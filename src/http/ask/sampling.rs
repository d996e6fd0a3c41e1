//! How tokens are drawn and where a text ends, as requests specify it. Pure.
//!
//! A value beyond a bound behind which nothing changes is set to the bound, not refused: a threshold of -1 becomes 0.

use serde_json::{Value, json};

use super::fields::{Fields, wrong_type};
use super::notes::{self, note};
use super::parameter::{Draft, PARAMETERS, Parameter, named};
use super::warnings::warn;
use crate::types::limits::{
    DEADLINE_MS_MAX, DRY_BREAKER_BYTES_MAX, DRY_BREAKERS_MAX, LOGIT_BIAS_MAX, STOP_BYTES_MAX, STOP_TOKENS_MAX,
    STOPS_MAX,
};
use crate::types::{RequestError, SamplingParams, Token};

/// Takes the parameters of `parameter::PARAMETERS`, DRY's breakers and the seed. `usual` and `seed` count for fields
/// that are absent.
///
/// # Errors
/// A field has the wrong type or is out of bounds.
pub fn sampling(fields: &mut Fields, usual: &SamplingParams, seed: u64) -> Result<SamplingParams, RequestError> {
    if notes::are_taken() {
        let all = PARAMETERS.iter().flat_map(|row| row.names.iter().map(move |name| (name, row)));
        all.for_each(|(name, row)| note(&fields.named(name), || row.schema()));
    }
    let mut draft = Draft::new(usual);
    let mut given: Vec<((&'static Parameter, usize), Value)> = fields.take_known(named);
    // The documented name is read last, so it wins.
    given.sort_by_key(|((_, which), _)| std::cmp::Reverse(*which));
    for ((row, which), value) in given {
        row.read(&mut draft, &value, &fields.named(row.names[which]))?;
    }
    let breakers = breakers(fields)?;
    let mut params = draft.finished();
    if let Some(texts) = breakers {
        params.dry.breaker_texts = Some(texts.into());
    }
    params.seed = own_seed(fields)?.unwrap_or(seed);
    Ok(params)
}

/// Takes the seed. It may be negative, as OpenAI's; its bits are then read as an unsigned number.
fn own_seed(fields: &mut Fields) -> Result<Option<u64>, RequestError> {
    match fields.take_noted("seed", || json!({"type": "integer", "minimum": i64::MIN, "maximum": u64::MAX})) {
        Some(value) if value.as_i64().is_some_and(|seed| seed < 0) => Ok(value.as_i64().map(|seed| seed as u64)),
        Some(value) => {
            fields.put("seed", value);
            fields.integer("seed", 0..=u64::MAX)
        }
        None => Ok(None),
    }
}

/// Takes the texts at which DRY lets repetitions end. Of a list that is too long the first entries count; empty strings
/// are dropped.
fn breakers(fields: &mut Fields) -> Result<Option<Vec<String>>, RequestError> {
    const NAME: &str = "dry_sequence_breakers";
    let Some(list) = fields.array(NAME, usize::MAX)? else { return Ok(None) };
    note("dry_sequence_breakers[]", || json!({"type": "string"}));
    let text = |value: Value| match value {
        Value::String(text) => Ok(text),
        other => Err(wrong_type(NAME, "an array of strings", &other)),
    };
    let given = list.len();
    let texts: Vec<String> = list.into_iter().map(text).collect::<Result<_, _>>()?;
    let mut texts: Vec<String> = texts.into_iter().filter(|text| !text.is_empty()).collect();
    texts.truncate(DRY_BREAKERS_MAX);
    if texts.len() < given {
        let left_out = given - texts.len();
        warn(format!(
            "{NAME}: {left_out} of {given} strings left out; the first {DRY_BREAKERS_MAX} that are not empty count"
        ));
    }
    texts.iter_mut().for_each(|text| text.truncate(text.floor_char_boundary(DRY_BREAKER_BYTES_MAX)));
    Ok(Some(texts))
}

/// What ends a generation, besides stop strings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ends {
    /// See `GenerateParams::min_tokens`.
    pub min_tokens: usize,
    /// Tokens that end the text.
    pub stop_tokens: Vec<Token>,
}

impl Ends {
    /// Takes `min_tokens` and `stop_token_ids`.
    ///
    /// # Errors
    /// A field has the wrong type or is out of bounds.
    pub fn take(fields: &mut Fields) -> Result<Ends, RequestError> {
        let min_tokens = fields.integer("min_tokens", 0..=u64::from(u32::MAX))?.unwrap_or(0) as usize;
        let listed = fields.array("stop_token_ids", STOP_TOKENS_MAX)?.unwrap_or_default();
        note("stop_token_ids[]", || json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}));
        let id = |id: Value| match id.as_u64().map(u32::try_from) {
            Some(Ok(id)) => Ok(Token(id)),
            _ => Err(RequestError::field("stop_token_ids", format!("{id} is no token id"))),
        };
        Ok(Ends { min_tokens, stop_tokens: listed.into_iter().map(id).collect::<Result<_, _>>()? })
    }
}

/// Takes `logit_bias` in OpenAI's form: token ids, as strings, to numbers.
///
/// # Errors
/// It has the wrong type or too many entries, or a bias is out of bounds.
pub fn logit_bias(fields: &mut Fields) -> Result<Vec<(u32, f32)>, RequestError> {
    const NAME: &str = "logit_bias";
    let bias = || json!({"type": "number", "minimum": -100, "maximum": 100});
    let schema = || json!({"type": "object", "maxProperties": LOGIT_BIAS_MAX, "additionalProperties": bias()});
    let Some(value) = fields.take_noted(NAME, schema) else { return Ok(Vec::new()) };
    let Value::Object(map) = &value else { return Err(wrong_type(NAME, "an object", &value)) };
    if map.len() > LOGIT_BIAS_MAX {
        return Err(RequestError::field(NAME, format!("has {} entries, at most {LOGIT_BIAS_MAX}", map.len())));
    }
    map.iter()
        .map(|(id, bias)| {
            let token = id.parse::<u32>().map_err(|_| RequestError::field(NAME, format!("{id:?} is no token id")))?;
            match bias.as_f64() {
                Some(bias) if (-100.0..=100.0).contains(&bias) => Ok((token, bias as f32)),
                _ => Err(RequestError::field(NAME, format!("of {id} must be a number from -100 to 100"))),
            }
        })
        .collect()
}

/// Takes `stop`: a string or several.
///
/// # Errors
/// It has the wrong type.
pub fn stops(fields: &mut Fields) -> Result<Vec<Vec<u8>>, RequestError> {
    let one = || json!({"type": "string"});
    let name = fields.named("stop");
    let value = fields.take_noted("stop", one);
    note(&name, || json!({"type": "array", "items": one()}));
    let wrong = |value: &Value| wrong_type(&name, "a string or an array of strings", value);
    let stops = match value {
        None => return Ok(Vec::new()),
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(list)) => {
            let text = |entry: Value| match entry {
                Value::String(text) => Ok(text),
                other => Err(wrong(&other)),
            };
            list.into_iter().map(text).collect::<Result<_, _>>()?
        }
        Some(other) => return Err(wrong(&other)),
    };
    Ok(fitting_stops(stops, &name))
}

/// The stop strings that can be used. Empty ones are dropped, because they would end every text at its beginning, and
/// of too many only the first count. A warning names the field `name`.
pub fn fitting_stops(stops: Vec<String>, name: &str) -> Vec<Vec<u8>> {
    let (given, mut fit) = (stops.len(), stops);
    fit.retain(|stop| !stop.is_empty() && stop.len() <= STOP_BYTES_MAX);
    fit.truncate(STOPS_MAX);
    if fit.len() < given {
        warn(format!(
            "{name}: {} of {given} strings left out; the first {STOPS_MAX} of 1 to {STOP_BYTES_MAX} bytes count",
            given - fit.len()
        ));
    }
    fit.into_iter().map(String::into_bytes).collect()
}

/// The most tokens of an answer that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// As many as fit: the client sent -1.
    Unbounded,
    /// At most this many.
    Tokens(usize),
}

impl Limit {
    /// The number; `None` if unbounded.
    pub fn tokens(self) -> Option<usize> {
        match self {
            Limit::Unbounded => None,
            Limit::Tokens(n) => Some(n),
        }
    }
}

/// Takes a limit of tokens. 0 only reads the prompt; a negative number means no bound.
///
/// # Errors
/// It is no whole number.
pub fn limit(fields: &mut Fields, name: &str) -> Result<Option<Limit>, RequestError> {
    let number = fields.signed(name, i64::MIN..=i64::MAX)?;
    Ok(number.map(|n| usize::try_from(n).map_or(Limit::Unbounded, |n| Limit::Tokens(n.min(u32::MAX as usize)))))
}

/// Takes a deadline in milliseconds from arrival. `longest` is the largest allowed value and the default. `None`: no
/// deadline.
///
/// # Errors
/// It has the wrong type or is out of bounds.
pub fn deadline_ms(fields: &mut Fields, longest: Option<u64>) -> Result<Option<u64>, RequestError> {
    let wanted = fields.integer("deadline_ms", 1..=DEADLINE_MS_MAX)?;
    Ok(wanted.into_iter().chain(longest).min())
}

#[cfg(test)]
mod tests {
    use super::super::warnings;
    use super::*;
    use crate::types::Mirostat;
    use crate::types::limits::{PENALTY_LAST_N_MAX, TOP_K_MAX};

    fn parse(body: Value) -> (SamplingParams, Vec<String>) {
        warnings::forget();
        let mut fields = Fields::parse(body.to_string().as_bytes()).unwrap();
        let params = sampling(&mut fields, &SamplingParams::default(), 7).unwrap();
        (params, fields.unknown())
    }

    #[test]
    fn what_is_not_said_stays_and_beyond_its_bound_a_number_is_the_bound() {
        assert_eq!(parse(json!({"zeal": 1})).0, SamplingParams { seed: 7, ..SamplingParams::default() });
        let (params, unknown) =
            parse(json!({"xtc_probability": 7, "xtc_threshold": -1, "dynatemp_range": -3, "mirostat": 1,
            "mirostat_eta": 9, "dry_multiplier": 0.8, "dry_penalty_last_n": -1, "dry_allowed_length": 3, "top_p": 0}));
        assert_eq!((params.xtc_probability, params.xtc_threshold, params.dynatemp_range), (1.0, 0.0, 0.0));
        assert_eq!(params.mirostat, Some(Mirostat { tau: 5.0, eta: 1.0 }));
        assert_eq!((params.dry.last_n, params.dry.allowed_length), (PENALTY_LAST_N_MAX, 3));
        assert!(params.top_p > 0.0 && params.top_p < 1e-6 && unknown.is_empty());
    }

    /// The setting `--top-k` refuses more (`every_refusal_names_what_the_user_wrote`).
    #[test]
    fn top_k_ends_where_the_setting_ends() {
        for (said, counts) in [(5, 5), (TOP_K_MAX, TOP_K_MAX), (TOP_K_MAX + 1, TOP_K_MAX), (usize::MAX >> 1, TOP_K_MAX)]
        {
            assert_eq!(parse(json!({"top_k": said})).0.top_k, counts);
        }
    }

    #[test]
    fn of_two_names_the_documented_one_counts() {
        for body in [
            json!({"repetition_penalty": 2, "repeat_penalty": 1.5}),
            json!({"repeat_penalty": 1.5, "repetition_penalty": 2}),
        ] {
            assert_eq!(parse(body).0.repetition_penalty, 2.0);
        }
        assert_eq!(parse(json!({"repeat_penalty": 1.5})).0.repetition_penalty, 1.5);
        assert_eq!(parse(json!({"repeat_penalty": 1.5, "repetition_penalty": null})).0.repetition_penalty, 1.5);
    }

    #[test]
    fn breakers_beyond_the_bounds_are_named() {
        let (params, _) = parse(json!({"dry_sequence_breakers": ["", "", "", "\n", "é".repeat(30)]}));
        let texts = params.dry.breaker_texts.unwrap();
        assert_eq!((texts.len(), texts[1].len()), (2, 40));
        assert!(warnings::value().unwrap().starts_with("dry_sequence_breakers: 3 of 5 strings left out"));
        let many = vec!["x"; DRY_BREAKERS_MAX + 1];
        assert_eq!(parse(json!({"dry_sequence_breakers": many})).0.dry.breaker_texts.unwrap().len(), DRY_BREAKERS_MAX);
    }

    #[test]
    fn tokens_that_end_a_text_are_ids() {
        let ends = |body: &str| Ends::take(&mut Fields::parse(body.as_bytes()).unwrap());
        let both = ends(r#"{"min_tokens": 5, "stop_token_ids": [7, 8]}"#).unwrap();
        assert_eq!(both, Ends { min_tokens: 5, stop_tokens: vec![Token(7), Token(8)] });
        assert_eq!(ends(r#"{"stop_token_ids": [-1]}"#).unwrap_err().to_string(), "stop_token_ids: -1 is no token id");
    }
}
