//! A loop over rows as straight code over blocks of them, for loops in which no row waits for another. Elements of keys
//! are read and folded into by number, row by row.
//!
//! What belongs to a coarser row, or to the whole batch, is one number for all rows of a segment: the rows within one
//! row of the finest of those levels.

use rlc_compiler::hir::ReduceOp;
use rlc_compiler::level::{BATCH, Level};
use rlc_compiler::loops::{Direction, Item, Loop, Op, Plan, SlotId, V};
use rlc_compiler::op::{Binary, Unary};

use super::simplify::simplify;

/// An operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arg {
    /// A value of each row, by its position in [`Code::values`].
    Row(u16),
    /// A number of the segment, by its position in [`Code::numbers`].
    Number(u16),
}

impl Arg {
    /// The position of a number.
    pub fn number(self) -> Option<u16> {
        match self {
            Arg::Number(n) => Some(n),
            Arg::Row(_) => None,
        }
    }
}

/// How a value of each row is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// The row's element of a column, by its position in [`Code::columns`].
    Load(u16),
    /// The element of a column at the row of a number, 0 where it is none; by position in [`Code::gathers`].
    Gather(u16, Arg),
    /// The row's number.
    RowNumber,
    /// Operator.
    Unary(Unary, Arg),
    /// Operator.
    Binary(Binary, Arg, Arg),
    /// The second where the first is not 0, else the third.
    Select(Arg, Arg, Arg),
}

impl Value {
    /// What it reads.
    pub fn args(self) -> impl Iterator<Item = Arg> {
        let found = match self {
            Value::Load(_) | Value::RowNumber => [None; 3],
            Value::Gather(_, x) | Value::Unary(_, x) => [Some(x), None, None],
            Value::Binary(_, a, b) => [Some(a), Some(b), None],
            Value::Select(c, a, b) => [Some(c), Some(a), Some(b)],
        };
        found.into_iter().flatten()
    }
}

/// How a number of a segment is made, from numbers before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A constant.
    Const(f64),
    /// The single element of a slot of the batch.
    Whole(SlotId),
    /// The slot's element at the segment's row of a level.
    Parent(SlotId, Level),
    /// The segment's row of a level.
    RowOf(Level),
    /// The first of the loop's rows in that row.
    First(Level),
    /// Operator.
    Unary(Unary, u16),
    /// Operator.
    Binary(Binary, u16, u16),
    /// The second where the first is not 0, else the third.
    Select(u16, u16, u16),
}

/// When a number is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Once for all rows.
    Once,
    /// For each segment.
    Segment,
}

/// What is added up.
#[derive(Debug, Clone, Copy)]
pub struct Fold {
    /// How; never a log-sum-exp.
    pub op: ReduceOp,
    /// Value.
    pub x: Arg,
    /// Rows that count, if not all.
    pub filter: Option<Arg>,
    /// Where to, a slot of the level.
    pub into: SlotId,
    /// Coarser than the loop's.
    pub level: Level,
    /// A sum of which values are taken away.
    pub less: bool,
}

/// What is added up row by row, into elements of a number.
#[derive(Debug, Clone, Copy)]
pub struct Scatter {
    /// How; never a log-sum-exp.
    pub op: ReduceOp,
    /// Value.
    pub x: Arg,
    /// Rows that count, if not all.
    pub filter: Option<Arg>,
    /// Number of the element; rows of a number that is none do not count.
    pub index: Arg,
    /// Where to.
    pub into: SlotId,
    /// Its level.
    pub level: Level,
}

impl Scatter {
    /// What it reads.
    pub fn args(&self) -> impl Iterator<Item = Arg> {
        [Some(self.x), self.filter, Some(self.index)].into_iter().flatten()
    }
}

/// A fold that adds the same number for every row that counts: it is multiplied with how many do, once a segment.
#[derive(Debug, Clone, Copy)]
pub struct Counted {
    /// By position in [`Code::folds`].
    pub fold: u16,
    /// What is added, a number of the segment.
    pub number: u16,
    /// Rows that count, by position in [`Code::counts`]; all without.
    pub count: Option<u16>,
}

