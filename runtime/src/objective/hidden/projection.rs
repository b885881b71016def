//! The products of a piece from hidden states, panel by panel of the vocabulary.
//!
//! A panel's rows of W and of d W stay in cache from one product to the next. While the gradient of some tokens goes
//! out, the logits of the next tokens take its place, so that W comes from memory once for both.
//!
//! gemm copies operands that do not lie as it wants them: all of a gradient, all of W. A panel's are laid out here, in
//! memory that the budget counts: hidden states with tokens side by side, logits and gradients `[entries, tokens]`.

use std::ops::Range;

use rayon::prelude::*;
use rlc_model::gemm::{INNER, Matrix, ROWS, product, threads};

use super::{Head, HeadGrads, Hidden, Lora};
use crate::device::cpu::{Source, fit};

/// Entries of a panel: with H = 896 its rows of W take 3.7 MB.
const PANEL: usize = 1024;
/// A vocabulary up to here is one panel, multiplied as it lies: its W is in the last cache anyway.
const ONE: usize = 4096;
/// Above so many tokens each thread copies blocks of W too.
const COPIED: usize = 48;
/// Numbers of a cache line, and of the longest vector.
const LINE: usize = 16;

/// The vocabulary in panels; the last has half to one and a half of the others' entries.
fn panels(vocab: usize) -> impl Iterator<Item = Range<usize>> {
    let count = if vocab <= ONE { 1 } else { (vocab + PANEL / 2) / PANEL };
    (0..count).map(move |n| n * PANEL..if n + 1 == count { vocab } else { (n + 1) * PANEL })
}

fn largest(vocab: usize) -> usize {
    panels(vocab).map(|p| p.len()).max().unwrap_or(0)
}

/// Bytes that so many tokens at once take, with `rows` rows of entries each: those rows, and what products copy.
pub(super) fn bytes(hidden: &Hidden<'_>, vocab: usize, rows: usize, tokens: usize) -> usize {
    let panel = largest(vocab);
    let copies = if panel < vocab {
        tokens.next_multiple_of(LINE) * (panel + hidden.width)
    } else {
        tokens.min(INNER) * vocab + hidden.width.min(INNER) * tokens.max(vocab.min(2 * ROWS))
    };
    let own = ROWS * if tokens <= COPIED { tokens } else { INNER };
    let low = 3 * hidden.head.rank(hidden.width) * tokens;
    size_of::<f32>() * (rows * tokens * vocab + copies + threads() * own + low)
}

/// Memory of products, used again.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Of the low-rank addition: scale h A^T.
    low: Vec<f32>,
    /// Hidden states, `[H, lanes]`: each number of all tokens side by side, then zeros up to whole vectors.
    states: Vec<f32>,
    /// A panel's logits or gradients, `[entries, lanes]`.
    panel: Vec<f32>,
}

/// Logits of hidden states.
#[derive(Clone, Copy)]
pub(super) struct Forward<'a> {
    /// The token of the first hidden state.
    pub first: usize,
    pub vocab: usize,
    pub hidden: Hidden<'a>,
}

impl<'a> Forward<'a> {
    /// Where the hidden states of some tokens lie.
    fn place(&self, tokens: &Range<usize>) -> Range<usize> {
        let width = self.hidden.width;
        (tokens.start - self.first) * width..(tokens.end - self.first) * width
    }

