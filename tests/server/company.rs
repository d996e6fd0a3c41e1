//! A text doesn't depend on the other requests: real models, default settings, each prompt alone, again, and at the
//! same time as others; and after a long beginning that was prefilled, found in the cache, shared with running
//! requests, or prefilled again after its eviction.
//!
//! `CLLM_COMPANY=200` tries that many prompts, of 60 tokens each, after beginnings of about 2,000 tokens;
//! `CLLM_COMPANY_MODELS=FILE,FILE` names other models. `--no-capture` shows what was compared.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::at_once;
use super::models::{GEMMA3, SMOLLM2, real_model};
use super::server::Server;

/// How many prompts are tried, and their lengths.
struct Size {
    prompts: usize,
    /// Prompts after a long beginning.
    begun: usize,
    /// Tokens to generate for each.
    tokens: usize,
    /// Tokens of a long beginning, about.
    begin_tokens: usize,
}

impl Size {
    fn chosen() -> Size {
        match std::env::var("CLLM_COMPANY") {
            Ok(prompts) => {
                let prompts = prompts.parse().expect("CLLM_COMPANY is a number of prompts");
                Size { prompts, begun: (prompts / 10).max(8), tokens: 60, begin_tokens: 2_000 }
            }
            Err(_) => Size { prompts: 12, begun: 6, tokens: 16, begin_tokens: 200 },
        }
    }
}

fn models() -> Vec<PathBuf> {
    match std::env::var("CLLM_COMPANY_MODELS") {
        Ok(files) => files.split(',').map(PathBuf::from).collect(),
        Err(_) => [SMOLLM2, GEMMA3].into_iter().filter_map(real_model).collect(),
    }
}

const COUNTRIES: [&str; 25] = [
    "France", "Germany", "Italy", "Japan", "Egypt", "Spain", "Greece", "Russia", "India", "China", "Peru", "Chile",
    "Kenya", "Mali", "Iran", "Iraq", "Cuba", "Fiji", "Malta", "Nepal", "Ghana", "Qatar", "Sudan", "Syria", "Yemen",
];
const OPENINGS: [&str; 8] = [
    "The capital of # is",
    "The people of # speak",
    "In # the weather in winter is",
    "A story from #: once upon a time",
    "To cook as they do in #, take",
    "The history of # began when",
    "A train through # passes",
    "Three facts about #:\n1.",
];
/// More than fit into the small server at once, so that each is evicted before it is used again.
const BEGINNINGS: usize = 4;

/// A beginning with this number. No two have their first sentence in common.
fn beginning(number: usize, sentences: usize) -> String {
    let sentence = |i: usize| {
        let country = COUNTRIES[(number * 7 + i) % COUNTRIES.len()];
        format!(
            "Note {} of list {number}: a traveller in {country} should know the roads, the food and the trains. ",
            i + number
        )
    };
    (0..sentences).map(sentence).collect()
}

/// The request for each prompt: every second one greedy, the others with a seed.
fn requests(size: &Size, count: usize, begins: impl Fn(usize) -> String) -> Vec<Value> {
    let prompt = |i: usize| {
        let own = OPENINGS[(i / COUNTRIES.len() + i) % OPENINGS.len()].replace('#', COUNTRIES[i % COUNTRIES.len()]);
        begins(i) + &own
    };
    let request = |i: usize| {
        let temperature = if i.is_multiple_of(2) { 0.0 } else { 0.9 };
        json!({"prompt": prompt(i), "temperature": temperature, "seed": i, "max_tokens": size.tokens, "ignore_eos": true})
    };
    (0..count).map(request).collect()
}

/// The texts, and the total number of prompt tokens found in the cache.
fn texts(server: &Server, at_a_time: usize, requests: &[Value]) -> (Vec<String>, u64) {
    let data = at_once(at_a_time, requests, |request| server.generate(request).data());
    let cached = data.iter().map(|data| data["timings"]["cached_prompt_tokens"].as_u64().expect("a number")).sum();
    (data.iter().map(|data| data["text"].as_str().expect("a text").to_owned()).collect(), cached)
}

/// Compares texts with those that each request gets alone; prints and counts the different ones.
struct Judge {
    wanted: Vec<String>,
    differing: usize,
}

