//! Every form of expression is read back; broken texts are refused by line.

use super::*;
use crate::level::{BATCH, GROUP, ROLLOUT, TOKEN, VOCAB};

/// One expression of every form. A new form has to be written here before this compiles.
fn form(e: &Expr) -> usize {
    match e {
        Expr::Const(_) => 0,
        Expr::Param(_) => 1,
        Expr::Column(_) => 2,
        Expr::Choose(..) => 3,
        Expr::Unary(..) => 4,
        Expr::Binary(..) => 5,
        Expr::Select(..) => 6,
        Expr::Broadcast(_) => 7,
        Expr::Reduce(..) => 8,
        Expr::Scan { .. } => 9,
        Expr::Shift { .. } => 10,
        Expr::Rank { .. } => 11,
        Expr::At(..) => 12,
        Expr::VocabIndex => 13,
        Expr::Detach(_) => 14,
        Expr::Scatter { .. } => 15,
        Expr::Gather { .. } => 16,
        Expr::Find { .. } => 17,
        Expr::Prefix(..) => 18,
        Expr::Side(_) => 19,
        Expr::Row => 20,
        Expr::Nth(..) => 21,
        Expr::Spread { .. } => 22,
    }
}

const FORMS: usize = 23;

/// Forms of derived levels, of pairs and of rows below a token.
fn derived(g: &mut Graph, logp: E, logits: E, filter: Option<E>, roots: &mut Vec<(String, E)>) {
    let below = g.level_table.add_below(format!("below{}", roots.len()), NOWHERE);
    g.level_table.add_list(format!("beside{}", roots.len()), GROUP, NOWHERE);
    let pairs = format!("duel{}", roots.len());
    let pairs = g.level_table.add_pairs(pairs, ROLLOUT, GROUP, NOWHERE);
    let row = g.add(Expr::Row, TOKEN, Ty::Int);
    let (key, want, scope) = (row, row, GROUP);
    let find = Expr::Find { key, want, filter, scope, within: Some(row) };
    let index = g.add(find, TOKEN, Ty::Int);
    let cell = "(a, b)".to_owned();
    let cell = g.level_table.add_derived(cell, TOKEN, TOKEN, &[GROUP], NOWHERE);
    let fine = "(a, b)".to_owned();
    let fine = g.level_table.add_derived(fine, TOKEN, TOKEN, &[ROLLOUT], NOWHERE);
    g.level_table.nest(fine, cell);
    let x = logp;
    let scatter = Expr::Scatter { op: ReduceOp::Max, x, filter, index, scope };
    let top = g.add(scatter, cell, Ty::Real);
    let gather = g.add(Expr::Gather { x: top, index, scope }, TOKEN, Ty::Real);
    let within = Some(index);
    let factor = Some(gather);
    let (reverse, exclusive) = (true, false);
    let scan = Expr::Scan { x, filter, factor, scope, within, reverse, exclusive };
    let scan = g.add(scan, TOKEN, Ty::Real);
    let shift = Expr::Shift { x, default: x, by: 3, filter, scope, within };
    let shift = g.add(shift, TOKEN, Ty::Real);
    let rank = g.add(Expr::Rank { x, filter, scope, within }, TOKEN, Ty::Int);
    let prefix = g.add(Expr::Prefix(row, GROUP), TOKEN, Ty::Int);
    let left = g.add(Expr::Side(false), pairs, Ty::Int);
    let right = g.add(Expr::Side(true), pairs, Ty::Int);
    let nth = g.add(Expr::Nth(logits, row), TOKEN, Ty::Int);
    let entry = g.broadcast(row, below);
    let at = g.add(Expr::At(logits, entry), below, Ty::Real);
    let spread = g.add(Expr::Spread { d: at, index: entry }, VOCAB, Ty::Real);
    for e in [scan, shift, rank, prefix, left, right, nth, spread] {
        roots.push(("derived".into(), e));
    }
}

