//! The world of a seed: the sizes of the engine, the faults, and the requests.

use std::sync::Arc;

use cllm::engine::{PromptRows, Reserve};
use cllm::types::seams::{Capacity, CheckpointRule};
use cllm::types::{
    AccountId, Class, Dry, GenerateParams, Mirostat, Owner, SamplingParams, Share, Token, TokenTable, Weight,
};

use crate::dice::Dice;
use crate::fake_decoder::Faults;
use crate::grammar::Grammar;
use crate::store::StoreShape;

pub const N_VOCAB: usize = 32;
const EOG: [Token; 2] = [Token(30), Token(31)];

/// The sizes of the engine, and the faults.
#[derive(Clone, Debug)]
pub struct Shape {
    pub capacity: Capacity,
    pub slots: usize,
    pub reserve: Reserve,
    pub prompt_rows: PromptRows,
    pub reply_slots: usize,
    pub pieces_per_reply: usize,
    pub ring: usize,
    pub requests: usize,
    pub faults: Faults,
    /// Whether the engine guesses.
    pub speculates: bool,
    /// KV state is kept outside the cells; `None`: in cells only.
    pub memory: Option<StoreShape>,
    pub crowd: Crowd,
    pub shutdown: Option<Leave>,
}

/// The behaviour of the clients.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// The probability that a request arrives before a step.
    pub arrives: f64,
    pub burst: f64,
    pub quits: f64,
    pub has_deadline: f64,
    pub reads_slowly: f64,
    pub constrained: f64,
    pub scored: f64,
    /// The probability that a client sends a prediction.
    pub predicts: f64,
    /// The number of accounts.
    pub accounts: usize,
    /// The number of API keys' spaces.
    pub spaces: usize,
    pub prompt_max: usize,
    pub tokens_max: usize,
    /// Beginnings that prompts have in common.
    pub openings: Vec<Vec<Token>>,
}

/// How the server is told to end, and before which round.
#[derive(Clone, Copy, Debug)]
pub struct Leave {
    pub round: u64,
    pub drains: bool,
}

impl Shape {
    pub fn roll(dice: &mut Dice) -> Shape {
        let slots = dice.within(1..=8);
        let seqs = (slots + *dice.pick(&[0, 0, 1, 3])) as u16;
        let cells_per_seq = dice.within(24..=200) as u32;
        let all = u32::from(seqs) * cells_per_seq;
        let cells_common = dice
            .chance(0.6)
            .then(|| if dice.chance(0.3) { all } else { dice.within(24..=(all as usize).min(400)) as u32 });
        let rows_max = slots + *dice.pick(&[1, 4, 16, 64, 200]);
        let tight = cells_per_seq.min(cells_common.unwrap_or(cells_per_seq)) as usize;
        let openings = (0..dice.within(1..=3))
            .map(|_| {
                let len = if dice.chance(0.5) { tight * 3 / 4 } else { dice.within(1..=tight) };
                tokens(dice, len)
            })
            .collect();
        Shape {
            capacity: Capacity { seqs, cells_per_seq, cells_common, rows_max, n_vocab: N_VOCAB },
            slots,
            reserve: *dice.pick(&[Reserve::ToTheEnd, Reserve::Share]),
            prompt_rows: match dice.chance(0.8) {
                true => PromptRows::Fixed(dice.within(1..=rows_max)),
                false => PromptRows::Measured,
            },
            reply_slots: dice.within(1..=3 * slots),
            pieces_per_reply: *dice.pick(&[1, 2, 8, 64, 64]),
            ring: dice.within(1..=16),
            requests: dice.within(4..=50),
            faults: faults(dice),
            speculates: dice.chance(0.6),
            memory: dice.chance(0.6).then(|| StoreShape::roll(dice)),
            crowd: Crowd {
                arrives: *dice.pick(&[0.05, 0.3, 1.0]),
                burst: *dice.pick(&[0.0, 0.2, 0.8]),
                quits: *dice.pick(&[0.0, 0.1, 0.5]),
                has_deadline: *dice.pick(&[0.0, 0.0, 0.3]),
                reads_slowly: *dice.pick(&[0.0, 0.2, 0.8]),
                constrained: *dice.pick(&[0.0, 0.2, 1.0]),
                scored: *dice.pick(&[0.0, 0.0, 0.2, 1.0]),
                predicts: *dice.pick(&[0.0, 0.5, 1.0]),
                accounts: *dice.pick(&[1, 1, 2, 4]),
                spaces: *dice.pick(&[1, 1, 2]),
                prompt_max: dice.within(1..=tight),
                tokens_max: dice.within(1..=40),
                openings,
            },
            shutdown: dice.chance(0.15).then(|| Leave { round: dice.within(0..=80) as u64, drains: dice.chance(0.5) }),
        }
    }

