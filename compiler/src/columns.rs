//! The columns a program reads, checked against a batch before anything is computed.

use std::collections::BTreeMap;

use crate::hir::{ColumnId, ColumnSource, Expr, Graph};
use crate::level::{BATCH, TOKEN, VOCAB};
use crate::op::{INT_END, Ty};
use crate::program::Program;
use crate::shape::{Shape, TableError};
use crate::table::{Data, Table};

/// The columns of one batch that are no arrays of its table in a type that kernels read: all of them as f64 after
/// [`load`], those without such an array after [`check`].
#[derive(Debug, Clone, Default)]
pub struct Columns {
    values: Vec<Vec<f64>>,
    /// Read from the table.
    in_table: Vec<bool>,
}

impl Columns {
    /// A column's values; empty for vocab-level columns and those the program does not read.
    pub fn get(&self, id: ColumnId) -> &[f64] {
        self.values.get(id.0 as usize).map_or(&[], Vec::as_slice)
    }

    /// A column where it lies, in the table that was checked or here.
    pub fn numbers<'a>(&'a self, id: ColumnId, graph: &Graph, table: &'a Table) -> Numbers<'a> {
        let here = Numbers::F64(self.get(id));
        if !self.in_table.get(id.0 as usize).copied().unwrap_or(false) {
            return here;
        }
        let array = table.get(&graph.column_path(id));
        array.and_then(|a| Numbers::lying(&a.data)).unwrap_or(here)
    }
}

