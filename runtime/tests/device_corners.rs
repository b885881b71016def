//! Corner cases of compiled kernels, against plain loops over the numbers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod device_support;

use std::sync::Arc;

use device_support::compare::{compare, kernel, vocab_of};
use device_support::{Rng, batch, program};
use rlc_compiler::columns;
use rlc_compiler::hir::{ColumnId, ColumnInfo, Expr, Graph, ReduceOp};
use rlc_compiler::interp::{Vocab, VocabRows};
use rlc_compiler::level::{BATCH, ROLLOUT, TOKEN, VOCAB};
use rlc_compiler::op::{Ty, Unary};
use rlc_compiler::program::{Emitted, Program};
use rlc_compiler::shape::Shape;
use rlc_compiler::stage;
use rlc_compiler::table::{Array, Data, Floats, Table, bf16_to_f32, f16_to_f32};
use rlc_runtime::device::cpu::{Kernel, float};
use rlc_runtime::device::{DeviceError, Gradient};

/// Loss and gradient of the logits of a whole batch in one piece.
fn run(program: &Arc<Program>, table: &Table) -> (f64, Vec<f32>) {
    let vocab = vocab_of(program, table);
    let floats: Vec<_> = vocab.iter().map(|(c, r)| (*c, float(r.data))).collect();
    let mut kernel = kernel("corner", program, &floats);
    run_with(program, table, &mut kernel, &vocab).unwrap()
}

fn run_with(
    program: &Arc<Program>,
    table: &Table,
    kernel: &mut Kernel,
    vocab: &Vocab,
) -> Result<(f64, Vec<f32>), DeviceError> {
    let shape = Shape::new(&program.graph.level_table, table).unwrap();
    let columns = columns::load(program, table, &Table::default(), &shape, false).unwrap();
    let given: Vec<(ColumnId, &[f64])> =
        columns::needed(program).into_iter().map(|c| (c, columns.get(c))).collect();
    let params: Vec<f64> = program.graph.params.iter().map(|p| p.value).collect();
    let mut run = kernel.start(&shape, &given, &params)?;
    run.recorded(vocab)?;
    let mut out = vec![f32::NAN; shape.count(VOCAB)];
    let column = program.grads[0].0;
    run.live(
        0..shape.count(program.piece),
        vocab,
        &mut [Gradient { column, data: (&mut out).into() }],
    )?;
    run.after(vocab)?;
    Ok((run.value(program.loss).unwrap()[0], out))
}

/// One group of one rollout with these logits.
fn rollout(logits: &[Vec<f32>], action: &[i64]) -> Table {
    let (tokens, width) = (logits.len(), logits[0].len());
    let mut t = Table::default();
    t.set("group/size", Data::I64(vec![1]));
    t.set("rollout/size", Data::I64(vec![tokens as i64]));
    t.set("rollout/reward", Data::F64(vec![1.0]));
    t.set("token/mask", Data::U8(vec![1; tokens]));
    t.set("token/old_logp", Data::F64(vec![-1.0; tokens]));
    t.set("token/action", Data::I64(action.to_vec()));
    let data = Data::F32(logits.concat());
    t.arrays.insert("vocab/logits".into(), Array { data, shape: vec![tokens, width] });
    t
}

fn softmax(z: &[f32]) -> (f64, Vec<f64>) {
    let most = z.iter().fold(f64::NEG_INFINITY, |a, b| a.max(f64::from(*b)));
    let e: Vec<f64> = z.iter().map(|x| (f64::from(*x) - most).exp()).collect();
    let sum: f64 = e.iter().sum();
    (most + sum.ln(), e.iter().map(|x| x / sum).collect())
}

