//! Bodies that are blocks: `fn f(x) =`, then indented lines `name = expr`, the last of them the result.
//! Each line begins at the indentation of the first; what is indented deeper, stands inside brackets or
//! cannot begin a line continues the line above.

use super::layout::column;
use super::lex::{Kind, Token, Tokens};
use super::{Fail, explain};

/// A statement with a block: what comes before it, and its lines.
pub(super) struct Block<'a> {
    pub head: Tokens<'a>,
    pub lines: Vec<Tokens<'a>>,
}

/// Splits a definition, function or update whose `=` ends its line.
pub(super) fn split<'a>(tokens: &Tokens<'a>) -> Result<Option<Block<'a>>, Fail> {
    let first = tokens.list.first();
    let bodied = first.is_some_and(|t| {
        t.kind == Kind::Word && (!t.reserved() || matches!(t.text, "fn" | "update"))
    });
    let Some(assign) = assign(&tokens.list).filter(|_| bodied) else { return Ok(None) };
    let body = assign + 1;
    if !tokens.get(body).is_some_and(|t| t.first) {
        return Ok(None);
    }
    let text = tokens.text.all;
    let indent = tokens.get(body).map_or(0, |t| column(text, t.start));
    let mut lines = Vec::new();
    let (mut from, mut depth) = (body, 0usize);
    for (i, token) in tokens.list.iter().enumerate().skip(body) {
        if i > from && token.first && depth == 0 {
            let here = column(text, token.start);
            if here < indent {
                return Err(explain::outdented(tokens, body, i));
            }
            if here == indent && !continues(&tokens.list, i) {
                lines.push(tokens.part(from, i));
                from = i;
            }
        }
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Word | Kind::Number | Kind::Quoted | Kind::Symbol => {}
        }
    }
    lines.push(tokens.part(from, tokens.list.len()));
    Ok(Some(Block { head: tokens.part(0, body), lines }))
}

/// The first `=` outside brackets.
fn assign(list: &[Token<'_>]) -> Option<usize> {
    let mut depth = 0usize;
    list.iter().position(|t| {
        match t.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Word | Kind::Number | Kind::Quoted | Kind::Symbol => {}
        }
        depth == 0 && t.kind == Kind::Symbol && t.text == "="
    })
}

/// Whether token `i`, at the block's indentation, goes on with the line above. A `-` does not: it may
/// be the sign of the result.
fn continues(list: &[Token<'_>], i: usize) -> bool {
    let Some(token) = list.get(i) else { return false };
    let operator = match token.kind {
        Kind::Symbol => token.text != "-",
        Kind::Word => matches!(token.text, "and" | "or" | "then" | "else"),
        Kind::Close => true,
        Kind::Number | Kind::Quoted | Kind::Open => false,
    };
    // An `=` is not waiting for the line below: its value would be indented deeper.
    let before = i.checked_sub(1).and_then(|p| list.get(p));
    let open_ended = before.is_some_and(|t| !t.ends_operand() && t.text != "=");
    operator || (open_ended && !defines(list, i))
}

/// Whether `name =` stands at token `i`.
pub(super) fn defines(list: &[Token<'_>], i: usize) -> bool {
    list.get(i).is_some_and(|t| t.kind == Kind::Word)
        && list.get(i + 1).is_some_and(|t| t.kind == Kind::Symbol && t.text == "=")
}
