//! Ranks within scopes.

use std::ops::Range;

use rlc_compiler::interp::order;

/// Writes for each kept row among `rows` how many kept rows of its scope come before it when sorted
/// by x, ties in order of rows; -1 for the others. `starts` has the first row of each scope; without
/// it `rows` are one.
pub(super) fn rank(
    x: &[f64],
    filter: Option<&[f64]>,
    starts: &[u32],
    rows: Range<usize>,
    out: &mut [f64],
) {
    let mut by_value: Vec<usize> = Vec::new();
    let mut begin = rows.start;
    while begin < rows.end {
        // The first start beyond `begin` ends its scope; scopes never leave a piece.
        let next = starts.partition_point(|&s| s as usize <= begin);
        let end = starts.get(next).map_or(rows.end, |&s| s as usize).min(rows.end);
        by_value.clear();
        by_value.extend((begin..end).filter(|&r| filter.is_none_or(|f| f[r] != 0.0)));
        by_value.sort_by(|&a, &b| order(x[a], x[b]));
        out[begin..end].fill(-1.0);
        for (place, &r) in by_value.iter().enumerate() {
            out[r] = place as f64;
        }
        begin = end;
    }
}
