//! The tokens of one statement. The grammar does not need them: they let the checks before it run
//! without recursion, find characters that are not the language's, and word the errors after it.

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
    let bytes = text.text.as_bytes();
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
                Err((length, title, label, help)) => {
                    let span = text.span(at, at + length);
                    let fail = Diagnostic::error(title.0, title.1, span, label, help);
                    return (tokens, Some(fail));
                }
            },
        };
        at += length;
    }
    (tokens, None)
}

/// Length of the offending text, code and title, label, help.
type Bad = (usize, (&'static str, String), String, String);

fn token(rest: &str) -> Result<(Kind, usize), Bad> {
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
    let tripled = rest.starts_with("===") || rest.starts_with("!==");
    for text in ["|>", "**", "//", "<=", ">=", "==", "!=", ".."] {
        if rest.starts_with(text) && !tripled {
            return Ok((Kind::Symbol, text.len()));
        }
    }
    for (text, title, help) in NOT_OURS {
        if rest.starts_with(text) {
            let title = ("E0009", format!("`{text}` {title}"));
            return Err((text.len(), title, "not in the language".to_owned(), help.to_owned()));
        }
    }
    match first {
        b'(' | b'[' => Ok((Kind::Open, 1)),
        b')' | b']' => Ok((Kind::Close, 1)),
        b'+' | b'-' | b'*' | b'/' | b'%' | b'^' | b'@' | b'<' | b'>' | b'=' | b',' | b':' => {
            Ok((Kind::Symbol, 1))
        }
        b'.' => Err(dot(rest)),
        _ => Err(foreign(rest)),
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
fn number(rest: &str) -> Result<(Kind, usize), Bad> {
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
    let text = &rest[..whole];
    let plain = text.replace('_', "");
    let hint = if plain != text && plain.bytes().all(|b| b.is_ascii_digit()) {
        format!("write the digits without `_`: `{plain}`")
    } else if let Some(digits) =
        text.strip_suffix('.').filter(|t| t.bytes().all(|b| b.is_ascii_digit()))
    {
        format!("give the point a digit on both sides: `{digits}.0`")
    } else {
        "a number is written like `2`, `0.5` or `1e-6`, and a name begins\n\
         with a letter: `x2`"
            .to_owned()
    };
    Err((
        whole,
        ("E0014", format!("`{}` is not a number", clip(text))),
        "begins like a number".to_owned(),
        hint,
    ))
}

fn dot(rest: &str) -> Bad {
    let digits = run(&rest[1..], |b| b.is_ascii_digit());
    if digits == 0 {
        let title = "a `.` stands alone".to_owned();
        let help = "a dot joins the parts of a name, without blanks: `train.step`,\n\
                    `base.ratio`"
            .to_owned();
        return (1, ("E0009", title), "joins nothing".to_owned(), help);
    }
    let text = &rest[..=digits];
    let title = format!("`{}` has no digit before its point", clip(text));
    let help = format!("write `0{}`", clip(text));
    (digits + 1, ("E0014", title), "begins with the point".to_owned(), help)
}

fn quoted(rest: &str) -> Result<(Kind, usize), Bad> {
    let end = rest.find(['\n', '\r']).unwrap_or(rest.len());
    match rest.get(1..end).and_then(|line| line.find('"')) {
        Some(length) => Ok((Kind::Quoted, length + 2)),
        None => Err((
            1,
            ("E0002", "a `\"` is never closed".to_owned()),
            "opened here; the line ends first".to_owned(),
            "close it on the same line:\n\n    extend \"other.rl\"".to_owned(),
        )),
    }
}

/// A character that no token begins with.
fn foreign(rest: &str) -> Bad {
    let c = rest.chars().next().unwrap_or(' ');
    let ours = match c {
        '\u{a0}' | '\u{2000}'..='\u{200b}' | '\u{202f}' | '\u{3000}' => Some("a plain blank"),
        '\u{2212}' | '\u{2013}' | '\u{2014}' => Some("`-`"),
        '×' | '·' | '⋅' | '∗' => Some("`*`"),
        '÷' => Some("`/`"),
        '≤' => Some("`<=`"),
        '≥' => Some("`>=`"),
        '≠' => Some("`!=`"),
        '∧' => Some("`and`"),
        '∨' => Some("`or`"),
        '¬' => Some("`not`"),
        '∞' => Some("`inf`"),
        'π' => Some("`pi`"),
        '“' | '”' | '„' => Some("`\"`"),
        '←' => Some("`=`"),
        _ => None,
    };
    let shown = if c.is_control() || (ours == Some("a plain blank")) {
        format!("the character U+{:04X}", c as u32)
    } else {
        format!("`{c}`")
    };
    let title = if c.is_ascii() {
        format!("{shown} is not part of the language")
    } else {
        format!("{shown} is not an ASCII character")
    };
    let help = match ours {
        Some(ours) => format!("write {ours}; other scripts may stand in comments only"),
        None if c.is_alphabetic() => {
            "spell the name with the letters a to z: `alpha`, `lam`; other\n\
                                      scripts may stand in comments only"
                .to_owned()
        }
        None => "delete it, or move it into a comment:\n\n    # a comment".to_owned(),
    };
    (c.len_utf8(), ("E0009", title), "not in the language".to_owned(), help)
}

/// The beginning of a text that is too long for a title.
pub(super) fn clip(text: &str) -> String {
    if text.chars().count() <= 24 {
        return text.to_owned();
    }
    text.chars().take(23).chain(['…']).collect()
}

/// What other languages write, longest first: text, what it is not, what to write.
const NOT_OURS: [(&str, &str, &str); 26] = [
    ("===", "is not an operator", "equality is written `==`:\n\n    a == b"),
    ("!==", "is not an operator", "inequality is written `!=`:\n\n    a != b"),
    ("&&", "is not an operator", "both conditions hold:\n\n    a and b"),
    ("||", "is not an operator", "one of the conditions holds:\n\n    a or b"),
    ("<>", "is not an operator", "inequality is written `!=`:\n\n    a != b"),
    (":=", "does not define a name", "a definition has a plain `=`:\n\n    x = 1"),
    ("=>", "is not an operator", "at least is written `>=`:\n\n    a >= b"),
    ("=<", "is not an operator", "at most is written `<=`:\n\n    a <= b"),
    ("->", "is not an operator", "a function is written:\n\n    fn f(x) = x + 1"),
    ("+=", ASSIGNS, BUILD_ON),
    ("-=", ASSIGNS, BUILD_ON),
    ("*=", ASSIGNS, BUILD_ON),
    ("/=", ASSIGNS, BUILD_ON),
    ("++", "is not an operator", "a sum has one `+`:\n\n    a + b"),
    ("!", "is not an operator", "a condition is negated with `not`:\n\n    not truncated"),
    ("&", "is not an operator", "both conditions hold:\n\n    a and b"),
    ("|", "is not an operator", "one of the conditions holds:\n\n    a or b"),
    (
        ";",
        "does not end a statement",
        "a statement ends with its line; write the next one below it",
    ),
    ("{", "does not open a block", BLOCK),
    ("}", "does not close a block", BLOCK),
    ("?", "is not an operator", "a choice is written:\n\n    if c then a else b"),
    ("~", "is not an operator", "a condition is negated with `not`:\n\n    not truncated"),
    ("'", "does not quote", "a path stands in double quotes:\n\n    extend \"other.rl\""),
    ("`", "does not quote", "write the name without it"),
    ("$", "does not begin a name", "write the name without it"),
    ("\\", "does not continue a line", "indent the next line; that continues the statement"),
];
const ASSIGNS: &str = "does not define a name";
const BUILD_ON: &str = "a name is defined once. To build on what the base objective says:\n\n\
                        \x20   token_loss = base.token_loss + 0.1 * entropy";
const BLOCK: &str = "a block is a group of indented lines, the last of them its value:\n\n\
                     \x20   scale =\n\
                     \x20       spread = std(reward per group)\n\
                     \x20       1 / (spread + 1e-4)";
