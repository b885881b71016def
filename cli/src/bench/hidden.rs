//! Passes from hidden states and an output projection, in turns with the bare matrix products.

use std::ops::Range;
use std::time::{Duration, Instant};

use rlc_compiler::clif::Float;
use rlc_compiler::hir::ColumnId;
use rlc_compiler::level::{ROLLOUT, TOKEN, VOCAB};
use rlc_compiler::loops::{Item, Loop, Plan, SlotId, SlotKind, Step};
use rlc_compiler::shape::Shape;
use rlc_compiler::table::{Array, Data, Table};
use rlc_model::gemm::{Matrix, product};
use rlc_runtime::device::cpu::Kernel;
use rlc_runtime::objective::{Head, HeadGrads, Hidden, Logits, Objective, Room};

use super::cost::Cost;
use super::pass::{self, Measured, Times};
use super::progress::Progress;
use super::{device, machine, objective_failure};
use crate::failure::{Failure, Outcome};

/// Hidden states in a batch file, `[tokens, H]`.
pub const STATES: &str = "token/hidden";
/// The output projection in a batch file, `[V, H]`.
pub const WEIGHT: &str = "head/weight";

/// What logits are made of. Packed, row by row.
pub struct States {
    /// `[tokens, H]`.
    rows: Vec<f32>,
    /// H.
    width: usize,
    /// `[V, H]`.
    weight: Vec<f32>,
    /// V.
    pub vocab: usize,
}

impl States {
    /// Takes hidden states and projection out of a batch that has them.
    pub fn take(table: &mut Table) -> Outcome<Option<States>> {
        let Some(rows) = table.arrays.remove(STATES) else { return Ok(None) };
        let Some(weight) = table.arrays.remove(WEIGHT) else {
            return Err(wrong(format!("it has `{STATES}`, but no `{WEIGHT}`")));
        };
        let (&[tokens, width], &[vocab, other]) = (&rows.shape[..], &weight.shape[..]) else {
            return Err(wrong(format!("`{STATES}` is [tokens, H] and `{WEIGHT}` is [V, H]")));
        };
        if width != other || width == 0 || vocab == 0 || tokens == 0 {
            return Err(wrong(format!(
                "`{STATES}` is [{tokens}, {width}] and `{WEIGHT}` is [{vocab}, {other}]"
            )));
        }
        let (rows, weight) = (numbers(rows.data, STATES)?, numbers(weight.data, WEIGHT)?);
        Ok(Some(States { rows, width, weight, vocab }))
    }
}

fn numbers(data: Data, name: &str) -> Outcome<Vec<f32>> {
    match data {
        Data::F32(x) => Ok(x),
        other => Err(wrong(format!("`{name}` is {}, and has to be F32", other.type_name()))),
    }
}

/// Says that a batch has no hidden states to start from.
pub fn wrong(why: String) -> Failure {
    Failure::input(format!("the batch cannot start from hidden states: {why}"), "")
}

/// Beside a pass from hidden states.
#[derive(Debug, Clone)]
pub struct Products {
    /// Numbers of a hidden state.
    pub width: usize,
    /// Products that a pass needs whose logits are never held whole: three, and a fourth where live
    /// loops need the logits twice.
    pub count: usize,
    /// Seconds of logits, d hidden and d projection, each a whole product in the same library.
    pub times: [Vec<f64>; 3],
    /// Bytes for logits and their gradient that a pass takes at once.
    pub room: usize,
    /// What the command line allows, as a share of all logits.
    pub share: Option<f64>,
}

impl Products {
    /// Seconds of all products that a pass needs, one entry per repetition.
    pub fn whole(&self) -> Vec<f64> {
        let [logits, hidden, weight] = &self.times;
        let again = self.count - 3;
        let each = logits.iter().zip(hidden).zip(weight);
        each.map(|((l, h), w)| (1 + again) as f64 * l + h + w).collect()
    }

    /// Floating-point operations of one product.
    pub fn flops(&self, tokens: usize, vocab: usize) -> u64 {
        2 * (tokens * self.width) as u64 * vocab as u64
    }
}

