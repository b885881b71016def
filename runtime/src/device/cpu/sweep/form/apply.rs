//! Runs a sweep of known form over a row.
#![allow(clippy::cast_ptr_alignment, reason = "rows that are not aligned are left to the blocks")]

use rlc_compiler::clif::Float;
use rlc_compiler::loops::{Guard, SlotId};
use rlc_compiler::table::Floats;

use super::algebra::{COLUMNS, Form, Linear};
use super::tape::{N, value};
use super::{Known, KnownFold, inside};
use crate::device::cpu::rows::{self, Beside, Place, Source, Stores, Target, Terms, Wanted, Width};
use crate::device::cpu::sweep::block::{Row, Running};
use crate::device::cpu::sweep::memory::{Found, Memory};

/// Room that is used again for every row.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Buffers {
    values: Vec<f64>,
    wants: Vec<Want>,
    parts: Vec<Part>,
    top: rows::top::Room,
    inside: inside::Room,
}

/// The memory of blocks.
pub(in super::super) struct Blocks<'a> {
    pub memory: &'a mut [f64],
    pub running: &'a mut Vec<Running>,
}

/// What later sweeps of the loop make of columns.
#[derive(Debug, Default, Clone)]
pub(in super::super) struct Later {
    /// Sums of squares of their exponentials.
    pub squares: Vec<SlotId>,
}

/// The second column of a mean, by number, and the share of the first that is taken off.
type Second = Option<(usize, f64)>;

/// Statistics that a row needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    pub column: usize,
    pub scale: f64,
    moment: bool,
    square: bool,
    beside: Second,
}

/// `(a + b e + d y) exp(s e + o)`, e of one column and y of another.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Part {
    column: usize,
    scale: f64,
    offset: f64,
    a: f64,
    b: f64,
    other: Option<(usize, f64)>,
    /// Of the square of the exponential.
    squared: f64,
    loose: bool,
}

/// A linear formula of a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub c0: f64,
    pub c: [f64; COLUMNS],
}

impl Line {
    /// None where a coefficient is not finite.
    pub fn new(of: Linear, values: &[f64]) -> Option<Line> {
        if !of.numbers().all(|n: N| value(values, n).is_finite()) {
            return None;
        }
        Some(Line { c0: value(values, of.c0), c: of.c.map(|n| value(values, n)) })
    }

    fn is_zero(&self) -> bool {
        self.c0 == 0.0 && self.c == [0.0; COLUMNS]
    }

    /// The only column with a part in it.
    pub fn single(&self) -> Option<usize> {
        let mut with = (0..COLUMNS).filter(|c| self.c[*c] != 0.0);
        with.next().filter(|_| with.next().is_none())
    }

    /// The columns with a part in it beside one.
    fn others(&self, than: usize) -> impl Iterator<Item = (usize, f64)> {
        self.c.into_iter().enumerate().filter(move |(c, by)| *c != than && *by != 0.0)
    }
}

impl Part {
    fn new(exponent: &Line, factor: &Line, loose: bool) -> Option<Part> {
        let column = exponent.single().filter(|c| exponent.c[*c] > 0.0)?;
        let (scale, offset) = (exponent.c[column], exponent.c0);
        let mut others = factor.others(column);
        let other = others.next();
        if others.next().is_some() {
            return None;
        }
        let (a, b) = (factor.c0, factor.c[column]);
        // Bounded factors are as good as guarded ones.
        let loose = loose && (b != 0.0 || other.is_some());
        Some(Part { column, scale, offset, a, b, other, squared: 0.0, loose })
    }

    /// What its sum needs.
    fn want(&self) -> Want {
        let (moment, beside) = match self.other {
            Some((y, d)) => (false, Some((y, -self.b / d))),
            None => (self.b != 0.0, None),
        };
        let square = self.squared != 0.0;
        Want { column: self.column, scale: self.scale, moment, square, beside }
    }

