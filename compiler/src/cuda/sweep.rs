//! Sweeps: the threads of a block share the entries of a row.
//!
//! Entries are f32, and logits may be large: exp(x - lse) of two f32 numbers near 10^4 has three digits. So a
//! value that is a multiple of an entry and a number of the row, a e + b, is not computed until it is needed; then
//! its root r = -b / a is rounded once per row, and the entry pays for a (e - r) + (a r + b), whose
//! rounding is relative to the result. A log-sum-exp over such a value runs over e itself. Comparisons are made in f64, so
//! that an entry equals the same entry read by itself.

use std::collections::HashMap;

use super::kernel::{Emit, c_type};
use super::scalar;
use crate::clif::Float;
use crate::hir::ReduceOp;
use crate::loops::{EntryFold, Guard, Mean, Op, SlotId, SlotKind, Sweep, V};
use crate::op::{Binary, Unary};

/// What a value of a sweep is.
#[derive(Debug, Clone)]
enum Value {
    /// A number of the row: an f64 variable.
    Row(String),
    /// a e + b of a column's entry: two numbers of the row, and the f64 text as it was written.
    Linear { a: String, b: String, column: usize, exact: String },
    /// The number of the entry.
    Index,
    /// A variable of the entry.
    Real(String),
}

/// A column that is read.
struct Column {
    row: String,
    entry: String,
    ty: &'static str,
    bytes: usize,
    /// One row of f64 scratch.
    scratch: bool,
}

/// A gradient row that is written.
struct Target {
    row: String,
    entry: String,
    ty: &'static str,
    bytes: usize,
}

/// A running softmax over multiples of a column's entries, before it takes a pack of them in.
struct Rise {
    column: usize,
    /// Of an entry the key is `sign` times it.
    sign: String,
    /// Name of the function that takes the largest key of a pack.
    taker: String,
}

/// Code of one sweep.
struct Code<'e, 'a> {
    emit: &'e mut Emit<'a>,
    values: HashMap<V, Value>,
    columns: Vec<(SlotId, Column)>,
    /// Before a pack of entries, given as an array per column: what follows from the largest key among them.
    pack: Vec<Rise>,
    /// Per entry.
    each: Vec<String>,
    /// Once all entries are done.
    after: Vec<String>,
    /// The text of values already computed for the entry.
    known: HashMap<String, String>,
}

impl Emit<'_> {
    /// Goes over the row's entries.
    pub(super) fn sweep(&mut self, sweep: &Sweep) {
        let mut code = Code {
            values: sweep.inputs().into_iter().map(|v| (v, Value::Row(self.get(v)))).collect(),
            emit: self,
            columns: Vec::new(),
            pack: Vec::new(),
            each: Vec::new(),
            after: Vec::new(),
            known: HashMap::new(),
        };
        for (v, op) in &sweep.body {
            let value = code.op(*v, *op);
            code.values.insert(*v, value);
        }
        for fold in &sweep.folds {
            code.fold(fold);
        }
        let targets = code.gradients(&sweep.gradients);
        code.write(&targets);
    }
}

impl Code<'_, '_> {
    fn name(&mut self, wanted: &str) -> String {
        self.emit.names.unique(wanted)
    }

    /// A number of the row, computed before the sweep.
    fn row(&mut self, wanted: &str, text: &str) -> String {
        let name = self.name(wanted);
        self.emit.line(&format!("const double {name} = {text};"));
        name
    }

    fn value(&self, v: V) -> Value {
        // The verifier has every operand defined.
        self.values.get(&v).cloned().unwrap_or_else(|| Value::Row("rlc_nan()".to_owned()))
    }

    fn column(&mut self, slot: SlotId) -> usize {
        if let Some(known) = self.columns.iter().position(|c| c.0 == slot) {
            return known;
        }
        let kind = self.emit.plan.slot(slot).kind;
        let float = match kind {
            SlotKind::Entries(column) => (self.emit.types.entries)(column),
            _ => Float::F64,
        };
        let scratch = matches!(kind, SlotKind::Scratch(_));
        let place = self.emit.row_of_entries(slot);
        let wanted = self.emit.plan.slot(slot).name.clone();
        let (row, entry) = (self.name(&format!("{wanted}_row")), self.name(&format!("{wanted}_e")));
        let ty = c_type(float);
        self.emit.line(&format!("const {ty}* {row} = {place};"));
        self.columns.push((slot, Column { row, entry, ty, bytes: float.bytes(), scratch }));
        self.columns.len() - 1
    }

