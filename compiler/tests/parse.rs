//! What the parser makes of good programs: shapes, places, layout; and that printing inverts it.

#![allow(clippy::disallowed_methods, reason = "the test, not the compiler, reads files")]

mod parse_support;

use parse_support::{EVERYTHING, objectives, read};
use rlc_compiler::ast::{Expr, ExprKind, Literal, StatementKind};
use rlc_compiler::parse::{dump, print};

/// The tree of a text without errors.
fn tree(text: &str) -> String {
    let (_, module, found) = read(text);
    assert!(found.is_empty(), "{text}\n{found:#?}");
    dump(&module)
}

/// The tree of one definition `x = …`, joined with blanks.
fn value(text: &str) -> String {
    let tree = tree(&format!("x = {text}"));
    tree.lines().skip(1).map(str::trim).collect::<Vec<_>>().join(" ")
}

#[test]
fn printing_and_parsing_give_the_same_tree() {
    let mut texts = objectives();
    assert!(texts.len() > 10, "the standard library is found");
    texts.push(("everything".into(), EVERYTHING.to_owned()));
    for (name, text) in texts {
        let (_, module, found) = read(&text);
        assert!(found.is_empty(), "{}: {found:#?}", name.display());
        let printed = print(&module);
        let (_, again, found) = read(&printed);
        assert!(found.is_empty(), "{}: {found:#?}\n{printed}", name.display());
        assert_eq!(dump(&module), dump(&again), "{}\n{printed}", name.display());
        assert_eq!(printed, print(&again), "printing is stable");
    }
}

#[test]
fn precedence() {
    // Trees in prefix order: an operator, then its operands.
    let cases = [
        ("a + b * c", "+ name a * name b name c"),
        ("a - b - c", "- - name a name b name c"),
        ("a / b // c % d", "% // / name a name b name c name d"),
        ("a ^ b ^ c", "^ name a ^ name b name c"),
        ("a ** b", "^ name a name b"),
        ("-a ^ 2", "neg ^ name a literal 2"),
        ("2 ^ -a", "^ literal 2 neg name a"),
        ("2 ^ -a ^ b * c", "* ^ literal 2 neg ^ name a name b name c"),
        ("-a * b", "* neg name a name b"),
        ("a * -b + c", "+ * name a neg name b name c"),
        ("- -a", "neg neg name a"),
        ("a ^ b @ L", "^ name a @ L name b"),
        ("-a @ L", "neg @ L name a"),
        ("a @ L @ M", "@ M @ L name a"),
        ("not a == b", "not == name a name b"),
        ("not not a and b", "and not not name a name b"),
        ("a or b and not c", "or name a and name b not name c"),
        ("a < b + 1 and b >= c", "and < name a + name b literal 1 >= name b name c"),
        ("a or b |> f", "call f or name a name b"),
        ("a |> f(b, c = d) |> g", "call g call f name a name b c = name d"),
        ("a |> base.f |> g(per L)", "call g call base.f name a per level L"),
        ("if a then b else c + d", "if name a then name b else + name c name d"),
        ("if a then b else c |> f", "if name a then name b else call f name c"),
        (
            "if a then if b then c else d else e",
            "if name a then if name b then name c else name d else name e",
        ),
        ("(if a then b else c) * d", "* if name a then name b else name c name d"),
        ("(a + b) * c", "* + name a name b name c"),
    ];
    for (text, wanted) in cases {
        assert_eq!(value(text), wanted, "{text}");
    }
}

