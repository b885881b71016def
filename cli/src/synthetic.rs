//! Batches made up for a program: structure arrays and columns of the right levels and types. What
//! the numbers are is the caller's business.

use rlc_compiler::columns::needed;
use rlc_compiler::hir::{ColumnId, ColumnSource};
use rlc_compiler::level::{BATCH, Level, LevelKind, Levels};
use rlc_compiler::op::Ty;
use rlc_compiler::program::Program;
use rlc_compiler::table::{Array, Data, Table};

/// How large a batch is.
#[derive(Debug, Clone)]
pub struct Sizes {
    /// Rollouts of each group.
    pub groups: Vec<usize>,
    /// Tokens of each rollout.
    pub rollouts: Vec<usize>,
    /// Segments that a rollout is cut into, where it has as many tokens.
    pub segments: usize,
    /// Rows of each list, and below each token.
    pub rows: usize,
}

/// A column that a program reads.
#[derive(Debug, Clone)]
pub struct Read {
    /// `level/name`.
    pub path: String,
    /// Its level.
    pub level: Level,
    /// Its type.
    pub ty: Ty,
}

/// The structure arrays of a batch for a program with these levels.
pub fn structure(levels: &Levels, sizes: &Sizes) -> Table {
    let mut cuts = |n: usize| cut(n, sizes.segments).collect();
    ragged(levels, &sizes.groups, &sizes.rollouts, &mut cuts, &mut || sizes.rows)
}

/// The same from the rollouts of each group and the tokens of each rollout; `cuts` says into what segments a rollout of so
/// many tokens falls (empty ones too), `rows` how many rows a list or a token has.
pub fn ragged(
    levels: &Levels,
    groups: &[usize],
    rollouts: &[usize],
    cuts: &mut dyn FnMut(usize) -> Vec<usize>,
    rows: &mut dyn FnMut() -> usize,
) -> Table {
    let counts = |of: &[usize]| Data::I64(of.iter().map(|&n| n as i64).collect());
    let mut table = Table::default();
    table.set("group/size", counts(groups));
    table.set("rollout/size", counts(rollouts));
    for level in levels.segmentations() {
        let parts: Vec<Vec<usize>> = rollouts.iter().map(|&n| cuts(n)).collect();
        let name = levels.name(level);
        table.set(format!("{name}/size"), counts(&parts.concat()));
        if parts.iter().flatten().any(|&n| n == 0) {
            let each: Vec<usize> = parts.iter().map(Vec::len).collect();
            table.set(format!("rollout/{name}s"), counts(&each));
        }
    }
    for level in levels.all() {
        let parents = match levels.def(level).kind {
            LevelKind::Below => rollouts.iter().sum(),
            LevelKind::List(parent) => {
                let outer = table.get(&format!("{}/size", levels.name(parent)));
                outer.map_or(0, |a| a.data.len())
            }
            LevelKind::Standard
            | LevelKind::Segmentation
            | LevelKind::Pairs(..)
            | LevelKind::Derived(_) => continue,
        };
        let each: Vec<usize> = (0..parents).map(|_| rows()).collect();
        table.set(format!("{}/size", levels.name(level)), counts(&each));
    }
    table
}

/// `n` tokens in at most `parts` segments of at least one token.
fn cut(n: usize, parts: usize) -> impl Iterator<Item = usize> {
    let parts = parts.min(n);
    (0..parts).map(move |i| (i + 1) * n / parts - i * n / parts)
}

/// The columns that batches for a program have: what it reads, the seed of `uniform`, and the keys
/// of its states. States begin with what the program says.
pub fn reads(program: &Program) -> Vec<Read> {
    let graph = &program.graph;
    let mut columns: Vec<Read> = Vec::new();
    let mut add = |id: ColumnId, ty: Ty| {
        let (path, mut level) = (graph.column_path(id), graph.columns[id.0 as usize].level);
        if graph.sources.contains_key(&id) {
            level = BATCH;
        }
        if !columns.iter().any(|c| c.path == path) {
            columns.push(Read { path, level, ty });
        }
    };
    for id in needed(program) {
        match graph.sources.get(&id) {
            None => add(id, graph.columns[id.0 as usize].ty),
            Some(ColumnSource::Uniform) => add(id, Ty::Int),
            Some(ColumnSource::State { key: Some(key), .. }) => add(*key, Ty::Int),
            Some(ColumnSource::State { key: None, .. }) => {}
        }
    }
    columns
}

/// Puts a column below vocab level into a batch, in its own type.
pub fn set(table: &mut Table, read: &Read, values: Vec<f64>) {
    let shape = if read.path.starts_with("batch/") { vec![] } else { vec![values.len()] };
    let data = match read.ty {
        Ty::Real => Data::F64(values),
        Ty::Int => Data::I64(values.into_iter().map(|v| v as i64).collect()),
        Ty::Bool => Data::U8(values.into_iter().map(|v| v as u8).collect()),
    };
    table.arrays.insert(read.path.clone(), Array { data, shape });
}