    /// A variable of the entry with this text.
    fn entry(&mut self, wanted: &str, text: String) -> String {
        if let Some(known) = self.known.get(&text) {
            return known.clone();
        }
        let name = self.name(wanted);
        self.each.push(format!("const real {name} = {text};"));
        self.known.insert(text, name.clone());
        name
    }

    /// A number of the row as a `real`, rounded once before the sweep: to do so for each entry takes longer than its
    /// exponential.
    fn narrow(&mut self, name: &str) -> String {
        let key = format!("narrow {name}");
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_');
        let narrow = self.name(&if plain { format!("{name}_e") } else { "row_e".to_owned() });
        self.emit.line(&format!("const real {narrow} = (real){name};"));
        self.known.insert(key, narrow.clone());
        narrow
    }

    /// The value as a `real`.
    fn real(&mut self, value: &Value) -> String {
        match value {
            Value::Row(name) => self.narrow(name),
            Value::Index => "(real)i".to_owned(),
            Value::Real(name) => name.clone(),
            Value::Linear { a, b, column, .. } => {
                let e = self.columns[*column].1.entry.clone();
                if (a.as_str(), b.as_str()) == ("1.0", "0.0") {
                    return e;
                }
                let key = format!("linear {a} {b} {e}");
                if let Some(known) = self.known.get(&key) {
                    return known.clone();
                }
                let root = self.row("root", &format!("(double)rlc_root({a}, {b})"));
                let rest = self.row("rest", &format!("{a} * {root} + {b}"));
                let name = self.name("x");
                let (a, root, rest) = (self.narrow(a), self.narrow(&root), self.narrow(&rest));
                self.each.push(format!("const real {name} = rlc_fma({a}, {e} - {root}, {rest});"));
                self.known.insert(key, name.clone());
                name
            }
        }
    }

    /// The value as an f64 text that has the bits it would have outside the sweep; none where it was rounded.
    fn exact(value: &Value) -> Option<String> {
        match value {
            Value::Row(name) => Some(name.clone()),
            Value::Index => Some("(double)i".to_owned()),
            Value::Linear { exact, .. } => Some(exact.clone()),
            Value::Real(_) => None,
        }
    }

    fn op(&mut self, v: V, op: Op) -> Value {
        let wanted = self.emit.of.name_of(v).to_owned();
        match op {
            Op::Const(x) => Value::Row(self.row(&wanted, &scalar::number(x, false))),
            Op::EntryIndex => Value::Index,
            Op::Entry(slot) => {
                let column = self.column(slot);
                let entry = self.columns[column].1.entry.clone();
                Value::Linear {
                    a: "1.0".to_owned(),
                    b: "0.0".to_owned(),
                    column,
                    exact: format!("(double){entry}"),
                }
            }
            Op::Unary(op, x) => {
                let x = self.value(x);
                match (&x, op) {
                    (_, Unary::Cast) => x,
                    (Value::Row(name), _) => {
                        Value::Row(self.row(&wanted, &scalar::unary(op, name)))
                    }
                    (Value::Linear { a, b, column, exact }, Unary::Neg) => Value::Linear {
                        a: self.row("a", &format!("-{a}")),
                        b: self.row("b", &format!("-{b}")),
                        column: *column,
                        exact: format!("(-{exact})"),
                    },
                    _ => {
                        let x = self.real(&x);
                        Value::Real(self.entry(&wanted, scalar::unary(op, &paren(&x))))
                    }
                }
            }
            Op::Binary(op, a, b) => {
                let (a, b) = (self.value(a), self.value(b));
                self.binary(&wanted, op, &a, &b)
            }
            Op::Select(c, a, b) => {
                let (c, a, b) = (self.value(c), self.value(a), self.value(b));
                if let (Value::Row(c), Value::Row(a), Value::Row(b)) = (&c, &a, &b) {
                    return Value::Row(self.row(&wanted, &scalar::select(c, a, b)));
                }
                let c = match Self::exact(&c) {
                    Some(c) => c,
                    None => self.real(&c),
                };
                let (a, b) = (self.real(&a), self.real(&b));
                Value::Real(self.entry(&wanted, scalar::select(&c, &a, &b)))
            }
            // The verifier has these in rows only.
            Op::Load(_)
            | Op::Parent(_)
            | Op::Whole(_)
            | Op::Indexed(..)
            | Op::RowOf(_)
            | Op::EntryAt(..)
            | Op::InRow(_) => Value::Row("rlc_nan()".to_owned()),
        }
    }

