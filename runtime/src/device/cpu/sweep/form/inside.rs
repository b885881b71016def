//! Rows of which the n largest entries are treated in another way: the form of a sweep holds for the others, and these
//! go through the blocks, put together as a row of their own.

use rlc_compiler::clif::Float;

use super::algebra::COLUMNS;
use super::apply::{Blocks, Columns, Later, Line, Part, Want, fold_into, needs};
use super::tape::value;
use super::{Known, KnownFold};
use crate::device::cpu::rows::{self, Target};
use crate::device::cpu::sweep::Column;
use crate::device::cpu::sweep::block::{self, Row};
use crate::device::cpu::sweep::memory::Memory;

/// Rows with more of them, as one entry in so many, go through the blocks as a whole.
const SHARE: usize = 8;

/// So far below the largest an entry has probability 0, in exponents.
const FAR: f64 = 1000.0;

/// Room that is used again for every row.
#[derive(Debug, Clone, Default)]
pub(super) struct Room {
    /// The numbers of the entries inside, and maybe of some that are not.
    some: Vec<u32>,
    /// Their entries of each column, one after the other.
    entries: Vec<f64>,
    floats: Vec<Column>,
    columns: Vec<*mut u8>,
    /// Their gradient, and what folds over them give.
    gradient: Vec<f32>,
    results: Vec<f64>,
    /// Columns without them, one after the other.
    copies: Vec<f32>,
    /// What is known of those.
    memory: Memory,
    outside: Vec<f64>,
    /// What hidden entries are there.
    low: [f64; COLUMNS],
}

// SAFETY: the pointers mean something only while a row runs, which has the room to itself.
unsafe impl Send for Room {}

impl KnownFold {
    /// How many numbers it gives.
    pub(super) fn results(&self) -> usize {
        match self {
            KnownFold::LogSumExp { means, .. } => 1 + means.len(),
            KnownFold::Sum(_) | KnownFold::Nth { .. } => 1,
            KnownFold::Nothing(count) => *count,
        }
    }
}

impl Room {
    /// Finds the entries inside and runs all of the sweep's code over them; none where they are too many.
    ///
    /// # Safety
    ///
    /// As for [`block::run`].
    pub(super) unsafe fn find(
        &mut self,
        known: &Known,
        values: &[f64],
        at: &Columns,
        row: &Row,
        blocks: Blocks<'_>,
        results: usize,
    ) -> Option<()> {
        self.some.clear();
        for inside in &known.inside {
            let (x, least) = (Line::new(inside.x, values)?, value(values, inside.least));
            let column = x.single().filter(|c| x.c[*c] > 0.0)?;
            // Of no number nothing is above or equal.
            if least.is_nan() {
                continue;
            }
            // Whatever the rounding, an entry below this has a formula below the number.
            let slack = if x.c0 == 0.0 { 0.0 } else { (least.abs() + x.c0.abs()) * 1e-12 };
            let from = (least - x.c0 - slack) / x.c[column];
            let from = if x.c[column] == 1.0 { from } else { from - from.abs() * 1e-12 };
            let mut least = from as f32;
            if f64::from(least) > from {
                least = least.next_down();
            }
            let most = row.entries / SHARE;
            if !rows::top::at_least(at.width, at.logits(column), least, most, &mut self.some) {
                return None;
            }
        }
        if known.inside.len() > 1 {
            self.some.sort_unstable();
            self.some.dedup();
        }
        let count = self.some.len();
        self.entries.clear();
        self.floats.clear();
        for (column, (source, _)) in row.floats.iter().zip(at.places) {
            // SAFETY: the entries are in the row.
            self.entries.extend(self.some.iter().map(|i| unsafe { source.get(*i as usize) }));
            self.floats.push(Column { float: Float::F64, ..*column });
        }
        let first = self.entries.as_mut_ptr();
        self.columns.clear();
        let columns = (0..row.columns.len()).map(|c| first.wrapping_add(c * count).cast());
        self.columns.extend(columns);
        self.gradient.clear();
        self.gradient.resize(count, 0.0);
        let gradient = [self.gradient.as_mut_ptr().cast()];
        self.results.clear();
        self.results.resize(results, 0.0);
        let some = Row {
            floats: &self.floats,
            columns: &self.columns,
            written: &gradient[..row.written.len().min(1)],
            types: &[Float::F32],
            entries: count,
            some: Some(&self.some),
            ..*row
        };
        // SAFETY: columns and gradient have as many numbers; scratch has room for whole rows.
        unsafe { block::run(at.width, &some, blocks.memory, blocks.running, &mut self.results) };
        Some(())
    }

