//! The tokens of a whole text, comments included, for tools that work on texts as they are written: the
//! formatter, the language server. Nothing here fails: what is not the language's is a token too.

use super::lex::Kind as Inner;
use super::{FileId, INNER_WORDS, STATEMENT_WORDS, Text, block, layout, lex};

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A name, dots included.
    Name,
    /// A word that cannot be a name.
    Reserved,
    /// A number without sign.
    Number,
    /// A text in quotes.
    Quoted,
    /// `(` or `[`.
    Open,
    /// `)` or `]`.
    Close,
    /// An operator or other punctuation.
    Symbol,
    /// From `#` to the end of the line, without the blanks there.
    Comment,
    /// A character that is not the language's.
    Other,
}

/// One token, by byte positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its characters.
    pub text: &'a str,
    /// First byte.
    pub start: usize,
    /// The column of its first character, from 0; a tab goes on to the next multiple of 8.
    pub column: usize,
}

impl Token<'_> {
    /// One past the last byte.
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// `a` in `a + b`, as opposed to something that needs an operand after it.
    pub fn ends_operand(&self) -> bool {
        match self.kind {
            Kind::Reserved => matches!(self.text, "true" | "false"),
            Kind::Name | Kind::Number | Kind::Quoted | Kind::Close => true,
            Kind::Open | Kind::Symbol | Kind::Comment | Kind::Other => false,
        }
    }
}

/// The tokens of a text line by line; a line without any is blank.
pub fn lines(text: &str) -> Vec<Vec<Token<'_>>> {
    layout::lines(text).into_iter().map(|(start, line)| line_tokens(start, line)).collect()
}

fn line_tokens(start: usize, line: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let (mut at, mut column) = (0, 0);
    while let Some(rest) = line.get(at..).filter(|r| !r.is_empty()) {
        let first = rest.as_bytes()[0];
        if first == b' ' || first == b'\t' {
            column = if first == b'\t' { (column / 8 + 1) * 8 } else { column + 1 };
            at += 1;
            continue;
        }
        let (kind, length) = if first == b'#' {
            (Kind::Comment, rest.trim_end().len())
        } else {
            match lex::next(rest) {
                Some((kind, length)) => (outer(kind, &rest[..length]), length),
                None => (Kind::Other, rest.chars().next().map_or(1, char::len_utf8)),
            }
        };
        let text = &rest[..length];
        found.push(Token { kind, text, start: start + at, column });
        column += text.chars().count();
        at += length;
        if kind == Kind::Comment {
            break;
        }
    }
    found
}

fn outer(kind: Inner, text: &str) -> Kind {
    match kind {
        Inner::Word if STATEMENT_WORDS.contains(&text) => Kind::Reserved,
        Inner::Word if INNER_WORDS.contains(&text) => Kind::Reserved,
        Inner::Word => Kind::Name,
        Inner::Number => Kind::Number,
        Inner::Quoted => Kind::Quoted,
        Inner::Open => Kind::Open,
        Inner::Close => Kind::Close,
        Inner::Symbol => Kind::Symbol,
    }
}

/// Where the statements of a text begin, and where the lines of their blocks do: byte positions in order,
/// true for a block's line.
pub fn starts(text: &str) -> Vec<(usize, bool)> {
    let all = Text { file: FileId(0), all: text, quiet: true };
    let mut found = Vec::new();
    for slice in layout::statements(text) {
        let (tokens, _) = lex::lex(all, slice.start, slice.end);
        found.extend(tokens.list.first().map(|t| (t.start, false)));
        if let Ok(Some(block)) = block::split(&tokens) {
            let firsts = block.lines.iter().filter_map(|l| l.list.first());
            found.extend(firsts.map(|t| (t.start, true)));
        }
    }
    found
}
