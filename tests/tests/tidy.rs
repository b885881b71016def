//! House rules that no compiler checks.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use std::path::PathBuf;
use std::process::Command;

use rlc_tests::{root, short};

/// Files that may be longer than the rest, and why.
const LONG: &[(&str, &str)] = &[];

/// All files that git knows and that are there.
fn tracked() -> Vec<PathBuf> {
    let listed = Command::new("git").arg("ls-files").arg("-z").current_dir(root()).output();
    let listed = listed.ok().filter(|o| o.status.success()).map(|o| o.stdout).unwrap_or_default();
    let names = String::from_utf8(listed).unwrap();
    let found: Vec<PathBuf> = names
        .split('\0')
        .filter(|n| !n.is_empty())
        .map(|n| root().join(n))
        .filter(|p| p.is_file())
        .collect();
    if !found.is_empty() {
        return found;
    }
    // An unpacked archive has no git: the source folders as they are.
    ["cli", "compiler", "runtime", "tests", "docs", "stdlib", "grammar", "examples"]
        .iter()
        .flat_map(|folder| rlc_tests::files(folder, ""))
        .collect()
}

fn texts(endings: &[&str]) -> Vec<(String, String)> {
    tracked()
        .into_iter()
        .filter(|p| endings.iter().any(|e| p.to_str().unwrap().ends_with(e)))
        .map(|p| (short(&p), std::fs::read_to_string(&p).unwrap()))
        .collect()
}

#[test]
fn every_module_says_what_it_is() {
    let silent: Vec<String> = texts(&[".rs"])
        .into_iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(name, _)| name)
        .collect();
    assert!(silent.is_empty(), "these do not begin with `//! `: {silent:#?}");
}

#[test]
fn no_file_is_long() {
    let mut faults = Vec::new();
    for (name, text) in texts(&[".rs", ".rl", ".pest", ".py", ".md"]) {
        let lines = text.lines().count();
        let allowed = LONG.iter().any(|(file, _)| *file == name);
        if lines > 600 && !allowed {
            faults.push(format!("{name} has {lines} lines; over 600 is a sign"));
        }
        if lines <= 600 && allowed {
            faults.push(format!("{name} is not long any more: take it off the list"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What a file of one machine looks like, in parts so that this file does not find itself.
const FOREIGN: [[&str; 2]; 6] =
    [["/work", "/"], ["/home", "/"], ["/root", "/"], ["/tmp", "/"], ["C:", "\\"], ["/Users", "/"]];

#[test]
fn no_path_of_a_machine() {
    let mut faults = Vec::new();
    let endings = [".rs", ".rl", ".toml", ".md", ".py", ".json", ".pest", ".sh", ".lock", "/run"];
    for (name, text) in texts(&endings) {
        for (number, line) in text.lines().enumerate() {
            for parts in FOREIGN {
                let path = parts.concat();
                let own = line.match_indices(&path).any(|(at, _)| {
                    // Part of a longer path or address is something else.
                    !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || "./_-".contains(c))
                });
                if own {
                    faults.push(format!("{name}:{}: {}", number + 1, line.trim()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_compiler_stays_pure() {
    let mut faults = Vec::new();
    for (name, text) in texts(&[".rs"]) {
        if !name.starts_with("compiler/src") {
            continue;
        }
        for forbidden in
            ["std::fs", "std::env", "std::thread", "std::net", "std::process", "unsafe {"]
        {
            if text.lines().any(|l| l.contains(forbidden) && !l.trim_start().starts_with("//")) {
                faults.push(format!("{name} uses {forbidden}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Where `unsafe` may stand, and what for.
const UNSAFE: &[(&str, &str)] = &[
    ("runtime/src/device/", "running compiled kernels"),
    ("cli/src/allocator.rs", "the allocator: its settings, and advice on pages"),
    ("runtime/model/src/gemm.rs", "matrix products through candle's own gemm"),
    ("runtime/src/train/assets.rs", "one environment variable, set before any thread starts"),
];

#[test]
fn unsafe_code_keeps_to_its_places() {
    let mut faults = Vec::new();
    for (name, text) in texts(&[".rs"]) {
        let allowed = name.starts_with("tests/") || UNSAFE.iter().any(|u| name.starts_with(u.0));
        let code = || text.lines().filter(|l| !l.trim_start().starts_with("//"));
        let forms = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
        if !allowed && code().any(|l| forms.iter().any(|f| l.contains(f))) {
            faults.push(name);
        }
    }
    assert!(faults.is_empty(), "unsafe code outside of {UNSAFE:?}: {faults:?}");
}

#[test]
fn params_of_the_library_are_documented() {
    let mut read = 0;
    for path in ["objectives", "recipes"]
        .map(|f| format!("stdlib/{f}"))
        .iter()
        .flat_map(|f| rlc_tests::files(f, ".rl"))
    {
        let name = short(&path);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate().filter(|(_, l)| l.starts_with("param ")) {
            let documented = i > 0 && lines[i - 1].starts_with("## ");
            assert!(documented, "{name}:{}: `{line}` has no `##` with unit and source", i + 1);
        }
        read += 1;
    }
    assert_eq!(
        read,
        rlc_compiler::stdlib::library().count(),
        "the library is what its folders hold"
    );
}
