//! The f64 interpreter: the meaning of a program. It computes every expression of every phase in
//! order, a whole level at a time, and a vocabulary row at a time below tokens.
//!
//! Plain by intent: no fusion, no reuse. Every back end is compared with it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::columns::Columns;
use crate::hir::{ColumnId, E, Expr, Graph, ReduceOp};
use crate::level::{Level, TOKEN, VOCAB};
use crate::program::{Phase, Program};
use crate::shape::Shape;
use crate::table::Floats;

/// Vocab-level columns: for each the rows of tokens `first..`, row-major, V entries a row.
#[derive(Debug, Clone, Copy)]
pub struct VocabRows<'a> {
    /// Numbers.
    pub data: Floats<'a>,
    /// The token that row 0 belongs to.
    pub first: usize,
}

/// One batch being computed.
pub struct Run {
    program: Arc<Program>,
    shape: Arc<Shape>,
    params: Vec<f64>,
    values: Vec<Vec<f64>>,
    needed: Vec<bool>,
    /// d(loss)/d(column) for vocab-level columns, [tokens, V] of the whole batch.
    vocab_grads: BTreeMap<ColumnId, Vec<f64>>,
}

impl Run {
    /// A run over a batch whose columns were loaded for this program.
    pub fn new(
        program: Arc<Program>,
        shape: Arc<Shape>,
        columns: &Columns,
        params: &[f64],
    ) -> Self {
        let graph = &program.graph;
        let needed = graph.reachable(program.outputs().iter().map(|o| o.1));
        let mut values = vec![Vec::new(); graph.len()];
        for e in graph.all().filter(|e| needed[e.index()]) {
            let level = graph.level(e);
            if level == VOCAB {
                continue;
            }
            values[e.index()] = match graph.expr(e) {
                Expr::Column(c) => columns.get(c).to_vec(),
                _ => vec![0.0; shape.count(level)],
            };
        }
        let defaults = graph.params.iter().map(|p| p.value);
        let params = if params.is_empty() { defaults.collect() } else { params.to_vec() };
        let vocab_grads = program
            .grads
            .iter()
            .filter(|(c, g)| g.is_some() && graph.columns[c.0 as usize].level == VOCAB)
            .map(|(c, _)| (*c, vec![0.0; shape.count(VOCAB)]))
            .collect();
        Run { program, shape, params, values, needed, vocab_grads }
    }

    /// Computes what follows from recorded values.
    pub fn recorded(&mut self, vocab: &BTreeMap<ColumnId, VocabRows<'_>>) {
        let rows = 0..self.shape.count(self.program.piece);
        self.phase(Phase::Recorded, rows, vocab);
    }

    /// Computes one piece: rows of [`Program::piece`].
    pub fn live(&mut self, piece: Range<usize>, vocab: &BTreeMap<ColumnId, VocabRows<'_>>) {
        self.phase(Phase::Live, piece.clone(), vocab);
        let tokens = self.shape.range(self.program.piece, piece, TOKEN);
        let width = self.shape.vocab;
        let program = Arc::clone(&self.program);
        for (column, grad) in &program.grads {
            let Some(grad) = grad else { continue };
            if program.graph.level(*grad) != VOCAB {
                continue;
            }
            let Some(mut out) = self.vocab_grads.remove(column) else { continue };
            let mut rows = RowEvaluator::new(&program.graph, *grad);
            for t in tokens.clone() {
                let row = rows.row(self, vocab, t);
                out[t * width..(t + 1) * width].copy_from_slice(row);
            }
            self.vocab_grads.insert(*column, out);
        }
    }

    /// Computes what needs every piece.
    pub fn after(&mut self, vocab: &BTreeMap<ColumnId, VocabRows<'_>>) {
        let rows = 0..self.shape.count(self.program.piece);
        self.phase(Phase::After, rows, vocab);
    }

    /// All three phases over the whole batch.
    pub fn whole(&mut self, vocab: &BTreeMap<ColumnId, VocabRows<'_>>) {
        self.recorded(vocab);
        self.live(0..self.shape.count(self.program.piece), vocab);
        self.after(vocab);
    }

    /// The value of an expression that is not at vocab level, one per row.
    pub fn value(&self, e: E) -> &[f64] {
        &self.values[e.index()]
    }

    /// d(loss)/d(column) over the whole batch.
    pub fn grad(&self, column: ColumnId) -> Vec<f64> {
        if let Some(grad) = self.vocab_grads.get(&column) {
            return grad.clone();
        }
        let level = self.program.graph.columns[column.0 as usize].level;
        match self.program.grads.iter().find(|g| g.0 == column) {
            Some((_, Some(e))) if level != VOCAB => self.values[e.index()].clone(),
            _ => vec![0.0; self.shape.count(level)],
        }
    }

