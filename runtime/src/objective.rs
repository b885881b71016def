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
//! After that the pieces may run again: each further optimiser update over the same rollouts has the live stage
//! and the closing one only.
//!
//! Where the model gives hidden states instead of logits, [`Step::live_hidden`] takes them with the output
//! projection, and gives gradients of both without ever holding all logits.
//!
//! The pieces may be any size: the loss and the sum of the gradients are those of the whole batch.

use std::collections::BTreeSet;
use std::sync::Arc;

use rlc_compiler::check::{Checked, SampleKind};
use rlc_compiler::clif::Float;
use rlc_compiler::columns;
use rlc_compiler::diagnostic::nearest;
use rlc_compiler::hir::{ColumnId, Graph};
use rlc_compiler::interp::{self, Vocab, VocabRows, emptied};
use rlc_compiler::level::VOCAB;
use rlc_compiler::loops::Plan;
use rlc_compiler::program::{Phase, Program};
use rlc_compiler::shape::{Shape, TableError};
use rlc_compiler::specialize::{Settings, SpecializeError, Specialized, specialize};
use rlc_compiler::table::Table;

mod finite;
mod hidden;
mod in_place;
mod on_device;
mod outcome;
mod ready;
mod states;
mod step;
mod workers;

pub use hidden::{Head, HeadGrads, Hidden, Lora, LoraGrads};
pub use outcome::{Outcome, Samples};
use ready::Ready;
pub use step::{LiveGrads, Pieces, Step};
use step::{Memory, Run};
use workers::Workers;
pub use workers::{AllReduce, Exchange};

use crate::device::DeviceError;
pub use crate::device::cpu::Room;
use crate::device::cpu::{Kernel, float};
use crate::device::cuda::Floats;
use crate::device::cuda::live::LiveStage;

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
    /// Workers could not share what crosses.
    #[error("{0}")]
    Workers(String),
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
    /// The same, of another type than f32: bf16, or half precision. [`Step::live_in_place`] takes them.
    LiveAs {
        /// Entries per token.
        vocab: usize,
        /// Their type.
        float: Float,
    },
    /// From the memory of the device that runs the live stage, piece by piece: see [`Step::live_on_device`].
    OnDevice {
        /// Entries per token.
        vocab: usize,
        /// Their number type, and that of the gradient.
        float: Float,
    },
}

/// A compiled objective with its present params.
pub struct Objective {
    checked: Checked,
    params: Vec<f64>,
    emit: Vec<String>,
    backend: Backend,
    ready: Ready,
    kernel: Option<Compiled>,
    /// States of the program between batches, as `state/name` and `state/name.key`.
    state: Table,
    shape: Arc<Shape>,
    /// Columns of the present batch.
    columns: columns::Columns,
    memory: Memory,
    workers: Option<Box<dyn AllReduce>>,
    device: Option<Maker>,
}

