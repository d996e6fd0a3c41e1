//! Compares the whole sampler with the naive one, and checks its guarantees about draws, invalid rows and memory.

use super::naive::{probabilities, shapes, survivors};
use super::*;
use crate::dice::Dice;

fn neutral() -> SamplingParams {
    SamplingParams { top_k: 0, top_p: 1.0, min_p: 0.0, temperature: 1.0, ..SamplingParams::default() }
}

fn sampler(params: &SamplingParams) -> Sampler {
    let mut sampler = Sampler::new();
    sampler.reset(params, &[]);
    sampler
}

#[test]
fn equals_the_naive_sampler_on_every_shape() {
    let mut rng = Dice::new(11);
    let mut exact = 0;
    for round in 0..6_000u64 {
        let n = [1, 7, 33, 64, 300, 2_048, 5_000][rng.below(if round % 50 == 0 { 7 } else { 5 })];
        let mut row = shapes(&mut rng, n);
        let params = SamplingParams {
            top_k: [0, 0, 1, 5, 40, 3_000, usize::MAX][rng.below(7)],
            typical_p: [1.0, 1.0, 0.2, 0.95][rng.below(4)],
            top_p: [1.0, 1e-6, 0.3, 0.5, 0.95, 0.999][rng.below(6)],
            min_p: [0.0, 0.0, 0.05, 0.4, 1.0][rng.below(5)],
            temperature: [0.25, 1.0, 1.7][rng.below(3)],
            ..neutral()
        };
        // Which entry ends typical-p's set may depend on the last bit of its mean, so no further filter may depend on
        // that set here.
        let params = if params.typical_p < 1.0 { SamplingParams { top_p: 1.0, min_p: 0.0, ..params } } else { params };
        let before = row.clone();
        let mut scratch = SampleScratch::new(n);
        let sampler = sampler(&params);
        let ours = sampler.distribution(&mut scratch, &mut row);
        same_bits(&row, &before);
        let naive = survivors(&row, &params);
        let drawn = sampler.sample(&mut scratch, &mut row);
        if naive.is_empty() {
            assert!(ours.is_empty() && drawn.is_none());
            continue;
        }
        assert!(ours.is_sorted_by_key(|o| o.0));
        assert!(ours.iter().any(|o| Some(o.0) == drawn));
        let context = || format!("round {round}, n {n}, {params:?}");
        // f64 and f32 sums may differ at the edge of top-p or typical-p: by one entry, or a run of equal ones.
        let slack = usize::from(params.top_p < 1.0 || params.typical_p < 1.0);
        let p = probabilities(&row, &naive, params.temperature);
        // Below -87 nats of the best our weight is exactly 0; the naive sampler still has a value.
        let visible = p.iter().filter(|&&p| p > 1e-30).count();
        let ours: Vec<_> = ours.into_iter().filter(|o| o.1 > 1e-30).collect();
        assert!(ours.len().abs_diff(visible) <= slack, "{}: {} for {visible}", context(), ours.len());
        let differ = naive.iter().filter(|&&place| ours.iter().all(|o| o.0.index() != place)).count();
        assert!(differ + visible <= naive.len() + slack, "{}: {differ} of {visible} missing", context());
        if ours.len() == naive.len() && differ == 0 {
            for (&place, p) in naive.iter().zip(&p) {
                let found = ours.iter().find(|o| o.0.index() == place).unwrap();
                assert!((f64::from(found.1) - p).abs() < 2e-6, "{}: {} for {p}", context(), found.1);
            }
            exact += 1;
        }
    }
    assert!(exact > 4_000, "only {exact} rows were equal entry by entry");
}

#[test]
fn equals_the_naive_sampler_on_a_large_vocabulary() {
    let n = 151_936;
    let mut rng = Dice::new(15);
    let mut scratch = SampleScratch::new(n);
    let shapes: [Vec<f32>; 6] = [
        (0..n).map(|i| -2.0 * ((i * 7919 % n + 1) as f32).ln() + 0.4 * rng.normal()).collect(),
        (0..n).map(|i| -1.4 * ((i * 7919 % n + 1) as f32).ln() + 0.4 * rng.normal()).collect(),
        (0..n).map(|_| 0.05 * rng.normal()).collect(),
        (0..n).map(|_| 4.0 * rng.normal()).collect(),
        (0..n).map(|i| if i == 77 { 0.0 } else { -12.0 - 1e-5 * rng.unit() as f32 }).collect(),
        vec![-3.0; n],
    ];
    for (shape, mut row) in shapes.into_iter().enumerate() {
        for params in [
            SamplingParams { top_p: 0.95, ..neutral() },
            SamplingParams { top_p: 0.6, top_k: 100_000, ..neutral() },
            SamplingParams { top_p: 0.3, ..neutral() },
            SamplingParams { top_p: 0.999, ..neutral() },
            SamplingParams { typical_p: 0.3, ..neutral() },
            SamplingParams { typical_p: 0.95, ..neutral() },
        ] {
            let ours: Vec<usize> =
                sampler(&params).distribution(&mut scratch, &mut row).iter().map(|o| o.0.index()).collect();
            let mut naive = survivors(&row, &params);
            naive.sort_unstable();
            let common = naive.iter().filter(|place| ours.binary_search(place).is_ok()).count();
            // Weights are f32: rounding may move an edge by a few of a hundred thousand entries.
            let slack = 2 + n / 20_000;
            let differ = naive.len() + ours.len() - 2 * common;
            assert!(differ <= slack, "shape {shape}, {params:?}: {differ} of {} differ", naive.len());
        }
    }
}

