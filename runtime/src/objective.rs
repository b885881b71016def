//! An objective ready to run on batches: compiled once, then for each batch the recorded stage over
//! the whole table, the live stage piece by piece, and the closing stage.
//!
//! ```text
//! let mut step = objective.begin(&table, Logits::Live { vocab })?;   // recorded, whole batch
//! for rollouts in step.pieces(64, usize::MAX) {                       // cut at the coupling level
//!     let grads = step.live(rollouts, Some(&logits))?;                // d(loss)/d(logits)
//! }
//! let outcome = step.finish()?;                                       // loss, metrics
//! ```
//!
//! The pieces may be any size: the loss and the sum of the gradients are those of the whole batch.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use rlc_compiler::check::Checked;
use rlc_compiler::clif::Float;
use rlc_compiler::columns::{self, Columns};
use rlc_compiler::diagnostic::nearest;
use rlc_compiler::hir::{ColumnId, E};
use rlc_compiler::interp::{self, VocabRows};
use rlc_compiler::level::{BATCH, GROUP, Level, ROLLOUT, TOKEN, VOCAB};
use rlc_compiler::program::Program;
use rlc_compiler::shape::{Shape, TableError};
use rlc_compiler::specialize::{Settings, SpecializeError, Specialized, specialize};
use rlc_compiler::table::{Array, Data, Floats, Table};
use rlc_compiler::trace::Search;

use crate::device::cpu::{self, Kernel, float};
use crate::device::{DeviceError, Gradient};

/// Which back end computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// The f64 interpreter.
    Interp,
    /// Compiled CPU kernels.
    Cpu,
}

