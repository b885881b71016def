//! Reads a graph back from what `print` wrote, so that a graph can be kept, compared and written by
//! hand in a test. The result is verified: a text that parses is a graph that a back end may run.
//!
//! Handles may have gaps; the parsed graph counts without.

use std::collections::HashMap;

use super::{
    ColumnId, ColumnInfo, ColumnSource, E, Expr, Graph, ParamId, ParamInfo, Prefer, ReduceOp,
};
use crate::level::Level;
use crate::op::{Binary, Ty, Unary};
use crate::source::{FileId, Span};

/// A text that is no graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Line, from 1; 0: the graph as a whole.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => f.write_str(&self.message),
            line => write!(f, "line {line}: {}", self.message),
        }
    }
}

impl std::error::Error for ParseError {}

/// A graph with its named roots.
pub type Parsed = (Graph, Vec<(String, E)>);

const REDUCTIONS: [ReduceOp; 5] =
    [ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Max, ReduceOp::Min, ReduceOp::LogSumExp];

const TYPES: [Ty; 3] = [Ty::Real, Ty::Int, Ty::Bool];

/// The place of what was never in a program's text.
const NOWHERE: Span = Span { file: FileId(0), start: 0, end: 0 };

impl Graph {
    /// The graph and the roots of a printed graph.
    pub fn parse(text: &str) -> Result<Parsed, ParseError> {
        let mut reader = Reader::default();
        for (i, line) in text.lines().enumerate() {
            reader.line(line).map_err(|message| ParseError { line: i + 1, message })?;
        }
        let whole = |message| ParseError { line: 0, message };
        reader.resolve_keys().map_err(whole)?;
        reader.resolve_insides().map_err(whole)?;
        reader.graph.verify().map_err(whole)?;
        Ok((reader.graph, reader.roots))
    }
}

#[derive(Default)]
struct Reader {
    graph: Graph,
    roots: Vec<(String, E)>,
    /// Handles by their printed numbers.
    handles: HashMap<u32, E>,
    columns: HashMap<String, ColumnId>,
    params: HashMap<String, ParamId>,
    /// Keys of states: they may be declared further down.
    keys: Vec<(ColumnId, f64, String)>,
    /// What derived levels lie inside.
    insides: Vec<(Level, String)>,
}

type Read<T> = Result<T, String>;

impl Reader {
    fn line(&mut self, line: &str) -> Read<()> {
        if line.trim().is_empty() {
            return Ok(());
        }
        if line.starts_with('%') {
            return self.expression(line);
        }
        if let Some((name, handle)) = line.rsplit_once(" = %") {
            let e = self.handle(&format!("%{handle}"))?;
            self.roots.push((name.to_owned(), e));
            return Ok(());
        }
        match line.split_once(' ') {
            Some((kind @ ("level" | "list" | "pairs" | "derived"), rest)) => {
                self.level_line(kind, rest)
            }
            Some(("param", rest)) => self.param_line(rest),
            Some(("column", rest)) => self.column_line(rest),
            _ => Err(format!("no declaration, expression or root: `{line}`")),
        }
    }

    /// `level item in rollout`, `pairs duel of rollout in group`,
    /// `derived cell from token rows token inside batch group`
    fn level_line(&mut self, kind: &str, text: &str) -> Read<()> {
        let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
        let wrong = || format!("no level can be declared as `{kind} {text}`");
        let table = &self.graph.level_table;
        if table.is_full() || table.find(name).is_some() {
            return Err(wrong());
        }
        let owned = name.to_owned();
        match kind {
            "level" if rest == "in rollout" => {
                self.graph.level_table.add_segmentation(owned, NOWHERE);
            }
            "level" if rest == "in token" => {
                self.graph.level_table.add_below(owned, NOWHERE);
            }
            "list" => {
                let parent = self.level(rest.strip_prefix("in ").ok_or_else(wrong)?)?;
                self.graph.level_table.add_list(owned, parent, NOWHERE);
            }
            "pairs" => {
                let (of, within) = cut(rest.strip_prefix("of ").ok_or_else(wrong)?, " in ")?;
                let (of, within) = (self.level(of)?, self.level(within)?);
                self.graph.level_table.add_pairs(owned, of, within, NOWHERE);
            }
            "derived" => {
                let (source, rest) = cut(rest.strip_prefix("from ").ok_or_else(wrong)?, " rows ")?;
                let (rows, above) = cut(rest, " inside ")?;
                let (source, rows) = (self.level(source)?, self.level(rows)?);
                let level = self.graph.level_table.add_derived(owned, source, rows, &[], NOWHERE);
                self.insides.push((level, above.to_owned()));
            }
            _ => return Err(wrong()),
        }
        Ok(())
    }

