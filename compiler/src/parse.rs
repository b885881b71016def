//! Text to tree. A text is cut into statements first, so that one broken statement costs one message
//! and never hides the errors of the next; each piece is then read by the pest grammar in
//! `grammar/rlc.pest`. Nothing here recurses deeper than the limits below, whatever the input.

mod block;
mod bounds;
mod dump;
mod explain;
mod expr;
mod fold;
mod layout;
mod lex;
mod mend;
mod print;
mod statement;
pub mod tokens;

pub use dump::dump;
pub use print::print;

use self::lex::Tokens;
use crate::ast::{Ident, Module, Statement};
use crate::diagnostic::Diagnostic;
use crate::source::{FileId, Sources, Span};

/// Brackets inside brackets, at most.
pub const MAX_BRACKETS: usize = 256;
/// Signs, powers, `not`, `if` and `|>` inside one another, at most, over all open brackets.
pub const MAX_NESTED: usize = 256;
/// Operators in one statement, at most. They bound the depth of a left-leaning tree.
pub const MAX_OPERATORS: usize = 4096;

/// The words that begin a statement.
pub const STATEMENT_WORDS: [&str; 17] = [
    "extend", "param", "input", "policy", "level", "list", "key", "state", "update", "keep",
    "drop", "fn", "minimize", "maximize", "metric", "sample", "allow",
];
/// The reserved words that stand inside a statement, and the two truth values.
pub const INNER_WORDS: [&str; 12] =
    ["if", "then", "else", "and", "or", "not", "per", "in", "where", "base", "true", "false"];

/// The code that pest derives from the grammar.
mod grammar {
    #[derive(pest_derive::Parser)]
    #[grammar = "../grammar/rlc.pest"]
    pub struct Grammar;
}

/// Why a statement could not be read.
type Fail = Diagnostic;

/// Parses one text. Errors never stop the following statements.
pub fn parse(sources: &Sources, file: FileId) -> (Module, Vec<Diagnostic>) {
    let text = Text { file, all: &sources.get(file).text, quiet: false };
    let mut module = Module::default();
    let mut found = Vec::new();
    let mut slices = layout::statements(text.all).into_iter().peekable();
    while let Some(slice) = slices.next() {
        let (tokens, bad) = lex::lex(text, slice.start, slice.end);
        let outcome = match bad {
            Some(bad) => Err(bad),
            None => one(text, &tokens, &slice),
        };
        match outcome {
            Ok(kind) => {
                let span = tokens.whole();
                module.statements.push(Statement { doc: slice.doc, span, kind });
            }
            Err(fail) => {
                module.broken.extend(tokens.subject());
                // The lines that an open bracket left behind in column one are part of that mistake.
                if fail.code == bounds::UNCLOSED {
                    while slices.next_if(|next| !layout::begins_statement(text.all, next)).is_some()
                    {
                    }
                }
                found.push(fail);
            }
        }
    }
    (module, found)
}

/// Reads the statement in `tokens`, all of whose characters are the language's.
fn one(
    text: Text<'_>,
    tokens: &Tokens<'_>,
    slice: &layout::Slice,
) -> Result<crate::ast::StatementKind, Fail> {
    let depth = bounds::check(tokens)?;
    if slice.indented {
        return Err(explain::indented(tokens));
    }
    let block = block::split(tokens)?;
    // Measured: up to 8 KiB for each level of nesting, without optimization. Both pest and the reader
    // recurse, and the caller's thread may have little left; a shallow statement never grows the stack.
    let needed = (depth + 8) * 16 * 1024;
    stacker::maybe_grow(needed, 2 * needed, || match &block {
        None => statement::read(text, tokens),
        Some(block) => statement::read_block(text, tokens, block),
    })
}

/// A source text that knows its file: makes spans.
#[derive(Clone, Copy)]
struct Text<'a> {
    file: FileId,
    all: &'a str,
    /// Errors are not shown, so they need no corrections (which would be tried by parsing).
    quiet: bool,
}

impl<'a> Text<'a> {
    fn span(self, start: usize, end: usize) -> Span {
        Span { file: self.file, start: start as u32, end: end as u32 }
    }

    fn slice(self, start: usize, end: usize) -> &'a str {
        self.all.get(start..end).unwrap_or("")
    }

    fn of(self, span: Span) -> &'a str {
        self.slice(span.start as usize, span.end as usize)
    }

    fn ident(self, start: usize, end: usize) -> Ident {
        Ident { name: self.slice(start, end).to_owned(), span: self.span(start, end) }
    }
}
