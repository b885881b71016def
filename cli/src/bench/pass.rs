//! Passes over a batch, timed. Reused: the kernel alone, its memory and the gradients' kept from pass
//! to pass. Fresh: what training does with each batch, checks included.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rlc_compiler::clif::Float;
use rlc_compiler::columns::{self, Columns, Numbers};
use rlc_compiler::hir::ColumnId;
use rlc_compiler::interp::{Vocab, VocabRows};
use rlc_compiler::level::{Level, ROLLOUT, TOKEN, VOCAB};
use rlc_compiler::program::{Phase, Program};
use rlc_compiler::shape::Shape;
use rlc_compiler::table::{Array, Data, Table};
use rlc_runtime::device::cpu::{Kernel, float};
use rlc_runtime::device::{Entries, Gradient};
use rlc_runtime::objective::{Logits, Objective};

use super::cost::{Bytes, Cost};
use super::hidden::Products;
use super::progress::Progress;
use super::work::{self, Work};
use super::{device, machine, objective_failure};
use crate::explain::kernel;
use crate::failure::{Failure, Outcome};

/// Passes that are timed at least, after one that is not.
const LEAST: usize = 3;

/// Seconds of each pass.
#[derive(Debug, Clone, Default)]
pub struct Times {
    /// What follows from the recorded batch, and taking the columns in.
    pub recorded: Vec<f64>,
    /// All pieces.
    pub live: Vec<f64>,
    /// Loss, metrics, states.
    pub after: Vec<f64>,
    /// Everything.
    pub pass: Vec<f64>,
}

/// What was measured, and what the plan says of it.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Passes with reused buffers.
    pub reused: Times,
    /// Passes through the whole runtime; none from hidden states.
    pub fresh: Vec<f64>,
    /// The loss.
    pub loss: f64,
    /// Rows of the batch: groups, rollouts, tokens, entries of a token (0 without logits).
    pub rows: Rows,
    /// Pieces that the batch was cut into.
    pub pieces: usize,
    /// Name of the coupling level.
    pub coupling: String,
    /// Number type of the first vocab-level column.
    pub dtype: Option<Float>,
    /// What a pass moves.
    pub bytes: Bytes,
    /// Bytes that the plan needs beyond logits and their gradient.
    pub memory: usize,
    /// Bytes that passes made the process grow by, where the system says.
    pub grown: Option<usize>,
    /// What the recorded, live and after phases compute.
    pub work: [Work; 3],
    /// Bare matrix products, where passes begin at hidden states.
    pub products: Option<Products>,
    /// Sweeps over the vocab row of each token.
    pub sweeps: usize,
    /// The plan in words.
    pub plan: Vec<String>,
}

/// Rows of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    /// Groups.
    pub groups: usize,
    /// Rollouts.
    pub rollouts: usize,
    /// Tokens.
    pub tokens: usize,
    /// Entries of a token.
    pub vocab: usize,
}

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Rollouts of a piece.
    pub micro_batch: usize,
    /// How long to repeat.
    pub time: Duration,
    /// Whether gradients are wanted.
    pub keep: bool,
    /// Whether passes through the whole runtime are timed too.
    pub fresh: bool,
}

/// Runs passes, most of the time with reused buffers. Where they are wanted, the loss and the gradients
/// that they computed, as `rlc eval` names them.
pub fn measure(
    objective: &mut Objective,
    table: &Table,
    params: &[f64],
    wanted: &Wanted,
    progress: &Progress,
) -> Outcome<(Measured, Table)> {
    let Wanted { micro_batch, time, keep, .. } = *wanted;
    let present = table.arrays.keys().cloned().collect();
    let specialized = objective.specialized(Some(present)).map_err(objective_failure)?;
    let program = Arc::clone(&specialized.program);
    let levels = &program.graph.level_table;
    let bad = |e: rlc_compiler::shape::TableError| Failure::input(e.to_string(), "");
    let shape = Shape::new(levels, table).map_err(bad)?;
    let loaded = columns::check(&program, table, &Table::default(), &shape, false).map_err(bad)?;
    let mut batch = Batch::new(&program, table, &shape, &loaded);
    let mut kernel = Kernel::new(&program, &batch.floats).map_err(device)?;
    let pieces = pieces(&shape, program.piece, micro_batch);

    progress.say("warming up");
    let before = if machine::forget_peak() { machine::resident() } else { None };
    let mut reused = Times::default();
    let mut found = Found::default();
    let started = Instant::now();
    while reused.pass.len() <= LEAST || started.elapsed() < time.mul_f64(0.8) {
        found = batch.pass(&mut kernel, &shape, params, &pieces, &mut reused)?;
        progress.pass(&reused.pass, "buffers reused");
    }
    reused.drop_first();
    let grown = before.and_then(|b| Some(machine::peak()?.saturating_sub(b)));
    let loss = found.loss;
    let gradients = if keep { batch.gradients(found, &shape) } else { Table::default() };
    let floats = std::mem::take(&mut batch.floats);
    let widths: Vec<_> = batch.given.iter().map(|(id, x)| (*id, width(*x))).collect();
    drop(batch);

    let fresh = if wanted.fresh {
        fresh(objective, table, micro_batch, time.mul_f64(0.2), progress)?
    } else {
        Vec::new()
    };
    let columns = ColumnTypes { floats: &floats, widths: &widths };
    let mut measured = described(&kernel, &shape, columns, &program, pieces.len());
    (measured.reused, measured.fresh) = (reused, fresh);
    (measured.loss, measured.grown) = (loss, grown);
    Ok((measured, gradients))
}