    fn binary(&mut self, wanted: &str, op: Binary, a: &Value, b: &Value) -> Value {
        if let (Value::Row(a), Value::Row(b)) = (a, b) {
            return Value::Row(self.row(wanted, &scalar::binary(op, a, b)));
        }
        if let Some(linear) = self.linear(op, a, b) {
            return linear;
        }
        if let (Binary::Eq, Value::Index, Value::Row(n))
        | (Binary::Eq, Value::Row(n), Value::Index) = (op, a, b)
        {
            let vocab = self.emit.vocab();
            let at = self.name("entry");
            self.emit.line(&format!("const int {at} = rlc_is_row({n}, {vocab}) ? (int){n} : -1;"));
            return Value::Real(self.entry(wanted, format!("rlc_truth(i == {at})")));
        }
        if op.is_truth()
            && let (Some(a), Some(b)) = (Self::exact(a), Self::exact(b))
        {
            return Value::Real(self.entry(wanted, scalar::binary(op, &a, &b)));
        }
        let (a, b) = (self.real(a), self.real(b));
        Value::Real(self.entry(wanted, scalar::binary(op, &paren(&a), &paren(&b))))
    }

    /// Sums and multiples of a linear value stay linear.
    fn linear(&mut self, op: Binary, x: &Value, y: &Value) -> Option<Value> {
        let text = Self::exact;
        let exact = format!("({})", scalar::binary(op, &text(x)?, &text(y)?));
        let (a, b, column) = match (op, x, y) {
            (
                Binary::Add | Binary::Sub,
                Value::Linear { a, b, column, .. },
                Value::Linear { a: c, b: d, column: other, .. },
            ) if column == other => {
                let sign = if op == Binary::Add { "+" } else { "-" };
                (format!("{a} {sign} {c}"), format!("{b} {sign} {d}"), *column)
            }
            (Binary::Add, Value::Linear { a, b, column, .. }, Value::Row(n))
            | (Binary::Add, Value::Row(n), Value::Linear { a, b, column, .. }) => {
                (a.clone(), format!("{b} + {n}"), *column)
            }
            (Binary::Sub, Value::Linear { a, b, column, .. }, Value::Row(n)) => {
                (a.clone(), format!("{b} - {n}"), *column)
            }
            (Binary::Sub, Value::Row(n), Value::Linear { a, b, column, .. }) => {
                (format!("-{a}"), format!("{n} - {b}"), *column)
            }
            (Binary::Mul, Value::Linear { a, b, column, .. }, Value::Row(n))
            | (Binary::Mul, Value::Row(n), Value::Linear { a, b, column, .. }) => {
                (format!("{a} * {n}"), format!("{b} * {n}"), *column)
            }
            (Binary::Div, Value::Linear { a, b, column, .. }, Value::Row(n)) => {
                (format!("{a} / {n}"), format!("{b} / {n}"), *column)
            }
            _ => return None,
        };
        Some(Value::Linear { a: self.row("a", &a), b: self.row("b", &b), column, exact })
    }

    fn fold(&mut self, fold: &EntryFold) {
        match fold {
            EntryFold::Plain { into, op, x } => self.plain(*into, *op, *x),
            EntryFold::LogSumExp { into, x, means } => self.softmax(*into, *x, means),
            EntryFold::Nth { into, x, n, scratch } => {
                let x = self.value(*x);
                let x = match Self::exact(&x) {
                    Some(x) => x,
                    None => format!("(double){}", self.real(&x)),
                };
                let place = self.emit.row_of_entries(*scratch);
                let row = self.name("sorted");
                self.emit.line(&format!("double* {row} = {place};"));
                self.emit.line("__syncthreads();");
                self.each.push(format!("{row}[i] = {x};"));
                let n = match self.value(*n) {
                    Value::Row(n) => n,
                    Value::Linear { .. } | Value::Index | Value::Real(_) => "rlc_nan()".to_owned(),
                };
                let vocab = self.emit.vocab();
                self.give(*into, &format!("rlc_nth({row}, {vocab}, {n})"));
            }
        }
    }

