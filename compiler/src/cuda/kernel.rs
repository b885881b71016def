//! The kernel of one loop.

use std::fmt::Write as _;

use super::names::Names;
use super::{Arg, Grid, Launch, ROWS, SHARING, Types, fold, scalar};
use crate::clif::Float;
use crate::hir::ReduceOp;
use crate::level::{BATCH, GROUP, Level, ROLLOUT, TOKEN, TURN};
use crate::loops::{Direction, Item, Loop, Op, Plan, SlotId, SlotKind, V};

/// A parameter with its declaration.
pub(super) struct Param {
    pub arg: Arg,
    pub name: String,
    declared: String,
}

/// What a loop leaves for the kernel that folds it.
pub(super) struct Left {
    pub op: ReduceOp,
    pub into: SlotId,
    pub scale: Option<SlotId>,
    /// The part with the folded values.
    pub part: u16,
    /// The part with the number of the element, and the level within whose rows elements lie.
    pub index: Option<(u16, Level)>,
}

/// Writes the kernel of one loop.
pub(super) struct Emit<'a> {
    pub plan: &'a Plan,
    pub of: &'a Loop,
    pub types: &'a Types<'a>,
    pub names: Names,
    pub params: Vec<Param>,
    /// A block for each unit of work.
    pub block: bool,
    /// What a unit of work is a row of; none: the loop's own level.
    scope: Option<Level>,
    /// Text of the body so far.
    pub body: String,
    /// Declarations before the first row of a unit.
    state: String,
    /// Levels whose rows the loop needs, with the name of this row's.
    parents: Vec<(Level, String)>,
    /// The name of each value.
    values: Vec<Option<String>>,
    pub left: Vec<Left>,
    parts: u16,
    pub indent: usize,
}

/// Adds the kernels of a loop to the text.
pub(super) fn emit(plan: &Plan, of: &Loop, types: &Types, text: &mut String) -> Vec<Launch> {
    let block = of.body.iter().any(|i| matches!(i, Item::Sweep(_) | Item::Spread(..)));
    let mut emit = Emit {
        plan,
        of,
        types,
        names: Names::default(),
        params: Vec::new(),
        block,
        scope: scope(plan, of),
        body: String::new(),
        state: String::new(),
        parents: Vec::new(),
        values: vec![None; of.names.len()],
        left: Vec::new(),
        parts: 0,
        indent: 2,
    };
    emit.write();
    let mut launches = vec![emit.finish(text)];
    launches.extend(fold::emit(plan, of, &emit.left, text));
    launches
}

/// The finest level within whose rows everything stays that goes from row to row.
fn scope(plan: &Plan, of: &Loop) -> Option<Level> {
    let scopes: Vec<Level> = of
        .body
        .iter()
        .filter_map(|item| match item {
            Item::Scan { scope, .. } | Item::Shift { scope, .. } => Some(*scope),
            Item::Let(..)
            | Item::Store(..)
            | Item::Fold { .. }
            | Item::Spread(..)
            | Item::SpreadAt { .. }
            | Item::Sweep(_) => None,
        })
        .collect();
    let first = *scopes.first()?;
    let above = [TOKEN, TURN, ROLLOUT, GROUP, BATCH];
    let holds = |l: &Level| scopes.iter().all(|s| plan.levels.contains(*l, *s));
    scopes.iter().copied().chain(above).find(holds).or(Some(first))
}

