//! What the sweeps of a loop know of the row at which it stands: later ones use what earlier ones found.

use rlc_compiler::loops::SlotId;

use crate::device::cpu::rows::Statistics;

/// What one sweep over a distribution exp(scale * l) found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub slot: SlotId,
    pub scale: f64,
    pub moment: bool,
    pub square: bool,
    /// A second column, and the share of the first that is taken off.
    pub beside: Option<(SlotId, f64)>,
    pub statistics: Statistics,
}

/// Of the row at which the loop stands.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    pub found: Vec<Found>,
    /// The least and the largest logit.
    pub ends: Vec<(SlotId, (f64, f64))>,
}

impl Memory {
    /// A new row.
    pub fn clear(&mut self) {
        self.found.clear();
        self.ends.clear();
    }

    /// Statistics of a distribution, with what is asked for.
    pub fn statistics(
        &self,
        (slot, scale): (SlotId, f64),
        moment: bool,
        square: bool,
        beside: Option<(SlotId, f64)>,
    ) -> Option<&Statistics> {
        let fits = |f: &&Found| {
            (f.slot, f.scale) == (slot, scale)
                && (f.moment || !moment)
                && (f.square || !square)
                && (f.beside == beside || beside.is_none())
        };
        self.found.iter().find(fits).map(|f| &f.statistics)
    }

    /// The largest logit of a row, if a sweep has seen it.
    pub fn highest(&self, slot: SlotId) -> Option<f64> {
        let found = self.found.iter().find(|f| f.slot == slot);
        let ends = || self.ends.iter().find(|e| e.0 == slot).map(|e| e.1.1);
        found.map(|f| f.statistics.max / f.scale).or_else(ends)
    }

    /// Whether a row is known to have finite entries only.
    pub fn is_finite(&self, slot: SlotId) -> Option<bool> {
        let beside = |f: &&Found| {
            f.beside.is_some_and(|b| b.0 == slot || f.slot == slot)
                && f.statistics.lowest.is_finite()
        };
        let finite = |(low, high): (f64, f64)| low.is_finite() && high.is_finite();
        let ends = || self.ends.iter().find(|e| e.0 == slot).map(|e| finite(e.1));
        self.found.iter().find(beside).map(|_| true).or_else(ends)
    }
}
