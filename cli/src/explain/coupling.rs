//! The coupling level, what causes it, and what it decides.

use rlc_compiler::hir::E;
use rlc_compiler::level::{BATCH, GROUP, TOKEN};

use super::Subject;

impl Subject<'_> {
    pub(super) fn coupling(&self) -> Vec<String> {
        let program = &self.specialized.program;
        let level = program.coupling;
        let name = program.graph.level_table.name(level);
        let mut lines = vec![format!("level: {name}")];
        if let Some(cause) = program.cause {
            lines.push(format!("cause: {}", self.written(cause)));
            lines.push(format!(
                "       reads the current policy over a whole {name}, and the loss is no sum of such parts"
            ));
        }
        lines.push(match level {
            TOKEN => "one pass over the logits gives loss and gradient".to_owned(),
            _ => "two passes over the logits: one for values, one for the gradient".to_owned(),
        });
        lines.push(match level {
            BATCH => "micro-batches: none; the batch runs whole".to_owned(),
            GROUP => "micro-batches: cut between groups".to_owned(),
            _ => "micro-batches: cut between any two rollouts".to_owned(),
        });
        lines
    }

    /// The user's text for an expression: its own, or that of the first one that is made from it.
    pub(crate) fn written(&self, cause: E) -> String {
        let graph = &self.specialized.program.graph;
        let mut made_from = vec![false; graph.len()];
        for e in graph.all() {
            let own = e == cause || graph.operands(e).any(|o| made_from[o.index()]);
            made_from[e.index()] = own;
            if let (true, Some(span)) = (own, graph.span(e)) {
                return format!("`{}` ({})", self.quote(span), self.place(span));
            }
            if let (true, Some(name)) = (own, graph.name(e)) {
                return format!("`{name}`");
            }
        }
        "the loss".to_owned()
    }
}
