//! Loops over rows, a block of rows at a time.
//!
//! ```text
//! code      a loop as straight code; none where a row waits for another or for a sweep
//! simplify  that code with fewer operators
//! vector    that code as machine code for AVX-512, eight rows at a time
//! plain     that code an operator at a time, on every machine and for every operator
//! ```
//!
//! Rows run in segments: those within one row of the finest coarser level that the loop reads or folds into. What belongs
//! to the segment is computed once, and a fold's lanes are added to memory once for each row that is folded into. Row i of
//! a segment is folded into lane i modulo [`LANES`] and lanes are added up in order, so both ways give the same bits on
//! every machine.
#![allow(clippy::cast_ptr_alignment, reason = "every array is aligned as its elements are")]

pub(super) mod code;
pub(super) mod math;
mod plain;
mod simplify;
mod vector;
mod x64;

use std::ops::Range;

use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Linkage, Module, default_libcall_names};
use rlc_compiler::level::{BATCH, Level};
use rlc_compiler::loops::{Loop, Plan, SlotId};
use rlc_compiler::shape::Shape;

use super::code::isa;
use super::rows::Width;
use crate::device::DeviceError;
use code::{Code, Number};

/// Lanes that folds are laid out in, whatever the machine.
const LANES: usize = 8;

/// Segments shorter than this many rows on average are left to the scalar code.
pub(super) const SHORT: usize = 8;

/// The lanes of one fold, or as many constants.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Lanes([f64; LANES]);

/// Segments whose numbers are computed one after the other, so that little comes between their rows.
const TOGETHER: usize = 32;

/// Numbers of [`TOGETHER`] segments.
#[derive(Debug, Default)]
struct Numbers {
    all: Vec<f64>,
    /// Numbers of a segment.
    count: usize,
}

impl Numbers {
    fn resize(&mut self, count: usize) {
        self.count = count;
        self.all.resize(count * TOGETHER, 0.0);
    }

    fn of(&self, segment: usize) -> &[f64] {
        &self.all[segment * self.count..][..self.count]
    }

    fn of_mut(&mut self, segment: usize) -> &mut [f64] {
        &mut self.all[segment * self.count..][..self.count]
    }
}

/// How the numbers of an array lie in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    F64,
    F32,
    I64,
    U8,
}

impl Element {
    fn bytes(self) -> usize {
        match self {
            Element::F64 | Element::I64 => 8,
            Element::F32 => 4,
            Element::U8 => 1,
        }
    }

    /// The number at `row`.
    ///
    /// # Safety
    ///
    /// `data` has such elements, that many and one more, aligned.
    unsafe fn at(self, data: *const u8, row: usize) -> f64 {
        // SAFETY: as promised by the caller.
        unsafe {
            match self {
                Element::F64 => *data.cast::<f64>().add(row),
                Element::F32 => f64::from(*data.cast::<f32>().add(row)),
                Element::I64 => *data.cast::<i64>().add(row) as f64,
                Element::U8 => f64::from(*data.add(row)),
            }
        }
    }
}

/// A column that is read at rows of a number, and its rows.
type Gather = (*const u8, Element, usize);

/// Rows of one segment, with everything that they read and write.
struct Rows<'a> {
    range: Range<usize>,
    columns: &'a [(*const u8, Element)],
    gathers: &'a [Gather],
    stores: &'a [*mut f64],
    /// What is folded into by number, and its rows.
    scatters: &'a [(*mut f64, usize)],
    numbers: &'a [f64],
}

type Entry =
    unsafe extern "sysv64" fn(*const *mut u8, *const f64, *mut Lanes, usize, usize, *mut Lanes);

/// Machine code, loaded.
struct Machine {
    constants: Vec<Lanes>,
    entry: Entry,
    /// Owns the code; none only while it is dropped.
    module: Option<JITModule>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(module) = self.module.take() {
            // SAFETY: the entry is called through this machine only, which is being dropped.
            unsafe { module.free_memory() };
        }
    }
}