    fn states(&self, tokens: &Range<usize>) -> Matrix<'a> {
        let Hidden { rows, width, .. } = self.hidden;
        Matrix::new(&rows[self.place(tokens)], tokens.len(), width)
    }

    /// A panel's rows of W.
    fn weight(&self, panel: &Range<usize>) -> Matrix<'a> {
        rows_of(self.hidden.head.weight, panel, self.hidden.width)
    }

    /// scale h A^T of some tokens, `[tokens, r]`.
    fn low(&self, tokens: &Range<usize>, lora: Lora<'_>, into: &mut Vec<f32>) {
        let Hidden { width, head, .. } = self.hidden;
        let rank = head.rank(width);
        into.resize(tokens.len() * rank, 0.0);
        let a = Matrix::new(lora.a, rank, width).turned();
        product(into, rank, self.states(tokens), a, false);
        scale(into, lora.scale);
    }

    /// What all panels of some tokens need.
    fn begin(&self, tokens: &Range<usize>, work: &mut Work) {
        let Hidden { rows, width, head } = self.hidden;
        if let Some(lora) = head.lora {
            self.low(tokens, lora, &mut work.low);
        }
        if self.vocab > ONE {
            let lanes = tokens.len().next_multiple_of(LINE);
            let rows: Vec<&[f32]> = rows[self.place(tokens)].chunks_exact(width).collect();
            side_by_side(&rows, &mut work.states[..width * lanes], lanes);
        }
    }

    /// Makes room for the copies of a panel.
    fn make_room(&self, tokens: usize, work: &mut Work) {
        if self.vocab > ONE {
            let lanes = tokens.next_multiple_of(LINE);
            fit(&mut work.states, self.hidden.width * lanes);
            fit(&mut work.panel, largest(self.vocab) * lanes);
        }
    }

    /// Logits, `[tokens, V]`.
    pub fn fill(&self, tokens: &Range<usize>, into: &mut [f32], work: &mut Work) {
        if tokens.is_empty() {
            return;
        }
        self.make_room(tokens.len(), work);
        among_threads(|| {
            self.begin(tokens, work);
            for panel in panels(self.vocab) {
                self.panel(tokens, &panel, into, work);
            }
        });
    }

    /// A panel's logits of some tokens, among all of theirs.
    fn panel(
        &self,
        tokens: &Range<usize>,
        panel: &Range<usize>,
        into: &mut [f32],
        work: &mut Work,
    ) {
        let Hidden { width, head, .. } = self.hidden;
        let weight = self.weight(panel);
        let bias = head.bias.map(|b| &b[panel.clone()]);
        let count = tokens.len();
        let rows = into.chunks_exact_mut(self.vocab).take(count);
        let mut rows: Vec<&mut [f32]> = rows.map(|row| &mut row[panel.clone()]).collect();
        if self.vocab > ONE {
            let lanes = count.next_multiple_of(LINE);
            let logits = &mut work.panel[..panel.len() * lanes];
            for (entry, b) in logits.chunks_exact_mut(lanes).zip(bias.into_iter().flatten()) {
                entry.fill(*b);
            }
            let h = Matrix::new(&work.states[..width * lanes], width, lanes);
            product(logits, lanes, weight, h, bias.is_some());
            in_rows(logits, &mut rows, lanes);
        } else {
            if let Some(bias) = bias {
                for row in &mut rows {
                    row.copy_from_slice(bias);
                }
            }
            let h = self.states(tokens);
            product(into, self.vocab, h, weight.turned(), bias.is_some());
        }
        if let Some(lora) = head.lora {
            let rank = head.rank(width);
            let b = rows_of(lora.b, panel, rank).turned();
            let low = Matrix::new(&work.low, count, rank);
            product(&mut into[panel.start..], self.vocab, low, b, true);
        }
    }
}

impl Head<'_> {
    /// r of the low-rank addition.
    pub(super) fn rank(&self, width: usize) -> usize {
        self.lora.map_or(0, |l| l.a.len() / width)
    }
}

/// Some rows of a packed matrix.
fn rows_of<'m>(data: &'m [f32], rows: &Range<usize>, width: usize) -> Matrix<'m> {
    Matrix::new(&data[rows.start * width..rows.end * width], rows.len(), width)
}

fn scale(numbers: &mut [f32], by: f32) {
    for x in numbers {
        *x *= by;
    }
}

/// Logits of hidden states, and the way back.
pub(super) struct Projection<'a, 'g> {
    pub forward: Forward<'a>,
    pub d_hidden: &'a mut [f32],
    pub grads: &'a mut HeadGrads<'g>,
    work: Work,
    /// Of the low-rank addition, for tokens whose gradient comes in: scale h A^T and its gradient.
    low: Vec<f32>,
    d_low: Vec<f32>,
}

