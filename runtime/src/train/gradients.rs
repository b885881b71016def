//! The gradient of every weight: the model's hidden states go to the objective with the output projection,
//! what comes back goes through the model. Logits exist for some tokens at a time.

use std::ops::Range;

use candle_core::{DType, Tensor, Var};
use rlc_model::Model;

use super::batch::Batch;
use super::error::Result;
use super::forward;
use super::learner::{Update, join_pieces};
use super::rollouts::model as model_error;
use crate::device::cuda::product::{Factor, Products};
use crate::objective::{Head, Hidden, Room};

/// Memory that passes use again.
#[derive(Debug, Default)]
pub struct Gradients {
    room: Room,
    /// Gradient of the output projection.
    d_head: Vec<f32>,
    products: Products,
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
        if !model.own_ops() {
            return self.on_device(model, batch, update, pieces, vars, known);
        }
        let head = model.head();
        self.d_head.clear();
        self.d_head.resize(head.elem_count(), 0.0);
        let mut grads: Vec<Option<Tensor>> = vec![None; vars.len()];
        for piece in pieces {
            let hidden = hidden_of(model, batch, piece, &mut known)?;
            let (rows, width) = hidden.dims2()?;
            let values = hidden.detach().flatten_all()?.to_vec1::<f32>()?;
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
        add_head(&mut grads, vars, head, &d_head)?;
        Ok(grads)
    }

    /// The same on the model's device. The projection's gradient is summed in f32, wherever the parts are cut.
    fn on_device(
        &self,
        model: &Model,
        batch: &Batch,
        update: &mut dyn Update,
        pieces: &[Range<usize>],
        vars: &[(String, Var)],
        mut known: Option<Tensor>,
    ) -> Result<Vec<Option<Tensor>>> {
        let mut grads: Vec<Option<Tensor>> = vec![None; vars.len()];
        let head = model.frozen_head().map_err(model_error)?;
        let d_head = Tensor::zeros(head.shape(), DType::F32, head.device())?;
        let tokens = |r: Range<usize>| batch.tokens(r);
        let finest = update.pieces();
        for piece in pieces {
            let hidden = hidden_of(model, batch, piece, &mut known)?;
            // The finest cut of this piece.
            let inside = |p: &&Range<usize>| piece.start <= p.start && p.end <= piece.end;
            let fine: Vec<_> =
                finest.iter().filter(inside).filter(|p| !p.is_empty()).cloned().collect();
            let of = (&hidden.detach(), &head);
            let d_hidden = self.through_head(of, &d_head, update, &fine, &tokens)?;
            let store = rlc_model::seed_backward(&hidden, &d_hidden).map_err(model_error)?;
            for (slot, (_, var)) in grads.iter_mut().zip(vars) {
                if let Some(grad) = store.get(var) {
                    add(slot, grad)?;
                }
            }
        }
        add_head(&mut grads, vars, model.head(), &d_head)?;
        Ok(grads)
    }

    /// The gradient of hidden states `[tokens, H]` that meet a projection `[V, H]` of their type; that of the projection is
    /// added to `d_head`, in f32. `fine` are ranges of rollouts that follow each other; as many as memory allows go at a time.
    pub fn through_head(
        &self,
        (hidden, head): (&Tensor, &Tensor),
        d_head: &Tensor,
        update: &mut dyn Update,
        fine: &[Range<usize>],
        tokens: &dyn Fn(Range<usize>) -> usize,
    ) -> Result<Tensor> {
        let (vocab, dtype) = (head.dim(0)?, head.dtype());
        let arrays = if update.in_place() { 1 } else { 2 };
        let at_once = LOGITS / (arrays * vocab * dtype.size_in_bytes()).max(1);
        let hidden = hidden.contiguous()?;
        let d_hidden = hidden.zeros_like()?;
        let parts = join_pieces(fine, tokens, at_once);
        let most = parts.iter().map(|part| tokens(part.clone())).max().unwrap_or(0);
        let room = Tensor::zeros((most, vocab), dtype, hidden.device())?;
        let mut first = 0;
        for part in parts {
            let count = tokens(part.clone());
            let (own, d_own) = (hidden.narrow(0, first, count)?, d_hidden.narrow(0, first, count)?);
            first += count;
            let logits = room.narrow(0, 0, count)?;
            let by = &self.products;
            by.multiply(&logits, Factor(&own, false), Factor(head, true), false)?;
            let d_logits = update.live_logits(part, logits)?;
            by.multiply(&d_own, Factor(&d_logits, false), Factor(head, false), false)?;
            by.multiply(d_head, Factor(&d_logits, true), Factor(&own, false), true)?;
        }
        Ok(d_hidden)
    }
}

/// The hidden states of a piece: those known, if it is the whole batch.
fn hidden_of(
    model: &Model,
    batch: &Batch,
    piece: &Range<usize>,
    known: &mut Option<Tensor>,
) -> Result<Tensor> {
    match known.take_if(|_| piece.len() == batch.rollouts.len()) {
        Some(hidden) => Ok(hidden),
        None => forward::hidden(model, &batch.rollouts[piece.clone()]),
    }
}

/// Bytes of logits and their gradient that exist at once on a device, where the pieces allow it. With what cuBLASLt works in they stay
/// below a gibibyte. The projection's gradient is read and written once for each part that is cut.
const LOGITS: usize = 7 << 27;

/// Adds the output projection's gradient to that of the weight it is.
fn add_head(
    grads: &mut [Option<Tensor>],
    vars: &[(String, Var)],
    head: &Var,
    d_head: &Tensor,
) -> Result<()> {
    let own = vars.iter().position(|(_, var)| var.as_tensor().id() == head.as_tensor().id());
    match own.and_then(|at| grads.get_mut(at)) {
        Some(slot) => add(slot, d_head),
        None => Ok(()),
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
