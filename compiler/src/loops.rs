//! The loop form of a program: what a back end prints, one function per loop.
//!
//! A [`Plan`] has a list of steps for each phase. A loop runs over rows of one level and holds
//! scalar code in single-assignment form; a loop over tokens may hold [`Sweep`]s over the row's
//! vocab entries. What crosses loops lies in [`Slot`]s. Nothing here knows how the steps were found
//! (see [`crate::fuse`]) or how they are executed, and no vocab-level value but a gradient has a slot.

mod print;
mod verify;

use crate::hir::{ColumnId, E, ParamId, ReduceOp};
use crate::level::{BATCH, Level, Levels};
use crate::op::{Binary, Unary};
use crate::program::Phase;

/// A value of one loop: per row, or inside a sweep per entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct V(pub u32);

impl V {
    /// Position in [`Loop::names`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// An array that loops read or write: an entry of the pointer table every loop is called with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub u16);

impl SlotId {
    /// Position in [`Plan::slots`] and in the pointer table.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where an array comes from and what it holds. f64 and one element per row unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SlotKind {
    /// A column of the batch, not vocab level.
    Column(ColumnId),
    /// A hyperparameter: one number.
    Param(ParamId),
    /// Written row by row in one loop.
    Stored,
    /// Starts as this number in every row and is folded into by one loop.
    Folded(f64),
    /// Rows of the coarser level given here, as u32, for each row of the slot's level.
    Parents(Level),
    /// Scratch of this many elements for one [`Item::Shift`].
    Ring(usize),
    /// A vocab-level column in the batch's own float type. Its first row is the piece's first token.
    Entries(ColumnId),
    /// The gradient of a vocab-level column, f32. Its first row is the piece's first token.
    Gradient(ColumnId),
}

/// One array.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    /// For readers.
    pub name: String,
    /// Level of its rows.
    pub level: Level,
    /// What it holds.
    pub kind: SlotKind,
}

/// Scalar code: how one value is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Op {
    /// A number.
    Const(f64),
    /// The slot's element at this row; the slot has the loop's level.
    Load(SlotId),
    /// The slot's element at the row that contains this one; the slot's level is coarser.
    Parent(SlotId),
    /// The single element of a batch-level slot; only in [`Loop::head`].
    Whole(SlotId),
    /// The entry of a vocab column at which the sweep stands.
    Entry(SlotId),
    /// The entry of a vocab column at this index of the row; NaN where there is none.
    EntryAt(SlotId, V),
    /// Number of the entry at which the sweep stands.
    EntryIndex,
    /// Whether the number is an index of the row.
    InRow(V),
    /// Scalar operator.
    Unary(Unary, V),
    /// Scalar operator.
    Binary(Binary, V, V),
    /// The second where the first is not 0, else the third.
    Select(V, V, V),
}

impl Op {
    /// The values it reads.
    pub fn operands(self) -> impl Iterator<Item = V> {
        let found: [Option<V>; 3] = match self {
            Op::Const(_)
            | Op::Load(_)
            | Op::Parent(_)
            | Op::Whole(_)
            | Op::Entry(_)
            | Op::EntryIndex => [None; 3],
            Op::EntryAt(_, a) | Op::InRow(a) | Op::Unary(_, a) => [Some(a), None, None],
            Op::Binary(_, a, b) => [Some(a), Some(b), None],
            Op::Select(c, a, b) => [Some(c), Some(a), Some(b)],
        };
        found.into_iter().flatten()
    }

    /// The slot it reads.
    pub fn slot(self) -> Option<SlotId> {
        match self {
            Op::Load(s) | Op::Parent(s) | Op::Whole(s) | Op::Entry(s) | Op::EntryAt(s, _) => {
                Some(s)
            }
            Op::Const(_)
            | Op::EntryIndex
            | Op::InRow(_)
            | Op::Unary(..)
            | Op::Binary(..)
            | Op::Select(..) => None,
        }
    }
}

