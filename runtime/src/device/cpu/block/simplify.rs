//! Fewer operators in the code of a block, with the same results but for rounding.
//!
//! ```text
//! the same value twice                  once
//! a value that is not read              left out
//! op of `if c then m else n`            `if c then op m else op n`, where m and n are numbers of the segment: op is done once
//!                                       for all its rows. So weights, signs and masks of adjoints cost no arithmetic.
//! a + -b, -a + b                        a - b, b - a
//! d (x + 1) - d                         d x: the adjoint of `expm1(x) - x`
//! sum of a number, or of a condition    how many rows count, times the number
//! sum of -a, or of b - a                less the sum of a, or of a - b where that is there
//! ```

use rlc_compiler::hir::ReduceOp;
use rlc_compiler::op::{Binary, Unary};

use super::code::{Arg, Code, Counted, Fold, Number, Step, Value};

/// Most conditions that rows are counted by: each takes a register.
pub const MOST_COUNTS: usize = 5;

/// Most selections that an operator moves into.
const MOST: usize = 4;

/// Simplifies values and steps; what [`Code`] says about them is told afterwards.
pub fn simplify(code: Code) -> Option<Code> {
    let (uses, mut out) = (uses(&code), code);
    let old = std::mem::take(&mut out.values);
    let mut pass = Pass { uses, args: vec![None; old.len()], out, old };
    for step in std::mem::take(&mut pass.out.steps) {
        pass.step(step)?;
    }
    let Pass { mut out, .. } = pass;
    counted_last(&mut out)?;
    drop_unread(&mut out);
    Some(out)
}

/// How many times each value is read.
fn uses(code: &Code) -> Vec<usize> {
    let mut uses = vec![0; code.values.len()];
    for step in &code.steps {
        code.args(*step, |arg| {
            if let Arg::Row(v) = arg {
                uses[v as usize] += 1;
            }
        });
    }
    uses
}

struct Pass {
    /// Of the old values.
    uses: Vec<usize>,
    old: Vec<Value>,
    /// What the old values have become.
    args: Vec<Option<Arg>>,
    out: Code,
}

impl Pass {
    fn of(&self, arg: Arg) -> Option<Arg> {
        match arg {
            Arg::Row(v) => self.args[v as usize],
            Arg::Number(_) => Some(arg),
        }
    }

    fn step(&mut self, step: Step) -> Option<()> {
        match step {
            Step::Value(v) => {
                let new = match self.old[v as usize] {
                    value @ (Value::Load(_) | Value::RowNumber) => self.value(value)?,
                    Value::Gather(from, index) => {
                        let index = self.of(index)?;
                        self.value(Value::Gather(from, index))?
                    }
                    Value::Unary(op, x) => {
                        let only = self.read_once(x);
                        let x = self.of(x)?;
                        let op = Operator::Unary(op);
                        if self.selected(x, only, op) {
                            self.inside(x, op)?
                        } else {
                            self.apply(op, x)?
                        }
                    }
                    Value::Binary(op, a, b) => self.binary(op, a, b)?,
                    Value::Select(c, a, b) => {
                        let (c, a, b) = (self.of(c)?, self.of(a)?, self.of(b)?);
                        self.select(c, a, b)?
                    }
                };
                self.args[v as usize] = Some(new);
            }
            Step::Store(s) => {
                let x = self.of(self.out.stores[s as usize].1)?;
                self.out.stores[s as usize].1 = x;
                self.out.steps.push(step);
            }
            Step::Fold(f) => {
                let mut fold = self.out.folds[f as usize];
                fold.x = self.of(fold.x)?;
                fold.filter = match fold.filter {
                    Some(filter) => Some(self.of(filter)?),
                    None => None,
                };
                if fold.op == ReduceOp::Sum
                    && let Some(other) = self.negative(fold.x)
                {
                    (fold.x, fold.less) = (other, true);
                }
                self.out.folds[f as usize] = fold;
                if !self.counted(f)? {
                    self.out.steps.push(step);
                }
            }
            Step::Scatter(s) => {
                let scatter = self.out.scatters[s as usize];
                let (x, index) = (self.of(scatter.x)?, self.of(scatter.index)?);
                let filter = match scatter.filter {
                    Some(filter) => Some(self.of(filter)?),
                    None => None,
                };
                let into = &mut self.out.scatters[s as usize];
                (into.x, into.index, into.filter) = (x, index, filter);
                self.out.steps.push(step);
            }
            // Made here.
            Step::Count(_) => return None,
        }
        Some(())
    }