fn same_bits(a: &[f32], b: &[f32]) {
    assert!(a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits()), "the row was not restored");
}

#[test]
fn one_scratch_serves_rows_of_any_history() {
    // Data left in scratch memory by a large row must not change the result of a small row.
    let mut rng = Dice::new(12);
    let mut shared = SampleScratch::new(5_000);
    for _ in 0..400 {
        let n = 1 + rng.below(5_000);
        let mut row = shapes(&mut rng, n);
        let params = SamplingParams { typical_p: 0.9, seed: rng.next(), ..SamplingParams::default() };
        let sampler = sampler(&params);
        assert_eq!(sampler.sample(&mut shared, &mut row), sampler.sample(&mut SampleScratch::new(n), &mut row));
    }
}

#[test]
fn greedy_is_the_argmax_whatever_the_filters() {
    let mut rng = Dice::new(13);
    let mut scratch = SampleScratch::new(3_000);
    for _ in 0..500 {
        let n = 1 + rng.below(3_000);
        let mut row = shapes(&mut rng, n);
        let params = SamplingParams { temperature: 0.0, typical_p: 0.1, ..SamplingParams::default() };
        let expected = row::argmax(&row).map(|place| Token(place as u32));
        assert_eq!(sampler(&params).sample(&mut scratch, &mut row), expected);
    }
    let biased = SamplingParams { temperature: 0.0, logit_bias: vec![(1, f32::NEG_INFINITY)], ..neutral() };
    assert_eq!(sampler(&biased).sample(&mut scratch, &mut [1.0, 9.0, 3.0]), Some(Token(2)));
    let mut penalised = sampler(&SamplingParams { temperature: 0.0, repetition_penalty: 2.0, ..neutral() });
    assert_eq!(penalised.sample(&mut scratch, &mut [5.0, 9.0, 3.0]), Some(Token(1)));
    penalised.accept(Token(1));
    assert_eq!(penalised.sample(&mut scratch, &mut [5.0, 9.0, 3.0]), Some(Token(0)));
}

#[test]
fn the_same_index_draws_the_same_token_and_reset_starts_over() {
    let mut scratch = SampleScratch::new(1_000);
    let mut row: Vec<f32> = vec![0.0; 1_000];
    let params = SamplingParams { seed: 42, ..neutral() };
    let mut first = sampler(&params);
    let other = sampler(&SamplingParams { seed: 43, ..neutral() });
    let mut text = Vec::new();
    for _ in 0..50 {
        let token = first.sample(&mut scratch, &mut row).unwrap();
        // Another request samples in between, and a step is repeated.
        other.sample(&mut scratch, &mut row).unwrap();
        assert_eq!(first.sample(&mut scratch, &mut row), Some(token));
        first.accept(token);
        text.push(token);
    }
    first.reset(&params, &[]);
    for token in text {
        assert_eq!(first.sample(&mut scratch, &mut row), Some(token));
        first.accept(token);
    }
}

#[test]
fn broken_rows_are_an_answer_not_a_panic() {
    let (nan, none, inf) = (f32::NAN, f32::NEG_INFINITY, f32::INFINITY);
    let mut scratch = SampleScratch::new(64);
    for params in [
        neutral(),
        SamplingParams::default(),
        SamplingParams { temperature: 0.0, ..neutral() },
        SamplingParams { typical_p: 0.5, top_k: 2, temperature: 1e-40, repetition_penalty: 1.5, ..neutral() },
    ] {
        let mut sampler = sampler(&params);
        sampler.accept(Token(0));
        let mut draw = |mut row: Vec<f32>| sampler.sample(&mut scratch, &mut row).map(|token| token.0);
        assert_eq!(draw(vec![]), None);
        assert_eq!(draw(vec![nan; 40]), None);
        assert_eq!(draw(vec![none; 40]), None);
        assert_eq!(draw([vec![nan; 39], vec![-3e38], vec![none; 3]].concat()), Some(39));
        assert_eq!(draw(vec![1.0, inf, nan, inf]), Some(1));
        assert_eq!(draw(vec![none, f32::MAX, f32::MIN, none]), Some(1));
        assert!(draw(vec![1e-45, 0.0, -0.0, -1e-45]).is_some());
    }
}

#[test]
fn nothing_grows_after_start_up() {
    let n = 4_096;
    let mut scratch = SampleScratch::new(n);
    let mut rng = Dice::new(14);
    let capacities = |s: &SampleScratch| {
        [
            s.maxima.capacity(),
            s.sums.capacity(),
            s.mass.keys.capacity(),
            s.mass.edge_capacity(),
            s.kept[0].ids.capacity(),
            s.kept[1].values.capacity(),
        ]
    };
    let before = capacities(&scratch);
    for _ in 0..300 {
        let mut row = shapes(&mut rng, n);
        let params = SamplingParams {
            top_k: [0, 40, n - 1][rng.below(3)],
            typical_p: [1.0, 0.999][rng.below(2)],
            repetition_penalty: 1.1,
            ..SamplingParams::default()
        };
        sampler(&params).sample(&mut scratch, &mut row);
    }
    assert_eq!(capacities(&scratch), before);
}
