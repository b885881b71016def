//! `rlc compile`: what each stage of the compiler makes of a program, as text.

use std::path::PathBuf;

use clap::ValueEnum;
use rlc_compiler::check::Checked;
use rlc_compiler::clif::{self, Float};
use rlc_compiler::fuse::fuse;
use rlc_compiler::hir::ColumnId;
use rlc_compiler::loops::{Slot, SlotKind};
use rlc_compiler::parse;
use rlc_compiler::specialize::{Settings, specialize};
use rlc_runtime::device::cuda::nvrtc::{self, Resources};
use rlc_runtime::device::{DeviceError, cpu, cuda};
use serde_json::json;

use crate::failure::{Failure, Outcome};
use crate::output::{Output, write_file};
use crate::{check, params, program};

/// Print what a stage of the compiler makes of a program
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rlc compile grpo --emit program          loss, gradients and metrics as one graph
  rlc compile calib.rl --emit loops        the loops of the CPU kernel
  rlc compile calib.rl --emit clif -o calib.clif
  rlc compile calib.rl --emit cuda -o calib.cu
  rlc compile grpo --emit sass-stats --arch sm_80   registers, spills and memory of each kernel
  rlc compile grpo --emit program --set beta=0.04 --set clip_low=0.1")]
pub struct Args {
    #[arg(value_name = "PROGRAM", help = program::HELP)]
    program: String,
    /// The stage
    #[arg(long, value_enum, value_name = "STAGE")]
    emit: Stage,
    /// Write to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Set a param; it decides every `if` that depends on params alone
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// The GPU's architecture, for ptx, cubin and sass-stats; sm_90 without this
    #[arg(long, value_name = "SM_NN")]
    arch: Option<String>,
    /// The number type of logits and their gradient, for cuda and what follows from it
    #[arg(long, value_enum, value_name = "TYPE", default_value_t = Logits::F32)]
    logits: Logits,
    /// Print one JSON object; for sass-stats
    #[arg(long)]
    json: bool,
}

/// What `--logits` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Logits {
    /// 32 bits
    F32,
    /// 16 bits, of which 7 of the fraction
    Bf16,
    /// 16 bits, of which 10 of the fraction
    F16,
}

impl Logits {
    fn float(self) -> Float {
        match self {
            Logits::F32 => Float::F32,
            Logits::Bf16 => Float::Bf16,
            Logits::F16 => Float::F16,
        }
    }
}

/// What `--emit` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// The tree of the file itself
    Ast,
    /// The typed graph of the whole linked program
    Hir,
    /// Loss, gradients and metrics under the present params
    Program,
    /// The loops that compute them
    Loops,
    /// Cranelift's intermediate code of the loops, for logits of 32 bits
    Clif,
    /// CUDA C of the live loops
    Cuda,
    /// The same compiled by NVRTC to the GPU's virtual machine code
    Ptx,
    /// The same as machine code of one architecture
    Cubin,
    /// What each kernel takes: registers, spills, shared and constant memory
    SassStats,
}

