//! One batch under way: the recorded stage has run, the pieces follow, then the closing stage.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use rlc_compiler::columns::Numbers;
use rlc_compiler::hir::{ColumnId, E};
use rlc_compiler::interp::{self, Vocab, VocabRows, emptied};
use rlc_compiler::level::{BATCH, GROUP, Level, ROLLOUT, TOKEN, VOCAB};
use rlc_compiler::program::{Phase, Program};
use rlc_compiler::shape::{Shape, TableError};
use rlc_compiler::specialize::Specialized;
use rlc_compiler::table::{Floats, Table};

use super::finite::all_finite;
use super::outcome::{Outcome, Results};
use super::workers::{Exchange, Workers};
use super::{ObjectiveError, vocab_columns};
use crate::device::Gradient;
use crate::device::cpu;

pub(super) enum Run<'a> {
    Interp(Box<interp::Run>),
    Cpu(cpu::Run<'a>),
}

impl Run<'_> {
    /// Values of an output of the program.
    pub(super) fn value(&self, e: E) -> &[f64] {
        match self {
            Run::Interp(run) => run.value(e),
            Run::Cpu(run) => run.value(e).unwrap_or(&[]),
        }
    }

    /// Runs a phase that goes over the whole batch.
    pub(super) fn whole(
        &mut self,
        phase: Phase,
        vocab: &Vocab<'_>,
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
    vocab: &Vocab<'_>,
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

/// Memory that one batch after another uses: for one no larger nothing is allocated.
#[derive(Default)]
pub(super) struct Memory {
    pub grads: BTreeMap<ColumnId, Vec<f32>>,
    pub results: Results,
    pub spare: Spare,
}

/// Lists that hold what a batch lends, empty between batches.
#[derive(Default)]
pub(super) struct Spare {
    pub given: Vec<(ColumnId, Numbers<'static>)>,
    pub vocab: Vocab<'static>,
    pub outputs: Vec<Gradient<'static>>,
    /// A gradient on its way to another place.
    pub gradient: Vec<f32>,
}

impl Spare {
    /// Where gradients of some vocab entries go; to be given back.
    pub(super) fn outputs<'g>(
        &mut self,
        grads: &'g mut BTreeMap<ColumnId, Vec<f32>>,
        entries: &Range<usize>,
    ) -> Vec<Gradient<'g>> {
        let mut outputs = emptied(std::mem::take(&mut self.outputs));
        outputs.extend(
            grads.iter_mut().map(|(id, all)| Gradient {
                column: *id,
                data: (&mut all[entries.clone()]).into(),
            }),
        );
        outputs
    }
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
    pub(super) grads: &'a mut BTreeMap<ColumnId, Vec<f32>>,
    pub(super) results: &'a mut Results,
    pub(super) spare: &'a mut Spare,
    pub(super) workers: Workers<'a>,
}

/// Gradients of one piece.
#[derive(Debug, Clone, Default)]
pub struct LiveGrads {
    /// d(loss)/d(logits), [tokens of the piece, V]; empty where the loss reads no logits.
    pub logits: Vec<f32>,
}

/// The pieces of a batch, in order.
#[derive(Debug, Clone)]
pub struct Pieces {
    shape: Arc<Shape>,
    piece: Level,
    /// Rows of the piece level that are left.
    rows: Range<usize>,
    rollouts: usize,
    tokens: usize,
}

