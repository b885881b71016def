//! What holds of every graph. A back end may rely on it and never panics on a verified graph.

use super::{E, Expr, Graph};
use crate::level::{BATCH, TOKEN, VOCAB};
use crate::op::Ty;

impl Graph {
    /// The invariants of the graph; a broken one is a compiler fault. Run after each pass in tests.
    pub fn verify(&self) -> Result<(), String> {
        for e in self.all() {
            let at = |o: E| self.level(o);
            let here = self.level(e);
            let fail = |why: &str| Err(format!("%{}: {why}: {}", e.0, self.print_expr(e)));
            if self.operands(e).into_iter().any(|o| o >= e) {
                return fail("operand is not earlier");
            }
            let same = |os: &[E]| os.iter().all(|o| at(*o) == here);
            let truth = |f: Option<E>| f.is_none_or(|f| self.ty(f) == Ty::Bool);
            let ok = match self.expr(e) {
                Expr::Const(_) | Expr::Param(_) => here == BATCH,
                Expr::Column(c) => here == self.columns[c.0 as usize].level,
                Expr::Choose(c, x, _) => here == self.columns[c.0 as usize].level && at(x) == here,
                Expr::Unary(_, x) | Expr::Detach(x) => same(&[x]),
                Expr::Binary(_, a, b) => same(&[a, b]),
                Expr::Select(c, a, b) => same(&[c, a, b]) && self.ty(c) == Ty::Bool,
                Expr::Broadcast(x) => at(x) != here && self.level_table.contains(at(x), here),
                Expr::Reduce(_, x, f) => {
                    at(x) != here
                        && self.level_table.contains(here, at(x))
                        && (at(x) != VOCAB || here == TOKEN)
                        && f.is_none_or(|f| at(f) == at(x))
                        && truth(f)
                }
                Expr::Scan { x, filter, scope, .. } | Expr::Rank { x, filter, scope } => {
                    same(&[x])
                        && filter.is_none_or(|f| at(f) == here)
                        && truth(filter)
                        && self.level_table.contains(scope, here)
                }
                Expr::Shift { x, default, filter, scope, by } => {
                    same(&[x, default])
                        && by != 0
                        && filter.is_none_or(|f| at(f) == here)
                        && truth(filter)
                        && self.level_table.contains(scope, here)
                }
                Expr::At(x, i) => at(x) == VOCAB && at(i) == TOKEN && here == TOKEN,
                Expr::VocabIndex => here == VOCAB,
            };
            if !ok {
                return fail("levels or types do not fit");
            }
        }
        Ok(())
    }
}