#[test]
fn cross_entropy_and_entropy_by_hand() {
    let inf = f32::NEG_INFINITY;
    let rows = vec![
        vec![0.5, -1.0, 2.0, 0.25],
        vec![1e4, -1e4, 0.0, 9999.0],
        vec![inf, 0.3, inf, 0.1],
        vec![-1e4, -1e4, -1e4, -1e4],
        vec![inf, inf, 3.0, inf],
        vec![-300.0, 0.0, 500.0, 499.0],
    ];
    let actions = [2, 0, 1, 3, 2, 3];
    let program = program("loss = sum(-logp - 0.3 * entropy)\nextend sft");
    let (loss, grad) = run(&program, &rollout(&rows, &actions));
    let mut want = 0.0;
    for (t, row) in rows.iter().enumerate() {
        let (lse, p) = softmax(row);
        let logp = f64::from(row[actions[t] as usize]) - lse;
        let mean: f64 =
            p.iter().zip(row).map(|(p, z)| if *p > 0.0 { p * f64::from(*z) } else { 0.0 }).sum();
        let entropy = lse - mean;
        want += -logp - 0.3 * entropy;
        for (i, p) in p.iter().enumerate() {
            let hit = f64::from(u8::from(actions[t] as usize == i));
            // d entropy / dz_i = -p_i (z_i - E[z])
            let slope = if *p > 0.0 { -p * (f64::from(row[i]) - mean) } else { 0.0 };
            let want = (p - hit) - 0.3 * slope;
            let got = f64::from(grad[t * row.len() + i]);
            assert!((got - want).abs() < 1e-6, "token {t} entry {i}: {got} instead of {want}");
        }
    }
    assert!((loss - want).abs() < 1e-9 * want.abs(), "{loss} instead of {want}");
}

#[test]
fn clipped_surrogate_by_hand() {
    let mut rng = Rng(5);
    let (tokens, width) = (40, 6);
    let rows: Vec<Vec<f32>> =
        (0..tokens).map(|_| rng.normals(width, 1.5).iter().map(|x| *x as f32).collect()).collect();
    let actions: Vec<i64> = (0..tokens).map(|_| rng.below(width) as i64).collect();
    let mut table = rollout(&rows, &actions);
    let old = rng.normals(tokens, 0.7);
    table.set("token/old_logp", Data::F64(old.clone()));
    table.set("rollout/reward", Data::F64(vec![-2.0]));
    let mask: Vec<u8> = rng.bools(tokens, 0.7);
    table.set("token/mask", Data::U8(mask.clone()));
    let text = "advantage = reward\nloss = token_mean(token_loss)";
    let (loss, grad) = run(&program(text), &table);
    let kept = mask.iter().filter(|m| **m == 1).count() as f64;
    let mut want = 0.0;
    for t in 0..tokens {
        let (lse, p) = softmax(&rows[t]);
        let a = actions[t] as usize;
        let ratio = (f64::from(rows[t][a]) - lse - old[t]).exp();
        let (free, bound) = (-2.0 * ratio, -2.0 * ratio.clamp(0.8, 1.2));
        let on = f64::from(mask[t]);
        want -= on * free.min(bound) / kept;
        let slope = if free <= bound { on * 2.0 * ratio / kept } else { 0.0 };
        for (i, p) in p.iter().enumerate() {
            let hit = f64::from(u8::from(a == i));
            let got = f64::from(grad[t * width + i]);
            assert!((got - slope * (hit - p)).abs() < 1e-7, "token {t} entry {i}");
        }
    }
    assert!((loss - want).abs() < 1e-12, "{loss} instead of {want}");
}

/// A token that a filter dropped may have any logits: its gradient is 0.
#[test]
fn dropped_tokens_have_no_gradient() {
    let (inf, nan) = (f32::NEG_INFINITY, f32::NAN);
    let rows = vec![vec![inf, inf, inf], vec![0.1, 0.2, 0.3], vec![nan, 0.0, 1.0]];
    let mut table = rollout(&rows, &[0, 1, 2]);
    table.set("token/mask", Data::U8(vec![0, 1, 0]));
    table.set("token/old_logp", Data::F64(vec![0.0, -1.0, f64::NAN]));
    for text in ["", "extend gspo", "loss = seq_mean(token_loss - 0.1 * entropy)"] {
        let program = program(&format!("advantage = reward\n{text}"));
        let (loss, grad) = run(&program, &table);
        assert!(loss.is_finite(), "{text}: {loss}");
        for t in [0, 2] {
            assert_eq!(grad[t * 3..t * 3 + 3], [0.0; 3], "{text} token {t}");
        }
        assert!(grad[3..6].iter().all(|g| g.is_finite() && *g != 0.0), "{text}");
    }
}

