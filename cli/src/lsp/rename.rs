//! Rename, within one file: every token of the same meaning. Refused where it would change what the
//! program means: a name that another file gave, or one that is taken.

use lsp_types::TextEdit;
use rlc_compiler::check::{builtins, standard_inputs};
use rlc_compiler::level::Levels;
use rlc_compiler::parse::tokens::{Kind, lines};

use super::analysis::Analysis;
use super::marks::{Mark, Role};
use super::meaning::{Meaning, alike, meaning};
use super::{marks, place};

/// Why not, or nothing.
pub fn may(analysis: &Analysis, mark: &Mark<'_>) -> Result<(), String> {
    let name = mark.name;
    let depth = analysis.depth();
    let library = "it is not defined in this file";
    match meaning(analysis, mark) {
        Some(Meaning::Local(..)) => Ok(()),
        Some(Meaning::Parameter(f, _)) if f.depth == depth => Ok(()),
        Some(Meaning::Entry(e)) => {
            let own = analysis.linked.value(name).is_some_and(|e| e.depth == depth);
            let replaces = analysis.linked.base_value(name, depth).is_some()
                || standard_inputs().any(|s| s == name);
            match (own, replaces) {
                (true, false) if e.depth == depth => Ok(()),
                (true, _) => Err(format!(
                    "`{name}` takes the place of another file's; under another name it would not"
                )),
                (false, _) => Err(format!("`{name}` cannot be renamed here: {library}")),
            }
        }
        Some(Meaning::Function(f)) => {
            let taken = analysis.linked.base_function(name, depth).is_some() || is_builtin(name);
            match (f.depth == depth, taken) {
                (true, false) => Ok(()),
                (true, true) => Err(format!("`{name}` takes the place of another file's function")),
                (false, _) => Err(format!("`{name}` cannot be renamed here: {library}")),
            }
        }
        Some(Meaning::Metric(ident) | Meaning::Level(ident))
            if ident.span.file == analysis.root =>
        {
            Ok(())
        }
        Some(_) => Err(format!("`{name}` cannot be renamed here: {library}")),
        None => Err("there is no name here".to_owned()),
    }
}

fn is_builtin(name: &str) -> bool {
    builtins().any(|b| b == name)
}

/// The edits that give the name under a mark another one.
pub fn rename(analysis: &Analysis, mark: &Mark<'_>, new: &str) -> Result<Vec<TextEdit>, String> {
    may(analysis, mark)?;
    let read = lines(new);
    let good = matches!(read.as_slice(), [line] if matches!(line.as_slice(), [t] if t.kind == Kind::Name && t.text == new));
    if !good || new.contains('.') && mark.bound.is_some() {
        return Err(format!(
            "`{new}` cannot be a name: letters, digits and `_`, and no reserved word"
        ));
    }
    if new == mark.name {
        return Ok(Vec::new());
    }
    let text = analysis.text();
    let mut found = alike(analysis, mark);
    let argument = parameter(analysis, mark);
    if let Some((function, name, at)) = &argument {
        found = marks::marks(text)
            .into_iter()
            .filter(|m| {
                let named =
                    m.role == Role::Argument && m.callee == Some(function) && m.name == *name;
                named || m.bound == Some(*at)
            })
            .collect();
    }
    let linked = &analysis.linked;
    let levels = Levels::default();
    let taken = match mark.role {
        _ if mark.bound.is_some() || argument.is_some() => {
            found.iter().any(|m| marks::bound_at(text, m.token.start).iter().any(|b| b.name == new))
        }
        Role::Function | Role::BaseFunction => linked.function(new).is_some() || is_builtin(new),
        Role::Metric => linked.metrics.iter().any(|m| m.ident.name == new),
        _ if matches!(meaning(analysis, mark), Some(Meaning::Level(_))) => {
            levels.find(new).is_some() || linked.levels.iter().any(|l| l.ident.name == new)
        }
        _ => linked.value(new).is_some() || standard_inputs().any(|s| s == new),
    };
    // A name that is read inside would be caught by the new local, or the new name by a local there.
    let caught = marks::marks(text).iter().any(|m| {
        let inside = found.iter().any(|f| f.statement == m.statement);
        let reads = argument.is_some() || mark.bound.is_some() || m.bound.is_some();
        inside && reads && m.name == new && matches!(m.role, Role::Value | Role::Level)
    });
    if taken || caught {
        return Err(format!("`{new}` has a meaning here already"));
    }
    let edit = |m: &Mark<'_>| {
        let start = m.token.end() - m.name.len();
        TextEdit { range: place::range(text, start, m.token.end()), new_text: new.to_owned() }
    };
    Ok(found.iter().map(edit).collect())
}

/// For a function's parameter, at its definition or in a call: the function, the name, its first byte.
fn parameter(analysis: &Analysis, mark: &Mark<'_>) -> Option<(String, String, usize)> {
    let own = |f: &&rlc_compiler::link::Function| f.depth == analysis.depth();
    let mut functions = analysis.linked.functions.values().filter_map(|f| f.last()).filter(own);
    let (function, at) = match (mark.role, mark.bound) {
        (Role::Argument, _) => {
            let function = functions.find(|f| Some(f.ident.name.as_str()) == mark.callee)?;
            let param = function.params.iter().find(|p| p.name.name == mark.name)?;
            (function, param.name.span.start as usize)
        }
        (_, Some(bound)) => {
            let has = |f: &&rlc_compiler::link::Function| {
                f.params.iter().any(|p| p.name.span.start as usize == bound)
            };
            (functions.find(has)?, bound)
        }
        _ => return None,
    };
    Some((function.ident.name.clone(), mark.name.to_owned(), at))
}
