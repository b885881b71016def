//! The report as one HTML file: the table, the accuracy of every seed, and how every program went.

use std::fmt::Write as _;

use super::measure::{ADDED, Quantity, Run};
use super::stats::Estimate;
use super::table::{Found, Row};
use crate::plot::scene::{self, Anchor, Axis, Frame, Mark, Pen, Role};
use crate::plot::svg::{self, escaped};

/// Points of a curve, at most; steps between them are averaged.
const POINTS: usize = 30;
/// Width and height of a panel, and what its numbers take at the left.
const PANEL: (f64, f64, f64) = (210.0, 150.0, 50.0);

const PANELS: [(Quantity, &str); 6] = [
    (Quantity::Accuracy, "held-out accuracy"),
    (Quantity::Reward, "reward of the batch"),
    (Quantity::Entropy, "entropy"),
    (Quantity::Kl, "KL to the sampler"),
    (Quantity::GradNorm, "gradient norm"),
    (Quantity::Punished, "correct steps down"),
];

const STYLE: &str = "\
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; margin: 2em auto; max-width: 1280px; padding: 0 1em;
  color: #24292f; background: #fff }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums }
th, td { padding: 3px 10px; text-align: left; border-bottom: 1px solid #8b949e55 }
th { vertical-align: bottom } .wide { overflow-x: auto } h2 { font-size: 17px; margin: 1.4em 0 0.2em }
svg { max-width: 100%; height: auto }
@media (prefers-color-scheme: dark) { body { color: #d0d7de; background: #0d1117 } }
";

/// The page.
pub fn html(found: &Found) -> String {
    let mut out =
        String::from("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    let names: Vec<&str> = found.rows.iter().map(|r| r.name.as_str()).collect();
    let title = escaped(&format!("rlc compare: {}", names.join(", ")));
    let _ = write!(
        out,
        "<title>{title}</title>\n<style>\n{STYLE}{}</style>\n</head>\n<body>\n<h1>Comparison of {} programs</h1>\n",
        svg::STYLE,
        found.rows.len()
    );
    for sentence in found.sentences() {
        let _ = writeln!(out, "<p>{}</p>", escaped(&sentence));
    }
    let (heads, rows) = found.table();
    out.push_str("<div class=\"wide\"><table>\n<tr>");
    for head in heads {
        let _ = write!(out, "<th>{}</th>", escaped(&head));
    }
    out.push_str("</tr>\n");
    for row in rows {
        let cells = row.iter().map(|c| format!("<td>{}</td>", escaped(c)));
        let _ = writeln!(out, "<tr>{}</tr>", cells.collect::<String>());
    }
    out.push_str(
        "</table></div>\n<h2>Held-out accuracy at the end: seeds, mean, 95 % interval</h2>\n",
    );
    out.push_str(&accuracies(found));
    out.push_str(
        "\n<p>Below, a program's mean over the seeds with its 95 % band; the thin line is ",
    );
    out.push_str(&escaped(names.first().unwrap_or(&"")));
    let added: Vec<String> =
        ADDED.iter().map(|(name, what)| format!("{name} is the {what}")).collect();
    let _ = writeln!(out, ". In the runs' metrics, {}.</p>", escaped(&added.join("; ")));
    let axes = axes(found);
    for row in &found.rows {
        let _ = writeln!(out, "<h2>{}</h2>", escaped(&row.name));
        out.push_str(&panels(row, &found.rows[0], &axes));
    }
    out.push_str("</body>\n</html>\n");
    out
}

/// A line for each program: its seeds, its mean and its interval.
fn accuracies(found: &Found) -> String {
    let mut marks = Vec::new();
    let bottom = 20.0 + 24.0 * found.rows.len() as f64;
    let frame: Frame = (190.0, 10.0, 1040.0, bottom);
    let axes = (Axis::linear(0.0, 1.0), Axis::linear(0.0, 1.0));
    let x = |value: f64| scene::at(frame, &axes, (value.clamp(0.0, 1.0), 0.0)).0;
    for tick in 0..=10 {
        let value = f64::from(tick) / 10.0;
        let points = vec![(x(value), frame.1), (x(value), bottom)];
        marks.push(Mark::Line { points, role: Role::Grid, pen: Pen::Fine });
        marks.push(scene::text(
            (x(value), bottom + 17.0),
            Anchor::Middle,
            false,
            format!("{value:.1}"),
        ));
    }
    for (i, row) in found.rows.iter().enumerate() {
        let y = 26.0 + 24.0 * i as f64;
        marks.push(scene::text((frame.0 - 10.0, y + 4.0), Anchor::End, false, row.name.clone()));
        let mut line = |from: (f64, f64), to: (f64, f64), role, pen| {
            marks.push(Mark::Line { points: vec![from, to], role, pen });
        };
        if let Some(e) = row.accuracy {
            let half = e.half.unwrap_or(0.0);
            line((x(e.mean - half), y), (x(e.mean + half), y), Role::Plus, Pen::Broad);
            line((x(e.mean), y - 7.0), (x(e.mean), y + 7.0), Role::Plus, Pen::Plain);
        }
        for value in row.runs.iter().filter_map(Run::accuracy) {
            line((x(value), y - 3.0), (x(value), y + 3.0), Role::Ink, Pen::Fine);
        }
    }
    svg::picture(&marks, (1060.0, bottom + 30.0), "")
}

/// One pair of axes per panel, the same for all programs; none where no program has the quantity.
fn axes(found: &Found) -> Vec<Option<(f64, f64)>> {
    PANELS
        .iter()
        .map(|(quantity, _)| {
            let means = found.rows.iter().flat_map(|r| banded(&r.runs, *quantity));
            let all: Vec<f64> = means.map(|p| p.1.mean).collect();
            let (low, high) =
                all.iter().fold((0.0_f64, 0.0_f64), |(l, h), v| (l.min(*v), h.max(*v)));
            match quantity {
                _ if all.is_empty() => None,
                Quantity::Accuracy | Quantity::Reward if low >= 0.0 && high <= 1.0 => {
                    Some((0.0, 1.0))
                }
                _ => Some((low, if high > low { high + 0.05 * (high - low) } else { low + 1.0 })),
            }
        })
        .collect()
}

fn panels(row: &Row, first: &Row, ranges: &[Option<(f64, f64)>]) -> String {
    let mut marks = Vec::new();
    let mut left = 0.0;
    for ((quantity, title), range) in PANELS.iter().zip(ranges) {
        let Some((low, high)) = *range else { continue };
        let last = [row, first].into_iter().flat_map(|r| &r.runs).map(|r| r.steps.len()).max();
        let frame: Frame = (left + PANEL.2, 28.0, left + PANEL.0 - 8.0, PANEL.1 - 24.0);
        let axes = (Axis::linear(0.0, last.unwrap_or(1).max(1) as f64), Axis::linear(low, high));
        scene::frame(frame, &axes, &mut marks);
        scene::heading(frame, title, &mut marks);
        let at = |x: f64, y: f64| scene::at(frame, &axes, (x, y.clamp(low, high)));
        let own = banded(&row.runs, *quantity);
        let edge =
            |side: f64| own.iter().map(move |(x, e)| (*x, e.mean + side * e.half.unwrap_or(0.0)));
        let mut area: Vec<(f64, f64)> = edge(1.0).map(|(x, y)| at(x, y)).collect();
        area.extend(edge(-1.0).map(|(x, y)| at(x, y)).collect::<Vec<_>>().into_iter().rev());
        let line =
            |points: &[(f64, Estimate)]| points.iter().map(|(x, e)| at(*x, e.mean)).collect();
        if row.name != first.name {
            let points = line(&banded(&first.runs, *quantity));
            marks.push(Mark::Line { points, role: Role::Ink, pen: Pen::Fine });
        }
        marks.push(Mark::Area { points: area, role: Role::Plus });
        marks.push(Mark::Line { points: line(&own), role: Role::Plus, pen: Pen::Plain });
        left += PANEL.0;
    }
    svg::picture(&marks, (left, PANEL.1), "")
}

/// A quantity over the seeds, at [`POINTS`] places at most. Where runs ended earlier, it is of those that are left.
fn banded(runs: &[Run], quantity: Quantity) -> Vec<(f64, Estimate)> {
    let curves: Vec<Vec<(f64, f64)>> = runs.iter().map(|r| r.curve(quantity)).collect();
    let last = curves.iter().flatten().map(|p| p.0).fold(0.0, f64::max);
    let wide = (last / POINTS as f64).max(1.0);
    let bin = |x: f64| ((x - 1e-9) / wide).floor().max(-1.0) as i64;
    let most = bin(last);
    (-1..=most)
        .filter_map(|b| {
            let inside = |c: &Vec<(f64, f64)>| -> Vec<(f64, f64)> {
                c.iter().filter(|p| bin(p.0) == b).copied().collect()
            };
            let parts: Vec<Vec<(f64, f64)>> =
                curves.iter().map(inside).filter(|p| !p.is_empty()).collect();
            let mean = |p: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
                p.iter().map(of).sum::<f64>() / p.len() as f64
            };
            let all: Vec<(f64, f64)> = parts.iter().flatten().copied().collect();
            let values: Vec<f64> = parts.iter().map(|p| mean(p, |p| p.1)).collect();
            Some((mean(&all, |p| p.0), Estimate::of(&values)?))
        })
        .collect()
}