/// A loop that can run by blocks, with its memory.
pub(super) struct Block {
    code: Code,
    registers: plain::Registers,
    width: Width,
    machine: Option<Machine>,
    /// The column types for which there is machine code, or for which there cannot be any.
    compiled_for: Option<Vec<Element>>,
    /// This batch is run by blocks.
    on: bool,
    /// Number types of the columns, in this batch, and of what segments read.
    elements: Vec<Element>,
    numbers: Numbers,
    folds: Vec<Lanes>,
    /// The row that each fold's lanes are of.
    rows: Vec<Option<usize>>,
    segments: Segments,
    memory: Vec<f64>,
    room: Vec<Lanes>,
    pointers: Vec<*mut u8>,
    columns: Vec<(*const u8, Element)>,
    gathers: Vec<Gather>,
    stores: Vec<*mut f64>,
    scatters: Vec<(*mut f64, usize)>,
}

/// What a segment's numbers and folds belong to, looked up once for all segments.
#[derive(Debug)]
struct Segments {
    /// The batch, then coarser levels.
    levels: Vec<Level>,
    /// Rows of these levels that the segment's rows lie in, for each row of the segments' level; none of the batch and of
    /// that level itself.
    parents: Vec<*const u32>,
    /// The present segment's row of each level.
    at: Vec<usize>,
    /// Of each number and of each fold, by position in `levels`.
    numbers: Vec<usize>,
    folds: Vec<usize>,
    /// Where numbers are read.
    sources: Vec<(*const u8, Element)>,
    /// Numbers that are computed once, and for each segment.
    once: Vec<usize>,
    each: Vec<usize>,
}

impl Segments {
    fn new(code: &Code) -> Segments {
        let mut levels = vec![BATCH];
        let mut place = |level| {
            levels.iter().position(|l| *l == level).unwrap_or_else(|| {
                levels.push(level);
                levels.len() - 1
            })
        };
        let level = |number: &Number| match *number {
            Number::Parent(_, level) | Number::RowOf(level) | Number::First(level) => level,
            Number::Const(_)
            | Number::Whole(_)
            | Number::Unary(..)
            | Number::Binary(..)
            | Number::Select(..) => BATCH,
        };
        let numbers = code.numbers.iter().map(|n| place(level(n))).collect();
        let folds = code.folds.iter().map(|f| place(f.level)).collect();
        let computed = |when| (0..code.numbers.len()).filter(move |n| code.when[*n] == when);
        Segments {
            parents: Vec::new(),
            at: vec![0; levels.len()],
            levels,
            numbers,
            folds,
            sources: Vec::new(),
            once: computed(code::When::Once).collect(),
            each: computed(code::When::Segment).collect(),
        }
    }

    /// Looks up what segments, rows of `own`, belong to.
    fn begin(&mut self, own: Option<Level>, shape: &Shape) {
        self.parents.clear();
        self.parents.extend(self.levels.iter().map(|level| match own {
            Some(own) if *level != BATCH && *level != own => {
                // Levels of the same rows have no parents.
                let parents = shape.parents(*level, own);
                if parents.is_empty() { std::ptr::null() } else { parents.as_ptr() }
            }
            _ => std::ptr::null(),
        }));
        self.at.fill(0);
    }

    /// Goes to a row of the segments' level.
    ///
    /// # Safety
    ///
    /// The shape of [`Segments::begin`] has the row.
    unsafe fn go_to(&mut self, row: usize) {
        for (at, parents) in self.at.iter_mut().zip(&self.parents).skip(1) {
            // SAFETY: there is a parent for each row of the level.
            *at = if parents.is_null() { row } else { unsafe { *parents.add(row) as usize } };
        }
    }
}

// SAFETY: the pointers mean something only while `run` runs, which has the block to itself.
unsafe impl Send for Block {}

