//! A piece from hidden states and the output projection: logits and their gradient exist for a chunk of
//! tokens at a time.
//!
//! ```text
//! logits = h W^T + bias + scale (h A^T) B^T       h [tokens, H], W [V, H], A [r, H], B [V, r]
//! d h    = d logits W + scale (d logits B) A
//! d W    = d logits^T h,  d bias = sums of d logits over tokens
//! ```
//!
//! Three products of tokens x H x V a chunk, two with a frozen projection. A program that couples tokens
//! needs the logits again for its gradient, in a fourth, unless the rows that it couples fit one chunk.

mod projection;

use std::ops::Range;

use rlc_compiler::hir::ColumnId;
use rlc_compiler::interp::{Vocab, VocabRows};
use rlc_compiler::level::{ROLLOUT, TOKEN};
use rlc_compiler::program::Phase;
use rlc_compiler::shape::TableError;
use rlc_compiler::table::Floats;

use projection::{Forward, Projection, Work};

use super::finite::all_finite;
use super::step::{Run, Step, rounds};
use super::{ObjectiveError, vocab_columns};
use crate::device::Gradient;
use crate::device::cpu::{Computed, Room, Source, Sources};

/// An output projection: logits of hidden states. All matrices are packed, row by row.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// W, `[V, H]`.
    pub weight: &'a [f32],
    /// `[V]`; minus infinity makes an entry impossible.
    pub bias: Option<&'a [f32]>,
    /// A low-rank addition.
    pub lora: Option<Lora<'a>>,
}

/// `scale B A`, added to the projection.
#[derive(Debug, Clone, Copy)]
pub struct Lora<'a> {
    /// A, `[r, H]`.
    pub a: &'a [f32],
    /// B, `[V, r]`.
    pub b: &'a [f32],
    /// Of their product.
    pub scale: f32,
}

/// The hidden states of a piece's tokens, and what makes logits of them.
#[derive(Debug, Clone, Copy)]
pub struct Hidden<'a> {
    /// `[tokens, H]`: those that predict the tokens of the piece.
    pub rows: &'a [f32],
    /// H, at least 1.
    pub width: usize,
    /// The output projection.
    pub head: Head<'a>,
}

/// Where gradients of the output projection are added; what is left out is frozen, and costs nothing.
#[derive(Debug, Default)]
pub struct HeadGrads<'a> {
    /// d W, `[V, H]`.
    pub weight: Option<&'a mut [f32]>,
    /// `[V]`, for a head with a bias.
    pub bias: Option<&'a mut [f32]>,
    /// For a head with a low-rank addition.
    pub lora: Option<LoraGrads<'a>>,
}

/// Where gradients of a low-rank addition are added.
#[derive(Debug)]
pub struct LoraGrads<'a> {
    /// d A, `[r, H]`.
    pub a: &'a mut [f32],
    /// d B, `[V, r]`.
    pub b: &'a mut [f32],
}

impl Hidden<'_> {
    /// All logits, `[tokens, V]`.
    pub fn logits(&self) -> Vec<f32> {
        let (tokens, vocab) = self.sizes();
        let mut into = vec![0.0; tokens * vocab];
        let forward = Forward { first: 0, vocab, hidden: *self };
        forward.fill(&(0..tokens), &mut into, &mut Work::default());
        into
    }

    /// The way back from d(loss)/d(logits), `[tokens, V]`: writes d(loss)/d(hidden), `[tokens, H]`, and adds
    /// to the gradients of the output projection.
    pub fn backward(&self, d_logits: &[f32], d_hidden: &mut [f32], grads: &mut HeadGrads<'_>) {
        let (tokens, vocab) = self.sizes();
        let forward = Forward { first: 0, vocab, hidden: *self };
        Projection::new(forward, d_hidden, grads).take(0..tokens, d_logits);
    }

    fn sizes(&self) -> (usize, usize) {
        let width = self.width.max(1);
        (self.rows.len() / width, self.head.weight.len() / width)
    }
}

