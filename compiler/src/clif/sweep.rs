//! A loop over the vocab entries of the current row, and the running log-sum-exp.

use std::collections::HashMap;

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{BlockArg, InstBuilder, Value, types};
use cranelift_frontend::Variable;

use super::Import;
use super::row::{Emit, trusted};
use crate::loops::{EntryFold, Guard, Op, SlotId, Sweep};

/// A log-sum-exp that has seen some of its entries, with the means that run beside it.
pub(super) struct Running {
    /// Largest entry so far.
    pub most: Value,
    /// sum(exp(x - most)).
    pub scale: Value,
    /// sum(exp(x - most) * f), each.
    pub means: Vec<Value>,
}

/// What one entry adds to a mean.
#[derive(Clone, Copy)]
pub(super) struct Share {
    f: Value,
    /// Whether it counts, if that is a question.
    kept: Option<Value>,
    guard: Guard,
}

/// The variables of one fold: its state from entry to entry.
struct State {
    vars: Vec<Variable>,
}

impl Emit<'_, '_> {
    pub(super) fn sweep(&mut self, sweep: &Sweep) {
        let states: Vec<State> = sweep.folds.iter().map(|f| self.start(f)).collect();
        let mut rows: HashMap<SlotId, Value> = HashMap::new();
        let read = sweep.body.iter().filter_map(|(_, op)| op.slot());
        for slot in read.chain(sweep.gradients.iter().map(|g| g.0)) {
            rows.entry(slot).or_insert_with(|| self.entries(slot));
        }
        let b = &mut self.s.b;
        let (header, body, exit) = (b.create_block(), b.create_block(), b.create_block());
        let at = b.declare_var(types::I64);
        let zero = b.ins().iconst(types::I64, 0);
        b.def_var(at, zero);
        b.ins().jump(header, &[]);
        b.switch_to_block(header);
        let entry = b.use_var(at);
        let more = b.ins().icmp(IntCC::SignedLessThan, entry, self.vocab);
        b.ins().brif(more, body, &[], exit, &[]);
        b.switch_to_block(body);
        for &(v, op) in &sweep.body {
            let known = match op {
                Op::Entry(slot) => {
                    let bytes = self.bytes(slot);
                    let row = rows.get(&slot).copied().unwrap_or(entry);
                    let address = self.offset(row, entry, bytes);
                    self.load_entry(slot, address).into()
                }
                Op::EntryIndex => self.s.b.ins().fcvt_from_sint(types::F64, entry).into(),
                Op::Const(_)
                | Op::Load(_)
                | Op::Parent(_)
                | Op::Whole(_)
                | Op::Indexed(..)
                | Op::RowOf(_)
                | Op::EntryAt(..)
                | Op::InRow(_)
                | Op::Unary(..)
                | Op::Binary(..)
                | Op::Select(..) => self.scalar(op),
            };
            self.set(v, known);
        }
        for &(slot, v) in &sweep.gradients {
            let x = self.get(v);
            let row = rows.get(&slot).copied().unwrap_or(entry);
            let address = self.offset(row, entry, 4);
            let x = self.s.b.ins().fdemote(types::F32, x);
            self.s.b.ins().store(trusted(), x, address, 0);
        }
        for (fold, state) in sweep.folds.iter().zip(&states) {
            if let EntryFold::Nth { x, scratch, .. } = fold {
                let x = self.get(*x);
                let address = self.element(*scratch, entry, 8);
                self.s.b.ins().store(trusted(), x, address, 0);
            } else {
                self.advance(fold, state);
            }
        }
        let b = &mut self.s.b;
        let next = b.ins().iadd_imm_s(entry, 1);
        b.def_var(at, next);
        b.ins().jump(header, &[]);
        b.switch_to_block(exit);
        for (fold, state) in sweep.folds.iter().zip(&states) {
            self.finish(fold, state);
        }
    }

    fn start(&mut self, fold: &EntryFold) -> State {
        let first: Vec<f64> = match fold {
            EntryFold::Plain { op, .. } => vec![op.identity()],
            EntryFold::Nth { .. } => Vec::new(),
            EntryFold::LogSumExp { means, .. } => {
                let mut first = vec![f64::NEG_INFINITY, 0.0];
                first.resize(2 + means.len(), 0.0);
                first
            }
        };
        let mut vars = Vec::new();
        for x in first {
            let var = self.variable(types::F64);
            let x = self.s.number(x);
            self.s.b.def_var(var, x);
            vars.push(var);
        }
        State { vars }
    }

    fn running(&mut self, state: &State) -> Vec<Value> {
        state.vars.iter().map(|v| self.s.b.use_var(*v)).collect()
    }

    fn advance(&mut self, fold: &EntryFold, state: &State) {
        let now = self.running(state);
        let next = match fold {
            EntryFold::Nth { .. } => Vec::new(),
            EntryFold::Plain { op, x, .. } => {
                let x = self.get(*x);
                vec![self.s.fold(*op, now[0], x)]
            }
            EntryFold::LogSumExp { x, means, .. } => {
                let x = self.get(*x);
                let mut shares = Vec::new();
                for m in means {
                    let kept = m.filter.map(|c| {
                        let c = self.known(c);
                        self.s.truth(c)
                    });
                    shares.push(Share { f: self.get(m.f), kept, guard: m.guard });
                }
                let running = Running { most: now[0], scale: now[1], means: now[2..].to_vec() };
                let next = self.add_exp(running, x, &shares);
                [vec![next.most, next.scale], next.means].concat()
            }
        };
        for (var, x) in state.vars.iter().zip(next) {
            self.s.b.def_var(*var, x);
        }
    }

