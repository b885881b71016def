//! Derived levels: tuples, runs, splits, prefixes and pairs.
//!
//! The elements of a derived level are told by an int expression over rows of its source: the number
//! of the first row of each row's element, negative for rows of none. Everything else follows from
//! that one expression, by `Find`, `Gather` and `Scatter`.

use std::collections::HashMap;

use crate::ast::{self, Ident, Partition};
use crate::diagnostic::Diagnostic;
use crate::hir::{E, Expr};
use crate::level::{BATCH, Level, ROLLOUT, TOKEN, VOCAB};
use crate::op::{Binary, Ty, Unary};
use crate::source::Span;

use super::expr::shorten;
use super::{Checker, Scope};

/// A part of a tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Level(Level),
    Value(E),
}

/// What is known of the derived levels of a program.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Named keys by name and view.
    named: HashMap<(String, usize), Option<Level>>,
    /// Every derived level by what tells its elements, so that equal partitions are one level.
    found: Vec<(E, Vec<Part>, usize, Level)>,
    /// Which rows of a level are elements.
    pub exists: HashMap<Level, E>,
    /// What is paired, and the levels of the left and right side.
    pub pairs: HashMap<Level, (Level, [Level; 2])>,
    /// Levels of pairs by what they pair, within what, and the view.
    pub paired: HashMap<(Level, Level, usize), Level>,
}

impl Keys {
    /// Which rows of a derived level are elements; none for other levels, and where all are.
    pub fn exists(&self, level: Level) -> Option<E> {
        self.exists.get(&level).copied()
    }

    /// Whether a key has been looked at and found to have no elements to tell apart.
    pub fn refused(&self, name: &str) -> bool {
        self.named.iter().any(|(key, level)| key.0 == name && level.is_none())
    }

    /// Whether a level is one of pairs, or one side of them.
    pub fn is_paired(&self, level: Level) -> bool {
        self.pairs.contains_key(&level) || self.pairs.values().any(|p| p.1.contains(&level))
    }
}

