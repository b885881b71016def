//! The command line as a user meets it: what is printed where, exit codes, and what happens to files.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

mod place;

use place::{Place, batch, case, finish};

#[test]
fn help_has_examples_everywhere() {
    let place = Place::new();
    let help = place.rlc(&["--help"]).out;
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let commands: Vec<&str> = list
        .lines()
        .take_while(|l| !l.is_empty())
        .filter_map(|l| l.strip_prefix("  ")?.split(' ').next().filter(|w| !w.is_empty()))
        .collect();
    for command in ["check", "compile", "explain", "eval", "run", "new", "recipes", "completions"] {
        assert!(commands.contains(&command), "{commands:?}");
    }
    for command in commands {
        let done = place.rlc(&[command, "--help"]);
        done.prints("Examples:");
        done.prints(&format!("rlc {command}"));
    }
    place.rlc(&["help"]).prints("Commands:");
    place.rlc(&["help", "eval"]).prints("rlc eval");
    place.rlc(&["help", "evl"]).fails(2, "eval");
    place.rlc(&["--version"]).prints(&format!("rlc {}", env!("CARGO_PKG_VERSION")));
    place.rlc(&[]).fails(2, "Usage:");
    place.rlc(&["chek", "grpo"]).fails(2, "check");
    place.rlc(&["check"]).fails(2, "PROGRAM");
    place.rlc(&["check", "grpo", "--set"]).fails(2, "--set");
}

#[test]
fn programs_are_files_names_or_stdin() {
    let place = Place::new();
    place.write("a.rl", "advantage = center(reward)\n");
    place.write("sub/b.rl", "extend \"../a.rl\"\nparam clip_low = 0.1\n");
    place.write("plain", "extend \"sub/b.rl\"\n");
    place.rlc(&["check", "a.rl"]).prints("a.rl: no errors; coupling level: token");
    place.rlc(&["check", "sub/b.rl"]).prints("sub/b.rl: no errors");
    place.rlc(&["check", "plain"]).prints("plain: no errors");
    place.rlc(&["check", "gspo"]).prints("coupling level: rollout");
    place.rlc_with(&["check", "-"], "extend \"a.rl\"\n").prints("<stdin>: no errors");
    place.rlc_with(&["explain", "-"], "advantage = reward\n").prints("advantage = reward");
    place.rlc(&["check", "missing.rl"]).fails(2, "cannot read `missing.rl`: there is no such file");
    place.rlc(&["check", "grpo.rl"]).fails(2, "without the ending: `grpo`");
    place.rlc(&["check", "gpro"]).fails(2, "did you mean `grpo`?");
    place.rlc(&["check", "nothing_like_it"]).fails(2, "`rlc recipes` lists the library");
    place.rlc(&["check", "sub"]).fails(2, "`sub` is a folder");
    std::fs::write(place.path("binary.rl"), [0x66, 0xff, 0xfe]).unwrap();
    place.rlc(&["check", "binary.rl"]).fails(2, "byte 1 is not UTF-8");
}

#[test]
fn a_circle_of_files_is_found_under_any_spelling() {
    let place = Place::new();
    place.write("a.rl", "extend \"sub/../b.rl\"\n").write("sub/x", "");
    place.write("b.rl", "extend \"./a.rl\"\n");
    place.rlc(&["check", "./a.rl"]).fails(2, "E0107");
}

#[test]
fn check_reports_everything_and_sums_up() {
    let place = Place::new();
    place.write("bad.rl", "ratio = exp(logp - old_logp\nadvantage = center(rewrd)\nunused = 1\n");
    let done = place.rlc(&["check", "bad.rl"]);
    done.fails(2, "E0002");
    done.fails(2, "did you mean `reward`?");
    done.fails(2, "2 errors");
    assert!(done.err.find("E0002") < done.err.find("E0101"), "{}", done.err);
    assert!(done.out.is_empty(), "{}", done.out);
    place.write("warned.rl", "unused = 1\n");
    place.rlc(&["check", "warned.rl"]).prints("no errors");
    place.rlc(&["check", "warned.rl"]).fails(0, "1 warning");
    place.rlc(&["check", "warned.rl", "--deny-warnings"]).fails(2, "1 error");
    place.write("allowed.rl", "allow unused_definition\nunused = 1\n");
    place.rlc(&["check", "allowed.rl", "--deny-warnings"]).prints("no errors");
}

