//! Runs a sweep's operators over blocks of entries.
#![allow(
    clippy::inline_always,
    reason = "a loop is vector code of a width only inside the function of that width"
)]
#![allow(
    clippy::cast_ptr_alignment,
    reason = "entries are read and written unaligned; scratch is f64"
)]

use rlc_compiler::clif::Float;
use rlc_compiler::hir::ReduceOp;
use rlc_compiler::loops::{Guard, SlotId};
use rlc_compiler::op::{Binary, Unary};
use rlc_compiler::table::{bf16_to_f32, f16_to_f32};

use super::lane::exp;
use super::{Arg, BLOCK, Code, Column, Fold, Mean};
use crate::device::cpu::row::nth;
use crate::device::cpu::rows::{Stores, Target, Width};

/// One sweep over one row.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub code: &'a [Code],
    pub folds: &'a [Fold],
    /// Number types of columns, and the first entries of their rows.
    pub floats: &'a [Column],
    pub columns: &'a [*mut u8],
    /// Values of gradients, the first entries of their rows, and their types.
    pub gradients: &'a [(SlotId, Arg)],
    pub written: &'a [*mut u8],
    pub types: &'a [Float],
    /// How row primitives write them.
    pub stores: &'a [Stores],
    /// Two rows of room, of f64, for each n-th entry.
    pub scratch: &'a [*mut u8],
    pub numbers: &'a [f64],
    pub entries: usize,
    /// The number of each entry, where they are some of a row.
    pub some: Option<&'a [u32]>,
    /// Registers in the memory; one more block follows for weights.
    pub registers: usize,
}

/// Sums are laid out in so many lanes, whatever the width.
const LANES: usize = 16;