/// Why an objective did not run.
#[derive(Debug, thiserror::Error)]
pub enum ObjectiveError {
    /// A param that the program does not have.
    #[error("the program has no param `{name}`{hint}")]
    UnknownParam {
        /// As given.
        name: String,
        /// "; did you mean `beta`?" or the list.
        hint: String,
    },
    /// A value outside a param's range, or of another type.
    #[error("`{name}` = {value} is outside its range: {range}")]
    ParamRange {
        /// The param.
        name: String,
        /// As given.
        value: f64,
        /// What is allowed.
        range: String,
    },
    /// Specialisation failed.
    #[error(transparent)]
    Specialize(#[from] SpecializeError),
    /// The batch does not fit the program.
    #[error(transparent)]
    Batch(#[from] TableError),
    /// A cut inside an element of the coupling level.
    #[error("{0}")]
    Cut(String),
    /// A loss or gradient that is not finite.
    #[error("{0}")]
    NotFinite(String),
    /// The back end cannot run the program.
    #[error("{0}")]
    Backend(String),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// Where vocab-level columns come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logits {
    /// From the table, whole; or the batch has none.
    InTable,
    /// From the caller, piece by piece, with this many entries per token.
    Live {
        /// Entries per token.
        vocab: usize,
    },
}

/// A compiled objective with its present params.
pub struct Objective {
    checked: Checked,
    params: Vec<f64>,
    emit: Vec<String>,
    backend: Backend,
    /// The last specialisation, with what it was made for.
    ready: Option<(Settings, Arc<Specialized>)>,
    /// The last kernel, with the program and the vocab-level number types it was compiled for.
    kernel: Option<(Arc<Program>, Vec<(ColumnId, Float)>, Kernel)>,
    shape: Arc<Shape>,
}

impl Objective {
    /// An objective over a checked program, with its default params.
    pub fn new(checked: Checked, backend: Backend) -> Self {
        let params = checked.graph.params.iter().map(|p| p.value).collect();
        Objective {
            checked,
            params,
            emit: Vec::new(),
            backend,
            ready: None,
            kernel: None,
            shape: Arc::new(Shape::default()),
        }
    }

    /// The checked program.
    pub fn checked(&self) -> &Checked {
        &self.checked
    }

    /// Definitions to store in each outcome.
    pub fn emit(&mut self, names: Vec<String>) {
        self.emit = names;
        self.ready = None;
    }

    /// Sets a param. Nothing is recompiled unless an `if` on params changes sides.
    pub fn set_param(&mut self, name: &str, value: f64) -> Result<(), ObjectiveError> {
        let params = &self.checked.graph.params;
        let Some(index) = params.iter().position(|p| p.name == name) else {
            let names: Vec<&str> = params.iter().map(|p| p.name.as_str()).collect();
            let hint = match nearest(name, names.iter().copied()) {
                Some(near) => format!("; did you mean `{near}`?"),
                None if names.is_empty() => "; it has none".to_owned(),
                None => format!("; it has {}", names.join(", ")),
            };
            return Err(ObjectiveError::UnknownParam { name: name.to_owned(), hint });
        };
        let info = &params[index];
        let range = match (info.range, info.ty) {
            (Some((lo, hi)), _) if !(lo <= value && value <= hi) => Some(format!("{lo} to {hi}")),
            (_, rlc_compiler::op::Ty::Bool) if value != 0.0 && value != 1.0 => {
                Some("true or false".to_owned())
            }
            _ if value.is_nan() => Some("a number".to_owned()),
            _ => None,
        };
        if let Some(range) = range {
            return Err(ObjectiveError::ParamRange { name: name.to_owned(), value, range });
        }
        self.params[index] = value;
        Ok(())
    }

    /// The present value of a param.
    pub fn param(&self, name: &str) -> Option<f64> {
        let index = self.checked.graph.params.iter().position(|p| p.name == name)?;
        Some(self.params[index])
    }

    /// The program under the present params, for batches with the columns of `present` (none:
    /// whatever it reads, with logits).
    pub fn specialized(
        &mut self,
        present: Option<BTreeSet<String>>,
    ) -> Result<Arc<Specialized>, ObjectiveError> {
        let settings = Settings { params: self.params.clone(), present, emit: self.emit.clone() };
        if let Some((made_for, ready)) = &self.ready {
            // Params are arguments of the kernel: only the sides that `if`s take can differ.
            if made_for.present == settings.present && self.same_sides(made_for, &settings) {
                return Ok(Arc::clone(ready));
            }
        }
        let ready = Arc::new(specialize(&self.checked, &settings)?);
        self.ready = Some((settings, Arc::clone(&ready)));
        Ok(ready)
    }

    fn same_sides(&self, a: &Settings, b: &Settings) -> bool {
        if a.params == b.params {
            return true;
        }
        let graph = &self.checked.graph;
        let (known_a, known_b) = (
            rlc_compiler::specialize::known_values(graph, a),
            rlc_compiler::specialize::known_values(graph, b),
        );
        graph.all().all(|e| match graph.expr(e) {
            rlc_compiler::hir::Expr::Select(c, _, _) => {
                let side = |k: &[Option<f64>]| k[c.index()].map(|v| v != 0.0);
                side(&known_a) == side(&known_b)
            }
            _ => true,
        })
    }

    /// The columns (`level/name`) that the loss, the filters and the given metrics read, with
    /// logits computed by the model.
    pub fn needs(&mut self, offered: &BTreeSet<String>) -> Result<Needs, ObjectiveError> {
        let mut present = offered.clone();
        present.insert("vocab/logits".to_owned());
        let specialized = self.specialized(Some(present))?;
        let graph = &specialized.program.graph;
        let columns: Vec<String> = columns::needed(&specialized.program)
            .into_iter()
            .map(|c| graph.column_path(c))
            .collect();
        let missing = columns::needed(&specialized.program)
            .into_iter()
            .filter(|c| graph.columns[c.0 as usize].default.is_none())
            .map(|c| graph.column_path(c))
            .filter(|path| path != "vocab/logits" && !offered.contains(path))
            .collect();
        Ok(Needs {
            columns: columns.into_iter().collect(),
            missing,
            left_out: specialized.left_out.clone(),
            coupling: graph.level_table.name(specialized.program.coupling).to_owned(),
        })
    }

    /// Checks a batch, and computes everything that follows from what was recorded.
    pub fn begin<'a>(
        &'a mut self,
        table: &'a Table,
        logits: Logits,
    ) -> Result<Step<'a>, ObjectiveError> {
        let mut present: BTreeSet<String> = table.arrays.keys().cloned().collect();
        let live = match logits {
            Logits::InTable => None,
            Logits::Live { vocab } => {
                present.insert("vocab/logits".to_owned());
                Some(vocab)
            }
        };
        let specialized = self.specialized(Some(present))?;
        let program = Arc::clone(&specialized.program);
        let mut shape = Shape::new(&program.graph.level_table, table)?;
        if let Some(vocab) = live {
            shape.vocab = vocab;
        }
        self.shape = Arc::new(shape);
        let shape = Arc::clone(&self.shape);
        let columns = columns::load(&program, table, &shape, live.is_some())?;
        let vocab = vocab_columns(&program, table);
        let run = match self.backend {
            Backend::Interp => {
                let columns = &columns;
                let mut run = interp::Run::new(
                    Arc::clone(&program),
                    Arc::clone(&shape),
                    columns,
                    &self.params,
                );
                run.recorded(&vocab);
                Run::Interp(Box::new(run))
            }
            Backend::Cpu => {
                let floats = vocab_floats(&program, &vocab);
                let fits = |k: &(Arc<Program>, Vec<(ColumnId, Float)>, Kernel)| {
                    Arc::ptr_eq(&k.0, &program) && k.1 == floats
                };
                if !self.kernel.as_ref().is_some_and(fits) {
                    let kernel = Kernel::new(&program, &floats)?;
                    self.kernel = Some((Arc::clone(&program), floats, kernel));
                }
                let Some((_, _, kernel)) = &mut self.kernel else {
                    return Err(ObjectiveError::Backend("no kernel was compiled".into()));
                };
                let given: Vec<(ColumnId, &[f64])> = columns::needed(&program)
                    .into_iter()
                    .filter(|id| program.graph.columns[id.0 as usize].level != VOCAB)
                    .map(|id| (id, columns.get(id)))
                    .collect();
                let mut run = kernel.start(&self.shape, &given, &self.params)?;
                run.recorded(&vocab)?;
                Run::Cpu(run)
            }
        };
        let grads = program
            .grads
            .iter()
            .filter(|(id, g)| g.is_some() && program.graph.columns[id.0 as usize].level == VOCAB)
            .map(|(id, _)| *id)
            .filter(|id| live.is_none() || vocab.contains_key(id))
            .map(|id| (id, vec![0.0f32; shape.count(VOCAB)]))
            .collect();
        let params = &self.params;
        let grads = if self.backend == Backend::Cpu { grads } else { BTreeMap::new() };
        let live = live.is_some();
        Ok(Step { run, specialized, shape, table, columns, params, live, next: 0, grads })
    }
}

