//! Random well-typed programs, and how a failing one is made smaller.

use std::fmt::Write as _;

use rlc_compiler::ast::ExprKind;
use rlc_tests::batches::Random;
use rlc_tests::syntax::{all, children, module};

const LEVELS: [&str; 5] = ["batch", "group", "rollout", "turn", "token"];
const TOKEN: usize = 4;

/// Derived levels that every program may read.
const KEYS: [(&str, &str); 8] = [
    ("cell", "(group, position)"),
    ("act", "(group, position, action)"),
    ("kind", "(group, correct @ token)"),
    ("run", "runs(old_logp > -1.4 in rollout)"),
    ("sure", "runs(logp > -1.4 in rollout)"),
    ("part", "splits(token_reward > 0.3 in rollout)"),
    ("node", "prefix(action in group)"),
    ("duel", "pairs(rollout in group)"),
];

/// Those that tokens lie inside.
const TOKEN_KEYS: [&str; 7] = ["cell", "act", "kind", "run", "sure", "part", "node"];

/// Writes one program.
pub struct Writer<'a> {
    /// Where chance comes from.
    pub r: &'a mut Random,
    /// Operators that look along the rollouts of a group, or the groups, are allowed.
    pub ordered: bool,
    /// The batch has logits: whole distributions may be read.
    pub logits: bool,
}

