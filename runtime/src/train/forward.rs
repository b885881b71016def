//! The model on packed rollouts: hidden states of completion tokens with a graph, logits and log-probs
//! without.

use std::ops::Range;

use candle_core::{DType, Tensor};
use rlc_model::Model;

use super::batch::{Batch, Rollout};
use super::error::Result;
use super::learner::join_pieces;
use super::rollouts::model as model_error;

/// Rollouts laid end to end, and the rows whose logits predict their completion tokens.
struct Packed {
    ids: Vec<u32>,
    lengths: Vec<usize>,
    rows: Vec<u32>,
}

fn pack(rollouts: &[Rollout]) -> Packed {
    let mut packed = Packed { ids: Vec::new(), lengths: Vec::new(), rows: Vec::new() };
    for rollout in rollouts {
        let start = packed.ids.len() + rollout.prompt.len() - 1;
        packed.ids.extend(rollout.inputs());
        packed.lengths.push(rollout.input_len());
        packed.rows.extend((start..start + rollout.tokens.len()).map(|r| r as u32));
    }
    packed
}

/// Differentiable hidden states `[completion tokens, hidden]`: those that the completion tokens' logits
/// follow from.
pub fn hidden(model: &Model, rollouts: &[Rollout]) -> Result<Tensor> {
    let packed = pack(rollouts);
    let hidden = model.forward(&packed.ids, &packed.lengths).map_err(model_error)?;
    model.hidden_rows(&hidden, &packed.rows).map_err(model_error)
}

/// Logits `[completion tokens, vocab]` of all rollouts without a graph, from passes of about `budget`
/// tokens. This array, of the size that nothing else in a step has, is for programs that read it.
pub fn frozen_logits(model: &Model, rollouts: &[Rollout], budget: usize) -> Result<Vec<f32>> {
    let single: Vec<Range<usize>> = (0..rollouts.len()).map(|i| i..i + 1).collect();
    let inputs = |r: Range<usize>| rollouts[r].iter().map(Rollout::input_len).sum();
    let tokens: usize = rollouts.iter().map(|r| r.tokens.len()).sum();
    let mut all = Vec::with_capacity(tokens * model.config().vocab_size);
    for range in join_pieces(&single, inputs, budget) {
        let packed = pack(&rollouts[range]);
        let hidden = model.forward_frozen(&packed.ids, &packed.lengths).map_err(model_error)?;
        let rows = model.hidden_rows(&hidden, &packed.rows).map_err(model_error)?;
        let logits = model.logits(&rows).map_err(model_error)?.detach().to_dtype(DType::F32)?;
        all.extend(logits.flatten_all()?.to_vec1::<f32>()?);
    }
    Ok(all)
}

/// Fills a log-prob column of the batch from the training pass at `temperature`, without a graph.
pub fn fill_logprobs(
    model: &Model,
    batch: &mut Batch,
    temperature: f64,
    column: impl Fn(&mut Rollout) -> &mut Vec<f32>,
) -> Result<()> {
    let packed = pack(&batch.rollouts);
    let targets: Vec<u32> = batch.rollouts.iter().flat_map(|r| &r.tokens).copied().collect();
    let values = rlc_model::logprobs(
        model,
        &packed.ids,
        &packed.lengths,
        &packed.rows,
        &targets,
        temperature,
    )
    .map_err(model_error)?;
    fill(batch, &values, column);
    Ok(())
}

/// Fills the log-probs of the present policy and gives the differentiable hidden states that they come from, which the
/// first update starts from: it sees the same weights, so the model runs once for both.
pub fn fill_old_logprobs(model: &Model, batch: &mut Batch, temperature: f64) -> Result<Tensor> {
    let hidden = hidden(model, &batch.rollouts)?;
    let targets: Vec<u32> = batch.rollouts.iter().flat_map(|r| &r.tokens).copied().collect();
    let values = rlc_model::logprobs_from_hidden(model, &hidden, &targets, temperature)
        .map_err(model_error)?;
    fill(batch, &values, |r| &mut r.old_logp);
    Ok(hidden)
}

/// Gives each rollout its tokens' values.
fn fill(batch: &mut Batch, mut values: &[f32], column: impl Fn(&mut Rollout) -> &mut Vec<f32>) {
    for rollout in &mut batch.rollouts {
        let (own, others) = values.split_at(rollout.tokens.len());
        *column(rollout) = own.to_vec();
        values = others;
    }
}