/// The float types of the vocab-level columns, f32 for those that come with the pieces.
fn vocab_floats(
    program: &Program,
    vocab: &BTreeMap<ColumnId, VocabRows<'_>>,
) -> Vec<(ColumnId, Float)> {
    columns::needed(program)
        .into_iter()
        .filter(|id| program.graph.columns[id.0 as usize].level == VOCAB)
        .map(|id| (id, vocab.get(&id).map_or(Float::F32, |rows| float(rows.data))))
        .collect()
}

/// The vocab-level columns of a table that a program reads.
fn vocab_columns<'t>(program: &Program, table: &'t Table) -> BTreeMap<ColumnId, VocabRows<'t>> {
    let graph = &program.graph;
    let mut out = BTreeMap::new();
    for id in columns::needed(program) {
        if graph.columns[id.0 as usize].level == VOCAB {
            let array = table.get(&graph.column_path(id));
            if let Some(data) = array.and_then(|a| a.data.floats()) {
                out.insert(id, VocabRows { data, first: 0 });
            }
        }
    }
    out
}

/// What an objective reads.
#[derive(Debug, Clone)]
pub struct Needs {
    /// Columns read, `vocab/logits` included.
    pub columns: BTreeSet<String>,
    /// Those among them that were not offered and have no default.
    pub missing: Vec<String>,
    /// Metrics left out, with what they lack.
    pub left_out: Vec<(String, Vec<String>)>,
    /// Coupling level.
    pub coupling: String,
}

