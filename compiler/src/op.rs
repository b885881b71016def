//! The scalar operators: the one table of names, meanings and result types.
//!
//! A truth value is 1.0 or 0.0 and an int is a whole f64. The meanings here *are* the language;
//! compiled code calls them or must agree with them. Derivatives live in `autodiff`.

/// Scalar types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ty {
    /// Real number.
    Real,
    /// Whole number.
    Int,
    /// Truth value.
    Bool,
}

impl Ty {
    /// As written in programs.
    pub fn name(self) -> &'static str {
        match self {
            Ty::Real => "real",
            Ty::Int => "int",
            Ty::Bool => "bool",
        }
    }
}

/// The largest whole number up to which every one is told from its neighbours: values are computed in f64.
pub const INT_END: i64 = 1 << 53;

/// Operators of one operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "named as in the language")]
pub enum Unary {
    Neg,
    Not,
    Exp,
    Log,
    Log1p,
    Expm1,
    /// log(1 - exp(x)), for x < 0.
    Log1mexp,
    Log2,
    Sqrt,
    Abs,
    Sign,
    Sigmoid,
    LogSigmoid,
    Tanh,
    Softplus,
    Relu,
    Floor,
    Ceil,
    /// To the nearest whole number, halves to the even one.
    Round,
    /// Towards zero.
    Trunc,
    IsFinite,
    IsNan,
    Sin,
    Cos,
    /// The same number under another type.
    Cast,
}

/// Operators of two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "named as in the language")]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    /// Rounds towards minus infinity.
    FloorDiv,
    /// a - b * floor(a / b): has the sign of b.
    Mod,
    Pow,
    /// NaN if either is.
    Min,
    /// NaN if either is.
    Max,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    And,
    Or,
    /// Adjoint times partial derivative, where an adjoint of 0 gives 0 whatever the derivative
    /// is: a branch not taken contributes nothing, also where its derivative is not finite.
    Chain,
}

fn truth(b: bool) -> f64 {
    if b { 1.0 } else { 0.0 }
}

impl Unary {
    /// Every operator, for tables and tests.
    pub const ALL: [Unary; 25] = {
        use Unary as U;
        [
            U::Neg,
            U::Not,
            U::Exp,
            U::Log,
            U::Log1p,
            U::Expm1,
            U::Log1mexp,
            U::Log2,
            U::Sqrt,
            U::Abs,
            U::Sign,
            U::Sigmoid,
            U::LogSigmoid,
            U::Tanh,
            U::Softplus,
            U::Relu,
            U::Floor,
            U::Ceil,
            U::Round,
            U::Trunc,
            U::IsFinite,
            U::IsNan,
            U::Sin,
            U::Cos,
            U::Cast,
        ]
    };

    /// Its name in printed graphs, and in programs where it is a function.
    pub fn name(self) -> &'static str {
        match self {
            Unary::Neg => "neg",
            Unary::Not => "not",
            Unary::Exp => "exp",
            Unary::Log => "log",
            Unary::Log1p => "log1p",
            Unary::Expm1 => "expm1",
            Unary::Log1mexp => "log1mexp",
            Unary::Log2 => "log2",
            Unary::Sqrt => "sqrt",
            Unary::Abs => "abs",
            Unary::Sign => "sign",
            Unary::Sigmoid => "sigmoid",
            Unary::LogSigmoid => "log_sigmoid",
            Unary::Tanh => "tanh",
            Unary::Softplus => "softplus",
            Unary::Relu => "relu",
            Unary::Floor => "floor",
            Unary::Ceil => "ceil",
            Unary::Round => "round",
            Unary::Trunc => "trunc",
            Unary::IsFinite => "isfinite",
            Unary::IsNan => "isnan",
            Unary::Sin => "sin",
            Unary::Cos => "cos",
            Unary::Cast => "cast",
        }
    }

    /// Its meaning.
    pub fn eval(self, x: f64) -> f64 {
        match self {
            Unary::Neg => -x,
            Unary::Not => truth(x == 0.0),
            Unary::Exp => libm::exp(x),
            Unary::Log => libm::log(x),
            Unary::Log1p => libm::log1p(x),
            Unary::Expm1 => libm::expm1(x),
            Unary::Log1mexp => log1mexp(x),
            Unary::Log2 => libm::log2(x),
            Unary::Sqrt => libm::sqrt(x),
            Unary::Abs => x.abs(),
            Unary::Sign => {
                if x > 0.0 {
                    1.0
                } else if x < 0.0 {
                    -1.0
                } else {
                    // Keeps NaN, and turns -0 into 0.
                    x + 0.0
                }
            }
            Unary::Sigmoid => sigmoid(x),
            Unary::LogSigmoid => -softplus(-x),
            Unary::Tanh => libm::tanh(x),
            Unary::Softplus => softplus(x),
            Unary::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Unary::Floor => libm::floor(x),
            Unary::Ceil => libm::ceil(x),
            Unary::Round => libm::rint(x),
            Unary::Trunc => libm::trunc(x),
            Unary::IsFinite => truth(x.is_finite()),
            Unary::IsNan => truth(x.is_nan()),
            Unary::Sin => libm::sin(x),
            Unary::Cos => libm::cos(x),
            Unary::Cast => x,
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + libm::exp(-x))
    } else {
        let e = libm::exp(x);
        e / (1.0 + e)
    }
}