    /// The most cells one request can have.
    pub fn cells_max(&self) -> usize {
        self.capacity.cells_per_seq.min(self.capacity.cells_common.unwrap_or(u32::MAX)) as usize
    }
}

fn faults(dice: &mut Dice) -> Faults {
    let rots = dice.chance(0.1);
    if dice.chance(0.35) {
        return Faults { rots, ..Faults::default() };
    }
    let recurrent = dice.chance(0.2);
    let checkpoints = (recurrent && dice.chance(0.7)).then(|| CheckpointRule {
        every: *dice.pick(&[1, 3, 8, 20]),
        // A state has 8 bytes.
        bytes_max: *dice.pick(&[40, 80, 4_000]),
        is_whole: dice.chance(0.5),
    });
    let cuts_latest = checkpoints.is_some_and(|rule| !rule.is_whole) && dice.chance(0.5);
    Faults {
        checkpoints,
        cuts_latest,
        checkpoint_refused: *dice.pick(&[0.0, 0.0, 0.1]),
        no_room: *dice.pick(&[0.0, 0.02, 0.1]),
        no_room_again: *dice.pick(&[0.1, 0.1, 0.1, 0.6, 0.6, 1.0]),
        partial: *dice.pick(&[0.0, 0.02, 0.1]),
        partial_again: *dice.pick(&[0.1, 0.6]),
        // A prompt that goes back to a checkpoint may be prefilled in several attempts, so cells may get lost rarely.
        loses: *dice.pick(if checkpoints.is_some() { &[0.0, 0.05] } else { &[0.0, 0.3] }),
        invalid: *dice.pick(&[0.0, 0.0, 0.01]),
        fatal: *dice.pick(&[0.0, 0.0, 0.0, 0.005]),
        copy_refused: *dice.pick(&[0.0, 0.3]),
        save_refused: *dice.pick(&[0.0, 0.2]),
        recurrent,
        rots,
        pace: None,
    }
}

/// A client's request.
#[derive(Clone, Debug)]
pub struct Ask {
    pub prompt: Vec<Token>,
    pub params: GenerateParams,
    /// The grammar of its text, if it is constrained.
    pub grammar: Option<Grammar>,
}

impl Crowd {
    /// A random request. All but a few fit into `cells_max` cells. `talks` are prompts with their answers, some of
    /// which are continued.
    pub fn ask(&self, dice: &mut Dice, talks: &[Vec<Token>], cells_max: usize) -> Ask {
        let mut prompt = match dice.below(10) {
            0..=3 => dice.pick(&self.openings).clone(),
            4..=6 if !talks.is_empty() => dice.pick(talks).clone(),
            7 if !talks.is_empty() => {
                let talk = dice.pick(talks);
                talk[..dice.within(1..=talk.len())].to_vec()
            }
            _ => Vec::new(),
        };
        if prompt.is_empty() || dice.chance(0.8) {
            let most = *dice.pick(&[4, 12, self.prompt_max]);
            let len = dice.within(1..=most);
            prompt.extend(tokens(dice, len));
        }
        let mut max_tokens = dice.within(1..=self.tokens_max);
        if !dice.chance(0.01) {
            prompt.truncate(cells_max);
            max_tokens = max_tokens.min(cells_max + 1 - prompt.len());
        }
        let stop = match dice.below(3) {
            0 => (0..dice.within(1..=3)).map(|_| bytes(dice, 1..=6)).collect(),
            _ => Vec::new(),
        };
        let logprobs = dice.chance(self.scored).then(|| dice.within(0..=3));
        let prompt_logprobs = logprobs.is_some() && dice.chance(0.7);
        if prompt_logprobs && dice.chance(0.3) {
            max_tokens = 0;
        }
        let grammar = dice.chance(self.constrained).then(|| Grammar(dice.next()));
        let params = GenerateParams {
            sampling: sampling(dice),
            max_tokens,
            min_tokens: *dice.pick(&[0, 0, 0, 1, 4]),
            stop,
            thought: None,
            stop_tokens: (0..*dice.pick(&[0, 0, 0, 2])).map(|_| Token(dice.below(N_VOCAB) as u32)).collect(),
            ignore_eos: dice.chance(0.3),
            logprobs,
            prompt_logprobs,
            sampled_logprobs: logprobs.is_some() && dice.chance(0.4),
            constrained: grammar.is_some(),
            prediction: Vec::new(),
            share: share(dice, self.accounts),
            owner: dice.chance(0.5).then(|| Owner(dice.below(2) as u128)),
            space: Owner(dice.below(self.spaces) as u128),
        };
        Ask { prompt, params, grammar }
    }
}

