//! Parses the body of `/v1/chat/completions`, without the model. Pure.

use serde_json::{Map, Value, json};

use super::messages::messages;
use super::options::{StreamOptions, text_format, top_logprobs};
use super::tools::tool_use;
use crate::http::ask::fields::Fields;
use crate::http::ask::generation::{Defaults, Generation};
use crate::http::ask::warnings::{self, warn};
use crate::types::RequestError;

/// Parses a body.
///
/// # Errors
/// A field has the wrong type or is out of bounds.
pub fn parse(body: &[u8], defaults: &Defaults, fresh_seed: u64) -> Result<(Generation, StreamOptions), RequestError> {
    let mut fields = Fields::parse(body)?;
    let mut generation = Generation::chat(messages(&mut fields)?, defaults, fresh_seed);
    let options = StreamOptions::take(&mut fields, defaults, &mut generation)?;
    let tools = tool_use(&mut fields)?;
    generation.wants(tools, text_format(&mut fields)?);
    let logprobs = fields.bool("logprobs")?.unwrap_or(false);
    let top = top_logprobs(&mut fields, "top_logprobs")?;
    if top.is_some_and(|top| top > 0) && !logprobs {
        return Err(RequestError::field("top_logprobs", "needs logprobs to be true"));
    }
    generation.scores.top = logprobs.then_some(top.unwrap_or(0));
    generation.kwargs = kwargs(&mut fields)?;
    continuation(&mut fields, &mut generation)?;
    generation.prediction = prediction(&mut fields);
    warnings::ignored(&ignored_of(&fields));
    Ok((generation, options))
}

/// Takes `continue_final_message` and `add_generation_prompt`, as in vLLM: whether the answer continues the assistant's
/// last turn. The default is that it does.
fn continuation(fields: &mut Fields, generation: &mut Generation) -> Result<(), RequestError> {
    let continues = fields.bool("continue_final_message")?;
    let anew = fields.bool("add_generation_prompt")?;
    match (continues, anew) {
        (Some(true), Some(true)) => {
            let message = "give either continue_final_message or add_generation_prompt as true, not both";
            return Err(RequestError::field("add_generation_prompt", message));
        }
        (Some(true), _) if generation.begun.is_none() => {
            warn("continue_final_message: ignored, the last turn is no text of the assistant's");
        }
        (_, Some(false)) if generation.begun.is_none() => {
            warn("add_generation_prompt: ignored, an answer is a turn of the assistant's");
        }
        (Some(true), _) | (None, None | Some(false)) => {}
        (Some(false), _) | (None, Some(true)) => generation.answer_anew(),
    }
    Ok(())
}

/// Fields of OpenAI's own service that don't affect an answer. Its clients send them with every request.
const WITHOUT_EFFECT: [&str; 9] = [
    "store",
    "metadata",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "cache_prompt",
    "verbosity",
    "modalities",
];

/// The fields that were not taken, except those known to have no effect.
fn ignored_of(fields: &Fields) -> Vec<String> {
    let mut unknown = fields.unknown();
    unknown.retain(|name| !WITHOUT_EFFECT.contains(&name.as_str()));
    unknown
}

/// Takes the text of `prediction`; empty if absent. A value in another form changes no answer and is named in a
/// warning.
fn prediction(fields: &mut Fields) -> String {
    // No value is refused, so the document allows any.
    let any = || json!({"description": "{\"type\": \"content\", \"content\": TEXT or parts of text}"});
    let Some(value) = fields.take_noted("prediction", any) else { return String::new() };
    let text = match (value["type"].as_str(), &value["content"]) {
        (Some("content"), Value::String(text)) => Some(text.clone()),
        (Some("content"), Value::Array(parts)) => parts.iter().map(|part| part["text"].as_str()).collect(),
        _ => None,
    };
    text.unwrap_or_else(|| {
        warnings::warn("prediction has no text that could be read: nothing is expected");
        String::new()
    })
}