    /// Defines a value of the row, after the sweep.
    fn give(&mut self, into: V, text: &str) {
        let name = self.emit.declare(into);
        self.after.push(format!("const double {name} = {text};"));
    }

    fn plain(&mut self, into: V, op: ReduceOp, x: V) {
        let x = self.value(x);
        let sum = self.name("sum");
        let first = scalar::number(op.identity(), false);
        // Which entry is the largest is told in f64, and so is the result.
        let wide = matches!(op, ReduceOp::Max | ReduceOp::Min).then(|| Self::exact(&x)).flatten();
        let (ty, x) = match wide {
            Some(x) => ("double", format!("(double)({x})")),
            None => ("real", self.real(&x)),
        };
        self.emit.line(&format!("{ty} {sum} = {first};"));
        let (step, how) = match op {
            ReduceOp::Sum | ReduceOp::LogSumExp => (format!("{sum} += {x};"), "RLC_SUM"),
            ReduceOp::Prod => (format!("{sum} *= {x};"), "RLC_PROD"),
            ReduceOp::Max => (format!("{sum} = rlc_max({sum}, {x});"), "RLC_MAX"),
            ReduceOp::Min => (format!("{sum} = rlc_min({sum}, {x});"), "RLC_MIN"),
        };
        self.each.push(step.replace("(real)", &format!("({ty})")));
        self.give(into, &format!("rlc_block_fold<{how}>({sum})"));
    }