/// The share of a random account. Each account has a fixed weight and class.
fn share(dice: &mut Dice, accounts: usize) -> Share {
    let account = dice.below(accounts);
    Share {
        account: AccountId(account as u64),
        weight: Weight::new([1, 4, 2, 1][account]).expect("within bounds"),
        class: if account == 3 { Class::Batch } else { Class::Interactive },
        priority: 0,
    }
}

fn sampling(dice: &mut Dice) -> SamplingParams {
    let temperature = *dice.pick(&[0.0, 0.0, 0.7, 1.5]);
    SamplingParams {
        logit_bias: (0..*dice.pick(&[0, 0, 0, 2]))
            .map(|_| (dice.below(N_VOCAB) as u32, *dice.pick(&[-2.0, 3.0, f32::NEG_INFINITY])))
            .collect(),
        repetition_penalty: *dice.pick(&[1.0, 1.0, 1.3]),
        frequency_penalty: *dice.pick(&[0.0, 0.0, 0.5]),
        presence_penalty: *dice.pick(&[0.0, 0.0, -0.5]),
        penalty_last_n: *dice.pick(&[0, 3, 16, 64]),
        top_k: *dice.pick(&[0, 5, 40]),
        typical_p: *dice.pick(&[1.0, 1.0, 0.9]),
        top_p: *dice.pick(&[1.0, 0.9]),
        min_p: *dice.pick(&[0.0, 0.05]),
        temperature,
        seed: dice.next(),
        dry: Dry { multiplier: *dice.pick(&[0.0, 0.0, 0.8]), allowed_length: 1, ..Dry::default() },
        top_n_sigma: *dice.pick(&[0.0, 0.0, 2.0]),
        min_keep: *dice.pick(&[0, 0, 3]),
        xtc_probability: *dice.pick(&[0.0, 0.0, 0.5]),
        xtc_threshold: 0.1,
        dynatemp_range: *dice.pick(&[0.0, 0.0, 0.4]),
        dynatemp_exponent: 1.0,
        mirostat: dice.chance(0.1).then(Mirostat::default),
    }
}

/// The prediction of a client whose answer will be `answer`: mostly that text, with some tokens changed, left out or
/// inserted, and with more tokens at its end.
pub fn prediction(dice: &mut Dice, answer: &[Token]) -> Vec<Token> {
    let errs = *dice.pick(&[0.0, 0.1, 0.5]);
    let mut prediction = Vec::new();
    for token in answer {
        match dice.chance(errs).then(|| dice.below(3)) {
            None => prediction.push(*token),
            Some(0) => {}
            Some(1) => prediction.extend(tokens(dice, 1)),
            Some(_) => prediction.extend([Token(dice.below(N_VOCAB) as u32), *token]),
        }
    }
    let more = dice.within(0..=8);
    prediction.extend(tokens(dice, more));
    prediction
}

fn tokens(dice: &mut Dice, len: usize) -> Vec<Token> {
    (0..len).map(|_| Token(dice.below(N_VOCAB) as u32)).collect()
}

fn bytes(dice: &mut Dice, len: std::ops::RangeInclusive<usize>) -> Vec<u8> {
    (0..dice.within(len)).map(|_| b"abc"[dice.below(3)]).collect()
}

/// A vocabulary of short words over three letters, so that stop strings appear, also across tokens.
pub fn table(dice: &mut Dice) -> Arc<TokenTable> {
    let pieces: Vec<Vec<u8>> = (0..N_VOCAB).map(|_| bytes(dice, 0..=3)).collect();
    Arc::new(TokenTable::new(pieces.iter().map(Vec::as_slice), &EOG))
}
