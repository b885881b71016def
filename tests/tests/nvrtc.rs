//! NVRTC compiles the kernels of every library program, and of every reference program, to machine code: no GPU is
//! needed. What they may take of a multiprocessor is recorded in `tests/cuda/resources.txt`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rlc_compiler::check::Checked;
use rlc_compiler::clif::Float;
use rlc_compiler::fuse::fuse;
use rlc_compiler::hir::ColumnId;
use rlc_compiler::loops::SlotKind;
use rlc_compiler::specialize::{Settings, specialize};
use rlc_compiler::stdlib;
use rlc_runtime::device::cuda;
use rlc_runtime::device::cuda::nvrtc::{Nvrtc, Resources, nvrtc};
use rlc_tests::{cases, root};

/// The least that candle and torch still support well, and the one that the numbers in the documentation are for.
const ARCHITECTURES: [&str; 2] = ["sm_80", "sm_90"];
/// What a kernel may take that is not recorded: as many registers as two blocks of 256 threads leave, and no spills.
const USUAL: (u32, u32) = (128, 0);
const RECORD: &str = "tests/cuda/resources.txt";

fn found(test: &str) -> Option<&'static Nvrtc> {
    match nvrtc() {
        Ok(found) => Some(found),
        Err(why) => {
            eprintln!("SKIPPED: {test}: {why}");
            None
        }
    }
}

/// The kernels of a program with its default params, for vocab-level columns and gradients of a number type.
fn text(checked: &Checked, float: Float) -> String {
    let params = checked.graph.params.iter().map(|p| p.value).collect();
    let settings = Settings { params, ..Settings::default() };
    let plan = fuse(&specialize(checked, &settings).unwrap().program).unwrap();
    let column = |kind| match kind {
        SlotKind::Entries(column) => Some((column, float)),
        _ => None,
    };
    let floats: Vec<(ColumnId, Float)> =
        plan.all_slots().filter_map(|(_, slot)| column(slot.kind)).collect();
    cuda::module(&plan, &cuda::Floats { entries: &floats, gradients: &floats }).text
}

/// What every kernel of every text takes on an architecture, or what NVRTC says against it.
fn compile(
    nvrtc: &Nvrtc,
    work: &[(String, String, &'static str)],
) -> (BTreeMap<(String, &'static str), Vec<(String, Resources)>>, Vec<String>) {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            scope.spawn(|| {
                while let Some((name, text, architecture)) =
                    work.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    match nvrtc.cubin(text, architecture) {
                        Ok(cubin) => {
                            assert!(cubin.code.starts_with(b"\x7fELF"));
                            let key = (name.clone(), *architecture);
                            done.lock().unwrap().insert(key, cubin.resources());
                        }
                        Err(why) => faults.lock().unwrap().push(format!("{name}: {why}")),
                    }
                }
            });
        }
    });
    (done.into_inner().unwrap(), faults.into_inner().unwrap())
}

/// The most that a program's kernels take: registers and spills.
fn most(kernels: &[(String, Resources)]) -> (u32, u32) {
    let registers = kernels.iter().map(|k| k.1.registers).max().unwrap_or(0);
    (registers, kernels.iter().map(|k| k.1.spills).max().unwrap_or(0))
}

/// `name architecture registers spills` a line.
fn recorded(text: &str) -> BTreeMap<(String, String), (u32, u32)> {
    let lines = text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty());
    lines
        .map(|line| {
            let [name, architecture, registers, spills] =
                line.split_whitespace().collect::<Vec<_>>()[..]
            else {
                panic!("{RECORD}: `{line}`");
            };
            let numbers = (registers.parse().unwrap(), spills.parse().unwrap());
            ((name.to_owned(), architecture.to_owned()), numbers)
        })
        .collect()
}

#[test]
fn the_librarys_kernels_compile_within_their_limits() {
    let Some(nvrtc) = found("the_librarys_kernels_compile_within_their_limits") else { return };
    let mut work = Vec::new();
    for (name, ..) in stdlib::library() {
        let checked = rlc_tests::open(name);
        for (float, what) in [(Float::F32, "f32"), (Float::Bf16, "bf16")] {
            let text = text(&checked, float);
            for architecture in ARCHITECTURES {
                // 32 bits once: what 16 bits add is the widening.
                if float == Float::Bf16 || architecture == "sm_90" {
                    work.push((format!("{name}/{what}"), text.clone(), architecture));
                }
            }
        }
    }
    let (done, mut faults) = compile(nvrtc, &work);
    let path = root().join(RECORD);
    let known = recorded(&std::fs::read_to_string(&path).unwrap_or_default());
    let mut new = String::from(
        "# The most registers of a thread, and bytes spilled, of the kernels of each library program. A test keeps to it;\n\
         # RLC_BLESS=1 cargo test -p rlc-tests --test nvrtc writes it. A program that is missing here has 128 and 0.\n",
    );
    for ((name, architecture), kernels) in &done {
        let (registers, spills) = most(kernels);
        let _ = writeln!(new, "{name:28} {architecture} {registers:4} {spills:4}");
        let key = (name.clone(), (*architecture).to_owned());
        let limit = known.get(&key).copied().unwrap_or(USUAL);
        if registers > limit.0 || spills > limit.1 {
            let worst: Vec<String> = kernels
                .iter()
                .filter(|k| k.1.registers > limit.0 || k.1.spills > limit.1)
                .map(|(kernel, r)| format!("{kernel}: {} and {}", r.registers, r.spills))
                .collect();
            faults.push(format!(
                "{name} {architecture}: {} registers and {} bytes of spills were the most; {}",
                limit.0,
                limit.1,
                worst.join(", ")
            ));
        }
    }
    if std::env::var_os("RLC_BLESS").is_some_and(|v| v == "1") {
        assert_eq!(done.len(), work.len(), "{}", faults.join("\n"));
        return std::fs::write(&path, new).unwrap();
    }
    let gone: Vec<_> = known
        .keys()
        .filter(|k| !stdlib::library().any(|l| k.0.split('/').next() == Some(l.0)))
        .collect();
    assert!(gone.is_empty(), "{RECORD} has programs that the library has not: {gone:?}");
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_reference_program_compiles() {
    let Some(nvrtc) = found("every_reference_program_compiles") else { return };
    let (mut work, mut seen) = (Vec::new(), BTreeSet::new());
    for case in cases::cases() {
        let text = text(&case.checked().unwrap(), Float::F16);
        // Many cases share a program, and the library is the other test's.
        if case.json["program"] == "program.rl" && seen.insert(text.clone()) {
            work.push((case.name.clone(), text, ARCHITECTURES[seen.len() % 2]));
        }
    }
    let (done, mut faults) = compile(nvrtc, &work);
    for ((name, _), kernels) in &done {
        let (registers, spills) = most(kernels);
        if registers > USUAL.0 || spills > USUAL.1 {
            faults.push(format!("{name}: {registers} registers, {spills} bytes of spills"));
        }
    }
    assert!(done.len() > 100 || !faults.is_empty());
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}
