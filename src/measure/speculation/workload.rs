//! The texts to generate: texts that repeat much, a little, or not at all. Equal seeds give equal texts.

use serde_json::{Value, json};

use crate::measure::stages::workload::SEED;
use crate::tokenizer::Tokenizer;
use crate::types::{SamplingParams, Token};

/// A kind of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TextKind {
    /// The prompt is a file; the answer is that file with three small edits.
    Edit,
    /// The prompt is a document; the answer quotes it between sentences of its own.
    Quote,
    /// The prompt has an object with twelve fields; the answer has one with the same fields and other values.
    Json,
    /// The answer is an object that must follow a JSON schema with twelve fields.
    Schema,
    /// The model's own text, at temperature 0.8.
    Free,
    /// Random tokens, which can't be guessed.
    Random,
}

impl TextKind {
    /// All kinds, in the order of the report.
    pub const ALL: [TextKind; 6] =
        [TextKind::Edit, TextKind::Quote, TextKind::Json, TextKind::Schema, TextKind::Free, TextKind::Random];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            TextKind::Edit => "edit",
            TextKind::Quote => "quote",
            TextKind::Json => "json",
            TextKind::Schema => "schema",
            TextKind::Free => "free",
            TextKind::Random => "random",
        }
    }

    /// How tokens are sampled. A given answer isn't changed by that, because its tokens are by far the most likely.
    pub fn sampling(self, seed: u64) -> SamplingParams {
        let temperature = if self == TextKind::Free { 0.8 } else { 0.0 };
        SamplingParams { temperature, seed, ..SamplingParams::default() }
    }
}

/// A prompt, and its answer if that is given.
#[derive(Clone, Debug, PartialEq)]
pub struct BenchText {
    /// The prompt.
    pub prompt: Vec<Token>,
    /// Exactly as many tokens as are generated; `None`: the model decides.
    pub answer: Option<Vec<Token>>,
    /// The JSON schema that the answer must follow.
    pub schema: Option<Value>,
}

/// The text of stream `stream`: a prompt of about `tokens` tokens and an answer of `tokens` tokens. Its first token differs
/// from that of other streams.
pub fn text(kind: TextKind, tokenizer: &Tokenizer, tokens: usize, stream: usize, salt: u64) -> BenchText {
    let mut dice = Dice(SEED ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (stream as u64) << 32);
    let encode = |text: &str| tokenizer.encode(text, false, false).unwrap_or_default();
    let n_vocab = tokenizer.n_vocab();
    // A different token for each stream, with any vocabulary.
    let first = Token((300 + stream as u32) % n_vocab as u32);
    // Lines of about a dozen tokens each, until there are enough tokens.
    let lines = |dice: &mut Dice, line: &dyn Fn(&mut Dice) -> String| {
        let (mut lines, mut count) = (Vec::new(), 0);
        while count < tokens {
            lines.push(line(dice));
            count += encode(&lines[lines.len() - 1]).len();
        }
        lines
    };
    let random = |dice: &mut Dice, n: usize| -> Vec<Token> {
        (0..n).map(|_| Token(256 + dice.below(n_vocab - 256) as u32)).collect()
    };
    let (prompt, answer) = match kind {
        TextKind::Edit => {
            let mut file = lines(&mut dice, &code);
            let before = encode(&file.concat());
            for edit in 1..=3 {
                let at = file.len() * edit / 4;
                file[at] = code(&mut dice);
            }
            (before, Some(encode(&file.concat())))
        }
        TextKind::Quote => {
            let document = encode(&lines(&mut dice, &sentence).concat());
            let mut answer = Vec::new();
            while answer.len() < tokens {
                answer.extend(encode(&sentence(&mut dice)));
                let from = dice.below(document.len().saturating_sub(60).max(1));
                answer.extend(document.iter().skip(from).take(60));
            }
            (document, Some(answer))
        }
        TextKind::Json => {
            let keys: Vec<String> = (0..12).map(|_| format!("{}_{}", word(&mut dice), word(&mut dice))).collect();
            let object = |dice: &mut Dice| {
                let fields = keys.iter().map(|key| format!("  \"{key}\": \"{} {}\"", word(dice), dice.below(1_000)));
                format!("{{\n{}\n}}\n", fields.collect::<Vec<_>>().join(",\n"))
            };
            let prompt = encode(&object(&mut dice));
            let mut answer = Vec::new();
            while answer.len() < tokens {
                answer.extend(encode(&object(&mut dice)));
            }
            (prompt, Some(answer))
        }
        TextKind::Schema => (encode(&lines(&mut dice, &sentence).concat()), Some(encode(&record(&mut dice)))),
        TextKind::Free => (encode(&lines(&mut dice, &sentence).concat()), None),
        TextKind::Random => (random(&mut dice, tokens), Some(random(&mut dice, tokens))),
    };
    let prompt = std::iter::once(first).chain(prompt).collect();
    let schema = (kind == TextKind::Schema).then(schema);
    let answer = answer.map(|mut answer| {
        if schema.is_some() {
            return answer;
        }
        let missing = tokens.saturating_sub(answer.len());
        answer.extend(random(&mut dice, missing));
        answer.truncate(tokens);
        answer
    });
    BenchText { prompt, answer, schema }
}