impl Writer<'_> {
    fn pick<'s>(&mut self, of: &[&'s str]) -> &'s str {
        of[self.r.below(of.len())]
    }

    /// A whole program.
    pub fn program(&mut self) -> String {
        let mut text = String::from("extend nothing\nparam w = 0.3\n");
        if self.r.below(2) == 0 {
            text += "keep token where mask\n";
        }
        if self.r.below(4) == 0 {
            let level = 1 + self.r.below(4);
            let (verb, cond) = (self.pick(&["keep", "drop"]), self.truth(level, 1));
            let _ = writeln!(text, "{verb} {} where {cond}", LEVELS[level]);
        }
        for (name, key) in KEYS {
            let _ = writeln!(text, "key {name} = {key}");
        }
        let mut names = Vec::new();
        for i in 0..self.r.below(3) {
            let (level, depth) = (2 + self.r.below(3), 1 + self.r.below(3));
            let _ = writeln!(text, "d{i} = {}", self.real(level, depth));
            names.push(format!("mean((d{i} * logp) @ token)"));
        }
        let depth = 2 + self.r.below(3);
        let _ = writeln!(text, "loss = mean(logp * ({}))", self.real(TOKEN, 2));
        let _ = writeln!(text, "  + {}", self.real(0, depth));
        for name in names {
            let _ = writeln!(text, "  + {name}");
        }
        text += "minimize loss\n";
        let depth = 1 + self.r.below(3);
        let _ = writeln!(text, "metric m = {}", self.real(0, depth));
        text
    }

    /// A real expression at one of [`LEVELS`] (or a coarser one, which broadcasts).
    fn real(&mut self, level: usize, depth: usize) -> String {
        if depth == 0 {
            return self.leaf(level);
        }
        let d = depth - 1;
        match self.r.below(if level == TOKEN { 19 } else { 20 }) {
            0 => format!("({} + {})", self.real(level, d), self.real(level, d)),
            1 => format!("({} - {})", self.real(level, d), self.real(level, d)),
            2 => format!("({} * {})", self.real(level, d), self.real(level, d)),
            3 => format!("({} / (abs({}) + 1))", self.real(level, d), self.real(level, d)),
            4 => {
                let f = self.pick(&["min", "max"]);
                format!("{f}({}, {})", self.real(level, d), self.real(level, d))
            }
            5 => format!("clip({}, -1.2, {})", self.real(level, d), self.real(level, d)),
            6 => {
                let f = self.pick(&["tanh", "sigmoid", "abs", "relu", "softplus", "sin"]);
                format!("{f}({})", self.real(level, d))
            }
            7 => format!("exp(clip({}, -3, 1))", self.real(level, d)),
            8 => format!("log(abs({}) + 0.5)", self.real(level, d)),
            9 => {
                let cond = self.truth(level, d);
                format!("(if {cond} then {} else {})", self.real(level, d), self.real(level, d))
            }
            10 if self.r.below(4) == 0 => format!("detach({})", self.real(level, d)),
            10 | 11 => format!("({} ^ 2)", self.real(level, d)),
            12 if level >= 3 || (level == 2 && self.ordered) => self.along(level, d),
            12 | 13 => self.real(level, 0),
            14 if level == TOKEN && self.logits => self.vocab(),
            14 | 15 if level == TOKEN => self.real(level, 0),
            16 | 17 if level == TOKEN => self.keyed(d),
            18 if level == 2 => self.paired(d),
            18 if level == 1 => self.of_elements(d),
            18 if level == TOKEN => self.along_key(d),
            _ if level == TOKEN => self.real(level, 0),
            _ => self.reduced(level, d),
        }
    }

    fn leaf(&mut self, level: usize) -> String {
        let here: &[&str] = match level {
            4 => &["logp", "logp", "entropy", "old_logp", "token_reward", "position"],
            3 => &["step_correct", "step_reward"],
            2 => &["reward", "length"],
            _ => &["0.7", "2", "-1.5", "w"],
        };
        if level > 0 && self.r.below(4) == 0 {
            return self.leaf(level - 1);
        }
        self.pick(here).to_owned()
    }

    /// Something that looks along the rows.
    fn along(&mut self, level: usize, d: usize) -> String {
        let scope = match (self.ordered, level) {
            (false, _) => "rollout",
            (true, 2) => "group",
            (true, _) => self.pick(&["rollout", "group", "batch"]),
        };
        match self.r.below(6) {
            0 => {
                let f = self.pick(&["cumsum", "rcumsum"]);
                format!("{f}({} in {scope})", self.real(level, d))
            }
            1 => {
                let f = self.pick(&["next", "prev"]);
                format!("{f}({}, 0.5 in {scope})", self.real(level, d))
            }
            2 => {
                let default = self.real(level.saturating_sub(2), 0);
                format!("next({}, {default}, by = 2 in {scope})", self.real(level, d))
            }
            3 => format!("discounted({}, 0.9 in {scope})", self.real(level, d)),
            4 => format!("rank({} in {scope})", self.real(level, d)),
            _ => format!("index({} in {scope})", LEVELS[level]),
        }
    }

    /// A reduction per element of a key, at its tokens.
    fn keyed(&mut self, d: usize) -> String {
        let key = self.pick(&TOKEN_KEYS);
        let x = format!("({}) @ token", self.real(TOKEN, d));
        let cond = match self.r.below(3) {
            0 => format!(" where {}", self.truth(TOKEN, 0)),
            _ => String::new(),
        };
        match self.r.below(10) {
            0 => format!("sum({x}{cond} per {key})"),
            1 | 2 => format!("mean({x}{cond} per {key})"),
            3 => format!("max({x}, default = 0.25{cond} per {key})"),
            4 => format!("min({x}{cond} per {key})"),
            5 => format!("std({x}, ddof = {}{cond} per {key})", self.r.below(2)),
            6 => format!("tanh(logsumexp({x}{cond} per {key}))"),
            7 => format!("prod(clip({x}, 0.5, 1.5){cond} per {key})"),
            8 => format!("quantile({x}, 0.3{cond} per {key})"),
            _ => format!("count(token{cond} per {key})"),
        }
    }

    /// An ordered operator along the rows of each element.
    fn along_key(&mut self, d: usize) -> String {
        // Elements of one rollout keep their order when rollouts change theirs.
        let keys: &[&str] = if self.ordered { &TOKEN_KEYS } else { &["run", "sure", "part"] };
        let key = self.pick(keys);
        let x = self.real(TOKEN, d);
        match self.r.below(9) {
            0 => format!("cumsum(({x}) @ token in {key})"),
            1 => format!("prev(({x}) @ token, 0.5 in {key})"),
            2 => format!("next(({x}) @ token, 0.5, by = 2 in {key})"),
            3 => format!("discounted(({x}) @ token, 0.9 in {key})"),
            4 => format!("rank(({x}) @ token in {key})"),
            5 => format!("sort(({x}) @ token in {key})"),
            6 => format!("pick(({x}) @ token, {}, 0.25 in {key})", self.r.below(3)),
            7 => format!("argmax(({x}) @ token in {key})"),
            _ => format!("index(token in {key})"),
        }
    }

    /// Over the elements of a key, and of elements that lie inside others.
    fn of_elements(&mut self, d: usize) -> String {
        let x = format!("({}) @ token", self.real(TOKEN, d));
        match self.r.below(5) {
            0 => format!("mean(mean({x} per cell) per group)"),
            1 => format!("max(sum({x} per run) ^ 2 per group)"),
            2 => format!("mean(std(mean({x} per act) per cell) per group)"),
            3 => "count(node per group)".to_owned(),
            _ => format!("sum(mean({x} per cell) * count(token per cell) per group)"),
        }
    }

    /// Over the pairs of a group, for each rollout.
    fn paired(&mut self, d: usize) -> String {
        let x = format!("({}) @ rollout", self.real(2, d));
        let side = self.pick(&["left", "right"]);
        match self.r.below(4) {
            0 => format!("mean(left({x} in duel) - right({x} in duel) per duel.{side})"),
            1 => format!("max(left({x} in duel) where right(correct in duel) per duel.{side})"),
            2 => format!("sum(tanh(left({x} in duel) * right({x} in duel)) per duel.{side})"),
            _ => format!("count(duel per duel.{side})"),
        }
    }

    /// A number of each token's whole distribution.
    fn vocab(&mut self) -> String {
        match self.r.below(9) {
            5 => "logsumexp(logits where top(logits, 2 in token) per token)".to_owned(),
            6 => format!("quantile(logits * {}, 0.4 per token)", self.real(TOKEN, 0)),
            7 => "at(softmax(logits), argmax(logits in token))".to_owned(),
            8 => "sum(softmax(logits) where not top(logits, 1 in token) per token)".to_owned(),
            0 => {
                let level = 2 + self.r.below(3);
                format!("logsumexp(logits * {} per token)", self.real(level, 1))
            }
            1 => "sum(softmax(logits) ^ 2 per token)".to_owned(),
            2 => format!("at(log_softmax(logits) * {}, action)", self.real(TOKEN, 0)),
            3 => format!("max(logits + {} per token)", self.real(TOKEN, 0)),
            _ => "mean(if logits > 0 then softmax(logits) else 0 per token)".to_owned(),
        }
    }

    fn reduced(&mut self, level: usize, d: usize) -> String {
        let from = level + 1 + self.r.below(4 - level);
        let x = format!("({}) @ {}", self.real(from, d), LEVELS[from]);
        let cond = match self.r.below(3) {
            0 => format!(" where {}", self.truth(from, 0)),
            _ => String::new(),
        };
        let per = if level == 0 { String::new() } else { format!(" per {}", LEVELS[level]) };
        match self.r.below(12) {
            0 => format!("sum({x}{cond}{per})"),
            1..=3 => format!("mean({x}{cond}{per})"),
            4 => format!("max({x}, default = 0.25{cond}{per})"),
            5 => format!("min({x}{cond}{per})"),
            6 => format!("std({x}, ddof = {}{cond}{per})", self.r.below(2)),
            7 if self.ordered || level >= 2 => {
                format!("{}({x}{cond}{per})", self.pick(&["first", "last"]))
            }
            7 | 8 => format!("tanh(logsumexp({x}{cond}{per}))"),
            9 => format!("prod(clip({x}, 0.5, 1.5){cond}{per})"),
            10 => format!("quantile({x}, 0.3{cond}{per})"),
            _ => format!("count({}{cond}{per})", LEVELS[from]),
        }
    }

    fn truth(&mut self, level: usize, depth: usize) -> String {
        match self.r.below(4) {
            0 if level == TOKEN => "mask".to_owned(),
            0 if level == 2 => "correct".to_owned(),
            1 => format!("not ({} < {})", self.real(level, 0), self.real(level, depth)),
            _ => format!("({} > {})", self.real(level, 0), self.real(level, depth)),
        }
    }
}