impl Block {
    /// The block of a loop, if it can be one.
    pub(super) fn new(plan: &Plan, of: &Loop) -> Option<Block> {
        let code = code::code(plan, of)?;
        let registers = plain::Registers::new(&code);
        Some(Block {
            registers,
            width: Width::widest(),
            machine: None,
            compiled_for: None,
            on: false,
            elements: Vec::new(),
            numbers: Numbers::default(),
            folds: Vec::new(),
            rows: Vec::new(),
            segments: Segments::new(&code),
            memory: Vec::new(),
            room: Vec::new(),
            pointers: Vec::new(),
            columns: Vec::new(),
            gathers: Vec::new(),
            stores: Vec::new(),
            scatters: Vec::new(),
            code,
        })
    }

    /// Runs it with other vector instructions; with those of every machine, where this one lacks them.
    pub(super) fn set_width(&mut self, width: Width) {
        self.width = width.or_portable();
    }

    /// Decides whether this batch goes by blocks: not where segments have fewer than `short` rows on average.
    pub(super) fn choose(&mut self, shape: &Shape, short: usize) {
        let rows = shape.count(self.code.level);
        self.on = match self.code.segment {
            None => rows >= short,
            // Levels of the same rows have no starts: each row is its own segment.
            Some(level) => {
                let starts = shape.starts(level, self.code.level);
                starts.len() > 1 && rows >= short.saturating_mul(starts.len() - 1)
            }
        };
    }

    /// Whether it runs this batch.
    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    /// Gets ready for columns of the given types. Compiles only where types have changed.
    pub(super) fn prepare(
        &mut self,
        element: &dyn Fn(SlotId) -> Element,
    ) -> Result<(), DeviceError> {
        let code = &self.code;
        self.elements.clear();
        self.elements.extend(code.columns.iter().map(|c| element(*c)));
        let vector = self.width == Width::Avx512 && vector::available();
        if !vector {
            self.machine = None;
            self.compiled_for = None;
        } else if self.compiled_for.as_ref() != Some(&self.elements) {
            self.machine = match vector::machine(code, &self.elements) {
                Some(machine) => Some(loaded(machine)?),
                None => None,
            };
            self.compiled_for = Some(self.elements.clone());
        }
        self.numbers.resize(code.numbers.len());
        // One more, for the counts.
        self.folds.resize(code.folds.len() + 1, Lanes([0.0; LANES]));
        if self.machine.is_some() {
            self.room.resize(code.values.len() * vector::COPIES, Lanes([0.0; LANES]));
        } else {
            self.memory.resize(self.registers.room(), 0.0);
        }
        Ok(())
    }