    /// Levels may lie inside ones that stand further down.
    fn resolve_insides(&mut self) -> Read<()> {
        for (level, above) in std::mem::take(&mut self.insides) {
            for name in above.split(' ') {
                let outer = self.level(name)?;
                self.graph.level_table.nest(level, outer);
            }
        }
        Ok(())
    }

    /// `beta : real = 0.0 in [0.0, 1.0]`
    fn param_line(&mut self, text: &str) -> Read<()> {
        let (name, rest) = cut(text, " : ")?;
        let (ty, rest) = cut(rest, " = ")?;
        let (value, range) = match rest.split_once(" in [") {
            None => (rest, None),
            Some((value, range)) => {
                let ends = range.strip_suffix(']').ok_or("a range ends with `]`")?;
                let (low, high) = cut(ends, ", ")?;
                (value, Some((number(low)?, number(high)?)))
            }
        };
        let id = ParamId(number_of(self.graph.params.len())?);
        if self.params.insert(name.to_owned(), id).is_some() {
            return Err(format!("param `{name}` is declared twice"));
        }
        let (name, ty, value) = (name.to_owned(), ty_of(ty)?, number(value)?);
        let info = ParamInfo { name, ty, value, range, doc: None, span: NOWHERE };
        self.graph.params.push(info);
        Ok(())
    }

    /// `group/v : real = 0.5 state from 0.5 by group/prompt`
    fn column_line(&mut self, text: &str) -> Read<()> {
        let (path, rest) = cut(text, " : ")?;
        let (level, name) = cut(path, "/")?;
        let id = ColumnId(number_of(self.graph.columns.len())?);
        if self.columns.insert(path.to_owned(), id).is_some() {
            return Err(format!("column `{path}` is declared twice"));
        }
        let mut rest = rest;
        if let Some(before) = rest.strip_suffix(" uniform") {
            self.graph.sources.insert(id, ColumnSource::Uniform);
            rest = before;
        } else if let Some((before, state)) = rest.split_once(" state from ") {
            match state.split_once(" by ") {
                Some((first, key)) => self.keys.push((id, number(first)?, key.to_owned())),
                None => {
                    let source = ColumnSource::State { key: None, first: number(state)? };
                    self.graph.sources.insert(id, source);
                }
            }
            rest = before;
        }
        let (rest, default) = match rest.split_once(" = ") {
            Some((rest, default)) => (rest, Some(number(default)?)),
            None => (rest, None),
        };
        let (ty, differentiable) = match rest.strip_suffix(", differentiable") {
            Some(ty) => (ty, true),
            None => (rest, false),
        };
        let (level, ty) = (self.level(level)?, ty_of(ty)?);
        let name = name.to_owned();
        let info = ColumnInfo { level, name, ty, differentiable, default, span: None };
        self.graph.columns.push(info);
        Ok(())
    }

    fn resolve_keys(&mut self) -> Read<()> {
        for (id, first, key) in std::mem::take(&mut self.keys) {
            let key = Some(self.column(&key)?);
            self.graph.sources.insert(id, ColumnSource::State { key, first });
        }
        Ok(())
    }

    /// `%3 : real @ token = mul %1 %2    # name`
    fn expression(&mut self, line: &str) -> Read<()> {
        let (line, name) = match line.split_once("    # ") {
            Some((line, name)) => (line, Some(name)),
            None => (line, None),
        };
        let (handle, rest) = cut(line, " : ")?;
        let (ty, rest) = cut(rest, " @ ")?;
        let (level, text) = cut(rest, " = ")?;
        let (ty, level) = (ty_of(ty)?, self.level(level)?);
        let expr = self.expr(text)?;
        let known = self.graph.len();
        let e = self.graph.add(expr, level, ty);
        if e.index() != known {
            return Err("the same expression stands further up".to_owned());
        }
        if let Some(name) = name {
            self.graph.set_name(e, name);
        }
        let number = handle.strip_prefix('%').and_then(|n| n.parse().ok());
        let number = number.ok_or_else(|| format!("`{handle}` is no handle"))?;
        if self.handles.insert(number, e).is_some() {
            return Err(format!("`{handle}` stands further up"));
        }
        Ok(())
    }

