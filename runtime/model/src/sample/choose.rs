//! One draw from one row of logits.
//!
//! Order of the filters as everywhere else: temperature, then the `top_k` most likely, then the smallest set of these that
//! reaches `top_p` of their probability. Ties go to the smaller id, so that nothing depends on a sort's whims.
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

/// `exp((x - max) / temperature)` of a row, its maximum, and the sum.
struct Weigh<'a> {
    logits: &'a [f32],
    weights: &'a mut Vec<f32>,
    inverse_temperature: f32,
}

impl Kernel for Weigh<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run<const FMA: bool>(self) -> (f32, f32) {
        self.weights.extend_from_slice(self.logits);
        let largest = max(self.logits);
        (largest, exp_sum::<FMA>(self.weights, largest, self.inverse_temperature))
    }
}

/// Draws a token; `weights` is memory to work in. The random number is drawn even if it decides nothing, so that streams stay in step.
pub(super) fn choose(
    logits: &[f32],
    options: &SampleOptions,
    rng: &mut ChaCha8Rng,
    weights: &mut Vec<f32>,
) -> Result<Choice> {
    let uniform = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let greedy = options.temperature == 0.0;
    let inverse_temperature = if greedy { 1.0 } else { (1.0 / options.temperature) as f32 };
    weights.clear();
    let (largest, total) = run(Weigh { logits, weights: &mut *weights, inverse_temperature });
    if !(total.is_finite() && largest.is_finite()) {
        let value = logits.iter().copied().find(|v| !v.is_finite()).unwrap_or(f32::NAN);
        return Err(ModelError::NonFinite { place: "a row of logits".to_owned(), value });
    }
    let logp = |token: u32| (logits[token as usize] - largest) * inverse_temperature - total.ln();
    if greedy {
        let token = logits.iter().position(|v| *v == largest).unwrap_or(0) as u32;
        return Ok(Choice { token, logp: logp(token), sampled_logp: 0.0 });
    }
    if options.top_p >= 1.0 && (options.top_k == 0 || options.top_k >= logits.len()) {
        let token = pick(weights.iter().copied().enumerate(), uniform);
        return Ok(Choice { token, logp: logp(token), sampled_logp: logp(token) });
    }
    let kept = keep(weights, options);
    let token = pick(kept.iter().map(|id| (*id as usize, weights[*id as usize])), uniform);
    let mass: f64 = kept.iter().map(|id| f64::from(weights[*id as usize])).sum();
    let sampled = (f64::from(weights[token as usize]) / mass).ln() as f32;
    Ok(Choice { token, logp: logp(token), sampled_logp: sampled.min(0.0) })
}

/// The token at which the running sum of weights passes `uniform` times their total.
fn pick(weights: impl Iterator<Item = (usize, f32)> + Clone, uniform: f64) -> u32 {
    let total: f64 = weights.clone().map(|(_, w)| f64::from(w)).sum();
    let target = uniform * total;
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
    last as u32
}

/// The ids that survive `top_k` and `top_p`, most likely first.
fn keep(weights: &[f32], options: &SampleOptions) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..weights.len() as u32).collect();
    let order =
        |a: &u32, b: &u32| weights[*b as usize].total_cmp(&weights[*a as usize]).then(a.cmp(b));
    if options.top_k > 0 && options.top_k < ids.len() {
        ids.select_nth_unstable_by(options.top_k - 1, order);
        ids.truncate(options.top_k);
    }
    ids.sort_unstable_by(order);
    if options.top_p < 1.0 {
        let total: f64 = ids.iter().map(|id| f64::from(weights[*id as usize])).sum();
        let mut sum = 0.0;
        let enough = ids.iter().position(|id| {
            sum += f64::from(weights[*id as usize]);
            sum >= options.top_p * total
        });
        ids.truncate(enough.map_or(ids.len(), |at| at + 1));
    }
    ids
}
