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
use crate::level::{Level, LevelKind, ROLLOUT, TOKEN};

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
                self.level_label(self.level(e)),
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

    /// ` in rollout`, ` in group by %7`.
    fn print_scope(&self, scope: Level, within: Option<E>) -> String {
        let by = within.map_or(String::new(), |w| format!(" by %{}", w.0));
        format!(" in {}{by}", self.level_label(scope))
    }

    /// A level's name; derived levels may share theirs, or have none that is one word.
    fn level_label(&self, level: Level) -> String {
        let name = self.level_table.name(level);
        let word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
        if word && self.level_table.find(name) == Some(level) {
            name.to_owned()
        } else {
            format!("level.{}", level.0)
        }
    }

    fn print_declarations(&self, needed: &[bool], out: &mut String) {
        for level in self.level_table.all() {
            let name = self.level_label(level);
            let of = |l: Level| self.level_label(l);
            let _ = match self.level_table.def(level).kind {
                LevelKind::Standard => Ok(()),
                LevelKind::Segmentation => writeln!(out, "level {name} in {}", of(ROLLOUT)),
                LevelKind::Below => writeln!(out, "level {name} in {}", of(TOKEN)),
                LevelKind::List(parent) => writeln!(out, "list {name} in {}", of(parent)),
                LevelKind::Pairs(rows, outer) => {
                    writeln!(out, "pairs {name} of {} in {}", of(rows), of(outer))
                }
                LevelKind::Derived(source) => {
                    let above: Vec<String> = self.level_table.above(level).map(of).collect();
                    let rows = of(self.level_table.rows(level));
                    let (source, above) = (of(source), above.join(" "));
                    writeln!(out, "derived {name} from {source} rows {rows} inside {above}")
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
                | Expr::Scatter { .. }
                | Expr::Gather { .. }
                | Expr::Find { .. }
                | Expr::Prefix(..)
                | Expr::Side(_)
                | Expr::Row
                | Expr::Nth(..)
                | Expr::Spread { .. }
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
        format!("{}/{}", self.level_label(info.level), info.name)
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
            Expr::Scan { x, filter, factor, scope, within, reverse, exclusive } => format!(
                "{}{} %{}{}{}{}",
                if reverse { "rcumsum" } else { "cumsum" },
                if exclusive { "_exclusive" } else { "" },
                x.0,
                factor.map_or(String::new(), |f| format!(" times %{}", f.0)),
                filtered(filter),
                self.print_scope(scope, within)
            ),
            Expr::Shift { x, default, by, filter, scope, within } => format!(
                "shift %{} by {by} default %{}{}{}",
                x.0,
                default.0,
                filtered(filter),
                self.print_scope(scope, within)
            ),
            Expr::Rank { x, filter, scope, within } => {
                format!("rank %{}{}{}", x.0, filtered(filter), self.print_scope(scope, within))
            }
            Expr::Find { key, want, filter, scope, within } => format!(
                "find %{} among %{}{}{}",
                want.0,
                key.0,
                filtered(filter),
                self.print_scope(scope, within)
            ),
            Expr::Prefix(x, scope) => format!("prefix %{}{}", x.0, self.print_scope(scope, None)),
            Expr::Gather { x, index, scope } => {
                format!("gather %{} by %{}{}", x.0, index.0, self.print_scope(scope, None))
            }
            Expr::Scatter { op, x, filter, index, scope } => format!(
                "scatter {} %{}{} by %{}{}",
                op.name(),
                x.0,
                filtered(filter),
                index.0,
                self.print_scope(scope, None)
            ),
            Expr::Side(right) => if right { "right" } else { "left" }.to_owned(),
            Expr::Row => "row".to_owned(),
            Expr::Nth(x, n) => format!("nth %{} %{}", x.0, n.0),
            Expr::Spread { d, index } => format!("spread %{} by %{}", d.0, index.0),
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
