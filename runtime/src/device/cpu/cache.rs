//! Machine code by content: a plan that this process has compiled before, with the same number types, is
//! not compiled again, whichever objective asks.
//!
//! What is shared is code, which nobody writes to; memory belongs to each kernel. The key is the whole
//! plan as text, so two plans that differ in one bit of one constant are two. The machine is no part of
//! it: a process runs on one.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rlc_compiler::clif::Float;
use rlc_compiler::hir::ColumnId;
use rlc_compiler::loops::{Plan, SlotKind};

use super::code::Code;
use crate::device::DeviceError;

/// Plans whose code is kept; the one not asked for the longest goes first. A plan takes 10 to 100 KiB,
/// with its code.
const KEPT: usize = 64;

/// From the least recently used to the last one.
static READY: Mutex<Vec<(String, Arc<Code>)>> = Mutex::new(Vec::new());
static COMPILED: AtomicU64 = AtomicU64::new(0);

/// How many plans this process has compiled to machine code.
pub fn compilations() -> u64 {
    COMPILED.load(Ordering::Relaxed)
}

/// Forgets all code but that of kernels in use, so that the next one is compiled: for measurements.
pub fn forget() {
    READY.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// The code of a plan. Whoever asks for the same one meanwhile waits for it.
pub(super) fn code(
    plan: &Plan,
    float: &dyn Fn(ColumnId) -> Float,
) -> Result<Arc<Code>, DeviceError> {
    let key = key(plan, float);
    // A panic while compiling leaves the list as it was.
    let mut ready = READY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(at) = ready.iter().position(|(k, _)| *k == key) {
        let found = ready.remove(at);
        let code = Arc::clone(&found.1);
        ready.push(found);
        return Ok(code);
    }
    let code = Arc::new(Code::new(plan, float)?);
    COMPILED.fetch_add(1, Ordering::Relaxed);
    if ready.len() == KEPT {
        ready.remove(0);
    }
    ready.push((key, Arc::clone(&code)));
    Ok(code)
}

/// The plan, and the number type of each vocab-level column that it reads.
fn key(plan: &Plan, float: &dyn Fn(ColumnId) -> Float) -> String {
    let mut key = String::with_capacity(1 << 14);
    for slot in &plan.slots {
        if let SlotKind::Entries(column) = slot.kind {
            let _ = write!(key, "{:?} ", float(column));
        }
    }
    // Debug text of a number reads back as the same number, and tells -0 from 0.
    let _ = write!(key, "{plan:?}");
    key
}

#[cfg(test)]
mod tests {
    use rlc_compiler::link::NoFiles;
    use rlc_compiler::source::{Source, Sources};
    use rlc_compiler::specialize::{Settings, specialize};

    use super::*;

    fn plan(text: &str) -> Plan {
        let mut sources = Sources::default();
        let source = Source { name: "a.rl".into(), text: text.to_owned(), library: false };
        let root = sources.add(source);
        let (checked, _) = rlc_compiler::check(&mut sources, root, &NoFiles);
        let checked = checked.unwrap();
        let ready = specialize(&checked, &Settings::default()).unwrap();
        rlc_compiler::fuse::fuse(&ready.program).unwrap()
    }

    #[test]
    fn a_key_is_the_whole_plan() {
        let one = plan("extend grpo\ntoken_loss = base.token_loss * 1.5\n");
        let f32s = |_| Float::F32;
        assert_eq!(key(&one, &f32s), key(&one.clone(), &f32s));
        assert_ne!(key(&one, &f32s), key(&one, &|_| Float::Bf16));
        let next = f64::from_bits(1.5f64.to_bits() + 1);
        let other = plan(&format!("extend grpo\ntoken_loss = base.token_loss * {next:?}\n"));
        assert_ne!(key(&one, &f32s), key(&other, &f32s));
        assert_ne!(format!("{:?}", 0.0), format!("{:?}", -0.0));
    }

    #[test]
    fn code_is_shared_and_the_oldest_goes() {
        // Numbers that no other test of this process has.
        let of = |i: usize| plan(&format!("extend sft\nloss = base.loss * {}.375\n", 1000 + i));
        let f32s = |_| Float::F32;
        let first = code(&of(0), &f32s).unwrap();
        assert!(Arc::ptr_eq(&first, &code(&of(0), &f32s).unwrap()));
        assert!(!Arc::ptr_eq(&first, &code(&of(0), &|_| Float::F64).unwrap()));
        for i in 1..=KEPT {
            code(&of(i), &f32s).unwrap();
        }
        assert!(!Arc::ptr_eq(&first, &code(&of(0), &f32s).unwrap()));
        assert!(READY.lock().unwrap().len() <= KEPT);
    }
}
