//! The live stage of a plan on a device: memory, and launches in order.

use std::collections::BTreeMap;
use std::ops::Range;

use rlc_compiler::clif::Float;
use rlc_compiler::cuda::{Arg, Grid, Module, PARTS, ROWS, Work};
use rlc_compiler::hir::ColumnId;
use rlc_compiler::level::{Level, TOKEN};
use rlc_compiler::loops::{Call, Plan, Slot, SlotId, SlotKind, Step};
use rlc_compiler::shape::Shape;

use super::graphs::{Graphs, Launched, List, Next};
use super::{Device, Floats};
use crate::device::{DeviceError, Outside, float_of};

/// The live stage somewhere else than on the CPU. Tables have a pointer per slot to the host's memory.
pub trait LiveStage: Send {
    /// Takes over a batch once the recorded stage has run: copies what the live stage reads.
    ///
    /// # Safety
    ///
    /// `table` points to the memory of each slot that is not vocab level: f64, u32 for parents and starts.
    unsafe fn begin(
        &mut self,
        plan: &Plan,
        shape: &Shape,
        table: &[*mut u8],
    ) -> Result<(), DeviceError>;

    /// Runs rows `rows` of the plan's piece level; `call` runs a [`Step::Call`] on the host's memory.
    ///
    /// # Safety
    ///
    /// As for `begin`; vocab-level slots have a row per token of the piece, of their number type, unless they lie
    /// on the device.
    unsafe fn piece(
        &mut self,
        plan: &Plan,
        shape: &Shape,
        rows: Range<usize>,
        table: &[*mut u8],
        outside: Outside<'_>,
        call: &mut dyn FnMut(&Call, Range<usize>),
    ) -> Result<(), DeviceError>;

    /// Gives back what the live stage has written, once all pieces have run.
    ///
    /// # Safety
    ///
    /// As for `begin`.
    unsafe fn end(
        &mut self,
        plan: &Plan,
        shape: &Shape,
        table: &[*mut u8],
    ) -> Result<(), DeviceError>;

    /// What has been launched so far.
    fn launched(&self) -> Launched;
}

/// Bytes of a slot that is not vocab level.
fn bytes(plan: &Plan, shape: &Shape, slot: SlotId) -> usize {
    let Slot { level, kind, .. } = *plan.slot(slot);
    let rows = shape.count(level);
    match kind {
        SlotKind::Column(_) | SlotKind::Side(_) | SlotKind::Stored | SlotKind::Folded(_) => {
            rows * 8
        }
        SlotKind::Param(_) => 8,
        SlotKind::Carried(numbers) => rows * numbers * 8,
        SlotKind::Parents(_) => rows * 4,
        SlotKind::Starts(_) => (rows + 1) * 4,
        // A kernel keeps what a shift holds to itself.
        SlotKind::Ring(_) | SlotKind::Scratch(_) | SlotKind::Entries(_) | SlotKind::Gradient(_) => {
            0
        }
    }
}

/// The rows of a level that a piece has, or has a part of.
fn rows_of(plan: &Plan, shape: &Shape, rows: &Range<usize>, level: Level) -> Range<usize> {
    let coarser = level != plan.piece && plan.levels.contains(level, plan.piece);
    if !coarser {
        return shape.range(plan.piece, rows.clone(), level);
    }
    let parents = shape.parents(level, plan.piece);
    match (rows.is_empty(), parents.get(rows.start), parents.get(rows.end.wrapping_sub(1))) {
        (false, Some(&first), Some(&last)) => first as usize..last as usize + 1,
        // The batch has one row.
        (false, ..) => 0..1,
        (true, ..) => 0..0,
    }
}

/// Memory that grows.
struct Room<M> {
    memory: M,
    address: u64,
    bytes: usize,
}

/// How many blocks work on vocab rows at a time.
#[derive(Debug, Clone, Copy)]
pub struct Blocks {
    /// At least so many, if there are as many rows.
    pub least: u32,
    /// At most so many.
    pub most: u32,
    /// Bytes of the device's cache that their rows may take: the sweep that writes the gradient then reads the row
    /// there and not from memory.
    pub cache: usize,
}

impl Blocks {
    /// For rows of so many bytes each.
    fn of(self, row: usize) -> u32 {
        let fit = u32::try_from(self.cache / row.max(1)).unwrap_or(u32::MAX);
        fit.clamp(self.least, self.most.max(self.least))
    }
}