impl<'a, 'g> Projection<'a, 'g> {
    pub fn new(
        forward: Forward<'a>,
        d_hidden: &'a mut [f32],
        grads: &'a mut HeadGrads<'g>,
    ) -> Projection<'a, 'g> {
        let (low, d_low) = (Vec::new(), Vec::new());
        Projection { forward, d_hidden, grads, work: Work::default(), low, d_low }
    }

    /// Makes the copies' memory, for the longest chunk: one that grows leaves its old place behind.
    pub fn make_room(&mut self, tokens: usize) {
        self.forward.make_room(tokens, &mut self.work);
    }

    /// What all panels of tokens whose gradient comes in need.
    fn begin(&mut self, tokens: &Range<usize>) {
        let Some(lora) = self.forward.hidden.head.lora else { return };
        self.forward.low(tokens, lora, &mut self.low);
        self.d_low.resize(self.low.len(), 0.0);
    }

    /// A panel's part of the way back, from a gradient `[tokens, V]`. W comes last, for whoever needs it next.
    fn back(&mut self, tokens: &Range<usize>, panel: &Range<usize>, gradient: &[f32]) {
        let Forward { vocab, hidden: Hidden { width, head, .. }, .. } = self.forward;
        let (count, more) = (tokens.len(), panel.start > 0);
        let h = self.forward.states(tokens);
        let d = Matrix::strided(&gradient[panel.start..], count, panel.len(), vocab);
        if let Some(weight) = &mut self.grads.weight {
            let into = &mut weight[panel.start * width..panel.end * width];
            if vocab > ONE {
                let lanes = count.next_multiple_of(LINE);
                let turned = &mut self.work.panel[..panel.len() * lanes];
                let rows = gradient.chunks_exact(vocab).take(count);
                let rows: Vec<&[f32]> = rows.map(|row| &row[panel.clone()]).collect();
                side_by_side(&rows, turned, lanes);
                product(into, width, Matrix::strided(turned, panel.len(), count, lanes), h, true);
            } else {
                product(into, width, d.turned(), h, true);
            }
        }
        if let Some(bias) = &mut self.grads.bias {
            for row in gradient.chunks_exact(vocab).take(count) {
                let own = bias[panel.clone()].iter_mut().zip(&row[panel.clone()]);
                own.for_each(|(sum, g)| *sum += g);
            }
        }
        let own = self.forward.place(tokens);
        product(&mut self.d_hidden[own], width, d, self.forward.weight(panel), more);
        let Some(lora) = head.lora else { return };
        let rank = head.rank(width);
        product(&mut self.d_low, rank, d, rows_of(lora.b, panel, rank), more);
        if let Some(grads) = &mut self.grads.lora {
            let into = &mut grads.b[panel.start * rank..panel.end * rank];
            product(into, rank, d.turned(), Matrix::new(&self.low, count, rank), true);
        }
    }

    /// What is left when all panels have come.
    fn end(&mut self, tokens: &Range<usize>) {
        let Hidden { width, head, .. } = self.forward.hidden;
        let Some(lora) = head.lora else { return };
        let rank = head.rank(width);
        scale(&mut self.d_low, lora.scale);
        let d_low = Matrix::new(&self.d_low, tokens.len(), rank);
        let own = self.forward.place(tokens);
        product(&mut self.d_hidden[own], width, d_low, Matrix::new(lora.a, rank, width), true);
        if let Some(grads) = &mut self.grads.lora {
            product(grads.a, width, d_low.turned(), self.forward.states(tokens), true);
        }
    }
}

impl Source for Projection<'_, '_> {
    fn fill(&mut self, tokens: Range<usize>, into: &mut [f32]) {
        self.forward.fill(&tokens, into, &mut self.work);
    }

