//! Machine code for a block: rows go through vector registers of 512 bits, eight in each, and nothing is stored in
//! between. Three vectors of rows go side by side, instruction by instruction, since one alone waits for itself.
//!
//! ```text
//! fn(pointers, numbers, folds, begin, end, room)
//! ```
//!
//! runs rows `begin..end`. `pointers` has those of the columns, then those of the stores; `numbers` the segment's, then
//! [`Machine::constants`]; `folds` eight lanes of each fold; `room` [`COPIES`] vectors of each value. Every instruction does what
//! the plain loops do for the same operator, so that the bits are the same.

use std::f64::consts::LOG2_E;

use rlc_compiler::hir::ReduceOp;
use rlc_compiler::op::{Binary, Unary};

use super::code::{Arg, Code, Number, Step, Value};
use super::x64::{self as x, Asm, Compare, Lanes, Mem, Op, R9, RAX, RDX, RSI, Rm, Rounding};
use super::{Element, LANES, math};

/// Code and the constants that it reads.
#[derive(Debug)]
pub struct Machine {
    pub bytes: Vec<u8>,
    /// What follows the segment's numbers.
    pub constants: Vec<f64>,
}

/// Vectors of rows that go side by side.
pub const COPIES: usize = 3;

/// A register, operand or mask of each copy.
type Each<T> = [T; COPIES];

/// The lanes of the last rows.
const LEFT: u8 = 7;
/// Folds whose lanes stay in registers, from the last register on.
const KEPT_FOLDS: usize = 4;
const SIGN: f64 = -0.0;
const SIZE: f64 = f64::from_bits(!(1 << 63));

/// Whether every operator has instructions.
fn fits(code: &Code) -> bool {
    code.values.iter().all(|v| match *v {
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
        Value::Load(_) | Value::RowNumber | Value::Select(..) => true,
    })
}

/// Compiles code for columns of these types; none where an operator has no instructions, or a step needs more
/// registers than there are.
pub fn machine(code: &Code, elements: &[Element]) -> Option<Machine> {
    if !fits(code) {
        return None;
    }
    let mut emit = Emit {
        code,
        elements,
        constants: Vec::new(),
        values: Vec::new(),
        vectors: [None; 32],
        masks: [None; 8],
        uses: uses(code),
        at: 0,
        pinned: 0,
        pinned_masks: 0,
        left: false,
        copies: 1,
        lacks: false,
    };
    let mut asm = Asm::default();
    for fold in 0..code.folds.len().min(KEPT_FOLDS) {
        asm.one(x::LOAD, lanes_of(fold), Rm::Mem(fold_memory(fold)), Lanes::All);
    }
    asm.rows(
        LEFT,
        COPIES as u8 * LANES as u8,
        &mut emit,
        |emit, asm| emit.body(asm, COPIES, false),
        |emit, asm| emit.body(asm, 1, true),
    );
    for fold in 0..code.folds.len().min(KEPT_FOLDS) {
        asm.one(x::STORE, lanes_of(fold), Rm::Mem(fold_memory(fold)), Lanes::All);
    }
    asm.end();
    (!emit.lacks).then_some(Machine { bytes: asm.bytes, constants: emit.constants })
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
        let mut read = |arg: Arg| {
            if let Arg::Row(v) = arg {
                uses[v as usize].push(at);
            }
        };
        match *step {
            Step::Value(v) => code.values[v as usize].args().for_each(&mut read),
            Step::Store(s) => read(code.stores[s as usize].1),
            Step::Fold(f) => {
                let fold = code.folds[f as usize];
                std::iter::once(fold.x).chain(fold.filter).for_each(&mut read);
            }
        }
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
    /// The present step.
    at: usize,
    /// Registers of the present step.
    pinned: u32,
    pinned_masks: u8,
    /// Rows may be fewer than eight.
    left: bool,
    copies: usize,
    /// A step found no register.
    lacks: bool,
}

