//! Machine code: compiles the functions of a plan, resolves what they call, and calls them.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use cranelift_codegen::isa::TargetIsa;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Linkage, Module, default_libcall_names};
use rlc_compiler::clif::{self, Float, Import};
use rlc_compiler::hir::ColumnId;
use rlc_compiler::loops::{Item, Loop, Plan, SlotId, SlotKind, Step};
use rlc_compiler::op::{Binary, Unary};
use rlc_compiler::program::Phase;

use super::{row, sweep};
use crate::device::DeviceError;

/// The compiled loops of a plan, phase by phase.
pub(super) struct Code {
    /// Owns the machine code; none only while it is dropped. Kernels of other threads may share it: the
    /// lock is never taken.
    module: Mutex<Option<JITModule>>,
    phases: [Compiled; 3],
}

#[derive(Default)]
struct Compiled {
    /// One per step; calls have none.
    functions: Vec<Option<Function>>,
    /// Slots in the caller's memory, per step.
    outside: Vec<Vec<SlotId>>,
}

type Entry = unsafe extern "C" fn(*const *mut u8, i64, i64, i64, i64);

/// The code of one loop; lives as long as its [`Code`].
pub(super) struct Function(Entry);

impl Function {
    /// Runs rows `rows`.
    ///
    /// # Safety
    ///
    /// `table` has an entry for every slot of the plan the function comes from, each valid for
    /// every row that `rows` reach by the parent rows in it, and after them the rows of each level,
    /// for which the slots of that level are valid too; vocab-level entries hold a row of `vocab`
    /// numbers for each token from `base` on that is in `rows` or contains one of them.
    pub(super) unsafe fn call(
        &self,
        table: &[*mut u8],
        rows: Range<usize>,
        vocab: usize,
        base: usize,
    ) {
        // SAFETY: the pointer is to code of this signature, whose memory is freed with `Code` only;
        // the rest is promised by the caller.
        unsafe {
            (self.0)(table.as_ptr(), rows.start as i64, rows.end as i64, vocab as i64, base as i64);
        }
    }
}

fn failed(e: impl std::fmt::Display) -> DeviceError {
    DeviceError::Compile(e.to_string())
}

/// This machine, with every instruction it has.
pub(super) fn isa() -> Result<Arc<dyn TargetIsa>, DeviceError> {
    let mut flags = settings::builder();
    for (name, value) in [
        ("opt_level", "speed"),
        ("is_pic", "false"),
        ("use_colocated_libcalls", "false"),
        ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
    ] {
        flags.set(name, value).map_err(failed)?;
    }
    let builder = cranelift_native::builder().map_err(failed)?;
    builder.finish(settings::Flags::new(flags)).map_err(failed)
}

impl Code {
    pub(super) fn new(plan: &Plan, float: &dyn Fn(ColumnId) -> Float) -> Result<Code, DeviceError> {
        let mut builder = JITBuilder::with_isa(isa()?, default_libcall_names());
        for import in Import::ALL {
            builder.symbol(import.symbol(), address(import)?);
        }
        let mut module = JITModule::new(builder);
        let target = module.target_config();
        for (n, import) in Import::ALL.iter().enumerate() {
            let signature = import.signature(target);
            let id = module
                .declare_function(&import.symbol(), Linkage::Import, &signature)
                .map_err(failed)?;
            // Functions of the IR name imports by their position.
            if id.as_u32() as usize != n {
                return Err(failed("imports are numbered in another order"));
            }
        }
        let mut context = module.make_context();
        let mut ids = Vec::new();
        for (of, function) in plan.loops().zip(clif::emit(plan, float, target)) {
            let id = module
                .declare_function(&of.name, Linkage::Local, &function.signature)
                .map_err(failed)?;
            context.func = function;
            module.define_function(id, &mut context).map_err(|e| failed(format!("{e:?}")))?;
            module.clear_context(&mut context);
            ids.push(id);
        }
        module.finalize_definitions().map_err(failed)?;
        let mut ids = ids.into_iter();
        let mut phases = <[Compiled; 3]>::default();
        for (compiled, (_, steps)) in phases.iter_mut().zip(plan.phases()) {
            for step in steps {
                let Step::Loop(of) = step else {
                    compiled.functions.push(None);
                    compiled.outside.push(Vec::new());
                    continue;
                };
                let Some(id) = ids.next() else { continue };
                let pointer = module.get_finalized_function(id);
                // SAFETY: `clif::emit` gives every function the signature of `Entry`, and the
                // module has just finished compiling it.
                let entry = unsafe { std::mem::transmute::<*const u8, Entry>(pointer) };
                compiled.functions.push(Some(Function(entry)));
                compiled.outside.push(outside(plan, of));
            }
        }
        Ok(Code { module: Mutex::new(Some(module)), phases })
    }

