//! One open program as the compiler sees it, and what it says of it in the protocol's terms.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use lsp_types::{
    DiagnosticRelatedInformation, DiagnosticSeverity, DiagnosticTag, Location, NumberOrString, Uri,
};
use rlc_compiler::ast::Ident;
use rlc_compiler::check::Checked;
use rlc_compiler::diagnostic::{Diagnostic, Severity};
use rlc_compiler::hir::{E, Graph};
use rlc_compiler::level::{BATCH, VOCAB};
use rlc_compiler::link::{LevelItem, Linked, Loader, link};
use rlc_compiler::source::{FileId, Source, Sources, Span};
use rlc_compiler::stage::Reads;
use rlc_compiler::stdlib;
use rlc_runtime::device::cuda::cache;

use super::place;

/// Files one program may consist of.
const MOST_FILES: usize = 64;

/// The open texts by URI.
pub type Texts = HashMap<String, String>;

/// A program that was read.
pub struct Analysis {
    /// Its texts.
    pub sources: Sources,
    /// The open one.
    pub root: FileId,
    /// The files laid over each other.
    pub linked: Linked,
}

impl Analysis {
    /// Reads the text that is open under a URI.
    pub fn of(uri: &Uri, text: &str, texts: &Texts) -> Analysis {
        let path = place::path(uri);
        let library = path.as_deref().and_then(library_of);
        let name = match (library, &path) {
            (Some((name, _)), _) => name.to_owned(),
            (None, Some(path)) => real(path).display().to_string(),
            (None, None) => uri.as_str().to_owned(),
        };
        let source = Source { name, text: text.to_owned(), library: library.is_some() };
        let mut sources = Sources::default();
        let root = sources.add(source);
        let loader = Open { texts, known: RefCell::default() };
        let linked = link(&mut sources, root, &loader, &mut Vec::new());
        Analysis { sources, root, linked }
    }

    /// What the compiler says of it; and type, level and stage of definitions and metrics, unless the
    /// program has errors. Texts get the same numbers as in [`Analysis::of`].
    pub fn check(&self, texts: &Texts) -> (Vec<Diagnostic>, Option<HashMap<String, String>>) {
        let mut sources = Sources::default();
        let root = sources.add(self.sources.get(self.root).clone());
        let loader = Open { texts, known: RefCell::default() };
        let (checked, mut found) = rlc_compiler::check(&mut sources, root, &loader);
        crate::check::in_order(&mut found);
        (found, checked.as_ref().map(facts))
    }

    /// The same program with another text in the place of the open one.
    #[must_use]
    pub fn with_text(&self, text: String) -> Analysis {
        let mut sources = Sources::default();
        let root = sources.add(Source { text, ..self.sources.get(self.root).clone() });
        Analysis { sources, root, linked: Linked::default() }
    }

    /// Type, level and stage of the expression written at these bytes, where the compiler kept the
    /// place.
    pub fn fact_at(&self, texts: &Texts, start: usize, end: usize) -> Option<String> {
        let mut sources = Sources::default();
        let root = sources.add(self.sources.get(self.root).clone());
        let loader = Open { texts, known: RefCell::default() };
        let (checked, _) = rlc_compiler::check(&mut sources, root, &loader);
        let graph = checked?.graph;
        let place = Span { file: root, start: start as u32, end: end as u32 };
        let e = graph.all().rev().find(|e| graph.span(*e) == Some(place))?;
        Some(fact(&graph, &Reads::of(&graph), e))
    }

    /// The open text.
    pub fn text(&self) -> &str {
        &self.sources.get(self.root).text
    }

    /// Position of the open text in the order of files.
    pub fn depth(&self) -> usize {
        self.linked.files.iter().position(|f| *f == self.root).unwrap_or(0)
    }

    /// The levels and keys that the program's files declare, with what they say of them.
    pub fn levels(&self) -> Vec<(Ident, String)> {
        let about = |item: &LevelItem| match item {
            LevelItem::Segment(parent) => format!("a level in {}", parent.name),
            LevelItem::List(parent) => format!("a list in {}", parent.name),
            LevelItem::Key(key) => format!("a key: {}", self.sources.slice(key.span())),
        };
        self.linked.levels.iter().map(|l| (l.ident.clone(), about(&l.item))).collect()
    }

    /// The declaration of a level.
    pub fn level(&self, name: &str) -> Option<Ident> {
        self.levels().into_iter().map(|l| l.0).find(|l| l.name == name)
    }

    /// Where an editor finds a file of the program.
    pub fn uri(&self, file: FileId, texts: &Texts) -> Option<Uri> {
        uri_of(self.sources.get(file), texts)
    }

    /// A place as an editor opens it: open texts and files as they are, the library as a copy.
    pub fn location(&self, span: Span, here: &Uri, texts: &Texts) -> Option<Location> {
        let source = self.sources.get(span.file);
        let uri = if span.file == self.root { here.clone() } else { uri_of(source, texts)? };
        let range = place::range(&source.text, span.start as usize, span.end as usize);
        Some(Location { uri, range })
    }

    /// The findings; those in other files stand at the `extend` line.
    pub fn diagnostics(
        &self,
        found: &[Diagnostic],
        here: &Uri,
        texts: &Texts,
    ) -> Vec<lsp_types::Diagnostic> {
        if self.sources.get(self.root).library {
            return Vec::new();
        }
        found.iter().map(|d| self.diagnostic(d, here, texts)).collect()
    }