enum Run<'a> {
    Interp(Box<interp::Run>),
    Cpu(cpu::Run<'a>),
}

/// One batch under way.
pub struct Step<'a> {
    run: Run<'a>,
    specialized: Arc<Specialized>,
    shape: Arc<Shape>,
    table: &'a Table,
    columns: Columns,
    params: &'a [f64],
    /// Logits come with each piece.
    live: bool,
    /// The rollout the next piece begins with.
    next: usize,
    /// Compiled kernels' gradients of the table's vocab-level columns, whole.
    grads: BTreeMap<ColumnId, Vec<f32>>,
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
}

impl<'a> Step<'a> {
    fn program(&self) -> &Program {
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
    fn table_vocab(&self) -> BTreeMap<ColumnId, VocabRows<'a>> {
        vocab_columns(&self.specialized.program, self.table)
    }

    /// Cuts the batch into ranges of rollouts for [`Step::live`]: whole elements of the coupling
    /// level, each of at most `rollouts` rollouts and `tokens` tokens where one element allows it.
    pub fn pieces(&self, rollouts: usize, tokens: usize) -> Vec<Range<usize>> {
        let shape = &self.shape;
        let piece = self.program().piece;
        let mut out: Vec<Range<usize>> = Vec::new();
        let mut tokens_in_last = 0;
        for row in 0..shape.count(piece) {
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
            let end = (start + rollouts).min(total);
            self.check_cut(end, rollouts)?;
            out.push(start..end);
            start = end;
        }
        if out.is_empty() {
            out.push(0..0);
        }
        Ok(out)
    }

