//! Programs are compiled once per content in a process. One test, because the count is the process's.
#![allow(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use rlc_compiler::link::NoFiles;
use rlc_compiler::source::{Source, Sources};
use rlc_compiler::table::{Array, Data, Table};
use rlc_runtime::device::cpu::compilations;
use rlc_runtime::objective::{Backend, Logits, Objective};

fn objective(text: &str, backend: Backend) -> Objective {
    let mut sources = Sources::default();
    let root = sources.add(Source { name: "a.rl".into(), text: text.into(), library: false });
    let (checked, _) = rlc_compiler::check(&mut sources, root, &NoFiles);
    Objective::new(checked.unwrap(), backend)
}

/// Two rollouts of three tokens; log-probs, or logits.
fn batch(logits: Option<fn(Vec<f32>) -> Data>) -> Table {
    let mut table = Table::default();
    table.set("group/size", Data::I64(vec![2]));
    table.set("rollout/size", Data::I64(vec![3, 3]));
    table.set("rollout/reward", Data::F32(vec![1.0, 0.25]));
    let numbers = |by: f64| (0..6).map(|i| -1.0 - (by * f64::from(i)).sin().abs()).collect();
    table.set("token/old_logp", Data::F64(numbers(0.7)));
    table.set("token/ref_logp", Data::F64(numbers(0.9)));
    match logits {
        None => table.set("token/logp", Data::F64(numbers(0.8))),
        Some(data) => {
            table.set("token/action", Data::I64(vec![0, 1, 2, 3, 0, 1]));
            let entries = (0..24).map(|i| (i as f32 * 0.5).cos()).collect();
            table
                .arrays
                .insert("vocab/logits".into(), Array { data: data(entries), shape: vec![6, 4] });
        }
    }
    table
}

fn run(objective: &mut Objective, table: &Table) -> f64 {
    let mut step = objective.begin(table, Logits::InTable).unwrap();
    for piece in step.pieces(1, usize::MAX) {
        step.live(piece, None).unwrap();
    }
    step.finish().unwrap().loss
}

#[test]
fn switching_back_and_forth_compiles_once_per_content() {
    let text = "extend grpo\ntoken_loss = base.token_loss * 1.25\n";
    let given = batch(None);
    let f32s = batch(Some(Data::F32));
    let f64s = batch(Some(|x| Data::F64(x.into_iter().map(f64::from).collect())));
    let start = compilations();
    let mut compiled = objective(text, Backend::Cpu);
    let mut reference = objective(text, Backend::Interp);
    // Each pair of columns, number type and side of `if beta == 0`, three times in another order.
    for round in 0..3 {
        for i in 0..6 {
            let at = (i * [1, 5, 5][round] + round) % 6;
            let table = [&given, &f32s, &f64s][at % 3];
            for objective in [&mut compiled, &mut reference] {
                objective.set_param("beta", if at < 3 { 0.0 } else { 0.3 }).unwrap();
            }
            let (loss, expected) = (run(&mut compiled, table), run(&mut reference, table));
            assert!((loss - expected).abs() < 1e-6, "round {round}, {at}: {loss}, {expected}");
        }
        assert_eq!(compilations() - start, 6, "after round {round}");
    }
    // Another value on the same side, another objective of the same content, one on another thread.
    compiled.set_param("beta", 0.4).unwrap();
    run(&mut compiled, &given);
    run(&mut objective(text, Backend::Cpu), &f32s);
    let table = f64s.clone();
    let loss = std::thread::spawn(move || run(&mut objective(text, Backend::Cpu), &table));
    let own = run(&mut objective(text, Backend::Cpu), &f64s);
    assert_eq!(loss.join().unwrap().to_bits(), own.to_bits());
    assert_eq!(compilations() - start, 6);
    // Another content.
    run(&mut objective("extend grpo\ntoken_loss = base.token_loss * 1.5\n", Backend::Cpu), &given);
    assert_eq!(compilations() - start, 7);
    rlc_runtime::device::cpu::forget();
    run(&mut objective(text, Backend::Cpu), &given);
    assert_eq!(compilations() - start, 8);
}