/// Whether rollouts of a group, or groups, mean something by their order.
pub fn reads_order(text: &str) -> bool {
    let module = module(text);
    all(&module).into_iter().any(|e| {
        let ExprKind::Call(call) = &e.kind else { return false };
        // Elements of these keys have tokens of several rollouts.
        let across = ["group", "batch", "cell", "act", "kind", "node"];
        let wide = |name: Option<&str>| name.is_none_or(|n| across.contains(&n));
        match call.function.name.as_str() {
            "first" | "last" => wide(match &call.per {
                Some(rlc_compiler::ast::Partition::Name(name)) => Some(&name.name),
                _ => None,
            }),
            "uniform" => true,
            _ => call.scope.as_ref().is_some_and(|s| wide(Some(&s.name))),
        }
    })
}

/// Smaller programs: without a statement, with a part in the place of the whole, with a number.
pub fn simpler(text: &str) -> Vec<String> {
    let module = module(text);
    let mut out: Vec<String> = Vec::new();
    let mut replaced = |start: u32, end: u32, by: &str| {
        let (start, end) = (start as usize, end as usize);
        out.push(format!("{}{by}{}", &text[..start], &text[end..]));
    };
    for statement in &module.statements {
        replaced(statement.span.start, statement.span.end, "");
    }
    for e in all(&module) {
        for part in children(e) {
            let inner = &text[part.span.start as usize..part.span.end as usize];
            let atom = children(part).is_empty();
            let inner = if atom { inner.to_owned() } else { format!("({inner})") };
            replaced(e.span.start, e.span.end, &inner);
        }
        match &e.kind {
            ExprKind::Literal(_) => {}
            ExprKind::Call(call) => {
                if let Some(filter) = &call.filter {
                    let whole = &text[..filter.span.start as usize];
                    let from = whole.rfind("where").unwrap_or(whole.len());
                    replaced(from as u32, filter.span.end, "");
                }
                replaced(e.span.start, e.span.end, "1.0");
            }
            _ => replaced(e.span.start, e.span.end, "1.0"),
        }
    }
    let tidy = |t: String| {
        let lines: Vec<&str> = t.lines().filter(|l| !l.trim().is_empty()).collect();
        lines.join("\n") + "\n"
    };
    let mut out: Vec<String> = out.into_iter().map(tidy).collect();
    out.retain(|t| t.len() < text.len());
    out.sort_by_key(String::len);
    out
}