/// The live stage on a device.
pub struct Live<D: Device> {
    /// First, so that it goes before what it was captured from.
    graphs: Graphs<D::Graph>,
    device: D,
    module: Module,
    /// Launches that the device does not know of yet, and the bytes that they touch.
    list: List,
    touched: usize,
    /// Threads of a block that shares a row.
    threads: u32,
    blocks: Blocks,
    memory: BTreeMap<Key, Room<D::Memory>>,
    /// Every argument of the module's launches, once.
    args: Vec<Arg>,
    /// Number types of vocab-level columns, and of their gradients.
    floats: Vec<(ColumnId, Float)>,
    gradients: Vec<(ColumnId, Float)>,
    /// Slots of the present piece whose memory is not kept here.
    away: BTreeMap<SlotId, u64>,
}

/// What a memory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Slot(SlotId),
    Part(u16),
    Partials,
    Starts(Level, Level),
}

impl<D: Device> Live<D> {
    /// Kernels that the device has loaded.
    ///
    /// `threads` share a vocab row, a multiple of 32 up to 1,024. With `graphs` short launches that come again go as one.
    pub fn new(
        device: D,
        module: Module,
        floats: &Floats<'_>,
        threads: u32,
        blocks: Blocks,
        graphs: bool,
    ) -> Self {
        let mut args: Vec<Arg> = Vec::new();
        for arg in module.launches().flat_map(|l| &l.args) {
            if !args.contains(arg) {
                args.push(*arg);
            }
        }
        let (memory, away) = (BTreeMap::new(), BTreeMap::new());
        let (floats, gradients) = (floats.entries.to_vec(), floats.gradients.to_vec());
        let (graphs, list) = (Graphs::new(graphs), List::default());
        Live {
            graphs,
            device,
            module,
            list,
            touched: 0,
            threads,
            blocks,
            memory,
            args,
            floats,
            gradients,
            away,
        }
    }

    fn room(&mut self, key: Key, bytes: usize) -> Result<(), DeviceError> {
        let enough = self.memory.get(&key).is_some_and(|r| r.bytes >= bytes);
        if !enough {
            // The old one goes first: both may not fit. Graphs may know its address.
            self.graphs.clear();
            self.memory.remove(&key);
            let memory = self.device.alloc(bytes)?;
            let address = self.device.address(&memory);
            self.memory.insert(key, Room { memory, address, bytes });
        }
        Ok(())
    }

    fn write(&mut self, key: Key, bytes: &[u8]) -> Result<(), DeviceError> {
        self.room(key, bytes.len())?;
        match self.memory.get_mut(&key) {
            Some(room) => self.device.write(&mut room.memory, bytes),
            None => Ok(()),
        }
    }

    /// Copies a slot from the host.
    ///
    /// # Safety
    ///
    /// The table points to as many bytes.
    unsafe fn take(
        &mut self,
        slot: SlotId,
        table: &[*mut u8],
        bytes: usize,
    ) -> Result<(), DeviceError> {
        if bytes == 0 {
            return self.room(Key::Slot(slot), 0);
        }
        // SAFETY: as promised by the caller.
        let from = unsafe { std::slice::from_raw_parts(table[slot.index()], bytes) };
        self.write(Key::Slot(slot), from)
    }

    /// Copies a slot to the host, if the device has it.
    ///
    /// # Safety
    ///
    /// The table points to as many bytes, which nobody else uses.
    unsafe fn give(
        &mut self,
        slot: SlotId,
        table: &[*mut u8],
        bytes: usize,
    ) -> Result<(), DeviceError> {
        match self.memory.get(&Key::Slot(slot)) {
            Some(room) if bytes > 0 => {
                // SAFETY: as promised by the caller.
                let to = unsafe { std::slice::from_raw_parts_mut(table[slot.index()], bytes) };
                self.device.read(&room.memory, to)
            }
            _ => Ok(()),
        }
    }

    /// Vocab-level slots that the launches touch, with the bytes that a piece of so many tokens takes.
    fn outside(&self, plan: &Plan, numbers: usize) -> Vec<(SlotId, SlotKind, usize)> {
        let of = |arg: Arg| {
            let Arg::Slot(slot) = arg else { return None };
            let kind = plan.slot(slot).kind;
            let float = match kind {
                SlotKind::Entries(column) => float_of(&self.floats, column),
                SlotKind::Gradient(column) => float_of(&self.gradients, column),
                _ => return None,
            };
            Some((slot, kind, numbers * float.bytes()))
        };
        self.args.iter().copied().filter_map(of).collect()
    }

