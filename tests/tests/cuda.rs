//! The CUDA back end without a GPU: every case of `reference/objectives` through the same text that NVRTC gets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rlc_compiler::clif::Float;
use rlc_compiler::level::{ROLLOUT, TOKEN};
use rlc_compiler::table::{Array, Data};
use rlc_runtime::device::Resident;
use rlc_runtime::objective::{Backend, Logits};
use rlc_tests::cases::{Case, cases};
use rlc_tests::compare::differ;
use rlc_tests::{run, shim};
use serde_json::Value;

/// Only cases with this in their name: `RLC_CASES=vocab cargo test -p rlc-tests --test cuda`.
fn chosen() -> Vec<Case> {
    let mut all = cases();
    if let Ok(part) = std::env::var("RLC_CASES") {
        all.retain(|case| case.name.contains(&part));
        assert!(!all.is_empty(), "no case has `{part}` in its name");
    }
    all
}

/// What a case's kernels are run with: threads of a block and most blocks, so that blocks take turns and one warp
/// is enough, too.
const SHAPES: [(u32, u32); 3] = [(64, 3), (32, 1), (128, 1000)];

#[test]
fn every_case_under_the_shim() {
    if shim::compiler().is_none() {
        eprintln!("SKIPPED every_case_under_the_shim: no g++ on this machine");
        return;
    }
    let cases = chosen();
    let (next, faults) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(|| {
                while let Some(of) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = case(of, next.load(Ordering::Relaxed));
                    faults.lock().unwrap().extend(found);
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

fn case(of: &Case, number: usize) -> Vec<String> {
    let orders = [shim::Order::Forward, shim::Order::Reverse, shim::Order::Random];
    let (order, shape) = (orders[number % 3], SHAPES[number / 3 % 3]);
    let mut objective = match of.checked() {
        Ok(checked) => of.objective(checked, Backend::Cpu),
        Err(found) => return vec![found],
    };
    objective.set_device(Some(Box::new(move |plan, floats| {
        shim::live(plan, floats, order, shape, true)
    })));
    let extra = of.json.get("tolerance").and_then(Value::as_f64).unwrap_or(0.0);
    let expected = of.expected();
    let mut faults = Vec::new();
    // The smallest pieces too, where the program may be cut between rollouts; recipes add nothing to how pieces are cut.
    let whole = ["batch", "group"].iter().any(|level| of.json["coupling"] == *level);
    let cuts: &[Option<usize>] =
        if whole || of.name.starts_with("recipe_") { &[None] } else { &[None, Some(1)] };
    for cut in cuts {
        let found = match run(&mut objective, &of.table, *cut) {
            Ok(outcome) => of.compare(&outcome, &expected, extra.max(1e-4)),
            Err(e) => vec![e.to_string()],
        };
        faults
            .extend(found.iter().map(|f| format!("{}: {order:?} {shape:?} {cut:?}: {f}", of.name)));
    }
    faults
}

/// Cases with a whole vocab row: one sweep and a gradient, entropies, a top-k, several sweeps, and another vocab-level
/// policy column, which comes from the host.
const ROWS: [&str; 6] = [
    "grpo_logits",
    "vocab_entropies",
    "vocab_top_policy",
    "vocab_three_sweeps",
    "gspo_logits",
    "policy_second_logits",
];

#[test]
fn logits_on_the_device() {
    if shim::compiler().is_none() {
        eprintln!("SKIPPED logits_on_the_device: no g++ on this machine");
        return;
    }
    let cases: Vec<Case> =
        cases().into_iter().filter(|c| ROWS.contains(&c.name.as_str())).collect();
    let mut faults = Vec::new();
    let mut over = 0;
    for (n, of) in cases.iter().enumerate() {
        for (float, tolerance) in [(Float::F32, 1e-4), (Float::Bf16, 6e-3), (Float::F16, 1e-3)] {
            for in_place in [false, true] {
                match resident(of, float, in_place, n) {
                    Ok((got, want)) => {
                        over += usize::from(in_place);
                        let found = differ(&got, &want, tolerance, 0.0);
                        faults.extend(
                            found.map(|f| format!("{} {float:?} {in_place}: {f}", of.name)),
                        );
                    }
                    // Some read logits after their gradient is known.
                    Err(e) if in_place && e.contains("takes the place") => {}
                    Err(e) => faults.push(format!("{} {float:?} {in_place}: {e}", of.name)),
                }
            }
        }
    }
    assert_eq!(cases.len(), ROWS.len());
    assert!(over >= 6, "in place only {over} times");
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

/// The gradient of logits that lie on the device, and what the CPU makes of the same logits.
fn resident(
    of: &Case,
    float: Float,
    in_place: bool,
    number: usize,
) -> Result<(Vec<f64>, Vec<f64>), String> {
    let logits = of.table.get("vocab/logits").unwrap();
    let (vocab, numbers) = (logits.shape[1], logits.data.len());
    let entries = (0..numbers).map(|i| logits.data.get(i) as f32);
    // In words of 8 bytes, as the shim's own memory; NaN at first.
    let mut memory = vec![u64::MAX; 2 * numbers + 4];
    // SAFETY: any bits are numbers, and the slices lie in the memory, which outlives them.
    let (wide, narrow) = unsafe {
        let at = memory.as_mut_ptr();
        (
            std::slice::from_raw_parts_mut(at.cast::<f32>(), 4 * numbers),
            std::slice::from_raw_parts_mut(at.cast::<u16>(), 8 * numbers),
        )
    };
    let data = match float {
        Float::F32 => Data::F32(entries.collect()),
        Float::Bf16 => Data::Bf16(entries.map(|x| half::bf16::from_f32(x).to_bits()).collect()),
        Float::F16 => Data::F16(entries.map(|x| half::f16::from_f32(x).to_bits()).collect()),
        Float::F64 => unreachable!(),
    };
    match &data {
        Data::F32(x) => wide[..numbers].copy_from_slice(x),
        Data::Bf16(x) | Data::F16(x) => narrow[..numbers].copy_from_slice(x),
        _ => unreachable!(),
    }
    let mut table = of.table.clone();
    table.arrays.insert("vocab/logits".to_owned(), Array { data, shape: logits.shape.clone() });
    let mut cpu = of.objective(of.checked()?, Backend::Cpu);
    let whole = run(&mut cpu, &table, None).map_err(|e| e.to_string())?;
    let want = &whole.grads["logits"].data;
    let want = (0..numbers).map(|i| want.get(i)).collect();

    table.arrays.remove("vocab/logits");
    let mut objective = of.objective(of.checked()?, Backend::Cpu);
    let (order, shape) = (shim::Order::Random, SHAPES[number % 3]);
    objective.set_device(Some(Box::new(move |plan, floats| {
        shim::live(plan, floats, order, shape, true)
    })));
    let failed = |e: rlc_runtime::objective::ObjectiveError| e.to_string();
    let mut step = objective.begin(&table, Logits::OnDevice { vocab, float }).map_err(failed)?;
    let (from, size) = (memory.as_mut_ptr() as u64, float.bytes() * numbers);
    // A piece after the other, as in training.
    for piece in step.pieces(2, usize::MAX) {
        let tokens = step.shape().range(ROLLOUT, piece.clone(), TOKEN);
        let at = from + (tokens.start * vocab * float.bytes()) as u64;
        let gradient = if in_place { at } else { at + size.next_multiple_of(16) as u64 };
        // SAFETY: the memory has entries and as much room behind them, and the shim runs at once.
        let lies = unsafe { Resident::new(float, tokens.len() * vocab, at, gradient) };
        assert!(step.live_on_device(piece, lies).map_err(failed)?);
    }
    let outcome = step.finish().map_err(failed)?;
    let near = (outcome.loss - whole.loss).abs() <= 1e-5 * whole.loss.abs().max(1.0);
    assert!(near, "{} for {}", outcome.loss, whole.loss);
    let first = if in_place { 0 } else { size.next_multiple_of(16) / float.bytes() };
    let got = (first..first + numbers).map(|i| match float {
        Float::Bf16 => f64::from(half::bf16::from_bits(narrow[i])),
        Float::F16 => f64::from(half::f16::from_bits(narrow[i])),
        Float::F32 | Float::F64 => f64::from(wide[i]),
    });
    Ok((got.collect(), want))
}
