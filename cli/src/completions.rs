//! `rlc completions`: what a shell needs to complete commands, options and their values. Names of programs are not among
//! them: a shell completes files there.

use clap_complete::{Shell, generate};

use crate::failure::Outcome;
use crate::output::Output;

/// Print what a shell needs to complete rlc's commands and options
///
/// The script goes to stdout; put it where the shell looks, and open a new shell. An rlc with other options needs it
/// written again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rlc completions bash > ~/.local/share/bash-completion/completions/rlc
  rlc completions zsh > ~/.zfunc/_rlc      ~/.zshrc needs `fpath+=~/.zfunc` before `compinit`
  rlc completions fish > ~/.config/fish/completions/rlc.fish
  rlc completions powershell >> $PROFILE
  rlc completions elvish >> ~/.config/elvish/rc.elv
  source <(rlc completions bash)           this shell only, to try it

The folder must exist: `mkdir -p` makes it.")]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Outcome {
    let mut script = Vec::new();
    generate(args.shell, &mut crate::command(), "rlc", &mut script);
    output.print(&String::from_utf8_lossy(&script))
}
