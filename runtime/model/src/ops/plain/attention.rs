//! Causal attention over packed rows in batched products: rows are laid out by sequence, the short ones filled up at the
//! end, where no query of a sequence looks.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::ops::softmax;

use super::super::{HeadShape, Rope};

/// Scores that exist at once, for one head.
const SCORES: usize = 1 << 24;

/// What every layer of a pass shares: where rows lie, and by how much they are turned.
pub(crate) struct Places {
    turn: Turn,
    parts: Vec<Part>,
}

/// Cosines and sines of rows, each `[rows, 1, dim / 2]`, f32.
pub(crate) struct Turn {
    cos: Tensor,
    sin: Tensor,
}

/// Neighbouring sequences that are attended over in one product.
struct Part {
    count: usize,
    longest: usize,
    /// The packed row of every place, `[count x longest]`; a filled-up place has its sequence's first.
    rows: Tensor,
    /// The place of each packed row of the part.
    places: Tensor,
    /// 0 where a query sees a key, else minus infinity: `[longest, longest]`, f32.
    mask: Tensor,
}

impl Turn {
    /// Of rows at `positions`.
    pub fn new(rope: &Rope, positions: &[usize], device: &Device) -> Result<Self> {
        let (mut cos, mut sin) = (Vec::new(), Vec::new());
        for position in positions {
            let (c, s) = rope.at(*position);
            cos.extend_from_slice(c);
            sin.extend_from_slice(s);
        }
        let half = cos.len() / positions.len().max(1);
        let table = |values| Tensor::from_vec(values, (positions.len(), 1, half), device);
        Ok(Turn { cos: table(cos)?, sin: table(sin)? })
    }
}

/// Rotated queries and keys, and values: `[rows, heads, dim]` each.
pub(crate) struct Heads {
    pub q: Tensor,
    pub k: Tensor,
    pub v: Tensor,
}

impl Heads {
    /// Of rows `[rows, width]`.
    pub fn of(qkv: &Tensor, shape: HeadShape, turn: &Turn) -> Result<Self> {
        let rows = qkv.dim(0)?;
        let heads = |from: usize, count: usize| {
            qkv.narrow(1, from, count * shape.dim)?.contiguous()?.reshape((rows, count, shape.dim))
        };
        let rotate = |x: Tensor| {
            let half = shape.dim / 2;
            let x = x.to_dtype(DType::F32)?;
            let (a, b) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?);
            let first = (a.broadcast_mul(&turn.cos)? - b.broadcast_mul(&turn.sin)?)?;
            let second = (b.broadcast_mul(&turn.cos)? + a.broadcast_mul(&turn.sin)?)?;
            Tensor::cat(&[first, second], 2)?.to_dtype(qkv.dtype())
        };
        Ok(Heads {
            q: rotate(heads(0, shape.heads)?)?,
            k: rotate(heads(shape.key(0), shape.kv_heads)?)?,
            v: heads(shape.value(0), shape.kv_heads)?,
        })
    }
}

impl Places {
    /// Of packed sequences of `lengths`, each from position 0.
    pub fn new(rope: &Rope, lengths: &[usize], device: &Device) -> Result<Self> {
        let positions: Vec<usize> = lengths.iter().flat_map(|l| 0..*l).collect();
        let turn = Turn::new(rope, &positions, device)?;
        let mut parts = Vec::new();
        let (mut first, mut row) = (0, 0);
        while first < lengths.len() {
            let (mut last, mut longest) = (first, 0);
            while last < lengths.len() {
                let wider = longest.max(lengths[last]);
                if last > first && (last + 1 - first) * wider * wider > SCORES {
                    break;
                }
                (longest, last) = (wider, last + 1);
            }
            let part = &lengths[first..last];
            parts.push(Part::new(part, row, longest, device)?);
            row += part.iter().sum::<usize>();
            first = last;
        }
        Ok(Places { turn, parts })
    }

    /// What the query heads read, `[rows, heads x dim]`, and the rotated heads.
    pub fn attend(&self, qkv: &Tensor, shape: HeadShape) -> Result<(Tensor, Heads)> {
        let heads = Heads::of(qkv, shape, &self.turn)?;
        let outputs =
            self.parts.iter().map(|p| p.attend(&heads, shape)).collect::<Result<Vec<_>>>()?;
        Ok((Tensor::cat(&outputs, 0)?, heads))
    }
}

impl Part {
    fn new(lengths: &[usize], first: usize, longest: usize, device: &Device) -> Result<Self> {
        let (mut rows, mut places) = (Vec::new(), Vec::new());
        let mut row = first;
        for (sequence, length) in lengths.iter().enumerate() {
            for place in 0..longest {
                rows.push((row + if place < *length { place } else { 0 }) as u32);
            }
            places.extend((0..*length).map(|place| (sequence * longest + place) as u32));
            row += length;
        }
        let mask: Vec<f32> = (0..longest * longest)
            .map(|at| if at % longest > at / longest { f32::NEG_INFINITY } else { 0.0 })
            .collect();
        Ok(Part {
            count: lengths.len(),
            longest,
            rows: Tensor::new(rows, device)?,
            places: Tensor::new(places, device)?,
            mask: Tensor::from_vec(mask, (longest, longest), device)?,
        })
    }

    fn attend(&self, heads: &Heads, shape: HeadShape) -> Result<Tensor> {
        let (count, longest) = (self.count, self.longest);
        // [count, heads, longest, dim]
        let laid = |x: &Tensor| {
            let heads = x.dim(1)?;
            x.index_select(&self.rows, 0)?
                .reshape((count, longest, heads, shape.dim))?
                .transpose(1, 2)?
                .contiguous()
        };
        // A key head's query heads lie beside each other: their rows go through one product.
        let q =
            laid(&heads.q)?.reshape((count, shape.kv_heads, shape.group() * longest, shape.dim))?;
        let out = read(&q, &laid(&heads.k)?, &laid(&heads.v)?, shape, |scores| {
            let each = (count, shape.kv_heads, shape.group(), longest, longest);
            let masked = scores.reshape(each)?.broadcast_add(&self.mask)?;
            masked.reshape((count, shape.kv_heads, shape.group() * longest, longest))
        })?;
        out.reshape((count, shape.heads, longest, shape.dim))?
            .transpose(1, 2)?
            .contiguous()?
            .reshape((count * longest, shape.out()))?
            .index_select(&self.places, 0)
    }
}

/// Softmax of scaled scores over keys `[n, kv_heads, keys, dim]`, times values; q is `[n, kv_heads, queries, dim]`, and
/// `mask` hides keys in f32 scores.
pub(crate) fn read(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    shape: HeadShape,
    mask: impl FnOnce(Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let scores = q.matmul(&k.transpose(2, 3)?)?.to_dtype(DType::F32)?;
    let probs = softmax(&mask((scores * f64::from(shape.scale()))?)?, D::Minus1)?;
    probs.to_dtype(v.dtype())?.matmul(v)
}
