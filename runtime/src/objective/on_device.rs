//! A piece whose logits lie on the device that runs the live stage.

use std::ops::Range;

use rlc_compiler::interp::emptied;
use rlc_compiler::level::{ROLLOUT, TOKEN};

use super::ObjectiveError;
use super::step::{Run, Step};
use crate::device::{DeviceError, Resident};

impl Step<'_> {
    /// [`Step::live`] from logits in the device's memory, `[tokens of these rollouts, V]`; their gradient, of the same
    /// number type, is written where `logits` says. For steps begun with [`super::Logits::OnDevice`].
    ///
    /// True where it was written: the loss may read no logits. Nobody looks at the gradient here: what is not finite shows
    /// in the loss.
    pub fn live_on_device(
        &mut self,
        rollouts: Range<usize>,
        logits: Resident,
    ) -> Result<bool, ObjectiveError> {
        self.check_next(&rollouts)?;
        if self.workers.several() {
            let why = "a GPU runs the batch of one worker".to_owned();
            return Err(ObjectiveError::Backend(why));
        }
        self.make_room();
        let tokens = self.shape.range(ROLLOUT, rollouts.clone(), TOKEN);
        let width = self.shape.vocab;
        let entries = tokens.start * width..tokens.end * width;
        let rows = self.piece_rows(&rollouts);
        let column = self.logits_id();
        let vocab = self.table_vocab();
        let resident: Vec<_> = column.map(|column| (column, logits)).into_iter().collect();
        let mut outputs = self.spare.outputs(self.grads, &entries);
        match &mut self.run {
            Run::Cpu(run) => run.live_resident(rows, &vocab, &mut outputs, &resident)?,
            // `begin` has refused it.
            Run::Interp(_) => {
                return Err(DeviceError::Order("the interpreter has no memory on a device").into());
            }
        }
        self.spare.outputs = emptied(outputs);
        self.spare.vocab = vocab.emptied();
        self.next = rollouts.end;
        let grads = &self.specialized.program.grads;
        Ok(grads.iter().any(|(id, g)| Some(*id) == column && g.is_some()))
    }
}
