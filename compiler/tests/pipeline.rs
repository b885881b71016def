//! The library goes through every stage.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlc_compiler::link::NoFiles;
use rlc_compiler::source::{Source, Sources};
use rlc_compiler::specialize::{Settings, specialize};
use rlc_compiler::stdlib::OBJECTIVES;

#[test]
fn library_compiles() {
    for (name, path, text) in OBJECTIVES {
        let mut sources = Sources::default();
        let root =
            sources.add(Source { name: (*path).into(), text: (*text).into(), library: true });
        let (checked, diagnostics) = rlc_compiler::check(&mut sources, root, &NoFiles);
        for d in &diagnostics {
            eprintln!(
                "{name}: {} {} {:?} | {}",
                d.code,
                d.message,
                d.labels
                    .iter()
                    .map(|l| (sources.slice(l.span).to_owned(), l.text.clone()))
                    .collect::<Vec<_>>(),
                d.help
            );
        }
        let checked = checked.unwrap_or_else(|| panic!("{name} does not check"));
        checked.graph.verify().unwrap();
        let specialized = specialize(&checked, &Settings::default()).unwrap();
        specialized.program.graph.verify().unwrap();
        eprintln!(
            "{name}: {} exprs, coupling {}",
            specialized.program.graph.len(),
            specialized.program.graph.level_table.name(specialized.program.coupling)
        );
        if *name == "grpo" {
            eprintln!("{}", specialized.program.print());
        }
    }
}
