//! Columns as the caller has them: read in place and in their own type where blocks read them, copied as f64 where
//! other code does.

use rlc_compiler::columns::Numbers;
use rlc_compiler::loops::{Item, Plan, SlotId, Step};
use rlc_compiler::shape::Shape;

use super::Memory;
use super::block::{Block, Element, SHORT};

fn element_of(numbers: Numbers<'_>) -> Element {
    match numbers {
        Numbers::F64(_) => Element::F64,
        Numbers::F32(_) => Element::F32,
        Numbers::I64(_) => Element::I64,
        Numbers::U8(_) => Element::U8,
    }
}

/// Puts a column into a slot's memory: where it lies, or as f64 in the copy.
pub(super) fn put(numbers: Numbers<'_>, memory: &mut Memory, in_place: bool) {
    if !matches!(memory, Memory::Given { .. }) {
        let (data, element) = (std::ptr::dangling(), Element::F64);
        *memory = Memory::Given { lies: Lies { data, len: 0, element }, copy: Vec::new() };
    }
    let Memory::Given { lies, copy } = memory else { return };
    lies.len = numbers.len();
    if in_place || matches!(numbers, Numbers::F64(_)) {
        lies.element = element_of(numbers);
        lies.data = match numbers {
            Numbers::F64(x) => x.as_ptr().cast(),
            Numbers::F32(x) => x.as_ptr().cast(),
            Numbers::I64(x) => x.as_ptr().cast(),
            Numbers::U8(x) => x.as_ptr(),
        };
        return;
    }
    copy.clear();
    match numbers {
        Numbers::F64(x) => copy.extend_from_slice(x),
        Numbers::F32(x) => copy.extend(x.iter().map(|x| f64::from(*x))),
        Numbers::I64(x) => copy.extend(x.iter().map(|x| *x as f64)),
        Numbers::U8(x) => copy.extend(x.iter().map(|x| f64::from(*x))),
    }
    lies.element = Element::F64;
    lies.data = copy.as_ptr().cast();
}

/// Memory that a run reads and does not own.
pub(super) struct Lies {
    pub data: *const u8,
    pub len: usize,
    pub element: Element,
}

// SAFETY: it is read only while a run borrows what was given, or from the copy beside it.
unsafe impl Send for Lies {}

impl Lies {
    /// The numbers, where they are f64.
    ///
    /// # Safety
    ///
    /// A run is under way, which borrows them.
    pub(super) unsafe fn numbers(&self) -> &[f64] {
        if self.element != Element::F64 {
            return &[];
        }
        // SAFETY: it was a slice of this length, and the run borrows it.
        unsafe { std::slice::from_raw_parts(self.data.cast(), self.len) }
    }
}

/// Who reads the columns of a plan.
pub(super) struct Readers {
    /// For each slot, whether code reads it that knows f64 only,
    plain: Vec<bool>,
    /// and the loops that read it and may run by blocks.
    blocks: Vec<Vec<usize>>,
}

/// The loops that may run by blocks, by their number among all steps.
pub(super) struct Blocks {
    list: Vec<Option<Block>>,
    /// Rows of a segment, on average, from which on a loop runs by blocks.
    pub(super) short: usize,
    /// Number of the first step of each phase.
    first: [usize; 3],
}

impl Blocks {
    pub(super) fn new(plan: &Plan) -> Blocks {
        let steps = || plan.phases().into_iter().flat_map(|p| p.1);
        let list = steps().map(|step| match step {
            Step::Loop(of) => Block::new(plan, of),
            Step::Call(_) => None,
        });
        let first = [0, plan.recorded.len(), plan.recorded.len() + plan.live.len()];
        Blocks { list: list.collect(), short: SHORT, first }
    }

    /// Those that there are.
    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Block> {
        self.list.iter_mut().flatten()
    }

    /// Decides which loops run by blocks.
    pub(super) fn choose(&mut self, shape: &Shape) {
        let short = self.short;
        self.all().for_each(|b| b.choose(shape, short));
    }

    /// The block of a step, where this batch runs it by blocks.
    pub(super) fn of(
        &mut self,
        phase: rlc_compiler::program::Phase,
        step: usize,
    ) -> Option<&mut Block> {
        use rlc_compiler::program::Phase;
        let first = match phase {
            Phase::Recorded => self.first[0],
            Phase::Live => self.first[1],
            Phase::After => self.first[2],
        };
        self.list.get_mut(first + step)?.as_mut().filter(|b| b.is_on())
    }
}

impl Readers {
    pub(super) fn new(plan: &Plan, blocks: &Blocks) -> Readers {
        let mut out = Readers {
            plain: vec![false; plan.slots.len()],
            blocks: vec![Vec::new(); plan.slots.len()],
        };
        let steps = plan.phases().into_iter().flat_map(|p| p.1);
        for (n, step) in steps.enumerate() {
            for (id, _) in plan.all_slots().filter(|(id, _)| reads(step, *id)) {
                match blocks.list[n] {
                    Some(_) => out.blocks[id.index()].push(n),
                    None => out.plain[id.index()] = true,
                }
            }
        }
        for output in &plan.outputs {
            out.plain[output.slot.index()] = true;
        }
        out
    }

    /// Whether a column can stay as it is given: only blocks read it.
    pub(super) fn in_place(&self, slot: usize, blocks: &Blocks) -> bool {
        let by_blocks = |n: &usize| blocks.list[*n].as_ref().is_some_and(Block::is_on);
        !self.plain[slot] && self.blocks[slot].iter().all(by_blocks)
    }
}

fn reads(step: &Step, slot: SlotId) -> bool {
    let spreads = match step {
        Step::Loop(of) => of.body.iter().any(|item| match item {
            Item::Spread(_, of) | Item::SpreadAt { of, .. } => of.d == slot || of.index == slot,
            Item::Let(..)
            | Item::Scan { .. }
            | Item::Shift { .. }
            | Item::Store(..)
            | Item::Fold { .. }
            | Item::Sweep(_) => false,
        }),
        Step::Call(_) => false,
    };
    spreads || step.reads(slot)
}

/// How a slot's memory lies.
pub(super) fn element(memory: &[Memory], slot: SlotId) -> Element {
    match &memory[slot.index()] {
        Memory::Given { lies, .. } => lies.element,
        Memory::Numbers(_) | Memory::Rows | Memory::Outside => Element::F64,
    }
}
