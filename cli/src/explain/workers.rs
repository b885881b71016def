//! What data-parallel workers exchange, and when.

use rlc_compiler::hir::{E, Expr};
use rlc_compiler::program::{Phase, Program};
use rlc_compiler::specialize::{Settings, specialize};
use rlc_compiler::workers::{Crossing, crossings, obstacle};

use super::Subject;

impl Subject<'_> {
    pub(super) fn workers(&self) -> Vec<String> {
        let settings = Settings { params: self.params.clone(), ..Settings::default() };
        // Without the definitions that only this command stores.
        let Ok(specialized) = specialize(&self.checked, &settings) else { return Vec::new() };
        let program = &specialized.program;
        if obstacle(program).is_some() {
            // Its text is told by the program whose expressions have their names.
            let cause = obstacle(&self.specialized.program);
            let cause = cause.map_or("the loss".to_owned(), |e| self.written(e));
            return vec![
                "one worker only: rows are ordered or grouped across the whole batch".to_owned(),
                format!("cause: {cause}"),
            ];
        }
        let mut lines = vec!["each holds whole groups; reductions to the batch cross".to_owned()];
        for phase in [Phase::Recorded, Phase::Live, Phase::After] {
            let rounds: Vec<Crossing> =
                crossings(program).into_iter().filter(|c| c.phase == phase).collect();
            if rounds.is_empty() {
                continue;
            }
            let when = match phase {
                Phase::Recorded => "before the policy runs",
                Phase::Live => "within the live stage",
                Phase::After => "after the last piece",
            };
            for (n, round) in rounds.iter().enumerate() {
                let count = round.parts.len();
                let round_name =
                    if rounds.len() > 1 { format!(", round {}", n + 1) } else { String::new() };
                let numbers = if count == 1 { "number" } else { "numbers" };
                let mut distinct: Vec<String> = Vec::new();
                for name in round.parts.iter().filter_map(|e| reader(program, *e)) {
                    if !distinct.contains(&name) {
                        distinct.push(name);
                    }
                }
                let list: Vec<String> = distinct.iter().take(8).map(|n| format!("`{n}`")).collect();
                let list = if list.is_empty() {
                    String::new()
                } else {
                    format!(", for {}", list.join(", "))
                };
                lines.push(format!("{when}{round_name}: {count} {numbers}{list}"));
            }
        }
        lines
    }
}

/// The user's name of what first reads a reduction.
fn reader(program: &Program, e: E) -> Option<String> {
    let graph = &program.graph;
    if let Some(name) = graph.name(e) {
        return Some(name.to_owned());
    }
    let mut made_from = vec![false; graph.len()];
    for user in graph.all() {
        let own = user == e || graph.operands(user).any(|o| made_from[o.index()]);
        made_from[user.index()] = own;
        let named =
            graph.name(user).filter(|_| own && !matches!(graph.expr(user), Expr::Column(_)));
        if let Some(name) = named {
            return Some(name.to_owned());
        }
    }
    program.outputs().into_iter().find(|o| made_from[o.1.index()]).map(|o| o.0.replace('/', " "))
}
