//! The tree a source text parses to: what the user wrote, with places, before any name means anything.

use crate::source::Span;

/// A name with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Ident {
    /// The characters; dotted names (`train.step`, `duel.left`) keep their dot.
    pub name: String,
    /// Where.
    pub span: Span,
}

/// One file.
#[derive(Debug, Clone, Default)]
pub struct Module {
    /// In order. Broken statements are absent here; their errors were reported.
    pub statements: Vec<Statement>,
    /// What the broken statements were about: the names that they would have given a meaning to, or
    /// their first word where they name nothing (`minimize`). So that no error follows from theirs.
    pub broken: Vec<Ident>,
}

/// One statement.
#[derive(Debug, Clone)]
pub struct Statement {
    /// The `##` lines above it, joined with newlines, without the marks.
    pub doc: Option<String>,
    /// From its first word to its last.
    pub span: Span,
    /// What it says.
    pub kind: StatementKind,
}

/// What an `extend` names.
#[derive(Debug, Clone, PartialEq)]
pub enum Base {
    /// `extend dapo`: a standard-library objective.
    Library(Ident),
    /// `extend "other.rl"`: a path relative to this file.
    Path(String, Span),
    /// `extend nothing`.
    Nothing(Span),
}

/// Scalar types as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeName {
    /// `real`
    Real,
    /// `int`
    Int,
    /// `bool`
    Bool,
}

/// A literal: number or truth value, with an optional minus sign already applied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Literal {
    /// Without point or exponent: fits int and real.
    Int(i64),
    /// With point or exponent, or `inf`.
    Real(f64),
    /// `true`, `false`.
    Bool(bool),
}

/// The most members of a family, and turns of an unrolled call: each is written out.
pub const MAX_MEMBERS: usize = 1024;

/// `name : type @ level [= literal]`, of `input` and `policy`.
#[derive(Debug, Clone)]
pub struct ColumnDecl {
    /// Column name.
    pub name: Ident,
    /// `[n]` of a family.
    pub family: Option<(usize, Span)>,
    /// Type and its place.
    pub ty: (TypeName, Span),
    /// Level name.
    pub level: Ident,
    /// Value for batches without the column.
    pub default: Option<(Literal, Span)>,
}

/// Parameter of a function.
#[derive(Debug, Clone)]
pub struct FnParam {
    /// Name.
    pub name: Ident,
    /// Default value, evaluated in the program's scope.
    pub default: Option<Expr>,
}

/// Body of a definition or function: local definitions, then the result.
#[derive(Debug, Clone)]
pub struct Body {
    /// Visible only in this body; each sees the ones above it.
    pub locals: Vec<(Ident, Expr)>,
    /// The value.
    pub result: Expr,
}

/// A partition of elements as it stands after `per` or in `key`.
#[derive(Debug, Clone)]
pub enum Partition {
    /// A level or key by name, also `duel.left`, and `L` a scope parameter of the enclosing function.
    Name(Ident),
    /// `(group, position)`: parts are level/key names or values.
    Tuple(Vec<Expr>, Span),
    /// `runs(cond in rollout)`.
    Runs(Box<Expr>, Ident, Span),
    /// `splits(cond in rollout)`.
    Splits(Box<Expr>, Ident, Span),
    /// `prefix(x in group)`.
    Prefix(Box<Expr>, Ident, Span),
    /// `pairs(rollout in group)`.
    Pairs(Ident, Ident, Span),
}

impl Partition {
    /// Where it stands.
    pub fn span(&self) -> Span {
        match self {
            Partition::Name(i) => i.span,
            Partition::Tuple(_, s)
            | Partition::Runs(_, _, s)
            | Partition::Splits(_, _, s)
            | Partition::Prefix(_, _, s)
            | Partition::Pairs(_, _, s) => *s,
        }
    }
}

