//! Sweeps over vocab rows, a block of entries at a time.
//!
//! A sweep's scalar code becomes a short list of operators on blocks of [`BLOCK`] entries that stay
//! in the first cache; each operator is a plain loop that the compiler turns into vector instructions,
//! built once for each width that the machine may have. Every operator gives the same bits at every
//! width, since each entry goes through the same IEEE operations in the same order; only sums over
//! entries are laid out in lanes, the same for every width too.
//!
//! Costs about 0.02 ns of dispatch an entry and operator, and one pass over two or three blocks in the
//! cache; `exp` is a polynomial of 20 operations.

mod block;
mod form;
mod lane;
mod memory;
#[cfg(test)]
mod tests;

pub use form::ROW_FROM;
pub(super) use lane::exp;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rlc_compiler::clif::Float;
use rlc_compiler::hir::ReduceOp;
use rlc_compiler::loops::{EntryFold, Guard, Item, Loop, Op, SlotId, Sweep, V};
use rlc_compiler::op::{Binary, Unary};

use super::rows::{Stores, Width};

/// Entries of a block: eight registers of 2 KiB and the rows they come from fit the first cache.
pub const BLOCK: usize = 256;

/// Gradients of so many bytes are written past the caches: with their logits they are larger than the last one of most
/// machines, and what is written first is gone before it is read.
const STREAMED: usize = 16 << 20;

/// An operand: a block, or a number of the whole row.
#[derive(Debug, Clone, Copy)]
enum Arg {
    /// A register.
    Block(u16),
    /// A number of the row: an input or a constant.
    Row(u16),
}

/// An operator on a block.
#[derive(Debug, Clone, Copy)]
enum Code {
    /// Entries of a vocab column.
    Entry {
        into: u16,
        column: u16,
    },
    /// Numbers of the entries.
    Index {
        into: u16,
    },
    Unary {
        op: Unary,
        into: u16,
        x: Arg,
    },
    Binary {
        op: Binary,
        into: u16,
        a: Arg,
        b: Arg,
    },
    Select {
        into: u16,
        c: Arg,
        a: Arg,
        b: Arg,
    },
}

/// A mean beside a log-sum-exp.
#[derive(Debug, Clone, Copy)]
struct Mean {
    f: Arg,
    filter: Option<Arg>,
    guard: Guard,
}

/// A fold, with the place of its state.
#[derive(Debug, Clone)]
enum Fold {
    Plain {
        op: ReduceOp,
        x: Arg,
    },
    LogSumExp {
        x: Arg,
        means: Vec<Mean>,
    },
    /// Writes x to the given scratch, an index of [`SweepCode::scratch`], and finds its n-th entry.
    Nth {
        x: Arg,
        n: Arg,
        scratch: u16,
    },
}

/// The code of one sweep.
#[derive(Clone)]
pub struct SweepCode {
    width: Width,
    code: Vec<Code>,
    folds: Vec<Fold>,
    /// Vocab columns that are read.
    columns: Vec<Column>,
    /// Gradient rows that are written.
    gradients: Vec<(SlotId, Arg)>,
    /// Their number types.
    written: Vec<Float>,
    /// How they are written.
    stores: Vec<Stores>,
    /// Two rows of room for each n-th entry.
    scratch: Vec<SlotId>,
    /// How many row values the sweep reads, and how many it gives.
    inputs: usize,
    results: usize,
    constants: Vec<f64>,
    registers: usize,
    /// Blocks, and two more for the weights of a log-sum-exp.
    memory: Vec<f64>,
    /// Numbers of the row.
    row: Vec<f64>,
    /// Where this row's entries lie: columns, gradients, scratch.
    places: Vec<*mut u8>,
    running: Vec<block::Running>,
    /// The form that row primitives know, if it has one.
    known: Option<form::Known>,
    later: form::Later,
    buffers: form::Buffers,
    /// Shared by the sweeps of a loop, which run one after the other.
    found: Arc<Mutex<memory::Memory>>,
    /// The first sweep of its loop: a row begins with it.
    first: bool,
    rows_by_form: u64,
}

// SAFETY: `places` means something only while `run` runs, which has the code to itself.
unsafe impl Send for SweepCode {}

/// A column that a sweep reads.
#[derive(Debug, Clone, Copy)]
struct Column {
    slot: SlotId,
    float: Float,
    /// One row, whatever the token.
    scratch: bool,
}

