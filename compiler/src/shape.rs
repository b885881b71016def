//! The ragged tree of one batch: how many rows each level has, and which row of a coarser level
//! each row belongs to. Built from the structure arrays, with an error for whatever does not add up.

use std::fmt;

use crate::level::{BATCH, GROUP, Level, LevelKind, Levels, ROLLOUT, TOKEN, TURN, VOCAB};
use crate::table::{Array, Data, Table};

/// What is wrong with a batch: the array's name, both numbers and the fix, in one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableError(pub String);

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TableError {}

/// A gigabyte for each value of a pair.
const MAX_PAIRS: usize = 1 << 27;

fn fail<T>(text: String) -> Result<T, TableError> {
    Err(TableError(text))
}

/// Rows per level and the maps between levels. Rows of every level are in file order, so the rows
/// of a fine level inside one row of a coarse level are a contiguous range. Derived levels have the
/// rows of the level they are made of.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    counts: Vec<usize>,
    /// The level whose rows each level has.
    rows: Vec<Level>,
    /// `starts[coarse][fine]`: first fine row of each coarse row, and the end.
    starts: Vec<Vec<Option<Vec<u32>>>>,
    /// `parents[coarse][fine]`: the coarse row of each fine row.
    parents: Vec<Vec<Option<Vec<u32>>>>,
    /// Left and right row of each pair, per level of pairs.
    sides: Vec<Option<[Vec<u32>; 2]>>,
    /// Rows of the whole batch before this worker's, per level.
    before: Vec<u64>,
    /// Entries per vocab row; 0 without a vocab-level column.
    pub vocab: usize,
}

impl Shape {
    /// Reads the structure arrays of `table` for the levels of a program.
    pub fn new(levels: &Levels, table: &Table) -> Result<Shape, TableError> {
        let groups = sizes(table, "group/size")?;
        let rollouts = sizes(table, "rollout/size")?;
        if groups.iter().sum::<usize>() != rollouts.len() {
            return fail(format!(
                "`group/size` adds up to {} rollouts, but `rollout/size` has {} entries",
                groups.iter().sum::<usize>(),
                rollouts.len()
            ));
        }
        let tokens: usize = rollouts.iter().sum();
        if tokens >= u32::MAX as usize {
            return fail(format!(
                "`rollout/size` adds up to {tokens} tokens; a batch holds fewer than 2^32"
            ));
        }
        let n_levels = levels.all().count();
        let mut shape = Shape {
            counts: vec![0; n_levels],
            rows: levels.all().map(|l| levels.rows(l)).collect(),
            starts: vec![vec![None; n_levels]; n_levels],
            parents: vec![vec![None; n_levels]; n_levels],
            sides: vec![None; n_levels],
            before: vec![0; n_levels],
            vocab: vocab_width(table, tokens)?,
        };
        shape.counts[BATCH.0 as usize] = 1;
        shape.set(BATCH, GROUP, vec![0, groups.len() as u32]);
        shape.add(levels, GROUP, ROLLOUT, running(&groups));
        for level in levels.segmentations() {
            let (per_rollout, per_element) = segmentation(levels, level, table, &rollouts)?;
            shape.add(levels, ROLLOUT, level, running(&per_rollout));
            shape.set(level, TOKEN, running(&per_element));
        }
        shape.add(levels, ROLLOUT, TOKEN, running(&rollouts));
        for level in levels.all() {
            match levels.def(level).kind {
                LevelKind::List(parent) => shape.add_rows(levels, parent, level, table)?,
                LevelKind::Below => shape.add_rows(levels, TOKEN, level, table)?,
                LevelKind::Pairs(of, within) => shape.add_pairs(levels, level, of, within)?,
                LevelKind::Standard | LevelKind::Segmentation | LevelKind::Derived(_) => {}
            }
        }
        Ok(shape)
    }

    /// Rows of `level` as many per row of `parent` as its own size column says.
    fn add_rows(
        &mut self,
        levels: &Levels,
        parent: Level,
        level: Level,
        table: &Table,
    ) -> Result<(), TableError> {
        let (name, of) = (levels.name(level), levels.name(parent));
        let path = format!("{name}/size");
        if table.get(&path).is_none() {
            return fail(format!(
                "the program declares `{name}` in `{of}`, but the batch has no `{path}` (elements per {of}, {} in all)",
                self.count(parent)
            ));
        }
        let found = sizes(table, &path)?;
        if found.len() != self.count(parent) {
            return fail(format!(
                "`{path}` has {} entries, but there are {} rows of `{of}`",
                found.len(),
                self.count(parent)
            ));
        }
        self.add(levels, parent, level, running(&found));
        Ok(())
    }

