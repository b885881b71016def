//! A batch as the tree that it is, so that a test can permute it, take parts away and write it down:
//!
//! ```text
//! group
//!   rollout reward=0.5
//!     turn
//!       token logp=-0.25 mask=0
//!       token logits=0,1,0.5,-1
//! ```
//!
//! A value that is not written is the plain one of its column.

use std::fmt::Write as _;

use rlc_compiler::table::{Array, Data, Table};

use crate::batches::Random;

/// Entries of a vocabulary row.
pub const VOCAB: usize = 4;

/// A column of every tree.
struct Column {
    level: usize,
    name: &'static str,
    kind: Kind,
    plain: f64,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Real,
    Int,
    Bool,
}

const fn column(level: usize, name: &'static str, kind: Kind, plain: f64) -> Column {
    Column { level, name, kind, plain }
}

const LEVELS: [&str; 4] = ["group", "rollout", "turn", "token"];
const ROLLOUT: usize = 1;
const TOKEN: usize = 3;

const COLUMNS: [Column; 16] = [
    column(0, "prompt", Kind::Int, 0.0),
    column(1, "reward", Kind::Real, 0.0),
    column(1, "correct", Kind::Bool, 0.0),
    column(1, "truncated", Kind::Bool, 0.0),
    column(2, "step_correct", Kind::Real, 0.0),
    column(2, "step_reward", Kind::Real, 0.0),
    column(3, "action", Kind::Int, 0.0),
    column(3, "mask", Kind::Bool, 1.0),
    column(3, "logp", Kind::Real, -1.0),
    column(3, "entropy", Kind::Real, 1.0),
    column(3, "old_logp", Kind::Real, -1.0),
    column(3, "ref_logp", Kind::Real, -1.0),
    column(3, "sampler_logp", Kind::Real, -1.0),
    column(3, "value", Kind::Real, 0.0),
    column(3, "old_value", Kind::Real, 0.0),
    column(3, "token_reward", Kind::Real, 0.0),
];

/// A row with the rows below it.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// 0: a group, 3: a token.
    level: usize,
    /// By the columns of the level, in their order.
    values: Vec<f64>,
    /// Of tokens.
    logits: [f64; VOCAB],
    /// Of tokens: the number in the batch that the tree was made for.
    id: usize,
    /// Rows of the next level.
    pub below: Vec<Node>,
}

impl Node {
    fn plain(level: usize) -> Node {
        let values = columns(level).map(|c| c.plain).collect();
        Node { level, values, logits: [0.0; VOCAB], id: 0, below: Vec::new() }
    }

    fn set(&mut self, name: &str, value: f64) {
        let found = columns(self.level).position(|c| c.name == name);
        self.values[found.unwrap_or_else(|| panic!("no column {name}"))] = value;
    }

    fn get(&self, name: &str) -> f64 {
        let found = columns(self.level).position(|c| c.name == name);
        self.values[found.unwrap_or_else(|| panic!("no column {name}"))]
    }

    fn rows<'a>(&'a self, level: usize, out: &mut Vec<&'a Node>) {
        if self.level == level {
            out.push(self);
        } else {
            self.below.iter().for_each(|n| n.rows(level, out));
        }
    }

    fn rows_mut<'a>(&'a mut self, level: usize, out: &mut Vec<&'a mut Node>) {
        if self.level == level {
            out.push(self);
        } else {
            self.below.iter_mut().for_each(|n| n.rows_mut(level, out));
        }
    }
}

fn columns(level: usize) -> impl Iterator<Item = &'static Column> {
    COLUMNS.iter().filter(move |c| c.level == level)
}

/// A batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    /// The policy's numbers are `vocab/logits`; else `token/logp` and `token/entropy`.
    pub logits: bool,
    /// Groups.
    pub groups: Vec<Node>,
}

/// What a tree is drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ratios {
    /// Log-ratios of a few units.
    Usual,
    /// Also 1 exactly, and down to exp(-60) and up to exp(40).
    Extreme,
}

