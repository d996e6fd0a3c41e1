//! A gap in a text and the text around it, for editors. Pure, apart from the tokenizer.
//!
//! The prompt has the form that models were trained with to fill gaps (Bavarian et al. 2022; for several files as in
//! Qwen2.5-Coder's report): `<rep>project <sep>file text ... <sep>file <prefix>...<suffix>...<middle>`. Texts from
//! editors never become control tokens.

use serde_json::{Value, json};

use super::fields::{Fields, wrong_type};
use super::notes::note;
use super::warnings::warn;
use crate::tokenizer::Tokenizer;
use crate::types::limits::INFILL_FILES_MAX;
use crate::types::{RequestError, Token};

/// Separates other files if the vocabulary has no token for that.
const SNIPPET: &str = "\n\n--- snippet ---\n\n";

/// Another file, as context for the model.
#[derive(Clone, Debug, PartialEq)]
struct Other {
    name: String,
    text: String,
}

/// A gap and the text around it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gap {
    prefix: String,
    suffix: String,
    others: Vec<Other>,
    /// The text that already stands in the gap, such as the beginning of its line.
    begun: String,
}

impl Gap {
    /// Takes `input_prefix`, `input_suffix`, `input_extra` and `prompt`.
    ///
    /// # Errors
    /// A field has the wrong type; all are absent.
    pub fn take(fields: &mut Fields) -> Result<Gap, RequestError> {
        let prefix = fields.string("input_prefix")?;
        let suffix = fields.string("input_suffix")?;
        let begun = fields.string("prompt")?;
        if let (None, None, None) = (&prefix, &suffix, &begun) {
            return Err(RequestError::field("input_prefix", "is missing"));
        }
        let listed = fields.array("input_extra", INFILL_FILES_MAX)?.unwrap_or_default();
        note("input_extra[]", || json!({"type": "object"}));
        note("input_extra[].text", || json!({"type": "string"}));
        note("input_extra[].filename", || json!({"type": "string"}));
        let other = |(i, entry): (usize, Value)| {
            let path = format!("input_extra[{i}]");
            let Value::Object(_) = entry else { return Err(wrong_type(&path, "an object", &entry)) };
            let mut entry = Fields::nested(entry, &path)?;
            let text = entry.string("text")?.unwrap_or_default();
            Ok(Other { name: entry.string("filename")?.unwrap_or_else(|| "tmp".to_owned()), text })
        };
        let others = listed.into_iter().enumerate().map(other).collect::<Result<_, _>>()?;
        Ok(Gap {
            prefix: prefix.unwrap_or_default(),
            suffix: suffix.unwrap_or_default(),
            others,
            begun: begun.unwrap_or_default(),
        })
    }

    /// The tokens of the prompt, at most `room`. Text that doesn't fit is dropped, starting with what is farthest from
    /// the gap, and a warning says so.
    ///
    /// # Errors
    /// The vocabulary has no tokens for gaps; or the text in the gap doesn't fit.
    pub fn tokens(&self, tokenizer: &Tokenizer, room: usize) -> Result<Vec<Token>, RequestError> {
        let Some([before, after, middle]) = tokenizer.fim() else { return Err(RequestError::Unsupported(NO_TOKENS)) };
        let plain = |text: &str| tokenizer.encode(text, false, false);
        let mut frame: Vec<Token> = tokenizer.bos().filter(|_| tokenizer.add_bos()).into_iter().collect();
        if let Some(repo) = tokenizer.fim_rep() {
            frame.push(repo);
            frame.extend(plain("myproject\n")?);
        }
        let separator = tokenizer.fim_sep();
        let heading = |name: &str| match separator {
            Some(sep) => Ok([vec![sep], plain(&format!("{name}\n"))?].concat()),
            None => plain(SNIPPET),
        };
        let own = if separator.is_some() { heading("filename")? } else { Vec::new() };
        let (prefix, suffix, begun) = (plain(&self.prefix)?, plain(&self.suffix)?, plain(&self.begun)?);
        let fixed = frame.len() + own.len() + begun.len() + 3;
        let left = room.checked_sub(fixed).ok_or_else(|| {
            RequestError::field("prompt", format!("has {} tokens, more than fit the context", begun.len()))
        })?;
        let (n_prefix, n_suffix) = shares(prefix.len(), suffix.len(), left);
        cut("input_prefix: its beginning", prefix.len() - n_prefix);
        cut("input_suffix: its end", suffix.len() - n_suffix);
        let others: Vec<Vec<Token>> = self
            .others
            .iter()
            .map(|other| Ok([heading(&other.name)?, plain(&other.text)?].concat()))
            .collect::<Result<_, RequestError>>()?;
        let kept = latest(others.iter().map(Vec::len), left - n_prefix - n_suffix);
        if kept < others.len() {
            warn(format!("input_extra: {} of {} files left out, too much", others.len() - kept, others.len()));
        }
        let mut all = frame;
        others[others.len() - kept..].iter().for_each(|other| all.extend(other));
        all.extend(own);
        all.push(before);
        all.extend(&prefix[prefix.len() - n_prefix..]);
        all.push(after);
        all.extend(&suffix[..n_suffix]);
        all.push(middle);
        all.extend(begun);
        Ok(all)
    }
}