/// What to run.
pub struct Wanted {
    /// Rollouts of a piece.
    pub micro_batch: usize,
    /// Memory for logits, as a share of all of them.
    pub share: Option<f64>,
    /// How long to repeat.
    pub time: Duration,
    /// Whether gradients are wanted.
    pub keep: bool,
}

/// Runs passes and products in turns; the gradients of the last pass, where they are wanted.
pub fn measure(
    objective: &mut Objective,
    table: &Table,
    states: &States,
    wanted: &Wanted,
    progress: &Progress,
) -> Outcome<(Measured, Table)> {
    let mut present: std::collections::BTreeSet<String> = table.arrays.keys().cloned().collect();
    present.insert("vocab/logits".to_owned());
    let specialized = objective.specialized(Some(present)).map_err(objective_failure)?;
    let program = &specialized.program;
    let graph = &program.graph;
    let bad = |e: rlc_compiler::shape::TableError| Failure::input(e.to_string(), "");
    let mut shape = Shape::new(&graph.level_table, table).map_err(bad)?;
    shape.vocab = states.vocab;
    let tokens = shape.count(TOKEN);
    if states.rows.len() != tokens * states.width {
        let rows = states.rows.len() / states.width;
        return Err(wrong(format!("`{STATES}` has {rows} rows for {tokens} tokens")));
    }
    let ids = rlc_compiler::columns::needed(program);
    let vocab_level = ids.into_iter().filter(|id| graph.columns[id.0 as usize].level == VOCAB);
    let floats: Vec<(ColumnId, Float)> = vocab_level.map(|id| (id, Float::F32)).collect();
    let Some((logits, _)) = floats.iter().find(|f| graph.column_path(f.0) == "vocab/logits") else {
        return Err(Failure::input("the program reads no logits", "measure it with `--logp`"));
    };
    let kernel = Kernel::new(program, &floats).map_err(device)?;
    let count = if reads(kernel.plan(), *logits) > 1 { 4 } else { 3 };
    let all = size_of::<f32>() * tokens * states.vocab;
    let room = wanted.share.map(|s| Room::of((s * all as f64) as usize)).unwrap_or_default();

    let mut pass = Pass {
        states,
        micro_batch: wanted.micro_batch,
        room,
        d_hidden: vec![1.0; states.rows.len()],
        d_weight: vec![1.0; states.weight.len()],
    };
    progress.say("warming up");
    let before = if machine::forget_peak() { machine::resident() } else { None };
    let mut times = Times::default();
    pass.run(objective, table, &shape, &mut Times::default())?;
    let grown = before.and_then(|b| Some(machine::peak()?.saturating_sub(b)));

    let mut bare = Bare { states, tokens, logits: vec![1.0; tokens * states.vocab] };
    let mut each: [Vec<f64>; 3] = Default::default();
    let mut scratch = (vec![1.0; states.rows.len()], vec![1.0; states.weight.len()]);
    let started = Instant::now();
    let mut loss = f64::NAN;
    while times.pass.is_empty() || started.elapsed() < wanted.time {
        for (all, one) in each.iter_mut().zip(bare.run(&mut scratch.0, &mut scratch.1)) {
            all.push(one);
        }
        loss = pass.run(objective, table, &shape, &mut times)?;
        progress.pass(&times.pass, "in turns with bare products");
    }
    drop(bare);
    let gradients = if wanted.keep { pass.gradients(loss) } else { Table::default() };
    let pass_level = program.piece;
    let pieces = pass::pieces(&shape, pass_level, wanted.micro_batch).len();
    let mut bytes = Cost::new(kernel.plan(), &shape, &floats, &[]).bytes();
    // Logits exist in cache only; what they are made of is read, and its gradient written.
    let own = size_of_val(&states.rows[..]) + size_of_val(&states.weight[..]);
    (bytes.logits, bytes.gradients) = (own, own);
    let products = Products {
        width: states.width,
        count,
        times: each,
        room: pass.room.bytes(),
        share: wanted.share,
    };
    let columns = pass::ColumnTypes { floats: &floats, widths: &[] };
    let mut measured = pass::described(&kernel, &shape, columns, program, pieces);
    measured.reused = times;
    measured.loss = loss;
    measured.bytes = bytes;
    measured.grown = grown;
    measured.products = Some(products);
    Ok((measured, gradients))
}

