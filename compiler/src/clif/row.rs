//! A loop over rows: pointers and batch-level values first, then the rows' code. What goes from row
//! to row is written by `carry`.

use std::collections::HashMap;

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{
    Function, InstBuilder, MemFlagsData, StackSlotData, StackSlotKind, Type, Value, types,
};
use cranelift_codegen::isa::TargetFrontendConfig;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};

use super::Float;
use super::scalar::{Known, Scalar};
use crate::hir::ColumnId;
use crate::level::{BATCH, Level, TOKEN};
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
    pub plan: &'a Plan,
    pub of: &'a Loop,
    float: &'a dyn Fn(ColumnId) -> Float,
    target: TargetFrontendConfig,
    /// Pointers of slots, loaded once.
    pointers: HashMap<SlotId, Value>,
    /// Rows of levels that are read or folded into by number, loaded once.
    counts: HashMap<Level, Value>,
    /// Memory that holds 0, for what has no row.
    nowhere: Option<Value>,
    values: Vec<Option<Known>>,
    scopes: Vec<(Level, Scope)>,
    /// State that scans and shifts carry from row to row, in the order of items.
    pub carried: Vec<Variable>,
    begin: Value,
    end: Value,
    /// Entries per row.
    pub vocab: Value,
    /// The token in the first row of vocab-level memory.
    pub base: Value,
    /// Of the current row.
    pub row: Value,
    /// The pointer table.
    pub table: Value,
    /// Number of the next sweep, over all loops.
    sweeps: usize,
}

