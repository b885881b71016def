//! States: values kept between steps. Reading one reads a column that the caller fills in; an update
//! is an output like a metric.

use crate::diagnostic::{Diagnostic, nearest};
use crate::hir::{ColumnInfo, ColumnSource, E, Expr};
use crate::level::{BATCH, GROUP, Level, VOCAB};
use crate::link::{Entry, Item};
use crate::op::Ty;

use super::{Checker, Scope, StateUpdate, literal_value};
use crate::ast::{Call, TypeName};

impl Checker<'_> {
    /// The value of a state before this batch.
    pub(super) fn state(&mut self, entry: &Entry, view: usize) -> Option<E> {
        let Item::State { key, value: (literal, at), ty } = &entry.item else { return None };
        let name = &entry.ident.name;
        if let Some(((TypeName::Bool | TypeName::Int, span), _)) = ty {
            self.error(
                "E0204",
                format!("the state `{name}` must be real"),
                *span,
                "not a real",
                format!("`state {name} : real = 0.0`"),
            );
            return None;
        }
        let level = match (ty.as_ref().and_then(|t| t.1.as_ref()), key) {
            (Some(ident), _) => self.find_level(ident, &Scope::default())?,
            (None, Some(_)) => GROUP,
            (None, None) => BATCH,
        };
        if (level == BATCH) == key.is_some() || level == VOCAB {
            self.error(
                "E0503",
                format!("the state `{name}` has no one place per {}", self.level_name(level)),
                entry.ident.span,
                if key.is_some() { "keyed" } else { "without a key" },
                format!("one value for the batch: `state {name} = 1.0`;\none per prompt: `state {name}[prompt] : real @ group = 0.5`"),
            );
            return None;
        }
        let (first, found) = literal_value(*literal);
        if found == Ty::Bool {
            self.error(
                "E0204",
                format!("the first value of `{name}` is not real"),
                *at,
                "bool",
                format!("`state {name} = 1.0`"),
            );
            return None;
        }
        let key = match key {
            None => None,
            Some(ident) => {
                let value =
                    self.name(&ident.name, ident.span, &Scope { view, ..Scope::default() })?;
                match self.graph.expr(value) {
                    Expr::Column(c)
                        if self.graph.ty(value) == Ty::Int && self.graph.level(value) == level =>
                    {
                        Some(c)
                    }
                    _ => {
                        let at = self.per(self.graph.level(value));
                        self.error(
                            "E0503",
                            format!("`{}` cannot key the state `{name}`", ident.name),
                            ident.span,
                            format!("{}, {at}", self.graph.ty(value).name()),
                            format!("a key is an int column with one value per {}, as `prompt` is for\ngroups", self.level_name(level)),
                        );
                        return None;
                    }
                }
            }
        };
        let id = self.column_id(ColumnInfo {
            level,
            name: name.clone(),
            ty: Ty::Real,
            differentiable: false,
            default: Some(first),
            span: Some(entry.ident.span),
        });
        self.graph.sources.insert(id, ColumnSource::State { key, first });
        let e = self.graph.column(id);
        self.graph.set_name(e, name);
        Some(e)
    }

    /// What every state becomes after this batch.
    pub(super) fn updates(&mut self, view: usize) -> Vec<StateUpdate> {
        let linked = self.linked;
        let mut out = Vec::new();
        for update in &linked.updates {
            let name = &update.ident.name;
            let scope = Scope { view, ..Scope::default() };
            let value = self.body(&update.body, &scope);
            let Some(entry) = linked.value(name).filter(|e| matches!(e.item, Item::State { .. }))
            else {
                let states = linked.values.iter().filter(|(_, v)| {
                    v.last().is_some_and(|e| matches!(e.item, Item::State { .. }))
                });
                let help = match nearest(name, states.map(|s| s.0.as_str())) {
                    Some(near) => format!("did you mean `update {near} = ...`?"),
                    None => format!(
                        "declare it, with the value for the first step:\n`state {name} = 0.0`"
                    ),
                };
                self.error(
                    "E0501",
                    format!("`{name}` is updated but is no state"),
                    update.ident.span,
                    "has no first value",
                    help,
                );
                continue;
            };
            // Asked for from elsewhere than its own place: this is a use.
            let Some(state) = self.entry(entry, view, update.ident.span) else { continue };
            let (Some(value), Expr::Column(column)) = (value, self.graph.expr(state)) else {
                continue;
            };
            let level = self.graph.level(state);
            let span = update.body.result.span;
            if self.expect_number(value, span).is_none()
                || !self.fits_state(name, level, value, entry, span)
            {
                continue;
            }
            let value = self.graph.cast(value, Ty::Real);
            let value = self.graph.broadcast(value, level);
            let kept = self.filter(level, view, None);
            out.push(StateUpdate { name: name.clone(), column, value, kept });
        }
        for (name, entries) in &linked.values {
            let Some(entry) = entries.last() else { continue };
            let updated = linked.updates.iter().any(|u| u.ident.name == *name);
            if matches!(entry.item, Item::State { .. })
                && !updated
                && !linked.broken.contains("update")
            {
                self.error(
                    "E0502",
                    format!("the state `{name}` is never updated"),
                    entry.ident.span,
                    "keeps its first value",
                    format!("say what it becomes after each batch:\n`update {name} = 0.9 * {name} + 0.1 * mean(reward)`,\nor make it a `param`"),
                );
            }
        }
        out
    }

    fn fits_state(
        &mut self,
        name: &str,
        level: Level,
        value: E,
        entry: &Entry,
        span: crate::source::Span,
    ) -> bool {
        let found = self.graph.level(value);
        if self.graph.level_table.contains(found, level) {
            return true;
        }
        let (at, wanted) = (self.per(found), self.per(level));
        let per =
            if level == BATCH { String::new() } else { format!(" per {}", self.level_name(level)) };
        let diagnostic = Diagnostic::error(
            "E0504",
            format!("the update of `{name}` is finer than the state"),
            span,
            at,
            format!("reduce it: `update {name} = mean(...{per})`"),
        )
        .with(entry.ident.span, wanted);
        self.report(diagnostic);
        false
    }

    /// `uniform(token)`: one number in [0, 1) per row of a level.
    pub(super) fn uniform(&mut self, call: &Call, scope: &Scope) -> Option<E> {
        self.clauses(
            call,
            super::call::Clauses { filter: false, per: false, scope: false, unroll: false },
        )?;
        let [argument] = self.arguments(call, ["level"])?;
        let level = match self.level_argument(argument, scope) {
            Some(level) => level,
            None => {
                let value = self.expr(argument, scope)?;
                self.graph.level(value)
            }
        };
        if level == VOCAB {
            self.error(
                "E0206",
                "`uniform` would need a number per vocabulary entry",
                argument.span,
                "nothing of vocabulary size is stored",
                "draw one per token: `uniform(token)`",
            );
            return None;
        }
        let id = self.column_id(ColumnInfo {
            level,
            name: "uniform()".to_owned(),
            ty: Ty::Real,
            differentiable: false,
            default: None,
            span: None,
        });
        self.graph.sources.insert(id, ColumnSource::Uniform);
        Some(self.graph.column(id))
    }
}
