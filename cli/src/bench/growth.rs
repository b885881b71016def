//! How time grows with tokens, with the vocabulary and with the number of pieces: measured, fitted and
//! drawn.

use std::path::Path;
use std::time::Duration;

use rlc_runtime::objective::Objective;
use serde_json::{Value, json};

use super::batch::{self, Wanted};
use super::progress::Progress;
use super::text::grouped;
use super::{Args, objective_failure, pass};
use crate::failure::Outcome;
use crate::output::{Output, write_file};
use crate::plot::scene::{self, Anchor, Axis, Frame, Mark, Pen, Role};
use crate::plot::svg;

/// Tokens that time is measured against, by doubling, at this many entries each.
const TOKENS: (usize, usize, usize) = (64, 8_192, 8_192);
/// Entries of a token, likewise, at this many tokens.
const VOCAB: (usize, usize, usize) = (1_024, 131_072, 512);
/// Tokens, entries and rollouts that are cut into pieces.
const PIECES: (usize, usize, usize) = (2_048, 8_192, 256);

/// Times against a number.
struct Series {
    name: &'static str,
    /// What stays the same.
    fixed: String,
    /// The number, and seconds of the fastest pass.
    points: Vec<(f64, f64)>,
    /// Logits of a pass where the number is 1; 0 where the batch stays the same.
    logits: usize,
}

impl Series {
    /// The power of the number that time grows with: least squares of the logarithms.
    fn power(&self) -> f64 {
        let logs: Vec<(f64, f64)> = self.points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
        let n = logs.len() as f64;
        let mean = |of: &dyn Fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / n;
        let (x, y) = (mean(&|p| p.0), mean(&|p| p.1));
        let (both, own) = (mean(&|p| (p.0 - x) * (p.1 - y)), mean(&|p| (p.0 - x).powi(2)));
        both / own
    }

    /// The least and the greatest of some number per point.
    fn range(&self, of: impl Fn(&(f64, f64)) -> f64) -> (f64, f64) {
        let each = self.points.iter().map(of);
        each.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(x), h.max(x)))
    }

    /// Seconds per logit, or beside the first point.
    fn relative(&self) -> (f64, f64) {
        let first = self.points.first().map_or(f64::NAN, |p| p.1);
        match self.logits {
            0 => self.range(|p| p.1 / first),
            logits => self.range(|p| p.1 / (p.0 * logits as f64)),
        }
    }

    fn line(&self) -> String {
        let (low, high) = self.range(|p| p.0);
        let (least, most) = self.relative();
        let range = format!("{} to {}", grouped(low as usize), grouped(high as usize));
        let found = if self.logits == 0 {
            format!("{least:.2} to {most:.2} times the time of one piece")
        } else {
            let power = self.power();
            format!(
                "time grows with power {power:.3}; {:.2} to {:.2} ns a logit",
                1e9 * least,
                1e9 * most
            )
        };
        format!("{:8}{range}, {}: {found}\n", self.name, self.fixed)
    }

    fn json(&self) -> Value {
        let (least, most) = self.relative();
        let points: Vec<Value> =
            self.points.iter().map(|(n, s)| json!({ "n": *n as u64, "min": s })).collect();
        let key = if self.logits == 0 { "of_one_piece" } else { "seconds_per_logit" };
        json!({ "points": points, "fixed": self.fixed, "power": self.power(), key: [least, most] })
    }
}

/// Measures, prints, and draws where the command line says.
pub fn run(args: &Args, objective: &mut Objective, params: &[f64], output: &Output) -> Outcome {
    let progress = Progress::new();
    let name = args.objective.as_deref().unwrap_or("");
    // A test's batches are small.
    let small = if args.seconds == 0.0 { 16 } else { 1 };
    let mut probe = Probe { args, objective, params, progress: &progress };
    let doubled = |from: usize, to: usize| {
        std::iter::successors(Some(from), |n| Some(2 * n)).take_while(move |n| *n <= to)
    };

    let (from, to, vocab) = (TOKENS.0 / small, TOKENS.1 / small, TOKENS.2 / small);
    let mut points = Vec::new();
    for tokens in doubled(from, to) {
        points.push((tokens as f64, probe.time(tokens, vocab, None, usize::MAX)?.1));
    }
    let fixed = format!("{} logits each", grouped(vocab));
    let by_tokens = Series { name: "tokens", fixed, points, logits: vocab };

    let (from, to, tokens) = (VOCAB.0 / small, VOCAB.1 / small, VOCAB.2 / small);
    let mut points = Vec::new();
    for vocab in doubled(from, to) {
        points.push((vocab as f64, probe.time(tokens, vocab, None, usize::MAX)?.1));
    }
    let fixed = format!("{} tokens", grouped(tokens));
    let by_vocab = Series { name: "vocab", fixed, points, logits: tokens };

    let (tokens, vocab, rollouts) = (PIECES.0 / small, PIECES.1 / small, PIECES.2 / small);
    let mut points = Vec::new();
    for pieces in doubled(1, rollouts) {
        let (cut, time) = probe.time(tokens, vocab, Some(rollouts / 8), rollouts / pieces)?;
        points.push((cut as f64, time));
    }
    let fixed = format!("{} tokens x {} logits", grouped(tokens), grouped(vocab));
    let by_pieces = Series { name: "pieces", fixed, points, logits: 0 };

    progress.end();
    let all = [by_tokens, by_vocab, by_pieces];
    if let Some(path) = &args.out {
        draw(path, name, &all)?;
    }
    if args.json {
        let all: serde_json::Map<String, Value> =
            all.iter().map(|s| (s.name.to_owned(), s.json())).collect();
        let growth = json!({ "objective": name, "threads": args.threads, "growth": all });
        return output.print(&format!("{growth}\n"));
    }
    let mut text: String = all.iter().map(Series::line).collect();
    if let Some(path) = &args.out {
        text.push_str(&format!("wrote {}\n", path.display()));
    }
    output.print(&text)
}

