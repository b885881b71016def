//! A loop over rows: pointers and batch-level values first, then the rows' code.

use std::collections::HashMap;

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{Function, InstBuilder, MemFlagsData, Type, Value, types};
use cranelift_codegen::isa::TargetFrontendConfig;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};

use super::Float;
use super::scalar::{Known, Scalar};
use super::sweep::Running;
use crate::hir::{ColumnId, ReduceOp};
use crate::level::{BATCH, Level};
use crate::loops::{Direction, Item, Loop, Op, Plan, SlotId, SlotKind, V};

/// Memory is the runtime's: aligned, and large enough for every row it passes.
pub(super) fn trusted() -> MemFlagsData {
    MemFlagsData::trusted()
}

/// Where each row of a coarser level begins.
#[derive(Clone, Copy)]
struct Scope {
    /// Row of the level in the previous iteration.
    previous: Variable,
    /// This row's, and whether it differs.
    now: Option<(Value, Value)>,
}

/// Writes the function of one loop.
pub(super) struct Emit<'a, 'f> {
    pub s: Scalar<'f>,
    plan: &'a Plan,
    of: &'a Loop,
    float: &'a dyn Fn(ColumnId) -> Float,
    target: TargetFrontendConfig,
    /// Pointers of slots, loaded once.
    pointers: HashMap<SlotId, Value>,
    values: Vec<Option<Known>>,
    scopes: Vec<(Level, Scope)>,
    /// State that scans and shifts carry from row to row, in the order of items.
    carried: Vec<Variable>,
    begin: Value,
    end: Value,
    /// Entries per row.
    pub vocab: Value,
    base: Value,
    /// Of the current row.
    row: Value,
}

impl<'a, 'f> Emit<'a, 'f> {
    pub(super) fn new(
        plan: &'a Plan,
        of: &'a Loop,
        float: &'a dyn Fn(ColumnId) -> Float,
        function: &'f mut Function,
        context: &'f mut FunctionBuilderContext,
        target: TargetFrontendConfig,
    ) -> Self {
        let mut b = FunctionBuilder::new(function, context);
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        let params: Vec<Value> = b.block_params(entry).to_vec();
        let mut emit = Emit {
            s: Scalar::new(b),
            plan,
            of,
            float,
            target,
            pointers: HashMap::new(),
            values: vec![None; of.names.len()],
            scopes: Vec::new(),
            carried: Vec::new(),
            begin: params[1],
            end: params[2],
            vocab: params[3],
            base: params[4],
            row: params[1],
        };
        emit.load_pointers(params[0]);
        emit
    }

    pub(super) fn emit(mut self) {
        for &(v, op) in &self.of.head {
            let known = self.op(op);
            self.set(v, known);
        }
        self.declare_state();
        let b = &mut self.s.b;
        let (header, body, exit) = (b.create_block(), b.create_block(), b.create_block());
        let at = b.declare_var(types::I64);
        b.def_var(at, self.begin);
        b.ins().jump(header, &[]);
        b.switch_to_block(header);
        let k = b.use_var(at);
        let more = b.ins().icmp(IntCC::SignedLessThan, k, self.end);
        b.ins().brif(more, body, &[], exit, &[]);
        b.switch_to_block(body);
        self.row = match self.of.direction {
            Direction::Forward => k,
            Direction::Reverse => {
                let last = b.ins().iadd_imm_s(self.end, -1);
                let back = b.ins().isub(last, k);
                b.ins().iadd(back, self.begin)
            }
        };
        self.enter_scopes();
        let mut carried = 0;
        for item in &self.of.body {
            self.item(item, &mut carried);
        }
        let b = &mut self.s.b;
        let next = b.ins().iadd_imm_s(k, 1);
        b.def_var(at, next);
        b.ins().jump(header, &[]);
        b.switch_to_block(exit);
        b.ins().return_(&[]);
        b.seal_all_blocks();
        self.s.b.finalize(self.target);
    }

