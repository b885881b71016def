//! Scalar operators as C expressions, with the meaning of [`crate::op`]. The same text serves f64 and f32:
//! the prelude has each function for both.

use crate::op::{Binary, Unary};

/// A number, exactly; an f32 where `narrow`.
pub(super) fn number(x: f64, narrow: bool) -> String {
    let text = if x.is_nan() {
        "rlc_nan()".to_owned()
    } else if x == f64::INFINITY {
        "rlc_inf()".to_owned()
    } else if x == f64::NEG_INFINITY {
        "(-rlc_inf())".to_owned()
    } else if x < 0.0 || (x == 0.0 && x.is_sign_negative()) {
        format!("({x:?})")
    } else {
        format!("{x:?}")
    };
    if narrow { format!("(real){text}") } else { text }
}

pub(super) fn unary(op: Unary, x: &str) -> String {
    match op {
        Unary::Neg => format!("-{x}"),
        Unary::Cast => x.to_owned(),
        Unary::Not
        | Unary::Exp
        | Unary::Log
        | Unary::Log1p
        | Unary::Expm1
        | Unary::Log1mexp
        | Unary::Log2
        | Unary::Sqrt
        | Unary::Abs
        | Unary::Sign
        | Unary::Sigmoid
        | Unary::LogSigmoid
        | Unary::Tanh
        | Unary::Softplus
        | Unary::Relu
        | Unary::Floor
        | Unary::Ceil
        | Unary::Round
        | Unary::Trunc
        | Unary::IsFinite
        | Unary::IsNan
        | Unary::Sin
        | Unary::Cos => format!("rlc_{}({x})", op.name()),
    }
}

pub(super) fn binary(op: Binary, a: &str, b: &str) -> String {
    let infix = match op {
        Binary::Add => "+",
        Binary::Sub => "-",
        Binary::Mul => "*",
        Binary::Div => "/",
        Binary::Eq => "==",
        Binary::Ne => "!=",
        Binary::Lt => "<",
        Binary::Le => "<=",
        Binary::Gt => ">",
        Binary::Ge => ">=",
        Binary::FloorDiv
        | Binary::Mod
        | Binary::Pow
        | Binary::Min
        | Binary::Max
        | Binary::And
        | Binary::Or
        | Binary::Chain => return format!("rlc_{}({a}, {b})", op.name()),
    };
    if op.is_truth() { format!("rlc_truth({a} {infix} {b})") } else { format!("{a} {infix} {b}") }
}

pub(super) fn select(c: &str, a: &str, b: &str) -> String {
    format!("{c} != 0 ? {a} : {b}")
}
