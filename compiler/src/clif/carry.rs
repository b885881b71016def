//! What goes from row to row: folds, scans, shifts, and sums over the rows below a token.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::Import;
use super::row::{Emit, trusted};
use super::sweep::Running;
use crate::hir::ReduceOp;
use crate::level::TOKEN;
use crate::loops::{Item, SlotId, Spread, V};

impl Emit<'_, '_> {
    /// Both conditions, where there is a first.
    fn both(&mut self, a: Option<Value>, b: Value) -> Value {
        match a {
            Some(a) => self.s.b.ins().band(a, b),
            None => b,
        }
    }

    pub(super) fn fold(&mut self, item: &Item) {
        let &Item::Fold { op, into, scale, x, filter, index } = item else { return };
        let mut x = self.get(x);
        let mut kept = self.kept(filter);
        let level = self.plan.slot(into).level;
        let found = match index {
            Some((index, _)) => {
                let found = self.numbered(index, level);
                kept = Some(self.both(kept, found.1));
                Some(found)
            }
            None => None,
        };
        let row = self.fold_row(into, found);
        let sum = self.s.b.ins().load(types::F64, trusted(), row, 0);
        let Some(scale) = scale else {
            let mut next = self.s.fold(op, sum, x);
            if let Some(kept) = kept {
                next = self.s.select(kept, next, sum);
            }
            self.s.b.ins().store(trusted(), next, row, 0);
            return;
        };
        debug_assert_eq!(op, ReduceOp::LogSumExp);
        if let Some(kept) = kept {
            let nothing = self.s.number(f64::NEG_INFINITY);
            x = self.s.select(kept, x, nothing);
        }
        let scale_row = self.fold_row(scale, found);
        let scale = self.s.b.ins().load(types::F64, trusted(), scale_row, 0);
        let next = self.add_exp(Running { most: sum, scale }, x);
        self.s.b.ins().store(trusted(), next.most, row, 0);
        self.s.b.ins().store(trusted(), next.scale, scale_row, 0);
    }

    /// Where a row is folded to. Rows of no element change nothing, so that nowhere stays 0.
    fn fold_row(&mut self, into: SlotId, found: Option<(Value, Value)>) -> Value {
        match found {
            Some(found) => self.numbered_element(into, found, 1),
            None => {
                let row = self.parent(self.plan.slot(into).level);
                self.element(into, row, 8)
            }
        }
    }

    pub(super) fn scan(&mut self, item: &Item, carried: &mut usize) -> Value {
        let &Item::Scan { x, filter, factor, scope, within, exclusive, .. } = item else {
            return self.s.number(f64::NAN);
        };
        let mut kept = self.kept(filter);
        let (x, factor) = (self.get(x), factor.map(|f| self.get(f)));
        // The running sum in memory, or in a variable.
        let mut memory = None;
        let before = match within {
            Some(within) => {
                let found = self.numbered(within.index, self.plan.slot(within.state).level);
                kept = Some(self.both(kept, found.1));
                let address = self.numbered_element(within.state, found, 1);
                memory = Some(address);
                self.s.b.ins().load(types::F64, trusted(), address, 0)
            }
            None => {
                let running = self.s.b.use_var(self.carried[*carried]);
                let zero = self.s.number(0.0);
                self.renew(scope, zero, running)
            }
        };
        let met = match factor {
            Some(factor) => self.s.b.ins().fmul(factor, before),
            None => before,
        };
        let mut sum = self.s.b.ins().fadd(met, x);
        if let Some(kept) = kept {
            sum = self.s.select(kept, sum, before);
        }
        match memory {
            Some(address) => {
                self.s.b.ins().store(trusted(), sum, address, 0);
            }
            None => {
                self.s.b.def_var(self.carried[*carried], sum);
                *carried += 1;
            }
        }
        if exclusive { before } else { sum }
    }

    pub(super) fn shift(&mut self, item: &Item, carried: &mut usize) -> Value {
        let &Item::Shift { x, default, filter, scope, within, by, ring, .. } = item else {
            return self.s.number(f64::NAN);
        };
        let (x, default) = (self.get(x), self.get(default));
        let mut kept = self.kept(filter);
        let zero = self.s.b.ins().iconst(types::I64, 0);
        // How many kept rows have passed, and where the value of `by` of them ago lies.
        let (passed, address, memory) = match within {
            Some(within) => {
                let found = self.numbered(within.index, self.plan.slot(within.state).level);
                kept = Some(self.both(kept, found.1));
                let state = self.numbered_element(within.state, found, 1);
                let passed = self.s.b.ins().load(types::I64, trusted(), state, 0);
                let mut address = self.numbered_element(ring, found, by);
                if by > 1 {
                    // Nowhere none have passed.
                    let place = self.s.b.ins().urem_imm_u(passed, i64::from(by));
                    address = self.offset(address, place, 8);
                }
                (passed, address, Some(state))
            }
            None => {
                let at = self.s.b.use_var(self.carried[*carried]);
                let passed = self.s.b.use_var(self.carried[*carried + 1]);
                let passed = self.renew(scope, zero, passed);
                (passed, self.element(ring, at, 8), None)
            }
        };
        let b = &mut self.s.b;
        let old = b.ins().load(types::F64, trusted(), address, 0);
        let enough = b.ins().icmp_imm_s(IntCC::SignedGreaterThanOrEqual, passed, i64::from(by));
        let mut value = b.ins().select(enough, old, default);
        let mut count = b.ins().iadd_imm_s(passed, 1);
        let mut put = x;
        if let Some(kept) = kept {
            let none = b.ins().f64const(0.0);
            value = b.ins().select(kept, value, none);
            count = b.ins().select(kept, count, passed);
            put = b.ins().select(kept, x, old);
        }
        b.ins().store(trusted(), put, address, 0);
        if let Some(state) = memory {
            b.ins().store(trusted(), count, state, 0);
            return value;
        }
        let at = b.use_var(self.carried[*carried]);
        let further = b.ins().iadd_imm_s(at, 1);
        let wraps = b.ins().icmp_imm_s(IntCC::Equal, further, i64::from(by));
        let mut next = b.ins().select(wraps, zero, further);
        if let Some(kept) = kept {
            next = b.ins().select(kept, next, at);
        }
        b.def_var(self.carried[*carried], next);
        b.def_var(self.carried[*carried + 1], count);
        *carried += 2;
        value
    }

    /// The rows below the current token.
    fn below(&mut self, of: Spread) -> [Value; 4] {
        let token = self.parent(TOKEN);
        let address = self.element(of.starts, token, 4);
        let b = &mut self.s.b;
        let begin = b.ins().uload32(trusted(), address, 0);
        let end = b.ins().uload32(trusted(), address, 4);
        [self.pointer(of.d), self.pointer(of.index), begin, end]
    }

    pub(super) fn spread(&mut self, row: SlotId, of: Spread) {
        let [d, index, begin, end] = self.below(of);
        let row = self.pointer(row);
        self.s.call(Import::Spread, &[row, self.vocab, d, index, begin, end]);
    }

    pub(super) fn spread_at(&mut self, of: Spread, at: V) -> Value {
        let [d, index, begin, end] = self.below(of);
        let at = self.get(at);
        self.s.call(Import::SpreadAt, &[at, self.vocab, d, index, begin, end])
    }
}
