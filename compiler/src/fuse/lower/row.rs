//! Code executed once per row.

use super::{Code, label};
use crate::fuse::nodes::{NodeId, Task, source};
use crate::fuse::normal::elements::home;
use crate::fuse::sweeps::is_sweep;
use crate::hir::{E, Expr, ReduceOp};
use crate::level::{BATCH, Level};
use crate::loops::{Item, Op, SlotId, SlotKind, Spread, V, Within};
use crate::op::{Binary, Unary};

impl Code<'_, '_> {
    pub(super) fn node(&mut self, n: NodeId) {
        match self.nodes.list[n].task {
            Task::Value(e) => {
                let v = if is_sweep(self.normal, e) { self.value(e) } else { self.compute(e) };
                self.known.insert(e, v);
                if let Some(&slot) = self.places.values.get(&n) {
                    self.body.push(Item::Store(slot, v));
                }
            }
            Task::Fold(e) => {
                let (op, x, filter, index) = match self.normal.graph.expr(e) {
                    Expr::Reduce(op, x, filter) => (op, x, filter, None),
                    Expr::Scatter { op, x, filter, index, scope } => {
                        (op, x, filter, Some((index, scope)))
                    }
                    _ => return,
                };
                let Some(&into) = self.places.values.get(&n) else { return };
                let scale = self.places.scales.get(&n).copied();
                let x = self.value(x);
                let filter = filter.map(|f| self.value(f));
                let index = index.map(|(i, scope)| (self.value(i), scope));
                self.body.push(Item::Fold { op, into, scale, x, filter, index });
            }
            // Calls have their own steps, gradients are written by their sweep.
            Task::Call(_) | Task::Gradient(..) => {}
        }
    }

    /// The value of an expression at this row, loaded if this loop does not compute it.
    pub(super) fn value(&mut self, e: E) -> V {
        let graph = &self.normal.graph;
        let from = source(graph, e);
        if let Some(&v) = self.known.get(&from) {
            return v;
        }
        if self.nodes.inline.contains_key(&from) {
            let v = self.compute(from);
            self.known.insert(from, v);
            return v;
        }
        let slot = match graph.expr(from) {
            Expr::Const(bits) => return self.constant(f64::from_bits(bits)),
            Expr::Param(p) => self.slots.param(p),
            Expr::Column(c) => self.slots.column(c),
            Expr::Side(right) => self.slots.side(graph.level(from), right),
            Expr::Row => {
                let level = graph.level(from);
                if level == BATCH {
                    return self.constant(0.0);
                }
                let name = format!("{}_row", graph.level_table.name(level));
                let v = self.define(name, Op::RowOf(level));
                self.known.insert(from, v);
                return v;
            }
            Expr::Choose(..)
            | Expr::Unary(..)
            | Expr::Binary(..)
            | Expr::Select(..)
            | Expr::Broadcast(_)
            | Expr::Reduce(..)
            | Expr::Scan { .. }
            | Expr::Shift { .. }
            | Expr::Rank { .. }
            | Expr::Scatter { .. }
            | Expr::Gather { .. }
            | Expr::Find { .. }
            | Expr::Prefix(..)
            | Expr::Nth(..)
            | Expr::Spread { .. }
            | Expr::At(..)
            | Expr::VocabIndex
            | Expr::Detach(_) => self.slot_of(from),
        };
        let v = self.load(graph.level(from), slot, from);
        self.known.insert(from, v);
        v
    }

    fn load(&mut self, level: Level, slot: SlotId, e: E) -> V {
        let name = match self.normal.graph.expr(e) {
            Expr::Param(p) => self.normal.graph.params[p.0 as usize].name.clone(),
            Expr::Column(c) => self.normal.graph.columns[c.0 as usize].name.clone(),
            Expr::Const(_)
            | Expr::Choose(..)
            | Expr::Unary(..)
            | Expr::Binary(..)
            | Expr::Select(..)
            | Expr::Broadcast(_)
            | Expr::Reduce(..)
            | Expr::Scan { .. }
            | Expr::Shift { .. }
            | Expr::Rank { .. }
            | Expr::Scatter { .. }
            | Expr::Gather { .. }
            | Expr::Find { .. }
            | Expr::Prefix(..)
            | Expr::Side(_)
            | Expr::Row
            | Expr::Nth(..)
            | Expr::Spread { .. }
            | Expr::At(..)
            | Expr::VocabIndex
            | Expr::Detach(_) => label(self.normal, e),
        };
        if level == BATCH {
            let v = self.name(name);
            self.head.push((v, Op::Whole(slot)));
            v
        } else if level == self.level {
            self.define(name, Op::Load(slot))
        } else {
            self.define(name, Op::Parent(slot))
        }
    }

