//! Hazards that are legal but nearly always wrong, and notes on what a file changes. Only files of
//! the user are looked at; `allow NAME` silences a lint in its file.

use std::collections::{BTreeMap, BTreeSet};

use crate::autodiff::carries_gradient;
use crate::diagnostic::{Diagnostic, Severity, nearest};
use crate::hir::{E, Expr, ReduceOp};
use crate::level::{BATCH, Level, ROLLOUT, TOKEN, TURN};
use crate::link::{Item, LevelItem};
use crate::op::{Binary, Unary};
use crate::source::Span;

use super::{Checker, Definition, Metric};

/// Every lint and note, by the name that `allow` takes.
pub const LINTS: &[&str] = &[
    "unused_definition",
    "param_without_effect",
    "missing_detach",
    "advantage_gradient",
    "unnormalised_ratio",
    "unmasked_condition",
    "empty_extremum",
    "two_values",
    "coupling_raised",
];

/// A value name and the position of its file.
pub(super) type Node = (String, usize);

/// Who reads whom, by name. `None` reads for the goal, a metric or a filter.
#[derive(Debug, Default)]
pub(super) struct Usage {
    pub edges: BTreeMap<Option<Node>, BTreeSet<Node>>,
    pub goal: BTreeSet<Node>,
    pub functions: BTreeSet<Node>,
    /// Names of levels of a batch that are written anywhere but where they are declared.
    pub levels: BTreeSet<String>,
}

/// A `max` or `min` without a default that may be of nothing.
#[derive(Debug)]
pub(super) struct BareExtremum {
    span: Span,
    name: String,
    /// The condition of the filter that may leave it nothing; none: its own `where`.
    filter: Option<Span>,
}

impl Usage {
    fn reached(&self, roots: impl Iterator<Item = Node>) -> BTreeSet<Node> {
        let mut seen: BTreeSet<Node> = BTreeSet::new();
        let mut open: Vec<Node> = roots.collect();
        while let Some(node) = open.pop() {
            if seen.insert(node.clone()) {
                open.extend(self.edges.get(&Some(node)).into_iter().flatten().cloned());
            }
        }
        seen
    }

    /// Names that the goal, a metric or a filter needs.
    pub fn used(&self) -> BTreeSet<Node> {
        self.reached(self.edges.get(&None).into_iter().flatten().cloned())
    }

    /// Names that the goal needs.
    pub fn reaching_goal(&self) -> BTreeSet<Node> {
        self.reached(self.goal.iter().cloned())
    }
}

