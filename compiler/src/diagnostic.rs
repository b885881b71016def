//! What the compiler says of a program: facts as data, worded at the place that knows them.
//! Rendering (miette, JSON) happens in the caller.

use crate::source::Span;

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; never fails a check.
    Note,
    /// Legal but nearly always wrong; `allow NAME` silences it.
    Warning,
    /// The program has no meaning.
    Error,
}

/// One finding.
#[derive(Debug, Clone)]
pub struct Diagnostic {
    /// `E0202` for errors, a lint name such as `missing_detach` for warnings and notes.
    pub code: &'static str,
    /// Weight.
    pub severity: Severity,
    /// One fact: lower case, no full stop, under 72 columns.
    pub message: String,
    /// The first is the place to edit; the others say how it came to be so. Never empty.
    pub labels: Vec<Label>,
    /// What to write instead, with code. Never empty; lines of at most 70 columns.
    pub help: String,
}

/// A remark on a place.
#[derive(Debug, Clone)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What is so there.
    pub text: String,
}

impl Diagnostic {
    /// An error with its primary label.
    pub fn error(
        code: &'static str,
        message: impl Into<String>,
        span: Span,
        label: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self::new(Severity::Error, code, message, span, label, help)
    }

    /// A warning with its primary label.
    pub fn warning(
        code: &'static str,
        message: impl Into<String>,
        span: Span,
        label: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self::new(Severity::Warning, code, message, span, label, help)
    }

    /// A note with its primary label.
    pub fn note(
        code: &'static str,
        message: impl Into<String>,
        span: Span,
        label: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self::new(Severity::Note, code, message, span, label, help)
    }

    fn new(
        severity: Severity,
        code: &'static str,
        message: impl Into<String>,
        span: Span,
        label: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Diagnostic {
            code,
            severity,
            message: message.into(),
            labels: vec![Label { span, text: label.into() }],
            help: help.into(),
        }
    }

    /// Adds a further label.
    #[must_use]
    pub fn with(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }
}

/// The nearest of `candidates` to a misspelt `name`: a case-insensitive match first, else edit
/// distance of at most a third of the length (at least 1); ties go to the earlier candidate.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let limit = (name.chars().count() / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        if candidate == name {
            continue;
        }
        let distance = if candidate.to_lowercase() == lower {
            0
        } else {
            strsim::osa_distance(&lower, &candidate.to_lowercase())
        };
        if distance <= limit && best.is_none_or(|(d, _)| distance < d) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name() {
        assert_eq!(nearest("advantge", ["ratio", "advantage"]), Some("advantage"));
        assert_eq!(nearest("Reward", ["reward", "rewards"]), Some("reward"));
        assert_eq!(nearest("xyz", ["reward"]), None);
    }
}
