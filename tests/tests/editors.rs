//! The editor extension knows the words of the language, and names files that are there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use rlc_compiler::parse::{INNER_WORDS, STATEMENT_WORDS};
use serde_json::Value;

fn json(name: &str) -> Value {
    let path = rlc_tests::root().join("editors/vscode").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn the_grammar_knows_every_word() {
    let grammar = json("syntaxes/rl.tmLanguage.json");
    let patterns = grammar["patterns"].as_array().unwrap();
    let all: String = patterns.iter().map(|p| p["match"].as_str().unwrap()).collect();
    let words: Vec<&str> = all.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    for word in STATEMENT_WORDS.iter().chain(&INNER_WORDS) {
        // `\b` before the first word of a group is read with it.
        let known = words.iter().any(|w| w == word || w.strip_prefix('b') == Some(word));
        assert!(known, "`{word}` has no colour");
    }
}

#[test]
fn the_manifest_names_files_that_are_there() {
    let manifest = json("package.json");
    json("language-configuration.json");
    let main = manifest["main"].as_str().unwrap();
    assert!(rlc_tests::root().join("editors/vscode").join(main).is_file());
    let parts = &manifest["contributes"];
    json(parts["grammars"][0]["path"].as_str().unwrap());
    json(parts["languages"][0]["configuration"].as_str().unwrap());
    assert_eq!(parts["languages"][0]["extensions"][0], ".rl");
}
