//! What a pass must move through memory, and what it needs beside its batch: from the plan.

use std::collections::BTreeSet;

use rlc_compiler::clif::Float;
use rlc_compiler::hir::ColumnId;
use rlc_compiler::level::VOCAB;
use rlc_compiler::loops::{Item, Loop, Op, Plan, SlotId, SlotKind, Step, Sweep};
use rlc_compiler::program::Phase;
use rlc_compiler::shape::Shape;

/// Bytes of one pass over the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bytes {
    /// Vocab-level columns, each entry once.
    pub logits: usize,
    /// Vocab-level gradients, each entry once.
    pub gradients: usize,
    /// Other columns as the batch has them, and structure, once.
    pub columns: usize,
    /// Outputs below vocab level, once.
    pub outputs: usize,
    /// What loops and sweeps read, each array once per loop or sweep.
    pub read: usize,
    /// What they write, counted likewise.
    pub written: usize,
}

impl Bytes {
    /// No pass moves less: every array once.
    pub fn least(&self) -> usize {
        self.logits + self.gradients + self.columns + self.outputs
    }
}

/// A plan on a batch.
pub struct Cost<'a> {
    plan: &'a Plan,
    shape: &'a Shape,
    floats: &'a [(ColumnId, Float)],
    columns: &'a [(ColumnId, usize)],
}

impl Cost<'_> {
    /// Looks at a plan. `floats` has the number types of its vocab-level columns, `columns` the bytes of a
    /// number of the others; 8 for those it lacks.
    pub fn new<'a>(
        plan: &'a Plan,
        shape: &'a Shape,
        floats: &'a [(ColumnId, Float)],
        columns: &'a [(ColumnId, usize)],
    ) -> Cost<'a> {
        Cost { plan, shape, floats, columns }
    }

    /// What a pass moves.
    pub fn bytes(&self) -> Bytes {
        let mut bytes = Bytes::default();
        for (_, slot) in self.plan.all_slots() {
            let size = self.size(slot.level, slot.kind);
            match slot.kind {
                SlotKind::Entries(_) => bytes.logits += size,
                SlotKind::Gradient(_) => bytes.gradients += size,
                SlotKind::Column(_)
                | SlotKind::Param(_)
                | SlotKind::Side(_)
                | SlotKind::Parents(_)
                | SlotKind::Starts(_) => bytes.columns += size,
                SlotKind::Stored
                | SlotKind::Folded(_)
                | SlotKind::Carried(_)
                | SlotKind::Ring(_)
                | SlotKind::Scratch(_) => {}
            }
        }
        let outputs: BTreeSet<SlotId> = self.plan.outputs.iter().map(|o| o.slot).collect();
        let below = |s: &&SlotId| self.plan.slot(**s).level != VOCAB;
        bytes.outputs = outputs.iter().filter(below).map(|s| self.slot(*s)).sum();
        for (_, steps) in self.plan.phases() {
            for step in steps {
                match step {
                    Step::Loop(of) => self.of_loop(of, &mut bytes),
                    Step::Call(of) => {
                        bytes.read += of.slots().map(|s| self.slot(s)).sum::<usize>();
                        bytes.written += self.slot(of.into);
                    }
                }
            }
        }
        bytes
    }

    /// What the live stage must move below vocab level: each array that it takes from outside once, and each output.
    pub fn live(&self) -> usize {
        let (mut read, mut written) = (BTreeSet::new(), BTreeSet::new());
        for step in self.plan.steps(Phase::Live) {
            match step {
                Step::Loop(of) => {
                    let (its, own) = self.touched(of);
                    read.extend(its);
                    written.extend(own);
                }
                Step::Call(of) => {
                    read.extend(of.slots());
                    written.insert(of.into);
                }
            }
        }
        let outputs: BTreeSet<SlotId> = self.plan.outputs.iter().map(|o| o.slot).collect();
        let below = |s: &&SlotId| self.plan.slot(**s).level != VOCAB;
        let taken = read.difference(&written);
        taken.chain(written.intersection(&outputs)).filter(below).map(|s| self.slot(*s)).sum()
    }

    /// What a kernel holds beside the batch's logits and their gradient.
    pub fn memory(&self) -> usize {
        let own = self
            .plan
            .slots
            .iter()
            .filter(|s| !matches!(s.kind, SlotKind::Entries(_) | SlotKind::Gradient(_)));
        own.map(|s| self.size(s.level, s.kind)).sum()
    }

    /// Sweeps over the vocab row of a token.
    pub fn sweeps(&self) -> usize {
        let items = self.plan.loops().flat_map(|l| &l.body);
        items.filter(|i| matches!(i, Item::Sweep(_))).count()
    }

    /// What the rows of a loop read and write, sweeps apart.
    fn touched(&self, of: &Loop) -> (BTreeSet<SlotId>, BTreeSet<SlotId>) {
        let (mut read, mut written) = (BTreeSet::new(), BTreeSet::new());
        read.extend(of.head.iter().filter_map(|(_, op)| op.slot()));
        for level in of.scopes(self.plan) {
            read.extend(self.plan.parents(level, of.level));
        }
        for item in &of.body {
            match item {
                // An entry by its number is one of a row that a sweep reads.
                Item::Let(_, op) => {
                    read.extend(op.slot().filter(|_| !matches!(op, Op::EntryAt(..))));
                }
                Item::Store(slot, _) => {
                    written.insert(*slot);
                }
                Item::Fold { into, scale, .. } => {
                    for slot in std::iter::once(*into).chain(*scale) {
                        read.insert(slot);
                        written.insert(slot);
                    }
                }
                Item::Spread(_, of) | Item::SpreadAt { of, .. } => {
                    read.extend([of.d, of.index, of.starts]);
                }
                Item::Sweep(_) | Item::Scan { .. } | Item::Shift { .. } => {}
            }
        }
        (read, written)
    }

    fn of_loop(&self, of: &Loop, bytes: &mut Bytes) {
        let (read, written) = self.touched(of);
        for item in &of.body {
            if let Item::Sweep(sweep) = item {
                self.of_sweep(sweep, bytes);
            }
        }
        bytes.read += read.iter().map(|s| self.slot(*s)).sum::<usize>();
        bytes.written += written.iter().map(|s| self.slot(*s)).sum::<usize>();
    }

    fn of_sweep(&self, sweep: &Sweep, bytes: &mut Bytes) {
        let read: BTreeSet<SlotId> = sweep
            .body
            .iter()
            .filter_map(|(_, op)| op.slot())
            .filter(|s| matches!(self.plan.slot(*s).kind, SlotKind::Entries(_)))
            .collect();
        bytes.read += read.iter().map(|s| self.slot(*s)).sum::<usize>();
        bytes.written += sweep.gradients.iter().map(|(s, _)| self.slot(*s)).sum::<usize>();
    }

    /// Bytes of an entry of a vocab-level column.
    fn width(&self, column: ColumnId) -> usize {
        let float = self.floats.iter().find(|(id, _)| *id == column);
        width(float.map_or(Float::F32, |f| f.1))
    }

    fn slot(&self, id: SlotId) -> usize {
        let slot = self.plan.slot(id);
        self.size(slot.level, slot.kind)
    }

    fn size(&self, level: rlc_compiler::level::Level, kind: SlotKind) -> usize {
        let rows = self.shape.count(level);
        match kind {
            SlotKind::Column(column) => {
                self.columns.iter().find(|(id, _)| *id == column).map_or(8, |c| c.1) * rows
            }
            SlotKind::Side(_) | SlotKind::Stored | SlotKind::Folded(_) => 8 * rows,
            SlotKind::Param(_) => 8,
            SlotKind::Carried(numbers) => 8 * numbers * rows,
            SlotKind::Ring(length) => 8 * length,
            SlotKind::Scratch(numbers) => 8 * numbers * self.shape.vocab,
            SlotKind::Parents(_) => 4 * rows,
            SlotKind::Starts(_) => 4 * (rows + 1),
            // In the type of the logits; f32 for those of f64.
            SlotKind::Gradient(column) => self.width(column).min(4) * self.shape.count(VOCAB),
            SlotKind::Entries(column) => self.width(column) * self.shape.count(VOCAB),
        }
    }
}

