//! Loops that run by blocks of rows, against the interpreter: ragged, masked, empty and one-token rollouts, extreme
//! numbers, columns of every type, every width.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod device_support;

use std::collections::BTreeSet;
use std::sync::Arc;

use device_support::compare::{compare, kernel};
use device_support::{Rng, batch, program_with};
use rlc_compiler::columns::{self, Numbers};
use rlc_compiler::hir::ColumnId;
use rlc_compiler::interp::Vocab;
use rlc_compiler::program::Program;
use rlc_compiler::shape::Shape;
use rlc_compiler::specialize::Settings;
use rlc_compiler::stdlib::OBJECTIVES;
use rlc_compiler::table::{Data, Table};
use rlc_runtime::device::cpu::{Kernel, Width};

/// Around the vectors of 8 rows, the four that go side by side, the 64 bytes and the plain loops' blocks of 128.
const SIZES: [i64; 18] = [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65, 127, 128, 129, 300];

/// Rollouts of all these sizes, with log-probs given. `f32`: floats of 32 bits.
fn table(rng: &mut Rng, f32: bool) -> Table {
    let rollouts = SIZES.len();
    let tokens = SIZES.iter().sum::<i64>() as usize;
    let mut t = batch(rng, 1, 1);
    t.arrays.retain(|name, _| name.starts_with("batch/"));
    let floats = |rng: &mut Rng, n: usize, scale: f64| {
        let x = rng.normals(n, scale);
        if f32 { Data::F32(x.iter().map(|x| *x as f32).collect()) } else { Data::F64(x) }
    };
    t.set("group/size", Data::I64(vec![1, 5, 0, 8, 4]));
    t.set("group/prompt", Data::I64((0..5).collect()));
    t.set("rollout/size", Data::I64(SIZES.to_vec()));
    // Turns of all the sizes too: two a rollout, the first of a third of it.
    t.set("rollout/turns", Data::I64(vec![2; rollouts]));
    t.set("turn/size", Data::I64(SIZES.iter().flat_map(|n| [n / 3, n - n / 3]).collect()));
    for name in
        ["logp", "old_logp", "ref_logp", "sampler_logp", "value", "old_value", "token_reward"]
    {
        t.set(format!("token/{name}"), floats(rng, tokens, 0.5));
    }
    t.set("token/entropy", floats(rng, tokens, 0.5));
    t.set("rollout/reward", floats(rng, rollouts, 1.0));
    t.set("turn/step_correct", floats(rng, 2 * rollouts, 0.3));
    t.set("turn/step_reward", floats(rng, 2 * rollouts, 0.3));
    t.set("token/mask", Data::U8(rng.bools(tokens, 0.7)));
    t.set("rollout/truncated", Data::U8(rng.bools(rollouts, 0.2)));
    t.set("rollout/correct", Data::U8(rng.bools(rollouts, 0.5)));
    t.set("token/action", Data::I64((0..tokens).map(|_| rng.below(9) as i64 - 1).collect()));
    t
}

fn of(text: &str, table: &Table) -> Arc<Program> {
    let present: BTreeSet<String> = table.arrays.keys().cloned().collect();
    program_with(text, &Settings { present: Some(present), ..Settings::default() })
}

/// Every operator, folds of every kind at every level, more of them than registers keep, values of coarser rows.
const PROGRAMS: &[&str] = &[
    "loss = seq_mean(-logp * advantage + 0.04 * kl_k3(logp, ref_logp))",
    "x = logp - old_logp\n\
     a = (if x > 0 then sqrt(abs(x)) else -x * 2) + relu(x) - sign(x) * floor(3 * x)\n\
     b = ceil(x) + round(x * 7) - int(x * 3) + (x // 0.3) + (x % 0.7) + exp(x) * expm1(-x)\n\
     c = min(max(a, b), 2 * a) / (1 + x * x)\n\
     d = if not (x < 0.1 and x >= -0.2 or x == 0 or a <= b or a != b) then 1 else (if isfinite(x / a) then 2 else 3)\n\
     loss = token_mean(c + b * 0.1) + token_mean(a * d)\n\
     metric most = max(c)\nmetric least = min(a @ token)\nmetric both = prod(1 + 0.01 * c)\n\
     metric of_turns = mean(max(c per turn))\nmetric of_groups = sum(min(b per group))\n\
     metric counted = sum(count(x where x > 0 per rollout))",
    "x = exp(logp)\ny = exp(old_logp)\nz = exp(ref_logp)\nw = expm1(value)\nv = exp(old_value)\n\
     s = sum(x * y per rollout)\n\
     u = x * y + y * z + z * w + w * v + v * x + x * z + y * w + z * v + w * x + v * y\n\
     loss = token_mean(u * s * 1e-3 + (x + y + z + w + v) / (1 + u * u))\n\
     metric a = token_mean(x)\nmetric b = token_mean(y)\nmetric c = token_mean(z)\n\
     metric d = token_mean(w)\nmetric e = token_mean(v)\nmetric f = token_mean(x * v)",
    // No instructions for these: the plain loops.
    "loss = token_mean(log(1 + logp ^ 2) + tanh(value) * sigmoid(logp) + softplus(old_logp) ^ 1.5)",
    "place = position / (1 + length)\n\
     loss = token_mean(logp * place * step_reward * reward + action * 0.1 * logp)\n\
     metric odd = token_mean(index(token in rollout) % 2)",
    "loss = token_mean(next(logp, 0 in rollout) * 0.5 + cumsum(logp in turn) * exp(logp))",
];