struct Probe<'a> {
    args: &'a Args,
    objective: &'a mut Objective,
    params: &'a [f64],
    progress: &'a Progress,
}

impl Probe<'_> {
    /// Pieces, and the fastest pass.
    fn time(
        &mut self,
        tokens: usize,
        vocab: usize,
        groups: Option<usize>,
        micro_batch: usize,
    ) -> Outcome<(usize, f64)> {
        self.progress.say(&format!("{tokens} tokens x {vocab} logits"));
        let mut offered: std::collections::BTreeSet<String> =
            super::columns(self.objective).collect();
        offered.insert("vocab/logits".to_owned());
        let specialized = self.objective.specialized(Some(offered)).map_err(objective_failure)?;
        let wanted = Wanted {
            tokens,
            vocab,
            dtype: self.args.dtype,
            hidden: None,
            groups,
            rollouts: None,
            temperature: self.objective.param("temperature").unwrap_or(1.0),
        };
        let table = batch::build(&specialized.program, &wanted)?;
        let wanted = pass::Wanted {
            micro_batch,
            time: Duration::from_secs_f64(self.args.seconds / 8.0),
            keep: false,
            fresh: false,
        };
        let (measured, _) =
            pass::measure(self.objective, &table, self.params, &wanted, self.progress)?;
        let least = measured.reused.pass.iter().copied().fold(f64::INFINITY, f64::min);
        Ok((measured.pieces, least))
    }
}

/// Three panels, both axes in powers of ten.
fn draw(path: &Path, name: &str, all: &[Series; 3]) -> Outcome {
    let title = format!("{name}: time of a pass, logits to loss and gradient");
    let mut marks = vec![scene::text((16.0, 28.0), Anchor::Start, true, title)];
    let seconds = all.iter().flat_map(|s| s.points.iter().map(|p| 1e3 * p.1));
    let (low, high) =
        seconds.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(x), h.max(x)));
    for (i, series) in all.iter().enumerate() {
        let left = 64.0 + 312.0 * i as f64;
        let frame: Frame = (left, 84.0, left + 250.0, 352.0);
        let (from, to) = series.range(|p| p.0);
        let axes = (Axis::powers(from, to), Axis::powers(low, high));
        scene::frame(frame, &axes, &mut marks);
        scene::heading(frame, &format!("ms, {}", series.fixed), &mut marks);
        scene::below(frame, series.name, &mut marks);
        let at = |n: f64, s: f64| scene::at(frame, &axes, (n, 1e3 * s));
        let line = |points, role, pen| Mark::Line { points, role, pen };
        let measured: Vec<(f64, f64)> = series.points.iter().map(|p| at(p.0, p.1)).collect();
        for &(x, y) in &measured {
            marks.push(line(vec![(x - 3.0, y), (x + 3.0, y)], Role::Plus, Pen::Broad));
        }
        marks.push(line(measured, Role::Plus, Pen::Plain));
        // Through the last point: what grows linearly, or not at all.
        if let Some((n, s)) = series.points.last() {
            let first = if series.logits == 0 { *s } else { s * from / n };
            let ends = vec![at(from, first), at(*n, *s)];
            marks.push(line(ends, Role::Minus, Pen::Dashed));
        }
        let legend = if series.logits == 0 { "flat" } else { "linear" };
        let found = if series.logits == 0 {
            let (least, most) = series.relative();
            format!("{least:.2} to {most:.2} of one piece")
        } else {
            format!("measured: power {:.3}", series.power())
        };
        scene::sample((left, 404.0), Role::Plus, Pen::Plain, &found, &mut marks);
        scene::sample((left, 424.0), Role::Minus, Pen::Dashed, legend, &mut marks);
    }
    write_file(path, svg::render(&marks).as_bytes())
}
