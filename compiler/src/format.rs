//! The formatter: one layout for a text, whoever wrote it. It works on the tokens of each line, so that
//! comments and the line breaks that the writer chose stay; it never changes what a program means, and
//! formatting twice is formatting once. Pure: who calls it reads and writes the files.
//!
//! Blanks between tokens follow from the tokens. Three things are the writer's, and are kept: where lines
//! break; columns (`=`, `:` or trailing comments that stand below each other in neighbouring lines); and
//! a continued line that begins below a token of a line above.

mod columns;

use crate::diagnostic::{Diagnostic, Severity};
use crate::parse::parse;
use crate::parse::tokens::{Kind, Token, lines, starts};
use crate::source::{FileId, Source, Sources};

/// Blanks of one step of indentation.
const STEP: usize = 2;

/// The text in the one layout, or why it cannot be read.
pub fn format(text: &str) -> Result<String, Vec<Diagnostic>> {
    let mut sources = Sources::default();
    let source = Source { name: String::new(), text: text.to_owned(), library: false };
    let file: FileId = sources.add(source);
    let (_, found) = parse(&sources, file);
    if found.iter().any(|d| d.severity == Severity::Error) {
        return Err(found);
    }
    let mut rows = rows(text);
    indent(&mut rows);
    columns::align(&mut rows);
    continue_below(&mut rows);
    columns::align_comments(&mut rows);
    Ok(print(&rows))
}

/// What a line is to its statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The first line of a statement.
    Statement,
    /// A line of a block.
    Local,
    /// Goes on with the line above.
    Continued,
    /// Nothing but a comment, or nothing at all.
    Empty,
}

/// One line of the text.
#[derive(Debug)]
struct Row<'a> {
    role: Role,
    /// Without the comment.
    code: Vec<Token<'a>>,
    /// Blanks before each token but the first, whose place is `indent`.
    gaps: Vec<usize>,
    comment: Option<Token<'a>>,
    comment_gap: usize,
    indent: usize,
    /// Indentation of the statement or block line that this one belongs to.
    base: usize,
    /// Open brackets where the line begins, less those that it begins by closing.
    depth: usize,
}

impl Row<'_> {
    /// The column in which token `i` will stand.
    fn column(&self, i: usize) -> usize {
        let widths = self.code.iter().take(i).map(|t| t.text.chars().count()).sum::<usize>();
        self.indent + widths + self.gaps.iter().take(i + 1).sum::<usize>()
    }

    /// One past the last token's last column.
    fn width(&self) -> usize {
        let last = self.code.len().saturating_sub(1);
        self.code.last().map_or(0, |t| self.column(last) + t.text.chars().count())
    }

    fn blank(&self) -> bool {
        self.code.is_empty() && self.comment.is_none()
    }
}

