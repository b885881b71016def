//! The rlc compiler core.
pub mod ast;
pub mod diagnostic;
pub mod hir;
pub mod level;
pub mod op;
pub mod parse;
pub mod program;
pub mod shape;
pub mod source;
pub mod table;
