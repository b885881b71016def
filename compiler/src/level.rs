//! Levels: named sets of rows, each with the coarser levels it lies inside.
//!
//! ```text
//! tree       batch > group > rollout > turn, segmentations > token > vocab, rows below a token
//! beside it  lists (rows of a rollout, say, that are no tokens), pairs of rows
//! derived    elements told by an expression: keys, runs, one side of a pair
//! ```
//!
//! An element of a derived level is known by the number of its first row at the level it is made of,
//! so its values lie in memory as that level's do, with gaps. Nothing outside this file asks which
//! kind a level is, except where rows are counted.

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

/// How many levels a program may have.
pub const MAX_LEVELS: usize = 250;

/// How a level's rows come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LevelKind {
    /// One of the six that are always there.
    Standard,
    /// `level item in rollout`: covers each rollout, rows given by `item/size`.
    Segmentation,
    /// `level candidate in token`: rows below a token, as many as `candidate/size` says.
    Below,
    /// `list comparison in rollout`: rows beside the tokens, as many as `comparison/size` says.
    List(Level),
    /// Ordered pairs of different rows of the first level within one row of the second.
    Pairs(Level, Level),
    /// Elements told by an expression over rows of this level.
    Derived(Level),
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
    /// The level by whose rows its values lie in memory: itself unless derived.
    rows: Level,
    /// Levels it lies inside, itself included, by handle.
    inside: Vec<bool>,
}

/// The levels of one program. The order of handles is: the standard six, then the others as declared.
#[derive(Debug, Clone)]
pub struct Levels {
    defs: Vec<LevelDef>,
}

impl Default for Levels {
    fn default() -> Self {
        let standard = ["batch", "group", "rollout", "turn", "token", "vocab"];
        let defs = (0..6u8)
            .map(|l| LevelDef {
                name: standard[usize::from(l)].into(),
                kind: LevelKind::Standard,
                span: None,
                rows: Level(l),
                inside: (0..6).map(|c| c <= l).collect(),
            })
            .collect();
        Levels { defs }
    }
}

impl Levels {
    /// Adds a level whose rows are its own; it lies inside `parents` and whatever they lie inside.
    fn add(
        &mut self,
        name: String,
        kind: LevelKind,
        span: Option<Span>,
        parents: &[Level],
    ) -> Level {
        let new = Level(self.defs.len() as u8);
        let mut inside: Vec<bool> =
            self.all().map(|c| parents.iter().any(|p| self.contains(c, *p))).collect();
        inside.push(true);
        self.defs.push(LevelDef { name, kind, span, rows: new, inside });
        new
    }

    /// Makes `inner`, and everything inside it, lie inside `outer` and what that lies inside.
    pub fn nest(&mut self, inner: Level, outer: Level) {
        let above: Vec<Level> = self.all().filter(|c| self.contains(*c, outer)).collect();
        let below: Vec<Level> = self.all().filter(|f| self.contains(inner, *f)).collect();
        for fine in below {
            let inside = &mut self.defs[fine.0 as usize].inside;
            for coarse in &above {
                let at = coarse.0 as usize;
                inside.resize(inside.len().max(at + 1), false);
                inside[at] = true;
            }
        }
    }

    /// True when no further level fits.
    pub fn is_full(&self) -> bool {
        self.defs.len() >= MAX_LEVELS
    }

    /// Adds a segmentation of rollouts.
    pub fn add_segmentation(&mut self, name: String, span: Span) -> Level {
        let level = self.add(name, LevelKind::Segmentation, Some(span), &[ROLLOUT]);
        self.nest(TOKEN, level);
        level
    }

    /// Adds rows below a token.
    pub fn add_below(&mut self, name: String, span: Span) -> Level {
        self.add(name, LevelKind::Below, Some(span), &[TOKEN])
    }

    /// Adds rows of `parent` that are beside its tokens.
    pub fn add_list(&mut self, name: String, parent: Level, span: Span) -> Level {
        self.add(name, LevelKind::List(parent), Some(span), &[parent])
    }

    /// Adds the ordered pairs of rows of `of` within rows of `within`, both in the tree.
    pub fn add_pairs(&mut self, name: String, of: Level, within: Level, span: Span) -> Level {
        self.add(name, LevelKind::Pairs(of, within), Some(span), &[within])
    }

    /// Adds a level whose elements an expression over rows of `source` tells, as numbers of rows of
    /// `rows`. It lies inside `parents`.
    pub fn add_derived(
        &mut self,
        name: String,
        source: Level,
        rows: Level,
        parents: &[Level],
        span: Span,
    ) -> Level {
        let level = self.add(name, LevelKind::Derived(source), Some(span), parents);
        self.defs[level.0 as usize].rows = self.rows(rows);
        self.nest(source, level);
        level
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

    /// True for levels whose elements an expression tells.
    pub fn is_derived(&self, level: Level) -> bool {
        matches!(self.def(level).kind, LevelKind::Derived(_))
    }

    /// The other levels that a level lies inside.
    pub fn above(&self, level: Level) -> impl Iterator<Item = Level> + '_ {
        self.all().filter(move |c| *c != level && self.contains(*c, level))
    }

    /// The level by whose rows the values of `level` lie in memory: itself unless it is derived.
    pub fn rows(&self, level: Level) -> Level {
        self.def(level).rows
    }

    /// The finest level of batch, group, rollout, segmentation, token that holds each element of
    /// `level` whole: itself where it is one of these. Here live values meet.
    pub fn tree(&self, level: Level) -> Level {
        let is_tree = |l: &Level| l.0 <= TOKEN.0 || self.def(*l).kind == LevelKind::Segmentation;
        let holds = self.all().filter(is_tree).filter(|l| self.contains(*l, level));
        holds.max_by_key(|l| self.depth(*l)).unwrap_or(BATCH)
    }

    /// How far down: 0 for the batch. Rows of a level of greater depth are not fewer.
    pub fn depth(&self, level: Level) -> u8 {
        match self.def(level).kind {
            LevelKind::Standard => level.0,
            LevelKind::Segmentation => TURN.0,
            LevelKind::Below => VOCAB.0,
            LevelKind::List(parent) | LevelKind::Pairs(_, parent) => {
                (self.depth(parent) + 1).clamp(TURN.0, TOKEN.0)
            }
            LevelKind::Derived(_) => self.depth(self.rows(level)),
        }
    }

    /// True when each row of `fine` belongs to at most one row of `coarse` (also when they are equal).
    pub fn contains(&self, coarse: Level, fine: Level) -> bool {
        self.def(fine).inside.get(coarse.0 as usize).copied().unwrap_or(false)
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

    /// The finest level that contains two of the tree: for coupling.
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