impl SweepCode {
    /// Translates the sweeps of a loop. `lies` gives the number type of each slot that they read, and
    /// whether it is scratch.
    pub fn of_loop(
        of: &Loop,
        lies: &dyn Fn(SlotId) -> (Float, bool),
        width: Width,
    ) -> Vec<SweepCode> {
        let mut sweeps: Vec<SweepCode> =
            of.sweeps().map(|s| SweepCode::new(s, &constants(of, s), lies, width)).collect();
        let found = Arc::new(Mutex::new(memory::Memory::default()));
        let mut later = form::Later::default();
        for sweep in sweeps.iter_mut().rev() {
            sweep.later = later.clone();
            sweep.found = Arc::clone(&found);
            if let Some(known) = &sweep.known {
                let slot = |c: usize| sweep.columns[c].slot;
                later.squares.extend(known.square_columns().map(slot));
            }
        }
        if let Some(first) = sweeps.first_mut() {
            first.first = true;
        }
        sweeps
    }

    /// Translates a sweep. `fixed` has the inputs that are the same number in every row.
    fn new(
        sweep: &Sweep,
        fixed: &[Option<f64>],
        lies: &dyn Fn(SlotId) -> (Float, bool),
        width: Width,
    ) -> SweepCode {
        let mut build = Build::new(sweep, lies);
        let mut code = Vec::new();
        for (at, (v, op)) in sweep.body.iter().enumerate() {
            code.extend(build.op(*v, *op, at));
        }
        let folds: Vec<Fold> = sweep.folds.iter().map(|f| build.fold(f)).collect();
        let gradients = sweep.gradients.iter().map(|(slot, v)| (*slot, build.arg(*v))).collect();
        let scratch = sweep.folds.iter().filter_map(EntryFold::scratch).collect();
        let Build { columns, constants, registers, constant_base: inputs, .. } = build;
        let gradients: Vec<(SlotId, Arg)> = gradients;
        let written: Vec<Arg> = gradients.iter().map(|g| g.1).collect();
        let known = columns.iter().all(|c| !c.scratch).then(|| {
            form::Known::new(form::Sweep {
                code: &code,
                folds: &folds,
                gradients: &written,
                registers,
                constants: &[fixed, &constants.iter().copied().map(Some).collect::<Vec<_>>()]
                    .concat(),
                columns: columns.len(),
            })
        });
        let row = vec![0.0; inputs + constants.len()];
        let memory = vec![0.0; (registers + 2) * BLOCK];
        SweepCode {
            written: vec![Float::F32; gradients.len()],
            stores: vec![Stores::Cached; gradients.len()],
            width: width.or_portable(),
            code,
            folds,
            columns,
            gradients,
            scratch,
            inputs,
            results: sweep.results().count(),
            constants,
            registers,
            memory,
            row,
            places: Vec::new(),
            running: Vec::new(),
            known: known.flatten(),
            later: form::Later::default(),
            buffers: form::Buffers::default(),
            found: Arc::default(),
            first: false,
            rows_by_form: 0,
        }
    }

    /// The same code with memory of its own, for another thread. `all` are whole loops' sweeps, in order.
    pub fn fork(all: &[SweepCode]) -> Vec<SweepCode> {
        let mut found = Arc::default();
        let fork = |of: &SweepCode| {
            if of.first {
                found = Arc::default();
            }
            SweepCode { rows_by_form: 0, found: Arc::clone(&found), ..of.clone() }
        };
        all.iter().map(fork).collect()
    }

    /// How many rows have gone through a row primitive.
    pub fn rows_by_form(&self) -> u64 {
        self.rows_by_form
    }

    /// Runs it with other vector instructions; with those of every machine, where this one lacks them.
    pub fn set_width(&mut self, width: Width) {
        self.width = width.or_portable();
    }

    /// Says of what type a gradient is, f32 at first, and how many bytes are written before anyone reads them. Gives
    /// whether it is written in another way than before.
    pub fn set_gradient(&mut self, slot: SlotId, float: Float, bytes: usize) -> bool {
        let Some(at) = self.gradients.iter().position(|g| g.0 == slot) else { return false };
        let stores = if bytes < STREAMED { Stores::Cached } else { Stores::Streaming };
        let was = std::mem::replace(&mut self.written[at], float);
        let stored = std::mem::replace(&mut self.stores[at], stores);
        (was, stored) != (float, stores)
    }

