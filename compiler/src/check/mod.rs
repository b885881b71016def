//! From linked statements to the typed graph: finds what every name means, gives every expression a
//! type and a level, inlines functions, and folds filters into the reductions that obey them.
//!
//! A part that is wrong is reported once and evaluates to nothing (`None`), which its users pass on
//! in silence, so that no message follows from another. Nothing here looks at a batch.

mod call;
mod expr;
mod inline;
mod keys;
mod levels;
mod lint;
mod names;
mod ordered;
mod pairs;
mod reduce;
mod sample;
mod state;
mod vocab;

use std::collections::{HashMap, HashSet};

use crate::ast::{self, Literal, TypeName};
use crate::diagnostic::{Diagnostic, Severity};
use crate::hir::{ColumnInfo, E, Graph, ParamId, ParamInfo, ReduceOp};
use crate::level::{BATCH, GROUP, Level, ROLLOUT, TOKEN};
use crate::link::{Entry, Item, Linked};
use crate::op::{Binary, Ty, Unary};
use crate::source::{Sources, Span};

/// A definition of the program under its final meaning.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Name.
    pub name: String,
    /// Value, in the table as all filters leave it.
    pub value: E,
    /// Its name's place.
    pub span: Span,
    /// Documentation.
    pub doc: Option<String>,
    /// Position of its file in [`Checked::files`].
    pub depth: usize,
    /// Which rows of its level are elements, for a derived level.
    pub exists: Option<E>,
}

/// A metric.
#[derive(Debug, Clone)]
pub struct Metric {
    /// Name.
    pub name: String,
    /// Value at batch level.
    pub value: E,
    /// Its name's place.
    pub span: Span,
    /// Position of its file.
    pub depth: usize,
}

/// A state's new value.
#[derive(Debug, Clone)]
pub struct StateUpdate {
    /// The state.
    pub name: String,
    /// Its column.
    pub column: crate::hir::ColumnId,
    /// New value, one per row of the state's level.
    pub value: E,
    /// Rows that filters keep; the others update nothing. None: all.
    pub kept: Option<E>,
}

/// A program that means something.
#[derive(Debug, Clone)]
pub struct Checked {
    /// All expressions, with `Choose` nodes still open.
    pub graph: Graph,
    /// What is minimised, at batch level.
    pub loss: E,
    /// The file says `maximize`: the loss is the negated goal.
    pub maximize: bool,
    /// Place of the goal.
    pub goal: Span,
    /// Metrics.
    pub metrics: Vec<Metric>,
    /// Updates of states.
    pub updates: Vec<StateUpdate>,
    /// `sample` statements.
    pub samples: Vec<Sample>,
    /// Definitions.
    pub definitions: Vec<Definition>,
    /// Filter conditions, each at its level, with keep (true) or drop.
    pub filters: Vec<(Level, E, bool, Span)>,
    /// Kept rows of group, rollout and token.
    pub kept: Vec<(String, E)>,
    /// Source names, prelude first.
    pub files: Vec<String>,
}

/// What an expression is evaluated in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    /// Filters of the first `view` files apply.
    view: usize,
    /// The definition or function being evaluated, and the position of its file: `base.x`.
    owner: Option<(String, usize)>,
    /// Arguments and local definitions, innermost last; `None`: already reported.
    locals: Vec<(String, Option<E>)>,
    /// Definitions of the block being evaluated that are still to come.
    later: Vec<ast::Ident>,
    /// Scope parameters of functions.
    levels: Vec<(String, Level)>,
    /// Variables of unrolled calls, as the indices of families; as values they are locals.
    unrolled: Vec<(String, i64)>,
}

pub use call::builtins;
pub use lint::LINTS;
pub use names::{standard_input, standard_inputs};
pub use sample::{Sample, SampleKind};

