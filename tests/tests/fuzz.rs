//! Mutations of the library and of the tests' programs through the whole front end: it answers every
//! text, soon, with findings that say something. `RLC_MUTANTS=n` tries so many; a mutant that fails
//! is printed. `fuzz/` holds the same check for a coverage-guided fuzzer.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use rlc_tests::batches::Random;
use rlc_tests::files;
use rlc_tests::mutate::{mutate, survives, tokens};

/// What is wrong with the answer to a text, a panic included.
fn fault(text: &str) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| survives(text))) {
        Ok(answer) => answer.err(),
        Err(_) => Some("a panic, see above".to_owned()),
    }
}

/// The text with lines taken away as long as something stays wrong with the answer.
fn smallest(mut text: String) -> String {
    loop {
        let lines: Vec<&str> = text.lines().collect();
        let without = |i: usize| {
            let rest = lines.iter().enumerate().filter(|(j, _)| *j != i);
            rest.map(|(_, l)| format!("{l}\n")).collect::<Vec<_>>().concat()
        };
        match (0..lines.len()).map(without).find(|t| fault(t).is_some()) {
            Some(smaller) => text = smaller,
            None => return text,
        }
    }
}

#[test]
fn mutants_are_answered() {
    let folders = ["stdlib", "tests/filetests", "tests/reference", "examples"];
    let texts: Vec<String> = folders
        .iter()
        .flat_map(|folder| files(folder, ".rl"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let corpus: Vec<&str> = texts.iter().flat_map(|t| tokens(t)).collect();
    let corpus: Vec<&str> = corpus.into_iter().filter(|t| !t.starts_with('#')).collect();
    let count: u64 = std::env::var("RLC_MUTANTS").ok().map_or(1000, |n| n.parse().unwrap());
    let seed: u64 = std::env::var("RLC_MUTANT_SEED").ok().map_or(1, |n| n.parse().unwrap());
    let half = |odd: u64| {
        let r = &mut Random::new(seed * 2 + odd);
        let mut faults: Vec<String> = Vec::new();
        for _ in 0..count / 2 {
            let text = &texts[r.below(texts.len())];
            let text = mutate(r, text, &corpus);
            if fault(&text).is_some() {
                let text = smallest(text);
                let why = fault(&text).unwrap_or_default();
                faults.push(format!("{why}\n---\n{text}---"));
            }
            if faults.len() == 4 {
                break;
            }
        }
        faults
    };
    let faults: Vec<String> = std::thread::scope(|scope| {
        let other = scope.spawn(|| half(1));
        let mut faults = half(0);
        faults.extend(other.join().unwrap());
        faults
    });
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n\n"));
}