impl Iterator for Pieces {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let of = |row: usize, level| self.shape.range(self.piece, row..row + 1, level);
        let row = self.rows.next()?;
        let (mut out, mut tokens) = (of(row, ROLLOUT), of(row, TOKEN).len());
        while !self.rows.is_empty() {
            let (more, size) = (of(self.rows.start, ROLLOUT), of(self.rows.start, TOKEN).len());
            if out.len() + more.len() > self.rollouts || tokens + size > self.tokens {
                break;
            }
            out.end = more.end;
            tokens += size;
            self.rows.start += 1;
        }
        Some(out)
    }
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

    /// Vocab-level columns of the table, in memory to be given back to `spare`.
    pub(super) fn table_vocab(&mut self) -> Vocab<'a> {
        let into = std::mem::take(&mut self.spare.vocab);
        vocab_columns(&self.specialized, self.table, into)
    }

    /// Cuts the batch into ranges of rollouts for [`Step::live`]: whole elements of the coupling
    /// level, each of at most `rollouts` rollouts and `tokens` tokens where one element allows it.
    pub fn pieces(&self, rollouts: usize, tokens: usize) -> Pieces {
        self.pieces_of(0..self.shape.count(self.program().piece), rollouts, tokens)
    }

    /// The same of some rows of the piece level only.
    pub(super) fn pieces_of(&self, rows: Range<usize>, rollouts: usize, tokens: usize) -> Pieces {
        let (shape, piece) = (Arc::clone(&self.shape), self.program().piece);
        Pieces { shape, piece, rows, rollouts, tokens }
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
        self.live_of(rollouts, logits.map(Floats::F32), Vec::new())
    }

    /// [`Step::live`] with logits of any type, and the gradient in such memory.
    pub(super) fn live_of(
        &mut self,
        rollouts: Range<usize>,
        logits: Option<Floats<'_>>,
        into: Vec<f32>,
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
        let out = self.compute(rows.clone(), tokens.clone(), &vocab, (logits_id, into))?;
        let entries = tokens.start * width..tokens.end * width;
        let finite =
            all_finite(&out.logits) && self.grads.values().all(|g| all_finite(&g[entries.clone()]));
        if !finite {
            return Err(self.not_finite(rows, tokens, &vocab));
        }
        self.spare.vocab = vocab.emptied();
        Ok(out)
    }

    fn compute(
        &mut self,
        rows: Range<usize>,
        tokens: Range<usize>,
        vocab: &Vocab<'_>,
        (logits_id, into): (Option<ColumnId>, Vec<f32>),
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
                let mut logits = into;
                logits.clear();
                let mut outputs = self.spare.outputs(self.grads, &entries);
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
                self.spare.outputs = emptied(outputs);
                Ok(LiveGrads { logits })
            }
        }
    }

    pub(super) fn logits_id(&self) -> Option<ColumnId> {
        let Specialized { program, needed, .. } = &*self.specialized;
        needed.iter().copied().find(|id| program.graph.is_logits(*id))
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
    /// update over the same rollouts: what does not depend on the policy is kept. The next update, or the next batch,
    /// writes its outcome in the same place.
    pub fn finish(&mut self) -> Result<&Outcome, ObjectiveError> {
        if self.next != self.shape.count(ROLLOUT) {
            return Err(ObjectiveError::Cut(format!(
                "{} of {} rollouts have run; run the other pieces first",
                self.next,
                self.shape.count(ROLLOUT)
            )));
        }
        let vocab = self.table_vocab();
        self.run.whole(Phase::After, &vocab, &mut self.workers)?;
        self.check_finite(&vocab)?;
        self.spare.vocab = vocab.emptied();
        self.write_outcome()?;
        self.restart();
        Ok(self.results.outcome())
    }

    /// Lets the pieces run anew. The interpreter adds nothing up from piece to piece.
    fn restart(&mut self) {
        if let Run::Cpu(run) = &mut self.run {
            run.restart();
        }
        self.next = 0;
    }

    /// Room for compiled kernels' gradients of the table's vocab-level columns: what the outcome before took along.
    pub(super) fn make_room(&mut self) {
        if matches!(self.run, Run::Interp(_)) || self.next > 0 {
            return;
        }
        let (program, entries) = (&self.specialized.program, self.shape.count(VOCAB));
        for (id, grad) in &program.grads {
            let info = &program.graph.columns[id.0 as usize];
            let in_table = program.graph.array(*id, self.table).is_some();
            if grad.is_none() || info.level != VOCAB || (self.live && !in_table) {
                continue;
            }
            let rows = self.grads.entry(*id).or_default();
            if rows.is_empty() {
                *rows = self.results.take_rows(&info.name).unwrap_or_default();
            }
            // Kernels write every entry.
            rows.resize(entries, 0.0);
        }
    }

    pub(super) fn value(&self, e: E) -> &[f64] {
        self.run.value(e)
    }
}