fn softplus(x: f64) -> f64 {
    // Without cancellation or overflow on either side.
    if x > 0.0 { x + libm::log1p(libm::exp(-x)) } else { libm::log1p(libm::exp(x)) }
}

fn log1mexp(x: f64) -> f64 {
    // Maechler's switch point -ln 2 keeps full precision near 0 and far below it.
    if x > -core::f64::consts::LN_2 {
        libm::log(-libm::expm1(x))
    } else {
        libm::log1p(-libm::exp(x))
    }
}

impl Binary {
    /// Every operator, for tables and tests.
    pub const ALL: [Binary; 18] = {
        use Binary as B;
        [
            B::Add,
            B::Sub,
            B::Mul,
            B::Div,
            B::FloorDiv,
            B::Mod,
            B::Pow,
            B::Min,
            B::Max,
            B::Eq,
            B::Ne,
            B::Lt,
            B::Le,
            B::Gt,
            B::Ge,
            B::And,
            B::Or,
            B::Chain,
        ]
    };

    /// Its name in printed graphs.
    pub fn name(self) -> &'static str {
        match self {
            Binary::Add => "add",
            Binary::Sub => "sub",
            Binary::Mul => "mul",
            Binary::Div => "div",
            Binary::FloorDiv => "floor_div",
            Binary::Mod => "mod",
            Binary::Pow => "pow",
            Binary::Min => "min",
            Binary::Max => "max",
            Binary::Eq => "eq",
            Binary::Ne => "ne",
            Binary::Lt => "lt",
            Binary::Le => "le",
            Binary::Gt => "gt",
            Binary::Ge => "ge",
            Binary::And => "and",
            Binary::Or => "or",
            Binary::Chain => "chain",
        }
    }

    /// Its meaning.
    #[inline]
    pub fn eval(self, a: f64, b: f64) -> f64 {
        match self {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
            Binary::FloorDiv => libm::floor(a / b),
            Binary::Mod => a - b * libm::floor(a / b),
            Binary::Pow => libm::pow(a, b),
            Binary::Min => {
                if a < b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
            Binary::Max => {
                if a > b || a.is_nan() {
                    a
                } else {
                    b
                }
            }
            Binary::Eq => truth(a == b),
            Binary::Ne => truth(a != b),
            Binary::Lt => truth(a < b),
            Binary::Le => truth(a <= b),
            Binary::Gt => truth(a > b),
            Binary::Ge => truth(a >= b),
            Binary::And => truth(a != 0.0 && b != 0.0),
            Binary::Or => truth(a != 0.0 || b != 0.0),
            Binary::Chain => {
                if a == 0.0 {
                    0.0
                } else {
                    a * b
                }
            }
        }
    }

    /// True for operators whose result is a truth value.
    pub fn is_truth(self) -> bool {
        match self {
            Binary::Eq
            | Binary::Ne
            | Binary::Lt
            | Binary::Le
            | Binary::Gt
            | Binary::Ge
            | Binary::And
            | Binary::Or => true,
            Binary::Add
            | Binary::Sub
            | Binary::Mul
            | Binary::Div
            | Binary::FloorDiv
            | Binary::Mod
            | Binary::Pow
            | Binary::Min
            | Binary::Max
            | Binary::Chain => false,
        }
    }
}