/// Bytes of a number.
fn width(float: Float) -> usize {
    match float {
        Float::Bf16 | Float::F16 => 2,
        Float::F32 => 4,
        Float::F64 => 8,
    }
}

#[cfg(test)]
mod tests {
    use rlc_compiler::fuse::fuse;
    use rlc_compiler::source::{Source, Sources};
    use rlc_compiler::specialize::{Settings, specialize};
    use rlc_compiler::stdlib;

    use super::super::Dtype;
    use super::super::batch::{Wanted, build};
    use super::*;

    #[test]
    fn the_live_stage_moves_its_columns_and_its_gradient() {
        let (name, text) = stdlib::objective("grpo").unwrap();
        let mut sources = Sources::default();
        let source = Source { name: name.into(), text: text.into(), library: true };
        let root = sources.add(source);
        let checked = rlc_compiler::check(&mut sources, root, &rlc_compiler::link::NoFiles).0;
        let offered = ["token/logp", "token/old_logp", "token/mask"].map(str::to_owned);
        let settings =
            Settings { present: Some(offered.into_iter().collect()), ..Settings::default() };
        let program = specialize(&checked.unwrap(), &settings).unwrap().program;
        let plan = fuse(&program).unwrap();
        let wanted = Wanted {
            tokens: 4000,
            vocab: 8,
            dtype: Dtype::F32,
            hidden: None,
            groups: Some(1),
            rollouts: Some(4),
            temperature: 1.0,
        };
        let table = build(&program, &wanted).unwrap();
        let shape = Shape::new(&program.graph.level_table, &table).unwrap();
        let live = Cost::new(&plan, &shape, &[], &[]).live();
        // logp, old_logp, mask and the gradient in f64, the rollout of each token in 32 bits, and a few coarse rows.
        let tokens = (4 * 8 + 4) * 4000;
        assert!((tokens..tokens + 1000).contains(&live), "{live} for {tokens}");
    }
}