/// The lines with what they are, and the blanks between their tokens.
fn rows(text: &str) -> Vec<Row<'_>> {
    let mut begins = starts(text).into_iter().peekable();
    let mut rows = Vec::new();
    let mut before: Option<Token<'_>> = None;
    let (mut depth, mut base) = (0usize, 0);
    for mut code in lines(text) {
        let comment = code.pop_if(|t| t.kind == Kind::Comment);
        let first = code.first().copied();
        let begin = first.and_then(|f| begins.next_if(|b| b.0 == f.start));
        let role = match (first, begin) {
            (None, _) => Role::Empty,
            (_, Some((_, false))) => Role::Statement,
            (_, Some((_, true))) => Role::Local,
            (_, None) => Role::Continued,
        };
        match role {
            Role::Statement => (depth, base, before) = (0, 0, None),
            Role::Local => (base, before) = (STEP, None),
            Role::Continued | Role::Empty => {}
        }
        let closing = code.iter().take_while(|t| t.kind == Kind::Close).count();
        let row_depth = depth.saturating_sub(closing);
        let mut gaps = Vec::with_capacity(code.len());
        let mut signed = false;
        for (i, token) in code.iter().enumerate() {
            gaps.push(if i == 0 { 0 } else { gap(before, signed, token) });
            signed = token.text == "-" && !before.is_some_and(|b| b.ends_operand());
            before = Some(*token);
            match token.kind {
                Kind::Open => depth += 1,
                Kind::Close => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        let (indent, comment_gap) = (0, 0);
        rows.push(Row { role, code, gaps, comment, comment_gap, indent, base, depth: row_depth });
    }
    rows
}

/// Blanks between a token and the one before it; `signed`: that one is a sign, not an operator.
fn gap(before: Option<Token<'_>>, signed: bool, token: &Token<'_>) -> usize {
    let Some(before) = before else { return 0 };
    let joined = match (before.kind, token.kind) {
        (Kind::Open, _) | (_, Kind::Close) => true,
        // A call or a member; after a reserved word a bracket only groups.
        (Kind::Name, Kind::Open) => true,
        _ => signed && token.text != "-",
    };
    usize::from(!(joined || token.text == "," || token.text == ".." || before.text == ".."))
}

/// Sets the indentation of every line, as if no continued line stood below a token.
fn indent(rows: &mut [Row<'_>]) {
    for row in rows.iter_mut() {
        row.indent = match row.role {
            Role::Statement | Role::Empty => 0,
            Role::Local => row.base,
            Role::Continued => {
                let closes = row.code.first().is_some_and(|t| t.kind == Kind::Close);
                let steps = if closes { row.depth } else { row.depth.max(1) };
                row.base + STEP * steps
            }
        };
    }
}

/// Puts continued lines below the token that they stood below, and comments where their line is.
fn continue_below(rows: &mut [Row<'_>]) {
    let mut from = 0;
    for i in 0..rows.len() {
        match rows[i].role {
            Role::Statement | Role::Local => from = i,
            Role::Continued => {
                let closes = rows[i].code.first().is_some_and(|t| t.kind == Kind::Close);
                let column = rows[i].code.first().map_or(0, |t| t.column);
                let above = rows[from..i].iter().rev().find_map(|row| below(row, column));
                if let (Some(above), false) = (above, closes) {
                    rows[i].indent = above;
                }
            }
            Role::Empty => {}
        }
    }
    let (mut next, mut last) = (None, vec![0; rows.len()]);
    for i in 1..rows.len() {
        last[i] = if rows[i - 1].role == Role::Empty { last[i - 1] } else { rows[i - 1].indent };
    }
    for i in (0..rows.len()).rev() {
        let row = &mut rows[i];
        if row.role != Role::Empty {
            next = Some((row.role, row.indent));
            continue;
        }
        let Some(comment) = row.comment else { continue };
        row.indent = match next {
            // Inside a statement: as the line that it is about.
            Some((Role::Continued | Role::Local, indent)) => indent,
            _ if comment.column == 0 => 0,
            // In column one it would become the next statement's documentation.
            _ if last[i] == 0 && comment.text.starts_with("##") => STEP,
            _ => last[i],
        };
    }
}

/// The new column of the token of `row` that stood in `column`, if an operand begins there.
fn below(row: &Row<'_>, column: usize) -> Option<usize> {
    let i = row.code.iter().position(|t| t.column == column)?;
    let before = row.code.get(i.checked_sub(1)?)?;
    let begins = before.kind == Kind::Open || matches!(before.text, "=" | "," | "then" | "else");
    begins.then(|| row.column(i))
}

fn print(rows: &[Row<'_>]) -> String {
    let mut out = String::new();
    let mut blank = false;
    let put = |out: &mut String, blanks: usize, text: &str| {
        out.extend(std::iter::repeat_n(' ', blanks));
        out.push_str(text);
    };
    for row in rows {
        if row.blank() {
            blank = !out.is_empty();
            continue;
        }
        if blank {
            out.push('\n');
            blank = false;
        }
        for (i, token) in row.code.iter().enumerate() {
            put(&mut out, if i == 0 { row.indent } else { row.gaps[i] }, token.text);
        }
        if let Some(comment) = row.comment {
            let blanks = if row.code.is_empty() { row.indent } else { row.comment_gap };
            put(&mut out, blanks, comment.text);
        }
        out.push('\n');
    }
    out
}
