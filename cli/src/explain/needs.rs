//! The columns a batch needs, and what the values of params switch on and off.

use std::collections::BTreeSet;

use rlc_compiler::columns::needed;
use rlc_compiler::hir::{ColumnId, ColumnSource, E, Expr, ParamInfo};
use rlc_compiler::op::Ty;
use rlc_compiler::source::Span;
use rlc_compiler::specialize::{Settings, known_values, specialize};

use super::Subject;

/// What the loss, the filters, the states and `sample` read under some values of the params.
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
            let id = (0..graph.columns.len() as u16)
                .map(ColumnId)
                .find(|id| graph.column_path(*id) == *path);
            let facts = id.map_or(String::new(), |id| self.column_facts(id));
            format!("{path}: {facts}{note}")
        };
        let mut lines: Vec<String> = goal.columns.iter().map(|c| line(c, "")).collect();
        lines.extend(
            all.columns
                .difference(&goal.columns)
                .map(|c| line(c, "; only metrics read it, and are left out without it")),
        );
        if goal.columns.contains("vocab/logits") && self.goes_by_logp(&goal.columns) {
            lines.push(
                "A batch without `vocab/logits` may carry `token/logp` (and `token/entropy`) instead."
                    .to_owned(),
            );
        }
        lines
    }

    /// Whether log-probabilities and entropies do in place of the logits.
    fn goes_by_logp(&self, columns: &BTreeSet<String>) -> bool {
        let mut present = columns.clone();
        present.remove("vocab/logits");
        present.extend(["token/logp", "token/entropy"].map(str::to_owned));
        let settings =
            Settings { params: self.params.clone(), present: Some(present), ..Settings::default() };
        specialize(&self.checked, &settings).is_ok_and(|s| {
            let graph = &s.program.graph;
            needed(&s.program).iter().all(|c| graph.column_path(*c) != "vocab/logits")
        })
    }

    fn column_facts(&self, id: ColumnId) -> String {
        let graph = &self.checked.graph;
        let info = &graph.columns[id.0 as usize];
        match graph.sources.get(&id) {
            Some(ColumnSource::Uniform) => return "int, for `uniform`".to_owned(),
            Some(ColumnSource::State { key, first }) => {
                let per = key.map_or(String::new(), |k| {
                    format!(" per `{}`", graph.columns[k.0 as usize].name)
                });
                return format!("kept between steps, one{per}; {first} at first");
            }
            None => {}
        }
        let mut facts = info.ty.name().to_owned();
        if info.differentiable {
            facts.push_str(", differentiable");
        }
        if let Some(default) = info.default {
            let shown = if info.ty == Ty::Bool {
                (default != 0.0).to_string()
            } else {
                default.to_string()
            };
            facts.push_str(&format!(", {shown} where absent"));
        }
        facts
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
        lines.extend(self.decided());
        lines
    }

    /// The `if`s that params decide, and how.
    fn decided(&self) -> Vec<String> {
        let graph = &self.checked.graph;
        let settings = Settings { params: self.params.clone(), ..Settings::default() };
        let known = known_values(graph, &settings);
        let mut found: Vec<(Span, bool)> = graph
            .all()
            .filter_map(|e| match graph.expr(e) {
                Expr::Select(c, _, _) => Some((graph.span(e)?, known[c.index()]? != 0.0)),
                _ => None,
            })
            .filter(|(span, _)| self.program.sources.slice(*span).starts_with("if"))
            .collect();
        found.sort();
        found.dedup();
        found
            .into_iter()
            .map(|(span, side)| {
                let side = if side { "then" } else { "else" };
                format!("decided: {side} in `{}` ({})", self.quote(span), self.place(span))
            })
            .collect()
    }

    fn goals(&self) -> impl Iterator<Item = E> + '_ {
        let updates = self.checked.updates.iter();
        std::iter::once(self.checked.loss)
            .chain(self.checked.filters.iter().map(|f| f.1))
            .chain(updates.flat_map(|u| std::iter::once(u.value).chain(u.kept)))
            .chain(self.checked.samples.iter().flat_map(|s| std::iter::once(s.value).chain(s.kept)))
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
                    if let Some(ColumnSource::State { key: Some(key), .. }) = graph.sources.get(&c)
                    {
                        columns.insert(graph.column_path(*key));
                    }
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
