//! The invariants of a plan; a broken one is a compiler fault. Run after fusing in tests.
//!
//! Every value is defined once, before its use. Values of a sweep stay inside it: at vocab level
//! only gradients are stored. A slot is written by one loop and read by later ones only; what live
//! loops fold to a level coarser than the pieces is read after the last piece. A derived level has no
//! loop of its own: its values stand at the level whose rows it has.

use super::{
    Call, EntryFold, Item, Loop, Op, Plan, SlotId, SlotKind, Spread, Step, Sweep, V, Within,
};
use crate::hir::ReduceOp;
use crate::level::{BATCH, Level, TOKEN, VOCAB};
use crate::program::Phase;

impl Plan {
    /// Checks the invariants.
    pub fn verify(&self) -> Result<(), String> {
        let mut state =
            State { plan: self, written: vec![None; self.slots.len()], spans: Vec::new() };
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
                            filled: Vec::new(),
                        }
                        .check()
                        .map_err(|why| format!("{}: {why}", l.name))?;
                    }
                    Step::Call(c) => state.call(c, phase, at)?,
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
    /// Slots whose rows are folded from more than one piece.
    spans: Vec<SlotId>,
}

fn ensure(ok: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if ok { Ok(()) } else { Err(why()) }
}

impl State<'_> {
    fn readable(&self, slot: SlotId, phase: Phase, at: usize) -> Result<(), String> {
        let place = || self.plan.place(slot);
        let def = self.plan.slot(slot);
        match def.kind {
            SlotKind::Column(_) | SlotKind::Param(_) | SlotKind::Side(_) | SlotKind::Entries(_) => {
                Ok(())
            }
            SlotKind::Parents(_)
            | SlotKind::Starts(_)
            | SlotKind::Carried(_)
            | SlotKind::Ring(_)
            | SlotKind::Scratch(_) => Err(format!("{} is read", place())),
            SlotKind::Stored | SlotKind::Folded(_) | SlotKind::Gradient(_) => {
                let Some((from, step)) = self.written[slot.index()] else {
                    return Err(format!("{} is read but never written", place()));
                };
                ensure(step < at, || format!("{} is read before it is complete", place()))?;
                let whole = self.in_piece(def.level) && !self.spans.contains(&slot);
                ensure(from != Phase::Live || phase == Phase::After || whole, || {
                    format!("{} is complete only after the last piece", place())
                })
            }
        }
    }

    fn in_piece(&self, level: Level) -> bool {
        self.plan.levels.contains(self.plan.piece, level)
    }

    /// A live step sees one piece: it goes along no scope that reaches further.
    fn reaches(&self, scope: Level, phase: Phase) -> Result<(), String> {
        ensure(phase != Phase::Live || self.in_piece(scope), || {
            format!("a piece is less than a {}", self.plan.levels.name(scope))
        })
    }

    fn write(&mut self, slot: SlotId, phase: Phase, at: usize) -> Result<(), String> {
        let first = self.written[slot.index()].replace((phase, at)).is_none();
        ensure(first, || format!("{} is written twice", self.plan.place(slot)))
    }

    fn call(&mut self, call: &Call, phase: Phase, at: usize) -> Result<(), String> {
        for slot in call.slots() {
            self.readable(slot, phase, at)?;
            let def = self.plan.slot(slot);
            let entries = matches!(def.kind, SlotKind::Entries(_) | SlotKind::Gradient(_));
            ensure(def.level == call.level && !entries, || {
                format!("a call reads {}", self.plan.place(slot))
            })?;
        }
        let levels = &self.plan.levels;
        ensure(levels.contains(call.scope, call.level) && !levels.is_derived(call.scope), || {
            format!("a call in {}", levels.name(call.scope))
        })?;
        self.reaches(call.scope, phase)?;
        let into = self.plan.slot(call.into);
        ensure(into.kind == SlotKind::Stored && into.level == call.level, || {
            "a call into no slot".into()
        })?;
        self.write(call.into, phase, at)
    }
}

struct Body<'s, 'a> {
    state: &'s mut State<'a>,
    of: &'a Loop,
    phase: Phase,
    at: usize,
    defined: Vec<bool>,
    /// Rows of scratch that hold something.
    filled: Vec<SlotId>,
}

