//! Fields that both chat and completions accept: sampling, limits, the number of answers, streaming. OpenAI's names,
//! and those that other servers add.

use serde_json::Value;

use crate::http::ask::fields::{Fields, wrong_type};
use crate::http::ask::format::{Format, TextFormat, any_schema, format, lenient};
use crate::http::ask::generation::{Defaults, Generation};
use crate::http::ask::notes::note;
use crate::http::ask::sampling::{Limit, limit, logit_bias, sampling, stops};
use crate::types::RequestError;
use crate::types::limits::{CHOICES_MAX, TOP_LOGPROBS_MAX};

/// What the end of a stream contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// Whether the last event before the end has the usage.
    pub include_usage: bool,
}

impl StreamOptions {
    /// Takes the common fields into `generation`, whose inputs are set.
    ///
    /// # Errors
    /// A field has the wrong type or is out of bounds.
    pub fn take(
        fields: &mut Fields,
        defaults: &Defaults,
        generation: &mut Generation,
    ) -> Result<StreamOptions, RequestError> {
        for name in ["model", "user"] {
            fields.string(name)?;
        }
        generation.answers = fields.integer("n", 1..=CHOICES_MAX)?.unwrap_or(1) as usize;
        let old = limit(fields, "max_tokens")?;
        let new = limit(fields, "max_completion_tokens")?;
        generation.max_tokens = new.or(old).map_or(defaults.max_tokens, Limit::tokens);
        generation.sampling = sampling(fields, &defaults.sampling, generation.sampling.seed)?;
        generation.sampling.logit_bias = logit_bias(fields)?;
        generation.stop = stops(fields)?;
        generation.take_common(fields, defaults)?;
        generation.take_budget(fields)?;
        let include_usage = match fields.take("stream_options") {
            None => false,
            Some(value) => Fields::nested(value, "stream_options")?.bool("include_usage")?.unwrap_or(false),
        };
        Ok(StreamOptions { include_usage })
    }
}

/// Takes the number of most likely tokens from the field `name`.
pub fn top_logprobs(fields: &mut Fields, name: &str) -> Result<Option<usize>, RequestError> {
    Ok(fields.integer(name, 0..=TOP_LOGPROBS_MAX as u64)?.map(|top| top as usize))
}

/// Takes the text's format: `response_format`, or another server's field.
pub fn text_format(fields: &mut Fields) -> Result<Format, RequestError> {
    let own = response_format(fields)?;
    format(fields, own)
}

fn response_format(fields: &mut Fields) -> Result<Option<Format>, RequestError> {
    const NAME: &str = "response_format";
    let Some(value) = fields.take(NAME) else { return Ok(None) };
    let mut format = Fields::nested(value, NAME)?;
    let kind = format.string("type")?.ok_or_else(|| RequestError::field("response_format.type", "is missing"))?;
    note(&format.named("type"), || serde_json::json!({"enum": ["text", "json_object", "json_schema"]}));
    let text = match kind.as_str() {
        "text" => return Ok(None),
        "json_object" => match format.object("schema")? {
            // llama-server's form of a schema.
            Some(schema) => TextFormat::LenientSchema(Value::Object(schema)),
            None => TextFormat::JsonObject,
        },
        "json_schema" => {
            let missing = |name: &str| RequestError::field(name, "is missing");
            let named = format.take("json_schema").ok_or_else(|| missing("response_format.json_schema"))?;
            let mut named = Fields::nested(named, "response_format.json_schema")?;
            named.string("name")?;
            let strict = named.bool("strict")?.unwrap_or(false);
            match named.take_noted("schema", any_schema) {
                Some(schema @ (Value::Object(_) | Value::Bool(_))) if strict => TextFormat::JsonSchema(schema),
                Some(schema @ (Value::Object(_) | Value::Bool(_))) => lenient(schema, NAME)?.text,
                Some(other) => return Err(wrong_type("response_format.json_schema.schema", "an object", &other)),
                None => return Err(missing("response_format.json_schema.schema")),
            }
        }
        other => {
            let message = format!("must be text, json_object or json_schema, not {other:?}");
            return Err(RequestError::field("response_format.type", message));
        }
    };
    Ok(Some(Format { text, field: NAME }))
}
