//! The numeric sampling parameters: one row each, with its names, bounds and effect. Requests are parsed by these rows,
//! and the OpenAPI document and the table in `docs/http.md` are made of them.

use serde_json::{Value, json};

use super::fields::{number_in, number_within, whole_in};
use crate::types::limits::{PARAMETER_COUNT_MAX, PARAMETER_MAX, PENALTY_LAST_N_MAX, TOP_K_MAX};
use crate::types::{Mirostat, RequestError, SamplingParams};

/// Which values a parameter accepts.
#[derive(Clone, Copy, Debug)]
pub enum Accepts {
    /// A number from the first to the second bound.
    Number(f32, f32),
    /// Any number; a number beyond the bounds is set to the bound.
    Clamped(f32, f32),
    /// A whole number from the first to the second bound.
    Whole(i64, i64),
}

/// A value within its bounds.
#[derive(Clone, Copy, Debug)]
pub enum ParameterValue {
    /// A real number.
    Real(f32),
    /// A whole number.
    Whole(i64),
}

impl ParameterValue {
    fn real(self) -> f32 {
        match self {
            ParameterValue::Real(number) => number,
            ParameterValue::Whole(number) => number as f32,
        }
    }

    fn whole(self) -> i64 {
        match self {
            ParameterValue::Real(number) => number as i64,
            ParameterValue::Whole(number) => number,
        }
    }

    /// The value as a count; a negative number becomes 0.
    fn count(self) -> usize {
        usize::try_from(self.whole()).unwrap_or(0)
    }

    /// The value as a number of tokens to look back on; a negative number means the largest allowed.
    fn look_back(self) -> usize {
        usize::try_from(self.whole()).map_or(PENALTY_LAST_N_MAX, |n| n.min(PENALTY_LAST_N_MAX))
    }
}

/// Sampling parameters of a request that is being read.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The parameters so far, apart from Mirostat's.
    pub params: SamplingParams,
    /// Whether the request turns Mirostat on or off; `None`: it does neither.
    mirostat_on: Option<bool>,
    /// Mirostat's parameters, also while it is off.
    mirostat: Mirostat,
}

impl Draft {
    /// Begins with `usual`, the server's defaults.
    pub fn new(usual: &SamplingParams) -> Draft {
        Draft { params: usual.clone(), mirostat_on: None, mirostat: usual.mirostat.unwrap_or_default() }
    }

    /// The parameters, after all fields are read.
    pub fn finished(self) -> SamplingParams {
        let is_on = self.mirostat_on.unwrap_or(self.params.mirostat.is_some());
        SamplingParams { mirostat: is_on.then_some(self.mirostat), ..self.params }
    }
}

/// One numeric parameter.
pub struct Parameter {
    /// Its names in requests. The first is the documented one, and counts if several are given.
    pub names: &'static [&'static str],
    /// The values that it accepts.
    pub accepts: Accepts,
    /// Its default, as text for documents.
    pub usual: &'static str,
    /// Its effect, for people.
    pub about: &'static str,
    /// Sets the parameter in the draft.
    pub set: fn(&mut Draft, ParameterValue),
}

impl Parameter {
    /// Reads `value` from the field `path`.
    ///
    /// # Errors
    /// It is no number, or out of bounds.
    pub fn read(&self, draft: &mut Draft, value: &Value, path: &str) -> Result<(), RequestError> {
        let number = match self.accepts {
            Accepts::Number(low, high) => ParameterValue::Real(number_in(value, path, &(low..=high))?),
            Accepts::Clamped(low, high) => {
                ParameterValue::Real(number_in(value, path, &(-PARAMETER_MAX..=PARAMETER_MAX))?.clamp(low, high))
            }
            Accepts::Whole(low, high) => ParameterValue::Whole(whole_in(value, path, &(low..=high))?),
        };
        (self.set)(draft, number);
        Ok(())
    }

    /// The JSON schema of its values.
    pub fn schema(&self) -> Value {
        let mut schema = match self.accepts {
            Accepts::Number(low, high) => number_within(&(low..=high)),
            Accepts::Clamped(..) => number_within(&(-PARAMETER_MAX..=PARAMETER_MAX)),
            Accepts::Whole(low, high) => json!({"type": "integer", "minimum": low, "maximum": high}),
        };
        schema["description"] =
            json!(format!("{}. {} unless the server's settings say otherwise.", self.about, self.usual));
        schema
    }

