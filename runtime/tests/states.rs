//! States through the whole objective: read by key, averaged over groups of one prompt, left alone
//! where filters drop a group or the batch lacks the prompt, the same under every cut.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlc_compiler::link::NoFiles;
use rlc_compiler::source::{Source, Sources};
use rlc_compiler::table::{Data, Table};
use rlc_runtime::objective::{Backend, Logits, Objective, Outcome};

const PROGRAM: &str = "
keep group where max(reward per group) < 9
state rate[prompt] : real @ group = 0.5
state steps = 1.0
update rate = 0.5 * rate + 0.5 * mean(reward per group)
update steps = steps + 1
advantage = (reward - rate) * steps
metric noise = mean(uniform(token))
";

fn batch() -> Table {
    let mut t = Table::default();
    t.set("group/size", Data::I64(vec![2, 1, 1, 1]));
    t.set("group/prompt", Data::I64(vec![7, -3, 7, 8]));
    t.set("rollout/size", Data::I64(vec![1, 2, 1, 1, 1]));
    t.set("rollout/reward", Data::F32(vec![1.0, 0.0, 1.0, 0.0, 9.0]));
    t.set("token/logp", Data::F32(vec![-1.0; 6]));
    t.set("token/old_logp", Data::F32(vec![-1.0; 6]));
    t.set("batch/seed", Data::I64(vec![11]));
    t
}

fn objective(backend: Backend) -> Objective {
    let mut sources = Sources::default();
    let source = Source { name: "state.rl".into(), text: PROGRAM.into(), library: false };
    let root = sources.add(source);
    let (checked, diagnostics) = rlc_compiler::check(&mut sources, root, &NoFiles);
    Objective::new(checked.unwrap_or_else(|| panic!("{diagnostics:?}")), backend)
}

fn run(objective: &mut Objective, table: &Table, cut: usize) -> Outcome {
    let mut step = objective.begin(table, Logits::InTable).unwrap();
    for piece in step.exact_pieces(cut).unwrap() {
        step.live(piece, None).unwrap();
    }
    step.finish().unwrap().clone()
}

fn floats(table: &Table, name: &str) -> Vec<f64> {
    let array = table.get(name).unwrap();
    (0..array.data.len()).map(|i| array.data.get(i)).collect()
}

#[test]
fn states_go_from_step_to_step() {
    for backend in [Backend::Interp, Backend::Cpu] {
        for cut in 1..=5 {
            let mut objective = objective(backend);
            let first = run(&mut objective, &batch(), cut);
            // Prompt 7: groups of mean 0.5 and 0 from 0.5 give 0.5 and 0.25, averaged. Prompt 8 was
            // dropped.
            assert_eq!(first.state.get("state/rate.key").unwrap().data, Data::I64(vec![-3, 7]));
            assert_eq!(floats(&first.state, "state/rate"), [0.75, 0.375]);
            assert_eq!(floats(&first.state, "state/steps"), [2.0]);
            let noise = first.metrics["noise"];
            assert!(noise > 0.0 && noise < 1.0);

            objective.set_state(first.state);
            let mut table = batch();
            table.set("group/prompt", Data::I64(vec![7, 7, 7, 5]));
            let second = run(&mut objective, &table, cut);
            assert_eq!(second.state.get("state/rate.key").unwrap().data, Data::I64(vec![-3, 7]));
            // 0.375 becomes 0.4375, 0.6875 and 0.1875: 0.4375 on average.
            assert_eq!(floats(&second.state, "state/rate"), [0.75, 0.4375]);
            assert_eq!(second.metrics["noise"].to_bits(), noise.to_bits());
            // Ratio 1: the gradient is minus the advantage over the rollout's tokens and rollouts.
            let grads = &second.grads["logp"].data;
            let advantage = (1.0 - 0.375) * 2.0;
            assert!((grads.get(0) + advantage / 4.0).abs() < 1e-6);
        }
    }
}

#[test]
fn a_state_that_does_not_fit_is_named() {
    let mut objective = objective(Backend::Cpu);
    let mut table = batch();
    table.set("state/rate", Data::F32(vec![0.5, 0.5]));
    let text = objective.begin(&table, Logits::InTable).err().unwrap().to_string();
    assert!(text.contains("`state/rate` is keyed") && text.contains("`state/rate.key`"), "{text}");
    table.set("state/rate.key", Data::I64(vec![7]));
    let text = objective.begin(&table, Logits::InTable).err().unwrap().to_string();
    assert!(text.contains('2') && text.contains("1 keys"), "{text}");
    let mut table = batch();
    table.arrays.remove("group/prompt");
    let text = objective.begin(&table, Logits::InTable).err().unwrap().to_string();
    assert!(text.contains("group/prompt"), "{text}");
}

#[test]
fn a_state_never_becomes_nan() {
    for backend in [Backend::Interp, Backend::Cpu] {
        let mut objective = objective(backend);
        let mut table = batch();
        // The loss does not read the state of prompt 8 again, but the next batch would.
        table.set("state/rate", Data::F64(vec![f64::NAN]));
        table.set("state/rate.key", Data::I64(vec![8]));
        table.set("rollout/reward", Data::F32(vec![1.0, 0.0, 1.0, 0.0, 8.0]));
        let mut step = objective.begin(&table, Logits::InTable).unwrap();
        let said = (|| {
            for piece in step.exact_pieces(usize::MAX)? {
                step.live(piece, None)?;
            }
            step.finish().map(drop)
        })();
        let said = said.unwrap_err().to_string();
        assert!(said.contains("rate") || said.contains("not finite"), "{said}");
    }
}