    fn take(&mut self, tokens: Range<usize>, gradient: &[f32]) {
        if tokens.is_empty() {
            return;
        }
        self.forward.make_room(tokens.len(), &mut self.work);
        among_threads(|| {
            self.begin(&tokens);
            for panel in panels(self.forward.vocab) {
                self.back(&tokens, &panel, gradient);
            }
            self.end(&tokens);
        });
    }

    fn exchange(&mut self, tokens: Range<usize>, next: Range<usize>, place: &mut [f32]) {
        self.forward.make_room(tokens.len().max(next.len()), &mut self.work);
        among_threads(|| {
            self.begin(&tokens);
            self.forward.begin(&next, &mut self.work);
            for panel in panels(self.forward.vocab) {
                self.back(&tokens, &panel, place);
                self.forward.panel(&next, &panel, place, &mut self.work);
            }
            self.end(&tokens);
        });
    }
}

/// Runs many short products on a thread of the pool: there each starts without a call into the pool from outside.
fn among_threads(work: impl FnOnce() + Send) {
    rayon::scope(|_| work());
}

/// Writes rows as columns, `[numbers of a row, lanes]`, with zeros in lanes that have no row.
fn side_by_side(rows: &[&[f32]], into: &mut [f32], lanes: usize) {
    into.par_chunks_mut(LINE * lanes).enumerate().for_each(|(n, block)| {
        let own = n * LINE..n * LINE + block.len() / lanes;
        for (at, tile) in rows.chunks(LINE).enumerate() {
            for (i, line) in block.chunks_exact_mut(lanes).enumerate() {
                let line = &mut line[at * LINE..at * LINE + LINE];
                line.fill(0.0);
                line.iter_mut().zip(tile).for_each(|(x, row)| *x = row[own.start + i]);
            }
        }
    });
}

/// The other way round.
fn in_rows(from: &[f32], rows: &mut [&mut [f32]], lanes: usize) {
    rows.par_chunks_mut(LINE).enumerate().for_each(|(at, tile)| {
        for (n, block) in from.chunks(LINE * lanes).enumerate() {
            for (i, row) in tile.iter_mut().enumerate() {
                let row = &mut row[n * LINE..n * LINE + block.len() / lanes];
                let lines = block.chunks_exact(lanes);
                row.iter_mut().zip(lines).for_each(|(x, line)| *x = line[at * LINE + i]);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::{LINE, ONE, PANEL, in_rows, panels, side_by_side};

    #[test]
    fn panels_are_the_vocabulary() {
        for vocab in [0, 1, ONE, ONE + 1, 32_000, 151_936, 152_000] {
            let mut end = 0;
            for panel in panels(vocab) {
                assert_eq!(panel.start, end, "{vocab}");
                let whole = vocab <= ONE && panel.len() == vocab;
                assert!(whole || (PANEL / 2..=PANEL * 3 / 2).contains(&panel.len()), "{panel:?}");
                end = panel.end;
            }
            assert_eq!(end, vocab);
        }
    }

    #[test]
    fn rows_stand_side_by_side_and_come_back() {
        for (numbers, count) in [(1, 1), (16, 3), (37, 5), (50, 16), (1500, 130)] {
            let lanes = usize::next_multiple_of(count, LINE);
            let rows: Vec<f32> = (0..numbers * count).map(|i| i as f32).collect();
            let mut columns = vec![-1.0f32; numbers * lanes];
            let each: Vec<&[f32]> = rows.chunks_exact(numbers).collect();
            side_by_side(&each, &mut columns, lanes);
            for (i, x) in columns.iter().enumerate() {
                let (number, row) = (i / lanes, i % lanes);
                let want = if row < count { rows[row * numbers + number] } else { 0.0 };
                assert_eq!(*x, want, "{number} of {row}");
            }
            let mut back = vec![-1.0f32; numbers * count];
            let mut each: Vec<&mut [f32]> = back.chunks_exact_mut(numbers).collect();
            in_rows(&columns, &mut each, lanes);
            assert_eq!(back, rows);
        }
    }
}
