//! A plot as lines and words in a plane, which the writers of SVG and PNG draw alike.

use super::measure::{Curve, Measured};

/// Width and height of the plane.
pub const SIZE: (f64, f64) = (980.0, 440.0);

/// What a mark's colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Words and axes.
    Ink,
    /// Lines behind the curves.
    Grid,
    /// Advantage +1.
    Plus,
    /// Advantage -1.
    Minus,
    /// Whatever the advantage.
    Any,
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pen {
    /// One unit wide.
    Fine,
    /// Two units wide.
    Plain,
    /// Two units wide, in dashes: readable on top of a broad one.
    Dashed,
    /// Six units wide and pale.
    Broad,
}

impl Pen {
    /// Width in units.
    pub fn width(self) -> f64 {
        match self {
            Pen::Fine => 1.0,
            Pen::Plain | Pen::Dashed => 2.0,
            Pen::Broad => 6.0,
        }
    }
}

/// Where a word's x is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// At its beginning.
    Start,
    /// In its middle.
    Middle,
    /// At its end.
    End,
}

/// One thing drawn.
#[derive(Debug, Clone)]
pub enum Mark {
    /// A line through points.
    Line {
        /// In order.
        points: Vec<(f64, f64)>,
        /// What its colour says.
        role: Role,
        /// How it is drawn.
        pen: Pen,
    },
    /// A pale area inside points.
    Area {
        /// Around it, in order.
        points: Vec<(f64, f64)>,
        /// What its colour says.
        role: Role,
    },
    /// Words on a baseline.
    Text {
        /// On the baseline.
        at: (f64, f64),
        /// Where in the words that is.
        anchor: Anchor,
        /// A title.
        large: bool,
        /// The words.
        text: String,
    },
}

/// An axis: what it runs from and to, and its numbers.
pub struct Axis {
    low: f64,
    high: f64,
    log: bool,
    ticks: Vec<f64>,
}

impl Axis {
    /// Round numbers between two.
    pub fn linear(low: f64, high: f64) -> Axis {
        let span = (high - low).max(1e-12);
        let rough = span / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .into_iter()
            .map(|m| m * power)
            .find(|s| *s >= rough)
            .unwrap_or(rough);
        let from = (low / step - 1e-9).ceil() as i64;
        let to = (high / step + 1e-9).floor() as i64;
        Axis { low, high, log: false, ticks: (from..=to).map(|i| i as f64 * step).collect() }
    }

    /// Whole powers of ten around two positive numbers.
    pub fn powers(low: f64, high: f64) -> Axis {
        let (from, to) = ((low.log10() + 1e-9).floor() as i32, (high.log10() - 1e-9).ceil() as i32);
        let (from, to) = if from == to { (from - 1, to + 1) } else { (from, to) };
        let ticks = (from..=to).map(|p| 10f64.powi(p)).collect();
        Axis { low: 10f64.powi(from), high: 10f64.powi(to), log: true, ticks }
    }

    /// From 0 at the low end to 1 at the high end.
    fn place(&self, x: f64) -> f64 {
        if self.log {
            (x.ln() - self.low.ln()) / (self.high.ln() - self.low.ln())
        } else {
            (x - self.low) / (self.high - self.low)
        }
    }
}

/// A panel's frame: left, top, right, bottom.
pub type Frame = (f64, f64, f64, f64);

const LEFT: Frame = (64.0, 84.0, 466.0, 352.0);
const RIGHT: Frame = (562.0, 84.0, 964.0, 352.0);

/// The whole picture.
pub fn scene(title: &str, measured: &Measured) -> Vec<Mark> {
    let mut marks = vec![text((16.0, 28.0), Anchor::Start, true, title.to_owned())];
    left(measured, &mut marks);
    right(measured, &mut marks);
    marks
}

fn left(measured: &Measured, marks: &mut Vec<Mark>) {
    let curves = || measured.surrogate.iter().chain(&measured.weight);
    let xs = || curves().flat_map(|c| c.points.iter().map(|p| p.0));
    let ys = || curves().flat_map(|c| c.points.iter().map(|p| p.1));
    let (low, high) = bounds(ys());
    let pad = ((high - low) * 0.06).max(1e-3);
    let x = bounds(xs());
    // The curves begin just above 0.
    let x = if x.0 < 0.01 { (0.0, x.1) } else { x };
    let axes = (Axis::linear(x.0, x.1), Axis::linear(low - pad, high + pad));
    frame(LEFT, &axes, marks);
    let times = match measured.scale {
        1.0 => String::new(),
        scale => format!(" times {}", number(scale)),
    };
    heading(LEFT, &format!("surrogate (minus the loss{times}) and its gradient weight"), marks);
    let of = if measured.distribution { ", one of eight entries" } else { "" };
    below(LEFT, &format!("ratio of every token{of}"), marks);
    for (curves, pen) in [(&measured.surrogate, Pen::Broad), (&measured.weight, Pen::Dashed)] {
        for c in curves {
            marks.push(curve(LEFT, &axes, c, pen));
        }
    }
    for (row, c) in measured.surrogate.iter().enumerate() {
        let y = 404.0 + 20.0 * row as f64;
        let name = match c.advantage {
            Some(a) => format!("advantage {a:+}"),
            None => "no advantage".to_owned(),
        };
        sample((LEFT.0, y), role(c), Pen::Broad, &format!("{name}: surrogate"), marks);
        sample((LEFT.0 + 225.0, y), role(c), Pen::Dashed, "-d loss / d logp", marks);
    }
}

