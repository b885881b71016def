//! What a command prints and where: results to stdout, everything about them to stderr, and files
//! whole or not at all.

use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use clap::ValueEnum;

pub use rlc_model::error::plain;

use crate::failure::{Failure, Outcome};
use crate::report::Look;

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// What the arguments ask for, before they are parsed: usage errors have colours too.
    pub fn asked(args: &[OsString]) -> Color {
        let args: Vec<_> = args.iter().filter_map(|a| a.to_str()).collect();
        let value = args.iter().enumerate().find_map(|(i, a)| match a.strip_prefix("--color") {
            Some("") => args.get(i + 1).copied(),
            Some(rest) => rest.strip_prefix('='),
            None => None,
        });
        match value {
            Some("always") => Color::Always,
            Some("never") => Color::Never,
            _ => Color::Auto,
        }
    }

    /// The same for clap.
    pub fn for_clap(self) -> clap::ColorChoice {
        match self {
            Color::Auto => clap::ColorChoice::Auto,
            Color::Always => clap::ColorChoice::Always,
            Color::Never => clap::ColorChoice::Never,
        }
    }

    fn on(self, terminal: bool) -> bool {
        let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
            }
        }
    }
}

/// Where a command's words go.
#[derive(Debug, Clone)]
pub struct Output {
    stdout: bool,
    stderr: bool,
    kept: Option<Arc<Mutex<Kept>>>,
}

/// What was printed, where it is kept instead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Meant for stdout.
    pub out: String,
    /// Meant for stderr.
    pub err: String,
}

impl Output {
    /// Colours as asked.
    pub fn new(color: Color) -> Output {
        Output {
            stdout: color.on(std::io::stdout().is_terminal()),
            stderr: color.on(std::io::stderr().is_terminal()),
            kept: None,
        }
    }

    /// Prints nothing and keeps it, without colours.
    pub fn keeping() -> Output {
        Output { stdout: false, stderr: false, kept: Some(Arc::default()) }
    }

    /// What was kept so far.
    pub fn kept(&self) -> Kept {
        let kept = self.kept.as_ref().map(|k| k.lock().unwrap_or_else(PoisonError::into_inner));
        kept.map(|k| k.clone()).unwrap_or_default()
    }

    fn keep(&self, add: impl FnOnce(&mut Kept)) -> bool {
        let kept = self.kept.as_ref().map(|k| k.lock().unwrap_or_else(PoisonError::into_inner));
        kept.map(|mut k| add(&mut k)).is_some()
    }

    /// How reports look on stderr: as wide as the terminal, or 80.
    pub fn look(&self) -> Look {
        Look { color: self.stderr, width: self.kept.as_ref().map(|_| 80) }
    }

    /// Writes to stdout.
    pub fn print(&self, text: &str) -> Outcome {
        if self.keep(|k| k.out.push_str(text)) {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        let done = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        done.map_err(|e| match e.kind() {
            ErrorKind::BrokenPipe => Failure::ReaderGone,
            _ => Failure::running(format!("cannot write to stdout: {}", plain(&e)), ""),
        })
    }

    /// Writes to stderr. That nobody listens there is no reason to stop.
    pub fn say(&self, text: &str) {
        if self.keep(|k| k.err.push_str(text)) {
            return;
        }
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    /// Says something that is worth knowing and stops nothing.
    pub fn warn(&self, text: &str) {
        let word = paint(self.stderr, "33;1", "warning");
        self.say(&format!("{word}: {text}\n"));
    }

    /// [`Output::warn`] for whoever outlives this.
    pub fn warner(&self) -> impl Fn(&str) + Send + 'static {
        let copy = self.clone();
        move |text| copy.warn(text)
    }

    /// Prints why a command stopped; the exit code.
    pub fn fail(&self, failure: &Failure) -> u8 {
        match failure {
            Failure::Reported(code) => *code,
            Failure::ReaderGone => 0,
            Failure::Said { code, message, help } => {
                let mut text = format!("{}: ", paint(self.stderr, "31;1", "error"));
                text.push_str(&message.replace('\n', "\n       "));
                text.push('\n');
                if !help.is_empty() {
                    text.push_str(&paint(self.stderr, "36", " help"));
                    text.push_str(": ");
                    text.push_str(&help.replace('\n', "\n       "));
                    text.push('\n');
                }
                self.say(&text);
                *code
            }
        }
    }

    /// Text for stdout that stands out.
    pub fn bold(&self, text: &str) -> String {
        paint(self.stdout, "1", text)
    }

    /// Text for stdout that stands back.
    pub fn dim(&self, text: &str) -> String {
        paint(self.stdout, "2", text)
    }
}

fn paint(on: bool, style: &str, text: &str) -> String {
    if on { format!("\x1b[{style}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Writes a file so that whoever looks sees the old one or the whole new one.
pub fn write_file(path: &Path, bytes: &[u8]) -> Outcome {
    let fail = |e: std::io::Error| {
        Failure::running(format!("cannot write `{}`: {}", path.display(), plain(&e)), "")
    };
    if path == Path::new("-") {
        return Err(Failure::input(
            "`-` is stdin where a program is read, and no file to write",
            "name a file; `./-` is one of that name",
        ));
    }
    if path.is_dir() {
        return Err(Failure::input(
            format!("`{}` is a folder", path.display()),
            "name a file in it",
        ));
    }
    // A link is followed, so that it stays one; devices and pipes cannot be replaced.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if target.exists() && !target.is_file() {
        return fs::write(&target, bytes).map_err(fail);
    }
    let folder = match target.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Err(Failure::running(
            format!("cannot write `{}`: {}", path.display(), plain(&ErrorKind::NotFound.into())),
            format!("`{}` must be a folder: `mkdir -p` makes it", folder.display()),
        ));
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(".rlc-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As any new file: what the umask leaves of these.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    file.as_file().sync_all().map_err(fail)?;
    file.persist(&target).map_err(|e| fail(e.error))?;
    Ok(())
}

/// A page whose part between the lines `<!-- NAME -->` and `<!-- /NAME -->` is `part`; none where it lacks these lines.
pub fn between(page: &str, name: &str, part: &str) -> Option<String> {
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = page.split_once(&open)?;
    let (_, after) = rest.split_once(&close)?;
    let gap = if part.ends_with('\n') || part.is_empty() { "" } else { "\n" };
    Some(format!("{before}{open}{part}{gap}{close}{after}"))
}
