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

/// Fewest tokens of a chunk by default. Three products of 2,048 x 896 to 32,000 in chunks of 256 tokens take 1.03
/// times what they take in chunks of 512, in chunks of 128 tokens 1.12 times, of 64 1.31 times.
const ROWS: usize = 128;
/// Fewest bytes of a chunk by default.
const BYTES: usize = 32 << 20;

/// Memory for entries, and gradients, of as many tokens as run at once; kept from call to call.
///
/// By default it holds a sixteenth of a piece's entries, but at least 128 tokens and 32 MiB. A loop that
/// carries a value from token to token is cut only where the value starts anew (a new rollout, say): such
/// a run of tokens stays together even where it takes more than the room.
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
    /// The entries of `tokens`, computed unless they are there.
    pub fn entries(
        &mut self,
        source: &mut dyn Source,
        tokens: &Range<usize>,
        width: usize,
    ) -> *mut f32 {
        let numbers = tokens.len() * width;
        if self.held.as_ref() != Some(tokens) {
            fit(&mut self.entries, numbers);
            source.fill(tokens.clone(), &mut self.entries[..numbers]);
            self.held = Some(tokens.clone());
        }
        self.entries.as_mut_ptr()
    }

    /// Where the gradient goes.
    pub fn gradient(&mut self, in_place: bool, numbers: usize) -> &mut [f32] {
        let own = if in_place { &mut self.entries } else { &mut self.gradient };
        fit(own, numbers);
        &mut own[..numbers]
    }
}

/// Makes room for so many numbers, and for no more.
fn fit(buffer: &mut Vec<f32>, numbers: usize) {
    if buffer.len() < numbers {
        buffer.reserve_exact(numbers - buffer.len());
        buffer.resize(numbers, 0.0);
    }
}

impl Room {
    /// At most so many bytes, though at least one token's.
    pub fn of(bytes: usize) -> Room {
        Room { budget: Some(bytes), buffers: Vec::new() }
    }

    /// Tokens that run at once, of a piece of `tokens`, with `columns` rows of `width` entries each.
    pub fn tokens(&self, tokens: usize, width: usize, columns: usize) -> usize {
        let row = (size_of::<f32>() * width * columns).max(1);
        let fit = match self.budget {
            Some(bytes) => bytes / row,
            None => tokens.div_ceil(16).max(ROWS).max(BYTES / row),
        };
        fit.max(1)
    }

    /// Bytes that it takes at present.
    pub fn bytes(&self) -> usize {
        let numbers = |b: &Buffer| b.entries.capacity() + b.gradient.capacity();
        self.buffers.iter().map(numbers).sum::<usize>() * size_of::<f32>()
    }
}
