//! Gradients of the interpreter against central differences, along random directions, on random
//! batches: every program of the library, and every program of `filetests/grad`.
//!
//! `detach` is left out on both sides: a difference quotient sees through it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use rlc_compiler::check::Checked;
use rlc_compiler::stdlib;
use rlc_compiler::table::{Data, Table};
use rlc_runtime::objective::{Backend, Objective};
use rlc_tests::batches::{Policy, Random, random, random_for};
use rlc_tests::{check_text, files, open, run, short};

/// How far the policy's numbers are moved to both sides.
const STEP: f64 = 1e-5;
/// Allowed difference, relative to the size of the gradient.
const TOLERANCE: f64 = 1e-6;

/// Objectives and recipes, on batches of what each reads. `detach` passes everything on, on both sides.
#[test]
fn library_programs() {
    let (mut faults, mut kept) = (Vec::new(), 0);
    for (name, _, _) in stdlib::library() {
        let text = format!("extend {name}\nfn detach(x) = x\n");
        let (checked, found, _) = check_text(name, &text);
        let Some(checked) = checked else {
            faults.push(format!("{name}: {found:?}"));
            continue;
        };
        let mut whole = Objective::new(open(name), Backend::Interp);
        let (mut batches, mut moved) = (0, false);
        for seed in 0..3 {
            for policy in [Policy::Logits(5), Policy::Logp] {
                let Some(mut table) = random_for(&checked, seed, policy) else { continue };
                batches += 1;
                if let Some(fault) = compare(&checked, &mut table, seed) {
                    faults.push(format!("{name}: seed {seed}, {policy:?}: {fault}"));
                }
                let as_written = run(&mut whole, &table, None);
                moved |= as_written.is_ok_and(|o| {
                    o.grads.values().any(|g| (0..g.data.len()).any(|i| g.data.get(i) != 0.0))
                });
            }
        }
        assert!(batches >= 3, "{name} has no batch");
        if !moved {
            faults.push(format!("{name}: no gradient on any batch"));
        }
        kept += 1;
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
    assert_eq!(kept, stdlib::library().count());
}

#[test]
fn operators() {
    let (mut faults, mut programs) = (Vec::new(), 0);
    for path in files("tests/filetests/grad", ".rl") {
        let text = std::fs::read_to_string(&path).unwrap();
        let (head, rest) = text.split_once("\n# ---").expect("a file of programs");
        for program in rest.split("\n# ---") {
            let (name, body) = program.split_once('\n').unwrap();
            let name = format!("{}:{name}", short(&path));
            let (checked, found, _) = check_text(&name, &format!("{head}\n{body}"));
            match checked {
                Some(checked) => faults.extend(check(&name, &checked)),
                None => faults.push(format!("{name}: {found:?}")),
            }
            programs += 1;
        }
    }
    assert!(programs > 60, "{programs} programs");
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

fn check(name: &str, checked: &Checked) -> Option<String> {
    for seed in 0..4 {
        for policy in [Policy::Logits(5), Policy::Logp] {
            let needs_logits =
                checked.graph.columns.iter().any(|c| {
                    c.name == "logits" || c.name == "ref_logits" || c.name == "old_logits"
                });
            let reads_vocab = |t: &Table| {
                let mut objective = Objective::new(checked.clone(), Backend::Interp);
                objective.begin(t, rlc_runtime::objective::Logits::InTable).is_ok()
            };
            let mut table = random(seed, policy);
            if policy == Policy::Logp && needs_logits && !reads_vocab(&table) {
                continue;
            }
            if let Some(fault) = compare(checked, &mut table, seed) {
                return Some(format!("{name}: seed {seed}, {policy:?}: {fault}"));
            }
        }
    }
    None
}

fn compare(checked: &Checked, table: &mut Table, seed: u64) -> Option<String> {
    let mut objective = Objective::new(checked.clone(), Backend::Interp);
    let outcome = match run(&mut objective, table, None) {
        Ok(outcome) => outcome,
        Err(e) => return Some(e.to_string()),
    };
    let inputs: Vec<(String, Vec<f64>)> = outcome
        .grads
        .keys()
        .map(|input| {
            let own = |p: &&String| p.split_once('/').is_some_and(|(_, name)| name == input);
            let path = table.arrays.keys().find(own).expect("a gradient is of a column");
            let Data::F64(v) = &table.arrays[path].data else { panic!("{path} is not f64") };
            (path.clone(), v.clone())
        })
        .collect();
    let source = &mut Random::new(seed ^ 0x5eed);
    for _ in 0..3 {
        // A direction over all inputs at once.
        let mut along = 0.0;
        let mut size = 0.0;
        let mut ways = Vec::new();
        for (input, (_, values)) in outcome.grads.keys().zip(&inputs) {
            let Data::F64(grad) = &outcome.grads[input].data else { panic!("grad of {input}") };
            let way: Vec<f64> = values.iter().map(|_| source.between(-1.0, 1.0)).collect();
            along += grad.iter().zip(&way).map(|(g, w)| g * w).sum::<f64>();
            size += grad.iter().map(|g| g.abs()).sum::<f64>();
            ways.push(way);
        }
        let mut at = |step: f64| {
            for ((path, values), way) in inputs.iter().zip(&ways) {
                let moved = values.iter().zip(way).map(|(v, w)| v + step * w).collect();
                table.arrays.get_mut(path).unwrap().data = Data::F64(moved);
            }
            run(&mut objective, table, None).map(|o| o.loss)
        };
        // Fourth order: the error is of the size of STEP^4.
        let values: Result<Vec<f64>, _> =
            [2.0, 1.0, -1.0, -2.0].map(|k| at(k * STEP)).into_iter().collect();
        at(0.0).ok();
        let v = match values {
            Ok(v) => v,
            Err(e) => return Some(e.to_string()),
        };
        let quotient = (8.0 * (v[1] - v[2]) - (v[0] - v[3])) / (12.0 * STEP);
        if size == 0.0 && quotient.abs() > TOLERANCE {
            return Some(format!("no gradient at all, but the loss moves by {quotient}"));
        }
        let scale = size.max(1e-3 * outcome.loss.abs());
        if (quotient - along).abs() > TOLERANCE * scale {
            return Some(format!(
                "{along} along a direction, differences give {quotient} (scale {scale})"
            ));
        }
    }
    None
}
