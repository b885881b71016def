//! `metrics.svg`: how a run went, one panel per quantity, for a browser. Written once at the end; no
//! part of the run depends on it.

use std::fmt::Write as _;

use super::report::StepReport;

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 150.0;
const MARGIN: f64 = 44.0;

/// A quantity of a step.
type Read<'a> = Box<dyn Fn(&StepReport) -> Option<f64> + 'a>;

/// The picture of a run's steps; none for a run without steps.
pub fn svg(title: &str, steps: &[StepReport]) -> Option<String> {
    let metric = |name: &'static str| move |r: &StepReport| r.metrics.get(name).copied();
    let panels: [(&str, Read<'_>); 6] = [
        ("reward", Box::new(|r| r.reward)),
        ("loss", Box::new(|r| Some(r.loss))),
        ("approx_kl", Box::new(metric("approx_kl"))),
        ("clip_fraction", Box::new(metric("clip_fraction"))),
        ("gradient length", Box::new(|r| Some(r.grad_norm))),
        ("completion length", Box::new(|r| Some(r.length))),
    ];
    let mut drawn = String::new();
    let mut count = 0;
    for (name, read) in &panels {
        let points: Vec<(f64, f64)> = steps
            .iter()
            .filter_map(|r| Some((r.step as f64, read(r).filter(|v| v.is_finite())?)))
            .collect();
        if points.is_empty() {
            continue;
        }
        let (x, y) = (f64::from(count % 2) * WIDTH, 30.0 + f64::from(count / 2) * HEIGHT);
        panel(&mut drawn, name, &points, x, y);
        count += 1;
    }
    if count == 0 {
        return None;
    }
    let height = 30.0 + f64::from((count + 1) / 2) * HEIGHT;
    let title = title.replace('&', "&amp;").replace('<', "&lt;");
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{MARGIN}\" y=\"20\" font-size=\"14\">{title}</text>\n{drawn}</svg>\n",
        2.0 * WIDTH
    ))
}

fn panel(out: &mut String, name: &str, points: &[(f64, f64)], x0: f64, y0: f64) {
    let over = |f: fn(f64, f64) -> f64, start: f64, pick: fn(&(f64, f64)) -> f64| {
        points.iter().map(pick).fold(start, f)
    };
    let (left, right) =
        (over(f64::min, f64::MAX, |p| p.0), over(f64::max, f64::MIN, |p| p.0).max(1.0));
    let (low, high) = (over(f64::min, f64::MAX, |p| p.1), over(f64::max, f64::MIN, |p| p.1));
    // A constant sits in the middle of its panel.
    let (low, high) = if high - low > 0.0 { (low, high) } else { (low - 0.5, high + 0.5) };
    let (wide, tall) = (WIDTH - MARGIN - 12.0, HEIGHT - 40.0);
    let at = |(x, y): &(f64, f64)| {
        (
            x0 + MARGIN + (x - left) / (right - left).max(1e-9) * wide,
            y0 + 20.0 + (high - y) / (high - low) * tall,
        )
    };
    let mut line = String::new();
    for point in points {
        let (x, y) = at(point);
        let _ = write!(line, "{x:.1},{y:.1} ");
    }
    let (x, top, bottom) = (x0 + MARGIN, y0 + 20.0, y0 + 20.0 + tall);
    let _ = write!(
        out,
        "<text x=\"{x}\" y=\"{0:.1}\" font-weight=\"bold\">{name}</text>\n\
         <path d=\"M{x},{top} V{bottom} H{1:.1}\" fill=\"none\" stroke=\"#999\"/>\n\
         <text x=\"{2:.1}\" y=\"{3:.1}\" text-anchor=\"end\">{high:.3}</text>\n\
         <text x=\"{2:.1}\" y=\"{bottom:.1}\" text-anchor=\"end\">{low:.3}</text>\n\
         <polyline points=\"{4}\" fill=\"none\" stroke=\"#1f6fb4\" stroke-width=\"1.5\"/>\n",
        top - 6.0,
        x + wide,
        x - 4.0,
        top + 8.0,
        line.trim_end(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::report::Timing;

    #[test]
    fn panels_that_have_numbers_are_drawn() {
        let step = |step: u64, reward: f64| StepReport {
            step,
            reward: Some(reward),
            correct: None,
            loss: 1.0,
            metrics: std::collections::BTreeMap::default(),
            grad_norm: f64::NAN,
            lr: 0.0,
            length: 3.0,
            truncated: 0.0,
            tokens: 3,
            prompts: None,
            eval: None,
            time: Timing::default(),
        };
        let svg = svg("a < b", &[step(1, 0.0), step(2, 1.0)]).unwrap();
        assert!(svg.contains("a &lt; b") && svg.contains(">reward<") && svg.contains(">loss<"));
        assert!(!svg.contains("approx_kl") && !svg.contains("gradient") && !svg.contains("NaN"));
        assert_eq!(svg.matches("<polyline").count(), 3);
    }
}