/// Bytes of a number of a column.
fn width(column: Numbers<'_>) -> usize {
    match column {
        Numbers::F64(_) | Numbers::I64(_) => 8,
        Numbers::F32(_) => 4,
        Numbers::U8(_) => 1,
    }
}

/// How the columns of a batch lie.
#[derive(Debug, Clone, Copy)]
pub struct ColumnTypes<'a> {
    /// Number types at vocab level.
    pub floats: &'a [(ColumnId, Float)],
    /// Bytes of a number of the others; 8 where nothing is said.
    pub widths: &'a [(ColumnId, usize)],
}

/// What plan and shape say, without a time.
pub fn described(
    kernel: &Kernel,
    shape: &Shape,
    columns: ColumnTypes<'_>,
    program: &Program,
    pieces: usize,
) -> Measured {
    let levels = &program.graph.level_table;
    let cost = Cost::new(kernel.plan(), shape, columns.floats, columns.widths);
    let count = |level: Level| shape.count(level);
    let work = [Phase::Recorded, Phase::Live, Phase::After]
        .map(|phase| work::of_phase(kernel.plan(), phase, shape));
    Measured {
        reused: Times::default(),
        fresh: Vec::new(),
        loss: f64::NAN,
        rows: Rows {
            groups: count(rlc_compiler::level::GROUP),
            rollouts: count(ROLLOUT),
            tokens: count(TOKEN),
            vocab: shape.vocab,
        },
        pieces,
        coupling: levels.name(program.coupling).to_owned(),
        dtype: columns.floats.first().map(|f| f.1),
        bytes: cost.bytes(),
        memory: cost.memory(),
        grown: None,
        work,
        products: None,
        sweeps: cost.sweeps(),
        plan: kernel::lines(kernel.plan()),
    }
}

/// Passes through the whole runtime, after one that also compiles.
fn fresh(
    objective: &mut Objective,
    table: &Table,
    micro_batch: usize,
    time: Duration,
    progress: &Progress,
) -> Outcome<Vec<f64>> {
    let mut pass = || -> Outcome<f64> {
        let begin = Instant::now();
        let mut step = objective.begin(table, Logits::InTable).map_err(objective_failure)?;
        for piece in step.pieces(micro_batch, usize::MAX) {
            step.live(piece, None).map_err(objective_failure)?;
        }
        let outcome = step.finish().map_err(objective_failure)?;
        std::hint::black_box(outcome);
        Ok(begin.elapsed().as_secs_f64())
    };
    pass()?;
    let (mut times, started) = (Vec::new(), Instant::now());
    while times.len() < 2 || started.elapsed() < time {
        times.push(pass()?);
        progress.pass(&times, "whole runtime");
    }
    Ok(times)
}

impl Times {
    /// Takes a pass in: its beginning and the end of each phase.
    pub fn add(&mut self, at: [Instant; 4]) {
        let seconds = |from: usize, to: usize| (at[to] - at[from]).as_secs_f64();
        self.recorded.push(seconds(0, 1));
        self.live.push(seconds(1, 2));
        self.after.push(seconds(2, 3));
        self.pass.push(seconds(0, 3));
    }

    /// The first pass finds its memory cold.
    fn drop_first(&mut self) {
        for times in [&mut self.recorded, &mut self.live, &mut self.after, &mut self.pass] {
            times.remove(0);
        }
    }
}

/// What a pass computed, but for vocab-level gradients.
#[derive(Default)]
struct Found {
    loss: f64,
    below: Vec<(ColumnId, Vec<f64>)>,
}

