//! A model by its name on a hub: `ORG/NAME[:QUANT]`, as llama.cpp's users write it. What it is on disk is the hub room's
//! business.

use std::fmt;

/// A repository, and which of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubModel {
    /// `ORG/NAME`.
    pub repo: String,
    pub which: Which,
}

/// Which GGUF of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Nobody said.
    Usual,
    /// The one whose name holds this, in capitals or not: `Q4_K_M`.
    Quant(String),
    /// This one, by its path in the repository.
    File(String),
}

/// The hub's own bound for a repository's name.
const REPO_BYTES_MAX: usize = 96;

impl HubModel {
    /// Reads `ORG/NAME[:QUANT]`; a `file` is stronger than the quantisation.
    ///
    /// # Errors
    /// Why it can't be a name. The cache makes folders of names, so they are checked here.
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
        // "--" stands for the slash in the cache's folders.
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

/// Whether `name` is a GGUF's path that stays below its folder: no `..`, no root, nothing that a terminal obeys.
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
