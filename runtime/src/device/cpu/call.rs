//! Steps that look at all rows of a scope at once: ranks, first equal rows, prefix trees.

mod dense;

use std::ops::Range;

use rlc_compiler::interp::{bits, entry};

use super::row::ascending;

/// The rows of a call: those in `range`, in scopes that begin at `starts`. Without starts each row
/// is a scope of its own.
pub(super) struct Rows<'a> {
    pub range: Range<usize>,
    pub starts: &'a [u32],
    /// Rows that count, if not all.
    pub filter: Option<&'a [f64]>,
    /// The element of each row; scopes are divided by it.
    pub within: Option<&'a [f64]>,
}

impl Rows<'_> {
    /// The scopes in order. They never leave a piece.
    fn scopes(&self) -> impl Iterator<Item = Range<usize>> {
        let mut at = self.starts.partition_point(|&s| (s as usize) <= self.range.start);
        let mut begin = self.range.start;
        std::iter::from_fn(move || {
            if begin >= self.range.end {
                return None;
            }
            // Scopes without rows begin where the next one does.
            while self.starts.get(at).is_some_and(|&s| s as usize <= begin) {
                at += 1;
            }
            let end = match self.starts.get(at) {
                Some(&next) => (next as usize).min(self.range.end),
                None if self.starts.is_empty() => begin + 1,
                None => self.range.end,
            };
            let scope = begin..end;
            begin = end;
            Some(scope)
        })
    }

    fn kept(&self, row: usize) -> bool {
        self.filter.is_none_or(|f| f[row] != 0.0)
    }

    /// The element of a row as a number; none for rows of none, 0 for all rows without elements.
    fn element(&self, row: usize) -> Option<u64> {
        match self.within {
            Some(within) => entry(within[row]).map(|e| e as u64),
            None => Some(0),
        }
    }
}

/// Memory that calls use again.
#[derive(Default)]
pub(super) struct Scratch {
    /// Rows to be sorted, by element and value.
    order: Vec<(u64, u64, u32)>,
    /// A table of rows by hash: a row and 1, 0 where there is none.
    table: Vec<u32>,
    /// Tables of rows by key.
    dense: dense::Memory,
}

/// Writes for each kept row how many kept rows of its scope and element come before it when sorted
/// by x, ties in order of rows; -1 for the others.
pub(super) fn rank(x: &[f64], rows: &Rows, out: &mut [f64], scratch: &mut Scratch) {
    let sorted = &mut scratch.order;
    for scope in rows.scopes() {
        out[scope.clone()].fill(-1.0);
        sorted.clear();
        let kept = scope.filter(|&r| rows.kept(r));
        sorted.extend(kept.filter_map(|r| Some((rows.element(r)?, ascending(x[r]), r as u32))));
        sorted.sort_unstable();
        let mut begin = 0;
        for (place, &(element, _, row)) in sorted.iter().enumerate() {
            if place > 0 && sorted[place - 1].0 != element {
                begin = place;
            }
            out[row as usize] = (place - begin) as f64;
        }
    }
}

/// Rows by what identifies them, two numbers each, in a table with room for all rows of a scope.
struct Table<'s> {
    slots: &'s mut [u32],
}

