//! The f64 interpreter: the meaning of a program. It computes every expression of every phase in
//! order, a whole level at a time, and a vocabulary row at a time below tokens.
//!
//! Plain by intent: no fusion, no reuse. Every back end is compared with it.

mod row;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use crate::columns::Columns;
use crate::hir::{ColumnId, E, Expr, ReduceOp};
use crate::level::{BATCH, Level, ROLLOUT, TOKEN, VOCAB};
use crate::program::{Phase, Program};
use crate::shape::Shape;
use crate::table::Floats;
use crate::workers;

use row::RowEvaluator;

/// Vocab-level columns: for each the rows of tokens `first..`, row-major, V entries a row.
#[derive(Debug, Clone, Copy)]
pub struct VocabRows<'a> {
    /// Numbers.
    pub data: Floats<'a>,
    /// The token that row 0 belongs to.
    pub first: usize,
}

/// The vocab-level columns of a batch, or of a piece of it.
#[derive(Debug, Clone, Default)]
pub struct Vocab<'a>(Vec<(ColumnId, VocabRows<'a>)>);

impl<'a> Vocab<'a> {
    /// Puts a column in, in place of what it had.
    pub fn insert(&mut self, id: ColumnId, rows: VocabRows<'a>) {
        match self.0.iter_mut().find(|(have, _)| *have == id) {
            Some((_, there)) => *there = rows,
            None => self.0.push((id, rows)),
        }
    }

    /// A column's rows.
    pub fn get(&self, id: &ColumnId) -> Option<&VocabRows<'a>> {
        self.0.iter().find(|(have, _)| have == id).map(|(_, rows)| rows)
    }

    /// Whether a column is there.
    pub fn contains(&self, id: &ColumnId) -> bool {
        self.get(id).is_some()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &(ColumnId, VocabRows<'a>)> {
        self.0.iter()
    }

    /// Their memory, for columns that lie elsewhere.
    #[must_use]
    pub fn emptied<'b>(self) -> Vocab<'b> {
        Vocab(emptied(self.0))
    }
}

impl<'a> FromIterator<(ColumnId, VocabRows<'a>)> for Vocab<'a> {
    fn from_iter<I: IntoIterator<Item = (ColumnId, VocabRows<'a>)>>(columns: I) -> Self {
        let mut out = Vocab::default();
        columns.into_iter().for_each(|(id, rows)| out.insert(id, rows));
        out
    }
}

/// The memory of a vector, for elements that differ in what they borrow: collecting goes in place.
pub fn emptied<A, B>(mut from: Vec<A>) -> Vec<B> {
    from.clear();
    from.into_iter().filter_map(|_| None).collect()
}