    fn phase(&self, phase: Phase) -> &Compiled {
        match phase {
            Phase::Recorded => &self.phases[0],
            Phase::Live => &self.phases[1],
            Phase::After => &self.phases[2],
        }
    }

    /// The loop that a step of a phase is.
    pub(super) fn function(&self, phase: Phase, step: usize) -> Option<&Function> {
        self.phase(phase).functions.get(step)?.as_ref()
    }

    /// Slots in the caller's memory that each step of a phase touches.
    pub(super) fn outside(&self, phase: Phase) -> &[Vec<SlotId>] {
        &self.phase(phase).outside
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        let module = self.module.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = module.take() {
            // SAFETY: functions are called through `self.phases` only, which is being dropped.
            unsafe { module.free_memory() };
        }
    }
}

/// Vocab-level slots of a loop.
fn outside(plan: &Plan, of: &Loop) -> Vec<SlotId> {
    let mut slots = Vec::new();
    for item in &of.body {
        match item {
            Item::Let(_, op) => slots.extend(op.slot()),
            Item::Sweep(sweep) => {
                slots.extend(sweep.body.iter().filter_map(|(_, op)| op.slot()));
                slots.extend(sweep.gradients.iter().map(|g| g.0));
            }
            Item::Scan { .. }
            | Item::Shift { .. }
            | Item::Store(..)
            | Item::Fold { .. }
            | Item::Spread(..)
            | Item::SpreadAt { .. } => {}
        }
    }
    slots.retain(|s| matches!(plan.slot(*s).kind, SlotKind::Entries(_) | SlotKind::Gradient(_)));
    slots
}

/// The functions that compiled code calls: the operators' own definitions.
macro_rules! definitions {
    ($($name:ident = $op:ident,)*) => {
        $(extern "C" fn $name(x: f64) -> f64 {
            Unary::$op.eval(x)
        })*
        const UNARY: &[(Unary, extern "C" fn(f64) -> f64)] = &[$((Unary::$op, $name),)*];
    };
}

definitions! {
    log = Log,
    log1p = Log1p,
    expm1 = Expm1,
    log1mexp = Log1mexp,
    log2 = Log2,
    sigmoid = Sigmoid,
    log_sigmoid = LogSigmoid,
    tanh = Tanh,
    softplus = Softplus,
    sin = Sin,
    cos = Cos,
}

/// As in sweeps, so that an entry read by itself has the bits that it has there.
extern "C" fn exp(x: f64) -> f64 {
    sweep::exp(x)
}

extern "C" fn pow(a: f64, b: f64) -> f64 {
    Binary::Pow.eval(a, b)
}

fn address(import: Import) -> Result<*const u8, DeviceError> {
    let found = match import {
        Import::Unary(Unary::Exp) => Some(exp as *const u8),
        Import::Unary(op) => UNARY.iter().find(|(o, _)| *o == op).map(|(_, f)| *f as *const u8),
        Import::Binary(Binary::Pow) => Some(pow as *const u8),
        Import::Binary(_) => None,
        Import::Sweep => Some(sweep::call as *const u8),
        Import::Spread => Some(row::spread as *const u8),
        Import::SpreadAt => Some(row::spread_at as *const u8),
    };
    found.ok_or_else(|| failed(format!("{} has no definition", import.symbol())))
}
