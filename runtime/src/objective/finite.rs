//! Whether what a batch came to is finite, and where it stopped being so.

use std::ops::{AddAssign, Mul, Range};
use std::sync::Arc;

use rlc_compiler::columns;
use rlc_compiler::interp::{self, Vocab};
use rlc_compiler::level::{TOKEN, VOCAB};
use rlc_compiler::trace::Search;

use super::step::{Run, Step};
use super::{ObjectiveError, vocab_columns};

/// Whether no number is infinite or NaN: a pass at the speed of memory, which a search that may end early is not.
pub(super) fn all_finite<T>(numbers: &[T]) -> bool
where
    T: Copy + Default + Into<f64> + Mul<Output = T> + AddAssign,
{
    // Such a number times 0 is NaN, and so is every sum with it.
    let chunk_is = |chunk: &[T]| {
        let mut lanes = [T::default(); 16];
        let (whole, rest) = chunk.as_chunks::<16>();
        for part in whole {
            for (lane, x) in lanes.iter_mut().zip(part) {
                *lane += *x * T::default();
            }
        }
        lanes.iter().chain(rest).all(|x| (*x).into().is_finite())
    };
    numbers.chunks(1 << 14).all(chunk_is)
}

impl Step<'_> {
    /// Finds, with the interpreter, where a piece stopped being finite.
    pub(super) fn not_finite(
        &self,
        rows: Range<usize>,
        tokens: Range<usize>,
        vocab: &Vocab<'_>,
    ) -> ObjectiveError {
        let program = Arc::clone(&self.specialized.program);
        let shape = Arc::clone(&self.shape);
        let columns = match self.columns() {
            Ok(columns) => columns,
            Err(e) => return e,
        };
        let mut run = interp::Run::new(Arc::clone(&program), shape, &columns, self.params);
        run.recorded(&vocab_columns(&self.specialized, self.table, Vocab::default()));
        run.live(rows, vocab);
        let search = Search { program: &program, shape: &self.shape, run: &run, vocab };
        let found = search.gradients(tokens).unwrap_or_else(|| {
            "a gradient is not finite in f32, though it is in f64: it exceeds 3.4e38".to_owned()
        });
        ObjectiveError::NotFinite(found)
    }

    /// All columns as the interpreter takes them.
    fn columns(&self) -> Result<columns::Columns, ObjectiveError> {
        Ok(columns::load(self.program(), self.table, self.state, &self.shape, self.live)?)
    }

    /// Refuses a loss or a gradient that is not finite, naming where it stopped being so.
    pub(super) fn check_finite(&self, vocab: &Vocab<'_>) -> Result<(), ObjectiveError> {
        let program = &self.specialized.program;
        let loss = self.value(program.loss).first().copied().unwrap_or(0.0);
        let finite = program.grads.iter().all(|(id, grad)| match grad {
            Some(e) if program.graph.columns[id.0 as usize].level != VOCAB => {
                all_finite(self.value(*e))
            }
            _ => match &self.run {
                Run::Interp(run) => all_finite(&run.grad(*id)),
                // Each piece's was checked as it ran.
                Run::Cpu(_) => true,
            },
        });
        if loss.is_finite() && finite {
            return Ok(());
        }
        if self.live && !self.logits_id().is_some_and(|id| vocab.contains(&id)) {
            return Err(ObjectiveError::NotFinite(format!(
                "the loss is {loss}, while the gradients of every piece are finite; `rlc eval` on this batch names the place"
            )));
        }
        let mut run = interp::Run::new(
            Arc::clone(program),
            Arc::clone(&self.shape),
            &self.columns()?,
            self.params,
        );
        run.whole(vocab);
        let search = Search { program, shape: &self.shape, run: &run, vocab };
        let found = search
            .loss()
            .or_else(|| search.gradients(0..self.shape.count(TOKEN)))
            .unwrap_or_else(|| format!("the loss is {loss} in f32, though it is finite in f64"));
        Err(ObjectiveError::NotFinite(found))
    }
}
