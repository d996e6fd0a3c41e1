//! Matrix products by `kernels/` compared with ggml's: a matrix of the Qwen3-0.6B shape that fits in the caches, and one of
//! the size of its output matrix, which doesn't.
//!
//! `cargo bench --bench matrix [-- --rounds N] [--threads N] [--types Q4_K,Q6_K]`: both alternate within a round. Prints
//! the medians of `kernels/` and of each round's ratio (above 1: `kernels/` is faster). A build without `kernels/` (no
//! x86-64, no AVX2) says so.

#[cfg(not(own_matrix))]
fn main() {
    println!("products of matrices are ggml's here");
}

#[cfg(own_matrix)]
fn main() {
    use cllm::llama::raw::matrix::{MatrixShape, RandomNumbers, TYPES, Trial};

    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|i| args.get(i + 1));
    let number = |name: &str, default: usize| value(name).map_or(default, |n| n.parse().expect("a number"));
    let (rounds, threads) = (number("--rounds", 7), number("--threads", 2));
    let names = value("--types").map_or("Q4_K,Q5_K,Q6_K,Q8_0,Q4_0,Q4_1,Q5_0,F16", String::as_str);
    println!("{threads} threads, {rounds} rounds; microseconds of ours, and how many times as long ggml's take");
    for (k, columns, counts) in [(1_024, 3_072, &[1, 2, 4, 8, 16, 32, 512][..]), (1_024, 65_536, &[1, 2, 4, 8, 16, 32])]
    {
        print!("\n{:<22}", format!("{k} x {columns}, rows"));
        counts.iter().for_each(|count| print!("{count:>15}"));
        println!();
        for name in names.split(',') {
            let (_, kind) = TYPES.into_iter().find(|(other, _)| *other == name).expect("a type with kernels");
            let mut numbers = RandomNumbers::new(1);
            let weights = numbers.some(k * columns);
            let shape = MatrixShape { kind, k, columns, experts: 0 };
            let both = [false, true].map(|ours| Trial::new(shape, &weights, threads as i32, ours).expect("a matrix"));
            print!("{name:<22}");
            for &count in counts {
                let rows = numbers.some(k * count);
                let times = (200_000_000 / (k * columns * count)).max(1) as u32;
                let mut seconds = [Vec::new(), Vec::new()];
                for round in 0..=rounds {
                    for (trial, seconds) in both.iter().zip(&mut seconds) {
                        let _ = trial.run(&rows, None);
                        let took = trial.time(times).as_secs_f64();
                        if round > 0 {
                            seconds.push(took);
                        }
                    }
                }
                let [theirs, ours] = &seconds;
                let ratios = theirs.iter().zip(ours).map(|(theirs, ours)| theirs / ours).collect();
                print!("{:>9.0}{:>5.2}x", median(ours.clone()) * 1e6, median(ratios));
            }
            println!();
        }
    }
}

#[cfg(own_matrix)]
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
