//! `attention/` compared with ggml's attention: one call over the heads of the Qwen3-0.6B shape, on one thread.
//!
//! `cargo bench --bench attention [-- --rounds N]`: both alternate within a round. Prints medians, the ratio of each round,
//! and how far each result is from one computed in 64 bits. In a build without `attention/` (no x86-64, no AVX2) both
//! columns are ggml's.

use cllm::llama::attention::leave_to_ggml;
use cllm::llama::raw::attention::{Case, Data, all_before, computed, every_nth, expected, four_and_a_piece, off_by};

/// The heads of the shape.
const SHAPE: Case = Case {
    dk: 128,
    dv: 128,
    heads: 16,
    kv_heads: 8,
    tokens: 1,
    cells: 1_024,
    streams: 1,
    softcap: 0.0,
    sinks: false,
    sees: all_before,
    threads: 1,
};
/// Runs of one measurement; the quickest counts.
const TIMES: usize = 5;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let given = args.iter().position(|arg| arg == "--rounds").and_then(|i| args.get(i + 1));
    let rounds = given.map_or(7, |n| n.parse().expect("--rounds takes a number"));
    println!("one call, 16 heads of 128 numbers in 8 groups, 1 thread, {rounds} rounds, medians\n");
    println!("{:<42}{:>8}{:>8}{:>7}{:>15}", "", "ggml us", "ours us", "ratio", "off by, both");
    let cases = [
        ("1 token, 1,024 cells", SHAPE),
        ("4 sequences, 1 token over 1,024 cells each", Case { streams: 4, ..SHAPE }),
        ("8 sequences in one buffer, 256 cells each", Case { tokens: 8, cells: 2_048, sees: every_nth, ..SHAPE }),
        ("12 tokens of a prompt, 1,500 cells", Case { tokens: 12, cells: 1_500, ..SHAPE }),
        ("32 tokens of a prompt, 1,500 cells", Case { tokens: 32, cells: 1_500, ..SHAPE }),
        ("64 tokens of a prompt, 1,500 cells", Case { tokens: 64, cells: 1_500, ..SHAPE }),
        ("512 tokens of a prompt, 512 cells", Case { tokens: 512, cells: 512, ..SHAPE }),
        (
            "4 sequences and 12 of a prompt, one buffer",
            Case { tokens: 16, cells: 3_000, sees: four_and_a_piece, ..SHAPE },
        ),
    ];
    for (name, case) in cases {
        let data = Data::of(&case);
        let exact = expected(&case, &data);
        let run = |ggml: bool| {
            leave_to_ggml(ggml);
            let (result, took) = computed(&case, &data, TIMES);
            leave_to_ggml(false);
            (took.as_secs_f64() * 1e6, off_by(&result, &exact))
        };
        let (mut theirs, mut ours, mut ratios, mut wrong) = (Vec::new(), Vec::new(), Vec::new(), (0.0, 0.0));
        for _ in 0..rounds {
            let ((theirs_us, theirs_off), (ours_us, ours_off)) = (run(true), run(false));
            theirs.push(theirs_us);
            ours.push(ours_us);
            ratios.push(theirs_us / ours_us);
            wrong = (theirs_off, ours_off);
        }
        println!(
            "{name:<42}{:>8.0}{:>8.0}{:>6.1}x{:>8.0e}{:>7.0e}",
            median(&mut theirs),
            median(&mut ours),
            median(&mut ratios),
            wrong.0,
            wrong.1
        );
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
