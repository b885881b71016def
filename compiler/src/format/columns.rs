//! Columns: what stands below each other in neighbouring lines, still does after formatting. A column is
//! as far left as its widest line allows; a lone wide gap is no column and closes.

use super::{Role, Row};
use crate::parse::tokens::{Kind, Token};

/// Something that may stand in a column.
struct Anchor {
    row: usize,
    /// Its token; none: the comment.
    token: Option<usize>,
    /// Where it stood.
    was: usize,
    /// Blanks that stood before it.
    blanks: usize,
    /// Blanks that it needs before it.
    least: usize,
    /// Anchors of other lines like it, with nothing between, have the same.
    run: usize,
}

/// Aligns the first `:`, then the first `=`, of statements and of a block's lines.
pub(super) fn align(rows: &mut [Row<'_>]) {
    for symbol in [":", "="] {
        let mut anchors = Vec::new();
        let (mut run, mut indent) = (0, 0);
        for (i, row) in rows.iter().enumerate() {
            match row.role {
                Role::Empty if row.blank() => run += 1,
                Role::Empty | Role::Continued => {}
                Role::Statement | Role::Local => {
                    run += usize::from(row.indent != indent);
                    indent = row.indent;
                    match find(row, symbol) {
                        Some(token) => {
                            let (was, blanks) = place(&row.code, token);
                            let token = Some(token);
                            anchors.push(Anchor { row: i, token, was, blanks, least: 1, run });
                        }
                        None => run += 1,
                    }
                }
            }
        }
        settle(rows, &anchors);
    }
}

/// Sets the blanks before trailing comments: two, and more in a column of comments.
pub(super) fn align_comments(rows: &mut [Row<'_>]) {
    let mut anchors = Vec::new();
    for (i, row) in rows.iter_mut().enumerate() {
        let (Some(comment), Some(last)) = (row.comment, row.code.last()) else { continue };
        row.comment_gap = 2;
        let blanks = comment.column.saturating_sub(end(last));
        let was = comment.column;
        anchors.push(Anchor { row: i, token: None, was, blanks, least: 2, run: 0 });
    }
    settle(rows, &anchors);
}

/// The first `symbol` outside brackets, with something before and after it.
fn find(row: &Row<'_>, symbol: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (i, token) in row.code.iter().enumerate() {
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Symbol if depth == 0 && token.text == symbol => {
                return (i > 0 && i + 1 < row.code.len()).then_some(i);
            }
            _ => {}
        }
    }
    None
}

fn end(token: &Token<'_>) -> usize {
    token.column + token.text.chars().count()
}

/// The column of token `i` and the blanks before it, as written.
fn place(code: &[Token<'_>], i: usize) -> (usize, usize) {
    let before = i.checked_sub(1).map_or(0, |b| end(&code[b]));
    (code[i].column, code[i].column.saturating_sub(before))
}

/// Moves each column of anchors to where its widest line allows.
fn settle(rows: &mut [Row<'_>], anchors: &[Anchor]) {
    for column in anchors.chunk_by(|a, b| a.was == b.was && a.run == b.run) {
        // Equal by chance, if nobody padded anything.
        let meant =
            column.iter().all(|a| a.blanks > 0) && column.iter().any(|a| a.blanks > a.least);
        if column.len() < 2 || !meant {
            continue;
        }
        let natural = |rows: &[Row<'_>], a: &Anchor| match a.token {
            Some(token) => rows[a.row].column(token),
            None => rows[a.row].width() + a.least,
        };
        let widest = column.iter().map(|a| natural(rows, a)).max().unwrap_or(0);
        for a in column {
            let pad = widest - natural(rows, a);
            match a.token {
                Some(token) => rows[a.row].gaps[token] += pad,
                None => rows[a.row].comment_gap += pad,
            }
        }
    }
}
