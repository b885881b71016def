//! What a pass computes: operators per row and per vocab entry, counted from the plan.

use rlc_compiler::clif::Import;
use rlc_compiler::level::Level;
use rlc_compiler::loops::{Call, EntryFold, Item, Loop, Op, Plan, Step, Sweep, Task};
use rlc_compiler::op::{Binary, Unary};
use rlc_compiler::program::Phase;
use rlc_compiler::shape::Shape;

/// Floating-point operations that one exponential, logarithm or the like counts as. Its polynomial in
/// f32 has 10 to 14 of them, with the range reduction; in f64 about 35.
pub const FUNCTION: u64 = 16;

/// Operations of one phase. Row primitives and simplified formulas do fewer; a pass that recomputes
/// does more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Additions, multiplications, comparisons, selections.
    pub operators: u64,
    /// Exponentials, logarithms and the like.
    pub functions: u64,
}

impl Work {
    /// All of them as floating-point operations.
    pub fn flops(self) -> u64 {
        self.operators + FUNCTION * self.functions
    }

    fn times(self, n: usize) -> Work {
        Work { operators: self.operators * n as u64, functions: self.functions * n as u64 }
    }
}

impl std::ops::AddAssign for Work {
    fn add_assign(&mut self, more: Work) {
        self.operators += more.operators;
        self.functions += more.functions;
    }
}

const NONE: Work = Work { operators: 0, functions: 0 };
const ONE: Work = Work { operators: 1, functions: 0 };

/// What the loops of a phase compute on a batch of this shape.
pub fn of_phase(plan: &Plan, phase: Phase, shape: &Shape) -> Work {
    let mut work = NONE;
    for step in plan.steps(phase) {
        work += match step {
            Step::Loop(of) => of_loop(of, shape),
            Step::Call(call) => of_call(call, shape),
        };
    }
    work
}

fn of_loop(of: &Loop, shape: &Shape) -> Work {
    let mut row = NONE;
    for item in &of.body {
        row += match item {
            Item::Let(_, op) => of_op(*op),
            // Factor and sum.
            Item::Scan { factor, .. } => ONE.times(1 + usize::from(factor.is_some())),
            // Rescaling of what was there, and what is added.
            Item::Fold { scale: Some(_), .. } => Work { operators: 4, functions: 2 },
            Item::Fold { scale: None, .. } => ONE,
            Item::Sweep(sweep) => of_sweep(sweep, shape.vocab),
            Item::Shift { .. } | Item::Store(..) | Item::Spread(..) | Item::SpreadAt { .. } => NONE,
        };
    }
    row.times(shape.count(of.level))
}

fn of_sweep(sweep: &Sweep, vocab: usize) -> Work {
    let mut entry = NONE;
    for (_, op) in &sweep.body {
        entry += of_op(*op);
    }
    for fold in &sweep.folds {
        entry += match fold {
            EntryFold::Plain { .. } => ONE,
            EntryFold::LogSumExp { means, .. } => {
                // Maximum, difference, sum; product and sum for each mean.
                Work { operators: 3 + 2 * means.len() as u64, functions: 1 }
            }
            EntryFold::Nth { .. } => ONE.times(comparisons(vocab)),
        };
    }
    entry.times(vocab)
}

fn of_call(call: &Call, shape: &Shape) -> Work {
    let rows = |level: Level| shape.count(level);
    let each = match call.task {
        Task::Rank { .. } => comparisons(rows(call.level) / rows(call.scope).max(1)),
        Task::Find { .. } | Task::Prefix { .. } => 1,
    };
    ONE.times(each * rows(call.level))
}

/// Comparisons of one of `n` numbers that are sorted.
fn comparisons(n: usize) -> usize {
    n.max(2).ilog2() as usize
}

/// What compiled code calls is a function, what it computes in place an operator.
fn of_function(operator: Import) -> Work {
    match operator.index() {
        Some(_) => Work { operators: 0, functions: 1 },
        None => ONE,
    }
}

fn of_op(op: Op) -> Work {
    match op {
        Op::Const(_)
        | Op::Load(_)
        | Op::Parent(_)
        | Op::Whole(_)
        | Op::Indexed(..)
        | Op::RowOf(_)
        | Op::Entry(_)
        | Op::EntryAt(..)
        | Op::EntryIndex => NONE,
        Op::InRow(_) | Op::Select(..) => ONE,
        Op::Unary(Unary::Cast, _) => NONE,
        Op::Unary(op, _) => of_function(Import::Unary(op)),
        Op::Binary(Binary::Chain, ..) => ONE.times(2),
        Op::Binary(op, ..) => of_function(Import::Binary(op)),
    }
}
