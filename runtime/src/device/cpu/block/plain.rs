//! Runs the code of a block an operator at a time: plain loops over up to [`BLOCK`] rows, built once for each width.
#![allow(clippy::cast_ptr_alignment, reason = "every array is aligned as its elements are")]
#![allow(
    clippy::inline_always,
    reason = "a loop is vector code of a width only inside the function of that width"
)]

use rlc_compiler::hir::ReduceOp;
use rlc_compiler::op::{Binary, Unary};

use super::code::{Arg, Code, Fold, Step, Value};
use super::{Element, LANES, Lanes, Rows, math};
use crate::device::cpu::rows::Width;

/// Rows of a block: a dozen registers of 1 KiB and the columns fit the first cache.
pub const BLOCK: usize = 128;

/// Registers of the values, each used again once its value has been read for the last time.
#[derive(Debug)]
pub struct Registers {
    of: Vec<u16>,
    count: usize,
}

impl Registers {
    pub fn new(code: &Code) -> Registers {
        let mut of = vec![0; code.values.len()];
        let (mut free, mut held, mut count): (Vec<u16>, Vec<u16>, u16) =
            (Vec::new(), Vec::new(), 0);
        for (at, step) in code.steps.iter().enumerate() {
            if let Step::Value(v) = *step {
                of[v as usize] = free.pop().unwrap_or_else(|| {
                    count += 1;
                    count - 1
                });
                held.push(v);
            }
            held.retain(|v| {
                let dead = code.last[*v as usize] <= at;
                if dead {
                    free.push(of[*v as usize]);
                }
                !dead
            });
        }
        Registers { of, count: count as usize }
    }

    /// Numbers that they take.
    pub fn room(&self) -> usize {
        (self.count + 1) * BLOCK
    }
}