/// Every number type of logits, also the special values of each.
#[test]
fn logits_of_every_type() {
    let mut rng = Rng(11);
    let program =
        program("extend sft\nloss = sum(-logp + max(logits per token) + prod(logits per token))");
    let table = |data: Data| {
        let mut t = rollout(&vec![vec![0.0; 4]; 8], &[0, 1, 2, 3, 0, 1, 2, 3]);
        t.arrays.insert("vocab/logits".into(), Array { data, shape: vec![8, 4] });
        t
    };
    let mut bits: Vec<u16> = (0..32).map(|_| rng.below(0x4400) as u16).collect();
    bits[3] = 0x8001;
    bits[7] = 0x0001;
    bits[9] = 0x83ff;
    for (raw, data) in [
        (bits.iter().map(|b| bf16_to_f32(*b)).collect::<Vec<f32>>(), Data::Bf16(bits.clone())),
        (bits.iter().map(|b| f16_to_f32(*b)).collect(), Data::F16(bits.clone())),
    ] {
        let (want, want_grad) = run(&program, &table(Data::F32(raw.clone())));
        let (loss, grad) = run(&program, &table(data));
        assert_eq!(loss.to_bits(), want.to_bits());
        assert_eq!(grad, want_grad);
        let wide = raw.iter().map(|x| f64::from(*x)).collect();
        assert_eq!(run(&program, &table(Data::F64(wide))).0.to_bits(), want.to_bits());
    }
    // Inf and NaN keep their place and sign.
    let text = "extend sft\nmetric most = max(max(logits per token))\nloss = sum(-logp)";
    let most = self::program(text);
    for (one, is) in [(0x7c00u16, f64::INFINITY), (0x7e01, f64::NAN), (0xfc00, 3.0)] {
        let mut bits = vec![0x4200u16; 32];
        bits[5] = one;
        let t = table(Data::F16(bits));
        compare("f16", &most, &mut kernel("f16", &most, &floats(&most, &t)), &t, 1);
        let got = f64::from(f16_to_f32(one));
        assert!(got == is || got.is_nan() || one == 0xfc00);
    }
}

fn floats(program: &Program, table: &Table) -> Vec<(ColumnId, rlc_compiler::clif::Float)> {
    vocab_of(program, table).iter().map(|(c, r)| (*c, float(r.data))).collect()
}

/// Nothing to do is done.
#[test]
fn empty_batches() {
    for sizes in [vec![], vec![0], vec![1, 0, 2]] {
        let rollouts: i64 = sizes.iter().sum();
        let mut t = batch(&mut Rng(3), 1, 3);
        for (name, array) in &mut t.arrays {
            let n = match name.split('/').next() {
                Some("rollout") => rollouts as usize,
                Some("group") => sizes.len(),
                Some("batch") => continue,
                _ => 0,
            };
            array.data = match &array.data {
                Data::I64(_) => Data::I64(vec![0; n]),
                Data::F64(_) => Data::F64(vec![0.5; n]),
                Data::F32(_) => Data::F32(vec![0.0; n]),
                Data::U8(_) => Data::U8(vec![0; n]),
                Data::Bf16(_) | Data::F16(_) => continue,
            };
            array.shape[0] = n;
        }
        t.set("group/size", Data::I64(sizes));
        for text in ["extend grpo", "extend gspo", "extend calibadv", ALONG, LIVE_KEYS] {
            let program = program(text);
            let mut kernel = kernel(text, &program, &[]);
            compare(text, &program, &mut kernel, &t, 1);
        }
    }
}

/// Elements that lie in many pieces, and what runs along them.
const ALONG: &str = "key odd = (index(token in rollout) % 2)\nkey duel = pairs(rollout in group)\n\
    gain = cumsum(token_reward in odd) - prev(old_logp, 0.5, by = 3 in odd) + rank(old_logp in odd)\n\
    loss = seq_mean(-logp * gain) + mean(left(reward in duel) * mean(old_logp))\n\
    metric each = mean(mean(logp per odd))\nmetric swing = max(discounted(logp, 0.5 in odd))";

