//! Plans as text for people: what runs when, in the user's names. Never parsed back.

use std::fmt::Write as _;

use super::{
    Call, Direction, EntryFold, Guard, Item, Loop, Op, Plan, SlotId, SlotKind, Spread, Step, Sweep,
    Task, V, Within,
};
use crate::op::Binary;
use crate::program::Phase;

impl Plan {
    /// Readable text.
    pub fn print(&self) -> String {
        let mut out = String::new();
        for (phase, steps) in self.phases() {
            if steps.is_empty() {
                continue;
            }
            let title = match phase {
                Phase::Recorded => "recorded, once over the batch:".to_owned(),
                Phase::Live => format!("live, for each {}:", self.levels.name(self.piece)),
                Phase::After => "after, once over the batch:".to_owned(),
            };
            let _ = writeln!(out, "{title}");
            for step in steps {
                match step {
                    Step::Loop(l) => Text { plan: self, of: l, out: &mut out }.print(),
                    Step::Call(c) => self.print_call(c, &mut out),
                }
            }
        }
        for o in &self.outputs {
            let _ = writeln!(out, "{} = {}", o.name, self.place(o.slot));
        }
        out
    }

    /// The slot as text: its level and its name.
    pub fn place(&self, id: SlotId) -> String {
        let slot = self.slot(id);
        match slot.kind {
            SlotKind::Param(_) => format!("param {}", slot.name),
            SlotKind::Column(_)
            | SlotKind::Side(_)
            | SlotKind::Stored
            | SlotKind::Folded(_)
            | SlotKind::Carried(_)
            | SlotKind::Parents(_)
            | SlotKind::Starts(_)
            | SlotKind::Ring(_)
            | SlotKind::Scratch(_)
            | SlotKind::Entries(_)
            | SlotKind::Gradient(_) => format!("{}/{}", self.levels.name(slot.level), slot.name),
        }
    }

    fn print_call(&self, call: &Call, out: &mut String) {
        let (name, what) = match call.task {
            Task::Rank { x } => ("rank", format!("rank {}", self.place(x))),
            Task::Find { key, want } => {
                ("find", format!("first {} = {}", self.place(key), self.place(want)))
            }
            Task::Prefix { x } => ("prefix", format!("node of {}", self.place(x))),
        };
        let filter = call.filter.map_or(String::new(), |f| format!(" where {}", self.place(f)));
        let within = call.within.map_or(String::new(), |w| format!(", of one {}", self.place(w)));
        let _ = writeln!(
            out,
            "  call {name} over {}: {} <- {what}{filter} in {}{within}",
            self.levels.name(call.level),
            self.place(call.into),
            self.levels.name(call.scope),
        );
    }
}

struct Text<'a> {
    plan: &'a Plan,
    of: &'a Loop,
    out: &'a mut String,
}

