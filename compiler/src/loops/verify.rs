//! The invariants of a plan; a broken one is a compiler fault. Run after fusing in tests.
//!
//! Every value is defined once, before its use. Values of a sweep stay inside it: at vocab level
//! only gradients are stored. A slot is written by one loop and read by later ones only; what live
//! loops fold to a level coarser than the pieces is read after the last piece.

use super::{EntryFold, Item, Loop, Op, Plan, Rank, SlotId, SlotKind, Step, Sweep, V};
use crate::hir::ReduceOp;
use crate::level::{BATCH, Level, TOKEN};
use crate::program::Phase;

impl Plan {
    /// Checks the invariants.
    pub fn verify(&self) -> Result<(), String> {
        let mut state = State { plan: self, written: vec![None; self.slots.len()] };
        let mut at = 0;
        for (phase, steps) in self.phases() {
            for step in steps {
                match step {
                    Step::Loop(l) => {
                        Body {
                            state: &mut state,
                            of: l,
                            phase,
                            at,
                            defined: vec![false; l.names.len()],
                        }
                        .check()
                        .map_err(|why| format!("{}: {why}", l.name))?;
                    }
                    Step::Rank(r) => state.rank(r, phase, at)?,
                }
                at += 1;
            }
        }
        for o in &self.outputs {
            state.readable(o.slot, Phase::After, at).map_err(|why| format!("{}: {why}", o.name))?;
        }
        Ok(())
    }
}

struct State<'a> {
    plan: &'a Plan,
    /// Phase and step that wrote each slot.
    written: Vec<Option<(Phase, usize)>>,
}

fn ensure(ok: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if ok { Ok(()) } else { Err(why()) }
}

impl State<'_> {
    fn readable(&self, slot: SlotId, phase: Phase, at: usize) -> Result<(), String> {
        let place = || self.plan.place(slot);
        let def = self.plan.slot(slot);
        match def.kind {
            SlotKind::Column(_) | SlotKind::Param(_) | SlotKind::Entries(_) => Ok(()),
            SlotKind::Parents(_) | SlotKind::Ring(_) => Err(format!("{} is read", place())),
            SlotKind::Stored | SlotKind::Folded(_) | SlotKind::Gradient(_) => {
                let Some((from, step)) = self.written[slot.index()] else {
                    return Err(format!("{} is read but never written", place()));
                };
                ensure(step < at, || format!("{} is read before it is complete", place()))?;
                let whole = self.plan.levels.contains(self.plan.piece, def.level);
                ensure(from != Phase::Live || phase == Phase::After || whole, || {
                    format!("{} is complete only after the last piece", place())
                })
            }
        }
    }

    fn write(&mut self, slot: SlotId, phase: Phase, at: usize) -> Result<(), String> {
        let first = self.written[slot.index()].replace((phase, at)).is_none();
        ensure(first, || format!("{} is written twice", self.plan.place(slot)))
    }

    fn rank(&mut self, rank: &Rank, phase: Phase, at: usize) -> Result<(), String> {
        for slot in std::iter::once(rank.x).chain(rank.filter) {
            self.readable(slot, phase, at)?;
            ensure(self.plan.slot(slot).level == rank.level, || {
                format!("rank reads {}", self.plan.place(slot))
            })?;
        }
        ensure(self.plan.slot(rank.into).kind == SlotKind::Stored, || "rank into no slot".into())?;
        self.write(rank.into, phase, at)
    }
}

struct Body<'s, 'a> {
    state: &'s mut State<'a>,
    of: &'a Loop,
    phase: Phase,
    at: usize,
    defined: Vec<bool>,
}

impl Body<'_, '_> {
    fn check(&mut self) -> Result<(), String> {
        let of = self.of;
        for &(v, op) in &of.head {
            ensure(matches!(op, Op::Const(_) | Op::Whole(_)), || {
                format!("{} depends on the row", of.name_of(v))
            })?;
            self.op(op, false)?;
            self.define(v)?;
        }
        for item in &of.body {
            self.item(item)?;
        }
        for level in of.scopes(self.state.plan) {
            ensure(self.state.plan.parents(level, of.level).is_some(), || {
                format!("no parent rows in {}", self.state.plan.levels.name(level))
            })?;
        }
        Ok(())
    }

    fn name(&self, slot: SlotId) -> String {
        self.state.plan.place(slot)
    }

    fn define(&mut self, v: V) -> Result<(), String> {
        ensure(v.index() < self.defined.len(), || format!("value {} has no name", v.0))?;
        ensure(!self.defined[v.index()], || format!("{} is defined twice", self.of.name_of(v)))?;
        self.defined[v.index()] = true;
        Ok(())
    }

    fn usable(&self, v: V) -> Result<(), String> {
        ensure(self.defined.get(v.index()) == Some(&true), || {
            format!("value {} is used where it is not defined", v.0)
        })
    }

