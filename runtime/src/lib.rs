//! The rlc runtime.
pub mod batch;
pub mod device;
mod fingerprint;
pub mod objective;
pub mod train;

pub use fingerprint::fingerprint;
