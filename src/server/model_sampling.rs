//! Sampling parameters that a model's file recommends (`general.sampling.*`). The configuration overrides them, and they
//! override cllm's defaults.
//!
//! The keys are llama.cpp's. Values out of bounds are ignored, and so is the order of samplers, because cllm has only one.

use std::fmt::Display;
use std::ops::RangeInclusive;

use crate::config::definition::Definition;
use crate::config::settings::sampling::{MIN_P, TEMP, TOP_K, TOP_P};
use crate::config::{Config, Origin};
use crate::gguf::GgufFile;
use crate::types::Mirostat;
use crate::types::limits::PENALTY_LAST_N_MAX;

/// Writes the file's values into `config` where no flag, variable or configuration file has set a value. Returns what it
/// wrote, such as `temp = 0.6`.
pub fn apply(config: &mut Config, gguf: &GgufFile) -> Vec<String> {
    let mut said = SaidByModel { gguf, taken: Vec::new() };
    let open = |setting: &dyn Definition| *config.origin(setting) == Origin::Default;
    let (temp, top_k, top_p, min_p) = (open(&TEMP), open(&TOP_K), open(&TOP_P), open(&MIN_P));
    let sampling = &mut config.sampling;
    if temp {
        said.number("temp", &TEMP.takes.within, &mut sampling.temperature);
    }
    if top_k {
        said.count("top_k", *TOP_K.takes.within.end(), &mut sampling.top_k);
    }
    if top_p {
        said.number("top_p", &TOP_P.takes.within, &mut sampling.top_p);
    }
    if min_p {
        said.number("min_p", &MIN_P.takes.within, &mut sampling.min_p);
    }
    said.number("xtc_probability", &(0.0..=1.0), &mut sampling.xtc_probability);
    said.number("xtc_threshold", &(0.0..=1.0), &mut sampling.xtc_threshold);
    said.count("penalty_last_n", PENALTY_LAST_N_MAX, &mut sampling.penalty_last_n);
    said.number("penalty_repeat", &(0.01..=10.0), &mut sampling.repetition_penalty);
    let mut version = 0;
    said.count("mirostat", 2, &mut version);
    if version > 0 {
        let mut mirostat = Mirostat::default();
        said.number("mirostat_tau", &(0.0..=100.0), &mut mirostat.tau);
        said.number("mirostat_eta", &(0.0..=1.0), &mut mirostat.eta);
        sampling.mirostat = Some(mirostat);
    }
    said.taken
}

struct SaidByModel<'a> {
    gguf: &'a GgufFile,
    taken: Vec<String>,
}

impl SaidByModel<'_> {
    fn number(&mut self, key: &str, range: &RangeInclusive<f32>, to: &mut f32) {
        let name = name(key);
        let value = self.gguf.f32(&name).or_else(|| self.gguf.u64(&name).map(|whole| whole as f32));
        self.take(key, value.filter(|value| range.contains(value)), to);
    }

    fn count(&mut self, key: &str, most: usize, to: &mut usize) {
        let value = self.gguf.u64(&name(key)).and_then(|value| usize::try_from(value).ok());
        self.take(key, value.filter(|value| *value <= most), to);
    }

    fn take<T: Display + Copy>(&mut self, key: &str, value: Option<T>, to: &mut T) {
        if let Some(value) = value {
            self.taken.push(format!("{key} = {value}"));
            *to = value;
        }
    }
}

fn name(key: &str) -> String {
    format!("general.sampling.{key}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;
    use crate::gguf::{GgufWriter, Value};
    use crate::types::SamplingParams;

    fn gguf(keys: &[(&str, Value)]) -> GgufFile {
        let mut writer = GgufWriter::new();
        writer.add_kv("general.architecture", Value::str("llama"));
        for (key, value) in keys {
            writer.add_kv(&name(key), value.clone());
        }
        let bytes = writer.into_bytes();
        GgufFile::read(&bytes[..], bytes.len() as u64, std::path::Path::new("x.gguf")).expect("a file of ours")
    }

    fn config() -> Config {
        Config::resolve(Layers::default()).expect("the defaults are valid")
    }

    #[test]
    fn what_the_file_says_counts_below_what_the_user_says() {
        let file = gguf(&[
            ("temp", Value::F32(0.6)),
            ("top_k", Value::I32(20)),
            ("top_p", Value::F32(7.0)),
            ("min_p", Value::F32(0.0)),
            ("penalty_repeat", Value::F32(1.5)),
            ("mirostat", Value::I32(0)),
        ]);
        let mut plain = config();
        let taken = apply(&mut plain, &file);
        assert_eq!(taken, ["temp = 0.6", "top_k = 20", "min_p = 0", "penalty_repeat = 1.5", "mirostat = 0"]);
        let expected = SamplingParams {
            temperature: 0.6,
            top_k: 20,
            min_p: 0.0,
            repetition_penalty: 1.5,
            ..SamplingParams::default()
        };
        assert_eq!(plain.sampling, expected);
        let vars = [("CLLM_TEMP".to_owned(), "0.9".to_owned())];
        let mut said = Config::resolve(Layers::read(&Default::default(), vars).unwrap()).unwrap();
        apply(&mut said, &file);
        assert_eq!((said.sampling.temperature, said.sampling.top_k), (0.9, 20));
        assert!(apply(&mut config(), &gguf(&[])).is_empty());
    }
}