pub(crate) struct Checker<'a> {
    sources: &'a Sources,
    linked: &'a Linked,
    graph: Graph,
    diagnostics: Vec<Diagnostic>,
    columns: HashMap<(String, Level), crate::hir::ColumnId>,
    params: HashMap<String, ParamId>,
    /// Finished values by name, file and view.
    values: HashMap<(String, usize, usize), Option<E>>,
    /// Values being evaluated: name, file, view, and where the next one was asked for.
    open: Vec<(String, usize, usize, Span)>,
    /// The same, for looking up.
    opened: HashSet<(String, usize, usize)>,
    /// Calls being inlined: function, file, and the call's place.
    calls: Vec<(String, usize, Span)>,
    /// Operators of bodies so far, each as often as it was written out.
    written: usize,
    /// Filter conditions of each file, evaluated.
    filters: Vec<(usize, Level, E, bool, Span)>,
    kept: HashMap<(Level, usize), Option<E>>,
    /// Derived levels of the program.
    keys: keys::Keys,
    usage: lint::Usage,
    /// `max` and `min` without a default that may be of nothing.
    bare_extrema: Vec<lint::BareExtremum>,
}

/// Checks a linked program. With errors among the diagnostics there is no result.
pub fn check(sources: &Sources, linked: &Linked) -> (Option<Checked>, Vec<Diagnostic>) {
    let mut checker = Checker {
        sources,
        linked,
        graph: Graph::default(),
        diagnostics: Vec::new(),
        columns: HashMap::new(),
        params: HashMap::new(),
        values: HashMap::new(),
        open: Vec::new(),
        opened: HashSet::new(),
        calls: Vec::new(),
        written: 0,
        filters: Vec::new(),
        kept: HashMap::new(),
        keys: keys::Keys::default(),
        usage: lint::Usage::default(),
        bare_extrema: Vec::new(),
    };
    let checked = checker.program();
    let failed = checker.diagnostics.iter().any(|d| d.severity == Severity::Error);
    (checked.filter(|_| !failed), checker.diagnostics)
}