    /// Notes a launch for [`Live::flush`].
    fn queue(
        &mut self,
        plan: &Plan,
        (step, at): (usize, usize),
        shape: &Shape,
        of: &dyn Fn(Level) -> Range<usize>,
    ) {
        let Work::Launches(launches) = &self.module.steps[step] else { return };
        let launch = &launches[at];
        let slots = || {
            let slot = |arg: &Arg| if let Arg::Slot(slot) = arg { Some(*slot) } else { None };
            launch.args.iter().filter_map(slot).map(|slot| plan.slot(slot))
        };
        // Bytes of a row of vocab-level memory.
        let row = |slot: &Slot| match slot.kind {
            SlotKind::Entries(c) => float_of(&self.floats, c).bytes() * shape.vocab,
            SlotKind::Gradient(c) => float_of(&self.gradients, c).bytes() * shape.vocab,
            _ => 0,
        };
        let (blocks, threads) = match launch.grid {
            Grid::Threads(level) => (of(level).len().div_ceil(ROWS as usize) as u32, ROWS),
            Grid::Warps(level) => ((of(level).len() * 32).div_ceil(ROWS as usize) as u32, ROWS),
            Grid::Blocks(level) => {
                let read = |slot: &&Slot| matches!(slot.kind, SlotKind::Entries(_));
                let blocks = self.blocks.of(slots().filter(read).map(row).sum());
                ((of(level).len() as u32).min(blocks), self.threads)
            }
            Grid::Fixed(blocks) => (blocks, ROWS),
        };
        if blocks == 0 {
            return;
        }
        let below = |slot: &Slot| of(slot.level).len() * 8;
        let touched = |slot| match row(slot) {
            0 => below(slot),
            row => of(TOKEN).len() * row,
        };
        self.touched += slots().map(touched).sum::<usize>();
        let address = |key: Key| self.memory.get(&key).map_or(0, |room| room.address);
        let value = |arg: &Arg| match *arg {
            Arg::Slot(slot) => {
                self.away.get(&slot).copied().unwrap_or_else(|| address(Key::Slot(slot)))
            }
            Arg::Part(n, _) => address(Key::Part(n)),
            Arg::Partials => address(Key::Partials),
            Arg::Starts(coarse, fine) => address(Key::Starts(coarse, fine)),
            Arg::Begin(level) => of(level).start as u64,
            Arg::End(level) => of(level).end as u64,
            Arg::Count(level) => shape.count(level) as u64,
            Arg::Vocab => shape.vocab as u64,
            Arg::Base => of(TOKEN).start as u64,
        };
        self.list.push((step, at), (blocks, threads), launch.args.iter().map(value));
    }

    /// Launches what was noted, as one where it came before.
    fn flush(&mut self) -> Result<(), DeviceError> {
        let launches = || self.list.launches(&self.module);
        // SAFETY: the compiler listed these arguments with the kernels; memory was sized for the whole
        // batch by `begin`, and vocab-level memory for the piece by `piece`. A graph has the arguments of this very list.
        let done = unsafe {
            match self.graphs.next(&self.list, self.touched) {
                Next::Each => launches().iter().try_for_each(|launch| self.device.launch(*launch)),
                Next::Replay(graph) => self.device.replay(graph),
                Next::Capture => self.device.capture(&launches()).and_then(|graph| {
                    let done = self.device.replay(&graph);
                    self.graphs.keep(&self.list, graph);
                    done
                }),
            }
        };
        self.list.clear();
        self.touched = 0;
        done
    }
}

