//! Scalar operators as instructions, with the exact meaning of [`crate::op`].

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{
    ExtFuncData, ExternalName, FuncRef, InstBuilder, UserExternalName, Value,
};
use cranelift_codegen::isa::TargetFrontendConfig;
use cranelift_frontend::FunctionBuilder;

use super::Import;
use crate::hir::ReduceOp;
use crate::op::{Binary, Unary};

/// Writes scalar code into a function.
pub(super) struct Scalar<'f> {
    pub b: FunctionBuilder<'f>,
    target: TargetFrontendConfig,
    imports: [Option<FuncRef>; Import::ALL.len()],
}

/// A value, and as a condition (an i8 that is 0 or 1) where it is known as one.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub number: Value,
    pub truth: Option<Value>,
}

impl From<Value> for Known {
    fn from(number: Value) -> Self {
        Known { number, truth: None }
    }
}

impl<'f> Scalar<'f> {
    pub(super) fn new(b: FunctionBuilder<'f>, target: TargetFrontendConfig) -> Self {
        Scalar { b, target, imports: [None; Import::ALL.len()] }
    }

    pub(super) fn number(&mut self, x: f64) -> Value {
        self.b.ins().f64const(x)
    }

    /// `a ? x : y`
    pub(super) fn select(&mut self, a: Value, x: Value, y: Value) -> Value {
        self.b.ins().select(a, x, y)
    }

    pub(super) fn compare(&mut self, how: FloatCC, a: Value, b: Value) -> Value {
        self.b.ins().fcmp(how, a, b)
    }

    /// Whether it is not 0; NaN is not.
    pub(super) fn truth(&mut self, x: Known) -> Value {
        if let Some(t) = x.truth {
            return t;
        }
        let zero = self.number(0.0);
        self.compare(FloatCC::NotEqual, x.number, zero)
    }

    fn number_of(&mut self, t: Value) -> Known {
        let (one, zero) = (self.number(1.0), self.number(0.0));
        Known { number: self.select(t, one, zero), truth: Some(t) }
    }

    pub(super) fn exp(&mut self, x: Value) -> Value {
        self.call(Import::Unary(Unary::Exp), &[x])
    }

    pub(super) fn call(&mut self, import: Import, args: &[Value]) -> Value {
        let Some(index) = import.index() else {
            // Only operators of the list are called; NaN would show a fault in every test.
            return self.number(f64::NAN);
        };
        let slot = index as usize;
        let function = if let Some(f) = self.imports[slot] {
            f
        } else {
            let signature = self.b.import_signature(import.signature(self.target));
            let name = UserExternalName { namespace: 0, index };
            let name = self.b.func.declare_imported_user_function(name);
            let data = ExtFuncData {
                name: ExternalName::user(name),
                signature,
                colocated: false,
                patchable: false,
            };
            let f = self.b.import_function(data);
            self.imports[slot] = Some(f);
            f
        };
        let call = self.b.ins().call(function, args);
        self.b.inst_results(call)[0]
    }

    pub(super) fn unary(&mut self, op: Unary, x: Known) -> Known {
        let n = x.number;
        let value = match op {
            Unary::Neg => self.b.ins().fneg(n),
            Unary::Not => {
                let zero = self.number(0.0);
                let t = self.compare(FloatCC::Equal, n, zero);
                return self.number_of(t);
            }
            Unary::Sqrt => self.b.ins().sqrt(n),
            Unary::Abs => self.b.ins().fabs(n),
            Unary::Sign => {
                let (zero, one, minus) = (self.number(0.0), self.number(1.0), self.number(-1.0));
                let above = self.compare(FloatCC::GreaterThan, n, zero);
                let below = self.compare(FloatCC::LessThan, n, zero);
                // Keeps NaN, and turns -0 into 0.
                let rest = self.b.ins().fadd(n, zero);
                let rest = self.select(below, minus, rest);
                self.select(above, one, rest)
            }
            Unary::Relu => {
                let zero = self.number(0.0);
                let below = self.compare(FloatCC::LessThan, n, zero);
                self.select(below, zero, n)
            }
            Unary::Floor => self.b.ins().floor(n),
            Unary::Ceil => self.b.ins().ceil(n),
            Unary::Round => self.b.ins().nearest(n),
            Unary::Trunc => self.b.ins().trunc(n),
            Unary::IsFinite => {
                let size = self.b.ins().fabs(n);
                let inf = self.number(f64::INFINITY);
                let t = self.compare(FloatCC::LessThan, size, inf);
                return self.number_of(t);
            }
            Unary::IsNan => {
                let t = self.compare(FloatCC::Unordered, n, n);
                return self.number_of(t);
            }
            Unary::Cast => return x,
            Unary::Exp
            | Unary::Log
            | Unary::Log1p
            | Unary::Expm1
            | Unary::Log1mexp
            | Unary::Log2
            | Unary::Sigmoid
            | Unary::LogSigmoid
            | Unary::Tanh
            | Unary::Softplus
            | Unary::Sin
            | Unary::Cos => self.call(Import::Unary(op), &[n]),
        };
        value.into()
    }