/// Makes what runs the live stage of a plan on another device.
pub type Maker = Box<dyn Fn(&Plan, &Floats<'_>) -> Result<Box<dyn LiveStage>, DeviceError> + Send>;

/// The last kernel, with what it was compiled for.
struct Compiled {
    program: Arc<Program>,
    floats: Vec<(ColumnId, Float)>,
    /// Number types of gradients that are not f32.
    gradients: Vec<(ColumnId, Float)>,
    kernel: Kernel,
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
            ready: Ready::default(),
            kernel: None,
            state: Table::default(),
            shape: Arc::new(Shape::default()),
            columns: columns::Columns::default(),
            memory: Memory::default(),
            workers: None,
            device: None,
        }
    }

    /// The checked program.
    pub fn checked(&self) -> &Checked {
        &self.checked
    }

    /// Definitions to store in each outcome.
    pub fn emit(&mut self, names: Vec<String>) {
        self.emit = names;
        self.ready.clear();
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

    /// The states that batches without states of their own begin with.
    pub fn state(&self) -> &Table {
        &self.state
    }

    /// Puts states in place: those of an [`Outcome`], after the last step on its batch.
    pub fn set_state(&mut self, state: Table) {
        self.state = state;
    }

    /// Makes this objective one of several, each over whole groups of the batch. Without workers
    /// (the default) a batch is whole.
    pub fn set_workers(&mut self, workers: Option<Box<dyn AllReduce>>) {
        self.workers = workers;
    }

    /// Runs the live stage of compiled programs on another device, or again on the CPU.
    pub fn set_device(&mut self, device: Option<Maker>) {
        self.device = device;
        self.kernel = None;
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
        if let Some(ready) = self.ready(|made_for| made_for == present.as_ref()) {
            return Ok(ready);
        }
        let settings = Settings { params: self.params.clone(), present, emit: self.emit.clone() };
        let ready = Arc::new(specialize(&self.checked, &settings)?);
        self.ready.add(settings, Arc::clone(&ready));
        Ok(ready)
    }

    /// One that is there already, for batches with such columns.
    fn ready(
        &mut self,
        such: impl Fn(Option<&BTreeSet<String>>) -> bool,
    ) -> Option<Arc<Specialized>> {
        let (graph, params) = (&self.checked.graph, &self.params);
        // Params are arguments of the kernel: only the sides that `if`s take can differ.
        let fits = |made_for: &Settings| {
            such(made_for.present.as_ref()) && same_sides(graph, made_for, params)
        };
        self.ready.find(fits, params)
    }

    /// The columns (`level/name`) that the loss, the filters and the given metrics read, with
    /// logits computed by the model.
    pub fn needs(&mut self, offered: &BTreeSet<String>) -> Result<Needs, ObjectiveError> {
        let mut present = offered.clone();
        present.insert("vocab/logits".to_owned());
        let specialized = self.specialized(Some(present))?;
        let graph = &specialized.program.graph;
        let columns: Vec<String> =
            specialized.needed.iter().map(|c| graph.column_path(*c)).collect();
        let missing = columns::required(&specialized.program)
            .into_iter()
            .map(|c| graph.column_path(c))
            .filter(|path| path != "vocab/logits" && !offered.contains(path))
            .collect();
        Ok(Needs {
            columns: columns.into_iter().collect(),
            missing,
            left_out: specialized.left_out.clone(),
            coupling: graph.level_table.name(specialized.program.coupling).to_owned(),
            samples: specialized.program.samples.iter().map(|s| s.kind).collect(),
        })
    }

    /// Checks a batch, and computes everything that follows from what was recorded.
    pub fn begin<'a>(
        &'a mut self,
        table: &'a Table,
        logits: Logits,
    ) -> Result<Step<'a>, ObjectiveError> {
        let live = match logits {
            Logits::InTable => None,
            Logits::OnDevice { .. } if self.device.is_none() || self.backend != Backend::Cpu => {
                let why = "logits on a device need a device that runs the live stage: none is set";
                return Err(ObjectiveError::Backend(why.to_owned()));
            }
            Logits::Live { vocab } => Some((vocab, Float::F32)),
            Logits::LiveAs { vocab, float } | Logits::OnDevice { vocab, float } => {
                Some((vocab, float))
            }
        };
        let known = self.ready(|made_for| {
            made_for.is_some_and(|columns| offered(table, live.is_some()).eq(columns))
        });
        let specialized = match known {
            Some(specialized) => specialized,
            None => {
                let present = offered(table, live.is_some()).map(str::to_owned);
                self.specialized(Some(present.collect()))?
            }
        };
        let program = Arc::clone(&specialized.program);
        let shape = Arc::make_mut(&mut self.shape);
        shape.refill(&program.graph.level_table, table)?;
        if let Some((vocab, _)) = live {
            shape.vocab = vocab;
        }
        let mut workers = Workers(self.workers.as_mut().map(|w| w.as_mut() as &mut dyn AllReduce));
        workers.check(&program)?;
        for (level, rows) in workers.rows_before(&program, shape)? {
            shape.set_before(level, rows);
        }
        let shape = Arc::clone(&self.shape);
        // Kernels read the table's arrays where they lie.
        let in_place = self.backend == Backend::Cpu;
        let from = columns::Batch {
            graph: &program.graph,
            needed: &specialized.needed,
            table,
            state: &self.state,
            shape: &shape,
            live_vocab: live.is_some(),
        };
        self.columns.refill(&from, in_place)?;
        let columns = &self.columns;
        let Memory { grads, results, spare } = &mut self.memory;
        if results.begin(&specialized, live.is_some()) {
            grads.clear();
        }
        let vocab = vocab_columns(&specialized, table, std::mem::take(&mut spare.vocab));
        let mut run = match self.backend {
            Backend::Interp => {
                let run = interp::Run::new(
                    Arc::clone(&program),
                    Arc::clone(&shape),
                    columns,
                    &self.params,
                );
                Run::Interp(Box::new(run))
            }
            Backend::Cpu => {
                let own = live.map_or(Float::F32, |live| live.1);
                let floats = || vocab_floats(&specialized, &vocab, own);
                let on_device = matches!(logits, Logits::OnDevice { .. });
                let gradients =
                    || floats().filter(|(id, _)| on_device && program.graph.is_logits(*id));
                let fits = |k: &Compiled| {
                    Arc::ptr_eq(&k.program, &program)
                        && floats().eq(k.floats.iter().copied())
                        && gradients().eq(k.gradients.iter().copied())
                };
                let compiled = match self.kernel.take().filter(fits) {
                    Some(compiled) => compiled,
                    None => {
                        let (floats, gradients): (Vec<_>, Vec<_>) =
                            (floats().collect(), gradients().collect());
                        let mut kernel = Kernel::new(&program, &floats)?;
                        if let Some(make) = &self.device {
                            let floats = Floats { entries: &floats, gradients: &gradients };
                            let live = make(kernel.plan(), &floats)?;
                            kernel.set_live(Some(live));
                        }
                        Compiled { program: Arc::clone(&program), floats, gradients, kernel }
                    }
                };
                let kernel = &mut self.kernel.insert(compiled).kernel;
                let graph = &program.graph;
                let mut given = emptied(std::mem::take(&mut spare.given));
                let below = |id: &&ColumnId| graph.columns[id.0 as usize].level != VOCAB;
                let lying = specialized.needed.iter().filter(below);
                given.extend(lying.map(|id| (*id, columns.numbers(*id, graph, table))));
                let run = kernel.start_with(&self.shape, &given, &self.params)?;
                spare.given = emptied(given);
                Run::Cpu(run)
            }
        };
        run.whole(Phase::Recorded, &vocab, &mut workers)?;
        spare.vocab = vocab.emptied();
        let mut step = Step {
            run,
            specialized,
            shape,
            table,
            state: &self.state,
            params: &self.params,
            live: live.is_some(),
            next: 0,
            grads,
            results,
            spare,
            workers,
        };
        step.make_room();
        Ok(step)
    }
}