    fn phase(
        &mut self,
        phase: Phase,
        piece: Range<usize>,
        vocab: &BTreeMap<ColumnId, VocabRows<'_>>,
    ) {
        let program = Arc::clone(&self.program);
        let graph = &program.graph;
        for e in graph.all() {
            if !self.needed[e.index()] || self.program.phase(e) != phase || graph.level(e) == VOCAB
            {
                continue;
            }
            let level = graph.level(e);
            let rows = if phase == Phase::Live {
                self.shape.range(self.program.piece, piece.clone(), level)
            } else {
                0..self.shape.count(level)
            };
            let mut out = std::mem::take(&mut self.values[e.index()]);
            self.compute(e, rows, &mut out, vocab);
            self.values[e.index()] = out;
        }
    }

    fn compute(
        &self,
        e: E,
        rows: Range<usize>,
        out: &mut [f64],
        vocab: &BTreeMap<ColumnId, VocabRows<'_>>,
    ) {
        let graph = &self.program.graph;
        let level = graph.level(e);
        let of = |x: E| self.values[x.index()].as_slice();
        match graph.expr(e) {
            // Filled in when the run began.
            Expr::Column(_) => {}
            Expr::Const(bits) => out[rows].fill(f64::from_bits(bits)),
            Expr::Param(p) => out[rows].fill(self.params[p.0 as usize]),
            Expr::Unary(op, x) => rows.for_each(|i| out[i] = op.eval(of(x)[i])),
            Expr::Binary(op, a, b) => rows.for_each(|i| out[i] = op.eval(of(a)[i], of(b)[i])),
            Expr::Select(c, a, b) => rows.for_each(|i| {
                out[i] = if of(c)[i] == 0.0 { of(b)[i] } else { of(a)[i] };
            }),
            Expr::Detach(x) | Expr::Choose(_, x, _) => {
                rows.for_each(|i| out[i] = of(x)[i]);
            }
            Expr::Broadcast(x) => {
                let parents = self.shape.parents(graph.level(x), level);
                rows.for_each(|i| out[i] = of(x)[parents[i] as usize]);
            }
            Expr::Reduce(op, x, filter) if graph.level(x) == VOCAB => {
                let mut values = RowEvaluator::new(graph, x);
                let mut keeps = filter.map(|f| RowEvaluator::new(graph, f));
                for t in rows {
                    let keep = keeps.as_mut().map(|k| k.row(self, vocab, t).to_vec());
                    let row = values.row(self, vocab, t);
                    let kept = row
                        .iter()
                        .enumerate()
                        .filter(|(i, _)| keep.as_ref().is_none_or(|k| k[*i] != 0.0))
                        .map(|(_, v)| *v);
                    out[t] = fold(op, kept);
                }
            }
            Expr::Reduce(op, x, filter) => {
                for row in rows {
                    let inside = self.shape.range(level, row..row + 1, graph.level(x));
                    let kept = inside
                        .filter(|&i| filter.is_none_or(|f| of(f)[i] != 0.0))
                        .map(|i| of(x)[i]);
                    out[row] = fold(op, kept);
                }
            }
            Expr::At(x, index) => {
                let mut values = RowEvaluator::new(graph, x);
                for t in rows {
                    let i = of(index)[t];
                    let row = values.row(self, vocab, t);
                    out[t] = if i >= 0.0 { row.get(i as usize).copied() } else { None }
                        .unwrap_or(f64::NAN);
                }
            }
            // Vocab-level, so never computed here.
            Expr::VocabIndex => {}
            Expr::Scan { x, filter, scope, reverse, exclusive } => {
                let keep = |i: usize| filter.is_none_or(|f| of(f)[i] != 0.0);
                for segment in self.segments(scope, level, rows) {
                    let mut total = 0.0;
                    let mut step = |i: usize| {
                        let before = total;
                        if keep(i) {
                            total += of(x)[i];
                        }
                        out[i] = if exclusive { before } else { total };
                    };
                    if reverse {
                        segment.rev().for_each(&mut step);
                    } else {
                        segment.for_each(&mut step);
                    }
                }
            }
            Expr::Shift { x, default, by, filter, scope } => {
                for segment in self.segments(scope, level, rows) {
                    let kept: Vec<usize> = segment
                        .clone()
                        .filter(|&i| filter.is_none_or(|f| of(f)[i] != 0.0))
                        .collect();
                    segment.for_each(|i| out[i] = 0.0);
                    for (n, &i) in kept.iter().enumerate() {
                        let to = n as i64 + i64::from(by);
                        let source = usize::try_from(to).ok().and_then(|to| kept.get(to));
                        out[i] = source.map_or(of(default)[i], |&j| of(x)[j]);
                    }
                }
            }
            Expr::Rank { x, filter, scope } => {
                for segment in self.segments(scope, level, rows) {
                    let mut kept: Vec<usize> = segment
                        .clone()
                        .filter(|&i| filter.is_none_or(|f| of(f)[i] != 0.0))
                        .collect();
                    // Stable, so ties stay in order of rows; NaN sorts last.
                    kept.sort_by(|&a, &b| order(of(x)[a], of(x)[b]));
                    segment.for_each(|i| out[i] = -1.0);
                    for (rank, &i) in kept.iter().enumerate() {
                        out[i] = rank as f64;
                    }
                }
            }
        }
    }

