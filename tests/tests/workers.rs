//! Every case of `reference/objectives` on two and three workers, cut between groups: the loss, the
//! metrics, the states, the gradients and the kept counts are those of one worker.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use rlc_compiler::level::{GROUP, Levels};
use rlc_compiler::shape::Shape;
use rlc_compiler::table::{Data, Table};
use rlc_runtime::objective::{Backend, Objective, ObjectiveError, Outcome};
use rlc_tests::cases::{Case, cases};
use rlc_tests::compare::differ;
use rlc_tests::run;
use rlc_tests::workers::{in_groups, shard, threads};

#[test]
fn interpreter() {
    all(Backend::Interp, 1e-9);
}

#[test]
fn cpu_kernels() {
    all(Backend::Cpu, 1e-6);
}

fn all(backend: Backend, tolerance: f64) {
    let (mut ran, mut refused, mut faults) = (0, Vec::new(), Vec::new());
    for of in &cases() {
        match case(of, backend, tolerance) {
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
    assert!(ran > 200 && refused.len() < 50, "{ran} ran, {refused:#?}");
}

/// Faults of a case, or why it does not run on several workers.
fn case(of: &Case, backend: Backend, tolerance: f64) -> Result<Vec<String>, String> {
    let (name, table) = (&of.name, &of.table);
    let checked = of.checked()?;
    let made = || of.objective(checked.clone(), backend);
    let whole = run(&mut made(), table, None).map_err(|e| format!("{name}: {e}"))?;
    let levels = made().checked().graph.level_table.clone();
    let groups = Shape::new(&levels, table).unwrap().count(GROUP);
    let mut faults = Vec::new();
    // Kernels are compiled anew on each thread.
    let counts: &[usize] = if backend == Backend::Interp { &[2, 3] } else { &[2] };
    for &workers in counts {
        let cuts: Vec<usize> = (0..=workers).map(|w| w * groups / workers).collect();
        let shards: Vec<Table> =
            cuts.windows(2).map(|c| shard(table, &levels, c[0]..c[1])).collect();
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