    /// Its sum over the row, divided by exp(offset + the largest exponent).
    fn sum(&self, memory: &Memory, slot: &impl Fn(usize) -> SlotId) -> Option<f64> {
        let Want { column, scale, moment, square, beside } = self.want();
        let beside = beside.map(|(y, share)| (slot(y), share));
        let found = memory.statistics((slot(column), scale), moment, square, beside)?;
        let highest = found.max / scale;
        let mut sum = match self.other {
            // b e + d y = d (y - share e)
            Some((_, d)) => {
                let share = -self.b / d;
                (self.a + d * (found.origin - share * highest)) * found.sum + d * found.beside
            }
            None if moment => {
                (self.a + self.b * highest) * found.sum + self.b / scale * found.moment
            }
            None => self.a * found.sum,
        };
        if square {
            sum += self.squared * (self.offset + found.max).exp() * found.square;
        }
        Some(sum)
    }
}

/// The coefficient of one column.
fn one_of(line: &Line, column: usize) -> [f64; COLUMNS] {
    let mut out = [0.0; COLUMNS];
    out[column] = line.c[column];
    out
}

/// Adds a part to one of the same exponential, which may have one other column.
fn insert(part: Part, out: &mut Vec<Part>) {
    let of = |p: &Part| (p.column, p.scale, p.offset);
    let fits = |p: &&mut Part| {
        let alone = p.other.is_none() || part.other.is_none();
        of(p) == of(&part) && (alone || p.other.map(|o| o.0) == part.other.map(|o| o.0))
    };
    match out.iter_mut().find(fits) {
        Some(own) => {
            own.a += part.a;
            own.b += part.b;
            own.other = match (own.other, part.other) {
                (Some((y, a)), Some((_, b))) => Some((y, a + b)).filter(|o| o.1 != 0.0),
                (one, two) => one.or(two),
            };
            own.loose |= part.loose;
        }
        None => out.push(part),
    }
}

/// Formulas of exponentials as parts, those of equal exponents together and squares with what they are
/// squares of. None for another form.
fn parts(form: &Form, values: &[f64], out: &mut Vec<Part>) -> Option<()> {
    out.clear();
    for term in &form.terms {
        let factor = Line::new(term.factor, values)?;
        if factor.is_zero() {
            continue;
        }
        let exponent = Line::new(term.exponent, values)?;
        let column = exponent.single()?;
        let alone = |c: usize| Line { c0: 0.0, c: one_of(&factor, c) };
        let own = Line { c0: factor.c0, ..alone(column) };
        let others = (0..COLUMNS).filter(|c| *c != column && factor.c[*c] != 0.0).map(alone);
        for factor in std::iter::once(own).chain(others) {
            insert(Part::new(&exponent, &factor, term.loose)?, out);
        }
    }
    let mut at = 0;
    while at < out.len() {
        let p = out[at];
        let root = |o: &&mut Part| {
            o.column == p.column && (2.0 * o.scale, 2.0 * o.offset) == (p.scale, p.offset)
        };
        let plain = p.b == 0.0 && p.other.is_none() && p.squared == 0.0;
        if let Some(root) = out.iter_mut().find(root).filter(|_| plain) {
            root.squared += p.a;
            out.remove(at);
        } else {
            at += 1;
        }
    }
    Some(())
}

