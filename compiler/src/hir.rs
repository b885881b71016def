//! The typed graph every pass works on: pure expressions in an arena, handles pointing backwards.
//!
//! An expression has one value per row of its level. Operands of scalar operators stand at the
//! operator's own level; a coarser value is brought down by an explicit [`Expr::Broadcast`], a finer
//! one up by a [`Expr::Reduce`]. Filters of the program are already folded into the `filter` of
//! reductions and ordered operators. Equal expressions are one node.

mod operands;
mod parse;
mod print;
mod verify;

pub use operands::Operands;
pub use parse::{ParseError, Parsed};

use std::collections::{BTreeMap, HashMap};

use crate::level::{BATCH, Level, Levels, TOKEN, VOCAB};
use crate::op::{Binary, Ty, Unary};
use crate::source::Span;
use crate::table::{Array, Table};

/// Handle of an expression. Operands always have smaller handles than their users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct E(pub u32);

impl E {
    /// Position in the arena.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Handle of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColumnId(pub u16);

/// Handle of a hyperparameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamId(pub u16);

/// Reductions that are not built from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReduceOp {
    /// 0 of nothing.
    Sum,
    /// 1 of nothing.
    Prod,
    /// -inf of nothing (the surface language puts its own default in).
    Max,
    /// +inf of nothing.
    Min,
    /// -inf of nothing.
    LogSumExp,
}

impl ReduceOp {
    /// Name in printed graphs.
    pub fn name(self) -> &'static str {
        match self {
            ReduceOp::Sum => "sum",
            ReduceOp::Prod => "prod",
            ReduceOp::Max => "max",
            ReduceOp::Min => "min",
            ReduceOp::LogSumExp => "logsumexp",
        }
    }

    /// The value of no elements.
    pub fn identity(self) -> f64 {
        match self {
            ReduceOp::Sum => 0.0,
            ReduceOp::Prod => 1.0,
            ReduceOp::Max | ReduceOp::LogSumExp => f64::NEG_INFINITY,
            ReduceOp::Min => f64::INFINITY,
        }
    }
}

/// One expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expr {
    /// A number, by its bits. At batch level.
    Const(u64),
    /// A hyperparameter. At batch level.
    Param(ParamId),
    /// A column of the batch.
    Column(ColumnId),
    /// A column, or what the program computes in its place; gone after `specialize`.
    Choose(ColumnId, E, Prefer),
    /// Scalar operator of one operand.
    Unary(Unary, E),
    /// Scalar operator of two operands.
    Binary(Binary, E, E),
    /// `if` of a condition and two values: neither value nor gradient from the one not taken.
    Select(E, E, E),
    /// The value of the row that contains this one.
    Broadcast(E),
    /// Over the rows of x's level inside each row of this node's level where `filter` holds.
    Reduce(ReduceOp, E, Option<E>),
    /// Over the rows of x's level where `filter` holds and `index` is the number of this row. Rows
    /// of a negative index belong to none.
    Scatter {
        /// How.
        op: ReduceOp,
        /// Reduced value.
        x: E,
        /// Rows that count.
        filter: Option<E>,
        /// The row of this node's level that each row of x belongs to.
        index: E,
        /// A level of the tree that holds what meets in one row.
        scope: Level,
    },
    /// The value of x at the row that `index` names, 0 where that is negative. At index's level.
    Gather {
        /// Read value, of any level.
        x: E,
        /// Numbers of rows of x's level.
        index: E,
        /// A level of the tree that holds a row and the row it reads.
        scope: Level,
    },
    /// The first kept row of the same run whose `key` equals the `want` of this one, by its number;
    /// -1 where there is none.
    Find {
        /// What rows are found by.
        key: E,
        /// What is looked for.
        want: E,
        /// Rows that can be found.
        filter: Option<E>,
        /// Rows look among those of their row of this level,
        scope: Level,
        /// and with this among those of their element: its number, negative for none.
        within: Option<E>,
    },
    /// Rollouts of one row of `scope` share a node as long as their x agree from the start. The
    /// first row of each row's node, by its number; all rows count.
    Prefix(E, Level),
    /// The row of the paired level on the left (false) or right (true) of each pair, by its number.
    Side(bool),
    /// The row's own number, over the whole batch.
    Row,
    /// Running sum over the rows of `scope` where `filter` holds, in order or (reverse) against it;
    /// with or without (exclusive) the row itself.
    Scan {
        /// Summed value.
        x: E,
        /// Rows that count; the others see the running value.
        filter: Option<E>,
        /// What the running value is multiplied by before a counting row adds its own; 1 without.
        factor: Option<E>,
        /// The sum starts anew in each row of this level,
        scope: Level,
        /// and with this runs within the rows of each element: its number, negative for none.
        within: Option<E>,
        /// From the last row to the first.
        reverse: bool,
        /// Leaves the row itself out.
        exclusive: bool,
    },
    /// The value `by` kept rows further on in the same row of `scope` (back, when negative), or
    /// `default` where there is none. At rows that are not kept: 0.
    Shift {
        /// Shifted value.
        x: E,
        /// Value past the end.
        default: E,
        /// Rows to go; not 0.
        by: i32,
        /// Rows that count.
        filter: Option<E>,
        /// Never crosses a row of this level.
        scope: Level,
        /// The element whose rows alone are seen, as in `Scan`.
        within: Option<E>,
    },
    /// How many kept rows of the same row of `scope` come before this one when sorted by x, ties in
    /// order of rows. At rows that are not kept: -1.
    Rank {
        /// Sorted value.
        x: E,
        /// Rows that count.
        filter: Option<E>,
        /// Sorted within each row of this level.
        scope: Level,
        /// The element whose rows alone are sorted together, as in `Scan`.
        within: Option<E>,
    },
    /// Entry `index` (an int at token level or below it) of the token's vocab row x. At index's level.
    At(E, E),
    /// The entry of the vocab row x that comes n-th (from 1) when sorted by falling value, ties in
    /// order; the last for a larger n, -1 for a smaller one. At token level.
    Nth(E, E),
    /// For each vocab entry the sum of d over the rows below the token whose index names it.
    Spread {
        /// Added value, at a level below token.
        d: E,
        /// The entry it is added to.
        index: E,
    },
    /// The row's own number within its token, 0 up. At vocab level.
    VocabIndex,
    /// x without its gradient.
    Detach(E),
}

