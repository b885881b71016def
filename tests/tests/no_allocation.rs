//! A pass over a batch of a size that the kernel has seen allocates nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use rlc_compiler::columns::{self, Numbers};
use rlc_compiler::hir::ColumnId;
use rlc_compiler::link::NoFiles;
use rlc_compiler::shape::Shape;
use rlc_compiler::source::{Source, Sources};
use rlc_compiler::specialize::{Settings, specialize};
use rlc_compiler::stdlib::OBJECTIVES;
use rlc_compiler::table::Table;
use rlc_runtime::device::cpu::Kernel;
use rlc_tests::batches::{Policy, random};

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
        let none = BTreeMap::new();
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
