//! The plan of the kernel: which loops run when, and how often they go over a token's vocab row.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rlc_compiler::fuse::fuse;
use rlc_compiler::level::Level;
use rlc_compiler::loops::{Item, Loop, Plan, SlotKind, Step, Sweep, Task};
use rlc_compiler::program::Phase;
use rlc_compiler::specialize::{Settings, specialize};

use super::Subject;

impl Subject<'_> {
    pub(super) fn kernel(&self) -> Vec<String> {
        let settings = Settings { params: self.params.clone(), ..Settings::default() };
        let plan = match specialize(&self.checked, &settings).map(|s| fuse(&s.program)) {
            Ok(Ok(plan)) => plan,
            Ok(Err(e)) => return vec![e.to_string()],
            Err(e) => return vec![e.to_string()],
        };
        lines(&plan)
    }
}

/// What runs when, a line for each phase and each loop over tokens of the live one.
pub fn lines(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for (phase, steps) in plan.phases() {
        if steps.is_empty() {
            continue;
        }
        let when = match phase {
            Phase::Recorded => "recorded, once over the batch".to_owned(),
            Phase::Live => format!("live, for each {}", plan.levels.name(plan.piece)),
            Phase::After => "after, once over the batch".to_owned(),
        };
        lines.push(format!("{when}: {}", count(plan, steps)));
        for step in steps {
            match step {
                Step::Loop(l) if phase == Phase::Live => lines.push(describe(plan, l)),
                Step::Loop(_) | Step::Call(_) => {}
            }
        }
    }
    let kept = plan.slots.iter().filter(|s| matches!(s.kind, SlotKind::Gradient(_)));
    let names: Vec<String> = kept.map(|s| format!("`{}`", s.name)).collect();
    if !names.is_empty() {
        lines.push(format!("stored of vocabulary size: {}", names.join(", ")));
    }
    lines
}

/// "5 loops (2 group, 3 token)".
fn count(plan: &Plan, steps: &[Step]) -> String {
    let (mut loops, mut sorted, mut matched) = (BTreeMap::<Level, usize>::new(), 0, 0);
    for step in steps {
        match step {
            Step::Loop(l) => *loops.entry(l.level).or_default() += 1,
            Step::Call(call) => match call.task {
                Task::Rank { .. } => sorted += 1,
                Task::Find { .. } | Task::Prefix { .. } => matched += 1,
            },
        }
    }
    let total: usize = loops.values().sum();
    let s = if total == 1 { "" } else { "s" };
    let each: Vec<String> =
        loops.iter().map(|(level, n)| format!("{n} {}", plan.levels.name(*level))).collect();
    let mut text = format!("{total} loop{s} ({})", each.join(", "));
    for (n, what) in [(sorted, "sorted"), (matched, "matched")] {
        if n > 0 {
            let _ = write!(text, ", {n} {what}");
        }
    }
    text
}

fn describe(plan: &Plan, of: &Loop) -> String {
    let mut line = format!("    {} over {}", of.name, plan.levels.name(of.level));
    let sweeps: Vec<&Sweep> = of
        .body
        .iter()
        .filter_map(|i| match i {
            Item::Sweep(sweep) => Some(sweep),
            Item::Let(..)
            | Item::Scan { .. }
            | Item::Shift { .. }
            | Item::Store(..)
            | Item::Spread(..)
            | Item::SpreadAt { .. }
            | Item::Fold { .. } => None,
        })
        .collect();
    if !sweeps.is_empty() {
        let what: Vec<&str> = sweeps.iter().map(|s| purpose(s)).collect();
        let s = if sweeps.len() == 1 { "" } else { "s" };
        let _ = write!(line, ": {} sweep{s} of the vocab row ({})", sweeps.len(), what.join(", "));
    }
    line
}

fn purpose(sweep: &Sweep) -> &'static str {
    match (sweep.folds.is_empty(), sweep.gradients.is_empty()) {
        (false, true) => "statistics",
        (true, _) => "gradient",
        (false, false) => "statistics and gradient",
    }
}
