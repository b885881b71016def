//! Operators of a block as instructions.

use rlc_compiler::op::{Binary, Unary};

use super::super::code::Arg;
use super::super::x64::{self as x, Asm, Compare, Lanes, Op, Rm, Rounding};
use super::{COPIES, Each, Emit};

const SIGN: f64 = -0.0;
const SIZE: f64 = f64::from_bits(!(1 << 63));

impl Emit<'_> {
    /// `into = a op b` of each copy.
    pub(super) fn two(&self, asm: &mut Asm, op: Op, into: Each<u8>, a: Each<u8>, b: Each<u8>) {
        for copy in self.now.clone() {
            asm.two(op, into[copy], a[copy], Rm::Zmm(b[copy]), Lanes::All);
        }
    }

    /// The same with a constant.
    pub(super) fn with(&mut self, asm: &mut Asm, op: Op, into: Each<u8>, a: Each<u8>, c: f64) {
        let c = self.constant(c);
        for copy in self.now.clone() {
            asm.two(op, into[copy], a[copy], Rm::Every(c), Lanes::All);
        }
    }

    /// A constant in one register for all copies.
    pub(super) fn every(&mut self, asm: &mut Asm, c: f64) -> Each<u8> {
        let c = self.constant(c);
        let r = self.vector(asm);
        asm.one(x::EVERY, r, Rm::Mem(c), Lanes::All);
        [r; COPIES]
    }

    pub(super) fn round(&self, asm: &mut Asm, how: Rounding, into: Each<u8>, x: Each<u8>) {
        for copy in self.now.clone() {
            asm.round(how, into[copy], Rm::Zmm(x[copy]));
        }
    }

    pub(super) fn unary(&mut self, asm: &mut Asm, v: u16, op: Unary, arg: Arg) {
        if op == Unary::Not {
            for copy in self.now.clone() {
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
            for copy in self.now.clone() {
                let a = a[copy];
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
                for copy in self.now.clone() {
                    asm.one(op, r[copy], Rm::Zmm(a[copy]), Lanes::All);
                }
            }
            Unary::Relu => {
                // x where it is not below 0, NaN included.
                let zero = self.every(asm, 0.0)[0];
                for copy in self.now.clone() {
                    let k = self.mask(asm);
                    asm.compare(Compare::Lt, k, a[copy], Rm::Zmm(zero), None);
                    asm.two(x::BLEND, r[copy], a[copy], Rm::Zmm(zero), Lanes::Keep(k));
                }
            }
            Unary::Sign => {
                let zero = self.every(asm, 0.0)[0];
                let (one, minus) = (self.constant(1.0), self.constant(-1.0));
                for copy in self.now.clone() {
                    let (r, a, k) = (r[copy], a[copy], self.mask(asm));
                    asm.two(x::ADD, r, a, Rm::Zmm(zero), Lanes::All);
                    asm.compare(Compare::Gt, k, a, Rm::Zmm(zero), None);
                    asm.one(x::EVERY, r, Rm::Mem(one), Lanes::Keep(k));
                    asm.compare(Compare::Lt, k, a, Rm::Zmm(zero), None);
                    asm.one(x::EVERY, r, Rm::Mem(minus), Lanes::Keep(k));
                }
            }
            Unary::Exp | Unary::Expm1 => self.exp(asm, r, a, op == Unary::Expm1),
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

    pub(super) fn binary(&mut self, asm: &mut Asm, v: u16, op: Binary, a: Arg, b: Arg) {
        if let Some(how) = compared(op) {
            let (how, a, b) = match a {
                Arg::Number(_) => (how.swapped(), b, a),
                Arg::Row(_) => (how, a, b),
            };
            let (a, b) = (self.registers(asm, a), self.operands(asm, b));
            for copy in self.now.clone() {
                let k = self.mask(asm);
                asm.compare(how, k, a[copy], b[copy], None);
                self.is_mask(v, copy, k);
            }
            return;
        }
        if matches!(op, Binary::And | Binary::Or) {
            for copy in self.now.clone() {
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
        for copy in self.now.clone() {
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
    pub(super) fn extreme(&mut self, asm: &mut Asm, least: bool, r: u8, first: u8, last: Rm) {
        let op = if least { x::MIN } else { x::MAX };
        asm.two(op, r, first, last, Lanes::All);
        let k = self.mask(asm);
        asm.compare(Compare::Unordered, k, first, Rm::Zmm(first), None);
        asm.one(x::MOVE, r, Rm::Zmm(first), Lanes::Keep(k));
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