/// What a statement says.
#[derive(Debug, Clone)]
pub enum StatementKind {
    /// `extend …`
    Extend(Base),
    /// `param name[n] = literal in [lo, hi]`
    Param {
        /// Name.
        name: Ident,
        /// `[n]`.
        family: Option<(usize, Span)>,
        /// Default.
        value: (Literal, Span),
        /// Allowed range, ends included.
        range: Option<(Literal, Literal, Span)>,
    },
    /// `input …`
    Input(ColumnDecl),
    /// `policy …`
    Policy(ColumnDecl),
    /// `level item in rollout`
    Level {
        /// New level.
        name: Ident,
        /// What it lies in.
        parent: Ident,
    },
    /// `list comparison in rollout`
    List {
        /// New level.
        name: Ident,
        /// What it lies in.
        parent: Ident,
    },
    /// `key cell = P`
    Key {
        /// New derived level.
        name: Ident,
        /// Its definition.
        partition: Partition,
    },
    /// `state v[prompt] : real @ group = 0.5`
    State {
        /// Name.
        name: Ident,
        /// The int value that keys it.
        key: Option<Ident>,
        /// Declared type and level, when given.
        ty: Option<((TypeName, Span), Option<Ident>)>,
        /// First value.
        value: (Literal, Span),
    },
    /// `update v = e`
    Update {
        /// The state.
        name: Ident,
        /// New value.
        value: Body,
    },
    /// `keep L where c` / `drop L where c`
    Filter {
        /// False for `drop`.
        keep: bool,
        /// Level whose elements are filtered.
        level: Ident,
        /// Condition.
        cond: Expr,
    },
    /// `name = e`
    Def {
        /// Name.
        name: Ident,
        /// Value.
        body: Body,
    },
    /// `fn f(a, b = 1 per L = group) = e`
    Fn {
        /// Name.
        name: Ident,
        /// Parameters.
        params: Vec<FnParam>,
        /// `per L [= group]`: the scope parameter and its default.
        scope: Option<(Ident, Option<Partition>)>,
        /// Body.
        body: Body,
    },
    /// `minimize e` / `maximize e`
    Goal {
        /// False for `minimize`.
        maximize: bool,
        /// Value.
        value: Expr,
    },
    /// `metric name = e`, or `metric name` for a definition of that name.
    Metric {
        /// Name.
        name: Ident,
        /// Value.
        value: Expr,
    },
    /// `sample weight = e` / `sample rollouts = e`
    Sample {
        /// `weight` or `rollouts`.
        what: Ident,
        /// Value.
        value: Expr,
    },
    /// `allow missing_detach`
    Allow(Ident),
}

/// Binary operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    And,
    Or,
}

/// Unary operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnaryOp {
    /// `-x`
    Neg,
    /// `not x`
    Not,
}

/// An argument of a call.
#[derive(Debug, Clone)]
pub struct Arg {
    /// `name =`.
    pub name: Option<Ident>,
    /// Value.
    pub value: Expr,
}

/// A call with its clauses: `f(a, b, n = c where d in L per P)`, or after `|>`.
#[derive(Debug, Clone)]
pub struct Call {
    /// Function.
    pub function: Ident,
    /// Arguments in order. For `x |> f(y)` x is already the first.
    pub args: Vec<Arg>,
    /// `where cond`.
    pub filter: Option<Box<Expr>>,
    /// `per P`.
    pub per: Option<Partition>,
    /// `in L`.
    pub scope: Option<Ident>,
    /// `for k in a..b` (both ends included).
    pub unroll: Option<(Ident, (i64, i64), Span)>,
}

/// An expression.
#[derive(Debug, Clone)]
pub struct Expr {
    /// Where.
    pub span: Span,
    /// What.
    pub kind: ExprKind,
}

/// What an expression is.
#[derive(Debug, Clone)]
pub enum ExprKind {
    /// `1`, `0.5`, `1e-6`, `true`.
    Literal(Literal),
    /// A value by name, `pi`, `inf`, or (as an argument of `count`, `index`, …) a level.
    Name(String),
    /// `base.name`: the name only.
    Base(String),
    /// `-x`, `not x`.
    Unary(UnaryOp, Box<Expr>),
    /// `a + b`; the span is the operator's.
    Binary(BinaryOp, Span, Box<Expr>, Box<Expr>),
    /// `if c then a else b`.
    If(Box<Expr>, Box<Expr>, Box<Expr>),
    /// `x @ L`.
    At(Box<Expr>, Ident),
    /// `weights[k]`: a family member; k is a literal or the variable of an unrolled call.
    Index(Ident, Box<Expr>),
    /// A call.
    Call(Box<Call>),
}
