//! A pass over a batch of a size that the kernel has seen allocates nothing, and neither does a whole update through the
//! runtime, checks and outcome included.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeSet;

use rlc_compiler::columns::{self, Numbers};
use rlc_compiler::hir::ColumnId;
use rlc_compiler::interp::Vocab;
use rlc_compiler::level::{ROLLOUT, VOCAB};
use rlc_compiler::link::NoFiles;
use rlc_compiler::shape::Shape;
use rlc_compiler::source::{Source, Sources};
use rlc_compiler::specialize::{Settings, specialize};
use rlc_compiler::stdlib::{OBJECTIVES, library};
use rlc_compiler::table::{Data, Table};
use rlc_runtime::device::cpu::Kernel;
use rlc_runtime::objective::{Backend, Logits, Objective, Outcome};
use rlc_tests::batches::{Policy, random, random_for};
use rlc_tests::check_text;
use rlc_tests::workers::shard;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

/// Counts this thread's requests.
struct Counting;

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.with(|c| c.set(c.get() + 1));
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn passes_after_the_first_allocate_nothing() {
    let table = random(9, Policy::Logp);
    let present: BTreeSet<String> = table.arrays.keys().cloned().collect();
    let before = CALLS.with(Cell::get);
    drop(std::hint::black_box(vec![1u8; 100]));
    assert!(CALLS.with(Cell::get) > before, "the allocator does not count");
    for (name, _, text) in OBJECTIVES {
        let mut sources = Sources::default();
        let source = Source { name: (*name).into(), text: (*text).into(), library: true };
        let root = sources.add(source);
        let checked = rlc_compiler::check(&mut sources, root, &NoFiles).0.unwrap();
        let settings = Settings { present: Some(present.clone()), ..Settings::default() };
        let program = specialize(&checked, &settings).unwrap().program;
        let shape = Shape::new(&program.graph.level_table, &table).unwrap();
        let state = Table::default();
        let lying = columns::check(&program, &table, &state, &shape, false).unwrap();
        let params: Vec<f64> = program.graph.params.iter().map(|p| p.value).collect();
        let given: Vec<(ColumnId, Numbers)> = columns::needed(&program)
            .into_iter()
            .map(|c| (c, lying.numbers(c, &program.graph, &table)))
            .collect();
        let mut kernel = Kernel::new(&program, &[]).unwrap();
        let none = Vocab::default();
        for short in [8, 1] {
            kernel.set_short(short);
            for n in 0..3 {
                let before = CALLS.with(Cell::get);
                let mut run = kernel.start_with(&shape, &given, &params).unwrap();
                run.recorded(&none).unwrap();
                for row in 0..shape.count(program.piece) {
                    run.live(row..row + 1, &none, &mut []).unwrap();
                }
                run.restart();
                run.live(0..shape.count(program.piece), &none, &mut []).unwrap();
                run.after(&none).unwrap();
                let loss = run.value(program.loss).map(|v| v[0]);
                let calls = CALLS.with(Cell::get) - before;
                assert!(loss.is_some_and(f64::is_finite), "{name}: {loss:?}");
                assert!(n == 0 || calls == 0, "{name}: {calls} allocations in pass {n}");
            }
        }
    }
}

/// Recipes with states, keys, prefixes, orders, lists, pairs, segments; distributions beside the policy's.
const RECIPES: &[&str] = &[
    "dcpo",
    "forward_kl_topk",
    "gigpo",
    "kto",
    "m2po",
    "mtp_d",
    "pref_grpo",
    "rank_grpo",
    "spo_stream",
    "tempo",
    "treepo",
    "vas",
];

/// Beside the library: all terms on, states, samples, random numbers.
const PROGRAMS: &[(&str, &str)] = &[
    ("k3", "extend grpo\nparam beta = 0.04 in [0, inf]\n"),
    (
        "keyed",
        "keep group where max(reward per group) > -9
state rate[prompt] : real @ group = 0.5
state steps = 1.0
update rate = 0.5 * rate + 0.5 * mean(reward per group)
update steps = steps + 1
advantage = (reward - rate) * steps + 0.1 * uniform(rollout)
sample weight = rate + 2
sample rollouts = 4
metric noise = mean(uniform(token))
",
    ),
];

/// The updates of one batch, each in pieces of so many rollouts; how many requests for memory they took.
fn updates(
    objective: &mut Objective,
    table: &Table,
    logits: Logits,
    cut: usize,
) -> (usize, Outcome) {
    let mut given = match (logits, table.get("vocab/logits").and_then(|a| a.data.floats())) {
        (Logits::Live { .. }, Some(x)) => (0..x.len()).map(|i| x.get(i) as f32).collect(),
        _ => Vec::new(),
    };
    let mut own = table.clone();
    if !given.is_empty() {
        own.arrays.remove("vocab/logits");
    }
    let from = given.clone();
    let before = CALLS.with(Cell::get);
    let mut step = objective.begin(&own, logits).unwrap();
    for update in 0..2 {
        given.copy_from_slice(&from);
        for piece in step.pieces(cut, usize::MAX) {
            if given.is_empty() {
                step.live(piece, None).unwrap();
            } else {
                let rows = step.shape().range(ROLLOUT, piece.clone(), VOCAB);
                step.live_in_place(piece, &mut given[rows]).unwrap();
            }
        }
        let outcome = step.finish().unwrap();
        assert!(outcome.loss.is_finite());
        if update == 1 {
            let calls = CALLS.with(Cell::get) - before;
            return (calls, outcome.clone());
        }
    }
    unreachable!()
}

#[test]
fn updates_after_the_first_batch_allocate_nothing() {
    let chosen = |name: &str| OBJECTIVES.iter().any(|o| o.0 == name) || RECIPES.contains(&name);
    let library = library().filter(|of| chosen(of.0)).map(|(name, _, text)| (*name, *text));
    let mut ran = 0;
    for (name, text) in library.chain(PROGRAMS.iter().copied()) {
        let (checked, found, _) = check_text(name, text);
        let checked = checked.unwrap_or_else(|| panic!("{name}: {found:?}"));
        for (policy, logits) in [
            (Policy::Logp, Logits::InTable),
            (Policy::Logits(7), Logits::InTable),
            (Policy::Logits(7), Logits::Live { vocab: 7 }),
        ] {
            let Some(mut large) = random_for(&checked, 9, policy) else { continue };
            large.set("batch/seed", Data::I64(vec![5]));
            let small = shard(&large, &checked.graph.level_table, 0..2);
            for cut in [usize::MAX, 1] {
                let fresh = || Objective::new(checked.clone(), Backend::Cpu);
                let mut objective = fresh();
                let (_, first) = updates(&mut objective, &large, logits, cut);
                let from = |objective: &mut Objective, table: &Table| {
                    objective.set_state(first.state.clone());
                    updates(objective, table, logits, cut)
                };
                // The first batch had no states to read, and of the small one other loops may go by blocks.
                from(&mut objective, &large);
                from(&mut objective, &small);
                let want = [&small, &large].map(|table| from(&mut fresh(), table).1);
                for (table, want) in [&small, &large].into_iter().zip(&want) {
                    let (calls, outcome) = from(&mut objective, table);
                    assert_eq!(calls, 0, "{name}, {policy:?}, {logits:?}, cut {cut}");
                    assert_eq!(format!("{outcome:?}"), format!("{want:?}"), "{name}");
                }
                ran += 1;
            }
        }
    }
    assert!(ran > 100, "{ran} cuts of {} programs", OBJECTIVES.len() + RECIPES.len());
}
