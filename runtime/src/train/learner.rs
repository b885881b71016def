//! What the loop asks of an objective: which columns it reads, and for each optimiser step a whole
//! table first, then gradients of the logits piece by piece. The loop knows nothing of programs,
//! stages or kernels, and tests drive it with gradients written by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use candle_core::{DType, Device, Tensor};
use rlc_compiler::table::Table;
use serde::{Deserialize, Serialize};

use super::error::Result;
use super::place::Place;
use crate::objective::{HeadGrads, Hidden, Room, Samples};

/// A `state` of the program between steps.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StateValue {
    /// Keys of a keyed state; empty for a state of the batch.
    pub keys: Vec<i64>,
    /// One value per key, or one in all.
    #[serde(with = "exact")]
    pub values: Vec<f64>,
}

/// Numbers as text: JSON has no infinities, and its readers may miss the last bit, which a resumed run
/// would show.
mod exact {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(ToString::to_string))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts.iter().map(|t| t.parse().map_err(D::Error::custom)).collect()
    }
}

/// All states by name.
pub type State = BTreeMap<String, StateValue>;

/// What an optimiser step's objective came to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// The loss over the whole batch.
    pub loss: f64,
    /// The program's metrics.
    pub metrics: BTreeMap<String, f64>,
    /// The states after this batch.
    pub state: State,
    /// What the program's `sample` statements say of the batch's groups.
    pub samples: Samples,
}

/// What a program reads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reads {
    /// Offered columns that it reads, those of its metrics included.
    pub columns: BTreeSet<String>,
    /// Columns that it cannot do without and that were not offered.
    pub missing: Vec<String>,
    /// Metrics left out, each with the columns it lacks.
    pub left_out: Vec<(String, Vec<String>)>,
    /// The finest level at which a batch may be cut.
    pub coupling: String,
    /// The program says `sample weight`.
    pub sample_weight: bool,
    /// The program says `sample rollouts`.
    pub sample_rollouts: bool,
}

/// An objective, ready for batches.
pub trait Learner {
    /// Which columns the program reads under the present params, from a run that offers `offered`
    /// (as `level/name`).
    fn reads(&mut self, offered: &BTreeSet<String>) -> Result<Reads>;
    /// Sets the param `temperature`, where the program has one, to the sampler's.
    fn set_temperature(&mut self, temperature: f64) -> Result<()>;
    /// Says where the model computes, and so where its logits will lie.
    fn set_place(&mut self, _place: &Place) -> Result<()> {
        Ok(())
    }
    /// Runs what does not depend on the weights, over the whole batch.
    fn begin<'a>(&'a mut self, table: &'a Table, vocab: usize) -> Result<Box<dyn Update + 'a>>;
    /// The states.
    fn state(&self) -> State;
    /// Puts states in place: after the last update of a batch, and on resuming.
    fn set_state(&mut self, state: State) -> Result<()>;
}

/// A batch under way: passes through the objective, one for each optimiser step.
pub trait Update {
    /// The finest legal cut: consecutive ranges of rollouts.
    fn pieces(&self) -> Vec<Range<usize>>;
    /// Gradient of the loss with respect to the logits `[tokens of the rollouts, vocab]`.
    fn live(&mut self, rollouts: Range<usize>, logits: &[f32]) -> Result<Vec<f32>>;
    /// The same from hidden states: writes the gradient with respect to them, `[tokens, H]`, to `d_hidden`, and
    /// adds that of the output projection, `[V, H]`, to `d_head`. `room` is memory for logits; without a way of
    /// its own from hidden states an objective sees all logits of the rollouts at once.
    fn live_hidden(
        &mut self,
        rollouts: Range<usize>,
        hidden: Hidden<'_>,
        d_hidden: &mut [f32],
        d_head: &mut [f32],
        _room: &mut Room,
    ) -> Result<()> {
        let d_logits = self.live(rollouts, &hidden.logits())?;
        let mut grads = HeadGrads { weight: Some(d_head), ..HeadGrads::default() };
        hidden.backward(&d_logits, d_hidden, &mut grads);
        Ok(())
    }
    /// [`Update::live`] on the device that has the logits: the gradient has their shape, type and device. An objective
    /// without kernels there gets them on the CPU, in f32.
    fn live_logits(&mut self, rollouts: Range<usize>, logits: Tensor) -> Result<Tensor> {
        on_host(self, rollouts, &logits)
    }
    /// Whether the gradient that [`Update::live_logits`] gives takes the place of the logits.
    fn in_place(&self) -> bool {
        false
    }
    /// Loss, metrics and states, once every piece has been through. Then the pieces come anew, for the next
    /// optimiser step on the same batch.
    fn finish(&mut self) -> Result<Outcome>;
}

/// The gradient of logits that lie anywhere from an update on the CPU, in f32: their shape, type and device.
pub fn on_host<U: Update + ?Sized>(
    update: &mut U,
    rollouts: Range<usize>,
    logits: &Tensor,
) -> Result<Tensor> {
    let values = logits.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
    let gradient = update.live(rollouts, &values)?;
    if gradient.is_empty() {
        // The loss reads no logits.
        return Ok(logits.zeros_like()?);
    }
    let gradient = Tensor::from_vec(gradient, logits.shape(), &Device::Cpu)?;
    Ok(gradient.to_dtype(logits.dtype())?.to_device(logits.device())?)
}

/// Joins consecutive pieces while they fit into `budget`; a single piece may exceed it.
pub fn join_pieces(
    pieces: &[Range<usize>],
    cost: impl Fn(Range<usize>) -> usize,
    budget: usize,
) -> Vec<Range<usize>> {
    let mut joined: Vec<(Range<usize>, usize)> = Vec::new();
    for piece in pieces {
        let own = cost(piece.clone());
        match joined.last_mut() {
            Some((last, used)) if last.end == piece.start && *used + own <= budget => {
                last.end = piece.end;
                *used += own;
            }
            _ => joined.push((piece.clone(), own)),
        }
    }
    joined.into_iter().map(|(range, _)| range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_kept_to_the_last_bit() {
        let values = vec![0.329_872_500_000_000_07, f64::NEG_INFINITY, 1e-310, -0.0];
        let state = StateValue { keys: vec![], values };
        let text = serde_json::to_string(&state).unwrap();
        let again: StateValue = serde_json::from_str(&text).unwrap();
        let bits = |s: &StateValue| s.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&state), bits(&again));
    }

    #[test]
    fn pieces_fill_the_budget() {
        let pieces: Vec<Range<usize>> = (0..6).map(|i| i..i + 1).collect();
        let cost = |r: Range<usize>| r.sum::<usize>() + 1;
        assert_eq!(join_pieces(&pieces, cost, 6), [0..3, 3..4, 4..5, 5..6]);
        assert_eq!(join_pieces(&pieces, |r| r.len(), 4), [0..4, 4..6]);
    }
}