    /// Runs rows `range` of the loop's level.
    ///
    /// # Safety
    ///
    /// `table` has an entry for every slot of the plan, each valid for every row of the shape, in the type that
    /// `element` gives as it did for `prepare`; what is stored and folded into is f64 and no one else's.
    pub(super) unsafe fn run(
        &mut self,
        table: &[*mut u8],
        element: &dyn Fn(SlotId) -> Element,
        shape: &Shape,
        range: Range<usize>,
    ) {
        if range.is_empty() {
            return;
        }
        let of = |slot: SlotId| table[slot.index()];
        let code = &self.code;
        self.columns.clear();
        let columns = code.columns.iter().zip(&self.elements);
        self.columns.extend(columns.map(|(c, e)| (of(*c).cast_const(), *e)));
        self.gathers.clear();
        let gathers = code.gathers.iter();
        self.gathers
            .extend(gathers.map(|(c, l)| (of(*c).cast_const(), element(*c), shape.count(*l))));
        self.scatters.clear();
        let scatters = code.scatters.iter();
        self.scatters.extend(scatters.map(|s| (of(s.into).cast::<f64>(), shape.count(s.level))));
        self.stores.clear();
        self.stores.extend(code.stores.iter().map(|s| of(s.0).cast::<f64>()));
        self.pointers.clear();
        self.pointers.extend(code.columns.iter().map(|c| of(*c)));
        self.pointers.extend(code.stores.iter().map(|s| of(s.0)));
        let constants = self.machine.iter().map(|m| m.constants.as_ptr().cast_mut().cast::<u8>());
        self.pointers.extend(constants);
        for (lanes, fold) in self.folds.iter_mut().zip(&code.folds) {
            *lanes = Lanes([fold.op.identity(); LANES]);
        }
        self.rows.clear();
        self.rows.resize(code.folds.len(), None);
        let segments = &mut self.segments;
        segments.begin(code.segment, shape);
        segments.sources.clear();
        segments.sources.extend(code.numbers.iter().map(|number| match *number {
            Number::Whole(slot) | Number::Parent(slot, _) => (of(slot).cast_const(), element(slot)),
            _ => (std::ptr::null(), Element::F64),
        }));
        // SAFETY: every slot that numbers read has these rows, in its type.
        unsafe { self.count(code::When::Once, shape, 0) };
        match self.code.segment {
            // SAFETY: as promised by the caller.
            None => unsafe { self.segment(table, 0, range) },
            Some(level) => {
                let parents = shape.parents(level, self.code.level);
                let starts = shape.starts(level, self.code.level);
                let mut next = parents[range.start] as usize;
                let end = parents[range.end - 1] as usize + 1;
                self.repeat_numbers(end - next);
                while next < end {
                    let some = next..end.min(next + TOGETHER);
                    next = some.end;
                    for (n, row) in some.clone().enumerate() {
                        // SAFETY: the shape has this row of the segments' level, and so have the slots.
                        unsafe {
                            self.segments.go_to(row);
                            self.count(code::When::Segment, shape, n);
                        }
                    }
                    for (n, row) in some.enumerate() {
                        let first = (starts[row] as usize).max(range.start);
                        let end = (starts[row + 1] as usize).min(range.end);
                        if first < end {
                            // SAFETY: as promised by the caller; the rows lie in this row of the segments' level.
                            unsafe {
                                self.segments.go_to(row);
                                self.segment(table, n, first..end);
                            }
                        }
                    }
                }
            }
        }
        for fold in 0..self.code.folds.len() {
            // SAFETY: as promised by the caller.
            unsafe { self.put(table, fold) };
        }
    }

    /// Gives the numbers of the batch to so many segments.
    fn repeat_numbers(&mut self, segments: usize) {
        let count = self.numbers.count;
        for n in 1..segments.min(TOGETHER) {
            self.numbers.all.copy_within(..count, n * count);
        }
    }

    /// Computes numbers of one of [`TOGETHER`] segments: those of the batch, or those of the present row.
    ///
    /// # Safety
    ///
    /// What [`Segments`] looked up is that of the present batch, and the row is one of it.
    unsafe fn count(&mut self, when: code::When, shape: &Shape, segment: usize) {
        let Segments { at, numbers, sources, once, each, .. } = &self.segments;
        let into = self.numbers.of_mut(segment);
        for n in if when == code::When::Once { once } else { each } {
            let known = |i: u16| into[usize::from(i)];
            let row = at[numbers[*n]];
            let number = match self.code.numbers[*n] {
                Number::Const(c) => c,
                Number::Whole(_) | Number::Parent(..) => {
                    let (data, element) = sources[*n];
                    // SAFETY: as promised by the caller.
                    unsafe { element.at(data, row) }
                }
                Number::RowOf(_) => row as f64,
                Number::First(level) => f64::from(shape.starts(level, self.code.level)[row]),
                Number::Unary(op, x) => math::unary(op, known(x)),
                Number::Binary(op, a, b) => math::binary(op, known(a), known(b)),
                Number::Select(c, a, b) => known(if known(c) == 0.0 { b } else { a }),
            };
            into[*n] = number;
        }
    }

