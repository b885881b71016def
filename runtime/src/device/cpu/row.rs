//! What compiled code calls for one token: its n-th entry, and sums over the rows below it.

use std::slice::{from_raw_parts, from_raw_parts_mut};

use rlc_compiler::interp::entry;

/// A number that sorts as a u64 like the f64, with zeros equal and NaN last.
pub(super) fn ascending(x: f64) -> u64 {
    if x.is_nan() {
        return u64::MAX;
    }
    let bits = (x + 0.0).to_bits();
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

/// The same from the largest on.
fn falling(x: f64) -> u64 {
    if x.is_nan() { u64::MAX } else { !ascending(x) }
}

/// [`rlc_compiler::interp::nth`] of `row`, without an order of all entries: the n-th value first, then
/// which of the entries that have it. `keys` is room for as many numbers.
pub(super) fn nth_entry(row: &[f64], keys: &mut [u64], n: f64) -> f64 {
    if n.is_nan() || n < 1.0 || row.is_empty() {
        return -1.0;
    }
    let place = (n as usize).min(row.len()) - 1;
    if place == 0 {
        // The first of the largest.
        let mut best = (0, falling(row[0]));
        for (i, x) in row.iter().enumerate().skip(1) {
            let x = falling(*x);
            if x < best.1 {
                best = (i, x);
            }
        }
        return best.0 as f64;
    }
    for (key, x) in keys.iter_mut().zip(row) {
        *key = falling(*x);
    }
    let (above, found, _) = keys.select_nth_unstable(place);
    let found = *found;
    // Entries before it with the same value come first in order.
    let mut left = above.iter().filter(|k| **k == found).count();
    for (i, x) in row.iter().enumerate() {
        if falling(*x) == found {
            if left == 0 {
                return i as f64;
            }
            left -= 1;
        }
    }
    -1.0
}

/// The n-th of the first `width` numbers of scratch.
///
/// # Safety
///
/// `scratch` has room for two times `width` numbers and is no one else's.
pub(super) unsafe fn nth(scratch: *mut f64, width: usize, n: f64) -> f64 {
    // SAFETY: both halves are as long as the caller promises, and do not overlap; any bits are a u64.
    let (row, keys) = unsafe {
        (
            from_raw_parts(scratch, width),
            from_raw_parts_mut(scratch.add(width).cast::<u64>(), width),
        )
    };
    nth_entry(row, keys, n)
}

/// # Safety
///
/// `row` has room for `vocab` numbers and is no one else's; `d` and `index` hold rows
/// `begin..end`.
pub(super) unsafe extern "C" fn spread(
    row: *mut f64,
    vocab: i64,
    d: *const f64,
    index: *const f64,
    begin: i64,
    end: i64,
) -> f64 {
    // SAFETY: as promised by the caller.
    let (row, d, index) = unsafe {
        (
            from_raw_parts_mut(row, vocab as usize),
            from_raw_parts(d.offset(begin as isize), (end - begin) as usize),
            from_raw_parts(index.offset(begin as isize), (end - begin) as usize),
        )
    };
    row.fill(0.0);
    for (d, index) in d.iter().zip(index) {
        if let Some(sum) = entry(*index).and_then(|i| row.get_mut(i)) {
            *sum += d;
        }
    }
    0.0
}

/// # Safety
///
/// `d` and `index` hold rows `begin..end`.
pub(super) unsafe extern "C" fn spread_at(
    at: f64,
    vocab: i64,
    d: *const f64,
    index: *const f64,
    begin: i64,
    end: i64,
) -> f64 {
    // SAFETY: as promised by the caller.
    let (d, index) = unsafe {
        (
            from_raw_parts(d.offset(begin as isize), (end - begin) as usize),
            from_raw_parts(index.offset(begin as isize), (end - begin) as usize),
        )
    };
    if at.is_nan() || at >= vocab as f64 {
        return 0.0;
    }
    d.iter().zip(index).filter(|(_, i)| **i == at).map(|(d, _)| d).sum()
}

#[cfg(test)]
mod tests {
    use super::nth_entry;

    #[test]
    fn nth_is_the_interpreters() {
        let nan = f64::NAN;
        let rows: [&[f64]; 6] = [
            &[3.0, 1.0, 2.0, 3.0, -1.0],
            &[0.0, -0.0, 0.0, -0.0],
            &[nan, 1.0, nan, f64::NEG_INFINITY, f64::INFINITY, 1.0],
            &[nan, nan],
            &[-5.0],
            &[-1.5, -1.5, -2.5, f64::NEG_INFINITY, f64::NEG_INFINITY, 7.0, 7.0],
        ];
        for row in rows {
            let mut keys = vec![0; row.len()];
            for n in [nan, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 99.0, f64::INFINITY] {
                let want = rlc_compiler::interp::nth(row, n);
                assert_eq!(nth_entry(row, &mut keys, n), want, "{row:?} {n}");
            }
        }
    }
}