/// Runs a row with the given width.
///
/// # Safety
///
/// The machine has the width; columns and gradients have `entries` numbers each.
pub(super) unsafe fn run(
    width: Width,
    row: &Row,
    memory: &mut [f64],
    running: &mut Vec<Running>,
    results: &mut [f64],
) {
    // SAFETY: as promised by the caller.
    unsafe {
        match width {
            Width::Portable => all(row, memory, running, results),
            #[cfg(target_arch = "x86_64")]
            Width::Avx2 => avx2(row, memory, running, results),
            #[cfg(target_arch = "x86_64")]
            Width::Avx512 => avx512(row, memory, running, results),
            #[cfg(not(target_arch = "x86_64"))]
            Width::Avx2 | Width::Avx512 => all(row, memory, running, results),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,f16c")]
unsafe fn avx2(row: &Row, memory: &mut [f64], running: &mut Vec<Running>, results: &mut [f64]) {
    // SAFETY: the same promise.
    unsafe { all(row, memory, running, results) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,f16c")]
unsafe fn avx512(row: &Row, memory: &mut [f64], running: &mut Vec<Running>, results: &mut [f64]) {
    // SAFETY: the same promise.
    unsafe { all(row, memory, running, results) }
}

/// State of a log-sum-exp.
#[derive(Debug, Clone)]
pub(super) struct Running {
    most: f64,
    scale: f64,
}

#[inline(always)]
unsafe fn all(row: &Row, memory: &mut [f64], running: &mut Vec<Running>, results: &mut [f64]) {
    running.clear();
    let mut at = 0;
    for fold in row.folds {
        match fold {
            Fold::Plain { op, .. } => {
                results[at] = op.identity();
                at += 1;
            }
            Fold::Nth { .. } => at += 1,
            Fold::LogSumExp { means, .. } => {
                running.push(Running { most: f64::NEG_INFINITY, scale: 0.0 });
                results[at..=at + means.len()].fill(0.0);
                at += 1 + means.len();
            }
        }
    }
    let mut first = 0;
    while first < row.entries {
        let count = BLOCK.min(row.entries - first);
        // SAFETY: entries `first..first + count` are in the row.
        unsafe { block(row, memory, first, count) };
        let (mut at, mut lse) = (0, 0);
        for fold in row.folds {
            match fold {
                Fold::Plain { op, x } => {
                    results[at] = plain(*op, results[at], row, memory, *x, count);
                    at += 1;
                }
                Fold::Nth { x, scratch, .. } => {
                    let x = value(row, memory, *x, count);
                    // SAFETY: the scratch has room for every entry twice.
                    unsafe {
                        let room = row.scratch[*scratch as usize].cast::<f64>().add(first);
                        std::ptr::copy_nonoverlapping(x.as_ptr(), room, count);
                    }
                    at += 1;
                }
                Fold::LogSumExp { x, means } => {
                    let sums = &mut results[at + 1..=at + means.len()];
                    add(&mut running[lse], row, memory, (*x, means), count, sums);
                    lse += 1;
                    at += 1 + means.len();
                }
            }
        }
        first += count;
    }
    let (mut at, mut lse) = (0, 0);
    for fold in row.folds {
        match fold {
            Fold::Plain { .. } => at += 1,
            Fold::Nth { n, scratch, .. } => {
                let n = match n {
                    Arg::Row(n) => row.numbers[*n as usize],
                    // It belongs to the row, as the verifier sees to.
                    Arg::Block(_) => f64::NAN,
                };
                let room = row.scratch[*scratch as usize].cast();
                // SAFETY: both halves are as long as the row; the first was just written.
                results[at] = unsafe { nth(room, row.entries, n) };
                at += 1;
            }
            Fold::LogSumExp { means, .. } => {
                finish(&running[lse], means, &mut results[at..=at + means.len()]);
                lse += 1;
                at += 1 + means.len();
            }
        }
    }
}

/// Computes every register for one block, and writes gradients.
#[inline(always)]
unsafe fn block(row: &Row, memory: &mut [f64], first: usize, count: usize) {
    for code in row.code {
        match *code {
            Code::Entry { into, column } => {
                let data = row.columns[column as usize].cast_const();
                let float = row.floats[column as usize].float;
                let out = register(memory, into, count);
                // SAFETY: the column has that many entries; it may be unaligned, as rows of an odd
                // number of half-precision entries in a file are.
                unsafe { load(data, float, first, out) };
            }
            Code::Index { into } => {
                let out = register(memory, into, count);
                match row.some {
                    Some(some) => {
                        for (o, at) in out.iter_mut().zip(&some[first..]) {
                            *o = f64::from(*at);
                        }
                    }
                    None => {
                        for (i, o) in out.iter_mut().enumerate() {
                            *o = (first + i) as f64;
                        }
                    }
                }
            }
            Code::Unary { op, into, x } => unary(op, row, memory, into, x, count),
            Code::Binary { op, into, a, b } => binary(op, row, memory, into, (a, b), count),
            Code::Select { into, c, a, b } => select(row, memory, into, [c, a, b], count),
        }
    }
    for ((data, float), (_, x)) in row.written.iter().zip(row.types).zip(row.gradients) {
        let Some(to) = Target::at(*data, *float) else { continue };
        for i in 0..count {
            let value = match *x {
                Arg::Block(r) => memory[r as usize * BLOCK + i],
                Arg::Row(n) => row.numbers[n as usize],
            };
            // SAFETY: the gradient has an entry for each of the row's.
            unsafe { to.set(first + i, value as f32) };
        }
    }
}

#[inline(always)]
fn register(memory: &mut [f64], r: u16, count: usize) -> &mut [f64] {
    &mut memory[r as usize * BLOCK..][..count]
}

/// A register to write and others to read.
#[inline(always)]
fn apart<const N: usize>(
    memory: &mut [f64],
    into: u16,
    read: [u16; N],
    count: usize,
) -> (&mut [f64], [&[f64]; N]) {
    debug_assert!(read.iter().all(|r| *r != into));
    let base = memory.as_mut_ptr();
    let len = memory.len();
    assert!((into as usize + 1) * BLOCK <= len && count <= BLOCK);
    // SAFETY: registers are disjoint blocks inside the memory, and `into` is none of those read.
    unsafe {
        let out = std::slice::from_raw_parts_mut(base.add(into as usize * BLOCK), count);
        let read = read.map(|r| {
            assert!((r as usize + 1) * BLOCK <= len && r != into);
            std::slice::from_raw_parts(base.add(r as usize * BLOCK).cast_const(), count)
        });
        (out, read)
    }
}

#[inline(always)]
unsafe fn load(data: *const u8, float: Float, first: usize, out: &mut [f64]) {
    // SAFETY: the caller promises `first + out.len()` entries.
    unsafe {
        match float {
            Float::F32 => {
                let data = data.cast::<f32>().add(first);
                for (i, o) in out.iter_mut().enumerate() {
                    *o = f64::from(data.add(i).read_unaligned());
                }
            }
            Float::F64 => {
                let data = data.cast::<f64>().add(first);
                for (i, o) in out.iter_mut().enumerate() {
                    *o = data.add(i).read_unaligned();
                }
            }
            Float::Bf16 => {
                let data = data.cast::<u16>().add(first);
                for (i, o) in out.iter_mut().enumerate() {
                    *o = f64::from(bf16_to_f32(data.add(i).read_unaligned()));
                }
            }
            Float::F16 => {
                let data = data.cast::<u16>().add(first);
                for (i, o) in out.iter_mut().enumerate() {
                    *o = f64::from(f16_to_f32(data.add(i).read_unaligned()));
                }
            }
        }
    }
}

#[inline(always)]
fn map1(out: &mut [f64], x: &[f64], f: impl Fn(f64) -> f64) {
    for (o, x) in out.iter_mut().zip(x) {
        *o = f(*x);
    }
}

#[inline(always)]
fn map2(out: &mut [f64], a: &[f64], b: &[f64], f: impl Fn(f64, f64) -> f64) {
    for ((o, a), b) in out.iter_mut().zip(a).zip(b) {
        *o = f(*a, *b);
    }
}

#[inline(always)]
fn unary(op: Unary, row: &Row, memory: &mut [f64], into: u16, x: Arg, count: usize) {
    let x = match x {
        Arg::Block(x) => x,
        Arg::Row(n) => {
            let value = one(op, row.numbers[n as usize]);
            return register(memory, into, count).fill(value);
        }
    };
    let (out, [x]) = apart(memory, into, [x], count);
    match op {
        Unary::Neg => map1(out, x, |x| -x),
        Unary::Not => map1(out, x, |x| truth(x == 0.0)),
        Unary::Exp => map1(out, x, exp),
        Unary::Abs => map1(out, x, f64::abs),
        Unary::Relu => map1(out, x, |x| Unary::Relu.eval(x)),
        Unary::Cast => out.copy_from_slice(x),
        Unary::IsFinite => map1(out, x, |x| truth(x.is_finite())),
        Unary::IsNan => map1(out, x, |x| truth(x.is_nan())),
        Unary::Sqrt => map1(out, x, |x| Unary::Sqrt.eval(x)),
        Unary::Sign => map1(out, x, |x| Unary::Sign.eval(x)),
        Unary::Log
        | Unary::Log1p
        | Unary::Expm1
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
        | Unary::Cos => map1(out, x, |x| op.eval(x)),
    }
}

/// The same function for one number, with the same bits.
#[inline(always)]
fn one(op: Unary, x: f64) -> f64 {
    if op == Unary::Exp { exp(x) } else { op.eval(x) }
}

#[inline(always)]
fn truth(x: bool) -> f64 {
    f64::from(u8::from(x))
}

/// An adjoint of 0 ends a chain, whatever the factor.
#[inline(always)]
fn chain(a: f64, b: f64) -> f64 {
    let product = a * b;
    if a == 0.0 { 0.0 } else { product }
}

#[inline(always)]
fn binary(op: Binary, row: &Row, memory: &mut [f64], into: u16, (a, b): (Arg, Arg), count: usize) {
    match op {
        Binary::Add => pair(row, memory, into, (a, b), count, |a, b| a + b),
        Binary::Sub => pair(row, memory, into, (a, b), count, |a, b| a - b),
        Binary::Mul => pair(row, memory, into, (a, b), count, |a, b| a * b),
        Binary::Div => pair(row, memory, into, (a, b), count, |a, b| a / b),
        Binary::Chain => pair(row, memory, into, (a, b), count, chain),
        Binary::Eq => pair(row, memory, into, (a, b), count, |a, b| truth(a == b)),
        Binary::Ne => pair(row, memory, into, (a, b), count, |a, b| truth(a != b)),
        Binary::Lt => pair(row, memory, into, (a, b), count, |a, b| truth(a < b)),
        Binary::Le => pair(row, memory, into, (a, b), count, |a, b| truth(a <= b)),
        Binary::Gt => pair(row, memory, into, (a, b), count, |a, b| truth(a > b)),
        Binary::Ge => pair(row, memory, into, (a, b), count, |a, b| truth(a >= b)),
        Binary::And => {
            pair(row, memory, into, (a, b), count, |a, b| truth(a != 0.0 && b != 0.0));
        }
        Binary::Or => pair(row, memory, into, (a, b), count, |a, b| truth(a != 0.0 || b != 0.0)),
        Binary::Min => pair(row, memory, into, (a, b), count, |a, b| Binary::Min.eval(a, b)),
        Binary::Max => pair(row, memory, into, (a, b), count, |a, b| Binary::Max.eval(a, b)),
        Binary::FloorDiv | Binary::Mod | Binary::Pow => {
            pair(row, memory, into, (a, b), count, |a, b| op.eval(a, b));
        }
    }
}

#[inline(always)]
fn pair(
    row: &Row,
    memory: &mut [f64],
    into: u16,
    args: (Arg, Arg),
    count: usize,
    f: impl Fn(f64, f64) -> f64,
) {
    match args {
        (Arg::Block(a), Arg::Block(b)) => {
            let (out, [a, b]) = apart(memory, into, [a, b], count);
            map2(out, a, b, f);
        }
        (Arg::Block(a), Arg::Row(n)) => {
            let (out, [a]) = apart(memory, into, [a], count);
            let b = row.numbers[n as usize];
            map1(out, a, |a| f(a, b));
        }
        (Arg::Row(n), Arg::Block(b)) => {
            let (out, [b]) = apart(memory, into, [b], count);
            let a = row.numbers[n as usize];
            map1(out, b, |b| f(a, b));
        }
        (Arg::Row(a), Arg::Row(b)) => {
            let value = f(row.numbers[a as usize], row.numbers[b as usize]);
            register(memory, into, count).fill(value);
        }
    }
}

#[inline(always)]
fn select(row: &Row, memory: &mut [f64], into: u16, [c, a, b]: [Arg; 3], count: usize) {
    let c = match c {
        Arg::Block(c) => c,
        Arg::Row(n) => {
            let taken = if row.numbers[n as usize] == 0.0 { b } else { a };
            return match taken {
                Arg::Block(x) => {
                    let (out, [x]) = apart(memory, into, [x], count);
                    out.copy_from_slice(x);
                }
                Arg::Row(n) => register(memory, into, count).fill(row.numbers[n as usize]),
            };
        }
    };
    let number = |n: u16| row.numbers[n as usize];
    match (a, b) {
        (Arg::Block(a), Arg::Block(b)) => {
            let (out, [c, a, b]) = apart(memory, into, [c, a, b], count);
            for (((o, c), a), b) in out.iter_mut().zip(c).zip(a).zip(b) {
                *o = if *c == 0.0 { *b } else { *a };
            }
        }
        (Arg::Block(a), Arg::Row(n)) => {
            let (out, [c, a]) = apart(memory, into, [c, a], count);
            let b = number(n);
            map2(out, c, a, |c, a| if c == 0.0 { b } else { a });
        }
        (Arg::Row(n), Arg::Block(b)) => {
            let (out, [c, b]) = apart(memory, into, [c, b], count);
            let a = number(n);
            map2(out, c, b, |c, b| if c == 0.0 { b } else { a });
        }
        (Arg::Row(n), Arg::Row(m)) => {
            let (out, [c]) = apart(memory, into, [c], count);
            let (a, b) = (number(n), number(m));
            map1(out, c, |c| if c == 0.0 { b } else { a });
        }
    }
}

/// The block of a value, or a block filled with its number.
#[inline(always)]
fn value<'m>(row: &Row, memory: &'m mut [f64], x: Arg, count: usize) -> &'m [f64] {
    match x {
        Arg::Block(r) => register(memory, r, count),
        Arg::Row(n) => {
            let out = register(memory, row.registers as u16 + 1, count);
            out.fill(row.numbers[n as usize]);
            out
        }
    }
}

#[inline(always)]
fn lanes(x: &[f64], first: f64, f: impl Fn(f64, f64) -> f64) -> [f64; LANES] {
    let mut lanes = [first; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = f(*lane, *x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = f(*lane, *x);
    }
    lanes
}

#[inline(always)]
fn sum(x: &[f64]) -> f64 {
    lanes(x, 0.0, |a, b| a + b).iter().sum()
}

#[inline(always)]
fn plain(op: ReduceOp, so_far: f64, row: &Row, memory: &mut [f64], x: Arg, count: usize) -> f64 {
    let x = value(row, memory, x, count);
    match op {
        ReduceOp::Sum => so_far + sum(x),
        ReduceOp::Prod => lanes(x, 1.0, |a, b| a * b).iter().fold(so_far, |a, b| a * b),
        ReduceOp::Max => {
            let lanes = lanes(x, f64::NEG_INFINITY, |a, b| Binary::Max.eval(a, b));
            lanes.iter().fold(so_far, |a, b| Binary::Max.eval(a, *b))
        }
        ReduceOp::Min => {
            let lanes = lanes(x, f64::INFINITY, |a, b| Binary::Min.eval(a, b));
            lanes.iter().fold(so_far, |a, b| Binary::Min.eval(a, *b))
        }
        // Has its own fold.
        ReduceOp::LogSumExp => f64::NAN,
    }
}

/// Adds a block to a log-sum-exp and the means beside it.
#[inline(always)]
fn add(
    running: &mut Running,
    row: &Row,
    memory: &mut [f64],
    (x, means): (Arg, &[Mean]),
    count: usize,
    sums: &mut [f64],
) {
    // NaN is not above anything; it shows in the weights.
    let top =
        lanes(value(row, memory, x, count), f64::NEG_INFINITY, |a, b| if b > a { b } else { a });
    let top = top.iter().fold(f64::NEG_INFINITY, |a, b| if *b > a { *b } else { a });
    if top > running.most {
        let shrink = exp(running.most - top);
        running.scale *= shrink;
        for (sum, mean) in sums.iter_mut().zip(means) {
            *sum = match mean.guard {
                Guard::None => shrink * *sum,
                // What no longer weighs anything must not turn inf into NaN.
                Guard::NonZero | Guard::Positive => chain(shrink, *sum),
            };
        }
        running.most = top;
    }
    let most = running.most;
    let weigh = |x: f64| {
        // -inf adds 0, and inf - inf is 0.
        let gap = if x == most { 0.0 } else { x - most };
        let weight = exp(gap);
        if x == f64::NEG_INFINITY { 0.0 } else { weight }
    };
    let weights = row.registers as u16;
    match x {
        Arg::Block(x) => {
            let (out, [x]) = apart(memory, weights, [x], count);
            map1(out, x, weigh);
        }
        Arg::Row(n) => register(memory, weights, count).fill(weigh(row.numbers[n as usize])),
    }
    running.scale += sum(register(memory, weights, count));
    for (total, mean) in sums.iter_mut().zip(means) {
        let share = |weight: f64, f: f64| match mean.guard {
            Guard::None => weight * f,
            Guard::NonZero => {
                let product = weight * f;
                if weight == 0.0 { 0.0 } else { product }
            }
            Guard::Positive => {
                let product = weight * f;
                if weight > 0.0 { product } else { 0.0 }
            }
        };
        *total += mean_block(row, memory, mean, count, share);
    }
}

#[inline(always)]
fn mean_block(
    row: &Row,
    memory: &mut [f64],
    mean: &Mean,
    count: usize,
    share: impl Fn(f64, f64) -> f64,
) -> f64 {
    let (weights, products) = (row.registers as u16, row.registers as u16 + 1);
    pair(row, memory, products, (Arg::Block(weights), mean.f), count, share);
    if let Some(filter) = mean.filter {
        match filter {
            Arg::Block(filter) => {
                let (out, [filter]) = apart(memory, products, [filter], count);
                for (o, c) in out.iter_mut().zip(filter) {
                    *o = if *c == 0.0 { 0.0 } else { *o };
                }
            }
            Arg::Row(n) if row.numbers[n as usize] == 0.0 => return 0.0,
            Arg::Row(_) => {}
        }
    }
    sum(register(memory, products, count))
}

fn finish(running: &Running, means: &[Mean], results: &mut [f64]) {
    results[0] = running.most + Unary::Log.eval(running.scale);
    let proper = running.most < f64::INFINITY && running.scale > 0.0;
    for (result, mean) in results[1..].iter_mut().zip(means) {
        // An entry of inf, or none above -inf: no softmax.
        *result = match mean.guard {
            _ if proper => *result / running.scale,
            Guard::Positive => 0.0,
            Guard::None | Guard::NonZero => f64::NAN,
        };
    }
}
