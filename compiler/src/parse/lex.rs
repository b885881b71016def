//! The tokens of one statement. The grammar does not need them: they let the checks before it run
//! without recursion, find characters that are not the language's, and word the errors after it.

mod foreign;

use self::foreign::Bad;
use super::mend::{Edit, help, mend};
use super::{Fail, INNER_WORDS, STATEMENT_WORDS, Text};
use crate::ast::Ident;
use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name, dots included, or a reserved word.
    Word,
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
}

/// One token, by absolute byte positions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    pub start: usize,
    pub end: usize,
    /// It is the first of its line.
    pub first: bool,
}

impl Token<'_> {
    /// A word that no value can be called by.
    pub fn reserved(&self) -> bool {
        self.kind == Kind::Word
            && (STATEMENT_WORDS.contains(&self.text) || INNER_WORDS.contains(&self.text))
    }

    pub fn statement_word(&self) -> bool {
        self.kind == Kind::Word && STATEMENT_WORDS.contains(&self.text)
    }

    /// `a` in `a + b`, as opposed to something that needs an operand after it.
    pub fn ends_operand(&self) -> bool {
        match self.kind {
            Kind::Word => !self.reserved() || matches!(self.text, "true" | "false"),
            Kind::Number | Kind::Quoted | Kind::Close => true,
            Kind::Open | Kind::Symbol => false,
        }
    }
}

/// The tokens of a statement, or of a part of one.
#[derive(Clone)]
pub(super) struct Tokens<'a> {
    pub text: Text<'a>,
    pub list: Vec<Token<'a>>,
}

impl<'a> Tokens<'a> {
    pub fn get(&self, i: usize) -> Option<&Token<'a>> {
        self.list.get(i)
    }

    /// The characters of a token, empty past the end.
    pub fn str(&self, i: usize) -> &'a str {
        self.list.get(i).map_or("", |t| t.text)
    }

    pub fn span(&self, i: usize) -> Span {
        match self.list.get(i).or(self.list.last()) {
            Some(t) => self.text.span(t.start, t.end),
            None => self.text.span(0, 0),
        }
    }

    /// From the first token to the last.
    pub fn whole(&self) -> Span {
        self.span(0).to(self.span(self.list.len().saturating_sub(1)))
    }

    /// The whole with some edits, for a help text.
    pub fn mend(&self, edits: &[Edit<'_>]) -> Option<String> {
        let whole = self.whole();
        mend(self.text, whole.start as usize, whole.end as usize, edits)
    }

    /// The edit that puts `new` in the place of token `i`.
    pub fn instead<'n>(&self, i: usize, new: &'n str) -> Edit<'n> {
        let span = self.span(i);
        (span.start as usize, span.end as usize, new)
    }

    /// The edit that puts `new` before token `i`, or after the last.
    pub fn before<'n>(&self, i: usize, new: &'n str) -> Edit<'n> {
        let at = self.list.get(i).map_or(self.whole().end as usize, |t| t.start);
        (at, at, new)
    }

    /// The edit that puts `new` after token `i`.
    pub fn after<'n>(&self, i: usize, new: &'n str) -> Edit<'n> {
        let at = self.span(i).end as usize;
        (at, at, new)
    }

    /// The edit that puts `new` between token `i` and the next, instead of what blanks there are.
    pub fn between<'n>(&self, i: usize, new: &'n str) -> Edit<'n> {
        let from = self.span(i).end as usize;
        (from, self.list.get(i + 1).map_or(from, |t| t.start), new)
    }

    /// The part with these indices.
    pub fn part(&self, from: usize, to: usize) -> Tokens<'a> {
        Tokens { text: self.text, list: self.list.get(from..to).unwrap_or(&[]).to_vec() }
    }

    /// The name that a broken statement would have given a meaning to; its first word if it names none.
    pub fn subject(&self) -> Option<Ident> {
        let first = self.list.first().filter(|t| t.kind == Kind::Word)?;
        let declares = !matches!(first.text, "minimize" | "maximize" | "extend" | "keep" | "drop");
        let second = self.list.get(1).filter(|t| declares && t.kind == Kind::Word);
        let token = second.unwrap_or(first);
        Some(self.text.ident(token.start, token.end))
    }
}

