//! `sample weight` and `sample rollouts`: what a batch says about how prompts are drawn next. Outputs
//! like the updates of states: once per batch, over the whole table, one value per group.

use crate::diagnostic::Diagnostic;
use crate::hir::E;
use crate::level::GROUP;
use crate::op::Ty;
use crate::source::Span;

use super::{Checker, Scope};

/// What a `sample` statement sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SampleKind {
    /// How likely a prompt is to be drawn again.
    Weight,
    /// How many rollouts it gets next.
    Rollouts,
}

impl SampleKind {
    /// The word after `sample`.
    pub fn name(self) -> &'static str {
        match self {
            SampleKind::Weight => "weight",
            SampleKind::Rollouts => "rollouts",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            SampleKind::Weight => "weight",
            SampleKind::Rollouts => "number of rollouts",
        }
    }
}

/// A `sample` statement.
#[derive(Debug, Clone)]
pub struct Sample {
    /// What it sets.
    pub kind: SampleKind,
    /// One value per group: real for a weight, int for rollouts.
    pub value: E,
    /// Groups that filters keep; of the others nothing new is known. None: all.
    pub kept: Option<E>,
    /// Place of the word after `sample`.
    pub span: Span,
    /// Position of its file.
    pub depth: usize,
}

impl Checker<'_> {
    /// The program's `sample` statements, in order of first appearance.
    pub(super) fn samples(&mut self, view: usize) -> Vec<Sample> {
        let linked = self.linked;
        let mut out = Vec::new();
        for sample in &linked.samples {
            let kind = match sample.ident.name.as_str() {
                "weight" => SampleKind::Weight,
                "rollouts" => SampleKind::Rollouts,
                // The parser refused every other word.
                _ => continue,
            };
            let scope = Scope { view, ..Scope::default() };
            let Some(value) = self.expr(&sample.value, &scope) else { continue };
            let span = sample.value.span;
            if !self.fits_sample(kind, value, span, sample.ident.span) {
                continue;
            }
            let value = match kind {
                SampleKind::Weight => self.graph.cast(value, Ty::Real),
                SampleKind::Rollouts => value,
            };
            let value = self.graph.broadcast(value, GROUP);
            let kept = self.filter(GROUP, view, None);
            out.push(Sample { kind, value, kept, span: sample.ident.span, depth: sample.depth });
        }
        out
    }

    fn fits_sample(&mut self, kind: SampleKind, value: E, span: Span, word: Span) -> bool {
        let level = self.graph.level(value);
        let written = super::expr::shorten(self.sources.slice(span));
        let name = kind.name();
        if !self.graph.level_table.contains(level, GROUP) {
            let at = self.per(level);
            let reduction = match kind {
                SampleKind::Weight => format!("mean({written} per group)"),
                SampleKind::Rollouts => format!("max({written} per group)"),
            };
            let diagnostic = Diagnostic::error(
                "E0505",
                format!("`sample {name}` is finer than a group"),
                span,
                at,
                format!(
                    "a prompt has one {}. Reduce it:\n`sample {name} = {reduction}`",
                    kind.noun()
                ),
            )
            .with(word, "one value per group, or for the batch");
            self.report(diagnostic);
            return false;
        }
        if self.expect_number(value, span).is_none() {
            return false;
        }
        if kind == SampleKind::Rollouts && self.graph.ty(value) != Ty::Int {
            self.error(
                "E0204",
                "a number of rollouts is a whole number",
                span,
                "real",
                format!(
                    "round it up, so that no prompt is left with less than it asks\nfor, or to the nearest:\n\n    sample rollouts = ceil({written})\n    sample rollouts = round({written})"
                ),
            );
            return false;
        }
        true
    }
}
