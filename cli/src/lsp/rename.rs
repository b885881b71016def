//! Rename: every place of the same meaning, in all files of the program and of the programs that share
//! them. Refused where it would change what a program means: a name that the library or the language
//! gives a meaning to, or one that is taken.

use std::collections::BTreeMap;

use lsp_types::{TextEdit, Uri};
use rlc_compiler::parse::tokens::{Kind, lines};

use super::analysis::{Analysis, Texts};
use super::marks::{Mark, Role};
use super::uses::{Space, Subject, Use, is_level, is_of_the_language, programs, subject, within};
use super::{marks, place, uses};

/// The places of a name, program by program.
pub struct Plan {
    subject: Subject,
    name: String,
    programs: Vec<(Analysis, Vec<Use>)>,
}

/// What renaming the name under a mark would touch, or why it cannot be renamed.
pub fn plan(open: Analysis, here: &Uri, texts: &Texts, mark: &Mark<'_>) -> Result<Plan, String> {
    let of = subject(&open, mark).ok_or("there is no name here")?;
    let name = uses::name(&of, mark).to_owned();
    let mut all: Vec<(Analysis, Vec<Use>)> = Vec::new();
    for program in programs(open, here, texts, &of, &name) {
        let first = all.first().map_or(&program, |p| &p.0);
        let of = within(&program, first, &of);
        let places = uses::uses(&program, &of, &name);
        may(&program, &of, &name, &places)?;
        all.push((program, places));
    }
    Ok(Plan { subject: of, name, programs: all })
}

/// Why not, or nothing.
fn may(program: &Analysis, of: &Subject, name: &str, places: &[Use]) -> Result<(), String> {
    let linked = &program.linked;
    let library = |p: &&Use| program.sources.get(p.file).library;
    let inside = places.iter().find(library);
    let file = inside.map(|p| program.sources.get(p.file).name.clone());
    let own = |file: rlc_compiler::source::FileId| !program.sources.get(file).library;
    match of {
        Subject::Local(_) => Ok(()),
        Subject::Parameter(function, _, _) => {
            let meanings = linked.functions.get(function).map_or(0, Vec::len);
            match (file, meanings > 1) {
                (Some(file), _) => Err(format!(
                    "`{name}` cannot be renamed here: `{function}` is defined or called in the library (`{file}`)"
                )),
                (None, true) => Err(format!(
                    "`{function}` is defined in more than one file, and calls by name follow the last"
                )),
                (None, false) => Ok(()),
            }
        }
        Subject::Name(space) => {
            let defined = match space {
                Space::Value => linked
                    .values
                    .get(name)
                    .is_some_and(|v| v.iter().any(|e| own(e.ident.span.file))),
                Space::Function => linked
                    .functions
                    .get(name)
                    .is_some_and(|v| v.iter().any(|f| own(f.ident.span.file))),
                Space::Level => program.level(name).is_some_and(|l| own(l.span.file)),
                Space::Metric => {
                    linked.metrics.iter().any(|m| m.ident.name == name && own(m.ident.span.file))
                }
            };
            let language = is_of_the_language(*space, name);
            match (defined, file, language) {
                (true, Some(file), _) => Err(format!(
                    "`{name}` takes the place of the library's (`{file}`); under another name it would not"
                )),
                (true, None, true) => Err(format!(
                    "`{name}` takes the place of what the language means by it; under another name it would not"
                )),
                (true, None, false) => Ok(()),
                (false, _, true) => {
                    Err(format!("`{name}` cannot be renamed here: it belongs to the language"))
                }
                (false, Some(file), false) => Err(format!(
                    "`{name}` cannot be renamed here: it belongs to the library (`{file}`)"
                )),
                (false, None, false) => {
                    Err(format!("`{name}` cannot be renamed here: nothing defines it"))
                }
            }
        }
    }
}

impl Plan {
    /// The edits that give the name another one, file by file.
    pub fn edits(
        &self,
        here: &Uri,
        texts: &Texts,
        new: &str,
    ) -> Result<BTreeMap<String, Vec<TextEdit>>, String> {
        let read = lines(new);
        let good = matches!(read.as_slice(), [line] if matches!(line.as_slice(), [t] if t.kind == Kind::Name && t.text == new));
        let whole = matches!(self.subject, Subject::Name(Space::Value | Space::Function));
        if !good || new.contains('.') && !whole {
            return Err(format!(
                "`{new}` cannot be a name: letters, digits and `_`, and no reserved word"
            ));
        }
        let mut out: BTreeMap<String, Vec<TextEdit>> = BTreeMap::new();
        if new == self.name {
            return Ok(out);
        }
        for (program, places) in &self.programs {
            if self.taken(program, places, new) {
                return Err(format!("`{new}` has a meaning here already"));
            }
            for found in places {
                let source = program.sources.get(found.file);
                let root = std::ptr::eq(program, &raw const self.programs[0].0)
                    && found.file == program.root;
                let uri = if root { Some(here.clone()) } else { program.uri(found.file, texts) };
                let uri = uri.ok_or_else(|| format!("`{}` has no address", source.name))?;
                let edit = TextEdit {
                    range: place::range(&source.text, found.start, found.end),
                    new_text: new.to_owned(),
                };
                let edits = out.entry(uri.as_str().to_owned()).or_default();
                if !edits.contains(&edit) {
                    edits.push(edit);
                }
            }
        }
        Ok(out)
    }

    /// Whether the new name means something where the old one stands.
    fn taken(&self, program: &Analysis, places: &[Use], new: &str) -> bool {
        let linked = &program.linked;
        let text = |p: &Use| program.sources.get(p.file).text.as_str();
        let caught = |p: &Use| marks::bound_at(text(p), p.start).iter().any(|b| b.name == new);
        if places.iter().any(caught) {
            return true;
        }
        let reads = |space: &dyn Fn(&Mark<'_>) -> bool| {
            let files = linked.files.iter().map(|f| program.sources.get(*f).text.as_str());
            files.flat_map(marks::marks).any(|m| m.name == new && m.bound.is_none() && space(&m))
        };
        match self.subject {
            Subject::Name(Space::Value) => {
                linked.value(new).is_some()
                    || is_of_the_language(Space::Value, new)
                    || reads(&|m| matches!(m.role, Role::Value | Role::BaseValue))
            }
            Subject::Name(Space::Function) => {
                linked.function(new).is_some()
                    || is_of_the_language(Space::Function, new)
                    || reads(&|m| matches!(m.role, Role::Function | Role::BaseFunction))
            }
            Subject::Name(Space::Level) => {
                let value = linked.value(new).is_some() || is_of_the_language(Space::Value, new);
                is_level(program, new) || (value && places.iter().any(|p| p.open))
            }
            Subject::Name(Space::Metric) => linked.metrics.iter().any(|m| m.ident.name == new),
            // A name that is read in the same statement would be caught by the new local.
            Subject::Local(_) | Subject::Parameter(..) => places.iter().any(|p| {
                let all = marks::marks(text(p));
                let own = all.iter().find(|m| m.token.start == p.start).map(|m| m.statement);
                all.iter().any(|m| {
                    Some(m.statement) == own
                        && m.name == new
                        && matches!(m.role, Role::Value | Role::Level)
                })
            }),
        }
    }
}