impl Tree {
    /// A ragged batch. Groups, rollouts and turns may be empty; all tokens of a rollout, or of the
    /// batch, may be masked; rewards and numbers of tokens may be equal.
    pub fn random(r: &mut Random, ratios: Ratios) -> Tree {
        let coarse = |r: &mut Random| r.below(9) as f64 / 8.0 - 0.5;
        let mut tree = Tree { logits: r.below(2) == 0, groups: Vec::new() };
        let (none_kept, on_policy) = (r.below(12) == 0, r.below(8) == 0);
        for prompt in 0..=r.below(3) {
            let mut group = Node::plain(0);
            group.set("prompt", prompt as f64);
            let (equal, reward) = (r.below(4) == 0, coarse(r));
            for _ in 0..r.below(4) {
                let mut rollout = Node::plain(ROLLOUT);
                rollout.set("reward", if equal { reward } else { coarse(r) });
                rollout.set("correct", r.below(2) as f64);
                rollout.set("truncated", r.below(2) as f64);
                let masked = none_kept || r.below(6) == 0;
                // Turns until the tokens are used up, and sometimes an empty one behind.
                let mut left = r.below(6);
                while left > 0 || r.below(4) == 0 {
                    let mut turn = Node::plain(2);
                    turn.set("step_correct", coarse(r) + 0.5);
                    turn.set("step_reward", coarse(r));
                    let size = r.below(4).min(left);
                    left -= size;
                    turn.below = (0..size).map(|_| token(r, masked, on_policy, ratios)).collect();
                    rollout.below.push(turn);
                }
                group.below.push(rollout);
            }
            tree.groups.push(group);
        }
        if !tree.logits {
            tree.rows_mut(TOKEN).into_iter().for_each(|t| t.logits = [0.0; VOCAB]);
        }
        tree.number();
        tree
    }

    /// Gives every token its place as its number.
    pub fn number(&mut self) {
        for (i, token) in self.rows_mut(TOKEN).into_iter().enumerate() {
            token.id = i;
        }
    }

    fn rows(&self, level: usize) -> Vec<&Node> {
        let mut out = Vec::new();
        self.groups.iter().for_each(|g| g.rows(level, &mut out));
        out
    }

    fn rows_mut(&mut self, level: usize) -> Vec<&mut Node> {
        let mut out = Vec::new();
        self.groups.iter_mut().for_each(|g| g.rows_mut(level, &mut out));
        out
    }

    /// How many rollouts.
    pub fn rollouts(&self) -> usize {
        self.rows(ROLLOUT).len()
    }

    /// The numbers of the tokens in their present order.
    pub fn order(&self) -> Vec<usize> {
        self.rows(TOKEN).iter().map(|t| t.id).collect()
    }

    /// The same batch with its groups, and the rollouts of each, in another order.
    #[must_use]
    pub fn permuted(&self, r: &mut Random) -> Tree {
        let mut tree = self.clone();
        let mut shuffle = |nodes: &mut Vec<Node>| {
            for i in (1..nodes.len()).rev() {
                nodes.swap(i, r.below(i + 1));
            }
        };
        shuffle(&mut tree.groups);
        tree.groups.iter_mut().for_each(|g| shuffle(&mut g.below));
        tree
    }

    /// What a back end gets.
    pub fn table(&self) -> Table {
        let mut table = Table::default();
        for (level, name) in LEVELS.into_iter().enumerate() {
            let rows = self.rows(level);
            for (i, column) in columns(level).enumerate() {
                if self.logits && (column.name == "logp" || column.name == "entropy") {
                    continue;
                }
                let values = rows.iter().map(|row| row.values[i]);
                let data = match column.kind {
                    Kind::Real => Data::F64(values.collect()),
                    Kind::Int => Data::I64(values.map(|v| v as i64).collect()),
                    Kind::Bool => Data::U8(values.map(|v| u8::from(v != 0.0)).collect()),
                };
                table.set(format!("{name}/{}", column.name), data);
            }
        }
        if self.logits {
            let tokens = self.rows(TOKEN);
            let data = Data::F64(tokens.iter().flat_map(|t| t.logits).collect());
            let array = Array { data, shape: vec![tokens.len(), VOCAB] };
            table.arrays.insert("vocab/logits".to_owned(), array);
        }
        let counts = |level: usize, of: &dyn Fn(&Node) -> usize| {
            Data::I64(self.rows(level).iter().map(|n| of(n) as i64).collect())
        };
        table.set("group/size", counts(0, &|g| g.below.len()));
        table.set("rollout/size", counts(1, &|n| n.below.iter().map(|t| t.below.len()).sum()));
        table.set("rollout/turns", counts(1, &|n| n.below.len()));
        table.set("turn/size", counts(2, &|t| t.below.len()));
        table
    }

