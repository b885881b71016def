//! Every case of `reference/objectives` on two and three workers, cut between groups: the loss, the
//! metrics, the states, the gradients and the kept counts are those of one worker.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use std::path::Path;

use rlc_cli::params;
use rlc_compiler::check::Checked;
use rlc_compiler::level::{GROUP, Levels};
use rlc_compiler::shape::Shape;
use rlc_compiler::table::{Data, Table};
use rlc_runtime::batch;
use rlc_runtime::objective::{Backend, Objective, ObjectiveError, Outcome};
use rlc_tests::compare::differ;
use rlc_tests::workers::{in_groups, shard, threads};
use rlc_tests::{root, run, try_open};
use serde_json::Value;

#[test]
fn interpreter() {
    all(Backend::Interp, 1e-9);
}

#[test]
fn cpu_kernels() {
    all(Backend::Cpu, 1e-6);
}

fn all(backend: Backend, tolerance: f64) {
    let mut folders: Vec<_> = std::fs::read_dir(root().join("tests/reference/objectives/cases"))
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    folders.sort();
    let (mut ran, mut refused, mut faults) = (0, Vec::new(), Vec::new());
    for folder in &folders {
        match case(folder, backend, tolerance) {
            Ok(found) => {
                ran += 1;
                faults.extend(found);
            }
            Err(why) => refused.push(why),
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
    // Only what orders or groups rows of the whole batch is refused.
    let odd: Vec<&String> =
        refused.iter().filter(|r| !r.contains("across the whole batch")).collect();
    assert!(odd.is_empty(), "{odd:#?}");
    assert!(ran > 200 && refused.len() < 40, "{ran} ran, {refused:#?}");
}

/// Faults of a case, or why it does not run on several workers.
fn case(folder: &Path, backend: Backend, tolerance: f64) -> Result<Vec<String>, String> {
    let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
    let text = std::fs::read_to_string(folder.join("case.json")).unwrap();
    let case: Value = serde_json::from_str(&text).unwrap();
    let table = batch::read(&folder.join("batch.safetensors")).unwrap();
    let checked = open_case(folder, &case);
    let made = || objective(checked.clone(), &case, backend);
    let whole = run(&mut made(), &table, None).map_err(|e| format!("{name}: {e}"))?;
    let levels = made().checked().graph.level_table.clone();
    let groups = Shape::new(&levels, &table).unwrap().count(GROUP);
    let mut faults = Vec::new();
    // Kernels are compiled anew on each thread.
    let counts: &[usize] = if backend == Backend::Interp { &[2, 3] } else { &[2] };
    for &workers in counts {
        let cuts: Vec<usize> = (0..=workers).map(|w| w * groups / workers).collect();
        let shards: Vec<Table> =
            cuts.windows(2).map(|c| shard(&table, &levels, c[0]..c[1])).collect();
        let results: Vec<Result<Outcome, ObjectiveError>> = std::thread::scope(|scope| {
            let running: Vec<_> = threads(workers)
                .into_iter()
                .zip(&shards)
                .map(|(end, shard)| {
                    let mut objective = made();
                    scope.spawn(move || {
                        objective.set_workers(Some(Box::new(end)));
                        run(&mut objective, shard, None)
                    })
                })
                .collect();
            running.into_iter().map(|r| r.join().unwrap()).collect()
        });
        let parts: Vec<Outcome> = results
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|e| format!("{name}: {workers} workers: {e}"))?;
        let found = compare(&whole, &parts, &levels, &made(), tolerance);
        faults.extend(found.into_iter().map(|f| format!("{name}: {workers} workers: {f}")));
    }
    Ok(faults)
}

fn open_case(folder: &Path, case: &Value) -> Checked {
    let program = match case["program"].as_str().unwrap() {
        "program.rl" => folder.join("program.rl").to_str().unwrap().to_owned(),
        stdlib => stdlib.to_owned(),
    };
    try_open(&program).unwrap()
}

fn objective(checked: Checked, case: &Value, backend: Backend) -> Objective {
    let mut objective = Objective::new(checked, backend);
    let set = case["set"].as_object().unwrap().iter().map(|(name, value)| match value {
        Value::String(text) => format!("{name}={text}"),
        other => format!("{name}={other}"),
    });
    let names: Vec<String> =
        objective.checked().graph.params.iter().map(|p| p.name.clone()).collect();
    let values = params::values(&objective.checked().graph, &set.collect::<Vec<_>>()).unwrap();
    for (param, value) in names.iter().zip(values) {
        objective.set_param(param, value).unwrap();
    }
    let emit = case["emit"].as_array().unwrap().iter().map(|n| n.as_str().unwrap().to_owned());
    objective.emit(emit.collect());
    objective
}

fn compare(
    whole: &Outcome,
    parts: &[Outcome],
    levels: &Levels,
    objective: &Objective,
    tolerance: f64,
) -> Vec<String> {
    let mut faults = Vec::new();
    let mut note = |what: String, got: &[f64], want: &[f64], floor: f64| {
        faults.extend(differ(got, want, tolerance, floor).map(|f| format!("{what}: {f}")));
    };
    let numbers = |data: &Data| (0..data.len()).map(|i| data.get(i)).collect::<Vec<f64>>();
    for (rank, part) in parts.iter().enumerate() {
        note(format!("loss on {rank}"), &[part.loss], &[whole.loss], 1.0);
        for (name, want) in &whole.metrics {
            let got = part.metrics.get(name).copied().unwrap_or(f64::NAN);
            note(format!("metric {name} on {rank}"), &[got], &[*want], 1.0);
        }
        for (level, want) in &whole.kept {
            note(format!("kept {level}"), &[part.kept[level] as f64], &[*want as f64], 1.0);
        }
        for (name, want) in &whole.state.arrays {
            let got = part.state.get(name).map(|a| numbers(&a.data)).unwrap_or_default();
            note(format!("{name} on {rank}"), &got, &numbers(&want.data), 1.0);
        }
    }
    for (name, want) in &whole.grads {
        let got: Vec<f64> = parts.iter().flat_map(|p| numbers(&p.grads[name].data)).collect();
        note(format!("grad {name}"), &got, &numbers(&want.data), 0.0);
    }
    let graph = &objective.checked().graph;
    for definition in &objective.checked().definitions {
        let Some(want) = whole.values.get(&definition.name) else { continue };
        let level = graph.level(definition.value);
        if level != GROUP && !in_groups(levels, level) {
            continue;
        }
        let all = parts.iter().flat_map(|p| numbers(&p.values[&definition.name].data));
        note(definition.name.clone(), &all.collect::<Vec<_>>(), &numbers(&want.data), 1.0);
    }
    faults
}