impl Checker<'_> {
    fn program(&mut self) -> Option<Checked> {
        self.unknown_allows();
        self.declare_levels();
        self.declare_params();
        self.evaluate_filters();
        let view = self.linked.files.len();
        self.all_keys(view);
        let mut definitions = Vec::new();
        let linked = self.linked;
        for (name, entries) in &linked.values {
            let Some(entry) = entries.last() else { continue };
            let value = self.entry(entry, view, entry.ident.span);
            if let (Item::Def(_), Some(value)) = (&entry.item, value) {
                definitions.push(Definition {
                    name: name.clone(),
                    value,
                    span: entry.ident.span,
                    doc: entry.doc.clone(),
                    depth: entry.depth,
                    exists: self.keys.exists(self.graph.level(value)),
                });
            }
        }
        self.check_functions();
        let metrics = self.metrics(view);
        let updates = self.updates(view);
        let samples = self.samples(view);
        let goal = self.goal(view);
        let kept = self.kept_counts(view);
        let (loss, maximize, goal) = goal?;
        self.lint(loss, &definitions, &metrics);
        self.params_without_effect();
        Some(Checked {
            graph: std::mem::take(&mut self.graph),
            loss,
            maximize,
            goal,
            metrics,
            updates,
            samples,
            definitions,
            filters: self.filters.iter().map(|f| (f.1, f.2, f.3, f.4)).collect(),
            kept,
            files: linked.files.iter().map(|f| self.sources.get(*f).name.clone()).collect(),
        })
    }

    /// Reports an error, moved to the user's call where it arose inside library code.
    fn report(&mut self, mut diagnostic: Diagnostic) {
        let library = |s: Span| self.sources.get(s.file).library;
        if diagnostic.labels.first().is_some_and(|l| library(l.span))
            && let Some((function, _, span)) = self.calls.iter().find(|c| !library(c.2))
        {
            diagnostic.labels.retain(|l| !library(l.span));
            let text = format!("in this call of `{function}`");
            diagnostic.labels.insert(0, crate::diagnostic::Label { span: *span, text });
        }
        // The same source text is evaluated once per view and call; one message is enough.
        let known = self.diagnostics.iter().any(|d| {
            d.code == diagnostic.code
                && d.message == diagnostic.message
                && d.labels.first().map(|l| l.span) == diagnostic.labels.first().map(|l| l.span)
        });
        if !known {
            self.diagnostics.push(diagnostic);
        }
    }

    fn error(
        &mut self,
        code: &'static str,
        message: impl Into<String>,
        span: Span,
        label: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.report(Diagnostic::error(code, message, span, label, help));
    }

    fn level_name(&self, level: Level) -> &str {
        self.graph.level_table.name(level)
    }

    /// "one value per token", "one value for the batch".
    fn per(&self, level: Level) -> String {
        if level == BATCH {
            "one value for the batch".into()
        } else if level == crate::level::VOCAB {
            "one value per vocabulary entry".into()
        } else {
            format!("one value per {}", self.level_name(level))
        }
    }

    /// All params in order of their text, so that handles are stable.
    fn declare_params(&mut self) {
        let linked = self.linked;
        let mut found: Vec<&Entry> = linked
            .values
            .values()
            .filter_map(|v| v.last())
            .filter(|e| matches!(e.item, Item::Param { .. }))
            .collect();
        found.sort_by_key(|e| (e.depth, e.ident.span.start));
        for entry in found {
            let Item::Param { family, value: (literal, span), range } = &entry.item else {
                continue;
            };
            let (value, ty) = literal_value(*literal);
            let range_values = range.map(|(lo, hi, _)| (literal_value(lo).0, literal_value(hi).0));
            if let (Some((lo, hi)), Some((_, _, range_span))) = (range_values, range)
                && !(lo <= value && value <= hi)
            {
                self.report(
                    Diagnostic::error(
                        "E0112",
                        format!("the default of `{}` is outside its range", entry.ident.name),
                        *span,
                        format!("{value}"),
                        "change the default or the range; both ends belong to the range",
                    )
                    .with(*range_span, format!("from {lo} to {hi}")),
                );
            }
            let names: Vec<String> = match family {
                Some(n) => (1..=*n).map(|k| format!("{}.{k}", entry.ident.name)).collect(),
                None => vec![entry.ident.name.clone()],
            };
            for name in names {
                let id = ParamId(self.graph.params.len() as u16);
                self.graph.params.push(ParamInfo {
                    name: name.clone(),
                    ty,
                    value,
                    range: range_values,
                    doc: entry.doc.clone(),
                    span: entry.ident.span,
                });
                self.params.insert(name, id);
            }
        }
    }

    fn evaluate_filters(&mut self) {
        let linked = self.linked;
        for filter in &linked.filters {
            // Conditions of one file see the table as the files before it leave it.
            let scope = Scope { view: filter.depth, ..Scope::default() };
            let level = self.find_level(&filter.level, &scope);
            let cond = self.expr(&filter.cond, &scope);
            let (Some(level), Some(cond)) = (level, cond) else { continue };
            let span = filter.cond.span;
            if !self.expect_bool(cond, span, "a filter's condition") {
                continue;
            }
            let verb = if filter.keep { "keep" } else { "drop" };
            let pairs = self.keys.is_paired(level);
            if level == BATCH || level == crate::level::VOCAB || pairs {
                self.error(
                    "E0205",
                    format!("`{verb}` cannot remove {} elements", filter.level.name),
                    filter.level.span,
                    "not a level whose rows can be left out",
                    "filter groups, rollouts, turns, declared segments or tokens:\n`keep token where loss_mask`",
                );
                continue;
            }
            if !self.graph.level_table.contains(self.graph.level(cond), level) {
                let at = self.per(self.graph.level(cond));
                self.error(
                    "E0202",
                    format!("the condition of this filter is finer than a {}", filter.level.name),
                    span,
                    at,
                    format!(
                        "reduce it: `{verb} {0} where any(... per {0})`,\nor filter the finer level",
                        filter.level.name
                    ),
                );
                continue;
            }
            let cond = self.graph.broadcast(cond, level);
            let (level, kept) = self.kept_rows(level, cond, filter.keep);
            self.filters.push((filter.depth, level, kept, filter.keep, span));
        }
    }

    /// Which rows of `level` the filters of the first `view` files leave; none: all of them.
    fn kept(&mut self, level: Level, view: usize) -> Option<E> {
        if level == BATCH || level == crate::level::VOCAB {
            return None;
        }
        // Derived levels are made of what the filters leave.
        if let Some(exists) = self.keys.exists(level) {
            return Some(exists);
        }
        if let Some(&known) = self.kept.get(&(level, view)) {
            return known;
        }
        let mut all: Option<E> = None;
        for &(depth, at, cond, _, _) in &self.filters {
            if depth < view && self.graph.level_table.contains(at, level) {
                let cond = self.graph.broadcast(cond, level);
                all = Some(match all {
                    Some(other) => self.graph.binary(Binary::And, other, cond),
                    None => cond,
                });
            }
        }
        self.kept.insert((level, view), all);
        all
    }

    /// The filter a reduction or ordered operator obeys: the table's, and its own condition.
    fn filter(&mut self, level: Level, view: usize, own: Option<E>) -> Option<E> {
        let kept = self.kept(level, view);
        match (kept, own) {
            (Some(kept), Some(own)) => {
                let own = self.graph.broadcast(own, level);
                Some(self.graph.binary(Binary::And, kept, own))
            }
            (None, Some(own)) => Some(self.graph.broadcast(own, level)),
            (kept, None) => kept,
        }
    }

    fn kept_counts(&mut self, view: usize) -> Vec<(String, E)> {
        [GROUP, ROLLOUT, TOKEN]
            .into_iter()
            .map(|level| {
                let filter = self.kept(level, view);
                let ones = self.graph.constant_at(1.0, Ty::Int, level);
                let count = self.graph.reduce(ReduceOp::Sum, ones, filter, BATCH);
                (self.level_name(level).to_owned(), count)
            })
            .collect()
    }

    /// Evaluates bodies of the user's functions that nothing calls, so that their errors show. Their
    /// arguments are unknown, so only names are looked at.
    fn check_functions(&mut self) {
        let linked = self.linked;
        for functions in linked.functions.values() {
            for function in functions {
                let file = linked.files[function.depth];
                if !self.sources.get(file).library {
                    self.check_names(function);
                }
            }
        }
    }

    fn metrics(&mut self, view: usize) -> Vec<Metric> {
        let linked = self.linked;
        let mut out = Vec::new();
        for metric in &linked.metrics {
            let scope = Scope { view, ..Scope::default() };
            let Some(value) = self.expr(&metric.value, &scope) else { continue };
            let level = self.graph.level(value);
            if level != BATCH {
                let at = self.per(level);
                let written = self.sources.slice(metric.value.span).to_owned();
                self.error(
                    "E0601",
                    format!("a metric is one number, but `{}` has {at}", metric.ident.name),
                    metric.value.span,
                    at.clone(),
                    format!("reduce it: `metric {} = mean({written})`", metric.ident.name),
                );
                continue;
            }
            let value = self.graph.cast(value, Ty::Real);
            out.push(Metric {
                name: metric.ident.name.clone(),
                value,
                span: metric.ident.span,
                depth: metric.depth,
            });
        }
        out
    }

    fn goal(&mut self, view: usize) -> Option<(E, bool, Span)> {
        let linked = self.linked;
        let Some((maximize, goal)) = &linked.goal else {
            let broken = linked.broken.iter().any(|w| w == "minimize" || w == "maximize");
            if broken || linked.stand_in {
                return None;
            }
            let file = *linked.files.last()?;
            // At `extend nothing`, which took the goal away.
            let start = linked.extends.last().copied().flatten();
            let start = start.unwrap_or(Span { file, start: 0, end: 0 });
            self.error(
                "E0602",
                "the program has no `minimize` or `maximize`",
                start,
                "nothing says what to optimise",
                "end the program with the loss it defines: `minimize loss`,\nor leave out `extend nothing` to inherit the goal of `grpo`",
            );
            return None;
        };
        let scope = Scope { view, ..Scope::default() };
        let before = self.usage.edges.remove(&None);
        let value = self.expr(&goal.value, &scope);
        let read = self.usage.edges.entry(None).or_default();
        self.usage.goal = read.clone();
        read.extend(before.into_iter().flatten());
        let value = value?;
        let level = self.graph.level(value);
        let span = goal.value.span;
        if level != BATCH {
            self.goal_not_scalar(&goal.value, value, level);
            return None;
        }
        if self.graph.ty(value) == Ty::Bool {
            self.error(
                "E0204",
                "the objective must be a number, but this is a truth value",
                span,
                "bool",
                "count it with a reduction: `mean(...)` of a bool is a share",
            );
            return None;
        }
        let value = self.graph.cast(value, Ty::Real);
        let loss = if *maximize { self.graph.unary(Unary::Neg, value) } else { value };
        self.graph.set_name(loss, "loss");
        if !self.depends_on_policy(loss) {
            self.error(
                "E0401",
                "the objective depends on no differentiable input",
                span,
                "computed from recorded values only, or through `detach`",
                "gradients reach the policy through `logits`, `logp`, `entropy`,\n`value` and `policy` columns. GRPO's objective is\n`seq_mean(-clipped(ratio, advantage, clip_low, clip_high))`.\nAs it stands, training would leave the policy as it is.",
            );
            return None;
        }
        Some((loss, *maximize, span))
    }

    fn goal_not_scalar(&mut self, written: &ast::Expr, value: E, level: Level) {
        let text = self.sources.slice(written.span).to_owned();
        let short = if text.len() <= 24 { text } else { "x".into() };
        let per = self.per(level);
        let mut diagnostic = Diagnostic::error(
            "E0601",
            format!("the objective must be one number, but it has {per}"),
            written.span,
            format!("{per} is left"),
            format!(
                "{per} becomes a loss in more than one way. Choose one:\n\n    token_mean({short})    DAPO: every token counts the same\n    seq_mean({short})      GRPO: every rollout counts the same\n    seq_sum({short})       long rollouts count more"
            ),
        );
        if let Some(span) = self.graph.span(value).filter(|s| *s != written.span) {
            diagnostic = diagnostic.with(span, format!("{per} here"));
        }
        self.report(diagnostic);
    }

    /// Whether gradient can reach a differentiable column.
    fn depends_on_policy(&self, root: E) -> bool {
        let mut wanted = vec![false; self.graph.len()];
        wanted[root.index()] = true;
        for e in self.graph.all().rev() {
            if !wanted[e.index()] {
                continue;
            }
            match self.graph.expr(e) {
                crate::hir::Expr::Column(c) | crate::hir::Expr::Choose(c, _, _)
                    if self.graph.columns[c.0 as usize].differentiable =>
                {
                    return true;
                }
                crate::hir::Expr::Detach(_) => continue,
                _ => {}
            }
            for o in crate::autodiff::differentiable_operands(&self.graph, e) {
                wanted[o.index()] = true;
            }
        }
        false
    }

    fn column_id(&mut self, info: ColumnInfo) -> crate::hir::ColumnId {
        let key = (info.name.clone(), info.level);
        if let Some(&id) = self.columns.get(&key) {
            return id;
        }
        let id = crate::hir::ColumnId(self.graph.columns.len() as u16);
        self.graph.columns.push(info);
        self.columns.insert(key, id);
        id
    }
}

/// A literal's number and type.
pub(crate) fn literal_value(literal: Literal) -> (f64, Ty) {
    match literal {
        Literal::Int(i) => (i as f64, Ty::Int),
        Literal::Real(r) => (r, Ty::Real),
        Literal::Bool(b) => (f64::from(u8::from(b)), Ty::Bool),
    }
}

pub(crate) fn type_of(name: TypeName) -> Ty {
    match name {
        TypeName::Real => Ty::Real,
        TypeName::Int => Ty::Int,
        TypeName::Bool => Ty::Bool,
    }
}
