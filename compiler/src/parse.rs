//! Text to tree (being written).
use crate::{
    ast::Module,
    diagnostic::Diagnostic,
    source::{FileId, Sources},
};
/// Parses one text. Errors never stop the following statements.
pub fn parse(_sources: &Sources, _file: FileId) -> (Module, Vec<Diagnostic>) {
    (Module::default(), Vec::new())
}
