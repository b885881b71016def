//! Machine code for a block: rows go through vector registers of 512 bits, eight in each, and nothing is stored in
//! between. Four vectors of rows go side by side, since one alone waits for itself: exponentials instruction by
//! instruction, everything else one vector after the other, which takes few masks at a time.
//!
//! ```text
//! fn(pointers, numbers, folds, begin, end, room)
//! ```
//!
//! runs rows `begin..end`. `pointers` has those of the columns, of the stores, and of [`Machine::constants`], which lie
//! where vectors do; `numbers` the segment's; `folds` eight lanes of each fold, then those of the counts; `room` [`COPIES`]
//! vectors of each value. Every instruction does what the plain loops do for the same operator, so that the bits are the
//! same.

mod arith;
mod exp;
mod registers;

use std::ops::Range;

use rlc_compiler::hir::ReduceOp;
use rlc_compiler::op::{Binary, Unary};

use super::code::{Arg, Code, Number, Step, Value};
use super::x64::{self as x, Asm, Lanes, Mem, RAX, RDX, Rm};
use super::{Element, LANES};

/// Code and the constants that it reads.
#[derive(Debug)]
pub struct Machine {
    pub bytes: Vec<u8>,
    /// What the last pointer leads to.
    pub constants: Vec<f64>,
}

/// Vectors of rows that go side by side.
pub const COPIES: usize = 4;

/// A register, operand or mask of each copy.
type Each<T> = [T; COPIES];

/// The lanes of the last rows.
const LEFT: u8 = 7;
/// Folds whose lanes stay in registers, from the last register on.
const KEPT_FOLDS: usize = 4;

/// Whether a machine with AVX-512 has what else the code is made of: what counts bits and cuts them off.
pub fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("popcnt") && is_x86_feature_detected!("bmi2")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Whether every operator has instructions.
fn fits(code: &Code) -> bool {
    code.scatters.is_empty()
        && code.values.iter().all(|v| match *v {
            Value::Unary(op, _) => match op {
                Unary::Neg
                | Unary::Not
                | Unary::Exp
                | Unary::Expm1
                | Unary::Abs
                | Unary::Relu
                | Unary::Cast
                | Unary::IsFinite
                | Unary::IsNan
                | Unary::Sqrt
                | Unary::Sign
                | Unary::Floor
                | Unary::Ceil
                | Unary::Round
                | Unary::Trunc => true,
                Unary::Log
                | Unary::Log1p
                | Unary::Log1mexp
                | Unary::Log2
                | Unary::Sigmoid
                | Unary::LogSigmoid
                | Unary::Tanh
                | Unary::Softplus
                | Unary::Sin
                | Unary::Cos => false,
            },
            Value::Binary(op, ..) => op != Binary::Pow,
            Value::Gather(..) => false,
            Value::Load(_) | Value::RowNumber | Value::Select(..) => true,
        })
}

/// Compiles code for columns of these types; none where an operator has no instructions, or a step needs more
/// registers than there are.
pub fn machine(code: &Code, elements: &[Element]) -> Option<Machine> {
    if !fits(code) {
        return None;
    }
    if let Some(machine) = bytes(code, elements) {
        return Some(machine);
    }
    let mut emit = Emit {
        code,
        elements,
        constants: Vec::new(),
        values: Vec::new(),
        vectors: [None; 32],
        masks: [None; 8],
        uses: uses(code),
        at: [0; COPIES],
        pinned: 0,
        pinned_masks: 0,
        left: None,
        now: 0..COPIES,
        lacks: false,
        far: Vec::new(),
    };
    let mut asm = Asm::default();
    asm.begin_constants(code.columns.len() + code.stores.len());
    for r in &x::COUNTS[..code.counts.len()] {
        asm.begin_count(*r);
    }
    for fold in 0..code.added().min(KEPT_FOLDS) {
        asm.one(x::LOAD, lanes_of(fold), Rm::Mem(fold_memory(fold)), Lanes::All);
    }
    asm.rows(LEFT, COPIES as u8, &mut |asm, copies, left| emit.body(asm, copies, left));
    for fold in 0..code.added().min(KEPT_FOLDS) {
        asm.one(x::STORE, lanes_of(fold), Rm::Mem(fold_memory(fold)), Lanes::All);
    }
    end_counts(&mut asm, code);
    asm.end_constants();
    asm.end();
    emit.far(&mut asm);
    (!emit.lacks).then_some(Machine { bytes: asm.bytes, constants: emit.constants })
}

