//! The coupling level, what causes it, and what it decides.

use rlc_compiler::level::{BATCH, GROUP, TOKEN};

use super::Subject;

impl Subject<'_> {
    pub(super) fn coupling(&self) -> Vec<String> {
        let program = &self.specialized.program;
        let level = program.coupling;
        let name = program.graph.level_table.name(level);
        let mut lines = vec![format!("level: {name}")];
        if let Some(cause) = program.cause {
            let mut line = String::from("cause: ");
            if let Some(span) = program.graph.span(cause) {
                line.push_str(&format!("`{}` ({})", self.quote(span), self.place(span)));
            } else if let Some(name) = program.graph.name(cause) {
                line.push_str(&format!("`{name}`"));
            }
            lines.push(line);
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
}
