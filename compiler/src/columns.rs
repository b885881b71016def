//! The columns a program reads, checked against a batch before anything is computed.

use crate::hir::{ColumnId, ColumnSource, Expr, Graph};
use crate::level::{BATCH, TOKEN, VOCAB};
use crate::op::{INT_END, Ty};
use crate::program::Program;
use crate::shape::{Shape, TableError};
use crate::table::{Array, Data, Table};

/// The columns of one batch that are no arrays of its table in a type that kernels read: all of them as f64 after
/// [`load`], those without such an array after [`check`].
#[derive(Debug, Clone, Default)]
pub struct Columns {
    values: Vec<Vec<f64>>,
    /// Read from the table.
    in_table: Vec<bool>,
    /// Kept for its memory.
    known: Vec<(i64, f64)>,
}

/// A batch, and what is read of it.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Of the program.
    pub graph: &'a Graph,
    /// What [`needed`] says of the program.
    pub needed: &'a [ColumnId],
    /// The batch.
    pub table: &'a Table,
    /// States that the batch does not have.
    pub state: &'a Table,
    /// The rows of the batch.
    pub shape: &'a Shape,
    /// Logits are handed over piece by piece later and need not be in the table.
    pub live_vocab: bool,
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
        graph.array(id, table).and_then(|a| Numbers::lying(&a.data)).unwrap_or(here)
    }

    /// Reads and checks a batch in the memory of another one: all of it as f64, or with `in_place` only what the table
    /// does not have in a type that kernels read.
    pub fn refill(&mut self, from: &Batch<'_>, in_place: bool) -> Result<(), TableError> {
        let Batch { graph, table, shape, .. } = *from;
        self.values.resize(graph.columns.len(), Vec::new());
        self.values.iter_mut().for_each(Vec::clear);
        self.in_table.clear();
        self.in_table.resize(graph.columns.len(), false);
        let mut problems: Vec<String> = Vec::new();
        for &id in from.needed {
            let info = &graph.columns[id.0 as usize];
            let values = &mut self.values[id.0 as usize];
            if info.level == VOCAB {
                problems.extend(vocab_problem(from, id, graph.array(id, table)));
                continue;
            }
            if let Some(source) = graph.sources.get(&id) {
                problems.extend(sourced(from, id, *source, &mut self.known, values).err());
                continue;
            }
            let count = shape.count(info.level);
            let Some(array) = graph.array(id, table) else {
                match info.default {
                    Some(default) => values.resize(count, default),
                    None => problems.push(absent(from, id)),
                }
                continue;
            };
            if let Some(problem) = problem(graph, id, array, count) {
                problems.push(problem);
                continue;
            }
            if in_place && Numbers::lying(&array.data).is_some() {
                self.in_table[id.0 as usize] = true;
            } else {
                values.extend((0..count).map(|i| array.data.get(i)));
            }
            if info.level == TOKEN && info.name == "action" && shape.vocab > 0 {
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
        if problems.is_empty() { Ok(()) } else { Err(TableError(problems.join("\n"))) }
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
    let mut columns = Columns::default();
    let (graph, needed) = (&program.graph, &needed(program));
    columns.refill(&Batch { graph, needed, table, state, shape, live_vocab }, in_place)?;
    Ok(columns)
}

/// What is wrong with the array of a vocab-level column, if anything is.
fn vocab_problem(from: &Batch<'_>, id: ColumnId, found: Option<&Array>) -> Option<String> {
    let path = || from.graph.column_path(id);
    match found {
        None if from.live_vocab && from.graph.is_logits(id) => None,
        None => Some(format!(
            "the batch has no `{}` ([tokens, V], one row per token){}",
            path(),
            reader(from.graph, id)
        )),
        Some(array) if array.data.floats().is_some() => None,
        Some(array) => Some(format!(
            "`{}` is {}, but logits are F32, BF16, F16 or F64",
            path(),
            array.data.type_name()
        )),
    }
}

/// Takes the numbers of a column that is no column of the batch.
fn sourced(
    from: &Batch<'_>,
    id: ColumnId,
    source: ColumnSource,
    known: &mut Vec<(i64, f64)>,
    into: &mut Vec<f64>,
) -> Result<(), String> {
    let Batch { graph, table, state, shape, .. } = *from;
    let level = graph.columns[id.0 as usize].level;
    let count = shape.count(level);
    match source {
        ColumnSource::Uniform => {
            let Some(array) = graph.array(id, table) else {
                return Err(
                    "the batch has no `batch/seed` (one int for the batch), which `uniform` reads"
                        .into(),
                );
            };
            let (Data::I64(seeds), 1) = (&array.data, array.data.len()) else {
                return Err("`batch/seed` is one I64".into());
            };
            let seed = mixed(seeds[0] as u64 ^ mixed(u64::from(level.0)));
            // The upper 53 bits are a fraction of 2^53, each exact in f64.
            let unit = |i: u64| (mixed(seed.wrapping_add(i)) >> 11) as f64 / (1u64 << 53) as f64;
            let before = shape.before(level);
            into.extend((before..before + count as u64).map(unit));
        }
        ColumnSource::State { key: None, first } => {
            let Some(array) = graph.array(id, table).or_else(|| graph.array(id, state)) else {
                into.resize(count, first);
                return Ok(());
            };
            if array.data.len() != 1 || array.data.floats().is_none() {
                return Err(format!(
                    "`{}` is {} of {}, but a state of the batch is one float",
                    graph.column_path(id),
                    array.data.type_name(),
                    array.data.len()
                ));
            }
            into.resize(count, array.data.get(0));
        }
        ColumnSource::State { key: Some(key), first } => {
            keyed_state(graph, id, table, state, known)?;
            let value = |key: &i64| {
                let at = known.binary_search_by_key(key, |k| k.0);
                at.map_or(first, |at| known[at].1)
            };
            into.extend(row_keys(graph, table, key, count)?.iter().map(value));
        }
    }
    Ok(())
}

/// Puts the values of a keyed state, from the batch or, where it has none, from `state`, in the order of their keys.
pub fn keyed_state(
    graph: &Graph,
    id: ColumnId,
    table: &Table,
    state: &Table,
    into: &mut Vec<(i64, f64)>,
) -> Result<(), String> {
    into.clear();
    let from = if graph.array(id, table).is_some() { table } else { state };
    let Some(values) = graph.array(id, from) else { return Ok(()) };
    let path = || graph.column_path(id);
    let keys = from.joined(&["state/", &graph.columns[id.0 as usize].name, ".key"]);
    let Some(Data::I64(keys)) = keys.map(|a| &a.data) else {
        return Err(format!(
            "`{0}` is keyed, but there is no I64 `{0}.key` with a key per value",
            path()
        ));
    };
    if keys.len() != values.data.len() || values.data.floats().is_none() {
        return Err(format!(
            "`{0}` is {1} of {2}, but `{0}.key` has {3} keys for as many floats",
            path(),
            values.data.type_name(),
            values.data.len(),
            keys.len()
        ));
    }
    into.extend(keys.iter().enumerate().map(|(i, k)| (*k, values.data.get(i))));
    // Those that a step leaves are in order.
    if !into.is_sorted_by_key(|k| k.0) {
        into.sort_by_key(|k| k.0);
    }
    if let Some(twice) = into.windows(2).find(|w| w[0].0 == w[1].0) {
        let key = twice[0].0;
        return Err(format!("`{}.key` has the key {key} twice, so its value is open", path()));
    }
    Ok(())
}

/// The key of each row of a keyed state's level.
pub fn row_keys<'t>(
    graph: &Graph,
    table: &'t Table,
    key: ColumnId,
    count: usize,
) -> Result<&'t [i64], String> {
    let path = || graph.column_path(key);
    match graph.array(key, table).map(|a| &a.data) {
        Some(Data::I64(keys)) if keys.len() == count => Ok(keys),
        Some(other) => Err(format!(
            "`{}` is {} of {}, but it keys a state with one I64 for each of {count} rows",
            path(),
            other.type_name(),
            other.len()
        )),
        None => Err(format!(
            "the batch has no `{}` (one int per row, {count} in all), which keys a state",
            path()
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

/// Says that a batch lacks a column without a default.
fn absent(from: &Batch<'_>, id: ColumnId) -> String {
    let (graph, info) = (from.graph, &from.graph.columns[id.0 as usize]);
    let path = graph.column_path(id);
    let names = from.table.arrays.keys().map(String::as_str);
    let near = crate::diagnostic::nearest(&path, names)
        .map_or(String::new(), |n| format!("; it has a `{n}`"));
    format!(
        "the batch has no `{path}` (one {} per {}, {} in all){}{near}",
        info.ty.name(),
        graph.level_table.name(info.level),
        from.shape.count(info.level),
        reader(graph, id)
    )
}

/// What is wrong with the array of a column, if anything is.
fn problem(graph: &Graph, id: ColumnId, array: &Array, count: usize) -> Option<String> {
    let Array { data, shape: dims } = array;
    let info = &graph.columns[id.0 as usize];
    let path = || graph.column_path(id);
    let fits = match info.ty {
        Ty::Real => data.floats().is_some(),
        Ty::Int => matches!(data, Data::I64(_)),
        Ty::Bool => matches!(data, Data::U8(_)),
    };
    if !fits {
        let wanted = match info.ty {
            Ty::Real => "a real column is F32 or F64",
            Ty::Int => "an int column is I64",
            Ty::Bool => "a bool column is U8 (0 or 1) or BOOL",
        };
        return Some(format!("`{}` is {}, but {wanted}", path(), data.type_name()));
    }
    let one_axis = dims.len() == 1 || (info.level == BATCH && dims.is_empty());
    if !one_axis {
        return Some(format!("`{}` has shape {dims:?}, but it has one axis of {count}", path()));
    }
    if data.len() != count {
        return Some(format!(
            "`{}` has {} entries, but there are {count} rows at its level",
            path(),
            data.len()
        ));
    }
    // All of them first: a search that may end early goes byte by byte.
    if let (Ty::Bool, Data::U8(bytes)) = (info.ty, data)
        && bytes.iter().fold(0, |most, &b| b.max(most)) > 1
        && let Some(i) = bytes.iter().position(|&b| b > 1)
    {
        return Some(format!("`{}` has {} at entry {i}, but a bool is 0 or 1", path(), bytes[i]));
    }
    if let (Ty::Int, Data::I64(ints)) = (info.ty, data)
        && let Some(i) = ints.iter().position(|v| v.unsigned_abs() > INT_END as u64)
    {
        return Some(format!(
            "`{}` has {} at entry {i}, but ints are told apart up to {INT_END} only; number them anew",
            path(),
            ints[i]
        ));
    }
    None
}