    fn compute(&mut self, e: E) -> V {
        let graph = &self.normal.graph;
        let name = label(self.normal, e);
        let own = graph.level(e);
        match graph.expr(e) {
            Expr::Unary(op, x) => {
                let x = self.value(x);
                self.define(name, Op::Unary(op, x))
            }
            Expr::Binary(op, a, b) => {
                let (a, b) = (self.value(a), self.value(b));
                self.define(name, Op::Binary(op, a, b))
            }
            Expr::Select(c, a, b) => {
                let (c, a, b) = (self.value(c), self.value(a), self.value(b));
                self.define(name, Op::Select(c, a, b))
            }
            Expr::Scan { x, filter, factor, scope, within, exclusive, .. } => {
                let x = self.value(x);
                let filter = filter.map(|f| self.value(f));
                let factor = factor.map(|f| self.value(f));
                if scope == own {
                    // Each row is a scope of its own.
                    let zero = self.constant(0.0);
                    if exclusive {
                        return zero;
                    }
                    let mut sum = x;
                    if let Some(factor) = factor {
                        // The factor of a first row may be no number.
                        let before = self.define(
                            format!("{name}.before"),
                            Op::Binary(Binary::Mul, factor, zero),
                        );
                        sum =
                            self.define(format!("{name}.sum"), Op::Binary(Binary::Add, x, before));
                    }
                    return match filter {
                        Some(f) => self.define(name, Op::Select(f, sum, zero)),
                        None => sum,
                    };
                }
                let within = within.map(|w| self.within(&name, w, scope));
                let into = self.name(name);
                self.body.push(Item::Scan { into, x, filter, factor, scope, within, exclusive });
                into
            }
            Expr::Shift { x, default, by, filter, scope, within } => {
                let (x, default) = (self.value(x), self.value(default));
                let filter = filter.map(|f| self.value(f));
                if scope == own {
                    let zero = self.constant(0.0);
                    return match filter {
                        Some(f) => self.define(name, Op::Select(f, default, zero)),
                        None => default,
                    };
                }
                let by = by.unsigned_abs();
                let within = within.map(|w| self.within(&name, w, scope));
                let (at, kind) = match within {
                    Some(w) => {
                        (self.slots.list[w.state.index()].level, SlotKind::Carried(by as usize))
                    }
                    None => (own, SlotKind::Ring(by as usize)),
                };
                let ring = self.slots.add(format!("{name}.ring"), at, kind);
                let into = self.name(name);
                self.body.push(Item::Shift { into, x, default, filter, scope, within, by, ring });
                into
            }
            Expr::Gather { x, index, scope } => {
                let index = self.value(index);
                let slot = self.stored(x);
                self.define(name, Op::Indexed(slot, index, scope))
            }
            Expr::Rank { filter, .. } => {
                // Within its own row each row is the only one.
                let zero = self.constant(0.0);
                match filter.map(|f| self.value(f)) {
                    Some(f) => {
                        let none = self.constant(-1.0);
                        self.define(name, Op::Select(f, zero, none))
                    }
                    None => zero,
                }
            }
            Expr::At(x, index) => {
                let index = self.value(index);
                let value = self.entry_at(x, index);
                let inside = self.define(format!("{name}_exists"), Op::InRow(index));
                let nan = self.constant(f64::NAN);
                self.define(name, Op::Select(inside, value, nan))
            }
            Expr::Reduce(ReduceOp::LogSumExp, ..)
            | Expr::Scatter { op: ReduceOp::LogSumExp, .. } => self.finish(e, name),
            // Read in place; here because it is kept.
            Expr::Const(_) | Expr::Param(_) | Expr::Broadcast(_) | Expr::Row => self.value(e),
            Expr::Column(_)
            | Expr::Choose(..)
            | Expr::Reduce(..)
            | Expr::Scatter { .. }
            | Expr::Find { .. }
            | Expr::Prefix(..)
            | Expr::Side(_)
            | Expr::Nth(..)
            | Expr::Spread { .. }
            | Expr::VocabIndex
            | Expr::Detach(_) => self.value(e),
        }
    }

