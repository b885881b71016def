//! The tokens of one statement. The grammar does not need them: they let the checks before it run
//! without recursion, find characters that are not the language's, and word the errors after it.

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

/// Text that is no token.
struct Bad {
    length: usize,
    code: &'static str,
    title: String,
    label: &'static str,
    /// What to put in its place, where that is known.
    instead: Option<String>,
    /// The help: what to do, and code for when the statement itself cannot be corrected.
    lead: String,
    sample: String,
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
    for (text, is_not, new, lead, sample) in NOT_OURS {
        if rest.starts_with(text) {
            return Err(Box::new(Bad {
                length: text.len(),
                code: "E0009",
                title: format!("`{text}` {is_not}"),
                label: "not in the language",
                instead: new.map(str::to_owned),
                lead: lead.to_owned(),
                sample: sample.to_owned(),
            }));
        }
    }
    match first {
        b'(' | b'[' => Ok((Kind::Open, 1)),
        b')' | b']' => Ok((Kind::Close, 1)),
        b'+' | b'-' | b'*' | b'/' | b'%' | b'^' | b'@' | b'<' | b'>' | b'=' | b',' | b':' => {
            Ok((Kind::Symbol, 1))
        }
        b'.' => Err(Box::new(dot(rest))),
        _ => Err(Box::new(foreign(rest))),
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
    let text = &rest[..whole];
    let plain = text.replace('_', "");
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    let (lead, new) = if plain != text && digits(&plain) {
        ("write the digits without `_`", Some(plain))
    } else if text.strip_suffix('.').is_some_and(digits) {
        ("give the point a digit on both sides", Some(format!("{text}0")))
    } else {
        ("a number is written like `2`, `0.5` or `1e-6`, and a name begins\nwith a letter", None)
    };
    Err(Box::new(Bad {
        length: whole,
        code: "E0014",
        title: format!("`{}` is not a number", clip(text)),
        label: "begins like a number",
        sample: new.clone().filter(|n| n.len() < 40).unwrap_or_else(|| "x2 = 0.5".to_owned()),
        instead: new,
        lead: lead.to_owned(),
    }))
}

fn dot(rest: &str) -> Bad {
    let digits = run(&rest[1..], |b| b.is_ascii_digit());
    if digits == 0 {
        return Bad {
            length: 1,
            code: "E0009",
            title: "a `.` stands alone".to_owned(),
            label: "joins nothing",
            instead: None,
            lead: "a dot joins the parts of a name, without blanks".to_owned(),
            sample: "ratio = base.ratio".to_owned(),
        };
    }
    let text = &rest[..=digits];
    Bad {
        length: digits + 1,
        code: "E0014",
        title: format!("`{}` has no digit before its point", clip(text)),
        label: "begins with the point",
        instead: Some(format!("0{text}")),
        lead: "write the zero".to_owned(),
        sample: "x = 0.5".to_owned(),
    }
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

/// A character that no token begins with.
fn foreign(rest: &str) -> Bad {
    let c = rest.chars().next().unwrap_or(' ');
    let ours = match c {
        '\u{a0}' | '\u{2000}'..='\u{200b}' | '\u{202f}' | '\u{3000}' => " ",
        '\u{2212}' | '\u{2010}'..='\u{2015}' => "-",
        '×' | '·' | '⋅' | '∗' => "*",
        '÷' => "/",
        '≤' => "<=",
        '≥' => ">=",
        '≠' => "!=",
        '∧' => "and",
        '∨' => "or",
        '¬' => "not ",
        '∞' => "inf",
        'π' => "pi",
        '“' | '”' | '„' => "\"",
        '←' => "=",
        'α' => "alpha",
        'β' => "beta",
        'γ' => "gamma",
        'λ' => "lam",
        'ε' | 'ϵ' => "eps",
        'τ' => "tau",
        _ => "",
    };
    let shown = if c.is_control() || c.is_whitespace() || ours == " " {
        format!("the character U+{:04X}", c as u32)
    } else {
        format!("`{c}`")
    };
    let lead = match ours {
        " " => "put a plain blank there".to_owned(),
        "" if c.is_alphabetic() => "spell the name with the letters a to z".to_owned(),
        "" => "delete it, or move it into a comment".to_owned(),
        ours => format!("write `{}`", ours.trim_end()),
    };
    let long = lead.len() > 24;
    let is_not =
        if c.is_ascii() { "is not part of the language" } else { "is not an ASCII character" };
    Bad {
        length: c.len_utf8(),
        code: "E0009",
        title: format!("{shown} {is_not}"),
        label: "not in the language",
        instead: Some(ours.to_owned()).filter(|ours| !ours.is_empty()),
        lead: format!(
            "{lead};{}other scripts may stand in comments only",
            if long { "\n" } else { " " }
        ),
        sample: "alpha = 0.5  # a comment".to_owned(),
    }
}

/// The beginning of a text that is too long for a title.
pub(super) fn clip(text: &str) -> String {
    if text.chars().count() <= 24 {
        return text.to_owned();
    }
    text.chars().take(23).chain(['…']).collect()
}

/// What other languages write, longest first: the text, what it is not, what to put in its place, what
/// to do about it, a sample.
type NotOurs = (&'static str, &'static str, Option<&'static str>, &'static str, &'static str);
const NOT_OURS: [NotOurs; 27] = [
    ("===", OPERATOR, Some("=="), "equality is written `==`", "x = (a == b)"),
    ("!==", OPERATOR, Some("!="), "inequality is written `!=`", "x = (a != b)"),
    ("...", OPERATOR, Some(".."), "a range has two dots", "x = sum(weights[k] for k in 1..4)"),
    ("&&", OPERATOR, Some("and"), "both conditions hold", "x = a and b"),
    ("||", OPERATOR, Some("or"), "one of the conditions holds", "x = a or b"),
    ("<>", OPERATOR, Some("!="), "inequality is written `!=`", "x = (a != b)"),
    (":=", ASSIGNS, Some("="), "a definition has a plain `=`", "x = 1"),
    ("=>", OPERATOR, Some(">="), "at least is written `>=`", "x = (a >= b)"),
    ("=<", OPERATOR, Some("<="), "at most is written `<=`", "x = (a <= b)"),
    ("->", OPERATOR, None, "a function has no result type", "fn f(x) = x + 1"),
    ("+=", ASSIGNS, None, ONCE, BUILT_ON),
    ("-=", ASSIGNS, None, ONCE, BUILT_ON),
    ("*=", ASSIGNS, None, ONCE, BUILT_ON),
    ("/=", ASSIGNS, None, ONCE, BUILT_ON),
    ("++", OPERATOR, Some("+"), "a sum has one `+`", "x = a + b"),
    ("!", OPERATOR, Some("not "), "a condition is negated with `not`", "x = not truncated"),
    ("&", OPERATOR, Some("and"), "both conditions hold", "x = a and b"),
    ("|", OPERATOR, Some("or"), "one of the conditions holds", "x = a or b"),
    (";", "does not end a statement", Some(""), "a statement ends with its line", "x = 1"),
    ("{", "does not open a block", None, INDENTED, BLOCK),
    ("}", "does not close a block", None, INDENTED, BLOCK),
    ("?", OPERATOR, None, "a choice is written", "x = if correct then 1 else 0"),
    ("~", OPERATOR, Some("not "), "a condition is negated with `not`", "x = not truncated"),
    ("'", "does not quote", Some("\""), "a path stands in double quotes", "extend \"other.rl\""),
    ("`", "does not quote", Some(""), "write the name without it", "x = ratio"),
    ("$", "does not begin a name", Some(""), "write the name without it", "x = ratio"),
    ("\\", "does not continue a line", Some(""), CONTINUED, "x = a\n        + b"),
];
const OPERATOR: &str = "is not an operator";
const ASSIGNS: &str = "does not define a name";
const ONCE: &str = "a name is defined once; to build on what the base objective says";
const BUILT_ON: &str = "token_loss = base.token_loss + 0.1 * entropy";
const INDENTED: &str = "a block is a group of indented lines, the last of them its value";
const BLOCK: &str = "scale =\n        spread = std(reward per group)\n        1 / (spread + 1e-4)";
const CONTINUED: &str = "an indented line continues the one above";
