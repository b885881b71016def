//! What the parser says of broken programs: code, the place to edit and the fact, one case a line. And
//! that every message keeps to the house's form: short, lower case, with help whose code can be read.

#![allow(clippy::disallowed_methods, reason = "the test, not the compiler, reads files")]

mod parse_support;

use std::collections::BTreeSet;

use parse_support::{assert_form, read};
use rlc_compiler::diagnostic::Severity;

/// Source, code, the characters under the first label, message.
type Case = (&'static str, &'static str, &'static str, &'static str);

#[test]
fn each_mistake_has_its_message() {
    for (text, code, place, message) in CASES {
        let (sources, module, found) = read(text);
        let [only] = found.as_slice() else { unreachable!("{text}\n{found:#?}") };
        assert_eq!((only.code, only.message.as_str()), (code, message), "{text}");
        assert_eq!(sources.slice(only.labels[0].span), place, "{text}");
        assert_eq!(only.severity, Severity::Error);
        // Only a statement that follows the broken one is read.
        assert!(module.statements.len() <= usize::from(text.contains('\n')), "{text}");
    }
}

#[test]
fn messages_keep_to_the_form() {
    for (text, ..) in CASES {
        let (_, _, found) = read(text);
        for d in &found {
            assert_form(d);
            for word in ["illegal", "invalid", "unexpected", "sorry", "please"] {
                assert!(!d.message.contains(word), "{}", d.message);
            }
        }
    }
}

/// Every code that the parser can give has a case here.
#[test]
fn codes_are_covered() {
    let covered: BTreeSet<&str> = CASES.iter().map(|c| c.1).chain(["E0008", "E0016"]).collect();
    let wanted: BTreeSet<String> = (1..=17).map(|n| format!("E{n:04}")).collect();
    assert_eq!(covered.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), wanted);
}

/// Corrections are the user's own statement.
#[test]
fn help_repeats_the_statement_corrected() {
    let cases = [
        ("clip 0.2", "clip = 0.2"),
        ("param clip 0.2", "param clip = 0.2"),
        ("x = mean(a", "x = mean(a)"),
        ("x = f(g(a], b)", "x = f(g(a), b)"),
        ("maximise mean(x)", "maximize mean(x)"),
        ("let y = 2 * x", "y = 2 * x"),
        ("def f(x) = x", "fn f(x) = x"),
        ("f(x, y = 1) = x", "fn f(x, y = 1) = x"),
        ("key = 3", "key_ = 3"),
        ("x = a < b < c", "a < b and b < c"),
        ("x = b * if c then 1 else 2", "x = b * (if c then 1 else 2)"),
        ("x = f(1 + if c then a else b, d)", "x = f(1 + (if c then a else b), d)"),
        ("x = a && b && c", "x = a and b and c"),
        ("x = a ≤ b", "x = a <= b"),
        ("x = a < = b", "x = a <= b"),
        ("x = mean(r) per (group, position)", "x = mean(r per (group, position))"),
        ("x = mean(r) where c and d", "x = mean(r where c and d)"),
        ("x = 2 mean(a)", "x = 2 * mean(a)"),
        ("x = clip(a 0, 1)", "x = clip(a, 0, 1)"),
        ("x = .5 * a", "x = 0.5 * a"),
        ("input x : float @ token", "input x : real @ token"),
        ("param x = 1 / 3", "x = 1 / 3"),
        ("key k = position > 0", "key k = (position > 0)"),
        ("metric mean(x)", "metric x = mean(x)"),
    ];
    for (text, code) in cases {
        let (_, _, found) = read(text);
        assert_eq!(found.len(), 1, "{text}");
        assert!(found[0].help.ends_with(&format!("\n\n    {code}")), "{text}\n{}", found[0].help);
    }
}

