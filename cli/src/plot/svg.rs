//! A plot as SVG, with colours for light and for dark surroundings and no background of its own.

use std::fmt::Write;

use super::scene::{Anchor, Mark, Pen, Role, SIZE};

/// The colours, for the style sheet of a page with several pictures in it.
pub const STYLE: &str = "\
text { font-family: system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; font-size: 12px; fill: #24292f }
.large { font-size: 17px; font-weight: 600 }
polyline { fill: none; stroke-linejoin: round }
polygon { fill-opacity: 0.2 } polygon.plus { fill: #0969da } polygon.minus { fill: #bc4c00 } polygon.any { fill: #1a7f37 }
polygon { stroke: none }
.ink { stroke: #57606a } .grid { stroke: #8b949e; stroke-opacity: 0.3 }
.plus { stroke: #0969da } .minus { stroke: #bc4c00 } .any { stroke: #1a7f37 }
.dashed { stroke-dasharray: 7 5 } .broad { stroke-opacity: 0.4 }
@media (prefers-color-scheme: dark) {
  text { fill: #d0d7de }
  .ink { stroke: #8b949e }
  .plus { stroke: #58a6ff } .minus { stroke: #f0883e } .any { stroke: #3fb950 }
}
";

/// The file's text.
pub fn render(marks: &[Mark]) -> String {
    picture(marks, SIZE, &format!("<style>\n{STYLE}</style>\n"))
}

/// A picture of some size; `first` stands before what is drawn.
pub fn picture(marks: &[Mark], (width, height): (f64, f64), first: &str) -> String {
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n{first}"
    );
    let listed = |points: &[(f64, f64)]| {
        points.iter().map(|(x, y)| format!("{x:.2},{y:.2}")).collect::<Vec<_>>().join(" ")
    };
    for mark in marks {
        let _ = match mark {
            Mark::Line { points, role, pen } => {
                let class = class(*role);
                let style = match pen {
                    Pen::Fine | Pen::Plain => "",
                    Pen::Dashed => " dashed",
                    Pen::Broad => " broad",
                };
                let width = pen.width();
                let points = listed(points);
                writeln!(
                    out,
                    "<polyline class=\"{class}{style}\" stroke-width=\"{width}\" points=\"{points}\"/>"
                )
            }
            Mark::Area { points, role } => {
                writeln!(out, "<polygon class=\"{}\" points=\"{}\"/>", class(*role), listed(points))
            }
            Mark::Text { at: (x, y), anchor, large, text } => {
                let anchor = match anchor {
                    Anchor::Start => "start",
                    Anchor::Middle => "middle",
                    Anchor::End => "end",
                };
                let class = if *large { " class=\"large\"" } else { "" };
                let text = escaped(text);
                writeln!(
                    out,
                    "<text{class} x=\"{x:.2}\" y=\"{y:.2}\" text-anchor=\"{anchor}\">{text}</text>"
                )
            }
        };
    }
    out.push_str("</svg>\n");
    out
}

fn class(role: Role) -> &'static str {
    match role {
        Role::Ink => "ink",
        Role::Grid => "grid",
        Role::Plus => "plus",
        Role::Minus => "minus",
        Role::Any => "any",
    }
}

/// A text as XML and HTML write it.
pub fn escaped(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            c if c.is_control() => " ".to_owned(),
            c => c.to_string(),
        })
        .collect()
}
