//! Numbers that a batch cannot mean are refused before anything is computed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlc_compiler::columns;
use rlc_compiler::link::NoFiles;
use rlc_compiler::shape::Shape;
use rlc_compiler::source::{Source, Sources};
use rlc_compiler::specialize::{Settings, specialize};
use rlc_compiler::table::{Data, Table};

const PROGRAM: &str = "extend nothing
key scene = (group, action)
state rate[prompt] : real @ group = 0.5
update rate = mean(reward per group)
minimize sum(mean(logp per scene)) + 0 * mean(rate)
";

/// What is said of a batch of two groups of one rollout of one token.
fn refused(change: impl Fn(&mut Table)) -> Option<String> {
    let mut sources = Sources::default();
    let root = sources.add(Source { name: "p.rl".into(), text: PROGRAM.into(), library: false });
    let (checked, found) = rlc_compiler::check(&mut sources, root, &NoFiles);
    let checked = checked.unwrap_or_else(|| panic!("{found:?}"));
    let mut table = Table::default();
    for size in ["group/size", "rollout/size"] {
        table.set(size, Data::I64(vec![1, 1]));
    }
    table.set("group/prompt", Data::I64(vec![i64::MAX, i64::MAX - 1]));
    table.set("rollout/reward", Data::F32(vec![1.0, 0.0]));
    table.set("token/logp", Data::F32(vec![-1.0, -2.0]));
    table.set("token/action", Data::I64(vec![1 << 53, -1 << 53]));
    table.set("state/rate", Data::F64(vec![0.5, 0.25]));
    table.set("state/rate.key", Data::I64(vec![i64::MAX, i64::MAX - 1]));
    change(&mut table);
    let present = Some(table.arrays.keys().cloned().collect());
    let settings = Settings { present, ..Settings::default() };
    let program = specialize(&checked, &settings).unwrap().program;
    let shape = Shape::new(&program.graph.level_table, &table).unwrap();
    columns::load(&program, &table, &Table::default(), &shape, false).err().map(|e| e.0)
}

#[test]
fn ints_are_told_apart_or_refused() {
    // Keys of states are ints of 64 bits; what is computed with ends at 2^53.
    assert_eq!(refused(|_| {}), None);
    let said = refused(|t| t.set("token/action", Data::I64(vec![0, (1 << 53) + 1]))).unwrap();
    assert!(said.contains("`token/action` has 9007199254740993 at entry 1"), "{said}");
    let said = refused(|t| t.set("token/action", Data::I64(vec![i64::MIN, 0]))).unwrap();
    assert!(said.contains("`token/action` has -9223372036854775808 at entry 0"), "{said}");
}

#[test]
fn a_key_of_a_state_has_one_value() {
    let said = refused(|t| t.set("state/rate.key", Data::I64(vec![7, 7]))).unwrap();
    assert!(said.contains("`state/rate.key` has the key 7 twice"), "{said}");
}
