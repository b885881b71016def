//! The rlc command line, and the allocator it runs on.
//!
//! A training step asks for hundreds of megabytes and gives them back, and pages that the system hands out anew cost more
//! than what is computed in them: freed pages stay with the process.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The option that says after how many milliseconds freed pages go back (mimalloc.h: `mi_option_purge_delay`).
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

fn main() -> std::process::ExitCode {
    // SAFETY: stores one number in the allocator's table of options, before there is a second thread; -1 is the
    // documented value for never.
    #[allow(unsafe_code)]
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, -1);
    }
    rlc_cli::main(std::env::args_os())
}
