//! What few numbers allow to say: Student's t intervals, paired differences, and Holm's correction for many of them.

use statrs::distribution::{ContinuousCDF, Discrete, Hypergeometric, StudentsT};

/// A mean with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Mean.
    pub mean: f64,
    /// Half of the 95 % interval of the mean; none of a single number.
    pub half: Option<f64>,
    /// How many numbers.
    pub count: usize,
}

impl Estimate {
    /// Of finite numbers; none of none.
    pub fn of(values: &[f64]) -> Option<Estimate> {
        let count = values.len();
        if count == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        let half = t(values)
            .map(|t| deviation(values, mean) / (count as f64).sqrt() * t.inverse_cdf(0.975));
        Some(Estimate { mean, half, count })
    }

    /// `0.812 ± 0.021`.
    pub fn text(&self, digits: usize) -> String {
        match self.half {
            Some(half) => format!("{:.digits$} ± {half:.digits$}", self.mean),
            None => format!("{:.digits$}", self.mean),
        }
    }
}

/// The probability that numbers with a mean of 0 lie at least as far from it as these do; 1 of fewer than two.
pub fn p_value(differences: &[f64]) -> f64 {
    let Some(t) = t(differences) else { return 1.0 };
    let count = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / count;
    let error = deviation(differences, mean) / count.sqrt();
    match (mean == 0.0, error == 0.0) {
        (true, _) => 1.0,
        (false, true) => 0.0,
        (false, false) => 2.0 * t.sf((mean / error).abs()),
    }
}

/// Holm's adjusted p-values: below 0.05 is what separates when all are looked at together.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let mut adjusted = vec![1.0; p.len()];
    let mut least: f64 = 0.0;
    for (rank, &i) in order.iter().enumerate() {
        least = least.max(((p.len() - rank) as f64 * p[i]).min(1.0));
        adjusted[i] = least;
    }
    adjusted
}

/// Fisher's exact test, two-sided: how likely counts that differ at least as much are, `a` of `n` against `b` of `m`.
pub fn fisher(a: usize, n: usize, b: usize, m: usize) -> f64 {
    let both = (a + b) as u64;
    let Ok(law) = Hypergeometric::new((n + m) as u64, n as u64, both) else { return 1.0 };
    let seen = law.pmf(a as u64);
    // Equal chances differ by rounding.
    let as_far = (both.saturating_sub(m as u64)..=both.min(n as u64))
        .map(|k| law.pmf(k))
        .filter(|c| *c <= seen * (1.0 + 1e-9));
    as_far.sum::<f64>().min(1.0)
}

/// Student's law for the mean of so many numbers; none of fewer than two.
fn t(values: &[f64]) -> Option<StudentsT> {
    StudentsT::new(0.0, 1.0, values.len().checked_sub(1)? as f64).ok()
}

fn deviation(values: &[f64], mean: f64) -> f64 {
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (dof, value) in
            [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (30, 2.0423)]
        {
            let found = t(&vec![0.0; dof + 1]).unwrap().inverse_cdf(0.975);
            assert!((found - value).abs() < 1e-4, "{dof}: {found}");
        }
    }

    #[test]
    fn intervals_and_paired_differences() {
        // R: t.test(c(0.1, 0.3, 0.2, 0.4)) gives mean 0.25, interval 0.0446 to 0.4554, p 0.03047.
        let values = [0.1, 0.3, 0.2, 0.4];
        let e = Estimate::of(&values).unwrap();
        assert!((e.mean - 0.25).abs() < 1e-12 && (e.half.unwrap() - 0.205_42).abs() < 1e-4);
        assert!((p_value(&values) - 0.030_466).abs() < 1e-5, "{}", p_value(&values));
        assert_eq!(Estimate::of(&[0.5]).unwrap().text(2), "0.50");
        assert_eq!(Estimate::of(&[]), None);
        assert_eq!((p_value(&[0.0, 0.0]), p_value(&[0.1, 0.1]), p_value(&[0.3])), (1.0, 0.0, 1.0));
    }

    #[test]
    fn counts() {
        // R: fisher.test(matrix(c(0, 5, 4, 1), 2)) gives 0.04762; with 5 of 5, 0.007937.
        assert!((fisher(0, 5, 4, 5) - 0.047_619).abs() < 1e-5);
        assert!((fisher(5, 5, 0, 5) - 0.007_937).abs() < 1e-5);
        assert!((fisher(0, 5, 0, 5) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn holm_corrects_the_least_first() {
        let adjusted = holm(&[0.01, 0.04, 0.03]);
        for (a, b) in adjusted.iter().zip([0.03, 0.06, 0.06]) {
            assert!((a - b).abs() < 1e-12, "{adjusted:?}");
        }
    }
}
