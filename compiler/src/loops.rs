//! The loop form of a program: what a back end prints, one function per loop.
//!
//! A [`Plan`] has a list of steps for each phase. A loop runs over rows of one level and holds
//! scalar code in single-assignment form; a loop over tokens may hold [`Sweep`]s over the row's
//! vocab entries. What crosses loops lies in [`Slot`]s. Nothing here knows how the steps were found
//! (see [`crate::fuse`]) or how they are executed, and no vocab-level value but a gradient has a slot.

mod crossing;
mod in_place;
mod print;
mod verify;

pub use crossing::BatchFold;

use crate::hir::{ColumnId, E, ParamId, ReduceOp};
use crate::level::{BATCH, Level, Levels, TOKEN};
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
    /// The row of the paired level on the left (false) or right (true) of each pair.
    Side(bool),
    /// Written row by row in one loop.
    Stored,
    /// Starts as this number in every row and is folded into by one loop.
    Folded(f64),
    /// This many numbers per row for what one loop carries from row to row of an element. The first
    /// of them is 0 when the phase begins.
    Carried(usize),
    /// Rows of the coarser level given here, as u32, for each row of the slot's level.
    Parents(Level),
    /// The first row of the finer level given here, as u32, for each row of the slot's level; and
    /// the end.
    Starts(Level),
    /// Scratch of this many elements for one [`Item::Shift`].
    Ring(usize),
    /// Scratch of this many f64 per vocab entry, for one token at a time.
    Scratch(usize),
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
    /// The slot's element at the row of a number; 0 where there is none. Never one of another row of
    /// the level given here.
    Indexed(SlotId, V, Level),
    /// The number of the row of this level that is or contains this one.
    RowOf(Level),
    /// The entry of a vocab column, or of scratch, at which the sweep stands.
    Entry(SlotId),
    /// The entry of a vocab column at this index of the token's row; NaN where there is none.
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
            | Op::RowOf(_)
            | Op::Entry(_)
            | Op::EntryIndex => [None; 3],
            Op::Indexed(_, a, _) | Op::EntryAt(_, a) | Op::InRow(a) | Op::Unary(_, a) => {
                [Some(a), None, None]
            }
            Op::Binary(_, a, b) => [Some(a), Some(b), None],
            Op::Select(c, a, b) => [Some(c), Some(a), Some(b)],
        };
        found.into_iter().flatten()
    }

    /// The slot it reads.
    pub fn slot(self) -> Option<SlotId> {
        match self {
            Op::Load(s)
            | Op::Parent(s)
            | Op::Whole(s)
            | Op::Indexed(s, ..)
            | Op::Entry(s)
            | Op::EntryAt(s, _) => Some(s),
            Op::Const(_)
            | Op::RowOf(_)
            | Op::EntryIndex
            | Op::InRow(_)
            | Op::Unary(..)
            | Op::Binary(..)
            | Op::Select(..) => None,
        }
    }
}

/// What a scan or shift within elements carries along each of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Within {
    /// The element of this row, as a number that no other row of the scope's level uses. Negative
    /// for none: such rows do not count and get 0.
    pub index: V,
    /// Per element the running sum, or how many kept rows have passed.
    pub state: SlotId,
}

/// Values of rows below a token, added up by the vocab entry that an index names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Added values.
    pub d: SlotId,
    /// The entry of each.
    pub index: SlotId,
    /// First row of each token.
    pub starts: SlotId,
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
        /// What a counting row multiplies the running value by; 1 without.
        factor: Option<V>,
        /// Where the sum starts anew; coarser than the loop's level.
        scope: Level,
        /// The elements it runs within, if not all rows of the scope.
        within: Option<Within>,
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
        /// The elements it goes along, if not all rows of the scope.
        within: Option<Within>,
        /// Rows to go back, at least 1.
        by: u32,
        /// Holds the last `by` values: of each element, where there are such.
        ring: SlotId,
    },
    /// Writes the row's element of a slot of the loop's level.
    Store(SlotId, V),
    /// Folds a value into the element of a coarser slot that contains this row, or into the one
    /// that an index names.
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
        /// Number of the element, and a level of which one row holds this row and the element; rows
        /// of a number that is none do not count.
        index: Option<(V, Level)>,
    },
    /// Fills a row of scratch with the sums of the token's rows below it.
    Spread(SlotId, Spread),
    /// Defines such a sum at one entry; 0 where it is none.
    SpreadAt {
        /// The defined value.
        into: V,
        /// What is added up.
        of: Spread,
        /// The entry.
        at: V,
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
    /// The number of the entry that comes n-th by falling value; see [`crate::hir::Expr::Nth`].
    Nth {
        /// The row's value.
        into: V,
        /// Per entry.
        x: V,
        /// Of the row.
        n: V,
        /// Two numbers per entry: x, and room to sort.
        scratch: SlotId,
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

/// What a call computes. Each is a function of all rows of an element at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Place of each kept row by x, from 0; -1 for rows not kept.
    Rank {
        /// Sorted value.
        x: SlotId,
    },
    /// The first kept row whose key is what a row wants; -1 without.
    Find {
        /// What rows are found by.
        key: SlotId,
        /// What is looked for.
        want: SlotId,
    },
    /// The first row of the node that a row leads to; see [`crate::hir::Expr::Prefix`].
    Prefix {
        /// What rollouts are compared by.
        x: SlotId,
    },
}

impl Task {
    /// The slots it reads.
    pub fn slots(self) -> impl Iterator<Item = SlotId> {
        let found = match self {
            Task::Rank { x } | Task::Prefix { x } => [Some(x), None],
            Task::Find { key, want } => [Some(key), Some(want)],
        };
        found.into_iter().flatten()
    }
}

/// Work over the rows of a level that is not expressible as one pass over them.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// What is done.
    pub task: Task,
    /// Level of the rows; operands and result have it.
    pub level: Level,
    /// Rows that count, if not all.
    pub filter: Option<SlotId>,
    /// Done within each row of this level,
    pub scope: Level,
    /// and with this within each of its elements: their numbers, negative for rows of none.
    pub within: Option<SlotId>,
    /// Result.
    pub into: SlotId,
}