/// Runs a sweep by its form; false, with nothing written, where the row has another one.
///
/// # Safety
///
/// As for [`super::super::block::run`].
pub(in super::super) unsafe fn run(
    width: Width,
    row: &Row,
    (known, later): (&Known, &Later),
    room: (&mut Buffers, &mut Memory, Blocks<'_>),
    results: &mut [f64],
) -> bool {
    // SAFETY: promised by the caller.
    unsafe { attempt(width, row, (known, later), room, results).is_some() }
}

/// None, with nothing written, for a row of another form.
///
/// # Safety
///
/// As for [`run`].
unsafe fn attempt(
    width: Width,
    row: &Row,
    (known, later): (&Known, &Later),
    (buffers, memory, blocks): (&mut Buffers, &mut Memory, Blocks<'_>),
    results: &mut [f64],
) -> Option<()> {
    let Buffers { values, wants, parts: room, top, inside } = buffers;
    known.tape.run(row.numbers, values);
    if known.nonzero.iter().any(|n| value(values, *n) == 0.0) {
        return None;
    }
    let first = (source(row.columns[0], row.floats[0].float)?, row.floats[0].slot);
    let mut columns = [first; COLUMNS];
    for (to, (data, column)) in columns.iter_mut().zip(row.columns.iter().zip(row.floats)) {
        *to = (source(*data, column.float)?, column.slot);
    }
    let out = match row.written {
        [] => None,
        [out] if out.align_offset(row.types[0].bytes()) == 0 => {
            Some((Target::at(*out, row.types[0])?, row.stores[0]))
        }
        _ => return None,
    };
    let at = Columns { width, entries: row.entries, places: columns, hidden: [None; COLUMNS] };
    let all = known.folds.iter().filter(|f| !f.outside).map(|f| &f.of);
    needs(all, values, room, wants)?;
    for want in wants.iter() {
        at.statistics(*want, later, memory)?;
    }
    if !known.inside.is_empty() {
        // SAFETY: promised by the caller.
        unsafe { inside.find(known, values, &at, row, blocks, results.len())? };
    }
    let mut place = 0;
    for fold in known.folds.iter().filter(|f| !f.outside) {
        let results = &mut results[place_of(known, fold)..];
        fold_into(&fold.of, values, &at, memory, (room, top), results)?;
        place += 1;
    }
    if place < known.folds.len() {
        inside.fold(known, values, &at, (room, wants, top), results)?;
    }
    let (Some(out), [form]) = (out, known.gradients.as_slice()) else {
        return (out.is_none() && known.gradients.is_empty()).then_some(());
    };
    // SAFETY: the gradient has a place for every entry, and no slice of a column lives on.
    unsafe {
        gradient(&form.of, values, &at, memory, room, out)?;
        if form.outside {
            inside.write(out.0);
        }
    }
    Some(())
}

/// Where the results of a fold begin.
fn place_of(known: &Known, fold: &super::Part<KnownFold>) -> usize {
    let before = known.folds.iter().take_while(|f| !std::ptr::eq(*f, fold));
    before.map(|f| f.of.results()).sum()
}

/// Statistics that the folds of a row need, those of the same distribution together.
pub(super) fn needs<'a>(
    folds: impl Iterator<Item = &'a KnownFold>,
    values: &[f64],
    room: &mut Vec<Part>,
    wants: &mut Vec<Want>,
) -> Option<()> {
    wants.clear();
    let mut want = |new: Want| {
        let fits = |w: &&mut Want| {
            (w.column, w.scale) == (new.column, new.scale)
                && (w.beside == new.beside || w.beside.is_none() || new.beside.is_none())
        };
        match wants.iter_mut().find(fits) {
            Some(own) => {
                own.moment |= new.moment;
                own.square |= new.square;
                own.beside = own.beside.or(new.beside);
            }
            None => wants.push(new),
        }
    };
    for fold in folds {
        match fold {
            KnownFold::Nth { .. } | KnownFold::Nothing(_) => {}
            KnownFold::LogSumExp { x, means } => {
                let x = Line::new(*x, values)?;
                // The sum itself has no factor.
                want(Part::new(&x, &Line { c0: 1.0, c: [0.0; COLUMNS] }, false)?.want());
                for (f, _) in means.iter().flatten() {
                    want(Part::new(&x, &Line::new(*f, values)?, false)?.want());
                }
            }
            KnownFold::Sum(form) => {
                parts(form, values, room)?;
                for part in room.iter() {
                    want(part.want());
                }
            }
        }
    }
    Some(())
}

/// Columns of a row, each with `entries` numbers that no one writes but the gradient.
pub(super) struct Columns {
    pub(super) width: Width,
    pub(super) entries: usize,
    /// Those that are not there are the first.
    pub(super) places: [(Source, SlotId); COLUMNS],
    /// Copies in which some entries have probability 0, in place of those whose exponentials are summed.
    pub(super) hidden: [Option<*const f32>; COLUMNS],
}

impl Columns {
    fn slot(&self, column: usize) -> SlotId {
        self.places[column].1
    }

    /// Never alive while the gradient is written, which may be here.
    pub(super) fn logits(&self, column: usize) -> Floats<'_> {
        // SAFETY: there are as many entries, and they are not written meanwhile.
        unsafe { self.places[column].0.floats(self.entries) }
    }

    /// Computes statistics that are not known yet.
    pub(super) fn statistics(&self, want: Want, later: &Later, memory: &mut Memory) -> Option<()> {
        let Want { column, scale, moment, square, beside } = want;
        let slot = self.slot(column);
        let second = beside.map(|(y, share)| (self.slot(y), share));
        if memory.statistics((slot, scale), moment, square, second).is_some() {
            return Some(());
        }
        let square = square || later.squares.contains(&slot);
        let logits = match self.hidden[column] {
            // SAFETY: a copy has as many entries, which are not written meanwhile.
            Some(copy) => unsafe { Source::F32(copy).floats(self.entries) },
            None => self.logits(column),
        };
        let row = rows::Row { logits, scale };
        let beside = beside.map(|(y, share)| Beside { row: self.logits(y), share });
        let wanted = Wanted { moment, square, beside };
        let statistics = rows::statistics(self.width, row, &wanted);
        if !statistics.max.is_finite() || !statistics.sum.is_finite() {
            return None;
        }
        memory.found.push(Found { slot, scale, moment, square, beside: second, statistics });
        Some(())
    }

    /// Whether all entries of a column are finite.
    fn is_finite(&self, column: usize, memory: &mut Memory) -> bool {
        let slot = self.slot(column);
        memory.is_finite(slot).unwrap_or_else(|| {
            let (low, high) = self.ends(column, memory);
            low.is_finite() && high.is_finite()
        })
    }

    fn ends(&self, column: usize, memory: &mut Memory) -> (f64, f64) {
        let ends = rows::ends(self.width, self.logits(column));
        memory.ends.push((self.slot(column), ends));
        ends
    }

    /// Takes from parts that share an exponential what their second column has everywhere, and gives it to the first
    /// of them: large numbers do not cancel in f32 then.
    fn balance(&self, parts: &mut [Part]) {
        for at in 1..parts.len() {
            let part = parts[at];
            let same =
                |p: &Part| (p.column, p.scale, p.offset) == (part.column, part.scale, part.offset);
            let (Some(first), Some((y, d))) = (parts[..at].iter().position(same), part.other)
            else {
                continue;
            };
            // SAFETY: a row that a form is used for has entries.
            let typical = unsafe { self.places[y].0.get(0) };
            if typical.is_finite() {
                parts[first].a += d * typical;
                parts[at].a -= d * typical;
            }
        }
    }

    /// Whether a factor that is infinite at entries of minus infinity does no harm.
    fn holds(&self, part: &Part, memory: &mut Memory) -> bool {
        !part.loose
            || (self.is_finite(part.column, memory)
                && part.other.is_none_or(|(y, _)| self.is_finite(y, memory)))
    }
}

