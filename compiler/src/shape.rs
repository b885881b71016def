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
    /// By coarse and fine level; empty where they do not nest.
    maps: Vec<Map>,
    /// Left and right row of each pair, and the starts of its rows, per level of pairs.
    sides: Vec<[Vec<u32>; 3]>,
    /// Rows of the whole batch before this worker's, per level.
    before: Vec<u64>,
    /// Entries per vocab row; 0 without a vocab-level column.
    pub vocab: usize,
    /// Kept for its memory.
    spare: Vec<u32>,
}

/// The rows of a fine level by those of a coarse one.
#[derive(Debug, Clone, Default)]
struct Map {
    /// Whether the present batch has it.
    is_set: bool,
    /// First fine row of each coarse row, and the end.
    starts: Vec<u32>,
    /// The coarse row of each fine row.
    parents: Vec<u32>,
}

impl Shape {
    /// Reads the structure arrays of `table` for the levels of a program.
    pub fn new(levels: &Levels, table: &Table) -> Result<Shape, TableError> {
        let mut shape = Shape::default();
        shape.refill(levels, table)?;
        Ok(shape)
    }

    /// The same in the memory of another batch: nothing is allocated for one no larger, and maps that are those of the
    /// other batch stay as they are. After an error the shape is good for nothing but another try.
    pub fn refill(&mut self, levels: &Levels, table: &Table) -> Result<(), TableError> {
        let groups = sizes(table, &["group/size"])?;
        let rollouts = sizes(table, &["rollout/size"])?;
        if sum(groups) != rollouts.len() {
            return fail(format!(
                "`group/size` adds up to {} rollouts, but `rollout/size` has {} entries",
                sum(groups),
                rollouts.len()
            ));
        }
        let tokens = sum(rollouts);
        if tokens >= u32::MAX as usize {
            return fail(format!(
                "`rollout/size` adds up to {tokens} tokens; a batch holds fewer than 2^32"
            ));
        }
        let n_levels = levels.all().count();
        self.counts.clear();
        self.counts.resize(n_levels, 0);
        self.rows.clear();
        self.rows.extend(levels.all().map(|l| levels.rows(l)));
        self.maps.resize_with(n_levels * n_levels, Map::default);
        self.maps.iter_mut().for_each(|m| m.is_set = false);
        self.sides.resize_with(n_levels, Default::default);
        self.sides.iter_mut().flatten().for_each(Vec::clear);
        self.before.clear();
        self.before.resize(n_levels, 0);
        self.vocab = vocab_width(table, tokens)?;
        self.counts[BATCH.0 as usize] = 1;
        self.set(BATCH, GROUP, |starts| starts.extend([0, groups.len() as u32]));
        self.add(levels, GROUP, ROLLOUT, |starts| running(groups, starts));
        for level in levels.segmentations() {
            let cut = Segmentation::read(levels, level, table, rollouts)?;
            self.add(levels, ROLLOUT, level, |starts| cut.running(rollouts, starts));
            self.set(level, TOKEN, |starts| running(cut.tokens, starts));
        }
        self.add(levels, ROLLOUT, TOKEN, |starts| running(rollouts, starts));
        for level in levels.all() {
            match levels.def(level).kind {
                LevelKind::List(parent) => self.add_rows(levels, parent, level, table)?,
                LevelKind::Below => self.add_rows(levels, TOKEN, level, table)?,
                LevelKind::Pairs(of, within) => self.add_pairs(levels, level, of, within)?,
                LevelKind::Standard | LevelKind::Segmentation | LevelKind::Derived(_) => {}
            }
        }
        Ok(())
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
        let path = [name, "/size"];
        if table.joined(&path).is_none() {
            return fail(format!(
                "the program declares `{name}` in `{of}`, but the batch has no `{name}/size` (elements per {of}, {} in all)",
                self.count(parent)
            ));
        }
        let found = sizes(table, &path)?;
        if found.len() != self.count(parent) {
            return fail(format!(
                "`{name}/size` has {} entries, but there are {} rows of `{of}`",
                found.len(),
                self.count(parent)
            ));
        }
        self.add(levels, parent, level, |starts| running(found, starts));
        Ok(())
    }

