//! What a comparison found: a row for each program, what separates, and both as text, CSV, Markdown and JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::measure::{End, FALL, FROZEN, Quantity, Run};
use super::plan::Plan;
use super::stats::{Estimate, fisher, holm, p_value};

/// All that was found.
pub struct Found {
    /// In the order of the command line.
    pub rows: Vec<Row>,
    /// Held-out problems of a measurement.
    pub problems: usize,
    /// Seeds, steps and the most processor time of a run.
    pub seeds: usize,
    /// See `seeds`.
    pub steps: u64,
    /// See `seeds`.
    pub seconds: f64,
    /// The task's name.
    pub task: String,
}

/// A program's runs, reduced.
pub struct Row {
    /// Program.
    pub name: String,
    /// Its runs, by seed.
    pub runs: Vec<Run>,
    /// Held-out accuracy at the end.
    pub accuracy: Option<Estimate>,
    /// To the first program's.
    pub against: Option<Against>,
    /// Share of the tokens of correct steps with a negative advantage.
    pub punished: Option<Estimate>,
    /// To the first program's.
    pub punished_against: Option<Against>,
}

/// A paired difference to the first program.
#[derive(Debug, Clone, Copy)]
pub struct Against {
    /// The difference.
    pub difference: Estimate,
    /// Holm's adjusted p-value.
    pub p: f64,
}

impl Against {
    /// What it comes to.
    pub fn word(&self) -> &'static str {
        match (self.p < 0.05, self.difference.mean > 0.0) {
            (false, _) => "does not separate",
            (true, true) => "higher",
            (true, false) => "lower",
        }
    }

    fn text(&self) -> String {
        format!("{}{}", if self.difference.mean >= 0.0 { "+" } else { "" }, self.difference.text(3))
    }
}

impl Row {
    /// An estimate over the seeds.
    pub fn over(&self, of: impl Fn(&Run) -> Option<f64>) -> Option<Estimate> {
        Estimate::of(&self.runs.iter().filter_map(of).collect::<Vec<_>>())
    }

    /// Runs that collapsed.
    pub fn collapses(&self) -> usize {
        self.runs.iter().filter(|r| r.collapse().is_some()).count()
    }

    /// Runs that ended like this.
    fn ended(&self, end: End) -> usize {
        self.runs.iter().filter(|r| r.kept.end == end).count()
    }
}

impl Found {
    /// Reduces runs to rows.
    pub fn new(plan: &Plan, runs: Vec<(String, Vec<Run>)>) -> Found {
        let mut rows: Vec<Row> = runs
            .into_iter()
            .map(|(name, runs)| {
                let mut row = Row {
                    name,
                    runs,
                    accuracy: None,
                    against: None,
                    punished: None,
                    punished_against: None,
                };
                row.accuracy = row.over(Run::accuracy);
                row.punished = row.over(|r| r.mean(Quantity::Punished));
                row
            })
            .collect();
        let accuracy = against(&rows, Run::accuracy);
        let punished = against(&rows, |r| r.mean(Quantity::Punished));
        for (row, (a, p)) in rows.iter_mut().skip(1).zip(accuracy.into_iter().zip(punished)) {
            (row.against, row.punished_against) = (a, p);
        }
        // A task may have fewer than were asked for.
        let measured = rows.iter().flat_map(|r| &r.runs).find_map(|r| r.kept.after.as_ref());
        Found {
            problems: measured.map_or(plan.config.eval.problems, |e| e.problems),
            rows,
            seeds: plan.seeds.len(),
            steps: plan.config.total_steps(),
            seconds: plan.seconds,
            task: plan.config.data.task.clone(),
        }
    }

    /// The table's heads and rows.
    pub fn table(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let first = self.rows.first().map_or("", |r| r.name.as_str());
        let heads = [
            "program",
            "accuracy",
            &format!("against {first}"),
            "p (Holm)",
            "accuracy is",
            "collapses",
            "entropy at the end",
            "KL",
            "gradient norm",
            "correct steps pushed down",
            "tokens",
        ];
        let number = |e: Option<Estimate>, digits: usize| {
            e.map_or_else(|| "-".to_owned(), |e| format!("{:.digits$}", e.mean))
        };
        let rows = self.rows.iter().map(|r| {
            let against = r.against;
            vec![
                r.name.clone(),
                r.accuracy.map_or_else(|| "-".to_owned(), |e| e.text(3)),
                against.map_or_else(String::new, |a| a.text()),
                against.map_or_else(String::new, |a| chance(a.p)),
                against.map_or("", |a| a.word()).to_owned(),
                format!("{}/{}", r.collapses(), r.runs.len()),
                number(r.over(|r| r.end(Quantity::Entropy)), 3),
                number(r.over(|r| r.mean(Quantity::Kl)), 4),
                number(r.over(|r| r.mean(Quantity::GradNorm)), 2),
                number(r.punished, 3),
                number(r.over(|r| Some(r.tokens() as f64)), 0),
            ]
        });
        (heads.map(str::to_owned).to_vec(), rows.collect())
    }