/// What is done for a block of rows, in this order.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// Computes a value.
    Value(u16),
    /// Writes the rows' elements of a slot, by position in [`Code::stores`].
    Store(u16),
    /// Adds to a fold.
    Fold(u16),
    /// Adds to elements of numbers, by position in [`Code::scatters`].
    Scatter(u16),
    /// Counts rows, by position in [`Code::counts`].
    Count(u16),
}

/// The code of one loop.
#[derive(Debug)]
pub struct Code {
    /// Level of the rows.
    pub level: Level,
    /// Segments are the rows of this level; the whole range without.
    pub segment: Option<Level>,
    /// Columns that are read row by row.
    pub columns: Vec<SlotId>,
    /// Values of each row, in an order in which each reads those before it.
    pub values: Vec<Value>,
    /// Numbers of the segment, likewise.
    pub numbers: Vec<Number>,
    /// When each of them is computed.
    pub when: Vec<When>,
    /// Numbers by which adjoints of rows are multiplied: where they are finite, an adjoint of 0 needs no care.
    pub factors: Vec<u16>,
    /// Slots that are written, with their values.
    pub stores: Vec<(SlotId, Arg)>,
    /// Columns that are read at rows of a number.
    pub gathers: Vec<(SlotId, Level)>,
    /// Folds: those that steps add to, then those of [`Code::counted`].
    pub folds: Vec<Fold>,
    /// Conditions of rows that are counted.
    pub counts: Vec<Arg>,
    /// Folds of these counts.
    pub counted: Vec<Counted>,
    /// Folds into elements of a number.
    pub scatters: Vec<Scatter>,
    /// Everything in order.
    pub steps: Vec<Step>,
    /// The last step that reads each value.
    pub last: Vec<usize>,
}

impl Code {
    /// A number, the same one where it is known.
    pub(super) fn number(&mut self, number: Number) -> Option<Arg> {
        let same = |n: &Number| match (*n, number) {
            (Number::Const(a), Number::Const(b)) => a.to_bits() == b.to_bits(),
            (a, b) => a == b,
        };
        let known = self.numbers.iter().position(same);
        let at = known.unwrap_or_else(|| {
            self.numbers.push(number);
            self.numbers.len() - 1
        });
        Some(Arg::Number(u16::try_from(at).ok()?))
    }

    /// One more value, computed next.
    pub(super) fn value(&mut self, value: Value) -> Option<Arg> {
        let at = u16::try_from(self.values.len()).ok()?;
        self.values.push(value);
        self.steps.push(Step::Value(at));
        Some(Arg::Row(at))
    }

    /// What a step reads.
    pub(super) fn args(&self, step: Step, read: impl FnMut(Arg)) {
        match step {
            Step::Value(v) => self.values[v as usize].args().for_each(read),
            Step::Store(s) => std::iter::once(self.stores[s as usize].1).for_each(read),
            Step::Fold(f) => {
                let fold = self.folds[f as usize];
                std::iter::once(fold.x).chain(fold.filter).for_each(read);
            }
            Step::Scatter(s) => self.scatters[s as usize].args().for_each(read),
            Step::Count(c) => std::iter::once(self.counts[c as usize]).for_each(read),
        }
    }

    /// How many folds steps add to: the first ones.
    pub(super) fn added(&self) -> usize {
        self.folds.len() - self.counted.len()
    }
}

