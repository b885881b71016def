//! Tree to text
use crate::ast::Module;
/// x
pub fn dump(m: &Module) -> String {
    format!("{m:#?}")
}