    /// What may be said of it, a sentence or two each.
    pub fn sentences(&self) -> Vec<String> {
        let Some(first) = self.rows.first() else { return Vec::new() };
        let mut all = vec![format!(
            "Task {}, {} seeds, {} steps, at most {:.0} s of one core a run. Accuracy is on {} held-out problems at the end, \
             with the 95 % t interval over the seeds. Differences are paired by seed; p-values are of paired t tests, \
             corrected by Holm for their number, {}; below 0.05 separates.",
            self.task,
            self.seeds,
            self.steps,
            self.seconds,
            self.problems,
            self.rows.len() - 1
        )];
        let list = |word: &str| -> Vec<String> {
            let is = |r: &&Row| r.against.is_some_and(|a| a.word() == word);
            self.rows.iter().filter(is).map(|r| r.name.clone()).collect()
        };
        let named = |names: Vec<String>| {
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        };
        all.push(format!(
            "Accuracy against {}: higher: {}; lower: {}; does not separate: {}.",
            first.name,
            named(list("higher")),
            named(list("lower")),
            named(list("does not separate"))
        ));
        let collapsed: Vec<String> = self
            .rows
            .iter()
            .filter(|r| r.collapses() > 0)
            .map(|r| format!("{} ({} of {})", r.name, r.collapses(), r.runs.len()))
            .collect();
        all.push(format!(
            "A run collapsed when its held-out accuracy fell below {FALL} of its best so far, when its entropy fell below \
             {FROZEN} nats while it answered less than half right, or when a number was not finite. Collapsed: {}.",
            named(collapsed)
        ));
        let odd = |end: End| -> Vec<String> {
            let of = |r: &Row| format!("{} ({} of {})", r.name, r.ended(end), r.runs.len());
            self.rows.iter().filter(|r| r.ended(end) > 0).map(of).collect()
        };
        for (end, what) in [
            (End::Cut, "Ended by the limit of processor time before the last step"),
            (End::Broken, "Ended by a number that was not finite"),
        ] {
            let names = odd(end);
            if !names.is_empty() {
                all.push(format!(
                    "{what}, and counted with the last measurement: {}.",
                    names.join(", ")
                ));
            }
        }
        if let Some(calib) = self.rows.iter().skip(1).find(|r| r.name == "calibadv") {
            all.extend(claims(calib, first));
        }
        all
    }

