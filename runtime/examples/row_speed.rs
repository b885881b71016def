//! How fast the precompiled row primitives are on this machine: nanoseconds per logit, one thread, best of several
//! rounds, beside a copy of the same bytes (logits read once, gradients written once).
//!
//!     cargo run --release -p rlc-runtime --example row_speed -- [rounds] [width]
//!
//! "far" goes row after row over 64 MB of f32 logits, "near" stays on as many rows as fit in 512 KiB.
#![allow(clippy::unwrap_used, reason = "a measurement, not a library")]

use std::hint::black_box;
use std::time::Instant;

use half::{bf16, f16};
use rlc_compiler::table::Floats;
use rlc_runtime::device::cpu::rows::{
    Beside, Gradient, Out, Row, Wanted, Width, ends, gradient, statistics,
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

/// Logits between two readings of the clock: a busy machine leaves so long alone now and then.
const CHUNK: usize = 1 << 20;

/// Nanoseconds per logit over `rows` rows: of each part of them the best of `rounds`.
fn time(rounds: usize, rows: usize, vocab: usize, mut row: impl FnMut(usize)) -> f64 {
    let part = (CHUNK / vocab).clamp(1, rows);
    // Near rows are too short for one clock reading.
    let repeat = (CHUNK / (part * vocab)).max(1);
    let mut best = vec![f64::INFINITY; rows.div_ceil(part)];
    for _ in 0..=rounds {
        for (p, best) in best.iter_mut().enumerate() {
            let begin = Instant::now();
            for _ in 0..repeat {
                (p * part..((p + 1) * part).min(rows)).for_each(&mut row);
            }
            *best = best.min(begin.elapsed().as_secs_f64());
        }
    }
    best.iter().sum::<f64>() * 1e9 / (repeat * rows * vocab) as f64
}

fn main() {
    let rounds: usize = std::env::args().nth(1).map_or(5, |a| a.parse().unwrap());
    let only = std::env::args().nth(2);
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
            let named =
                |w: &Width| only.as_ref().is_none_or(|o| *o == format!("{w:?}").to_lowercase());
            for width in Width::ALL.into_iter().filter(|w| w.available() && named(w)) {
                measure(width, (rounds, rows, vocab), &numbers, &mut out);
            }
        }
    }
}

fn black<T>(x: T) {
    let _ = black_box(x);
}

/// 1 / temperature.
const SCALE: f64 = 1.0 / 0.9;

fn of_row(logits: Floats) -> Row {
    Row { logits, scale: SCALE }
}

fn measure(
    width: Width,
    (rounds, rows, vocab): (usize, usize, usize),
    numbers: &Numbers,
    out: &mut [f32],
) {
    let range = |r: usize| r * vocab..(r + 1) * vocab;
    let x = |r: usize| of_row(Floats::F32(&numbers.f32[range(r)]));
    let y = |r: usize| Floats::F32(&numbers.other[range(r)]);
    let b = |r: usize| of_row(Floats::Bf16(&numbers.bf16[range(r)]));
    let h = |r: usize| of_row(Floats::F16(&numbers.f16[range(r)]));
    let time = |name: &str, row: &mut dyn FnMut(usize)| {
        let width = format!("{width:?}").to_lowercase();
        println!("  {width:8} {name:24} {:6.3}", time(rounds, rows, vocab, row));
    };
    let plain = Wanted::default();
    let entropy = Wanted { moment: true, ..plain };
    let all = Wanted { square: true, ..entropy };
    let beside = |r: usize| Wanted { beside: Some(Beside { row: y(r), share: 1.0 }), ..entropy };
    time("ends", &mut |r| black(ends(width, x(r).logits)));
    time("statistics", &mut |r| black(statistics(width, x(r), &plain)));
    time("  entropy", &mut |r| black(statistics(width, x(r), &entropy)));
    time("  entropy and square", &mut |r| black(statistics(width, x(r), &all)));
    time("  entropy and kl", &mut |r| black(statistics(width, x(r), &beside(r))));
    time("  bf16", &mut |r| black(statistics(width, b(r), &plain)));
    time("  f16", &mut |r| black(statistics(width, h(r), &plain)));
    let add = [(7, 0.3)];
    time("gradient", &mut |r| {
        gradient(width, &[terms(x(r), 12.0, 0.0)], &add, Out::F32(&mut out[range(r)]));
    });
    time("  entropy", &mut |r| {
        gradient(width, &[terms(x(r), 12.0, 0.01)], &add, Out::F32(&mut out[range(r)]));
    });
    time("  kl", &mut |r| {
        let how = Gradient { other: Some((y(r), -0.01)), ..terms(x(r), 12.0, 0.01) };
        gradient(width, &[how], &add, Out::F32(&mut out[range(r)]));
    });
    time("  reverse kl", &mut |r| {
        let how = [terms(x(r), 12.0, 0.0), terms(of_row(y(r)), 12.0, 0.0)];
        gradient(width, &how, &add, Out::F32(&mut out[range(r)]));
    });
    time("  bf16", &mut |r| {
        gradient(width, &[terms(b(r), 12.0, 0.0)], &add, Out::F32(&mut out[range(r)]));
    });
    let both = |x: Row, p_log_p: f64, wanted, out: Out| {
        let found = statistics(width, x, wanted);
        gradient(width, &[terms(x, found.lse(), p_log_p)], &add, out);
    };
    time("both", &mut |r| both(x(r), 0.0, &plain, Out::F32(&mut out[range(r)])));
    time("  entropy", &mut |r| both(x(r), 0.01, &entropy, Out::F32(&mut out[range(r)])));
    time("  bf16", &mut |r| both(b(r), 0.0, &plain, Out::F32(&mut out[range(r)])));
    let mut short = vec![0u16; rows * vocab];
    time("  bf16 to bf16", &mut |r| both(b(r), 0.0, &plain, Out::Bf16(&mut short[range(r)])));
    time("  entropy and kl", &mut |r| {
        let found = statistics(width, x(r), &beside(r));
        let how = Gradient { other: Some((y(r), -0.01)), ..terms(x(r), found.lse(), 0.01) };
        gradient(width, &[how], &add, Out::F32(&mut out[range(r)]));
    });
    // In place: what is read is the last round's gradient, which is as good as any row.
    let mut own = numbers.f32[..rows * vocab].to_vec();
    time("  in place", &mut |r| {
        let row = &mut own[range(r)];
        let found = statistics(width, of_row(Floats::F32(row)), &plain);
        let how = Gradient { scale: SCALE, lse: found.lse(), p: -0.3, ..Gradient::default() };
        gradient(width, &[how], &add, Out::F32(row));
    });
}

/// A policy gradient and an entropy bonus.
fn terms(x: Row<'_>, lse: f64, p_log_p: f64) -> Gradient<'_> {
    let logits = Some(x.logits);
    Gradient { logits, scale: x.scale, lse, p: -0.3, p_log_p, ..Gradient::default() }
}