    /// Writes the results of folds that differ inside; none for a row of another form.
    pub(super) fn fold(
        &mut self,
        known: &Known,
        values: &[f64],
        at: &Columns,
        (parts, wants, top): (&mut Vec<Part>, &mut Vec<Want>, &mut rows::top::Room),
        results: &mut [f64],
    ) -> Option<()> {
        let of = known.folds.iter().filter(|f| f.outside).map(|f| &f.of);
        needs(of, values, parts, wants)?;
        let at = self.hide(at, wants)?;
        self.memory.clear();
        for want in wants.iter() {
            at.statistics(*want, &Later::default(), &mut self.memory)?;
            let highest = self.memory.highest(at.places[want.column].1)?;
            // The largest is an entry that was hidden, or close to one.
            if (highest - self.low[want.column]) * want.scale < FAR / 4.0 {
                return None;
            }
        }
        let mut place = 0;
        for fold in &known.folds {
            let here = place..place + fold.of.results();
            place = here.end;
            if !fold.outside {
                continue;
            }
            let (results, inside) = (&mut results[here.clone()], &self.results[here]);
            if let KnownFold::Nothing(_) = fold.of {
                results.copy_from_slice(inside);
                continue;
            }
            self.outside.clear();
            self.outside.resize(results.len(), 0.0);
            let outside = &mut self.outside[..];
            fold_into(&fold.of, values, &at, &mut self.memory, (parts, top), outside)?;
            match &fold.of {
                // A single entry may be inside.
                KnownFold::Sum(form) if !form.hits.is_empty() => return None,
                KnownFold::Sum(_) => results[0] = outside[0] + inside[0],
                KnownFold::LogSumExp { .. } => join(outside, inside, results),
                KnownFold::Nth { .. } | KnownFold::Nothing(_) => return None,
            }
        }
        Some(())
    }

    /// The columns of which exponentials are summed, with the entries inside far below all others.
    fn hide(&mut self, at: &Columns, wants: &[Want]) -> Option<Columns> {
        let mut out = Columns { hidden: [None; COLUMNS], ..*at };
        self.low = [f64::NEG_INFINITY; COLUMNS];
        if self.some.is_empty() {
            return Some(out);
        }
        self.copies.clear();
        self.copies.reserve(COLUMNS * at.entries);
        for column in 0..COLUMNS {
            let scales = wants.iter().filter(|w| w.column == column).map(|w| w.scale);
            let Some(scale) = scales.reduce(f64::min) else { continue };
            let logits = at.logits(column);
            let (_, high) = rows::ends(at.width, logits);
            let low = (high - FAR / scale) as f32;
            if !low.is_finite() {
                return None;
            }
            let begin = self.copies.len();
            match logits {
                rlc_compiler::table::Floats::F32(x) => self.copies.extend_from_slice(x),
                _ => self.copies.extend((0..at.entries).map(|i| logits.get(i) as f32)),
            }
            let copy = &mut self.copies[begin..];
            self.some.iter().for_each(|i| copy[*i as usize] = low);
            out.hidden[column] = Some(copy.as_ptr());
            self.low[column] = f64::from(low);
        }
        Some(out)
    }

    /// Writes the gradient of the entries inside.
    ///
    /// # Safety
    ///
    /// `out` has all entries of the row, and is no one else's.
    pub(super) unsafe fn write(&self, out: Target) {
        for (at, gradient) in self.some.iter().zip(&self.gradient) {
            // SAFETY: as promised by the caller.
            unsafe { out.set(*at as usize, *gradient) };
        }
    }
}

/// A log-sum-exp with its means over two parts of a row.
fn join(a: &[f64], b: &[f64], out: &mut [f64]) {
    let most = a[0].max(b[0]);
    let both = if most == f64::NEG_INFINITY {
        most
    } else {
        most + ((a[0] - most).exp() + (b[0] - most).exp()).ln()
    };
    let [lse, rest @ ..] = out else { return };
    *lse = both;
    let share = |part: f64, mean: f64| {
        let weight = (part - both).exp();
        if weight == 0.0 { 0.0 } else { weight * mean }
    };
    let means = a[1..].iter().zip(&b[1..]).map(|(x, y)| share(a[0], *x) + share(b[0], *y));
    rest.iter_mut().zip(means).for_each(|(out, mean)| *out = mean);
}