    fn add_pairs(
        &mut self,
        levels: &Levels,
        level: Level,
        of: Level,
        within: Level,
    ) -> Result<(), TableError> {
        let mut sides = std::mem::take(&mut self.sides[level.0 as usize]);
        sides[2].push(0);
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
            let end = sides[0].len() as u32;
            sides[2].push(end);
        }
        self.add(levels, within, level, |starts| starts.extend_from_slice(&sides[2]));
        self.sides[level.0 as usize] = sides;
        Ok(())
    }

    fn at(&self, coarse: Level, fine: Level) -> usize {
        coarse.0 as usize * self.counts.len() + fine.0 as usize
    }

    fn map(&self, coarse: Level, fine: Level) -> Option<&Map> {
        self.maps.get(self.at(self.rows(coarse), self.rows(fine))).filter(|m| m.is_set)
    }

    /// Sets the map from `coarse` to `fine`, and those from what `coarse` lies inside.
    fn add(
        &mut self,
        levels: &Levels,
        coarse: Level,
        fine: Level,
        starts: impl FnOnce(&mut Vec<u32>),
    ) {
        self.set(coarse, fine, starts);
        let inner = self.at(coarse, fine);
        let nests = |l: &Level| *l != coarse && levels.contains(*l, coarse);
        for above in levels.all().filter(|l| nests(l) && !levels.is_derived(*l)) {
            let outer = self.at(above, self.rows(coarse));
            if !self.maps[outer].is_set {
                continue;
            }
            let [from, to] = [outer, inner].map(|at| std::mem::take(&mut self.maps[at].starts));
            self.set(above, fine, |starts| {
                starts.extend(from.iter().map(|&row| to[row as usize]));
            });
            self.maps[outer].starts = from;
            self.maps[inner].starts = to;
        }
    }

    /// Sets one map, by the starts that `fill` writes into an empty vector.
    fn set(&mut self, coarse: Level, fine: Level, fill: impl FnOnce(&mut Vec<u32>)) {
        let mut starts = std::mem::take(&mut self.spare);
        starts.clear();
        fill(&mut starts);
        let count = starts.last().copied().unwrap_or(0) as usize;
        self.counts[fine.0 as usize] = count;
        let at = self.at(coarse, fine);
        let map = &mut self.maps[at];
        map.is_set = true;
        if map.starts != starts {
            // Copied: with vectors that change places, one too short would come up some day.
            map.starts.clear();
            map.starts.extend_from_slice(&starts);
            map.parents.clear();
            map.parents.reserve(count);
            for (row, ends) in map.starts.windows(2).enumerate() {
                map.parents.resize(ends[1] as usize, row as u32);
            }
        }
        self.spare = starts;
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
        &self.sides[self.rows(level).0 as usize][usize::from(right)]
    }

    /// Rows of a level; for vocab, tokens times entries.
    pub fn count(&self, level: Level) -> usize {
        let level = self.rows(level);
        if level == VOCAB { self.count(TOKEN) * self.vocab } else { self.counts[level.0 as usize] }
    }

    /// First row of `fine` of each row of `coarse`, and the end. Empty for levels that do not nest
    /// or are equal, and for vocab.
    pub fn starts(&self, coarse: Level, fine: Level) -> &[u32] {
        self.map(coarse, fine).map_or(&[], |m| &m.starts)
    }

    /// The row of `coarse` that each row of `fine` belongs to. Empty as for [`Shape::starts`].
    pub fn parents(&self, coarse: Level, fine: Level) -> &[u32] {
        self.map(coarse, fine).map_or(&[], |m| &m.parents)
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

fn sum(sizes: &[i64]) -> usize {
    sizes.iter().map(|&s| s as usize).sum()
}

/// Adds up sizes, from 0 on.
fn running(sizes: &[i64], into: &mut Vec<u32>) {
    let mut total = 0u32;
    into.push(0);
    into.extend(sizes.iter().map(|&s| {
        total += s as u32;
        total
    }));
}

/// The array whose name these parts make, checked to hold counts.
fn sizes<'t>(table: &'t Table, name: &[&str]) -> Result<&'t [i64], TableError> {
    let said = || name.concat();
    let Some(array) = table.joined(name) else {
        return fail(format!(
            "the batch has no `{}`; it is an i64 array with one entry per row, as in `group/size` (rollouts per group) and `rollout/size` (tokens per rollout)",
            said()
        ));
    };
    let Data::I64(values) = &array.data else {
        return fail(format!(
            "`{}` is {}, but structure arrays are I64",
            said(),
            array.data.type_name()
        ));
    };
    if array.shape.len() != 1 {
        return fail(format!(
            "`{}` has shape {:?}, but structure arrays have one axis",
            said(),
            array.shape
        ));
    }
    let mut total = 0u64;
    for (i, &v) in values.iter().enumerate() {
        total = total.saturating_add(v.unsigned_abs());
        if v < 0 || total >= u64::from(u32::MAX) {
            return fail(format!(
                "`{}` has {v} at entry {i}; sizes are counts, 0 or more, adding up to fewer than 2^32",
                said()
            ));
        }
    }
    Ok(values)
}

