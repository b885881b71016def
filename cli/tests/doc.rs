//! `rlc doc` as a user meets it.
#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::process::{Command, Stdio};

/// Exit code, stdout, stderr.
fn rlc(folder: &std::path::Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rlc"));
    let done = command.args(args).current_dir(folder).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code().unwrap(), text(&done.stdout), text(&done.stderr))
}

#[track_caller]
fn prints(args: &[&str], said: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, err) = rlc(folder.path(), args);
    assert_eq!(code, 0, "{err}");
    for said in said {
        assert!(out.contains(said), "{said:?} is not in:\n{out}");
    }
    out
}

#[test]
fn the_whole_library() {
    let out = prints(
        &["doc"],
        &[
            "fn norm(x, eps = 1e-6 per L = group)",
            "Advantages",
            "Objectives",
            "clip_high = 0.28  (dapo)",
        ],
    );
    // Everything that the prelude defines and every objective is there, with its comment.
    for (name, _, _) in rlc_compiler::stdlib::OBJECTIVES {
        assert!(out.lines().any(|l| l == *name), "{name}");
    }
    for line in rlc_compiler::stdlib::PRELUDE.1.lines().filter_map(|l| l.strip_prefix("## ")) {
        assert!(out.contains(line), "{line:?}");
    }
    prints(&["doc", "--help"], &["Examples:", "rlc doc clipped"]);
}

#[test]
fn one_entry() {
    let out = prints(
        &["doc", "clipped"],
        &[
            "fn clipped(ratio, a, low, high)",
            "The clipped surrogate of PPO",
            "stdlib/prelude.rl:",
            "min(ratio * a",
        ],
    );
    assert!(!out.contains("dual_clipped"), "{out}");
    prints(
        &["doc", "dapo"],
        &["arXiv", "clip_low = 0.2  (grpo)", "clip_high = 0.28  (dapo)", "beta = 0.0"],
    );
    prints(&["doc", "clip_high"], &["In grpo", "In dapo", "param clip_high = 0.28"]);
    prints(&["doc", "temperature"], &["param temperature = 1.0"]);
    // CISPO's base has clip bounds, which CISPO does not read.
    assert!(!prints(&["doc", "cispo"], &["ratio_max = 5"]).contains("clip_low = "));
}

#[test]
fn markdown() {
    let out = prints(
        &["doc", "--markdown"],
        &[
            "# The standard library",
            "### `grpo`",
            "```rl\nfn center(x)\n```",
            "| `clip_high` | `0.28` | dapo |",
        ],
    );
    assert_eq!(out.matches("```").count() % 2, 0);
}

#[test]
fn files_and_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    let text = "# Mine.\n\n## Pull, in nats.\nparam pull = 0.5 in [0, 1]\n\n## Twice.\nfn twice(x) =\n  y = x\n  y + y\n\nkeep token where mask\ntoken_loss = base.token_loss - twice(pull) * entropy\n";
    std::fs::write(folder.path().join("mine.rl"), text).unwrap();
    std::fs::write(folder.path().join("broken.rl"), "advantage = (1\n").unwrap();
    let (code, out, err) = rlc(folder.path(), &["doc", "mine.rl"]);
    assert_eq!((code, err.as_str()), (0, ""));
    for said in [
        "Mine.",
        "Params\n\n  param pull = 0.5 in [0, 1]\n      Pull, in nats.",
        "Functions\n\n  fn twice(x)\n      Twice.",
        "Filters\n\n  keep token where mask",
    ] {
        assert!(out.contains(said), "{said:?} is not in:\n{out}");
    }
    for (args, said) in [
        (&["doc", "cliped"][..], "did you mean `clipped`?"),
        (&["doc", "grop"], "did you mean `grpo`?"),
        (&["doc", "mean"], "a word of the language itself"),
        (&["doc", "qqqqqqqqqq"], "the library has no `qqqqqqqqqq`"),
        (&["doc", "missing.rl"], "cannot read `missing.rl`"),
        (&["doc", "broken.rl"], "E0"),
    ] {
        let (code, out, err) = rlc(folder.path(), args);
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert!(err.contains(said), "{said:?} is not in:\n{err}");
    }
}