/// A statement executed once per row, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// Defines a value.
    Let(V, Op),
    /// Defines a running sum over the rows the loop has passed, from 0 in each row of `scope`.
    Scan {
        /// The defined value.
        into: V,
        /// Summed value.
        x: V,
        /// Rows that count, if not all; the others see the running value.
        filter: Option<V>,
        /// Where the sum starts anew; coarser than the loop's level.
        scope: Level,
        /// Leaves the row itself out.
        exclusive: bool,
    },
    /// Defines the value of x `by` kept rows back in the loop's direction, within a row of `scope`;
    /// `default` where there is none, 0 at rows not kept.
    Shift {
        /// The defined value.
        into: V,
        /// Shifted value.
        x: V,
        /// Value before the first.
        default: V,
        /// Rows that count, if not all.
        filter: Option<V>,
        /// Never crosses a row of this level; coarser than the loop's.
        scope: Level,
        /// Rows to go back, at least 1.
        by: u32,
        /// Holds the last `by` values.
        ring: SlotId,
    },
    /// Writes the row's element of a slot of the loop's level.
    Store(SlotId, V),
    /// Folds a value into the element of a coarser slot that contains this row.
    Fold {
        /// How.
        op: ReduceOp,
        /// Where to. For a log-sum-exp the running maximum.
        into: SlotId,
        /// For a log-sum-exp the sum of exp(x - maximum).
        scale: Option<SlotId>,
        /// Folded value.
        x: V,
        /// Rows that count, if not all.
        filter: Option<V>,
    },
    /// Goes over the row's vocab entries.
    Sweep(Sweep),
}

/// A loop over the vocab entries of one token. Its values live inside it; what it folds are
/// values of the row, defined when it has ended.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sweep {
    /// Scalar code per entry.
    pub body: Vec<(V, Op)>,
    /// Folds over the entries.
    pub folds: Vec<EntryFold>,
    /// Gradient rows to write.
    pub gradients: Vec<(SlotId, V)>,
}

/// A fold over the entries of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum EntryFold {
    /// Every fold but log-sum-exp.
    Plain {
        /// The row's value.
        into: V,
        /// How.
        op: ReduceOp,
        /// Folded value, per entry.
        x: V,
    },
    /// log(sum(exp(x))), with a running maximum; x = -inf adds nothing.
    LogSumExp {
        /// The row's value.
        into: V,
        /// Per entry.
        x: V,
        /// Means under the distribution exp(x - into), in the same sweep.
        means: Vec<Mean>,
    },
}

/// sum(exp(x - logsumexp) * f), computed while the log-sum-exp itself is still running.
#[derive(Debug, Clone, PartialEq)]
pub struct Mean {
    /// The row's value.
    pub into: V,
    /// Per entry.
    pub f: V,
    /// Entries that count, if not all.
    pub filter: Option<V>,
    /// What entries of probability 0 add.
    pub guard: Guard,
}

/// What entries of probability 0 add to a mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// 0 * f, which is NaN where f is infinite.
    None,
    /// Nothing, whatever f is. A row without a softmax (all -inf) gives NaN.
    NonZero,
    /// Nothing, whatever f is, and a row without a softmax gives 0: none of its entries is above 0.
    Positive,
}

/// The order in which a loop goes over its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the first row.
    Forward,
    /// From the last row.
    Reverse,
}

/// A loop over the rows of one level.
#[derive(Debug, Clone, PartialEq)]
pub struct Loop {
    /// For readers and symbol tables: `live_2_token`.
    pub name: String,
    /// Level of its rows.
    pub level: Level,
    /// Order of the rows.
    pub direction: Direction,
    /// Numbers and batch-level values, the same for every row.
    pub head: Vec<(V, Op)>,
    /// Executed per row.
    pub body: Vec<Item>,
    /// Readable name of each value.
    pub names: Vec<String>,
}