/// A batch in the form that kernels take.
pub(super) struct Batch<'a> {
    program: &'a Program,
    pub(super) given: Vec<(ColumnId, Numbers<'a>)>,
    pub(super) vocab: Vocab<'a>,
    pub(super) floats: Vec<(ColumnId, Float)>,
    /// In the type of their logits: f32 for those of f64.
    gradients: Vec<(ColumnId, Data)>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(
        program: &'a Program,
        table: &'a Table,
        shape: &Shape,
        loaded: &'a Columns,
    ) -> Batch<'a> {
        let graph = &program.graph;
        let (vocab_level, others): (Vec<ColumnId>, Vec<ColumnId>) = columns::needed(program)
            .into_iter()
            .partition(|id| graph.columns[id.0 as usize].level == VOCAB);
        let rows = |id: ColumnId| {
            let data = table.get(&graph.column_path(id))?.data.floats()?;
            Some((id, VocabRows { data, first: 0 }))
        };
        let vocab: Vocab<'_> = vocab_level.into_iter().filter_map(rows).collect();
        let floats = vocab.iter().map(|(id, rows)| (*id, float(rows.data))).collect();
        let gradients = program
            .grads
            .iter()
            .filter(|(id, g)| g.is_some() && graph.columns[id.0 as usize].level == VOCAB)
            .map(|(id, _)| {
                // Writing touches the pages.
                let entries = shape.count(VOCAB);
                let memory = match vocab.get(id).map(|rows| float(rows.data)) {
                    Some(Float::Bf16) => Data::Bf16(vec![1; entries]),
                    Some(Float::F16) => Data::F16(vec![1; entries]),
                    Some(Float::F32 | Float::F64) | None => Data::F32(vec![1.0; entries]),
                };
                (*id, memory)
            })
            .collect();
        let given = others.into_iter().map(|id| (id, loaded.numbers(id, graph, table))).collect();
        Batch { program, given, vocab, floats, gradients }
    }

    /// One pass; the loss.
    fn pass(
        &mut self,
        kernel: &mut Kernel,
        shape: &Shape,
        params: &[f64],
        pieces: &[Range<usize>],
        times: &mut Times,
    ) -> Outcome<Found> {
        let start = Instant::now();
        let mut run = kernel.start_with(shape, &self.given, params).map_err(device)?;
        run.recorded(&self.vocab).map_err(device)?;
        let recorded = Instant::now();
        for piece in pieces {
            let entries = shape.range(self.program.piece, piece.clone(), VOCAB);
            let mut outputs: Vec<Gradient<'_>> = self
                .gradients
                .iter_mut()
                .filter_map(|(id, all)| {
                    let here = entries.clone();
                    let data = match all {
                        Data::F32(x) => Entries::F32(&mut x[here]),
                        Data::Bf16(x) => Entries::Bf16(&mut x[here]),
                        Data::F16(x) => Entries::F16(&mut x[here]),
                        Data::F64(_) | Data::I64(_) | Data::U8(_) => return None,
                    };
                    Some(Gradient { column: *id, data })
                })
                .collect();
            run.live(piece.clone(), &self.vocab, &mut outputs).map_err(device)?;
        }
        let live = Instant::now();
        run.after(&self.vocab).map_err(device)?;
        let after = Instant::now();
        times.add([start, recorded, live, after]);
        let value = |e| run.value(e).unwrap_or(&[]);
        let loss = value(self.program.loss).first().copied().unwrap_or(f64::NAN);
        let graph = &self.program.graph;
        let below = |id: &ColumnId| graph.columns[id.0 as usize].level != VOCAB;
        let grads = self.program.grads.iter().filter(|(id, _)| below(id));
        let below = grads.filter_map(|(id, e)| Some((*id, value((*e)?).to_vec()))).collect();
        Ok(Found { loss, below })
    }

    /// Loss and gradients of the last pass.
    fn gradients(&mut self, found: Found, shape: &Shape) -> Table {
        let graph = &self.program.graph;
        let name = |id: ColumnId| format!("grad/{}", graph.columns[id.0 as usize].name);
        let mut table = Table::default();
        table.set("loss", Data::F64(vec![found.loss]));
        for (id, rows) in found.below {
            table.set(name(id), Data::F64(rows));
        }
        for (id, data) in self.gradients.drain(..) {
            let shape = vec![shape.count(TOKEN), shape.vocab];
            // Every number of these types is one of f32, which all readers of results know.
            let data = match data {
                Data::Bf16(_) | Data::F16(_) => {
                    Data::F32((0..data.len()).map(|i| data.get(i) as f32).collect())
                }
                data => data,
            };
            table.arrays.insert(name(id), Array { data, shape });
        }
        table
    }
}

/// Ranges of rows of the piece level, each of at most `rollouts` rollouts where one row allows it.
pub fn pieces(shape: &Shape, level: Level, rollouts: usize) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    let mut inside = 0;
    for row in 0..shape.count(level) {
        let size = shape.range(level, row..row + 1, ROLLOUT).len();
        match out.last_mut() {
            Some(last) if inside + size <= rollouts => {
                last.end = row + 1;
                inside += size;
            }
            _ => {
                inside = size;
                out.push(row..row + 1);
            }
        }
    }
    out
}
