//! Every case of `reference/objectives`, with both back ends: whole, and in every legal micro-batch
//! size; the smallest illegal one must be refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use rlc_compiler::table::{Data, Table};
use rlc_runtime::objective::{Backend, ObjectiveError};
use rlc_tests::cases::{Case, cases};
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
            Ok(outcome) => of.compare(&outcome, &expected, tolerance),
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
