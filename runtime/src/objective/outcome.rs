//! What a batch came to, written where the batch before wrote it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rlc_compiler::check::SampleKind;
use rlc_compiler::hir::ColumnId;
use rlc_compiler::level::{TOKEN, VOCAB};
use rlc_compiler::specialize::Specialized;
use rlc_compiler::table::{Array, Data, Table};

use super::ObjectiveError;
use super::states::States;
use super::step::{Run, Step};

/// What a batch came to.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The minimised number.
    pub loss: f64,
    /// Metrics by name.
    pub metrics: BTreeMap<String, f64>,
    /// Metrics left out, with the columns they lack.
    pub left_out: Vec<(String, Vec<String>)>,
    /// Rows the filters kept, by level.
    pub kept: BTreeMap<String, u64>,
    /// Coupling level.
    pub coupling: String,
    /// d(loss)/d(input) by name, over the whole batch, for inputs in the table; shape as the column.
    pub grads: BTreeMap<String, Array>,
    /// Emitted definitions by name.
    pub values: BTreeMap<String, Array>,
    /// The states after this batch, as `state/name` and `state/name.key`.
    pub state: Table,
    /// What the program's `sample` statements say.
    pub samples: Samples,
}

/// The values of `sample` statements, one per group of the batch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Samples {
    /// `sample weight`.
    pub weight: Option<Vec<f64>>,
    /// `sample rollouts`, whole numbers.
    pub rollouts: Option<Vec<f64>>,
    /// Which groups the filters kept: the others' values mean nothing. None: all.
    pub kept: Option<Vec<bool>>,
}

/// An outcome, kept for its memory.
#[derive(Default)]
pub(super) struct Results {
    outcome: Outcome,
    /// What the names in it follow from: the program, and whether logits come with the pieces.
    of: Option<(Arc<Specialized>, bool)>,
    states: States,
}

impl Results {
    /// Makes ready for a batch; true where names may be others than those of the batch before.
    pub(super) fn begin(&mut self, specialized: &Arc<Specialized>, live: bool) -> bool {
        let same = |of: &(Arc<Specialized>, bool)| Arc::ptr_eq(&of.0, specialized) && of.1 == live;
        if self.of.as_ref().is_some_and(same) {
            return false;
        }
        let program = &specialized.program;
        self.outcome = Outcome {
            left_out: specialized.left_out.clone(),
            coupling: program.graph.level_table.name(program.coupling).to_owned(),
            ..Outcome::default()
        };
        self.of = Some((Arc::clone(specialized), live));
        self.states.begin(program);
        true
    }

    pub(super) fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// The memory of a vocab-level gradient that the outcome before took along.
    pub(super) fn take_rows(&mut self, name: &str) -> Option<Vec<f32>> {
        match &mut self.outcome.grads.get_mut(name)?.data {
            Data::F32(rows) => Some(std::mem::take(rows)),
            _ => None,
        }
    }
}