    /// Runs rows that lie in one segment, the n-th whose numbers there are.
    unsafe fn segment(&mut self, table: &[*mut u8], n: usize, range: Range<usize>) {
        for at in 0..self.rows.len() {
            let row = self.segments.at[self.segments.folds[at]];
            if self.rows[at] != Some(row) {
                // SAFETY: as promised by the caller.
                unsafe { self.put(table, at) };
                self.rows[at] = Some(row);
            }
        }
        let (code, rows) = (&self.code, range.len());
        let numbers = self.numbers.of(n);
        let finite = code.factors.iter().all(|n| numbers[usize::from(*n)].is_finite());
        if let (Some(machine), true) = (&self.machine, finite) {
            // SAFETY: the code was compiled for these columns; all have the rows, and there is room for each value.
            unsafe {
                (machine.entry)(
                    self.pointers.as_ptr(),
                    numbers.as_ptr(),
                    self.folds.as_mut_ptr(),
                    range.start,
                    range.end,
                    self.room.as_mut_ptr(),
                );
            }
            self.add_counted(n, rows);
            return;
        }
        self.memory.resize(self.registers.room(), 0.0);
        let count = range.len();
        let rows = Rows {
            range,
            columns: &self.columns,
            gathers: &self.gathers,
            stores: &self.stores,
            scatters: &self.scatters,
            numbers,
        };
        let (memory, folds) = (&mut self.memory, &mut self.folds);
        // SAFETY: the width was detected on this machine; the columns have the rows.
        unsafe { plain::run(self.width, code, &self.registers, &rows, memory, folds) };
        self.add_counted(n, count);
    }

    /// Adds numbers of the n-th segment to folds, each for as many of its `all` rows as count.
    fn add_counted(&mut self, n: usize, all: usize) {
        let counts = self.code.folds.len();
        for counted in &self.code.counted {
            let rows =
                counted.count.map_or(all as u64, |c| self.folds[counts].0[c as usize].to_bits());
            // Of no rows nothing is added, not even where the number is infinite.
            if rows > 0 {
                let sum = self.numbers.of(n)[usize::from(counted.number)] * rows as f64;
                let less = self.code.folds[counted.fold as usize].less;
                self.folds[counted.fold as usize].0[0] += if less { -sum } else { sum };
            }
        }
    }

    /// Adds the lanes of a fold to the row that they are of, and empties them.
    unsafe fn put(&mut self, table: &[*mut u8], at: usize) {
        let Some(row) = self.rows[at].take() else { return };
        let fold = &self.code.folds[at];
        let lanes = std::mem::replace(&mut self.folds[at], Lanes([fold.op.identity(); LANES]));
        let total = lanes.0[1..].iter().fold(lanes.0[0], |a, b| math::fold(fold.op, a, *b));
        // SAFETY: the slot has this row, of f64.
        unsafe {
            let into = table[fold.into.index()].cast::<f64>().add(row);
            *into = math::fold(fold.op, *into, total);
        }
    }
}

fn loaded(code: vector::Machine) -> Result<Machine, DeviceError> {
    let failed = |e: String| DeviceError::Compile(e);
    let builder = JITBuilder::with_isa(isa()?, default_libcall_names());
    let mut module = JITModule::new(builder);
    let signature = module.make_signature();
    let id = module
        .declare_function("block", Linkage::Local, &signature)
        .map_err(|e| failed(e.to_string()))?;
    module.define_function_bytes(id, 64, &code.bytes, &[]).map_err(|e| failed(e.to_string()))?;
    module.finalize_definitions().map_err(|e| failed(e.to_string()))?;
    let pointer = module.get_finalized_function(id);
    // SAFETY: `vector::machine` gives code of this signature.
    let entry = unsafe { std::mem::transmute::<*const u8, Entry>(pointer) };
    let constants = code.constants.chunks(LANES);
    let constants = constants
        .map(|x| Lanes(std::array::from_fn(|i| x.get(i).copied().unwrap_or(0.0))))
        .collect();
    Ok(Machine { constants, entry, module: Some(module) })
}
