//! Log-probabilities of the model's own distribution, before bias, penalties, filters and temperature.
//!
//! Pure functions, called on the batching thread for requests that ask for them; `top_logprobs` allocates its answer.

use super::candidates::Candidates;
use super::exp::exp;
use super::row::{NOTHING, block_maxima, each_block, key, unkey};
use super::top_k::top_k;
use crate::types::{Token, TokenLogprobs};

/// ln of the probability that the row gives `token`; `-inf` for a token outside the row, for NaN and for a row that
/// has no entry. Beside a logit of `+inf` all others are impossible.
pub fn log_softmax_at(logits: &[f32], token: Token) -> f32 {
    let mut maxima = Vec::with_capacity(logits.len().div_ceil(super::row::BLOCK));
    let best = block_maxima(logits, &mut maxima);
    let normaliser = ln_sum_exp(logits, best);
    logits.get(token.index()).map_or(NOTHING, |&logit| logprob(logit, normaliser))
}

/// The log probabilities of `token` and of the `k` most likely tokens.
pub fn token_logprobs(logits: &[f32], token: Token, k: usize) -> TokenLogprobs {
    let mut maxima = Vec::with_capacity(logits.len().div_ceil(super::row::BLOCK));
    let best = block_maxima(logits, &mut maxima);
    let normaliser = ln_sum_exp(logits, best);
    let chosen = logits.get(token.index()).map_or(NOTHING, |&logit| logprob(logit, normaliser));
    TokenLogprobs { chosen, top: likeliest(logits, &maxima, best, normaliser, k) }
}

/// The `k` most likely tokens and the ln of their probability, most likely first, equal ones by lowest id.
pub fn top_logprobs(logits: &[f32], k: usize) -> Vec<(Token, f32)> {
    let mut maxima = Vec::with_capacity(logits.len().div_ceil(super::row::BLOCK));
    let best = block_maxima(logits, &mut maxima);
    likeliest(logits, &maxima, best, ln_sum_exp(logits, best), k)
}

fn likeliest(logits: &[f32], maxima: &[f32], best: f32, normaliser: f64, k: usize) -> Vec<(Token, f32)> {
    if k == 0 || best == NOTHING {
        return Vec::new();
    }
    let (mut keys, mut kept) = (Vec::new(), Candidates::new(0));
    top_k(logits, maxima, k, &mut keys, &mut kept);
    keys.clear();
    keys.extend(kept.values.iter().zip(&kept.ids).map(|(&value, &id)| key(value, id)));
    keys.sort_unstable();
    keys.iter().map(|&k| unkey(k)).map(|(logit, id)| (Token(id), logprob(logit, normaliser))).collect()
}

fn logprob(logit: f32, normaliser: f64) -> f32 {
    if logit == f32::INFINITY {
        0.0
    } else if logit > NOTHING {
        (f64::from(logit) - normaliser) as f32
    } else {
        NOTHING
    }
}

/// ln of the sum of `exp(logit)`.
fn ln_sum_exp(logits: &[f32], best: f32) -> f64 {
    if best == f32::INFINITY {
        return f64::INFINITY;
    }
    let mut sum = 0.0f64;
    each_block(logits, |_, block| {
        let mut lanes = [0.0f32; 8];
        for eight in block.as_chunks::<8>().0 {
            for lane in 0..8 {
                lanes[lane] += exp(eight[lane] - best);
            }
        }
        sum += f64::from(lanes.iter().sum::<f32>());
    });
    f64::from(best) + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;
    use crate::sample::naive::shapes;

    #[test]
    fn agree_with_the_definition() {
        let mut rng = Dice::new(5);
        for round in 0..400 {
            let row = shapes(&mut rng, 1 + round % 300);
            let best = row.iter().copied().filter(|x| !x.is_nan()).fold(NOTHING, f32::max);
            if best == NOTHING {
                assert!(top_logprobs(&row, 3).is_empty());
                assert_eq!(log_softmax_at(&row, Token(0)), NOTHING);
                continue;
            }
            let sum: f64 = row.iter().filter(|x| !x.is_nan()).map(|&x| f64::from(x - best).exp()).sum();
            let exact = |x: f32| if x.is_nan() { f64::from(NOTHING) } else { f64::from(x - best) - sum.ln() };
            let mut order: Vec<usize> = (0..row.len()).filter(|&i| row[i] > NOTHING).collect();
            order.sort_by(|&a, &b| row[b].partial_cmp(&row[a]).unwrap().then(a.cmp(&b)));
            for k in [1, 5, row.len(), row.len() + 7] {
                let top = top_logprobs(&row, k);
                let both = token_logprobs(&row, Token(round as u32 / 2), k);
                assert_eq!(both.top, top);
                assert_eq!(both.chosen, log_softmax_at(&row, Token(round as u32 / 2)));
                assert_eq!(top.len(), k.min(order.len()));
                for ((token, logprob), &place) in top.iter().zip(&order) {
                    assert_eq!(row[token.index()], row[place]);
                    assert!((f64::from(*logprob) - exact(row[place])).abs() < 2e-6 * exact(row[place]).abs().max(1.0));
                    assert_eq!(*logprob, log_softmax_at(&row, *token));
                }
            }
        }
        assert_eq!(log_softmax_at(&[0.0], Token(4)), NOTHING);
        assert_eq!(log_softmax_at(&[f32::INFINITY, 0.0], Token(0)), 0.0);
        assert_eq!(log_softmax_at(&[f32::INFINITY, 0.0], Token(1)), NOTHING);
    }
}
