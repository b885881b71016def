//! Whether a gradient may be written over the entries that it belongs to.

use super::{Item, Op, Plan, SlotId, SlotKind, Step};
use crate::hir::ColumnId;

impl Plan {
    /// Whether the gradient of a vocab-level column may take the place of its entries, row by row: the sweep that
    /// writes it is the last that reads the row. No later item, loop or phase does, and no output is the column.
    ///
    /// Sweeps read each block of entries before they write it. False for a column without a gradient.
    pub fn in_place(&self, column: ColumnId) -> bool {
        let slot = |kind| self.all_slots().find(|(_, s)| s.kind == kind).map(|(id, _)| id);
        let Some(gradient) = slot(SlotKind::Gradient(column)) else { return false };
        let entries = slot(SlotKind::Entries(column));
        let mut written = false;
        for step in self.phases().into_iter().flat_map(|(_, steps)| steps) {
            let body = match step {
                Step::Loop(of) => of.body.as_slice(),
                Step::Call(_) => {
                    if written && entries.is_some_and(|e| step.reads(e)) {
                        return false;
                    }
                    continue;
                }
            };
            for item in body {
                if written && entries.is_some_and(|e| item.reads_entries(e)) {
                    return false;
                }
                if item.writes_gradient(gradient) {
                    if written {
                        return false;
                    }
                    written = true;
                }
            }
        }
        written && !self.outputs.iter().any(|o| Some(o.slot) == entries)
    }
}

impl Item {
    fn reads_entries(&self, entries: SlotId) -> bool {
        let of = |op: &Op| op.slot() == Some(entries);
        match self {
            Item::Let(_, op) => of(op),
            Item::Sweep(sweep) => sweep.body.iter().any(|(_, op)| of(op)),
            // Their slots hold a number a row.
            Item::Scan { .. }
            | Item::Shift { .. }
            | Item::Store(..)
            | Item::Fold { .. }
            | Item::Spread(..)
            | Item::SpreadAt { .. } => false,
        }
    }

    fn writes_gradient(&self, gradient: SlotId) -> bool {
        match self {
            Item::Sweep(sweep) => sweep.gradients.iter().any(|g| g.0 == gradient),
            Item::Let(..)
            | Item::Scan { .. }
            | Item::Shift { .. }
            | Item::Store(..)
            | Item::Fold { .. }
            | Item::Spread(..)
            | Item::SpreadAt { .. } => false,
        }
    }
}