    /// Loads the pointer of every slot the loop touches.
    fn load_pointers(&mut self, table: Value) {
        let mut slots: Vec<SlotId> = Vec::new();
        slots.extend(self.of.head.iter().filter_map(|(_, op)| op.slot()));
        for item in &self.of.body {
            match item {
                Item::Let(_, op) => slots.extend(op.slot()),
                Item::Scan { .. } => {}
                Item::Shift { ring, .. } => slots.push(*ring),
                Item::Store(slot, _) => slots.push(*slot),
                Item::Fold { into, scale, .. } => {
                    slots.extend(std::iter::once(*into).chain(*scale));
                }
                Item::Sweep(sweep) => {
                    slots.extend(sweep.body.iter().filter_map(|(_, op)| op.slot()));
                    slots.extend(sweep.gradients.iter().map(|g| g.0));
                }
            }
        }
        for level in self.of.scopes(self.plan) {
            slots.extend(self.plan.parents(level, self.of.level));
        }
        let ty = self.target.pointer_type();
        for slot in slots {
            if !self.pointers.contains_key(&slot) {
                let offset = i32::from(slot.0) * ty.bytes() as i32;
                let pointer = self.s.b.ins().load(ty, trusted(), table, offset);
                self.pointers.insert(slot, pointer);
            }
        }
    }

    fn declare_state(&mut self) {
        for level in self.of.scopes(self.plan) {
            let previous = self.variable(types::I64);
            let none = self.s.b.ins().iconst(types::I64, -1);
            self.s.b.def_var(previous, none);
            self.scopes.push((level, Scope { previous, now: None }));
        }
        for item in &self.of.body {
            match item {
                Item::Scan { .. } => {
                    let sum = self.variable(types::F64);
                    let zero = self.s.number(0.0);
                    self.s.b.def_var(sum, zero);
                    self.carried.push(sum);
                }
                Item::Shift { .. } => {
                    for _ in 0..2 {
                        let state = self.variable(types::I64);
                        let zero = self.s.b.ins().iconst(types::I64, 0);
                        self.s.b.def_var(state, zero);
                        self.carried.push(state);
                    }
                }
                Item::Let(..) | Item::Store(..) | Item::Fold { .. } | Item::Sweep(_) => {}
            }
        }
    }

    /// Finds the rows of coarser levels that contain this one.
    fn enter_scopes(&mut self) {
        for i in 0..self.scopes.len() {
            let (level, mut scope) = self.scopes[i];
            let Some(map) = self.plan.parents(level, self.of.level) else { continue };
            let address = self.element(map, self.row, 4);
            let b = &mut self.s.b;
            let row = b.ins().uload32(trusted(), address, 0);
            let before = b.use_var(scope.previous);
            let changed = b.ins().icmp(IntCC::NotEqual, row, before);
            b.def_var(scope.previous, row);
            scope.now = Some((row, changed));
            self.scopes[i].1 = scope;
        }
    }

    /// This row's row of a coarser level; the batch has one.
    fn parent(&mut self, level: Level) -> Value {
        let known = self.scopes.iter().find(|s| s.0 == level).and_then(|s| s.1.now);
        match known {
            Some((row, _)) => row,
            None => self.s.b.ins().iconst(types::I64, 0),
        }
    }

    /// `fresh` where a new row of `scope` begins, else `running`. The batch begins with the loop.
    fn renew(&mut self, scope: Level, fresh: Value, running: Value) -> Value {
        match self.scopes.iter().find(|s| s.0 == scope).and_then(|s| s.1.now) {
            Some((_, changed)) if scope != BATCH => self.s.select(changed, fresh, running),
            _ => running,
        }
    }

    pub(super) fn variable(&mut self, ty: Type) -> Variable {
        self.s.b.declare_var(ty)
    }

    pub(super) fn set(&mut self, v: V, known: Known) {
        self.values[v.index()] = Some(known);
    }