/// The tokens of `text[start..end]`, up to the first character that is not the language's.
pub(super) fn lex(text: Text<'_>, start: usize, end: usize) -> (Tokens<'_>, Option<Fail>) {
    let mut tokens = Tokens { text, list: Vec::new() };
    let bytes = text.all.as_bytes();
    let (mut at, mut first) = (start, true);
    while at < end {
        let rest = text.slice(at, end);
        let length = match bytes[at] {
            b' ' | b'\t' => 1,
            b'\n' | b'\r' => {
                first = true;
                1
            }
            b'#' => rest.find(['\n', '\r']).unwrap_or(rest.len()),
            _ => match token(rest) {
                Ok((kind, length)) => {
                    let text = text.slice(at, at + length);
                    tokens.list.push(Token { kind, text, start: at, end: at + length, first });
                    first = false;
                    length
                }
                Err(bad) => {
                    let span = text.span(at, at + bad.length);
                    let mended = bad.instead.as_ref().and_then(|new| {
                        let found = text.slice(at, at + bad.length);
                        let edits: Vec<Edit<'_>> = rest
                            .match_indices(found)
                            .map(|(i, _)| (at + i, at + i + found.len(), new.as_str()))
                            .collect();
                        mend(text, start, end, &edits)
                    });
                    let help = help(&bad.lead, mended, &bad.sample);
                    let fail = Diagnostic::error(bad.code, bad.title, span, bad.label, help);
                    return (tokens, Some(fail));
                }
            },
        };
        at += length;
    }
    (tokens, None)
}

/// What `rest` begins with, and how long it is; none: a character that is not the language's.
pub(super) fn next(rest: &str) -> Option<(Kind, usize)> {
    token(rest).ok()
}

fn token(rest: &str) -> Result<(Kind, usize), Box<Bad>> {
    let first = rest.bytes().next().unwrap_or(0);
    if first.is_ascii_alphabetic() || first == b'_' {
        return Ok((Kind::Word, word(rest)));
    }
    if first.is_ascii_digit() {
        return number(rest);
    }
    if first == b'"' {
        return quoted(rest);
    }
    let tripled = ["===", "!==", "..."].iter().any(|t| rest.starts_with(t));
    for text in ["|>", "**", "//", "<=", ">=", "==", "!=", ".."] {
        if rest.starts_with(text) && !tripled {
            return Ok((Kind::Symbol, text.len()));
        }
    }
    if let Some(bad) = foreign::operator(rest) {
        return Err(Box::new(bad));
    }
    match first {
        b'(' | b'[' => Ok((Kind::Open, 1)),
        b')' | b']' => Ok((Kind::Close, 1)),
        b'+' | b'-' | b'*' | b'/' | b'%' | b'^' | b'@' | b'<' | b'>' | b'=' | b',' | b':' => {
            Ok((Kind::Symbol, 1))
        }
        b'.' => Err(Box::new(foreign::dot(rest))),
        _ => Err(Box::new(foreign::character(rest))),
    }
}

fn run(rest: &str, good: impl Fn(u8) -> bool) -> usize {
    rest.bytes().position(|b| !good(b)).unwrap_or(rest.len())
}

fn wordy(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

/// The length of a name with its dots.
fn word(rest: &str) -> usize {
    let mut end = run(rest, wordy);
    while let Some(tail) = rest.get(end..).and_then(|r| r.strip_prefix('.')) {
        if !tail.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            break;
        }
        end += 1 + run(tail, wordy);
    }
    end
}

/// The length of a number, by the same rule as the grammar's.
fn number(rest: &str) -> Result<(Kind, usize), Box<Bad>> {
    let digits = |from: usize| run(rest.get(from..).unwrap_or(""), |b| b.is_ascii_digit());
    let byte = |at: usize| rest.as_bytes().get(at).copied().unwrap_or(0);
    let mut end = digits(0);
    if byte(end) == b'.' && byte(end + 1).is_ascii_digit() {
        end += 1 + digits(end + 1);
    }
    if matches!(byte(end), b'e' | b'E') {
        let sign = usize::from(matches!(byte(end + 1), b'+' | b'-'));
        if byte(end + 1 + sign).is_ascii_digit() {
            end += 1 + sign + digits(end + 1 + sign);
        }
    }
    let ended = !wordy(byte(end)) && (byte(end) != b'.' || byte(end + 1) == b'.');
    if ended {
        return Ok((Kind::Number, end));
    }
    let whole = run(rest, |b| wordy(b) || b == b'.');
    Err(Box::new(foreign::number(&rest[..whole])))
}

fn quoted(rest: &str) -> Result<(Kind, usize), Box<Bad>> {
    let end = rest.find(['\n', '\r']).unwrap_or(rest.len());
    match rest.get(1..end).and_then(|line| line.find('"')) {
        Some(length) => Ok((Kind::Quoted, length + 2)),
        None => Err(Box::new(Bad {
            length: 1,
            code: "E0002",
            title: "this `\"` is never closed".to_owned(),
            label: "opened here; the line ends first",
            instead: None,
            lead: "close it on the same line".to_owned(),
            sample: "extend \"other.rl\"".to_owned(),
        })),
    }
}

/// The beginning of a text that is too long for a title.
pub(super) fn clip(text: &str) -> String {
    clip_to(text, 24)
}

/// At most `most` characters.
pub(super) fn clip_to(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

/// A name as sample code can repeat it: itself, or `otherwise` where it would be too long.
pub(super) fn in_code<'n>(name: &'n str, otherwise: &'n str) -> &'n str {
    if name.len() <= 24 { name } else { otherwise }
}