    fn add_pairs(
        &mut self,
        levels: &Levels,
        level: Level,
        of: Level,
        within: Level,
    ) -> Result<(), TableError> {
        let mut starts = vec![0u32];
        let mut sides = [Vec::new(), Vec::new()];
        for row in 0..self.count(within) {
            let inside = self.range(within, row..row + 1, of);
            if sides[0].len() + inside.len() * inside.len() > MAX_PAIRS {
                return fail(format!(
                    "`{}` would have more than {MAX_PAIRS} pairs; pair rows of a coarser level, or within a finer one",
                    levels.name(level)
                ));
            }
            for left in inside.clone() {
                for right in inside.clone().filter(|r| *r != left) {
                    sides[0].push(left as u32);
                    sides[1].push(right as u32);
                }
            }
            starts.push(sides[0].len() as u32);
        }
        self.sides[level.0 as usize] = Some(sides);
        self.add(levels, within, level, starts);
        Ok(())
    }

    /// Sets the map from `coarse` to `fine`, and those from what `coarse` lies inside.
    fn add(&mut self, levels: &Levels, coarse: Level, fine: Level, starts: Vec<u32>) {
        for above in levels.all() {
            if above != coarse && levels.contains(above, coarse) && !levels.is_derived(above) {
                let outer = self.starts(above, coarse);
                let through = outer.iter().map(|&row| starts[row as usize]).collect();
                self.set(above, fine, through);
            }
        }
        self.set(coarse, fine, starts);
    }

    fn set(&mut self, coarse: Level, fine: Level, starts: Vec<u32>) {
        let count = starts.last().copied().unwrap_or(0) as usize;
        self.counts[fine.0 as usize] = count;
        let mut parents = Vec::with_capacity(count);
        for (row, ends) in starts.windows(2).enumerate() {
            parents.resize(ends[1] as usize, row as u32);
        }
        self.parents[coarse.0 as usize][fine.0 as usize] = Some(parents);
        self.starts[coarse.0 as usize][fine.0 as usize] = Some(starts);
    }

    /// How many rows of the whole batch come before this table's first, on other workers; 0 if not
    /// said otherwise.
    pub fn before(&self, level: Level) -> u64 {
        self.before[level.0 as usize]
    }

    /// Says how many rows come before this table's first.
    pub fn set_before(&mut self, level: Level, rows: u64) {
        self.before[level.0 as usize] = rows;
    }

    /// The level whose rows a level has.
    pub fn rows(&self, level: Level) -> Level {
        self.rows.get(level.0 as usize).copied().unwrap_or(level)
    }

    /// The row on one side (right: true) of each pair of a level of pairs.
    pub fn side(&self, level: Level, right: bool) -> &[u32] {
        let sides = self.sides[self.rows(level).0 as usize].as_ref();
        sides.map_or(&[], |s| &s[usize::from(right)])
    }

    /// Rows of a level; for vocab, tokens times entries.
    pub fn count(&self, level: Level) -> usize {
        let level = self.rows(level);
        if level == VOCAB { self.count(TOKEN) * self.vocab } else { self.counts[level.0 as usize] }
    }

    /// First row of `fine` of each row of `coarse`, and the end. Empty for levels that do not nest
    /// or are equal, and for vocab.
    pub fn starts(&self, coarse: Level, fine: Level) -> &[u32] {
        let (coarse, fine) = (self.rows(coarse), self.rows(fine));
        self.starts[coarse.0 as usize][fine.0 as usize].as_deref().unwrap_or(&[])
    }

    /// The row of `coarse` that each row of `fine` belongs to. Empty as for [`Shape::starts`].
    pub fn parents(&self, coarse: Level, fine: Level) -> &[u32] {
        let (coarse, fine) = (self.rows(coarse), self.rows(fine));
        self.parents[coarse.0 as usize][fine.0 as usize].as_deref().unwrap_or(&[])
    }

    /// The rows of `fine` in rows `from..to` of `coarse`.
    pub fn range(
        &self,
        coarse: Level,
        rows: std::ops::Range<usize>,
        fine: Level,
    ) -> std::ops::Range<usize> {
        let (coarse, fine) = (self.rows(coarse), self.rows(fine));
        if fine == VOCAB {
            let t = self.range(coarse, rows, TOKEN);
            return t.start * self.vocab..t.end * self.vocab;
        }
        if coarse == fine {
            return rows;
        }
        let starts = self.starts(coarse, fine);
        starts[rows.start] as usize..starts[rows.end] as usize
    }
}

fn running(sizes: &[usize]) -> Vec<u32> {
    let mut out = Vec::with_capacity(sizes.len() + 1);
    let mut total = 0u32;
    out.push(0);
    for &s in sizes {
        total += s as u32;
        out.push(total);
    }
    out
}