    fn diagnostic(&self, d: &Diagnostic, here: &Uri, texts: &Texts) -> lsp_types::Diagnostic {
        let start = Span { file: self.root, start: 0, end: 0 };
        let inside = d.labels.iter().position(|l| l.span.file == self.root);
        let extend = self.linked.extends.last().copied().flatten();
        let span = inside.map_or(extend.unwrap_or(start), |i| d.labels[i].span);
        let mut message = d.message.clone();
        if let Some(label) = d.labels.get(inside.unwrap_or(0)) {
            message.push_str(&format!("\n{}", label.text));
        }
        if !d.help.is_empty() {
            message.push_str(&format!("\n\nhelp: {}", d.help));
        }
        let related = d.labels.iter().enumerate().filter(|(i, _)| Some(*i) != inside);
        let related: Vec<_> = related
            .filter_map(|(_, l)| {
                let location = self.location(l.span, here, texts)?;
                Some(DiagnosticRelatedInformation { location, message: l.text.clone() })
            })
            .collect();
        lsp_types::Diagnostic {
            range: place::range(self.text(), span.start as usize, span.end as usize),
            severity: Some(match d.severity {
                Severity::Error => DiagnosticSeverity::ERROR,
                Severity::Warning => DiagnosticSeverity::WARNING,
                Severity::Note => DiagnosticSeverity::INFORMATION,
            }),
            code: Some(NumberOrString::String(d.code.to_owned())),
            source: Some("rlc".to_owned()),
            message,
            related_information: (!related.is_empty()).then_some(related),
            tags: (d.code == "unused_definition").then(|| vec![DiagnosticTag::UNNECESSARY]),
            ..lsp_types::Diagnostic::default()
        }
    }
}

fn facts(checked: &Checked) -> HashMap<String, String> {
    let graph = &checked.graph;
    let live = Reads::of(graph);
    let mut facts = HashMap::new();
    for d in &checked.definitions {
        facts.insert(d.name.clone(), fact(graph, &live, d.value));
    }
    for m in &checked.metrics {
        facts.insert(format!("metric {}", m.name), fact(graph, &live, m.value));
    }
    facts
}

/// "real, one per token; live"
fn fact(graph: &Graph, live: &Reads, e: E) -> String {
    let rows = match graph.level(e) {
        BATCH => "one for the batch".to_owned(),
        VOCAB => "one per vocabulary entry".to_owned(),
        level => format!("one per {}", graph.level_table.name(level)),
    };
    let stage = if live.is_live(e) { "live" } else { "recorded" };
    format!("{}, {rows}; {stage}", graph.ty(e).name())
}

/// Reads what `extend "path"` names: an open text before a file.
struct Open<'a> {
    texts: &'a Texts,
    known: RefCell<usize>,
}

impl Loader for Open<'_> {
    fn load(&self, from: &str, path: &str) -> Result<(String, String), String> {
        *self.known.borrow_mut() += 1;
        if *self.known.borrow() > MOST_FILES {
            return Err(format!("a program is at most {MOST_FILES} files"));
        }
        let folder = Path::new(from).parent().unwrap_or(Path::new(""));
        let path = real(&folder.join(path));
        let name = path.display().to_string();
        if let Some((_, text)) = open(&path, self.texts) {
            return Ok((name, text.clone()));
        }
        crate::program::text_at(&path).map(|text| (name, text))
    }
}

/// The open text of a path, under whatever spelling the editor opened it.
fn open<'t>(path: &Path, texts: &'t Texts) -> Option<(&'t String, &'t String)> {
    texts.iter().find(|(uri, _)| {
        let uri: Option<Uri> = uri.parse().ok();
        uri.and_then(|u| place::path(&u)).is_some_and(|p| real(&p) == path)
    })
}

fn real(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn uri_of(source: &Source, texts: &Texts) -> Option<Uri> {
    if source.library {
        return library_copy(source);
    }
    let path = Path::new(&source.name);
    match open(path, texts) {
        Some((uri, _)) => uri.parse().ok(),
        None => place::uri(path),
    }
}

/// Where copies of the library are: the user's cache folder, or that for temporary files.
fn library_folder() -> PathBuf {
    cache::folder().join(env!("CARGO_PKG_VERSION"))
}

/// A copy of a library file that an editor can show. Editing it changes nothing: the library is part of
/// the compiler, and the copy is renewed when it is asked for.
fn library_copy(source: &Source) -> Option<Uri> {
    let path = library_folder().join(&source.name);
    if std::fs::read_to_string(&path).ok().as_deref() != Some(&source.text) {
        std::fs::create_dir_all(path.parent()?).ok()?;
        crate::output::write_file(&path, source.text.as_bytes()).ok()?;
        if let Ok(meta) = std::fs::metadata(&path) {
            let mut allowed = meta.permissions();
            allowed.set_readonly(true);
            // Only a reminder for the reader.
            let _ = std::fs::set_permissions(&path, allowed);
        }
    }
    place::uri(&real(&path))
}

/// Name and text of the library file whose copy a path is.
fn library_of(path: &Path) -> Option<(&'static str, &'static str)> {
    let path = real(path);
    let rest = path.strip_prefix(real(&library_folder())).ok()?.to_str()?.to_owned();
    let objectives = stdlib::library().map(|o| (o.1, o.2));
    objectives.chain([stdlib::PRELUDE]).find(|f| f.0 == rest)
}