    /// Makes a sum of one number, or of a condition, a count; false where a fold is neither.
    fn counted(&mut self, f: u16) -> Option<bool> {
        let Fold { op: ReduceOp::Sum, x, filter, .. } = self.out.folds[f as usize] else {
            return Some(false);
        };
        let (number, condition) = match x {
            Arg::Number(n) => (n, filter),
            Arg::Row(_) if self.is_condition(x) => {
                let one = self.constant(1.0)?;
                let both = match filter {
                    Some(filter) => self.value(Value::Binary(Binary::And, x, filter))?,
                    None => x,
                };
                (one, Some(both))
            }
            Arg::Row(_) => return Some(false),
        };
        // Conditions of the segment decide about the number.
        let (condition, of_all) = match condition.map(|c| (c, self.made(c))) {
            Some((Arg::Number(n), _)) => (None, Some(n)),
            Some((_, Some(Value::Binary(Binary::And, row @ Arg::Row(_), Arg::Number(n))))) => {
                (Some(row), Some(n))
            }
            Some((_, Some(Value::Binary(Binary::And, Arg::Number(n), row @ Arg::Row(_))))) => {
                (Some(row), Some(n))
            }
            Some((condition, _)) => (Some(condition), None),
            None => (None, None),
        };
        let number = match of_all {
            Some(c) => {
                let zero = self.constant(0.0)?;
                self.out.number(Number::Select(c, number, zero))?.number()?
            }
            None => number,
        };
        let count = match condition {
            Some(condition) => match self.out.counts.iter().position(|c| *c == condition) {
                None if self.out.counts.len() == MOST_COUNTS => return Some(false),
                Some(count) => Some(u16::try_from(count).ok()?),
                None => {
                    let count = u16::try_from(self.out.counts.len()).ok()?;
                    self.out.counts.push(condition);
                    self.out.steps.push(Step::Count(count));
                    Some(count)
                }
            },
            None => None,
        };
        self.out.counted.push(Counted { fold: f, number, count });
        Some(true)
    }

    fn constant(&mut self, c: f64) -> Option<u16> {
        self.out.number(Number::Const(c))?.number()
    }

    /// Whether a value is 0 or 1.
    fn is_condition(&self, arg: Arg) -> bool {
        match self.made(arg) {
            Some(Value::Unary(op, _)) => {
                matches!(op, Unary::Not | Unary::IsNan | Unary::IsFinite)
            }
            Some(Value::Binary(op, ..)) => op.is_truth(),
            _ => false,
        }
    }

    fn read_once(&self, arg: Arg) -> bool {
        matches!(arg, Arg::Row(v) if self.uses[v as usize] == 1)
    }

    /// How an argument is made, where it is a value.
    fn made(&self, arg: Arg) -> Option<Value> {
        match arg {
            Arg::Row(v) => Some(self.out.values[v as usize]),
            Arg::Number(_) => None,
        }
    }

    fn known(&self, value: Value) -> Option<Arg> {
        let at = self.out.values.iter().position(|v| *v == value)?;
        Some(Arg::Row(u16::try_from(at).ok()?))
    }

    fn value(&mut self, value: Value) -> Option<Arg> {
        self.known(value).or_else(|| self.out.value(value))
    }

    fn unary(&mut self, op: Unary, x: u16) -> Option<Arg> {
        match self.out.numbers[x as usize] {
            Number::Const(x) => self.out.number(Number::Const(op.eval(x))),
            _ => self.out.number(Number::Unary(op, x)),
        }
    }

    fn pair(&mut self, op: Binary, a: u16, b: u16) -> Option<Arg> {
        let number = match (op, self.out.numbers[a as usize], self.out.numbers[b as usize]) {
            (_, Number::Const(a), Number::Const(b)) => Number::Const(op.eval(a, b)),
            (Binary::Chain, Number::Const(0.0), _) => Number::Const(0.0),
            _ => Number::Binary(op, a, b),
        };
        self.out.number(number)
    }