/// The columns of a table, in order, logits among them where they come with the pieces.
fn offered(table: &Table, live: bool) -> impl Iterator<Item = &str> {
    const LOGITS: &str = "vocab/logits";
    let before = |name: &&String| name.as_str() < LOGITS;
    let names = || table.arrays.keys();
    let live = live.then_some(LOGITS);
    let after = move |name: &&String| !before(name) && live != Some(name.as_str());
    names()
        .filter(before)
        .map(String::as_str)
        .chain(live)
        .chain(names().filter(after).map(String::as_str))
}

/// Whether other params take the same side of every `if` on params.
fn same_sides(graph: &Graph, made_for: &Settings, params: &[f64]) -> bool {
    if made_for.params == params {
        return true;
    }
    let known = |params: &[f64]| {
        let settings = Settings { params: params.to_vec(), ..Settings::default() };
        rlc_compiler::specialize::known_values(graph, &settings)
    };
    let (known_a, known_b) = (known(&made_for.params), known(params));
    graph.all().all(|e| match graph.expr(e) {
        rlc_compiler::hir::Expr::Select(c, _, _) => {
            let side = |k: &[Option<f64>]| k[c.index()].map(|v| v != 0.0);
            side(&known_a) == side(&known_b)
        }
        _ => true,
    })
}

/// The float types of the vocab-level columns, `live` for those that come with the pieces.
fn vocab_floats(
    specialized: &Specialized,
    vocab: &Vocab<'_>,
    live: Float,
) -> impl Iterator<Item = (ColumnId, Float)> {
    let graph = &specialized.program.graph;
    let ids = specialized.needed.iter().filter(|id| graph.columns[id.0 as usize].level == VOCAB);
    ids.map(move |id| (*id, vocab.get(id).map_or(live, |rows| float(rows.data))))
}

/// The vocab-level columns of a table that a program reads, in such memory.
fn vocab_columns<'t>(specialized: &Specialized, table: &'t Table, into: Vocab<'_>) -> Vocab<'t> {
    let graph = &specialized.program.graph;
    let mut out = into.emptied();
    for id in &specialized.needed {
        if graph.columns[id.0 as usize].level == VOCAB
            && let Some(data) = graph.array(*id, table).and_then(|a| a.data.floats())
        {
            out.insert(*id, VocabRows { data, first: 0 });
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
    /// `sample` statements that the program has.
    pub samples: Vec<SampleKind>,
}
