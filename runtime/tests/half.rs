//! Gradients in the type of their logits: those of f32, rounded once to the nearest, ties to even, in place of the logits.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlc_compiler::clif::Float;
use rlc_compiler::link::NoFiles;
use rlc_compiler::source::{Source, Sources};
use rlc_compiler::table::{Data, Table, bf16_to_f32, f16_to_f32};
use rlc_runtime::device::Entries;
use rlc_runtime::objective::{Backend, Logits, Objective, ObjectiveError};

const PROGRAMS: [&str; 4] = [
    "extend grpo\n",
    "loss = token_mean(token_loss - 0.01 * entropy + 0.1 * sum(softmax(2 * logits) ^ 2 per token))\n",
    // Only blocks know it.
    "loss = token_mean(token_loss + sum(sqrt(softmax(logits)) per token))\n",
    // Some entries are special, and logits are read after their gradient is known.
    "inside = top(logits, 2 in token)\n\
     loss = token_mean(token_loss - log(sum(softmax(logits) where inside per token)))\n",
];

fn objective(text: &str, backend: Backend) -> Objective {
    let mut sources = Sources::default();
    let root = sources.add(Source { name: "half.rl".into(), text: text.into(), library: false });
    let (checked, found) = rlc_compiler::check(&mut sources, root, &NoFiles);
    Objective::new(checked.unwrap_or_else(|| panic!("{found:?}")), backend)
}

fn batch() -> Table {
    let mut t = Table::default();
    t.set("group/size", Data::I64(vec![3]));
    t.set("rollout/size", Data::I64(vec![2, 3, 2]));
    t.set("rollout/reward", Data::F32(vec![1.0, 0.0, 0.5]));
    t.set("token/action", Data::I64(vec![5, 0, 77, 31, 98, 13, 42]));
    t.set("token/old_logp", Data::F32(vec![-4.5, -4.0, -5.0, -5.5, -4.5, -4.6, -4.7]));
    t
}

fn widened(bits: u16, float: Float) -> f32 {
    if float == Float::Bf16 { bf16_to_f32(bits) } else { f16_to_f32(bits) }
}

/// Whether no other number of the type is nearer.
fn is_rounded(bits: u16, x: f32, float: Float) -> bool {
    let off = |bits: u16| (f64::from(widened(bits, float)) - f64::from(x)).abs();
    let others = [bits.wrapping_add(1), bits.wrapping_sub(1)];
    others.into_iter().all(|other| {
        let even = bits.is_multiple_of(2);
        !off(other).is_finite() || off(bits) < off(other) || off(bits) == off(other) && even
    })
}

#[test]
fn gradients_have_the_type_of_their_logits() {
    let table = batch();
    for (n, text) in PROGRAMS.into_iter().enumerate() {
        for (float, vocab) in [(Float::Bf16, 600), (Float::F16, 600), (Float::Bf16, 99)] {
            for backend in [Backend::Cpu, Backend::Interp] {
                let own: Vec<u16> = (0..7 * vocab)
                    .map(|i| {
                        let sign = (i % 3 == 0) as u16;
                        let (one, spread) =
                            if float == Float::Bf16 { (0x3f00, 0xff) } else { (0x3800, 0x7ff) };
                        sign << 15 | (one + (i as u16).wrapping_mul(40_503) % spread)
                    })
                    .collect();
                let logits: Vec<f32> = own.iter().map(|x| widened(*x, float)).collect();
                let mut objective = objective(text, backend);
                let mut want = Vec::new();
                let mut step = objective.begin(&table, Logits::Live { vocab }).unwrap();
                for (piece, tokens) in [(0..1, 0..2), (1..3, 2..7)] {
                    let rows = &logits[tokens.start * vocab..tokens.end * vocab];
                    want.extend(step.live(piece, Some(rows)).unwrap().logits);
                }
                let loss = step.finish().unwrap().loss;
                drop(step);
                let mut got = own.clone();
                let mut step = objective.begin(&table, Logits::LiveAs { vocab, float }).unwrap();
                for (piece, tokens) in [(0..1, 0..2), (1..3, 2..7)] {
                    let rows = &mut got[tokens.start * vocab..tokens.end * vocab];
                    let rows = match float {
                        Float::Bf16 => Entries::Bf16(rows),
                        _ => Entries::F16(rows),
                    };
                    step.live_in_place(piece, rows).unwrap();
                }
                // Long rows of bf16 have vectors of their own on the CPU: other sums, other exponentials.
                let by_pairs = (float, backend, vocab) == (Float::Bf16, Backend::Cpu, 600);
                let off = (step.finish().unwrap().loss - loss).abs();
                assert!(
                    off <= if by_pairs { 1e-6 * (1.0 + loss.abs()) } else { 0.0 },
                    "{loss}: {off}"
                );
                assert!(want.iter().any(|x| *x != 0.0));
                let largest = want.iter().fold(0f32, |a, b| a.max(b.abs()));
                for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                    let widened = widened(*got, float);
                    let near = [-1e-6, 1e-6].map(|by| want + by * largest);
                    let fits = is_rounded(*got, *want, float)
                        || by_pairs && near.iter().any(|near| is_rounded(*got, *near, float));
                    assert!(
                        fits,
                        "program {n}, {float:?}, {backend:?}: {widened} for {want} at {i}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_half_precision_cannot_hold_is_named() {
    let table = batch();
    let mut objective = objective("loss = 1e7 * token_mean(-logp)\n", Backend::Cpu);
    let live = Logits::LiveAs { vocab: 300, float: Float::F16 };
    let mut step = objective.begin(&table, live).unwrap();
    let mut logits = vec![0u16; 7 * 300];
    let found = step.live_in_place(0..3, Entries::F16(&mut logits));
    let Err(ObjectiveError::NotFinite(said)) = found else { panic!("{found:?}") };
    assert!(said.contains("-inf at token 0 of the batch, entry 5"), "{said}");
}
