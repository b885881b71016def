//! The rlc runtime.
pub mod train;