/// Code for loops that only count bytes that are not 0.
fn bytes(code: &Code, elements: &[Element]) -> Option<Machine> {
    if code.counts.is_empty() || code.added() > 0 || !code.stores.is_empty() {
        return None;
    }
    let column = |condition: &Arg| match *condition {
        Arg::Row(v) => match code.values[v as usize] {
            Value::Load(c) if elements[c as usize] == Element::U8 => Some(usize::from(c)),
            _ => None,
        },
        Arg::Number(_) => None,
    };
    let columns: Vec<usize> = code.counts.iter().map(column).collect::<Option<_>>()?;
    let mut asm = Asm::default();
    let counts = &x::COUNTS[..columns.len()];
    for r in counts {
        asm.begin_count(*r);
    }
    asm.rows_of_bytes(LEFT, &mut |asm, first| {
        for (column, r) in columns.iter().zip(counts) {
            asm.pointer(*column);
            let at = Mem { base: RAX, disp: first, element: Some(1) };
            asm.count_bytes(*r, at, Lanes::Zero(LEFT));
        }
    });
    end_counts(&mut asm, code);
    asm.end();
    Some(Machine { bytes: asm.bytes, constants: Vec::new() })
}

/// Writes the counts behind the folds.
fn end_counts(asm: &mut Asm, code: &Code) {
    for (n, r) in x::COUNTS[..code.counts.len()].iter().enumerate().rev() {
        let Mem { base, disp, .. } = fold_memory(code.folds.len());
        asm.end_count(*r, Mem { base, disp: disp + 8 * n as i32, element: None });
    }
}

fn lanes_of(fold: usize) -> u8 {
    31 - fold as u8
}

fn fold_memory(fold: usize) -> Mem {
    Mem { base: RDX, disp: (fold * LANES * 8) as i32, element: None }
}

/// The steps that read each value, in order.
fn uses(code: &Code) -> Vec<Vec<usize>> {
    let mut uses = vec![Vec::new(); code.values.len()];
    for (at, step) in code.steps.iter().enumerate() {
        code.args(*step, |arg| {
            if let Arg::Row(v) = arg {
                uses[v as usize].push(at);
            }
        });
    }
    uses
}

/// Where a value is.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// As numbers.
    vector: Option<u8>,
    /// As a condition: not 0, or NaN.
    mask: Option<u8>,
    /// The condition says all: the value is 0 or 1.
    truth: bool,
    /// As numbers in the room.
    stored: bool,
}

struct Emit<'a> {
    code: &'a Code,
    elements: &'a [Element],
    constants: Vec<f64>,
    /// Of each value of each copy.
    values: Vec<Each<Place>>,
    /// The value, and its copy, in each register.
    vectors: [Option<(u16, usize)>; 32],
    masks: [Option<(u16, usize)>; 8],
    uses: Vec<Vec<usize>>,
    /// The present step of each copy.
    at: Each<usize>,
    /// Registers of the present step.
    pinned: u32,
    pinned_masks: u8,
    /// The copy whose rows may be fewer than eight.
    left: Option<usize>,
    /// The copies that code is written for now.
    now: Range<usize>,
    /// A step found no register.
    lacks: bool,
    /// What comes after the end.
    far: Vec<exp::Far>,
}

