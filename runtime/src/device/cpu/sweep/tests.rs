//! Sweeps over one row by themselves: a gradient that takes the place of its entries.

use std::sync::Arc;

use rlc_compiler::clif::Float;
use rlc_compiler::fuse::fuse;
use rlc_compiler::link::NoFiles;
use rlc_compiler::loops::{Loop, Plan, SlotId, SlotKind};
use rlc_compiler::program::Program;
use rlc_compiler::source::{Source, Sources};
use rlc_compiler::specialize::{Settings, specialize};

use super::{STREAMED, SweepCode};
use crate::device::cpu::rows::Width;

fn program(text: &str) -> Arc<Program> {
    let mut sources = Sources::default();
    let root = sources.add(Source { name: "test.rl".into(), text: text.into(), library: false });
    let (checked, _) = rlc_compiler::check(&mut sources, root, &NoFiles);
    specialize(&checked.unwrap(), &Settings::default()).unwrap().program
}

/// The loop that writes a gradient.
fn writer(plan: &Plan) -> &Loop {
    plan.loops().find(|l| l.sweeps().any(|s| !s.gradients.is_empty())).unwrap()
}

/// Numbers that a sweep reads of its row, made up; those that sweeps before it found are in `found`.
fn inputs(sweep: &rlc_compiler::loops::Sweep, found: &[(rlc_compiler::loops::V, f64)]) -> Vec<f64> {
    let of = |v| found.iter().find(|f| f.0 == v).map(|f| f.1);
    let made = |v: rlc_compiler::loops::V| 0.75 + f64::from(v.0 % 5) * 0.125;
    sweep.inputs().into_iter().map(|v| of(v).unwrap_or_else(|| made(v))).collect()
}

/// Runs the sweeps of a row, of a gradient with so many `bytes`; it goes over the logits where `in_place`.
fn run(
    plan: &Plan,
    (width, bytes): (Width, usize),
    entries: usize,
    in_place: bool,
) -> (Vec<f32>, u64) {
    let of = writer(plan);
    let lies = |slot: SlotId| (Float::F32, !matches!(plan.slot(slot).kind, SlotKind::Entries(_)));
    let mut codes = SweepCode::of_loop(of, &lies, width);
    let written = of.sweeps().flat_map(|s| &s.gradients).map(|g| g.0).next().unwrap();
    let SlotKind::Gradient(column) = plan.slot(written).kind else { panic!("no gradient") };
    let mut columns: Vec<Vec<f32>> = plan
        .slots
        .iter()
        .enumerate()
        .map(|(s, _)| (0..entries).map(|i| ((i * (37 + 4 * s) + s) % 101) as f32 * 0.05).collect())
        .collect();
    let own = plan.slots.iter().position(|s| s.kind == SlotKind::Entries(column)).unwrap();
    let mut table: Vec<*mut u8> = columns.iter_mut().map(|c| c.as_mut_ptr().cast()).collect();
    if in_place {
        table[written.index()] = table[own];
    }
    let mut changed = false;
    for code in &mut codes {
        changed |= code.set_gradient(written, Float::F32, bytes);
        assert!(!code.set_gradient(written, Float::F32, bytes));
    }
    assert_eq!(changed, bytes >= STREAMED);
    let mut found = Vec::new();
    for (code, sweep) in codes.iter_mut().zip(of.sweeps()) {
        let inputs = inputs(sweep, &found);
        let mut results = vec![0.0; sweep.results().count()];
        // SAFETY: every slot has one row of `entries` f32, which the table alone leads to.
        unsafe { code.run(table.as_ptr(), (0, entries), &inputs, &mut results) };
        found.extend(sweep.results().zip(results));
    }
    let place = if in_place { own } else { written.index() };
    let by_form = codes.iter().map(SweepCode::rows_by_form).sum();
    (std::mem::take(&mut columns[place]), by_form)
}

const PROGRAMS: &[&str] = &[
    "loss = token_mean(-logp)",
    "loss = token_mean(-logp - 0.1 * entropy)",
    "kl = sum(softmax(logits) * (log_softmax(logits) - log_softmax(ref_logits)) per token)\n\
     loss = token_mean(0.1 * kl - logp)",
    // Several distributions of the logits, and sums in the sweep that writes.
    "param temperature = 0.8\n\
     kl = sum((softmax(logits) - softmax(old_logits)) * (log_softmax(logits) - log_softmax(old_logits)) per token)\n\
     loss = token_mean(0.1 * kl - logp + 0.1 * entropy)",
    // Blocks.
    "loss = token_mean(sum(tanh(logits) * logits per token) - logp)",
];

#[test]
fn a_gradient_in_place_is_the_same() {
    for text in PROGRAMS {
        let program = program(text);
        let plan = fuse(&program).unwrap();
        let column = program.grads[0].0;
        assert!(plan.in_place(column), "{text}");
        for width in Width::ALL.into_iter().filter(|w| w.available()) {
            for entries in [7, 256, 700, 1024, 2061] {
                let (apart, by_form) = run(&plan, (width, 0), entries, false);
                let (own, own_by_form) = run(&plan, (width, 0), entries, true);
                assert_eq!(by_form, own_by_form);
                assert!(apart.iter().any(|x| *x != 0.0), "{text}");
                // A large one is written past the caches, with the same bits.
                for (in_place, usual) in [(false, &apart), (true, &own)] {
                    let (large, _) = run(&plan, (width, STREAMED), entries, in_place);
                    assert_eq!(usual, &large, "{text}: {width:?}, {entries} entries");
                }
                for (i, (a, b)) in apart.iter().zip(&own).enumerate() {
                    let same = (a - b).abs() <= 1e-6;
                    assert!(same, "{text}: {width:?}, entry {i} of {entries}: {b} for {a}");
                }
            }
        }
    }
}