    /// A log-sum-exp with its means, over keys k: weights are exp(scale (k - largest)).
    fn softmax(&mut self, into: V, x: V, means: &[Mean]) {
        let x = self.value(x);
        let state = self.name("softmax");
        let line = format!("rlc_softmax {state}; {state}.clear();");
        self.emit.line(&line);
        let (key, scale, whole) = match &x {
            Value::Linear { a, b, column, .. } => {
                let e = self.columns[*column].1.entry.clone();
                let sign = self.row("sign", &format!("{a} < 0 ? -1.0 : 1.0"));
                let scale = self.row("scale", &format!("rlc_abs({a})"));
                let (narrow, scale) = (self.narrow(&sign), self.narrow(&scale));
                let key = self.entry("key", format!("{narrow} * {e}"));
                (key, scale, Some((sign, a.clone(), b.clone(), *column)))
            }
            other => {
                let x = self.real(other);
                (self.entry("key", x), "(real)1".to_owned(), None)
            }
        };
        let mut sums = Vec::new();
        for mean in means {
            let f = self.value(mean.f);
            let moment = match (&f, &whole, mean.filter, mean.guard) {
                (
                    Value::Linear { a, b, column, .. },
                    Some((.., of)),
                    None,
                    Guard::NonZero | Guard::Positive,
                ) if column == of => Some((a.clone(), b.clone())),
                _ => None,
            };
            let f = if moment.is_some() { String::new() } else { self.real(&f) };
            let filter = mean.filter.map(|v| {
                let filter = self.value(v);
                self.real(&filter)
            });
            let sum = self.name("mean_sum");
            let line = format!("real {sum} = 0;");
            self.emit.line(&line);
            sums.push((mean, sum, moment, f, filter));
        }
        // A new largest key: what has been added up so far weighs less.
        let shrink = self.name("shrink");
        let mut rise = format!(
            "const real {shrink} = {state}.scale == 0 ? (real)0 : rlc_exp({scale} * ({state}.most - top));"
        );
        for (mean, sum, moment, ..) in &sums {
            rise += &match (moment, mean.guard) {
                (Some(_), _) => format!(
                    " {sum} = {state}.scale == 0 ? (real)0 : {shrink} * ({sum} + {state}.scale * ({state}.most - top));"
                ),
                (None, Guard::None) => format!(" {sum} *= {shrink};"),
                (None, Guard::NonZero | Guard::Positive) => {
                    format!(" {sum} = rlc_chain({shrink}, {sum});")
                }
            };
        }
        let grown = format!("{rise} {state}.scale *= {shrink}; {state}.rise(top);");
        let packed = whole.as_ref().filter(|(.., column)| !self.columns[*column].1.scratch);
        if let Some((sign, _, _, column)) = packed {
            // Once a pack, not once an entry.
            let rises = self.name("rise");
            self.emit.line(&format!("auto {rises} = [&](const real top) {{"));
            self.emit.line(&format!("    if (!(top > {state}.most)) return;"));
            self.emit.line(&format!("    {grown}"));
            self.emit.line("};");
            let sign = self.narrow(sign);
            self.pack.push(Rise { column: *column, sign, taker: rises });
        } else {
            self.each
                .push(format!("if ({key} > {state}.most) {{ const real top = {key}; {grown} }}"));
        }
        // -inf adds 0. Computed first and chosen then: a branch for each entry costs more.
        let (power, weight) = (self.name("power"), self.name("weight"));
        self.each.push(format!("const real {power} = rlc_exp({scale} * ({key} - {state}.base));"));
        self.each
            .push(format!("const real {weight} = {key} == (real)-rlc_inf() ? (real)0 : {power};"));
        self.each.push(format!("{state}.scale += {weight};"));
        for (mean, sum, moment, f, filter) in &sums {
            let share = match (moment, mean.guard) {
                (Some(_), _) => {
                    format!("{weight} == 0 ? (real)0 : {weight} * ({key} - {state}.most)")
                }
                (None, Guard::None) => format!("{weight} * {f}"),
                (None, Guard::NonZero) => format!("{weight} == 0 ? (real)0 : {weight} * {f}"),
                (None, Guard::Positive) => format!("{weight} > 0 ? {weight} * {f} : (real)0"),
            };
            self.each.push(match filter {
                Some(filter) => format!("{sum} += {filter} != 0 ? ({share}) : (real)0;"),
                None => format!("{sum} += {share};"),
            });
        }
        // All threads' parts.
        let (most, part, total) = (self.name("most"), self.name("part"), self.name("total"));
        self.after.push(format!("const double {most} = rlc_block_fold<RLC_MAX>({state}.most);"));
        self.after.push(format!(
            "const double {part} = {state}.scale == 0 ? 0.0 : {state}.most == {most} ? 1.0 : rlc_exp((double)({scale}) * ({state}.most - {most}));"
        ));
        self.after.push(format!(
            "const double {total} = rlc_block_fold<RLC_SUM>((double){state}.scale * {part});"
        ));
        let largest = match &whole {
            Some((sign, a, b, _)) => format!("({a} * ({sign} * {most}) + {b})"),
            None => most.clone(),
        };
        self.give(into, &format!("{largest} + rlc_log({total})"));
        for (mean, sum, moment, ..) in &sums {
            let proper = format!("{most} < rlc_inf() && {total} > 0");
            let none = if mean.guard == Guard::Positive { "0.0" } else { "rlc_nan()" };
            let own = match (moment, mean.guard) {
                (Some(_), _) => format!(
                    "{state}.scale == 0 ? 0.0 : {part} * ({sum} + {state}.scale * ({state}.most - {most}))"
                ),
                (None, Guard::None) => format!("{part} * {sum}"),
                (None, Guard::NonZero | Guard::Positive) => {
                    format!("rlc_chain({part}, (double){sum})")
                }
            };
            let all = self.name("mean_total");
            self.after.push(format!("const double {all} = rlc_block_fold<RLC_SUM>({own});"));
            let value = match (moment, &whole) {
                (Some((a, b)), Some((sign, ..))) => {
                    format!("{a} * ({sign} * ({most} + {all} / {total})) + {b}")
                }
                _ => format!("{all} / {total}"),
            };
            self.give(mean.into, &format!("{proper} ? {value} : {none}"));
        }
    }

    fn gradients(&mut self, gradients: &[(SlotId, V)]) -> Vec<Target> {
        let mut out = Vec::new();
        for (slot, v) in gradients {
            let value = self.value(*v);
            let x = self.real(&value);
            let float = match self.emit.plan.slot(*slot).kind {
                SlotKind::Gradient(column) => (self.emit.types.gradients)(column),
                _ => Float::F64,
            };
            let place = self.emit.row_of_entries(*slot);
            let (row, entry) = (self.name("d_row"), self.name("d_e"));
            let ty = c_type(float);
            self.emit.line(&format!("{ty}* {row} = {place};"));
            self.each.push(format!("rlc_narrow({entry}, {x});"));
            out.push(Target { row, entry, ty, bytes: float.bytes() });
        }
        out
    }

