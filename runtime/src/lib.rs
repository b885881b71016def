//! The rlc runtime.
pub mod batch;
pub mod device;
pub mod objective;
pub mod train;
