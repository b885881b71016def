//! The rlc runtime.
