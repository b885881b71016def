//! The comment that a library program begins with, in its parts. Everything that shows, lists or tests a recipe reads it
//! here, so the form of the comment is decided in one place:
//!
//! ```text
//! # GiGPO: Group-in-Group Policy Optimization.
//! # Authors, "Title", year, arXiv number.
//! #
//! # The idea, in a sentence or two.
//! #
//! #     equations, indented by four
//! #
//! # Family: credit assignment.
//! # Confidence: exact from code.
//! # Choices: where sources disagree.
//! # To train: what the sampler must provide.
//! ```

use rlc_compiler::diagnostic::nearest;

/// What kinds of recipe there are, in the order of lists.
pub const FAMILIES: [&str; 14] = [
    "baseline",
    "advantage",
    "credit assignment",
    "ratio and clip",
    "KL and entropy",
    "off-policy",
    "trees",
    "agents",
    "preferences",
    "diffusion",
    "multi-token prediction",
    "sampling",
    "reward",
    "supervised",
];

/// How sure a formula is, the surest first.
pub const CONFIDENCES: [&str; 4] =
    ["exact from code", "exact from paper", "secondary", "reconstructed"];

/// Words that begin a labelled paragraph.
const LABELS: [&str; 4] = ["Family", "Confidence", "Choices", "To train"];

/// A header comment's parts; what is missing is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Header {
    /// `GRPO: Group Relative Policy Optimization`, without its full stop.
    pub title: String,
    /// Authors, title, year and number of the publication.
    pub citation: String,
    /// What is new, in a sentence or two.
    pub idea: String,
    /// The formula's lines, without their common indentation.
    pub equation: Vec<String>,
    /// Paragraphs without a label behind the formula.
    pub notes: Vec<String>,
    /// One of [`FAMILIES`].
    pub family: String,
    /// One of [`CONFIDENCES`].
    pub confidence: String,
    /// Where sources disagree, and what was chosen.
    pub choices: String,
    /// What a trainer must provide beyond the usual.
    pub to_train: String,
    /// Lines that look like a label and are none.
    strange: Vec<String>,
}

impl Header {
    /// Reads a program's text.
    pub fn of(text: &str) -> Header {
        let mut header = Header::default();
        let mut paragraph = 0;
        let mut label: Option<&str> = None;
        let mut fresh = true;
        for line in comment(text) {
            if line.trim().is_empty() {
                (paragraph, fresh) = (paragraph + 1, true);
                continue;
            }
            let found = LABELS.into_iter().find(|l| labelled(line, l).is_some());
            if let Some(found) = found {
                label = Some(found);
            } else if let Some((word, _)) = line.split_once(": ")
                && paragraph > 1
                && nearest(word, LABELS).is_some()
            {
                header.strange.push(line.to_owned());
            }
            let rest = found.and_then(|l| labelled(line, l)).unwrap_or(line).trim();
            if let Some(label) = label {
                let slot = match label {
                    "Family" => &mut header.family,
                    "Confidence" => &mut header.confidence,
                    "Choices" => &mut header.choices,
                    _ => &mut header.to_train,
                };
                join(slot, rest);
            } else if let (Some(own), true) = (line.strip_prefix("    "), paragraph > 0) {
                header.equation.push(own.to_owned());
            } else if paragraph == 0 {
                let title_ended = header.title.ends_with('.');
                join(if title_ended { &mut header.citation } else { &mut header.title }, rest);
            } else if header.equation.is_empty() && paragraph == 1 {
                join(&mut header.idea, rest);
            } else {
                if fresh {
                    header.notes.push(String::new());
                }
                if let Some(note) = header.notes.last_mut() {
                    join(note, rest);
                }
            }
            fresh = false;
        }
        for text in [&mut header.title, &mut header.family, &mut header.confidence] {
            if text.ends_with('.') {
                text.pop();
            }
        }
        header
    }

    /// What a library program's header lacks or has wrong.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.title.is_empty() {
            faults.push("no title, which ends with a full stop".to_owned());
        }
        if !self.idea.ends_with('.') {
            faults.push(format!("the idea is no sentence: {:?}", self.idea));
        }
        if self.equation.is_empty() {
            faults.push("no equation, indented by four".to_owned());
        }
        for (what, value, known) in [
            ("family", &self.family, &FAMILIES[..]),
            ("confidence", &self.confidence, &CONFIDENCES),
        ] {
            if !known.contains(&value.as_str()) {
                faults.push(format!("{what} {value:?} is none of: {}", known.join(", ")));
            }
        }
        faults.extend(self.strange.iter().map(|l| format!("`{l}` begins with no known label")));
        faults
    }

    /// True where one of its words contains `word`, whatever its case.
    pub fn mentions(&self, word: &str) -> bool {
        let word = word.to_lowercase();
        let texts = [&self.title, &self.citation, &self.idea, &self.family, &self.choices];
        texts.into_iter().chain([&self.to_train]).any(|t| t.to_lowercase().contains(&word))
    }
}

/// The comment a file begins with, without its marks.
pub fn comment(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map_while(|l| l.strip_prefix('#').filter(|l| !l.starts_with('#')))
        .map(|l| l.strip_prefix(' ').unwrap_or(l))
}

fn labelled<'a>(line: &'a str, label: &str) -> Option<&'a str> {
    line.strip_prefix(label)?.strip_prefix(':')
}

fn join(text: &mut String, more: &str) {
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(more);
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "\
# X-PO: a title that is\n# long.\n# A. Author et al., \"X\", 2025, arXiv 1.\n#\n# An idea\n# of two lines.\n#\n\
#     a = b\n#\n#       c = d\n#\n# A note: with a colon.\n#\n# Family: advantage.\n# Confidence: exact from code.\n\
# Choices: first,\n# second.\n# To train: a sampler.\n\n# Not the header.\nextend grpo\n";

    #[test]
    fn every_part_is_read() {
        let h = Header::of(WHOLE);
        assert_eq!(h.title, "X-PO: a title that is long");
        assert_eq!(h.citation, "A. Author et al., \"X\", 2025, arXiv 1.");
        assert_eq!(h.idea, "An idea of two lines.");
        assert_eq!(h.equation, ["a = b", "  c = d"]);
        assert_eq!(h.notes, ["A note: with a colon."]);
        assert_eq!((h.family.as_str(), h.confidence.as_str()), ("advantage", "exact from code"));
        assert_eq!((h.choices.as_str(), h.to_train.as_str()), ("first, second.", "a sampler."));
        assert_eq!(h.faults(), Vec::<String>::new());
        assert!(h.mentions("SAMPLER") && h.mentions("arxiv 1") && !h.mentions("tree"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let faults =
            |from: &str, to: &str| Header::of(&WHOLE.replace(from, to)).faults().join("\n");
        assert!(
            faults("Family: advantage", "Family: advantages").contains("family \"advantages\"")
        );
        assert!(faults("Confidence:", "Confidense:").contains("begins with no known label"));
        assert!(faults("Choices:", "Choice:").contains("`Choice: first,`"));
        assert!(faults("of two lines.", "of two lines").contains("the idea is no sentence"));
        assert!(faults("#     a = b\n#\n#       c = d\n", "").contains("no equation"));
        assert_eq!(Header::of("").faults().len(), 5);
    }
}
