//! What a request may say about sampling beyond the usual: llama-server's names, and vLLM's for where a text may end. Pure, but
//! for the tokens of DRY's breakers, which the vocabulary knows.
//!
//! What has no effect beyond a bound is taken as that bound, not refused: a probability of 2 is certain, a threshold of -1 is 0.

use serde_json::{Value, json};

use crate::http::ask::fields::{Fields, wrong_type};
use crate::http::ask::notes::{self, note};
use crate::http::service::Service;
use crate::types::limits::{DRY_BREAKER_BYTES_MAX, DRY_BREAKERS_MAX, STOP_TOKENS_MAX};
use crate::types::{Dry, Mirostat, RequestError, SamplingParams, Token};

/// The largest that a number may be here: what it is multiplied with stays finite.
const NUMBER_MAX: f32 = 1e6;

/// What ends a generation beside stop strings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ends {
    /// See `GenerateParams::min_tokens`.
    pub min_tokens: usize,
    pub stop_tokens: Vec<Token>,
}

impl Ends {
    /// Takes `min_tokens` and `stop_token_ids`.
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

/// Whether `more` looks for a field of this name.
fn is_looked_for(name: &str) -> bool {
    let families = ["dry_", "xtc_", "dynatemp_", "mirostat"];
    matches!(name, "top_n_sigma" | "min_keep") || families.iter().any(|family| name.starts_with(family))
}

/// `usual` with what the fields say of the samplers that most requests don't name.
pub fn more(fields: &mut Fields, usual: &SamplingParams) -> Result<SamplingParams, RequestError> {
    // One look at the names there are costs less than looking for each that there isn't.
    if !notes::are_taken() && !fields.has(is_looked_for) {
        return Ok(usual.clone());
    }
    let mut number = |name: &str, usual: f32| -> Result<f32, RequestError> {
        Ok(fields.number(name, -NUMBER_MAX..=NUMBER_MAX)?.unwrap_or(usual))
    };
    let top_n_sigma = number("top_n_sigma", usual.top_n_sigma)?;
    let xtc_probability = number("xtc_probability", usual.xtc_probability)?.clamp(0.0, 1.0);
    let xtc_threshold = number("xtc_threshold", usual.xtc_threshold)?.clamp(0.0, 1.0);
    let dynatemp_range = number("dynatemp_range", usual.dynatemp_range)?.clamp(0.0, 100.0);
    let dynatemp_exponent = number("dynatemp_exponent", usual.dynatemp_exponent)?.clamp(0.0, 100.0);
    let min_keep = fields.integer("min_keep", 0..=u64::from(u32::MAX))?.map_or(usual.min_keep, |n| n as usize);
    Ok(SamplingParams {
        dry: dry(fields, &usual.dry)?,
        top_n_sigma,
        min_keep,
        xtc_probability,
        xtc_threshold,
        dynatemp_range,
        dynatemp_exponent,
        mirostat: mirostat(fields, usual.mirostat)?,
        ..usual.clone()
    })
}

/// The first version of Mirostat guesses the distribution's shape that the second does without: both aim at one surprise, and the
/// second is what 1 gets, too.
fn mirostat(fields: &mut Fields, usual: Option<Mirostat>) -> Result<Option<Mirostat>, RequestError> {
    let version = fields.integer("mirostat", 0..=2)?;
    let Mirostat { tau, eta } = usual.unwrap_or_default();
    let tau = fields.number("mirostat_tau", -NUMBER_MAX..=NUMBER_MAX)?.unwrap_or(tau).clamp(0.0, 100.0);
    let eta = fields.number("mirostat_eta", -NUMBER_MAX..=NUMBER_MAX)?.unwrap_or(eta).clamp(0.0, 1.0);
    let is_on = version.map_or(usual.is_some(), |version| version > 0);
    Ok(is_on.then_some(Mirostat { tau, eta }))
}

fn dry(fields: &mut Fields, usual: &Dry) -> Result<Dry, RequestError> {
    let multiplier = fields.number("dry_multiplier", -NUMBER_MAX..=NUMBER_MAX)?.unwrap_or(usual.multiplier);
    let base = fields.number("dry_base", -NUMBER_MAX..=NUMBER_MAX)?.unwrap_or(usual.base);
    let allowed = fields.integer("dry_allowed_length", 0..=u64::from(u32::MAX))?;
    let last_n = fields.signed("dry_penalty_last_n", -1..=i64::from(u32::MAX))?;
    const MOST: usize = SamplingParams::PENALTY_LAST_N_MAX;
    Ok(Dry {
        multiplier,
        base,
        allowed_length: allowed.map_or(usual.allowed_length, |n| n as usize),
        last_n: last_n.map_or(usual.last_n, |n| usize::try_from(n).map_or(MOST, |n| n.min(MOST))),
        breaker_texts: breakers(fields)?.map(Into::into).or_else(|| usual.breaker_texts.clone()),
        breakers: None,
    })
}

/// Of a list that is too long the beginning counts, and the rest is named as a field that was ignored; so is an empty string.
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
        fields.put("dry_sequence_breakers (in part)", json!(true));
    }
    texts.iter_mut().for_each(|text| text.truncate(text.floor_char_boundary(DRY_BREAKER_BYTES_MAX)));
    Ok(Some(texts))
}

impl Service {
    /// Finds the tokens of DRY's breakers, where they matter.
    pub(in crate::http) fn find_breakers(&self, dry: &mut Dry) {
        if dry.is_on() && dry.breakers.is_none() {
            dry.breakers = Some(self.breakers.of(&self.parts.tokenizer, dry.breaker_texts.as_deref()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: Value) -> (SamplingParams, Vec<String>) {
        let mut fields = Fields::parse(body.to_string().as_bytes()).unwrap();
        let params = more(&mut fields, &SamplingParams::default()).unwrap();
        (params, fields.unknown())
    }

    #[test]
    fn what_is_not_said_stays_and_beyond_its_bound_a_number_is_the_bound() {
        assert_eq!(parse(json!({})).0, SamplingParams::default());
        let (params, _) = parse(json!({"xtc_probability": 7, "xtc_threshold": -1, "dynatemp_range": -3, "mirostat": 1,
            "mirostat_eta": 9, "dry_multiplier": 0.8, "dry_penalty_last_n": -1, "dry_allowed_length": 3}));
        assert_eq!((params.xtc_probability, params.xtc_threshold, params.dynatemp_range), (1.0, 0.0, 0.0));
        assert_eq!(params.mirostat, Some(Mirostat { tau: 5.0, eta: 1.0 }));
        assert_eq!((params.dry.last_n, params.dry.allowed_length), (SamplingParams::PENALTY_LAST_N_MAX, 3));
    }

    #[test]
    fn every_field_is_looked_for() {
        let (_, noted) = notes::noting(|| parse(json!({})));
        assert!(noted.len() >= 12, "{noted:?}");
        for (place, _) in noted {
            assert!(is_looked_for(place.trim_end_matches("[]")), "{place}");
        }
    }

    #[test]
    fn breakers_beyond_the_bounds_are_named() {
        let (params, unknown) = parse(json!({"dry_sequence_breakers": ["", "\n", "é".repeat(30)]}));
        let texts = params.dry.breaker_texts.unwrap();
        assert_eq!((texts.len(), texts[1].len()), (2, 40));
        assert_eq!(unknown, ["dry_sequence_breakers (in part)"]);
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
