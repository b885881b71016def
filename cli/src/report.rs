//! The compiler's findings as a person or a program reads them: miette's graphical report, or JSON.

use std::fmt;

use miette::{LabeledSpan, MietteHandlerOpts, NamedSource, ReportHandler, SourceSpan};
use rlc_compiler::diagnostic::{Diagnostic, Label, Severity};
use rlc_compiler::source::{Sources, Span};
use serde_json::{Value, json};

/// How reports look.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// With colours.
    pub color: bool,
    /// Columns; none: as wide as the terminal, or 80.
    pub width: Option<usize>,
}

/// One finding as a graphical report.
pub fn render(diagnostic: &Diagnostic, sources: &Sources, look: Look) -> String {
    let mut opts = MietteHandlerOpts::new()
        .color(look.color)
        .unicode(true)
        .force_graphical(true)
        .terminal_links(false);
    if let Some(width) = look.width {
        opts = opts.width(width);
    }
    let shown = Shown { handler: &opts.build(), report: &Report::new(diagnostic, sources) };
    let text = shown.to_string();
    // miette pads empty lines of a help text.
    let mut out = String::with_capacity(text.len());
    for line in text.trim_end().lines() {
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// All findings, and how many of each kind there are.
pub fn render_all(found: &[Diagnostic], sources: &Sources, look: Look) -> String {
    let mut out = String::new();
    for diagnostic in found {
        out.push_str(&render(diagnostic, sources, look));
        out.push('\n');
    }
    if !found.is_empty() {
        out.push_str(&summary(found));
        out.push('\n');
    }
    out
}

/// "2 errors, 1 warning"; empty without findings.
pub fn summary(found: &[Diagnostic]) -> String {
    let count = |severity, name: &str| {
        let n = found.iter().filter(|d| d.severity == severity).count();
        (n > 0).then(|| format!("{n} {name}{}", if n == 1 { "" } else { "s" }))
    };
    let parts = [
        count(Severity::Error, "error"),
        count(Severity::Warning, "warning"),
        count(Severity::Note, "note"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// One finding for programs.
pub fn as_json(diagnostic: &Diagnostic, sources: &Sources) -> Value {
    let label = |l: &Label| {
        let (line, column) = position(sources, l.span.file, l.span.start);
        let (end_line, end_column) = position(sources, l.span.file, l.span.end);
        json!({
            "file": sources.get(l.span.file).name,
            "start": l.span.start,
            "end": l.span.end,
            "line": line,
            "column": column,
            "end_line": end_line,
            "end_column": end_column,
            "text": l.text,
        })
    };
    json!({
        "code": diagnostic.code,
        "severity": match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        },
        "message": diagnostic.message,
        "labels": diagnostic.labels.iter().map(label).collect::<Vec<_>>(),
        "help": diagnostic.help,
    })
}

/// Line and column (in characters), both from 1.
pub fn position(
    sources: &Sources,
    file: rlc_compiler::source::FileId,
    byte: u32,
) -> (usize, usize) {
    let text = &sources.get(file).text;
    let mut end = (byte as usize).min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

/// A finding in miette's terms. miette shows one text, so labels elsewhere become lines of the help.
#[derive(Debug)]
struct Report {
    code: &'static str,
    severity: miette::Severity,
    message: String,
    source: NamedSource<String>,
    labels: Vec<LabeledSpan>,
    help: String,
}

impl Report {
    fn new(diagnostic: &Diagnostic, sources: &Sources) -> Report {
        let file = diagnostic.labels.first().map(|l| l.span.file);
        let source = file.map(|f| sources.get(f));
        let text = source.map_or(String::new(), |s| s.text.clone());
        let mut labels = Vec::new();
        let mut elsewhere = Vec::new();
        for (i, label) in diagnostic.labels.iter().enumerate() {
            if Some(label.span.file) != file {
                let (line, column) = position(sources, label.span.file, label.span.start);
                let name = &sources.get(label.span.file).name;
                elsewhere.push(format!("{name}:{line}:{column}: {}", label.text));
                continue;
            }
            let span = within(label.span, &text);
            let words = (!label.text.is_empty()).then(|| label.text.clone());
            labels.push(if i == 0 {
                LabeledSpan::new_primary_with_span(words, span)
            } else {
                LabeledSpan::new_with_span(words, span)
            });
        }
        let mut help = diagnostic.help.clone();
        if !elsewhere.is_empty() {
            help = format!("{help}\n\n{}", elsewhere.join("\n"));
        }
        let name = source.map_or("", |s| s.name.as_str());
        Report {
            code: diagnostic.code,
            severity: match diagnostic.severity {
                Severity::Error => miette::Severity::Error,
                Severity::Warning => miette::Severity::Warning,
                Severity::Note => miette::Severity::Advice,
            },
            message: diagnostic.message.clone(),
            source: NamedSource::new(name, text),
            labels,
            help,
        }
    }
}

fn within(span: Span, text: &str) -> SourceSpan {
    let start = (span.start as usize).min(text.len());
    let end = (span.end as usize).clamp(start, text.len());
    (start, end - start).into()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Report {}

impl miette::Diagnostic for Report {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        (!self.help.is_empty()).then(|| Box::new(&self.help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        (!self.labels.is_empty()).then_some(&self.source as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }
}

struct Shown<'a> {
    handler: &'a miette::MietteHandler,
    report: &'a Report,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handler.debug(self.report, f)
    }
}
