//! Whether two arrays of numbers are the same, up to a tolerance relative to the largest.

/// What is wrong, if anything: `got` differs from `want` by more than `tolerance` times the largest
/// finite entry of `want` (or `floor`, where that is larger). NaN in `want` is not compared.
pub fn differ(got: &[f64], want: &[f64], tolerance: f64, floor: f64) -> Option<String> {
    if got.len() != want.len() {
        return Some(format!("{} numbers for {}", got.len(), want.len()));
    }
    let scale = want.iter().filter(|w| w.is_finite()).fold(floor, |m, w| m.max(w.abs()));
    // A NaN among `got` is within no tolerance.
    let near = |g: f64, w: f64| g == w || (g - w).abs() <= tolerance * scale;
    let wrong = |g: f64, w: f64| !w.is_nan() && !near(g, w);
    let worst = got
        .iter()
        .zip(want)
        .enumerate()
        .filter(|(_, (g, w))| wrong(**g, **w))
        .max_by(|(_, (g, w)), (_, (h, v))| (*g - *w).abs().total_cmp(&(*h - *v).abs()));
    worst.map(|(i, (g, w))| format!("[{i}] {g:.12e} for {w:.12e} (scale {scale:.3e})"))
}

#[cfg(test)]
mod tests {
    use super::differ;

    #[test]
    fn differences_are_seen() {
        assert!(differ(&[1.0, 2.0], &[1.0, 2.0 + 1e-12], 1e-9, 0.0).is_none());
        assert!(differ(&[1.0, 2.0], &[1.0, 2.1], 1e-9, 0.0).is_some());
        assert!(differ(&[f64::NAN], &[1.0], 1e-9, 0.0).is_some());
        assert!(differ(&[5.0], &[f64::NAN], 1e-9, 0.0).is_none());
        assert!(differ(&[f64::INFINITY], &[f64::INFINITY], 1e-9, 0.0).is_none());
        assert!(differ(&[1e-3], &[0.0], 1e-9, 0.0).is_some());
        assert!(differ(&[], &[0.0], 1e-9, 0.0).is_some());
    }
}
