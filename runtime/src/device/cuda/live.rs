//! The live stage of a plan on a device: memory, and launches in order.

use std::collections::BTreeMap;
use std::ops::Range;

use rlc_compiler::cuda::{Arg, Grid, Launch, Module, PARTS, Work};
use rlc_compiler::level::{Level, TOKEN};
use rlc_compiler::loops::{Plan, SlotId, SlotKind, Step};
use rlc_compiler::shape::Shape;

use super::Device;
use crate::device::DeviceError;

/// The host's side: memory of slots that are not vocab level, and the steps that only it can do.
pub trait Host {
    /// The bytes of a slot: f64, or u32 for parents and starts.
    fn bytes(&self, slot: SlotId) -> &[u8];
    /// The same, to be written.
    fn bytes_mut(&mut self, slot: SlotId) -> &mut [u8];
    /// Runs a [`Step::Call`] of the live stage over rows `range` of its level.
    fn call(&mut self, step: usize, range: Range<usize>);
}

/// Vocab-level memory of one piece.
pub struct Entries<'a> {
    /// Slots whose bytes are given, a row per token of the piece.
    pub given: Vec<(SlotId, &'a [u8])>,
    /// Slots whose bytes are wanted.
    pub wanted: Vec<(SlotId, &'a mut [u8])>,
}

/// Memory that grows.
struct Room<M> {
    memory: M,
    bytes: usize,
}

/// The live stage on a device.
pub struct Live<D: Device> {
    device: D,
    module: Module,
    /// Threads of a block that shares a row.
    threads: u32,
    /// Most blocks of a kernel that has a block per row.
    blocks: u32,
    memory: BTreeMap<Key, Room<D::Memory>>,
}

/// What a memory is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Slot(SlotId),
    Part(u16),
    Partials,
    Starts(Level, Level),
}

/// Threads of a block that shares nothing.
const ROWS: u32 = 128;

impl<D: Device> Live<D> {
    /// Kernels that the device has loaded.
    ///
    /// `threads` share a vocab row, a multiple of 32 up to 1,024; at most `blocks` blocks work on rows at a time.
    pub fn new(device: D, module: Module, threads: u32, blocks: u32) -> Self {
        Live { device, module, threads, blocks, memory: BTreeMap::new() }
    }

    /// The device.
    pub fn device(&mut self) -> &mut D {
        &mut self.device
    }

    /// Every argument of the live stage, once.
    fn args(&self) -> Vec<Arg> {
        let mut out: Vec<Arg> = Vec::new();
        let launches = self.module.steps.iter().flat_map(|s| match s {
            Work::Launches(l) => l.as_slice(),
            Work::Host => &[],
        });
        for arg in launches.flat_map(|l| &l.args) {
            if !out.contains(arg) {
                out.push(*arg);
            }
        }
        out
    }

