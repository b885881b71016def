//! Passes on a GPU: vocab-level columns lie in its memory, and its own events time what it does.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rlc_compiler::columns;
use rlc_compiler::hir::ColumnId;
use rlc_compiler::level::TOKEN;
use rlc_compiler::program::Program;
use rlc_compiler::shape::Shape;
use rlc_compiler::table::Table;
use rlc_runtime::device::cpu::Kernel;
use rlc_runtime::device::cuda::gpu::{About, Gpu};
use rlc_runtime::device::cuda::{self, Device, Launched, cache::Cache};
use rlc_runtime::device::{DeviceError, Resident};
use rlc_runtime::objective::Objective;
use serde_json::{Value, json};

use super::cost::Cost;
use super::pass::{Batch, pieces};
use super::progress::Progress;
use super::{device, objective_failure, text};
use crate::failure::{Failure, Outcome};
use crate::output::Output;

/// Passes that are timed at least.
const LEAST: usize = 5;
/// Bytes that are copied to see what the GPU's memory reaches.
const COPIED: usize = 1 << 30;

/// What was measured. Times in seconds.
#[derive(Debug)]
pub struct Measured {
    about: About,
    /// Of the live stage of a pass, by events.
    live: Vec<f64>,
    /// Of the whole pass, by the clock.
    pass: Vec<f64>,
    loss: f64,
    tokens: usize,
    vocab: usize,
    /// Whether there are vocab-level columns.
    logits: bool,
    in_place: bool,
    /// Bytes that the live stage of a pass must read and write: logits once for each loop that needs them, columns as they
    /// lie on the GPU.
    bytes: usize,
    /// In the live stage of the last pass.
    launched: Launched,
    /// Bytes read and written per second by a copy.
    copying: f64,
}

/// Runs passes for a time, in pieces of so many rollouts.
pub fn measure(
    objective: &mut Objective,
    table: &Table,
    params: &[f64],
    (micro_batch, time): (usize, Duration),
    progress: &Progress,
    output: &Output,
) -> Outcome<Measured> {
    let mut gpu = Gpu::new(0).map_err(device)?;
    let about = gpu.about().map_err(device)?;
    let present = table.arrays.keys().cloned().collect();
    let specialized = objective.specialized(Some(present)).map_err(objective_failure)?;
    let program = Arc::clone(&specialized.program);
    let bad = |e: rlc_compiler::shape::TableError| Failure::input(e.to_string(), "");
    let shape = Shape::new(&program.graph.level_table, table).map_err(bad)?;
    let loaded = columns::check(&program, table, &Table::default(), &shape, false).map_err(bad)?;
    let batch = Batch::new(&program, table, &shape, &loaded);
    let mut kernel = Kernel::new(&program, &batch.floats).map_err(device)?;
    let floats = cuda::Floats { entries: &batch.floats, gradients: &batch.floats };
    let warn = output.warner();
    progress.say("compiling kernels");
    let live = cuda::on(gpu.beside(), kernel.plan(), &floats, &Cache::of_user(), &warn);
    let live = live.map_err(device)?;
    kernel.set_live(Some(live));

    progress.say("copying to the GPU");
    let held = held(&mut gpu, &kernel, &program, &batch).map_err(device)?;
    let pieces = pieces(&shape, program.piece, micro_batch);
    let below = Cost::new(kernel.plan(), &shape, &batch.floats, &[]).live();
    let (mut live, mut pass, mut loss) = (Vec::new(), Vec::new(), f64::NAN);
    let (mut launched, mut bytes) = (Launched::default(), 0);
    let started = Instant::now();
    while live.len() <= LEAST || started.elapsed() < time {
        let begin = Instant::now();
        let mut run = kernel.start_with(&shape, &batch.given, params).map_err(device)?;
        run.recorded(&batch.vocab).map_err(device)?;
        // Columns go to the GPU with the first piece, which is an empty one here.
        let nothing = rows_of(&gpu, &held, &(0..0), shape.vocab)?;
        run.live_resident(0..0, &batch.vocab, &mut [], &nothing).map_err(device)?;
        for of in &held {
            of.renew(&mut gpu).map_err(device)?;
        }
        gpu.wait().map_err(device)?;
        // A loop that comes back to a row finds it in the cache; another loop does not.
        let moved = |h: &Held| h.bytes * (run.passes(h.column) + usize::from(h.gradient));
        bytes = below + held.iter().map(moved).sum::<usize>();
        let before = run.launched();
        let watch = gpu.watch().map_err(device)?;
        for piece in &pieces {
            let tokens = shape.range(program.piece, piece.clone(), TOKEN);
            let rows = rows_of(&gpu, &held, &tokens, shape.vocab)?;
            run.live_resident(piece.clone(), &batch.vocab, &mut [], &rows).map_err(device)?;
        }
        live.push(watch.seconds(&gpu).map_err(device)?);
        launched = run.launched() - before;
        run.after(&batch.vocab).map_err(device)?;
        pass.push(begin.elapsed().as_secs_f64());
        loss = run.value(program.loss).and_then(|v| v.first().copied()).unwrap_or(f64::NAN);
        progress.pass(&live, "on the GPU");
    }
    // The first pass loads modules.
    live.remove(0);
    pass.remove(0);
    let logits = !held.is_empty();
    let in_place = logits && held.iter().all(|h| h.apart.is_none());
    drop(held);
    let copying = copying(&mut gpu).map_err(device)?;
    let (tokens, vocab) = (shape.count(TOKEN), shape.vocab);
    Ok(Measured {
        about,
        live,
        pass,
        loss,
        tokens,
        vocab,
        logits,
        in_place,
        bytes,
        launched,
        copying,
    })
}

