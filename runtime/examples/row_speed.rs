//! How fast the precompiled row primitives are on this machine: nanoseconds per logit, one thread, best of several
//! rounds, beside a copy of the same bytes (logits read once, gradients written once).
//!
//!     cargo run --release -p rlc-runtime --example row_speed -- [rounds]
//!
//! "far" goes row after row over 64 MB of f32 logits, "near" stays on as many rows as fit in 512 KiB.
#![allow(clippy::unwrap_used, reason = "a measurement, not a library")]

use std::hint::black_box;
use std::time::Instant;

use half::{bf16, f16};
use rlc_compiler::table::Floats;
use rlc_runtime::device::cpu::rows::{
    Gradient, Other, Out, Row, Wanted, Width, gradient, gradient_in_place, statistics,
    statistics_of_two,
};

/// f32 logits that count as far away.
const FAR: usize = 16 << 20;
/// Bytes of logits and gradients that count as near.
const NEAR: usize = 512 << 10;

struct Numbers {
    f32: Vec<f32>,
    bf16: Vec<u16>,
    f16: Vec<u16>,
    other: Vec<f32>,
}

/// Best nanoseconds per logit of `rounds`, each over `rows` rows.
fn time(rounds: usize, rows: usize, vocab: usize, mut row: impl FnMut(usize)) -> f64 {
    // Near rows are too short for one clock reading.
    let repeat = (2_000_000 / (rows * vocab)).max(1);
    let mut best = f64::INFINITY;
    for _ in 0..=rounds {
        let begin = Instant::now();
        for _ in 0..repeat {
            (0..rows).for_each(&mut row);
        }
        best = best.min(begin.elapsed().as_secs_f64());
    }
    best * 1e9 / (repeat * rows * vocab) as f64
}

fn main() {
    let rounds: usize = std::env::args().nth(1).map_or(5, |a| a.parse().unwrap());
    let mut state = 1u64;
    let mut numbers = || -> Vec<f32> {
        (0..FAR)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1 << 20) as f32 - 8.0
            })
            .collect()
    };
    let (logits, other) = (numbers(), numbers());
    let numbers = Numbers {
        bf16: logits.iter().map(|v| bf16::from_f32(*v).to_bits()).collect(),
        f16: logits.iter().map(|v| f16::from_f32(*v).to_bits()).collect(),
        f32: logits,
        other,
    };
    let mut out = vec![0.0f32; FAR];
    for vocab in [32_000, 151_936] {
        for (place, rows) in [("near", (NEAR / vocab / 8).max(1)), ("far", FAR / vocab)] {
            println!("V = {vocab}, {place}: {rows} rows");
            // A copy moves as many bytes in as out: half of what is read and written.
            let copies = [
                ("f32 to f32", vocab),
                ("bf16 to f32", vocab / 4 * 3),
                ("bf16 to bf16", vocab / 2),
            ];
            for (name, size) in copies {
                let ns = time(rounds, rows, vocab, |r| {
                    let range = r * size..(r + 1) * size;
                    out[range.clone()].copy_from_slice(&numbers.f32[range]);
                    black_box(&mut out);
                });
                println!("  {:8} {name:24} {ns:6.3}", "copy");
            }
            for width in Width::ALL.into_iter().filter(|w| w.available()) {
                measure(width, (rounds, rows, vocab), &numbers, &mut out);
            }
        }
    }
}

fn black<T>(x: T) {
    let _ = black_box(x);
}

fn of_row(logits: Floats) -> Row {
    Row { logits, scale: 1.0 / 0.9 }
}

fn measure(
    width: Width,
    (rounds, rows, vocab): (usize, usize, usize),
    numbers: &Numbers,
    out: &mut [f32],
) {
    let range = |r: usize| r * vocab..(r + 1) * vocab;
    let x = |r: usize| of_row(Floats::F32(&numbers.f32[range(r)]));
    let y = |r: usize| of_row(Floats::F32(&numbers.other[range(r)]));
    let b = |r: usize| of_row(Floats::Bf16(&numbers.bf16[range(r)]));
    let h = |r: usize| of_row(Floats::F16(&numbers.f16[range(r)]));
    let time = |name: &str, row: &mut dyn FnMut(usize)| {
        let width = format!("{width:?}").to_lowercase();
        println!("  {width:8} {name:24} {:6.3}", time(rounds, rows, vocab, row));
    };
    let plain = Wanted::default();
    let entropy = Wanted { moment: true, square: false };
    time("statistics", &mut |r| black(statistics(width, x(r), plain)));
    time("  entropy", &mut |r| black(statistics(width, x(r), entropy)));
    let all = Wanted { moment: true, square: true };
    time("  entropy and square", &mut |r| black(statistics(width, x(r), all)));
    time("  bf16", &mut |r| black(statistics(width, b(r), plain)));
    time("  f16", &mut |r| black(statistics(width, h(r), plain)));
    time("  of two", &mut |r| black(statistics_of_two(width, x(r), y(r), plain)));
    let policy = Gradient { lse: 12.0, p: -0.3, ..Gradient::default() };
    let entropy_too = Gradient { p_log_p: 0.01, ..policy };
    time("gradient", &mut |r| {
        gradient(width, x(r), &policy, Out::F32(&mut out[range(r)]));
    });
    time("  entropy", &mut |r| {
        gradient(width, x(r), &entropy_too, Out::F32(&mut out[range(r)]));
    });
    time("  kl", &mut |r| {
        let other = Some(Other { row: y(r), lse: 12.0, p_log_q: -0.01, q: 0.0 });
        let how = Gradient { other, ..entropy_too };
        gradient(width, x(r), &how, Out::F32(&mut out[range(r)]));
    });
    time("  reverse kl", &mut |r| {
        let other = Some(Other { row: y(r), lse: 12.0, p_log_q: 0.0, q: 0.01 });
        gradient(width, x(r), &Gradient { other, ..policy }, Out::F32(&mut out[range(r)]));
    });
    time("  bf16", &mut |r| {
        gradient(width, b(r), &policy, Out::F32(&mut out[range(r)]));
    });
    let both = |x: Row, how: &Gradient, wanted, out: Out| {
        let found = statistics(width, x, wanted);
        let add = [(7, 0.3)];
        gradient(width, x, &Gradient { lse: found.lse(), add: &add, ..*how }, out);
    };
    time("both", &mut |r| both(x(r), &policy, plain, Out::F32(&mut out[range(r)])));
    time("  entropy", &mut |r| both(x(r), &entropy_too, entropy, Out::F32(&mut out[range(r)])));
    time("  bf16", &mut |r| both(b(r), &policy, plain, Out::F32(&mut out[range(r)])));
    let mut short = vec![0u16; rows * vocab];
    time("  bf16 to bf16", &mut |r| both(b(r), &policy, plain, Out::Bf16(&mut short[range(r)])));
    // In place: what is read is the last round's gradient, which is as good as any row.
    let mut own = numbers.f32[..rows * vocab].to_vec();
    time("  in place", &mut |r| {
        let row = &mut own[range(r)];
        let found = statistics(width, of_row(Floats::F32(row)), plain);
        let how = Gradient { lse: found.lse(), ..policy };
        gradient_in_place(width, Out::F32(row), 1.0 / 0.9, &how);
    });
}