/// How rollouts are cut into segments.
struct Segmentation<'t> {
    /// Tokens per segment.
    tokens: &'t [i64],
    /// Segments per rollout; none: as many as its tokens take, and none is empty.
    counts: Option<&'t [i64]>,
    /// Each rollout is one segment.
    whole: bool,
}

impl<'t> Segmentation<'t> {
    fn read(
        levels: &Levels,
        level: Level,
        table: &'t Table,
        rollouts: &'t [i64],
    ) -> Result<Segmentation<'t>, TableError> {
        let name = levels.name(level);
        let path = [name, "/size"];
        if table.joined(&path).is_none() {
            if level == TURN {
                return Ok(Segmentation { tokens: rollouts, counts: None, whole: true });
            }
            debug_assert_eq!(levels.def(level).kind, LevelKind::Segmentation);
            return fail(format!(
                "the program declares `level {name} in rollout`, but the batch has no `{name}/size` (tokens per {name}, in order)"
            ));
        }
        let tokens = sizes(table, &path)?;
        let count_path = ["rollout/", name, "s"];
        if table.joined(&count_path).is_some() {
            let counts = sizes(table, &count_path)?;
            check_counts(name, counts, tokens, rollouts)?;
            return Ok(Segmentation { tokens, counts: Some(counts), whole: false });
        }
        if let Some(i) = tokens.iter().position(|&s| s == 0) {
            return fail(format!(
                "`{name}/size` has 0 at entry {i}, so which rollout it belongs to is open; add `rollout/{name}s` (elements per rollout)"
            ));
        }
        check_tokens(name, tokens, rollouts)?;
        Ok(Segmentation { tokens, counts: None, whole: false })
    }

    /// First segment of each rollout, and the end.
    fn running(&self, rollouts: &[i64], into: &mut Vec<u32>) {
        if let Some(counts) = self.counts {
            return running(counts, into);
        }
        if self.whole {
            return into.extend(0..=rollouts.len() as u32);
        }
        let mut at = 0;
        into.push(0);
        into.extend(rollouts.iter().map(|&tokens| {
            let mut sum = 0;
            while sum < tokens {
                sum += self.tokens[at];
                at += 1;
            }
            at as u32
        }));
    }
}

/// Checks segments per rollout against tokens per segment.
fn check_counts(
    name: &str,
    counts: &[i64],
    tokens: &[i64],
    rollouts: &[i64],
) -> Result<(), TableError> {
    if counts.len() != rollouts.len() {
        return fail(format!(
            "`rollout/{name}s` has {} entries, but there are {} rollouts",
            counts.len(),
            rollouts.len()
        ));
    }
    let total = sum(counts);
    if total != tokens.len() {
        return fail(format!(
            "`rollout/{name}s` adds up to {total}, but `{name}/size` has {} entries",
            tokens.len()
        ));
    }
    let mut at = 0;
    for (r, (&n, &wanted)) in counts.iter().zip(rollouts).enumerate() {
        let sum: i64 = tokens[at..at + n as usize].iter().sum();
        if sum != wanted {
            return fail(format!(
                "`{name}/size` adds up to {sum} tokens in rollout {r}, but `rollout/size` says {wanted}"
            ));
        }
        at += n as usize;
    }
    Ok(())
}

/// Checks that segments, none of them empty, end where rollouts do.
fn check_tokens(name: &str, tokens: &[i64], rollouts: &[i64]) -> Result<(), TableError> {
    let mut at = 0;
    for (r, &wanted) in rollouts.iter().enumerate() {
        let mut sum = 0;
        while sum < wanted {
            let Some(&s) = tokens.get(at) else {
                return fail(format!(
                    "`{name}/size` ends after {at} entries with {sum} tokens in rollout {r}, but `rollout/size` says {wanted}"
                ));
            };
            sum += s;
            at += 1;
        }
        if sum != wanted {
            return fail(format!(
                "`{name}/size` adds up to {sum} tokens in rollout {r}, but `rollout/size` says {wanted}"
            ));
        }
    }
    if at != tokens.len() {
        return fail(format!(
            "`{name}/size` has {} entries, but the rollouts' tokens are used up after {at}",
            tokens.len()
        ));
    }
    Ok(())
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