impl<D: Device + Send> LiveStage for Live<D>
where
    D::Memory: Send,
    D::Graph: Send,
{
    unsafe fn begin(
        &mut self,
        plan: &Plan,
        shape: &Shape,
        table: &[*mut u8],
    ) -> Result<(), DeviceError> {
        // Kernels count the entries of a row in 32 bits.
        if i32::try_from(shape.vocab).is_err() {
            let said =
                format!("a GPU takes rows of up to {} entries, not {}", i32::MAX, shape.vocab);
            return Err(DeviceError::Cuda(said));
        }
        for at in 0..self.args.len() {
            match self.args[at] {
                Arg::Slot(slot) => match plan.slot(slot).kind {
                    SlotKind::Entries(_) | SlotKind::Gradient(_) => {}
                    SlotKind::Scratch(numbers) => {
                        let bytes = numbers * shape.vocab * 8 * self.blocks.most as usize;
                        self.room(Key::Slot(slot), bytes)?;
                    }
                    // SAFETY: the caller's table has as many bytes.
                    _ => unsafe { self.take(slot, table, bytes(plan, shape, slot))? },
                },
                Arg::Part(n, level) => self.room(Key::Part(n), shape.count(level) * 8)?,
                Arg::Partials => self.room(Key::Partials, 16 * PARTS as usize)?,
                Arg::Starts(coarse, fine) => {
                    let starts = shape.starts(coarse, fine);
                    let starts: Vec<u8> = starts.iter().flat_map(|s| s.to_ne_bytes()).collect();
                    self.write(Key::Starts(coarse, fine), &starts)?;
                }
                Arg::Begin(_) | Arg::End(_) | Arg::Count(_) | Arg::Vocab | Arg::Base => {}
            }
        }
        Ok(())
    }

    unsafe fn piece(
        &mut self,
        plan: &Plan,
        shape: &Shape,
        rows: Range<usize>,
        table: &[*mut u8],
        outside: Outside<'_>,
        call: &mut dyn FnMut(&Call, Range<usize>),
    ) -> Result<(), DeviceError> {
        let of = |level: Level| rows_of(plan, shape, &rows, level);
        let numbers = of(TOKEN).len() * shape.vocab;
        let touched = self.outside(plan, numbers);
        self.away.clear();
        for &(slot, kind, bytes) in &touched {
            let (column, entries) = match kind {
                SlotKind::Entries(column) => (column, true),
                SlotKind::Gradient(column) => (column, false),
                _ => continue,
            };
            if let Some((_, of)) = outside.resident.iter().find(|r| r.0 == column) {
                self.away.insert(slot, if entries { of.entries } else { of.gradient });
            } else if entries {
                // SAFETY: the caller's table has a row for each token of the piece.
                unsafe { self.take(slot, table, bytes)? };
            } else if outside.over != Some(column) {
                self.room(Key::Slot(slot), bytes)?;
            }
        }
        // The host's entries that a gradient is written over.
        let over = outside.over.and_then(|column| {
            let slot = |kind| touched.iter().find(|t| t.1 == kind).map(|t| t.0);
            Some((slot(SlotKind::Entries(column))?, slot(SlotKind::Gradient(column))?))
        });
        if let Some((entries, gradient)) = over {
            let room = self.memory.get(&Key::Slot(entries));
            self.away.insert(gradient, room.map_or(0, |r| r.address));
        }
        // A piece that failed may have left some.
        self.list.clear();
        self.touched = 0;
        for (n, step) in plan.live.iter().enumerate() {
            if let Step::Call(of_step) = step {
                self.flush()?;
                // SAFETY: the caller's table has as many bytes.
                unsafe {
                    for slot in of_step.slots() {
                        self.give(slot, table, bytes(plan, shape, slot))?;
                    }
                    call(of_step, of(of_step.level));
                    self.take(of_step.into, table, bytes(plan, shape, of_step.into))?;
                }
            }
            let Work::Launches(launches) = &self.module.steps[n] else { continue };
            for at in 0..launches.len() {
                self.queue(plan, (n, at), shape, &of);
            }
        }
        self.flush()?;
        for (slot, kind, bytes) in touched {
            let SlotKind::Gradient(column) = kind else { continue };
            let own = match over {
                Some((entries, gradient)) if gradient == slot => entries,
                _ if outside.resident.iter().any(|r| r.0 == column) => continue,
                _ => slot,
            };
            // SAFETY: the caller's table has a row for each token of the piece.
            unsafe { self.give(own, table, bytes)? };
        }
        Ok(())
    }

    unsafe fn end(
        &mut self,
        plan: &Plan,
        shape: &Shape,
        table: &[*mut u8],
    ) -> Result<(), DeviceError> {
        for at in 0..self.args.len() {
            let Arg::Slot(slot) = self.args[at] else { continue };
            if matches!(plan.slot(slot).kind, SlotKind::Stored | SlotKind::Folded(_)) {
                // SAFETY: the caller's table has as many bytes.
                unsafe { self.give(slot, table, bytes(plan, shape, slot))? };
            }
        }
        Ok(())
    }

    fn launched(&self) -> Launched {
        self.graphs.launched()
    }
}
