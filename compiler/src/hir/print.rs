//! The graph as text, for people and snapshots. [`Graph::parse`](Graph::parse) reads it back: all of a
//! graph is in it but places in the source and documentation.
//!
//! ```text
//! param beta : real = 0.0
//! column token/logp : real, differentiable
//! %0 : real @ batch = param beta
//! %1 : real @ token = column token/logp
//! %2 : real @ batch = sum %1    # total
//! loss = %2
//! ```

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{ColumnId, ColumnSource, E, Expr, Graph, ParamId, Prefer};
use crate::level::{LevelKind, ROLLOUT};

impl Graph {
    /// Readable text: the declared levels, the params and columns that `roots` need, then a line per
    /// needed expression.
    pub fn print(&self, roots: &[(String, E)]) -> String {
        let needed = self.reachable(roots.iter().map(|r| r.1));
        let mut out = String::new();
        self.print_declarations(&needed, &mut out);
        for e in self.all().filter(|e| needed[e.index()]) {
            let _ = write!(
                out,
                "%{} : {} @ {} = {}",
                e.0,
                self.ty(e).name(),
                self.level_table.name(self.level(e)),
                self.print_expr(e)
            );
            if let Some(name) = self.name(e) {
                let _ = write!(out, "    # {name}");
            }
            out.push('\n');
        }
        for (name, e) in roots {
            let _ = writeln!(out, "{name} = %{}", e.0);
        }
        out
    }

    fn print_declarations(&self, needed: &[bool], out: &mut String) {
        for level in self.level_table.all() {
            let def = self.level_table.def(level);
            let _ = match def.kind {
                LevelKind::Standard => Ok(()),
                LevelKind::Segmentation => {
                    writeln!(out, "level {} in {}", def.name, self.level_table.name(ROLLOUT))
                }
            };
        }
        let (mut params, mut columns) = (BTreeSet::new(), BTreeSet::new());
        for e in self.all().filter(|e| needed[e.index()]) {
            match self.expr(e) {
                Expr::Param(p) => drop(params.insert(p)),
                Expr::Column(c) | Expr::Choose(c, _, Prefer::Column) => drop(columns.insert(c)),
                Expr::Choose(c, _, Prefer::ComputedWith(with)) => columns.extend([c, with]),
                Expr::Const(_)
                | Expr::Unary(..)
                | Expr::Binary(..)
                | Expr::Select(..)
                | Expr::Broadcast(_)
                | Expr::Reduce(..)
                | Expr::Scan { .. }
                | Expr::Shift { .. }
                | Expr::Rank { .. }
                | Expr::At(..)
                | Expr::VocabIndex
                | Expr::Detach(_) => {}
            }
        }
        for c in columns.clone() {
            if let Some(ColumnSource::State { key: Some(key), .. }) = self.sources.get(&c) {
                columns.insert(*key);
            }
        }
        for ParamId(p) in params {
            let info = &self.params[p as usize];
            let _ =
                write!(out, "param {} : {} = {}", info.name, info.ty.name(), number(info.value));
            if let Some((low, high)) = info.range {
                let _ = write!(out, " in [{}, {}]", number(low), number(high));
            }
            out.push('\n');
        }
        for c in columns {
            self.print_column(c, out);
        }
    }

    fn print_column(&self, c: ColumnId, out: &mut String) {
        let info = &self.columns[c.0 as usize];
        let _ = write!(out, "column {} : {}", self.column_name(c), info.ty.name());
        if info.differentiable {
            out.push_str(", differentiable");
        }
        if let Some(default) = info.default {
            let _ = write!(out, " = {}", number(default));
        }
        match self.sources.get(&c) {
            None => {}
            Some(ColumnSource::State { key: None, first }) => {
                let _ = write!(out, " state from {}", number(*first));
            }
            Some(ColumnSource::State { key: Some(key), first }) => {
                let key = self.column_name(*key);
                let _ = write!(out, " state from {} by {key}", number(*first));
            }
            Some(ColumnSource::Uniform) => out.push_str(" uniform"),
        }
        out.push('\n');
    }

    /// `level/name`: no two columns of a graph share it, also where they come from elsewhere.
    fn column_name(&self, c: ColumnId) -> String {
        let info = &self.columns[c.0 as usize];
        format!("{}/{}", self.level_table.name(info.level), info.name)
    }

    pub(super) fn print_expr(&self, e: E) -> String {
        let filtered = |f: Option<E>| f.map_or(String::new(), |f| format!(" where %{}", f.0));
        match self.expr(e) {
            Expr::Const(bits) => number(f64::from_bits(bits)),
            Expr::Param(p) => format!("param {}", self.params[p.0 as usize].name),
            Expr::Column(c) => format!("column {}", self.column_name(c)),
            Expr::Choose(c, x, Prefer::ComputedWith(with)) => {
                format!(
                    "choose %{} with {} else {}",
                    x.0,
                    self.column_name(with),
                    self.column_name(c)
                )
            }
            Expr::Choose(c, x, Prefer::Column) => {
                format!("choose {} else %{}", self.column_name(c), x.0)
            }
            Expr::Unary(op, x) => format!("{} %{}", op.name(), x.0),
            Expr::Binary(op, a, b) => format!("{} %{} %{}", op.name(), a.0, b.0),
            Expr::Select(c, a, b) => format!("select %{} %{} %{}", c.0, a.0, b.0),
            Expr::Broadcast(x) => format!("broadcast %{}", x.0),
            Expr::Reduce(op, x, f) => format!("{} %{}{}", op.name(), x.0, filtered(f)),
            Expr::Scan { x, filter, scope, reverse, exclusive } => format!(
                "{}{} %{}{} in {}",
                if reverse { "rcumsum" } else { "cumsum" },
                if exclusive { "_exclusive" } else { "" },
                x.0,
                filtered(filter),
                self.level_table.name(scope)
            ),
            Expr::Shift { x, default, by, filter, scope } => format!(
                "shift %{} by {by} default %{}{} in {}",
                x.0,
                default.0,
                filtered(filter),
                self.level_table.name(scope)
            ),
            Expr::Rank { x, filter, scope } => {
                format!("rank %{}{} in {}", x.0, filtered(filter), self.level_table.name(scope))
            }
            Expr::At(x, i) => format!("at %{} %{}", x.0, i.0),
            Expr::VocabIndex => "vocab_index".to_owned(),
            Expr::Detach(x) => format!("detach %{}", x.0),
        }
    }
}

/// The shortest digits that read back as the same number; a NaN that is not the usual one by its bits.
fn number(x: f64) -> String {
    if x.is_nan() && x.to_bits() != f64::NAN.to_bits() {
        return format!("NaN:{:x}", x.to_bits());
    }
    format!("{x:?}")
}