/// Elements that the policy decides.
const LIVE_KEYS: &str = "key side = (group, logp > -1)\nkey hot = runs(logp > old_logp - 2 in rollout)\n\
    run = cumsum(logp in hot) + tanh(prev(logp, 0.1, by = 2 in side))\n\
    loss = mean(run) + mean(mean(logp per side)) + mean(max(logp per hot))";

/// An element may have its rows in every piece.
#[test]
fn elements_across_pieces() {
    for seed in 1..6 {
        let table = batch(&mut Rng(seed), 5, 3);
        for text in [ALONG, LIVE_KEYS] {
            let program = program(text);
            let mut kernel = kernel(text, &program, &[]);
            for rows in [1, 2, usize::MAX / 2] {
                compare(text, &program, &mut kernel, &table, rows);
            }
        }
    }
}

/// Numbers that name no row: what is read is 0, what is folded or carried counts nowhere.
#[test]
fn numbers_of_no_row() {
    let mut graph = Graph::default();
    let real = |graph: &mut Graph, level, name: &str| {
        let (name, ty) = (name.to_owned(), Ty::Real);
        let differentiable = name == "value";
        graph.columns.push(ColumnInfo {
            level,
            name,
            ty,
            differentiable,
            default: None,
            span: None,
        });
        graph.column(ColumnId(graph.columns.len() as u16 - 1))
    };
    let index = real(&mut graph, TOKEN, "index");
    let x = real(&mut graph, TOKEN, "value");
    let per_rollout = real(&mut graph, ROLLOUT, "reward");
    // Elements are whole numbers.
    let whole = graph.unary(Unary::Floor, index);
    let finite = graph.unary(Unary::IsFinite, index);
    let none = graph.constant(-1.0, Ty::Int);
    let element = graph.select(finite, whole, none);
    let zero = graph.constant_at(0.0, Ty::Real, TOKEN);
    let (scope, filter, within) = (BATCH, None, Some(element));
    let mut made = Vec::new();
    for source in [x, per_rollout] {
        let e = Expr::Gather { x: source, index, scope };
        made.push(graph.add(e, TOKEN, Ty::Real));
    }
    for op in [ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Max, ReduceOp::Min, ReduceOp::LogSumExp] {
        for to in [TOKEN, ROLLOUT, BATCH] {
            made.push(graph.add(Expr::Scatter { op, x, filter, index, scope }, to, Ty::Real));
        }
    }
    for reverse in [false, true] {
        let factor = Some(x);
        let e = Expr::Scan { x, filter, factor, scope, within, reverse, exclusive: reverse };
        made.push(graph.add(e, TOKEN, Ty::Real));
        let by = if reverse { -2 } else { 1 };
        let e = Expr::Shift { x, default: zero, by, filter, scope, within };
        made.push(graph.add(e, TOKEN, Ty::Real));
    }
    made.push(graph.add(Expr::Rank { x, filter, scope, within }, TOKEN, Ty::Int));
    made.push(graph.add(Expr::Find { key: x, want: x, filter, scope, within }, TOKEN, Ty::Int));
    graph.verify().unwrap();
    let loss = graph.reduce(ReduceOp::Sum, x, None, BATCH);
    let reads = stage::Reads::of(&graph);
    let values = made
        .iter()
        .map(|e| Emitted { name: format!("v{}", e.0), value: *e, exists: None })
        .collect();
    let program = Arc::new(Program {
        phases: stage::phases(&graph, &reads, BATCH),
        graph,
        loss,
        grads: Vec::new(),
        metrics: Vec::new(),
        values,
        updates: Vec::new(),
        samples: Vec::new(),
        kept: Vec::new(),
        coupling: BATCH,
        cause: None,
        piece: BATCH,
    });
    let mut kernel = kernel("numbers", &program, &[]);
    let (big, nan) = (f64::from(u32::MAX), f64::NAN);
    for index in [
        vec![-1.0; 7],
        vec![0.0, -0.0, 0.5, 1e300, -1e300, nan, 6.0],
        vec![7.0, 6.0, big, f64::INFINITY, f64::NEG_INFINITY, 3.0, -1e-9],
        vec![2.0, 2.0, 1.0, -5.0, 2.0, 1.0, 0.0],
    ] {
        let mut t = rollout(&vec![vec![0.0; 2]; 7], &[0; 7]);
        t.set("token/index", Data::F64(index));
        t.set("token/value", Data::F64(vec![0.5, 1.5, -0.25, 2.0, 0.5, -1.0, 0.125]));
        compare("numbers", &program, &mut kernel, &t, 1);
    }
}

