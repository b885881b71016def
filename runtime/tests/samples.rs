//! `sample` statements through the whole objective: one value per group whatever the cut, the kept
//! mask beside it, the deepest file's statement of each kind.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlc_compiler::link::Loader;
use rlc_compiler::source::{Source, Sources};
use rlc_compiler::table::{Data, Table};
use rlc_runtime::objective::{Backend, Logits, Objective, Samples};

const BASE: &str = "
sample weight = 7.0
sample rollouts = count(rollout per group) * 2
";

struct Base;

impl Loader for Base {
    fn load(&self, _: &str, path: &str) -> Result<(String, String), String> {
        Ok((path.to_owned(), BASE.to_owned()))
    }
}

fn batch() -> Table {
    let mut t = Table::default();
    t.set("group/size", Data::I64(vec![2, 1, 2]));
    t.set("rollout/size", Data::I64(vec![1, 2, 1, 1, 1]));
    t.set("rollout/reward", Data::F32(vec![1.0, 0.0, 1.0, 0.0, 0.0]));
    t.set("token/logp", Data::F32(vec![-1.0, -0.5, -2.0, -1.0, -1.0, -1.0]));
    t.set("token/old_logp", Data::F32(vec![-1.0; 6]));
    t
}

fn objective(text: &str, backend: Backend) -> Objective {
    let mut sources = Sources::default();
    let source = Source { name: "t.rl".into(), text: text.into(), library: false };
    let root = sources.add(source);
    let (checked, found) = rlc_compiler::check(&mut sources, root, &Base);
    Objective::new(checked.unwrap_or_else(|| panic!("{found:?}")), backend)
}

fn samples(text: &str, backend: Backend, cut: usize) -> Samples {
    let (mut objective, table) = (objective(text, backend), batch());
    let mut step = objective.begin(&table, Logits::InTable).unwrap();
    for piece in step.exact_pieces(cut).unwrap() {
        step.live(piece, None).unwrap();
    }
    step.finish().unwrap().samples.clone()
}

#[test]
fn one_value_per_group_whatever_the_cut() {
    let text = "
extend \"base.rl\"
keep group where mean(reward per group) > 0
sample weight = 1 - mean(reward per group)
";
    for backend in [Backend::Interp, Backend::Cpu] {
        for cut in [1, 2, 5] {
            let found = samples(text, backend, cut);
            let weight = found.weight.unwrap();
            assert_eq!(weight[..2], [0.5, 0.0]);
            // From the base; the other statement was replaced.
            assert_eq!(found.rollouts.unwrap()[..2], [4.0, 2.0]);
            assert_eq!(found.kept, Some(vec![true, true, false]));
        }
    }
}

#[test]
fn a_live_weight_waits_for_every_piece() {
    for backend in [Backend::Interp, Backend::Cpu] {
        for cut in [1, 5] {
            let text = "sample weight = max(abs(logp - old_logp) per group)";
            let found = samples(text, backend, cut);
            let expected = [1.0, 0.0, 0.0];
            for (found, expected) in found.weight.unwrap().iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6);
            }
            assert_eq!((found.rollouts, found.kept), (None, None));
        }
    }
}

#[test]
fn a_column_that_only_sample_reads_is_needed() {
    let mut objective = objective(
        "sample weight = mean(truth per group)\ninput truth : real @ rollout",
        Backend::Interp,
    );
    let table = batch();
    let e = objective.begin(&table, Logits::InTable).err().unwrap().to_string();
    assert!(e.contains("`rollout/truth`"), "{e}");
}
