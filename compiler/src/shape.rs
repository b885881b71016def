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

fn fail<T>(text: String) -> Result<T, TableError> {
    Err(TableError(text))
}

/// Rows per level and the maps between levels. Rows of every level are in file order, so the rows
/// of a fine level inside one row of a coarse level are a contiguous range.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    counts: Vec<usize>,
    /// `starts[coarse][fine]`: first fine row of each coarse row, and the end.
    starts: Vec<Vec<Option<Vec<u32>>>>,
    /// `parents[coarse][fine]`: the coarse row of each fine row.
    parents: Vec<Vec<Option<Vec<u32>>>>,
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
            starts: vec![vec![None; n_levels]; n_levels],
            parents: vec![vec![None; n_levels]; n_levels],
            vocab: vocab_width(table, tokens)?,
        };
        shape.counts[BATCH.0 as usize] = 1;
        shape.set(BATCH, GROUP, vec![0, groups.len() as u32]);
        shape.set(GROUP, ROLLOUT, running(&groups));
        shape.set(ROLLOUT, TOKEN, running(&rollouts));
        for level in levels.segmentations() {
            let (per_rollout, per_element) = segmentation(levels, level, table, &rollouts)?;
            shape.set(ROLLOUT, level, running(&per_rollout));
            shape.set(level, TOKEN, running(&per_element));
        }
        shape.compose(levels);
        Ok(shape)
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

    /// Fills in the maps that follow from the direct ones.
    fn compose(&mut self, levels: &Levels) {
        let mut chain = vec![(BATCH, GROUP, ROLLOUT)];
        for fine in levels.segmentations().chain([TOKEN]) {
            chain.push((GROUP, ROLLOUT, fine));
            chain.push((BATCH, ROLLOUT, fine));
        }
        // (BATCH, ROLLOUT) first, since the later ones go through it.
        for (coarse, middle, fine) in chain {
            let outer = self.starts(coarse, middle);
            let inner = self.starts(middle, fine);
            let starts = outer.iter().map(|&row| inner[row as usize]).collect();
            self.set(coarse, fine, starts);
        }
    }

    /// Rows of a level; for vocab, tokens times entries.
    pub fn count(&self, level: Level) -> usize {
        if level == VOCAB { self.count(TOKEN) * self.vocab } else { self.counts[level.0 as usize] }
    }

    /// First row of `fine` of each row of `coarse`, and the end. Empty for levels that do not nest
    /// or are equal, and for vocab.
    pub fn starts(&self, coarse: Level, fine: Level) -> &[u32] {
        self.starts[coarse.0 as usize][fine.0 as usize].as_deref().unwrap_or(&[])
    }

    /// The row of `coarse` that each row of `fine` belongs to. Empty as for [`Shape::starts`].
    pub fn parents(&self, coarse: Level, fine: Level) -> &[u32] {
        self.parents[coarse.0 as usize][fine.0 as usize].as_deref().unwrap_or(&[])
    }

    /// The rows of `fine` in rows `from..to` of `coarse`.
    pub fn range(
        &self,
        coarse: Level,
        rows: std::ops::Range<usize>,
        fine: Level,
    ) -> std::ops::Range<usize> {
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