/// The live phase may run again over the same batch: optimiser steps.
#[test]
fn restart_forgets_what_was_added() {
    let table = batch(&mut Rng(21), 4, 5);
    for text in ["", ALONG, LIVE_KEYS] {
        restarted(&table, &program(text));
    }
}

fn restarted(table: &Table, program: &Arc<Program>) {
    let shape = Shape::new(&program.graph.level_table, table).unwrap();
    let columns = columns::load(program, table, &Table::default(), &shape, false).unwrap();
    let given: Vec<(ColumnId, &[f64])> =
        columns::needed(program).into_iter().map(|c| (c, columns.get(c))).collect();
    let params: Vec<f64> = program.graph.params.iter().map(|p| p.value).collect();
    let vocab = vocab_of(program, table);
    let mut kernel = kernel("restart", program, &[]);
    let mut run = kernel.start(&shape, &given, &params).unwrap();
    run.recorded(&vocab).unwrap();
    let mut losses = Vec::new();
    for _ in 0..3 {
        run.restart();
        let mut out = vec![0.0; shape.count(VOCAB)];
        let column = program.grads[0].0;
        let rows = 0..shape.count(program.piece);
        run.live(rows, &vocab, &mut [Gradient { column, data: (&mut out).into() }]).unwrap();
        run.after(&vocab).unwrap();
        losses.push((run.value(program.loss).unwrap()[0].to_bits(), out));
    }
    assert!(losses.windows(2).all(|w| w[0] == w[1]));
}

/// What does not fit is refused before any code runs.
#[test]
fn faults_of_the_caller() {
    let table = batch(&mut Rng(8), 2, 3);
    let program = program("");
    let vocab = vocab_of(&program, &table);
    let mut kernel = kernel("faults", &program, &[]);
    assert!(run_with(&program, &table, &mut kernel, &vocab).is_ok());
    let none = Vocab::default();
    let e = run_with(&program, &table, &mut kernel, &none).unwrap_err();
    assert_eq!(e.to_string(), "the program reads `vocab/logits`, which was not given");
    let short: Vocab = vocab
        .iter()
        .map(|(c, _)| (*c, VocabRows { data: Floats::F32(&[0.0]), first: 0 }))
        .collect();
    let e = run_with(&program, &table, &mut kernel, &short).unwrap_err();
    assert!(matches!(e, DeviceError::Length { .. }), "{e}");
    let wide: Vocab = vocab
        .iter()
        .map(|(c, _)| (*c, VocabRows { data: Floats::F64(&[0.0]), first: 0 }))
        .collect();
    let e = run_with(&program, &table, &mut kernel, &wide).unwrap_err();
    assert!(matches!(e, DeviceError::Type { .. }), "{e}");
    let shape = Shape::new(&program.graph.level_table, &table).unwrap();
    let params: Vec<f64> = program.graph.params.iter().map(|p| p.value).collect();
    assert!(matches!(kernel.start(&shape, &[], &params), Err(DeviceError::Missing(_))));
    let columns = columns::load(&program, &table, &Table::default(), &shape, false).unwrap();
    let given: Vec<(ColumnId, &[f64])> =
        columns::needed(&program).into_iter().map(|c| (c, columns.get(c))).collect();
    assert!(matches!(kernel.start(&shape, &given, &[]), Err(DeviceError::Missing(_))));
    let mut run = kernel.start(&shape, &given, &params).unwrap();
    assert!(matches!(run.live(0..1, &vocab, &mut []), Err(DeviceError::Order(_))));
    run.recorded(&vocab).unwrap();
    assert!(matches!(run.live(0..999, &vocab, &mut []), Err(DeviceError::Order(_))));
    assert!(matches!(run.live(0..1, &vocab, &mut []), Err(DeviceError::Missing(_))));
}
