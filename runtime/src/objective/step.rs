//! One batch under way: the recorded stage has run, the pieces follow, then the closing stage.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use rlc_compiler::check::SampleKind;
use rlc_compiler::columns;
use rlc_compiler::hir::{ColumnId, ColumnSource, E};
use rlc_compiler::interp::{self, VocabRows};
use rlc_compiler::level::{BATCH, GROUP, Level, ROLLOUT, TOKEN, VOCAB};
use rlc_compiler::program::{Phase, Program};
use rlc_compiler::shape::{Shape, TableError};
use rlc_compiler::specialize::Specialized;
use rlc_compiler::table::{Array, Data, Floats, Table};

use super::finite::all_finite;
use super::workers::{Exchange, Workers};
use super::{ObjectiveError, vocab_columns};
use crate::device::Gradient;
use crate::device::cpu;

pub(super) enum Run<'a> {
    Interp(Box<interp::Run>),
    Cpu(cpu::Run<'a>),
}

impl Run<'_> {
    /// Runs a phase that goes over the whole batch.
    pub(super) fn whole(
        &mut self,
        phase: Phase,
        vocab: &BTreeMap<ColumnId, VocabRows<'_>>,
        workers: &mut Workers<'_>,
    ) -> Result<(), ObjectiveError> {
        match self {
            Run::Interp(run) => rounds(run, phase, 0..0, vocab, workers),
            Run::Cpu(run) => {
                let done = workers.merging(|merge| match phase {
                    Phase::Recorded => run.recorded_among(vocab, merge),
                    Phase::Live | Phase::After => run.after_among(vocab, merge),
                });
                Ok(done?)
            }
        }
    }
}

/// Runs a phase of the interpreter, merging what crosses between workers.
pub(super) fn rounds(
    run: &mut interp::Run,
    phase: Phase,
    rows: Range<usize>,
    vocab: &BTreeMap<ColumnId, VocabRows<'_>>,
    workers: &mut Workers<'_>,
) -> Result<(), ObjectiveError> {
    for round in run.rounds(phase) {
        let crossing = run.round(phase, round, rows.clone(), vocab);
        if crossing.is_empty() || !workers.several() {
            continue;
        }
        let own = |e: E| run.value(e).first().copied().unwrap_or(0.0);
        let parts = crossing.iter().map(|(e, op)| (*op, own(*e))).collect();
        let all = workers.all(Exchange { parts, keyed: Vec::new() })?;
        for ((e, _), (_, value)) in crossing.iter().zip(all.parts) {
            run.merged(*e, value);
        }
    }
    Ok(())
}

/// One batch under way.
pub struct Step<'a> {
    pub(super) run: Run<'a>,
    pub(super) specialized: Arc<Specialized>,
    pub(super) shape: Arc<Shape>,
    pub(super) table: &'a Table,
    /// States that the table lacks.
    pub(super) state: &'a Table,
    pub(super) params: &'a [f64],
    /// Logits come with each piece.
    pub(super) live: bool,
    /// The rollout the next piece begins with.
    pub(super) next: usize,
    /// Compiled kernels' gradients of the table's vocab-level columns, whole.
    pub(super) grads: BTreeMap<ColumnId, Vec<f32>>,
    pub(super) workers: Workers<'a>,
}

/// Gradients of one piece.
#[derive(Debug, Clone, Default)]
pub struct LiveGrads {
    /// d(loss)/d(logits), [tokens of the piece, V]; empty where the loss reads no logits.
    pub logits: Vec<f32>,
}

/// What a batch came to.
#[derive(Debug, Clone)]
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

impl<'a> Step<'a> {
    pub(super) fn program(&self) -> &Program {
        &self.specialized.program
    }

    /// The rows of the batch.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The coupling level.
    pub fn coupling(&self) -> Level {
        self.program().coupling
    }

