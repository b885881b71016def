//! One draw from one row of logits.
//!
//! Order of the filters as everywhere else: temperature, then the `top_k` most likely, then the smallest set of these that
//! reaches `top_p` of their probability. Ties go to the smaller id, so that nothing depends on a sort's whims. A large
//! vocabulary is not walked entry by entry: sums of blocks say in which block a draw falls.
#![allow(
    clippy::inline_always,
    reason = "kernels must be inlined into their dispatch, see simd.rs"
)]

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

use super::SampleOptions;
use crate::error::{ModelError, Result};
use crate::simd::{Kernel, exp_sum, max, run};

/// A drawn token with its log-probs (see `Completion`).
pub(super) struct Choice {
    pub token: u32,
    pub logp: f32,
    pub sampled_logp: f32,
}

/// Memory that draws work in.
#[derive(Default)]
pub(crate) struct Weights {
    /// `exp((x - max) / temperature)` of a row.
    each: Vec<f32>,
    /// Sums of `BLOCK` of them.
    blocks: Vec<f64>,
}

/// Tokens whose weights are summed together.
pub(super) const BLOCK: usize = 256;

/// Fills the weights of a row; gives its maximum.
struct Weigh<'a> {
    logits: &'a [f32],
    weights: &'a mut Weights,
    inverse_temperature: f32,
}

impl Kernel for Weigh<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<const FMA: bool>(self) -> f32 {
        let Weights { each, blocks } = self.weights;
        each.clear();
        blocks.clear();
        let largest = max(self.logits);
        for logits in self.logits.chunks(BLOCK) {
            let start = each.len();
            each.extend_from_slice(logits);
            let block = &mut each[start..];
            let mut sum = exp_sum::<FMA>(block, largest, self.inverse_temperature);
            // The exponential saturates above zero; what is impossible has no weight at all.
            if logits.contains(&f32::NEG_INFINITY) {
                for (weight, logit) in block.iter_mut().zip(logits) {
                    *weight = if *logit == f32::NEG_INFINITY { 0.0 } else { *weight };
                }
                sum = block.iter().sum();
            }
            blocks.push(f64::from(sum));
        }
        largest
    }
}