/// Runs rows with the given width.
///
/// # Safety
///
/// The machine has the width; `rows` is of this code, and `memory` has [`Registers::room`].
pub unsafe fn run(
    width: Width,
    code: &Code,
    registers: &Registers,
    rows: &Rows,
    memory: &mut [f64],
    folds: &mut [Lanes],
) {
    // SAFETY: as promised by the caller.
    unsafe {
        match width {
            Width::Portable => all(code, registers, rows, memory, folds),
            #[cfg(target_arch = "x86_64")]
            Width::Avx2 => avx2(code, registers, rows, memory, folds),
            #[cfg(target_arch = "x86_64")]
            Width::Avx512 => avx512(code, registers, rows, memory, folds),
            #[cfg(not(target_arch = "x86_64"))]
            Width::Avx2 | Width::Avx512 => all(code, registers, rows, memory, folds),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn avx2(c: &Code, r: &Registers, rows: &Rows, m: &mut [f64], folds: &mut [Lanes]) {
    // SAFETY: the same promise.
    unsafe { all(c, r, rows, m, folds) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,fma,f16c")]
unsafe fn avx512(c: &Code, r: &Registers, rows: &Rows, m: &mut [f64], folds: &mut [Lanes]) {
    // SAFETY: the same promise.
    unsafe { all(c, r, rows, m, folds) }
}

/// The registers of a block while it is computed.
struct Block<'a> {
    registers: &'a Registers,
    numbers: &'a [f64],
    memory: &'a mut [f64],
    count: usize,
}

/// An operand: a block or one number.
#[derive(Clone, Copy)]
enum Operand<'m> {
    Block(&'m [f64]),
    One(f64),
}

impl Block<'_> {
    /// The register of a value, to be written.
    #[inline(always)]
    fn register(&mut self, v: u16) -> &mut [f64] {
        let at = self.registers.of[v as usize] as usize * BLOCK;
        &mut self.memory[at..at + self.count]
    }

    #[inline(always)]
    fn read(&self, arg: Arg) -> Operand<'_> {
        match arg {
            Arg::Row(v) => {
                let at = self.registers.of[v as usize] as usize * BLOCK;
                Operand::Block(&self.memory[at..at + self.count])
            }
            Arg::Number(n) => Operand::One(self.numbers[n as usize]),
        }
    }

    /// The register of `v` and what is read: never the same register.
    #[inline(always)]
    fn apart<const N: usize>(&mut self, v: u16, read: [Arg; N]) -> (&mut [f64], [Operand<'_>; N]) {
        let of = |v: u16| self.registers.of[v as usize] as usize * BLOCK;
        let (into, count, len) = (of(v), self.count, self.memory.len());
        assert!(into + BLOCK <= len && count <= BLOCK);
        let base = self.memory.as_mut_ptr();
        // SAFETY: registers are disjoint blocks inside the memory, and `into` is none of those read.
        unsafe {
            let out = std::slice::from_raw_parts_mut(base.add(into), count);
            let read = read.map(|arg| match arg {
                Arg::Row(x) => {
                    assert!(of(x) != into && of(x) + BLOCK <= len);
                    Operand::Block(std::slice::from_raw_parts(base.add(of(x)).cast_const(), count))
                }
                Arg::Number(n) => Operand::One(self.numbers[n as usize]),
            });
            (out, read)
        }
    }

    /// A finite number: it makes nothing of 0.
    #[inline(always)]
    fn is_finite(&self, arg: Arg) -> bool {
        matches!(self.read(arg), Operand::One(x) if x.is_finite())
    }

    #[inline(always)]
    fn map(&mut self, v: u16, x: Arg, f: impl Fn(f64) -> f64) {
        let (out, [x]) = self.apart(v, [x]);
        match x {
            Operand::Block(x) => {
                for (o, x) in out.iter_mut().zip(x) {
                    *o = f(*x);
                }
            }
            Operand::One(x) => out.fill(f(x)),
        }
    }

    #[inline(always)]
    fn pair(&mut self, v: u16, a: Arg, b: Arg, f: impl Fn(f64, f64) -> f64) {
        let (out, [a, b]) = self.apart(v, [a, b]);
        match (a, b) {
            (Operand::Block(a), Operand::Block(b)) => {
                for ((o, a), b) in out.iter_mut().zip(a).zip(b) {
                    *o = f(*a, *b);
                }
            }
            (Operand::Block(a), Operand::One(b)) => {
                for (o, a) in out.iter_mut().zip(a) {
                    *o = f(*a, b);
                }
            }
            (Operand::One(a), Operand::Block(b)) => {
                for (o, b) in out.iter_mut().zip(b) {
                    *o = f(a, *b);
                }
            }
            (Operand::One(a), Operand::One(b)) => out.fill(f(a, b)),
        }
    }

    #[inline(always)]
    fn select(&mut self, v: u16, c: Arg, a: Arg, b: Arg) {
        let (out, [c, a, b]) = self.apart(v, [c, a, b]);
        let c = match c {
            Operand::Block(c) => c,
            Operand::One(c) => {
                return match if c == 0.0 { b } else { a } {
                    Operand::Block(x) => out.copy_from_slice(x),
                    Operand::One(x) => out.fill(x),
                };
            }
        };
        match (a, b) {
            (Operand::Block(a), Operand::Block(b)) => {
                for (((o, c), a), b) in out.iter_mut().zip(c).zip(a).zip(b) {
                    *o = if *c == 0.0 { *b } else { *a };
                }
            }
            (Operand::Block(a), Operand::One(b)) => {
                for ((o, c), a) in out.iter_mut().zip(c).zip(a) {
                    *o = if *c == 0.0 { b } else { *a };
                }
            }
            (Operand::One(a), Operand::Block(b)) => {
                for ((o, c), b) in out.iter_mut().zip(c).zip(b) {
                    *o = if *c == 0.0 { *b } else { a };
                }
            }
            (Operand::One(a), Operand::One(b)) => {
                for (o, c) in out.iter_mut().zip(c) {
                    *o = if *c == 0.0 { b } else { a };
                }
            }
        }
    }

    #[inline(always)]
    fn unary(&mut self, v: u16, op: Unary, x: Arg) {
        match op {
            Unary::Neg => self.map(v, x, |x| -x),
            Unary::Not => self.map(v, x, |x| truth(x == 0.0)),
            Unary::Exp => self.map(v, x, math::exp),
            Unary::Expm1 => self.map(v, x, math::expm1),
            Unary::Abs => self.map(v, x, f64::abs),
            Unary::Relu => self.map(v, x, |x| Unary::Relu.eval(x)),
            Unary::Cast => self.map(v, x, |x| x),
            Unary::IsFinite => self.map(v, x, |x| truth(x.is_finite())),
            Unary::IsNan => self.map(v, x, |x| truth(x.is_nan())),
            Unary::Sqrt => self.map(v, x, f64::sqrt),
            Unary::Sign => self.map(v, x, |x| Unary::Sign.eval(x)),
            Unary::Log
            | Unary::Log1p
            | Unary::Log1mexp
            | Unary::Log2
            | Unary::Sigmoid
            | Unary::LogSigmoid
            | Unary::Tanh
            | Unary::Softplus
            | Unary::Floor
            | Unary::Ceil
            | Unary::Round
            | Unary::Trunc
            | Unary::Sin
            | Unary::Cos => self.map(v, x, |x| op.eval(x)),
        }
    }

    #[inline(always)]
    fn binary(&mut self, v: u16, op: Binary, a: Arg, b: Arg) {
        match op {
            Binary::Add => self.pair(v, a, b, |a, b| a + b),
            Binary::Sub => self.pair(v, a, b, |a, b| a - b),
            Binary::Mul => self.pair(v, a, b, |a, b| a * b),
            Binary::Div => self.pair(v, a, b, |a, b| a / b),
            Binary::Chain if self.is_finite(b) => self.pair(v, a, b, |a, b| a * b),
            Binary::Chain => self.pair(v, a, b, |a, b| {
                let product = a * b;
                if a == 0.0 { 0.0 } else { product }
            }),
            Binary::Eq => self.pair(v, a, b, |a, b| truth(a == b)),
            Binary::Ne => self.pair(v, a, b, |a, b| truth(a != b)),
            Binary::Lt => self.pair(v, a, b, |a, b| truth(a < b)),
            Binary::Le => self.pair(v, a, b, |a, b| truth(a <= b)),
            Binary::Gt => self.pair(v, a, b, |a, b| truth(a > b)),
            Binary::Ge => self.pair(v, a, b, |a, b| truth(a >= b)),
            Binary::And => self.pair(v, a, b, |a, b| truth(a != 0.0 && b != 0.0)),
            Binary::Or => self.pair(v, a, b, |a, b| truth(a != 0.0 || b != 0.0)),
            Binary::Min => self.pair(v, a, b, |a, b| Binary::Min.eval(a, b)),
            Binary::Max => self.pair(v, a, b, |a, b| Binary::Max.eval(a, b)),
            Binary::FloorDiv | Binary::Mod | Binary::Pow => {
                self.pair(v, a, b, |a, b| op.eval(a, b));
            }
        }
    }
}

#[inline(always)]
fn truth(x: bool) -> f64 {
    f64::from(u8::from(x))
}

#[inline(always)]
unsafe fn all(
    code: &Code,
    registers: &Registers,
    rows: &Rows,
    memory: &mut [f64],
    folds: &mut [Lanes],
) {
    let mut first = rows.range.start;
    // Counts are those of these rows, bits of whole numbers.
    folds[code.folds.len()] = Lanes([0.0; LANES]);
    while first < rows.range.end {
        let count = BLOCK.min(rows.range.end - first);
        let mut block = Block { registers, numbers: rows.numbers, memory: &mut *memory, count };
        for step in &code.steps {
            match *step {
                Step::Value(v) => match code.values[v as usize] {
                    Value::Load(column) => {
                        let (data, element) = rows.columns[column as usize];
                        // SAFETY: the column has an element for each row.
                        unsafe { load(data, element, first, block.register(v)) };
                    }
                    Value::Gather(from, index) => {
                        let from = rows.gathers[from as usize];
                        let (out, [index]) = block.apart(v, [index]);
                        // SAFETY: the column has this many rows.
                        unsafe { gather(from, index, out) };
                    }
                    Value::RowNumber => {
                        for (i, o) in block.register(v).iter_mut().enumerate() {
                            *o = (first + i) as f64;
                        }
                    }
                    Value::Unary(op, x) => block.unary(v, op, x),
                    Value::Binary(op, a, b) => block.binary(v, op, a, b),
                    Value::Select(c, a, b) => block.select(v, c, a, b),
                },
                Step::Store(s) => {
                    let into = rows.stores[s as usize];
                    // SAFETY: the slot has a number for each row, and nothing else reads or writes it now.
                    let out = unsafe { std::slice::from_raw_parts_mut(into.add(first), count) };
                    match block.read(code.stores[s as usize].1) {
                        Operand::Block(x) => out.copy_from_slice(x),
                        Operand::One(x) => out.fill(x),
                    }
                }
                Step::Fold(f) => {
                    let fold = &code.folds[f as usize];
                    let kept = fold.filter.map(|f| block.read(f));
                    add(&mut folds[f as usize].0, fold, block.read(fold.x), kept, count);
                }
                Step::Count(c) => {
                    let rows = match block.read(code.counts[c as usize]) {
                        Operand::Block(x) => x.iter().map(|x| u64::from(*x != 0.0)).sum(),
                        Operand::One(x) => {
                            if x == 0.0 {
                                0
                            } else {
                                count as u64
                            }
                        }
                    };
                    let lane = &mut folds[code.folds.len()].0[c as usize];
                    *lane = f64::from_bits(lane.to_bits() + rows);
                }
                Step::Scatter(s) => {
                    let fold = &code.scatters[s as usize];
                    let (into, len) = rows.scatters[s as usize];
                    // SAFETY: the slot has these rows, and nothing else reads or writes it now.
                    let into = unsafe { std::slice::from_raw_parts_mut(into, len) };
                    let kept = fold.filter.map(|f| block.read(f));
                    let (x, index) = (block.read(fold.x), block.read(fold.index));
                    scatter(into, fold.op, x, kept, index, count);
                }
            }
        }
        first += count;
    }
}

/// The row of a number; one that no array has, where it is none.
#[inline(always)]
fn row_of(number: f64) -> u32 {
    // Added to 2^52, a whole number lies in the lowest bits: a conversion that every machine has for vectors.
    let row = (number + f64::from_bits(0x4330_0000_0000_0000)).to_bits() as u32;
    if f64::from(row) == number { row } else { u32::MAX }
}

/// The rows of a block of numbers.
#[inline(always)]
fn rows_of(index: Operand, count: usize) -> [u32; BLOCK] {
    let mut out = [u32::MAX; BLOCK];
    match index {
        Operand::Block(index) => {
            for (o, i) in out.iter_mut().zip(index) {
                *o = row_of(*i);
            }
        }
        Operand::One(index) => out[..count].fill(row_of(index)),
    }
    out
}

/// Reads elements at rows of numbers.
#[inline(always)]
unsafe fn gather((data, element, len): super::Gather, index: Operand, out: &mut [f64]) {
    let rows = rows_of(index, out.len());
    if element == Element::F64 {
        // SAFETY: the caller promises these rows.
        let data = unsafe { std::slice::from_raw_parts(data.cast::<f64>(), len) };
        for (o, row) in out.iter_mut().zip(rows) {
            *o = data.get(row as usize).copied().unwrap_or(0.0);
        }
        return;
    }
    for (o, row) in out.iter_mut().zip(rows) {
        let row = row as usize;
        // SAFETY: the caller promises the rows.
        *o = if row < len { unsafe { element.at(data, row) } } else { 0.0 };
    }
}

/// Folds a block into the elements of numbers, row by row.
#[inline(always)]
fn scatter(
    into: &mut [f64],
    op: ReduceOp,
    x: Operand,
    kept: Option<Operand>,
    index: Operand,
    count: usize,
) {
    let mut rows = rows_of(index, count);
    match kept {
        Some(Operand::Block(kept)) => {
            for (row, kept) in rows.iter_mut().zip(kept) {
                *row = if *kept == 0.0 { u32::MAX } else { *row };
            }
        }
        Some(Operand::One(0.0)) => return,
        Some(Operand::One(_)) | None => {}
    }
    let rows = &rows[..count];
    match op {
        ReduceOp::Sum | ReduceOp::LogSumExp => one_by_one(into, rows, x, |a, b| a + b),
        ReduceOp::Prod => one_by_one(into, rows, x, |a, b| a * b),
        ReduceOp::Max => one_by_one(into, rows, x, |a, b| math::fold(ReduceOp::Max, a, b)),
        ReduceOp::Min => one_by_one(into, rows, x, |a, b| math::fold(ReduceOp::Min, a, b)),
    }
}

#[inline(always)]
fn one_by_one(into: &mut [f64], rows: &[u32], x: Operand, f: impl Fn(f64, f64) -> f64) {
    match x {
        Operand::Block(x) => {
            for (row, x) in rows.iter().zip(x) {
                if let Some(element) = into.get_mut(*row as usize) {
                    *element = f(*element, *x);
                }
            }
        }
        Operand::One(x) => {
            for row in rows {
                if let Some(element) = into.get_mut(*row as usize) {
                    *element = f(*element, x);
                }
            }
        }
    }
}

/// Folds a block into lanes: row i of it into lane i modulo their number.
#[inline(always)]
fn add(lanes: &mut [f64; LANES], fold: &Fold, x: Operand, kept: Option<Operand>, count: usize) {
    match fold.op {
        ReduceOp::Sum if fold.less => each(lanes, x, kept, count, |a, b| a - b),
        ReduceOp::Sum | ReduceOp::LogSumExp => each(lanes, x, kept, count, |a, b| a + b),
        ReduceOp::Prod => each(lanes, x, kept, count, |a, b| a * b),
        ReduceOp::Max => each(lanes, x, kept, count, |a, b| Binary::Max.eval(a, b)),
        ReduceOp::Min => each(lanes, x, kept, count, |a, b| Binary::Min.eval(a, b)),
    }
}

#[inline(always)]
fn each(
    lanes: &mut [f64; LANES],
    x: Operand,
    kept: Option<Operand>,
    count: usize,
    f: impl Fn(f64, f64) -> f64,
) {
    let one = |lane: &mut f64, x: f64, kept: f64| {
        let next = f(*lane, x);
        *lane = if kept == 0.0 { *lane } else { next };
    };
    let kept = match kept {
        Some(Operand::One(0.0)) => return,
        Some(Operand::One(_)) | None => None,
        Some(Operand::Block(kept)) => Some(kept),
    };
    match (x, kept) {
        (Operand::Block(x), Some(kept)) => {
            let ((x, rest), (kept, left)) = (x.as_chunks::<LANES>(), kept.as_chunks::<LANES>());
            for (x, kept) in x.iter().zip(kept) {
                for ((lane, x), kept) in lanes.iter_mut().zip(x).zip(kept) {
                    one(lane, *x, *kept);
                }
            }
            for ((lane, x), kept) in lanes.iter_mut().zip(rest).zip(left) {
                one(lane, *x, *kept);
            }
        }
        (Operand::Block(x), None) => {
            let (x, rest) = x.as_chunks::<LANES>();
            for x in x {
                for (lane, x) in lanes.iter_mut().zip(x) {
                    one(lane, *x, 1.0);
                }
            }
            for (lane, x) in lanes.iter_mut().zip(rest) {
                one(lane, *x, 1.0);
            }
        }
        (Operand::One(x), Some(kept)) => {
            let (kept, left) = kept.as_chunks::<LANES>();
            for kept in kept {
                for (lane, kept) in lanes.iter_mut().zip(kept) {
                    one(lane, x, *kept);
                }
            }
            for (lane, kept) in lanes.iter_mut().zip(left) {
                one(lane, x, *kept);
            }
        }
        (Operand::One(x), None) => {
            for i in 0..count {
                one(&mut lanes[i % LANES], x, 1.0);
            }
        }
    }
}

#[inline(always)]
unsafe fn load(data: *const u8, element: Element, first: usize, out: &mut [f64]) {
    // SAFETY: the caller promises `first + out.len()` elements, aligned as the column's own.
    unsafe {
        match element {
            Element::F64 => {
                let data = std::slice::from_raw_parts(data.cast::<f64>().add(first), out.len());
                out.copy_from_slice(data);
            }
            Element::F32 => {
                let data = std::slice::from_raw_parts(data.cast::<f32>().add(first), out.len());
                for (o, x) in out.iter_mut().zip(data) {
                    *o = f64::from(*x);
                }
            }
            Element::I64 => {
                let data = std::slice::from_raw_parts(data.cast::<i64>().add(first), out.len());
                for (o, x) in out.iter_mut().zip(data) {
                    *o = *x as f64;
                }
            }
            Element::U8 => {
                let data = std::slice::from_raw_parts(data.add(first), out.len());
                for (o, x) in out.iter_mut().zip(data) {
                    *o = f64::from(*x);
                }
            }
        }
    }
}