impl Checker<'_> {
    /// Looks for hazards once the program is known to mean something.
    pub(super) fn lint(&mut self, loss: E, definitions: &[Definition], metrics: &[Metric]) {
        self.unused();
        self.extrema();
        self.two_values(loss);
        self.unmasked_conditions();
        let mut roots = vec![loss];
        roots.extend(definitions.iter().map(|d| d.value));
        roots.extend(metrics.iter().map(|m| m.value));
        let carries = carries_gradient(&self.graph);
        for definition in definitions {
            if definition.name == "advantage" && carries[definition.value.index()] {
                self.warn(
                    "advantage_gradient",
                    "the advantage carries gradient",
                    definition.span,
                    "follows the policy",
                    "an advantage is normally a constant weight:\n\n    advantage = detach(...)\n\nAs it stands, training also changes the policy to make the\nadvantage itself larger or smaller.",
                );
            }
        }
        self.products(loss, &carries);
        self.exponentials(loss, &carries);
    }

    fn is_user(&self, span: Span) -> bool {
        !self.sources.get(span.file).library
    }

    fn depth_of(&self, span: Span) -> usize {
        self.linked.files.iter().position(|f| *f == span.file).unwrap_or(0)
    }

    fn allowed(&self, lint: &str, span: Span) -> bool {
        self.linked.allows(self.depth_of(span), lint)
    }

    fn finding(&mut self, mut diagnostic: Diagnostic, severity: Severity) {
        let Some(span) = diagnostic.labels.first().map(|l| l.span) else { return };
        if self.is_user(span) && !self.allowed(diagnostic.code, span) {
            diagnostic.severity = severity;
            self.report(diagnostic);
        }
    }

    fn warn(
        &mut self,
        lint: &'static str,
        message: impl Into<String>,
        span: Span,
        label: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.finding(Diagnostic::warning(lint, message, span, label, help), Severity::Warning);
    }

    pub(super) fn unknown_allows(&mut self) {
        for (_, ident) in &self.linked.allows {
            let lint = &ident.name;
            if LINTS.contains(&lint.as_str()) {
                continue;
            }
            let help = match nearest(lint, LINTS.iter().copied()) {
                Some(near) => format!("did you mean `allow {near}`?"),
                None => format!("the lints are {}", LINTS.join(",\n")),
            };
            self.error(
                "E0114",
                format!("there is no lint `{lint}`"),
                ident.span,
                "not a lint",
                help,
            );
        }
    }

    fn unused(&mut self) {
        let used = self.usage.used();
        let linked = self.linked;
        for (name, entries) in &linked.values {
            let Some(entry) = entries.last() else { continue };
            if used.contains(&(name.clone(), entry.depth)) {
                continue;
            }
            let help = match &entry.item {
                Item::Def(_) => {
                    format!(
                        "let the loss read it, log it with\n`metric {name} = ...`, or delete it"
                    )
                }
                Item::Param { .. } | Item::Column { .. } | Item::State { .. } => {
                    "read it, or delete the declaration".to_owned()
                }
            };
            self.warn(
                "unused_definition",
                format!("`{name}` is never used"),
                entry.ident.span,
                "reaches neither the objective nor a metric nor a filter",
                help,
            );
        }
        for entry in &linked.levels {
            let name = &entry.ident.name;
            let (kind, unused) = match entry.item {
                LevelItem::Key(_) => ("key", !used.contains(&(format!("key {name}"), entry.depth))),
                LevelItem::Segment(_) => ("level", !self.usage.levels.contains(name)),
                LevelItem::List(_) => ("list", !self.usage.levels.contains(name)),
            };
            let table = &self.graph.level_table;
            // One that was refused has its error.
            let declared =
                table.find(name).is_some_and(|l| table.def(l).span == Some(entry.ident.span));
            if !unused || (kind != "key" && !declared) {
                continue;
            }
            let (label, help) = match entry.item {
                LevelItem::Key(_) => {
                    ("nothing that is computed is per its elements", "reduce per it, or delete it")
                }
                LevelItem::Segment(_) | LevelItem::List(_) => (
                    "no column, reduction or filter names it",
                    "declare a column of it, reduce per it, or delete it",
                ),
            };
            self.warn(
                "unused_definition",
                format!("the {kind} `{name}` is never used"),
                entry.ident.span,
                label,
                help,
            );
        }
        for (name, functions) in &linked.functions {
            let Some(function) = functions.last() else { continue };
            if !self.usage.functions.contains(&(name.clone(), function.depth)) {
                self.warn(
                    "unused_definition",
                    format!("`{name}` is never called"),
                    function.ident.span,
                    "no definition, metric or filter calls it",
                    "call it, or delete it",
                );
            }
        }
    }

    fn extrema(&mut self) {
        let mut seen = BTreeSet::new();
        for BareExtremum { span, name, filter } in std::mem::take(&mut self.bare_extrema) {
            // An inlined function's is met at every call, a definition's under every view.
            if !seen.insert((span.file, span.start, span.end)) {
                continue;
            }
            let (why, clause) = match filter {
                None => ("its `where` selects nothing", "where ..."),
                Some(_) => ("a filter leaves nothing", "per ..."),
            };
            let diagnostic = Diagnostic::warning(
                "empty_extremum",
                format!("this `{name}` is 0 where {why}"),
                span,
                "may be over no element",
                format!("say what it is then: `{name}(x, default = 0 {clause})`"),
            );
            let diagnostic = match filter {
                Some(cond) => diagnostic.with(cond, "decides what is left of its elements"),
                None => diagnostic,
            };
            self.finding(diagnostic, Severity::Warning);
        }
    }

    /// Keeps a `max` or `min` without a default where it may be of nothing: under a `where`, or where a filter of the
    /// user's may leave an element of the result's level without any of its own. The library's filters keep what the
    /// policy wrote, which is never nothing in a rollout worth having.
    pub(super) fn bare_extremum(
        &mut self,
        name: &str,
        span: Span,
        selects: bool,
        (from, to): (Level, Level),
        view: usize,
    ) {
        let filter = if selects {
            None
        } else {
            // An empty batch has no loss either, and a derived level has no empty elements.
            if to == BATCH || self.keys.exists(to).is_some() {
                return;
            }
            let table = &self.graph.level_table;
            let emptying = self.filters.iter().find(|(depth, at, _, _, cond)| {
                *depth < view
                    && self.is_user(*cond)
                    && table.contains(*at, from)
                    && !table.contains(*at, to)
            });
            let Some(found) = emptying else { return };
            Some(found.4)
        };
        self.bare_extrema.push(BareExtremum { span, name: name.to_owned(), filter });
    }

    /// A definition that a filter reads before the table is filtered and the loss after it.
    fn two_values(&mut self, loss: E) {
        let last = self.linked.files.len();
        let needed = self.graph.reachable([loss]);
        let mut found = Vec::new();
        for ((name, depth, view), value) in &self.values {
            let final_value = self.values.get(&(name.clone(), *depth, last)).copied().flatten();
            let (Some(early), Some(late)) = (*value, final_value) else { continue };
            if *view < last
                && early != late
                && needed[late.index()]
                && let Some(entry) = self.linked.value(name).filter(|e| e.depth == *depth)
            {
                found.push((name.clone(), entry.ident.span, *view));
            }
        }
        found.sort();
        for (name, span, view) in found {
            let filter = self.linked.filters.iter().find(|f| f.depth == view);
            let Some(at) = filter.map(|f| f.cond.span) else { continue };
            let diagnostic = Diagnostic::note(
                "two_values",
                format!("`{name}` has one value in this filter and another in the loss"),
                at,
                "sees the table before this filter",
                "to use the unfiltered value in both, select in the loss instead:\nwrite `where` in its reductions. Silence this with `allow two_values`".to_string(),
            )
            .with(span, "the loss sees it after the filter");
            self.finding(diagnostic, Severity::Note);
        }
    }

    /// A filter that averages over tokens the policy did not write.
    fn unmasked_conditions(&mut self) {
        let mut found = Vec::new();
        for &(_, _, cond, _, span) in &self.filters {
            let needed = self.graph.reachable([cond]);
            for e in self.graph.all().filter(|e| needed[e.index()]) {
                let Expr::Reduce(_, x, filter) = self.graph.expr(e) else { continue };
                let counts = crate::simplify::constant_of(&self.graph, x).is_some();
                if self.graph.level(x) != TOKEN || self.graph.level(e) == TOKEN || counts {
                    continue;
                }
                let masked = filter.is_some_and(|f| self.reads_mask(f)) || self.reads_mask(x);
                if !masked {
                    let inner = self.graph.span(e).filter(|s| s.file == span.file);
                    found.push((inner.unwrap_or(span), span));
                    break;
                }
            }
        }
        for (span, cond) in found {
            let diagnostic = Diagnostic::warning(
                "unmasked_condition",
                "this filter reduces over tokens that the policy did not write",
                span,
                "counts masked tokens too",
                "add `where mask` to the reduction, or write the filter in a file\nthat extends one with `keep token where loss_mask`",
            );
            let diagnostic =
                if cond == span { diagnostic } else { diagnostic.with(cond, "of this condition") };
            self.finding(diagnostic, Severity::Warning);
        }
    }

    fn reads_mask(&self, root: E) -> bool {
        let needed = self.graph.reachable([root]);
        self.graph.all().any(|e| {
            needed[e.index()]
                && matches!(self.graph.expr(e), Expr::Column(c) if self.graph.columns[c.0 as usize].name == "mask")
        })
    }

    /// `weight * advantage * logp` where the weight follows the policy as well.
    fn products(&mut self, loss: E, carries: &[bool]) {
        let exponential = self.exponential();
        let needed = self.graph.reachable([loss]);
        let inner: BTreeSet<E> = self
            .graph
            .all()
            .filter(|e| matches!(self.graph.expr(*e), Expr::Binary(Binary::Mul, ..)))
            .flat_map(|e| self.graph.operands(e))
            .collect();
        for e in self.graph.all().filter(|e| needed[e.index()] && !inner.contains(e)) {
            if !matches!(self.graph.expr(e), Expr::Binary(Binary::Mul, ..)) {
                continue;
            }
            let mut factors = Vec::new();
            self.factors(e, &mut factors);
            if factors.len() < 2 {
                continue;
            }
            let score = factors.iter().copied().find(|f| self.is_logp(*f));
            let weight = factors
                .iter()
                .copied()
                .find(|f| Some(*f) != score && carries[f.index()] && exponential[f.index()]);
            let (Some(score), Some(weight), Some(span)) = (score, weight, self.graph.span(e))
            else {
                continue;
            };
            let weight_name =
                self.graph.name(weight).map_or("its weight".to_owned(), |n| format!("`{n}`"));
            let written = self
                .graph
                .span(weight)
                .map_or("weight".to_owned(), |s| super::expr::shorten(self.sources.slice(s)));
            let mut diagnostic = Diagnostic::warning(
                "missing_detach",
                format!("the policy gets a gradient through {weight_name} as well as `logp`"),
                span,
                "a product of two values that follow the policy",
                format!(
                    "an importance weight beside `logp` is normally held constant:\n\n    detach({written})\n\nIf both are meant, write `allow missing_detach`."
                ),
            );
            for (part, text) in [(weight, "follows the policy"), (score, "follows the policy too")]
            {
                if let Some(at) =
                    self.graph.span(part).filter(|s| s.file == span.file && *s != span)
                {
                    diagnostic = diagnostic.with(at, text);
                }
            }
            self.finding(diagnostic, Severity::Warning);
        }
    }

    fn factors(&self, root: E, out: &mut Vec<E>) {
        let mut open = vec![root];
        while let Some(e) = open.pop() {
            match self.graph.expr(e) {
                // A product of many equal factors doubles with each sharing: a few are enough.
                Expr::Binary(Binary::Mul, a, b) if out.len() + open.len() < 64 => {
                    open.extend([b, a]);
                }
                Expr::Unary(Unary::Neg, x) | Expr::Broadcast(x) => open.push(x),
                _ => out.push(e),
            }
        }
    }

    fn is_logp(&self, e: E) -> bool {
        match self.graph.expr(e) {
            Expr::Column(c) | Expr::Choose(c, ..) => {
                self.graph.columns[c.0 as usize].name == "logp"
            }
            _ => false,
        }
    }

    /// Which expressions are an exp of something, not counting what `detach` or `logp` hide.
    fn exponential(&self) -> Vec<bool> {
        let mut found = vec![false; self.graph.len()];
        for e in self.graph.all() {
            found[e.index()] = match self.graph.expr(e) {
                Expr::Detach(_) | Expr::Choose(..) | Expr::Column(_) => false,
                Expr::Unary(Unary::Exp, _) => true,
                _ => self.graph.operands(e).any(|o| found[o.index()]),
            };
        }
        found
    }

    /// A sum over the tokens of a turn or rollout, or the difference of two.
    fn sums_tokens(&self, x: E) -> bool {
        match self.graph.expr(x) {
            Expr::Reduce(ReduceOp::Sum, y, _) => {
                [ROLLOUT, TURN].contains(&self.graph.level(x)) && self.graph.level(y) == TOKEN
            }
            Expr::Binary(Binary::Sub, a, b) => self.sums_tokens(a) && self.sums_tokens(b),
            _ => false,
        }
    }

    /// exp of a sum, not a mean, of log-ratios over tokens.
    fn exponentials(&mut self, loss: E, carries: &[bool]) {
        let needed = self.graph.reachable([loss]);
        let mut found = Vec::new();
        for e in self.graph.all().filter(|e| needed[e.index()] && carries[e.index()]) {
            let Expr::Unary(Unary::Exp, x) = self.graph.expr(e) else { continue };
            if self.sums_tokens(x)
                && let Some(span) = self.graph.span(e)
            {
                found.push((span, self.graph.span(x)));
            }
        }
        for (span, sum) in found {
            let mut diagnostic = Diagnostic::warning(
                "unnormalised_ratio",
                "this ratio grows and shrinks with the length of the text",
                span,
                "exp of a sum over tokens",
                "a sum over a few hundred tokens leaves the range where clipping\nmeans anything. GSPO takes the mean:\n\n    exp(mean(logp - old_logp per rollout))",
            );
            if let Some(sum) = sum.filter(|s| s.file == span.file && *s != span) {
                diagnostic = diagnostic.with(sum, "not divided by their number");
            }
            self.finding(diagnostic, Severity::Warning);
        }
    }

    /// Params of base files that no longer reach the loss, given those that did not before.
    pub(super) fn params_without_effect(&mut self) {
        let linked = self.linked;
        let last = linked.files.len() - 1;
        let Some(&root) = linked.files.last() else { return };
        if self.sources.get(root).library {
            return;
        }
        let now = self.usage.reaching_goal();
        let mut found: Vec<(Span, Vec<String>)> = Vec::new();
        for (name, entries) in &linked.values {
            let Some(entry) = entries.last() else { continue };
            let inherited = entry.depth > 0 && entry.depth < last;
            if !inherited || !matches!(entry.item, Item::Param { .. }) {
                continue;
            }
            let node = (name.clone(), entry.depth);
            if now.contains(&node) || !self.reached_before(&node) {
                continue;
            }
            // The place to look at is this file's definition that replaced the one that read it.
            let reader = linked.values.iter().find(|(other, entries)| {
                let replaced = entries.iter().rev().find(|e| e.depth < last);
                entries.last().is_some_and(|e| e.depth == last)
                    && replaced.is_some_and(|e| {
                        let from = ((*other).clone(), e.depth);
                        self.usage.reached([from].into_iter()).contains(&node)
                    })
            });
            let span = reader
                .and_then(|(_, entries)| entries.last())
                .map_or(Span { file: root, start: 0, end: 0 }, |e| e.ident.span);
            match found.iter_mut().find(|f: &&mut (Span, Vec<String>)| f.0 == span) {
                Some((_, names)) => names.push(format!("`{name}`")),
                None => found.push((span, vec![format!("`{name}`")])),
            }
        }
        for (span, names) in found {
            let (list, plural) = (names.join(", "), names.len() > 1);
            let diagnostic = Diagnostic::note(
                "param_without_effect",
                if plural {
                    format!("the inherited params {list} no longer reach the loss")
                } else {
                    format!("the inherited param {list} no longer reaches the loss")
                },
                span,
                "replaces what read it",
                "setting it changes nothing here; that is fine if it is meant.\n`allow param_without_effect` silences this",
            );
            self.finding(diagnostic, Severity::Note);
        }
    }

    /// Whether the goal reached a param in the base program: through the meanings that this file
    /// replaces.
    fn reached_before(&mut self, node: &Node) -> bool {
        let linked = self.linked;
        let last = linked.files.len() - 1;
        // Evaluating the replaced meanings adds their edges.
        for entries in linked.values.values() {
            if entries.last().is_some_and(|e| e.depth == last)
                && let Some(replaced) = entries.iter().rev().find(|e| e.depth < last)
            {
                let quiet = self.diagnostics.len();
                let bare = self.bare_extrema.len();
                self.entry(replaced, linked.files.len(), replaced.ident.span);
                self.diagnostics.truncate(quiet);
                self.bare_extrema.truncate(bare);
            }
        }
        linked.values.iter().any(|(name, entries)| {
            let replaced = entries.iter().rev().find(|e| e.depth < last);
            let own = entries.last().is_some_and(|e| e.depth == last);
            own && replaced.is_some_and(|e| {
                self.usage.reached([(name.clone(), e.depth)].into_iter()).contains(node)
            })
        })
    }
}