/// How [`Expr::Choose`] is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prefer {
    /// Computed where the batch has this other column (`logp` from `logits`), else the column.
    ComputedWith(ColumnId),
    /// The column where the batch has it, else computed (`position`).
    Column,
}

/// What is known of a column.
#[derive(Debug, Clone)]
pub struct ColumnInfo {
    /// Level of its rows.
    pub level: Level,
    /// Name without the level.
    pub name: String,
    /// Type of its elements.
    pub ty: Ty,
    /// Gradients are given with respect to it.
    pub differentiable: bool,
    /// Value where the batch has no such column.
    pub default: Option<f64>,
    /// Where it is declared; none for standard inputs.
    pub span: Option<Span>,
}

/// Where the numbers of a column come from, when not from a column of the batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ColumnSource {
    /// `state/name`, kept between steps: one number, or one per key.
    State {
        /// The int column whose value is a row's key.
        key: Option<ColumnId>,
        /// The value before the first update.
        first: f64,
    },
    /// A number in [0, 1) per row, from `batch/seed` and the row's number.
    Uniform,
}

/// What is known of a hyperparameter.
#[derive(Debug, Clone)]
pub struct ParamInfo {
    /// Name; members of a family have `.k` (from 1).
    pub name: String,
    /// As its literal.
    pub ty: Ty,
    /// Default.
    pub value: f64,
    /// Allowed values, ends included.
    pub range: Option<(f64, f64)>,
    /// Documentation.
    pub doc: Option<String>,
    /// Where it is declared.
    pub span: Span,
}

/// An arena of expressions with their types, levels, names and places in vectors beside it.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    exprs: Vec<Expr>,
    levels: Vec<Level>,
    tys: Vec<Ty>,
    names: Vec<Option<String>>,
    spans: Vec<Option<Span>>,
    known: HashMap<(Expr, Level, Ty), E>,
    /// The program's levels.
    pub level_table: Levels,
    /// The program's columns.
    pub columns: Vec<ColumnInfo>,
    /// The program's hyperparameters.
    pub params: Vec<ParamInfo>,
    /// Columns that are no columns of the batch.
    pub sources: BTreeMap<ColumnId, ColumnSource>,
    /// Which element of a derived level each row of its source belongs to. Only while a program is
    /// checked: afterwards every expression names the index it reads through.
    pub elements: BTreeMap<Level, E>,
}

