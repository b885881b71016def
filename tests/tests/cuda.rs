//! The CUDA back end without a GPU: every case of `reference/objectives` through the same text that NVRTC gets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rlc_runtime::objective::Backend;
use rlc_tests::cases::{Case, cases};
use rlc_tests::{run, shim};
use serde_json::Value;

/// What a case's kernels are run with: threads of a block and most blocks, so that blocks take turns and one warp
/// is enough, too.
const SHAPES: [(u32, u32); 3] = [(64, 3), (32, 1), (128, 1000)];

#[test]
fn every_case_under_the_shim() {
    if shim::compiler().is_none() {
        eprintln!("SKIPPED every_case_under_the_shim: no g++ on this machine");
        return;
    }
    let cases = cases();
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
    objective
        .set_device(Some(Box::new(move |plan, floats| shim::live(plan, floats, order, shape))));
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
