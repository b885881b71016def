//! Which loop does which node.
//!
//! Coarse loops are cheap, so they go first; when only fine work is left, one fine loop takes
//! everything that is ready. Then each value moves to the last loop in which all its users live, so
//! that as little as possible is stored.

use super::Unsupported;
use super::nodes::{Node, NodeId, Nodes, Task};
use crate::level::{Level, Levels};
use crate::loops::Direction;
use crate::program::Phase;

/// One loop, or one call.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub phase: Phase,
    pub level: Level,
    pub direction: Direction,
    /// In order.
    pub nodes: Vec<NodeId>,
}

/// Steps in order.
pub(super) struct Schedule {
    pub steps: Vec<Step>,
    /// The step of each node.
    pub at: Vec<usize>,
}

const NOT_YET: usize = usize::MAX;

pub(super) fn schedule(levels: &Levels, nodes: &Nodes) -> Result<Schedule, Unsupported> {
    let list = &nodes.list;
    let mut out = Schedule { steps: Vec::new(), at: vec![NOT_YET; list.len()] };
    for phase in [Phase::Recorded, Phase::Live, Phase::After] {
        while let Some(step) = next(levels, list, &out, phase) {
            for &n in &step.nodes {
                out.at[n] = out.steps.len();
            }
            out.steps.push(step);
        }
        if list.iter().zip(&out.at).any(|(n, at)| n.phase == phase && *at == NOT_YET) {
            // A node waits for a later phase: the stage split is at fault.
            return Err(Unsupported {
                what: format!("an expression of phase {phase:?} reads a later one"),
                span: None,
            });
        }
    }
    sink(list, &mut out);
    Ok(out)
}

fn next(levels: &Levels, list: &[Node], done: &Schedule, phase: Phase) -> Option<Step> {
    let finished = |n: NodeId| done.at[n] != NOT_YET;
    let ready: Vec<NodeId> = (0..list.len())
        .filter(|&n| list[n].phase == phase && !finished(n))
        .filter(|&n| list[n].needs.iter().chain(&list[n].after).all(|&o| finished(o)))
        .collect();
    if let Some(&n) = ready.iter().find(|&&n| matches!(list[n].task, Task::Call(_))) {
        let level = list[n].level;
        return Some(Step { phase, level, direction: Direction::Forward, nodes: vec![n] });
    }
    let level = ready.iter().map(|&n| list[n].level).min_by_key(|l| (levels.depth(*l), *l))?;
    let forward = grow(list, done, phase, level, Direction::Forward);
    let reverse = grow(list, done, phase, level, Direction::Reverse);
    Some(if forward.nodes.len() >= reverse.nodes.len() { forward } else { reverse })
}

/// Everything one loop can do now.
fn grow(list: &[Node], done: &Schedule, phase: Phase, level: Level, direction: Direction) -> Step {
    let mut inside = vec![false; list.len()];
    let mut nodes = Vec::new();
    for (n, node) in list.iter().enumerate() {
        let fits = node.phase == phase
            && node.level == level
            && done.at[n] == NOT_YET
            && !matches!(node.task, Task::Call(_))
            && node.direction.is_none_or(|d| d == direction)
            && node.after.iter().all(|&o| done.at[o] != NOT_YET)
            // A fold is complete only when its loop has ended.
            && node.needs.iter().all(|&o| {
                done.at[o] != NOT_YET || inside[o] && matches!(list[o].task, Task::Value(_))
            });
        if fits {
            inside[n] = true;
            nodes.push(n);
        }
    }
    Step { phase, level, direction, nodes }
}

/// Moves values to the last loop in which all their users live.
fn sink(list: &[Node], schedule: &mut Schedule) {
    let mut users: Vec<Vec<NodeId>> = vec![Vec::new(); list.len()];
    for (n, node) in list.iter().enumerate() {
        for &o in node.needs.iter().chain(&node.after) {
            users[o].push(n);
        }
    }
    // Users come after what they use, so theirs is settled first.
    for (n, node) in list.iter().enumerate().rev() {
        if node.pinned || !matches!(node.task, Task::Value(_)) {
            continue;
        }
        let from = schedule.at[n];
        let Some(&first) = users[n].first() else { continue };
        let to = schedule.at[first];
        let step = &schedule.steps[to];
        let together =
            users[n].iter().all(|&u| schedule.at[u] == to && !list[u].after.contains(&n));
        // Recorded scalar code may as well be computed where the live phase reads it.
        let phase_fits = step.phase == node.phase || node.scalar && !node.output;
        let fits = to != from
            && together
            && phase_fits
            && step.level == node.level
            && node.direction.is_none_or(|d| d == step.direction);
        // What it reads must not have to be stored in its place.
        let stays = |o: NodeId| {
            schedule.at[o] == from
                && list[o].level == node.level
                && !list[o].output
                && users[o].iter().all(|&u| u == n || schedule.at[u] == from)
                && (list[o].pinned || users[o].len() > 1)
        };
        if fits && !node.needs.iter().any(|&o| matches!(list[o].task, Task::Value(_)) && stays(o)) {
            schedule.at[n] = to;
        }
    }
    for (i, step) in schedule.steps.iter_mut().enumerate() {
        step.nodes = (0..list.len()).filter(|&n| schedule.at[n] == i).collect();
    }
    let mut index = Vec::with_capacity(schedule.steps.len());
    let mut kept = 0;
    for step in &schedule.steps {
        index.push(kept);
        kept += usize::from(!step.nodes.is_empty());
    }
    schedule.steps.retain(|s| !s.nodes.is_empty());
    for at in &mut schedule.at {
        *at = index[*at];
    }
}
