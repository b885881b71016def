//! First equal rows where keys are whole numbers of a small range, as positions, turns and numbers of rows are: a key is
//! an offset into a table. Rows of elements are put together by a counting sort first, one table after the other.

use super::Rows;
use std::ops::Range;

/// Entries that a table may have for each row, and beside them: it is read out of the first caches.
const ENTRIES_A_ROW: usize = 4;
const ENTRIES: usize = 1024;

/// Memory that calls use again.
#[derive(Default)]
pub(super) struct Memory {
    /// For each key a row, and above it the number of the table that it is of: tables need no clearing.
    slots: Vec<u64>,
    /// The present table.
    table: u32,
    /// Whether each row of the scope counts.
    counts: Vec<u32>,
    /// Its key, and the key that it wants, as offsets.
    keys: Vec<u32>,
    wants: Vec<u32>,
    /// Its element.
    elements: Vec<u32>,
    /// Where each element's rows begin in `members`, and the end.
    starts: Vec<u32>,
    /// Rows of the scope by element, in order.
    members: Vec<u32>,
}

/// Whole numbers from the least that counts to the largest.
#[derive(Clone, Copy)]
struct Span {
    low: i32,
    count: u32,
}

/// A number as a whole one, if it is one in reach: added to 1.5 * 2^52 it lies in the lowest bits, a conversion that
/// every machine has for vectors.
fn whole(x: f64) -> (i32, bool) {
    let whole = (x + f64::from_bits(0x4338_0000_0000_0000)).to_bits() as i32;
    (whole, f64::from(whole) == x)
}

impl Span {
    /// The span of the numbers that count; none where one is not whole or there are more than `most`.
    fn of(numbers: &[f64], counts: &[u32], most: usize) -> Option<Span> {
        let (mut low, mut high, mut odd) = (i32::MAX, i32::MIN, 0);
        for (x, counts) in numbers.iter().zip(counts) {
            let (whole, fits) = whole(*x);
            odd |= counts & (u32::from(fits) ^ 1);
            low = low.min(if *counts == 0 { i32::MAX } else { whole });
            high = high.max(if *counts == 0 { i32::MIN } else { whole });
        }
        let count = (i64::from(high) - i64::from(low) + 1).max(0);
        let fits = odd == 0 && count <= most as i64;
        fits.then_some(Span { low, count: count as u32 })
    }

    /// Each number from the least on; the count for those that are outside.
    fn offsets(self, numbers: &[f64], out: &mut Vec<u32>) {
        out.clear();
        out.extend(numbers.iter().map(|x| {
            let (whole, fits) = whole(*x);
            let at = whole.wrapping_sub(self.low) as u32;
            if fits && at < self.count { at } else { self.count }
        }));
    }
}

/// [`super::find`] of one scope; false, with nothing done, where its keys are of another kind.
pub(super) fn find(
    (key, want): (&[f64], &[f64]),
    scope: Range<usize>,
    rows: &Rows,
    out: &mut [f64],
    memory: &mut Memory,
) -> bool {
    let most = scope.len() * ENTRIES_A_ROW + ENTRIES;
    let (same, first) = (std::ptr::eq(key, want), scope.start);
    let (key, want, out) = (&key[scope.clone()], &want[scope.clone()], &mut out[scope.clone()]);
    let within = rows.within.map(|w| &w[scope.clone()]);
    memory.counts.clear();
    memory.counts.resize(scope.len(), 1);
    if let Some(within) = within {
        for (counts, element) in memory.counts.iter_mut().zip(within) {
            *counts = u32::from(*element >= 0.0);
        }
    }
    let elements = match within.map(|w| (w, Span::of(w, &memory.counts, most))) {
        Some((_, None)) => return false,
        Some((within, Some(span))) => {
            span.offsets(within, &mut memory.elements);
            Some(span)
        }
        None => None,
    };
    if let Some(filter) = rows.filter {
        for (counts, kept) in memory.counts.iter_mut().zip(&filter[scope.clone()]) {
            *counts &= u32::from(*kept != 0.0);
        }
    }
    let Some(keys) = Span::of(key, &memory.counts, most) else { return false };
    keys.offsets(key, &mut memory.keys);
    if !same {
        keys.offsets(want, &mut memory.wants);
    }
    // One more, for what is in no table.
    if memory.slots.len() <= keys.count as usize {
        memory.slots.resize(keys.count as usize + 1, 0);
    }
    if let Some(span) = elements {
        memory.sort(span);
    }
    let Memory { slots, table, counts, keys, wants, starts, members, .. } = &mut *memory;
    let mut search = Search { first, counts, keys, wants: if same { keys } else { wants }, out };
    let used = match elements {
        None => {
            search.element(0..scope.len(), *table + 1, slots);
            1
        }
        Some(span) => {
            search.out.fill(-1.0);
            for (n, ends) in starts.windows(2).enumerate() {
                let own = &members[ends[0] as usize..ends[1] as usize];
                search.element(own.iter().map(|r| *r as usize), *table + 1 + n as u32, slots);
            }
            span.count
        }
    };
    memory.next(used);
    true
}

impl Memory {
    /// Counts tables; before their numbers would come again, those that have been are forgotten.
    fn next(&mut self, used: u32) {
        self.table += used;
        if self.table > u32::MAX / 2 {
            self.table = 0;
            self.slots.fill(0);
        }
    }

    /// Puts the rows of each element together, in order; those of none are left out.
    fn sort(&mut self, span: Span) {
        let elements = || self.elements.iter().enumerate().filter(|e| *e.1 < span.count);
        self.starts.clear();
        self.starts.resize(span.count as usize + 1, 0);
        for (_, element) in elements() {
            self.starts[*element as usize + 1] += 1;
        }
        let mut total = 0;
        for start in &mut self.starts {
            total += *start;
            *start = total;
        }
        self.members.clear();
        self.members.resize(total as usize, 0);
        for (row, element) in elements() {
            let place = &mut self.starts[*element as usize];
            self.members[*place as usize] = row as u32;
            *place += 1;
        }
        // Each start has moved to where the next element's was.
        self.starts.rotate_right(1);
        self.starts[0] = 0;
    }
}

/// Rows of a scope, by their places in it.
struct Search<'a> {
    /// The scope's first row.
    first: usize,
    counts: &'a [u32],
    keys: &'a [u32],
    wants: &'a [u32],
    out: &'a mut [f64],
}

impl Search<'_> {
    /// Finds the rows of one element, with a table of this number.
    fn element(
        &mut self,
        rows: impl Iterator<Item = usize> + Clone,
        table: u32,
        slots: &mut [u64],
    ) {
        let above = u64::from(table) << 32;
        for row in rows.clone() {
            // Without a branch: which rows count is hard to foresee.
            let slot = &mut slots[self.keys[row] as usize];
            let fresh = (self.counts[row] != 0) & (*slot >> 32 != u64::from(table));
            *slot = if fresh { above | (self.first + row) as u64 } else { *slot };
        }
        for row in rows {
            let slot = slots[self.wants[row] as usize];
            let found = slot >> 32 == u64::from(table);
            self.out[row] = if found { f64::from(slot as u32) } else { -1.0 };
        }
    }
}