    /// Vocab-level columns of the table.
    pub(super) fn table_vocab(&self) -> BTreeMap<ColumnId, VocabRows<'a>> {
        vocab_columns(&self.specialized.program, self.table)
    }

    /// Cuts the batch into ranges of rollouts for [`Step::live`]: whole elements of the coupling
    /// level, each of at most `rollouts` rollouts and `tokens` tokens where one element allows it.
    pub fn pieces(&self, rollouts: usize, tokens: usize) -> Vec<Range<usize>> {
        self.pieces_of(0..self.shape.count(self.program().piece), rollouts, tokens)
    }

    /// The same of some rows of the piece level only.
    pub(super) fn pieces_of(
        &self,
        rows: Range<usize>,
        rollouts: usize,
        tokens: usize,
    ) -> Vec<Range<usize>> {
        let shape = &self.shape;
        let piece = self.program().piece;
        let mut out: Vec<Range<usize>> = Vec::new();
        let mut tokens_in_last = 0;
        for row in rows {
            let range = shape.range(piece, row..row + 1, ROLLOUT);
            let size = shape.range(piece, row..row + 1, TOKEN).len();
            match out.last_mut() {
                Some(last)
                    if last.len() + range.len() <= rollouts && tokens_in_last + size <= tokens =>
                {
                    last.end = range.end;
                    tokens_in_last += size;
                }
                _ => {
                    tokens_in_last = size;
                    out.push(range);
                }
            }
        }
        out
    }

    /// Cuts the batch into pieces of exactly `rollouts` rollouts, the last one maybe smaller, or says
    /// what such a cut would divide.
    pub fn exact_pieces(&self, rollouts: usize) -> Result<Vec<Range<usize>>, ObjectiveError> {
        let total = self.shape.count(ROLLOUT);
        if rollouts == 0 {
            return Err(ObjectiveError::Cut("a micro-batch has at least 1 rollout".into()));
        }
        let mut out = Vec::new();
        let mut start = 0;
        while start < total {
            let end = start.saturating_add(rollouts).min(total);
            self.check_cut(end, rollouts)?;
            out.push(start..end);
            start = end;
        }
        if out.is_empty() {
            out.push(0..0);
        }
        Ok(out)
    }

    /// Refuses a piece out of order, or one that divides an element of the coupling level.
    pub(super) fn check_next(&self, rollouts: &Range<usize>) -> Result<(), ObjectiveError> {
        if rollouts.start != self.next {
            return Err(ObjectiveError::Cut(format!(
                "pieces run in order: the next one begins at rollout {}, not {}",
                self.next, rollouts.start
            )));
        }
        self.check_cut(rollouts.end, rollouts.len())
    }

    /// Refuses a cut before rollout `at` that would divide an element of the coupling level.
    pub(super) fn check_cut(&self, at: usize, rollouts: usize) -> Result<(), ObjectiveError> {
        let total = self.shape.count(ROLLOUT);
        let allowed = match self.program().piece {
            BATCH => at == total,
            GROUP => {
                let starts = self.shape.starts(GROUP, ROLLOUT);
                starts.iter().any(|&s| s as usize == at)
            }
            _ => true,
        };
        if allowed {
            return Ok(());
        }
        let level = self.level_name(self.program().piece);
        let cause = self.cause();
        let whole = if self.program().piece == BATCH {
            format!("run the batch whole: --micro-batch {total}")
        } else {
            "use a size that divides the batch between groups, or run it whole".to_owned()
        };
        Err(ObjectiveError::Cut(format!(
            "a micro-batch of {rollouts} rollouts would cut a {level} in two before rollout {at}, but {cause} needs every rollout of the {level} at once; {whole}"
        )))
    }

    fn level_name(&self, level: Level) -> &str {
        self.program().graph.level_table.name(level)
    }

    /// The expression that couples, in words.
    fn cause(&self) -> String {
        let program = self.program();
        let Some(cause) = program.cause else { return "the loss".into() };
        let graph = &program.graph;
        // A user's name says more than an operator.
        let named = graph.name(cause).map(str::to_owned).or_else(|| {
            graph.all().skip(cause.index()).find_map(|e| {
                let uses = graph.reachable([e])[cause.index()];
                graph.name(e).filter(|_| uses).map(str::to_owned)
            })
        });
        named.map_or("the loss".into(), |n| format!("`{n}`"))
    }

    /// Runs the policy-dependent part over some rollouts: a range of [`Step::pieces`], in order.
    /// `logits` is [tokens of these rollouts, V], for steps begun with [`Logits::Live`].
    pub fn live(
        &mut self,
        rollouts: Range<usize>,
        logits: Option<&[f32]>,
    ) -> Result<LiveGrads, ObjectiveError> {
        self.live_of(rollouts, logits.map(Floats::F32))
    }

    /// [`Step::live`] with logits of any type.
    pub(super) fn live_of(
        &mut self,
        rollouts: Range<usize>,
        logits: Option<Floats<'_>>,
    ) -> Result<LiveGrads, ObjectiveError> {
        self.check_next(&rollouts)?;
        self.make_room();
        let tokens = self.shape.range(ROLLOUT, rollouts.clone(), TOKEN);
        let width = self.shape.vocab;
        let mut vocab = self.table_vocab();
        let logits_id = self.logits_id();
        if let (true, Some(id)) = (self.live, logits_id) {
            let found = logits.map_or(0, |l| l.len());
            if found != tokens.len() * width {
                return Err(ObjectiveError::Batch(TableError(format!(
                    "the piece has {} tokens of {width} logits, but {found} numbers were given",
                    tokens.len()
                ))));
            }
            let data = logits.unwrap_or(Floats::F32(&[]));
            vocab.insert(id, VocabRows { data, first: tokens.start });
        }
        let rows = self.piece_rows(&rollouts);
        self.next = rollouts.end;
        let out = self.compute(rows.clone(), tokens.clone(), &vocab, logits_id)?;
        let entries = tokens.start * width..tokens.end * width;
        let finite =
            all_finite(&out.logits) && self.grads.values().all(|g| all_finite(&g[entries.clone()]));
        if finite { Ok(out) } else { Err(self.not_finite(rows, tokens, &vocab)) }
    }

    fn compute(
        &mut self,
        rows: Range<usize>,
        tokens: Range<usize>,
        vocab: &BTreeMap<ColumnId, VocabRows<'_>>,
        logits_id: Option<ColumnId>,
    ) -> Result<LiveGrads, ObjectiveError> {
        let width = self.shape.vocab;
        let entries = tokens.start * width..tokens.end * width;
        let handed_over = logits_id.filter(|id| self.live && !self.grads.contains_key(id));
        match &mut self.run {
            Run::Interp(run) => {
                rounds(run, Phase::Live, rows.clone(), vocab, &mut self.workers)?;
                run.gradients(rows, vocab);
                let logits = match handed_over {
                    Some(id) => run.grad(id)[entries].iter().map(|&g| g as f32).collect(),
                    None => Vec::new(),
                };
                Ok(LiveGrads { logits })
            }
            Run::Cpu(run) => {
                let mut logits = Vec::new();
                let mut outputs: Vec<Gradient<'_>> = self
                    .grads
                    .iter_mut()
                    .map(|(id, all)| Gradient {
                        column: *id,
                        data: (&mut all[entries.clone()]).into(),
                    })
                    .collect();
                let wanted = self
                    .specialized
                    .program
                    .grads
                    .iter()
                    .any(|(id, g)| Some(*id) == handed_over && g.is_some());
                if let (Some(column), true) = (handed_over, wanted) {
                    logits.resize(entries.len(), 0.0);
                    outputs.push(Gradient { column, data: (&mut logits).into() });
                }
                let workers = &mut self.workers;
                workers.merging(|merge| run.live_among(rows, vocab, &mut outputs, merge))?;
                Ok(LiveGrads { logits })
            }
        }
    }

    pub(super) fn logits_id(&self) -> Option<ColumnId> {
        let graph = &self.program().graph;
        columns::needed(self.program())
            .into_iter()
            .find(|id| graph.column_path(*id) == "vocab/logits")
    }

    /// Rollouts as rows of the piece level.
    pub(super) fn piece_rows(&self, rollouts: &Range<usize>) -> Range<usize> {
        match self.program().piece {
            BATCH => 0..1,
            GROUP => {
                let starts = self.shape.starts(GROUP, ROLLOUT);
                let first = starts.partition_point(|&s| (s as usize) < rollouts.start);
                let end = if rollouts.end == self.shape.count(ROLLOUT) {
                    self.shape.count(GROUP)
                } else {
                    starts.partition_point(|&s| (s as usize) < rollouts.end)
                };
                first..end
            }
            _ => rollouts.clone(),
        }
    }

    /// Computes the loss and the metrics once every piece has run. Then the pieces may run again, for the next
    /// update over the same rollouts: what does not depend on the policy is kept.
    pub fn finish(&mut self) -> Result<Outcome, ObjectiveError> {
        if self.next != self.shape.count(ROLLOUT) {
            return Err(ObjectiveError::Cut(format!(
                "{} of {} rollouts have run; run the other pieces first",
                self.next,
                self.shape.count(ROLLOUT)
            )));
        }
        let vocab = self.table_vocab();
        let specialized = Arc::clone(&self.specialized);
        let program = &specialized.program;
        let graph = &program.graph;
        self.run.whole(Phase::After, &vocab, &mut self.workers)?;
        self.check_finite(&vocab)?;
        let state = self.states_after()?;
        let mut whole = std::mem::take(&mut self.grads);
        let scalar = |e| self.value(e).first().copied().unwrap_or(0.0);
        let mut grads = BTreeMap::new();
        for (id, grad) in &program.grads {
            let info = &graph.columns[id.0 as usize];
            let vocab_sized = info.level == VOCAB;
            if vocab_sized && !vocab.contains_key(id) {
                continue;
            }
            let data = match (&self.run, grad, whole.remove(id)) {
                (Run::Interp(run), _, _) => Data::F64(run.grad(*id)),
                (Run::Cpu(_), _, Some(rows)) => Data::F32(rows),
                (Run::Cpu(_), Some(e), None) if !vocab_sized => Data::F64(self.value(*e).to_vec()),
                (Run::Cpu(_), _, None) => Data::F64(vec![0.0; self.shape.count(info.level)]),
            };
            let shape = if vocab_sized {
                vec![self.shape.count(TOKEN), self.shape.vocab]
            } else {
                vec![data.len()]
            };
            grads.insert(info.name.clone(), Array { data, shape });
        }
        self.unread_grads(&mut grads);
        let values = program
            .values
            .iter()
            .map(|v| {
                let rows = self.value(v.value).iter();
                let elements = match v.exists {
                    Some(exists) => {
                        let here = rows.zip(self.value(exists)).filter(|(_, e)| **e != 0.0);
                        here.map(|(x, _)| *x).collect()
                    }
                    None => rows.copied().collect(),
                };
                (v.name.clone(), Array::vector(Data::F64(elements)))
            })
            .collect();
        let samples = self.samples();
        let outcome = Outcome {
            loss: scalar(program.loss),
            metrics: program.metrics.iter().map(|(n, e)| (n.clone(), scalar(*e))).collect(),
            left_out: specialized.left_out.clone(),
            kept: program.kept.iter().map(|(n, e)| (n.clone(), scalar(*e) as u64)).collect(),
            coupling: graph.level_table.name(program.coupling).to_owned(),
            grads,
            values,
            state,
            samples,
        };
        self.restart();
        Ok(outcome)
    }

    /// Lets the pieces run anew. The interpreter adds nothing up from piece to piece.
    fn restart(&mut self) {
        if let Run::Cpu(run) = &mut self.run {
            run.restart();
        }
        self.next = 0;
    }

    /// Room for compiled kernels' gradients of the table's vocab-level columns, which an outcome takes along.
    pub(super) fn make_room(&mut self) {
        if matches!(self.run, Run::Interp(_)) || self.next > 0 {
            return;
        }
        let (program, entries) = (&self.specialized.program, self.shape.count(VOCAB));
        let in_table = vocab_columns(program, self.table);
        for (id, grad) in &program.grads {
            let vocab = program.graph.columns[id.0 as usize].level == VOCAB;
            if grad.is_some() && vocab && (!self.live || in_table.contains_key(id)) {
                self.grads.entry(*id).or_insert_with(|| vec![0.0; entries]);
            }
        }
    }

    fn samples(&self) -> Samples {
        let mut out = Samples::default();
        for sample in &self.program().samples {
            let values = Some(self.value(sample.value).to_vec());
            match sample.kind {
                SampleKind::Weight => out.weight = values,
                SampleKind::Rollouts => out.rollouts = values,
            }
            out.kept = sample.kept.map(|e| self.value(e).iter().map(|k| *k != 0.0).collect());
        }
        out
    }

    /// The states after this batch. Groups of one key are averaged; a key that the batch does not
    /// have, or of which the filters kept no row, keeps its value.
    fn states_after(&mut self) -> Result<Table, ObjectiveError> {
        let specialized = Arc::clone(&self.specialized);
        let program = &specialized.program;
        let graph = &program.graph;
        let mut out = Table::default();
        let mut keyed: Vec<(String, BTreeMap<i64, f64>)> = Vec::new();
        let mut own: Vec<BTreeMap<i64, (f64, f64)>> = Vec::new();
        for update in &program.updates {
            let path = format!("state/{}", update.name);
            let values = self.value(update.value);
            let Some(ColumnSource::State { key, .. }) = graph.sources.get(&update.column) else {
                continue;
            };
            let Some(key) = *key else {
                out.set(path, Data::F64(values.to_vec()));
                continue;
            };
            let problem = |text| ObjectiveError::Batch(TableError(text));
            let known = columns::keyed_state(self.table, self.state, &path).map_err(problem)?;
            let keys = columns::row_keys(graph, self.table, key, values.len()).map_err(problem)?;
            let kept = update.kept.map(|e| self.value(e));
            let mut sums: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
            for (row, (key, value)) in keys.iter().zip(values).enumerate() {
                if kept.is_none_or(|k| k[row] != 0.0) {
                    let sum = sums.entry(*key).or_default();
                    *sum = (sum.0 + value, sum.1 + 1.0);
                }
            }
            keyed.push((path, known));
            own.push(sums);
        }
        if keyed.is_empty() {
            return Ok(out);
        }
        let all = self.workers.all(Exchange { parts: Vec::new(), keyed: own })?;
        for ((path, mut known), sums) in keyed.into_iter().zip(all.keyed) {
            known.extend(sums.into_iter().map(|(key, (sum, n))| (key, sum / n)));
            out.set(format!("{path}.key"), Data::I64(known.keys().copied().collect()));
            out.set(path, Data::F64(known.into_values().collect()));
        }
        Ok(out)
    }

    /// Zeros for differentiable columns that the batch has and the program names, but the loss does
    /// not read.
    fn unread_grads(&self, grads: &mut BTreeMap<String, Array>) {
        let graph = &self.program().graph;
        let has_logits = self.table.get("vocab/logits").is_some() || self.live;
        for (i, info) in graph.columns.iter().enumerate() {
            let path = graph.column_path(ColumnId(i as u16));
            // With logits these two are computed, and the batch's columns ignored.
            let ignored = has_logits && (path == "token/logp" || path == "token/entropy");
            let Some(array) = self.table.get(&path) else { continue };
            if info.differentiable && !ignored && !grads.contains_key(&info.name) {
                let data = Data::F64(vec![0.0; array.data.len()]);
                grads.insert(info.name.clone(), Array { data, shape: array.shape.clone() });
            }
        }
    }

    pub(super) fn value(&self, e: E) -> &[f64] {
        match &self.run {
            Run::Interp(run) => run.value(e),
            Run::Cpu(run) => run.value(e).unwrap_or(&[]),
        }
    }
}
