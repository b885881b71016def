//! Draws from rows of logits on a device: sums of blocks of weights come back, and the block that a draw falls into. Where
//! `top_k` or `top_p` leave tokens out, whole rows come back.

use candle_core::{D, Tensor};
use rand_chacha::ChaCha8Rng;

use super::super::SampleOptions;
use super::super::choose::{BLOCK, Choice, Weights, block_of, choose, filters, uniform, walk};
use crate::error::{ModelError, Result};

/// One token for every row of logits `[rows, vocab]` that has a stream.
pub(super) fn draw(
    logits: &Tensor,
    streams: Vec<Option<&mut ChaCha8Rng>>,
    options: &SampleOptions,
    room: &mut Weights,
) -> Result<Vec<Option<Choice>>> {
    let (rows, vocab) = logits.dims2()?;
    if options.temperature > 0.0 && filters(options, vocab) {
        let logits = logits.to_vec2::<f32>()?;
        let draw = |(logits, rng): (Vec<f32>, Option<&mut ChaCha8Rng>)| {
            rng.map(|rng| choose(&logits, options, rng, room)).transpose()
        };
        return logits.into_iter().zip(streams).map(draw).collect();
    }
    let greedy = options.temperature == 0.0;
    let inverse = if greedy { 1.0 } else { 1.0 / options.temperature };
    let largest = logits.max_keepdim(D::Minus1)?;
    let weights = (logits.broadcast_sub(&largest)? * inverse)?.exp()?;
    let blocks = vocab.div_ceil(BLOCK);
    let weights = weights
        .pad_with_zeros(1, 0, blocks * BLOCK - vocab)?
        .contiguous()?
        .reshape((rows, blocks, BLOCK))?;
    let largest = largest.flatten_all()?.to_vec1::<f32>()?;
    let sums: Vec<Vec<f64>> = (weights.sum(2)?.to_vec2::<f32>()?.into_iter())
        .map(|row| row.into_iter().map(f64::from).collect())
        .collect();
    let best = if greedy { Some(logits.argmax(D::Minus1)?.to_vec1::<u32>()?) } else { None };
    let (mut places, mut found) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    let live: Vec<bool> = streams.iter().map(Option::is_some).collect();
    for (row, rng) in streams.into_iter().enumerate() {
        let mass: f64 = sums[row].iter().sum();
        let Some(rng) = rng else {
            places.push(0);
            found.push((0, 0.0, mass));
            continue;
        };
        if !((mass as f32).is_finite() && largest[row].is_finite()) {
            let value = if largest[row].is_finite() { mass as f32 } else { largest[row] };
            return Err(ModelError::NonFinite { place: "a row of logits".to_owned(), value });
        }
        let (block, target) = block_of(&sums[row], uniform(rng) * mass);
        places.push((row * blocks + block) as u32);
        found.push((block, target, mass));
    }
    if let Some(best) = best {
        let choice = |(row, token): (usize, u32)| {
            let logp = -(found[row].2.ln() as f32);
            live[row].then_some(Choice { token, logp, sampled_logp: 0.0 })
        };
        return Ok(best.into_iter().enumerate().map(choice).collect());
    }
    let places = Tensor::new(places, logits.device())?;
    let theirs = weights.reshape((rows * blocks, BLOCK))?.index_select(&places, 0)?;
    let theirs = theirs.to_vec2::<f32>()?;
    let choice = |(row, weights): (usize, Vec<f32>)| {
        let (block, target, mass) = found[row];
        let first = (block * BLOCK) as u32;
        let token = walk((first..).zip(weights.iter().copied()), target);
        let logp = (f64::from(weights[(token - first) as usize]).ln() - mass.ln()) as f32;
        live[row].then_some(Choice { token, logp, sampled_logp: logp })
    };
    Ok(theirs.into_iter().enumerate().map(choice).collect())
}