#[test]
fn check_as_json() {
    let place = Place::new();
    place.write("bad.rl", "advantage = 1\nratio = exp(nothing_here)\n");
    let done = place.rlc(&["check", "bad.rl", "--json"]);
    assert_eq!(done.code, 2);
    assert!(done.err.is_empty(), "{}", done.err);
    let found: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(found["ok"], false);
    assert_eq!(found["diagnostics"][0]["code"], "E0101");
    assert_eq!(found["diagnostics"][0]["severity"], "error");
    let label = &found["diagnostics"][0]["labels"][0];
    assert_eq!((&label["line"], &label["column"]), (&Value::from(2), &Value::from(13)));
    assert_eq!(label["file"], "bad.rl");
    let fine = place.rlc(&["check", "grpo", "--json"]);
    fine.prints("\"coupling\": \"token\"");
    // What only the params' values show is a finding like the others.
    place.write("off.rl", "param on = false\nratio = if on then exp(logp - old_logp) else 1.0\n");
    let done = place.rlc(&["check", "off.rl", "--json"]);
    assert_eq!((done.code, done.err.as_str()), (2, ""));
    let found: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(found["diagnostics"][0]["code"], "E0401");
    assert_eq!((&found["ok"], &found["coupling"]), (&Value::Bool(false), &Value::Null));
    place.rlc(&["check", "off.rl"]).fails(2, "under these params");
    place.rlc(&["check", "off.rl", "--set", "on=true"]).prints("no errors");
}

#[test]
fn params_are_set_by_name_type_and_range() {
    let place = Place::new();
    place.write(
        "p.rl",
        "param share = 0.5 in [0, 1]\nparam n = 3\nparam on = true\nparam w[2] = 1.0\n\
         advantage = if on then share * n * reward * (w[1] + w[2]) else reward\n",
    );
    let check = |set: &str| place.rlc(&["check", "p.rl", "--set", set]);
    for fine in ["share=1", "share=0.25", "n=4", "on=false", "w=2.5", "w.1=0", "clip_low=1e-3"] {
        check(fine).prints("no errors");
    }
    check("shar=1").fails(2, "did you mean `share`?");
    check("share").fails(2, "has no `=`");
    check("share=2").fails(2, "goes from 0 to 1");
    check("share=nan").fails(2, "is a number, not `nan`");
    check("share=").fails(2, "is a number, not ``");
    check("clip_low=inf").prints("no errors");
    check("clip_low=1e999").fails(2, "is a number, not `1e999`");
    check("n=9007199254740993").fails(2, "is an int");
    check("n=2.5").fails(2, "is an int");
    check("on=2").fails(2, "is a truth value");
    check("w.3=1").fails(2, "no param `w.3`");
}

