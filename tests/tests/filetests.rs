//! Programs that say themselves what the compiler finds in them: `filetests/check/*.rl`.
//!
//! `#~ E0202 text` at the end of a line expects that finding there (`#~^`: on the line above), with
//! the text in its title or a label. Nothing else may be found. Code alone matches any text.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use rlc_cli::report::position;
use rlc_compiler::diagnostic::Diagnostic;
use rlc_compiler::source::Sources;
use rlc_tests::{check_text, files, short};

struct Expected {
    line: usize,
    code: String,
    text: String,
}

fn expected(text: &str) -> Vec<Expected> {
    text.lines()
        .enumerate()
        .filter_map(|(i, line)| {
            let note = line.split_once("#~")?.1;
            let (up, note) = note.strip_prefix('^').map_or((0, note), |rest| (1, rest));
            let (code, text) = note.trim().split_once(' ').unwrap_or((note.trim(), ""));
            Some(Expected { line: i + 1 - up, code: code.to_owned(), text: text.trim().to_owned() })
        })
        .collect()
}

fn matches(e: &Expected, d: &Diagnostic, sources: &Sources) -> bool {
    let label = &d.labels[0];
    let line = position(sources, label.span.file, label.span.start).0;
    let said = || std::iter::once(&d.message).chain(d.labels.iter().map(|l| &l.text));
    e.line == line && e.code == d.code && said().any(|t| t.contains(&e.text))
}

#[test]
fn check() {
    let mut faults = Vec::new();
    let mut files_seen = 0;
    for path in files("tests/filetests/check", ".rl") {
        let name = short(&path);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("# test: check"), "{name} does not say what to check");
        files_seen += 1;
        let (_, found, sources) = check_text(&name, &text);
        let mut open = expected(&text);
        for diagnostic in &found {
            match open.iter().position(|e| matches(e, diagnostic, &sources)) {
                Some(i) => drop(open.remove(i)),
                None => {
                    let span = diagnostic.labels[0].span;
                    let (line, column) = position(&sources, span.file, span.start);
                    faults.push(format!(
                        "{name}:{line}:{column}: not expected: {} {} [{}]",
                        diagnostic.code, diagnostic.message, diagnostic.labels[0].text
                    ));
                }
            }
        }
        for e in open {
            faults.push(format!("{name}:{}: not found: {} {}", e.line, e.code, e.text));
        }
    }
    assert!(files_seen > 15);
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

/// Whatever the text, the answer is findings: no panic, no endless loop.
#[test]
fn broken_texts_are_survived() {
    let mut texts: Vec<String> = Vec::new();
    for path in files("tests/filetests", ".rl").iter().chain(&files("stdlib", ".rl")) {
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        // Cut off anywhere, without a line, with every second character gone.
        for share in 1..8 {
            let mut cut = text.len() * share / 8;
            while !text.is_char_boundary(cut) {
                cut -= 1;
            }
            texts.push(text[..cut].to_owned());
            let gone = lines.len() * share / 8;
            let rest = lines.iter().enumerate().filter(|(i, _)| *i != gone);
            texts.push(rest.map(|(_, l)| *l).collect::<Vec<_>>().join("\n"));
        }
        texts.push(text.chars().step_by(2).collect());
        texts.push(text.replace('(', "((").replace("per", "in"));
    }
    let deep = |open: &str, n: usize, close: &str| {
        format!("advantage = {}reward{}", open.repeat(n), close.repeat(n))
    };
    texts.push(deep("(", 100_000, ")"));
    texts.push(deep("-", 100_000, ""));
    texts.push(deep("exp(", 250, ")"));
    texts.push(deep("if correct then ", 5_000, " else 0"));
    texts.push(format!("advantage = reward{}", " + 1".repeat(100_000)));
    texts.push(format!("advantage = reward{}", " |> exp".repeat(100_000)));
    texts.push("(".repeat(100_000));
    texts.push("\0\u{feff}\u{202e} = é".to_owned());
    let chain: Vec<String> = (0..400).map(|i| format!("a{i} = a{} + 1\n", i + 1)).collect();
    texts.push(format!("{}a400 = reward\nadvantage = a0", chain.concat()));
    for text in texts {
        check_text("broken.rl", &text);
    }
}

/// A program of `n` functions, each a body around calls of the one before.
fn calls(n: usize, body: impl Fn(&str) -> String) -> String {
    let functions = (1..=n).map(|i| format!("fn f{i}(x) = {}\n", body(&format!("f{}", i - 1))));
    format!("fn f0(x) = x\n{}advantage = f{n}(reward)\n", functions.collect::<String>())
}

#[test]
fn calls_nest_256_deep() {
    let nested = |n: usize| check_text("calls.rl", &calls(n, |f| format!("{f}(x) + 1"))).1;
    assert!(nested(255).is_empty());
    let found = nested(256);
    assert!(!found.is_empty());
    assert!(found.iter().all(|d| d.code == "E0008" && d.message.starts_with("calls are nested")));
    let doubled = check_text("calls.rl", &calls(40, |f| format!("{f}(x) + {f}(x + 1)"))).1;
    assert!(doubled.iter().any(|d| d.code == "E0016"));
}