    pub(super) fn known(&mut self, v: V) -> Known {
        match self.values[v.index()] {
            Some(known) => known,
            // The verifier excludes it; NaN would show.
            None => self.s.number(f64::NAN).into(),
        }
    }

    pub(super) fn get(&mut self, v: V) -> Value {
        self.known(v).number
    }

    fn kept(&mut self, filter: Option<V>) -> Option<Value> {
        let known = self.known(filter?);
        Some(self.s.truth(known))
    }

    fn pointer(&mut self, slot: SlotId) -> Value {
        match self.pointers.get(&slot) {
            Some(&p) => p,
            None => self.s.b.ins().iconst(self.target.pointer_type(), 0),
        }
    }

    /// Address of an element.
    pub(super) fn element(&mut self, slot: SlotId, index: Value, bytes: usize) -> Value {
        let pointer = self.pointer(slot);
        self.offset(pointer, index, bytes)
    }

    /// Address of element `index` from `pointer` on.
    pub(super) fn offset(&mut self, pointer: Value, index: Value, bytes: usize) -> Value {
        let b = &mut self.s.b;
        let offset = b.ins().ishl_imm_u(index, i64::from(bytes.trailing_zeros()));
        b.ins().iadd(pointer, offset)
    }

    /// Address of the first entry of this row in vocab-level memory.
    pub(super) fn entries(&mut self, slot: SlotId) -> Value {
        let bytes = self.bytes(slot);
        let b = &mut self.s.b;
        let row = b.ins().isub(self.row, self.base);
        let first = b.ins().imul(row, self.vocab);
        self.element(slot, first, bytes)
    }

    /// Bytes of an element of a slot.
    pub(super) fn bytes(&self, slot: SlotId) -> usize {
        match self.plan.slot(slot).kind {
            SlotKind::Entries(column) => (self.float)(column).bytes(),
            SlotKind::Gradient(_) | SlotKind::Parents(_) => 4,
            SlotKind::Column(_)
            | SlotKind::Param(_)
            | SlotKind::Stored
            | SlotKind::Folded(_)
            | SlotKind::Ring(_) => 8,
        }
    }

