//! The formatter: leaves the library as it is, keeps meanings and comments, and is done after once.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use rlc_compiler::format::format;
use rlc_compiler::parse::tokens::{Kind, lines};
use rlc_compiler::parse::{dump, parse};
use rlc_compiler::source::{Source, Sources};

fn programs(folder: &str) -> Vec<(String, String)> {
    let found = rlc_tests::files(folder, ".rl");
    assert!(!found.is_empty(), "{folder} has no programs");
    found.iter().map(|p| (rlc_tests::short(p), std::fs::read_to_string(p).unwrap())).collect()
}

/// The tree without places; none with syntax errors.
fn tree(text: &str) -> Option<String> {
    let mut sources = Sources::default();
    let source = Source { name: "t.rl".to_owned(), text: text.to_owned(), library: false };
    let file = sources.add(source);
    let (module, errors) = parse(&sources, file);
    errors.is_empty().then(|| dump(&module))
}

fn comments(text: &str) -> Vec<String> {
    let tokens = lines(text).into_iter().flatten();
    tokens.filter(|t| t.kind == Kind::Comment).map(|t| t.text.to_owned()).collect()
}

/// Formats a text and holds the result against the laws.
#[track_caller]
fn formatted(text: &str) -> String {
    let once = format(text).unwrap_or_else(|e| panic!("{e:#?}\n{text}"));
    let twice = format(&once).unwrap_or_else(|e| panic!("{e:#?}\n{once}"));
    assert_eq!(once, twice, "formatting once was not enough for\n{text}");
    assert_eq!(tree(text), tree(&once), "another meaning:\n{text}\n----\n{once}");
    assert_eq!(comments(text), comments(&once), "other comments:\n{text}\n----\n{once}");
    assert!(once.is_empty() || once.ends_with('\n') && !once.ends_with("\n\n"));
    assert!(!once.contains('\t') || text.contains('#'), "{once}");
    once
}

#[test]
fn library_and_examples_are_in_the_one_layout() {
    for (name, text) in programs("stdlib").into_iter().chain(programs("examples")) {
        assert_eq!(formatted(&text), text, "{name}");
    }
}

#[test]
fn every_program_keeps_its_meaning() {
    for (_, text) in programs("tests") {
        if tree(&text).is_some() {
            formatted(&text);
        } else {
            assert!(format(&text).is_err(), "{text}");
        }
    }
}

/// A small generator of numbers, the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }
}

/// The text with other blanks, blank lines, breaks and comments here and there.
fn shaken(text: &str, dice: &mut Dice) -> String {
    let mut out = String::new();
    let (tame, end) = (dice.below(3) == 0, ["\n", "\r\n", "\r"][dice.below(3)]);
    for line in lines(text) {
        for (i, token) in line.iter().enumerate() {
            let written = token.column
                - i.checked_sub(1).map_or(0, |b| line[b].column + line[b].text.chars().count());
            let blanks = match dice.below(if tame { 40 } else { 6 }) {
                0 if i > 0 => written + dice.below(4),
                1 if i > 0 => written.saturating_sub(1 + dice.below(2)),
                2 if i > 0 && token.kind != Kind::Comment && dice.below(3) == 0 => {
                    out.push_str(end);
                    1 + dice.below(12)
                }
                3 if i == 0 && written > 0 => written + 2 * dice.below(4),
                _ => written,
            };
            // A comment that ends up in column one may become documentation: the test's own doing.
            out.extend(std::iter::repeat_n(if dice.below(200) == 0 { '\t' } else { ' ' }, blanks));
            out.push_str(token.text);
        }
        if dice.below(30) == 0 && line.iter().all(|t| t.kind != Kind::Comment) {
            out.push_str(["# said", "   ## more  ", "#"][dice.below(3)]);
        }
        out.push_str(end);
        if dice.below(25) == 0 {
            out.push_str(["   ", "", "  # é aside", "## note", "  ## inner"][dice.below(5)]);
            out.push_str(end);
        }
    }
    out
}

#[test]
fn any_spacing_comes_to_the_same_meaning() {
    let mut dice = Dice(7);
    let (mut read, mut all) = (0, 0);
    for folder in ["stdlib", "examples", "tests"] {
        for (_, text) in programs(folder) {
            for _ in 0..10 {
                let text = shaken(&text, &mut dice);
                all += 1;
                if tree(&text).is_some() {
                    read += 1;
                    formatted(&text);
                }
            }
        }
    }
    assert!(read * 3 > all, "only {read} of {all} shaken programs can be read");
}

#[test]
fn blanks_follow_from_the_tokens() {
    let cases = [
        ("x=f( a,b ,c=- 1 )*- ( y@token )\n", "x = f(a, b, c = -1) * -(y @ token)\n"),
        ("x = a-b- -c+d^-2|>exp\n", "x = a - b - -c + d ^ -2 |> exp\n"),
        ("x = sum (w [k]for k in 1 .. 3)\n", "x = sum(w[k] for k in 1..3)\n"),
        ("param p=-1 in[-2,+inf ]\n", ""),
        ("param p=-1 in[-2,inf ]\n", "param p = -1 in [-2, inf]\n"),
        ("input i[3]:real@turn=0.5\n", "input i[3] : real @ turn = 0.5\n"),
        ("x = if(a>b)then(c)else(d)\n", "x = if (a > b) then (c) else (d)\n"),
        (
            "fn f( x,y=1 per L=group )=\n   z = x\n   -z\n",
            "fn f(x, y = 1 per L = group) =\n  z = x\n  -z\n",
        ),
        ("x = a\n -b\n", "x = a\n  - b\n"),
        ("\u{feff}\n\n\nx = 1\r\n\r\n\r\n\r\ny = 2", "x = 1\n\ny = 2\n"),
        ("x = 1   # one\ny = 2 # two\n", "x = 1  # one\ny = 2  # two\n"),
        ("x = 1     # one\nyy = 2    # two\n", "x = 1   # one\nyy = 2  # two\n"),
        ("a   = 1\nbcd = 2\n\ne   = 3\n", "a   = 1\nbcd = 2\n\ne = 3\n"),
        ("a     = f(x,\n          y)\n", "a = f(x,\n      y)\n"),
        ("a = (\n b +\n     (\n c\n   )\n   )\n", "a = (\n  b +\n  (\n    c\n  )\n)\n"),
        ("", ""),
    ];
    for (text, wanted) in cases {
        if wanted.is_empty() && !text.is_empty() {
            assert!(format(text).is_err(), "{text}");
        } else {
            assert_eq!(formatted(text), wanted);
        }
    }
}

#[test]
fn what_cannot_be_read_is_not_formatted() {
    let errors = format("x = (1\ny = $\n").unwrap_err();
    assert!(errors.len() >= 2, "{errors:#?}");
}