/// The numbers of a column that is not vocab level, where they lie.
#[derive(Debug, Clone, Copy)]
pub enum Numbers<'a> {
    /// 64-bit floats.
    F64(&'a [f64]),
    /// 32-bit floats.
    F32(&'a [f32]),
    /// Whole numbers.
    I64(&'a [i64]),
    /// Truth values, 0 or 1.
    U8(&'a [u8]),
}

impl<'a> From<&'a [f64]> for Numbers<'a> {
    fn from(numbers: &'a [f64]) -> Self {
        Numbers::F64(numbers)
    }
}

impl<'a> Numbers<'a> {
    /// An array's; none for half-precision floats, which are read as f64.
    fn lying(data: &'a Data) -> Option<Numbers<'a>> {
        match data {
            Data::F64(x) => Some(Numbers::F64(x)),
            Data::F32(x) => Some(Numbers::F32(x)),
            Data::I64(x) => Some(Numbers::I64(x)),
            Data::U8(x) => Some(Numbers::U8(x)),
            Data::Bf16(_) | Data::F16(_) => None,
        }
    }

    /// How many there are.
    pub fn len(self) -> usize {
        match self {
            Numbers::F64(x) => x.len(),
            Numbers::F32(x) => x.len(),
            Numbers::I64(x) => x.len(),
            Numbers::U8(x) => x.len(),
        }
    }

    /// True without any.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// The columns that a program reads.
pub fn needed(program: &Program) -> Vec<ColumnId> {
    let graph = &program.graph;
    let reachable = graph.reachable(program.outputs().iter().map(|o| o.1));
    let mut out: Vec<ColumnId> = graph
        .all()
        .filter(|e| reachable[e.index()])
        .filter_map(|e| match graph.expr(e) {
            Expr::Column(c) => Some(c),
            _ => None,
        })
        .collect();
    out.sort();
    out.dedup();
    out
}

/// The columns that a batch must have for a program: those that it reads, less states, seeds and what has a value where it
/// is absent, and the keys of its states.
pub fn required(program: &Program) -> Vec<ColumnId> {
    let graph = &program.graph;
    let mut out: Vec<ColumnId> = needed(program)
        .into_iter()
        .filter_map(|c| match graph.sources.get(&c) {
            None => Some(c),
            Some(ColumnSource::State { key, .. }) => *key,
            Some(ColumnSource::Uniform) => None,
        })
        .filter(|c| graph.columns[c.0 as usize].default.is_none())
        .collect();
    out.sort();
    out.dedup();
    out
}

/// Reads and checks what `program` needs, as f64; `state` holds states that the table does not. With
/// `live_vocab` the logits are handed over piece by piece later and need not be in the table.
pub fn load(
    program: &Program,
    table: &Table,
    state: &Table,
    shape: &Shape,
    live_vocab: bool,
) -> Result<Columns, TableError> {
    read(program, table, state, shape, (live_vocab, false))
}

/// The same without copies: arrays of the table stay there, see [`Columns::numbers`].
pub fn check(
    program: &Program,
    table: &Table,
    state: &Table,
    shape: &Shape,
    live_vocab: bool,
) -> Result<Columns, TableError> {
    read(program, table, state, shape, (live_vocab, true))
}

fn read(
    program: &Program,
    table: &Table,
    state: &Table,
    shape: &Shape,
    (live_vocab, in_place): (bool, bool),
) -> Result<Columns, TableError> {
    let graph = &program.graph;
    let mut values = vec![Vec::new(); graph.columns.len()];
    let mut in_table = vec![false; graph.columns.len()];
    let mut problems: Vec<String> = Vec::new();
    for id in needed(program) {
        let info = &graph.columns[id.0 as usize];
        let path = graph.column_path(id);
        if info.level == VOCAB {
            let comes_later = live_vocab && path == "vocab/logits";
            if !comes_later && table.get(&path).is_none() {
                problems.push(format!(
                    "the batch has no `{path}` ([tokens, V], one row per token){}",
                    reader(graph, id)
                ));
            } else if let Some(array) = table.get(&path)
                && !matches!(array.data, Data::F32(_) | Data::F64(_) | Data::Bf16(_) | Data::F16(_))
            {
                problems.push(format!(
                    "`{path}` is {}, but logits are F32, BF16, F16 or F64",
                    array.data.type_name()
                ));
            }
            continue;
        }
        let count = shape.count(info.level);
        if let Some(source) = graph.sources.get(&id) {
            let rows = (shape.before(info.level), count);
            match sourced(graph, id, *source, table, state, rows) {
                Ok(found) => values[id.0 as usize] = found,
                Err(problem) => problems.push(problem),
            }
            continue;
        }
        let Some(array) = table.get(&path) else {
            if let Some(default) = info.default {
                values[id.0 as usize] = vec![default; count];
            } else {
                let names = table.arrays.keys().map(String::as_str);
                let near = crate::diagnostic::nearest(&path, names)
                    .map_or(String::new(), |n| format!("; it has a `{n}`"));
                problems.push(format!(
                    "the batch has no `{path}` (one {} per {}, {count} in all){}{near}",
                    info.ty.name(),
                    graph.level_table.name(info.level),
                    reader(graph, id)
                ));
            }
            continue;
        };
        if let Some(problem) =
            problem(&path, &array.data, &array.shape, info.ty, count, info.level == BATCH)
        {
            problems.push(problem);
            continue;
        }
        if in_place && Numbers::lying(&array.data).is_some() {
            in_table[id.0 as usize] = true;
        } else {
            values[id.0 as usize] = (0..count).map(|i| array.data.get(i)).collect();
        }
        if path == "token/action" && shape.vocab > 0 && info.level == TOKEN {
            let beyond = |a: f64| a < 0.0 || a >= shape.vocab as f64;
            if let Some(t) = (0..count).position(|t| beyond(array.data.get(t))) {
                problems.push(format!(
                    "`token/action` is {} at token {t}, but `vocab/logits` has {} entries per token",
                    array.data.get(t),
                    shape.vocab
                ));
            }
        }
    }
    if problems.is_empty() {
        Ok(Columns { values, in_table })
    } else {
        Err(TableError(problems.join("\n")))
    }
}

/// The numbers of a column that is no column of the batch.
fn sourced(
    graph: &Graph,
    id: ColumnId,
    source: ColumnSource,
    table: &Table,
    state: &Table,
    (before, count): (u64, usize),
) -> Result<Vec<f64>, String> {
    let path = graph.column_path(id);
    match source {
        ColumnSource::Uniform => {
            let Some(array) = table.get(&path) else {
                return Err(
                    "the batch has no `batch/seed` (one int for the batch), which `uniform` reads"
                        .into(),
                );
            };
            let (Data::I64(seeds), 1) = (&array.data, array.data.len()) else {
                return Err("`batch/seed` is one I64".into());
            };
            let level = u64::from(graph.columns[id.0 as usize].level.0);
            let seed = mixed(seeds[0] as u64 ^ mixed(level));
            // The upper 53 bits are a fraction of 2^53, each exact in f64.
            let unit = |i: u64| (mixed(seed.wrapping_add(i)) >> 11) as f64 / (1u64 << 53) as f64;
            Ok((before..before + count as u64).map(unit).collect())
        }
        ColumnSource::State { key: None, first } => {
            let Some(array) = table.get(&path).or_else(|| state.get(&path)) else {
                return Ok(vec![first; count]);
            };
            if array.data.len() != 1 || array.data.floats().is_none() {
                return Err(format!(
                    "`{path}` is {} of {}, but a state of the batch is one float",
                    array.data.type_name(),
                    array.data.len()
                ));
            }
            Ok(vec![array.data.get(0); count])
        }
        ColumnSource::State { key: Some(key), first } => {
            let known = keyed_state(table, state, &path)?;
            let keys = row_keys(graph, table, key, count)?;
            Ok(keys.iter().map(|k| known.get(k).copied().unwrap_or(first)).collect())
        }
    }
}

/// The values of a keyed state by key, from the batch or, where it has none, from `state`.
pub fn keyed_state(table: &Table, state: &Table, path: &str) -> Result<BTreeMap<i64, f64>, String> {
    let from = if table.get(path).is_some() { table } else { state };
    let Some(values) = from.get(path) else { return Ok(BTreeMap::new()) };
    let key_path = format!("{path}.key");
    let Some(Data::I64(keys)) = from.get(&key_path).map(|a| &a.data) else {
        return Err(format!(
            "`{path}` is keyed, but there is no I64 `{key_path}` with a key per value"
        ));
    };
    if keys.len() != values.data.len() || values.data.floats().is_none() {
        return Err(format!(
            "`{path}` is {} of {}, but `{key_path}` has {} keys for as many floats",
            values.data.type_name(),
            values.data.len(),
            keys.len()
        ));
    }
    let mut known = BTreeMap::new();
    for (i, key) in keys.iter().enumerate() {
        if known.insert(*key, values.data.get(i)).is_some() {
            return Err(format!("`{key_path}` has the key {key} twice, so its value is open"));
        }
    }
    Ok(known)
}

/// The key of each row of a keyed state's level.
pub fn row_keys(
    graph: &Graph,
    table: &Table,
    key: ColumnId,
    count: usize,
) -> Result<Vec<i64>, String> {
    let path = graph.column_path(key);
    match table.get(&path).map(|a| &a.data) {
        Some(Data::I64(keys)) if keys.len() == count => Ok(keys.clone()),
        Some(other) => Err(format!(
            "`{path}` is {} of {}, but it keys a state with one I64 for each of {count} rows",
            other.type_name(),
            other.len()
        )),
        None => Err(format!(
            "the batch has no `{path}` (one int per row, {count} in all), which keys a state"
        )),
    }
}

/// The output function of splitmix64 (Steele, Lea, Flood 2014): neighbours in, unrelated bits out.
fn mixed(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// ", which `advantage` reads": the first named expression that uses the column.
fn reader(graph: &Graph, id: ColumnId) -> String {
    let mut uses = vec![false; graph.len()];
    for e in graph.all() {
        let own = graph.expr(e) == Expr::Column(id);
        uses[e.index()] = own || graph.operands(e).any(|o| uses[o.index()]);
        if uses[e.index()]
            && !own
            && let Some(name) = graph.name(e)
        {
            return format!(", which `{name}` reads");
        }
    }
    String::new()
}

fn problem(
    path: &str,
    data: &Data,
    dims: &[usize],
    ty: Ty,
    count: usize,
    scalar: bool,
) -> Option<String> {
    let fits = match ty {
        Ty::Real => matches!(data, Data::F32(_) | Data::F64(_) | Data::Bf16(_) | Data::F16(_)),
        Ty::Int => matches!(data, Data::I64(_)),
        Ty::Bool => matches!(data, Data::U8(_)),
    };
    if !fits {
        let wanted = match ty {
            Ty::Real => "a real column is F32 or F64",
            Ty::Int => "an int column is I64",
            Ty::Bool => "a bool column is U8 (0 or 1) or BOOL",
        };
        return Some(format!("`{path}` is {}, but {wanted}", data.type_name()));
    }
    let one_axis = dims.len() == 1 || (scalar && dims.is_empty());
    if !one_axis {
        return Some(format!("`{path}` has shape {dims:?}, but it has one axis of {count}"));
    }
    if data.len() != count {
        return Some(format!(
            "`{path}` has {} entries, but there are {count} rows at its level",
            data.len()
        ));
    }
    if let (Ty::Bool, Data::U8(bytes)) = (ty, data)
        && let Some(i) = bytes.iter().position(|&b| b > 1)
    {
        return Some(format!("`{path}` has {} at entry {i}, but a bool is 0 or 1", bytes[i]));
    }
    if let (Ty::Int, Data::I64(ints)) = (ty, data)
        && let Some(i) = ints.iter().position(|v| v.unsigned_abs() > INT_END as u64)
    {
        return Some(format!(
            "`{path}` has {} at entry {i}, but ints are told apart up to {INT_END} only; number them anew",
            ints[i]
        ));
    }
    None
}
