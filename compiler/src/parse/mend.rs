//! Corrections for help texts: the user's own statement with a small edit, offered only if it can then
//! be read. So the code that a message shows always parses, and is about the user's names.

use super::{Text, layout, lex};

/// Bytes `from..to` of the text become `new`.
pub(super) type Edit<'a> = (usize, usize, &'a str);

/// A statement longer than this is not repeated in a message.
const LINES: usize = 4;
/// Help lines have 70 columns, and code is indented by 4.
const COLUMNS: usize = 66;

/// `text[start..end]` with the edits (in order, apart), indented for a help text.
pub(super) fn mend(text: Text<'_>, start: usize, end: usize, edits: &[Edit<'_>]) -> Option<String> {
    if text.quiet {
        return None;
    }
    let mut code = String::new();
    let mut at = start;
    for &(from, to, new) in edits {
        code.push_str(text.slice(at, from));
        code.push_str(new);
        at = to;
    }
    code.push_str(text.slice(at, end));
    checked(text, code.trim_end())
}

/// `code` indented for a help text, if it is short and can be read.
pub(super) fn checked(text: Text<'_>, code: &str) -> Option<String> {
    if text.quiet {
        return None;
    }
    let wide = code.lines().any(|line| line.chars().count() > COLUMNS);
    if wide || code.lines().count() > LINES || code.contains(['\t', '\r']) || code.starts_with(' ')
    {
        return None;
    }
    // The line of a block is an expression as often as a definition.
    let reads = reads(code) || reads(&format!("x = {code}"));
    reads.then(|| code.replace('\n', "\n    "))
}

/// `lead`, then the corrected statement, or `sample` where there is none.
pub(super) fn help(lead: &str, mended: Option<String>, sample: &str) -> String {
    format!("{lead}:\n\n    {}", mended.as_deref().unwrap_or(sample))
}

/// Whether `code` is one statement without a syntax error.
fn reads(code: &str) -> bool {
    let text = Text { file: crate::source::FileId(0), all: code, quiet: true };
    let slices = layout::statements(code);
    let [slice] = slices.as_slice() else { return false };
    let (tokens, bad) = lex::lex(text, slice.start, slice.end);
    bad.is_none() && super::one(text, &tokens, slice).is_ok()
}