    fn select(&mut self, c: Arg, a: Arg, b: Arg) -> Option<Arg> {
        if a == b { Some(a) } else { self.value(Value::Select(c, a, b)) }
    }

    fn binary(&mut self, op: Binary, a: Arg, b: Arg) -> Option<Arg> {
        let only = (self.read_once(a), self.read_once(b));
        let (a, b) = (self.of(a)?, self.of(b)?);
        match (a, b) {
            (Arg::Row(_), Arg::Number(n)) if self.selected(a, only.0, Operator::Before(op, n)) => {
                return self.inside(a, Operator::Before(op, n));
            }
            (Arg::Number(n), Arg::Row(_)) if self.selected(b, only.1, Operator::After(op, n)) => {
                return self.inside(b, Operator::After(op, n));
            }
            _ => {}
        }
        let negative = |of: &Pass, x| match of.made(x) {
            Some(Value::Unary(Unary::Neg, x)) => Some(x),
            _ => None,
        };
        if op == Binary::Add {
            for (a, b) in [(a, b), (b, a)] {
                if let Some(d) = self.negated(a)
                    && let Some(Value::Binary(Binary::Chain, factor, sum)) = self.made(b)
                    && factor == d
                    && let Some(Value::Binary(Binary::Add, x, one)) = self.made(sum)
                    && self.is_one(one)
                {
                    return self.binary_of(Binary::Chain, d, x);
                }
            }
            if let Some(b) = negative(self, b) {
                return self.binary_of(Binary::Sub, a, b);
            }
            if let Some(a) = negative(self, a) {
                return self.binary_of(Binary::Sub, b, a);
            }
        }
        self.binary_of(op, a, b)
    }

    fn binary_of(&mut self, op: Binary, a: Arg, b: Arg) -> Option<Arg> {
        self.value(Value::Binary(op, a, b))
    }

    /// The operator on an argument.
    fn apply(&mut self, op: Operator, x: Arg) -> Option<Arg> {
        match (op, x) {
            (Operator::Unary(op), Arg::Number(x)) => self.unary(op, x),
            (Operator::Before(op, n), Arg::Number(x)) => self.pair(op, x, n),
            (Operator::After(op, n), Arg::Number(x)) => self.pair(op, n, x),
            (op, x @ Arg::Row(_)) => self.value(op.on(x)),
        }
    }

    /// A value whose negative, but for the sign of 0, an argument is.
    fn negative(&self, arg: Arg) -> Option<Arg> {
        match self.made(arg)? {
            Value::Unary(Unary::Neg, x) => Some(x),
            Value::Binary(Binary::Sub, Arg::Number(n), x) if self.is(n, 0.0) => Some(x),
            Value::Binary(Binary::Sub, a, b) => self.known(Value::Binary(Binary::Sub, b, a)),
            _ => None,
        }
    }

    fn is(&self, n: u16, x: f64) -> bool {
        self.out.numbers[n as usize] == Number::Const(x)
    }

    fn is_one(&self, arg: Arg) -> bool {
        matches!(arg, Arg::Number(n) if self.is(n, 1.0))
    }

    /// The value whose negative an argument is.
    fn negated(&self, arg: Arg) -> Option<Arg> {
        match self.made(arg)? {
            Value::Unary(Unary::Neg, x) => Some(x),
            // Both are numbers if a condition holds.
            Value::Select(c, Arg::Number(a), Arg::Number(b)) => {
                let same = |of: u16, negative: u16| {
                    let numbers =
                        (self.out.numbers[of as usize], self.out.numbers[negative as usize]);
                    match numbers {
                        (Number::Const(x), Number::Const(y)) => (-x).to_bits() == y.to_bits(),
                        (_, y) => y == Number::Unary(Unary::Neg, of),
                    }
                };
                let at = self.out.values.iter().position(|v| match *v {
                    Value::Select(d, Arg::Number(x), Arg::Number(y)) => {
                        d == c && same(x, a) && same(y, b)
                    }
                    _ => false,
                })?;
                Some(Arg::Row(u16::try_from(at).ok()?))
            }
            _ => None,
        }
    }

    /// Whether an operator on a value moves into its selections: those are one, or few and read by this operator only,
    /// and select among numbers, or values on which the same operator is there already.
    fn selected(&self, arg: Arg, only: bool, op: Operator) -> bool {
        self.selections(arg, op).is_some_and(|n| n == 1 || only && n > 0 && n <= MOST)
    }

