//! A batch whose live stage runs on another device: handing it over, its pieces, bringing back what they wrote.

use std::ops::Range;

use rlc_compiler::hir::ColumnId;
use rlc_compiler::interp::Vocab;
use rlc_compiler::level::TOKEN;
use rlc_compiler::loops::Call;

use super::super::{Kernel, Memory};
use super::{NOT_IN_PLACE, Run, call};
use crate::device::cuda::Launched;
use crate::device::{DeviceError, Gradient, Outside, Resident, float_of};

impl Run<'_> {
    /// [`Run::live`] with columns that lie on the device that runs the live stage.
    pub fn live_resident(
        &mut self,
        rows: Range<usize>,
        vocab: &Vocab,
        gradients: &mut [Gradient],
        resident: &[(ColumnId, Resident)],
    ) -> Result<(), DeviceError> {
        if self.kernel.live.is_none() {
            return Err(DeviceError::Order(
                "columns on a device need a device: the live stage runs on the CPU",
            ));
        }
        let tokens = self.shape.range(self.kernel.plan.piece, rows.clone(), TOKEN);
        let needed = tokens.len() * self.shape.vocab;
        for (column, of) in resident {
            let (name, given) = (self.kernel.graph.column_path(*column), of.float());
            let compiled = float_of(&self.kernel.floats, *column);
            if given != compiled {
                return Err(DeviceError::Type { name, given, compiled });
            }
            if of.numbers != needed {
                return Err(DeviceError::Length { name, given: of.numbers, needed });
            }
            if of.in_place() && !self.kernel.plan.in_place(*column) {
                return Err(DeviceError::Order(NOT_IN_PLACE));
            }
        }
        self.resident = resident.to_vec();
        let done = self.live(rows, vocab, gradients);
        self.resident.clear();
        done
    }

    /// What another device has launched so far, in this batch and before; nothing where the CPU runs the live stage.
    pub fn launched(&self) -> Launched {
        self.kernel.live.as_ref().map_or_else(Launched::default, |live| live.launched())
    }

    /// Runs a piece on another device.
    pub(super) fn on_device(
        &mut self,
        rows: Range<usize>,
        table: &[*mut u8],
        over: Option<ColumnId>,
    ) -> Result<(), DeviceError> {
        let outside = Outside { resident: &self.resident, over };
        let Kernel { plan, memory, scratch, live, .. } = &mut *self.kernel;
        let Some(live) = live else { return Ok(()) };
        let shape = self.shape;
        let mut host = |of: &Call, range: Range<usize>| call(of, shape, range, memory, scratch);
        // SAFETY: `pointers` put in a pointer for every slot: own memory was sized for the whole batch by `start`,
        // the caller's was checked against the piece. Columns are f64, since no loop runs by blocks.
        unsafe {
            if !self.away {
                live.begin(plan, shape, table)?;
                self.away = true;
            }
            live.piece(plan, shape, rows, table, outside, &mut host)
        }
    }

    /// Brings back what another device has written.
    pub(super) fn bring_back(&mut self) -> Result<(), DeviceError> {
        if !std::mem::take(&mut self.away) {
            return Ok(());
        }
        let Kernel { plan, memory, live, .. } = &mut *self.kernel;
        let Some(live) = live else { return Ok(()) };
        let own = |m: &mut Memory| match m {
            Memory::Numbers(x) => x.as_mut_ptr().cast(),
            Memory::Given { .. } | Memory::Rows | Memory::Outside => std::ptr::null_mut(),
        };
        let table: Vec<*mut u8> = memory.iter_mut().map(own).collect();
        // SAFETY: what is written lies in own memory, sized for the whole batch by `start`.
        unsafe { live.end(plan, self.shape, &table) }
    }
}
