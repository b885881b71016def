//! Levels beside the standard ones: a segmentation, rows below a token, lists, pairs.
#![allow(clippy::panic, dead_code, reason = "a test fails by panicking")]

use rlc_compiler::level::{GROUP, Level, Levels, ROLLOUT, TURN};
use rlc_compiler::source::{FileId, Span};
use rlc_compiler::table::{Data, Table};

use super::Rng;

pub const NOWHERE: Span = Span { file: FileId(0), start: 0, end: 0 };

pub const ITEM: Level = Level(6);
pub const CANDIDATE: Level = Level(7);
pub const NOTE: Level = Level(8);
pub const MARK: Level = Level(9);
pub const DUEL: Level = Level(10);
pub const PLY: Level = Level(11);

/// Declares them, in the order of the constants.
pub fn declare(levels: &mut Levels) {
    let name = |n: &str| n.to_owned();
    let found = [
        levels.add_segmentation(name("item"), NOWHERE),
        levels.add_below(name("candidate"), NOWHERE),
        levels.add_list(name("note"), ROLLOUT, NOWHERE),
        levels.add_list(name("mark"), TURN, NOWHERE),
        levels.add_pairs(name("duel"), ROLLOUT, GROUP, NOWHERE),
        levels.add_pairs(name("ply"), TURN, ROLLOUT, NOWHERE),
    ];
    assert_eq!(found, [ITEM, CANDIDATE, NOTE, MARK, DUEL, PLY]);
}

fn sizes(table: &Table, name: &str) -> Vec<i64> {
    match table.get(name).map(|a| &a.data) {
        Some(Data::I64(sizes)) => sizes.clone(),
        _ => panic!("no {name}"),
    }
}

/// Adds their structure and columns to a batch. Many elements are empty.
pub fn add(rng: &mut Rng, table: &mut Table, width: usize) {
    let rollouts = sizes(table, "rollout/size");
    let (mut items, mut per_rollout) = (Vec::new(), Vec::new());
    for &tokens in &rollouts {
        let (mut left, before) = (tokens, items.len());
        while left > 0 {
            let n = (rng.below(4) as i64).min(left);
            items.push(n);
            left -= n;
        }
        per_rollout.push((items.len() - before) as i64);
    }
    let tokens = rollouts.iter().sum::<i64>() as usize;
    let some = |rng: &mut Rng, n: usize| -> Vec<i64> {
        (0..n).map(|_| rng.below(4).saturating_sub(1) as i64).collect()
    };
    let candidates = some(rng, tokens);
    let notes = some(rng, rollouts.len());
    let marks = some(rng, sizes(table, "turn/size").len());
    let below = candidates.iter().sum::<i64>() as usize;
    table.set("item/size", Data::I64(items));
    table.set("rollout/items", Data::I64(per_rollout));
    table.set("candidate/size", Data::I64(candidates));
    let entry = (0..below).map(|_| rng.below(width + 2) as i64 - 1).collect();
    table.set("candidate/entry", Data::I64(entry));
    table.set("candidate/weight", Data::F64(rng.normals(below, 1.0)));
    let listed = notes.iter().sum::<i64>() as usize;
    table.set("note/score", Data::F64(rng.normals(listed, 1.0)));
    table.set("note/size", Data::I64(notes));
    table.set("mark/size", Data::I64(marks));
}