impl Emit<'_> {
    fn body(&mut self, asm: &mut Asm, copies: usize, left: bool) {
        self.values = vec![Each::default(); self.code.values.len()];
        self.vectors = [None; 32];
        self.masks = [None; 8];
        (self.left, self.copies) = (left, copies);
        for (at, step) in self.code.steps.iter().enumerate() {
            self.at = at;
            let folds = self.code.folds.len().min(KEPT_FOLDS) as u32;
            self.pinned = !(u32::MAX >> folds);
            self.pinned_masks = 1 | 1 << LEFT;
            match *step {
                Step::Value(v) => self.value(asm, v),
                Step::Store(s) => self.store(asm, s as usize),
                Step::Fold(f) => self.fold(asm, f as usize),
            }
            for v in 0..self.values.len() {
                if self.code.last[v] <= at {
                    self.forget(v as u16);
                }
            }
        }
    }

    fn forget(&mut self, v: u16) {
        for place in std::mem::take(&mut self.values[v as usize]) {
            if let Some(r) = place.vector {
                self.vectors[r as usize] = None;
            }
            if let Some(k) = place.mask {
                self.masks[k as usize] = None;
            }
        }
    }

    fn next_use(&self, v: u16) -> usize {
        let uses = &self.uses[v as usize];
        uses.iter().copied().find(|u| *u >= self.at).unwrap_or(usize::MAX)
    }

    fn room((v, copy): (u16, usize)) -> Mem {
        let vectors = usize::from(v) * COPIES + copy;
        Mem { base: R9, disp: (vectors * 8 * LANES) as i32, element: None }
    }

    fn number(n: u16) -> Mem {
        Mem { base: RSI, disp: 8 * i32::from(n), element: None }
    }

    fn constant(&mut self, c: f64) -> Mem {
        let known = self.constants.iter().position(|k| k.to_bits() == c.to_bits());
        let at = known.unwrap_or_else(|| {
            self.constants.push(c);
            self.constants.len() - 1
        });
        let at = self.code.numbers.len() + at;
        Mem { base: RSI, disp: 8 * at as i32, element: None }
    }

    /// A register that is free until the step ends.
    fn vector(&mut self, asm: &mut Asm) -> u8 {
        let free = |r: &u8| self.pinned >> r & 1 == 0;
        let r = match (0..32u8).find(|r| free(r) && self.vectors[*r as usize].is_none()) {
            Some(r) => r,
            None => {
                // What is read last goes to the room.
                let far = (0..32u8).filter(free).max_by_key(|r| {
                    self.vectors[*r as usize].map_or(usize::MAX, |(v, _)| self.next_use(v))
                });
                self.lacks |= far.is_none();
                let r = far.unwrap_or(0);
                self.put_away(asm, r);
                r
            }
        };
        self.pinned |= 1 << r;
        r
    }

    /// Such a register for each copy.
    fn vectors(&mut self, asm: &mut Asm) -> Each<u8> {
        let mut each = [0; COPIES];
        for r in &mut each[..self.copies] {
            *r = self.vector(asm);
        }
        each
    }

    fn put_away(&mut self, asm: &mut Asm, r: u8) {
        let Some((v, copy)) = self.vectors[r as usize].take() else { return };
        let place = &mut self.values[v as usize][copy];
        place.vector = None;
        let again = matches!(self.code.values[v as usize], Value::Load(_));
        let known = place.truth && place.mask.is_some();
        if !place.stored && !known && !again {
            place.stored = true;
            asm.one(x::STORE, r, Rm::Mem(Self::room((v, copy))), Lanes::All);
        }
    }

    fn mask(&mut self, asm: &mut Asm) -> u8 {
        let free = |k: &u8| self.pinned_masks >> k & 1 == 0;
        let k = match (1..7u8).find(|k| free(k) && self.masks[*k as usize].is_none()) {
            Some(k) => k,
            None => {
                let far = (1..7u8).filter(free).max_by_key(|k| {
                    self.masks[*k as usize].map_or(usize::MAX, |(v, _)| self.next_use(v))
                });
                self.lacks |= far.is_none();
                let k = far.unwrap_or(1);
                if let Some((v, copy)) = self.masks[k as usize] {
                    let place = self.values[v as usize][copy];
                    if place.truth && place.vector.is_none() && !place.stored {
                        self.numbers_of(asm, v, copy);
                    }
                    self.masks[k as usize] = None;
                    self.values[v as usize][copy].mask = None;
                }
                k
            }
        };
        self.pinned_masks |= 1 << k;
        k
    }

    fn are_vectors(&mut self, v: u16, each: Each<u8>) {
        for (copy, r) in each.into_iter().enumerate().take(self.copies) {
            self.is_vector(v, copy, r);
        }
    }

    fn is_vector(&mut self, v: u16, copy: usize, r: u8) {
        self.vectors[r as usize] = Some((v, copy));
        self.values[v as usize][copy].vector = Some(r);
    }

    fn is_mask(&mut self, v: u16, copy: usize, k: u8) {
        self.masks[k as usize] = Some((v, copy));
        let place = &mut self.values[v as usize][copy];
        (place.mask, place.truth) = (Some(k), true);
    }

    /// A value as numbers in a register.
    fn numbers_of(&mut self, asm: &mut Asm, v: u16, copy: usize) -> u8 {
        let place = self.values[v as usize][copy];
        if let Some(r) = place.vector {
            self.pinned |= 1 << r;
            return r;
        }
        let r = self.vector(asm);
        if let (Some(k), true) = (place.mask, place.truth) {
            let one = self.constant(1.0);
            asm.one(x::EVERY, r, Rm::Mem(one), Lanes::Zero(k));
        } else if let (false, Value::Load(column)) = (place.stored, self.code.values[v as usize]) {
            self.load(asm, r, column, copy);
        } else {
            asm.one(x::LOAD, r, Rm::Mem(Self::room((v, copy))), Lanes::All);
        }
        self.is_vector(v, copy, r);
        r
    }

    /// An operand as registers.
    fn registers(&mut self, asm: &mut Asm, arg: Arg) -> Each<u8> {
        match arg {
            Arg::Row(v) => {
                let mut each = [0; COPIES];
                for (copy, r) in each.iter_mut().enumerate().take(self.copies) {
                    *r = self.numbers_of(asm, v, copy);
                }
                each
            }
            Arg::Number(n) => {
                let r = self.vector(asm);
                asm.one(x::EVERY, r, Rm::Mem(Self::number(n)), Lanes::All);
                [r; COPIES]
            }
        }
    }

    /// An operand as whatever an instruction takes last.
    fn operands(&mut self, asm: &mut Asm, arg: Arg) -> Each<Rm> {
        let mut each = [Rm::Zmm(0); COPIES];
        for (copy, rm) in each.iter_mut().enumerate().take(self.copies) {
            *rm = match arg {
                Arg::Number(n) => Rm::Every(Self::number(n)),
                Arg::Row(v) => {
                    let place = self.values[v as usize][copy];
                    if place.stored && place.vector.is_none() {
                        Rm::Mem(Self::room((v, copy)))
                    } else {
                        Rm::Zmm(self.numbers_of(asm, v, copy))
                    }
                }
            };
        }
        each
    }

    /// An operand as a condition: not 0, or NaN.
    fn condition(&mut self, asm: &mut Asm, arg: Arg) -> Each<u8> {
        let mut each = [0; COPIES];
        for (copy, k) in each.iter_mut().enumerate().take(self.copies) {
            *k = self.condition_of(asm, arg, copy);
        }
        each
    }

    fn condition_of(&mut self, asm: &mut Asm, arg: Arg, copy: usize) -> u8 {
        if let Arg::Row(v) = arg
            && let Some(k) = self.values[v as usize][copy].mask
        {
            self.pinned_masks |= 1 << k;
            return k;
        }
        let r = match arg {
            Arg::Row(v) => self.numbers_of(asm, v, copy),
            Arg::Number(_) => self.registers(asm, arg)[0],
        };
        let zero = self.constant(0.0);
        let k = self.mask(asm);
        asm.compare(Compare::Ne, k, r, Rm::Every(zero), None);
        if let Arg::Row(v) = arg {
            self.masks[k as usize] = Some((v, copy));
            self.values[v as usize][copy].mask = Some(k);
        }
        k
    }

    /// The rows' elements of an array: the row of the index and those after it.
    fn pointer(asm: &mut Asm, n: usize, bytes: usize, copy: usize) -> Mem {
        asm.pointer(n);
        Mem { base: RAX, disp: (copy * LANES * bytes) as i32, element: Some(bytes as u8) }
    }

    fn lanes(&self) -> Lanes {
        if self.left { Lanes::Zero(LEFT) } else { Lanes::All }
    }

    fn load(&mut self, asm: &mut Asm, r: u8, column: u16, copy: usize) {
        let element = self.elements[column as usize];
        let at = Rm::Mem(Self::pointer(asm, column as usize, element.bytes(), copy));
        let lanes = self.lanes();
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
                Value::Load(_) | Value::RowNumber | Value::Unary(..) | Value::Binary(..) => false,
            },
            Step::Store(_) => false,
            Step::Fold(f) => !is(self.code.folds[f as usize].x),
        })
    }

    fn value(&mut self, asm: &mut Asm, v: u16) {
        match self.code.values[v as usize] {
            Value::Load(column) => {
                let byte = self.elements[column as usize] == Element::U8;
                for copy in 0..self.copies {
                    let r = self.vector(asm);
                    if byte && self.only_condition(v) {
                        let k = self.mask(asm);
                        let at = Rm::Mem(Self::pointer(asm, column as usize, 1, copy));
                        asm.one(x::WIDEN_U8, r, at, self.lanes());
                        asm.test(k, r);
                        self.is_mask(v, copy, k);
                    } else {
                        self.load(asm, r, column, copy);
                        self.is_vector(v, copy, r);
                    }
                }
            }
            Value::RowNumber => {
                for copy in 0..self.copies {
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
        for copy in 0..self.copies {
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

    /// `into = a op b` of each copy.
    fn two(&self, asm: &mut Asm, op: Op, into: Each<u8>, a: Each<u8>, b: Each<u8>) {
        for copy in 0..self.copies {
            asm.two(op, into[copy], a[copy], Rm::Zmm(b[copy]), Lanes::All);
        }
    }

    /// The same with a constant.
    fn with(&mut self, asm: &mut Asm, op: Op, into: Each<u8>, a: Each<u8>, c: f64) {
        let c = self.constant(c);
        for copy in 0..self.copies {
            asm.two(op, into[copy], a[copy], Rm::Every(c), Lanes::All);
        }
    }

    /// A constant in one register for all copies.
    fn every(&mut self, asm: &mut Asm, c: f64) -> Each<u8> {
        let c = self.constant(c);
        let r = self.vector(asm);
        asm.one(x::EVERY, r, Rm::Mem(c), Lanes::All);
        [r; COPIES]
    }

    fn round(&self, asm: &mut Asm, how: Rounding, into: Each<u8>, x: Each<u8>) {
        for copy in 0..self.copies {
            asm.round(how, into[copy], Rm::Zmm(x[copy]));
        }
    }

    fn unary(&mut self, asm: &mut Asm, v: u16, op: Unary, arg: Arg) {
        if op == Unary::Not {
            for copy in 0..self.copies {
                let c = self.condition_of(asm, arg, copy);
                let k = self.mask(asm);
                asm.mask_not(k, c);
                self.is_mask(v, copy, k);
                self.pinned_masks &= !(1 << c);
            }
            return;
        }
        let a = self.registers(asm, arg);
        if matches!(op, Unary::IsNan | Unary::IsFinite) {
            for (copy, a) in a.into_iter().enumerate().take(self.copies) {
                let k = self.mask(asm);
                if op == Unary::IsNan {
                    asm.compare(Compare::Unordered, k, a, Rm::Zmm(a), None);
                } else {
                    let (t, size) = (self.vector(asm), self.constant(SIZE));
                    asm.two(x::AND, t, a, Rm::Every(size), Lanes::All);
                    let most = self.constant(f64::MAX);
                    asm.compare(Compare::Le, k, t, Rm::Every(most), None);
                }
                self.is_mask(v, copy, k);
            }
            return;
        }
        let r = self.vectors(asm);
        match op {
            Unary::Neg => self.with(asm, x::XOR, r, a, SIGN),
            Unary::Abs => self.with(asm, x::AND, r, a, SIZE),
            Unary::Floor => self.round(asm, Rounding::Down, r, a),
            Unary::Ceil => self.round(asm, Rounding::Up, r, a),
            Unary::Round => self.round(asm, Rounding::Nearest, r, a),
            Unary::Trunc => self.round(asm, Rounding::Zero, r, a),
            Unary::Cast | Unary::Sqrt => {
                let op = if op == Unary::Cast { x::MOVE } else { x::SQRT };
                for copy in 0..self.copies {
                    asm.one(op, r[copy], Rm::Zmm(a[copy]), Lanes::All);
                }
            }
            Unary::Relu => {
                // x where it is not below 0, NaN included.
                let zero = self.every(asm, 0.0)[0];
                for copy in 0..self.copies {
                    let k = self.mask(asm);
                    asm.compare(Compare::Lt, k, a[copy], Rm::Zmm(zero), None);
                    asm.two(x::BLEND, r[copy], a[copy], Rm::Zmm(zero), Lanes::Keep(k));
                }
            }
            Unary::Sign => {
                let zero = self.every(asm, 0.0)[0];
                let (one, minus) = (self.constant(1.0), self.constant(-1.0));
                for copy in 0..self.copies {
                    let (r, a, k) = (r[copy], a[copy], self.mask(asm));
                    asm.two(x::ADD, r, a, Rm::Zmm(zero), Lanes::All);
                    asm.compare(Compare::Gt, k, a, Rm::Zmm(zero), None);
                    asm.one(x::EVERY, r, Rm::Mem(one), Lanes::Keep(k));
                    asm.compare(Compare::Lt, k, a, Rm::Zmm(zero), None);
                    asm.one(x::EVERY, r, Rm::Mem(minus), Lanes::Keep(k));
                }
            }
            Unary::Exp => self.exp(asm, r, a, -1000.0, false),
            Unary::Expm1 => self.exp(asm, r, a, -60.0, true),
            Unary::Not
            | Unary::IsNan
            | Unary::IsFinite
            | Unary::Log
            | Unary::Log1p
            | Unary::Log1mexp
            | Unary::Log2
            | Unary::Sigmoid
            | Unary::LogSigmoid
            | Unary::Tanh
            | Unary::Softplus
            | Unary::Sin
            | Unary::Cos => {}
        }
        self.are_vectors(v, r);
    }

    /// e^a, or e^a - 1, operation by operation as in [`math`].
    fn exp(&mut self, asm: &mut Asm, r: Each<u8>, a: Each<u8>, least: f64, less_one: bool) {
        let (most, lowest) = (self.every(asm, 1000.0), self.every(asm, least));
        // The second operand where either is NaN.
        self.two(asm, x::MIN, r, most, a);
        self.two(asm, x::MAX, r, lowest, r);
        self.unpin(most[0]);
        self.unpin(lowest[0]);
        let [power, k, r2, low, middle, part] = [(); 6].map(|()| self.vectors(asm));
        self.fill(asm, power, math::ROUND);
        self.with(asm, x::FMA_TO, power, r, LOG2_E);
        self.with(asm, x::SUB, k, power, math::ROUND);
        self.with(asm, x::FMA_FROM, r, k, math::LN2_HIGH);
        self.with(asm, x::FMA_FROM, r, k, math::LN2_LOW);
        self.two(asm, x::MUL, r2, r, r);
        for (sum, from) in [(low, 0), (middle, 2), (part, 4)] {
            self.fill(asm, sum, math::TAYLOR[from + 1]);
            self.with(asm, x::FMA, sum, r, math::TAYLOR[from]);
        }
        self.two(asm, x::FMA, part, r2, middle);
        self.two(asm, x::FMA, part, r2, low);
        self.two(asm, x::FMA, part, r2, r);
        if less_one {
            let (rest, one) = (low, middle);
            for copy in 0..self.copies {
                asm.one(x::MOVE, rest[copy], Rm::Zmm(power[copy]), Lanes::All);
            }
            self.pick(asm, power, &math::POWERS);
            self.pick(asm, rest, &math::POWERS_LOW);
            let most = self.every(asm, 100.0);
            self.two(asm, x::MIN, one, most, k);
            self.unpin(most[0]);
            self.round(asm, Rounding::Down, one, one);
            self.with(asm, x::XOR, one, one, SIGN);
            let unit = self.every(asm, 1.0);
            self.two(asm, x::SCALE, one, unit, one);
            self.two(asm, x::SUB, one, power, one);
            self.two(asm, x::ADD, one, one, rest);
            self.two(asm, x::FMA, part, power, one);
        } else {
            self.pick(asm, power, &math::POWERS);
            self.two(asm, x::FMA, part, power, power);
        }
        self.two(asm, x::SCALE, r, part, k);
    }

    /// Frees a register for the rest of the step.
    fn unpin(&mut self, r: u8) {
        self.pinned &= !(1 << r);
    }

    /// A constant in each copy's register.
    fn fill(&mut self, asm: &mut Asm, into: Each<u8>, c: f64) {
        let c = self.constant(c);
        for r in &into[..self.copies] {
            asm.one(x::EVERY, *r, Rm::Mem(c), Lanes::All);
        }
    }

    /// The entries of a table at the places that the registers hold.
    fn pick(&mut self, asm: &mut Asm, into: Each<u8>, table: &[f64; 2 * LANES]) {
        let first = self.vector(asm);
        let [low, high] = [0, LANES].map(|at| {
            let half: [f64; LANES] = std::array::from_fn(|i| table[at + i]);
            Rm::Mem(self.row_of(half))
        });
        asm.one(x::LOAD, first, low, Lanes::All);
        for r in &into[..self.copies] {
            asm.two(x::PICK, *r, first, high, Lanes::All);
        }
        self.unpin(first);
    }

    /// A vector in memory.
    fn row_of(&mut self, all: [f64; LANES]) -> Mem {
        let at = self.constants.windows(LANES).position(|w| w == all).unwrap_or_else(|| {
            self.constants.extend(all);
            self.constants.len() - LANES
        });
        let at = self.code.numbers.len() + at;
        Mem { base: RSI, disp: 8 * at as i32, element: None }
    }

    fn binary(&mut self, asm: &mut Asm, v: u16, op: Binary, a: Arg, b: Arg) {
        if let Some(how) = compared(op) {
            let (how, a, b) = match a {
                Arg::Number(_) => (how.swapped(), b, a),
                Arg::Row(_) => (how, a, b),
            };
            let (a, b) = (self.registers(asm, a), self.operands(asm, b));
            for copy in 0..self.copies {
                let k = self.mask(asm);
                asm.compare(how, k, a[copy], b[copy], None);
                self.is_mask(v, copy, k);
            }
            return;
        }
        if matches!(op, Binary::And | Binary::Or) {
            for copy in 0..self.copies {
                let pinned = self.pinned_masks;
                let a = self.condition_of(asm, a, copy);
                let b = self.condition_of(asm, b, copy);
                let k = self.mask(asm);
                if op == Binary::And {
                    asm.mask_and(k, a, b);
                } else {
                    asm.mask_or(k, a, b);
                }
                self.is_mask(v, copy, k);
                self.pinned_masks = pinned | 1 << k;
            }
            return;
        }
        // Sums and products are the same either way; a number comes last.
        let (a, b) = match (op, a) {
            (Binary::Add | Binary::Mul, Arg::Number(_)) => (b, a),
            _ => (a, b),
        };
        let (first, last) = (self.registers(asm, a), self.operands(asm, b));
        // A finite number makes nothing of 0; others go through the plain loops.
        let op = match (op, b) {
            (Binary::Chain, Arg::Number(_)) => Binary::Mul,
            _ => op,
        };
        let factor = if op == Binary::Chain { self.condition(asm, a) } else { [0; COPIES] };
        let r = self.vectors(asm);
        for copy in 0..self.copies {
            let (r, first, last) = (r[copy], first[copy], last[copy]);
            match op {
                Binary::Add => asm.two(x::ADD, r, first, last, Lanes::All),
                Binary::Sub => asm.two(x::SUB, r, first, last, Lanes::All),
                Binary::Mul => asm.two(x::MUL, r, first, last, Lanes::All),
                Binary::Div => asm.two(x::DIV, r, first, last, Lanes::All),
                Binary::Chain => asm.two(x::MUL, r, first, last, Lanes::Zero(factor[copy])),
                Binary::Min | Binary::Max => {
                    self.extreme(asm, op == Binary::Min, r, first, last);
                }
                Binary::FloorDiv | Binary::Mod => {
                    asm.two(x::DIV, r, first, last, Lanes::All);
                    asm.round(Rounding::Down, r, Rm::Zmm(r));
                    if op == Binary::Mod {
                        asm.two(x::MUL, r, r, last, Lanes::All);
                        asm.two(x::SUB, r, first, Rm::Zmm(r), Lanes::All);
                    }
                }
                Binary::Pow
                | Binary::Eq
                | Binary::Ne
                | Binary::Lt
                | Binary::Le
                | Binary::Gt
                | Binary::Ge
                | Binary::And
                | Binary::Or => {}
            }
        }
        self.are_vectors(v, r);
    }

    /// The first where it is beyond the second or NaN, else the second.
    fn extreme(&mut self, asm: &mut Asm, least: bool, r: u8, first: u8, last: Rm) {
        let op = if least { x::MIN } else { x::MAX };
        asm.two(op, r, first, last, Lanes::All);
        let k = self.mask(asm);
        asm.compare(Compare::Unordered, k, first, Rm::Zmm(first), None);
        asm.one(x::MOVE, r, Rm::Zmm(first), Lanes::Keep(k));
    }

    fn store(&mut self, asm: &mut Asm, store: usize) {
        let each = self.registers(asm, self.code.stores[store].1);
        let lanes = if self.left { Lanes::Keep(LEFT) } else { Lanes::All };
        for (copy, r) in each.into_iter().enumerate().take(self.copies) {
            let at = Self::pointer(asm, self.code.columns.len() + store, 8, copy);
            asm.one(x::STORE, r, Rm::Mem(at), lanes);
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
        for copy in 0..self.copies {
            let lanes = match (kept.map(|k| k[copy]), self.left) {
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

fn compared(op: Binary) -> Option<Compare> {
    match op {
        Binary::Eq => Some(Compare::Eq),
        Binary::Ne => Some(Compare::Ne),
        Binary::Lt => Some(Compare::Lt),
        Binary::Le => Some(Compare::Le),
        Binary::Gt => Some(Compare::Gt),
        Binary::Ge => Some(Compare::Ge),
        Binary::Add
        | Binary::Sub
        | Binary::Mul
        | Binary::Div
        | Binary::FloorDiv
        | Binary::Mod
        | Binary::Pow
        | Binary::Min
        | Binary::Max
        | Binary::And
        | Binary::Or
        | Binary::Chain => None,
    }
}
