//! `rlc run` as a process: killed, stopped and resumed runs, and what bad input gets.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn rlc() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rlc"));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

const SMALL: &str = "
steps = 12
[rollout]
prompts = 2
samples = 4
[checkpoint]
every = 3
[eval]
problems = 8
greedy = false
";

fn start(dir: &Path, config: &Path) -> Command {
    let mut command = rlc();
    command.arg("run").arg("../examples/arithmetic/calib.rl");
    command.arg("--config").arg(config).arg("--out").arg(dir).arg("--quiet");
    command
}

/// From another folder than the one the run was started in.
fn resume(dir: &Path) -> Output {
    rlc().current_dir(dir).arg("run").arg("--resume").arg(dir).arg("--json").output().unwrap()
}

/// The deterministic part of a run's metrics.
fn metrics(dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap_or_default();
    text.lines()
        .filter_map(|l| serde_json::from_str::<Value>(l).ok())
        .map(|mut v| {
            v.as_object_mut().unwrap().remove("time");
            v
        })
        .collect()
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("run.toml");
    std::fs::write(&config, SMALL).unwrap();
    (dir, config)
}

fn say(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits until the run has written `lines` lines of metrics.
fn wait_for(dir: &Path, lines: usize) {
    let begun = Instant::now();
    while metrics(dir).len() < lines {
        assert!(begun.elapsed() < Duration::from_mins(2), "the run does not get on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_killed_run_resumes_as_if_nothing_had_happened() {
    let (dir, config) = folder();
    let whole = dir.path().join("whole");
    let output = start(&whole, &config).output().unwrap();
    assert!(output.status.success(), "{}", say(&output));
    let expected = metrics(&whole);
    assert_eq!(expected.len(), 12);
    for kill_after in [1, 4, 8] {
        let cut = dir.path().join(format!("cut-{kill_after}"));
        let mut child = start(&cut, &config).stdout(Stdio::null()).spawn().unwrap();
        wait_for(&cut, kill_after);
        child.kill().unwrap();
        child.wait().unwrap();
        let output = resume(&cut);
        assert!(output.status.success(), "{}", say(&output));
        assert_eq!(metrics(&cut), expected, "killed after {kill_after} lines");
        let result: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(result["before"]["problems"], 8);
        let weights = |d: &Path| std::fs::read(d.join("model/model.safetensors")).unwrap();
        assert!(weights(&cut) == weights(&whole), "killed after {kill_after} lines");
    }
}

#[test]
fn states_and_the_reference_model_survive_a_kill() {
    let (dir, config) = folder();
    let program = dir.path().join("stateful.rl");
    let text = "\
state v[prompt] : real @ group = 0.5
update v = 0.9 * v + 0.1 * mean(reward per group)
advantage = reward - v
param beta = 0.04
metric baseline = mean(v)
";
    std::fs::write(&program, text).unwrap();
    // Few prompts, so that each comes back and reads its state.
    let prompts = dir.path().join("prompts.jsonl");
    let lines =
        "{\"prompt\": \"385+467=\", \"answer\": 852}\n{\"prompt\": \"12+70=\", \"answer\": 82}\n";
    std::fs::write(&prompts, lines.repeat(2)).unwrap();
    let start = |out: &Path| {
        let mut command = rlc();
        command.arg("run").arg(&program).arg("--config").arg(&config).arg("--out").arg(out);
        command.args(["--quiet", "--reward", "numeric"]);
        command.arg("--data").arg(&prompts).args(["--prompts", "3"]);
        command
    };
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    let output = start(&whole).output().unwrap();
    assert!(output.status.success(), "{}", say(&output));
    let mut child = start(&cut).spawn().unwrap();
    wait_for(&cut, 8);
    child.kill().unwrap();
    child.wait().unwrap();
    let output = resume(&cut);
    assert!(output.status.success(), "{}", say(&output));
    assert_eq!(metrics(&cut), metrics(&whole));
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_says_how_to_resume() {
    let (dir, config) = folder();
    let cut = dir.path().join("cut");
    let child = start(&cut, &config).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&cut, 1);
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", say(&output));
    assert!(say(&output).contains("rlc run --resume"), "{}", say(&output));
    let output = resume(&cut);
    assert!(output.status.success(), "{}", say(&output));
    assert_eq!(metrics(&cut).len(), 12);
}

#[test]
fn bad_input_is_named_and_nothing_is_written() {
    let (dir, config) = folder();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("typo.toml", "steps = 3\n[optimizer]\nlearning_rat = 1\n");
    write("key.toml", "[optimizer]\nwarmups = 1\n");
    write("long.jsonl", &format!("{{\"prompt\": \"{}\", \"answer\": 1}}\n", "1+".repeat(99)));
    write("open.jsonl", "{\"prompt\": \"1\"}\n");
    write("bad.jsonl", "{\"prompt\": \"1\", \"answer\": 2}\n{oops\n");
    let (calib, prompts) =
        ("../examples/arithmetic/calib.rl", "../examples/arithmetic/prompts.jsonl");
    let nothing = at("nothing");
    let cases: &[(&[&str], &str)] = &[
        (&["grpo", "--config", &at("typo.toml")], "typo.toml:3: unknown key"),
        (&["grpo", "--config", &at("key.toml")], "did you mean `warmup`"),
        (&["grpo", "--config", &nothing], "nothing"),
        (&["grpo", "--data", &at("bad.jsonl")], "bad.jsonl:2: not JSON"),
        (&["grpo", "--data", &nothing], "nothing"),
        (&["grpo", "--data", &at("long.jsonl")], "long.jsonl:1: the prompt has 198 tokens"),
        (&["grpo", "--data", &at("open.jsonl")], "open.jsonl:1: no field \"answer\""),
        (&["grpo", "--model", &nothing], "model.init"),
        (&["grpo", "--set", "clip_hihg=1"], "clip_high"),
        (&["grpo", "--set", "clip_high"], "--set NAME=NUMBER"),
        (&["grpo", "--reward", "numeriq"], "did you mean \"numeric\""),
        (&["grpo", "--lr=-1"], "optimizer.lr"),
        (&["grpo", "--lr", "-1"], "optimizer.lr"),
        (&["grpo", "--steps", "-1"], "invalid value '-1' for '--steps <N>'"),
        (&["grpo", "--dry-run", "--json"], "cannot be used with"),
        (&["grpo", "--data", &nothing], "nothing`: there is no such file or folder"),
        (&["gropo"], "grpo"),
        (&[], "no objective"),
        (&["--resume", &nothing], "not a run's folder"),
        (&["--resume", &nothing, "--lr=1"], "leave out --lr"),
        (&[calib, "--data", prompts], "turn/step_correct"),
    ];
    for (args, wanted) in cases {
        let mut command = rlc();
        command.arg("run").args(*args);
        if !args.contains(&"--resume") {
            command.args(["--out", &at("out")]);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", say(&output));
        assert!(say(&output).contains(wanted), "{args:?}: {}", say(&output));
        assert!(!dir.path().join("out").exists(), "{args:?}");
    }
    let mut command = rlc();
    command.args(["run", "grpo", "--dry-run", "--lr", "0.5", "--config"]).arg(&config);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", say(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("lr = 0.5") && text.contains("steps = 12"), "{text}");
}

#[test]
fn a_damaged_checkpoint_names_the_one_to_go_on_from() {
    let (dir, config) = folder();
    let run = dir.path().join("run");
    let output = start(&run, &config).output().unwrap();
    assert!(output.status.success(), "{}", say(&output));
    let whole = metrics(&run);
    let cut = |file: &str| {
        let path = run.join("checkpoints").join(file);
        let length = std::fs::metadata(&path).unwrap().len();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(length / 2).unwrap();
    };
    cut("step-000012/model/model.safetensors");
    let output = resume(&run);
    assert_eq!(output.status.code(), Some(2), "{}", say(&output));
    let said = say(&output);
    assert!(said.contains("step-000012 is damaged") && said.contains("of step 9;"), "{said}");
    // What it says to type is what to type.
    let commands = |said: &str| -> Vec<String> {
        said.lines().filter_map(|l| l.trim().strip_prefix("mv ")).map(str::to_owned).collect()
    };
    let aside = commands(&said);
    assert_eq!(aside.len(), 1, "{said}");
    let paths: Vec<&str> = aside[0].split(' ').collect();
    std::fs::rename(paths[0], paths[1]).unwrap();
    let output = resume(&run);
    assert!(output.status.success(), "{}", say(&output));
    assert_eq!(metrics(&run), whole);
    // Each part counts, and each checkpoint until one is whole.
    cut("step-000012/optimizer.safetensors");
    let said = say(&resume(&run));
    assert!(said.contains("optimizer.safetensors` is not a complete"), "{said}");
    cut("step-000009/trainer.json");
    let output = resume(&run);
    assert_eq!(output.status.code(), Some(2), "{}", say(&output));
    let said = say(&output);
    assert!(said.contains("no older one that is whole") && said.contains("--force"), "{said}");
    assert!(!said.contains("os error") && commands(&said).is_empty(), "{said}");
}

#[test]
fn a_run_without_a_reward_signal_says_so_once() {
    let (dir, config) = folder();
    let never = dir.path().join("never.jsonl");
    std::fs::write(&never, "{\"prompt\": \"1+1=\", \"answer\": 77}\n".repeat(4)).unwrap();
    let run = |reward: &str, steps: &str, out: &str| {
        let mut command = rlc();
        command.args(["run", "grpo", "--quiet", "--json", "--steps", steps, "--reward", reward]);
        command.args(["--temperature", "3"]);
        command.arg("--config").arg(&config).arg("--data").arg(&never);
        let output = command.arg("--out").arg(dir.path().join(out)).output().unwrap();
        assert!(output.status.success(), "{}", say(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap();
        say(&output)
    };
    let said = run("numeric", "8", "silent");
    assert_eq!(said.matches("warning: the reward `numeric` on ").count(), 1, "{said}");
    assert!(said.contains("all of them 0") && said.contains("--samples"), "{said}");
    assert_eq!(run("numeric", "4", "short"), "");
    assert_eq!(run("regex=^1.1", "8", "varied"), "");
}

#[test]
fn a_folder_belongs_to_one_process_at_a_time() {
    let (dir, config) = folder();
    let held = dir.path().join("held");
    let mut child =
        start(&held, &config).args(["--steps", "100000"]).stdout(Stdio::null()).spawn().unwrap();
    wait_for(&held, 1);
    let again = start(&held, &config).arg("--force").output().unwrap();
    for output in [resume(&held), again] {
        assert_eq!(output.status.code(), Some(2), "{}", say(&output));
        assert!(say(&output).contains("another process is running in"), "{}", say(&output));
    }
    let done = metrics(&held).len();
    wait_for(&held, done + 1);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn characters_that_the_model_cannot_see_are_named() {
    let (dir, config) = folder();
    let prompts = dir.path().join("prompts.jsonl");
    let text =
        "{\"prompt\": \"1+1=\", \"answer\": 2}\n{\"prompt\": \"1×2=é\", \"answer\": 2}\n".repeat(4);
    std::fs::write(&prompts, text).unwrap();
    let mut command = rlc();
    command.args(["run", "grpo", "--steps", "1", "--reward", "numeric", "--config"]).arg(&config);
    command.arg("--data").arg(&prompts).arg("--out").arg(dir.path().join("out"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", say(&output));
    assert!(
        say(&output).contains("prompts.jsonl:2), which the model will not see: '×', 'é'"),
        "{}",
        say(&output)
    );
}
