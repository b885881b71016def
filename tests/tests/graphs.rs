//! Launches that a device repeats as one graph: that they are, that nothing changes by it, and what makes them others.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use std::ops::Range;
use std::sync::{Arc, Mutex};

use rlc_compiler::cuda::Work;
use rlc_compiler::loops::{Call, Plan};
use rlc_compiler::shape::Shape;
use rlc_compiler::table::{Data, Table};
use rlc_runtime::device::cuda::live::LiveStage;
use rlc_runtime::device::cuda::{self, Launched};
use rlc_runtime::device::{DeviceError, Outside};
use rlc_runtime::objective::{Backend, Objective, Outcome};
use rlc_tests::batches::{Policy, random};
use rlc_tests::cases::cases;
use rlc_tests::{open, run, shim};

/// What a device launched in the last batch, and steps of the live stage that the host does.
#[derive(Default)]
struct Seen {
    launched: Launched,
    before: Launched,
    host: usize,
}

/// A live stage that says what it launches.
struct Watched(Box<dyn LiveStage>, Arc<Mutex<Seen>>);

impl LiveStage for Watched {
    unsafe fn begin(
        &mut self,
        plan: &Plan,
        shape: &Shape,
        table: &[*mut u8],
    ) -> Result<(), DeviceError> {
        self.1.lock().unwrap().before = self.0.launched();
        // SAFETY: the caller's promise.
        unsafe { self.0.begin(plan, shape, table) }
    }

    unsafe fn piece(
        &mut self,
        plan: &Plan,
        shape: &Shape,
        rows: Range<usize>,
        table: &[*mut u8],
        outside: Outside<'_>,
        call: &mut dyn FnMut(&Call, Range<usize>),
    ) -> Result<(), DeviceError> {
        // SAFETY: the caller's promise.
        unsafe { self.0.piece(plan, shape, rows, table, outside, call) }
    }

    unsafe fn end(
        &mut self,
        plan: &Plan,
        shape: &Shape,
        table: &[*mut u8],
    ) -> Result<(), DeviceError> {
        self.1.lock().unwrap().launched = self.0.launched();
        // SAFETY: the caller's promise.
        unsafe { self.0.end(plan, shape, table) }
    }

    fn launched(&self) -> Launched {
        self.0.launched()
    }
}

/// Lets the shim run the live stage, with graphs or without.
fn watched(objective: &mut Objective, graphs: bool) -> Arc<Mutex<Seen>> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let own = Arc::clone(&seen);
    objective.set_device(Some(Box::new(move |plan, floats| {
        let host = cuda::module(plan, floats).steps.iter().filter(|s| **s == Work::Host).count();
        own.lock().unwrap().host = host;
        let live = shim::live(plan, floats, shim::Order::Random, (64, 3), graphs)?;
        Ok(Box::new(Watched(live, Arc::clone(&own))))
    })));
    seen
}

/// Launches of the last batch: kernels alone, graphs, kernels in them.
fn last(seen: &Mutex<Seen>) -> (u64, u64, u64) {
    let seen = seen.lock().unwrap();
    let Launched { alone, graphs, inside } = seen.launched - seen.before;
    (alone, graphs, inside)
}

/// Every number of an outcome, by its bits.
fn bits(outcome: &Outcome) -> Vec<u64> {
    let arrays = outcome.grads.values().chain(outcome.values.values());
    let numbers = arrays.flat_map(|a| (0..a.data.len()).map(|i| a.data.get(i)));
    let metrics = outcome.metrics.values().copied();
    std::iter::once(outcome.loss).chain(metrics).chain(numbers).map(f64::to_bits).collect()
}

