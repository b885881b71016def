//! Exponentials of a row, kept from its statistics for its gradient.

use super::block::BLOCK;

/// One f32 an entry, in memory that is used again for the next row.
#[derive(Debug, Default)]
pub struct Kept {
    exps: Vec<f32>,
    /// For each block the logit whose exponential is 1.
    references: Vec<f32>,
}

impl Kept {
    /// Answers for no row.
    pub fn clear(&mut self) {
        self.references.clear();
    }

    /// True where it answers for a row.
    pub fn holds(&self) -> bool {
        !self.references.is_empty()
    }

    /// Room for a row, in whole blocks.
    pub(super) fn make_room(&mut self, len: usize) {
        let room = len.next_multiple_of(BLOCK);
        if self.exps.len() < room {
            self.exps.resize(room, 0.0);
        }
    }

    /// Where the exponentials of the block from entry `start` go, with the logit whose exponential is 1.
    pub(super) fn block(&mut self, start: usize, reference: f32) -> *mut f32 {
        self.references.push(reference);
        self.exps[start..][..BLOCK].as_mut_ptr()
    }

    /// The exponentials of the block from entry `start`, with the logit whose exponential is 1.
    pub(super) fn of(&self, start: usize) -> (*const f32, f32) {
        (self.exps[start..][..BLOCK].as_ptr(), self.references[start / BLOCK])
    }
}