    /// Its row of the table in `docs/http.md`.
    #[cfg(test)]
    pub fn line(&self) -> String {
        let names: Vec<String> = self.names.iter().map(|name| format!("`{name}`")).collect();
        let accepts = match self.accepts {
            Accepts::Number(low, high) => format!("{low} to {high}"),
            Accepts::Clamped(..) => "a number".to_owned(),
            Accepts::Whole(i64::MIN, _) => "any whole number".to_owned(),
            Accepts::Whole(low, high) if high > 1_000 => format!("{low} and more"),
            Accepts::Whole(low, high) => format!("{low} to {high}"),
        };
        format!("| {} | {accepts} | {} | {} |", names.join(", or "), self.usual, self.about)
    }
}

/// All parameters, in the order of the documents.
pub static PARAMETERS: &[Parameter] = &[
    Parameter {
        names: &["temperature"],
        accepts: Accepts::Number(0.0, 100.0),
        usual: "0.8",
        about: "0 is greedy: always the most likely token",
        set: |draft, number| draft.params.temperature = number.real(),
    },
    Parameter {
        names: &["top_k"],
        accepts: Accepts::Whole(i64::MIN, i64::MAX),
        usual: "40",
        about: "keep the K most likely tokens; 0 or less keeps all",
        set: |draft, number| draft.params.top_k = number.count().min(TOP_K_MAX),
    },
    Parameter {
        names: &["top_p"],
        accepts: Accepts::Number(0.0, 1.0),
        usual: "0.95",
        about: "keep the most likely tokens whose probabilities add up to this; 1 keeps all, 0 only the most likely",
        set: |draft, number| draft.params.top_p = number.real().max(f32::MIN_POSITIVE),
    },
    Parameter {
        names: &["min_p"],
        accepts: Accepts::Number(0.0, 1.0),
        usual: "0.05",
        about: "drop tokens below this share of the most likely token's probability; 0 is off",
        set: |draft, number| draft.params.min_p = number.real(),
    },
    Parameter {
        names: &["typical_p"],
        accepts: Accepts::Number(0.0, 1.0),
        usual: "1",
        about: "locally typical sampling; 1 is off",
        set: |draft, number| draft.params.typical_p = number.real().max(f32::MIN_POSITIVE),
    },
    Parameter {
        names: &["top_n_sigma"],
        accepts: Accepts::Clamped(-PARAMETER_MAX, PARAMETER_MAX),
        usual: "0",
        about: "keep tokens whose logits are at most this many standard deviations below the highest; 0 or less is off",
        set: |draft, number| draft.params.top_n_sigma = number.real(),
    },
    Parameter {
        names: &["xtc_probability"],
        accepts: Accepts::Clamped(0.0, 1.0),
        usual: "0",
        about: "XTC: with this probability, of the tokens that reach `xtc_threshold` only the least likely stays; 0 is off",
        set: |draft, number| draft.params.xtc_probability = number.real(),
    },
    Parameter {
        names: &["xtc_threshold"],
        accepts: Accepts::Clamped(0.0, 1.0),
        usual: "0.1",
        about: "the probability that a token must reach for XTC; above 0.5 is off",
        set: |draft, number| draft.params.xtc_threshold = number.real(),
    },
    Parameter {
        names: &["min_keep"],
        accepts: Accepts::Whole(0, PARAMETER_COUNT_MAX),
        usual: "0",
        about: "the fewest tokens that `typical_p`, `top_p`, `min_p` and XTC leave",
        set: |draft, number| draft.params.min_keep = number.count(),
    },
    Parameter {
        names: &["dynatemp_range"],
        accepts: Accepts::Clamped(0.0, 100.0),
        usual: "0",
        about: "the temperature varies by up to this much, up and down, with the entropy of the distribution; 0 is off",
        set: |draft, number| draft.params.dynatemp_range = number.real(),
    },
    Parameter {
        names: &["dynatemp_exponent"],
        accepts: Accepts::Clamped(0.0, 100.0),
        usual: "1",
        about: "the exponent of the entropy in `dynatemp_range`",
        set: |draft, number| draft.params.dynatemp_exponent = number.real(),
    },
    Parameter {
        names: &["mirostat"],
        accepts: Accepts::Whole(0, 2),
        usual: "0",
        // Mirostat 1 estimates the shape of the distribution, which Mirostat 2 doesn't need; both aim at the same
        // surprise.
        about: "1 and 2: Mirostat 2 in place of penalties and filters; 0 is off",
        set: |draft, number| draft.mirostat_on = Some(number.whole() > 0),
    },
    Parameter {
        names: &["mirostat_tau"],
        accepts: Accepts::Clamped(0.0, 100.0),
        usual: "5",
        about: "the surprise that Mirostat aims at, in bits",
        set: |draft, number| draft.mirostat.tau = number.real(),
    },
    Parameter {
        names: &["mirostat_eta"],
        accepts: Accepts::Clamped(0.0, 1.0),
        usual: "0.1",
        about: "the learning rate of Mirostat",
        set: |draft, number| draft.mirostat.eta = number.real(),
    },
    Parameter {
        names: &["dry_multiplier"],
        accepts: Accepts::Clamped(-PARAMETER_MAX, PARAMETER_MAX),
        usual: "0",
        about: "DRY: a token that would continue a repetition loses multiplier * base ^ (length - allowed length) of its logit; 0 is off",
        set: |draft, number| draft.params.dry.multiplier = number.real(),
    },
    Parameter {
        names: &["dry_base"],
        accepts: Accepts::Clamped(-PARAMETER_MAX, PARAMETER_MAX),
        usual: "1.75",
        about: "the base in `dry_multiplier`",
        set: |draft, number| draft.params.dry.base = number.real(),
    },
    Parameter {
        names: &["dry_allowed_length"],
        accepts: Accepts::Whole(0, PARAMETER_COUNT_MAX),
        usual: "2",
        about: "DRY applies to repetitions of this many tokens and more",
        set: |draft, number| draft.params.dry.allowed_length = number.count(),
    },
    Parameter {
        names: &["dry_penalty_last_n"],
        accepts: Accepts::Whole(-1, PARAMETER_COUNT_MAX),
        usual: "64",
        about: "how many of the latest tokens DRY looks at; -1 and more than 4,096 are 4,096",
        set: |draft, number| draft.params.dry.last_n = number.look_back(),
    },
    Parameter {
        names: &["repetition_penalty", "repeat_penalty"],
        accepts: Accepts::Number(0.01, 10.0),
        usual: "1",
        about: "makes tokens of the latest text less likely; 1 is off, 2 halves a positive logit and doubles a negative one",
        set: |draft, number| draft.params.repetition_penalty = number.real(),
    },
    Parameter {
        names: &["presence_penalty"],
        // OpenAI documents -2 to 2, but other servers accept more.
        accepts: Accepts::Number(-100.0, 100.0),
        usual: "0",
        about: "subtracted once from the logit of each such token",
        set: |draft, number| draft.params.presence_penalty = number.real(),
    },
    Parameter {
        names: &["frequency_penalty"],
        accepts: Accepts::Number(-100.0, 100.0),
        usual: "0",
        about: "subtracted from the logit of each such token for each time it occurred",
        set: |draft, number| draft.params.frequency_penalty = number.real(),
    },
    Parameter {
        names: &["repeat_last_n"],
        accepts: Accepts::Whole(-1, PARAMETER_COUNT_MAX),
        usual: "64",
        about: "how many of the latest tokens these three penalties look at; -1 and more than 4,096 are 4,096",
        set: |draft, number| draft.params.penalty_last_n = number.look_back(),
    },
];

