//! `rlc compare` as a process: a small comparison that is stopped, continued, extended and refused.
#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

/// Steps of a few milliseconds each.
const TASK: &str = "\
steps = 6
[data]
digits = 1
[rollout]
prompts = 2
samples = 4
max_new_tokens = 12
[eval]
problems = 4
every = 2
greedy = false
";

fn rlc(folder: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rlc"));
    command.args(line.split(' ')).current_dir(folder).stdin(Stdio::null());
    command
}

/// Exit code, stdout, stderr.
fn done(folder: &Path, line: &str) -> (i32, String, String) {
    let done = rlc(folder, line).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code().unwrap(), text(&done.stdout), text(&done.stderr))
}

#[track_caller]
fn fails(folder: &Path, line: &str, said: &str) {
    let (code, _, err) = done(folder, line);
    assert_eq!(code, 2, "{line}: {err}");
    assert!(err.contains(said), "{line}: {said:?} is not in:\n{err}");
}

/// When each finished run was kept.
fn results(out: &Path) -> Vec<(String, SystemTime)> {
    let mut all = Vec::new();
    for program in ["grpo", "calibadv", "mine"] {
        for seed in 0..3 {
            let path = out.join(format!("runs/{program}/seed-{seed}/result.json"));
            if let Ok(data) = std::fs::metadata(&path) {
                all.push((format!("{program} {seed}"), data.modified().unwrap()));
            }
        }
    }
    all
}

#[test]
fn a_comparison_is_stopped_continued_and_extended() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    std::fs::write(folder.join("task.toml"), TASK).unwrap();
    std::fs::write(folder.join("mine.rl"), "advantage = center(reward)\n").unwrap();
    std::fs::write(
        folder.join("page.md"),
        "before\n<!-- rlc compare -->\nold\n<!-- /rlc compare -->\nafter\n",
    )
    .unwrap();
    let out = folder.join("c");
    let line = "compare grpo calibadv --task task.toml --seeds 2 --out c --jobs 1";

    // Stopped once something is kept: what was under way goes, what is over stays.
    let mut child = rlc(folder, line).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while results(&out).is_empty() {
        assert!(begun.elapsed() < Duration::from_mins(4), "no run is over");
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be stopped");
        std::thread::sleep(Duration::from_millis(20));
    }
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let kept = results(&out);
    assert!(!kept.is_empty() && kept.len() < 4, "{kept:?}");
    assert!(!out.join("report.html").exists());

    let (code, text, err) = done(folder, &format!("{line} --markdown page.md"));
    assert_eq!(code, 0, "{err}");
    assert!(err.contains(&format!("{} of 4 runs are there", kept.len())), "{err}");
    let after = results(&out);
    assert_eq!(after.len(), 4);
    assert!(kept.iter().all(|k| after.contains(k)), "{kept:?} {after:?}");
    for part in ["grpo", "calibadv", "0/2", "CalibAdv's first claim", "against grpo"] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    let csv = std::fs::read_to_string(out.join("runs.csv")).unwrap();
    assert_eq!(csv.lines().count(), 5);
    assert!(
        csv.lines()
            .all(|l| l.split(',').count() == csv.split('\n').next().unwrap().split(',').count())
    );
    let html = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
    assert!(html.matches("<svg").count() == 3 && !html.contains("NaN"));
    assert!(html.contains("<polygon") && html.contains("prefers-color-scheme: dark"));
    let page = std::fs::read_to_string(folder.join("page.md")).unwrap();
    assert!(
        page.starts_with("before\n<!-- rlc compare -->\n| program |")
            && page.ends_with("-->\nafter\n")
    );
    assert!(page.contains("| `calibadv` | ") && !page.contains("old"));

    // The same again does nothing; a program and a seed are added; the same seeds give the same numbers.
    let (code, json, _) =
        done(folder, &format!("{} mine.rl --json", line.replace("--seeds 2", "--seeds 3")));
    assert_eq!(code, 0);
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["programs"].as_array().unwrap().len(), 3);
    assert_eq!(value["programs"][2]["runs"], 3);
    assert!(after.iter().all(|k| results(&out).contains(k)));
    let again = std::fs::read_to_string(out.join("runs.csv")).unwrap();
    let numbers = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        [&fields[..4], &fields[5..]].concat().join(",")
    };
    for line in csv.lines() {
        assert!(again.lines().any(|l| numbers(l) == numbers(line)), "{line}");
    }

    // Other settings are refused by name.
    fails(folder, &format!("{line} --steps 8"), "steps = 6 there, 8 here");
    fails(folder, &format!("{line} --seconds 30"), "--seconds 60 there, 30 here");
    fails(folder, &format!("{line} --set grpo.clip_high=0.3"), "`grpo` changed, or its --set");
    std::fs::write(folder.join("mine.rl"), "advantage = leave_one_out(reward)\n").unwrap();
    fails(folder, &line.replace("calibadv", "mine.rl"), "`mine` changed, or its --set");
    std::fs::write(folder.join("task.toml"), TASK.replace("digits = 1", "digits = 2")).unwrap();
    fails(folder, line, "data.digits = 1 there, 2 here");
}

#[test]
fn bad_input_is_named() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    std::fs::write(
        folder.join("needs.rl"),
        "input x : real @ turn\nadvantage = center(reward) * x @ token\n",
    )
    .unwrap();
    std::fs::write(folder.join("task.toml"), TASK).unwrap();
    std::fs::write(folder.join("page.md"), "nothing here\n").unwrap();
    fails(folder, "compare grpo", "needs two programs");
    fails(folder, "compare grpo grop", "did you mean `grpo`?");
    fails(folder, "compare grpo ./other.rl", "cannot read");
    fails(folder, "compare grpo dapo --set nope=1", "no param `nope`");
    fails(folder, "compare grpo dapo --set dapo.nope=1", "dapo: the program has no param `nope`");
    fails(folder, "compare grpo dapo --seeds 0", "--seeds 0");
    fails(folder, "compare grpo dapo --task chess", "there is no task `chess`");
    fails(folder, "compare grpo dapo --markdown page.md", "does not say where the table goes");
    fails(folder, "compare grpo needs.rl --task task.toml --seeds 1", "needs, seed 0: ");
    assert!(!folder.join("runs/compare/report.html").exists());
}

#[test]
fn a_run_that_uses_up_its_time_ends_there() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    std::fs::write(folder.join("task.toml"), TASK.replace("steps = 6", "steps = 100000")).unwrap();
    let line = "compare grpo dapo --task task.toml --seeds 1 --out c --seconds 2 --json";
    let (code, json, err) = done(folder, line);
    assert_eq!(code, 0, "{err}");
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&value["programs"][0]["cut"], &value["programs"][1]["cut"]),
        (&1.into(), &1.into())
    );
    assert!(value["sentences"].to_string().contains("Ended by the limit of processor time"));
}