impl<'s> Table<'s> {
    fn new(memory: &'s mut Vec<u32>, rows: usize) -> Table<'s> {
        let size = (rows * 2).next_power_of_two();
        if memory.len() < size {
            memory.resize(size, 0);
        }
        let slots = &mut memory[..size];
        slots.fill(0);
        Table { slots }
    }

    /// The place of the row that has this key, or the empty one where it belongs.
    fn place(&self, key: (u64, u64), same: impl Fn(usize) -> bool) -> usize {
        let mask = self.slots.len() - 1;
        // Small whole numbers differ in few of the upper bits; the product spreads them upwards.
        let mixed = (key.0 ^ key.1.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let mut at = (mixed >> 32) as usize & mask;
        loop {
            match self.slots[at] {
                0 => return at,
                row if same(row as usize - 1) => return at,
                _ => at = (at + 1) & mask,
            }
        }
    }

    fn first(&mut self, row: usize, key: (u64, u64), same: impl Fn(usize) -> bool) -> usize {
        let at = self.place(key, same);
        if self.slots[at] == 0 {
            self.slots[at] = row as u32 + 1;
        }
        self.slots[at] as usize - 1
    }
}

/// Writes for each row the first kept row of its scope and element whose key is what it wants.
pub(super) fn find(key: &[f64], want: &[f64], rows: &Rows, out: &mut [f64], scratch: &mut Scratch) {
    // The same rows are looked for as are found: once over them does, unless some do not count.
    let once = std::ptr::eq(key, want) && rows.filter.is_none();
    for scope in rows.scopes() {
        if dense::find((key, want), scope.clone(), rows, out, &mut scratch.dense) {
            continue;
        }
        let mut table = Table::new(&mut scratch.table, scope.len());
        let of = |r: usize| rows.element(r);
        for row in scope.clone().filter(|&r| rows.kept(r)) {
            let Some(element) = of(row) else {
                out[row] = -1.0;
                continue;
            };
            let own = bits(key[row]);
            let same = |r: usize| bits(key[r]) == own && of(r) == Some(element);
            let first = table.first(row, (own, element), same);
            out[row] = first as f64;
        }
        if once {
            continue;
        }
        for row in scope {
            let Some(element) = of(row) else {
                out[row] = -1.0;
                continue;
            };
            let wanted = bits(want[row]);
            let same = |r: usize| bits(key[r]) == wanted && of(r) == Some(element);
            let found = table.slots[table.place((wanted, element), same)];
            out[row] = f64::from(found) - 1.0;
        }
    }
}

/// Writes for each row the first row of its node: rollouts of a scope share nodes as long as their
/// x agree from the start. `rollouts` has the rollout of each row.
pub(super) fn prefix(
    x: &[f64],
    rollouts: Option<&[u32]>,
    rows: &Rows,
    out: &mut [f64],
    scratch: &mut Scratch,
) {
    let rollout = |r: usize| rollouts.map_or(r as u32, |of| of[r]);
    // The node above, as a number that is none without one.
    let above = |r: usize, first: usize, out: &[f64]| match r.checked_sub(1) {
        Some(before) if before >= first && rollout(before) == rollout(r) => out[before] as u64,
        _ => u64::MAX,
    };
    for scope in rows.scopes() {
        let mut table = Table::new(&mut scratch.table, scope.len());
        for row in scope.clone() {
            let node = above(row, scope.start, out);
            let own = bits(x[row]);
            let same = |r: usize| bits(x[r]) == own && above(r, scope.start, out) == node;
            out[row] = table.first(row, (own, node), same) as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Rows, Scratch, find, prefix, rank};

    #[test]
    fn scopes_may_be_empty() {
        let starts = [0, 0, 2, 2, 2, 5, 5];
        let within = [0.0, -1.0, 3.0, 4.0, 3.0];
        let x = [1.0, 1.0, 2.0, 7.0, 1.0];
        let mut scratch = Scratch::default();
        let mut rows = Rows { range: 0..5, starts: &starts, filter: None, within: Some(&within) };
        let mut out = [9.0; 5];
        rank(&x, &rows, &mut out, &mut scratch);
        assert_eq!(out, [0.0, -1.0, 1.0, 0.0, 0.0]);
        find(&x, &[1.0; 5], &rows, &mut out, &mut scratch);
        assert_eq!(out, [0.0, -1.0, 4.0, -1.0, 4.0]);
        rows.within = None;
        find(&x, &x, &rows, &mut out, &mut scratch);
        assert_eq!(out, [0.0, 0.0, 2.0, 3.0, 4.0]);
        rows.starts = &[];
        find(&x, &[1.0; 5], &rows, &mut out, &mut scratch);
        assert_eq!(out, [0.0, 1.0, -1.0, -1.0, 4.0]);
        rows.starts = &[0, 5];
        prefix(&x, Some(&[0, 1, 1, 2, 2]), &rows, &mut out, &mut scratch);
        assert_eq!(out, [0.0, 0.0, 2.0, 3.0, 4.0]);
    }

    /// Small numbers, some of which are none of a small range or not whole.
    fn keys(next: &mut impl FnMut(usize) -> usize, count: usize, kind: usize) -> Vec<f64> {
        let odd = [0.5, f64::NAN, 1e18, f64::INFINITY, -1e7];
        let one = |n: usize| match kind {
            0 => n as f64 - 3.0,
            1 => -(n as f64) * 0.0 + (n % 4) as f64 * 300.0,
            _ => odd.get(n).copied().unwrap_or(n as f64),
        };
        (0..count).map(|_| one(next(9))).collect()
    }

    #[test]
    fn tables_of_offsets_find_what_hashing_finds() {
        let mut seed = 7u64;
        let mut next = |below: usize| {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            (seed >> 33) as usize % below
        };
        let mut scratch = Scratch::default();
        let mut dense = 0;
        for round in 0..2000 {
            let count = 1 + next(40);
            let cuts = next(4);
            let mut starts: Vec<u32> = (0..cuts).map(|_| next(count) as u32).collect();
            starts.extend([0, count as u32]);
            starts.sort_unstable();
            let key = keys(&mut next, count, round % 3);
            let kind = next(3);
            let other = keys(&mut next, count, kind);
            let filter: Vec<f64> = (0..count).map(|_| next(3) as f64).collect();
            let far = if round % 5 == 0 { 1e6 } else { 1.0 };
            let within: Vec<f64> = (0..count).map(|_| (next(6) as f64 - 1.0) * far).collect();
            let want = if next(2) == 0 { &key } else { &other };
            let rows = Rows {
                range: 0..count,
                starts: &starts,
                filter: (next(2) == 0).then_some(&filter[..]),
                within: (next(2) == 0).then_some(&within[..]),
            };
            let (mut got, mut expected) = (vec![9.0; count], vec![-1.0; count]);
            find(&key, want, &rows, &mut got, &mut scratch);
            for scope in rows.scopes() {
                let tried = &mut vec![0.0; count];
                let both = (&key[..], &want[..]);
                let found =
                    super::dense::find(both, scope.clone(), &rows, tried, &mut scratch.dense);
                dense += usize::from(found);
                for row in scope.clone().filter(|r| rows.element(*r).is_some()) {
                    let bits = rlc_compiler::interp::bits;
                    let same = |r: &usize| {
                        let fits = bits(key[*r]) == bits(want[row]) && rows.kept(*r);
                        fits && rows.element(*r) == rows.element(row)
                    };
                    let first = scope.clone().find(same);
                    expected[row] = first.map_or(-1.0, |r| r as f64);
                }
            }
            assert_eq!(got, expected, "round {round}: {key:?} {want:?} {starts:?}");
        }
        assert!((1000..3500).contains(&dense), "{dense} scopes by offsets");
    }
}
