//! Random well-typed programs, and how a failing one is made smaller.

use std::fmt::Write as _;

use rlc_compiler::ast::ExprKind;
use rlc_tests::batches::Random;
use rlc_tests::syntax::{all, children, module};

const LEVELS: [&str; 5] = ["batch", "group", "rollout", "turn", "token"];
const TOKEN: usize = 4;

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
        match self.r.below(if level == TOKEN { 16 } else { 18 }) {
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

    /// A number of each token's whole distribution.
    fn vocab(&mut self) -> String {
        match self.r.below(5) {
            0 => format!("logsumexp(logits * {} per token)", self.real(TOKEN, 0)),
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
        let wide = |name: Option<&str>| matches!(name, None | Some("group" | "batch"));
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