    fn write(self, targets: &[Target]) {
        let Code { emit, columns, pack, each, after, .. } = self;
        let vocab = emit.vocab();
        let each_name = emit.names.unique("each");
        let packed: Vec<&Column> = columns.iter().map(|c| &c.1).filter(|c| !c.scratch).collect();
        let mut params = vec!["const int i".to_owned()];
        params.extend(packed.iter().map(|c| format!("const real {}", c.entry)));
        params.extend(targets.iter().map(|t| format!("{}& {}", t.ty, t.entry)));
        if !targets.is_empty() {
            // Whoever writes over entries waits for those who read one by itself.
            emit.line("__syncthreads();");
        }
        emit.line(&format!("auto {each_name} = [&]({}) {{", params.join(", ")));
        emit.indent += 1;
        for (_, column) in columns.iter().filter(|c| c.1.scratch) {
            emit.line(&format!("const real {} = (real){}[i];", column.entry, column.row));
        }
        for line in &each {
            emit.line(line);
        }
        emit.indent -= 1;
        emit.line("};");
        let least = packed.iter().map(|c| c.bytes).chain(targets.iter().map(|t| t.bytes)).min();
        let lanes = 16 / least.unwrap_or(16);
        let rows = packed.iter().map(|c| &c.row).chain(targets.iter().map(|t| &t.row));
        let aligned: Vec<String> = rows.map(|r| format!("rlc_aligned({r})")).collect();
        let aligned = if aligned.is_empty() { "false".to_owned() } else { aligned.join(" && ") };
        emit.line("{");
        emit.indent += 1;
        emit.line(&format!("const i64 packed = {aligned} ? {vocab} / {lanes} * {lanes} : 0;"));
        emit.line(&format!(
            "for (i64 at = (i64)threadIdx.x * {lanes}; at < packed; at += (i64)blockDim.x * {lanes}) {{"
        ));
        emit.indent += 1;
        for (n, c) in packed.iter().enumerate() {
            let pack = format!("rlc_pack<{}, {lanes}>", c.ty);
            emit.line(&format!("const {pack} from_{n} = *(const {pack}*)({} + at);", c.row));
        }
        for (n, t) in targets.iter().enumerate() {
            emit.line(&format!("rlc_pack<{}, {lanes}> to_{n};", t.ty));
        }
        let place = |column: usize| packed.iter().position(|c| c.row == columns[column].1.row);
        for of in &pack {
            let Some(n) = place(of.column) else { continue };
            emit.line(&format!("{}(rlc_largest(from_{n}, {}));", of.taker, of.sign));
        }
        emit.line("#pragma unroll");
        let mut args = vec!["(int)at + k".to_owned()];
        args.extend((0..packed.len()).map(|n| format!("(real)rlc_widen(from_{n}.x[k])")));
        args.extend((0..targets.len()).map(|n| format!("to_{n}.x[k]")));
        emit.line(&format!("for (int k = 0; k < {lanes}; k++) {each_name}({});", args.join(", ")));
        for (n, t) in targets.iter().enumerate() {
            emit.line(&format!("*(rlc_pack<{}, {lanes}>*)({} + at) = to_{n};", t.ty, t.row));
        }
        emit.indent -= 1;
        emit.line("}");
        let mut args = vec!["(int)at".to_owned()];
        args.extend(packed.iter().map(|c| format!("(real)rlc_widen({}[at])", c.row)));
        args.extend(targets.iter().map(|t| format!("{}[at]", t.row)));
        emit.line(&format!(
            "for (i64 at = packed + threadIdx.x; at < {vocab}; at += blockDim.x) {{"
        ));
        for of in &pack {
            let row = &columns[of.column].1.row;
            emit.line(&format!("    {}({} * (real)rlc_widen({row}[at]));", of.taker, of.sign));
        }
        emit.line(&format!("    {each_name}({});", args.join(", ")));
        emit.line("}");
        emit.indent -= 1;
        emit.line("}");
        for line in &after {
            emit.line(line);
        }
    }
}

/// A cast binds less tightly than a minus looks.
fn paren(x: &str) -> String {
    if x.starts_with('(') || x.starts_with('-') { format!("({x})") } else { x.to_owned() }
}