impl Emit<'_> {
    fn write(&mut self) {
        let of = self.of;
        for &(v, op) in &of.head {
            self.indent = 1;
            let text = self.op(op);
            let name = self.declare(v);
            let line = format!("const double {name} = {text};");
            self.state_line(&line);
        }
        self.indent = 2;
        for level in of.scopes(self.plan) {
            let Some(map) = self.plan.parents(level, of.level) else { continue };
            let map = self.slot(map);
            let name = self.names.unique(self.plan.levels.name(level));
            self.line(&format!("const i64 {name} = {map}[row];"));
            self.parents.push((level, name));
        }
        for item in &of.body {
            self.item(item);
        }
    }

    /// Puts the kernel together.
    fn finish(&mut self, text: &mut String) -> Launch {
        let level = self.of.level;
        let unit = self.scope.unwrap_or(level);
        let whole = unit == BATCH && level != BATCH;
        let begin = self.whole_number(Arg::Begin(unit), "begin");
        let end = self.whole_number(Arg::End(unit), "end");
        let rows = match self.scope {
            None => None,
            Some(_) if whole => Some((
                self.whole_number(Arg::Begin(level), "first_row"),
                self.whole_number(Arg::End(level), "last_row"),
            )),
            Some(scope) => {
                let starts = self.starts(scope, level);
                Some((format!("{starts}[unit]"), format!("{starts}[unit + 1]")))
            }
        };
        let declared: Vec<&str> = self.params.iter().map(|p| p.declared.as_str()).collect();
        let direction =
            if self.of.direction == Direction::Reverse { ", from the last" } else { "" };
        let name = &self.of.name;
        // Without a number of blocks the assembler spills registers to fit many.
        let threads = if self.block { SHARING } else { ROWS };
        let _ = writeln!(
            text,
            "\n// Rows of {}{direction}.\nextern \"C\" __global__ void __launch_bounds__({threads}, 2) {name}(\n    {})\n{{",
            self.plan.levels.name(level),
            declared.join(",\n    ")
        );
        let head: Vec<&str> = self.state.lines().filter(|l| l.starts_with("    const")).collect();
        for line in &head {
            let _ = writeln!(text, "{line}");
        }
        let (from, step) = if self.block {
            ("blockIdx.x", "gridDim.x")
        } else {
            ("(i64)blockIdx.x * blockDim.x + threadIdx.x", "(i64)gridDim.x * blockDim.x")
        };
        let counter = if rows.is_some() { "unit" } else { "row" };
        let _ = writeln!(
            text,
            "    for (i64 {counter} = {begin} + {from}; {counter} < {end}; {counter} += {step}) {{"
        );
        if let Some((first, last)) = rows {
            for line in self.state.lines().filter(|l| !l.starts_with("    const")) {
                let _ = writeln!(text, "        {}", line.trim_start());
            }
            let order = match self.of.direction {
                Direction::Forward => format!("i64 row = {first}; row < {last}; row++"),
                Direction::Reverse => {
                    format!("i64 row = (i64){last} - 1; row >= (i64){first}; row--")
                }
            };
            let _ = writeln!(text, "        for ({order}) {{");
            for line in self.body.lines() {
                let _ = writeln!(text, "    {line}");
            }
            let _ = writeln!(text, "        }}");
        } else {
            text.push_str(&self.body);
        }
        text.push_str("    }\n}\n");
        let grid = if self.block { Grid::Blocks(unit) } else { Grid::Threads(unit) };
        Launch { kernel: name.clone(), grid, args: self.params.iter().map(|p| p.arg).collect() }
    }

    pub(super) fn line(&mut self, text: &str) {
        let _ = writeln!(self.body, "{:1$}{text}", "", self.indent * 4);
    }

    fn state_line(&mut self, text: &str) {
        let _ = writeln!(self.state, "    {text}");
    }

    /// The parameter for an argument, declared with the first use.
    pub(super) fn param(&mut self, arg: Arg, wanted: &str, ty: &str) -> String {
        if let Some(known) = self.params.iter().find(|p| p.arg == arg) {
            return known.name.clone();
        }
        let name = self.names.unique(wanted);
        let declared = format!("{ty} {name}");
        self.params.push(Param { arg, name: name.clone(), declared });
        name
    }

    fn whole_number(&mut self, arg: Arg, name: &str) -> String {
        self.param(arg, &format!("the_{name}"), "const i64")
    }

    fn starts(&mut self, coarse: Level, fine: Level) -> String {
        let (of, each) = (self.plan.levels.name(fine), self.plan.levels.name(coarse));
        let name = format!("{of}s_of_{each}");
        self.param(Arg::Starts(coarse, fine), &name, "const u32*")
    }

    pub(super) fn vocab(&mut self) -> String {
        self.whole_number(Arg::Vocab, "vocab")
    }

    /// The memory of a slot.
    pub(super) fn slot(&mut self, id: SlotId) -> String {
        let slot = self.plan.slot(id);
        let level = self.plan.levels.name(slot.level);
        let (name, ty) = match slot.kind {
            SlotKind::Parents(coarse) => {
                (format!("{}_of_{level}", self.plan.levels.name(coarse)), "const u32*".to_owned())
            }
            SlotKind::Starts(fine) => {
                (format!("{}s_of_{level}", self.plan.levels.name(fine)), "const u32*".to_owned())
            }
            SlotKind::Entries(column) => {
                let ty = c_type((self.types.entries)(column));
                (slot.name.clone(), format!("const {ty}*"))
            }
            SlotKind::Gradient(column) => {
                let ty = c_type((self.types.gradients)(column));
                (format!("d_{}", slot.name.trim_start_matches("d_")), format!("{ty}*"))
            }
            SlotKind::Column(_) | SlotKind::Param(_) | SlotKind::Side(_) => {
                (format!("{level}_{}", slot.name), "const double*".to_owned())
            }
            SlotKind::Stored
            | SlotKind::Folded(_)
            | SlotKind::Carried(_)
            | SlotKind::Ring(_)
            | SlotKind::Scratch(_) => (format!("{level}_{}", slot.name), "double*".to_owned()),
        };
        self.param(Arg::Slot(id), &name, &ty)
    }

    /// A name for a value, which is defined from here on.
    pub(super) fn declare(&mut self, v: V) -> String {
        let name = self.names.unique(self.of.name_of(v));
        self.values[v.index()] = Some(name.clone());
        name
    }

    /// The name of a value of the row.
    pub(super) fn get(&self, v: V) -> String {
        // The verifier has every operand defined; NaN would show in every test.
        self.values[v.index()].clone().unwrap_or_else(|| "rlc_nan()".to_owned())
    }

    fn define(&mut self, v: V, text: &str) {
        let name = self.declare(v);
        self.line(&format!("const double {name} = {text};"));
    }

    /// This row's row of a coarser level; the batch has one.
    pub(super) fn parent(&self, level: Level) -> String {
        if level == self.of.level {
            return "row".to_owned();
        }
        let known = self.parents.iter().find(|p| p.0 == level);
        known.map_or_else(|| "0".to_owned(), |p| p.1.clone())
    }

    /// The place of the first entry of this row in vocab-level memory.
    pub(super) fn first_entry(&mut self) -> String {
        let base = self.whole_number(Arg::Base, "base");
        let vocab = self.vocab();
        format!("({} - {base}) * {vocab}", self.parent(TOKEN))
    }

    /// Whether a number names a row of a level, as text; the row itself is `(i64)number`.
    fn numbered(&mut self, index: &str, level: Level) -> String {
        let name = format!("count_of_{}", self.plan.levels.name(level));
        let count = self.whole_number(Arg::Count(level), &name);
        format!("rlc_is_row({index}, {count})")
    }

    /// Only one of a block's threads writes to memory.
    pub(super) fn by_one(&self) -> &'static str {
        if self.block { "if (threadIdx.x == 0) " } else { "" }
    }

    /// Code of one value outside sweeps.
    fn op(&mut self, op: Op) -> String {
        match op {
            Op::Const(x) => scalar::number(x, false),
            Op::Whole(slot) => format!("{}[0]", self.slot(slot)),
            Op::Load(slot) => format!("{}[row]", self.slot(slot)),
            Op::Parent(slot) => {
                let row = self.parent(self.plan.slot(slot).level);
                format!("{}[{row}]", self.slot(slot))
            }
            Op::Indexed(slot, index, _) => {
                let index = self.get(index);
                let known = self.numbered(&index, self.plan.slot(slot).level);
                format!("{known} ? {}[(i64){index}] : 0.0", self.slot(slot))
            }
            Op::RowOf(level) => format!("(double){}", self.parent(level)),
            Op::EntryAt(slot, index) => {
                let index = self.get(index);
                let vocab = self.vocab();
                let row = self.row_of_entries(slot);
                format!(
                    "rlc_is_row({index}, {vocab}) ? (double)rlc_entry({row}, (i64){index}) : rlc_nan()"
                )
            }
            Op::InRow(index) => {
                let index = self.get(index);
                let vocab = self.vocab();
                format!("rlc_truth(rlc_is_row({index}, {vocab}))")
            }
            // The verifier has them in sweeps only.
            Op::Entry(_) | Op::EntryIndex => "rlc_nan()".to_owned(),
            Op::Unary(op, x) => scalar::unary(op, &self.get(x)),
            Op::Binary(op, a, b) => scalar::binary(op, &self.get(a), &self.get(b)),
            Op::Select(c, a, b) => scalar::select(&self.get(c), &self.get(a), &self.get(b)),
        }
    }

    /// Where the entries of this row lie, of a vocab column or of a block's scratch.
    pub(super) fn row_of_entries(&mut self, slot: SlotId) -> String {
        let memory = self.slot(slot);
        match self.plan.slot(slot).kind {
            SlotKind::Scratch(numbers) => {
                let vocab = self.vocab();
                format!("({memory} + (i64)blockIdx.x * {numbers} * {vocab})")
            }
            _ => {
                let first = self.first_entry();
                format!("({memory} + {first})")
            }
        }
    }

    /// A new part, filled from a row's value.
    fn part(&mut self, value: &str) -> u16 {
        let number = self.parts;
        self.parts += 1;
        let arg = Arg::Part(number, self.of.level);
        let name = self.param(arg, &format!("part_{number}"), "double*");
        let one = self.by_one();
        self.line(&format!("{one}{name}[row] = {value};"));
        number
    }

    fn item(&mut self, item: &Item) {
        match item {
            Item::Let(v, op) => {
                let text = self.op(*op);
                self.define(*v, &text);
            }
            Item::Store(slot, v) => {
                let (memory, value, one) = (self.slot(*slot), self.get(*v), self.by_one());
                self.line(&format!("{one}{memory}[row] = {value};"));
            }
            Item::Fold { op, into, scale, x, filter, index } => {
                let neutral = scalar::number(op.identity(), false);
                let x = self.get(*x);
                let value = match filter {
                    Some(f) => format!("{} != 0 ? {x} : {neutral}", self.get(*f)),
                    None => x,
                };
                let part = self.part(&value);
                let index = match *index {
                    None => None,
                    Some((index, within)) => {
                        let index = self.get(index);
                        let value = match filter {
                            Some(f) => format!("{} != 0 ? {index} : -1.0", self.get(*f)),
                            None => index,
                        };
                        Some((self.part(&value), within))
                    }
                };
                self.left.push(Left { op: *op, into: *into, scale: *scale, part, index });
            }
            Item::Scan { .. } => self.scan(item),
            Item::Shift { .. } => self.shift(item),
            Item::Spread(row, of) => {
                let (d, index, starts) =
                    (self.slot(of.d), self.slot(of.index), self.slot(of.starts));
                let row = self.row_of_entries(*row);
                let (token, vocab) = (self.parent(TOKEN), self.vocab());
                self.line(&format!(
                    "rlc_spread({row}, {vocab}, {d}, {index}, {starts}[{token}], {starts}[{token} + 1]);"
                ));
            }
            Item::SpreadAt { into, of, at } => {
                let (d, index, starts) =
                    (self.slot(of.d), self.slot(of.index), self.slot(of.starts));
                let (token, vocab, at) = (self.parent(TOKEN), self.vocab(), self.get(*at));
                self.define(
                    *into,
                    &format!(
                        "rlc_spread_at({at}, {vocab}, {d}, {index}, {starts}[{token}], {starts}[{token} + 1])"
                    ),
                );
            }
            Item::Sweep(sweep) => self.sweep(sweep),
        }
    }

    /// What a running value within elements reads, and whether the row counts.
    fn within(&mut self, index: V, state: SlotId, kept: Option<String>) -> (String, String) {
        let index = self.get(index);
        let known = self.numbered(&index, self.plan.slot(state).level);
        let counts = self.names.unique("counts");
        let kept = kept.map_or(known.clone(), |k| format!("{known} && {k}"));
        self.line(&format!("const bool {counts} = {kept};"));
        let place = self.names.unique("place");
        self.line(&format!("const i64 {place} = {known} ? (i64){index} : -1;"));
        (place, counts)
    }

    /// A running value's text where a new row of its scope begins.
    fn renewed(&mut self, scope: Level, state: &str, fresh: &str) {
        if Some(scope) == self.scope {
            // Declared anew with each unit.
            return;
        }
        let parent = self.parent(scope);
        let before = self.names.unique("before");
        self.state_line(&format!("i64 {before} = -1;"));
        self.line(&format!("if ({parent} != {before}) {state} = {fresh};"));
        self.line(&format!("{before} = {parent};"));
    }

    fn scan(&mut self, item: &Item) {
        let &Item::Scan { into, x, filter, factor, scope, within, exclusive } = item else {
            return;
        };
        let x = self.get(x);
        let kept = filter.map(|f| format!("{} != 0", self.get(f)));
        let before = self.names.unique("running");
        let (counts, memory) = match within {
            Some(within) => {
                let (place, counts) = self.within(within.index, within.state, kept);
                let memory = self.slot(within.state);
                self.line(&format!(
                    "const double {before} = {place} < 0 ? 0.0 : {memory}[{place}];"
                ));
                (Some(counts), Some(format!("{memory}[{place}]")))
            }
            None => {
                let state = self.names.unique("sum");
                self.state_line(&format!("double {state} = 0.0;"));
                self.renewed(scope, &state, "0.0");
                self.line(&format!("const double {before} = {state};"));
                (kept, Some(state))
            }
        };
        let met = match factor {
            Some(f) => format!("{} * {before}", self.get(f)),
            None => before.clone(),
        };
        let after = self.names.unique("sum_here");
        let sum = match &counts {
            Some(c) => format!("{c} ? {met} + {x} : {before}"),
            None => format!("{met} + {x}"),
        };
        self.line(&format!("const double {after} = {sum};"));
        let memory = memory.unwrap_or_default();
        if within.is_some() {
            let counts = counts.unwrap_or_else(|| "true".to_owned());
            self.write_shared(&counts, &format!("{memory} = {after};"));
        } else {
            self.line(&format!("{memory} = {after};"));
        }
        let value = if exclusive { before } else { after };
        self.define(into, &value);
    }

    /// Writes what all threads of a block have read and will read again.
    fn write_shared(&mut self, when: &str, what: &str) {
        if self.block {
            self.line("__syncthreads();");
            self.line(&format!("if (threadIdx.x == 0 && ({when})) {{ {what} }}"));
            self.line("__syncthreads();");
        } else {
            self.line(&format!("if ({when}) {{ {what} }}"));
        }
    }

    fn shift(&mut self, item: &Item) {
        let &Item::Shift { into, x, default, filter, scope, within, by, ring } = item else {
            return;
        };
        let (x, default) = (self.get(x), self.get(default));
        let kept = filter.map(|f| format!("{} != 0", self.get(f)));
        let value = self.names.unique("back");
        if let Some(within) = within {
            let (place, counts) = self.within(within.index, within.state, kept);
            let (passed, ring) = (self.slot(within.state), self.slot(ring));
            let count = self.names.unique("passed");
            self.line(&format!("const i64 {count} = {place} < 0 ? 0 : (i64){passed}[{place}];"));
            let at = format!("{ring}[{place} * {by} + {count} % {by}]");
            self.line(&format!(
                "const double {value} = !({counts}) ? 0.0 : {count} >= {by} ? {at} : {default};"
            ));
            self.write_shared(&counts, &format!("{at} = {x}; {passed}[{place}] = {count} + 1;"));
        } else {
            let (last, count) = (self.names.unique("last"), self.names.unique("passed"));
            self.state_line(&format!("double {last}[{by}];"));
            self.state_line(&format!("i64 {count} = 0;"));
            self.renewed(scope, &count, "0");
            let counts = kept.unwrap_or_else(|| "true".to_owned());
            let at = format!("{last}[{count} % {by}]");
            self.line(&format!(
                "const double {value} = !({counts}) ? 0.0 : {count} >= {by} ? {at} : {default};"
            ));
            self.line(&format!("if ({counts}) {{ {at} = {x}; {count}++; }}"));
        }
        self.define(into, &value);
    }
}

/// The C type of a float in memory.
pub(super) fn c_type(float: Float) -> &'static str {
    match float {
        Float::F32 => "float",
        Float::F64 => "double",
        Float::Bf16 => "rlc_bf16",
        Float::F16 => "rlc_f16",
    }
}
