//! Sizes that would exhaust the stack, and the largest that must not.

#![allow(clippy::disallowed_methods, reason = "the test, not the compiler, reads files")]

mod parse_support;

use parse_support::read;
use rlc_compiler::parse::{MAX_BRACKETS, MAX_NESTED, MAX_OPERATORS, dump, print};

/// The codes of one statement's errors.
fn codes(text: &str) -> Vec<&'static str> {
    let (_, module, found) = read(text);
    assert_eq!(module.statements.len() + found.len(), 1);
    // Whatever was read can be printed; the text is not compared, because brackets may be gone.
    print(&module);
    found.iter().map(|d| d.code).collect()
}

fn nest(open: &str, close: &str, n: usize) -> String {
    format!("x = {}1{}", open.repeat(n), close.repeat(n))
}

#[test]
fn brackets() {
    let pairs = [
        ("(", ")", 1, 0),
        ("f(", ")", 1, 0),
        ("f(a, b = ", ")", 1, 0),
        ("f(a, b = if c then d else ", ")", 1, 1),
        ("f(x where not a * -", ")", 1, 2),
        ("f(x per (a, ", "))", 2, 0),
        ("f(x per runs(a and ", " in rollout))", 2, 0),
        ("2 ^ w[", "]", 1, 1),
    ];
    for (open, close, brackets, nested) in pairs {
        let most =
            (MAX_BRACKETS / brackets).min(MAX_NESTED.checked_div(nested).unwrap_or(usize::MAX));
        assert!(codes(&nest(open, close, most)).is_empty(), "{most} times {open}");
        assert_eq!(codes(&nest(open, close, most + 1)), ["E0008"], "{open}");
        assert_eq!(codes(&nest(open, close, 10_000)), ["E0008"], "{open}");
    }
    assert_eq!(codes(&"(".repeat(10_000)), ["E0008"]);
    assert_eq!(codes(&format!("x = {}", ")".repeat(10_000))), ["E0002"]);
}

#[test]
fn operators_inside_one_another() {
    for open in ["-", "not ", "2 ^ ", "if a then b else ", "if ", "a ^ -"] {
        assert_eq!(codes(&nest(open, "", 100_000)), ["E0008"], "{open}");
    }
    assert!(codes(&nest("-", "", MAX_NESTED)).is_empty());
    assert!(codes(&nest("2 ^ ", "", MAX_NESTED)).is_empty());
    assert!(codes(&nest("if a then b else ", "", MAX_NESTED)).is_empty());
    assert!(codes(&format!("x = a{}", " |> f".repeat(MAX_NESTED))).is_empty());
    assert_eq!(codes(&format!("x = a{}", " |> f".repeat(MAX_NESTED + 1))), ["E0008"]);
    // Each in its own part of the expression.
    assert!(codes(&format!("x = {}0", "-a ^ 2 + ".repeat(1000))).is_empty());
    assert!(codes(&format!("x = f({}0)", "if a then b else c, ".repeat(1000))).is_empty());
}

#[test]
fn chains() {
    for link in ["a + ", "a and ", "a * ", "not a or "] {
        assert_eq!(codes(&nest(link, "", 50_000)), ["E0016"], "{link}");
    }
    assert!(codes(&nest("a + ", "", MAX_OPERATORS)).is_empty());
    assert_eq!(codes(&nest("a + ", "", MAX_OPERATORS + 1)), ["E0016"]);
    assert!(codes(&format!("x = a{}", " @ L".repeat(MAX_OPERATORS))).is_empty());
    // Arguments and statements do not nest, so nothing bounds them.
    assert!(codes(&format!("x = f({})", "a, ".repeat(50_000))).is_empty());
    let (_, module, found) = read(&"x = a + b\n".repeat(5_000));
    assert_eq!((module.statements.len(), found.len()), (5_000, 0));
}

#[test]
fn a_long_chain_prints_and_reads_back() {
    let (_, module, _) = read(&nest("a - ", "", MAX_OPERATORS));
    let (_, again, found) = read(&print(&module));
    assert!(found.is_empty());
    assert!(dump(&module) == dump(&again));
}
