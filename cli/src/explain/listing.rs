//! The linked program, file by file: what each definition is, and where it was replaced.

use std::collections::BTreeSet;

use rlc_compiler::ast::{Statement, StatementKind};
use rlc_compiler::level::{BATCH, VOCAB};
use rlc_compiler::parse::parse;
use rlc_compiler::program::Phase;
use rlc_compiler::stage::Reads;

use super::{Subject, names};
use crate::output::Output;
use crate::statement;

impl Subject<'_> {
    /// The user's file first, the prelude last; of the prelude only what the program uses.
    pub(super) fn listing(&self, output: &Output) -> String {
        let modules: Vec<Vec<Statement>> = self
            .linked
            .files
            .iter()
            .map(|&file| parse(&self.program.sources, file).0.statements)
            .collect();
        let used = self.used(&modules);
        let names: Vec<&str> =
            self.linked.files.iter().map(|&f| self.program.sources.get(f).name.as_str()).collect();
        let live = Reads::of(&self.checked.graph);
        let mut text = String::new();
        for (depth, statements) in modules.iter().enumerate().rev() {
            let shown: Vec<&Statement> = statements
                .iter()
                .filter(|s| depth > 0 || statement::name(&s.kind).is_none_or(|n| used.contains(n)))
                .filter(|s| !matches!(s.kind, StatementKind::Extend(_)))
                .collect();
            if shown.is_empty() {
                continue;
            }
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&output.bold(names[depth]));
            text.push_str(match depth {
                0 => " (what the program uses of it)\n",
                _ => "\n",
            });
            for statement in shown {
                if let Some(by) = self.replaced(&statement.kind, depth) {
                    let head = heading(&statement.kind);
                    text.push_str(&format!(
                        "  {}\n",
                        output.dim(&format!("{head}: replaced in {}", names[by]))
                    ));
                    continue;
                }
                for line in statement.doc.iter().flat_map(|d| d.lines()) {
                    text.push_str(&format!("  {}\n", output.dim(&format!("## {line}"))));
                }
                for line in self.program.sources.slice(statement.span).lines() {
                    text.push_str(&format!("  {line}\n"));
                }
                if let Some(facts) = self.facts(&statement.kind, &live) {
                    text.push_str(&format!("      : {facts}\n"));
                }
            }
        }
        text.push_str(STAGES);
        text
    }

    /// Names that the program reads, directly or through what it reads.
    fn used(&self, modules: &[Vec<Statement>]) -> BTreeSet<String> {
        let mut used = BTreeSet::new();
        let mut open: Vec<String> = Vec::new();
        for (depth, statements) in modules.iter().enumerate().skip(1) {
            for s in statements.iter().filter(|s| self.replaced(&s.kind, depth).is_none()) {
                open.extend(names::read_by(&s.kind));
            }
        }
        while let Some(name) = open.pop() {
            if used.insert(name.clone()) {
                for s in modules.first().into_iter().flatten() {
                    if statement::name(&s.kind) == Some(&name) {
                        open.extend(names::read_by(&s.kind));
                    }
                }
            }
        }
        used
    }

    /// Position of the file that says what counts in this statement's place.
    fn replaced(&self, kind: &StatementKind, depth: usize) -> Option<usize> {
        let last = match kind {
            StatementKind::Param { name, .. }
            | StatementKind::Def { name, .. }
            | StatementKind::State { name, .. } => self.linked.value(&name.name)?.depth,
            StatementKind::Input(decl) | StatementKind::Policy(decl) => {
                self.linked.value(&decl.name.name)?.depth
            }
            StatementKind::Fn { name, .. } => self.linked.function(&name.name)?.depth,
            StatementKind::Goal { .. } => self.linked.goal.as_ref()?.1.depth,
            StatementKind::Metric { name, .. } => {
                self.linked.metrics.iter().find(|m| m.ident.name == name.name)?.depth
            }
            StatementKind::Update { name, .. } => {
                self.linked.updates.iter().find(|u| u.ident.name == name.name)?.depth
            }
            StatementKind::Sample { what, .. } => {
                self.linked.samples.iter().find(|s| s.ident.name == what.name)?.depth
            }
            StatementKind::Extend(_)
            | StatementKind::Level { .. }
            | StatementKind::List { .. }
            | StatementKind::Key { .. }
            | StatementKind::Filter { .. }
            | StatementKind::Allow(_) => return None,
        };
        (last != depth).then_some(last)
    }

    /// Type, level and stage.
    fn facts(&self, kind: &StatementKind, live: &Reads) -> Option<String> {
        let graph = &self.checked.graph;
        let program = &self.specialized.program;
        match kind {
            StatementKind::Def { name, .. } => {
                let definition = self.checked.definitions.iter().find(|d| d.name == name.name)?;
                let level = graph.level(definition.value);
                let rows = match level {
                    BATCH => "one for the batch".to_owned(),
                    VOCAB => "one per vocabulary entry".to_owned(),
                    _ => format!("one per {}", graph.level_table.name(level)),
                };
                let stored = program.values.iter().find(|v| v.name == name.name);
                let stage = match stored {
                    Some(v) => stage_name(program.phase(v.value)),
                    None if live.is_live(definition.value) => stage_name(Phase::Live),
                    None => stage_name(Phase::Recorded),
                };
                Some(format!("{}, {rows}; {stage}", graph.ty(definition.value).name()))
            }
            StatementKind::Metric { name, .. } => {
                let (_, e) = program.metrics.iter().find(|m| m.0 == name.name)?;
                Some(format!("real, one for the batch; {}", stage_name(program.phase(*e))))
            }
            StatementKind::Goal { .. } => Some(format!(
                "real, one for the batch; {}",
                stage_name(program.phase(program.loss))
            )),
            StatementKind::Filter { cond, .. } => {
                let (_, e, _, _) = self.checked.filters.iter().find(|f| f.3 == cond.span)?;
                let stage = if live.is_live(*e) { Phase::Live } else { Phase::Recorded };
                Some(format!("condition: {}", stage_name(stage)))
            }
            StatementKind::Sample { what, .. } => {
                let sample = program.samples.iter().find(|s| s.kind.name() == what.name)?;
                let ty = program.graph.ty(sample.value).name();
                Some(format!("{ty}, one per group; {}", stage_name(program.phase(sample.value))))
            }
            StatementKind::Extend(_)
            | StatementKind::Param { .. }
            | StatementKind::Input(_)
            | StatementKind::Policy(_)
            | StatementKind::Level { .. }
            | StatementKind::List { .. }
            | StatementKind::Key { .. }
            | StatementKind::State { .. }
            | StatementKind::Update { .. }
            | StatementKind::Fn { .. }
            | StatementKind::Allow(_) => None,
        }
    }
}

const STAGES: &str = "\n\
recorded: once over the whole batch, before the policy runs; live: with the current policy, piece by\n\
piece; after: over the whole batch, when all pieces have run.\n";

fn stage_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Recorded => "recorded",
        Phase::Live => "live",
        Phase::After => "after",
    }
}

fn heading(kind: &StatementKind) -> String {
    let word = match kind {
        StatementKind::Param { .. } => "param ",
        StatementKind::Input(_) => "input ",
        StatementKind::Policy(_) => "policy ",
        StatementKind::State { .. } => "state ",
        StatementKind::Fn { .. } => "fn ",
        StatementKind::Update { .. } => "update ",
        StatementKind::Metric { .. } => "metric ",
        StatementKind::Sample { .. } => "sample ",
        StatementKind::Goal { maximize: true, .. } => "maximize",
        StatementKind::Goal { maximize: false, .. } => "minimize",
        StatementKind::Extend(_)
        | StatementKind::Level { .. }
        | StatementKind::List { .. }
        | StatementKind::Key { .. }
        | StatementKind::Filter { .. }
        | StatementKind::Def { .. }
        | StatementKind::Allow(_) => "",
    };
    format!("{word}{}", statement::name(kind).unwrap_or(""))
}
