//! Vocab rows that are computed when a loop asks for them, some tokens at a time, so that an array over
//! all tokens and entries never exists.

use std::ops::Range;

use rlc_compiler::hir::ColumnId;

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

/// The columns that are computed, and the room they are computed in.
pub struct Sources<'a, 'b> {
    /// Each column once.
    pub each: &'a mut [Computed<'b>],
    /// Memory.
    pub room: &'a mut Room,
    /// Tokens that run at once, at least 1: see [`Room::tokens`].
    pub tokens: usize,
}

/// Fewest tokens of a chunk by default: products with fewer rows lose more than the memory is worth.
const ROWS: usize = 64;
/// Fewest bytes of a chunk by default.
const BYTES: usize = 16 << 20;

/// Memory for entries, and gradients, of as many tokens as run at once; kept from call to call.
///
/// By default it holds a sixteenth of a piece's entries, but at least 64 tokens and 16 MiB. A loop that
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
    pub entries: Vec<f32>,
    /// The gradient, where it cannot take the place of the entries.
    pub gradient: Vec<f32>,
    /// The tokens whose entries are there.
    pub held: Option<Range<usize>>,
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
