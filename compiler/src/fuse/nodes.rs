//! What a program has to do, cut into nodes that are done as a whole in one loop, and what each
//! node waits for. Constants, columns, params and broadcasts are not nodes: they are read in place.

use std::collections::HashMap;

use super::Unsupported;
use super::normal::Normal;
use crate::hir::{ColumnId, E, Expr, Graph, ReduceOp};
use crate::level::{Level, TOKEN, VOCAB};
use crate::loops::Direction;
use crate::op::{Binary, Unary};
use crate::program::{Emitted, Phase, Program};

/// Handle of a node. A node waits for smaller ones only.
pub(super) type NodeId = usize;

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// Computes an expression for each row.
    Value(E),
    /// Folds an expression's operand into rows of a coarser level.
    Fold(E),
    /// Ranks rows.
    Rank(E),
    /// Writes a vocab-level gradient.
    Gradient(ColumnId, E),
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub task: Task,
    /// Level of the loop that does it.
    pub level: Level,
    pub phase: Phase,
    /// Reads its own row only, and no vocab entries.
    pub scalar: bool,
    /// Order of rows it needs, if any.
    pub direction: Option<Direction>,
    /// Must not move to a later loop: it costs a sweep, or does not pay.
    pub pinned: bool,
    /// Read when all phases have run.
    pub output: bool,
    /// Nodes it waits for.
    pub needs: Vec<NodeId>,
}

/// All nodes, and which of them make each expression's value.
pub(super) struct Nodes {
    pub list: Vec<Node>,
    /// The node after which an expression's value can be read, by its row of its level.
    pub of: HashMap<E, NodeId>,
    /// The folding node of each reduction.
    pub folds: HashMap<E, NodeId>,
    /// Scalar code so short that every loop that reads it computes it, and what it waits for.
    pub inline: HashMap<E, Inline>,
}

/// Scalar code that is not a node.
pub(super) struct Inline {
    needs: Vec<NodeId>,
    /// Operators in all.
    cost: usize,
}

/// Operators that are cheaper computed again than stored and loaded.
const INLINE_COST: usize = 3;

impl Nodes {
    /// The nodes after which these can be read.
    pub fn reads(&self, graph: &Graph, es: &[E]) -> Vec<NodeId> {
        let mut out = Vec::new();
        for e in es {
            let from = source(graph, *e);
            match self.inline.get(&from) {
                Some(inline) => out.extend(&inline.needs),
                None => out.extend(self.of.get(&from)),
            }
        }
        out.sort_unstable();
        out.dedup();
        out
    }
}

pub(super) fn nodes(program: &Program, normal: &Normal) -> Result<Nodes, Unsupported> {
    let graph = &normal.graph;
    let mut outputs = vec![false; graph.len()];
    let mut gradients: Vec<(ColumnId, E)> = Vec::new();
    for (_, e) in program.outputs() {
        if let Some(e) = normal.map[e.index()] {
            outputs[e.index()] = true;
        }
    }
    for (column, e) in &program.grads {
        if let Some(e) = e.and_then(|e| normal.map[e.index()])
            && graph.level(e) == VOCAB
        {
            outputs[e.index()] = false;
            gradients.push((*column, e));
        }
    }
    for Emitted { name, value: e, .. } in &program.values {
        if program.graph.level(*e) == VOCAB {
            return Err(Unsupported {
                what: format!("`{name}` has one value per vocab entry and cannot be kept"),
                span: program.graph.span(*e),
            });
        }
    }
    let roots = graph.all().filter(|e| outputs[e.index()]).chain(gradients.iter().map(|g| g.1));
    let needed = graph.reachable(roots.collect::<Vec<_>>());
    let mut build = Build {
        normal,
        forced: forced(graph, &needed, &outputs),
        outputs,
        done: Nodes {
            list: Vec::new(),
            of: HashMap::new(),
            folds: HashMap::new(),
            inline: HashMap::new(),
        },
        above: read_from_below(graph, &needed),
    };
    for e in graph.all().filter(|e| needed[e.index()]) {
        let through_index = match graph.expr(e) {
            Expr::Scatter { .. }
            | Expr::Gather { .. }
            | Expr::Find { .. }
            | Expr::Prefix(..)
            | Expr::Side(_)
            | Expr::Row
            | Expr::Nth(..)
            | Expr::Spread { .. } => true,
            Expr::Scan { factor, within, .. } => factor.is_some() || within.is_some(),
            Expr::Shift { within, .. } | Expr::Rank { within, .. } => within.is_some(),
            _ => false,
        };
        if through_index {
            return Err(Unsupported {
                what: "derived levels do not run on this back end yet".into(),
                span: graph.span(e),
            });
        }
        if graph.level(e) == VOCAB {
            build.check_vocab(e)?;
        } else {
            build.expression(e);
        }
    }
    for (column, e) in gradients {
        build.gradient(column, e);
    }
    Ok(build.done)
}