impl<'a, 'f> Emit<'a, 'f> {
    pub(super) fn new(
        plan: &'a Plan,
        of: &'a Loop,
        float: &'a dyn Fn(ColumnId) -> Float,
        function: &'f mut Function,
        context: &'f mut FunctionBuilderContext,
        target: TargetFrontendConfig,
        sweeps: usize,
    ) -> Self {
        let mut b = FunctionBuilder::new(function, context);
        let entry = b.create_block();
        b.append_block_params_for_function_params(entry);
        b.switch_to_block(entry);
        let params: Vec<Value> = b.block_params(entry).to_vec();
        let mut emit = Emit {
            s: Scalar::new(b, target),
            plan,
            of,
            float,
            target,
            pointers: HashMap::new(),
            counts: HashMap::new(),
            nowhere: None,
            values: vec![None; of.names.len()],
            scopes: Vec::new(),
            carried: Vec::new(),
            begin: params[1],
            end: params[2],
            vocab: params[3],
            base: params[4],
            row: params[1],
            table: params[0],
            sweeps,
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
        let mut by_number: Vec<SlotId> = Vec::new();
        slots.extend(self.of.head.iter().filter_map(|(_, op)| op.slot()));
        for item in &self.of.body {
            match item {
                Item::Let(_, op) => {
                    slots.extend(op.slot());
                    if let Op::Indexed(slot, ..) = op {
                        by_number.push(*slot);
                    }
                }
                Item::Scan { within, .. } => by_number.extend(within.map(|w| w.state)),
                Item::Shift { within, ring, .. } => {
                    slots.push(*ring);
                    by_number.extend(within.map(|w| w.state));
                }
                Item::Store(slot, _) => slots.push(*slot),
                Item::Fold { into, scale, index, .. } => {
                    slots.extend(std::iter::once(*into).chain(*scale));
                    by_number.extend(index.map(|_| *into));
                }
                Item::Spread(row, of) => slots.extend([*row, of.d, of.index, of.starts]),
                Item::SpreadAt { of, .. } => slots.extend([of.d, of.index, of.starts]),
                // The runtime takes its pointers from the table itself.
                Item::Sweep(_) => {}
            }
        }
        slots.extend(&by_number);
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
        for slot in &by_number {
            let level = self.plan.slot(*slot).level;
            if !self.counts.contains_key(&level) {
                let entry = self.plan.slots.len() + usize::from(level.0);
                let offset = (entry * ty.bytes() as usize) as i32;
                let count = self.s.b.ins().load(types::I64, trusted(), table, offset);
                self.counts.insert(level, count);
            }
        }
        if !by_number.is_empty() {
            let b = &mut self.s.b;
            let data = StackSlotData::new(StackSlotKind::ExplicitSlot, 8, 3);
            let memory = b.create_sized_stack_slot(data);
            let nowhere = b.ins().stack_addr(ty, memory, 0);
            let zero = b.ins().f64const(0.0);
            b.ins().store(trusted(), zero, nowhere, 0);
            self.nowhere = Some(nowhere);
        }
    }

    /// The runtime's code of the next sweep.
    pub(super) fn sweep_code(&mut self) -> Value {
        let ty = self.target.pointer_type();
        let entry = self.plan.slots.len() + self.plan.levels.all().count() + self.sweeps;
        self.sweeps += 1;
        let offset = (entry * ty.bytes() as usize) as i32;
        self.s.b.ins().load(ty, trusted(), self.table, offset)
    }

    pub(super) fn pointer_type(&self) -> Type {
        self.target.pointer_type()
    }

    /// A number as a row of a level, and whether it is one.
    pub(super) fn numbered(&mut self, index: V, level: Level) -> (Value, Value) {
        let index = self.get(index);
        let count = match self.counts.get(&level) {
            Some(&count) => count,
            None => self.s.b.ins().iconst(types::I64, 0),
        };
        let b = &mut self.s.b;
        let row = b.ins().fcvt_to_sint_sat(types::I64, index);
        let back = b.ins().fcvt_from_sint(types::F64, row);
        let whole = b.ins().fcmp(FloatCC::Equal, back, index);
        let inside = b.ins().icmp(IntCC::UnsignedLessThan, row, count);
        let known = b.ins().band(whole, inside);
        (row, known)
    }

    /// Address of the first of `size` numbers of a row, or of a 0 that stays one.
    pub(super) fn numbered_element(
        &mut self,
        slot: SlotId,
        (row, known): (Value, Value),
        size: u32,
    ) -> Value {
        let row = if size == 1 { row } else { self.s.b.ins().imul_imm_s(row, i64::from(size)) };
        let address = self.element(slot, row, 8);
        match self.nowhere {
            Some(nowhere) => self.s.select(known, address, nowhere),
            None => address,
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
                Item::Scan { within: Some(_), .. } | Item::Shift { within: Some(_), .. } => {}
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
                Item::Let(..)
                | Item::Store(..)
                | Item::Fold { .. }
                | Item::Spread(..)
                | Item::SpreadAt { .. }
                | Item::Sweep(_) => {}
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
    pub(super) fn parent(&mut self, level: Level) -> Value {
        if level == self.of.level {
            return self.row;
        }
        let known = self.scopes.iter().find(|s| s.0 == level).and_then(|s| s.1.now);
        match known {
            Some((row, _)) => row,
            None => self.s.b.ins().iconst(types::I64, 0),
        }
    }

    /// `fresh` where a new row of `scope` begins, else `running`. The batch begins with the loop.
    pub(super) fn renew(&mut self, scope: Level, fresh: Value, running: Value) -> Value {
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

    pub(super) fn kept(&mut self, filter: Option<V>) -> Option<Value> {
        let known = self.known(filter?);
        Some(self.s.truth(known))
    }

    pub(super) fn pointer(&mut self, slot: SlotId) -> Value {
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
        if matches!(self.plan.slot(slot).kind, SlotKind::Scratch(_)) {
            return self.pointer(slot);
        }
        let bytes = self.bytes(slot);
        let token = self.parent(TOKEN);
        let b = &mut self.s.b;
        let row = b.ins().isub(token, self.base);
        let first = b.ins().imul(row, self.vocab);
        self.element(slot, first, bytes)
    }

    /// Bytes of an element of a slot.
    pub(super) fn bytes(&self, slot: SlotId) -> usize {
        match self.plan.slot(slot).kind {
            SlotKind::Entries(column) => (self.float)(column).bytes(),
            SlotKind::Gradient(_) | SlotKind::Parents(_) | SlotKind::Starts(_) => 4,
            SlotKind::Column(_)
            | SlotKind::Param(_)
            | SlotKind::Side(_)
            | SlotKind::Stored
            | SlotKind::Folded(_)
            | SlotKind::Carried(_)
            | SlotKind::Ring(_)
            | SlotKind::Scratch(_) => 8,
        }
    }

    /// A number of a vocab-level column as f64.
    pub(super) fn load_entry(&mut self, slot: SlotId, address: Value) -> Value {
        let float = match self.plan.slot(slot).kind {
            SlotKind::Entries(column) => (self.float)(column),
            SlotKind::Gradient(_)
            | SlotKind::Parents(_)
            | SlotKind::Starts(_)
            | SlotKind::Column(_)
            | SlotKind::Param(_)
            | SlotKind::Side(_)
            | SlotKind::Stored
            | SlotKind::Folded(_)
            | SlotKind::Carried(_)
            | SlotKind::Ring(_)
            | SlotKind::Scratch(_) => Float::F64,
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
            Op::Indexed(slot, index, _) => {
                let found = self.numbered(index, self.plan.slot(slot).level);
                let address = self.numbered_element(slot, found, 1);
                self.s.b.ins().load(types::F64, trusted(), address, 0).into()
            }
            Op::RowOf(level) => {
                let row = self.parent(level);
                self.s.b.ins().fcvt_from_sint(types::F64, row).into()
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
            | Op::Indexed(..)
            | Op::RowOf(_)
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
            Item::Fold { .. } => self.fold(item),
            Item::Scan { into, .. } | Item::Shift { into, .. } => {
                let value = if matches!(item, Item::Scan { .. }) {
                    self.scan(item, carried)
                } else {
                    self.shift(item, carried)
                };
                self.set(*into, value.into());
            }
            Item::Spread(row, of) => self.spread(*row, *of),
            Item::SpreadAt { into, of, at } => {
                let value = self.spread_at(*of, *at);
                self.set(*into, value.into());
            }
            Item::Sweep(sweep) => self.sweep(sweep),
        }
    }
}
