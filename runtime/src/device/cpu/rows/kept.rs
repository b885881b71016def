//! Exponentials of a row, kept from its statistics for its gradient.

use super::block::BLOCK;

/// One f32 an entry, in memory that is used again for the next row.
#[derive(Debug, Default)]
pub struct Kept {
    exps: Vec<f32>,
    /// For each block the power of two that its exponentials are to be multiplied with.
    powers: Vec<f32>,
}

impl Kept {
    /// Answers for no row.
    pub fn clear(&mut self) {
        self.powers.clear();
    }

    /// True where it answers for a row.
    pub fn holds(&self) -> bool {
        !self.powers.is_empty()
    }

    /// Room for a row, in whole blocks.
    pub(super) fn make_room(&mut self, len: usize) {
        let room = len.next_multiple_of(BLOCK);
        if self.exps.len() < room {
            self.exps.resize(room, 0.0);
        }
    }

    /// Where the exponentials of the block from entry `start` go, with their power of two.
    pub(super) fn block(&mut self, start: usize, power: f32) -> *mut f32 {
        self.powers.push(power);
        self.exps[start..][..BLOCK].as_mut_ptr()
    }

    /// The exponentials of the block from entry `start`, with their power of two.
    pub(super) fn of(&self, start: usize) -> (*const f32, f32) {
        (self.exps[start..][..BLOCK].as_ptr(), self.powers[start / BLOCK])
    }
}