    /// How many selections a value is made of.
    fn selections(&self, arg: Arg, op: Operator) -> Option<usize> {
        match (arg, self.made(arg)) {
            (_, Some(Value::Select(_, a, b))) => {
                Some(1 + self.selections(a, op)? + self.selections(b, op)?)
            }
            (Arg::Row(_), _) => self.known(op.on(arg)).map(|_| 0),
            (Arg::Number(_), _) => Some(0),
        }
    }

    /// The operator on everything that is selected.
    fn inside(&mut self, arg: Arg, op: Operator) -> Option<Arg> {
        match self.made(arg) {
            Some(Value::Select(c, a, b)) => {
                let (a, b) = (self.inside(a, op)?, self.inside(b, op)?);
                self.select(c, a, b)
            }
            _ => self.apply(op, arg),
        }
    }
}

/// An operator on one argument; a number of the segment may be the other.
#[derive(Clone, Copy)]
enum Operator {
    Unary(Unary),
    /// The argument comes before the number.
    Before(Binary, u16),
    /// It comes after.
    After(Binary, u16),
}

impl Operator {
    fn on(self, x: Arg) -> Value {
        match self {
            Operator::Unary(op) => Value::Unary(op, x),
            Operator::Before(op, n) => Value::Binary(op, x, Arg::Number(n)),
            Operator::After(op, n) => Value::Binary(op, Arg::Number(n), x),
        }
    }
}

/// Puts folds that no step adds to behind the others.
fn counted_last(code: &mut Code) -> Option<()> {
    let counted = |f: usize| code.counted.iter().any(|c| usize::from(c.fold) == f);
    let (last, first): (Vec<usize>, Vec<usize>) = (0..code.folds.len()).partition(|f| counted(*f));
    let order: Vec<usize> = first.into_iter().chain(last).collect();
    let place = |f: u16| order.iter().position(|o| *o == usize::from(f));
    for step in &mut code.steps {
        if let Step::Fold(f) = step {
            *f = u16::try_from(place(*f)?).ok()?;
        }
    }
    for counted in &mut code.counted {
        counted.fold = u16::try_from(place(counted.fold)?).ok()?;
    }
    code.folds = order.iter().map(|f| code.folds[*f]).collect();
    Some(())
}

/// Leaves out what no step reads.
fn drop_unread(code: &mut Code) {
    let mut read = vec![false; code.values.len()];
    for step in code.steps.iter().rev() {
        let counts = match *step {
            Step::Value(v) => read[v as usize],
            Step::Store(_) | Step::Fold(_) | Step::Scatter(_) | Step::Count(_) => true,
        };
        if counts {
            code.args(*step, |arg| {
                if let Arg::Row(v) = arg {
                    read[v as usize] = true;
                }
            });
        }
    }
    let mut number = 0;
    let mut numbers = Vec::new();
    for read in &read {
        numbers.push(number);
        number += u16::from(*read);
    }
    let of = |arg: &mut Arg| {
        if let Arg::Row(v) = arg {
            *v = numbers[*v as usize];
        }
    };
    for value in &mut code.values {
        match value {
            Value::Load(_) | Value::RowNumber => {}
            Value::Gather(_, x) | Value::Unary(_, x) => of(x),
            Value::Binary(_, a, b) => [a, b].into_iter().for_each(of),
            Value::Select(c, a, b) => [c, a, b].into_iter().for_each(of),
        }
    }
    code.stores.iter_mut().for_each(|s| of(&mut s.1));
    for fold in &mut code.folds {
        of(&mut fold.x);
        fold.filter.iter_mut().for_each(of);
    }
    code.counts.iter_mut().for_each(of);
    for scatter in &mut code.scatters {
        of(&mut scatter.x);
        of(&mut scatter.index);
        scatter.filter.iter_mut().for_each(of);
    }
    code.steps.retain(|s| !matches!(*s, Step::Value(v) if !read[v as usize]));
    for step in &mut code.steps {
        if let Step::Value(v) = step {
            *v = numbers[*v as usize];
        }
    }
    let mut kept = read.iter();
    code.values.retain(|_| kept.next().copied().unwrap_or(false));
}