    fn room(&mut self, key: Key, bytes: usize) -> Result<(), DeviceError> {
        let enough = self.memory.get(&key).is_some_and(|r| r.bytes >= bytes);
        if !enough {
            // The old one goes first: both may not fit.
            self.memory.remove(&key);
            let memory = self.device.alloc(bytes)?;
            self.memory.insert(key, Room { memory, bytes });
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

    fn read(&mut self, key: Key, bytes: &mut [u8]) -> Result<(), DeviceError> {
        match self.memory.get(&key) {
            Some(room) => self.device.read(&room.memory, bytes),
            None => Ok(()),
        }
    }

    /// Takes over a batch once the recorded stage has run: copies what the live stage reads.
    pub fn begin(
        &mut self,
        plan: &Plan,
        shape: &Shape,
        host: &dyn Host,
    ) -> Result<(), DeviceError> {
        for arg in self.args() {
            match arg {
                Arg::Slot(slot) => match plan.slot(slot).kind {
                    SlotKind::Entries(_) | SlotKind::Gradient(_) => {}
                    SlotKind::Scratch(numbers) => {
                        let bytes = numbers * shape.vocab * 8 * self.blocks as usize;
                        self.room(Key::Slot(slot), bytes)?;
                    }
                    _ => self.write(Key::Slot(slot), host.bytes(slot))?,
                },
                Arg::Part(n, level) => self.room(Key::Part(n), shape.count(level) * 8)?,
                Arg::Partials => self.room(Key::Partials, 16 * PARTS as usize)?,
                Arg::Starts(coarse, fine) => {
                    let starts: Vec<u8> =
                        shape.starts(coarse, fine).iter().flat_map(|s| s.to_ne_bytes()).collect();
                    self.write(Key::Starts(coarse, fine), &starts)?;
                }
                Arg::Begin(_) | Arg::End(_) | Arg::Count(_) | Arg::Vocab | Arg::Base => {}
            }
        }
        Ok(())
    }

    /// Runs rows `rows` of the plan's piece level.
    pub fn piece(
        &mut self,
        plan: &Plan,
        shape: &Shape,
        rows: Range<usize>,
        entries: &mut Entries<'_>,
        host: &mut dyn Host,
    ) -> Result<(), DeviceError> {
        for (slot, bytes) in &entries.given {
            self.write(Key::Slot(*slot), bytes)?;
        }
        for (slot, bytes) in &entries.wanted {
            self.room(Key::Slot(*slot), bytes.len())?;
        }
        let of = |level: Level| shape.range(plan.piece, rows.clone(), level);
        for (n, step) in plan.live.iter().enumerate() {
            match (step, &self.module.steps[n]) {
                (Step::Call(call), _) => {
                    for slot in call.slots() {
                        let Some(room) = self.memory.get(&Key::Slot(slot)) else { continue };
                        self.device.read(&room.memory, host.bytes_mut(slot))?;
                    }
                    host.call(n, of(call.level));
                    let into = call.into;
                    self.write(Key::Slot(into), host.bytes(into))?;
                }
                (Step::Loop(_), Work::Launches(launches)) => {
                    for launch in launches.clone() {
                        self.launch(&launch, shape, &of)?;
                    }
                }
                // Only calls are the host's.
                (Step::Loop(_), Work::Host) => {}
            }
        }
        for (slot, bytes) in &mut entries.wanted {
            self.read(Key::Slot(*slot), bytes)?;
        }
        Ok(())
    }

    fn launch(
        &mut self,
        launch: &Launch,
        shape: &Shape,
        of: &dyn Fn(Level) -> Range<usize>,
    ) -> Result<(), DeviceError> {
        let address =
            |key: Key| self.memory.get(&key).map_or(0, |room| self.device.address(&room.memory));
        let args: Vec<u64> = launch
            .args
            .iter()
            .map(|arg| match *arg {
                Arg::Slot(slot) => address(Key::Slot(slot)),
                Arg::Part(n, _) => address(Key::Part(n)),
                Arg::Partials => address(Key::Partials),
                Arg::Starts(coarse, fine) => address(Key::Starts(coarse, fine)),
                Arg::Begin(level) => of(level).start as u64,
                Arg::End(level) => of(level).end as u64,
                Arg::Count(level) => shape.count(level) as u64,
                Arg::Vocab => shape.vocab as u64,
                Arg::Base => of(TOKEN).start as u64,
            })
            .collect();
        let (blocks, threads) = match launch.grid {
            Grid::Threads(level) => (of(level).len().div_ceil(ROWS as usize) as u32, ROWS),
            Grid::Warps(level) => ((of(level).len() * 32).div_ceil(ROWS as usize) as u32, ROWS),
            Grid::Blocks(level) => ((of(level).len() as u32).min(self.blocks), self.threads),
            Grid::Fixed(blocks) => (blocks, ROWS),
        };
        if blocks == 0 {
            return Ok(());
        }
        // SAFETY: the compiler listed these arguments with the kernel; memory was sized for the whole batch by
        // `begin`, and vocab-level memory for the piece by `piece`.
        unsafe { self.device.launch(&launch.kernel, blocks, threads, &args) }
    }

    /// Gives back what the live stage has written, once all pieces have run.
    pub fn end(&mut self, plan: &Plan, host: &mut dyn Host) -> Result<(), DeviceError> {
        for arg in self.args() {
            let Arg::Slot(slot) = arg else { continue };
            if matches!(plan.slot(slot).kind, SlotKind::Stored | SlotKind::Folded(_)) {
                self.read(Key::Slot(slot), host.bytes_mut(slot))?;
            }
        }
        Ok(())
    }
}
