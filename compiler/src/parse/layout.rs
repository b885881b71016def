//! Cuts a text into statements. A statement begins in column one; indented lines, and lines that begin
//! with a closing bracket, continue it. Blank lines and comments never end a statement.

use super::STATEMENT_WORDS;

/// The lines of one statement.
pub(super) struct Slice {
    /// First byte of the first line.
    pub start: usize,
    /// One past the last byte of the last line.
    pub end: usize,
    /// The `##` lines directly above.
    pub doc: Option<String>,
    /// There was no statement above for these indented lines to continue.
    pub indented: bool,
}

/// Cuts `text` into statements, in order.
pub(super) fn statements(text: &str) -> Vec<Slice> {
    let mut slices: Vec<Slice> = Vec::new();
    let mut doc: Vec<&str> = Vec::new();
    for (start, line) in lines(text) {
        let words = line.trim_start_matches([' ', '\t']);
        if words.is_empty() {
            doc.clear();
            continue;
        }
        if words.starts_with('#') {
            if let Some(text) = line.strip_prefix("##").filter(|t| !t.starts_with('#')) {
                doc.push(text.strip_prefix(' ').unwrap_or(text).trim_end());
            }
            continue;
        }
        let indented = words.len() < line.len();
        let end = start + line.len();
        match slices.last_mut() {
            Some(slice) if indented || line.starts_with([')', ']']) => slice.end = end,
            _ => {
                let doc = if doc.is_empty() { None } else { Some(doc.join("\n")) };
                slices.push(Slice { start, end, doc, indented });
            }
        }
        doc.clear();
    }
    slices
}

/// The lines of a text with their first bytes, without their ends (`\n`, `\r\n` or `\r`) and without
/// the byte-order mark that some editors put before the first.
pub(super) fn lines(text: &str) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    let mut start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    for (i, byte) in text.bytes().enumerate() {
        if byte == b'\n' || byte == b'\r' {
            // Between `\r` and `\n` there is no line: the next start is the same either way.
            if i >= start && !(byte == b'\n' && i > 0 && text.as_bytes()[i - 1] == b'\r') {
                lines.push((start, &text[start..i]));
            }
            start = i + 1;
        }
    }
    lines.push((start, &text[start..]));
    lines
}

/// Whether a slice looks like a statement of its own rather than the rest of one above it.
pub(super) fn begins_statement(text: &str, slice: &Slice) -> bool {
    let line = text.get(slice.start..slice.end).unwrap_or("");
    let end = line
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.'))
        .unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    let rest = rest.trim_start_matches([' ', '\t']);
    STATEMENT_WORDS.contains(&word)
        || (!word.is_empty() && rest.starts_with('=') && !rest.starts_with("=="))
}

/// The column of a byte, from 0; a tab goes on to the next multiple of 8.
pub(super) fn column(text: &str, at: usize) -> usize {
    let line = text.get(..at).unwrap_or("");
    let start = line.rfind(['\n', '\r']).map_or(0, |i| i + 1);
    line.get(start..)
        .unwrap_or("")
        .chars()
        .filter(|&c| c != '\u{feff}')
        .fold(0, |column, c| if c == '\t' { (column / 8 + 1) * 8 } else { column + 1 })
}