#[test]
fn calls() {
    let cases = [
        ("f()", "call f"),
        ("f(a,)", "call f name a"),
        ("f(a per L)", "call f name a per level L"),
        ("f(a, per L, where b)", "call f name a where name b per level L"),
        ("f(where b per L in M, q = 1)", "call f q = literal 1 where name b per level L in M"),
        (
            "f(a, b = 1 where c per (g, p > 0))",
            "call f name a b = literal 1 where name c per tuple name g > name p literal 0",
        ),
        ("f(a per duel.left)", "call f name a per level duel.left"),
        ("f(a per runs(c in r))", "call f name a per runs in r name c"),
        ("f(a per runs)", "call f name a per level runs"),
        ("f(a per pairs(r in g))", "call f name a per pairs of r in g"),
        ("f(g(k) for k in 1..4)", "call f call g name k for k in 1..4"),
        ("f(w[k], for k in -1 .. 4)", "call f index w name k for k in -1..4"),
        ("f(for, for_)", "call f name for name for_"),
        ("f(if a then b else c where d)", "call f if name a then name b else name c where name d"),
        ("f(a == b, c = d == e)", "call f == name a name b c = == name d name e"),
        ("base.f(a)", "call base.f name a"),
        ("base.x.y", "base x.y"),
        ("base.w[2]", "index base.w literal 2"),
        ("train.step", "name train.step"),
        ("index(turn in rollout)", "call index name turn in rollout"),
    ];
    for (text, wanted) in cases {
        assert_eq!(value(text), wanted, "{text}");
    }
}

#[test]
fn reserved_words_need_a_boundary() {
    for name in ["format", "inner", "permute", "notx", "basex", "iffy", "order", "in_", "keeps"] {
        assert_eq!(tree(&format!("{name} = {name}")), format!("def {name}\n  name {name}\n"));
    }
}

#[test]
fn literals() {
    let literal = |text: &str| {
        let (_, module, found) = read(&format!("param p = {text}"));
        assert!(found.is_empty(), "{text}: {found:#?}");
        match module.statements.first().map(|s| &s.kind) {
            Some(StatementKind::Param { value, .. }) => value.0,
            other => unreachable!("{other:?}"),
        }
    };
    assert_eq!(literal("1"), Literal::Int(1));
    assert_eq!(literal("- 1"), Literal::Int(-1));
    assert_eq!(literal("-9007199254740992"), Literal::Int(-(1 << 53)));
    assert_eq!(literal("0.5"), Literal::Real(0.5));
    assert_eq!(literal("3e-4"), Literal::Real(3e-4));
    assert_eq!(literal("1E+3"), Literal::Real(1000.0));
    assert_eq!(literal("inf"), Literal::Real(f64::INFINITY));
    assert_eq!(literal("-inf"), Literal::Real(f64::NEG_INFINITY));
    assert_eq!(literal("true"), Literal::Bool(true));
    assert_eq!(value("1e-6"), "literal 1e-6");
    assert_eq!(value("inf + pi"), "+ name inf name pi");
}

/// Every expression of a tree with the characters it covers.
fn places(text: &str) -> Vec<String> {
    fn walk(e: &Expr, visit: &mut dyn FnMut(&Expr)) {
        visit(e);
        match &e.kind {
            ExprKind::Literal(_) | ExprKind::Name(_) | ExprKind::Base(_) => {}
            ExprKind::Unary(_, a) | ExprKind::At(a, _) | ExprKind::Index(_, a) => walk(a, visit),
            ExprKind::Binary(_, _, a, b) => {
                walk(a, visit);
                walk(b, visit);
            }
            ExprKind::If(a, b, c) => {
                walk(a, visit);
                walk(b, visit);
                walk(c, visit);
            }
            ExprKind::Call(call) => {
                call.args.iter().for_each(|a| walk(&a.value, visit));
                call.filter.iter().for_each(|e| walk(e, visit));
            }
        }
    }
    let (sources, module, found) = read(text);
    assert!(found.is_empty(), "{found:#?}");
    let mut out = Vec::new();
    for statement in &module.statements {
        out.push(sources.slice(statement.span).to_owned());
        if let StatementKind::Def { body, .. } = &statement.kind {
            let values = body.locals.iter().map(|(_, e)| e).chain([&body.result]);
            values.for_each(|e| {
                walk(e, &mut |e| {
                    out.push(sources.slice(e.span).to_owned());
                    if let ExprKind::Binary(_, at, ..) = &e.kind {
                        out.push(sources.slice(*at).to_owned());
                    }
                });
            });
        }
    }
    out
}