    /// The corners of ragged batches that this one has.
    pub fn corners(&self) -> Vec<&'static str> {
        let rollouts = self.rows(ROLLOUT);
        let tokens = self.rows(TOKEN);
        let of = |n: &Node| n.below.iter().flat_map(|t| t.below.clone()).collect::<Vec<Node>>();
        let group = |f: &dyn Fn(&Node) -> bool| self.groups.iter().any(f);
        let rollout = |f: &dyn Fn(&[Node]) -> bool| rollouts.iter().any(|n| f(&of(n)));
        let ratio = |t: &Node| t.get("logp") - t.get("old_logp");
        let policy = |f: &dyn Fn(&Node) -> bool| !self.logits && tokens.iter().any(|t| f(t));
        let rewards = |g: &Node| g.below.iter().map(|n| n.get("reward")).collect::<Vec<_>>();
        [
            ("an empty group", group(&|g| g.below.is_empty())),
            ("a singleton group", group(&|g| g.below.len() == 1)),
            (
                "equal rewards",
                group(&|g| g.below.len() > 1 && rewards(g).windows(2).all(|w| w[0] == w[1])),
            ),
            ("an empty rollout", rollout(&|t| t.is_empty())),
            ("a rollout of one token", rollout(&|t| t.len() == 1)),
            (
                "a masked rollout",
                rollout(&|t| !t.is_empty() && t.iter().all(|t| t.get("mask") == 0.0)),
            ),
            ("a masked batch", tokens.iter().all(|t| t.get("mask") == 0.0)),
            ("an empty turn", self.rows(2).iter().any(|t| t.below.is_empty())),
            ("no tokens", tokens.is_empty()),
            ("no rollouts", rollouts.is_empty()),
            ("ratio 1", policy(&|t| ratio(t) == 0.0)),
            ("a huge ratio", policy(&|t| ratio(t) > 20.0)),
            ("a tiny ratio", policy(&|t| ratio(t) < -20.0)),
        ]
        .into_iter()
        .filter_map(|(name, is)| is.then_some(name))
        .collect()
    }

    /// Smaller and plainer batches, the smallest first.
    pub fn simpler(&self) -> Vec<Tree> {
        let mut out = Vec::new();
        for level in 0..LEVELS.len() {
            for i in 0..self.rows(level).len() {
                let mut tree = self.clone();
                remove(&mut tree.groups, level, &mut { i });
                out.push(tree);
            }
        }
        for level in 0..LEVELS.len() {
            for (i, column) in columns(level).enumerate() {
                let mut tree = self.clone();
                tree.rows_mut(level).into_iter().for_each(|n| n.values[i] = column.plain);
                out.push(tree);
            }
            for row in 0..self.rows(level).len() {
                let mut tree = self.clone();
                let node = tree.rows_mut(level).swap_remove(row);
                (node.values, node.logits) = (Node::plain(level).values, [0.0; VOCAB]);
                out.push(tree);
                for i in 0..columns(level).count() {
                    for round in [|v: f64| v.round(), |v: f64| (v * 8.0).round() / 8.0] {
                        let mut tree = self.clone();
                        let node = tree.rows_mut(level).swap_remove(row);
                        node.values[i] = round(node.values[i]);
                        out.push(tree);
                    }
                }
                for i in 0..if level == TOKEN && self.logits { VOCAB } else { 0 } {
                    let mut tree = self.clone();
                    let node = tree.rows_mut(level).swap_remove(row);
                    node.logits[i] = node.logits[i].round();
                    out.push(tree);
                }
            }
        }
        for tree in &mut out {
            tree.number();
        }
        out.retain(|tree| tree != self);
        out
    }

    /// The tree as lines, each after `mark`.
    pub fn print(&self, mark: &str) -> String {
        let mut out = format!("{mark}policy {}\n", if self.logits { "logits" } else { "logp" });
        let mut open: Vec<&Node> = self.groups.iter().rev().collect();
        while let Some(node) = open.pop() {
            let _ = write!(out, "{mark}{}{}", "  ".repeat(node.level), LEVELS[node.level]);
            for (column, value) in columns(node.level).zip(&node.values) {
                if *value != column.plain {
                    let _ = write!(out, " {}={value:?}", column.name);
                }
            }
            if self.logits && node.logits != [0.0; VOCAB] {
                let all: Vec<String> = node.logits.iter().map(|v| format!("{v:?}")).collect();
                let _ = write!(out, " logits={}", all.join(","));
            }
            out.push('\n');
            open.extend(node.below.iter().rev());
        }
        out
    }

    /// Reads what `print` writes, from the lines that begin with `mark`.
    pub fn parse(text: &str, mark: &str) -> Tree {
        let mut tree = Tree { logits: false, groups: Vec::new() };
        for line in text.lines().filter_map(|l| l.strip_prefix(mark)) {
            let mut words = line.split_whitespace();
            let Some(first) = words.next() else { continue };
            if first == "policy" {
                tree.logits = words.next() == Some("logits");
                continue;
            }
            let level = LEVELS.iter().position(|l| *l == first);
            let mut node = Node::plain(level.unwrap_or_else(|| panic!("no row: {line}")));
            for word in words {
                let (name, value) =
                    word.split_once('=').unwrap_or_else(|| panic!("no value: {line}"));
                if name == "logits" {
                    let all: Vec<f64> = value.split(',').map(|v| v.parse().unwrap()).collect();
                    node.logits = all.try_into().unwrap();
                } else {
                    node.set(name, value.parse().unwrap());
                }
            }
            let mut nodes = &mut tree.groups;
            for _ in 0..node.level {
                nodes = &mut nodes.last_mut().expect("a row above").below;
            }
            nodes.push(node);
        }
        tree.number();
        tree
    }
}