    fn expr(&self, text: &str) -> Read<Expr> {
        if let Ok(value) = number(text) {
            return Ok(Expr::Const(value.to_bits()));
        }
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "param" => {
                let id = self.params.get(rest);
                id.map(|p| Expr::Param(*p)).ok_or_else(|| format!("no param `{rest}` is declared"))
            }
            "column" => Ok(Expr::Column(self.column(rest)?)),
            "choose" => self.choose(rest),
            "select" => {
                let [c, a, b] = self.handles(rest)?;
                Ok(Expr::Select(c, a, b))
            }
            "broadcast" => Ok(Expr::Broadcast(self.handle(rest)?)),
            "detach" => Ok(Expr::Detach(self.handle(rest)?)),
            "vocab_index" if rest.is_empty() => Ok(Expr::VocabIndex),
            "at" => {
                let [x, i] = self.handles(rest)?;
                Ok(Expr::At(x, i))
            }
            "cumsum" | "rcumsum" | "cumsum_exclusive" | "rcumsum_exclusive" => {
                let (rest, filter, scope, within) = self.ordered(rest)?;
                let (x, factor) = match rest.split_once(" times ") {
                    Some((x, factor)) => (x, Some(self.handle(factor)?)),
                    None => (rest, None),
                };
                let (reverse, exclusive) = (word.starts_with('r'), word.ends_with("exclusive"));
                let x = self.handle(x)?;
                Ok(Expr::Scan { x, filter, factor, scope, within, reverse, exclusive })
            }
            "rank" => {
                let (x, filter, scope, within) = self.ordered(rest)?;
                Ok(Expr::Rank { x: self.handle(x)?, filter, scope, within })
            }
            "find" => {
                let (rest, filter, scope, within) = self.ordered(rest)?;
                let (want, key) = cut(rest, " among ")?;
                let (want, key) = (self.handle(want)?, self.handle(key)?);
                Ok(Expr::Find { key, want, filter, scope, within })
            }
            "prefix" => {
                let (x, _, scope, _) = self.ordered(rest)?;
                Ok(Expr::Prefix(self.handle(x)?, scope))
            }
            "gather" => {
                let (rest, _, scope, _) = self.ordered(rest)?;
                let (x, index) = cut(rest, " by ")?;
                Ok(Expr::Gather { x: self.handle(x)?, index: self.handle(index)?, scope })
            }
            "scatter" => {
                let (op, rest) = cut(rest, " ")?;
                let (rest, scope) = cut(rest, " in ")?;
                let (rest, index) = cut(rest, " by ")?;
                let (x, filter) = self.filtered(rest)?;
                let op = REDUCTIONS.into_iter().find(|r| r.name() == op);
                let op = op.ok_or_else(|| format!("no reduction in `{text}`"))?;
                let (x, index) = (self.handle(x)?, self.handle(index)?);
                Ok(Expr::Scatter { op, x, filter, index, scope: self.level(scope)? })
            }
            "left" | "right" if rest.is_empty() => Ok(Expr::Side(word == "right")),
            "row" if rest.is_empty() => Ok(Expr::Row),
            "nth" => {
                let [x, n] = self.handles(rest)?;
                Ok(Expr::Nth(x, n))
            }
            "spread" => {
                let (d, index) = cut(rest, " by ")?;
                Ok(Expr::Spread { d: self.handle(d)?, index: self.handle(index)? })
            }
            "shift" => {
                let (rest, filter, scope, within) = self.ordered(rest)?;
                let (x, rest) = cut(rest, " by ")?;
                let (by, default) = cut(rest, " default ")?;
                let by = by.parse().map_err(|_| format!("`{by}` is no number of rows"))?;
                let (x, default) = (self.handle(x)?, self.handle(default)?);
                Ok(Expr::Shift { x, default, by, filter, scope, within })
            }
            _ => self.operator(word, rest),
        }
    }

    /// Scalar operators and reductions; `min` and `max` are both.
    fn operator(&self, word: &str, rest: &str) -> Read<Expr> {
        let two = rest.split(' ').filter(|w| w.starts_with('%')).count() == 2;
        let filtered = rest.contains(" where ");
        if let Some(op) = Binary::ALL.into_iter().find(|op| op.name() == word && two && !filtered) {
            let [a, b] = self.handles(rest)?;
            return Ok(Expr::Binary(op, a, b));
        }
        if let Some(op) = REDUCTIONS.into_iter().find(|op| op.name() == word) {
            let (x, filter) = self.filtered(rest)?;
            return Ok(Expr::Reduce(op, self.handle(x)?, filter));
        }
        if let Some(op) = Unary::ALL.into_iter().find(|op| op.name() == word) {
            return Ok(Expr::Unary(op, self.handle(rest)?));
        }
        Err(format!("no operator `{word}` takes `{rest}`"))
    }

    /// `%5 with vocab/logits else token/logp`, `token/position else %5`
    fn choose(&self, text: &str) -> Read<Expr> {
        let (first, otherwise) = cut(text, " else ")?;
        match first.split_once(" with ") {
            Some((x, with)) => {
                let (x, with) = (self.handle(x)?, self.column(with)?);
                Ok(Expr::Choose(self.column(otherwise)?, x, Prefer::ComputedWith(with)))
            }
            None => {
                let x = self.handle(otherwise)?;
                Ok(Expr::Choose(self.column(first)?, x, Prefer::Column))
            }
        }
    }

    /// What stands before an optional `where` and the `in` of an ordered operator.
    fn ordered<'t>(&self, text: &'t str) -> Read<(&'t str, Option<E>, Level, Option<E>)> {
        let (rest, scope) = cut(text, " in ")?;
        let (rest, filter) = self.filtered(rest)?;
        let (scope, within) = match scope.split_once(" by ") {
            Some((scope, within)) => (scope, Some(self.handle(within)?)),
            None => (scope, None),
        };
        Ok((rest, filter, self.level(scope)?, within))
    }

    fn filtered<'t>(&self, text: &'t str) -> Read<(&'t str, Option<E>)> {
        match text.split_once(" where ") {
            Some((rest, filter)) => Ok((rest, Some(self.handle(filter)?))),
            None => Ok((text, None)),
        }
    }

    fn handles<const N: usize>(&self, text: &str) -> Read<[E; N]> {
        let found: Read<Vec<E>> = text.split(' ').map(|word| self.handle(word)).collect();
        found?.try_into().map_err(|_| format!("there should be {N} operands in `{text}`"))
    }

    fn handle(&self, word: &str) -> Read<E> {
        let number = word.strip_prefix('%').and_then(|n| n.parse().ok());
        let number: u32 = number.ok_or_else(|| format!("`{word}` is no handle"))?;
        self.handles.get(&number).copied().ok_or_else(|| format!("`{word}` is not further up"))
    }

    fn column(&self, path: &str) -> Read<ColumnId> {
        let id = self.columns.get(path).copied();
        id.ok_or_else(|| format!("no column `{path}` is declared"))
    }

    fn level(&self, name: &str) -> Read<Level> {
        let level = self.graph.level_table.find(name);
        level.ok_or_else(|| format!("there is no level `{name}`"))
    }
}

fn cut<'t>(text: &'t str, at: &str) -> Read<(&'t str, &'t str)> {
    text.split_once(at).ok_or_else(|| format!("there is no `{}` in `{text}`", at.trim()))
}

fn number_of(len: usize) -> Read<u16> {
    u16::try_from(len).map_err(|_| "there are too many declarations".to_owned())
}

fn ty_of(name: &str) -> Read<Ty> {
    let ty = TYPES.into_iter().find(|ty| ty.name() == name);
    ty.ok_or_else(|| format!("there is no type `{name}`"))
}

fn number(text: &str) -> Read<f64> {
    if let Some(bits) = text.strip_prefix("NaN:") {
        let bits = u64::from_str_radix(bits, 16).map_err(|_| format!("no NaN: `{text}`"))?;
        return Ok(f64::from_bits(bits));
    }
    // Only what `print` writes: `nan` and `infinity` are read by Rust too, but might be names.
    let written = text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    let special = matches!(text, "NaN" | "inf" | "-inf");
    let value = if written || special { text.parse().ok() } else { None };
    value.ok_or_else(|| format!("`{text}` is no number"))
}

#[cfg(test)]
mod tests;