impl Judge {
    fn compare(&mut self, what: &str, (texts, cached): (Vec<String>, u64)) {
        let differing = texts.iter().zip(&self.wanted).filter(|(got, wanted)| got != wanted).count();
        println!(
            "  {what}: {differing} of {} texts differ; {cached} tokens of prompts were found in the cache",
            texts.len()
        );
        self.differing += differing;
    }
}

fn start(model: &Path, flags: &str) -> Server {
    Server::start(&format!("-m {} {flags}", model.display()))
}

/// Runs different prompts at the same time. Returns how many texts differ.
fn with_others(model: &Path, size: &Size) -> usize {
    let requests = requests(size, size.prompts, |_| String::new());
    let server = start(model, "");
    let mut judge = Judge { wanted: texts(&server, 1, &requests).0, differing: 0 };
    judge.compare("again", texts(&server, 1, &requests));
    judge.compare("8 at once", texts(&server, 8, &requests));
    drop(server);
    judge.compare("8 at once, cold", texts(&start(model, ""), 8, &requests));
    judge.compare("32 at once, cold", texts(&start(model, "-np 32"), 32, &requests));
    judge.differing
}

/// How many sentences of a beginning have about as many tokens as a beginning has. Vocabularies need 15 to 70 for one.
fn sentences(model: &Path, size: &Size) -> usize {
    const SAMPLE: usize = 8;
    let request = json!({"content": beginning(1, SAMPLE)});
    let answer = start(model, "").client().post("/tokenize", &request);
    let tokens = answer.json()["tokens"].as_array().expect("tokens").len();
    (size.begin_tokens * SAMPLE).div_ceil(tokens)
}

/// Runs prompts after a long beginning. Returns how many texts differ.
fn behind_a_beginning(model: &Path, size: &Size) -> usize {
    let sentences = sentences(model, size);
    let begun = requests(size, size.begun, |i| beginning(i % BEGINNINGS, sentences));
    // The cache has room for one text, so nothing of the one before can be reused.
    let cells = size.begin_tokens * 8 / 5 + 2 * size.tokens + 64;
    let (wanted, cached) = texts(&start(model, &format!("-np 1 -c {cells} --prompt-ram off")), 1, &begun);
    assert!(cached < 64 * begun.len() as u64, "each beginning is read anew: {cached} found in the cache");
    let mut judge = Judge { wanted, differing: 0 };
    let server = start(model, "");
    let (found, cached) = texts(&server, 1, &begun);
    assert!(cached as usize > (begun.len() - BEGINNINGS) * size.begin_tokens / 2, "{cached} found in the cache");
    judge.compare("cold, then found in the cache", (found, cached));
    judge.compare("warm", texts(&server, 1, &begun));
    judge.compare("warm, 8 at once", texts(&server, 8, &begun));
    drop(server);
    judge.compare("shared with requests that are being served", texts(&start(model, ""), 8, &begun));
    let small = start(model, &format!("-np 2 -c {} --prompt-ram off", cells * 2));
    judge.compare("where they push each other out", texts(&small, 2, &begun));
    judge.compare("again, after that", texts(&small, 1, &begun));
    drop(small);
    let remembering = start(model, &format!("-np 2 -c {}", cells * 2));
    judge.compare("where what was pushed out is kept in RAM", texts(&remembering, 2, &begun));
    let (found, cached) = texts(&remembering, 1, &begun);
    assert!(cached as usize > begun.len() / 2 * size.begin_tokens / 2, "{cached} found in cells and RAM");
    judge.compare("again, from there", (found, cached));
    judge.differing
}

/// Tries each model, and counts the texts that differ from what their request gets alone.
fn differing(what: &str, count: impl Fn(&Size) -> usize, of: impl Fn(&Path, &Size) -> usize) -> usize {
    let size = Size::chosen();
    let of_model = |model: PathBuf| {
        println!("{}: {} prompts {what}", model.display(), count(&size));
        of(&model, &size)
    };
    models().into_iter().map(of_model).sum()
}

#[test]
fn a_real_models_text_is_the_same_beside_others() {
    assert_eq!(differing("alone and beside others", |size| size.prompts, with_others), 0, "texts differ");
}

#[test]
fn a_real_models_text_is_the_same_behind_a_long_beginning() {
    assert_eq!(differing("behind a long beginning", |size| size.begun, behind_a_beginning), 0, "texts differ");
}