/// Writes the results of a fold; none for a row of another form.
pub(super) fn fold_into(
    fold: &KnownFold,
    values: &[f64],
    at: &Columns,
    memory: &mut Memory,
    (room, top): (&mut Vec<Part>, &mut rows::top::Room),
    results: &mut [f64],
) -> Option<()> {
    let slot = |column: usize| at.slot(column);
    match fold {
        KnownFold::LogSumExp { x, means } => {
            let x = Line::new(*x, values)?;
            let column = x.single()?;
            let found = *memory.statistics((slot(column), x.c[column]), false, false, None)?;
            results[0] = found.lse() + x.c0;
            for (mean, result) in means.iter().zip(&mut results[1..]) {
                let Some((f, guard)) = mean else {
                    *result = 0.0;
                    continue;
                };
                let part = Part::new(&x, &Line::new(*f, values)?, *guard == Guard::None)?;
                if !at.holds(&part, memory) {
                    return None;
                }
                *result = if part.b == 0.0 && part.other.is_none() {
                    part.a
                } else {
                    part.sum(memory, &slot)? / found.sum
                };
                if !result.is_finite() {
                    return None;
                }
            }
            Some(())
        }
        KnownFold::Nth { x, n } => {
            let (x, n) = (Line::new(*x, values)?, value(values, *n));
            let column = x.single().filter(|c| x.c[*c] > 0.0)?;
            if n.is_nan() || n < 1.0 {
                results[0] = -1.0;
                return Some(());
            }
            let found = rows::top::nth(at.width, at.logits(column), n as usize, top)?;
            // SAFETY: the row has this entry.
            let part = x.c[column] * unsafe { at.places[column].0.get(found) };
            // A large number added to small ones would make different entries equal.
            if x.c0 != 0.0 && part.abs() < x.c0.abs() * 1e-6 {
                return None;
            }
            results[0] = found as f64;
            Some(())
        }
        KnownFold::Nothing(_) => None,
        KnownFold::Sum(form) => {
            parts(form, values, room)?;
            let mut sum = 0.0;
            for part in room.iter() {
                if !at.holds(part, memory) {
                    return None;
                }
                let max = memory.highest(slot(part.column))? * part.scale;
                sum += part.sum(memory, &slot)? * (part.offset + max).exp();
            }
            for (place, add) in &form.hits {
                let place = value(values, *place);
                if place >= 0.0 && place.fract() == 0.0 && place < at.entries as f64 {
                    sum += value(values, *add);
                }
            }
            results[0] = sum;
            sum.is_finite().then_some(())
        }
    }
}