/// Expressions read in place that must be stored all the same: outputs, and what a rank reads.
fn forced(graph: &Graph, needed: &[bool], outputs: &[bool]) -> Vec<bool> {
    let mut forced = outputs.to_vec();
    for e in graph.all().filter(|e| needed[e.index()]) {
        if let Expr::Rank { x, filter, scope, .. } = graph.expr(e)
            && scope != graph.level(e)
        {
            for o in std::iter::once(x).chain(filter) {
                forced[o.index()] = true;
            }
        }
    }
    for e in graph.all() {
        // A column lies in memory already.
        if matches!(graph.expr(e), Expr::Column(_)) {
            forced[e.index()] = false;
        }
    }
    forced
}

/// Expressions that loops over finer levels read, so that they must be stored.
fn read_from_below(graph: &Graph, needed: &[bool]) -> Vec<bool> {
    let mut above = vec![false; graph.len()];
    for e in graph.all().filter(|e| needed[e.index()]) {
        if let Expr::Broadcast(x) = graph.expr(e)
            && (graph.level(e), graph.level(x)) != (VOCAB, TOKEN)
        {
            above[x.index()] = true;
        }
    }
    above
}

/// What a broadcast is read from; everything else is itself.
pub(super) fn source(graph: &Graph, e: E) -> E {
    if let Expr::Broadcast(x) = graph.expr(e) { x } else { e }
}

/// The token-level or coarser expressions that a vocab-level one reads.
pub(super) fn row_reads(graph: &Graph, e: E) -> Vec<E> {
    let mut seen = Vec::new();
    let mut out = Vec::new();
    let mut work = vec![e];
    while let Some(e) = work.pop() {
        if seen.contains(&e) {
            continue;
        }
        seen.push(e);
        if graph.level(e) == VOCAB && !matches!(graph.expr(e), Expr::Broadcast(_)) {
            work.extend(graph.operands(e));
        } else {
            out.push(source(graph, e));
        }
    }
    out
}

struct Build<'a> {
    normal: &'a Normal,
    forced: Vec<bool>,
    outputs: Vec<bool>,
    /// Read by loops over finer levels.
    above: Vec<bool>,
    done: Nodes,
}

