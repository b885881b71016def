//! Vocab rows that are computed when a loop asks for them, some tokens at a time, so that an array over
//! all tokens and entries never exists.

use std::ops::Range;

use rlc_compiler::hir::ColumnId;

use crate::device::Gradient;

/// Where entries of a vocab-level column come from, and where their gradient goes. Tokens are numbered
/// through the batch; rows are packed, one per token.
pub trait Source {
    /// Writes the entries of `tokens`, `[tokens, V]`. The same tokens give the same entries each time.
    fn fill(&mut self, tokens: Range<usize>, into: &mut [f32]);

    /// Takes d(loss)/d(entries) of `tokens`, `[tokens, V]`: once for each token of the piece, if the
    /// loss reads the column at all.
    fn take(&mut self, tokens: Range<usize>, gradient: &[f32]);

    /// [`Source::take`] for `tokens` and [`Source::fill`] for `next` in one, where entries take the gradient's place.
    fn exchange(&mut self, tokens: Range<usize>, next: Range<usize>, place: &mut [f32]);
}

/// A vocab-level column, f32, whose entries are computed.
pub struct Computed<'a> {
    /// The column.
    pub column: ColumnId,
    /// What computes it.
    pub source: &'a mut dyn Source,
}

/// Vocab-level columns that are no plain arrays: those that are computed, with the room for that, and one whose
/// gradient takes the place of its entries.
pub struct Sources<'a, 'b> {
    /// Each column once.
    pub each: &'a mut [Computed<'b>],
    /// A column for which [`rlc_compiler::loops::Plan::in_place`] says yes: entries in, f32, one row per token
    /// of the piece; its gradient out.
    pub over: Option<Gradient<'b>>,
    /// Memory.
    pub room: &'a mut Room,
    /// Tokens that run at once, at least 1: see [`Room::tokens`].
    pub tokens: usize,
}

/// Fewest tokens of a chunk by default.
const ROWS: usize = 128;
/// Fewest bytes of entries of a chunk by default.
const BYTES: usize = 32 << 20;

/// What a first pass takes whatever its size: pages of the program, stacks and heaps of its threads.
const REST: usize = 1 << 20;

/// Memory for entries, and gradients, of as many tokens as run at once; kept from call to call.
///
/// The budget is for all that a pass takes beyond its results: also what products pack. By default it is a sixteenth
/// of a piece's entries, but at least 128 tokens and 32 MiB of entries run at once. A loop that carries a value from
/// token to token is cut only where the value starts anew (a new rollout, say): such a run of tokens stays together
/// even where it takes more than the room.
#[derive(Debug, Default)]
pub struct Room {
    budget: Option<usize>,
    pub(super) buffers: Vec<Buffer>,
}

/// Room for one computed column.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    entries: Vec<f32>,
    /// The gradient, where it cannot take the place of the entries.
    gradient: Vec<f32>,
    /// The tokens whose entries are there.
    pub held: Option<Range<usize>>,
}

impl Buffer {
    /// The entries of `tokens`, computed unless they are there. There is room for so many `numbers`.
    pub fn entries(
        &mut self,
        source: &mut dyn Source,
        tokens: &Range<usize>,
        width: usize,
        numbers: usize,
    ) -> *mut f32 {
        // Where the gradient of another loop's longer chunks will not fit, the entries have to move.
        if self.held.as_ref() != Some(tokens) || self.entries.len() < numbers {
            fit(&mut self.entries, numbers);
            source.fill(tokens.clone(), &mut self.entries[..tokens.len() * width]);
            self.held = Some(tokens.clone());
        }
        self.entries.as_mut_ptr()
    }

    /// Where the gradient goes; likewise.
    pub fn gradient(&mut self, in_place: bool, numbers: usize) -> &mut [f32] {
        let own = if in_place { &mut self.entries } else { &mut self.gradient };
        fit(own, numbers);
        own
    }
}

/// Makes room for so many numbers. What was there is given back first: it is not needed, and both would be more than
/// the budget.
pub(crate) fn fit(buffer: &mut Vec<f32>, numbers: usize) {
    if buffer.len() < numbers {
        *buffer = Vec::new();
        *buffer = vec![0.0; numbers];
    }
}

impl Room {
    /// At most so many bytes, though at least one token's.
    pub fn of(bytes: usize) -> Room {
        Room { budget: Some(bytes), buffers: Vec::new() }
    }

    /// Tokens that run at once, of a piece of `tokens`, whose entries take `row` bytes each and that take
    /// `bytes` in all, with what products pack.
    pub fn tokens(&self, tokens: usize, row: usize, bytes: impl Fn(usize) -> usize) -> usize {
        let budget = self.budget.unwrap_or(tokens * row / 16);
        let budget = budget - REST.min(budget / 16);
        let (mut fits, mut over) = (1, tokens + 1);
        while over - fits > 1 {
            let middle = fits.midpoint(over);
            if bytes(middle) <= budget { fits = middle } else { over = middle }
        }
        match self.budget {
            Some(_) => fits,
            None => fits.max(ROWS).max(BYTES / row.max(1)).min(tokens.max(1)),
        }
    }

    /// Bytes that it takes at present.
    pub fn bytes(&self) -> usize {
        let numbers = |b: &Buffer| b.entries.capacity() + b.gradient.capacity();
        self.buffers.iter().map(numbers).sum::<usize>() * size_of::<f32>()
    }
}
