//! Which reductions to the batch a step adds to and reads: workers merge their parts in between.

use super::{Item, Loop, Op, Plan, SlotId, SlotKind, Step};
use crate::hir::ReduceOp;
use crate::level::BATCH;

/// A reduction to the batch level, as the slots that a loop folds into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchFold {
    /// How.
    pub op: ReduceOp,
    /// The result, or the running maximum of a log-sum-exp.
    pub into: SlotId,
    /// The scaled sum of a log-sum-exp.
    pub scale: Option<SlotId>,
}

impl Step {
    /// The reductions to the batch that this step adds its rows to.
    pub fn batch_folds(&self, plan: &Plan) -> Vec<BatchFold> {
        let Step::Loop(Loop { level, body, .. }) = self else { return Vec::new() };
        body.iter()
            .filter_map(|item| match item {
                Item::Fold { op, into, scale, .. } => {
                    Some(BatchFold { op: *op, into: *into, scale: *scale })
                }
                Item::Let(..)
                | Item::Scan { .. }
                | Item::Shift { .. }
                | Item::Store(..)
                | Item::Spread(..)
                | Item::SpreadAt { .. }
                | Item::Sweep(_) => None,
            })
            .filter(|f| {
                let slot = plan.slot(f.into);
                // What the batch's own row folds is the same on every worker.
                slot.level == BATCH && *level != BATCH && matches!(slot.kind, SlotKind::Folded(_))
            })
            .collect()
    }

    /// Whether this step reads a slot.
    pub fn reads(&self, slot: SlotId) -> bool {
        match self {
            Step::Call(call) => call.slots().any(|s| s == slot),
            Step::Loop(Loop { head, body, .. }) => {
                let of = |op: &Op| op.slot() == Some(slot);
                head.iter().any(|(_, op)| of(op))
                    || body.iter().any(|item| match item {
                        Item::Let(_, op) => of(op),
                        Item::Sweep(sweep) => sweep.body.iter().any(|(_, op)| of(op)),
                        // A fold adds to what it finds: no reading before the merge.
                        Item::Fold { .. }
                        | Item::Scan { .. }
                        | Item::Shift { .. }
                        | Item::Store(..)
                        | Item::Spread(..)
                        | Item::SpreadAt { .. } => false,
                    })
            }
        }
    }
}
