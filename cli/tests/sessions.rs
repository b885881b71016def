//! What the documentation shows of the command line is what the command line does: every indented
//! `$ rlc ...` (or `$ ... | rlc ...`) with output below it is run in the repository's root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use std::path::{Path, PathBuf};
use std::process::Command;

struct Session {
    place: String,
    command: String,
    output: String,
}

fn sessions(name: &str, page: &str) -> Vec<Session> {
    let mut out: Vec<Session> = Vec::new();
    let mut open = false;
    for (i, line) in page.lines().enumerate() {
        if let Some(command) = line.strip_prefix("    $ ") {
            let (place, command) = (format!("{name}:{}", i + 1), command.to_owned());
            out.push(Session { place, command, output: String::new() });
            open = true;
        } else if let (true, Some(session)) = (open, out.last_mut()) {
            match line.strip_prefix("    ") {
                Some(text) => session.output.push_str(text),
                // A blank line may be part of the output; anything else ends it.
                None if line.is_empty() => {}
                None => {
                    open = false;
                    continue;
                }
            }
            session.output.push('\n');
        }
    }
    out.retain(|s| !s.output.trim().is_empty() && s.command.contains("rlc "));
    out
}

#[test]
fn sessions_in_the_documentation_are_real() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut pages: Vec<PathBuf> = vec![root.join("README.md")];
    for entry in std::fs::read_dir(root.join("docs")).unwrap() {
        pages.push(entry.unwrap().path());
    }
    pages.retain(|p| p.extension().is_some_and(|e| e == "md"));
    let binary = Path::new(env!("CARGO_BIN_EXE_rlc")).parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([binary].into_iter().chain(std::env::split_paths(&path)));
    let path = path.unwrap();
    let mut seen = 0;
    for page in pages {
        let name = page.file_name().unwrap().to_str().unwrap().to_owned();
        for session in sessions(&name, &std::fs::read_to_string(&page).unwrap()) {
            let done = Command::new("sh")
                .args(["-c", &format!("{{ {}; }} 2>&1", session.command)])
                .current_dir(root)
                .env("PATH", &path)
                .output()
                .unwrap();
            let found = String::from_utf8(done.stdout).unwrap();
            assert_eq!(
                found.trim(),
                session.output.trim(),
                "{}: `{}` prints now\n{found}",
                session.place,
                session.command
            );
            seen += 1;
        }
    }
    assert!(seen >= 2, "{seen} sessions");
}
