//! The content of requests: prompts of random lengths that no cache has seen; and when they are sent. All is derived from a
//! seed, so that two servers get the same requests.

use std::str::FromStr;
use std::time::Duration;

use crate::sample::uniform;
use crate::types::limits::BENCH_TOKENS_MAX;

/// The longest exponential length, as a multiple of the mean.
const TAIL: usize = 8;

/// The number of tokens of a prompt or an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Always this number.
    Fixed(usize),
    /// Each length of `from..=to` is equally likely.
    Uniform {
        /// The least length.
        from: usize,
        /// The greatest length.
        to: usize,
    },
    /// Exponentially distributed: many short ones, few long ones.
    Exponential {
        /// The mean length.
        mean: usize,
    },
}

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Length, String> {
        let count = |text: &str| match text.parse::<usize>() {
            Ok(n) if (1..=BENCH_TOKENS_MAX).contains(&n) => Ok(n),
            _ => Err(format!("'{text}' is no count from 1 to {BENCH_TOKENS_MAX}; lengths are 128, 64..256 or ~128")),
        };
        if let Some(mean) = text.strip_prefix('~') {
            return Ok(Length::Exponential { mean: count(mean)? });
        }
        match text.split_once("..") {
            None => Ok(Length::Fixed(count(text)?)),
            Some((from, to)) => match (count(from)?, count(to)?) {
                (from, to) if from <= to => Ok(Length::Uniform { from, to }),
                _ => Err(format!("'{text}' has a larger number first")),
            },
        }
    }
}

impl std::fmt::Display for Length {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Length::Fixed(n) => write!(f, "{n}"),
            Length::Uniform { from, to } => write!(f, "{from}..{to}"),
            Length::Exponential { mean } => write!(f, "~{mean}"),
        }
    }
}

impl Length {
    fn draw(self, dice: &mut BenchDice) -> usize {
        match self {
            Length::Fixed(n) => n,
            Length::Uniform { from, to } => from + dice.below(to - from + 1),
            Length::Exponential { mean } => {
                ((dice.exponential() * mean as f64).round() as usize).clamp(1, mean.saturating_mul(TAIL))
            }
        }
    }
}

/// A generator of random numbers. Each request can have its own.
pub struct BenchDice {
    seed: u64,
    thrown: u64,
}

impl BenchDice {
    /// The generator for request `n` of stream `stream` in a run with `seed`.
    pub fn new(seed: u64, stream: u64, n: u64) -> BenchDice {
        let seed = seed ^ stream.wrapping_mul(0xa076_1d64_78bd_642f) ^ n.wrapping_mul(0xe703_7ed1_a0b4_28db);
        BenchDice { seed, thrown: 0 }
    }

    /// A number in `0.0..1.0`.
    fn fraction(&mut self) -> f64 {
        self.thrown += 1;
        uniform(self.seed, self.thrown)
    }

    /// A number in `0..n`.
    fn below(&mut self, n: usize) -> usize {
        (self.fraction() * n as f64) as usize
    }

    /// An exponentially distributed number with mean 1.
    fn exponential(&mut self) -> f64 {
        -(1.0 - self.fraction()).ln()
    }
}

/// Words that most vocabularies have as one token.
const WORDS: [&str; 64] = [
    "time", "way", "year", "work", "day", "part", "place", "case", "hand", "group", "fact", "eye", "week", "point",
    "home", "water", "room", "night", "story", "lot", "right", "study", "book", "word", "house", "side", "head",
    "hour", "game", "line", "end", "city", "name", "team", "idea", "body", "back", "face", "door", "car", "art", "war",
    "air", "food", "power", "law", "road", "form", "class", "boy", "girl", "child", "river", "light", "stone", "tree",
    "wind", "fire", "garden", "music", "letter", "winter", "table", "paper",
];

/// `count` random words.
pub fn words(count: usize, dice: &mut BenchDice) -> String {
    (0..count).map(|_| WORDS[dice.below(WORDS.len())]).collect::<Vec<_>>().join(" ")
}

/// The properties of requests, except when they are sent.
#[derive(Clone, Debug)]
pub struct HttpWorkload {
    /// Tokens of a prompt.
    pub prompt: Length,
    /// Tokens of an answer.
    pub output: Length,
    /// Tokens with which all prompts begin, before their own.
    pub shared_prefix: usize,
    /// The seed of prompts, lengths and arrivals.
    pub seed: u64,
}