    /// Runs the sweep over row `row` of the memory in `table`, an entry per slot.
    ///
    /// `inputs` and `results` are in the order of [`Sweep::inputs`] and of [`Sweep::results`].
    ///
    /// # Safety
    ///
    /// Vocab-level slots of the sweep have `row + 1` rows of `entries` numbers of their type, scratch
    /// one row, and that of n-th entries two; gradients and scratch are writable and no one else's.
    unsafe fn run(
        &mut self,
        table: *const *mut u8,
        (row, entries): (usize, usize),
        inputs: &[f64],
        results: &mut [f64],
    ) {
        self.row[..inputs.len()].copy_from_slice(inputs);
        self.row[inputs.len()..].copy_from_slice(&self.constants);
        // SAFETY: the table has an entry for every slot of the plan, each with that many rows.
        let of = |slot: SlotId, bytes: usize, row: usize| unsafe {
            (*table.add(slot.index())).add(row * entries * bytes)
        };
        self.places.clear();
        for column in &self.columns {
            let row = if column.scratch { 0 } else { row };
            self.places.push(of(column.slot, column.float.bytes(), row));
        }
        let gradients = self.gradients.iter().zip(&self.written);
        self.places.extend(gradients.map(|(g, float)| of(g.0, float.bytes(), row)));
        self.places.extend(self.scratch.iter().map(|s| of(*s, 8, 0)));
        let (columns, rest) = self.places.split_at(self.columns.len());
        let (gradients, scratch) = rest.split_at(self.gradients.len());
        let of = block::Row {
            code: &self.code,
            folds: &self.folds,
            floats: &self.columns,
            columns,
            gradients: &self.gradients,
            written: gradients,
            types: &self.written,
            stores: &self.stores,
            scratch,
            numbers: &self.row,
            entries,
            some: None,
            registers: self.registers,
        };
        // SAFETY: the caller vouches for the rows; the width was detected on this machine.
        unsafe {
            if entries >= ROW_FROM {
                // A panic elsewhere left no row behind that matters.
                let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
                if self.first {
                    found.clear();
                }
                if let Some(known) = &self.known {
                    let (memory, running) = (&mut self.memory, &mut self.running);
                    let blocks = form::Blocks { memory, running };
                    let room = (&mut self.buffers, &mut *found, blocks);
                    if form::run(self.width, &of, (known, &self.later), room, results) {
                        self.rows_by_form += 1;
                        return;
                    }
                }
            }
            block::run(self.width, &of, &mut self.memory, &mut self.running, results);
        }
    }
}

/// The numbers among the inputs of a sweep that are constants of its loop.
fn constants(of: &Loop, sweep: &Sweep) -> Vec<Option<f64>> {
    let body = of.body.iter().filter_map(|item| match item {
        Item::Let(v, op) => Some((*v, *op)),
        Item::Scan { .. }
        | Item::Shift { .. }
        | Item::Store(..)
        | Item::Fold { .. }
        | Item::Spread(..)
        | Item::SpreadAt { .. }
        | Item::Sweep(_) => None,
    });
    let known: HashMap<V, f64> = of
        .head
        .iter()
        .copied()
        .chain(body)
        .filter_map(|(v, op)| if let Op::Const(x) = op { Some((v, x)) } else { None })
        .collect();
    sweep.inputs().iter().map(|v| known.get(v).copied()).collect()
}

/// What compiled code calls: [`SweepCode::run`]; gives 0.
///
/// # Safety
///
/// `code` is that of the sweep, with as many `inputs` and `results` as it has; the rest as there.
pub(super) unsafe extern "C" fn call(
    code: *mut SweepCode,
    table: *const *mut u8,
    inputs: *const f64,
    results: *mut f64,
    vocab: i64,
    row: i64,
) -> f64 {
    // SAFETY: as promised by the caller; nothing else uses the code meanwhile.
    unsafe {
        let code = &mut *code;
        let inputs = std::slice::from_raw_parts(inputs, code.inputs);
        let results = std::slice::from_raw_parts_mut(results, code.results);
        code.run(table, (row as usize, vocab as usize), inputs, results);
    }
    0.0
}