    fn all_usable(&self, vs: impl IntoIterator<Item = V>) -> Result<(), String> {
        vs.into_iter().try_for_each(|v| self.usable(v))
    }

    fn coarser(&self, level: Level) -> Result<(), String> {
        let levels = &self.state.plan.levels;
        ensure(level != self.of.level && levels.contains(level, self.of.level), || {
            format!("{} does not contain {}", levels.name(level), levels.name(self.of.level))
        })
    }

    fn op(&self, op: Op, in_sweep: bool) -> Result<(), String> {
        self.all_usable(op.operands())?;
        let Some(slot) = op.slot() else {
            return ensure(in_sweep || op != Op::EntryIndex, || {
                "entry number outside a sweep".into()
            });
        };
        self.state.readable(slot, self.phase, self.at)?;
        let def = self.state.plan.slot(slot);
        let entries = matches!(def.kind, SlotKind::Entries(_));
        let fits = match op {
            Op::Load(_) => !in_sweep && !entries && def.level == self.of.level,
            Op::Parent(_) => {
                self.coarser(def.level)?;
                !in_sweep && def.level != BATCH
            }
            Op::Whole(_) => !in_sweep && def.level == BATCH,
            Op::Entry(_) => in_sweep && entries,
            Op::EntryAt(..) => !in_sweep && entries && self.of.level == TOKEN,
            Op::Const(_)
            | Op::EntryIndex
            | Op::InRow(_)
            | Op::Unary(..)
            | Op::Binary(..)
            | Op::Select(..) => true,
        };
        ensure(fits, || format!("{} cannot be read here", self.name(slot)))
    }

    fn item(&mut self, item: &Item) -> Result<(), String> {
        match item {
            Item::Let(v, op) => {
                self.op(*op, false)?;
                self.define(*v)
            }
            Item::Scan { into, x, filter, scope, exclusive: _ } => {
                self.all_usable(std::iter::once(*x).chain(*filter))?;
                self.coarser(*scope)?;
                self.define(*into)
            }
            Item::Shift { into, x, default, filter, scope, by, ring } => {
                self.all_usable([*x, *default].into_iter().chain(*filter))?;
                self.coarser(*scope)?;
                let kind = self.state.plan.slot(*ring).kind;
                ensure(*by > 0 && kind == SlotKind::Ring(*by as usize), || {
                    format!("{} does not hold {by} values", self.name(*ring))
                })?;
                self.state.write(*ring, self.phase, self.at)?;
                self.define(*into)
            }
            Item::Store(slot, x) => {
                self.usable(*x)?;
                let def = self.state.plan.slot(*slot);
                ensure(def.kind == SlotKind::Stored && def.level == self.of.level, || {
                    format!("{} cannot be stored here", self.name(*slot))
                })?;
                self.state.write(*slot, self.phase, self.at)
            }
            Item::Fold { op, into, scale, x, filter } => {
                self.all_usable(std::iter::once(*x).chain(*filter))?;
                ensure(scale.is_some() == (*op == ReduceOp::LogSumExp), || {
                    format!("{} has one slot too many or too few", self.name(*into))
                })?;
                for slot in std::iter::once(*into).chain(*scale) {
                    let def = self.state.plan.slot(slot);
                    self.coarser(def.level)?;
                    ensure(matches!(def.kind, SlotKind::Folded(_)), || {
                        format!("{} cannot be folded into", self.name(slot))
                    })?;
                    self.state.write(slot, self.phase, self.at)?;
                }
                Ok(())
            }
            Item::Sweep(sweep) => self.sweep(sweep),
        }
    }

    fn sweep(&mut self, sweep: &Sweep) -> Result<(), String> {
        ensure(self.of.level == TOKEN, || "a sweep outside a loop over tokens".into())?;
        for &(v, op) in &sweep.body {
            self.op(op, true)?;
            self.define(v)?;
        }
        for fold in &sweep.folds {
            match fold {
                EntryFold::Plain { op, x, .. } => {
                    self.usable(*x)?;
                    ensure(*op != ReduceOp::LogSumExp, || "a plain fold of logsumexp".into())?;
                }
                EntryFold::LogSumExp { x, means, .. } => {
                    self.usable(*x)?;
                    self.all_usable(
                        means.iter().flat_map(|m| std::iter::once(m.f).chain(m.filter)),
                    )?;
                }
            }
        }
        for &(slot, x) in &sweep.gradients {
            self.usable(x)?;
            ensure(matches!(self.state.plan.slot(slot).kind, SlotKind::Gradient(_)), || {
                format!("{} is stored at vocab level", self.name(slot))
            })?;
            self.state.write(slot, self.phase, self.at)?;
        }
        for &(v, _) in &sweep.body {
            // Out of scope from here on.
            self.defined[v.index()] = false;
        }
        sweep.results().try_for_each(|v| self.define(v))
    }
}