/// A broken statement costs one message, and the statements around it are read.
#[test]
fn errors_do_not_spread() {
    let text = "a = 1\nx = (b +\nc = 2\nlet d = 3\n\nfn f(x) =\n    y = \n    y\ne = f(a) per\n  group\ng = 1\n";
    let (_, module, found) = read(text);
    let codes: Vec<_> = found.iter().map(|d| d.code).collect();
    assert_eq!(codes, ["E0002", "E0004", "E0003", "E0012"]);
    assert_eq!(module.statements.len(), 3);
    // What a broken statement was about is known, so that nothing else need follow from it.
    let broken: Vec<_> = module.broken.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(broken, ["x", "d", "f", "e"]);
    let (_, module, _) = read("minimize\nextend 3\nparam p\nq := 1\nkeep token if\n) = 3");
    let broken: Vec<_> = module.broken.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(broken, ["minimize", "extend", "p", "q", "keep"]);
}

/// Lines that an unclosed bracket leaves in column one are part of the one mistake.
#[test]
fn unclosed_brackets_take_what_follows() {
    let (_, module, found) = read("x = f(\na,\nper group\n)\ny = 1\nz = g(\nmetric y\n");
    assert_eq!(found.iter().map(|d| d.code).collect::<Vec<_>>(), ["E0002", "E0002"]);
    assert_eq!(module.statements.len(), 2);
}

/// Places are bytes of the file, wherever the statement stands in it.
#[test]
fn places_in_a_file() {
    let text = "\u{feff}# é\r\na = 1\r\n\r\nx = a\r\n\t+ é\r\n";
    let (sources, _, found) = read(text);
    assert_eq!(found.len(), 1);
    assert_eq!(sources.slice(found[0].labels[0].span), "é");
    assert_eq!(found[0].labels[0].span.start as usize, text.rfind('é').unwrap_or(0));
}

