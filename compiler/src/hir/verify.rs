//! What holds of every graph. A back end may rely on it and never panics on a verified graph.

use super::{E, Expr, Graph};
use crate::level::{BATCH, Level, LevelKind, ROLLOUT, TOKEN, VOCAB};
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
            // Rows go in order inside rows of the tree only.
            let holds = |scope: Level, level: Level| {
                !self.level_table.is_derived(scope) && self.level_table.contains(scope, level)
            };
            let truth = |f: Option<E>| f.is_none_or(|f| self.ty(f) == Ty::Bool);
            let ok = match self.expr(e) {
                Expr::Const(_) | Expr::Param(_) => here == BATCH,
                Expr::Column(c) => here == self.columns[c.0 as usize].level,
                Expr::Choose(c, x, _) => here == self.columns[c.0 as usize].level && at(x) == here,
                Expr::Unary(_, x) | Expr::Detach(x) => same(&[x]),
                Expr::Binary(_, a, b) => same(&[a, b]),
                Expr::Select(c, a, b) => same(&[c, a, b]) && self.ty(c) == Ty::Bool,
                Expr::Broadcast(x) => {
                    let table = &self.level_table;
                    at(x) != here
                        && (table.contains(at(x), here) && !table.is_derived(at(x))
                            || table.rows(at(x)) == table.rows(here))
                }
                Expr::Reduce(_, x, f) => {
                    at(x) != here
                        && self.level_table.contains(here, at(x))
                        && !self.level_table.is_derived(here)
                        && (at(x) != VOCAB || here == TOKEN)
                        && f.is_none_or(|f| at(f) == at(x))
                        && truth(f)
                }
                Expr::Scatter { x, filter, index, scope, .. } => {
                    at(index) == at(x)
                        && at(x) != VOCAB
                        && filter.is_none_or(|f| at(f) == at(x))
                        && truth(filter)
                        && holds(scope, at(x))
                }
                Expr::Gather { x, index, scope } => {
                    at(index) == here && here != VOCAB && at(x) != VOCAB && holds(scope, here)
                }
                Expr::Scan { x, filter, factor, scope, within, .. } => {
                    same(&[x])
                        && [filter, factor, within].into_iter().flatten().all(|o| at(o) == here)
                        && truth(filter)
                        && holds(scope, here)
                }
                Expr::Rank { x, filter, scope, within } => {
                    same(&[x])
                        && [filter, within].into_iter().flatten().all(|o| at(o) == here)
                        && truth(filter)
                        && holds(scope, here)
                }
                Expr::Find { key, want, filter, scope, within } => {
                    same(&[key, want])
                        && [filter, within].into_iter().flatten().all(|o| at(o) == here)
                        && truth(filter)
                        && holds(scope, here)
                }
                Expr::Shift { x, default, filter, scope, within, by } => {
                    same(&[x, default])
                        && by != 0
                        && [filter, within].into_iter().flatten().all(|o| at(o) == here)
                        && truth(filter)
                        && holds(scope, here)
                }
                Expr::Prefix(x, scope) => {
                    same(&[x]) && holds(scope, here) && self.level_table.contains(ROLLOUT, here)
                }
                Expr::Side(_) => {
                    matches!(self.level_table.def(here).kind, LevelKind::Pairs(..))
                }
                Expr::Row => here != VOCAB,
                Expr::At(x, i) => {
                    at(x) == VOCAB
                        && at(i) == here
                        && here != VOCAB
                        && self.level_table.contains(TOKEN, here)
                }
                Expr::Nth(x, n) => at(x) == VOCAB && at(n) == TOKEN && here == TOKEN,
                Expr::Spread { d, index } => {
                    here == VOCAB
                        && at(d) == at(index)
                        && at(d) != VOCAB
                        && self.level_table.contains(TOKEN, at(d))
                }
                Expr::VocabIndex => here == VOCAB,
            };
            if !ok {
                return fail("levels or types do not fit");
            }
        }
        Ok(())
    }
}
