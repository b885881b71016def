//! Kernels that fold what a loop left for each of its rows into coarser levels.

use std::fmt::Write as _;

use super::kernel::Left;
use super::{Arg, Grid, Launch, PARTS};
use crate::hir::ReduceOp;
use crate::level::BATCH;
use crate::loops::{Loop, Plan};

/// The prelude's name of a fold.
fn how(op: ReduceOp) -> &'static str {
    match op {
        ReduceOp::Sum => "RLC_SUM",
        ReduceOp::Prod => "RLC_PROD",
        ReduceOp::Max => "RLC_MAX",
        ReduceOp::Min => "RLC_MIN",
        ReduceOp::LogSumExp => "RLC_LOGSUMEXP",
    }
}

/// Adds the kernels that fold what a loop left.
pub(super) fn emit(plan: &Plan, of: &Loop, left: &[Left], text: &mut String) -> Vec<Launch> {
    let mut out = Vec::new();
    for (n, left) in left.iter().enumerate() {
        let name = format!("{}_fold_{n}", of.name);
        let slot = plan.slot(left.into);
        let op = how(left.op);
        let what = format!("{}/{}", plan.levels.name(slot.level), slot.name);
        let rows = plan.levels.name(of.level);
        let part = Arg::Part(left.part, of.level);
        let mut args = vec![Arg::Slot(left.into), Arg::Slot(left.scale.unwrap_or(left.into)), part];
        let scale = if left.scale.is_some() { "scale" } else { "0" };
        if let Some((index, within)) = left.index {
            args.extend([Arg::Part(index, of.level), Arg::Count(slot.level)]);
            let (declared, bounds, grid) = if within == BATCH {
                args.extend([Arg::Begin(of.level), Arg::End(of.level)]);
                ("const i64 first, const i64 last", "", Grid::Fixed(1))
            } else {
                args.extend([Arg::Starts(within, of.level), Arg::Begin(within), Arg::End(within)]);
                args.extend([Arg::Begin(of.level), Arg::End(of.level)]);
                let bounds = "    const i64 unit = begin + (i64)blockIdx.x * blockDim.x + threadIdx.x;\n    \
                              if (unit >= end) return;\n    \
                              const i64 first = rlc_later(starts[unit], row_begin), last = rlc_sooner(starts[unit + 1], row_end);\n";
                (
                    "const u32* starts, const i64 begin, const i64 end, const i64 row_begin, const i64 row_end",
                    bounds,
                    Grid::Threads(within),
                )
            };
            let only = if within == BATCH {
                "    if (blockIdx.x != 0 || threadIdx.x != 0) return;\n"
            } else {
                ""
            };
            let _ = writeln!(
                text,
                "\n// {rows}s into the elements that they name: {what}.\nextern \"C\" __global__ void {name}(\n    \
                 double* into, double* scale, const double* part, const double* element, const i64 count, {declared})\n{{\n\
                 {only}{bounds}    for (i64 row = first; row < last; row++) {{\n        \
                 if (rlc_is_row(element[row], count)) rlc_fold_in<{op}>(into, {scale}, (i64)element[row], part[row]);\n    \
                 }}\n}}"
            );
            out.push(Launch { kernel: name, grid, args });
            continue;
        }
        if slot.level != BATCH {
            args.extend([
                Arg::Starts(slot.level, of.level),
                Arg::Begin(slot.level),
                Arg::End(slot.level),
                Arg::Begin(of.level),
                Arg::End(of.level),
            ]);
            let _ = writeln!(
                text,
                "\n// {rows}s into {what}.\nextern \"C\" __global__ void {name}(\n    \
                 double* into, double* scale, const double* part, const u32* starts, const i64 begin, const i64 end,\n    \
                 const i64 row_begin, const i64 row_end)\n{{\n    \
                 const i64 unit = begin + ((i64)blockIdx.x * blockDim.x + threadIdx.x) / 32;\n    \
                 if (unit >= end) return;\n    \
                 const i64 first = rlc_later(starts[unit], row_begin), last = rlc_sooner(starts[unit + 1], row_end);\n    \
                 rlc_fold_row<{op}>(into, {scale}, unit, part, first, last);\n}}"
            );
            out.push(Launch { kernel: name, grid: Grid::Warps(slot.level), args });
            continue;
        }
        // The batch: many blocks leave a part each, and one warp folds those.
        let _ = writeln!(
            text,
            "\n// {rows}s into {what}, first in {PARTS} parts.\nextern \"C\" __global__ void {name}_parts(\n    \
             double* partials, const double* part, const i64 begin, const i64 end)\n{{\n    \
             rlc_fold_parts<{op}>(partials, part, begin, end);\n}}\n\
             extern \"C\" __global__ void {name}(double* into, double* scale, const double* partials)\n{{\n    \
             rlc_fold_partials<{op}>(into, {scale}, partials, {PARTS});\n}}"
        );
        out.push(Launch {
            kernel: format!("{name}_parts"),
            grid: Grid::Fixed(PARTS),
            args: vec![Arg::Partials, part, Arg::Begin(of.level), Arg::End(of.level)],
        });
        let scale = Arg::Slot(left.scale.unwrap_or(left.into));
        out.push(Launch {
            kernel: name,
            grid: Grid::Fixed(1),
            args: vec![Arg::Slot(left.into), scale, Arg::Partials],
        });
    }
    out
}
