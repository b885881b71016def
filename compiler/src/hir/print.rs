//! The graph as text, for people and snapshots.

use std::fmt::Write as _;

use super::{E, Expr, Graph, Prefer};

impl Graph {
    /// Readable text, a line per needed expression.
    pub fn print(&self, roots: &[(String, E)]) -> String {
        let needed = self.reachable(roots.iter().map(|r| r.1));
        let mut out = String::new();
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

    /// ` in rollout`, ` in group by %7`.
    fn print_scope(&self, scope: crate::level::Level, within: Option<E>) -> String {
        let by = within.map_or(String::new(), |w| format!(" by %{}", w.0));
        format!(" in {}{by}", self.level_table.name(scope))
    }

    pub(super) fn print_expr(&self, e: E) -> String {
        let filtered = |f: Option<E>| f.map_or(String::new(), |f| format!(" where %{}", f.0));
        match self.expr(e) {
            Expr::Const(bits) => format!("{:?}", f64::from_bits(bits)),
            Expr::Param(p) => format!("param {}", self.params[p.0 as usize].name),
            Expr::Column(c) => format!("column {}", self.column_path(c)),
            Expr::Choose(c, x, Prefer::ComputedWith(with)) => {
                format!(
                    "choose %{} with {} else {}",
                    x.0,
                    self.column_path(with),
                    self.column_path(c)
                )
            }
            Expr::Choose(c, x, Prefer::Column) => {
                format!("choose {} else %{}", self.column_path(c), x.0)
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