impl Body<'_, '_> {
    fn check(&mut self) -> Result<(), String> {
        let of = self.of;
        ensure(self.state.plan.levels.rows(of.level) == of.level, || {
            format!("a loop over {}", self.state.plan.levels.name(of.level))
        })?;
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
            if let Op::RowOf(level) = op
                && level != self.of.level
            {
                self.coarser(level)?;
            }
            return ensure(in_sweep || op != Op::EntryIndex, || {
                "entry number outside a sweep".into()
            });
        };
        let def = self.state.plan.slot(slot);
        if matches!(def.kind, SlotKind::Scratch(_)) {
            let filled = matches!(op, Op::Entry(_)) && in_sweep && self.filled.contains(&slot);
            return ensure(filled, || format!("{} holds nothing here", self.name(slot)));
        }
        self.state.readable(slot, self.phase, self.at)?;
        if let Op::Indexed(_, _, scope) = op {
            self.state.reaches(scope, self.phase)?;
        }
        let entries = matches!(def.kind, SlotKind::Entries(_));
        let fits = match op {
            Op::Load(_) => !in_sweep && !entries && def.level == self.of.level,
            Op::Parent(_) => {
                self.coarser(def.level)?;
                !in_sweep && def.level != BATCH
            }
            Op::Whole(_) => !in_sweep && def.level == BATCH,
            Op::Indexed(..) => !in_sweep && def.level != VOCAB,
            Op::Entry(_) => in_sweep && entries,
            Op::EntryAt(..) => !in_sweep && entries && self.in_token(),
            Op::Const(_)
            | Op::RowOf(_)
            | Op::EntryIndex
            | Op::InRow(_)
            | Op::Unary(..)
            | Op::Binary(..)
            | Op::Select(..) => true,
        };
        ensure(fits, || format!("{} cannot be read here", self.name(slot)))
    }

    /// Whether a row of the loop has a token's vocab row.
    fn in_token(&self) -> bool {
        self.state.plan.levels.contains(TOKEN, self.of.level) && self.of.level != VOCAB
    }

    /// What is carried along elements has a slot of that many numbers for each.
    fn within(&mut self, within: Within) -> Result<(), String> {
        self.usable(within.index)?;
        self.carried(within.state, 1)
    }

    fn carried(&mut self, slot: SlotId, numbers: usize) -> Result<(), String> {
        ensure(self.state.plan.slot(slot).kind == SlotKind::Carried(numbers), || {
            format!("{} does not carry {numbers} numbers", self.name(slot))
        })?;
        self.state.write(slot, self.phase, self.at)
    }

    fn spread(&self, of: Spread) -> Result<(), String> {
        ensure(self.in_token(), || "a spread outside of tokens".into())?;
        let plan = self.state.plan;
        let below = plan.slot(of.d).level;
        for slot in [of.d, of.index] {
            self.state.readable(slot, self.phase, self.at)?;
            let level = plan.slot(slot).level;
            let fits = level == below && level != TOKEN && plan.levels.contains(TOKEN, level);
            ensure(fits, || format!("{} cannot be spread", self.name(slot)))?;
        }
        let starts = plan.slot(of.starts);
        ensure(starts.level == TOKEN && starts.kind == SlotKind::Starts(below), || {
            format!("{} are no first rows of tokens", self.name(of.starts))
        })
    }

    fn item(&mut self, item: &Item) -> Result<(), String> {
        match item {
            Item::Let(v, op) => {
                self.op(*op, false)?;
                self.define(*v)
            }
            Item::Scan { into, x, filter, factor, scope, within, exclusive: _ } => {
                self.all_usable(std::iter::once(*x).chain(*filter).chain(*factor))?;
                self.coarser(*scope)?;
                self.state.reaches(*scope, self.phase)?;
                within.map_or(Ok(()), |w| self.within(w))?;
                self.define(*into)
            }
            Item::Shift { into, x, default, filter, scope, within, by, ring } => {
                self.all_usable([*x, *default].into_iter().chain(*filter))?;
                self.coarser(*scope)?;
                self.state.reaches(*scope, self.phase)?;
                if let Some(within) = *within {
                    self.within(within)?;
                    self.carried(*ring, *by as usize)?;
                    let level = |s: SlotId| self.state.plan.slot(s).level;
                    ensure(*by > 0 && level(*ring) == level(within.state), || {
                        format!("{} is of other elements", self.name(*ring))
                    })?;
                    return self.define(*into);
                }
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
            Item::Fold { op, into, scale, x, filter, index } => {
                let number = index.map(|i| i.0);
                self.all_usable(std::iter::once(*x).chain(*filter).chain(number))?;
                ensure(scale.is_some() == (*op == ReduceOp::LogSumExp), || {
                    format!("{} has one slot too many or too few", self.name(*into))
                })?;
                for slot in std::iter::once(*into).chain(*scale) {
                    let def = self.state.plan.slot(slot);
                    match *index {
                        None => self.coarser(def.level)?,
                        Some((_, scope)) if !self.state.in_piece(scope) => {
                            self.state.spans.push(slot);
                        }
                        Some(_) => {}
                    }
                    let folded = matches!(def.kind, SlotKind::Folded(_));
                    ensure(folded && def.level != VOCAB, || {
                        format!("{} cannot be folded into", self.name(slot))
                    })?;
                    self.state.write(slot, self.phase, self.at)?;
                }
                Ok(())
            }
            Item::Spread(row, of) => {
                self.spread(*of)?;
                let fits = self.state.plan.slot(*row).kind == SlotKind::Scratch(1);
                ensure(fits && self.of.level == TOKEN, || {
                    format!("{} is no row of scratch", self.name(*row))
                })?;
                self.state.write(*row, self.phase, self.at)?;
                self.filled.push(*row);
                Ok(())
            }
            Item::SpreadAt { into, of, at } => {
                self.spread(*of)?;
                self.usable(*at)?;
                self.define(*into)
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
                EntryFold::Nth { x, n, scratch, .. } => {
                    self.all_usable([*x, *n])?;
                    let fits = self.state.plan.slot(*scratch).kind == SlotKind::Scratch(2);
                    ensure(fits && sweep.body.iter().all(|b| b.0 != *n), || {
                        format!("{} cannot be sorted", self.name(*scratch))
                    })?;
                    self.state.write(*scratch, self.phase, self.at)?;
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