    /// The elements that a scan or shift runs within, with a place for what it carries.
    fn within(&mut self, name: &str, index: E, scope: Level) -> Within {
        let graph = &self.normal.graph;
        // `normal` has given every element a number of its own.
        let home = home(graph, index, scope).unwrap_or(graph.level(index));
        let state = self.slots.add(format!("{name}.state"), home, SlotKind::Carried(1));
        Within { index: self.value(index), state }
    }

    /// The sums of a spread, in memory.
    pub(super) fn spread(&mut self, d: E, index: E) -> Spread {
        let below = self.normal.graph.level(d);
        let starts = self.slots.starts(below);
        Spread { d: self.stored(d), index: self.stored(index), starts }
    }

    /// A log-sum-exp from its maximum and scaled sum.
    fn finish(&mut self, e: E, name: String) -> V {
        let fold = self.nodes.folds.get(&e);
        let slot = |slots: &std::collections::HashMap<NodeId, SlotId>| {
            fold.and_then(|n| slots.get(n)).copied().unwrap_or(SlotId(u16::MAX))
        };
        let (most, scale) = (slot(&self.places.values), slot(&self.places.scales));
        let load = if self.level == BATCH { Op::Whole } else { Op::Load };
        let mut read = |slot: SlotId, part: &str| {
            let v = self.name(format!("{name}.{part}"));
            if self.level == BATCH {
                self.head.push((v, load(slot)));
            } else {
                self.body.push(Item::Let(v, load(slot)));
            }
            v
        };
        let (most, scale) = (read(most, "max"), read(scale, "sum"));
        let log = self.define(format!("{name}.log"), Op::Unary(Unary::Log, scale));
        self.define(name, Op::Binary(Binary::Add, most, log))
    }

    /// A vocab-level expression at one entry.
    fn entry_at(&mut self, x: E, index: V) -> V {
        if let Some(&v) = self.entries.get(&(x, index)) {
            return v;
        }
        let graph = &self.normal.graph;
        let name = format!("{}_at_{}", label(self.normal, x), self.names[index.index()]);
        let v = match graph.expr(x) {
            Expr::Broadcast(_) => self.value(x),
            Expr::VocabIndex => index,
            Expr::Column(c) => {
                let slot = self.slots.column(c);
                self.define(name, Op::EntryAt(slot, index))
            }
            Expr::Unary(op, a) => {
                let a = self.entry_at(a, index);
                self.define(name, Op::Unary(op, a))
            }
            Expr::Binary(op, a, b) => {
                let (a, b) = (self.entry_at(a, index), self.entry_at(b, index));
                self.define(name, Op::Binary(op, a, b))
            }
            Expr::Select(c, a, b) => {
                let c = self.entry_at(c, index);
                let (a, b) = (self.entry_at(a, index), self.entry_at(b, index));
                self.define(name, Op::Select(c, a, b))
            }
            Expr::Spread { d, index: to } => {
                let of = self.spread(d, to);
                let into = self.name(name);
                self.body.push(Item::SpreadAt { into, of, at: index });
                into
            }
            // Never at vocab level: `nodes` has refused the rest.
            Expr::Const(_)
            | Expr::Param(_)
            | Expr::Choose(..)
            | Expr::Reduce(..)
            | Expr::Scan { .. }
            | Expr::Shift { .. }
            | Expr::Rank { .. }
            | Expr::Scatter { .. }
            | Expr::Gather { .. }
            | Expr::Find { .. }
            | Expr::Prefix(..)
            | Expr::Side(_)
            | Expr::Row
            | Expr::Nth(..)
            | Expr::At(..)
            | Expr::Detach(_) => self.value(x),
        };
        self.entries.insert((x, index), v);
        v
    }
}
