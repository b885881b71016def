//! A piece whose gradient takes the place of its logits.

use std::ops::Range;

use rlc_compiler::level::{ROLLOUT, TOKEN};

use super::ObjectiveError;
use super::step::{Run, Step};
use crate::device::Gradient;
use crate::device::cpu;

impl Step<'_> {
    /// Whether the gradient of the logits may take their place: the program reads none after their gradient is known.
    pub fn in_place(&self) -> bool {
        let column = self.logits_id().filter(|_| self.live);
        column.is_some_and(|c| match &self.run {
            Run::Cpu(run) => run.in_place(c) && self.grads.is_empty(),
            Run::Interp(_) => false,
        })
    }

    /// [`Step::live`] that writes the gradient over the logits, `[tokens of these rollouts, V]`: no second array
    /// of that size exists, unless the program reads logits after their gradient is known. For steps begun
    /// with [`super::Logits::Live`].
    ///
    /// Logits that are gone cannot be looked at: what is not finite is named by its place only.
    pub fn live_in_place(
        &mut self,
        rollouts: Range<usize>,
        logits: &mut [f32],
    ) -> Result<(), ObjectiveError> {
        let tokens = self.shape.range(ROLLOUT, rollouts.clone(), TOKEN);
        let width = self.shape.vocab;
        self.make_room();
        let Some(column) = self.logits_id().filter(|_| self.in_place()) else {
            let gradient = self.live(rollouts, Some(logits))?.logits;
            match gradient.len() {
                // The loss reads no logits.
                0 => logits.fill(0.0),
                _ => logits.copy_from_slice(&gradient),
            }
            return Ok(());
        };
        self.check_next(&rollouts)?;
        let rows = self.piece_rows(&rollouts);
        let vocab = self.table_vocab();
        if let Run::Cpu(run) = &mut self.run {
            let over = Some(Gradient { column, data: logits });
            let room = &mut cpu::Room::default();
            let mut sources = cpu::Sources { each: &mut [], over, room, tokens: 1 };
            let workers = &mut self.workers;
            workers.merging(|m| run.live_from(rows, &vocab, &mut [], &mut sources, m))?;
        }
        self.next = rollouts.end;
        let Some(bad) = logits.iter().position(|g| !g.is_finite()) else { return Ok(()) };
        Err(ObjectiveError::NotFinite(format!(
            "the gradient of `logits` is {} at token {} of the batch, entry {}; given apart from its gradient, `logits` says why",
            logits[bad],
            tokens.start + bad / width.max(1),
            bad % width.max(1),
        )))
    }
}