/// How many live loops read a column's entries or write its gradient.
fn reads(plan: &Plan, column: ColumnId) -> usize {
    let its = |slot: &SlotId| {
        let kind = plan.slot(*slot).kind;
        kind == SlotKind::Entries(column) || kind == SlotKind::Gradient(column)
    };
    let touches = |of: &Loop| {
        let alone = of.body.iter().any(|item| match item {
            Item::Let(_, op) => op.slot().is_some_and(|s| its(&s)),
            Item::Scan { .. }
            | Item::Shift { .. }
            | Item::Store(..)
            | Item::Fold { .. }
            | Item::Spread(..)
            | Item::SpreadAt { .. }
            | Item::Sweep(_) => false,
        });
        alone
            || of.sweeps().any(|sweep| {
                sweep.body.iter().any(|(_, op)| op.slot().is_some_and(|s| its(&s)))
                    || sweep.gradients.iter().any(|(s, _)| its(s))
            })
    };
    plan.live
        .iter()
        .filter(|step| match step {
            Step::Loop(of) => touches(of),
            Step::Call(_) => false,
        })
        .count()
}

/// Memory of a pass, kept from one to the next.
struct Pass<'a> {
    states: &'a States,
    micro_batch: usize,
    room: Room,
    d_hidden: Vec<f32>,
    d_weight: Vec<f32>,
}

impl Pass<'_> {
    /// The loss.
    fn run(
        &mut self,
        objective: &mut Objective,
        table: &Table,
        shape: &Shape,
        times: &mut Times,
    ) -> Outcome<f64> {
        let States { rows, width, weight, vocab } = self.states;
        let start = Instant::now();
        let logits = Logits::Live { vocab: *vocab };
        let mut step = objective.begin(table, logits).map_err(objective_failure)?;
        let recorded = Instant::now();
        self.d_weight.fill(0.0);
        for piece in step.pieces(self.micro_batch, usize::MAX) {
            let tokens: Range<usize> = shape.range(ROLLOUT, piece.clone(), TOKEN);
            let own = tokens.start * width..tokens.end * width;
            let head = Head { weight, bias: None, lora: None };
            let given = Hidden { rows: &rows[own.clone()], width: *width, head };
            let mut grads = HeadGrads { weight: Some(&mut self.d_weight), ..HeadGrads::default() };
            let into = &mut self.d_hidden[own];
            step.live_hidden(piece, given, into, &mut grads, &mut self.room)
                .map_err(objective_failure)?;
        }
        let live = Instant::now();
        let loss = step.finish().map_err(objective_failure)?.loss;
        times.add([start, recorded, live, Instant::now()]);
        Ok(loss)
    }

    fn gradients(&mut self, loss: f64) -> Table {
        let mut table = Table::default();
        table.set("loss", Data::F64(vec![loss]));
        for (name, data) in [("hidden", &mut self.d_hidden), ("weight", &mut self.d_weight)] {
            let shape = vec![data.len() / self.states.width, self.states.width];
            let data = Data::F32(std::mem::take(data));
            table.arrays.insert(format!("grad/{name}"), Array { data, shape });
        }
        table
    }
}

/// The products of any implementation, of all tokens at once.
struct Bare<'a> {
    states: &'a States,
    tokens: usize,
    logits: Vec<f32>,
}

impl Bare<'_> {
    /// Seconds of each: logits, d hidden, d projection.
    fn run(&mut self, d_hidden: &mut [f32], d_weight: &mut [f32]) -> [f64; 3] {
        let States { rows, width, weight, vocab } = self.states;
        let hidden = Matrix::new(rows, self.tokens, *width);
        let weight = Matrix::new(weight, *vocab, *width);
        let timed = |work: &mut dyn FnMut()| {
            let begin = Instant::now();
            work();
            begin.elapsed().as_secs_f64()
        };
        let first =
            timed(&mut || product(&mut self.logits, *vocab, hidden, weight.turned(), false));
        let d = Matrix::new(&self.logits, self.tokens, *vocab);
        let second = timed(&mut || product(d_hidden, *width, d, weight, false));
        let third = timed(&mut || product(d_weight, *width, d.turned(), hidden, false));
        [first, second, third]
    }
}
