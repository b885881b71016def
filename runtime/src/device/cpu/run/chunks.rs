//! Loops over vocab rows that are computed some tokens at a time.

use std::ops::Range;

use rlc_compiler::level::{Level, TOKEN};
use rlc_compiler::loops::{Direction, Loop, SlotId, SlotKind, Step};
use rlc_compiler::program::Phase;

use super::{Run, Table};
use crate::device::cpu::source::Sources;

/// What a loop touches of a computed column.
struct Touched {
    entries: Option<SlotId>,
    gradient: Option<SlotId>,
    /// The gradient takes the place of the entries.
    in_place: bool,
}

impl Run<'_> {
    /// Whether a step reads entries that are computed, or writes their gradient.
    pub(super) fn computes(&self, phase: Phase, step: usize, sources: &Sources<'_, '_>) -> bool {
        let slots = self.kernel.code.outside(phase).get(step);
        let plan = &self.kernel.plan;
        slots.into_iter().flatten().any(|slot| match plan.slot(*slot).kind {
            SlotKind::Entries(c) | SlotKind::Gradient(c) => {
                sources.each.iter().any(|s| s.column == c)
            }
            _ => false,
        })
    }

    /// Runs a loop over `tokens`, or over their rows of a finer level, in chunks that the room has
    /// memory for.
    pub(super) fn in_chunks(
        &mut self,
        phase: Phase,
        step: usize,
        table: &mut Table,
        (level, tokens): (Level, Range<usize>),
        sources: &mut Sources<'_, '_>,
    ) {
        let shape = self.shape;
        let width = shape.vocab;
        let slots = self.kernel.code.outside(phase)[step].clone();
        let Step::Loop(Loop { direction, .. }) = &self.kernel.plan.steps(phase)[step] else {
            return;
        };
        let Some(cuts) = &self.kernel.cuts[phase as usize][step] else { return };
        let first = |token: usize| {
            if level == TOKEN { token } else { shape.range(TOKEN, token..token, level).start }
        };
        let mut chunks = cuts.ranges(shape, tokens.clone(), sources.tokens, first);
        // However few tokens a chunk has, it reads the whole projection: as many chunks, of one size.
        let even = tokens.len().div_ceil(chunks.len().max(1));
        let alike = cuts.ranges(shape, tokens.clone(), even, first);
        if alike.len() <= chunks.len() {
            chunks = alike;
        }
        let most = chunks.iter().map(Range::len).fold(sources.tokens, usize::max);
        if *direction == Direction::Reverse {
            chunks.reverse();
        }
        let plan = &self.kernel.plan;
        let slot = |kind| slots.iter().copied().find(|s| plan.slot(*s).kind == kind);
        let touched: Vec<Touched> = sources
            .each
            .iter()
            .map(|of| Touched {
                entries: slot(SlotKind::Entries(of.column)),
                gradient: slot(SlotKind::Gradient(of.column)),
                in_place: plan.in_place(of.column),
            })
            .collect();
        for (at, chunk) in chunks.iter().enumerate() {
            table.begin_at(chunk.start - tokens.start);
            let each = || touched.iter().enumerate();
            for (n, of) in each() {
                let (source, buffer) = (&mut *sources.each[n].source, &mut sources.room.buffers[n]);
                if let Some(slot) = of.entries {
                    table.all[slot.index()] =
                        buffer.entries(source, chunk, width, most * width).cast();
                }
                if let Some(slot) = of.gradient {
                    let into = buffer.gradient(of.in_place, most * width);
                    table.all[slot.index()] = into.as_mut_ptr().cast();
                }
            }
            let range = match level {
                TOKEN => chunk.clone(),
                _ => shape.range(TOKEN, chunk.clone(), level),
            };
            self.rows(phase, step, table, range, chunk.start);
            for (n, of) in each().filter(|(_, of)| of.gradient.is_some()) {
                let buffer = &mut sources.room.buffers[n];
                let source = &mut *sources.each[n].source;
                let place = buffer.gradient(of.in_place, most * width);
                let next = chunks.get(at + 1).filter(|_| of.in_place && of.entries.is_some());
                match next {
                    Some(next) => source.exchange(chunk.clone(), next.clone(), place),
                    None => source.take(chunk.clone(), &place[..chunk.len() * width]),
                }
                if of.in_place {
                    buffer.held = next.cloned();
                }
            }
        }
    }
}