/// Why a model can't fill gaps.
pub const NO_TOKENS: &str = "this model's vocabulary has no tokens to fill a gap with (prefix, suffix, middle): POST /infill takes a \
                             model trained for that, such as Qwen2.5-Coder";

/// How many tokens of prefix and suffix to keep, `room` together: three quarters for the prefix if both are too long.
fn shares(prefix: usize, suffix: usize, room: usize) -> (usize, usize) {
    let n_suffix = suffix.min((room / 4).max(room.saturating_sub(prefix)));
    (prefix.min(room - n_suffix), n_suffix)
}

/// How many of the last files fit into `room` tokens, each complete.
fn latest(lens: impl DoubleEndedIterator<Item = usize>, room: usize) -> usize {
    let sums = lens.rev().scan(0, |sum, len| {
        *sum += len;
        Some(*sum)
    });
    sums.take_while(|sum| *sum <= room).count()
}

fn cut(what: &str, n_tokens: usize) {
    if n_tokens > 0 {
        warn(format!("{what} was left out, {n_tokens} tokens that do not fit"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(body: Value) -> Result<Gap, RequestError> {
        Gap::take(&mut Fields::parse(body.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn what_is_missing_is_empty_and_what_is_wrong_is_named() {
        let expected = Gap { suffix: "b".to_owned(), ..Gap::default() };
        assert_eq!(gap(json!({"input_suffix": "b", "input_extra": null})), Ok(expected));
        let others = gap(json!({"prompt": "", "input_extra": [{"text": "x"}, {"filename": "a.rs", "text": "y"}]}))
            .unwrap()
            .others;
        let names: Vec<&str> = others.iter().map(|other| other.name.as_str()).collect();
        assert_eq!(names, ["tmp", "a.rs"]);
        for (body, field) in [
            (json!({"n_predict": 3}), "input_prefix"),
            (json!({"input_prefix": 3}), "input_prefix"),
            (json!({"input_prefix": "", "input_suffix": ["a"]}), "input_suffix"),
            (json!({"input_prefix": "", "prompt": [1]}), "prompt"),
            (json!({"input_prefix": "", "input_extra": "x"}), "input_extra"),
            (json!({"input_prefix": "", "input_extra": ["x"]}), "input_extra[0]"),
            (json!({"input_prefix": "", "input_extra": [{"text": "x"}, {"text": 3}]}), "input_extra[1].text"),
        ] {
            match gap(body.clone()) {
                Err(RequestError::Field { field: named, .. }) => assert_eq!(named, field, "{body}"),
                other => panic!("{body}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_near_the_gap_stays() {
        assert_eq!(shares(10, 10, 100), (10, 10));
        assert_eq!(shares(1000, 10, 100), (90, 10));
        assert_eq!(shares(1000, 1000, 100), (75, 25));
        assert_eq!(shares(10, 1000, 100), (10, 90));
        assert_eq!(shares(10, 10, 0), (0, 0));
        assert_eq!(latest([5, 4, 3].into_iter(), 7), 2);
        assert_eq!(latest([5, 4, 3].into_iter(), 2), 0);
        assert_eq!(latest([5, 4, 3].into_iter(), 12), 3);
    }
}