impl HttpWorkload {
    /// The prompt and `max_tokens` of request `n` of phase `phase`. All prompts of a run differ. `words_per_token` is that
    /// of the server's vocabulary.
    pub fn request(&self, phase: u64, n: u64, words_per_token: f64) -> (String, usize) {
        let mut dice = BenchDice::new(self.seed, phase + 1, n);
        let (prompt, output) = (self.prompt.draw(&mut dice), self.output.draw(&mut dice));
        let to_words = |tokens: usize| ((tokens as f64 * words_per_token).round() as usize).max(1);
        let own = words(to_words(prompt), &mut dice);
        if self.shared_prefix == 0 {
            return (own, output);
        }
        (words(to_words(self.shared_prefix), &mut BenchDice::new(self.seed, 0, 0)) + " " + &own, output)
    }
}

/// The times of requests that arrive independently at `rate` a second on average, as offsets from the start.
pub fn arrivals(rate: f64, seed: u64, phase: u64) -> impl Iterator<Item = Duration> {
    let mut dice = BenchDice::new(seed, phase + 1, u64::MAX);
    let mut at = 0.0;
    std::iter::from_fn(move || {
        at += dice.exponential() / rate;
        Some(Duration::from_secs_f64(at.min(1e9)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_what_they_say() {
        for (text, length) in [
            ("128", Length::Fixed(128)),
            ("64..256", Length::Uniform { from: 64, to: 256 }),
            ("~32", Length::Exponential { mean: 32 }),
        ] {
            assert_eq!(text.parse(), Ok(length));
            assert_eq!(length.to_string(), text);
        }
        for bad in ["0", "", "9..3", "..", "~", "-1", "1e3", "1048577"] {
            assert!(bad.parse::<Length>().is_err(), "{bad}");
        }
        let mean = |length: Length| {
            let mut dice = BenchDice::new(1, 2, 3);
            let drawn: Vec<usize> = (0..20_000).map(|_| length.draw(&mut dice)).collect();
            let (least, most) = (*drawn.iter().min().unwrap(), *drawn.iter().max().unwrap());
            (drawn.iter().sum::<usize>() as f64 / drawn.len() as f64, least, most)
        };
        let (uniform, least, most) = mean(Length::Uniform { from: 10, to: 30 });
        assert!((19.5..20.5).contains(&uniform) && (least, most) == (10, 30), "{uniform} {least} {most}");
        let (exponential, least, most) = mean(Length::Exponential { mean: 100 });
        assert!((96.0..104.0).contains(&exponential) && least == 1 && most <= 800, "{exponential} {least} {most}");
    }

    #[test]
    fn arrivals_are_poisson() {
        let at: Vec<f64> = arrivals(50.0, 7, 0).take(10_000).map(|at| at.as_secs_f64()).collect();
        let rate = at.len() as f64 / at[at.len() - 1];
        assert!((48.0..52.0).contains(&rate), "{rate}");
        // Counts requests in windows of a second: in a Poisson process variance and mean are equal.
        let windows = at[at.len() - 1] as usize;
        let mut counts = vec![0.0; windows + 1];
        at.iter().for_each(|at| counts[*at as usize] += 1.0);
        counts.pop();
        let variance = counts.iter().map(|count| (count - rate) * (count - rate)).sum::<f64>() / windows as f64;
        assert!((0.7..1.35).contains(&(variance / rate)), "{variance} at {rate}");
    }

    #[test]
    fn prompts_differ_behind_what_they_share_and_repeat_by_seed() {
        let workload = HttpWorkload { prompt: Length::Fixed(20), output: Length::Fixed(5), shared_prefix: 10, seed: 1 };
        let (first, output) = workload.request(0, 0, 1.0);
        let (second, _) = workload.request(0, 1, 1.0);
        let (other_phase, _) = workload.request(1, 0, 1.0);
        assert_eq!((first.split(' ').count(), output), (30, 5));
        assert!(first != second && first != other_phase);
        let beginning = |text: &str| text.split(' ').take(10).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(beginning(&first), beginning(&second));
        assert_eq!(workload.request(0, 0, 1.0).0, first);
        assert_eq!(workload.request(0, 0, 0.5).0.split(' ').count(), 15);
    }
}
