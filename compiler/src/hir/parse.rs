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
            Some(("level", rest)) => self.level_line(rest),
            Some(("param", rest)) => self.param_line(rest),
            Some(("column", rest)) => self.column_line(rest),
            _ => Err(format!("no declaration, expression or root: `{line}`")),
        }
    }

    /// `item in rollout`
    fn level_line(&mut self, text: &str) -> Read<()> {
        let (name, parent) = cut(text, " in ")?;
        let full = self.graph.level_table.all().count() >= usize::from(u8::MAX);
        if full || self.graph.level_table.find(name).is_some() || parent != "rollout" {
            return Err(format!("no level can be declared as `{text}`"));
        }
        self.graph.level_table.add_segmentation(name.to_owned(), NOWHERE);
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
                let (x, filter, scope) = self.ordered(rest)?;
                let (reverse, exclusive) = (word.starts_with('r'), word.ends_with("exclusive"));
                Ok(Expr::Scan { x: self.handle(x)?, filter, scope, reverse, exclusive })
            }
            "rank" => {
                let (x, filter, scope) = self.ordered(rest)?;
                Ok(Expr::Rank { x: self.handle(x)?, filter, scope })
            }
            "shift" => {
                let (rest, filter, scope) = self.ordered(rest)?;
                let (x, rest) = cut(rest, " by ")?;
                let (by, default) = cut(rest, " default ")?;
                let by = by.parse().map_err(|_| format!("`{by}` is no number of rows"))?;
                let (x, default) = (self.handle(x)?, self.handle(default)?);
                Ok(Expr::Shift { x, default, by, filter, scope })
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
    fn ordered<'t>(&self, text: &'t str) -> Read<(&'t str, Option<E>, Level)> {
        let (rest, scope) = cut(text, " in ")?;
        let (rest, filter) = self.filtered(rest)?;
        Ok((rest, filter, self.level(scope)?))
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
mod tests {
    use super::*;
    use crate::level::{BATCH, GROUP, ROLLOUT, TOKEN, VOCAB};

    /// One expression of every form. A new form has to be written here before this compiles.
    fn form(e: &Expr) -> usize {
        match e {
            Expr::Const(_) => 0,
            Expr::Param(_) => 1,
            Expr::Column(_) => 2,
            Expr::Choose(..) => 3,
            Expr::Unary(..) => 4,
            Expr::Binary(..) => 5,
            Expr::Select(..) => 6,
            Expr::Broadcast(_) => 7,
            Expr::Reduce(..) => 8,
            Expr::Scan { .. } => 9,
            Expr::Shift { .. } => 10,
            Expr::Rank { .. } => 11,
            Expr::At(..) => 12,
            Expr::VocabIndex => 13,
            Expr::Detach(_) => 14,
        }
    }

    const FORMS: usize = 15;

    fn everything() -> (Graph, Vec<(String, E)>) {
        let mut g = Graph::default();
        let item = g.level_table.add_segmentation("item".into(), NOWHERE);
        let mut column = |level, name: &str, ty, differentiable, default| {
            let name = name.to_owned();
            g.columns.push(ColumnInfo { level, name, ty, differentiable, default, span: None });
            ColumnId(g.columns.len() as u16 - 1)
        };
        let state = column(GROUP, "v", Ty::Real, false, Some(0.5));
        let prompt = column(GROUP, "prompt", Ty::Int, false, None);
        let logits = column(VOCAB, "logits", Ty::Real, true, None);
        let logp = column(TOKEN, "logp", Ty::Real, true, None);
        let mask = column(TOKEN, "mask", Ty::Bool, false, Some(1.0));
        let action = column(TOKEN, "action", Ty::Int, false, None);
        let weight = column(item, "mtp.1", Ty::Real, false, Some(-0.0));
        let uniform = column(ROLLOUT, "uniform()", Ty::Real, false, None);
        let total = column(BATCH, "c", Ty::Real, false, Some(f64::INFINITY));
        g.sources.insert(state, ColumnSource::State { key: Some(prompt), first: 0.5 });
        g.sources.insert(uniform, ColumnSource::Uniform);
        g.sources.insert(total, ColumnSource::State { key: None, first: f64::INFINITY });
        for (name, range) in [("beta", None), ("w.2", Some((0.0, 1e300)))] {
            let info = ParamInfo {
                name: name.into(),
                ty: Ty::Real,
                value: 1e-7,
                range,
                doc: None,
                span: NOWHERE,
            };
            g.params.push(info);
        }
        let mut roots = Vec::new();
        let c = [state, logits, logp, mask, action, weight, uniform, total].map(|c| g.column(c));
        let [state, logits_x, logp_x, mask, action, weight, uniform, total] = c;
        for value in [-0.0, 1.5, 1e-300, f64::NEG_INFINITY, f64::NAN, -f64::NAN] {
            let e = g.constant(value, Ty::Real);
            roots.push((format!("value/{}", value.to_bits()), e));
        }
        for op in Unary::ALL {
            roots.push((op.name().to_owned(), g.unary(op, logp_x)));
        }
        for op in Binary::ALL {
            roots.push((op.name().to_owned(), g.binary(op, logp_x, uniform)));
        }
        let beta = g.add(Expr::Param(ParamId(0)), BATCH, Ty::Real);
        let w = g.add(Expr::Param(ParamId(1)), BATCH, Ty::Real);
        for filter in [None, Some(mask)] {
            for op in REDUCTIONS {
                roots.push(("x y".into(), g.reduce(op, logp_x, filter, ROLLOUT)));
            }
            for (reverse, exclusive) in [(false, false), (false, true), (true, false), (true, true)]
            {
                let scan = Expr::Scan { x: logp_x, filter, scope: item, reverse, exclusive };
                roots.push(("scan".into(), g.add(scan, TOKEN, Ty::Real)));
            }
            let shift = Expr::Shift { x: logp_x, default: logp_x, by: -2, filter, scope: ROLLOUT };
            roots.push(("shift".into(), g.add(shift, TOKEN, Ty::Real)));
            let rank = Expr::Rank { x: logp_x, filter, scope: BATCH };
            roots.push(("rank".into(), g.add(rank, TOKEN, Ty::Int)));
        }
        let weight = g.broadcast(weight, TOKEN);
        let select = g.select(mask, weight, logp_x);
        g.set_name(select, "base.x");
        let at = g.add(Expr::At(logits_x, action), TOKEN, Ty::Real);
        let number = g.add(Expr::VocabIndex, VOCAB, Ty::Int);
        let entry = g.add(Expr::At(number, action), TOKEN, Ty::Int);
        let detach = g.add(Expr::Detach(at), TOKEN, Ty::Real);
        let computed = Prefer::ComputedWith(logits);
        let logp_y = g.add(Expr::Choose(logp, detach, computed), TOKEN, Ty::Real);
        let logp_z = g.add(Expr::Choose(logp, detach, Prefer::Column), TOKEN, Ty::Real);
        for e in [beta, w, state, total, select, entry, logp_y, logp_z] {
            roots.push(("loss".into(), e));
        }
        g.verify().unwrap();
        (g, roots)
    }

    #[test]
    fn every_form_is_read_back() {
        let (g, roots) = everything();
        let mut forms: Vec<usize> = g.all().map(|e| form(&g.expr(e))).collect();
        forms.sort_unstable();
        forms.dedup();
        assert_eq!(forms, (0..FORMS).collect::<Vec<_>>());
        let text = g.print(&roots);
        let (again, same) = Graph::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(again.print(&same), text);
        assert_eq!(again.len(), g.len());
        for e in g.all() {
            assert_eq!(
                (again.expr(e), again.level(e), again.ty(e)),
                (g.expr(e), g.level(e), g.ty(e))
            );
            assert_eq!(again.name(e), g.name(e));
        }
        assert_eq!(again.sources, g.sources);
    }

    #[test]
    fn what_is_no_graph_is_refused_by_line() {
        let good =
            "column token/logp : real, differentiable\n%0 : real @ token = column token/logp\n";
        assert!(Graph::parse(good).is_ok());
        for (text, line, why) in [
            ("%1 : real @ token = exp %7\n", 3, "`%7` is not further up"),
            ("%1 : real @ step = exp %0\n", 3, "no level `step`"),
            ("%1 : float @ token = exp %0\n", 3, "no type `float`"),
            ("%1 : real @ token = exq %0\n", 3, "no operator `exq`"),
            ("%1 : real @ token = select %0 %0\n", 3, "3 operands"),
            ("%1 : real @ token = column token/log\n", 3, "no column"),
            ("%0 : real @ token = exp %0\n", 3, "further up"),
            ("%1 : real @ token = column token/logp\n", 3, "the same expression"),
            ("\nhello\n", 4, "no declaration"),
            ("column token/logp : real\n", 3, "twice"),
            ("%1 : real @ rollout = exp %0\n", 0, "do not fit"),
            ("column group/v : real state from 0.0 by group/p\n", 0, "no column `group/p`"),
        ] {
            let error = Graph::parse(&format!("{good}{text}")).unwrap_err();
            assert_eq!(error.line, line, "{text}: {error}");
            assert!(error.message.contains(why), "{text}: {error}");
        }
    }
}