impl Graph {
    /// An empty graph over the same levels, columns and params.
    #[must_use]
    pub fn like(other: &Graph) -> Graph {
        Graph {
            level_table: other.level_table.clone(),
            columns: other.columns.clone(),
            params: other.params.clone(),
            sources: other.sources.clone(),
            ..Graph::default()
        }
    }

    /// Number of expressions.
    pub fn len(&self) -> usize {
        self.exprs.len()
    }

    /// True without expressions.
    pub fn is_empty(&self) -> bool {
        self.exprs.is_empty()
    }

    /// All handles, operands before users.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = E> + use<> {
        (0..self.exprs.len() as u32).map(E)
    }

    /// The expression.
    pub fn expr(&self, e: E) -> Expr {
        self.exprs[e.index()]
    }

    /// Its level.
    pub fn level(&self, e: E) -> Level {
        self.levels[e.index()]
    }

    /// Its type.
    pub fn ty(&self, e: E) -> Ty {
        self.tys[e.index()]
    }

    /// The user's name for it, if one exists.
    pub fn name(&self, e: E) -> Option<&str> {
        self.names[e.index()].as_deref()
    }

    /// Where it was written.
    pub fn span(&self, e: E) -> Option<Span> {
        self.spans[e.index()]
    }

    /// Gives it a name, unless it has one.
    pub fn set_name(&mut self, e: E, name: &str) {
        let slot = &mut self.names[e.index()];
        if slot.is_none() {
            *slot = Some(name.to_owned());
        }
    }

    /// Gives it a place, unless it has one.
    pub fn set_span(&mut self, e: E, span: Span) {
        let slot = &mut self.spans[e.index()];
        if slot.is_none() {
            *slot = Some(span);
        }
    }

    /// Copies name and place from an expression of another graph.
    pub fn copy_label(&mut self, e: E, from: &Graph, of: E) {
        if let Some(name) = from.name(of) {
            self.set_name(e, name);
        }
        if let Some(span) = from.span(of) {
            self.set_span(e, span);
        }
    }

    /// Adds an expression, or finds the equal one.
    pub fn add(&mut self, expr: Expr, level: Level, ty: Ty) -> E {
        if let Some(&e) = self.known.get(&(expr, level, ty)) {
            return e;
        }
        let e = E(self.exprs.len() as u32);
        self.exprs.push(expr);
        self.levels.push(level);
        self.tys.push(ty);
        self.names.push(None);
        self.spans.push(None);
        self.known.insert((expr, level, ty), e);
        e
    }

    /// A number at batch level.
    pub fn constant(&mut self, value: f64, ty: Ty) -> E {
        self.add(Expr::Const(value.to_bits()), BATCH, ty)
    }

    /// A number at any level.
    pub fn constant_at(&mut self, value: f64, ty: Ty, level: Level) -> E {
        let c = self.constant(value, ty);
        self.broadcast(c, level)
    }

    /// A column.
    pub fn column(&mut self, id: ColumnId) -> E {
        let info = &self.columns[id.0 as usize];
        let (level, ty) = (info.level, info.ty);
        self.add(Expr::Column(id), level, ty)
    }

    /// x at a level inside its own.
    pub fn broadcast(&mut self, x: E, level: Level) -> E {
        let from = self.level(x);
        if from == level {
            return x;
        }
        let ty = self.ty(x);
        if let Some(&index) = self.elements.get(&from) {
            let at = self.level(index);
            // One side of a pair has the rows it was paired from; other elements are looked up.
            if at == level || self.level_table.rows(from) != level {
                let scope = self.level_table.tree(from);
                let x = self.add(Expr::Gather { x, index, scope }, at, ty);
                return self.broadcast(x, level);
            }
        }
        let source = match self.expr(x) {
            // A value of one side of pairs has to become one of the paired rows first.
            Expr::Broadcast(inner) if !self.level_table.is_derived(self.level(inner)) => inner,
            _ => x,
        };
        if self.level(source) == level {
            return source;
        }
        self.add(Expr::Broadcast(source), level, ty)
    }

    /// Scalar operator; the type is the operand's but for truth tests and rounding.
    pub fn unary(&mut self, op: Unary, x: E) -> E {
        let ty = match op {
            Unary::Not | Unary::IsFinite | Unary::IsNan => Ty::Bool,
            Unary::Floor | Unary::Ceil | Unary::Round | Unary::Trunc => Ty::Int,
            Unary::Neg | Unary::Abs | Unary::Sign | Unary::Relu => self.ty(x),
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
            | Unary::Cos
            | Unary::Cast => Ty::Real,
        };
        let level = self.level(x);
        self.add(Expr::Unary(op, x), level, ty)
    }

    /// The same number under another type.
    pub fn cast(&mut self, x: E, ty: Ty) -> E {
        if self.ty(x) == ty {
            return x;
        }
        let level = self.level(x);
        self.add(Expr::Unary(Unary::Cast, x), level, ty)
    }

    /// Scalar operator on operands brought to the finer of their levels, which must be nested.
    pub fn binary(&mut self, op: Binary, a: E, b: E) -> E {
        let level = self.finer(self.level(a), self.level(b));
        let (a, b) = (self.broadcast(a, level), self.broadcast(b, level));
        let both_int = self.ty(a) == Ty::Int && self.ty(b) == Ty::Int;
        let ty = if op.is_truth() {
            Ty::Bool
        } else if both_int && !matches!(op, Binary::Div | Binary::Pow | Binary::Chain) {
            Ty::Int
        } else {
            Ty::Real
        };
        self.add(Expr::Binary(op, a, b), level, ty)
    }

    /// `if`, on operands brought to the finest of their levels.
    pub fn select(&mut self, c: E, a: E, b: E) -> E {
        let level = self.finer(self.finer(self.level(c), self.level(a)), self.level(b));
        let (c, a, b) =
            (self.broadcast(c, level), self.broadcast(a, level), self.broadcast(b, level));
        let ty = if self.ty(a) == self.ty(b) { self.ty(a) } else { Ty::Real };
        self.add(Expr::Select(c, a, b), level, ty)
    }

    /// Reduction to `level`; the filter is brought to x's level.
    pub fn reduce(&mut self, op: ReduceOp, x: E, filter: Option<E>, level: Level) -> E {
        // No reduction of vocab entries crosses tokens at once.
        if self.level(x) == VOCAB && level != TOKEN {
            let per_token = self.reduce(op, x, filter, TOKEN);
            return self.reduce(op, per_token, None, level);
        }
        let filter = filter.map(|f| self.broadcast(f, self.level(x)));
        let ty = match op {
            ReduceOp::LogSumExp => Ty::Real,
            ReduceOp::Sum | ReduceOp::Prod | ReduceOp::Max | ReduceOp::Min => self.ty(x),
        };
        let expr = match self.elements.get(&level) {
            Some(&index) => {
                let index = self.broadcast(index, self.level(x));
                let scope = self.level_table.tree(level);
                Expr::Scatter { op, x, filter, index, scope }
            }
            None => Expr::Reduce(op, x, filter),
        };
        self.add(expr, level, ty)
    }

    fn finer(&self, a: Level, b: Level) -> Level {
        // Callers have checked that the levels are nested; the fallback keeps this total.
        self.level_table.meet(a, b).unwrap_or(a)
    }

    /// Which expressions `roots` need, themselves included.
    pub fn reachable(&self, roots: impl IntoIterator<Item = E>) -> Vec<bool> {
        let mut needed = vec![false; self.len()];
        for root in roots {
            needed[root.index()] = true;
        }
        for e in self.all().rev() {
            if needed[e.index()] {
                for o in self.operands(e) {
                    needed[o.index()] = true;
                }
            }
        }
        needed
    }

    /// The array of a batch file that a column is read from: `level/name`, `state/name`.
    pub fn column_path(&self, id: ColumnId) -> String {
        let info = &self.columns[id.0 as usize];
        match self.sources.get(&id) {
            None => format!("{}/{}", self.level_table.name(info.level), info.name),
            Some(ColumnSource::State { .. }) => format!("state/{}", info.name),
            Some(ColumnSource::Uniform) => "batch/seed".to_owned(),
        }
    }

    /// The array that a column is read from, where a table has it: [`Graph::column_path`] without the text.
    pub fn array<'t>(&self, id: ColumnId, table: &'t Table) -> Option<&'t Array> {
        let info = &self.columns[id.0 as usize];
        match self.sources.get(&id) {
            None => table.joined(&[self.level_table.name(info.level), "/", &info.name]),
            Some(ColumnSource::State { .. }) => table.joined(&["state/", &info.name]),
            Some(ColumnSource::Uniform) => table.get("batch/seed"),
        }
    }

    /// Whether a column is `vocab/logits`.
    pub fn is_logits(&self, id: ColumnId) -> bool {
        let info = &self.columns[id.0 as usize];
        info.level == VOCAB && info.name == "logits"
    }
}