    pub(super) fn binary(&mut self, op: Binary, x: Known, y: Known) -> Known {
        let (a, b) = (x.number, y.number);
        let compare = |s: &mut Self, how| {
            let t = s.compare(how, a, b);
            s.number_of(t)
        };
        let value = match op {
            Binary::Add => self.b.ins().fadd(a, b),
            Binary::Sub => self.b.ins().fsub(a, b),
            Binary::Mul => self.b.ins().fmul(a, b),
            Binary::Div => self.b.ins().fdiv(a, b),
            Binary::FloorDiv => self.floor_div(a, b),
            Binary::Mod => {
                let whole = self.floor_div(a, b);
                let whole = self.b.ins().fmul(b, whole);
                self.b.ins().fsub(a, whole)
            }
            Binary::Pow => self.call(Import::Binary(op), &[a, b]),
            Binary::Min => self.extreme(FloatCC::LessThan, a, b),
            Binary::Max => self.extreme(FloatCC::GreaterThan, a, b),
            Binary::Eq => return compare(self, FloatCC::Equal),
            Binary::Ne => return compare(self, FloatCC::NotEqual),
            Binary::Lt => return compare(self, FloatCC::LessThan),
            Binary::Le => return compare(self, FloatCC::LessThanOrEqual),
            Binary::Gt => return compare(self, FloatCC::GreaterThan),
            Binary::Ge => return compare(self, FloatCC::GreaterThanOrEqual),
            Binary::And => {
                let (p, q) = (self.truth(x), self.truth(y));
                let t = self.b.ins().band(p, q);
                return self.number_of(t);
            }
            Binary::Or => {
                let (p, q) = (self.truth(x), self.truth(y));
                let t = self.b.ins().bor(p, q);
                return self.number_of(t);
            }
            Binary::Chain => self.chain(a, b),
        };
        value.into()
    }

    /// a * b, and 0 where a is 0.
    pub(super) fn chain(&mut self, a: Value, b: Value) -> Value {
        let zero = self.number(0.0);
        let none = self.compare(FloatCC::Equal, a, zero);
        let product = self.b.ins().fmul(a, b);
        self.select(none, zero, product)
    }

    fn floor_div(&mut self, a: Value, b: Value) -> Value {
        let quotient = self.b.ins().fdiv(a, b);
        self.b.ins().floor(quotient)
    }

    /// a where it is beyond b or NaN, else b.
    fn extreme(&mut self, beyond: FloatCC, a: Value, b: Value) -> Value {
        let first = self.compare(beyond, a, b);
        let nan = self.compare(FloatCC::Unordered, a, a);
        let first = self.b.ins().bor(first, nan);
        self.select(first, a, b)
    }

    /// One step of a fold that is not a log-sum-exp.
    pub(super) fn fold(&mut self, op: ReduceOp, sum: Value, x: Value) -> Value {
        match op {
            ReduceOp::Sum | ReduceOp::LogSumExp => self.b.ins().fadd(sum, x),
            ReduceOp::Prod => self.b.ins().fmul(sum, x),
            ReduceOp::Max => self.extreme(FloatCC::GreaterThan, sum, x),
            ReduceOp::Min => self.extreme(FloatCC::LessThan, sum, x),
        }
    }
}
