//! `rlc compile`: what each stage of the compiler makes of a program, as text.

use std::path::PathBuf;

use clap::ValueEnum;
use rlc_compiler::check::Checked;
use rlc_compiler::clif::{self, Float};
use rlc_compiler::cuda;
use rlc_compiler::fuse::fuse;
use rlc_compiler::parse;
use rlc_compiler::specialize::{Settings, specialize};
use rlc_runtime::device::cpu;

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
    /// CUDA C of the live loops, for logits of 32 bits
    Cuda,
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Outcome {
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
        stage(args.emit, &checked, &args.set)?
    };
    match &args.output {
        Some(path) if path.as_os_str() != "-" => write_file(path, text.as_bytes()),
        _ => output.print(&text),
    }
}

fn stage(stage: Stage, checked: &Checked, sets: &[String]) -> Outcome<String> {
    let params = params::values(&checked.graph, sets)?;
    if stage == Stage::Hir {
        let mut roots = vec![("loss".to_owned(), checked.loss)];
        roots.extend(checked.metrics.iter().map(|m| (format!("metric/{}", m.name), m.value)));
        roots.extend(checked.kept.iter().map(|(name, e)| (format!("kept/{name}"), *e)));
        return Ok(checked.graph.print(&roots));
    }
    let settings = Settings { params, ..Settings::default() };
    let program =
        specialize(checked, &settings).map_err(|e| Failure::input(e.to_string(), ""))?.program;
    if stage == Stage::Program {
        return Ok(program.print());
    }
    let plan = fuse(&program).map_err(|e| Failure::input(e.to_string(), ""))?;
    if stage == Stage::Loops {
        return Ok(plan.print());
    }
    if stage == Stage::Cuda {
        let types = cuda::Types { entries: &|_| Float::F32, gradients: &|_| Float::F32 };
        return Ok(cuda::emit(&plan, &types).text);
    }
    let target = cpu::target().map_err(|e| Failure::running(e.to_string(), ""))?;
    Ok(clif::print(&plan, &|_| Float::F32, target))
}