/// One batch being computed.
pub struct Run {
    program: Arc<Program>,
    shape: Arc<Shape>,
    params: Vec<f64>,
    values: Vec<Vec<f64>>,
    needed: Vec<bool>,
    /// How many crossings come before each expression.
    ready: Vec<u32>,
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
        let rounds = workers::rounds(graph);
        let crossed = |e: E| rounds[e.index()] - u32::from(workers::crosses(graph, e).is_some());
        let ready = graph.all().map(crossed).collect();
        Run { program, shape, params, values, needed, ready, vocab_grads }
    }

    /// Computes what follows from recorded values.
    pub fn recorded(&mut self, vocab: &Vocab<'_>) {
        self.phase(Phase::Recorded, 0..0, vocab);
    }

    /// Computes one piece: rows of [`Program::piece`].
    pub fn live(&mut self, piece: Range<usize>, vocab: &Vocab<'_>) {
        self.phase(Phase::Live, piece.clone(), vocab);
        self.gradients(piece, vocab);
    }

    /// Gradients of vocab-level columns for one piece, once its live phase has run.
    pub fn gradients(&mut self, piece: Range<usize>, vocab: &Vocab<'_>) {
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
    pub fn after(&mut self, vocab: &Vocab<'_>) {
        self.phase(Phase::After, 0..0, vocab);
    }

    /// All three phases over the whole batch.
    pub fn whole(&mut self, vocab: &Vocab<'_>) {
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

    fn phase(&mut self, phase: Phase, piece: Range<usize>, vocab: &Vocab<'_>) {
        for round in self.rounds(phase) {
            self.round(phase, round, piece.clone(), vocab);
        }
    }

    /// The rounds of a phase, in order; see [`crate::workers`].
    pub fn rounds(&self, phase: Phase) -> Vec<u32> {
        let of = |e: &E| self.needed[e.index()] && self.program.phase(*e) == phase;
        let mut rounds: Vec<u32> =
            self.program.graph.all().filter(of).map(|e| self.ready[e.index()]).collect();
        rounds.sort_unstable();
        rounds.dedup();
        rounds
    }

    /// Computes one round of a phase over the whole batch, or in the live phase over one piece, and
    /// gives what workers have to merge before the next round.
    pub fn round(
        &mut self,
        phase: Phase,
        round: u32,
        piece: Range<usize>,
        vocab: &Vocab<'_>,
    ) -> Vec<(E, ReduceOp)> {
        let program = Arc::clone(&self.program);
        let graph = &program.graph;
        let mut crossing = Vec::new();
        for e in graph.all() {
            let here = self.program.phase(e) == phase && self.ready[e.index()] == round;
            if !self.needed[e.index()] || !here || graph.level(e) == VOCAB {
                continue;
            }
            crossing.extend(workers::crosses(graph, e).map(|op| (e, op)));
            let piece = if phase == Phase::Live {
                (self.program.piece, piece.clone())
            } else {
                (BATCH, 0..1)
            };
            let mut out = std::mem::take(&mut self.values[e.index()]);
            self.compute(e, piece, &mut out, vocab);
            self.values[e.index()] = out;
        }
        crossing
    }

    /// Puts the number that the workers' parts came to in place of this worker's.
    pub fn merged(&mut self, e: E, value: f64) {
        self.values[e.index()].fill(value);
    }

    fn compute(&self, e: E, piece: (Level, Range<usize>), out: &mut [f64], vocab: &Vocab<'_>) {
        let graph = &self.program.graph;
        let level = graph.level(e);
        let of = |x: E| self.values[x.index()].as_slice();
        let rows_of = |l: Level| self.shape.range(piece.0, piece.1.clone(), l);
        let rows = rows_of(level);
        let kept = |filter: Option<E>, i: usize| filter.is_none_or(|f| of(f)[i] != 0.0);
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
            Expr::Broadcast(x) if self.shape.rows(graph.level(x)) == self.shape.rows(level) => {
                rows.for_each(|i| out[i] = of(x)[i]);
            }
            Expr::Broadcast(x) => {
                let parents = self.shape.parents(graph.level(x), level);
                rows.for_each(|i| out[i] = of(x)[parents[i] as usize]);
            }
            Expr::Gather { x, index, .. } => {
                rows.for_each(|i| {
                    let at = entry(of(index)[i]).and_then(|at| of(x).get(at));
                    out[i] = at.copied().unwrap_or(0.0);
                });
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
                    out[row] = fold(op, inside.filter(|&i| kept(filter, i)).map(|i| of(x)[i]));
                }
            }
            Expr::Scatter { op, x, filter, index, .. } => {
                let mut inside: HashMap<usize, Vec<f64>> = HashMap::new();
                for i in rows_of(graph.level(x)).filter(|&i| kept(filter, i)) {
                    if let Some(row) = entry(of(index)[i]) {
                        inside.entry(row).or_default().push(of(x)[i]);
                    }
                }
                rows.for_each(|row| {
                    let values = inside.get(&row).map_or(&[][..], Vec::as_slice);
                    out[row] = fold(op, values.iter().copied());
                });
            }
            Expr::At(x, index) => {
                let mut values = RowEvaluator::new(graph, x);
                for t in rows_of(TOKEN) {
                    let inside = self.shape.range(TOKEN, t..t + 1, level);
                    if inside.is_empty() {
                        continue;
                    }
                    let row = values.row(self, vocab, t);
                    for i in inside {
                        let found = entry(of(index)[i]).and_then(|i| row.get(i));
                        out[i] = found.copied().unwrap_or(f64::NAN);
                    }
                }
            }
            Expr::Nth(x, n) => {
                let mut values = RowEvaluator::new(graph, x);
                for t in rows {
                    out[t] = nth(values.row(self, vocab, t), of(n)[t]);
                }
            }
            // Vocab-level, so never computed here.
            Expr::VocabIndex | Expr::Spread { .. } => {}
            Expr::Row => rows.for_each(|i| out[i] = i as f64),
            Expr::Side(right) => {
                let side = self.shape.side(level, right);
                rows.for_each(|i| out[i] = f64::from(side[i]));
            }
            Expr::Find { key, want, filter, scope, within } => {
                for run in self.runs(scope, within, level, rows.clone(), out, -1.0) {
                    let mut first: HashMap<u64, usize> = HashMap::new();
                    for &i in run.iter().filter(|&&i| kept(filter, i)) {
                        first.entry(bits(of(key)[i])).or_insert(i);
                    }
                    for i in run {
                        let found = first.get(&bits(of(want)[i]));
                        out[i] = found.map_or(-1.0, |&j| j as f64);
                    }
                }
            }
            Expr::Prefix(x, scope) => {
                for run in self.runs(scope, None, level, rows, out, -1.0) {
                    let rollouts = self.shape.parents(ROLLOUT, level);
                    // A node by its parent, none at the start, and the number that led here.
                    let mut nodes: HashMap<(Option<usize>, u64), usize> = HashMap::new();
                    let mut last: Option<usize> = None;
                    for i in run {
                        let same = last.filter(|&l| rollouts[l] == rollouts[i]);
                        let above = same.map(|l| out[l] as usize);
                        let node = *nodes.entry((above, bits(of(x)[i]))).or_insert(i);
                        out[i] = node as f64;
                        last = Some(i);
                    }
                }
            }
            Expr::Scan { x, filter, factor, scope, within, reverse, exclusive } => {
                for mut run in self.runs(scope, within, level, rows, out, 0.0) {
                    let mut total = 0.0;
                    if reverse {
                        run.reverse();
                    }
                    for i in run {
                        let before = total;
                        if kept(filter, i) {
                            total = of(x)[i] + factor.map_or(total, |f| of(f)[i] * total);
                        }
                        out[i] = if exclusive { before } else { total };
                    }
                }
            }
            Expr::Shift { x, default, by, filter, scope, within } => {
                for run in self.runs(scope, within, level, rows, out, 0.0) {
                    for &i in &run {
                        out[i] = 0.0;
                    }
                    let kept: Vec<usize> = run.into_iter().filter(|&i| kept(filter, i)).collect();
                    for (n, &i) in kept.iter().enumerate() {
                        let to = n as i64 + i64::from(by);
                        let source = usize::try_from(to).ok().and_then(|to| kept.get(to));
                        out[i] = source.map_or(of(default)[i], |&j| of(x)[j]);
                    }
                }
            }
            Expr::Rank { x, filter, scope, within } => {
                for run in self.runs(scope, within, level, rows, out, -1.0) {
                    for &i in &run {
                        out[i] = -1.0;
                    }
                    let mut kept: Vec<usize> =
                        run.into_iter().filter(|&i| kept(filter, i)).collect();
                    // Stable, so ties stay in order of rows; NaN sorts last.
                    kept.sort_by(|&a, &b| order(of(x)[a], of(x)[b]));
                    for (rank, &i) in kept.iter().enumerate() {
                        out[i] = rank as f64;
                    }
                }
            }
        }
    }

    /// The rows that an ordered operator goes along: those of each row of `scope`, and of them those
    /// of each element of `within`. Rows of no element are in none and get `outside`.
    fn runs(
        &self,
        scope: Level,
        within: Option<E>,
        level: Level,
        rows: Range<usize>,
        out: &mut [f64],
        outside: f64,
    ) -> Vec<Vec<usize>> {
        let segments = self.segments(scope, level, rows);
        let Some(within) = within else {
            return segments.into_iter().map(Iterator::collect).collect();
        };
        let mut runs: Vec<Vec<usize>> = Vec::new();
        for segment in segments {
            let mut of: HashMap<usize, usize> = HashMap::new();
            for i in segment {
                let Some(element) = entry(self.values[within.index()][i]) else {
                    out[i] = outside;
                    continue;
                };
                let run = *of.entry(element).or_insert_with(|| {
                    runs.push(Vec::new());
                    runs.len() - 1
                });
                runs[run].push(i);
            }
        }
        runs
    }

    /// The rows of `level` cut at the rows of `scope`.
    fn segments(&self, scope: Level, level: Level, rows: Range<usize>) -> Vec<Range<usize>> {
        if self.shape.rows(scope) == self.shape.rows(level) {
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

/// A number as an index; none for negative and broken ones.
pub fn entry(index: f64) -> Option<usize> {
    (index >= 0.0 && index.fract() == 0.0).then_some(index as usize)
}

/// Equal numbers have equal bits: zeros are one.
pub fn bits(x: f64) -> u64 {
    (x + 0.0).to_bits()
}

/// The index of the n-th largest number, ties in order, NaN last; see [`Expr::Nth`].
pub fn nth(row: &[f64], n: f64) -> f64 {
    if n.is_nan() || n < 1.0 || row.is_empty() {
        return -1.0;
    }
    let place = (n as usize).min(row.len()) - 1;
    let mut by_value: Vec<u32> = (0..row.len() as u32).collect();
    let falling = |a: &u32, b: &u32| {
        let (x, y) = (row[*a as usize], row[*b as usize]);
        x.is_nan().cmp(&y.is_nan()).then(order(y, x)).then(a.cmp(b))
    };
    let (_, found, _) = by_value.select_nth_unstable_by(place, falling);
    f64::from(*found)
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
