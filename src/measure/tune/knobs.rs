//! The four settings that are tuned, with the values worth trying for each, or why there are none.

use crate::config::definition::Definition;
use crate::config::settings::compute::THREADS;
use crate::config::settings::context::{FLASH_ATTN, KV_UNIFIED, STEP_TOKENS};
use crate::config::{Config, FlashAttn, Origin, quoted};
use crate::llama::attention;
use crate::server::defaults::is_small;
use crate::topology::Machine;
use crate::types::limits::ONE_THREAD_MODEL_BYTES_MAX;
use crate::types::{KvType, KvTypes};

/// Values of `step-tokens` that are tried: whole tiles, plus one row of the running requests (`engine/budget.rs`). Smaller
/// values read prompts more slowly and never win.
const STEP_TOKENS_TRIED: [usize; 3] = [129, 257, 512];

/// One setting with one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnobValue {
    /// `None`: chosen from the machine's cores.
    Threads(Option<usize>),
    /// Whether attention is fused.
    FlashAttn(FlashAttn),
    /// `None`: one buffer if attention skips hidden cells.
    KvUnified(Option<bool>),
    /// `None`: the engine measures it.
    StepTokens(Option<usize>),
}

impl KnobValue {
    /// Its setting.
    pub fn setting(self) -> &'static dyn Definition {
        match self {
            KnobValue::Threads(_) => &THREADS,
            KnobValue::FlashAttn(_) => &FLASH_ATTN,
            KnobValue::KvUnified(_) => &KV_UNIFIED,
            KnobValue::StepTokens(_) => &STEP_TOKENS,
        }
    }

    /// The setting's key in the configuration.
    pub fn key(self) -> &'static str {
        self.setting().about().key
    }

    /// Sets this value in `config`.
    pub fn apply(self, config: &mut Config) {
        match self {
            KnobValue::Threads(threads) => config.threads = threads,
            KnobValue::FlashAttn(when) => config.flash_attn = when,
            KnobValue::KvUnified(unified) => config.kv_unified = unified,
            KnobValue::StepTokens(tokens) => config.step_tokens = tokens,
        }
    }

    /// The value as TOML; `None`: not set.
    pub fn value(self) -> Option<String> {
        match self {
            KnobValue::Threads(count) | KnobValue::StepTokens(count) => count.map(|count| count.to_string()),
            KnobValue::KvUnified(unified) => unified.map(|unified| unified.to_string()),
            KnobValue::FlashAttn(when) => FLASH_ATTN.takes.word(&when).map(quoted),
        }
    }

    fn is_default(self) -> bool {
        DEFAULTS.contains(&self)
    }

    /// The value in words. `threads`: the default number of threads.
    pub fn words(self, threads: usize) -> String {
        let value = match self {
            KnobValue::Threads(None) => threads.to_string(),
            KnobValue::KvUnified(None) => "auto".to_owned(),
            KnobValue::StepTokens(None) => "measured".to_owned(),
            other => other.value().unwrap_or_default().trim_matches('"').to_owned(),
        };
        if self.is_default() { format!("{value} (default)") } else { value }
    }
}

/// How many settings are tuned.
pub const COUNT: usize = DEFAULTS.len();

/// The four settings in the order of trying: settings on which others depend come first.
const DEFAULTS: [KnobValue; 4] = [
    KnobValue::Threads(None),
    KnobValue::FlashAttn(FlashAttn::Auto),
    KnobValue::KvUnified(None),
    KnobValue::StepTokens(None),
];

/// One setting, and the values to try besides its default.
#[derive(Debug, PartialEq, Eq)]
pub struct Knob {
    /// Its default.
    pub default: KnobValue,
    /// These values, or why there are none.
    pub others: Result<Vec<KnobValue>, String>,
}

/// The four settings for this model on this machine. `threads`: the default number of threads.
pub fn knobs(config: &Config, machine: &Machine, threads: usize) -> Vec<Knob> {
    DEFAULTS.map(|default| Knob { default, others: others(default, config, machine, threads) }).into()
}