#[test]
fn places_are_exact() {
    let text = "# c\nx = ( a ) + f ( b , c where d ) # end\n  - y @ L  # more\n\n";
    let wanted = [
        "x = ( a ) + f ( b , c where d ) # end\n  - y @ L",
        "( a ) + f ( b , c where d ) # end\n  - y @ L",
        "-",
        "( a ) + f ( b , c where d )",
        "+",
        "( a )",
        "f ( b , c where d )",
        "b",
        "c",
        "d",
        "y @ L",
        "y",
    ];
    assert_eq!(places(text), wanted);
    let text = "x = if a  then b  else not c  # end\ny =\n  t = w[ k ] # one\n  t |> f # two";
    let wanted = [
        "x = if a  then b  else not c",
        "if a  then b  else not c",
        "a",
        "b",
        "not c",
        "c",
        "y =\n  t = w[ k ] # one\n  t |> f",
        "w[ k ]",
        "k",
        "t |> f",
        "t",
    ];
    assert_eq!(places(text), wanted);
}

#[test]
fn documentation() {
    let text = "## One.\n##   two\n##\nx = 1\n\n## Lost.\n\ny = 2\n# plain\n## Kept.\n# plain\nz = 3\n\
                ### rule\n## Also\nw =\n## not doc\n  4\nv = 5 ## nor this\nu = 6\n";
    let (_, module, found) = read(text);
    assert!(found.is_empty(), "{found:#?}");
    let docs: Vec<_> = module.statements.iter().map(|s| s.doc.as_deref()).collect();
    assert_eq!(docs, [Some("One.\n  two\n"), None, Some("Kept."), Some("Also"), None, None]);
}

#[test]
fn layout() {
    let wanted = tree("x = f(a, b)\ny = x + 1\n");
    for text in [
        "x = f(a, b)\r\ny = x + 1\r\n",
        "x = f(a, b)\ry = x + 1",
        "\u{feff}x = f(a, b)\ny = x + 1",
        "x = f(a,\n\tb)\ny = x\n\t+ 1",
        "x =\n  f(a, b)\n\ny\n  = x +\n# c\n  1",
        "x = f(\n  a,\n\n  # c\n  b\n)\ny = x + 1 # é ∑\n",
        "x = f(\na , b\n)\ny = x + 1".replace("\na ,", "\n a,").as_str(),
        "x =\n    f(a,\n  b)\ny =\n    x\n    + 1",
        "x = f(a, b)\n   \n\t\ny = x + 1",
    ] {
        assert_eq!(tree(text), wanted, "{text:?}");
    }
    assert_eq!(tree("\u{feff}"), "");
    assert_eq!(tree("# only a comment"), "");
    // A byte-order mark does not shift places.
    let (sources, module, _) = read("\u{feff}abc = 1");
    assert_eq!(
        module.statements.iter().map(|s| sources.slice(s.span)).collect::<Vec<_>>(),
        ["abc = 1"]
    );
}

#[test]
fn blocks() {
    let wanted = tree("fn f(x) =\n  a = x + 1\n  b = g(a)\n  b - a\n");
    for text in [
        "fn f(x) =\n\ta = x + 1\n\tb = g(a)\n\tb - a",
        "fn f(x) =   # why\n    a = x\n      + 1\n    b = g(\na)\n    b\n     - a"
            .replace("\na)", "\n  a)")
            .as_str(),
        "fn f(\n  x\n) =\n  a = x +\n  1\n\n  b = g(a)\r\n  # c\n  b - a",
        "fn f(x) =\n  a =\n    x + 1\n  b =\n    g(a)\n  b - a",
    ] {
        assert_eq!(tree(text), wanted, "{text:?}");
    }
    // A sign begins a line; other operators continue the one above.
    assert_eq!(tree("x =\n  a = 1\n  -a"), "def x\n  a = literal 1\n  neg\n    name a\n");
    assert_eq!(tree("x =\n  a\n  * b"), tree("x = a * b"));
    // Only definitions, functions and updates have blocks.
    assert_eq!(tree("metric m =\n  a +\n  b"), tree("metric m = a + b"));
}

#[test]
fn short_metric() {
    assert_eq!(tree("metric kl"), tree("metric kl = kl"));
}