    /// Adds an entry to a log-sum-exp. Goes on in a new block.
    pub(super) fn add_exp(&mut self, running: Running, x: Value, shares: &[Share]) -> Running {
        let Running { most, scale, means } = running;
        let b = &mut self.s.b;
        let (above, within, done) = (b.create_block(), b.create_block(), b.create_block());
        for _ in 0..2 + means.len() {
            b.append_block_param(done, types::F64);
        }
        b.set_cold_block(above);
        let rises = b.ins().fcmp(FloatCC::GreaterThan, x, most);
        b.ins().brif(rises, above, &[], within, &[]);

        // A new maximum: everything so far shrinks, and this entry weighs 1.
        b.switch_to_block(above);
        let gap = b.ins().fsub(most, x);
        let shrink = self.s.exp(gap);
        let shrunk = self.s.b.ins().fmul(scale, shrink);
        let one = self.s.number(1.0);
        let sum = self.s.b.ins().fadd(shrunk, one);
        let mut out: Vec<BlockArg> = vec![x.into(), sum.into()];
        for (mean, share) in means.iter().zip(shares) {
            let old = match share.guard {
                Guard::None => self.s.b.ins().fmul(shrink, *mean),
                // What no longer weighs anything must not turn inf into NaN.
                Guard::NonZero | Guard::Positive => self.s.chain(shrink, *mean),
            };
            let new = self.kept_or_zero(share.kept, share.f);
            out.push(self.s.b.ins().fadd(old, new).into());
        }
        self.s.b.ins().jump(done, &out);

        // Otherwise, NaN included, it adds exp(x - most); -inf adds 0 and inf - inf is 0.
        self.s.b.switch_to_block(within);
        let gap = self.s.b.ins().fsub(x, most);
        let zero = self.s.number(0.0);
        let equal = self.s.compare(FloatCC::Equal, x, most);
        let gap = self.s.select(equal, zero, gap);
        let weight = self.s.exp(gap);
        let lowest = self.s.number(f64::NEG_INFINITY);
        let nothing = self.s.compare(FloatCC::Equal, x, lowest);
        let weight = self.s.select(nothing, zero, weight);
        let sum = self.s.b.ins().fadd(scale, weight);
        let mut out: Vec<BlockArg> = vec![most.into(), sum.into()];
        for (mean, share) in means.iter().zip(shares) {
            let mut add = self.s.b.ins().fmul(weight, share.f);
            let counts = match share.guard {
                Guard::None => None,
                Guard::NonZero => Some(FloatCC::NotEqual),
                Guard::Positive => Some(FloatCC::GreaterThan),
            };
            if let Some(counts) = counts {
                let counts = self.s.compare(counts, weight, zero);
                add = self.s.select(counts, add, zero);
            }
            let add = self.kept_or_zero(share.kept, add);
            out.push(self.s.b.ins().fadd(*mean, add).into());
        }
        self.s.b.ins().jump(done, &out);

        self.s.b.switch_to_block(done);
        let found = self.s.b.block_params(done).to_vec();
        Running { most: found[0], scale: found[1], means: found[2..].to_vec() }
    }

    fn kept_or_zero(&mut self, kept: Option<Value>, x: Value) -> Value {
        match kept {
            Some(kept) => {
                let zero = self.s.number(0.0);
                self.s.select(kept, x, zero)
            }
            None => x,
        }
    }

    fn finish(&mut self, fold: &EntryFold, state: &State) {
        let now = self.running(state);
        match fold {
            EntryFold::Plain { into, .. } => self.set(*into, now[0].into()),
            EntryFold::Nth { into, n, scratch, .. } => {
                let (row, n) = (self.pointer(*scratch), self.get(*n));
                let found = self.s.call(Import::Nth, &[row, self.vocab, n]);
                self.set(*into, found.into());
            }
            EntryFold::LogSumExp { into, means, .. } => {
                let log = self.s.log(now[1]);
                let total = self.s.b.ins().fadd(now[0], log);
                self.set(*into, total.into());
                let inf = self.s.number(f64::INFINITY);
                let finite = self.s.compare(FloatCC::LessThan, now[0], inf);
                let zero = self.s.number(0.0);
                let some = self.s.compare(FloatCC::GreaterThan, now[1], zero);
                let proper = self.s.b.ins().band(finite, some);
                for (mean, sum) in means.iter().zip(&now[2..]) {
                    // An entry of inf, or none above -inf: no softmax.
                    let value = self.s.b.ins().fdiv(*sum, now[1]);
                    let otherwise = self.s.number(match mean.guard {
                        Guard::Positive => 0.0,
                        Guard::None | Guard::NonZero => f64::NAN,
                    });
                    let value = self.s.select(proper, value, otherwise);
                    self.set(mean.into, value.into());
                }
            }
        }
    }
}
