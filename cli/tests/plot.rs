//! `rlc plot` as a user meets it: the curves against what is known of the objectives, and the files.
#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Exit code, stdout, stderr.
fn rlc(folder: &TempDir, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rlc"));
    let done = command.args(args).current_dir(folder.path()).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code().unwrap(), text(&done.stdout), text(&done.stderr))
}

fn numbers(folder: &TempDir, args: &[&str]) -> Value {
    let (code, out, err) = rlc(folder, &[&["plot"], args, &["--json"]].concat());
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap()
}

fn points(curve: &Value) -> Vec<(f64, f64)> {
    let list = curve["points"].as_array().unwrap();
    list.iter().map(|p| (p[0].as_f64().unwrap(), p[1].as_f64().unwrap())).collect()
}

#[track_caller]
fn follows(curve: &Value, formula: impl Fn(f64) -> f64) {
    let points = points(curve);
    assert!(points.len() > 300, "{}", points.len());
    for (x, y) in points {
        assert!((y - formula(x)).abs() < 1e-9, "{y} is not {} at {x}", formula(x));
    }
}

#[test]
fn clipped_surrogates() {
    let place = tempfile::tempdir().unwrap();
    for (args, low, high, scale) in [
        (&["grpo"][..], 0.8, 1.2, 1.0),
        (&["dapo"], 0.8, 1.28, 1.0),
        (&["grpo", "--set", "clip_high=0.5"], 0.8, 1.5, 1.0),
        (&["dr_grpo"], 0.8, 1.2, 512.0),
        (&["gspo"], 1.0 - 3e-4, 1.0 + 4e-4, 1.0),
        (&["rloo", "--set", "beta=0"], 0.8, 1.2, 1.0),
    ] {
        let value = numbers(&place, args);
        assert!((value["scale"].as_f64().unwrap() - scale).abs() < 1e-9);
        follows(&value["surrogate"][0], |r| r.min(high));
        follows(&value["surrogate"][1], |r| -r.max(low));
        follows(&value["weight"][0], |r| if r <= high { r } else { 0.0 });
        follows(&value["weight"][1], |r| if r >= low { -r } else { 0.0 });
        // Both bends are in the picture.
        let xs: Vec<f64> = points(&value["weight"][0]).iter().map(|p| p.0).collect();
        assert!(xs[0] < low && xs[xs.len() - 1] > high);
    }
}

#[test]
fn other_surrogates() {
    let place = tempfile::tempdir().unwrap();
    let value = numbers(&place, &["cispo"]);
    follows(&value["weight"][0], |r| r.min(5.0));
    assert!(points(&value["weight"][0]).last().unwrap().0 > 6.0);
    let value = numbers(&place, &["sapo"]);
    let gate = |r: f64, tau: f64| 1.0 / (1.0 + (-tau * (r - 1.0)).exp());
    follows(&value["surrogate"][0], |r| 4.0 * gate(r, 1.0));
    follows(&value["surrogate"][1], |r| -4.0 / 1.05 * gate(r, 1.05));
    let value = numbers(&place, &["grpo", "--set", "beta=0.5"]);
    // The reference is the sampling policy: k3 of a ratio r is 1/r + ln r - 1.
    follows(&value["surrogate"][0], |r| r.min(1.2) - 0.5 * (1.0 / r + r.ln() - 1.0));
    let value = numbers(&place, &["sft"]);
    assert_eq!(value["surrogate"].as_array().unwrap().len(), 1);
    follows(&value["weight"][0], |_| 1.0);
}

#[test]
fn weight_by_length() {
    let place = tempfile::tempdir().unwrap();
    for (name, by_token) in [("grpo", false), ("gspo", false), ("dapo", true), ("dr_grpo", true)] {
        let value = numbers(&place, &[name]);
        assert_eq!(value["length"].as_array().unwrap().len(), 1, "{name}");
        let found = points(&value["length"][0]);
        assert_eq!(found.len(), 11);
        for (length, weight) in &found {
            // 11 rollouts of 2047 tokens in all.
            let wanted = if by_token { 1.0 } else { 2047.0 / 11.0 / length };
            assert!((weight - wanted).abs() < 1e-9 * wanted, "{name}: {weight} {wanted}");
        }
    }
}

#[test]
fn files_of_users() {
    let place = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(place.path().join(name), text).unwrap();
    write(
        "base.rl",
        "param low = 0.1\nadvantage = calib(group_norm(reward), step_correct)\nclip_low = low\n",
    );
    write(
        "mine.rl",
        "extend \"base.rl\"\nkeep group where std(reward per group) > 0\nadvantage = base.advantage @ token\n",
    );
    let (code, out, err) = rlc(&place, &["plot", "mine.rl"]);
    assert_eq!((code, out.as_str()), (0, "wrote mine.svg\n"), "{err}");
    let svg = std::fs::read_to_string(place.path().join("mine.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    for said in ["prefers-color-scheme: dark", ">mine.rl<", "advantage +1: surrogate"] {
        assert!(svg.contains(said), "{said}");
    }
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
    follows(&numbers(&place, &["mine.rl"])["weight"][1], |r| if r >= 0.9 { -r } else { 0.0 });
    assert_eq!(rlc(&place, &["plot", "grpo", "-o", "a.png"]).0, 0);
    let png = std::fs::read(place.path().join("a.png")).unwrap();
    assert_eq!(png.get(..8).unwrap(), b"\x89PNG\r\n\x1a\n");
}

#[test]
fn mistakes() {
    let place = tempfile::tempdir().unwrap();
    let text = "token_loss = base.token_loss + 0.1 * sum(softmax(logits) ^ 2 per token)\n";
    std::fs::write(place.path().join("whole.rl"), text).unwrap();
    let nothing = "extend nothing\nminimize mean(value)\n";
    std::fs::write(place.path().join("value.rl"), nothing).unwrap();
    for (args, code, said) in [
        (&["plot", "grop"][..], 2, "did you mean `grpo`?"),
        (&["plot", "grpo", "-o", "a.jpg"], 2, "neither .svg nor .png"),
        (&["plot", "grpo", "-o", "no/such/a.svg"], 1, "no/such"),
        (&["plot", "grpo", "--set", "bet=1"], 2, "did you mean `beta`?"),
        (&["plot", "whole.rl"], 2, "reads `vocab/logits`, and a plot has no distributions"),
        (&["plot", "value.rl"], 2, "does not read `logp`"),
    ] {
        let (found, out, err) = rlc(&place, args);
        assert_eq!((found, out.as_str()), (code, ""), "{args:?} {err}");
        assert!(err.contains(said), "{said:?} is not in:\n{err}");
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2);
    assert!(rlc(&place, &["plot", "--help"]).1.contains("rlc plot grpo"));
}