/// The code of a loop; none for a loop in which rows wait for rows or that touches the vocabulary.
pub fn code(plan: &Plan, of: &Loop) -> Option<Code> {
    let mut build = Build {
        plan,
        of,
        args: vec![None; of.names.len()],
        scopes: Vec::new(),
        out: Code {
            level: of.level,
            segment: None,
            columns: Vec::new(),
            values: Vec::new(),
            numbers: Vec::new(),
            when: Vec::new(),
            factors: Vec::new(),
            stores: Vec::new(),
            gathers: Vec::new(),
            folds: Vec::new(),
            counts: Vec::new(),
            counted: Vec::new(),
            scatters: Vec::new(),
            steps: Vec::new(),
            last: Vec::new(),
        },
    };
    if of.level == BATCH {
        return None;
    }
    for &(v, op) in &of.head {
        build.op(v, op)?;
    }
    for item in &of.body {
        build.item(item)?;
    }
    build.finish()
}

struct Build<'a> {
    plan: &'a Plan,
    of: &'a Loop,
    args: Vec<Option<Arg>>,
    /// Coarser levels below the batch.
    scopes: Vec<Level>,
    out: Code,
}

impl Build<'_> {
    fn arg(&self, v: V) -> Option<Arg> {
        self.args.get(v.index()).copied().flatten()
    }

    fn scope(&mut self, level: Level) {
        if level != BATCH && !self.scopes.contains(&level) {
            self.scopes.push(level);
        }
    }

    fn op(&mut self, v: V, op: Op) -> Option<()> {
        let arg = match op {
            Op::Const(x) => self.out.number(Number::Const(x))?,
            Op::Whole(slot) => self.out.number(Number::Whole(slot))?,
            Op::Load(slot) => {
                let known = self.out.columns.iter().position(|c| *c == slot);
                let column = known.unwrap_or_else(|| {
                    self.out.columns.push(slot);
                    self.out.columns.len() - 1
                });
                self.out.value(Value::Load(u16::try_from(column).ok()?))?
            }
            Op::Parent(slot) => {
                let level = self.plan.slot(slot).level;
                self.scope(level);
                self.out.number(Number::Parent(slot, level))?
            }
            Op::RowOf(level) if level == self.of.level => self.out.value(Value::RowNumber)?,
            Op::RowOf(level) => {
                self.scope(level);
                self.out.number(Number::RowOf(level))?
            }
            Op::Unary(op, x) => match self.arg(x)? {
                Arg::Number(x) => self.out.number(Number::Unary(op, x))?,
                x @ Arg::Row(_) => self.out.value(Value::Unary(op, x))?,
            },
            Op::Binary(op, a, b) => match (self.arg(a)?, self.arg(b)?) {
                (Arg::Number(a), Arg::Number(b)) => self.out.number(Number::Binary(op, a, b))?,
                (a, b) => self.out.value(Value::Binary(op, a, b))?,
            },
            Op::Select(c, a, b) => match (self.arg(c)?, self.arg(a)?, self.arg(b)?) {
                (Arg::Number(c), Arg::Number(a), Arg::Number(b)) => {
                    self.out.number(Number::Select(c, a, b))?
                }
                (c, a, b) => self.out.value(Value::Select(c, a, b))?,
            },
            Op::Indexed(slot, index, _) => {
                let from = (slot, self.plan.slot(slot).level);
                let known = self.out.gathers.iter().position(|g| *g == from);
                let gather = known.unwrap_or_else(|| {
                    self.out.gathers.push(from);
                    self.out.gathers.len() - 1
                });
                let index = self.arg(index)?;
                self.out.value(Value::Gather(u16::try_from(gather).ok()?, index))?
            }
            Op::Entry(_) | Op::EntryAt(..) | Op::EntryIndex | Op::InRow(_) => {
                return None;
            }
        };
        *self.args.get_mut(v.index())? = Some(arg);
        Some(())
    }

    fn item(&mut self, item: &Item) -> Option<()> {
        match item {
            Item::Let(v, op) => self.op(*v, *op),
            Item::Store(slot, v) => {
                let x = self.arg(*v)?;
                let at = u16::try_from(self.out.stores.len()).ok()?;
                self.out.stores.push((*slot, x));
                self.out.steps.push(Step::Store(at));
                Some(())
            }
            // Rows are counted from the first of the scope on: positions.
            &Item::Scan { into, x, filter: None, factor: None, scope, within: None, exclusive }
                if self.of.direction == Direction::Forward && self.is_one(x) && scope != BATCH =>
            {
                self.scope(scope);
                let row = self.out.value(Value::RowNumber)?;
                let first = self.out.number(Number::First(scope))?;
                let mut count = self.out.value(Value::Binary(Binary::Sub, row, first))?;
                if !exclusive {
                    let one = self.out.number(Number::Const(1.0))?;
                    count = self.out.value(Value::Binary(Binary::Add, count, one))?;
                }
                *self.args.get_mut(into.index())? = Some(count);
                Some(())
            }
            Item::Fold { op, into, scale: None, x, filter, index: None } => {
                let filter = match filter {
                    Some(f) => Some(self.arg(*f)?),
                    None => None,
                };
                let level = self.plan.slot(*into).level;
                self.scope(level);
                let at = u16::try_from(self.out.folds.len()).ok()?;
                let x = self.arg(*x)?;
                self.out.folds.push(Fold { op: *op, x, filter, into: *into, level, less: false });
                self.out.steps.push(Step::Fold(at));
                Some(())
            }
            Item::Fold { op, into, scale: None, x, filter, index: Some((index, _)) } => {
                let filter = match filter {
                    Some(f) => Some(self.arg(*f)?),
                    None => None,
                };
                let (op, into, level) = (*op, *into, self.plan.slot(*into).level);
                let (x, index) = (self.arg(*x)?, self.arg(*index)?);
                let at = u16::try_from(self.out.scatters.len()).ok()?;
                self.out.scatters.push(Scatter { op, x, filter, index, into, level });
                self.out.steps.push(Step::Scatter(at));
                Some(())
            }
            Item::Fold { .. }
            | Item::Scan { .. }
            | Item::Shift { .. }
            | Item::Spread(..)
            | Item::SpreadAt { .. }
            | Item::Sweep(_) => None,
        }
    }

    fn is_one(&self, v: V) -> bool {
        let Some(Arg::Number(n)) = self.arg(v) else { return false };
        self.out.numbers.get(n as usize) == Some(&Number::Const(1.0))
    }

    fn finish(mut self) -> Option<Code> {
        let levels = &self.plan.levels;
        // The finest of the levels lies in all others, or segments would have to be cut.
        self.out.segment = match self.scopes.as_slice() {
            [] => None,
            scopes => Some(*scopes.iter().find(|finest| {
                scopes.iter().all(|s| s == *finest || levels.contains(*s, **finest))
            })?),
        };
        self.out = simplify(self.out)?;
        let out = &mut self.out;
        for number in &out.numbers {
            let of = |n: u16| out.when[n as usize];
            let any = |all: &[u16]| {
                let each = all.iter().any(|n| of(*n) == When::Segment);
                if each { When::Segment } else { When::Once }
            };
            let when = match *number {
                Number::Const(_) | Number::Whole(_) => When::Once,
                Number::Parent(_, BATCH) | Number::RowOf(BATCH) => When::Once,
                Number::Parent(..) | Number::RowOf(_) | Number::First(_) => When::Segment,
                Number::Unary(_, x) => of(x),
                Number::Binary(_, a, b) => any(&[a, b]),
                Number::Select(c, a, b) => any(&[c, a, b]),
            };
            out.when.push(when);
        }
        for value in &out.values {
            if let Value::Binary(Binary::Chain, Arg::Row(_), Arg::Number(n)) = *value
                && !out.factors.contains(&n)
            {
                out.factors.push(n);
            }
        }
        let mut last = vec![0; out.values.len()];
        for (at, step) in out.steps.iter().enumerate() {
            let mut read = |arg: Arg| {
                if let Arg::Row(v) = arg {
                    last[v as usize] = at;
                }
            };
            out.args(*step, &mut read);
            if let Step::Value(v) = *step {
                read(Arg::Row(v));
            }
        }
        out.last = last;
        Some(self.out)
    }
}