/// The names of twelve fields, and the type of each.
const FIELDS: [(&str, &str); 12] = [
    ("title", "string"),
    ("author_name", "string"),
    ("publisher", "string"),
    ("year_of_publication", "integer"),
    ("language", "string"),
    ("number_of_pages", "integer"),
    ("is_available", "boolean"),
    ("category", "string"),
    ("shelf_location", "string"),
    ("price_in_cents", "integer"),
    ("borrowed_by", "string"),
    ("short_description", "string"),
];

/// A schema of an object with exactly these fields.
fn schema() -> Value {
    let properties: serde_json::Map<String, Value> =
        FIELDS.iter().map(|(name, kind)| ((*name).to_owned(), json!({"type": kind}))).collect();
    let required: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// A text that follows the schema, with each field on its own line.
fn record(dice: &mut Dice) -> String {
    let fields = FIELDS.map(|(name, kind)| {
        let value = match kind {
            "integer" => dice.below(10_000).to_string(),
            "boolean" => (dice.below(2) == 0).to_string(),
            _ => format!("\"{} {}\"", word(dice), word(dice)),
        };
        format!("  \"{name}\": {value}")
    });
    format!("{{\n{}\n}}", fields.join(",\n"))
}

/// A line of a program.
fn code(dice: &mut Dice) -> String {
    let (name, of) = (word(dice), word(dice));
    match dice.below(3) {
        0 => format!("    let {name}_{} = {of}.{}({});\n", dice.below(100), word(dice), dice.below(1_000)),
        1 => format!("    if {name} > {} {{ return {of}; }}\n", dice.below(1_000)),
        _ => format!("fn {name}_{of}({}: u32) -> u32 {{\n", word(dice)),
    }
}

/// A sentence of a document.
fn sentence(dice: &mut Dice) -> String {
    let words: Vec<String> = (0..6 + dice.below(8)).map(|_| word(dice)).collect();
    format!("The {} {}. ", words.join(" "), dice.below(1_000))
}

fn word(dice: &mut Dice) -> String {
    const SYLLABLES: [&str; 16] =
        ["ka", "lo", "mi", "ren", "su", "ta", "vor", "ex", "in", "um", "ber", "co", "dal", "fe", "gri", "no"];
    (0..2 + dice.below(2)).map(|_| SYLLABLES[dice.below(SYLLABLES.len())]).collect()
}

/// A generator of random numbers from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::gguf::GgufFile;

    #[test]
    fn texts_have_their_length_and_repeat_as_their_kind_says() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("vendor/model/cllm-tiny.gguf");
        let tokenizer = Tokenizer::from_gguf(&GgufFile::open(&model).unwrap(), || unreachable!()).unwrap();
        // The number of the answer's tokens that, together with the five tokens before each, already occur earlier in the
        // prompt or answer.
        let repeats = |kind| {
            let BenchText { prompt, answer, schema } = text(kind, &tokenizer, 300, 3, 7);
            assert!(prompt.len() > 40 && prompt[0] == Token(303));
            let same = BenchText { prompt: prompt.clone(), answer: answer.clone(), schema };
            assert_eq!(same, text(kind, &tokenizer, 300, 3, 7));
            let answer = answer?;
            assert_eq!(answer.len(), 300, "{kind:?}");
            let all: Vec<Token> = prompt.iter().chain(&answer).copied().collect();
            let seen = |end: usize| all[..end - 1].windows(6).any(|part| part == &all[end - 6..end]);
            Some((prompt.len() + 6..=all.len()).filter(|end| seen(*end)).count())
        };
        let record = text(TextKind::Schema, &tokenizer, 300, 3, 7);
        let (schema, answer) = (record.schema.unwrap(), tokenizer.decode(&record.answer.unwrap(), false));
        assert!(jsonschema::is_valid(&schema, &serde_json::from_str(&answer).unwrap()), "{answer}");
        assert!(repeats(TextKind::Edit) > Some(230), "{:?}", repeats(TextKind::Edit));
        assert!((Some(120)..Some(280)).contains(&repeats(TextKind::Quote)), "{:?}", repeats(TextKind::Quote));
        assert!(repeats(TextKind::Json) > Some(60), "{:?}", repeats(TextKind::Json));
        assert_eq!((repeats(TextKind::Random), repeats(TextKind::Free)), (Some(0), None));
    }
}
