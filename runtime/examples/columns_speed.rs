//! How fast objectives run from given log-probs, one thread: nanoseconds of each phase, and the loops that take them.
//!
//!     cargo run --release -p rlc-runtime --example columns_speed -- [--plan] [objective[,param=value ...] ...]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement, not a library")]

use std::collections::BTreeSet;
use std::time::Instant;

use rlc_compiler::columns;
use rlc_compiler::hir::ColumnId;
use rlc_compiler::interp::Vocab;
use rlc_compiler::link::NoFiles;
use rlc_compiler::shape::Shape;
use rlc_compiler::source::{Source, Sources};
use rlc_compiler::specialize::{Settings, specialize};
use rlc_compiler::stdlib;
use rlc_compiler::table::{Data, Table};
use rlc_runtime::device::cpu::{Kernel, Numbers};

fn main() {
    let mut plan = false;
    let mut names: Vec<String> = Vec::new();
    for arg in std::env::args().skip(1) {
        if arg == "--plan" {
            plan = true;
        } else {
            names.push(arg);
        }
    }
    if names.is_empty() {
        names = ["grpo,beta=0.04", "gspo", "calibadv"].map(str::to_owned).into();
    }
    let table = batch();
    for name in names {
        measure(&name, &table, plan);
    }
}

/// 64 rollouts of 64 to 1,024 tokens in groups of 8, 35,422 tokens, four turns each.
fn batch() -> Table {
    let mut state = 88_172_645_463_325_252u64;
    let mut unit = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut sizes: Vec<i64> = (0..64).map(|_| 64 + (unit() * 961.0) as i64).collect();
    let mut at = 0;
    loop {
        let total: i64 = sizes.iter().sum();
        if total == 35_422 {
            break;
        }
        sizes[at % 64] = (sizes[at % 64] + (35_422 - total).signum()).clamp(64, 1024);
        at += 1;
    }
    let tokens = 35_422;
    let turns = sizes.iter().flat_map(|n| (0..4).map(move |k| (n + k) / 4)).collect();
    let mut table = Table::default();
    table.set("group/size", Data::I64(vec![8; 8]));
    table.set("rollout/size", Data::I64(sizes));
    table.set("turn/size", Data::I64(turns));
    let logp: Vec<f32> = (0..tokens).map(|_| (-2.0 - unit() * 2.0) as f32).collect();
    for name in ["token/old_logp", "token/ref_logp", "token/sampler_logp"] {
        let near = logp.iter().map(|l| l + (unit() - 0.5) as f32 * 0.4).collect();
        table.set(name, Data::F32(near));
    }
    table.set("token/logp", Data::F32(logp));
    table.set("token/mask", Data::U8((0..tokens).map(|_| u8::from(unit() < 0.9)).collect()));
    table.set("token/action", Data::I64((0..tokens).map(|_| (unit() * 1000.0) as i64).collect()));
    table.set("rollout/reward", Data::F32((0..64).map(|_| unit() as f32).collect()));
    table.set("turn/step_correct", Data::F32((0..256).map(|_| unit() as f32).collect()));
    table.set("batch/train.step", Data::I64(vec![10]));
    table.set("batch/train.total", Data::I64(vec![100]));
    table
}

fn measure(name: &str, table: &Table, plan: bool) {
    let mut parts = name.split(',');
    let file = parts.next().unwrap();
    let mut sources = Sources::default();
    let text = match stdlib::objective(file) {
        Some((_, text)) => text.to_owned(),
        None => std::fs::read_to_string(file).unwrap(),
    };
    let root = sources.add(Source { name: file.into(), text, library: true });
    let (checked, _) = rlc_compiler::check(&mut sources, root, &NoFiles);
    let checked = checked.unwrap();
    let mut params: Vec<f64> = checked.graph.params.iter().map(|p| p.value).collect();
    for set in parts {
        let (key, value) = set.split_once('=').unwrap();
        let at = checked.graph.params.iter().position(|p| p.name == key).unwrap();
        params[at] = value.parse().unwrap();
    }
    let present: BTreeSet<String> = table.arrays.keys().cloned().collect();
    let settings =
        Settings { params: params.clone(), present: Some(present), ..Settings::default() };
    let program = specialize(&checked, &settings).unwrap().program;
    let mut kernel = Kernel::new(&program, &[]).unwrap();
    if plan {
        println!("{}", kernel.plan().print());
    }
    let shape = Shape::new(&program.graph.level_table, table).unwrap();
    let loaded = columns::load(&program, table, &Table::default(), &shape, false).unwrap();
    let typed = |c: ColumnId| match table.get(&program.graph.column_path(c)).map(|a| &a.data) {
        Some(Data::F32(x)) => Numbers::F32(x),
        Some(Data::I64(x)) => Numbers::I64(x),
        Some(Data::U8(x)) => Numbers::U8(x),
        _ => Numbers::F64(loaded.get(c)),
    };
    let given: Vec<(ColumnId, Numbers)> =
        columns::needed(&program).into_iter().map(|c| (c, typed(c))).collect();
    let none = Vocab::default();
    let mut best = [f64::INFINITY; 5];
    let mut loss = 0.0;
    for _ in 0..2000 {
        let t0 = Instant::now();
        let mut run = kernel.start_with(&shape, &given, &params).unwrap();
        let t1 = Instant::now();
        run.recorded(&none).unwrap();
        let t2 = Instant::now();
        run.live(0..shape.count(program.piece), &none, &mut []).unwrap();
        let t3 = Instant::now();
        run.after(&none).unwrap();
        let t4 = Instant::now();
        loss = run.value(program.loss).unwrap()[0];
        for (best, (from, to)) in
            best.iter_mut().zip([(t0, t1), (t1, t2), (t2, t3), (t3, t4), (t0, t4)])
        {
            *best = best.min((to - from).as_secs_f64());
        }
    }
    let us = best.map(|b| b * 1e6);
    println!(
        "{name}: {:.1} us a pass (start {:.1}, recorded {:.1}, live {:.1}, after {:.1}), {:.2} ns a token, loss {loss:.12}",
        us[4],
        us[0],
        us[1],
        us[2],
        us[3],
        best[4] * 1e9 / 35_422.0
    );
}
