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

/// Programs that read whole distributions: the sampled entry has e^-3 of it times the ratio, the
/// others share the rest as 64 : 32 : ... : 1.
#[test]
fn distributions() {
    let place = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(place.path().join(name), text).unwrap();
    write(
        "squares.rl",
        "token_loss = base.token_loss + 0.1 * sum(softmax(logits) ^ 2 per token)\n",
    );
    write("bonus.rl", "token_loss = base.token_loss - 0.1 * entropy\n");
    write("only.rl", "extend nothing\nmaximize token_mean(entropy)\n");
    write("warm.rl", "advantage = center(reward)\nmetric h = token_mean(entropy)\n");
    write(
        "kl.rl",
        "old = log_softmax(old_logits)\nnew = log_softmax(logits)\n\
         token_loss = base.token_loss + 0.5 * sum(exp(old) * (old - new) per token)\n",
    );
    let shares: Vec<f64> = (0..7).map(|i| f64::from(1 << i) / 127.0).collect();
    let squares: f64 = shares.iter().map(|s| s * s).sum();
    let chaos: f64 = shares.iter().map(|s| -s * s.ln()).sum();
    let p = |r: f64| (-3.0_f64).exp() * r;
    let entropy = |r: f64| {
        let (p, rest) = (p(r), 1.0 - p(r));
        -p * p.ln() - rest * rest.ln() + rest * chaos
    };
    let slope = |r: f64| p(r) * ((1.0 - p(r)).ln() - p(r).ln() - chaos);
    let value = numbers(&place, &["squares.rl"]);
    assert_eq!(value["others"].as_array().unwrap().len(), 7);
    // The bonus has a share in the weight at ratio 1, which both curves are divided by.
    let at = |f: &dyn Fn(f64) -> f64| 1.0 / f(1.0);
    let w = |r: f64| r - 0.2 * p(r) * (p(r) - (1.0 - p(r)) * squares);
    let scale = at(&w);
    assert!((value["scale"].as_f64().unwrap() - scale).abs() < 1e-9);
    follows(&value["weight"][0], |r| scale * (w(r) - if r > 1.2 { r } else { 0.0 }));
    let value = numbers(&place, &["bonus.rl"]);
    let scale = at(&|r| r + 0.1 * slope(r));
    follows(&value["surrogate"][0], |r| scale * (r.min(1.2) + 0.1 * entropy(r)));
    follows(&value["weight"][1], |r| scale * (0.1 * slope(r) - if r >= 0.8 { r } else { 0.0 }));
    // The temperature of sampling divides the logits: the same distribution, the same weights.
    let warm = numbers(&place, &["bonus.rl", "--set", "temperature=0.5"]);
    follows(&warm["surrogate"][0], |r| scale * (r.min(1.2) + 0.1 * entropy(r)));
    follows(&warm["weight"][1], |r| scale * (0.1 * slope(r) - if r >= 0.8 { r } else { 0.0 }));
    let value = numbers(&place, &["only.rl"]);
    let scale = value["scale"].as_f64().unwrap();
    follows(&value["surrogate"][0], |r| scale * entropy(r));
    // A metric that reads a distribution changes no curve.
    follows(&numbers(&place, &["warm.rl"])["weight"][0], |r| if r <= 1.2 { r } else { 0.0 });
    let value = numbers(&place, &["kl.rl"]);
    let kl = |r: f64| -p(1.0) * r.ln() - (1.0 - p(1.0)) * ((1.0 - p(r)) / (1.0 - p(1.0))).ln();
    follows(&value["surrogate"][0], |r| r.min(1.2) - 0.5 * kl(r));
    let length = points(&value["length"][0]);
    assert!(length.iter().all(|(n, w)| (w * n * 11.0 / 2047.0 - 1.0).abs() < 1e-9));
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
    let nothing = "extend nothing\nminimize mean(value)\n";
    std::fs::write(place.path().join("value.rl"), nothing).unwrap();
    for (args, code, said) in [
        (&["plot", "grop"][..], 2, "did you mean `grpo`?"),
        (&["plot", "grpo", "-o", "a.jpg"], 2, "neither .svg nor .png"),
        (&["plot", "grpo", "-o", "no/such/a.svg"], 1, "no/such"),
        (&["plot", "grpo", "--set", "bet=1"], 2, "did you mean `beta`?"),
        (&["plot", "value.rl"], 2, "does not read `logp`"),
    ] {
        let (found, out, err) = rlc(&place, args);
        assert_eq!((found, out.as_str()), (code, ""), "{args:?} {err}");
        assert!(err.contains(said), "{said:?} is not in:\n{err}");
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
    assert!(rlc(&place, &["plot", "--help"]).1.contains("rlc plot grpo"));
}
