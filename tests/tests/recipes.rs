//! Every program of the library is a citizen: it says what it is, and every command that shows a program works on it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use std::sync::atomic::AtomicBool;

use rlc_cli::output::{Output, between};
use rlc_cli::recipes::header::Header;
use rlc_cli::run::learner;
use rlc_cli::{answer, doc, recipes};
use rlc_compiler::diagnostic::Severity;
use rlc_compiler::stdlib;
use rlc_runtime::train::config::Config;
use rlc_runtime::train::report::Silent;
use rlc_runtime::train::{TrainError, Trainer};
use rlc_tests::{check_text, root};

/// Runs a command line for every program of the library; what is wrong with its answer, if anything, is a fault.
fn each(args: impl Fn(&str, &str) -> Vec<String>, wrong: impl Fn(&str, &str) -> Option<String>) {
    let mut faults = Vec::new();
    for (name, path, _) in stdlib::library() {
        let line = args(name, path);
        let (code, said) = answer(&line.iter().map(String::as_str).collect::<Vec<_>>());
        if code != 0 || !said.err.is_empty() {
            faults.push(format!("{line:?} gives {code}:\n{}", said.err));
        } else if let Some(fault) = wrong(name, &said.out) {
            faults.push(format!("{line:?}: {fault}\n{}", said.out));
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn lacks(out: &str, what: &str) -> Option<String> {
    (!out.contains(what)).then(|| format!("lacks {what:?}"))
}

#[test]
fn headers_are_complete() {
    let mut faults = Vec::new();
    for (name, path, text) in stdlib::library() {
        let header = Header::of(text);
        let mut own = header.faults();
        if path.contains("/recipes/") && header.citation.is_empty() {
            own.push("no publication below the title".to_owned());
        }
        faults.extend(own.into_iter().map(|f| format!("{name}: {f}")));
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn checked_without_findings() {
    let mut faults = Vec::new();
    for (name, _, text) in stdlib::library() {
        // As a user's file: the library's own are not warned of.
        let (checked, found, _) = check_text("copy.rl", text);
        let found: Vec<String> = found
            .iter()
            .filter(|d| d.severity != Severity::Note)
            .map(|d| format!("{} {}", d.code, d.message))
            .collect();
        if checked.is_none() || !found.is_empty() {
            faults.push(format!("{name}: {}", found.join("; ")));
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn explained() {
    each(|name, _| words(&format!("explain {name}")), |_, out| lacks(out, "Coupling"));
}

#[test]
fn typeset() {
    each(
        |name, _| words(&format!("explain {name} --latex")),
        |_, out| lacks(out, "\\begin{aligned}").or_else(|| lacks(out, "imize}")),
    );
}

#[test]
fn drawn() {
    each(
        |name, _| words(&format!("plot {name} --json")),
        |_, out| {
            let value: serde_json::Value = serde_json::from_str(out).unwrap();
            let points = value["surrogate"][0]["points"].as_array().map_or(0, Vec::len);
            (points < 100).then(|| format!("{points} points"))
        },
    );
}

#[test]
fn compared_with_grpo() {
    each(
        |name, _| words(&format!("diff grpo {name} --json")),
        |name, out| lacks(out, &format!("\"{name}\"")),
    );
}

#[test]
fn formatted_and_documented() {
    each(
        |_, path| vec!["fmt".into(), "--check".into(), root().join(path).display().to_string()],
        |_, _| None,
    );
    each(
        |name, _| words(&format!("doc {name} --markdown")),
        |name, out| lacks(out, &format!("# `{name}`")),
    );
}

#[test]
fn listed_and_shown() {
    let (code, said) = answer(&["recipes", "--json"]);
    assert_eq!(code, 0, "{}", said.err);
    let listed: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), stdlib::library().count());
    let (_, table) = answer(&["recipes"]);
    for line in table.out.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    for (name, _, text) in stdlib::library() {
        assert!(table.out.lines().any(|l| l.split_whitespace().next() == Some(name)), "{name}");
        assert_eq!(answer(&["recipes", "show", name]).1.out, *text);
    }
}

/// One step of the arithmetic task: either it is done, or a column is missing that the task does not give, by name.
#[test]
fn trained_where_the_task_gives_the_columns() {
    let place = tempfile::tempdir().unwrap();
    let (mut faults, mut trained) = (Vec::new(), 0);
    for recipe in recipes::all(|_, _| true).unwrap() {
        let mut config =
            Config { objective: recipe.name.to_owned(), steps: Some(1), ..Config::default() };
        (config.rollout.prompts, config.rollout.samples) = (2, 3);
        config.rollout.max_new_tokens = 8;
        (config.data.digits, config.eval.problems) = (1, 0);
        config.checkpoint.dir = Some(place.path().join(recipe.name).display().to_string());
        let config = config.resolve().unwrap();
        let (learner, program) = learner(&config, &Output::keeping()).unwrap();
        let ended = Trainer::create(config, learner, program, false)
            .and_then(|mut t| t.train(&AtomicBool::new(false), &mut Silent));
        match ended {
            Ok(_) => trained += 1,
            Err(TrainError::Column(said)) if recipe.extra().iter().any(|c| said.contains(c)) => {}
            Err(error) => faults.push(format!("{}: {error}", recipe.name)),
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
    assert!(trained >= stdlib::OBJECTIVES.len(), "{trained} trained");
}

/// `docs/recipes.md` has the table of the library; `RLC_BLESS=1` writes it.
#[test]
fn the_documentation_lists_the_library() {
    let path = root().join("docs/recipes.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let all = recipes::all(|_, _| true).unwrap();
    let index = doc::site::index(&all, |r| format!("../{}", r.path));
    let new = between(&page, "rlc doc", &index).expect("docs/recipes.md has a place for the table");
    if std::env::var_os("RLC_BLESS").is_some() {
        std::fs::write(&path, new).unwrap();
    } else {
        assert!(page == new, "docs/recipes.md lists another library: RLC_BLESS=1 writes its table");
    }
}
