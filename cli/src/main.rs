//! The rlc command line.
fn main() {}
