//! A model's name on a hub: `ORG/NAME[:QUANT]`, as users of llama.cpp write it. The room `hub` finds and fetches its files.

use std::fmt;

/// A repository, and which of its model files is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubModel {
    /// `ORG/NAME`.
    pub repo: String,
    /// The file of the repository to use.
    pub which: Which,
}

/// Which GGUF file of a repository is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// No choice was given: the hub room takes the usual quantisation.
    Usual,
    /// The file that has this quantisation in its name, in upper or lower case: `Q4_K_M`.
    Quant(String),
    /// The file with this path in the repository.
    File(String),
}

/// Longest name of a repository, in bytes: Hugging Face's own bound.
const REPO_BYTES_MAX: usize = 96;

impl HubModel {
    /// Reads `ORG/NAME[:QUANT]`. If `file` is given, it decides which file is used and the quantisation is ignored.
    ///
    /// # Errors
    /// The reason why the text can't be a model's name. Names become folders of the cache, so their characters are
    /// checked here.
    pub fn parse(text: &str, file: Option<&str>) -> Result<HubModel, String> {
        let (repo, quant) = text.split_once(':').map_or((text, None), |(repo, quant)| (repo, Some(quant)));
        let is_part = |part: &str| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
            part.bytes().all(allowed)
                && !part.is_empty()
                && !part.starts_with(['-', '.'])
                && !part.ends_with(['-', '.'])
        };
        let is_repo = repo.split('/').count() == 2 && repo.split('/').all(is_part);
        // The cache's folders write "--" in place of the slash, so a name must not contain it.
        if !is_repo || repo.len() > REPO_BYTES_MAX || repo.contains("--") || repo.contains("..") {
            return Err(format!("{repo:?} is no repository like ORG/NAME"));
        }
        if let Some(bad) = quant.filter(|quant| !is_part(quant)) {
            return Err(format!("{bad:?} is no quantisation like Q4_K_M"));
        }
        let which = match (file, quant) {
            (Some(file), _) if !is_file(file) => return Err(format!("{file:?} is no GGUF's name in a repository")),
            (Some(file), _) => Which::File(file.to_owned()),
            (None, Some(quant)) => Which::Quant(quant.to_owned()),
            (None, None) => Which::Usual,
        };
        Ok(HubModel { repo: repo.to_owned(), which })
    }
}

impl fmt::Display for HubModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.which {
            Which::Usual => f.write_str(&self.repo),
            Which::Quant(quant) => write!(f, "{}:{quant}", self.repo),
            Which::File(file) => write!(f, "{}/{file}", self.repo),
        }
    }
}

/// Whether `name` is the path of a GGUF that stays inside its folder: no `..`, not absolute, no control characters.
pub fn is_file(name: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
    is_gguf(name) && name.split('/').all(is_part) && !name.contains(|c: char| c.is_control() || c == '\\')
}

fn is_gguf(name: &str) -> bool {
    name.len() > 5 && name.as_bytes()[name.len() - 5..].eq_ignore_ascii_case(b".gguf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_llama_cpp_reads_them() {
        let parsed = |text, file| HubModel::parse(text, file).map(|model| (model.repo.clone(), model.which.clone()));
        let repo = "Qwen/Qwen3-0.6B-GGUF".to_owned();
        assert_eq!(parsed("Qwen/Qwen3-0.6B-GGUF", None), Ok((repo.clone(), Which::Usual)));
        assert_eq!(parsed("Qwen/Qwen3-0.6B-GGUF:q8_0", None), Ok((repo.clone(), Which::Quant("q8_0".to_owned()))));
        let file = Which::File("a/b.gguf".to_owned());
        assert_eq!(parsed("Qwen/Qwen3-0.6B-GGUF:Q8_0", Some("a/b.gguf")), Ok((repo, file)));
        for bad in [
            "", "name", "a/b/c", "/b", "a/", "../b", "a/..", "a/.b", "a/b--c", "a/b..c", "a/b c", "a/b:", "a/b:x/y",
            "a/é",
        ] {
            assert!(parsed(bad, None).is_err(), "{bad:?}");
        }
        for bad in ["", ".gguf", "../x.gguf", "/x.gguf", "a//x.gguf", "a/../x.gguf", "x.bin", "x\n.gguf", "..\\x.gguf"]
        {
            assert!(parsed("a/b", Some(bad)).is_err(), "{bad:?}");
        }
    }
}