fn others(default: KnobValue, config: &Config, machine: &Machine, threads: usize) -> Result<Vec<KnobValue>, String> {
    // Flags and variables override the file that is written, so a setting that they fix is not tuned.
    if let Origin::Flag(name) | Origin::Variable(name) = config.origin(default.setting()) {
        return Err(format!("given by {name}"));
    }
    let mut others = match default {
        KnobValue::Threads(_) => {
            thread_counts(machine).into_iter().map(|count| KnobValue::Threads(Some(count))).collect()
        }
        // `stack::flash_attention` explains the reason.
        KnobValue::FlashAttn(_) if is_small(config) && config.kv_types == KvTypes::F16 && !attention::IS_OURS => {
            return Err(format!(
                "models up to {} MiB run without it, for exact texts",
                ONE_THREAD_MODEL_BYTES_MAX >> 20
            ));
        }
        KnobValue::FlashAttn(_) if config.kv_types.values != KvType::F16 => {
            return Err(format!("a cache of {} needs it", config.kv_types));
        }
        KnobValue::FlashAttn(_) => vec![KnobValue::FlashAttn(FlashAttn::On), KnobValue::FlashAttn(FlashAttn::Off)],
        KnobValue::KvUnified(_) if config.parallel == 1 => return Err("one slot has one buffer either way".to_owned()),
        KnobValue::KvUnified(_) => vec![KnobValue::KvUnified(Some(true)), KnobValue::KvUnified(Some(false))],
        KnobValue::StepTokens(_) if config.parallel == 1 => {
            return Err("with one slot no prompt is read while another request generates".to_owned());
        }
        KnobValue::StepTokens(_) => STEP_TOKENS_TRIED.map(|tokens| KnobValue::StepTokens(Some(tokens))).into(),
    };
    // The file's present value is also tried, because it may be better than all of these.
    let now = match default {
        KnobValue::Threads(_) => KnobValue::Threads(config.threads),
        KnobValue::KvUnified(_) => KnobValue::KvUnified(config.kv_unified),
        KnobValue::StepTokens(_) => KnobValue::StepTokens(config.step_tokens),
        other => other,
    };
    if !now.is_default() && !others.contains(&now) {
        others.push(now);
    }
    others.retain(|other| *other != KnobValue::Threads(Some(threads)));
    if others.is_empty() { Err("no other value is worth trying".to_owned()) } else { Ok(others) }
}

/// 1, 2, 4 ... up to the number of physical cores, that number, and the number of all CPUs.
fn thread_counts(machine: &Machine) -> Vec<usize> {
    let (cores, cpus) = (machine.physical_cores(), machine.cpus());
    let powers = std::iter::successors(Some(1), |count| Some(count * 2)).take_while(|count| *count < cores);
    let mut counts: Vec<usize> = powers.chain([cores, cpus]).collect();
    counts.dedup();
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::flags::Typed;
    use crate::topology::CpuId;

    /// A machine of 4 cores with 2 CPUs each.
    fn machine() -> Machine {
        let cpus: Vec<CpuId> = (0..8).map(CpuId).collect();
        Machine::new(&cpus, 8, |cpu| Some((0, cpu.0 % 4)))
    }

    fn config(flags: &[(&'static str, &str)]) -> Config {
        let typed: Typed = flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        Config::from_flags(&typed).unwrap()
    }

    fn tried(config: &Config, key: &str) -> Result<Vec<String>, String> {
        let knob = knobs(config, &machine(), 4).into_iter().find(|knob| knob.default.key() == key).unwrap();
        knob.others.map(|others| others.iter().map(|other| other.value().unwrap()).collect())
    }

    #[test]
    fn the_defaults_are_those_of_the_settings() {
        let usual = config(&[]);
        let mut set = usual.clone();
        DEFAULTS.iter().for_each(|default| default.apply(&mut set));
        assert_eq!(set, usual);
    }

    #[test]
    fn counts_go_up_to_the_cores_and_to_the_cpus_without_the_default() {
        assert_eq!(tried(&config(&[]), "threads").unwrap(), ["1", "2", "8"]);
        let held = config(&[("threads", "2")]);
        assert_eq!(tried(&held, "threads"), Err("given by --threads".to_owned()));
    }

    #[test]
    fn exactness_comes_before_speed() {
        // Without -m the model is the built-in one, which is small.
        let small = tried(&config(&[]), "flash-attn");
        match attention::IS_OURS {
            true => assert_eq!(small.unwrap(), ["\"on\"", "\"off\""]),
            false => assert!(small.unwrap_err().contains("up to 32 MiB")),
        }
        assert!(tried(&config(&[("kv-type", "q8_0")]), "flash-attn").unwrap_err().contains("needs it"));
        // A missing file has no bytes, so it doesn't count as small.
        assert_eq!(tried(&config(&[("model", "large.gguf")]), "flash-attn").unwrap(), ["\"on\"", "\"off\""]);
    }

    #[test]
    fn one_slot_leaves_little_to_try() {
        let alone = config(&[("parallel", "1")]);
        assert!(tried(&alone, "kv-unified").is_err() && tried(&alone, "step-tokens").is_err());
        assert_eq!(tried(&config(&[]), "step-tokens").unwrap(), ["129", "257", "512"]);
    }
}
