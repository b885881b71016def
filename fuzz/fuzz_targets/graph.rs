//! Any text as a printed graph: what is read prints to a text that is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rlc_compiler::hir::Graph;

fuzz_target!(|text: &str| {
    let Ok((graph, roots)) = Graph::parse(text) else { return };
    let printed = graph.print(&roots);
    let (again, same) = Graph::parse(&printed).expect("what was printed");
    assert_eq!(again.print(&same).lines().count(), printed.lines().count());
});
