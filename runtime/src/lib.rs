//! The rlc runtime.
pub mod batch;
pub mod objective;
pub mod train;