    /// The table and its sentences for a terminal.
    pub fn text(&self) -> String {
        let (heads, rows) = self.table();
        let wide: Vec<usize> = (0..heads.len())
            .map(|i| rows.iter().chain([&heads]).map(|r| r[i].chars().count()).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for row in [&heads].into_iter().chain(&rows) {
            let cells = row.iter().zip(&wide).map(|(c, w)| format!("{c:w$}"));
            let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        for sentence in self.sentences() {
            let _ = write!(text, "\n{}\n", crate::recipes::wrap(&sentence, 100).join("\n"));
        }
        text
    }

    /// The same for a page of documentation.
    pub fn markdown(&self) -> String {
        let (heads, rows) = self.table();
        let mut text = format!("| {} |\n|{}\n", heads.join(" | "), "---|".repeat(heads.len()));
        for row in rows {
            let _ = writeln!(text, "| `{}` | {} |", row[0], row[1..].join(" | "));
        }
        for sentence in self.sentences() {
            let _ = write!(text, "\n{}\n", crate::recipes::wrap(&sentence, 118).join("\n"));
        }
        text
    }

    /// Every run, one line each.
    pub fn csv(&self) -> String {
        let mut text = String::from(
            "program,seed,end,steps,core_seconds,accuracy_before,accuracy,accuracy_best,reward_end,entropy_end,kl_mean,\
             kl_most,grad_norm_mean,grad_norm_most,correct_steps_pushed_down,collapse_step,tokens\n",
        );
        let or_empty = |x: Option<f64>| x.map_or_else(String::new, |x| format!("{x}"));
        for row in &self.rows {
            for r in &row.runs {
                let end = match r.kept.end {
                    End::Finished => "finished",
                    End::Cut => "cut",
                    End::Broken => "broken",
                };
                let before =
                    r.curve(Quantity::Accuracy).first().filter(|p| p.0 == 0.0).map(|p| p.1);
                let numbers = [
                    before,
                    r.accuracy(),
                    r.most(Quantity::Accuracy),
                    r.end(Quantity::Reward),
                    r.end(Quantity::Entropy),
                    r.mean(Quantity::Kl),
                    r.most(Quantity::Kl),
                    r.mean(Quantity::GradNorm),
                    r.most(Quantity::GradNorm),
                    r.mean(Quantity::Punished),
                    r.collapse().map(|s| s as f64),
                    Some(r.tokens() as f64),
                ];
                let name = quoted(&row.name);
                let (steps, core) = (r.steps.len(), r.kept.core_seconds);
                let numbers = numbers.map(or_empty).join(",");
                let _ = writeln!(text, "{name},{},{end},{steps},{core:.1},{numbers}", r.seed);
            }
        }
        text
    }

    /// Everything as one object.
    pub fn as_json(&self) -> Value {
        let estimate = |e: Option<Estimate>| {
            e.map(|e| json!({"mean": e.mean, "half": e.half, "seeds": e.count}))
        };
        let against = |a: Option<Against>| {
            a.map(|a| json!({"mean": a.difference.mean, "half": a.difference.half, "p": a.p, "is": a.word()}))
        };
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|r| {
                json!({
                    "program": r.name,
                    "accuracy": estimate(r.accuracy),
                    "against": against(r.against),
                    "correct_steps_pushed_down": estimate(r.punished),
                    "correct_steps_pushed_down_against": against(r.punished_against),
                    "collapses": r.collapses(),
                    "entropy_end": estimate(r.over(|r| r.end(Quantity::Entropy))),
                    "kl": estimate(r.over(|r| r.mean(Quantity::Kl))),
                    "grad_norm": estimate(r.over(|r| r.mean(Quantity::GradNorm))),
                    "tokens": estimate(r.over(|r| Some(r.tokens() as f64))),
                    "core_seconds": estimate(r.over(|r| Some(r.kept.core_seconds))),
                    "runs": r.runs.len(),
                    "cut": r.ended(End::Cut),
                    "broken": r.ended(End::Broken),
                })
            })
            .collect();
        json!({
            "task": self.task, "seeds": self.seeds, "steps": self.steps, "seconds": self.seconds,
            "problems": self.problems, "programs": rows, "sentences": self.sentences(),
        })
    }
}

/// Paired differences of all rows but the first to the first, with p-values corrected for their number.
fn against(rows: &[Row], of: impl Fn(&Run) -> Option<f64>) -> Vec<Option<Against>> {
    let Some((first, others)) = rows.split_first() else { return Vec::new() };
    let pairs: Vec<Vec<f64>> = others
        .iter()
        .map(|row| {
            let twin = |r: &Run| first.runs.iter().find(|f| f.seed == r.seed).and_then(&of);
            row.runs.iter().filter_map(|r| Some(of(r)? - twin(r)?)).collect()
        })
        .collect();
    let known: Vec<usize> = (0..pairs.len()).filter(|i| !pairs[*i].is_empty()).collect();
    let p = holm(&known.iter().map(|i| p_value(&pairs[*i])).collect::<Vec<_>>());
    (0..pairs.len())
        .map(|i| {
            let rank = known.iter().position(|k| *k == i)?;
            Some(Against { difference: Estimate::of(&pairs[i])?, p: p[rank] })
        })
        .collect()
}

/// Whether what CalibAdv's paper says of it shows here.
fn claims(calib: &Row, first: &Row) -> Vec<String> {
    let mut said = Vec::new();
    if let (Some(own), Some(other), Some(against)) =
        (calib.punished, first.punished, calib.punished_against)
    {
        let verdict = match against.word() {
            "lower" => "shows",
            "higher" => "is contradicted",
            _ => "does not separate",
        };
        said.push(format!(
            "CalibAdv's first claim, fewer correct steps punished, {verdict}: {} of the tokens of correct steps have a \
             negative advantage under calibadv, {} under {} (difference {}, p {}).",
            own.text(3),
            other.text(3),
            first.name,
            against.text(),
            chance(against.p)
        ));
    }
    let (a, b) = (calib.collapses(), first.collapses());
    let p = fisher(a, calib.runs.len(), b, first.runs.len());
    let verdict = match (a, b) {
        (0, 0) => "cannot show here, since neither collapsed".to_owned(),
        _ if p < 0.05 && a < b => "shows".to_owned(),
        _ if p < 0.05 => "is contradicted".to_owned(),
        _ => "does not separate".to_owned(),
    };
    said.push(format!(
        "CalibAdv's second claim, fewer collapses, {verdict}: {a} of {} runs under calibadv, {b} of {} under {} (Fisher's \
         exact test: p {}).",
        calib.runs.len(),
        first.runs.len(),
        first.name,
        chance(p)
    ));
    said
}

/// A p-value: three digits, and never a zero that it is not.
fn chance(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") }
}

/// A CSV field.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
