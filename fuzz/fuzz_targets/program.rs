//! Any text through the front end: no panic, no endless loop, and every finding says something.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rlc_compiler::link::NoFiles;
use rlc_compiler::source::{Source, Sources};
use rlc_compiler::specialize::{Settings, specialize};

fuzz_target!(|text: &str| {
    let mut sources = Sources::default();
    let source = Source { name: "fuzz.rl".into(), text: text.to_owned(), library: false };
    let root = sources.add(source);
    let (checked, found) = rlc_compiler::check(&mut sources, root, &NoFiles);
    for d in &found {
        assert!(!d.message.is_empty() && !d.help.is_empty() && !d.labels.is_empty(), "{d:?}");
        for label in &d.labels {
            let text = &sources.get(label.span.file).text;
            let (start, end) = (label.span.start as usize, label.span.end as usize);
            assert!(!label.text.is_empty() && text.get(start..end).is_some(), "{d:?}");
        }
    }
    let Some(checked) = checked else { return assert!(!found.is_empty()) };
    checked.graph.verify().expect("a graph that holds together");
    if let Ok(specialized) = specialize(&checked, &Settings::default()) {
        specialized.program.graph.verify().expect("a graph that holds together");
    }
});
