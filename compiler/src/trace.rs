//! Where a number stopped being finite: follows a NaN or an infinity back to the expression that
//! made it, for an error that names the definition, the rollout and the token.

use std::collections::BTreeMap;

use crate::hir::{ColumnId, E, Expr};
use crate::interp::{Run, VocabRows};
use crate::level::{BATCH, GROUP, Level, ROLLOUT, TOKEN, VOCAB};
use crate::program::Program;
use crate::shape::Shape;

/// What a finished (or, for one piece, partly finished) interpreter run is searched with.
pub struct Search<'a> {
    /// The program that ran.
    pub program: &'a Program,
    /// The batch's rows.
    pub shape: &'a Shape,
    /// The interpreter's values.
    pub run: &'a Run,
    /// The vocab-level columns it read.
    pub vocab: &'a BTreeMap<ColumnId, VocabRows<'a>>,
}

impl Search<'_> {
    /// The place where the loss stopped being finite, in words; none when it is finite.
    pub fn loss(&self) -> Option<String> {
        let value = self.run.value(self.program.loss).first().copied()?;
        if value.is_finite() {
            return None;
        }
        Some(format!("the loss is {value}: {}", self.cause(self.program.loss, 0)))
    }

    /// The first entry of a gradient that is not finite, among the given tokens.
    pub fn gradients(&self, tokens: std::ops::Range<usize>) -> Option<String> {
        for (column, grad) in &self.program.grads {
            let Some(grad) = *grad else { continue };
            let graph = &self.program.graph;
            let name = &graph.columns[column.0 as usize].name;
            let level = graph.level(grad);
            if level == VOCAB {
                let width = self.shape.vocab;
                let values = self.run.grad(*column);
                let found = values
                    .get(tokens.start * width..tokens.end * width)?
                    .iter()
                    .position(|g| !g.is_finite());
                if let Some(at) = found {
                    let token = tokens.start + at / width;
                    let value = values[token * width + at % width];
                    return Some(format!(
                        "the gradient of `{name}` is {value} at {}: {}",
                        self.place(TOKEN, token),
                        self.row_cause(grad, token)
                    ));
                }
                continue;
            }
            let values = self.run.value(grad);
            if let Some(row) = values.iter().position(|g| !g.is_finite()) {
                return Some(format!(
                    "the gradient of `{name}` is {} at {}: {}",
                    values[row],
                    self.place(level, row),
                    self.cause(grad, row)
                ));
            }
        }
        None
    }

    fn at(&self, e: E, row: usize) -> f64 {
        self.run.value(e).get(row).copied().unwrap_or(0.0)
    }

    /// Follows a value at a row to what made it.
    fn cause(&self, mut e: E, mut row: usize) -> String {
        let graph = &self.program.graph;
        let mut named = (e, row);
        loop {
            if graph.name(e).is_some() {
                named = (e, row);
            }
            if let Some(beyond) = self.beyond(e, row) {
                return beyond;
            }
            let Some((next, at)) = self.culprit(e, row) else { break };
            if graph.level(next) == VOCAB {
                return self.row_cause(next, at);
            }
            (e, row) = (next, at);
        }
        let (e, row) = named;
        let name = graph.name(e).unwrap_or("loss");
        let source = if matches!(graph.expr(e), Expr::Column(_)) { ", in the batch" } else { "" };
        let place = self.place(graph.level(e), row);
        format!("`{name}` is {} at {place}{source}", self.at(e, row))
    }

    /// What is said of an `at` whose entry the vocabulary does not have.
    fn beyond(&self, e: E, row: usize) -> Option<String> {
        let graph = &self.program.graph;
        let Expr::At(_, entry) = graph.expr(e) else { return None };
        let (entry, width) = (self.at(entry, row), self.shape.vocab);
        if entry >= 0.0 && entry < width as f64 {
            return None;
        }
        let place = self.place(graph.level(e), row);
        Some(format!(
            "`at` reads entry {entry} at {place}, but the entries go from 0 to {}",
            width - 1
        ))
    }

    /// The same from a vocab-level expression, at a token.
    fn row_cause(&self, root: E, token: usize) -> String {
        let graph = &self.program.graph;
        let needed = graph.reachable([root]);
        let width = self.shape.vocab;
        for e in graph.all().filter(|e| needed[e.index()]) {
            match graph.expr(e) {
                Expr::Column(c) if graph.level(e) == VOCAB => {
                    let Some(rows) = self.vocab.get(&c) else { continue };
                    let start = (token - rows.first) * width;
                    // -inf is a legal logit: an entry that cannot be drawn.
                    let bad = (0..width).find(|v| {
                        let x = rows.data.get(start + v);
                        x.is_nan() || x == f64::INFINITY
                    });
                    if let Some(v) = bad {
                        return format!(
                            "`{}` is {} at {}, entry {v}, in the batch",
                            graph.columns[c.0 as usize].name,
                            rows.data.get(start + v),
                            self.place(TOKEN, token)
                        );
                    }
                }
                Expr::Broadcast(x) if graph.level(e) == VOCAB => {
                    let level = graph.level(x);
                    let row = self.row_of(level, token);
                    if !self.at(x, row).is_finite() {
                        return self.cause(x, row);
                    }
                }
                _ => {}
            }
        }
        format!("the distribution at {} has no finite normaliser", self.place(TOKEN, token))
    }

    fn row_of(&self, level: Level, token: usize) -> usize {
        match level {
            TOKEN => token,
            BATCH => 0,
            _ => self.shape.parents(level, TOKEN).get(token).map_or(0, |r| *r as usize),
        }
    }

    /// The operand, and its row, that made this value not finite.
    fn culprit(&self, e: E, row: usize) -> Option<(E, usize)> {
        let graph = &self.program.graph;
        let level = graph.level(e);
        let bad = |e: E, row: usize| !self.at(e, row).is_finite();
        match graph.expr(e) {
            Expr::Const(_)
            | Expr::Param(_)
            | Expr::Column(_)
            | Expr::VocabIndex
            | Expr::Find { .. }
            | Expr::Prefix(..)
            | Expr::Side(_)
            | Expr::Row
            | Expr::Nth(..)
            | Expr::Spread { .. } => None,
            Expr::At(x, _) => {
                let token = self.shape.parents(TOKEN, level).get(row).map_or(row, |r| *r as usize);
                Some((x, token))
            }
            Expr::Gather { x, index, .. } => {
                let at = crate::interp::entry(self.at(index, row))?;
                bad(x, at).then_some((x, at))
            }
            Expr::Scatter { x, filter, index, .. } => (0..self.shape.count(graph.level(x)))
                .filter(|&i| filter.is_none_or(|f| self.at(f, i) != 0.0))
                .find(|&i| self.at(index, i) == row as f64 && bad(x, i))
                .map(|i| (x, i)),
            Expr::Broadcast(x) => {
                let from = graph.level(x);
                let same = self.shape.rows(from) == self.shape.rows(level);
                let found = self.shape.parents(from, level).get(row);
                let parent = found.map_or(if same { row } else { 0 }, |r| *r as usize);
                bad(x, parent).then_some((x, parent))
            }
            Expr::Select(c, a, b) => {
                let taken = if self.at(c, row) == 0.0 { b } else { a };
                bad(taken, row).then_some((taken, row))
            }
            Expr::Reduce(_, x, filter) => {
                if graph.level(x) == VOCAB {
                    return Some((x, row));
                }
                self.shape
                    .range(level, row..row + 1, graph.level(x))
                    .find(|&i| filter.is_none_or(|f| self.at(f, i) != 0.0) && bad(x, i))
                    .map(|i| (x, i))
            }
            Expr::Scan { x, filter, scope, .. } => self
                .scope(scope, level, row)
                .find(|&i| filter.is_none_or(|f| self.at(f, i) != 0.0) && bad(x, i))
                .map(|i| (x, i)),
            Expr::Shift { x, default, scope, .. } => {
                let inside = self.scope(scope, level, row).find(|&i| bad(x, i)).map(|i| (x, i));
                inside.or_else(|| bad(default, row).then_some((default, row)))
            }
            Expr::Unary(..)
            | Expr::Binary(..)
            | Expr::Rank { .. }
            | Expr::Detach(_)
            | Expr::Choose(..) => {
                // A NaN says more than an infinity, which may be meant.
                let operands: Vec<E> = graph.operands(e).collect();
                operands
                    .iter()
                    .find(|o| self.at(**o, row).is_nan())
                    .or_else(|| operands.iter().find(|o| bad(**o, row)))
                    .map(|o| (*o, row))
            }
        }
    }

    fn scope(&self, scope: Level, level: Level, row: usize) -> std::ops::Range<usize> {
        let parent = self.shape.parents(scope, level).get(row).map_or(0, |r| *r as usize);
        self.shape.range(scope, parent..parent + 1, level)
    }

    /// "rollout 3, token 17 (its token 2)".
    fn place(&self, level: Level, row: usize) -> String {
        let table = &self.program.graph.level_table;
        match level {
            BATCH => "the batch".to_owned(),
            GROUP | ROLLOUT => format!("{} {row}", table.name(level)),
            _ => {
                let rollout =
                    self.shape.parents(ROLLOUT, level).get(row).map_or(0, |r| *r as usize);
                let first = self.shape.range(ROLLOUT, rollout..rollout + 1, level).start;
                let name = table.name(level);
                format!("rollout {rollout}, {name} {row} (its {name} {})", row - first)
            }
        }
    }
}