impl Step<'_> {
    /// [`Step::live`] from hidden states: writes d(loss)/d(hidden), `[tokens, H]`, and adds the gradient
    /// of the output projection to `grads`. `room` is the memory for logits, kept by the caller from call
    /// to call. For steps begun with [`super::Logits::Live`].
    ///
    /// The logits are those of f32 products; the loss and gradients are what [`Step::live`] gives for
    /// them. Of the reference back end, which is there to compare with, the logits exist whole.
    pub fn live_hidden(
        &mut self,
        rollouts: Range<usize>,
        hidden: Hidden<'_>,
        d_hidden: &mut [f32],
        grads: &mut HeadGrads<'_>,
        room: &mut Room,
    ) -> Result<(), ObjectiveError> {
        self.check_next(&rollouts)?;
        let tokens = self.shape.range(ROLLOUT, rollouts.clone(), TOKEN);
        check(&hidden, d_hidden, grads, tokens.len(), self.shape.vocab)?;
        self.make_room();
        self.next = rollouts.end;
        d_hidden.fill(0.0);
        let Some(column) = self.logits_id().filter(|_| self.live) else {
            // The loss reads no logits.
            self.live_pieces(&rollouts, None, room)?;
            return Ok(());
        };
        let forward = Forward { first: tokens.start, vocab: self.shape.vocab, hidden };
        let mut projection = Projection::new(forward, d_hidden, grads);
        self.live_pieces(&rollouts, Some((column, &mut projection)), room)?;
        let bad = d_hidden.iter().position(|g| !g.is_finite());
        let width = self.shape.vocab;
        let rows = tokens.start * width..tokens.end * width;
        if bad.is_none() && self.grads.values().all(|g| all_finite(&g[rows.clone()])) {
            return Ok(());
        }
        Err(self.not_finite_at(&rollouts, bad.map_or(0, |at| at / hidden.width), hidden, column))
    }

    /// Runs a piece, in parts that fit a chunk if the program reads logits more than once.
    fn live_pieces(
        &mut self,
        rollouts: &Range<usize>,
        mut logits: Option<(ColumnId, &mut Projection<'_, '_>)>,
        room: &mut Room,
    ) -> Result<(), ObjectiveError> {
        let mut vocab = self.table_vocab();
        let shape = std::sync::Arc::clone(&self.shape);
        let tokens = shape.range(ROLLOUT, rollouts.clone(), TOKEN);
        let mut parts = vec![rollouts.clone()];
        let mut at_once = tokens.len().max(1);
        if let (Run::Cpu(run), Some((column, projection))) = (&self.run, &mut logits) {
            let each = run.rows_per_token(*column).max(1);
            let hidden = &projection.forward.hidden;
            let row = size_of::<f32>() * shape.vocab;
            let bytes = |tokens: usize| projection::bytes(hidden, shape.vocab, each, tokens);
            at_once = room.tokens(tokens.len(), row, bytes);
            projection.make_room(at_once);
            if run.passes(*column) > 1 {
                parts = self.parts_at_once(rollouts, at_once);
            }
        }
        let rows: Vec<Range<usize>> = parts.iter().map(|part| self.piece_rows(part)).collect();
        let workers = &mut self.workers;
        match &mut self.run {
            Run::Interp(run) => {
                let rows = rows[0].clone();
                let Some((column, projection)) = logits else {
                    rounds(run, Phase::Live, rows.clone(), &vocab, workers)?;
                    run.gradients(rows, &vocab);
                    return Ok(());
                };
                let mut entries = vec![0.0; tokens.len() * shape.vocab];
                projection.fill(tokens.clone(), &mut entries);
                let data = Floats::F32(&entries);
                vocab.insert(column, VocabRows { data, first: tokens.start });
                rounds(run, Phase::Live, rows.clone(), &vocab, workers)?;
                run.gradients(rows, &vocab);
                let range = tokens.start * shape.vocab..tokens.end * shape.vocab;
                let gradient: Vec<f32> =
                    run.grad(column)[range].iter().map(|g| *g as f32).collect();
                projection.take(tokens, &gradient);
                Ok(())
            }
            Run::Cpu(run) => {
                let mut each: Vec<Computed<'_>> = Vec::new();
                each.extend(logits.map(|(column, source)| Computed { column, source }));
                for (part, rows) in parts.iter().zip(rows) {
                    let own = shape.range(ROLLOUT, part.clone(), TOKEN);
                    let own = own.start * shape.vocab..own.end * shape.vocab;
                    let mut outputs: Vec<Gradient<'_>> = self
                        .grads
                        .iter_mut()
                        .map(|(id, all)| Gradient {
                            column: *id,
                            data: (&mut all[own.clone()]).into(),
                        })
                        .collect();
                    let mut sources =
                        Sources { each: &mut each, over: None, room, tokens: at_once };
                    workers
                        .merging(|m| run.live_from(rows, &vocab, &mut outputs, &mut sources, m))?;
                }
                Ok(())
            }
        }
    }

    /// Parts of a piece: whole rows of the piece level, of at most so many tokens where one allows it.
    fn parts(&self, rollouts: &Range<usize>, tokens: usize) -> Vec<Range<usize>> {
        let parts: Vec<_> = self.pieces_of(self.piece_rows(rollouts), usize::MAX, tokens).collect();
        // The only piece of a batch without rollouts.
        if parts.is_empty() { vec![rollouts.clone()] } else { parts }
    }

    /// Parts of a piece whose logits are computed once for all loops; what is too long for that stays together, and
    /// its chunks are as large as they can be.
    fn parts_at_once(&self, rollouts: &Range<usize>, tokens: usize) -> Vec<Range<usize>> {
        let long = |p: &Range<usize>| self.shape.range(ROLLOUT, p.clone(), TOKEN).len() > tokens;
        let mut parts: Vec<Range<usize>> = Vec::new();
        for part in self.parts(rollouts, tokens) {
            match parts.last_mut() {
                Some(last) if long(last) && long(&part) => last.end = part.end,
                _ => parts.push(part),
            }
        }
        parts
    }

    /// Names the place where a piece stopped being finite. Only the rows of the piece level that hold
    /// its `bad`-th token are computed anew.
    fn not_finite_at(
        &self,
        rollouts: &Range<usize>,
        bad: usize,
        hidden: Hidden<'_>,
        column: ColumnId,
    ) -> ObjectiveError {
        let tokens = self.shape.range(ROLLOUT, rollouts.clone(), TOKEN);
        let at = tokens.start + bad;
        let of = |p: &Range<usize>| self.shape.range(ROLLOUT, p.clone(), TOKEN);
        let part = self.parts(rollouts, 1).into_iter().find(|p| of(p).contains(&at));
        let part = part.unwrap_or_else(|| rollouts.clone());
        let own = of(&part);
        let mut entries = vec![0.0; own.len() * self.shape.vocab];
        Forward { first: tokens.start, vocab: self.shape.vocab, hidden }.fill(
            &own,
            &mut entries,
            &mut Work::default(),
        );
        let mut vocab = vocab_columns(&self.specialized, self.table, Vocab::default());
        let data = Floats::F32(&entries);
        vocab.insert(column, VocabRows { data, first: own.start });
        self.not_finite(self.piece_rows(&part), own, &vocab)
    }
}

