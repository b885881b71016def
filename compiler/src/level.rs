//! Levels: named sets of rows, each with the coarser levels it lies inside.
//!
//! Turns, declared segmentations and (later) derived keys are all just levels; nothing outside this
//! file asks which kind a level is, except where rows are counted.

use crate::source::Span;

/// A level of one program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(pub u8);

/// The whole batch: one row.
pub const BATCH: Level = Level(0);
/// The rollouts of one prompt.
pub const GROUP: Level = Level(1);
/// One sampled completion.
pub const ROLLOUT: Level = Level(2);
/// A model message and the observation after it.
pub const TURN: Level = Level(3);
/// One token of a completion.
pub const TOKEN: Level = Level(4);
/// One entry of the distribution a token was drawn from.
pub const VOCAB: Level = Level(5);

/// How a level's rows come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelKind {
    /// One of the six that are always there.
    Standard,
    /// `level item in rollout`: covers each rollout, rows given by `item/size`.
    Segmentation,
}

/// What is known of a level.
#[derive(Debug, Clone)]
pub struct LevelDef {
    /// Its name in the program.
    pub name: String,
    /// How its rows come about.
    pub kind: LevelKind,
    /// Where it was declared; none for the standard ones.
    pub span: Option<Span>,
}

/// The levels of one program. The order of handles is: the standard six, then declared ones.
#[derive(Debug, Clone)]
pub struct Levels {
    defs: Vec<LevelDef>,
}

impl Default for Levels {
    fn default() -> Self {
        let standard = ["batch", "group", "rollout", "turn", "token", "vocab"];
        let defs = standard
            .iter()
            .map(|n| LevelDef { name: (*n).into(), kind: LevelKind::Standard, span: None })
            .collect();
        Levels { defs }
    }
}

impl Levels {
    /// Adds a segmentation of rollouts.
    pub fn add_segmentation(&mut self, name: String, span: Span) -> Level {
        self.defs.push(LevelDef { name, kind: LevelKind::Segmentation, span: Some(span) });
        Level((self.defs.len() - 1) as u8)
    }

    /// A level by name.
    pub fn find(&self, name: &str) -> Option<Level> {
        self.defs.iter().position(|d| d.name == name).map(|i| Level(i as u8))
    }

    /// What is known of `level`.
    pub fn def(&self, level: Level) -> &LevelDef {
        &self.defs[level.0 as usize]
    }

    /// The level's name.
    pub fn name(&self, level: Level) -> &str {
        &self.def(level).name
    }

    /// Every level, standard ones first.
    pub fn all(&self) -> impl Iterator<Item = Level> + use<> {
        (0..self.defs.len() as u8).map(Level)
    }

    /// Every segmentation of rollouts, `turn` first.
    pub fn segmentations(&self) -> impl Iterator<Item = Level> + '_ {
        self.all().filter(|l| *l == TURN || self.def(*l).kind == LevelKind::Segmentation)
    }

    fn is_segmentation(&self, level: Level) -> bool {
        level == TURN || self.def(level).kind == LevelKind::Segmentation
    }

    /// How far down the tree: 0 for the batch. Segmentations share a depth.
    pub fn depth(&self, level: Level) -> u8 {
        if self.is_segmentation(level) { TURN.0 } else { level.0 }
    }

    /// True when each row of `fine` belongs to one row of `coarse` (also when they are equal).
    pub fn contains(&self, coarse: Level, fine: Level) -> bool {
        coarse == fine || self.depth(coarse) < self.depth(fine)
    }

    /// The finer of two levels when one lies inside the other.
    pub fn meet(&self, a: Level, b: Level) -> Option<Level> {
        if self.contains(a, b) {
            Some(b)
        } else if self.contains(b, a) {
            Some(a)
        } else {
            None
        }
    }

    /// The finest level that contains both: for coupling.
    pub fn join(&self, a: Level, b: Level) -> Level {
        if self.contains(a, b) {
            a
        } else if self.contains(b, a) {
            b
        } else {
            ROLLOUT
        }
    }
}