#[rustfmt::skip]
const CASES: [Case; 225] = [
    ("x 1", "E0001", "1", "`=` is missing after `x`"),
    ("x", "E0001", "x", "`x` stands alone"),
    ("minimize", "E0003", "minimize", "an expression is missing after `minimize`"),
    ("maximise loss", "E0004", "maximise", "`maximise` begins no statement"),
    ("minimize loss = 3", "E0009", "=", "`=` is not an operator"),
    ("metric = 3", "E0005", "metric", "`metric` is a reserved word"),
    ("key = 3", "E0005", "key", "`key` is a reserved word"),
    ("param clip 0.2", "E0001", "0.2", "`=` is missing after `clip`"),
    ("param clip = y", "E0013", "y", "the value of this `param` is not a literal"),
    ("param clip = 1/2", "E0013", "/", "the value of this `param` is more than a literal"),
    ("param clip = 0.2 in [0 1]", "E0013", "1", "`,` is missing after `0`"),
    ("param clip = 0.2 in 0, 1", "E0013", "0", "`[` is missing after `in`"),
    ("param = 3", "E0005", "param", "`param` is a reserved word"),
    ("param key = 3", "E0005", "key", "`key` is a reserved word"),
    ("param", "E0013", "param", "a name is missing after `param`"),
    ("input x real @ token", "E0013", "real", "`:` is missing after `x`"),
    ("input x : float @ token", "E0013", "float", "`float` is not a type"),
    ("input x : real token", "E0013", "token", "`@` is missing after `real`"),
    ("input x : real", "E0013", "real", "`@` is missing after `real`"),
    ("policy x : real @ token = 0", "E0013", "=", "a `policy` column has no default"),
    ("level item rollout", "E0013", "rollout", "`in` is missing after `item`"),
    ("level item in", "E0013", "in", "a level is missing after `in`"),
    ("keep token loss_mask", "E0013", "loss_mask", "`where` is missing after `token`"),
    ("keep where loss_mask", "E0013", "where", "a level is missing after `keep`"),
    ("keep token where", "E0003", "where", "an expression is missing after `where`"),
    ("state v", "E0001", "v", "`=` is missing after `v`"),
    ("update v 0.9", "E0001", "0.9", "`=` is missing after `v`"),
    ("fn f(x = x", "E0002", "(", "this `(` is never closed"),
    ("fn f x = x", "E0013", "x", "`(` is missing after `f`"),
    ("fn f(x) x", "E0001", "x", "`=` is missing after `)`"),
    ("fn f(x, 3) = x", "E0013", "3", "a name is missing after `,`"),
    ("fn f(x y) = x", "E0013", "y", "`,` is missing after `x`"),
    ("fn f(x = ) = x", "E0003", ")", "an expression is missing after `=`"),
    ("fn f(x per) = x", "E0013", ")", "a name is missing after `per`"),
    ("f(x) = x", "E0004", "f", "the function `f` has no `fn`"),
    ("f(x)", "E0001", "f", "this call has no name"),
    ("let x = 1", "E0004", "let", "`let` begins no statement"),
    ("def f(x) = 1", "E0004", "def", "`def` begins no statement"),
    ("x := 1", "E0009", ":=", "`:=` does not define a name"),
    ("x += 1", "E0009", "+=", "`+=` does not define a name"),
    ("x = a && b", "E0009", "&&", "`&&` is not an operator"),
    ("x = !a", "E0009", "!", "`!` is not an operator"),
    ("x = a = b", "E0009", "=", "`=` is not an operator"),
    ("x = a == = b", "E0009", "=", "`=` is not an operator"),
    ("x = a < b < c", "E0006", "<", "`<` and `<` are chained"),
    ("x = a + 1 < b * 2 <= c and d", "E0006", "<=", "`<` and `<=` are chained"),
    ("x = 1 + if a then b else c", "E0007", "if", "an `if` is an operand without brackets"),
    ("x = if a then b", "E0007", "b", "an `if` has no `else`"),
    ("x = if a else b", "E0007", "else", "an `if` has no `then`"),
    ("x = if a then b else", "E0003", "else", "an expression is missing after `else`"),
    ("x = f(if a, b)", "E0007", ",", "an `if` has no `then`"),
    ("x = a if c else b", "E0007", "if", "an `if` stands after its value"),
    ("x = a then b", "E0007", "then", "this `then` has no `if`"),
    ("x = a +", "E0003", "+", "an expression is missing after `+`"),
    ("x = + a", "E0003", "+", "an expression is missing after `=`"),
    ("x = a + * b", "E0003", "*", "an expression is missing after `+`"),
    ("x = (a + b\ny = 2", "E0002", "(", "this `(` is never closed"),
    ("x = a + b)", "E0002", ")", "this `)` closes nothing"),
    ("x = (a + b]", "E0002", "]", "`(` is closed by `]`"),
    ("x = mean(\na,\nper group\n)\ny = 3", "E0002", "(", "this `(` is never closed"),
    ("x = ()", "E0003", "()", "nothing stands between these brackets"),
    ("x = (a, b)", "E0011", ",", "these brackets hold two values"),
    ("x = a, b", "E0011", ",", "a comma stands outside of brackets"),
    ("x = a b", "E0011", "b", "nothing stands between `a` and `b`"),
    ("x = f(a b)", "E0011", "b", "nothing stands between `a` and `b`"),
    ("x = 2 (a + b)", "E0011", "(", "only a name can be called"),
    ("x = f(a)(b)", "E0011", "(", "only a name can be called"),
    ("x = f(a)[1]", "E0011", "[", "only a name can be indexed"),
    ("x = mean(a) per group", "E0012", "per", "this `per` stands outside of a call"),
    ("x = mean(a per)", "E0012", ")", "a level is missing after `per`"),
    ("x = mean(a per group per rollout)", "E0012", "per", "this call has two `per` clauses"),
    ("x = mean(a per group, b)", "E0015", "b", "an argument without a name follows a clause"),
    ("x = f(a = 1, b)", "E0015", "b", "an argument without a name follows a named one"),
    ("x = a @ ", "E0012", "@", "a level is missing after `@`"),
    ("x = a @ (b)", "E0012", "(", "a level is missing after `@`"),
    ("x = a |> 3", "E0007", "3", "the right side of `|>` is not a function"),
    ("x = a |> f + 1", "E0007", "f + 1", "the right side of `|>` is not a function"),
    ("x = a == not b", "E0007", "not", "`not` is an operand without brackets"),
    ("x = .5", "E0014", ".5", "`.5` has no digit before its point"),
    ("x = 5.", "E0014", "5.", "`5.` is not a number"),
    ("x = 1_000", "E0014", "1_000", "`1_000` is not a number"),
    ("x = 3x", "E0014", "3x", "`3x` is not a number"),
    ("x = 1e", "E0014", "1e", "`1e` is not a number"),
    ("x = 99999999999999999999", "E0014", "99999999999999999999", "this number is too large for an int"),
    ("x = 1e999", "E0014", "1e999", "this number is too large for a real"),
    ("x = \"hello\"", "E0009", "\"hello\"", "a text in quotes is not a value"),
    ("extend foo.rl", "E0013", "foo.rl", "`foo.rl` names no objective"),
    ("extend \"foo", "E0002", "\"", "this `\"` is never closed"),
    ("extend", "E0013", "extend", "a name is missing after `extend`"),
    ("x = é", "E0009", "é", "`é` is not an ASCII character"),
    ("x = a ≤ b", "E0009", "≤", "`≤` is not an ASCII character"),
    ("x = a;", "E0009", ";", "`;` does not end a statement"),
    ("x = { a }", "E0009", "{", "`{` does not open a block"),
    ("  x = 1", "E0010", "x", "the first statement is indented"),
    ("a = 1\n  b = 2", "E0010", "b", "`b` begins a statement on an indented line"),
    ("a = b\n  minimize c", "E0010", "minimize", "`minimize` begins a statement on an indented line"),
    ("fn f(x) =\n    y = x", "E0017", "y = x", "this block ends without a result"),
    ("fn f(x) =\n    x\n    y = x\n    y", "E0017", "x", "a value stands before the end of its block"),
    ("fn f(x) =\n    y = x\n  y", "E0010", "y", "this line is indented less than its block"),
    ("fn f(x) =\n    y = x +\n    z = 3\n    y", "E0003", "+", "an expression is missing after `+`"),
    ("fn f(x) =\n    key = x\n    key", "E0005", "key", "`key` is a reserved word"),
    ("x = base + 1", "E0005", "base", "`base` is a reserved word"),
    ("base = 3", "E0005", "base", "`base` is a reserved word"),
    ("x = key + 1", "E0005", "key", "`key` is a reserved word"),
    ("x = a + 1 per", "E0012", "per", "this `per` stands outside of a call"),
    ("x = sum(w[k] for k in 1...4)", "E0009", "...", "`...` is not an operator"),
    ("x = sum(w[k] for k in 1)", "E0012", ")", "a range is missing after `1`"),
    ("x = sum(w[k] for k 1..4)", "E0012", "1", "`in` is missing after `k`"),
    ("x = 1..4", "E0012", "..", "a range stands outside of `for`"),
    ("x = mean(a where)", "E0003", ")", "an expression is missing after `where`"),
    ("if a then b", "E0004", "if", "`if` begins no statement"),
    ("3 = x", "E0004", "3", "`3` begins no statement"),
    (") x", "E0002", ")", "this `)` closes nothing"),
    ("import foo", "E0004", "import", "`import` begins no statement"),
    ("sample foo = 3", "E0013", "foo", "`sample` does not set `foo`"),
    ("sample weigth = 3", "E0013", "weigth", "`sample` does not set `weigth`"),
    ("allow", "E0013", "allow", "a name is missing after `allow`"),
    ("x = a..b", "E0012", "..", "a range stands outside of `for`"),
    ("x = a . b", "E0009", ".", "a `.` stands alone"),
    ("x : real = 3", "E0004", ":", "`x` has a type but no statement word"),
    ("weights[1] = 3", "E0004", "[", "`weights[` begins no statement"),
    ("key k = x > 0", "E0012", ">", "a part of this key is computed outside of brackets"),
    ("key k =", "E0003", "=", "an expression is missing after `=`"),
    ("x = a\n and", "E0003", "and", "an expression is missing after `and`"),
    ("x =", "E0003", "=", "an expression is missing after `=`"),
    ("x =\n\ny = 3", "E0003", "=", "an expression is missing after `=`"),
    ("metric foo bar", "E0001", "bar", "`=` is missing after `foo`"),
    ("metric foo = ", "E0003", "=", "an expression is missing after `=`"),
    ("x = not", "E0003", "not", "an expression is missing after `not`"),
    ("x = f(,)", "E0003", ",", "an expression is missing after `(`"),
    ("x = f(a,,b)", "E0003", ",", "an expression is missing after `,`"),
    ("x = weights[]", "E0003", "]", "an expression is missing after `[`"),
    ("x = weights[1, 2]", "E0011", ",", "this index has two parts"),
    ("true = 3", "E0005", "true", "`true` is a reserved word"),
    ("x = true false", "E0011", "false", "nothing stands between `true` and `false`"),
    ("x = 'a'", "E0009", "'", "`'` does not quote"),
    ("in = 3", "E0005", "in", "`in` is a reserved word"),
    ("x = f(in = 3)", "E0005", "in", "`in` is a reserved word"),
    ("x = f(a.b = 3)", "E0009", "=", "`=` is not an operator"),
    ("param w[0] = 1", "E0013", "0", "this family has no members"),
    ("param w[x] = 1", "E0013", "x", "a whole number is missing after `[`"),
    ("x = a <> b", "E0009", "<>", "`<>` is not an operator"),
    ("x = a → b", "E0009", "→", "`→` is not an ASCII character"),
    ("trian.step", "E0001", "trian.step", "`trian.step` stands alone"),
    ("x = mean(a where b where c)", "E0012", "where", "this call has two `where` clauses"),
    ("drop rollout truncated", "E0013", "truncated", "`where` is missing after `rollout`"),
    ("extend dapo grpo", "E0013", "grpo", "this `extend` has ended before `grpo`"),
    ("mimimize loss", "E0004", "mimimize", "`mimimize` begins no statement"),
    ("metrics foo = bar", "E0004", "metrics", "`metrics` begins no statement"),
    ("x = - ", "E0003", "-", "an expression is missing after `-`"),
    ("x = a ^", "E0003", "^", "an expression is missing after `^`"),
    ("x = f(a\n   y = 3", "E0002", "(", "this `(` is never closed"),
    ("x = a\n   + b y = 3", "E0011", "y", "nothing stands between `b` and `y`"),
    ("x = mean(a per (group position))", "E0011", "position", "nothing stands between `group` and `position`"),
    ("x = mean(a per 3)", "E0012", "3", "a level is missing after `per`"),
    ("fn f(x) = ", "E0003", "=", "an expression is missing after `=`"),
    ("fn f(x)", "E0001", ")", "`=` is missing after `)`"),
    ("fn f = x", "E0013", "=", "`(` is missing after `f`"),
    ("input rewards[3 : real @ rollout", "E0002", "[", "this `[` is never closed"),
    ("input a, b : real @ rollout", "E0013", ",", "`:` is missing after `a`"),
    ("state x : real @ group", "E0001", "group", "`=` is missing after `group`"),
    ("x = a |> (f(b))", "E0007", "(f(b))", "the right side of `|>` is not a function"),
    ("x = a == b != c", "E0006", "!=", "`==` and `!=` are chained"),
    ("x = f(a b, c d)", "E0011", "b", "nothing stands between `a` and `b`"),
    ("x = (a = b)", "E0009", "=", "`=` is not an operator"),
    ("x = f(a, = b)", "E0009", "=", "`=` is not an operator"),
    ("x = mean(a in)", "E0012", ")", "a level is missing after `in`"),
    ("x = a in rollout", "E0012", "in", "this `in` stands outside of a call"),
    ("x = a where b", "E0012", "where", "this `where` stands outside of a call"),
    ("x = mean(a) where b > 0 and c", "E0012", "where", "this `where` stands outside of a call"),
    ("x = sum(f(k) for k in 1..4 for j in 1..4)", "E0012", "for", "this call has two `for` clauses"),
    ("metric mean(x)", "E0013", "mean", "this `metric` has a value but no name"),
    ("metric kl + 1", "E0013", "kl", "this `metric` has a value but no name"),
    ("input x : real @ token 0", "E0001", "0", "`=` is missing after `token`"),
    ("x = if a then if b then c else d", "E0007", "d", "an `if` has no `else`"),
    ("x = (if a then b)", "E0007", ")", "an `if` has no `else`"),
    ("x = f(if a then b)", "E0007", ")", "an `if` has no `else`"),
    ("x = a not b", "E0011", "not", "nothing stands between `a` and `not`"),
    ("x = a < = b", "E0009", "=", "`=` is not an operator"),
    ("x == 1", "E0001", "==", "`=` is missing after `x`"),
    ("x + 1", "E0001", "x", "this expression has no name"),
    ("x = a @ key", "E0005", "key", "`key` is a reserved word"),
    ("state v : real @ group = w", "E0013", "w", "the value of this `state` is not a literal"),
    ("state v = 1 + 2", "E0013", "+", "the value of this `state` is more than a literal"),
    ("param x = 1 in [0, 1] in [0, 2]", "E0013", "in", "the value of this `param` is more than a literal"),
    ("level in rollout", "E0005", "in", "`in` is a reserved word"),
    ("level key in rollout", "E0005", "key", "`key` is a reserved word"),
    ("fn key(x) = x", "E0005", "key", "`key` is a reserved word"),
    ("fn f(key) = key", "E0005", "key", "`key` is a reserved word"),
    ("fn f(x, per) = x", "E0013", ")", "a name is missing after `per`"),
    ("fn f(x =", "E0002", "(", "this `(` is never closed"),
    ("update v =", "E0003", "=", "an expression is missing after `=`"),
    ("update = 3", "E0005", "update", "`update` is a reserved word"),
    ("x = a \\\n  + b", "E0009", "\\", "`\\` does not continue a line"),
    ("def f(x): return x", "E0004", "def", "`def` begins no statement"),
    ("x = \"a", "E0002", "\"", "this `\"` is never closed"),
    ("x = 1.5.2", "E0014", "1.5.2", "`1.5.2` is not a number"),
    ("param x = 99999999999999999999", "E0014", "99999999999999999999", "this number is too large for an int"),
    ("x = sum(k for k in 1..99999999999999999999)", "E0014", "99999999999999999999", "this number is too large for an int"),
    ("param w[99999999999999999999999] = 1", "E0014", "99999999999999999999999", "this number is too large for an int"),
    ("key.x = 3", "E0005", "key.x", "`key` is a reserved word"),
    ("x = key.y", "E0005", "key.y", "`key` is a reserved word"),
    ("fn f(x) =\n    a.b = x\n    a.b", "E0013", "a.b", "`a.b` has a dot and names no local value"),
    ("x =\tf(a\tb)", "E0011", "b", "nothing stands between `a` and `b`"),
    ("x = mean(x per runs(a))", "E0012", ")", "`in` and a level are missing after `a`"),
    ("x = mean(x per runs(a in))", "E0012", ")", "a level is missing after `in`"),
    ("key k = pairs(rollout group)", "E0012", "group", "`in` and a level are missing after `rollout`"),
    ("x = a‐b", "E0009", "‐", "`‐` is not an ASCII character"),
    ("x = a b", "E0011", "b", "nothing stands between `a` and `b`"),
    ("extend 3", "E0013", "3", "a name is missing after `extend`"),
    ("extend key", "E0005", "key", "`key` is a reserved word"),
    ("keep token where a b", "E0011", "b", "nothing stands between `a` and `b`"),
    ("minimize\n  loss\n  x", "E0011", "x", "nothing stands between `loss` and `x`"),
    ("x = f(\n  a\n  b\n)", "E0011", "b", "nothing stands between `a` and `b`"),
    ("x = [1, 2]", "E0009", "[", "`[` begins no value"),
    ("x = a[1][2]", "E0011", "[", "only a name can be indexed"),
    ("x = 1[2]", "E0011", "[", "only a name can be indexed"),
    ("x = (a)(b)", "E0011", "(", "only a name can be called"),
    ("x = @ token", "E0003", "@", "an expression is missing after `=`"),
    ("x = |> f", "E0003", "|>", "an expression is missing after `=`"),
    ("x = a |>", "E0003", "|>", "an expression is missing after `|>`"),
    ("x = where a", "E0003", "where", "an expression is missing after `=`"),
    ("x = f(per)", "E0012", ")", "a level is missing after `per`"),
    ("x = f(a per (b, c)", "E0002", "(", "this `(` is never closed"),
    ("x = f(a)) + (b", "E0002", ")", "this `)` closes nothing"),
];
