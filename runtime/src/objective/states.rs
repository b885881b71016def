//! The states after a batch. Groups of one key are averaged; a key that the batch does not have, or of which the
//! filters kept no row, keeps its value.

use rlc_compiler::check::StateUpdate;
use rlc_compiler::columns;
use rlc_compiler::hir::ColumnSource;
use rlc_compiler::program::Program;
use rlc_compiler::shape::TableError;
use rlc_compiler::table::{Data, Table};

use super::ObjectiveError;
use super::outcome::{put, put_data};
use super::step::Run;
use super::workers::{Exchange, Workers};

/// Memory for that.
#[derive(Default)]
pub(super) struct States {
    /// For each update of the program, the names of its array and of the keys.
    names: Vec<[String; 2]>,
    /// For each keyed one, in the order of keys: the sum of its updates and their count.
    sums: Vec<Vec<(i64, (f64, f64))>>,
    /// Keys and rows.
    rows: Vec<(i64, u32)>,
    /// Values before the batch, in the order of keys.
    known: Vec<(i64, f64)>,
}

impl States {
    /// Makes ready for another program.
    pub(super) fn begin(&mut self, program: &Program) {
        let names = |name: &String| [format!("state/{name}"), format!("state/{name}.key")];
        self.names = program.updates.iter().map(|u| names(&u.name)).collect();
    }

    /// Writes the states after a batch, whose `from` are its table and the states that this lacks.
    pub(super) fn after(
        &mut self,
        program: &Program,
        run: &Run<'_>,
        from: (&Table, &Table),
        workers: &mut Workers<'_>,
        into: &mut Table,
    ) -> Result<(), ObjectiveError> {
        let problem = |text| ObjectiveError::Batch(TableError(text));
        let graph = &program.graph;
        let key = |update: &StateUpdate| match graph.sources.get(&update.column) {
            Some(ColumnSource::State { key, .. }) => *key,
            Some(ColumnSource::Uniform) | None => None,
        };
        let States { names, sums, rows, known } = self;
        let mut keyed = 0;
        for (update, [path, _]) in program.updates.iter().zip(&*names) {
            let values = run.value(update.value);
            let Some(key) = key(update) else {
                defined(update, values[0]).map_err(problem)?;
                put(&mut into.arrays, path, values.iter().copied(), None);
                continue;
            };
            let keys = columns::row_keys(graph, from.0, key, values.len()).map_err(problem)?;
            let kept = update.kept.map(|e| run.value(e));
            rows.clear();
            rows.extend((0..).zip(keys).map(|(row, key)| (*key, row)));
            // Rows of a key add up in their order.
            rows.sort_unstable();
            sums.resize_with(sums.len().max(keyed + 1), Vec::new);
            let own = &mut sums[keyed];
            own.clear();
            for (key, row) in &*rows {
                if kept.is_some_and(|k| k[*row as usize] == 0.0) {
                    continue;
                }
                let value = values[*row as usize];
                defined(update, value).map_err(problem)?;
                match own.last_mut().filter(|last| last.0 == *key) {
                    Some((_, (sum, n))) => (*sum, *n) = (*sum + value, *n + 1.0),
                    None => own.push((*key, (0.0 + value, 1.0))),
                }
            }
            keyed += 1;
        }
        if keyed > 0 && workers.several() {
            let own = sums[..keyed].iter().map(|s| s.iter().copied().collect()).collect();
            let all = workers.all(Exchange { parts: Vec::new(), keyed: own })?;
            for (sums, all) in sums.iter_mut().zip(all.keyed) {
                sums.clear();
                sums.extend(all);
            }
        }
        let keyed = program.updates.iter().zip(&*names).filter(|(u, _)| key(u).is_some());
        for ((update, [path, key_path]), sums) in keyed.zip(&*sums) {
            columns::keyed_state(graph, update.column, from.0, from.1, known).map_err(problem)?;
            let keys = || merged(known, sums).map(|of| of.0);
            put_data(&mut into.arrays, key_path, None, |data| match data {
                Data::I64(own) => {
                    own.clear();
                    own.extend(keys());
                }
                other => *other = Data::I64(keys().collect()),
            });
            put(&mut into.arrays, path, merged(known, sums).map(|of| of.1), None);
        }
        Ok(())
    }
}

/// A NaN would stay in the state, and in every checkpoint, from here on.
fn defined(update: &StateUpdate, value: f64) -> Result<(), String> {
    if !value.is_nan() {
        return Ok(());
    }
    Err(format!(
        "the update of state `{}` is NaN; give its definition a value there, with `if` or `default =`",
        update.name
    ))
}

/// Keys and values in the order of keys: means of sums, and of the other keys what is known.
fn merged<'a>(
    known: &'a [(i64, f64)],
    sums: &'a [(i64, (f64, f64))],
) -> impl Iterator<Item = (i64, f64)> + 'a {
    let mut known = known.iter().peekable();
    let mut sums = sums.iter().peekable();
    std::iter::from_fn(move || {
        let Some(&&(key, (sum, n))) = sums.peek() else { return known.next().copied() };
        if let Some(before) = known.next_if(|k| k.0 < key) {
            return Some(*before);
        }
        known.next_if(|k| k.0 == key);
        sums.next();
        Some((key, sum / n))
    })
}