/// Registers and row numbers while a sweep is translated.
struct Build<'a> {
    lies: &'a dyn Fn(SlotId) -> (Float, bool),
    args: HashMap<V, Arg>,
    /// The last operator that reads each value; none: until the end.
    last: HashMap<V, usize>,
    held: Vec<(u16, V)>,
    free: Vec<u16>,
    columns: Vec<Column>,
    constants: Vec<f64>,
    /// Constants come after the inputs, whose number is known at the end.
    constant_base: usize,
    registers: usize,
    /// Folds over n-th entries so far.
    nth: u16,
}

impl<'a> Build<'a> {
    fn new(sweep: &Sweep, lies: &'a dyn Fn(SlotId) -> (Float, bool)) -> Self {
        let inputs = sweep.inputs();
        let mut last: HashMap<V, usize> = HashMap::new();
        for (at, (_, op)) in sweep.body.iter().enumerate() {
            last.extend(op.operands().map(|v| (v, at)));
        }
        for v in sweep.read_at_end() {
            last.insert(v, usize::MAX);
        }
        let args = inputs.iter().enumerate().map(|(i, v)| (*v, Arg::Row(i as u16))).collect();
        let constant_base = inputs.len();
        Build {
            lies,
            args,
            last,
            held: Vec::new(),
            free: Vec::new(),
            columns: Vec::new(),
            constants: Vec::new(),
            constant_base,
            registers: 0,
            nth: 0,
        }
    }

    fn arg(&self, v: V) -> Arg {
        // Every operand is an input or was defined before.
        self.args.get(&v).copied().unwrap_or(Arg::Row(0))
    }

    /// A register for v: never one that the same operator reads.
    fn register(&mut self, v: V) -> u16 {
        let into = self.free.pop().unwrap_or_else(|| {
            self.registers += 1;
            (self.registers - 1) as u16
        });
        self.args.insert(v, Arg::Block(into));
        self.held.push((into, v));
        into
    }

    fn op(&mut self, v: V, op: Op, at: usize) -> Option<Code> {
        let code = match op {
            Op::Const(x) => {
                let number = (self.constant_base + self.constants.len()) as u16;
                self.constants.push(x);
                self.args.insert(v, Arg::Row(number));
                return None;
            }
            Op::Entry(slot) => {
                let known = self.columns.iter().position(|c| c.slot == slot);
                let column = known.unwrap_or_else(|| {
                    let (float, scratch) = (self.lies)(slot);
                    self.columns.push(Column { slot, float, scratch });
                    self.columns.len() - 1
                });
                Code::Entry { into: self.register(v), column: column as u16 }
            }
            Op::EntryIndex => Code::Index { into: self.register(v) },
            Op::Unary(op, x) => {
                let x = self.arg(x);
                Code::Unary { op, into: self.register(v), x }
            }
            Op::Binary(op, a, b) => {
                let (a, b) = (self.arg(a), self.arg(b));
                Code::Binary { op, into: self.register(v), a, b }
            }
            Op::Select(c, a, b) => {
                let (c, a, b) = (self.arg(c), self.arg(a), self.arg(b));
                Code::Select { into: self.register(v), c, a, b }
            }
            // The verifier has these in rows only.
            Op::Load(_)
            | Op::Parent(_)
            | Op::Whole(_)
            | Op::Indexed(..)
            | Op::RowOf(_)
            | Op::EntryAt(..)
            | Op::InRow(_) => return None,
        };
        // What is read here for the last time gives its register to the next operator.
        let (last, free) = (&self.last, &mut self.free);
        self.held.retain(|(register, held)| {
            let dead = last.get(held).is_none_or(|l| *l <= at);
            if dead {
                free.push(*register);
            }
            !dead
        });
        Some(code)
    }

    fn fold(&mut self, fold: &EntryFold) -> Fold {
        match fold {
            EntryFold::Nth { x, n, .. } => {
                self.nth += 1;
                Fold::Nth { x: self.arg(*x), n: self.arg(*n), scratch: self.nth - 1 }
            }
            EntryFold::Plain { op, x, .. } => Fold::Plain { op: *op, x: self.arg(*x) },
            EntryFold::LogSumExp { x, means, .. } => Fold::LogSumExp {
                x: self.arg(*x),
                means: means
                    .iter()
                    .map(|m| Mean {
                        f: self.arg(m.f),
                        filter: m.filter.map(|f| self.arg(f)),
                        guard: m.guard,
                    })
                    .collect(),
            },
        }
    }
}