/// The parameter with this name, and the index of the name among its names.
pub fn named(name: &str) -> Option<(&'static Parameter, usize)> {
    PARAMETERS.iter().find_map(|row| Some((row, row.names.iter().position(|known| *known == name)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_defaults_are_those_of_the_program() {
        let usual = SamplingParams::default();
        for row in PARAMETERS {
            let mut draft = Draft::new(&usual);
            row.read(&mut draft, &serde_json::from_str(row.usual).unwrap(), row.names[0]).unwrap();
            assert_eq!(draft.finished(), usual, "{}", row.names[0]);
        }
    }

    #[test]
    fn each_row_changes_something_and_the_document_has_its_line() {
        let document = include_str!("../../../docs/http.md");
        let missing: Vec<String> =
            PARAMETERS.iter().map(Parameter::line).filter(|line| !document.contains(line)).collect();
        assert!(missing.is_empty(), "docs/http.md misses\n{}", missing.join("\n"));
        for row in PARAMETERS {
            // Mirostat's parameters only count while it is on.
            let usual = SamplingParams { mirostat: Some(Mirostat::default()), ..SamplingParams::default() };
            let mut draft = Draft::new(&usual);
            let other = if row.names[0] == "mirostat" { 0 } else { 1 };
            let value = if row.usual == "1" { json!(0.5) } else { json!(other) };
            row.read(&mut draft, &value, row.names[0]).unwrap();
            assert_ne!(draft.finished(), usual, "{}", row.names[0]);
        }
    }
}