impl Step<'_> {
    /// Writes down what the batch came to, once the closing stage has run.
    pub(super) fn write_outcome(&mut self) -> Result<(), ObjectiveError> {
        let Step { run, specialized, shape, table, live, grads, results, workers, .. } = self;
        let program = &specialized.program;
        let graph = &program.graph;
        let Results { outcome, states, .. } = &mut **results;
        states.after(program, run, (table, self.state), workers, &mut outcome.state)?;
        let scalar = |e| run.value(e).first().copied().unwrap_or(0.0);
        outcome.loss = scalar(program.loss);
        for (name, e) in &program.metrics {
            change(&mut outcome.metrics, name, |metric| *metric = scalar(*e));
        }
        for (name, e) in &program.kept {
            change(&mut outcome.kept, name, |kept| *kept = scalar(*e) as u64);
        }
        for (id, grad) in &program.grads {
            let info = &graph.columns[id.0 as usize];
            if info.level == VOCAB && graph.array(*id, table).is_none() {
                continue;
            }
            let dims = [shape.count(TOKEN), shape.vocab];
            let dims = (info.level == VOCAB).then_some(&dims[..]);
            let to = &mut outcome.grads;
            match (&*run, grad, grads.get_mut(id)) {
                (Run::Interp(run), _, _) => put(to, &info.name, run.grad(*id).into_iter(), dims),
                (Run::Cpu(_), _, Some(rows)) => {
                    let data = Data::F32(std::mem::take(rows));
                    put_data(to, &info.name, dims, |own| *own = data);
                }
                (Run::Cpu(_), Some(e), None) if info.level != VOCAB => {
                    put(to, &info.name, run.value(*e).iter().copied(), dims);
                }
                (Run::Cpu(_), _, None) => {
                    put(to, &info.name, std::iter::repeat_n(0.0, shape.count(info.level)), dims);
                }
            }
        }
        // Zeros for differentiable columns that the batch has and the program names, but the loss does not read.
        let has_logits = *live || table.get("vocab/logits").is_some();
        for (i, info) in graph.columns.iter().enumerate() {
            let id = ColumnId(i as u16);
            // With logits these two are computed, and the batch's columns ignored.
            let computed = info.level == TOKEN && matches!(&*info.name, "logp" | "entropy");
            let read =
                program.grads.iter().any(|(of, _)| graph.columns[of.0 as usize].name == info.name);
            if !info.differentiable || read || (has_logits && computed) {
                continue;
            }
            if let Some(array) = graph.array(id, table) {
                let zeros = std::iter::repeat_n(0.0, array.data.len());
                put(&mut outcome.grads, &info.name, zeros, Some(&array.shape));
            }
        }
        for v in &program.values {
            let rows = run.value(v.value).iter();
            match v.exists {
                Some(exists) => {
                    let here = rows.zip(run.value(exists)).filter(|(_, e)| **e != 0.0);
                    put(&mut outcome.values, &v.name, here.map(|(x, _)| *x), None);
                }
                None => put(&mut outcome.values, &v.name, rows.copied(), None),
            }
        }
        for sample in &program.samples {
            let samples = &mut outcome.samples;
            let into = match sample.kind {
                SampleKind::Weight => &mut samples.weight,
                SampleKind::Rollouts => &mut samples.rollouts,
            };
            let into = into.get_or_insert_default();
            into.clear();
            into.extend_from_slice(run.value(sample.value));
            if let Some(kept) = sample.kept {
                let into = samples.kept.get_or_insert_default();
                into.clear();
                into.extend(run.value(kept).iter().map(|k| *k != 0.0));
            }
        }
        Ok(())
    }
}

/// Changes the value of a name, which a first batch puts in.
pub(super) fn change<T: Default>(
    map: &mut BTreeMap<String, T>,
    name: &str,
    set: impl FnOnce(&mut T),
) {
    if let Some(there) = map.get_mut(name) {
        return set(there);
    }
    let mut new = T::default();
    set(&mut new);
    map.insert(name.to_owned(), new);
}

/// Puts numbers in the place of an array's; a vector's where nothing is said of its shape.
pub(super) fn put(
    arrays: &mut BTreeMap<String, Array>,
    name: &str,
    numbers: impl Iterator<Item = f64>,
    dims: Option<&[usize]>,
) {
    put_data(arrays, name, dims, |data| match data {
        Data::F64(own) => {
            own.clear();
            own.extend(numbers);
        }
        other => *other = Data::F64(numbers.collect()),
    });
}

/// The same of any type.
pub(super) fn put_data(
    arrays: &mut BTreeMap<String, Array>,
    name: &str,
    dims: Option<&[usize]>,
    set: impl FnOnce(&mut Data),
) {
    change(arrays, name, |Array { data, shape }| {
        set(data);
        shape.clear();
        match dims {
            Some(dims) => shape.extend_from_slice(dims),
            None => shape.push(data.len()),
        }
    });
}
