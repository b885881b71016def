//! Loops as Cranelift IR: one function per loop, scalar f64 code.
//!
//! ```text
//! fn(slots: *const *mut u8, begin: i64, end: i64, vocab: i64, base: i64)
//! ```
//!
//! runs rows `begin..end` of its level. `slots` is the pointer table in the order of
//! [`Plan::slots`], after which come the rows of each level; `vocab` is the entries per row, `base` the token in the first row of vocab-level
//! memory. Sums are plain f64 sums in the order of rows: at a million rows of one sign their error
//! is below 1e-10 of the result, far below the f32 of the logits.
//!
//! Arithmetic, comparisons and rounding are instructions; everything else calls the function that
//! defines the operator in [`crate::op`], by [`Import`]. This module builds text-printable functions
//! and nothing else: loading and running them is the runtime's.

mod carry;
mod row;
mod scalar;
mod sweep;

use std::fmt::Write as _;

use cranelift_codegen::ir::{AbiParam, Function, Signature, UserFuncName, types};
use cranelift_codegen::isa::TargetFrontendConfig;
use cranelift_frontend::FunctionBuilderContext;

use crate::hir::ColumnId;
use crate::loops::Plan;
use crate::op::{Binary, Unary};

/// How the floats of a vocab-level column lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Float {
    /// 32 bits.
    F32,
    /// 64 bits.
    F64,
    /// The upper half of 32 bits.
    Bf16,
    /// IEEE half precision.
    F16,
}

impl Float {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Float::F32 => 4,
            Float::F64 => 8,
            Float::Bf16 | Float::F16 => 2,
        }
    }
}

/// What compiled code calls instead of computing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Import {
    /// One operand.
    Unary(Unary),
    /// Two operands.
    Binary(Binary),
    /// `(code, table, inputs, results, vocab, row)`: a sweep over the row's entries; gives 0. The code
    /// is an entry of the table, after the slots and the levels' counts.
    Sweep,
    /// `(row, vocab, d, index, begin, end)`: fills a row with sums of d by index; gives 0.
    Spread,
    /// `(at, vocab, d, index, begin, end)`: such a sum at one entry.
    SpreadAt,
}

impl Import {
    /// Every import. Function `u0:n` of the IR is the n-th of these.
    pub const ALL: [Import; 16] = [
        Import::Unary(Unary::Exp),
        Import::Unary(Unary::Log),
        Import::Unary(Unary::Log1p),
        Import::Unary(Unary::Expm1),
        Import::Unary(Unary::Log1mexp),
        Import::Unary(Unary::Log2),
        Import::Unary(Unary::Sigmoid),
        Import::Unary(Unary::LogSigmoid),
        Import::Unary(Unary::Tanh),
        Import::Unary(Unary::Softplus),
        Import::Unary(Unary::Sin),
        Import::Unary(Unary::Cos),
        Import::Binary(Binary::Pow),
        Import::Sweep,
        Import::Spread,
        Import::SpreadAt,
    ];

    /// Name for symbol tables.
    pub fn symbol(self) -> String {
        match self {
            Import::Unary(op) => format!("rlc_{}", op.name()),
            Import::Binary(op) => format!("rlc_{}", op.name()),
            Import::Sweep => "rlc_sweep".to_owned(),
            Import::Spread => "rlc_spread".to_owned(),
            Import::SpreadAt => "rlc_spread_at".to_owned(),
        }
    }

    /// Its number in [`Import::ALL`]; none if the operator is computed in place.
    pub fn index(self) -> Option<u32> {
        Import::ALL.iter().position(|i| *i == self).map(|i| i as u32)
    }

    /// Its signature.
    pub fn signature(self, target: TargetFrontendConfig) -> Signature {
        let mut sig = Signature::new(target.default_call_conv);
        let (real, int, pointer) = (types::F64, types::I64, target.pointer_type());
        let params = match self {
            Import::Unary(_) => vec![real],
            Import::Binary(_) => vec![real, real],
            Import::Sweep => vec![pointer, pointer, pointer, pointer, int, int],
            Import::Spread => vec![pointer, int, pointer, pointer, int, int],
            Import::SpreadAt => vec![real, int, pointer, pointer, int, int],
        };
        sig.params = params.into_iter().map(AbiParam::new).collect();
        sig.returns.push(AbiParam::new(types::F64));
        sig
    }
}

/// Signature of every loop's function.
pub fn signature(target: TargetFrontendConfig) -> Signature {
    let mut sig = Signature::new(target.default_call_conv);
    sig.params.push(AbiParam::new(target.pointer_type()));
    sig.params.extend([AbiParam::new(types::I64); 4]);
    sig
}

/// One function per loop, in the order of [`Plan::loops`]. `float` says how each vocab-level column
/// lies in memory.
pub fn emit(
    plan: &Plan,
    float: &dyn Fn(ColumnId) -> Float,
    target: TargetFrontendConfig,
) -> Vec<Function> {
    let mut context = FunctionBuilderContext::new();
    let mut out = Vec::new();
    let mut sweeps = 0;
    for of in plan.loops() {
        let name = UserFuncName::testcase(&of.name);
        let mut function = Function::with_name_signature(name, signature(target));
        row::Emit::new(plan, of, float, &mut function, &mut context, target, sweeps).emit();
        sweeps += of.sweeps().count();
        out.push(function);
    }
    out
}

/// All functions as text.
pub fn print(
    plan: &Plan,
    float: &dyn Fn(ColumnId) -> Float,
    target: TargetFrontendConfig,
) -> String {
    let mut out = String::new();
    for (n, import) in Import::ALL.iter().enumerate() {
        let _ = writeln!(out, "; u0:{n} is {}", import.symbol());
    }
    for (id, slot) in plan.all_slots() {
        let _ = writeln!(out, "; slot {} is {} ({:?})", id.0, plan.place(id), slot.kind);
    }
    for function in emit(plan, float, target) {
        let _ = write!(out, "\n{function}");
    }
    out
}