/// Ranks each kept row among those of its row of `scope`; not expressible as one pass over rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Rank {
    /// Level of the ranked rows.
    pub level: Level,
    /// Ranked value.
    pub x: SlotId,
    /// Rows that count, if not all.
    pub filter: Option<SlotId>,
    /// Ranked within each row of this level.
    pub scope: Level,
    /// Result: 0 for the smallest, -1 for rows not kept.
    pub into: SlotId,
}

/// A unit of work of one phase.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Compiled code.
    Loop(Loop),
    /// A call.
    Rank(Rank),
}

/// Where an output of the program is found when all phases have run.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// As in [`crate::program::Program::outputs`].
    pub name: String,
    /// The program's expression.
    pub expr: E,
    /// Its values; for a gradient at vocab level the memory the caller gave.
    pub slot: SlotId,
}

/// Everything a back end needs.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The program's levels.
    pub levels: Levels,
    /// Rows of this level are the pieces of the live phase.
    pub piece: Level,
    /// Every array.
    pub slots: Vec<Slot>,
    /// Steps once over the whole batch, before the policy runs.
    pub recorded: Vec<Step>,
    /// Steps for each piece, over its rows only.
    pub live: Vec<Step>,
    /// Steps once over the whole batch, after the last piece.
    pub after: Vec<Step>,
    /// Results.
    pub outputs: Vec<Output>,
}

impl Plan {
    /// The steps of a phase.
    pub fn steps(&self, phase: Phase) -> &[Step] {
        match phase {
            Phase::Recorded => &self.recorded,
            Phase::Live => &self.live,
            Phase::After => &self.after,
        }
    }

    /// The phases in order, with their steps.
    pub fn phases(&self) -> [(Phase, &[Step]); 3] {
        [Phase::Recorded, Phase::Live, Phase::After].map(|p| (p, self.steps(p)))
    }

    /// Every loop, in order.
    pub fn loops(&self) -> impl Iterator<Item = &Loop> {
        self.recorded.iter().chain(&self.live).chain(&self.after).filter_map(|s| match s {
            Step::Loop(l) => Some(l),
            Step::Rank(_) => None,
        })
    }

    /// The slot.
    pub fn slot(&self, id: SlotId) -> &Slot {
        &self.slots[id.index()]
    }

    /// All slots with their handles.
    pub fn all_slots(&self) -> impl Iterator<Item = (SlotId, &Slot)> {
        self.slots.iter().enumerate().map(|(i, s)| (SlotId(i as u16), s))
    }

    /// The slot with the parent rows in `coarse` of the rows of `fine`; none for the batch, whose
    /// only row is 0.
    pub fn parents(&self, coarse: Level, fine: Level) -> Option<SlotId> {
        if coarse == BATCH {
            return None;
        }
        self.all_slots()
            .find(|(_, s)| s.level == fine && s.kind == SlotKind::Parents(coarse))
            .map(|(id, _)| id)
    }
}

impl Loop {
    /// The value's name.
    pub fn name_of(&self, v: V) -> &str {
        &self.names[v.index()]
    }

    /// Levels whose parent rows the loop needs: those it reads from, folds into or restarts at.
    pub fn scopes(&self, plan: &Plan) -> Vec<Level> {
        let mut out = Vec::new();
        let mut need = |level: Level| {
            if level != BATCH && !out.contains(&level) {
                out.push(level);
            }
        };
        for item in &self.body {
            match item {
                Item::Let(_, Op::Parent(slot)) => need(plan.slot(*slot).level),
                Item::Fold { into, .. } => need(plan.slot(*into).level),
                Item::Scan { scope, .. } | Item::Shift { scope, .. } => need(*scope),
                Item::Let(..) | Item::Store(..) | Item::Sweep(_) => {}
            }
        }
        out
    }
}

impl Sweep {
    /// The row values it defines.
    pub fn results(&self) -> impl Iterator<Item = V> + '_ {
        self.folds.iter().flat_map(|f| match f {
            EntryFold::Plain { into, .. } => vec![*into],
            EntryFold::LogSumExp { into, means, .. } => {
                std::iter::once(*into).chain(means.iter().map(|m| m.into)).collect()
            }
        })
    }
}