impl Build<'_> {
    fn graph(&self) -> &Graph {
        &self.normal.graph
    }

    /// Vocab-level expressions are recomputed entry by entry, so each must be scalar code.
    fn check_vocab(&self, e: E) -> Result<(), Unsupported> {
        match self.graph().expr(e) {
            Expr::Scan { .. } | Expr::Shift { .. } | Expr::Rank { .. } => Err(Unsupported {
                what: format!(
                    "{} needs an order of vocab entries, which this back end does not have yet",
                    self.graph().name(e).map_or("an expression".to_owned(), |n| format!("`{n}`")),
                ),
                span: self.graph().span(e),
            }),
            Expr::Const(_)
            | Expr::Param(_)
            | Expr::Column(_)
            | Expr::Choose(..)
            | Expr::Unary(..)
            | Expr::Binary(..)
            | Expr::Select(..)
            | Expr::Broadcast(_)
            | Expr::Reduce(..)
            | Expr::Scatter { .. }
            | Expr::Gather { .. }
            | Expr::Find { .. }
            | Expr::Prefix(..)
            | Expr::Side(_)
            | Expr::Row
            | Expr::Nth(..)
            | Expr::Spread { .. }
            | Expr::At(..)
            | Expr::VocabIndex
            | Expr::Detach(_) => Ok(()),
        }
    }

    fn expression(&mut self, e: E) {
        if let Some(inline) = self.inline(e) {
            self.done.inline.insert(e, inline);
            return;
        }
        let graph = &self.normal.graph;
        let level = graph.level(e);
        let mut node = Node {
            task: Task::Value(e),
            level,
            phase: self.normal.phases[e.index()],
            scalar: matches!(graph.expr(e), Expr::Unary(..) | Expr::Binary(..) | Expr::Select(..)),
            direction: None,
            pinned: false,
            output: self.outputs[e.index()],
            needs: Vec::new(),
        };
        match graph.expr(e) {
            Expr::Const(_) | Expr::Param(_) | Expr::Broadcast(_) if !self.forced[e.index()] => {
                return;
            }
            Expr::Column(_) => return,
            Expr::Reduce(op, x, filter) if graph.level(x) != VOCAB => {
                let from: Vec<E> = std::iter::once(x).chain(filter).collect();
                let needs = self.reads(&from);
                let phase = from.iter().map(|o| self.normal.phases[source(graph, *o).index()]);
                let fold = self.push(Node {
                    task: Task::Fold(e),
                    level: graph.level(x),
                    phase: phase.max().unwrap_or(Phase::Recorded),
                    pinned: true,
                    output: node.output && op != ReduceOp::LogSumExp,
                    needs,
                    ..node.clone()
                });
                self.done.folds.insert(e, fold);
                if op != ReduceOp::LogSumExp {
                    self.done.of.insert(e, fold);
                    return;
                }
                // The maximum and the scaled sum still have to be joined.
                node.needs = vec![fold];
            }
            Expr::Reduce(_, x, _) => {
                node.pinned = true;
                node.needs = self.reads(&row_reads(graph, x));
            }
            Expr::At(x, index) => {
                let mut reads = row_reads(graph, x);
                reads.push(index);
                node.needs = self.reads(&reads);
            }
            Expr::Rank { scope, .. } if scope != level => {
                node.task = Task::Rank(e);
                node.pinned = true;
                // Its operands are stored as they stand, broadcasts too.
                node.needs =
                    graph.operands(e).filter_map(|o| self.done.of.get(&o)).copied().collect();
            }
            Expr::Scan { scope, reverse, .. } => {
                node.direction = (scope != level).then_some(if reverse {
                    Direction::Reverse
                } else {
                    Direction::Forward
                });
                node.needs = self.operands(e);
            }
            Expr::Shift { scope, by, .. } => {
                // Values from further on are met by going backwards.
                node.direction = (scope != level).then_some(if by > 0 {
                    Direction::Reverse
                } else {
                    Direction::Forward
                });
                node.needs = self.operands(e);
            }
            Expr::Const(_)
            | Expr::Param(_)
            | Expr::Choose(..)
            | Expr::Unary(..)
            | Expr::Binary(..)
            | Expr::Select(..)
            | Expr::Broadcast(_)
            | Expr::Rank { .. }
            | Expr::Scatter { .. }
            | Expr::Gather { .. }
            | Expr::Find { .. }
            | Expr::Prefix(..)
            | Expr::Side(_)
            | Expr::Row
            | Expr::Nth(..)
            | Expr::Spread { .. }
            | Expr::VocabIndex
            | Expr::Detach(_) => node.needs = self.operands(e),
        }
        let id = self.push(node);
        self.done.of.insert(e, id);
    }

    fn gradient(&mut self, column: ColumnId, e: E) {
        let needs = self.reads(&row_reads(self.graph(), e));
        let phase = self.normal.phases[e.index()];
        self.push(Node {
            task: Task::Gradient(column, e),
            level: TOKEN,
            // A gradient of 0 has no live operand, but is written where the pieces are.
            phase: phase.max(Phase::Live),
            scalar: false,
            direction: None,
            pinned: true,
            output: false,
            needs,
        });
    }

    fn operands(&self, e: E) -> Vec<NodeId> {
        self.reads(&self.graph().operands(e).collect::<Vec<_>>())
    }

    fn reads(&self, es: &[E]) -> Vec<NodeId> {
        self.done.reads(self.graph(), es)
    }

    /// Short scalar code over what lies in memory anyway.
    fn inline(&self, e: E) -> Option<Inline> {
        let graph = self.graph();
        let short = match graph.expr(e) {
            Expr::Unary(op, _) => is_cheap(op),
            Expr::Binary(op, ..) => op != Binary::Pow,
            Expr::Select(..) => true,
            Expr::Const(_)
            | Expr::Param(_)
            | Expr::Column(_)
            | Expr::Choose(..)
            | Expr::Broadcast(_)
            | Expr::Reduce(..)
            | Expr::Scan { .. }
            | Expr::Shift { .. }
            | Expr::Rank { .. }
            | Expr::Scatter { .. }
            | Expr::Gather { .. }
            | Expr::Find { .. }
            | Expr::Prefix(..)
            | Expr::Side(_)
            | Expr::Row
            | Expr::Nth(..)
            | Expr::Spread { .. }
            | Expr::At(..)
            | Expr::VocabIndex
            | Expr::Detach(_) => false,
        };
        if !short || self.forced[e.index()] || self.above[e.index()] {
            return None;
        }
        let mut cost = 1;
        for o in graph.operands(e) {
            let from = source(graph, o);
            match self.done.inline.get(&from) {
                Some(inner) => cost += inner.cost,
                None if graph.level(from) != graph.level(e) => {}
                None if matches!(graph.expr(from), Expr::Column(_)) => {}
                None => return None,
            }
        }
        let needs = self.operands(e);
        (cost <= INLINE_COST).then_some(Inline { needs, cost })
    }

    fn push(&mut self, node: Node) -> NodeId {
        self.done.list.push(node);
        self.done.list.len() - 1
    }
}

/// Whether an operator costs about as much as loading its result.
fn is_cheap(op: Unary) -> bool {
    match op {
        Unary::Neg
        | Unary::Not
        | Unary::Abs
        | Unary::Sign
        | Unary::Relu
        | Unary::Floor
        | Unary::Ceil
        | Unary::Round
        | Unary::Trunc
        | Unary::IsFinite
        | Unary::IsNan
        | Unary::Cast => true,
        Unary::Exp
        | Unary::Log
        | Unary::Log1p
        | Unary::Expm1
        | Unary::Log1mexp
        | Unary::Log2
        | Unary::Sqrt
        | Unary::Sigmoid
        | Unary::LogSigmoid
        | Unary::Tanh
        | Unary::Softplus
        | Unary::Sin
        | Unary::Cos => false,
    }
}