/// The same batch with other rewards, log-probs or logits.
fn changed(table: &Table) -> Table {
    let mut table = table.clone();
    for (path, array) in &mut table.arrays {
        if ["rollout/reward", "token/old_logp", "vocab/logits"].contains(&path.as_str()) {
            // Of the same type, or the program is another one.
            match &mut array.data {
                Data::F32(x) => x.iter_mut().for_each(|x| *x = *x * 0.75 - 0.125),
                Data::F64(x) => x.iter_mut().for_each(|x| *x = *x * 0.75 - 0.125),
                other => panic!("{path}: {other:?}"),
            }
        }
    }
    table
}

/// A vocab row whole, two passes over it, no logits, a step that the host does.
const CASES: [&str; 4] = ["grpo_logits", "gspo_logits", "live_sum_where", "quantiles"];

#[test]
fn what_comes_again_is_replayed_and_gives_the_same_bits() {
    if shim::compiler().is_none() {
        eprintln!("SKIPPED what_comes_again_is_replayed_and_gives_the_same_bits: no g++");
        return;
    }
    let mut host = 0;
    let chosen: Vec<_> = cases().into_iter().filter(|c| CASES.contains(&&*c.name)).collect();
    assert_eq!(chosen.len(), CASES.len());
    for of in chosen {
        let mut with = of.objective(of.checked().unwrap(), Backend::Cpu);
        let mut without = of.objective(of.checked().unwrap(), Backend::Cpu);
        let (seen, plain) = (watched(&mut with, true), watched(&mut without, false));
        let other = changed(&of.table);
        assert_ne!(other, of.table, "{}", of.name);
        let whole = ["batch", "group"].iter().any(|level| of.json["coupling"] == *level);
        let cuts: &[Option<usize>] = if whole { &[None] } else { &[None, Some(2)] };
        for &cut in cuts {
            let mut counts = Vec::new();
            for table in [&of.table, &of.table, &other, &of.table] {
                let got = run(&mut with, table, cut).unwrap();
                let want = run(&mut without, table, cut).unwrap();
                assert_eq!(bits(&got), bits(&want), "{} {cut:?}", of.name);
                counts.push((last(&seen), last(&plain)));
            }
            let ((first, _), (again, one_by_one)) = (counts[0], counts[3]);
            assert_eq!(first.1, 0, "{}: {counts:?}", of.name);
            assert!(again.1 > 0 && again.2 >= 3 * again.1, "{}: {counts:?}", of.name);
            assert_eq!((one_by_one.1, one_by_one.2), (0, 0));
            assert_eq!(again.0 + again.2, one_by_one.0, "{}: {counts:?}", of.name);
            // Other numbers at the same addresses are the same launches.
            assert_eq!(counts[1], counts[2], "{}", of.name);
        }
        host += seen.lock().unwrap().host;
    }
    assert!(host > 0, "no case has a step that the host does");
}

#[test]
fn another_size_is_another_list_and_more_memory_forgets_all() {
    if shim::compiler().is_none() {
        eprintln!("SKIPPED another_size_is_another_list_and_more_memory_forgets_all: no g++");
        return;
    }
    let mut batches: Vec<Table> = (1..6).map(|seed| random(seed, Policy::Logits(9))).collect();
    let tokens = |t: &Table| t.get("token/action").unwrap().data.len();
    batches.sort_by_key(tokens);
    let (small, large) = (batches.first().unwrap(), batches.last().unwrap());
    assert!(tokens(large) > tokens(small));
    let make = || Objective::new(open("grpo"), Backend::Cpu);
    let (mut with, mut without) = (make(), make());
    let (seen, _) = (watched(&mut with, true), watched(&mut without, false));
    // The small batch first; what the large one takes anew drops its graphs, and then both are kept.
    let order = [small, small, large, small, large, small, large];
    let graphs = [false, true, false, false, true, true, true];
    for (n, (table, graph)) in order.into_iter().zip(graphs).enumerate() {
        let (got, want) = (run(&mut with, table, None), run(&mut without, table, None));
        assert_eq!(bits(&got.unwrap()), bits(&want.unwrap()), "batch {n}");
        assert_eq!(last(&seen).1 > 0, graph, "batch {n}: {:?}", last(&seen));
    }
}