impl Text<'_> {
    fn print(&mut self) {
        let Loop { name, level, direction, .. } = self.of;
        let level = self.plan.levels.name(*level);
        let order = match direction {
            Direction::Forward => "",
            Direction::Reverse => ", from the last",
        };
        self.line(1, &format!("loop {name} over {level}{order}:"));
        for &(v, op) in &self.of.head {
            self.define("each: ", 2, v, op);
        }
        for item in &self.of.body {
            self.item(item);
        }
    }

    fn line(&mut self, depth: usize, text: &str) {
        let _ = writeln!(self.out, "{:1$}{text}", "", depth * 2);
    }

    /// A value's name; a constant as a number.
    fn v(&self, v: V) -> &str {
        self.of.name_of(v)
    }

    fn define(&mut self, prefix: &str, depth: usize, v: V, op: Op) {
        // Constants are named by their number where they are used.
        if !matches!(op, Op::Const(_)) {
            let text = format!("{prefix}{} = {}", self.v(v), self.op(op));
            self.line(depth, &text);
        }
    }

    fn op(&self, op: Op) -> String {
        let v = |v| self.v(v);
        match op {
            Op::Const(x) => format!("{x:?}"),
            Op::Load(s) => format!("load {}", self.plan.place(s)),
            Op::Parent(s) | Op::Whole(s) => format!("of {}", self.plan.place(s)),
            Op::Indexed(s, i, _) => format!("{} at row {}", self.plan.place(s), v(i)),
            Op::RowOf(level) => format!("row of {}", self.plan.levels.name(level)),
            Op::Entry(s) => format!("entry of {}", self.plan.place(s)),
            Op::EntryAt(s, i) => format!("entry {} of {}", v(i), self.plan.place(s)),
            Op::EntryIndex => "entry number".to_owned(),
            Op::InRow(i) => format!("{} is an entry number", v(i)),
            Op::Unary(op, x) => format!("{}({})", op.name(), v(x)),
            Op::Binary(op, a, b) => match infix(op) {
                Some(sign) => format!("{} {sign} {}", v(a), v(b)),
                None => format!("{}({}, {})", op.name(), v(a), v(b)),
            },
            Op::Select(c, a, b) => format!("if {} then {} else {}", v(c), v(a), v(b)),
        }
    }

    fn filtered(&self, filter: Option<V>) -> String {
        filter.map_or(String::new(), |f| format!(" where {}", self.v(f)))
    }

    fn within(&self, within: Option<Within>) -> String {
        within.map_or(String::new(), |w| format!(", of one {}", self.v(w.index)))
    }

    fn spread(&self, of: Spread) -> String {
        format!("sums of {} by {}", self.plan.place(of.d), self.plan.place(of.index))
    }

    fn item(&mut self, item: &Item) {
        let text = match item {
            Item::Let(v, op) => return self.define("", 2, *v, *op),
            Item::Sweep(sweep) => return self.sweep(sweep),
            Item::Scan { into, x, filter, factor, scope, within, exclusive } => format!(
                "{} = {} {}{}{} in {}{}",
                self.v(*into),
                if *exclusive { "sum before" } else { "sum up to" },
                self.v(*x),
                factor.map_or(String::new(), |f| format!(" times {}", self.v(f))),
                self.filtered(*filter),
                self.plan.levels.name(*scope),
                self.within(*within),
            ),
            Item::Shift { into, x, default, filter, scope, within, by, ring: _ } => format!(
                "{} = {} passed {by} ago{} in {}{}, else {}",
                self.v(*into),
                self.v(*x),
                self.filtered(*filter),
                self.plan.levels.name(*scope),
                self.within(*within),
                self.v(*default),
            ),
            Item::Store(slot, x) => format!("{} <- {}", self.plan.place(*slot), self.v(*x)),
            Item::Fold { op, into, scale: _, x, filter, index } => format!(
                "{}{} <- {} {}{}",
                self.plan.place(*into),
                index.map_or(String::new(), |(i, _)| format!(" at row {}", self.v(i))),
                op.name(),
                self.v(*x),
                self.filtered(*filter),
            ),
            Item::Spread(row, of) => format!("{} <- {}", self.plan.place(*row), self.spread(*of)),
            Item::SpreadAt { into, of, at } => {
                format!("{} = {} at entry {}", self.v(*into), self.spread(*of), self.v(*at))
            }
        };
        self.line(2, &text);
    }

    fn sweep(&mut self, sweep: &Sweep) {
        self.line(2, "sweep over vocab:");
        for &(v, op) in &sweep.body {
            self.define("", 3, v, op);
        }
        for fold in &sweep.folds {
            match fold {
                EntryFold::Plain { into, op, x } => {
                    let text = format!("{} <- {} {}", self.v(*into), op.name(), self.v(*x));
                    self.line(3, &text);
                }
                EntryFold::Nth { into, x, n, scratch: _ } => {
                    let (into, x, n) = (self.v(*into), self.v(*x), self.v(*n));
                    let text = format!("{into} <- number of entry {n} by falling {x}");
                    self.line(3, &text);
                }
                EntryFold::LogSumExp { into, x, means } => {
                    let text = format!("{} <- logsumexp {}", self.v(*into), self.v(*x));
                    self.line(3, &text);
                    for m in means {
                        let text = format!(
                            "{} <- mean {}{} under exp({} - {}){}",
                            self.v(m.into),
                            self.v(m.f),
                            self.filtered(m.filter),
                            self.v(*x),
                            self.v(*into),
                            match m.guard {
                                Guard::None => "",
                                Guard::NonZero => " where not 0",
                                Guard::Positive => " where positive",
                            },
                        );
                        self.line(3, &text);
                    }
                }
            }
        }
        for &(slot, x) in &sweep.gradients {
            let text = format!("gradient {} <- {}", self.plan.place(slot), self.v(x));
            self.line(3, &text);
        }
    }
}

fn infix(op: Binary) -> Option<&'static str> {
    match op {
        Binary::Add => Some("+"),
        Binary::Sub => Some("-"),
        Binary::Mul => Some("*"),
        Binary::Div => Some("/"),
        Binary::FloorDiv => Some("//"),
        Binary::Mod => Some("%"),
        Binary::Pow => Some("^"),
        Binary::Eq => Some("=="),
        Binary::Ne => Some("!="),
        Binary::Lt => Some("<"),
        Binary::Le => Some("<="),
        Binary::Gt => Some(">"),
        Binary::Ge => Some(">="),
        Binary::And => Some("and"),
        Binary::Or => Some("or"),
        Binary::Min | Binary::Max | Binary::Chain => None,
    }
}