/// A column in the GPU's memory.
struct Held {
    column: ColumnId,
    float: rlc_compiler::clif::Float,
    bytes: usize,
    gradient: bool,
    /// Where passes read it, and write its gradient if they may.
    entries: <Gpu as Device>::Memory,
    /// Its gradient, where entries are read after it.
    apart: Option<<Gpu as Device>::Memory>,
    /// What passes write over.
    original: Option<<Gpu as Device>::Memory>,
}

fn held(
    gpu: &mut Gpu,
    kernel: &Kernel,
    program: &Program,
    batch: &Batch<'_>,
) -> Result<Vec<Held>, DeviceError> {
    let mut out = Vec::new();
    for (column, rows) in batch.vocab.iter() {
        let float = rlc_runtime::device::cpu::float(rows.data);
        let bytes = rows.data.len() * float.bytes();
        let mut entries = gpu.alloc(bytes)?;
        gpu.write_numbers(&mut entries, rows.data)?;
        let gradient = program.grads.iter().any(|(id, g)| id == column && g.is_some());
        let over = gradient && kernel.plan().in_place(*column);
        let original = if over { Some(gpu.alloc(bytes)?) } else { None };
        if let Some(original) = &original {
            gpu.copy(&entries, original, bytes)?;
        }
        let apart = if gradient && !over { Some(gpu.alloc(bytes)?) } else { None };
        out.push(Held { column: *column, float, bytes, gradient, entries, apart, original });
    }
    Ok(out)
}

fn rows_of(
    gpu: &Gpu,
    held: &[Held],
    tokens: &Range<usize>,
    vocab: usize,
) -> Outcome<Vec<(ColumnId, Resident)>> {
    held.iter().map(|h| h.rows(gpu, tokens.clone(), vocab).map_err(device)).collect()
}

impl Held {
    /// The rows of some tokens.
    fn rows(
        &self,
        gpu: &Gpu,
        tokens: Range<usize>,
        vocab: usize,
    ) -> Result<(ColumnId, Resident), DeviceError> {
        let first = (tokens.start * vocab * self.float.bytes()) as u64;
        let entries = gpu.address(&self.entries) + first;
        let gradient = self.apart.as_ref().map_or(entries, |m| gpu.address(m) + first);
        let at = (entries, gradient);
        let of = gpu.resident(self.float, tokens.len() * vocab, at, &self.entries)?;
        Ok((self.column, of))
    }

    /// Puts back what a pass has written over.
    fn renew(&self, gpu: &mut Gpu) -> Result<(), DeviceError> {
        match &self.original {
            Some(original) => gpu.copy(original, &self.entries, self.bytes),
            None => Ok(()),
        }
    }
}

fn copying(gpu: &mut Gpu) -> Result<f64, DeviceError> {
    let (from, to) = (gpu.alloc(COPIED)?, gpu.alloc(COPIED)?);
    let mut best = f64::INFINITY;
    for _ in 0..10 {
        let watch = gpu.watch()?;
        gpu.copy(&from, &to, COPIED)?;
        best = best.min(watch.seconds(gpu)?);
    }
    Ok(2.0 * COPIED as f64 / best)
}

impl Measured {
    /// Seconds, bytes, and bytes per second.
    pub fn json(&self, objective: &str) -> Value {
        let of = |times: &[f64]| json!({ "median": text::median(times), "passes": times.len() });
        let Launched { alone, graphs, inside } = self.launched;
        json!({
            "objective": objective,
            "device": self.about.name,
            "architecture": self.about.architecture,
            "tokens": self.tokens,
            "vocab": self.vocab,
            "in_place": self.in_place,
            "loss": self.loss,
            "time": { "live": of(&self.live), "pass": of(&self.pass) },
            "bytes": self.bytes,
            "launches": { "alone": alone, "graphs": graphs, "in_graphs": inside },
            "copying": self.copying,
            "floor": self.bytes as f64 / self.copying,
        })
    }

    /// For people.
    pub fn text(&self, objective: &str) -> String {
        let live = text::median(&self.live);
        let floor = self.bytes as f64 / self.copying;
        let mut out = format!(
            "{objective} on {} ({}): {} tokens{}, loss {}\n",
            self.about.name,
            self.about.architecture,
            self.tokens,
            if self.logits { format!(" of {} entries", self.vocab) } else { String::new() },
            self.loss
        );
        let _ = writeln!(
            out,
            "live    {}, {:.2} times the floor of {}: {} moved at {:.2} TB/s{}",
            text::seconds(live),
            live / floor,
            text::seconds(floor),
            text::size(self.bytes),
            self.copying / 1e12,
            if self.in_place { ", gradients over the logits" } else { "" },
        );
        let Launched { alone, graphs, inside } = self.launched;
        let _ = writeln!(
            out,
            "kernels {alone} launched one by one, {inside} in {graphs} graphs a pass"
        );
        let _ = writeln!(
            out,
            "pass    {}, with the columns copied and what stays on the CPU",
            text::seconds(text::median(&self.pass))
        );
        out
    }
}
