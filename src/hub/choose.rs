//! Chooses the files of a repository that form the requested model. Pure: names in, names out.

use crate::gguf::split_names;
use crate::types::hub::{Which, is_file};
use crate::types::limits::HUB_FILES_NAMED_MAX;

/// If no quantisation was named, these are tried in this order, and then the first file.
const USUAL_QUANTS: &[&str] = &["Q4_K_M", "Q8_0"];
/// Parts of the names of GGUFs that are no models: projectors, importance matrices, draft heads.
const NO_MODELS: &[&str] = &["mmproj", "imatrix", "mtp-", "eagle3-"];

/// The files of the model in order; `None`: the repository doesn't have all of them.
pub fn choose(names: &[String], which: &Which) -> Option<Vec<String>> {
    let models = models(names);
    let of_quant = |quant: &str| models.iter().find(|name| is_of_quant(name, quant)).copied();
    let name = match which {
        Which::File(file) => names.iter().find(|name| *name == file).map(String::as_str)?,
        Which::Quant(quant) => of_quant(quant)?,
        Which::Usual => USUAL_QUANTS.iter().find_map(|quant| of_quant(quant)).or(models.first().copied())?,
    };
    match split_names(name) {
        Some((_, parts)) => parts.iter().all(|part| names.contains(part)).then_some(parts),
        None => Some(vec![name.to_owned()]),
    }
}

/// The models that the repository has, in words, for a message.
pub fn what_there_is(names: &[String], which: &Which) -> String {
    let models = models(names);
    let mut listed: Vec<&str> = match which {
        Which::File(_) => models,
        Which::Quant(_) | Which::Usual => models.iter().map(|name| quant_of(name)).collect(),
    };
    listed.dedup();
    let more = listed.len().saturating_sub(HUB_FILES_NAMED_MAX);
    listed.truncate(HUB_FILES_NAMED_MAX);
    match (listed.is_empty(), more) {
        (true, _) => "it holds no GGUF of a model".to_owned(),
        (false, 0) => format!("there is {}", listed.join(", ")),
        (false, more) => format!("there is {} and {more} more", listed.join(", ")),
    }
}

/// The models by name, sorted. Of a model in several files only the first is listed.
fn models(names: &[String]) -> Vec<&str> {
    let is_model = |name: &&str| {
        let own = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
        let is_first = split_names(name).is_none_or(|(index, _)| index == 1);
        is_file(name) && is_first && !NO_MODELS.iter().any(|word| own.contains(word))
    };
    let mut models: Vec<&str> = names.iter().map(String::as_str).filter(is_model).collect();
    models.sort_unstable();
    models
}

/// Whether `quant` is a whole word of `name`: `Q4_0` isn't one in `IQ4_0`, nor `Q4_K` in `Q4_K_M`.
fn is_of_quant(name: &str, quant: &str) -> bool {
    let (name, quant) = (name.to_ascii_lowercase(), quant.to_ascii_lowercase());
    name.match_indices(&quant).any(|(at, _)| {
        let before = name[..at].chars().next_back().is_none_or(|c| "-._/".contains(c));
        before && name[at + quant.len()..].starts_with(['-', '.', '/'])
    })
}

/// The quantisation in a name: `Q4_K_M` of `model-Q4_K_M-00001-of-00002.gguf`. The whole name if it has none.
fn quant_of(name: &str) -> &str {
    let own = name.rsplit('/').next().unwrap_or(name);
    let stem = &own[..own.len().saturating_sub(if split_names(own).is_some() { 20 } else { 5 })];
    let quant = stem.rsplit(['-', '.']).next().unwrap_or(stem);
    let looks_so = quant.starts_with(|c: char| c.is_ascii_alphabetic()) && quant.contains(|c: char| c.is_ascii_digit());
    if looks_so && quant.len() < stem.len() { quant } else { own }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str], which: Which) -> Option<Vec<String>> {
        choose(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), &which)
    }

    fn quant(text: &str) -> Which {
        Which::Quant(text.to_owned())
    }

    #[test]
    fn a_quantisation_is_a_word_of_the_name() {
        let names = ["README.md", "m-BF16.gguf", "m-F16.gguf", "m-IQ4_XS.gguf", "m-Q4_K_M.gguf", "m-Q4_K_S.gguf"];
        assert_eq!(chosen(&names, quant("q4_k_s")), Some(vec!["m-Q4_K_S.gguf".to_owned()]));
        assert_eq!(chosen(&names, quant("F16")), Some(vec!["m-F16.gguf".to_owned()]), "not BF16");
        assert_eq!(chosen(&names, quant("Q4_K")), None, "nor half a name");
        assert_eq!(chosen(&["q4_0/m.gguf"], quant("Q4_0")), Some(vec!["q4_0/m.gguf".to_owned()]));
    }

    #[test]
    fn the_usual_one_is_q4_k_m_then_q8_0_then_the_first() {
        let usual = |names: &[&str]| chosen(names, Which::Usual).map(|files| files[0].clone());
        assert_eq!(usual(&["m-F16.gguf", "m-Q8_0.gguf", "m-q4_k_m.gguf"]).as_deref(), Some("m-q4_k_m.gguf"));
        assert_eq!(usual(&["m-F16.gguf", "m-Q8_0.gguf"]).as_deref(), Some("m-Q8_0.gguf"));
        assert_eq!(usual(&["b.gguf", "a.gguf"]).as_deref(), Some("a.gguf"));
        assert_eq!(usual(&["mmproj-m-Q8_0.gguf", "m.imatrix.gguf", "model.safetensors"]), None);
    }

    #[test]
    fn all_parts_come_the_first_one_first() {
        let names = ["m-Q8_0-00002-of-00002.gguf", "m-Q8_0-00001-of-00002.gguf"];
        let both = Some(vec![names[1].to_owned(), names[0].to_owned()]);
        assert_eq!(chosen(&names, quant("Q8_0")), both);
        assert_eq!(chosen(&names, Which::File(names[0].to_owned())), both);
        assert_eq!(chosen(&names[1..], quant("Q8_0")), None, "half a model is none");
        let file = Which::File("mmproj.gguf".to_owned());
        assert_eq!(chosen(&["mmproj.gguf"], file), Some(vec!["mmproj.gguf".to_owned()]), "who names it wants it");
    }

    #[test]
    fn what_there_is_is_said_in_one_line() {
        let names =
            ["x-Q8_0-00001-of-00002.gguf", "x-Q8_0-00002-of-00002.gguf", "x-BF16.gguf", "stories.gguf", "a.bin"];
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(what_there_is(&names, &quant("Q4_0")), "there is stories.gguf, BF16, Q8_0");
        let file = what_there_is(&names, &Which::File("y.gguf".to_owned()));
        assert_eq!(file, "there is stories.gguf, x-BF16.gguf, x-Q8_0-00001-of-00002.gguf");
        assert_eq!(what_there_is(&[], &Which::Usual), "it holds no GGUF of a model");
        let many: Vec<String> = (100..130).map(|i| format!("x-Q{i}.gguf")).collect();
        assert!(what_there_is(&many, &quant("Q1")).ends_with("Q123 and 6 more"));
    }
}
