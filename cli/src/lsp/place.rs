//! Places: positions as the protocol counts them (lines, and UTF-16 units in them) and bytes; paths and
//! their URIs. A position that is not in the text means the nearest one that is.

use std::path::{Path, PathBuf};

use lsp_types::{Position, Range, Uri};

/// The byte at which each line begins.
fn line_starts(text: &str) -> Vec<usize> {
    let bytes = text.as_bytes();
    let ends = bytes
        .iter()
        .enumerate()
        .filter(|&(i, &b)| b == b'\n' || (b == b'\r' && bytes.get(i + 1) != Some(&b'\n')));
    std::iter::once(0).chain(ends.map(|(i, _)| i + 1)).collect()
}

/// The byte of a position.
pub fn offset(text: &str, position: Position) -> usize {
    let starts = line_starts(text);
    let Some(&start) = starts.get(position.line as usize) else { return text.len() };
    let mut units = 0;
    for (i, c) in text[start..].char_indices() {
        units += c.len_utf16() as u32;
        if matches!(c, '\n' | '\r') || units > position.character {
            return start + i;
        }
    }
    text.len()
}

/// The position of a byte.
pub fn position(text: &str, offset: usize) -> Position {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let starts = line_starts(text);
    let line = starts.partition_point(|&s| s <= at).saturating_sub(1);
    let character = text[starts[line]..at].encode_utf16().count() as u32;
    Position { line: line as u32, character }
}

/// The range of some bytes.
pub fn range(text: &str, start: usize, end: usize) -> Range {
    Range { start: position(text, start), end: position(text, end) }
}

/// The path of a `file:` URI.
pub fn path(uri: &Uri) -> Option<PathBuf> {
    let rest = uri.as_str().strip_prefix("file://")?;
    let path = &rest[rest.find('/')?..];
    let mut bytes = Vec::with_capacity(path.len());
    let mut left = path.bytes();
    while let Some(byte) = left.next() {
        if byte == b'%' {
            let (high, low) = (left.next()?, left.next()?);
            let digit = |b: u8| (b as char).to_digit(16);
            bytes.push((digit(high)? * 16 + digit(low)?) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok().map(PathBuf::from)
}

/// The URI of a path.
pub fn uri(path: &Path) -> Option<Uri> {
    let mut text = String::from("file://");
    for byte in path.to_str()?.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            text.push(byte as char);
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_utf16_units() {
        let text = "a😀b\r\né = 1\rz\n";
        for (i, _) in text.char_indices().filter(|(_, c)| *c != '\n') {
            assert_eq!(offset(text, position(text, i)), i);
        }
        assert_eq!(position(text, 5), Position { line: 0, character: 3 });
        assert_eq!(offset(text, Position { line: 0, character: 2 }), 1);
        assert_eq!(offset(text, Position { line: 0, character: 99 }), 6);
        assert_eq!(offset(text, Position { line: 2, character: 0 }), 15);
        assert_eq!(offset(text, Position { line: 99, character: 0 }), text.len());
    }

    #[test]
    fn uris_and_paths() {
        let path = Path::new("/x/a b/é%.rl");
        let uri = uri(path).unwrap();
        assert_eq!(uri.as_str(), "file:///x/a%20b/%C3%A9%25.rl");
        assert_eq!(super::path(&uri).unwrap(), path);
    }
}