/// Says what does not fit.
fn check(
    hidden: &Hidden<'_>,
    d_hidden: &[f32],
    grads: &HeadGrads<'_>,
    tokens: usize,
    vocab: usize,
) -> Result<(), ObjectiveError> {
    let Hidden { rows, width, head } = hidden;
    let rank = head.rank((*width).max(1));
    let mut sizes = vec![
        ("hidden states", rows.len(), [tokens, *width]),
        ("d hidden", d_hidden.len(), [tokens, *width]),
        ("output projection", head.weight.len(), [vocab, *width]),
    ];
    sizes.extend(head.bias.map(|b| ("bias", b.len(), [vocab, 1])));
    if let Some(lora) = head.lora {
        sizes.push(("A", lora.a.len(), [rank, *width]));
        sizes.push(("B", lora.b.len(), [vocab, rank]));
    }
    sizes.extend(grads.weight.as_ref().map(|w| ("d projection", w.len(), [vocab, *width])));
    sizes.extend(grads.bias.as_ref().map(|b| ("d bias", b.len(), [vocab, 1])));
    if let Some(lora) = &grads.lora {
        sizes.push(("d A", lora.a.len(), [rank, *width]));
        sizes.push(("d B", lora.b.len(), [vocab, rank]));
    }
    let fault = sizes.iter().find(|(_, found, [rows, columns])| *found != rows * columns);
    let said = match fault {
        Some((what, found, [rows, columns])) => {
            format!("{what}: {found} numbers were given, but [{rows}, {columns}] are needed")
        }
        None if *width == 0 => "hidden states have at least 1 number".to_owned(),
        None if grads.bias.is_some() && head.bias.is_none() => {
            "d bias: the head has none".to_owned()
        }
        None if grads.lora.is_some() && head.lora.is_none() => {
            "d A, d B: the head has no low-rank addition".to_owned()
        }
        None => return Ok(()),
    };
    Err(ObjectiveError::Batch(TableError(said)))
}