impl Checker<'_> {
    /// Looks at every key, used or not, so that its errors show.
    pub(super) fn all_keys(&mut self, view: usize) {
        let linked = self.linked;
        for entry in &linked.levels {
            if linked.key(&entry.ident.name).is_some() {
                self.key(&entry.ident.name, view, entry.ident.span);
            }
        }
    }

    /// The level of a key under the filters of the first `view` files.
    pub(super) fn key(&mut self, name: &str, view: usize, span: Span) -> Option<Level> {
        let linked = self.linked;
        let (entry, partition) = linked.key(name)?;
        // No value has a name with a space, so keys and values share the list of readers.
        let node = format!("key {name}");
        if span != entry.ident.span {
            let reader = self.open.last().map(|o| (o.0.clone(), o.1));
            self.usage.edges.entry(reader).or_default().insert((node.clone(), entry.depth));
        }
        if let Some(&known) = self.keys.named.get(&(name.to_owned(), view)) {
            return known;
        }
        let key = (node.clone(), entry.depth, view);
        if self.opened.contains(&key) {
            let diagnostic = Diagnostic::error(
                "E0104",
                format!("the key `{name}` is defined in terms of itself"),
                entry.ident.span,
                "1. to tell its elements apart...",
                "what tells the elements of a key apart cannot be reduced per that\nkey; reduce per a level or key that is known without it",
            )
            .with(span, format!("2. ...this is needed, which is per `{name}`"));
            self.diagnostics.push(diagnostic);
            self.keys.named.insert((name.to_owned(), view), None);
            return None;
        }
        self.open.push((node, entry.depth, view, span));
        self.opened.insert(key.clone());
        let calls = std::mem::take(&mut self.calls);
        let scope = Scope { view, ..Scope::default() };
        let level = match partition {
            Partition::Name(other) => self.find_level(other, &scope),
            _ => self.derived(partition, Some(&entry.ident), &scope),
        };
        self.calls = calls;
        self.open.pop();
        self.opened.remove(&key);
        self.keys.named.insert((name.to_owned(), view), level);
        level
    }

    /// The level of a partition that is no name.
    pub(super) fn derived(
        &mut self,
        partition: &Partition,
        ident: Option<&Ident>,
        scope: &Scope,
    ) -> Option<Level> {
        let span = ident.map_or(partition.span(), |i| i.span);
        let name = match ident {
            Some(ident) => ident.name.clone(),
            None => {
                let text = self.sources.slice(partition.span());
                if text.len() <= 40 && !text.contains('\n') { text } else { "key" }.to_owned()
            }
        };
        let place = Place { name, span, view: scope.view };
        match partition {
            Partition::Name(ident) => self.find_level(ident, scope),
            Partition::Tuple(parts, at) => self.tuple(parts, *at, place, scope),
            Partition::Runs(cond, within, _) | Partition::Splits(cond, within, _) => {
                let runs = matches!(partition, Partition::Runs(..));
                self.segments(cond, within, runs, place, scope)
            }
            Partition::Prefix(x, within, _) => self.prefix(x, within, place, scope),
            Partition::Pairs(of, within, at) => self.pairs(of, within, *at, place, scope),
        }
    }

    fn tuple(
        &mut self,
        written: &[ast::Expr],
        at: Span,
        place: Place,
        scope: &Scope,
    ) -> Option<Level> {
        let mut parts: Vec<(Part, Level, Span)> = Vec::new();
        let mut fine = true;
        for part in written {
            match self.part(part, scope) {
                Some((found, level)) => parts.push((found, level, part.span)),
                None => fine = false,
            }
        }
        if !fine {
            return None;
        }
        let table = &self.graph.level_table;
        let inside_all = |l: Level| parts.iter().all(|p| table.contains(p.1, l));
        let Some(finest) = parts.iter().map(|p| p.1).find(|l| inside_all(*l)) else {
            self.no_finest(at, &parts);
            return None;
        };
        if let [(Part::Level(only), _, _)] = parts[..] {
            return Some(only);
        }
        let mut parts: Vec<Part> = parts.into_iter().map(|p| p.0).collect();
        parts.sort_unstable();
        parts.dedup();
        let element = self.tuple_element(&parts, finest, place.view);
        let source = self.graph.level(element);
        let parents: Vec<Level> = parts
            .iter()
            .filter_map(|p| match p {
                Part::Level(l) => Some(*l),
                Part::Value(_) => None,
            })
            .chain([BATCH])
            .collect();
        let level = self.add_key(element, parts, source, &parents, place)?;
        // What lies inside the finest part lies inside the tuple, and that part too.
        self.graph.level_table.nest(finest, level);
        self.nest_tuples(level);
        Some(level)
    }

    fn no_finest(&mut self, at: Span, parts: &[(Part, Level, Span)]) {
        let mut diagnostic = Diagnostic::error(
            "E0201",
            "no part of this key lies inside all the others",
            at,
            "a key is made of the elements of its finest part",
            "add a part that is finer than the others, such as a token-level\nnumber: `(turn, item, index(token in rollout))`",
        );
        for &(_, level, span) in parts {
            diagnostic = diagnostic.with(span, self.per(level));
        }
        self.report(diagnostic);
    }

    /// A part and its level: a level by name, or an int or bool value.
    fn part(&mut self, part: &ast::Expr, scope: &Scope) -> Option<(Part, Level)> {
        let level = match self.level_argument(part, scope) {
            Some(level) => {
                if level != VOCAB {
                    return Some((Part::Level(level), level));
                }
                level
            }
            None => {
                if let ast::ExprKind::Name(name) = &part.kind
                    && !self.linked.values.contains_key(name)
                    && self.is_level(name)
                {
                    // Its own error was reported.
                    return None;
                }
                let value = self.expr(part, scope)?;
                let level = self.graph.level(value);
                match self.graph.ty(value) {
                    _ if level == VOCAB => level,
                    Ty::Int => return Some((Part::Value(value), level)),
                    Ty::Bool => {
                        return Some((Part::Value(self.graph.cast(value, Ty::Int)), level));
                    }
                    Ty::Real => {
                        let written = shorten(self.sources.slice(part.span));
                        self.error(
                            "E0204",
                            "the parts of a key are levels, ints and truth values",
                            part.span,
                            "real",
                            format!("round it, `floor({written})`, or compare it, `{written} > 0`"),
                        );
                        return None;
                    }
                }
            }
        };
        let per = self.per(level);
        self.error(
            "E0206",
            "a key over vocabulary entries would have to be stored",
            part.span,
            per,
            "take one number per token: `at(x, action)`, or a reduction `per token`",
        );
        None
    }

    /// Which element each row belongs to, at the rows the tuple is made of.
    fn tuple_element(&mut self, parts: &[Part], finest: Level, view: usize) -> E {
        // Elements of the finest part have one value of every other part: they are the elements.
        if parts.contains(&Part::Level(finest)) {
            if let Some(&element) = self.graph.elements.get(&finest) {
                return element;
            }
            let row = self.graph.add(Expr::Row, finest, Ty::Int);
            return match self.kept(finest, view) {
                Some(kept) => {
                    let none = self.graph.constant(-1.0, Ty::Int);
                    self.graph.select(kept, row, none)
                }
                None => row,
            };
        }
        let source = match self.graph.elements.get(&finest) {
            Some(&element) => self.graph.level(element),
            None => finest,
        };
        let table = &self.graph.level_table;
        let trees = parts.iter().filter_map(|p| match p {
            Part::Level(l) => Some(table.tree(*l)),
            Part::Value(_) => None,
        });
        let scope = trees.max_by_key(|l| table.depth(*l)).unwrap_or(BATCH);
        let mut filter = self.kept(source, view);
        if let Some(&element) = self.graph.elements.get(&finest) {
            // Rows in none of the finest elements are in none of these.
            filter = Some(self.inside(element, filter));
        }
        let mut within = None;
        for part in parts {
            let value = match *part {
                Part::Value(value) => self.graph.broadcast(value, source),
                Part::Level(level) if self.graph.level_table.contains(level, scope) => continue,
                Part::Level(level) => {
                    let number = match self.graph.elements.get(&level) {
                        Some(&element) => element,
                        None => self.graph.add(Expr::Row, level, Ty::Int),
                    };
                    let number = self.graph.broadcast(number, source);
                    if self.graph.level_table.is_derived(level) {
                        filter = Some(self.inside(number, filter));
                    }
                    number
                }
            };
            within = Some(self.first_equal(value, value, filter, (scope, within)));
        }
        within.unwrap_or_else(|| self.graph.add(Expr::Row, source, Ty::Int))
    }

    /// Of the rows that `filter` keeps, those that belong to an element.
    fn inside(&mut self, element: E, filter: Option<E>) -> E {
        let zero = self.graph.constant(0.0, Ty::Int);
        let inside = self.graph.binary(Binary::Ge, element, zero);
        match filter {
            Some(f) => self.graph.binary(Binary::And, f, inside),
            None => inside,
        }
    }

    /// The first kept row whose key is what a row wants.
    pub(super) fn first_equal(
        &mut self,
        key: E,
        want: E,
        filter: Option<E>,
        (scope, within): (Level, Option<E>),
    ) -> E {
        let level = self.graph.level(key);
        self.graph.add(Expr::Find { key, want, filter, scope, within }, level, Ty::Int)
    }

    /// Adds a derived level, or finds the equal one.
    fn add_key(
        &mut self,
        element: E,
        parts: Vec<Part>,
        source: Level,
        parents: &[Level],
        place: Place,
    ) -> Option<Level> {
        let view = place.view;
        let same =
            |k: &&(E, Vec<Part>, usize, Level)| k.0 == element && k.1 == parts && k.2 == view;
        if let Some(found) = self.keys.found.iter().find(same) {
            return Some(found.3);
        }
        if self.graph.level_table.is_full() {
            self.too_many_levels(place.span);
            return None;
        }
        let table = &mut self.graph.level_table;
        let level = table.add_derived(place.name, source, source, parents, place.span);
        self.graph.elements.insert(level, element);
        let first = self.graph.broadcast(element, level);
        let exists = self.first_row(first, level);
        self.keys.exists.insert(level, exists);
        self.keys.found.push((element, parts, view, level));
        Some(level)
    }

    /// Whether a row is the one that its element is known by. `element` is at the source: not looked
    /// up through itself.
    fn first_row(&mut self, element: E, level: Level) -> E {
        let row = self.graph.add(Expr::Row, level, Ty::Int);
        self.graph.binary(Binary::Eq, element, row)
    }

    /// A tuple lies inside another when each part of the other is, or contains, one of its own.
    fn nest_tuples(&mut self, new: Level) {
        let known: Vec<(Vec<Part>, usize, Level)> =
            self.keys.found.iter().map(|k| (k.1.clone(), k.2, k.3)).collect();
        let Some((own, view, _)) = known.iter().find(|k| k.2 == new).cloned() else { return };
        for (other, other_view, level) in known {
            if level == new || other_view != view || other.is_empty() {
                continue;
            }
            if self.refines(&own, &other) {
                self.graph.level_table.nest(new, level);
            }
            if self.refines(&other, &own) {
                self.graph.level_table.nest(level, new);
            }
        }
    }

    fn refines(&self, fine: &[Part], coarse: &[Part]) -> bool {
        let table = &self.graph.level_table;
        coarse.iter().all(|c| {
            fine.iter().any(|f| match (c, f) {
                (Part::Level(c), Part::Level(f)) => table.contains(*c, *f),
                (Part::Value(c), Part::Value(f)) => c == f,
                (Part::Level(_), Part::Value(_)) | (Part::Value(_), Part::Level(_)) => false,
            })
        })
    }

    /// `runs` and `splits`. Both see the whole rollout; their elements are made of what is kept.
    fn segments(
        &mut self,
        cond: &ast::Expr,
        within: &Ident,
        runs: bool,
        place: Place,
        scope: &Scope,
    ) -> Option<Level> {
        let what = if runs { "runs" } else { "splits" };
        let value = self
            .expr(cond, scope)
            .filter(|c| self.expect_bool(*c, cond.span, &format!("what `{what}` goes by")));
        let outer = self.segment_scope(within, TOKEN, what, scope);
        let (value, outer) = (value?, outer?);
        if !self.graph.level_table.contains(self.graph.level(value), TOKEN) {
            let per = self.per(self.graph.level(value));
            self.error(
                "E0202",
                format!("`{what}` goes from token to token"),
                cond.span,
                per,
                "give one truth value per token, or at a level that tokens lie inside",
            );
            return None;
        }
        let value = self.graph.broadcast(value, TOKEN);
        let no = self.graph.constant_at(0.0, Ty::Bool, TOKEN);
        let begins = if runs {
            let before = Expr::Shift {
                x: value,
                default: no,
                by: -1,
                filter: None,
                scope: outer,
                within: None,
            };
            let before = self.graph.add(before, TOKEN, Ty::Bool);
            let fresh = self.graph.unary(Unary::Not, before);
            self.graph.binary(Binary::And, value, fresh)
        } else {
            value
        };
        let begins = self.graph.cast(begins, Ty::Int);
        let number = Expr::Scan {
            x: begins,
            filter: None,
            factor: None,
            scope: outer,
            within: None,
            reverse: false,
            exclusive: false,
        };
        let number = self.graph.add(number, TOKEN, Ty::Int);
        let mut filter = self.kept(TOKEN, place.view);
        let mut want = number;
        if runs {
            let none = self.graph.constant(-1.0, Ty::Int);
            want = self.graph.select(value, number, none);
            filter = Some(match filter {
                Some(kept) => self.graph.binary(Binary::And, kept, value),
                None => value,
            });
        }
        let element = self.first_equal(number, want, filter, (outer, None));
        self.add_key(element, Vec::new(), TOKEN, &[outer], place)
    }

    fn prefix(
        &mut self,
        x: &ast::Expr,
        within: &Ident,
        place: Place,
        scope: &Scope,
    ) -> Option<Level> {
        let value = self
            .expr(x, scope)
            .and_then(|v| self.expect_int(v, x.span, "what a prefix is compared by"));
        let value = value?;
        let level = self.graph.level(value);
        let table = &self.graph.level_table;
        let orders = level == TOKEN || table.segmentations().any(|s| s == level);
        if !orders {
            let per = self.per(level);
            self.error(
                "E0202",
                "`prefix` goes along the tokens or the segments of a rollout",
                x.span,
                per,
                "give an int per token, `prefix(action in group)`, or one per turn or\ndeclared segment",
            );
            return None;
        }
        let outer = self.segment_scope(within, ROLLOUT, "prefix", scope)?;
        let node = self.graph.add(Expr::Prefix(value, outer), level, Ty::Int);
        let filter = self.kept(level, place.view);
        let element = self.first_equal(node, node, filter, (outer, None));
        self.add_key(element, Vec::new(), level, &[outer], place)
    }

    /// The level of the tree that `in` names, which must contain `inner`.
    fn segment_scope(
        &mut self,
        ident: &Ident,
        inner: Level,
        what: &str,
        scope: &Scope,
    ) -> Option<Level> {
        let found = self.find_level(ident, scope)?;
        let table = &self.graph.level_table;
        let fits = table.tree(found) == found && table.contains(found, inner);
        if fits && (found != inner || inner == ROLLOUT) {
            return Some(found);
        }
        let inner = self.level_name(inner).to_owned();
        self.error(
            "E0203",
            format!("`{what}` runs inside rows that contain a {inner}"),
            ident.span,
            format!("a {} does not", ident.name),
            format!(
                "name one that does: `in {}`",
                if inner == "token" { "rollout" } else { "group" }
            ),
        );
        None
    }
}

/// Where a derived level is written.
pub(super) struct Place {
    pub name: String,
    pub span: Span,
    /// Filters of the first `view` files apply.
    pub view: usize,
}