fn sizes(table: &Table, name: &str) -> Result<Vec<usize>, TableError> {
    let Some(array) = table.get(name) else {
        return fail(format!(
            "the batch has no `{name}`; it is an i64 array with one entry per row, as in `group/size` (rollouts per group) and `rollout/size` (tokens per rollout)"
        ));
    };
    let Data::I64(values) = &array.data else {
        return fail(format!(
            "`{name}` is {}, but structure arrays are I64",
            array.data.type_name()
        ));
    };
    if array.shape.len() != 1 {
        return fail(format!(
            "`{name}` has shape {:?}, but structure arrays have one axis",
            array.shape
        ));
    }
    let mut out = Vec::with_capacity(values.len());
    let mut total = 0u64;
    for (i, &v) in values.iter().enumerate() {
        total = total.saturating_add(v.unsigned_abs());
        if v < 0 || total >= u64::from(u32::MAX) {
            return fail(format!(
                "`{name}` has {v} at entry {i}; sizes are counts, 0 or more, adding up to fewer than 2^32"
            ));
        }
        out.push(v as usize);
    }
    Ok(out)
}

/// Elements per rollout and tokens per element of a segmentation.
fn segmentation(
    levels: &Levels,
    level: Level,
    table: &Table,
    rollouts: &[usize],
) -> Result<(Vec<usize>, Vec<usize>), TableError> {
    let name = levels.name(level);
    let path = format!("{name}/size");
    if table.get(&path).is_none() {
        if level == TURN {
            return Ok((vec![1; rollouts.len()], rollouts.to_vec()));
        }
        debug_assert_eq!(levels.def(level).kind, LevelKind::Segmentation);
        return fail(format!(
            "the program declares `level {name} in rollout`, but the batch has no `{path}` (tokens per {name}, in order)"
        ));
    }
    let per_element = sizes(table, &path)?;
    let count_path = format!("rollout/{name}s");
    if table.get(&count_path).is_some() {
        let per_rollout = sizes(table, &count_path)?;
        if per_rollout.len() != rollouts.len() {
            return fail(format!(
                "`{count_path}` has {} entries, but there are {} rollouts",
                per_rollout.len(),
                rollouts.len()
            ));
        }
        let total: usize = per_rollout.iter().sum();
        if total != per_element.len() {
            return fail(format!(
                "`{count_path}` adds up to {total}, but `{path}` has {} entries",
                per_element.len()
            ));
        }
        let mut at = 0;
        for (r, (&n, &tokens)) in per_rollout.iter().zip(rollouts).enumerate() {
            let sum: usize = per_element[at..at + n].iter().sum();
            if sum != tokens {
                return fail(format!(
                    "`{path}` adds up to {sum} tokens in rollout {r}, but `rollout/size` says {tokens}"
                ));
            }
            at += n;
        }
        return Ok((per_rollout, per_element));
    }
    if let Some(i) = per_element.iter().position(|&s| s == 0) {
        return fail(format!(
            "`{path}` has 0 at entry {i}, so which rollout it belongs to is open; add `{count_path}` (elements per rollout)"
        ));
    }
    let mut per_rollout = Vec::with_capacity(rollouts.len());
    let mut at = 0;
    for (r, &tokens) in rollouts.iter().enumerate() {
        let (mut sum, mut n) = (0, 0);
        while sum < tokens {
            let Some(&s) = per_element.get(at) else {
                return fail(format!(
                    "`{path}` ends after {at} entries with {sum} tokens in rollout {r}, but `rollout/size` says {tokens}"
                ));
            };
            sum += s;
            n += 1;
            at += 1;
        }
        if sum != tokens {
            return fail(format!(
                "`{path}` adds up to {sum} tokens in rollout {r}, but `rollout/size` says {tokens}"
            ));
        }
        per_rollout.push(n);
    }
    if at != per_element.len() {
        return fail(format!(
            "`{path}` has {} entries, but the rollouts' tokens are used up after {at}",
            per_element.len()
        ));
    }
    Ok((per_rollout, per_element))
}

fn vocab_width(table: &Table, tokens: usize) -> Result<usize, TableError> {
    let mut found: Option<(&str, usize)> = None;
    for (name, array) in &table.arrays {
        if !name.starts_with("vocab/") {
            continue;
        }
        let width = vocab_shape(name, array, tokens)?;
        match found {
            Some((other, w)) if w != width => {
                return fail(format!(
                    "`{name}` has {width} entries per token, but `{other}` has {w}"
                ));
            }
            Some(_) => {}
            None => found = Some((name, width)),
        }
    }
    Ok(found.map_or(0, |f| f.1))
}

fn vocab_shape(name: &str, array: &Array, tokens: usize) -> Result<usize, TableError> {
    match array.shape.as_slice() {
        [rows, width] if *rows == tokens && *width > 0 => Ok(*width),
        [rows, _] if *rows != tokens => {
            fail(format!("`{name}` has {rows} rows, but `rollout/size` adds up to {tokens} tokens"))
        }
        shape => fail(format!(
            "`{name}` has shape {shape:?}, but vocab-level columns are [tokens, V] with V at least 1"
        )),
    }
}
