//! The rlc command line, and the allocator it runs on.

mod allocator;

use allocator::Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> std::process::ExitCode {
    Allocator::keep_pages();
    rlc_cli::main(std::env::args_os())
}
