//! Every case of `reference/objectives`, with both back ends: whole, and in every legal micro-batch
//! size; the smallest illegal one must be refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use rlc_compiler::table::{Data, Table};
use rlc_runtime::objective::{Backend, ObjectiveError, Outcome};
use rlc_tests::cases::{Case, cases};
use rlc_tests::compare::differ;
use rlc_tests::run;
use serde_json::Value;

#[test]
fn interpreter() {
    all(Backend::Interp, 1e-9);
}

#[test]
fn cpu_kernels() {
    all(Backend::Cpu, 1e-4);
}

fn all(backend: Backend, tolerance: f64) {
    let faults: Vec<String> = cases().iter().flat_map(|c| case(c, backend, tolerance)).collect();
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

fn case(of: &Case, backend: Backend, tolerance: f64) -> Vec<String> {
    let (name, case, table) = (&of.name, &of.json, &of.table);
    let expected = of.expected();
    let mut objective = match of.checked() {
        Ok(checked) => of.objective(checked, backend),
        Err(found) => return vec![found],
    };
    let extra = case.get("tolerance").and_then(Value::as_f64).unwrap_or(0.0);
    let tolerance = if backend == Backend::Interp { tolerance } else { tolerance.max(extra) };

    let (legal, illegal) = cuts(case, table);
    let mut faults = Vec::new();
    for cut in std::iter::once(None).chain(legal.into_iter().map(Some)) {
        let how = cut.map_or("whole".to_owned(), |n| format!("micro-batch {n}"));
        let found = match run(&mut objective, table, cut) {
            Ok(outcome) => compare(&outcome, case, &expected, tolerance),
            Err(e) => vec![e.to_string()],
        };
        faults.extend(found.iter().map(|f| format!("{name}: {how}: {f}")));
        if !faults.is_empty() {
            return faults;
        }
    }
    if let Some(n) = illegal {
        match run(&mut objective, table, Some(n)) {
            Err(ObjectiveError::Cut(_)) => {}
            Err(e) => faults.push(format!("{name}: micro-batch {n}: {e}")),
            Ok(_) => faults.push(format!("{name}: micro-batch {n} was not refused")),
        }
    }
    faults
}

/// The micro-batch sizes that divide no element of the coupling level, and the first that does.
fn cuts(case: &Value, table: &Table) -> (Vec<usize>, Option<usize>) {
    let Data::I64(groups) = &table.get("group/size").unwrap().data else { panic!("group/size") };
    let rollouts = groups.iter().sum::<i64>() as usize;
    let mut end = 0;
    let ends: Vec<usize> = groups
        .iter()
        .map(|g| {
            end += *g as usize;
            end
        })
        .collect();
    let fits = |n: usize| match case["coupling"].as_str().unwrap() {
        "batch" => n >= rollouts,
        "group" => (n..rollouts).step_by(n).all(|cut| ends.contains(&cut)),
        _ => true,
    };
    let (legal, illegal): (Vec<usize>, Vec<usize>) = (1..=rollouts).partition(|n| fits(*n));
    (legal, illegal.first().copied())
}

fn compare(outcome: &Outcome, case: &Value, expected: &Table, tolerance: f64) -> Vec<String> {
    let mut faults = Vec::new();
    let mut note = |what: &str, found: Option<String>| {
        faults.extend(found.map(|f| format!("{what}: {f}")));
    };
    let loss = case["loss"].as_f64().unwrap();
    note("loss", differ(&[outcome.loss], &[loss], tolerance, 1.0));
    let metrics = case["metrics"].as_object().unwrap();
    for (name, want) in metrics {
        let found = match outcome.metrics.get(name) {
            Some(&got) => differ(&[got], &[want.as_f64().unwrap()], tolerance, 1.0),
            None => Some("absent".into()),
        };
        note(&format!("metric {name}"), found);
    }
    for name in outcome.metrics.keys().filter(|n| !metrics.contains_key(*n)) {
        note(&format!("metric {name}"), Some("not expected".into()));
    }
    let coupling = case["coupling"].as_str().unwrap();
    if outcome.coupling != coupling {
        note("coupling", Some(format!("{} for {coupling}", outcome.coupling)));
    }
    for (level, want) in case["kept"].as_object().unwrap() {
        if outcome.kept.get(level) != want.as_u64().as_ref() {
            note("kept", Some(format!("{level}: {:?} for {want}", outcome.kept.get(level))));
        }
    }
    for (name, want) in &expected.arrays {
        let (got, floor) = match name.split_once('/') {
            Some(("grad", input)) => (outcome.grads.get(input), 0.0),
            Some(("value", definition)) => (outcome.values.get(definition), 1.0),
            Some(("state", _)) => (outcome.state.get(name), 1.0),
            _ => continue,
        };
        let numbers = |data: &Data| (0..data.len()).map(|i| data.get(i)).collect::<Vec<f64>>();
        let found = match got {
            Some(got) => differ(&numbers(&got.data), &numbers(&want.data), tolerance, floor),
            None => Some("absent".into()),
        };
        note(name, found);
    }
    faults
}
