//! What a step reads of its models: the reference, wherever it waits, and whole logits.

use candle_core::Device;
use rlc_compiler::table::{Array, Data, Table};
use rlc_model::Model;

use super::super::batch::Batch;
use super::super::error::Result;
use super::super::forward;
use super::super::rollouts::model as model_error;
use super::Trainer;

impl Trainer {
    /// Lends the reference model, where there is one, on the device that computes.
    pub(super) fn with_reference<R>(
        &self,
        use_it: impl FnOnce(&Model) -> Result<R>,
    ) -> Result<Option<R>> {
        let Some(reference) = &self.reference else { return Ok(None) };
        if !self.config.model.offload_reference {
            return use_it(reference).map(Some);
        }
        use_it(&reference.copy(self.place.device()).map_err(model_error)?).map(Some)
    }

    /// Where the reference model waits.
    pub(super) fn reference_device(&self) -> &Device {
        if self.config.model.offload_reference { &Device::Cpu } else { self.place.device() }
    }

    /// The reference's logits and those of the policy before its first update, where they are read.
    pub(super) fn add_logits(&self, table: &mut Table, batch: &Batch) -> Result<()> {
        let shape = vec![batch.tokens(0..batch.rollouts.len()), self.model.config().vocab_size];
        let budget = self.config.optimizer.micro_batch_tokens;
        let logits = |model: &Model| forward::frozen_logits(model, &batch.rollouts, budget);
        let mut add = |name: &str, values: Vec<f32>| {
            let array = Array { data: Data::F32(values), shape: shape.clone() };
            table.arrays.insert(name.to_owned(), array);
        };
        if self.needs("vocab/old_logits") {
            add("vocab/old_logits", logits(&self.model)?);
        }
        if self.needs("vocab/ref_logits")
            && let Some(values) = self.with_reference(logits)?
        {
            add("vocab/ref_logits", values);
        }
        Ok(())
    }
}
