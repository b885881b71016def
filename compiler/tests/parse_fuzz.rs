//! Random damage: whatever the text, the parser returns, and what it could not read it explains.

#![allow(
    clippy::disallowed_methods,
    reason = "the test, not the compiler, reads files and the clock"
)]

mod parse_support;

use std::time::{Duration, Instant};

use parse_support::{EVERYTHING, assert_form, objectives, read};
use rlc_compiler::parse::{dump, print};

/// A linear congruential generator (Knuth's MMIX constants).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n.max(1)
    }
}

/// What must hold for every text.
fn check(text: &str) {
    let (sources, module, found) = read(text);
    let mut lines = text.strip_prefix('\u{feff}').unwrap_or(text).split(['\n', '\r']);
    let empty = lines.all(|l| {
        let l = l.trim_start_matches([' ', '\t']);
        l.is_empty() || l.starts_with('#')
    });
    assert!(
        empty || !module.statements.is_empty() || !found.is_empty(),
        "nothing said of {text:?}"
    );
    for d in &found {
        assert_form(d);
        assert!(!d.labels.is_empty(), "{d:?}");
        for label in &d.labels {
            let (start, end) = (label.span.start as usize, label.span.end as usize);
            assert!(start < end && end <= text.len(), "{d:?}\n{text:?}");
            assert!(!sources.slice(label.span).is_empty(), "{d:?}\n{text:?}");
        }
    }
    // What was read prints to something that reads the same.
    let printed = print(&module);
    let (_, again, found) = read(&printed);
    assert!(found.is_empty(), "{text:?}\n{printed}\n{found:#?}");
    assert_eq!(dump(&module), dump(&again), "{text:?}\n{printed}");
}

const WORDS: [&str; 85] = [
    "extend",
    "param",
    "input",
    "policy",
    "level",
    "list",
    "key",
    "state",
    "update",
    "keep",
    "drop",
    "fn",
    "minimize",
    "maximize",
    "metric",
    "sample",
    "allow",
    "if",
    "then",
    "else",
    "and",
    "or",
    "not",
    "per",
    "in",
    "where",
    "base",
    "true",
    "false",
    "for",
    "runs",
    "splits",
    "prefix",
    "pairs",
    "nothing",
    "inf",
    "weight",
    "real",
    "int",
    "group",
    "x",
    "y",
    "f",
    "base.x",
    "train.step",
    "key.x",
    "a_rather_long_name.of_something_else.and_then_more",
    "1",
    "0.5",
    "1e-6",
    "2",
    "1..4",
    "\"a.rl\"",
    "99999999999999999999",
    "(",
    ")",
    "(",
    ")",
    "[",
    "]",
    "f(",
    "x = ",
    "=",
    "==",
    "!=",
    "<",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "//",
    "%",
    "^",
    "**",
    "@",
    "|>",
    ",",
    ":",
    "..",
    "\n",
    "\n  ",
    "\n",
    "é",
    "&&",
];

/// Random tokens that often make sense.
#[test]
fn token_soup() {
    let end = Instant::now() + Duration::from_secs(1);
    let mut random = Random(1);
    while Instant::now() < end {
        let mut text = String::new();
        for _ in 0..=random.below(30) {
            text.push_str(WORDS[random.below(WORDS.len())]);
            if random.below(4) > 0 {
                text.push(' ');
            }
        }
        check(&text);
    }
}

/// Characters deleted, inserted, swapped and lines cut in real programs.
#[test]
fn mutations() {
    let end = Instant::now() + Duration::from_secs(1);
    let mut random = Random(2);
    let mut texts: Vec<String> = objectives().into_iter().map(|(_, text)| text).collect();
    texts.push(EVERYTHING.to_owned());
    let statements: Vec<&str> = EVERYTHING.lines().collect();
    while Instant::now() < end {
        // Mostly few lines: a long text would spend the time on what is not damaged.
        let mut text: Vec<char> = if random.below(20) == 0 {
            texts[random.below(texts.len())].chars().collect()
        } else {
            let from = random.below(statements.len());
            let to = (from + 1 + random.below(4)).min(statements.len());
            statements[from..to].join("\n").chars().collect()
        };
        for _ in 0..=random.below(4) {
            let i = random.below(text.len());
            match random.below(4) {
                0 if i < text.len() => {
                    text.remove(i);
                }
                1 => {
                    let soup: Vec<char> =
                        "()[],=+-*/^@|<>.:\"#\n\t\r &!;{é\u{feff}\u{0}0ax_".chars().collect();
                    text.insert(i.min(text.len()), soup[random.below(soup.len())]);
                }
                2 if i + 1 < text.len() => text.swap(i, i + 1),
                _ => {
                    let word: Vec<char> = WORDS[random.below(WORDS.len())].chars().collect();
                    let to = (i + random.below(6)).min(text.len());
                    text.splice(i.min(to)..to, word);
                }
            }
        }
        check(&text.into_iter().collect::<String>());
    }
}
