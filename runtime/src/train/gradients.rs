//! The gradient of every weight: the model's hidden states go to the objective with the output projection,
//! what comes back goes through the model. Logits exist for some tokens at a time.

use std::ops::Range;

use candle_core::{DType, Tensor, Var};
use rlc_model::Model;

use super::batch::Batch;
use super::error::Result;
use super::forward;
use super::learner::Update;
use super::rollouts::model as model_error;
use crate::objective::{Head, Hidden, Room};

/// Memory that passes use again.
#[derive(Debug, Default)]
pub struct Gradients {
    room: Room,
    /// Gradient of the output projection.
    d_head: Vec<f32>,
}

impl Gradients {
    /// Sends `pieces` of a batch, in order, through `update`; gives the gradient of each of `vars`, none where the loss does
    /// not reach it. That of a tied output projection is in the embedding's. `known` are the batch's hidden states, where
    /// they have been computed with the present weights and there is one piece.
    pub fn gradients(
        &mut self,
        model: &Model,
        batch: &Batch,
        update: &mut dyn Update,
        pieces: &[Range<usize>],
        vars: &[(String, Var)],
        mut known: Option<Tensor>,
    ) -> Result<Vec<Option<Tensor>>> {
        let head = model.head();
        self.d_head.clear();
        self.d_head.resize(head.elem_count(), 0.0);
        let mut grads: Vec<Option<Tensor>> = vec![None; vars.len()];
        for piece in pieces {
            let hidden = match known.take_if(|_| piece.len() == batch.rollouts.len()) {
                Some(hidden) => hidden,
                None => forward::hidden(model, &batch.rollouts[piece.clone()])?,
            };
            let (rows, width) = hidden.dims2()?;
            let values = hidden.detach().to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            let mut d_hidden = vec![0.0; values.len()];
            let (room, d_head) = (&mut self.room, &mut self.d_head[..]);
            let lent = model.lend_head(|weight| {
                let head = Head { weight, bias: None, lora: None };
                let of = Hidden { rows: &values, width, head };
                update.live_hidden(piece.clone(), of, &mut d_hidden, d_head, room)
            });
            lent.map_err(model_error)??;
            let d_hidden = Tensor::from_vec(d_hidden, (rows, width), hidden.device())?;
            let store = rlc_model::seed_backward(&hidden, &d_hidden).map_err(model_error)?;
            for (slot, (_, var)) in grads.iter_mut().zip(vars) {
                if let Some(grad) = store.get(var) {
                    add(slot, grad)?;
                }
            }
        }
        let d_head = Tensor::from_slice(&self.d_head, head.dims(), head.device())?;
        let own = vars.iter().position(|(_, var)| var.as_tensor().id() == head.as_tensor().id());
        if let Some(slot) = own.and_then(|at| grads.get_mut(at)) {
            add(slot, &d_head)?;
        }
        Ok(grads)
    }
}

/// Adds to a sum that may be without parts so far.
fn add(sum: &mut Option<Tensor>, part: &Tensor) -> Result<()> {
    *sum = Some(match sum.take() {
        Some(sum) => (sum + part)?,
        None => part.clone(),
    });
    Ok(())
}