/// The random number of a draw, in [0, 1).
pub(super) fn uniform(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Whether a draw looks at some of the tokens only.
pub(super) fn filters(options: &SampleOptions, vocab: usize) -> bool {
    options.top_p < 1.0 || (options.top_k > 0 && options.top_k < vocab)
}

/// Draws a token; `weights` is memory to work in. The random number is drawn even if it decides nothing, so that streams stay in step.
pub(super) fn choose(
    logits: &[f32],
    options: &SampleOptions,
    rng: &mut ChaCha8Rng,
    weights: &mut Weights,
) -> Result<Choice> {
    let uniform = uniform(rng);
    let greedy = options.temperature == 0.0;
    let inverse_temperature = if greedy { 1.0 } else { (1.0 / options.temperature) as f32 };
    let largest = run(Weigh { logits, weights: &mut *weights, inverse_temperature });
    let mass: f64 = weights.blocks.iter().sum();
    let total = mass as f32;
    if !(total.is_finite() && largest.is_finite()) {
        let value = logits.iter().copied().find(|v| !v.is_finite()).unwrap_or(f32::NAN);
        return Err(ModelError::NonFinite { place: "a row of logits".to_owned(), value });
    }
    let logp = |token: u32| (logits[token as usize] - largest) * inverse_temperature - total.ln();
    if greedy {
        let token = logits.iter().position(|v| *v == largest).unwrap_or(0) as u32;
        return Ok(Choice { token, logp: logp(token), sampled_logp: 0.0 });
    }
    if !filters(options, logits.len()) {
        let token = weights.pick(uniform * mass);
        return Ok(Choice { token, logp: logp(token), sampled_logp: logp(token) });
    }
    let weights = &weights.each;
    let kept = keep(weights, options);
    let mass: f64 = kept.iter().map(|id| f64::from(weights[*id as usize])).sum();
    let token = walk(kept.iter().map(|id| (*id, weights[*id as usize])), uniform * mass);
    let sampled = (f64::from(weights[token as usize]) / mass).ln() as f32;
    Ok(Choice { token, logp: logp(token), sampled_logp: sampled.min(0.0) })
}

impl Weights {
    /// The token at which the running sum of weights passes `target`.
    fn pick(&self, target: f64) -> u32 {
        let (found, target) = block_of(&self.blocks, target);
        let first = found * BLOCK;
        let block = &self.each[first..self.each.len().min(first + BLOCK)];
        walk((first as u32..).zip(block.iter().copied()), target)
    }
}

/// The block in which the running sum passes `target`, the last that has any weight where rounding keeps the sum below it;
/// and what is left of `target` there.
pub(super) fn block_of(sums: &[f64], mut target: f64) -> (usize, f64) {
    let mut found = 0;
    for (block, sum) in sums.iter().enumerate().filter(|(_, sum)| **sum > 0.0) {
        found = block;
        if target < *sum {
            break;
        }
        target -= sum;
    }
    (found, target)
}

/// The token at which the running sum of weights passes `target`; the last that has any, where rounding keeps the sum
/// below it.
pub(super) fn walk(weights: impl Iterator<Item = (u32, f32)>, target: f64) -> u32 {
    let mut sum = 0.0;
    let mut last = 0;
    for (id, weight) in weights {
        if weight > 0.0 {
            sum += f64::from(weight);
            last = id;
            if sum > target {
                break;
            }
        }
    }
    last
}

/// The ids that survive `top_k` and `top_p`, in order.
fn keep(weights: &[f32], options: &SampleOptions) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..weights.len() as u32).collect();
    let weight = |id: u32| weights[id as usize];
    let order = |a: &u32, b: &u32| weight(*b).total_cmp(&weight(*a)).then(a.cmp(b));
    if options.top_k > 0 && options.top_k < ids.len() {
        let last = *ids.clone().select_nth_unstable_by(options.top_k - 1, order).1;
        ids.retain(|id| order(id, &last).is_le());
    }
    if options.top_p < 1.0 {
        // Weights lie in 0..=1: their exponent and four more bits tell 2,033 classes apart, and only the class in which
        // the sum passes the limit needs sorting.
        let class = |id: u32| (weight(id).to_bits() >> 19) as usize;
        let mut sums = vec![0f64; (1f32.to_bits() >> 19) as usize + 1];
        for id in &ids {
            sums[class(*id)] += f64::from(weight(*id));
        }
        let limit = options.top_p * sums.iter().sum::<f64>();
        let mut sum = 0.0;
        let mut border = 0;
        for (class, more) in sums.iter().enumerate().rev() {
            border = class;
            if sum + more >= limit {
                break;
            }
            sum += more;
        }
        let mut there: Vec<u32> = ids.iter().copied().filter(|id| class(*id) == border).collect();
        there.sort_unstable_by(order);
        let enough = there.iter().find(|id| {
            sum += f64::from(weight(**id));
            sum >= limit
        });
        if let Some(last) = enough.or(there.last()) {
            ids.retain(|id| order(id, last).is_le());
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: sort, cut, add up, cut.
    fn sorted(weights: &[f32], options: &SampleOptions) -> Vec<u32> {
        let mut ids: Vec<u32> = (0..weights.len() as u32).collect();
        ids.sort_by(|a, b| weights[*b as usize].total_cmp(&weights[*a as usize]).then(a.cmp(b)));
        if options.top_k > 0 {
            ids.truncate(options.top_k);
        }
        let total: f64 = ids.iter().map(|id| f64::from(weights[*id as usize])).sum();
        let mut sum = 0.0;
        let enough = ids.iter().position(|id| {
            sum += f64::from(weights[*id as usize]);
            options.top_p < 1.0 && sum >= options.top_p * total
        });
        ids.truncate(enough.map_or(ids.len(), |at| at + 1));
        ids.sort_unstable();
        ids
    }

    #[test]
    fn what_is_kept_is_what_sorting_keeps() {
        for n in [1usize, 2, 37, 5000] {
            let smooth: Vec<f32> =
                (0..n).map(|i| (-(i as f32 * 0.7).sin().abs() * 9.0).exp()).collect();
            // Halves: sums of ties are exact, so that the limit falls on a tie.
            let tied: Vec<f32> = (0..n).map(|i| [1.0, 0.5, 0.25, 0.0][i * 7 % 4]).collect();
            for weights in [smooth, tied] {
                for (top_p, top_k) in
                    [(0.9, 0), (0.25, 0), (1e-6, 0), (1.0, 3), (0.5, 20), (0.3, 1), (0.999_999, 0)]
                {
                    let options = SampleOptions { top_p, top_k, ..SampleOptions::default() };
                    let kept = keep(&weights, &options);
                    assert_eq!(kept, sorted(&weights, &options), "{n}, k {top_k}, p {top_p}");
                }
            }
        }
    }

    #[test]
    fn a_draw_falls_where_the_running_sum_says() {
        let logits: Vec<f32> = (0..3000).map(|i| (i as f32 * 0.37).sin() * 3.0).collect();
        let mut weights = Weights::default();
        run(Weigh { logits: &logits, weights: &mut weights, inverse_temperature: 1.0 });
        let total: f64 = weights.each.iter().map(|w| f64::from(*w)).sum();
        let mut sum = 0.0;
        for (id, weight) in weights.each.iter().enumerate() {
            // In the middle of each entry's share, where rounding does not matter.
            let target = (sum + f64::from(*weight) / 2.0) / total;
            sum += f64::from(*weight);
            assert_eq!(weights.pick(target * weights.blocks.iter().sum::<f64>()), id as u32);
        }
        assert_eq!(weights.pick(f64::INFINITY), 2999);
        // An impossible entry is never drawn, at either end.
        let mut one = vec![f32::NEG_INFINITY; 700];
        one[300] = 5.0;
        run(Weigh { logits: &one, weights: &mut weights, inverse_temperature: 1.0 });
        for target in [0.0, 0.5, 1.0, 2.0] {
            assert_eq!(weights.pick(target), 300);
        }
    }
}