fn everything() -> (Graph, Vec<(String, E)>) {
    let mut g = Graph::default();
    let item = g.level_table.add_segmentation("item".into(), NOWHERE);
    let mut column = |level, name: &str, ty, differentiable, default| {
        let name = name.to_owned();
        g.columns.push(ColumnInfo { level, name, ty, differentiable, default, span: None });
        ColumnId(g.columns.len() as u16 - 1)
    };
    let state = column(GROUP, "v", Ty::Real, false, Some(0.5));
    let prompt = column(GROUP, "prompt", Ty::Int, false, None);
    let logits = column(VOCAB, "logits", Ty::Real, true, None);
    let logp = column(TOKEN, "logp", Ty::Real, true, None);
    let mask = column(TOKEN, "mask", Ty::Bool, false, Some(1.0));
    let action = column(TOKEN, "action", Ty::Int, false, None);
    let weight = column(item, "mtp.1", Ty::Real, false, Some(-0.0));
    let uniform = column(ROLLOUT, "uniform()", Ty::Real, false, None);
    let total = column(BATCH, "c", Ty::Real, false, Some(f64::INFINITY));
    g.sources.insert(state, ColumnSource::State { key: Some(prompt), first: 0.5 });
    g.sources.insert(uniform, ColumnSource::Uniform);
    g.sources.insert(total, ColumnSource::State { key: None, first: f64::INFINITY });
    for (name, range) in [("beta", None), ("w.2", Some((0.0, 1e300)))] {
        let info = ParamInfo {
            name: name.into(),
            ty: Ty::Real,
            value: 1e-7,
            range,
            doc: None,
            span: NOWHERE,
        };
        g.params.push(info);
    }
    let mut roots = Vec::new();
    let c = [state, logits, logp, mask, action, weight, uniform, total].map(|c| g.column(c));
    let [state, logits_x, logp_x, mask, action, weight, uniform, total] = c;
    for value in [-0.0, 1.5, 1e-300, f64::NEG_INFINITY, f64::NAN, -f64::NAN] {
        let e = g.constant(value, Ty::Real);
        roots.push((format!("value/{}", value.to_bits()), e));
    }
    for op in Unary::ALL {
        roots.push((op.name().to_owned(), g.unary(op, logp_x)));
    }
    for op in Binary::ALL {
        roots.push((op.name().to_owned(), g.binary(op, logp_x, uniform)));
    }
    let beta = g.add(Expr::Param(ParamId(0)), BATCH, Ty::Real);
    let w = g.add(Expr::Param(ParamId(1)), BATCH, Ty::Real);
    for filter in [None, Some(mask)] {
        for op in REDUCTIONS {
            roots.push(("x y".into(), g.reduce(op, logp_x, filter, ROLLOUT)));
        }
        for (reverse, exclusive) in [(false, false), (false, true), (true, false), (true, true)] {
            let (x, factor, within) = (logp_x, None, None);
            let scope = item;
            let scan = Expr::Scan { x, filter, factor, scope, within, reverse, exclusive };
            roots.push(("scan".into(), g.add(scan, TOKEN, Ty::Real)));
        }
        let (x, default, scope, within) = (logp_x, logp_x, ROLLOUT, None);
        let shift = Expr::Shift { x, default, by: -2, filter, scope, within };
        roots.push(("shift".into(), g.add(shift, TOKEN, Ty::Real)));
        let rank = Expr::Rank { x: logp_x, filter, scope: BATCH, within: None };
        roots.push(("rank".into(), g.add(rank, TOKEN, Ty::Int)));
        derived(&mut g, logp_x, logits_x, filter, &mut roots);
    }
    let weight = g.broadcast(weight, TOKEN);
    let select = g.select(mask, weight, logp_x);
    g.set_name(select, "base.x");
    let at = g.add(Expr::At(logits_x, action), TOKEN, Ty::Real);
    let number = g.add(Expr::VocabIndex, VOCAB, Ty::Int);
    let entry = g.add(Expr::At(number, action), TOKEN, Ty::Int);
    let detach = g.add(Expr::Detach(at), TOKEN, Ty::Real);
    let computed = Prefer::ComputedWith(logits);
    let logp_y = g.add(Expr::Choose(logp, detach, computed), TOKEN, Ty::Real);
    let logp_z = g.add(Expr::Choose(logp, detach, Prefer::Column), TOKEN, Ty::Real);
    for e in [beta, w, state, total, select, entry, logp_y, logp_z] {
        roots.push(("loss".into(), e));
    }
    g.verify().unwrap();
    (g, roots)
}

#[test]
fn every_form_is_read_back() {
    let (g, roots) = everything();
    let mut forms: Vec<usize> = g.all().map(|e| form(&g.expr(e))).collect();
    forms.sort_unstable();
    forms.dedup();
    assert_eq!(forms, (0..FORMS).collect::<Vec<_>>());
    let text = g.print(&roots);
    let (again, same) = Graph::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(again.print(&same), text);
    assert_eq!(again.len(), g.len());
    for e in g.all() {
        assert_eq!((again.expr(e), again.level(e), again.ty(e)), (g.expr(e), g.level(e), g.ty(e)));
        assert_eq!(again.name(e), g.name(e));
    }
    assert_eq!(again.sources, g.sources);
}

#[test]
fn what_is_no_graph_is_refused_by_line() {
    let good = "column token/logp : real, differentiable\n%0 : real @ token = column token/logp\n";
    assert!(Graph::parse(good).is_ok());
    for (text, line, why) in [
        ("%1 : real @ token = exp %7\n", 3, "`%7` is not further up"),
        ("%1 : real @ step = exp %0\n", 3, "no level `step`"),
        ("%1 : float @ token = exp %0\n", 3, "no type `float`"),
        ("%1 : real @ token = exq %0\n", 3, "no operator `exq`"),
        ("%1 : real @ token = select %0 %0\n", 3, "3 operands"),
        ("%1 : real @ token = column token/log\n", 3, "no column"),
        ("%0 : real @ token = exp %0\n", 3, "further up"),
        ("%1 : real @ token = column token/logp\n", 3, "the same expression"),
        ("\nhello\n", 4, "no declaration"),
        ("column token/logp : real\n", 3, "twice"),
        ("%1 : real @ rollout = exp %0\n", 0, "do not fit"),
        ("column group/v : real state from 0.0 by group/p\n", 0, "no column `group/p`"),
    ] {
        let error = Graph::parse(&format!("{good}{text}")).unwrap_err();
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(error.message.contains(why), "{text}: {error}");
    }
}
