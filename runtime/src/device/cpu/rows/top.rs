//! The largest entries of a row: which is the n-th, and which are at least some number.
//!
//! Comparisons only, so every width finds the same entries. Chunks of a row are looked at as a whole first; few hold
//! an entry that matters.

use std::ops::ControlFlow;

use rlc_compiler::table::Floats;

use super::block::{BLOCK, Buffer, Source, widen};
use super::simd::{Kernel, Simd, Width, run};

/// Entries of a chunk.
const CHUNK: usize = 32;

/// Memory for [`nth`] that is used again.
#[derive(Debug, Clone, Default)]
pub struct Room {
    /// The largest of each chunk.
    most: Vec<f32>,
    order: Vec<f32>,
    found: Vec<(f32, u32)>,
}

/// The number of the entry that comes n-th by falling value, from 1, ties in order: [`rlc_compiler::interp::nth`].
/// None where a row has few chunks for so many, few numbers, or is one of f64.
pub fn nth(width: Width, row: Floats, n: usize, room: &mut Room) -> Option<usize> {
    let len = row.len();
    let place = n.min(len).checked_sub(1)?;
    if matches!(row, Floats::F64(_)) || place * 2 >= len / CHUNK {
        return None;
    }
    let source = Source::of(row);
    room.most.clear();
    run(width, Most { source, len, out: &mut room.most });
    // So many chunks have an entry of at least this, and so many entries are at least this.
    room.order.clone_from(&room.most);
    let (_, least, _) = room.order.select_nth_unstable_by(place, |a, b| b.total_cmp(a));
    let least = *least;
    if least == f32::NEG_INFINITY {
        return None;
    }
    room.found.clear();
    for (chunk, _) in room.most.iter().enumerate().filter(|m| *m.1 >= least) {
        for at in chunk * CHUNK..len.min((chunk + 1) * CHUNK) {
            // SAFETY: the row has this entry. Every number of these types is one of f32.
            let x = unsafe { source.get(at) } as f32;
            if x >= least {
                room.found.push((x, at as u32));
            }
        }
    }
    let falling = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    // Zeros are equal whatever their sign.
    room.found.iter_mut().for_each(|f| f.0 += 0.0);
    let (_, found, _) = room.found.select_nth_unstable_by(place, falling);
    Some(found.1 as usize)
}

/// Adds the numbers of the entries that are at least `least` to `out`, in order; false where they would be more
/// than `most`, or the row is one of f64.
pub fn at_least(width: Width, row: Floats, least: f32, most: usize, out: &mut Vec<u32>) -> bool {
    if matches!(row, Floats::F64(_)) {
        return false;
    }
    let before = out.len();
    run(
        width,
        AtLeast { source: Source::of(row), len: row.len(), least, most: before + most, out },
    );
    out.len() <= before + most
}

/// Hands a row to `block`, so many entries at a time with the place of the first, until it says that this is enough.
#[inline(always)]
fn blocks<S: Simd>(
    s: S,
    source: Source,
    len: usize,
    mut block: impl FnMut(usize, &[f32]) -> ControlFlow<()>,
) {
    let mut buffer = Buffer::new();
    for start in (0..len).step_by(BLOCK) {
        let n = BLOCK.min(len - start);
        // SAFETY: the row has these entries, and the block as many numbers.
        let x = unsafe { std::slice::from_raw_parts(widen(s, source, start, n, &mut buffer), n) };
        if block(start, x).is_break() {
            return;
        }
    }
}

struct Most<'a> {
    source: Source,
    len: usize,
    out: &'a mut Vec<f32>,
}

impl Kernel for Most<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        blocks(s, self.source, self.len, |_, x| {
            for chunk in x.chunks(CHUNK) {
                let mut lanes = [f32::NEG_INFINITY; 16];
                let (whole, rest) = chunk.as_chunks::<16>();
                for part in whole {
                    for (lane, x) in lanes.iter_mut().zip(part) {
                        *lane = if *x > *lane { *x } else { *lane };
                    }
                }
                for (lane, x) in lanes.iter_mut().zip(rest) {
                    *lane = if *x > *lane { *x } else { *lane };
                }
                let larger = |a: f32, b: &f32| if *b > a { *b } else { a };
                self.out.push(lanes.iter().fold(f32::NEG_INFINITY, larger));
            }
            ControlFlow::Continue(())
        });
    }
}

struct AtLeast<'a> {
    source: Source,
    len: usize,
    least: f32,
    most: usize,
    out: &'a mut Vec<u32>,
}

impl Kernel for AtLeast<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        blocks(s, self.source, self.len, |start, x| {
            for (at, chunk) in x.chunks(CHUNK).enumerate() {
                let any = chunk.iter().fold(0, |any, x| any | u32::from(*x >= self.least));
                if any == 0 {
                    continue;
                }
                let first = start + at * CHUNK;
                for (i, _) in chunk.iter().enumerate().filter(|x| *x.1 >= self.least) {
                    self.out.push((first + i) as u32);
                }
            }
            if self.out.len() > self.most {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{Room, at_least, nth};
    use crate::device::cpu::rows::Width;
    use rlc_compiler::table::Floats;

    #[test]
    fn the_nth_is_the_interpreters() {
        let mut state = 5u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0];
        let mut room = Room::default();
        let mut found = 0;
        for round in 0..300 {
            let len = 300 + next() as usize % 1500;
            let kinds = [3, 40, 1 << 20][round % 3];
            let row: Vec<f32> = (0..len)
                .map(|_| match next() % 50 {
                    x @ 0..5 if round % 4 == 0 => odd[x as usize],
                    _ => (next() % kinds) as f32 - kinds as f32 / 2.0,
                })
                .collect();
            let half: Vec<u16> = row.iter().map(|x| (x.to_bits() >> 16) as u16).collect();
            for width in Width::ALL.into_iter().filter(|w| w.available()) {
                for n in [1, 2, 3, 7, 20, 64] {
                    for row in [Floats::F32(&row), Floats::Bf16(&half)] {
                        let numbers: Vec<f64> = (0..len).map(|i| row.get(i)).collect();
                        let want = rlc_compiler::interp::nth(&numbers, n as f64);
                        let Some(got) = nth(width, row, n, &mut room) else { continue };
                        assert_eq!(got as f64, want, "round {round}, {n} of {len}");
                        found += 1;
                        let least = row.get(got) as f32;
                        let mut all = vec![7];
                        let some = at_least(width, row, least, len, &mut all);
                        let fits = |i: &usize| row.get(*i) >= f64::from(least);
                        let want: Vec<u32> = (0..len).filter(fits).map(|i| i as u32).collect();
                        assert!(some && all[1..] == want, "round {round}");
                        let few = want.len() - 1;
                        assert!(!at_least(width, row, least, few, &mut all), "round {round}");
                    }
                }
            }
        }
        assert!(found > 2000, "{found}");
    }
}
