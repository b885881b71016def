//! Calls of sweeps over the vocab entries of the current row, which the runtime runs a block of entries
//! at a time, and the running log-sum-exp of rows.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, StackSlotData, StackSlotKind, Value, types};

use super::Import;
use super::row::{Emit, trusted};
use crate::loops::Sweep;

/// A log-sum-exp that has seen some of its rows.
pub(super) struct Running {
    /// Largest so far.
    pub most: Value,
    /// sum(exp(x - most)).
    pub scale: Value,
}

impl Emit<'_, '_> {
    /// Hands the row values that a sweep reads to the runtime, and takes those that it folds.
    pub(super) fn sweep(&mut self, sweep: &Sweep) {
        let inputs = sweep.inputs();
        let results: Vec<_> = sweep.results().collect();
        let given = self.numbers_on_stack(inputs.len());
        for (n, v) in inputs.iter().enumerate() {
            let x = self.get(*v);
            self.s.b.ins().store(trusted(), x, given, 8 * n as i32);
        }
        let found = self.numbers_on_stack(results.len());
        let code = self.sweep_code();
        let row = self.s.b.ins().isub(self.row, self.base);
        let args = [code, self.table, given, found, self.vocab, row];
        self.s.call(Import::Sweep, &args);
        for (n, v) in results.into_iter().enumerate() {
            let x = self.s.b.ins().load(types::F64, trusted(), found, 8 * n as i32);
            self.set(v, x.into());
        }
    }

    fn numbers_on_stack(&mut self, count: usize) -> Value {
        let bytes = 8 * count.max(1) as u32;
        let data = StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 3);
        let slot = self.s.b.create_sized_stack_slot(data);
        let ty = self.pointer_type();
        self.s.b.ins().stack_addr(ty, slot, 0)
    }

    /// Adds a row to a log-sum-exp. Goes on in a new block.
    pub(super) fn add_exp(&mut self, running: Running, x: Value) -> Running {
        let Running { most, scale } = running;
        let b = &mut self.s.b;
        let (above, within, done) = (b.create_block(), b.create_block(), b.create_block());
        for _ in 0..2 {
            b.append_block_param(done, types::F64);
        }
        b.set_cold_block(above);
        let rises = b.ins().fcmp(FloatCC::GreaterThan, x, most);
        b.ins().brif(rises, above, &[], within, &[]);

        // A new maximum: everything so far shrinks, and this row weighs 1.
        b.switch_to_block(above);
        let gap = b.ins().fsub(most, x);
        let shrink = self.s.exp(gap);
        let shrunk = self.s.b.ins().fmul(scale, shrink);
        let one = self.s.number(1.0);
        let sum = self.s.b.ins().fadd(shrunk, one);
        self.s.b.ins().jump(done, &[x.into(), sum.into()]);

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
        self.s.b.ins().jump(done, &[most.into(), sum.into()]);

        self.s.b.switch_to_block(done);
        let found = self.s.b.block_params(done).to_vec();
        Running { most: found[0], scale: found[1] }
    }
}
