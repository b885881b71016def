//! The rlc command line.

fn main() -> std::process::ExitCode {
    rlc_cli::main(std::env::args_os())
}