    /// The rows of `level` cut at the rows of `scope`.
    fn segments(&self, scope: Level, level: Level, rows: Range<usize>) -> Vec<Range<usize>> {
        if scope == level {
            return rows.map(|i| i..i + 1).collect();
        }
        let starts = self.shape.starts(scope, level);
        starts
            .windows(2)
            .map(|w| w[0] as usize..w[1] as usize)
            .filter(|s| s.start >= rows.start && s.end <= rows.end && !s.is_empty())
            .collect()
    }
}

/// The order `rank` sorts by: ascending, NaN last.
pub fn order(a: f64, b: f64) -> std::cmp::Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

fn fold(op: ReduceOp, values: impl Iterator<Item = f64> + Clone) -> f64 {
    match op {
        ReduceOp::Sum => compensated_sum(values),
        ReduceOp::Prod => values.product(),
        ReduceOp::Max => values.fold(f64::NEG_INFINITY, |a, b| crate::op::Binary::Max.eval(a, b)),
        ReduceOp::Min => values.fold(f64::INFINITY, |a, b| crate::op::Binary::Min.eval(a, b)),
        ReduceOp::LogSumExp => {
            let top =
                values.clone().fold(f64::NEG_INFINITY, |a, b| crate::op::Binary::Max.eval(a, b));
            if top.is_infinite() || top.is_nan() {
                return top;
            }
            top + libm::log(compensated_sum(values.map(|v| libm::exp(v - top))))
        }
    }
}

/// Neumaier's sum: the error of each addition is kept apart and added at the end.
fn compensated_sum(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut rest) = (0.0f64, 0.0f64);
    for v in values {
        let next = sum + v;
        if next.is_finite() {
            rest += if sum.abs() >= v.abs() { (sum - next) + v } else { (v - next) + sum };
        }
        sum = next;
    }
    sum + rest
}

/// Computes a vocab-level expression for one token at a time.
struct RowEvaluator {
    /// Vocab-level expressions the root needs, operands first.
    order: Vec<E>,
    /// Position of each in `order`.
    slot: Vec<usize>,
    rows: Vec<Vec<f64>>,
}

impl RowEvaluator {
    fn new(graph: &Graph, root: E) -> Self {
        let mut wanted = vec![false; graph.len()];
        wanted[root.index()] = true;
        for index in (0..=root.index()).rev() {
            if wanted[index] {
                for o in graph.operands(E(index as u32)) {
                    wanted[o.index()] |= graph.level(o) == VOCAB;
                }
            }
        }
        let order: Vec<E> = graph.all().filter(|e| wanted[e.index()]).collect();
        let mut slot = vec![usize::MAX; graph.len()];
        for (i, e) in order.iter().enumerate() {
            slot[e.index()] = i;
        }
        let rows = vec![Vec::new(); order.len()];
        RowEvaluator { order, slot, rows }
    }

    fn row(&mut self, run: &Run, vocab: &BTreeMap<ColumnId, VocabRows<'_>>, t: usize) -> &[f64] {
        let graph = &run.program.graph;
        let width = run.shape.vocab;
        for (n, &e) in self.order.iter().enumerate() {
            let (done, rest) = self.rows.split_at_mut(n);
            let of = |x: E| done[self.slot[x.index()]].as_slice();
            let out = &mut rest[0];
            out.clear();
            match graph.expr(e) {
                Expr::Column(c) => match vocab.get(&c) {
                    Some(rows) => {
                        let start = (t - rows.first) * width;
                        out.extend((start..start + width).map(|i| rows.data.get(i)));
                    }
                    None => out.resize(width, f64::NAN),
                },
                Expr::VocabIndex => out.extend((0..width).map(|i| i as f64)),
                Expr::Broadcast(x) => {
                    let from = graph.level(x);
                    let row =
                        if from == TOKEN { t } else { run.shape.parents(from, TOKEN)[t] as usize };
                    out.resize(width, run.values[x.index()][row]);
                }
                Expr::Unary(op, x) => out.extend(of(x).iter().map(|v| op.eval(*v))),
                Expr::Binary(op, a, b) => {
                    out.extend(of(a).iter().zip(of(b)).map(|(a, b)| op.eval(*a, *b)));
                }
                Expr::Select(c, a, b) => out
                    .extend((0..width).map(|i| if of(c)[i] == 0.0 { of(b)[i] } else { of(a)[i] })),
                Expr::Detach(x) | Expr::Choose(_, x, _) => out.extend_from_slice(of(x)),
                // The verifier lets none of these stand at vocab level.
                Expr::Const(_)
                | Expr::Param(_)
                | Expr::Reduce(..)
                | Expr::Scan { .. }
                | Expr::Shift { .. }
                | Expr::Rank { .. }
                | Expr::At(..) => out.resize(width, f64::NAN),
            }
        }
        self.rows.last().map_or(&[], Vec::as_slice)
    }
}
