//! Vocab-level expressions, one token's row at a time.

use super::{Run, Vocab, entry};
use crate::hir::{E, Expr, Graph};
use crate::level::{TOKEN, VOCAB};

/// Computes a vocab-level expression for one token at a time.
pub(super) struct RowEvaluator {
    /// Vocab-level expressions the root needs, operands first.
    order: Vec<E>,
    /// Position of each in `order`.
    slot: Vec<usize>,
    rows: Vec<Vec<f64>>,
}

impl RowEvaluator {
    pub(super) fn new(graph: &Graph, root: E) -> Self {
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

    pub(super) fn row(&mut self, run: &Run, vocab: &Vocab<'_>, t: usize) -> &[f64] {
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
                Expr::Spread { d, index } => {
                    out.resize(width, 0.0);
                    for row in run.shape.range(TOKEN, t..t + 1, graph.level(d)) {
                        let at = run.values[index.index()][row];
                        if let Some(sum) = entry(at).and_then(|i| out.get_mut(i)) {
                            *sum += run.values[d.index()][row];
                        }
                    }
                }
                // The verifier lets none of these stand at vocab level.
                Expr::Const(_)
                | Expr::Param(_)
                | Expr::Reduce(..)
                | Expr::Scatter { .. }
                | Expr::Gather { .. }
                | Expr::Find { .. }
                | Expr::Prefix(..)
                | Expr::Side(_)
                | Expr::Row
                | Expr::Scan { .. }
                | Expr::Shift { .. }
                | Expr::Rank { .. }
                | Expr::Nth(..)
                | Expr::At(..) => out.resize(width, f64::NAN),
            }
        }
        self.rows.last().map_or(&[], Vec::as_slice)
    }
}
