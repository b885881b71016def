//! `rlc explain --latex` as a user meets it. That KaTeX renders what is printed is tested
//! beside the code; here its shape is looked at.
#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::process::{Command, Stdio};

fn latex(folder: &std::path::Path, program: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rlc"));
    command.args(["explain", program, "--latex"]).current_dir(folder).stdin(Stdio::null());
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[track_caller]
fn is_whole(text: &str) {
    assert!(text.starts_with("\\begin{aligned}") && text.ends_with("\\end{aligned}\n"), "{text}");
    for (open, close) in [("{", "}"), ("\\left", "\\right"), ("\\begin", "\\end")] {
        assert_eq!(text.matches(open).count(), text.matches(close).count(), "{open}:\n{text}");
    }
}

#[test]
fn the_library_as_mathematics() {
    let folder = tempfile::tempdir().unwrap();
    for (name, _, _) in rlc_compiler::stdlib::library() {
        is_whole(&latex(folder.path(), name));
    }
    let grpo = latex(folder.path(), "grpo");
    for said in [
        "&\\text{minimize} \\quad \\mathrm{loss}",
        "\\mathrm{ratio} &= \\exp\\left( \\mathrm{logp} - \\mathrm{old\\_logp} \\right)",
        "\\begin{cases} 0 & \\text{if } \\beta = 0",
    ] {
        assert!(grpo.contains(said), "{said:?} is not in:\n{grpo}");
    }
}

#[test]
fn only_the_base_that_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let text = "extend dr_grpo\nadvantage = 2 * base.advantage\n";
    std::fs::write(folder.path().join("mine.rl"), text).unwrap();
    let out = latex(folder.path(), "mine.rl");
    assert_eq!(out.matches("^{\\text{base}} &=").count(), 1, "{out}");
    assert!(!out.contains("group\\_norm"), "grpo's advantage, which dr_grpo replaces:\n{out}");
}

#[test]
fn a_file_with_brackets_and_base() {
    let folder = tempfile::tempdir().unwrap();
    let text = "param k = 1e-3\ntoken_loss = base.token_loss * (2 - (k - 1)) - (if k > 0 then 1 else 2) ^ 2\n\
                loss = mean(token_loss where not truncated) / -k\n";
    std::fs::write(folder.path().join("mine.rl"), text).unwrap();
    let out = latex(folder.path(), "mine.rl");
    is_whole(&out);
    for said in [
        "\\left( 2 - \\left( k - 1 \\right) \\right)",
        "\\mathrm{token\\_loss}^{\\text{base}} &= \\mathrm{penalty}",
        "\\ \\middle|\\ \\lnot \\mathrm{truncated}",
        "\\frac{",
    ] {
        assert!(out.contains(said), "{said:?} is not in:\n{out}");
    }
}

#[test]
fn a_definition_that_was_replaced_before_has_no_line() {
    let folder = tempfile::tempdir().unwrap();
    // bnpo replaces grpo's loss without reading it.
    std::fs::write(folder.path().join("mine.rl"), "extend bnpo\nloss = base.loss * 2\n").unwrap();
    let out = latex(folder.path(), "mine.rl");
    assert_eq!(out.matches("\\mathrm{loss}^{\\text{base}} &=").count(), 1, "{out}");
}