impl Emit<'_> {
    /// The steps of so many copies, the last of which may have fewer rows.
    fn body(&mut self, asm: &mut Asm, copies: usize, left: bool) {
        self.values = vec![Each::default(); self.code.values.len()];
        self.vectors = [None; 32];
        self.masks = [None; 8];
        self.at = [0; COPIES];
        self.left = left.then_some(copies - 1);
        let code = self.code;
        let mut rest = 0..code.steps.len();
        while let Some(first) = rest.next() {
            if self.waits(code.steps[first]) {
                self.step(asm, first, 0..copies);
                continue;
            }
            // Few masks are needed at a time.
            let apart = rest.clone().take_while(|at| !self.waits(code.steps[*at])).count();
            let end = first + 1 + apart;
            for copy in 0..copies {
                for at in first..end {
                    self.step(asm, at, copy..copy + 1);
                }
            }
            rest.start = end;
        }
    }

    /// Whether one copy of a step waits for itself for long: all go instruction by instruction.
    fn waits(&self, step: Step) -> bool {
        let Step::Value(v) = step else { return false };
        matches!(self.code.values[v as usize], Value::Unary(Unary::Exp | Unary::Expm1, _))
    }

    fn step(&mut self, asm: &mut Asm, at: usize, copies: Range<usize>) {
        self.now = copies;
        self.at[self.now.clone()].fill(at);
        let folds = self.code.added().min(KEPT_FOLDS) as u32;
        self.pinned = !(u32::MAX >> folds);
        self.pinned_masks = 1 | 1 << LEFT;
        match self.code.steps[at] {
            Step::Value(v) => self.value(asm, v),
            Step::Store(s) => self.store(asm, s as usize),
            Step::Fold(f) => self.fold(asm, f as usize),
            Step::Scatter(_) => self.lacks = true,
            Step::Count(c) => self.count(asm, c as usize),
        }
        // What it made, if nobody reads that, and what it read for the last time.
        let (code, step) = (self.code, self.code.steps[at]);
        let mut ends = |v: u16| {
            if code.last[v as usize] <= at {
                self.now.clone().for_each(|copy| self.forget(v, copy));
            }
        };
        if let Step::Value(v) = step {
            ends(v);
        }
        code.args(step, |arg| {
            if let Arg::Row(v) = arg {
                ends(v);
            }
        });
        self.at[self.now.clone()].fill(at + 1);
    }

    /// The rows' elements of an array: the row of the index and those after it.
    fn pointer(asm: &mut Asm, n: usize, bytes: usize, copy: usize) -> Mem {
        asm.pointer(n);
        Mem { base: RAX, disp: (copy * LANES * bytes) as i32, element: Some(bytes as u8) }
    }

    fn lanes(&self, copy: usize) -> Lanes {
        if self.left == Some(copy) { Lanes::Zero(LEFT) } else { Lanes::All }
    }

    fn load(&mut self, asm: &mut Asm, r: u8, column: u16, copy: usize) {
        let element = self.elements[column as usize];
        let at = Rm::Mem(Self::pointer(asm, column as usize, element.bytes(), copy));
        let lanes = self.lanes(copy);
        match element {
            Element::F64 => asm.one(x::LOAD, r, at, lanes),
            Element::F32 => asm.one(x::FROM_F32, r, at, lanes),
            Element::I64 => asm.one(x::FROM_I64, r, at, lanes),
            Element::U8 => {
                asm.one(x::WIDEN_U8, r, at, lanes);
                asm.one(x::FROM_I64, r, Rm::Zmm(r), Lanes::All);
            }
        }
    }

    /// Whether a value is read as a condition only.
    fn only_condition(&self, v: u16) -> bool {
        let is = |arg: Arg| arg == Arg::Row(v);
        self.uses[v as usize].iter().all(|at| match self.code.steps[*at] {
            Step::Value(user) => match self.code.values[user as usize] {
                Value::Select(_, a, b) => !is(a) && !is(b),
                Value::Binary(Binary::And | Binary::Or, ..) | Value::Unary(Unary::Not, _) => true,
                Value::Load(_)
                | Value::Gather(..)
                | Value::RowNumber
                | Value::Unary(..)
                | Value::Binary(..) => false,
            },
            Step::Store(_) | Step::Scatter(_) => false,
            Step::Count(_) => true,
            Step::Fold(f) => !is(self.code.folds[f as usize].x),
        })
    }

    fn value(&mut self, asm: &mut Asm, v: u16) {
        match self.code.values[v as usize] {
            Value::Load(column) => {
                let byte = self.elements[column as usize] == Element::U8;
                for copy in self.now.clone() {
                    let r = self.vector(asm);
                    if byte && self.only_condition(v) {
                        let k = self.mask(asm);
                        let at = Self::pointer(asm, column as usize, 1, copy);
                        if self.left == Some(copy) {
                            asm.one(x::WIDEN_U8, r, Rm::Mem(at), self.lanes(copy));
                            asm.test(k, r);
                        } else {
                            asm.load_bytes(r, at);
                            asm.test_bytes(k, r);
                        }
                        self.is_mask(v, copy, k);
                    } else {
                        self.load(asm, r, column, copy);
                        self.is_vector(v, copy, r);
                    }
                }
            }
            Value::Gather(..) => self.lacks = true,
            Value::RowNumber => {
                for copy in self.now.clone() {
                    let r = self.vector(asm);
                    asm.row(r);
                    asm.one(x::FROM_I64, r, Rm::Zmm(r), Lanes::All);
                    let places = self.places(copy);
                    asm.two(x::ADD, r, r, Rm::Mem(places), Lanes::All);
                    self.is_vector(v, copy, r);
                }
            }
            Value::Unary(op, a) => self.unary(asm, v, op, a),
            Value::Binary(op, a, b) => self.binary(asm, v, op, a, b),
            Value::Select(c, a, b) => self.select(asm, v, c, a, b),
        }
    }

    fn select(&mut self, asm: &mut Asm, v: u16, c: Arg, a: Arg, b: Arg) {
        let k = self.condition(asm, c);
        let zero = self.is_zero(b);
        let other = if zero { [0; COPIES] } else { self.registers(asm, b) };
        let taken = self.operands(asm, a);
        let r = self.vectors(asm);
        for copy in self.now.clone() {
            let (r, k, a) = (r[copy], k[copy], taken[copy]);
            match a {
                _ if !zero => asm.two(x::BLEND, r, other[copy], a, Lanes::Keep(k)),
                Rm::Every(m) => asm.one(x::EVERY, r, Rm::Mem(m), Lanes::Zero(k)),
                Rm::Mem(_) => asm.one(x::LOAD, r, a, Lanes::Zero(k)),
                Rm::Zmm(_) => asm.one(x::MOVE, r, a, Lanes::Zero(k)),
            }
        }
        self.are_vectors(v, r);
    }

    /// Positive zero, which a masked instruction gives by itself.
    fn is_zero(&self, arg: Arg) -> bool {
        match arg {
            Arg::Number(n) => {
                matches!(self.code.numbers[n as usize], Number::Const(c) if c.to_bits() == 0)
            }
            Arg::Row(_) => false,
        }
    }

    /// The places of a copy's rows, 0 to 7 or 8 to 15, as a vector in memory.
    fn places(&mut self, copy: usize) -> Mem {
        self.row_of(std::array::from_fn(|i| (copy * LANES + i) as f64))
    }

    fn store(&mut self, asm: &mut Asm, store: usize) {
        let each = self.registers(asm, self.code.stores[store].1);
        for copy in self.now.clone() {
            let (r, left) = (each[copy], self.left == Some(copy));
            let lanes = if left { Lanes::Keep(LEFT) } else { Lanes::All };
            let at = Self::pointer(asm, self.code.columns.len() + store, 8, copy);
            asm.one(x::STORE, r, Rm::Mem(at), lanes);
        }
    }

    fn count(&mut self, asm: &mut Asm, at: usize) {
        for copy in self.now.clone() {
            let mut k = self.condition_of(asm, self.code.counts[at], copy);
            if self.left == Some(copy) {
                let both = self.mask(asm);
                asm.mask_and(both, k, LEFT);
                k = both;
            }
            asm.count(x::COUNTS[at], k);
        }
    }

    fn fold(&mut self, asm: &mut Asm, at: usize) {
        let fold = self.code.folds[at];
        let kept = fold.filter.map(|f| self.condition(asm, f));
        let held = at < KEPT_FOLDS;
        let sum = if held {
            lanes_of(at)
        } else {
            let r = self.vector(asm);
            asm.one(x::LOAD, r, Rm::Mem(fold_memory(at)), Lanes::All);
            r
        };
        let last = self.operands(asm, fold.x);
        for copy in self.now.clone() {
            let lanes = match (kept.map(|k| k[copy]), self.left == Some(copy)) {
                (None, false) => Lanes::All,
                (None, true) => Lanes::Keep(LEFT),
                (Some(k), false) => Lanes::Keep(k),
                (Some(k), true) => {
                    let both = self.mask(asm);
                    asm.mask_and(both, k, LEFT);
                    Lanes::Keep(both)
                }
            };
            match fold.op {
                ReduceOp::Sum if fold.less => asm.two(x::SUB, sum, sum, last[copy], lanes),
                ReduceOp::Sum => asm.two(x::ADD, sum, sum, last[copy], lanes),
                ReduceOp::Prod => asm.two(x::MUL, sum, sum, last[copy], lanes),
                ReduceOp::Max | ReduceOp::Min => {
                    let r = self.vector(asm);
                    self.extreme(asm, fold.op == ReduceOp::Min, r, sum, last[copy]);
                    asm.one(x::MOVE, sum, Rm::Zmm(r), lanes);
                }
                // Not among a block's folds.
                ReduceOp::LogSumExp => {}
            }
        }
        if !held {
            asm.one(x::STORE, sum, Rm::Mem(fold_memory(at)), Lanes::All);
        }
    }
}