#[test]
fn compile_prints_every_stage() {
    let place = Place::new();
    place.write("a.rl", "advantage = center(reward)\n");
    let compile = |stage: &str| place.rlc(&["compile", "a.rl", "--emit", stage]);
    compile("ast").prints("def advantage");
    compile("hir").prints("choose");
    compile("program").prints("grad/logits");
    compile("loops").prints("live, for each rollout");
    compile("clif").prints("function %live_0_token");
    compile("cuda").prints("live_0_token(\n");
    compile("machine").fails(
        2,
        "[possible values: ast, hir, program, loops, clif, cuda, ptx, cubin, sass-stats]",
    );
    place.rlc(&["compile", "a.rl"]).fails(2, "--emit");
    let done = place.rlc(&["compile", "a.rl", "--emit", "loops", "-o", "a.loops"]);
    done.prints("");
    assert_eq!(place.read("a.loops"), compile("loops").out);
    place.rlc(&["compile", "a.rl", "--emit", "ast", "-o", "."]).fails(2, "is a folder");
    place
        .rlc(&["compile", "a.rl", "--emit", "ast", "-o", "no/such/a.ast"])
        .fails(1, "cannot write `no/such/a.ast`: there is no such file or folder");
    // A failure leaves nothing behind, and no old file is touched.
    place.write("bad.rl", "advantage = nobody\n");
    place.rlc(&["compile", "bad.rl", "--emit", "loops", "-o", "a.loops"]).fails(2, "E0101");
    assert_eq!(place.read("a.loops"), compile("loops").out);
    let names: Vec<_> = std::fs::read_dir(place.path("")).unwrap().flatten().collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn explain_a_program() {
    let place = Place::new();
    place.write("calib.rl", "advantage = calib(group_norm(reward), step_correct)\n");
    let done = place.rlc(&["explain", "calib.rl"]);
    for said in [
        "calib.rl\n  advantage = calib(group_norm(reward), step_correct)\n      : real, one per turn; recorded",
        "advantage: replaced in calib.rl",
        "stdlib/objectives/grpo.rl",
        "token_loss = penalty - surrogate\n      : real, one per token; live",
        "fn calib(a, q, lam = 1)",
        "level: token",
        "turn/step_correct: real",
        "at 0 it switches off the column `token/ref_logp`",
        "decided: then in `if beta == 0 then 0 else beta * kl_k3(logp, ref_logp)`",
        "2 sweeps of the vocab row (statistics, gradient)",
    ] {
        done.prints(said);
    }
    assert!(!done.out.contains("token/ref_logp: real"), "{}", done.out);
    let with = place.rlc(&["explain", "calib.rl", "--set", "beta=0.1"]);
    with.prints("token/ref_logp: real");
    with.prints(
        "beta = 0.1 (default 0)\n      at 0 it would switch off the column `token/ref_logp`",
    );
    let gspo = place.rlc(&["explain", "gspo"]);
    gspo.prints("cause: `mean(logp - old_logp per rollout)` (stdlib/objectives/gspo.rl:");
    gspo.prints("two passes over the logits");
    let instead = "may carry `token/logp` (and `token/entropy`) instead";
    gspo.prints(instead);
    // It reads the main head's distribution, for which log-probabilities do not stand in.
    let mtp = place.rlc(&["explain", "mtp_d"]);
    assert!(!mtp.out.contains(instead), "{}", mtp.out);
}

#[test]
fn explain_a_code() {
    let place = Place::new();
    place.rlc(&["explain", "E0202"]).prints("# E0202: ");
    place.rlc(&["explain", "e0101"]).prints("# E0101: ");
    place.rlc(&["explain", "missing_detach"]).prints("allow missing_detach");
    place.rlc(&["explain", "E9999"]).fails(2, "there is no error `E9999`");
}

#[test]
fn eval_prints_numbers() {
    let place = Place::new();
    let batch = batch("grpo_logits");
    let want: Value = serde_json::from_str(
        &std::fs::read_to_string(case("grpo_logits").join("case.json")).unwrap(),
    )
    .unwrap();
    for backend in ["interp", "cpu"] {
        let done = place.rlc(&["eval", "grpo", "--batch", &batch, "--backend", backend, "--json"]);
        assert_eq!(done.code, 0, "{}", done.err);
        let found: Value = serde_json::from_str(&done.out).unwrap();
        let (a, b) = (found["loss"].as_f64().unwrap(), want["loss"].as_f64().unwrap());
        assert!((a - b).abs() < 1e-4 * b.abs(), "{a} for {b}");
        assert_eq!(found["coupling"], "token");
        assert_eq!(found["kept"], want["kept"]);
        assert_eq!(done.out.lines().count(), 1);
    }
    let done = place.rlc(&[
        "eval",
        "grpo",
        "--batch",
        &batch,
        "--emit",
        "advantage, ratio",
        "--out",
        "r.safetensors",
    ]);
    for said in
        ["loss      0.866", "coupling  token", "clip_fraction", "logits: [", "wrote     r.saf"]
    {
        done.prints(said);
    }
    let bytes = std::fs::read(place.path("r.safetensors")).unwrap();
    let header = String::from_utf8_lossy(&bytes[..600.min(bytes.len())]).into_owned();
    for name in ["\"loss\"", "grad/logits", "value/advantage", "value/ratio", "\"F32\""] {
        assert!(header.contains(name), "{name} is not in {header}");
    }
    assert!(!header.contains("F64"), "{header}");
    place.rlc(&[
        "eval",
        "grpo",
        "--batch",
        &batch,
        "--backend",
        "interp",
        "--out",
        "r.safetensors",
    ]);
    let bytes = std::fs::read(place.path("r.safetensors")).unwrap();
    assert!(String::from_utf8_lossy(&bytes).contains("\"F64\""));
    // A device is written to, not replaced.
    let done = place.rlc(&["eval", "grpo", "--batch", &batch, "--out", "/dev/null"]);
    done.prints("wrote     /dev/null");
    assert!(!Path::new("/dev/null").is_file());
    // Without a reference column the metric that reads it is left out, with a note.
    place.write("m.rl", "metric kl = token_mean(kl_k3(logp, sampler_logp))\n");
    let done = place.rlc(&["eval", "m.rl", "--batch", &batch, "--json"]);
    if !done.out.contains("\"kl\"") {
        done.fails(0, "the metric `kl` is left out: the batch has no `token/sampler_logp`");
    }
}

#[test]
fn sample_statements_are_shown_and_evaluated() {
    let place = Place::new();
    let batch = batch("grpo_logits");
    place.write("a.rl", "solved = mean(reward per group)\nsample weight = abs(solved) + 1\n");
    place.write(
        "b.rl",
        "extend \"a.rl\"\nsample weight = 2.0\nsample rollouts = count(rollout per group)\n\
         keep group where solved < 1000\n",
    );
    let done = place.rlc(&["explain", "b.rl"]);
    done.prints("sample rollouts = count(rollout per group)\n      : int, one per group; recorded");
    done.prints("sample weight: replaced in b.rl");
    let eval = |more: &[&str]| {
        let done = place.rlc(&[&["eval", "b.rl", "--batch", &batch], more].concat());
        assert_eq!(done.code, 0, "{}", done.err);
        done
    };
    eval(&["--out", "r.safetensors"]).prints("sample    weight: [");
    let bytes = std::fs::read(place.path("r.safetensors")).unwrap();
    let header = String::from_utf8_lossy(&bytes[..600.min(bytes.len())]).into_owned();
    for name in ["sample/weight", "sample/rollouts", "sample/kept"] {
        assert!(header.contains(name), "{name} is not in {header}");
    }
    let found: Value = serde_json::from_str(&eval(&["--json"]).out).unwrap();
    assert_eq!(found["sample"]["weight"], serde_json::json!({"mean": 2.0, "min": 2.0, "max": 2.0}));
    let groups = found["kept"]["group"].as_f64().unwrap();
    let mean = found["kept"]["rollout"].as_f64().unwrap() / groups;
    assert!((found["sample"]["rollouts"]["mean"].as_f64().unwrap() - mean).abs() < 1e-9);
    let done = place.rlc(&["eval", "grpo", "--batch", &batch, "--json"]);
    assert!(!done.out.contains("sample"), "{}", done.out);
}

#[test]
fn eval_refuses() {
    let place = Place::new();
    let batch = batch("grpo_logits");
    let eval = |program: &str, more: &[&str]| {
        place.rlc(&[&["eval", program, "--batch", &batch], more].concat())
    };
    // With a driver it runs, or says what the GPU lacks.
    if !rlc_runtime::device::cuda::gpu::driver_present() {
        eval("grpo", &["--backend", "cuda"]).fails(2, "the NVIDIA driver (libcuda.so.1) is not on");
    }
    eval("grpo", &["--backend", "gpu"]).fails(2, "[possible values: interp, cpu, cuda]");
    eval("grpo", &["--emit", "advantag"]).fails(2, "did you mean `advantage`?");
    eval("grpo", &["--set", "beat=1"]).fails(2, "did you mean `beta`?");
    eval("grpo", &["--micro-batch", "0"]).fails(2, "at least 1 rollout");
    eval("grpo", &["--micro-batch", "-1"]).fails(2, "");
    eval("gpro", &[]).fails(2, "did you mean `grpo`?");
    eval("grpo", &["--out", "no/such/r.safetensors"]).fails(1, "cannot write");
    place.write("whole.rl", "loss = log(mean(exp(token_loss)))\n");
    eval("whole.rl", &["--micro-batch", "2"]).fails(2, "a micro-batch of 2 rollouts would cut");
    place.write("bad.rl", "advantage = nobody\n");
    eval("bad.rl", &[]).fails(2, "E0101");
    place.rlc(&["eval", "grpo"]).fails(2, "--batch");
    place.rlc(&["eval", "grpo", "--batch", "none.safetensors"]).fails(2, "there is no such file");
    place.rlc(&["eval", "grpo", "--batch", "."]).fails(2, "it is a folder");
    place.write("text.safetensors", "not a batch");
    place
        .rlc(&["eval", "grpo", "--batch", "text.safetensors"])
        .fails(2, "not a readable safetensors");
    // A batch without a column that the program needs.
    place.write("needs.rl", "input score : real @ turn\nadvantage = score\n");
    eval("needs.rl", &[]).fails(2, "`turn/score`");
}

#[test]
fn eval_names_what_is_not_finite() {
    let place = Place::new();
    place.write("inf.rl", "token_loss = base.token_loss + log(old_logp - old_logp) * logp\n");
    let done = place.rlc(&["eval", "inf.rl", "--batch", &batch("grpo_logits")]);
    done.fails(1, "rollout");
    done.fails(1, "token");
}

#[test]
fn new_writes_what_compiles_and_overwrites_nothing() {
    let place = Place::new();
    place.rlc(&["new", "mine"]).prints("wrote mine.rl");
    place.rlc(&["check", "mine.rl", "--deny-warnings"]).prints("no errors");
    place.rlc(&["new", "mine"]).fails(2, "`mine.rl` exists already");
    place.write("mine.rl", "advantage = reward\n");
    place.rlc(&["new", "mine.rl"]).fails(2, "exists already");
    assert_eq!(place.read("mine.rl"), "advantage = reward\n");
    place.rlc(&["new", "mine", "--force"]).prints("wrote mine.rl");
    assert!(place.read("mine.rl").contains("extend grpo"));
    place.rlc(&["new", "free", "--from", "nothing"]).prints("wrote free.rl");
    place.rlc(&["check", "free.rl", "--deny-warnings"]).prints("no errors");
    place.write("sub/x", "");
    place.rlc(&["new", "sub/below", "--from", "mine.rl"]).prints("wrote sub/below.rl");
    assert!(place.read("sub/below.rl").contains("extend \"../mine.rl\""));
    place.rlc(&["check", "sub/below.rl"]).prints("no errors");
    place.rlc(&["new", "other", "--from", "gpro"]).fails(2, "did you mean `grpo`?");
    place.rlc(&["new", "no/such/folder"]).fails(1, "cannot write");
    place.rlc(&["new", ""]).fails(2, "is no name for a file");
}

#[test]
fn recipes_are_listed_shown_and_started_from() {
    let place = Place::new();
    let list = place.rlc(&["recipes", "--json"]);
    let recipes: Value = serde_json::from_str(&list.out).unwrap();
    let recipes = recipes.as_array().unwrap();
    assert!(recipes.len() >= 13);
    let long = place.rlc(&["recipes", "--long"]);
    for recipe in recipes {
        let name = recipe["name"].as_str().unwrap();
        long.prints(recipe["title"].as_str().unwrap());
        assert!(!recipe["idea"].as_str().unwrap().is_empty(), "{name}");
    }
    // What every program of the library must do is in the workspace's tests; here, what starting from one gives.
    for name in recipes.iter().filter_map(|r| r["name"].as_str()).take(13) {
        place.rlc(&["recipes", "show", name]).prints("# ");
        place.rlc(&["check", name, "--deny-warnings"]).prints("no errors");
        place.rlc(&["new", name, "--from", name]).prints("wrote");
        place.rlc(&["check", &format!("{name}.rl")]).prints("no errors");
    }
    let gspo = recipes.iter().find(|r| r["name"] == "gspo").unwrap();
    assert_eq!(gspo["coupling"], "rollout");
    let calibadv = recipes.iter().find(|r| r["name"] == "calibadv").unwrap();
    assert_eq!(calibadv["extra_columns"], serde_json::json!(["turn/step_correct"]));
    place.rlc(&["recipes", "show", "gsop"]).fails(2, "did you mean `gspo`?");
    let some = place.rlc(&["recipes", "--family", "Credit Assignment"]);
    some.prints("calibadv");
    assert!(!some.out.contains("dapo"), "{}", some.out);
    let found = place.rlc(&["recipes", "--search", "SIGMOID"]).out;
    assert!(found.contains("sapo") && !found.contains("dapo"), "{found}");
    place.rlc(&["recipes", "--family", "tree"]).fails(2, "did you mean `--family 'trees'`?");
    place.rlc(&["recipes", "--search", "nothing_like_it"]).fails(2, "is like that");
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let place = Place::new();
    for args in [&["explain", "grpo"][..], &["recipes"], &["compile", "grpo", "--emit", "clif"]] {
        let mut command = place.command(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success() && err.is_empty(), "{args:?}: {status}: {err}");
    }
}

#[test]
fn colours_only_where_wanted() {
    let place = Place::new();
    let colour = |args: &[&str], no_color: bool| {
        let mut command = place.command(args);
        if no_color {
            command.env("NO_COLOR", "1");
        }
        let done = finish(command.output().unwrap());
        done.out.contains('\x1b') || done.err.contains('\x1b')
    };
    place.write("bad.rl", "advantage = nobody\n");
    for args in [&["check", "bad.rl"][..], &["recipes"], &["check", "nowhere"], &["chek"]] {
        assert!(!colour(args, false), "{args:?}");
        let always = [args, &["--color", "always"]].concat();
        assert!(colour(&always, false), "{always:?}");
        assert!(colour(&always, true), "{always:?}: the flag is stronger than the environment");
        assert!(!colour(&[args, &["--color=never"]].concat(), false), "{args:?}");
    }
}

#[test]
fn numbers_out_of_range_are_named_where_they_are_read() {
    let place = Place::new();
    let batch = batch("gspo_logits");
    let eval = |more: &[&str]| {
        let args = ["eval", "p.rl", "--batch", &batch];
        place.rlc(&args.into_iter().chain(more.iter().copied()).collect::<Vec<_>>())
    };
    place.write("p.rl", "extend nothing\nminimize mean(at(logits, 99))\n");
    for backend in ["interp", "cpu"] {
        eval(&["--backend", backend]).fails(1, "`at` reads entry 99 at rollout 0, token 0");
    }
    // 0 would train in silence.
    place.write("p.rl", "param q = 0.5\nadvantage = reward - quantile(reward, q per group)\n");
    eval(&["--set", "q=1"]).prints("loss");
    for backend in ["interp", "cpu"] {
        eval(&["--set", "q=90", "--backend", backend]).fails(1, "the loss is NaN");
    }
}