impl Stage {
    /// Whether NVRTC makes it.
    fn compiled(self) -> bool {
        matches!(self, Stage::Ptx | Stage::Cubin | Stage::SassStats)
    }
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Outcome {
    if args.arch.is_some() && !args.emit.compiled() {
        let why = "`--arch` says for which GPU something is compiled, and this stage is for none";
        return Err(Failure::input(why, "leave it out, or `--emit ptx`, `cubin` or `sass-stats`"));
    }
    if args.json && args.emit != Stage::SassStats {
        return Err(Failure::input("only `--emit sass-stats` has numbers to print as JSON", ""));
    }
    if args.logits != Logits::F32 && args.emit != Stage::Cuda && !args.emit.compiled() {
        let why = "`--logits` changes kernels for a GPU only";
        return Err(Failure::input(why, "leave it out, or `--emit cuda`"));
    }
    let mut program = program::open(&args.program)?;
    let text = if args.emit == Stage::Ast {
        let (module, found) = parse::parse(&program.sources, program.root);
        check::say(&found, &program.sources, output);
        if !found.is_empty() {
            return Err(Failure::Reported(crate::failure::INPUT));
        }
        parse::dump(&module)
    } else {
        let checked = check::or_stop(&mut program, output)?;
        match stage(args, &checked)? {
            Made::Text(text) => text,
            Made::Code(code) => {
                return match &args.output {
                    Some(path) if path.as_os_str() != "-" => write_file(path, &code),
                    _ => {
                        Err(Failure::input("a cubin is no text", "name a file: `-o kernels.cubin`"))
                    }
                };
            }
        }
    };
    match &args.output {
        Some(path) if path.as_os_str() != "-" => write_file(path, text.as_bytes()),
        _ => output.print(&text),
    }
}

/// What a stage comes to.
enum Made {
    Text(String),
    Code(Vec<u8>),
}

fn stage(args: &Args, checked: &Checked) -> Outcome<Made> {
    let stage = args.emit;
    let params = params::values(&checked.graph, &args.set)?;
    if stage == Stage::Hir {
        let mut roots = vec![("loss".to_owned(), checked.loss)];
        roots.extend(checked.metrics.iter().map(|m| (format!("metric/{}", m.name), m.value)));
        roots.extend(checked.kept.iter().map(|(name, e)| (format!("kept/{name}"), *e)));
        return Ok(Made::Text(checked.graph.print(&roots)));
    }
    let settings = Settings { params, ..Settings::default() };
    let program =
        specialize(checked, &settings).map_err(|e| Failure::input(e.to_string(), ""))?.program;
    if stage == Stage::Program {
        return Ok(Made::Text(program.print()));
    }
    let plan = fuse(&program).map_err(|e| Failure::input(e.to_string(), ""))?;
    if stage == Stage::Loops {
        return Ok(Made::Text(plan.print()));
    }
    if stage == Stage::Cuda || stage.compiled() {
        let float = args.logits.float();
        let all: Vec<(ColumnId, Float)> =
            plan.all_slots().filter_map(|(_, slot)| Some((entries(slot)?, float))).collect();
        let floats = cuda::Floats { entries: &all, gradients: &all };
        let text = cuda::module(&plan, &floats).text;
        return if stage == Stage::Cuda { Ok(Made::Text(text)) } else { compiled(args, &text) };
    }
    let target = cpu::target().map_err(|e| Failure::running(e.to_string(), ""))?;
    Ok(Made::Text(clif::print(&plan, &|_| Float::F32, target)))
}

/// The vocab-level column that a slot holds.
fn entries(slot: &Slot) -> Option<ColumnId> {
    match slot.kind {
        SlotKind::Entries(column) => Some(column),
        _ => None,
    }
}

fn compiled(args: &Args, text: &str) -> Outcome<Made> {
    let failed = |e: DeviceError| Failure::input(e.to_string(), "");
    let nvrtc = nvrtc::nvrtc().map_err(failed)?;
    let architecture = args.arch.as_deref().unwrap_or("sm_90");
    if args.emit == Stage::Ptx {
        return Ok(Made::Text(nvrtc.ptx(text, architecture).map_err(failed)?));
    }
    let cubin = nvrtc.cubin(text, architecture).map_err(failed)?;
    if args.emit == Stage::Cubin {
        return Ok(Made::Code(cubin.code));
    }
    let kernels = cubin.resources();
    let (major, minor) = nvrtc.version;
    if args.json {
        let of = |(name, r): &(String, Resources)| {
            json!({
                "name": name, "registers": r.registers, "spills": r.spills, "stack": r.stack,
                "shared": r.shared, "constant": r.constant,
            })
        };
        let all: Vec<_> = kernels.iter().map(of).collect();
        let version = format!("{major}.{minor}");
        let all = json!({ "architecture": architecture, "nvrtc": version, "kernels": all });
        return Ok(Made::Text(format!("{all:#}\n")));
    }
    let width = kernels.iter().map(|k| k.0.len()).max().unwrap_or(0);
    let mut out = format!(
        "{:width$}  registers  spills  stack  shared  constant   ({architecture}, NVRTC {major}.{minor}; bytes)\n",
        "kernel"
    );
    for (name, r) in &kernels {
        let Resources { registers, spills, stack, shared, constant } = r;
        out += &format!(
            "{name:width$}  {registers:9}  {spills:6}  {stack:5}  {shared:6}  {constant:8}\n"
        );
    }
    Ok(Made::Text(out))
}
