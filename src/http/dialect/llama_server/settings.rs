//! How a request is sampled, under llama-server's names: in `generation_settings` of an answer, and in `/props` for a request that says
//! nothing. What has no counterpart here is left out; `tests/peer/different.rs` lists it with the reason.

use serde_json::{Map, Value, json};

use super::completion_request::{AnswerShape, SAMPLERS};
use crate::http::ask::format::TextFormat;
use crate::http::ask::generation::Generation;
use crate::types::{Mirostat, SamplingParams};

/// Texts at which DRY's repetitions end where a request names none.
const BREAKERS: [&str; 4] = ["\n", ":", "\"", "*"];

/// What an answer repeats of its request. `n_predict`: the most tokens that the answer could have.
pub fn of_request(generation: &Generation, n_predict: usize, shape: &AnswerShape) -> Value {
    let params = &generation.sampling;
    let stops = generation.stop.iter().map(|stop| Value::from(String::from_utf8_lossy(stop).into_owned()));
    let biases = params.logit_bias.iter().map(|(token, bias)| json!({"bias": bias, "token": token}));
    let grammar = match &generation.format.text {
        TextFormat::Grammar(text) => text.as_str(),
        _ => "",
    };
    let mut settings = of_sampling(params, json!(params.seed), json!(n_predict));
    if let Some(samplers) = &shape.samplers {
        settings.insert("samplers".to_owned(), json!(samplers));
    }
    for (name, value) in [
        ("dry_sequence_breakers", params.dry.breaker_texts.as_deref().map_or(json!(BREAKERS), |texts| json!(texts))),
        ("stop", stops.collect()),
        ("ignore_eos", generation.ignore_eos.into()),
        ("stream", generation.stream.into()),
        ("logit_bias", biases.collect()),
        ("n_probs", generation.scores.top.unwrap_or(0).into()),
        ("grammar", grammar.into()),
        ("timings_per_token", shape.timings_per_token.into()),
        ("post_sampling_probs", generation.scores.sampled.into()),
    ] {
        settings.insert(name.to_owned(), value);
    }
    Value::Object(settings)
}

/// What a request gets that says nothing.
pub fn of_defaults(usual: &SamplingParams, seed: Value, n_predict: Value) -> Value {
    let mut settings = of_sampling(usual, seed, n_predict);
    for name in ["ignore_eos", "stream", "timings_per_token", "post_sampling_probs"] {
        settings.insert(name.to_owned(), false.into());
    }
    settings.insert("n_probs".to_owned(), 0.into());
    Value::Object(settings)
}

fn of_sampling(params: &SamplingParams, seed: Value, n_predict: Value) -> Map<String, Value> {
    let Mirostat { tau, eta } = params.mirostat.unwrap_or_default();
    let samplers: Vec<&str> = SAMPLERS.iter().filter_map(|names| names.first().copied()).collect();
    let settings = [
        ("seed", seed),
        ("temperature", params.temperature.into()),
        ("dynatemp_range", params.dynatemp_range.into()),
        ("dynatemp_exponent", params.dynatemp_exponent.into()),
        ("top_k", params.top_k.into()),
        ("top_p", params.top_p.into()),
        ("min_p", params.min_p.into()),
        ("top_n_sigma", params.top_n_sigma.into()),
        ("xtc_probability", params.xtc_probability.into()),
        ("xtc_threshold", params.xtc_threshold.into()),
        ("typical_p", params.typical_p.into()),
        ("repeat_last_n", params.penalty_last_n.into()),
        ("repeat_penalty", params.repetition_penalty.into()),
        ("presence_penalty", params.presence_penalty.into()),
        ("frequency_penalty", params.frequency_penalty.into()),
        ("dry_multiplier", params.dry.multiplier.into()),
        ("dry_base", params.dry.base.into()),
        ("dry_allowed_length", params.dry.allowed_length.into()),
        ("dry_penalty_last_n", params.dry.last_n.into()),
        ("mirostat", json!(if params.mirostat.is_some() { 2 } else { 0 })),
        ("mirostat_tau", tau.into()),
        ("mirostat_eta", eta.into()),
        ("min_keep", params.min_keep.into()),
        ("max_tokens", n_predict.clone()),
        ("n_predict", n_predict),
        ("samplers", json!(samplers)),
        ("lora", json!([])),
    ];
    settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
