//! From what the user names a program by, a file or a library objective, to its text, and the files
//! that it extends.

use std::cell::RefCell;
use std::io::Read;
use std::path::{Path, PathBuf};

use rlc_compiler::diagnostic::nearest;
use rlc_compiler::link::Loader;
use rlc_compiler::source::{FileId, Source, Sources};
use rlc_compiler::stdlib;

use crate::failure::{Failure, Outcome};
use crate::output::plain;

/// Files one program may consist of. Far more than anyone writes; stops a generator gone wild.
const MOST_FILES: usize = 64;

/// What help texts call the argument.
pub const HELP: &str = "A file, the name of a library objective, or `-` for stdin";

/// A program whose text was read.
#[derive(Debug)]
pub struct Program {
    /// Its text.
    pub sources: Sources,
    /// Where it is in there.
    pub root: FileId,
    /// Reads the files it extends.
    pub files: Files,
}

/// Reads the program a command names.
pub fn open(name: &str) -> Outcome<Program> {
    let files = Files::default();
    let source = if name == "-" {
        Source { name: "<stdin>".into(), text: stdin()?, library: false }
    } else if is_path(name) {
        let text = text_of(name)?;
        files.remember(Path::new(name), name);
        Source { name: name.to_owned(), text, library: false }
    } else if let Some((name, text)) = stdlib::objective(name) {
        Source { name: name.to_owned(), text: text.to_owned(), library: true }
    } else {
        return Err(unknown(name));
    };
    let mut sources = Sources::default();
    let root = sources.add(source);
    Ok(Program { sources, root, files })
}

/// The text of a file, or of stdin for `-`.
pub fn text_of(name: &str) -> Outcome<String> {
    if name == "-" {
        return stdin();
    }
    read(Path::new(name))
        .map_err(|why| Failure::input(format!("cannot read `{name}`: {why}"), unread_help(name)))
}

/// True where a command reads `name` as a path rather than as a library objective's name.
pub fn is_path(name: &str) -> bool {
    let path = Path::new(name);
    path.extension().is_some_and(|e| e == "rl") || path.is_file() || name.contains('/')
}

fn unread_help(name: &str) -> String {
    let path = Path::new(name);
    let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or("");
    if path.is_dir() {
        "name a file in it".into()
    } else if path.exists() {
        "a program is UTF-8 text, in a file that can be read".into()
    } else if stdlib::objective(stem).is_some() {
        format!("the library's objective is named without the ending: `{stem}`")
    } else {
        "a program is a file, or a library objective's name: `rlc recipes` lists them".into()
    }
}

/// The failure of a name that is neither a file nor in the library.
pub fn unknown(name: &str) -> Failure {
    let message = if Path::new(name).is_dir() {
        format!("`{name}` is a folder")
    } else {
        format!("there is no file and no library objective `{name}`")
    };
    let help = match nearest(name, stdlib::library().map(|o| o.0)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`rlc recipes` lists the library; a file's name ends in .rl".into(),
    };
    Failure::input(message, help)
}

fn stdin() -> Outcome<String> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .read_to_end(&mut bytes)
        .map_err(|e| Failure::input(format!("cannot read stdin: {}", plain(&e)), ""))?;
    text(bytes).map_err(|why| Failure::input(format!("cannot read stdin: {why}"), ""))
}

/// The text of a file, or why there is none.
pub fn text_at(path: &Path) -> Result<String, String> {
    read(path)
}

fn read(path: &Path) -> Result<String, String> {
    if path.is_dir() {
        return Err("it is a folder".into());
    }
    text(std::fs::read(path).map_err(|e| plain(&e))?)
}

fn text(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.len() >= u32::MAX as usize {
        return Err("it is over 4 GiB long".into());
    }
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        let line = e.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
        format!("byte {at} is not UTF-8 text, in line {line}")
    })
}

/// Reads `extend "path"` relative to the file that says so, and knows a file under any spelling of
/// its path, so that a circle is found.
#[derive(Debug, Default)]
pub struct Files {
    known: RefCell<Vec<(PathBuf, String)>>,
}

impl Files {
    /// The name under which `path` was read first; `name` from now on.
    fn remember(&self, path: &Path, name: &str) -> String {
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut known = self.known.borrow_mut();
        if let Some((_, first)) = known.iter().find(|(p, _)| *p == real) {
            return first.clone();
        }
        known.push((real, name.to_owned()));
        name.to_owned()
    }
}

impl Loader for Files {
    fn load(&self, from: &str, path: &str) -> Result<(String, String), String> {
        if self.known.borrow().len() >= MOST_FILES {
            return Err(format!("a program is at most {MOST_FILES} files"));
        }
        let folder = Path::new(from).parent().unwrap_or(Path::new(""));
        let joined = folder.join(path);
        let text = read(&joined)?;
        let shown = joined.components().collect::<PathBuf>().display().to_string();
        Ok((self.remember(&joined, &shown), text))
    }
}
