//! `rlc diff` as a user meets it.
#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

fn place(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// Exit code, stdout, stderr.
fn rlc(folder: &TempDir, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rlc"));
    let done = command.args(args).current_dir(folder.path()).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code().unwrap(), text(&done.stdout), text(&done.stderr))
}

fn diff(folder: &TempDir, a: &str, b: &str) -> String {
    let (code, out, err) = rlc(folder, &["diff", a, b]);
    assert_eq!(code, 0, "{err}");
    // Padding between columns is no matter.
    let mut lines: Vec<String> =
        out.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    lines.push(String::new());
    lines.join("\n")
}

#[test]
fn what_dapo_changes_in_grpo() {
    let wanted = "\
grpo -> dapo
dapo extends bnpo, which extends grpo

Params
clip_high 0.2 -> 0.28

Definitions
- loss = seq_mean(token_loss) grpo
+ loss = token_mean(token_loss) bnpo

Reads as before, and changes with these
metric clip_fraction, surrogate, token_loss

The same: filters, goal, metrics, columns, coupling (token)
";
    let place = place(&[]);
    assert_eq!(diff(&place, "grpo", "dapo"), wanted);
    assert!(rlc(&place, &["diff", "--help"]).1.contains("rlc diff grpo dapo"));
}

#[test]
fn layout_and_comments_are_no_difference() {
    let place = place(&[
        ("a.rl", "# A.\nadvantage = center( reward )  # mine\nmetric m = mean(reward)\n"),
        ("b.rl", "metric m   = mean(reward)\n\n## Doc.\nadvantage=center(\n  reward)\n"),
        ("c.rl", "extend \"a.rl\"\n"),
    ]);
    for (a, b) in [("a.rl", "b.rl"), ("a.rl", "c.rl"), ("gspo", "gspo")] {
        assert!(diff(&place, a, b).contains("no difference"), "{a} {b}");
    }
}

#[test]
fn every_kind_of_change() {
    let place = place(&[(
        "mine.rl",
        "extend gspo\nparam pull = 0.1 in [0, 1]\nkeep group where std(reward per group) > 0\n\
         fn center(x) = x\ntoken_loss = base.token_loss - pull * step_correct\n\
         metric entropy_mean = token_mean(entropy)\n",
    )]);
    let out = diff(&place, "gspo", "mine.rl");
    for said in [
        "+ param pull = 0.1 in [0, 1] mine.rl",
        "+ keep group where std(reward per group) > 0 mine.rl",
        "- fn center(x) = x - mean(x per group) prelude",
        "- token_loss = penalty - surrogate grpo",
        "+ token_loss = base.token_loss - pull * step_correct mine.rl",
        "base.token_loss is `token_loss = penalty - surrogate` (grpo)",
        "+ metric entropy_mean = token_mean(entropy) mine.rl",
        "+ turn/step_correct",
        "The same: goal",
    ] {
        assert!(out.contains(said), "{said:?} is not in:\n{out}");
    }
    let out = diff(&place, "mine.rl", "sft");
    for said in ["- param pull = 0.1 in [0, 1] mine.rl", "- rollout/reward", "rollout -> token"] {
        assert!(out.contains(said), "{said:?} is not in:\n{out}");
    }
    let out = diff(&place, "grpo", "gspo");
    assert!(out.contains("token -> rollout\ncause: `mean(logp - old_logp per rollout)`"), "{out}");
}

#[test]
fn json_and_mistakes() {
    let place = place(&[("broken.rl", "advantage = rewrd\n")]);
    let (code, out, _) = rlc(&place, &["diff", "grpo", "rloo", "--json"]);
    assert_eq!(code, 0);
    let value: Value = serde_json::from_str(&out).unwrap();
    let find = |name: &str| {
        value["changes"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap().clone()
    };
    assert_eq!(find("net_reward")["change"], "added");
    assert_eq!(find("advantage")["change"], "replaced");
    assert_eq!(find("beta")["b"]["text"], "param beta = 0.05");
    assert_eq!(value["coupling"]["b"], "rollout");
    assert_eq!(value["same"], false);
    for (args, said) in [
        (&["diff", "grpo", "dapoo"][..], "did you mean `dapo`?"),
        (&["diff", "grpo", "broken.rl"], "rewrd"),
        (&["diff", "-", "-"], "both programs are stdin"),
        (&["diff", "grpo"], "<B>"),
    ] {
        let (code, out, err) = rlc(&place, args);
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert!(err.contains(said), "{said:?} is not in:\n{err}");
    }
}
