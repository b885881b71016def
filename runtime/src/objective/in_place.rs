//! A piece whose gradient takes the place of its logits.

use std::ops::Range;

use rlc_compiler::level::{ROLLOUT, TOKEN};

use super::ObjectiveError;
use super::step::{Run, Step};
use crate::device::cpu;
use crate::device::{Entries, Gradient};

impl Step<'_> {
    /// Whether the gradient of the logits may take their place: the program reads none after their gradient is known.
    pub fn in_place(&self) -> bool {
        let column = self.logits_id().filter(|_| self.live);
        column.is_some_and(|c| match &self.run {
            Run::Cpu(run) => run.in_place(c),
            Run::Interp(_) => false,
        })
    }

    /// [`Step::live`] that writes the gradient over the logits, `[tokens of these rollouts, V]`: no second array
    /// of that size exists, unless the program reads logits after their gradient is known. For steps begun
    /// with [`super::Logits::Live`], or with [`super::Logits::LiveAs`] for logits of another type: the gradient has
    /// the type of the logits, rounded once.
    ///
    /// Logits that are gone cannot be looked at: what is not finite is named by its place only.
    pub fn live_in_place<'l>(
        &mut self,
        rollouts: Range<usize>,
        logits: impl Into<Entries<'l>>,
    ) -> Result<(), ObjectiveError> {
        let mut logits = logits.into();
        let tokens = self.shape.range(ROLLOUT, rollouts.clone(), TOKEN);
        let width = self.shape.vocab;
        self.make_room();
        let alone = self.grads.is_empty();
        let Some(column) = self.logits_id().filter(|_| alone && self.in_place()) else {
            // Empty where the loss reads no logits.
            let into = std::mem::take(&mut self.spare.gradient);
            let gradient = self.live_of(rollouts, Some(logits.floats()), into)?.logits;
            logits.set(&gradient);
            self.spare.gradient = gradient;
            return finite(&logits, tokens.start, width);
        };
        self.check_next(&rollouts)?;
        let rows = self.piece_rows(&rollouts);
        let vocab = self.table_vocab();
        if let Run::Cpu(run) = &mut self.run {
            let over = Some(Gradient { column, data: logits.reborrow() });
            let room = &mut cpu::Room::default();
            let mut sources = cpu::Sources { each: &mut [], over, room, tokens: 1 };
            let workers = &mut self.workers;
            workers.merging(|m| run.live_from(rows, &vocab, &mut [], &mut sources, m))?;
        }
        self.spare.vocab = vocab.emptied();
        self.next = rollouts.end;
        finite(&logits, tokens.start, width)
    }
}

/// Refuses a gradient, of tokens from `first` on, that is not finite.
fn finite(gradient: &Entries<'_>, first: usize, width: usize) -> Result<(), ObjectiveError> {
    let Some(bad) = gradient.not_finite() else { return Ok(()) };
    Err(ObjectiveError::NotFinite(format!(
        "the gradient of `logits` is {} at token {} of the batch, entry {}; given apart from its gradient, `logits` says why",
        gradient.floats().get(bad),
        first + bad / width.max(1),
        bad % width.max(1),
    )))
}