impl Call {
    /// The slots it reads.
    pub fn slots(&self) -> impl Iterator<Item = SlotId> {
        self.task.slots().chain(self.filter).chain(self.within)
    }
}

/// A unit of work of one phase.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Compiled code.
    Loop(Loop),
    /// A call of the runtime.
    Call(Call),
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
            Step::Call(_) => None,
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
    /// Its sweeps, in order.
    pub fn sweeps(&self) -> impl Iterator<Item = &Sweep> {
        self.body.iter().filter_map(|item| match item {
            Item::Sweep(sweep) => Some(sweep),
            Item::Let(..)
            | Item::Scan { .. }
            | Item::Shift { .. }
            | Item::Store(..)
            | Item::Fold { .. }
            | Item::Spread(..)
            | Item::SpreadAt { .. } => None,
        })
    }

    /// The value's name.
    pub fn name_of(&self, v: V) -> &str {
        &self.names[v.index()]
    }

    /// Levels whose parent rows the loop needs: those it reads from, folds into or restarts at.
    pub fn scopes(&self, plan: &Plan) -> Vec<Level> {
        let mut out = Vec::new();
        let mut need = |level: Level| {
            if level != BATCH && level != self.level && !out.contains(&level) {
                out.push(level);
            }
        };
        for item in &self.body {
            match item {
                Item::Let(_, Op::Parent(slot)) => need(plan.slot(*slot).level),
                Item::Let(_, Op::RowOf(level)) => need(*level),
                Item::Let(_, Op::EntryAt(..)) | Item::SpreadAt { .. } => need(TOKEN),
                Item::Fold { into, index: None, .. } => need(plan.slot(*into).level),
                Item::Scan { scope, within: None, .. }
                | Item::Shift { scope, within: None, .. } => need(*scope),
                Item::Let(..)
                | Item::Fold { .. }
                | Item::Scan { .. }
                | Item::Shift { .. }
                | Item::Store(..)
                | Item::Spread(..)
                | Item::Sweep(_) => {}
            }
        }
        out
    }
}

impl EntryFold {
    /// The scratch it writes.
    pub fn scratch(&self) -> Option<SlotId> {
        match self {
            EntryFold::Nth { scratch, .. } => Some(*scratch),
            EntryFold::Plain { .. } | EntryFold::LogSumExp { .. } => None,
        }
    }
}

impl Sweep {
    /// The row values it reads, in the order in which it first mentions them.
    pub fn inputs(&self) -> Vec<V> {
        let read = self.body.iter().flat_map(|(_, op)| op.operands()).chain(self.read_at_end());
        let mut inputs: Vec<V> = Vec::new();
        for v in read {
            if !self.body.iter().any(|(own, _)| *own == v) && !inputs.contains(&v) {
                inputs.push(v);
            }
        }
        inputs
    }

    /// What is read once an entry's code has run: by folds and gradients.
    pub fn read_at_end(&self) -> Vec<V> {
        let mut read: Vec<V> = self.gradients.iter().map(|g| g.1).collect();
        for fold in &self.folds {
            match fold {
                EntryFold::Plain { x, .. } => read.push(*x),
                EntryFold::LogSumExp { x, means, .. } => {
                    read.push(*x);
                    read.extend(means.iter().flat_map(|m| std::iter::once(m.f).chain(m.filter)));
                }
                EntryFold::Nth { x, n, .. } => read.extend([*x, *n]),
            }
        }
        read
    }

    /// The row values it defines.
    pub fn results(&self) -> impl Iterator<Item = V> + '_ {
        self.folds.iter().flat_map(|f| match f {
            EntryFold::Plain { into, .. } | EntryFold::Nth { into, .. } => vec![*into],
            EntryFold::LogSumExp { into, means, .. } => {
                std::iter::once(*into).chain(means.iter().map(|m| m.into)).collect()
            }
        })
    }
}