/// Writes the gradient of a row; none, with nothing written, for one of another form.
///
/// # Safety
///
/// Columns and `out` have `entries` numbers, and no one else writes them; `out` may be a column of its type.
unsafe fn gradient(
    form: &Form,
    values: &[f64],
    at: &Columns,
    memory: &mut Memory,
    room: &mut Vec<Part>,
    (out, stores): (Target, Stores),
) -> Option<()> {
    let entries = at.entries;
    let plain = value(values, form.plain.c0);
    parts(form, values, room)?;
    if room.len() > rows::MOST_TERMS || (plain != 0.0 && !room.is_empty()) || !plain.is_finite() {
        return None;
    }
    at.balance(room);
    for part in room.iter() {
        let slot = at.slot(part.column);
        let highest = memory.highest(slot).unwrap_or_else(|| at.ends(part.column, memory).1);
        // The primitive wants no entry far above the normaliser; a row without finite entries is none.
        if !highest.is_finite() || highest * part.scale + part.offset > 60.0 {
            return None;
        }
        if !at.holds(part, memory) {
            return None;
        }
    }
    let mut add = [(0, 0.0); 2];
    let mut hits = 0;
    for (place, by) in &form.hits {
        let (place, by) = (value(values, *place), value(values, *by));
        if !by.is_finite() {
            return None;
        }
        if place >= 0.0 && place.fract() == 0.0 && place < entries as f64 {
            add[hits] = (place as usize, by);
            hits += 1;
        }
    }
    let none = Terms {
        row: Place { logits: at.places[0].0, scale: 1.0 },
        lse: 0.0,
        p: 0.0,
        p_log_p: 0.0,
        p_squared: 0.0,
        other: None,
    };
    let mut terms = [none; rows::MOST_TERMS];
    for (terms, part) in terms.iter_mut().zip(room.iter()) {
        let source = |column: usize| at.places[column].0;
        // log p = s e + o, so b e p = b / s * p (log p - o).
        let p_log_p = part.b / part.scale;
        *terms = Terms {
            row: Place { logits: source(part.column), scale: part.scale },
            lse: -part.offset,
            p: part.a - p_log_p * part.offset,
            p_log_p,
            p_squared: part.squared,
            other: part.other.map(|(y, d)| (source(y), d)),
        };
    }
    if plain != 0.0 {
        // SAFETY: promised by the caller.
        unsafe {
            (0..entries).for_each(|i| out.set(i, plain as f32));
            for (i, _) in &add[..hits] {
                let by = add[..hits].iter().filter(|a| a.0 == *i).map(|a| a.1);
                out.set(*i, by.fold(plain, |sum, by| sum + by) as f32);
            }
        }
        return Some(());
    }
    // SAFETY: promised by the caller.
    unsafe {
        rows::gradient_at(at.width, entries, &terms[..room.len()], &add[..hits], (out, stores));
    }
    Some(())
}

/// A column's row; none where it is not aligned, or of f64.
fn source(data: *mut u8, float: Float) -> Option<Source> {
    if data.align_offset(float.bytes()) != 0 {
        return None;
    }
    match float {
        Float::F32 => Some(Source::F32(data.cast_const().cast())),
        Float::Bf16 => Some(Source::Bf16(data.cast_const().cast())),
        Float::F16 => Some(Source::F16(data.cast_const().cast())),
        Float::F64 => None,
    }
}
