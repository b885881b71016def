//! Pairs of rows: `key duel = pairs(rollout in group)`, `left`, `right`, `per duel.left`.

use crate::ast::{self, Ident};
use crate::hir::{E, Expr};
use crate::level::{Level, VOCAB};
use crate::op::{Binary, Ty};
use crate::source::Span;

use super::expr::shorten;
use super::keys::Place;
use super::{Checker, Scope};

impl Checker<'_> {
    /// The level of ordered pairs of different rows of `of` within rows of `within`.
    pub(super) fn pairs(
        &mut self,
        of: &Ident,
        within: &Ident,
        at: Span,
        place: Place,
        scope: &Scope,
    ) -> Option<Level> {
        let (rows, outer) = (self.find_level(of, scope), self.find_level(within, scope));
        let (rows, outer) = (rows?, outer?);
        let table = &self.graph.level_table;
        let own = |l: Level| !table.is_derived(l) && l != VOCAB && !self.keys.is_paired(l);
        if !own(rows) || !own(outer) || rows == outer || !table.contains(outer, rows) {
            self.error(
                "E0203",
                format!("`pairs({} in {})` has no such pairs", of.name, within.name),
                at,
                "pairs are of rows of the batch, within a level that contains them",
                "`pairs(rollout in group)` has every two different rollouts of a group,\nin both orders",
            );
            return None;
        }
        let kept = self.kept(rows, place.view);
        let key = (rows, outer, place.view);
        if let Some(&known) = self.keys.paired.get(&key) {
            return Some(known);
        }
        if self.graph.level_table.is_full() {
            self.too_many_levels(place.span);
            return None;
        }
        let table = &mut self.graph.level_table;
        let level = table.add_pairs(place.name.clone(), rows, outer, place.span);
        self.keys.paired.insert(key, level);
        let mut sides = [level; 2];
        let mut exists = None;
        for (side, name) in sides.iter_mut().zip(["left", "right"]) {
            let right = name == "right";
            let row = self.graph.add(Expr::Side(right), level, Ty::Int);
            if self.graph.level_table.is_full() {
                self.too_many_levels(place.span);
                return None;
            }
            let name = format!("{}.{name}", place.name);
            let table = &mut self.graph.level_table;
            *side = table.add_derived(name, level, rows, &[outer], place.span);
            self.graph.elements.insert(*side, row);
            if let Some(kept) = kept {
                let scope = outer;
                let ty = Ty::Bool;
                let here = self.graph.add(Expr::Gather { x: kept, index: row, scope }, level, ty);
                exists = Some(match exists {
                    Some(other) => self.graph.binary(Binary::And, other, here),
                    None => here,
                });
            }
        }
        if let Some(exists) = exists {
            self.keys.exists.insert(level, exists);
        }
        self.keys.pairs.insert(level, (rows, sides));
        Some(level)
    }

    /// The level of `duel.left`.
    pub(super) fn side_level(&mut self, level: Level, right: bool, ident: &Ident) -> Option<Level> {
        if let Some((_, sides)) = self.keys.pairs.get(&level) {
            return Some(sides[usize::from(right)]);
        }
        let (key, _) = ident.name.rsplit_once('.')?;
        self.error(
            "E0105",
            format!("`{key}` has no sides"),
            ident.span,
            "not a level of pairs",
            format!("sides belong to pairs: `key {key} = pairs(rollout in group)`"),
        );
        None
    }

    /// `left(x in duel)`: the value of x at one side of each pair.
    pub(super) fn paired(&mut self, call: &ast::Call, scope: &Scope) -> Option<E> {
        use super::call::Clauses;
        let name = call.function.name.as_str();
        self.clauses(call, Clauses { filter: false, per: false, scope: true, unroll: false })?;
        let [x] = self.arguments(call, ["x"])?;
        let value = self.expr(x, scope);
        let Some(ident) = &call.scope else {
            let written = shorten(self.sources.slice(x.span));
            self.error(
                "E0110",
                format!("`{name}` needs its pairs"),
                call.function.span,
                "of which pairs is open",
                format!("`{name}({written} in duel)`, with `key duel = pairs(rollout in group)`"),
            );
            return None;
        };
        let level = self.find_level(ident, scope)?;
        let value = value?;
        let Some(&(rows, sides)) = self.keys.pairs.get(&level) else {
            self.error(
                "E0203",
                format!("`{name}` reads one side of a pair"),
                ident.span,
                format!("`{}` is not a level of pairs", ident.name),
                "declare them: `key duel = pairs(rollout in group)`",
            );
            return None;
        };
        let from = self.graph.level(value);
        if !self.graph.level_table.contains(from, rows) {
            let (per, paired) = (self.per(from), self.level_name(rows).to_owned());
            let written = shorten(self.sources.slice(x.span));
            self.error(
                "E0202",
                format!("`{name}` reads one value per {paired}"),
                x.span,
                per,
                format!(
                    "reduce it first: `{name}(mean({written} per {paired}) in {})`",
                    ident.name
                ),
            );
            return None;
        }
        let x = self.graph.broadcast(value, rows);
        let side = sides[usize::from(name == "right")];
        let index = self.graph.elements.get(&side).copied()?;
        let scope = self.graph.level_table.tree(level);
        let ty = self.graph.ty(x);
        Some(self.graph.add(Expr::Gather { x, index, scope }, level, ty))
    }

    /// The result of a reduction per one side of pairs has the rows that were paired.
    pub(super) fn unpaired(&mut self, value: E) -> E {
        let level = self.graph.level(value);
        let of = self.keys.pairs.values().find(|p| p.1.contains(&level)).map(|p| p.0);
        match of {
            Some(rows) => self.graph.broadcast(value, rows),
            None => value,
        }
    }
}
