//! Likely slips at the command line: files that are no files, numbers out of range, and what a shell offers against both.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use std::path::Path;
use std::process::Command;

mod place;

use place::{Place, batch, finish};

#[test]
fn files_that_cannot_be_read_or_written_are_refused_in_words() {
    let place = Place::new();
    place.write("folder.rl/x", "");
    place.write("empty", "");
    place.write("model/config.json", "{}");
    std::fs::write(place.path("latin.rl"), b"# 1\nadvantage = \xff\n").unwrap();
    let batch = batch("grpo_logits");
    let cases: &[(i32, &[&str], &str)] = &[
        (2, &["check", "folder.rl"], "it is a folder\n help: name a file in it"),
        (2, &["check", "latin.rl"], "byte 16 is not UTF-8 text, in line 2"),
        (2, &["check", "empty/x.rl"], "a part of this path is a file, not a folder"),
        (2, &["run", "grpo", "--model", "folder.rl"], "a model's folder holds config.json"),
        (2, &["run", "grpo", "--model", "random:folder.rl"], "a model's folder holds config.json"),
        (2, &["run", "grpo", "--model", "empty"], "`empty`: it is a file"),
        (2, &["run", "grpo", "--model", "who/what-1B"], "nothing is downloaded"),
        (2, &["run", "grpo", "--model", "model"], "model/config.json`, key"),
        (2, &["run", "grpo", "--device", "gpu"], "write \"cuda\""),
        (2, &["run", "grpo", "--config", "folder.rl"], "cannot read `folder.rl`: it is a folder"),
        (2, &["run", "grpo", "--config", "latin.rl"], "it is not UTF-8 text"),
        (2, &["run", "grpo", "--data", "folder.rl"], "cannot read `folder.rl`: it is a folder"),
        (2, &["run", "grpo", "--offline", "folder.rl"], "cannot read `folder.rl`: it is a folder"),
        (2, &["run", "grpo", "--out", "empty"], "cannot create the folder `empty`: a file of this"),
        (2, &["run", "grpo", "--out", ""], "checkpoint.dir (--out) is empty"),
        (2, &["run", "grpo", "--reward", "command=no-such-judge"], "no program `no-such-judge`"),
        (2, &["run", "--make-demos", "1", "--out", "no/such"], "cannot write `no/such`"),
        (1, &["compile", "grpo", "--emit", "ast", "-o", "no/such"], "`no` must be a folder"),
        (2, &["eval", "grpo", "--batch", &batch, "--out", "-"], "`./-` is one of that name"),
        (2, &["eval", "grpo", "--batch", "empty/x"], "a part of this path is a file"),
        (2, &["doc", ""], "the library has no ``"),
        (2, &["doc", "E0202"], "`rlc explain E0202`"),
        (2, &["explain", "E7777"], "a report has its code in the first line"),
    ];
    for (code, args, said) in cases {
        let done = place.rlc(args);
        done.fails(*code, said);
        assert!(!done.err.contains("os error"), "{args:?}: {}", done.err);
    }
    assert!(!place.path("config.resolved.toml").exists() && !place.path("runs").exists());
}

#[test]
fn eval_refuses_weights_that_a_run_could_not_draw_by() {
    let place = Place::new();
    let batch = batch("grpo_logits");
    let eval = |text: &str| {
        place.write("p.rl", text);
        place.rlc(&["eval", "p.rl", "--batch", &batch, "--out", "r.safetensors"])
    };
    eval("sample weight = -1 - mean(reward per group) * 0\n")
        .fails(1, "`sample weight` is -1 for group 0");
    eval("sample weight = log(-1 + 0 * mean(reward per group))\n").fails(1, "is NaN for group 0");
    eval("sample rollouts = round(1 / (0 * mean(reward per group)))\n")
        .fails(1, "`sample rollouts` is ");
    assert!(!place.path("r.safetensors").exists());
    eval("sample weight = 0 * mean(reward per group)\n").prints("weight");
    // Outside of its range, a column with one is worth a word, and no more: the program may want it.
    let table = rlc_runtime::batch::read(Path::new(&batch)).unwrap();
    let mut arrays = table.arrays;
    let rollouts = arrays["rollout/reward"].data.len();
    let steps = rlc_compiler::table::Data::F32(vec![1.5; rollouts]);
    arrays.remove("turn/size");
    arrays.remove("rollout/turns");
    arrays.insert("turn/step_correct".into(), rlc_compiler::table::Array::vector(steps));
    let bytes = rlc_runtime::batch::to_bytes(&rlc_compiler::table::Table { arrays }).unwrap();
    std::fs::write(place.path("steps.safetensors"), bytes).unwrap();
    let done = place.rlc(&["eval", "calibadv", "--batch", "steps.safetensors"]);
    done.prints("loss");
    assert!(done.err.contains("`turn/step_correct` has 1.5 at entry 0"), "{}", done.err);
}

#[test]
fn shells_complete_commands_and_options() {
    let place = Place::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let done = place.rlc(&["completions", shell]);
        for word in ["rlc", "completions", "doctor", "deny-warnings", "max-new-tokens"] {
            done.prints(word);
        }
    }
    place.rlc(&["completions"]).fails(2, "<SHELL>");
    place.rlc(&["completions", "tcsh"]).fails(2, "possible values: bash");
    // What bash makes of it, where there is one: the function it registers answers with what fits.
    place.write("rlc.bash", &place.rlc(&["completions", "bash"]).out);
    let script = "source ./rlc.bash || exit 1
        complete -p rlc
        ask() { COMP_WORDS=(rlc \"$@\"); COMP_CWORD=$#; COMPREPLY=(); _rlc rlc \"${@: -1}\" \"${@: -2:1}\"; echo \"${COMPREPLY[*]}\"; }
        ask comp
        ask eval --ba
        ask eval --backend ''";
    let mut command = Command::new("bash");
    command.args(["--norc", "-c", script]).current_dir(place.path(""));
    match command.output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        answered => {
            let done = finish(answered.unwrap());
            done.prints("-F _rlc");
            done.prints("compile compare completions");
            done.prints("--batch --backend");
            done.prints("interp cpu cuda");
        }
    }
}
