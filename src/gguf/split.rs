//! The names of a model in several files, `NAME-00001-of-00003.gguf`. llama.cpp derives the other names from the first.

/// The number of the file with this name, from 1, and the names of all files of the model. `None`: the model is one file.
pub fn split_names(name: &str) -> Option<(usize, Vec<String>)> {
    const TAIL: usize = "-00001-of-00003.gguf".len();
    let (prefix, tail) = name.split_at_checked(name.len().checked_sub(TAIL)?)?;
    let (index, count) = tail.strip_prefix('-')?.strip_suffix(".gguf")?.split_once("-of-")?;
    let number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?;
    let (index, count): (usize, usize) = (number(index)?, number(count)?);
    let names = || (1..=count).map(|i| format!("{prefix}-{i:05}-of-{count:05}.gguf")).collect();
    (1..=count).contains(&index).then(|| (index, names()))
}

#[cfg(test)]
mod tests {
    use super::split_names;

    #[test]
    fn a_split_names_its_parts() {
        let names = ["a/m-00001-of-00002.gguf".to_owned(), "a/m-00002-of-00002.gguf".to_owned()];
        assert_eq!(split_names("a/m-00002-of-00002.gguf"), Some((2, names.to_vec())));
        for alone in ["m.gguf", "m-00003-of-00002.gguf", "m-00000-of-00002.gguf", "m-0001-of-0002.gguf", "é.gguf", ""]
        {
            assert_eq!(split_names(alone), None, "{alone}");
        }
    }
}