    /// Refuses a cut before rollout `at` that would divide an element of the coupling level.
    fn check_cut(&self, at: usize, rollouts: usize) -> Result<(), ObjectiveError> {
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
        if rollouts.start != self.next {
            return Err(ObjectiveError::Cut(format!(
                "pieces run in order: the next one begins at rollout {}, not {}",
                self.next, rollouts.start
            )));
        }
        self.check_cut(rollouts.end, rollouts.len())?;
        let tokens = self.shape.range(ROLLOUT, rollouts.clone(), TOKEN);
        let width = self.shape.vocab;
        let mut vocab = self.table_vocab();
        let logits_id = self.logits_id();
        if let (true, Some(id)) = (self.live, logits_id) {
            let found = logits.map_or(0, <[f32]>::len);
            if found != tokens.len() * width {
                return Err(ObjectiveError::Batch(TableError(format!(
                    "the piece has {} tokens of {width} logits, but {found} numbers were given",
                    tokens.len()
                ))));
            }
            let data = Floats::F32(logits.unwrap_or(&[]));
            vocab.insert(id, VocabRows { data, first: tokens.start });
        }
        let rows = self.piece_rows(&rollouts);
        self.next = rollouts.end;
        let out = self.compute(rows.clone(), tokens.clone(), &vocab, logits_id)?;
        let finite = out.logits.iter().all(|g| g.is_finite())
            && self
                .grads
                .values()
                .all(|g| g[tokens.start * width..tokens.end * width].iter().all(|g| g.is_finite()));
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
                run.live(rows, vocab);
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
                    .map(|(id, all)| Gradient { column: *id, data: &mut all[entries.clone()] })
                    .collect();
                let wanted = self
                    .specialized
                    .program
                    .grads
                    .iter()
                    .any(|(id, g)| Some(*id) == handed_over && g.is_some());
                if let (Some(column), true) = (handed_over, wanted) {
                    logits.resize(entries.len(), 0.0);
                    outputs.push(Gradient { column, data: &mut logits });
                }
                run.live(rows, vocab, &mut outputs)?;
                Ok(LiveGrads { logits })
            }
        }
    }

    /// Finds, with the interpreter, where a piece stopped being finite.
    fn not_finite(
        &self,
        rows: Range<usize>,
        tokens: Range<usize>,
        vocab: &BTreeMap<ColumnId, VocabRows<'_>>,
    ) -> ObjectiveError {
        let program = Arc::clone(&self.specialized.program);
        let shape = Arc::clone(&self.shape);
        let mut run = interp::Run::new(Arc::clone(&program), shape, &self.columns, self.params);
        run.recorded(&self.table_vocab());
        run.live(rows, vocab);
        let search = Search { program: &program, shape: &self.shape, run: &run, vocab };
        let found = search.gradients(tokens).unwrap_or_else(|| {
            "a gradient is not finite in f32, though it is in f64: it exceeds 3.4e38".to_owned()
        });
        ObjectiveError::NotFinite(found)
    }

    fn logits_id(&self) -> Option<ColumnId> {
        let graph = &self.program().graph;
        columns::needed(self.program())
            .into_iter()
            .find(|id| graph.column_path(*id) == "vocab/logits")
    }

    /// Rollouts as rows of the piece level.
    fn piece_rows(&self, rollouts: &Range<usize>) -> Range<usize> {
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

    /// Computes the loss and the metrics once every piece has run.
    pub fn finish(mut self) -> Result<Outcome, ObjectiveError> {
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
        match &mut self.run {
            Run::Interp(run) => run.after(&vocab),
            Run::Cpu(run) => run.after(&vocab)?,
        }
        self.check_finite(&vocab)?;
        let scalar = |e| self.value(e).first().copied().unwrap_or(0.0);
        let mut grads = BTreeMap::new();
        for (id, grad) in &program.grads {
            let info = &graph.columns[id.0 as usize];
            let vocab_sized = info.level == VOCAB;
            if vocab_sized && !vocab.contains_key(id) {
                continue;
            }
            let data = match (&self.run, grad, self.grads.get(id)) {
                (Run::Interp(run), _, _) => Data::F64(run.grad(*id)),
                (Run::Cpu(_), _, Some(rows)) => Data::F32(rows.clone()),
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
        let values = program
            .values
            .iter()
            .map(|(name, e)| (name.clone(), Array::vector(Data::F64(self.value(*e).to_vec()))))
            .collect();
        Ok(Outcome {
            loss: scalar(program.loss),
            metrics: program.metrics.iter().map(|(n, e)| (n.clone(), scalar(*e))).collect(),
            left_out: specialized.left_out.clone(),
            kept: program.kept.iter().map(|(n, e)| (n.clone(), scalar(*e) as u64)).collect(),
            coupling: graph.level_table.name(program.coupling).to_owned(),
            grads,
            values,
        })
    }

    fn value(&self, e: E) -> &[f64] {
        match &self.run {
            Run::Interp(run) => run.value(e),
            Run::Cpu(run) => run.value(e).unwrap_or(&[]),
        }
    }

    /// Refuses a loss or a gradient that is not finite, naming where it stopped being so.
    fn check_finite(
        &self,
        vocab: &BTreeMap<ColumnId, VocabRows<'_>>,
    ) -> Result<(), ObjectiveError> {
        let program = &self.specialized.program;
        let loss = self.value(program.loss).first().copied().unwrap_or(0.0);
        let finite = program.grads.iter().all(|(id, grad)| match grad {
            Some(e) if program.graph.columns[id.0 as usize].level != VOCAB => {
                self.value(*e).iter().all(|g| g.is_finite())
            }
            _ => match &self.run {
                Run::Interp(run) => run.grad(*id).iter().all(|g| g.is_finite()),
                // Each piece's was checked as it ran.
                Run::Cpu(_) => true,
            },
        });
        if loss.is_finite() && finite {
            return Ok(());
        }
        if self.live && !vocab.keys().any(|id| Some(*id) == self.logits_id()) {
            return Err(ObjectiveError::NotFinite(format!(
                "the loss is {loss}, while the gradients of every piece are finite; `rlc eval` on this batch names the place"
            )));
        }
        let mut run = interp::Run::new(
            Arc::clone(program),
            Arc::clone(&self.shape),
            &self.columns,
            self.params,
        );
        run.whole(vocab);
        let search = Search { program, shape: &self.shape, run: &run, vocab };
        let found = search
            .loss()
            .or_else(|| search.gradients(0..self.shape.count(TOKEN)))
            .unwrap_or_else(|| format!("the loss is {loss} in f32, though it is finite in f64"));
        Err(ObjectiveError::NotFinite(found))
    }
}