/// Takes variables for the template: `chat_template_kwargs`, whose booleans some clients send as strings;
/// `reasoning_effort`, of which `none` turns thinking off; `enable_thinking`.
fn kwargs(fields: &mut Fields) -> Result<Map<String, Value>, RequestError> {
    let mut kwargs = fields.object("chat_template_kwargs")?.unwrap_or_default();
    for value in kwargs.values_mut() {
        match value.as_str() {
            Some("true" | "True") => *value = Value::Bool(true),
            Some("false" | "False") => *value = Value::Bool(false),
            _ => {}
        }
    }
    if let Some(effort) = fields.string("reasoning_effort")? {
        if effort == "none" {
            kwargs.insert("enable_thinking".to_owned(), Value::Bool(false));
        } else {
            kwargs.insert("reasoning_effort".to_owned(), Value::String(effort));
        }
    }
    if let Some(thinks) = fields.bool("enable_thinking")? {
        kwargs.insert("enable_thinking".to_owned(), Value::Bool(thinks));
    }
    Ok(kwargs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Message;
    use crate::http::ask::format::TextFormat;
    use crate::http::ask::generation::Input;

    fn read(extra: Value) -> Result<(Generation, StreamOptions), RequestError> {
        let mut body = json!({"messages": [{"role": "user", "content": "Hi"}], "model": "any"});
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        parse(body.to_string().as_bytes(), &Defaults::of_tests(), 7)
    }

    #[test]
    fn a_prediction_is_a_text_or_left_out() {
        let text = |prediction: Value| read(json!({ "prediction": prediction })).unwrap().0.prediction;
        assert_eq!(text(json!({"type": "content", "content": "ab"})), "ab");
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        assert_eq!(text(json!({"type": "content", "content": parts})), "ab");
        let without_text =
            [json!("ab"), json!({"type": "other", "content": "ab"}), json!({"type": "content", "content": [1]})];
        for other in without_text.into_iter().chain([json!(null)]) {
            assert_eq!(text(other), "");
        }
    }

    fn tool(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}})
    }

    #[test]
    fn every_refusal_names_its_param() {
        let user = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
        for (extra, param) in [
            (json!({"messages": null}), "messages"),
            (json!({"messages": {}}), "messages"),
            (json!({"messages": []}), "messages"),
            (json!({"messages": ["Hi"]}), "messages[0]"),
            (json!({"messages": [{"content": "Hi"}]}), "messages[0].role"),
            (json!({"messages": [{"role": "king", "content": "Hi"}]}), "messages[0].role"),
            (user(json!(3)), "messages[0].content"),
            (
                json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "a"}]}]}),
                "messages[0].tool_calls[0].function",
            ),
            (json!({"model": 3}), "model"),
            (json!({"user": {}}), "user"),
            (json!({"n": 0}), "n"),
            (json!({"n": 17}), "n"),
            (json!({"max_completion_tokens": "9"}), "max_completion_tokens"),
            (json!({"temperature": "hot"}), "temperature"),
            (json!({"temperature": -1}), "temperature"),
            (json!({"top_p": 1.5}), "top_p"),
            (json!({"seed": 1.5}), "seed"),
            (json!({"frequency_penalty": []}), "frequency_penalty"),
            (json!({"logit_bias": {"x": 1}}), "logit_bias"),
            (json!({"logprobs": 3}), "logprobs"),
            (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs"),
            (json!({"top_logprobs": 2}), "top_logprobs"),
            (json!({"stream": "yes"}), "stream"),
            (json!({"stream_options": true}), "stream_options"),
            (json!({"stream_options": {"include_usage": 1}}), "stream_options.include_usage"),
            (json!({"tools": {}}), "tools"),
            (json!({"tools": [{"type": "function"}]}), "tools[0].function"),
            (json!({"tools": [tool("f"), tool("no good")]}), "tools[1].function.name"),
            (json!({"tools": [{"function": {"name": "f", "parameters": 3}}]}), "tools[0].function.parameters"),
            (json!({"tools": [tool("f")], "tool_choice": "maybe"}), "tool_choice"),
            (json!({"tools": [tool("f")], "tool_choice": 1}), "tool_choice"),
            (
                json!({"tools": [tool("f")], "tool_choice": {"type": "function", "function": {"name": "g"}}}),
                "tool_choice",
            ),
            (json!({"parallel_tool_calls": "yes"}), "parallel_tool_calls"),
            (json!({"response_format": "json"}), "response_format"),
            (json!({"response_format": {"type": "xml"}}), "response_format.type"),
            (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema"),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"schema": 3}}}),
                "response_format.json_schema.schema",
            ),
            (json!({"grammar": 3}), "grammar"),
            (json!({"regex": "a+", "grammar": "start: A"}), "regex"),
            (json!({"chat_template_kwargs": []}), "chat_template_kwargs"),
            (json!({"reasoning_effort": 3}), "reasoning_effort"),
        ] {
            match read(extra.clone()) {
                Err(RequestError::Field { field, .. }) => assert_eq!(field, param, "{extra}"),
                other => panic!("{extra}: {other:?}"),
            }
        }
    }

    #[test]
    fn unknown_fields_are_ignored_and_the_newer_limit_wins() {
        let limits = json!({"store": true, "metadata": {}, "max_tokens": 9, "max_completion_tokens": 5, "seed": -1, "top_k": -1});
        let (request, _) = read(limits).unwrap();
        assert_eq!((request.max_tokens, request.answers), (Some(5), 1));
        assert_eq!((request.sampling.seed, request.sampling.top_k), (u64::MAX, 0));
        assert_eq!((request.format.text, request.tools.len(), request.calls_max), (TextFormat::Any, 0, 0));
    }

    #[test]
    fn parts_of_text_are_one_text() {
        let content = json!([{"type": "text", "text": "One"}, {"type": "text", "text": "two"}]);
        let (request, _) = read(json!({"messages": [{"role": "user", "content": content}]})).unwrap();
        assert_eq!(request.inputs, [Input::Chat(vec![Message::new("user", "One\ntwo")])]);
    }

    #[test]
    fn tools_and_formats_become_one_format() {
        let tools = json!([tool("f"), tool("g")]);
        let format = |extra: Value| read(extra).unwrap().0.format.text;
        let calls = |required, named: Option<&str>, parallel| TextFormat::ToolCalls {
            tools: tools.as_array().unwrap().clone(),
            required,
            named: named.map(str::to_owned),
            parallel,
            text: None,
        };
        assert_eq!(format(json!({"tools": tools})), calls(false, None, true));
        assert_eq!(format(json!({"tools": tools, "tool_choice": "required"})), calls(true, None, true));
        let named = json!({"type": "function", "function": {"name": "g"}});
        assert_eq!(
            format(json!({"tools": tools, "tool_choice": named, "parallel_tool_calls": false})),
            calls(true, Some("g"), false)
        );
        assert_eq!(format(json!({"tools": tools, "tool_choice": "none"})), TextFormat::Any);
        assert_eq!(format(json!({"tools": tools, "tool_choice": "any"})), calls(true, None, true));
        assert_eq!(format(json!({"tools": tools, "tool_choice": {"type": "auto"}})), calls(false, None, true));
        let by_name = json!({"type": "function", "name": "f"});
        assert_eq!(format(json!({"tools": tools, "tool_choice": by_name})), calls(true, Some("f"), true));
        let both = format(json!({"tools": tools, "response_format": {"type": "json_object"}}));
        let TextFormat::ToolCalls { required: false, text, .. } = both else { panic!("{both:?}") };
        assert_eq!(text.unwrap().text, TextFormat::JsonObject);
        let forced = json!({"tools": tools, "tool_choice": "required", "response_format": {"type": "json_object"}});
        assert_eq!(format(forced), calls(true, None, true));
        assert_eq!(format(json!({"guided_choice": ["a.b", "c"]})), TextFormat::Regex("(a\\.b|c)".into()));
        assert_eq!(format(json!({"tools": []})), TextFormat::Any);
        assert_eq!(format(json!({"response_format": {"type": "text"}})), TextFormat::Any);
        assert_eq!(format(json!({"response_format": {"type": "json_object"}})), TextFormat::JsonObject);
        let schema = json!({"type": "object", "properties": {"b": {}, "a": {}}});
        let format = format(json!({"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}));
        let TextFormat::LenientSchema(kept) = format else { panic!("{format:?}") };
        // The fields keep the client's order.
        assert_eq!(kept.to_string(), schema.to_string());
        assert_eq!(read(json!({"regex": "a+"})).unwrap().0.format.text, TextFormat::Regex("a+".into()));
    }
}
