//! Log-probs of given tokens without a gradient, in bounded memory.
//!
//! For a reference model and for recomputing old log-probs: the training pass in parts, so that neither the hidden states
//! of everything nor an array `[tokens, vocab]` ever exists.
#![allow(
    clippy::inline_always,
    reason = "kernels must be inlined into their dispatch, see simd.rs"
)]

use candle_core::{DType, Tensor};

use crate::error::{ModelError, Result};
use crate::model::{How, Model};
use crate::ops::{ROWS_PER_TASK, map_each, with_slice};
use crate::simd::{Kernel, exp_sum, max, run};

/// Tokens whose hidden states exist at once (at least one whole sequence).
const TOKENS: usize = 8192;
/// Logits that exist at once on the CPU, in its caches.
const LOGITS: usize = 1 << 22;
/// On a device.
const THERE: usize = 1 << 27;

/// The log-prob of `targets[i]` after the packed row `rows[i]`, at `temperature` (above 0).
///
/// `ids` and `lengths` are as in [`Model::forward`]; row r predicts token r + 1 of the concatenation. `rows` ascends.
pub fn logprobs(
    model: &Model,
    ids: &[u32],
    lengths: &[usize],
    rows: &[u32],
    targets: &[u32],
    temperature: f64,
) -> Result<Vec<f32>> {
    let total: usize = lengths.iter().sum();
    if total != ids.len() {
        return Err(ModelError::argument(
            "lengths",
            format!("they add up to {total}, but there are {} ids", ids.len()),
        ));
    }
    if rows.len() != targets.len() {
        return Err(ModelError::argument(
            "targets",
            format!("{} targets for {} rows", targets.len(), rows.len()),
        ));
    }
    if !rows.is_sorted() || rows.last().is_some_and(|r| *r as usize >= total) {
        return Err(ModelError::argument(
            "rows",
            format!("they must ascend and lie below the {total} packed tokens"),
        ));
    }
    check(model, targets, temperature)?;
    let mut result = Vec::with_capacity(rows.len());
    let (mut sequence, mut start) = (0, 0);
    while sequence < lengths.len() && result.len() < rows.len() {
        // The next sequences that fit together.
        let (mut end_sequence, mut end) = (sequence, start);
        while end_sequence < lengths.len()
            && (end_sequence == sequence || end + lengths[end_sequence] - start <= TOKENS)
        {
            end += lengths[end_sequence];
            end_sequence += 1;
        }
        let done = result.len();
        let count = rows[done..].iter().take_while(|r| (**r as usize) < end).count();
        if count > 0 {
            let hidden =
                model.forward_frozen(&ids[start..end], &lengths[sequence..end_sequence])?;
            let local: Vec<u32> =
                rows[done..done + count].iter().map(|r| r - start as u32).collect();
            let targets = &targets[done..done + count];
            let hidden_rows = model.hidden_rows(&hidden, &local)?;
            result.extend(logprobs_from_hidden(model, &hidden_rows, targets, temperature)?);
        }
        (sequence, start) = (end_sequence, end);
    }
    Ok(result)
}

/// The log-prob of `targets[i]` after row i of `hidden` `[targets.len(), hidden_size]`, at `temperature` (above 0): what
/// [`logprobs`] gives, for hidden states that are there already. Nothing is differentiable.
pub fn logprobs_from_hidden(
    model: &Model,
    hidden: &Tensor,
    targets: &[u32],
    temperature: f64,
) -> Result<Vec<f32>> {
    check(model, targets, temperature)?;
    if hidden.dims() != [targets.len(), model.config().hidden_size] {
        return Err(ModelError::argument(
            "hidden",
            format!("{:?} for {} targets", hidden.dims(), targets.len()),
        ));
    }
    let hidden = hidden.detach();
    let mut result = Vec::with_capacity(targets.len());
    let own = model.how() == How::Own;
    let step = (if own { LOGITS } else { THERE } / model.config().vocab_size).max(1);
    let head = model.frozen_head()?;
    for (index, targets) in targets.chunks(step).enumerate() {
        let rows = hidden.narrow(0, index * step, targets.len())?;
        let logits = model.project(&rows, &head)?;
        if own {
            with_slice(&logits, |logits| {
                result.extend(of_rows(logits, targets, (1.0 / temperature) as f32));
                Ok(())
            })?;
        } else {
            result.extend(on_device(&logits, targets, 1.0 / temperature)?);
        }
    }
    Ok(result)
}

/// The same where the logits are: one number a row comes back.
fn on_device(logits: &Tensor, targets: &[u32], inverse_temperature: f64) -> Result<Vec<f32>> {
    let scaled = (logits.to_dtype(DType::F32)? * inverse_temperature)?;
    let targets = Tensor::new(targets, logits.device())?.unsqueeze(1)?;
    let chosen = scaled.gather(&targets, 1)?.squeeze(1)?;
    Ok((chosen - scaled.log_sum_exp(1)?)?.to_vec1()?)
}

fn check(model: &Model, targets: &[u32], temperature: f64) -> Result<()> {
    if !(temperature > 0.0 && temperature.is_finite()) {
        return Err(ModelError::argument(
            "temperature",
            format!("{temperature}; it must be positive"),
        ));
    }
    model.check_ids("targets", targets)
}

fn of_rows(logits: &[f32], targets: &[u32], inverse_temperature: f32) -> Vec<f32> {
    let vocab = logits.len() / targets.len().max(1);
    let tasks: Vec<_> =
        logits.chunks(ROWS_PER_TASK * vocab).zip(targets.chunks(ROWS_PER_TASK)).collect();
    map_each(tasks, |(logits, targets)| run(Rows { logits, targets, vocab, inverse_temperature }))
        .concat()
}

struct Rows<'a> {
    logits: &'a [f32],
    targets: &'a [u32],
    vocab: usize,
    inverse_temperature: f32,
}

impl Kernel for Rows<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<const FMA: bool>(self) -> Vec<f32> {
        let mut weights = vec![0f32; self.vocab];
        let mut result = Vec::with_capacity(self.targets.len());
        for (row, target) in self.logits.chunks_exact(self.vocab).zip(self.targets) {
            weights.copy_from_slice(row);
            let largest = max(row);
            let sum = exp_sum::<FMA>(&mut weights, largest, self.inverse_temperature);
            result.push((row[*target as usize] - largest) * self.inverse_temperature - sum.ln());
        }
        result
    }
}
