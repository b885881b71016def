//! The rlc compiler core.
