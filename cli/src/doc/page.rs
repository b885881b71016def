//! How the reference looks: indented text for a terminal, or Markdown.

use super::entry::{Entry, Param};
use crate::output::Output;
use crate::recipes::header::{self, Header};
use crate::recipes::wrap;
use crate::statement::KINDS;

/// What the reference is printed as.
#[derive(Debug, Clone, Copy)]
pub enum Look<'a> {
    /// Lines for a terminal.
    Text(&'a Output),
    /// Markdown.
    Markdown,
}

/// The reference under construction.
#[derive(Debug)]
pub struct Page<'a> {
    look: Look<'a>,
    text: String,
}

impl<'a> Page<'a> {
    /// An empty one.
    pub fn new(look: Look<'a>) -> Page<'a> {
        Page { look, text: String::new() }
    }

    /// All of it.
    pub fn finish(self) -> String {
        self.text.trim_start_matches('\n').to_owned()
    }

    /// A line of its own.
    pub fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn bold(&self, text: &str) -> String {
        match self.look {
            Look::Text(output) => output.bold(text),
            Look::Markdown => text.to_owned(),
        }
    }

    fn dim(&self, text: &str) -> String {
        match self.look {
            Look::Text(output) => output.dim(text),
            Look::Markdown => text.to_owned(),
        }
    }

    /// What the whole page is about.
    pub fn title(&mut self, text: &str) {
        match self.look {
            Look::Text(_) => {}
            Look::Markdown => self.line(&format!("# {text}")),
        }
    }

    /// A part of the page.
    pub fn heading(&mut self, text: &str) {
        let line = match self.look {
            Look::Text(_) => self.bold(text),
            Look::Markdown => format!("## {text}"),
        };
        self.line("");
        self.line(&line);
    }

    /// A statement with its comment.
    pub fn entry(&mut self, entry: &Entry) {
        self.line("");
        match self.look {
            Look::Text(_) => {
                for line in entry.signature.lines() {
                    let line = format!("  {}", self.bold(line));
                    self.line(&line);
                }
                for line in entry.doc.lines() {
                    self.line(&format!("      {line}"));
                }
            }
            Look::Markdown => {
                self.line("```rl");
                self.line(&entry.signature);
                self.line("```");
                if !entry.doc.is_empty() {
                    self.line("");
                    self.line(&entry.doc);
                }
            }
        }
    }

    /// How it is written, and where.
    pub fn source(&mut self, entry: &Entry) {
        self.line("");
        match self.look {
            Look::Text(_) => {
                let place = format!("  {}", self.dim(&entry.place));
                self.line(&place);
                for line in entry.text.lines() {
                    self.line(&format!("      {line}"));
                }
            }
            Look::Markdown => {
                self.line(&format!("Defined in `{}`:", entry.place));
                self.line("");
                self.line("```rl");
                self.line(&entry.text);
                self.line("```");
            }
        }
    }

    /// The name of what a page is about.
    fn name(&mut self, name: &str, whole: bool) {
        let heading = match self.look {
            Look::Text(_) => self.bold(name),
            Look::Markdown if whole => format!("# `{name}`"),
            Look::Markdown => format!("### `{name}`"),
        };
        self.line("");
        self.line(&heading);
    }

    /// A file's name and the comment it begins with.
    pub fn file(&mut self, name: &str, text: &str) {
        self.name(name, true);
        self.lines(header::comment(text));
    }

    /// A library program's name and its header: all of it, or title and idea.
    pub fn program(&mut self, name: &str, text: &str, whole: bool) {
        self.name(name, whole);
        match (self.look, whole) {
            (Look::Text(_), true) => self.lines(header::comment(text)),
            (_, false) => {
                let header = Header::of(text);
                let idea = wrap(&header.idea, 98);
                self.lines(std::iter::once(format!("{}.", header.title)).chain(idea));
            }
            (Look::Markdown, true) => self.header(&Header::of(text)),
        }
    }

    fn lines(&mut self, lines: impl Iterator<Item = impl AsRef<str>>) {
        let mut lines = lines.peekable();
        if matches!(self.look, Look::Markdown) && lines.peek().is_some() {
            self.line("");
        }
        for line in lines {
            match self.look {
                Look::Text(_) => self.line(&format!("    {}", line.as_ref())),
                Look::Markdown => self.line(line.as_ref()),
            }
        }
    }

    /// A header as Markdown.
    fn header(&mut self, header: &Header) {
        self.paragraph(&format!("**{}.** {}", header.title, header.citation));
        self.paragraph(&header.idea);
        if !header.equation.is_empty() {
            self.fenced("text", header.equation.iter().map(String::as_str));
        }
        for note in &header.notes {
            self.paragraph(note);
        }
        for (label, text) in [
            ("Family", &header.family),
            ("Confidence", &header.confidence),
            ("Choices", &header.choices),
            ("To train", &header.to_train),
        ] {
            if !text.is_empty() {
                self.paragraph(&format!("**{label}:** {}", text.trim_end_matches('.')));
            }
        }
    }

    /// Words as a paragraph.
    pub fn paragraph(&mut self, text: &str) {
        self.line("");
        for line in wrap(text, 118) {
            self.line(&line);
        }
    }

    /// Lines as they are, in Markdown.
    pub fn fenced<'b>(&mut self, kind: &str, lines: impl Iterator<Item = &'b str>) {
        self.line("");
        self.line(&format!("```{kind}"));
        for line in lines {
            self.line(line);
        }
        self.line("```");
    }

    /// A program's params, in a list.
    pub fn params(&mut self, params: &[Param]) {
        self.line("");
        match self.look {
            Look::Text(_) => {
                for p in params {
                    let head = format!("    {} = {}", p.name, p.value);
                    let file = self.dim(&format!("({})", short(&p.file)));
                    self.line(&format!("{head}  {file}"));
                    for line in p.doc.lines() {
                        self.line(&format!("        {line}"));
                    }
                }
                if params.is_empty() {
                    self.line("    no params");
                }
            }
            Look::Markdown if params.is_empty() => self.line("No params."),
            Look::Markdown => {
                self.line("| param | default | from | meaning |");
                self.line("|---|---|---|---|");
                for p in params {
                    let doc = p.doc.replace('\n', " ").replace('|', "\\|");
                    self.line(&format!(
                        "| `{}` | `{}` | {} | {doc} |",
                        p.name,
                        p.value,
                        short(&p.file)
                    ));
                }
            }
        }
    }

    /// What a file says, kind by kind; params of the library were listed before.
    pub fn parts(&mut self, entries: &[Entry]) {
        for kind in KINDS {
            let own: Vec<&Entry> = entries.iter().filter(|e| e.kind == kind).collect();
            if own.is_empty()
                || (kind == "params" && own.iter().all(|e| e.place.starts_with("stdlib/")))
            {
                continue;
            }
            let mut title = kind.to_owned();
            title.get_mut(..1).map(str::make_ascii_uppercase).unwrap_or_default();
            self.heading(&title);
            for entry in own {
                self.entry(entry);
            }
        }
    }
}

/// An objective's name from its source's.
fn short(file: &str) -> &str {
    let own = ["stdlib/objectives/", "stdlib/recipes/"].iter().find_map(|f| file.strip_prefix(f));
    own.and_then(|f| f.strip_suffix(".rl")).unwrap_or(file)
}
