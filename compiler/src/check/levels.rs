//! What a level's name means: standard levels, declared ones, keys, one side of a pair.

use crate::ast::{self, ExprKind, Ident, Partition};
use crate::diagnostic::nearest;
use crate::hir::E;
use crate::level::{GROUP, Level, LevelKind, ROLLOUT};
use crate::link::{LevelEntry, LevelItem};
use crate::op::Unary;

use super::{Checker, Scope};

impl Checker<'_> {
    pub(super) fn declare_levels(&mut self) {
        let linked = self.linked;
        // A list may lie in a segmentation that is declared below it.
        let (lists, levels): (Vec<&LevelEntry>, Vec<_>) =
            linked.levels.iter().partition(|e| matches!(e.item, LevelItem::List(_)));
        for entry in levels.into_iter().chain(lists) {
            let ident = &entry.ident;
            if self.graph.level_table.find(&ident.name).is_some() {
                self.error(
                    "E0103",
                    format!("`{}` is a level that is always there", ident.name),
                    ident.span,
                    "declared again",
                    "choose another name: `level item in rollout`",
                );
                continue;
            }
            if self.graph.level_table.is_full() {
                self.too_many_levels(ident.span);
                return;
            }
            match &entry.item {
                LevelItem::Segment(parent) if parent.name == "rollout" => {
                    self.graph.level_table.add_segmentation(ident.name.clone(), ident.span);
                }
                LevelItem::Segment(parent) if parent.name == "token" => {
                    self.graph.level_table.add_below(ident.name.clone(), ident.span);
                }
                LevelItem::Segment(parent) => self.error(
                    "E0105",
                    format!(
                        "a declared level lies in a rollout or a token, not in `{}`",
                        parent.name
                    ),
                    parent.span,
                    "neither `rollout` nor `token`",
                    format!(
                        "a segmentation of rollouts is declared as\n`level {} in rollout`",
                        ident.name
                    ),
                ),
                LevelItem::List(parent) => self.declare_list(ident, parent),
                LevelItem::Key(_) => {}
            }
        }
    }

    fn declare_list(&mut self, ident: &Ident, parent: &Ident) {
        let table = &self.graph.level_table;
        let found = table.find(&parent.name);
        self.usage.levels.insert(parent.name.clone());
        let fits =
            |l: &Level| *l == GROUP || *l == ROLLOUT || table.segmentations().any(|s| s == *l);
        if let Some(level) = found.filter(fits) {
            self.graph.level_table.add_list(ident.name.clone(), level, ident.span);
            return;
        }
        self.error(
            "E0105",
            format!("a list lies in a group, a rollout or a segment of one, not in `{}`", parent.name),
            parent.span,
            if found.is_some() { "holds no list" } else { "not a declared level" },
            format!(
                "rows beside the tokens of a rollout: `list {0} in rollout`;\nrows below a token: `level {0} in token`",
                ident.name
            ),
        );
    }

    pub(super) fn too_many_levels(&mut self, span: crate::source::Span) {
        self.error(
            "E0105",
            format!("a program has at most {} levels", crate::level::MAX_LEVELS),
            span,
            "one too many",
            "name a key once (`key cell = ...`) and use it in several places",
        );
    }

    /// Whether a name means a level.
    pub(super) fn is_level(&self, name: &str) -> bool {
        let table = &self.graph.level_table;
        self.linked.key(name).is_some() || table.find(name).is_some_and(|l| !table.is_derived(l))
    }

    /// Whether a level is declared, but so that it has no meaning, which has been reported.
    pub(super) fn refused_level(&self, name: &str) -> bool {
        match self.linked.key(name) {
            Some(_) => self.keys.refused(name),
            None => {
                self.linked.levels.iter().any(|l| l.ident.name == name)
                    && self.graph.level_table.find(name).is_none()
            }
        }
    }

    /// A level by name.
    pub(super) fn find_level(&mut self, ident: &Ident, scope: &Scope) -> Option<Level> {
        if let Some((_, level)) = scope.levels.iter().rev().find(|l| l.0 == ident.name) {
            return Some(*level);
        }
        if self.linked.key(&ident.name).is_some() {
            return self.key(&ident.name, scope.view, ident.span);
        }
        if let Some((pairs, side)) = ident.name.rsplit_once('.')
            && matches!(side, "left" | "right")
            && self.linked.key(pairs).is_some()
        {
            let level = self.key(pairs, scope.view, ident.span)?;
            return self.side_level(level, side == "right", ident);
        }
        let table = &self.graph.level_table;
        let found = table.find(&ident.name).filter(|l| !table.is_derived(*l));
        match found {
            Some(_) => _ = self.usage.levels.insert(ident.name.clone()),
            None => self.unknown_level(ident),
        }
        found
    }

    /// The level of a declared column: one whose rows a batch has.
    pub(super) fn column_level(&mut self, ident: &Ident) -> Option<Level> {
        if let Some((entry, _)) = self.linked.key(&ident.name) {
            let at = entry.ident.span;
            let diagnostic = crate::diagnostic::Diagnostic::error(
                "E0105",
                format!("`{}` is a derived level, so a batch has no column of it", ident.name),
                ident.span,
                "its elements are made by the program",
                "declare the column at a level of the batch, such as `rollout` or\n`token`, and reduce it `per` the key",
            )
            .with(at, "declared here");
            self.report(diagnostic);
            return None;
        }
        self.find_level(ident, &Scope::default())
    }

    pub(super) fn unknown_level(&mut self, ident: &Ident) {
        if self.linked.broken.contains(&ident.name) || self.refused_level(&ident.name) {
            return;
        }
        let table = &self.graph.level_table;
        let mut names: Vec<String> = table
            .all()
            .filter(|l| matches!(table.def(*l).kind, LevelKind::Standard))
            .map(|l| self.level_name(l).to_owned())
            .collect();
        names.extend(self.linked.levels.iter().map(|l| l.ident.name.clone()));
        let help = match nearest(&ident.name, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "the levels are {}.\nA segmentation of rollouts is declared: `level {} in rollout`",
                names.join(", "),
                ident.name
            ),
        };
        self.error(
            "E0105",
            format!("there is no level `{}`", ident.name),
            ident.span,
            "not a level",
            help,
        );
    }

    /// The level a `per` clause keeps.
    pub(super) fn partition(&mut self, partition: &Partition, scope: &Scope) -> Option<Level> {
        match partition {
            Partition::Name(ident) => self.find_level(ident, scope),
            Partition::Tuple(..)
            | Partition::Runs(..)
            | Partition::Splits(..)
            | Partition::Prefix(..)
            | Partition::Pairs(..) => self.derived(partition, None, scope),
        }
    }

    /// The level an argument names, for operators that take a level where others take a value.
    pub(super) fn level_argument(&mut self, arg: &ast::Expr, scope: &Scope) -> Option<Level> {
        let ExprKind::Name(name) = &arg.kind else { return None };
        if scope.locals.iter().any(|l| l.0 == *name) || self.linked.values.contains_key(name) {
            return None;
        }
        let local = scope.levels.iter().rev().find(|l| l.0 == *name);
        if let Some((_, level)) = local {
            return Some(*level);
        }
        if !self.is_level(name) {
            return None;
        }
        self.find_level(&Ident { name: name.clone(), span: arg.span }, scope)
    }

    /// Where an ordered operator over rows of `level` runs, when its `in` names `scope`: the level
    /// of the tree, and the element of a derived level each row belongs to.
    pub(super) fn run_in(&mut self, scope: Level, level: Level) -> (Level, Option<E>) {
        let Some(&element) = self.graph.elements.get(&scope) else { return (scope, None) };
        let element = self.graph.broadcast(element, level);
        (self.graph.level_table.tree(scope), Some(element))
    }

    /// The rows a filter of `level` leaves, at a level whose rows are the batch's own. Rows in no
    /// element of a derived level stay.
    pub(super) fn kept_rows(&mut self, level: Level, cond: E, keep: bool) -> (Level, E) {
        let LevelKind::Derived(source) = self.graph.level_table.def(level).kind else {
            let kept = if keep { cond } else { self.graph.unary(Unary::Not, cond) };
            return (level, kept);
        };
        let removed = if keep { self.graph.unary(Unary::Not, cond) } else { cond };
        let removed = self.graph.broadcast(removed, source);
        (source, self.graph.unary(Unary::Not, removed))
    }
}
