//! The columns a batch needs, and what the values of params switch on and off.

use std::collections::BTreeSet;

use rlc_compiler::hir::{E, Expr, ParamInfo};
use rlc_compiler::op::Ty;
use rlc_compiler::specialize::{Settings, known_values};

use super::Subject;

/// What the loss and the filters read under some values of the params.
struct Reach {
    columns: BTreeSet<String>,
    definitions: BTreeSet<String>,
}

impl Subject<'_> {
    pub(super) fn columns(&self) -> Vec<String> {
        let graph = &self.checked.graph;
        let goal = self.reach(&self.params, self.goals());
        let metrics = self.checked.metrics.iter().map(|m| m.value);
        let all = self.reach(&self.params, self.goals().chain(metrics));
        let line = |path: &String, note: &str| {
            let info =
                graph.columns.iter().enumerate().find(|(i, _)| {
                    graph.column_path(rlc_compiler::hir::ColumnId(*i as u16)) == *path
                });
            let facts = info.map_or(String::new(), |(_, info)| {
                let mut facts = info.ty.name().to_owned();
                if info.differentiable {
                    facts.push_str(", differentiable");
                }
                if let Some(default) = info.default {
                    facts.push_str(&format!(", {default} where absent"));
                }
                facts
            });
            format!("{path}: {facts}{note}")
        };
        let mut lines: Vec<String> = goal.columns.iter().map(|c| line(c, "")).collect();
        lines.extend(
            all.columns
                .difference(&goal.columns)
                .map(|c| line(c, "; only metrics read it, and are left out without it")),
        );
        if goal.columns.contains("vocab/logits") {
            lines.push(
                "A batch without `vocab/logits` may carry `token/logp` (and `token/entropy`) instead."
                    .to_owned(),
            );
        }
        lines
    }

    pub(super) fn switches(&self) -> Vec<String> {
        let graph = &self.checked.graph;
        let now = self.reach(&self.params, self.goals());
        let mut lines = Vec::new();
        for (i, param) in graph.params.iter().enumerate() {
            let value = self.params[i];
            let range = param.range.map_or(String::new(), |(lo, hi)| format!(" in [{lo}, {hi}]"));
            let mut line = format!("{} = {}{range}", param.name, shown(param, value));
            if value != param.value {
                line.push_str(&format!(" (default {})", shown(param, param.value)));
            }
            lines.push(line);
            let Some(other) = other_value(param, value) else { continue };
            let mut params = self.params.clone();
            params[i] = other;
            let then = self.reach(&params, self.goals());
            let (off, on) = if value == 0.0 { (&now, &then) } else { (&then, &now) };
            let when = if value == 0.0 { "switches" } else { "would switch" };
            let zero = shown(param, 0.0);
            for (what, more, less) in [("off", on, off), ("on", off, on)] {
                let list = difference(more, less);
                if !list.is_empty() {
                    lines.push(format!("    at {zero} it {when} {what} {}", list.join(", ")));
                }
            }
        }
        lines
    }

    fn goals(&self) -> impl Iterator<Item = E> + '_ {
        std::iter::once(self.checked.loss).chain(self.checked.filters.iter().map(|f| f.1))
    }

    /// Follows operands, but of an `if` that params decide only the branch taken.
    fn reach(&self, params: &[f64], roots: impl Iterator<Item = E>) -> Reach {
        let graph = &self.checked.graph;
        let settings = Settings { params: params.to_vec(), ..Settings::default() };
        let known = known_values(graph, &settings);
        let mut needed = vec![false; graph.len()];
        for root in roots {
            needed[root.index()] = true;
        }
        let mut columns = BTreeSet::new();
        for e in graph.all().rev() {
            if !needed[e.index()] {
                continue;
            }
            match (graph.expr(e), known[e.index()]) {
                (Expr::Column(c), _) => {
                    columns.insert(graph.column_path(c));
                }
                (Expr::Select(c, a, b), _) if known[c.index()].is_some() => {
                    let taken = if known[c.index()] == Some(0.0) { b } else { a };
                    needed[taken.index()] = true;
                }
                _ => graph.operands(e).for_each(|o| needed[o.index()] = true),
            }
        }
        let definitions = self
            .checked
            .definitions
            .iter()
            .filter(|d| needed[d.value.index()])
            .map(|d| d.name.clone())
            .collect();
        Reach { columns, definitions }
    }
}

/// A value on the other side of zero: 0, or the nearest round number that is not.
fn other_value(param: &ParamInfo, value: f64) -> Option<f64> {
    let fits = |v: &f64| param.range.is_none_or(|(lo, hi)| lo <= *v && *v <= hi);
    if value != 0.0 {
        return Some(0.0).filter(fits);
    }
    let (low, high) = param.range.unwrap_or((1.0, 1.0));
    [1.0, high, low].into_iter().filter(fits).find(|v| *v != 0.0)
}

fn difference(more: &Reach, less: &Reach) -> Vec<String> {
    let columns = more.columns.difference(&less.columns).map(|c| format!("the column `{c}`"));
    let definitions = more.definitions.difference(&less.definitions).map(|d| format!("`{d}`"));
    columns.chain(definitions).collect()
}

fn shown(param: &ParamInfo, value: f64) -> String {
    if param.ty == Ty::Bool { (value != 0.0).to_string() } else { value.to_string() }
}