fn token(r: &mut Random, masked: bool, on_policy: bool, ratios: Ratios) -> Node {
    let mut token = Node::plain(TOKEN);
    token.set("mask", f64::from(!masked && r.below(4) > 0));
    token.set("action", r.below(VOCAB) as f64);
    token.set("token_reward", r.below(9) as f64 / 8.0 - 0.5);
    token.set("entropy", r.unit());
    for name in ["value", "old_value"] {
        token.set(name, r.between(-1.0, 1.0));
    }
    for name in ["logp", "old_logp", "ref_logp", "sampler_logp"] {
        token.set(name, r.between(-3.0, 0.0));
    }
    if on_policy || (ratios == Ratios::Extreme && r.below(4) == 0) {
        token.set("old_logp", token.get("logp"));
    } else if ratios == Ratios::Extreme && r.below(3) == 0 {
        let (from, far) = [("old_logp", -40.0), ("logp", -60.0)][r.below(2)];
        token.set(from, far - r.unit());
    }
    for logit in &mut token.logits {
        *logit = r.between(-2.0, 2.0);
    }
    token
}

/// Takes the `i`th row of a level away.
fn remove(nodes: &mut Vec<Node>, level: usize, i: &mut usize) {
    if nodes.first().is_some_and(|n| n.level == level) {
        if *i < nodes.len() {
            nodes.remove(*i);
            *i = usize::MAX;
        } else {
            *i -= nodes.len();
        }
        return;
    }
    for node in nodes {
        remove(&mut node.below, level, i);
        if *i == usize::MAX {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_read_back() {
        for seed in 0..50 {
            let tree = Tree::random(&mut Random::new(seed), Ratios::Extreme);
            assert!(Tree::parse(&tree.print("#: "), "#: ") == tree, "{}", tree.print(""));
            let n = tree.order().len();
            let mut order = tree.permuted(&mut Random::new(seed)).order();
            order.sort_unstable();
            assert_eq!(order, (0..n).collect::<Vec<_>>());
            for simple in tree.simpler() {
                assert!(simple.order().len() <= n);
            }
        }
    }
}