    /// A number of a vocab-level column as f64.
    pub(super) fn load_entry(&mut self, slot: SlotId, address: Value) -> Value {
        let float = match self.plan.slot(slot).kind {
            SlotKind::Entries(column) => (self.float)(column),
            SlotKind::Gradient(_)
            | SlotKind::Parents(_)
            | SlotKind::Column(_)
            | SlotKind::Param(_)
            | SlotKind::Stored
            | SlotKind::Folded(_)
            | SlotKind::Ring(_) => Float::F64,
        };
        let b = &mut self.s.b;
        match float {
            Float::F64 => b.ins().load(types::F64, trusted(), address, 0),
            Float::F32 => {
                let x = b.ins().load(types::F32, trusted(), address, 0);
                b.ins().fpromote(types::F64, x)
            }
            Float::Bf16 => {
                let bits = b.ins().uload16(types::I32, trusted(), address, 0);
                let bits = b.ins().ishl_imm_u(bits, 16);
                let x = b.ins().bitcast(types::F32, MemFlagsData::new(), bits);
                b.ins().fpromote(types::F64, x)
            }
            Float::F16 => {
                // The exponent is 112 too small for f32, subnormals included; 31 means 255.
                let bits = b.ins().uload16(types::I32, trusted(), address, 0);
                let rest = b.ins().band_imm_u(bits, 0x7fff);
                let rest = b.ins().ishl_imm_u(rest, 13);
                let special = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, rest, 31 << 23);
                let scaled = b.ins().bitcast(types::F32, MemFlagsData::new(), rest);
                let scale = b.ins().f32const(f32::from_bits((127 + 112) << 23));
                let scaled = b.ins().fmul(scaled, scale);
                let wide = b.ins().bor_imm_u(rest, 0x7f80_0000);
                let wide = b.ins().bitcast(types::F32, MemFlagsData::new(), wide);
                let size = b.ins().select(special, wide, scaled);
                let size = b.ins().fpromote(types::F64, size);
                let sign = b.ins().band_imm_u(bits, 0x8000);
                let negative = b.ins().fneg(size);
                b.ins().select(sign, negative, size)
            }
        }
    }

    /// Code of one value outside sweeps.
    fn op(&mut self, op: Op) -> Known {
        match op {
            Op::Const(x) => self.s.number(x).into(),
            Op::Whole(slot) => {
                let pointer = self.pointer(slot);
                self.s.b.ins().load(types::F64, trusted(), pointer, 0).into()
            }
            Op::Load(slot) => {
                let address = self.element(slot, self.row, 8);
                self.s.b.ins().load(types::F64, trusted(), address, 0).into()
            }
            Op::Parent(slot) => {
                let row = self.parent(self.plan.slot(slot).level);
                let address = self.element(slot, row, 8);
                self.s.b.ins().load(types::F64, trusted(), address, 0).into()
            }
            Op::EntryAt(slot, index) => {
                let index = self.get(index);
                let inside = self.in_row(index);
                let number = self.s.b.ins().fcvt_to_sint_sat(types::I64, index);
                let zero = self.s.b.ins().iconst(types::I64, 0);
                let number = self.s.select(inside, number, zero);
                let first = self.entries(slot);
                let bytes = self.bytes(slot);
                let address = self.offset(first, number, bytes);
                let x = self.load_entry(slot, address);
                let nan = self.s.number(f64::NAN);
                self.s.select(inside, x, nan).into()
            }
            Op::InRow(index) => {
                let index = self.get(index);
                let t = self.in_row(index);
                let (one, zero) = (self.s.number(1.0), self.s.number(0.0));
                Known { number: self.s.select(t, one, zero), truth: Some(t) }
            }
            // The verifier has them in sweeps only.
            Op::Entry(_) | Op::EntryIndex => self.s.number(f64::NAN).into(),
            Op::Unary(..) | Op::Binary(..) | Op::Select(..) => self.scalar(op),
        }
    }

    /// Code that is the same per row and per entry.
    pub(super) fn scalar(&mut self, op: Op) -> Known {
        match op {
            Op::Unary(op, x) => {
                let x = self.known(x);
                self.s.unary(op, x)
            }
            Op::Binary(op, a, b) => {
                let (a, b) = (self.known(a), self.known(b));
                self.s.binary(op, a, b)
            }
            Op::Select(c, a, b) => {
                let (c, a, b) = (self.known(c), self.get(a), self.get(b));
                let c = self.s.truth(c);
                self.s.select(c, a, b).into()
            }
            Op::Const(_)
            | Op::Load(_)
            | Op::Parent(_)
            | Op::Whole(_)
            | Op::Entry(_)
            | Op::EntryAt(..)
            | Op::EntryIndex
            | Op::InRow(_) => self.op(op),
        }
    }

    fn in_row(&mut self, index: Value) -> Value {
        let s = &mut self.s;
        let zero = s.number(0.0);
        let count = s.b.ins().fcvt_from_sint(types::F64, self.vocab);
        let whole = s.b.ins().trunc(index);
        let low = s.compare(FloatCC::GreaterThanOrEqual, index, zero);
        let high = s.compare(FloatCC::LessThan, index, count);
        let exact = s.compare(FloatCC::Equal, whole, index);
        let inside = s.b.ins().band(low, high);
        s.b.ins().band(inside, exact)
    }

    fn item(&mut self, item: &Item, carried: &mut usize) {
        match item {
            Item::Let(v, op) => {
                let known = self.op(*op);
                self.set(*v, known);
            }
            Item::Store(slot, v) => {
                let x = self.get(*v);
                let address = self.element(*slot, self.row, 8);
                self.s.b.ins().store(trusted(), x, address, 0);
            }
            Item::Fold { op, into, scale, x, filter } => {
                self.fold(*op, *into, *scale, *x, *filter);
            }
            Item::Scan { into, x, filter, scope, exclusive } => {
                let state = self.carried[*carried];
                *carried += 1;
                let running = self.s.b.use_var(state);
                let zero = self.s.number(0.0);
                let before = self.renew(*scope, zero, running);
                let x = self.get(*x);
                let mut sum = self.s.b.ins().fadd(before, x);
                if let Some(kept) = self.kept(*filter) {
                    sum = self.s.select(kept, sum, before);
                }
                self.s.b.def_var(state, sum);
                self.set(*into, if *exclusive { before } else { sum }.into());
            }
            Item::Shift { into, x, default, filter, scope, by, ring } => {
                let states = [self.carried[*carried], self.carried[*carried + 1]];
                *carried += 2;
                let value = self.shift(*x, *default, *filter, *scope, (*by, *ring), states);
                self.set(*into, value.into());
            }
            Item::Sweep(sweep) => self.sweep(sweep),
        }
    }

    /// `states`: where the ring is read and written next, and how many kept rows have passed.
    fn shift(
        &mut self,
        x: V,
        default: V,
        filter: Option<V>,
        scope: Level,
        (by, ring): (u32, SlotId),
        states: [Variable; 2],
    ) -> Value {
        let (x, default) = (self.get(x), self.get(default));
        let kept = self.kept(filter);
        let zero = self.s.b.ins().iconst(types::I64, 0);
        let at = self.s.b.use_var(states[0]);
        let passed = self.s.b.use_var(states[1]);
        let passed = self.renew(scope, zero, passed);
        let address = self.element(ring, at, 8);
        let b = &mut self.s.b;
        let old = b.ins().load(types::F64, trusted(), address, 0);
        let enough = b.ins().icmp_imm_s(IntCC::SignedGreaterThanOrEqual, passed, i64::from(by));
        let mut value = b.ins().select(enough, old, default);
        let further = b.ins().iadd_imm_s(at, 1);
        let wraps = b.ins().icmp_imm_s(IntCC::Equal, further, i64::from(by));
        let mut next = b.ins().select(wraps, zero, further);
        let mut count = b.ins().iadd_imm_s(passed, 1);
        let mut put = x;
        if let Some(kept) = kept {
            let none = b.ins().f64const(0.0);
            value = b.ins().select(kept, value, none);
            next = b.ins().select(kept, next, at);
            count = b.ins().select(kept, count, passed);
            put = b.ins().select(kept, x, old);
        }
        b.ins().store(trusted(), put, address, 0);
        b.def_var(states[0], next);
        b.def_var(states[1], count);
        value
    }

    fn fold(&mut self, op: ReduceOp, into: SlotId, scale: Option<SlotId>, x: V, filter: Option<V>) {
        let mut x = self.get(x);
        let kept = self.kept(filter);
        let row = self.parent(self.plan.slot(into).level);
        let address = self.element(into, row, 8);
        let sum = self.s.b.ins().load(types::F64, trusted(), address, 0);
        let Some(scale) = scale else {
            let mut next = self.s.fold(op, sum, x);
            if let Some(kept) = kept {
                next = self.s.select(kept, next, sum);
            }
            self.s.b.ins().store(trusted(), next, address, 0);
            return;
        };
        if let Some(kept) = kept {
            let nothing = self.s.number(f64::NEG_INFINITY);
            x = self.s.select(kept, x, nothing);
        }
        let scale_address = self.element(scale, row, 8);
        let scale = self.s.b.ins().load(types::F64, trusted(), scale_address, 0);
        let next = self.add_exp(Running { most: sum, scale, means: Vec::new() }, x, &[]);
        self.s.b.ins().store(trusted(), next.most, address, 0);
        self.s.b.ins().store(trusted(), next.scale, scale_address, 0);
    }
}