#[test]
fn blocks_match_the_interpreter() {
    let mut rng = Rng(77);
    let library = OBJECTIVES.iter().map(|o| o.2.to_owned());
    let own = PROGRAMS.iter().map(|p| (*p).to_owned());
    for f32 in [false, true] {
        let table = table(&mut rng, f32);
        for text in library.clone().chain(own.clone()) {
            let program = of(&text, &table);
            let mut kernel = kernel(&text, &program, &[]);
            for rows in [3, usize::MAX / 2] {
                compare(&text, &program, &mut kernel, &table, rows);
            }
        }
    }
}

#[test]
fn extreme_numbers() {
    let mut rng = Rng(5);
    let mut table = table(&mut rng, false);
    let tokens = SIZES.iter().sum::<i64>() as usize;
    let ends =
        [1e4, -1e4, f64::NEG_INFINITY, 0.0, -0.0, 709.5, -745.0, 1e-300, f64::INFINITY, -0.5, 0.02];
    let column =
        |rng: &mut Rng| Data::F64((0..tokens).map(|_| ends[rng.below(ends.len())]).collect());
    for name in ["token/logp", "token/old_logp", "token/ref_logp"] {
        table.set(name, column(&mut rng));
    }
    table
        .set("rollout/reward", Data::F64((0..SIZES.len()).map(|i| ends[i % ends.len()]).collect()));
    for text in [
        "extend nothing\nminimize loss\nloss = token_mean(exp(logp - old_logp) * reward)\nmetric a = token_mean(expm1(ref_logp))",
        "extend nothing\nminimize loss\nloss = token_mean(min(logp, old_logp) + max(ref_logp, logp) * reward)",
        "extend nothing\nminimize loss\nloss = mean(clipped(exp(logp - old_logp), reward, 0.2, 0.2) where isfinite(logp - old_logp))",
        "extend nothing\nminimize loss\nloss = token_mean(if logp > old_logp then relu(logp) else abs(ref_logp) * sign(logp))",
    ] {
        let program = of(text, &table);
        let mut kernel = kernel(text, &program, &[]);
        compare(text, &program, &mut kernel, &table, usize::MAX / 2);
    }
}

/// Everything that a pass gives, as bits.
fn pass(
    kernel: &mut Kernel,
    program: &Program,
    shape: &Shape,
    given: &[(ColumnId, Numbers)],
) -> Vec<Vec<u64>> {
    let params: Vec<f64> = program.graph.params.iter().map(|p| p.value).collect();
    let none = Vocab::default();
    let mut run = kernel.start_with(shape, given, &params).unwrap();
    run.recorded(&none).unwrap();
    run.live(0..shape.count(program.piece), &none, &mut []).unwrap();
    run.after(&none).unwrap();
    let value = |e| run.value(e).unwrap().iter().map(|x| x.to_bits()).collect();
    program.outputs().into_iter().map(|o| value(o.1)).collect()
}

#[test]
fn columns_of_every_type_give_the_same_bits() {
    let mut rng = Rng(123);
    let table = table(&mut rng, true);
    let library = OBJECTIVES.iter().map(|o| o.2.to_owned());
    for text in library.chain(PROGRAMS.iter().map(|p| (*p).to_owned())) {
        let program = of(&text, &table);
        let shape = Shape::new(&program.graph.level_table, &table).unwrap();
        let state = Table::default();
        let loaded = columns::load(&program, &table, &state, &shape, false).unwrap();
        let lying = columns::check(&program, &table, &state, &shape, false).unwrap();
        let ids = columns::needed(&program);
        let wide: Vec<_> = ids.iter().map(|c| (*c, Numbers::F64(loaded.get(*c)))).collect();
        let own: Vec<_> =
            ids.iter().map(|c| (*c, lying.numbers(*c, &program.graph, &table))).collect();
        assert!(own.iter().any(|c| matches!(c.1, Numbers::F32(_))), "{text}");
        let mut kernel = kernel(&text, &program, &[]);
        let want = pass(&mut kernel, &program, &shape, &wide);
        for width in Width::ALL.into_iter().filter(|w| w.available()) {
            kernel.set_width(width);
            assert!(pass(&mut kernel, &program, &shape, &own) == want, "{text} {width:?}");
            assert!(pass(&mut kernel, &program, &shape, &wide) == want, "{text} {width:?}");
        }
        assert!(kernel.loops_by_blocks() > 0, "{text}");
    }
}

#[test]
fn arguments_out_of_reach_change_no_other_row() {
    let mut rng = Rng(9);
    let mut table = table(&mut rng, false);
    for name in ["token/logp", "token/old_logp"] {
        let Some(Data::F64(mut x)) = table.arrays.get(name).map(|a| a.data.clone()) else {
            panic!("{name}")
        };
        // Results of the first are below the normal numbers, of the second 0 and -1.
        for (n, x) in x.iter_mut().enumerate().filter(|(n, _)| n % 37 == 0) {
            *x = if n % 2 == 0 { -715.25 } else { -1e4 };
        }
        x[100] = 708.5;
        table.set(name, Data::F64(x));
    }
    let text = "extend nothing\nminimize loss\nloss = token_mean(exp(logp) * reward * 1e-5 + expm1(old_logp) * 1e-5)";
    let program = of(text, &table);
    let shape = Shape::new(&program.graph.level_table, &table).unwrap();
    let loaded = columns::load(&program, &table, &Table::default(), &shape, false).unwrap();
    let ids = columns::needed(&program);
    let given: Vec<_> = ids.iter().map(|c| (*c, Numbers::F64(loaded.get(*c)))).collect();
    let mut kernel = kernel(text, &program, &[]);
    compare(text, &program, &mut kernel, &table, usize::MAX / 2);
    let want = pass(&mut kernel, &program, &shape, &given);
    for width in Width::ALL.into_iter().filter(|w| w.available()) {
        kernel.set_width(width);
        assert!(pass(&mut kernel, &program, &shape, &given) == want, "{width:?}");
    }
}