fn right(measured: &Measured, marks: &mut Vec<Mark>) {
    let positive =
        |c: &Curve| -> Vec<f64> { c.points.iter().map(|p| p.1).filter(|y| *y > 0.0).collect() };
    let ys: Vec<f64> = measured.length.iter().flat_map(positive).collect();
    let (low, high) = bounds(ys.iter().copied());
    let y = if ys.is_empty() { Axis::powers(0.1, 10.0) } else { Axis::powers(low, high) };
    let axes = (Axis::powers(1.0, 1000.0), y);
    // The longest rollout has 1024 tokens.
    let axes = (Axis { high: 1100.0, ..axes.0 }, axes.1);
    frame(RIGHT, &axes, marks);
    heading(RIGHT, "weight of a token at ratio 1 (the batch's mean is 1)", marks);
    below(RIGHT, "tokens in the rollout", marks);
    if ys.is_empty() {
        let middle = (f64::midpoint(RIGHT.0, RIGHT.2), f64::midpoint(RIGHT.1, RIGHT.3));
        marks.push(text(middle, Anchor::Middle, false, "no gradient at ratio 1".into()));
    }
    for (row, c) in measured.length.iter().enumerate() {
        marks.push(curve(RIGHT, &axes, c, Pen::Plain));
        let name = match c.advantage {
            Some(a) => format!("advantage {a:+}: |d loss / d logp|"),
            None => "|d loss / d logp|, either sign".to_owned(),
        };
        sample((RIGHT.0, 404.0 + 20.0 * row as f64), role(c), Pen::Plain, &name, marks);
    }
}

fn role(curve: &Curve) -> Role {
    match curve.advantage {
        Some(a) if a > 0.0 => Role::Plus,
        Some(_) => Role::Minus,
        None => Role::Any,
    }
}

fn curve(frame: Frame, axes: &(Axis, Axis), curve: &Curve, pen: Pen) -> Mark {
    let points = curve
        .points
        .iter()
        .filter(|p| !axes.1.log || p.1 > 0.0)
        .map(|p| at(frame, axes, *p))
        .collect();
    Mark::Line { points, role: role(curve), pen }
}

/// Where a point of the axes lies.
pub fn at(frame: Frame, axes: &(Axis, Axis), point: (f64, f64)) -> (f64, f64) {
    let (left, top, right, bottom) = frame;
    let x = left + axes.0.place(point.0) * (right - left);
    (x, bottom - axes.1.place(point.1) * (bottom - top))
}

/// Axes with their numbers and lines behind the curves.
pub fn frame(frame: Frame, axes: &(Axis, Axis), marks: &mut Vec<Mark>) {
    let (left, top, right, bottom) = frame;
    let digits = |axis: &Axis| -> Vec<String> { axis.ticks.iter().map(|t| number(*t)).collect() };
    for (tick, label) in axes.0.ticks.iter().zip(digits(&axes.0)) {
        let x = left + axes.0.place(*tick) * (right - left);
        marks.push(line(vec![(x, top), (x, bottom)], Role::Grid));
        marks.push(text((x, bottom + 17.0), Anchor::Middle, false, label));
    }
    for (tick, label) in axes.1.ticks.iter().zip(digits(&axes.1)) {
        let y = bottom - axes.1.place(*tick) * (bottom - top);
        marks.push(line(vec![(left, y), (right, y)], Role::Grid));
        marks.push(text((left - 8.0, y + 4.0), Anchor::End, false, label));
    }
    marks.push(line(vec![(left, top), (left, bottom), (right, bottom)], Role::Ink));
}

/// Words above a panel.
pub fn heading(frame: Frame, words: &str, marks: &mut Vec<Mark>) {
    marks.push(text((frame.0, frame.1 - 16.0), Anchor::Start, false, words.to_owned()));
}

/// Words below its numbers.
pub fn below(frame: Frame, words: &str, marks: &mut Vec<Mark>) {
    let middle = f64::midpoint(frame.0, frame.2);
    marks.push(text((middle, frame.3 + 35.0), Anchor::Middle, false, words.to_owned()));
}

/// A piece of a curve with its name.
pub fn sample(from: (f64, f64), role: Role, pen: Pen, name: &str, marks: &mut Vec<Mark>) {
    let (x, y) = from;
    let points = vec![(x, y), (x + 28.0, y)];
    marks.push(Mark::Line { points, role, pen });
    marks.push(text((x + 36.0, y + 4.0), Anchor::Start, false, name.to_owned()));
}

fn line(points: Vec<(f64, f64)>, role: Role) -> Mark {
    Mark::Line { points, role, pen: Pen::Fine }
}

/// Words.
pub fn text(at: (f64, f64), anchor: Anchor, large: bool, text: String) -> Mark {
    Mark::Text { at, anchor, large, text }
}

/// The least and the greatest of some finite numbers; 0 and 1 of none.
fn bounds(numbers: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) =
        numbers.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(x), h.max(x)));
    if low <= high { (low, high) } else { (0.0, 1.0) }
}

/// A number in few digits.
fn number(x: f64) -> String {
    let rounded = (x * 1e6).round() / 1e6;
    if x.abs() >= 1e5 || (x != 0.0 && x.abs() < 1e-4) {
        format!("{x:.0e}")
    } else if rounded == 0.0 {
        "0".into()
    } else {
        format!("{rounded}")
    }
}
