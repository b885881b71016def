//! Laws over random programs and random ragged batches: the interpreter and the compiled kernels
//! agree, every legal cut gives the whole batch's numbers, and gradients are the slopes that small
//! changes of the inputs show. A failing seed prints its program and is repeated with
//! `RLC_LAW_SEED=n`; what it found becomes a case of its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rlc_compiler::link::NoFiles;
use rlc_compiler::source::{Source, Sources};
use rlc_compiler::table::{Array, Data, Table};
use rlc_runtime::objective::{Backend, Logits, Objective, ObjectiveError, Outcome};

/// A linear congruential generator (Knuth's MMIX constants).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n.max(1)
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn unit(&mut self) -> f64 {
        self.below(1 << 24) as f64 / f64::from(1 << 24)
    }

    fn normal(&mut self) -> f64 {
        (0..6).map(|_| self.unit()).sum::<f64>() - 3.0
    }
}

const LEVELS: [&str; 5] = ["batch", "group", "rollout", "turn", "token"];

/// A real expression at one of [`LEVELS`] (or a coarser one, which broadcasts).
fn real(r: &mut Random, level: usize, depth: usize) -> String {
    if depth == 0 {
        let here: &[&str] = match level {
            4 => &["logp", "logp", "entropy", "old_logp", "token_reward", "position"],
            3 => &["step_correct", "step_reward"],
            2 => &["reward", "length"],
            _ => &["0.7", "2", "-1.5", "w"],
        };
        let coarser = level > 0 && r.below(4) == 0;
        return if coarser { real(r, r_level(level), 0) } else { r.pick(here).to_owned() };
    }
    let d = depth - 1;
    match r.below(if level == 4 { 14 } else { 18 }) {
        0 => format!("({} + {})", real(r, level, d), real(r, level, d)),
        1 => format!("({} - {})", real(r, level, d), real(r, level, d)),
        2 => format!("({} * {})", real(r, level, d), real(r, level, d)),
        3 => format!("({} / (abs({}) + 1))", real(r, level, d), real(r, level, d)),
        4 => format!("{}({}, {})", r.pick(&["min", "max"]), real(r, level, d), real(r, level, d)),
        5 => format!("clip({}, -1.2, {})", real(r, level, d), real(r, level, d)),
        6 => format!(
            "{}({})",
            r.pick(&["tanh", "sigmoid", "abs", "relu", "softplus", "sin"]),
            real(r, level, d)
        ),
        7 => format!("exp(clip({}, -3, 1))", real(r, level, d)),
        8 => format!("log(abs({}) + 0.5)", real(r, level, d)),
        9 => format!(
            "(if {} then {} else {})",
            truth(r, level, d),
            real(r, level, d),
            real(r, level, d)
        ),
        10 if r.below(4) == 0 => format!("detach({})", real(r, level, d)),
        10 | 11 => format!("({} ^ 2)", real(r, level, d)),
        12 if level >= 2 => {
            let scope = if level == 2 { "group" } else { r.pick(&["rollout", "group", "batch"]) };
            match r.below(4) {
                0 => {
                    format!("{}({} in {scope})", r.pick(&["cumsum", "rcumsum"]), real(r, level, d))
                }
                1 => {
                    format!("{}({}, 0.5 in {scope})", r.pick(&["next", "prev"]), real(r, level, d))
                }
                2 => format!(
                    "next({}, {}, by = 2 in {scope})",
                    real(r, level, d),
                    real(r, level.saturating_sub(2), 0)
                ),
                _ => format!("index({} in {scope})", LEVELS[level]),
            }
        }
        12 | 13 => real(r, level, 0),
        _ => {
            let from = level + 1 + r.below(4 - level);
            let x = real(r, from, d);
            let x = format!("({x}) @ {}", LEVELS[from]);
            let cond = if r.below(3) == 0 {
                format!(" where {}", truth(r, from, 0))
            } else {
                String::new()
            };
            let per = if level == 0 { String::new() } else { format!(" per {}", LEVELS[level]) };
            match r.below(12) {
                0 => format!("sum({x}{cond}{per})"),
                1..=3 => format!("mean({x}{cond}{per})"),
                4 => format!("max({x}, default = 0.25{cond}{per})"),
                5 => format!("min({x}{cond}{per})"),
                6 => format!("std({x}, ddof = {}{cond}{per})", r.below(2)),
                7 => format!("{}({x}{cond}{per})", r.pick(&["first", "last"])),
                8 => format!("tanh(logsumexp({x}{cond}{per}))"),
                9 => format!("prod(clip({x}, 0.5, 1.5){cond}{per})"),
                10 => format!("quantile({x}, 0.3{cond}{per})"),
                _ => format!("count({}{cond}{per})", LEVELS[from]),
            }
        }
    }
}

/// A level above, on the tree (a turn and a token share their rollout).
fn r_level(level: usize) -> usize {
    level.saturating_sub(1)
}

fn truth(r: &mut Random, level: usize, depth: usize) -> String {
    match r.below(4) {
        0 if level == 4 => "mask".to_owned(),
        0 if level == 2 => "correct".to_owned(),
        1 => format!("not ({} < {})", real(r, level, 0), real(r, level, depth)),
        _ => format!("({} > {})", real(r, level, 0), real(r, level, depth)),
    }
}

fn program(r: &mut Random) -> String {
    let mut text = String::from("extend nothing\nparam w = 0.3\n");
    if r.below(2) == 0 {
        text += "keep token where mask\n";
    }
    if r.below(4) == 0 {
        let level = 1 + r.below(4);
        let _ = writeln!(
            text,
            "{} {} where {}",
            r.pick(&["keep", "drop"]),
            LEVELS[level],
            truth(r, level, 1)
        );
    }
    let mut names = Vec::new();
    for i in 0..r.below(3) {
        let (level, depth) = (2 + r.below(3), 1 + r.below(3));
        let _ = writeln!(text, "d{i} = {}", real(r, level, depth));
        names.push(format!("mean((d{i} * logp) @ token)"));
    }
    let depth = 2 + r.below(3);
    let _ = writeln!(text, "loss = mean(logp * ({}))", real(r, 4, 2));
    let _ = writeln!(text, "  + {}", real(r, 0, depth));
    for name in names {
        let _ = writeln!(text, "  + {name}");
    }
    text += "minimize loss\n";
    let depth = 1 + r.below(3);
    let _ = writeln!(text, "metric m = {}", real(r, 0, depth));
    text
}

/// A ragged batch with empty groups, empty rollouts, empty turns and one-token rollouts.
fn batch(r: &mut Random, logits: bool) -> Table {
    let mut t = Table::default();
    let groups: Vec<i64> = (0..=r.below(3)).map(|_| r.below(4) as i64).collect();
    let n_rollouts = groups.iter().sum::<i64>() as usize;
    let rollouts: Vec<i64> = (0..n_rollouts).map(|_| r.below(6) as i64).collect();
    let (mut turns, mut per_rollout) = (Vec::new(), Vec::new());
    for &size in &rollouts {
        let (mut left, mut n) = (size, 0);
        while left > 0 {
            let take = (r.below(4) as i64).min(left);
            turns.push(take);
            left -= take;
            n += 1;
        }
        if r.below(4) == 0 {
            turns.push(0);
            n += 1;
        }
        per_rollout.push(n);
    }
    let tokens = rollouts.iter().sum::<i64>() as usize;
    let n_turns = turns.len();
    // A few equal values make ties; multiples of 1/8 are exact in f32.
    let mut coarse = |n: usize| Data::F64((0..n).map(|_| r.below(9) as f64 / 8.0 - 0.5).collect());
    t.set("rollout/reward", coarse(n_rollouts));
    t.set("turn/step_correct", coarse(n_turns));
    t.set("turn/step_reward", coarse(n_turns));
    t.set("token/token_reward", coarse(tokens));
    t.set("token/old_logp", Data::F64((0..tokens).map(|_| -r.unit() * 3.0).collect()));
    t.set("token/mask", Data::U8((0..tokens).map(|_| u8::from(r.below(4) > 0)).collect()));
    t.set("rollout/correct", Data::U8((0..n_rollouts).map(|_| r.below(2) as u8).collect()));
    t.set("token/action", Data::I64((0..tokens).map(|_| r.below(4) as i64).collect()));
    if logits {
        let data = Data::F64((0..tokens * 4).map(|_| r.normal()).collect());
        t.arrays.insert("vocab/logits".into(), Array { data, shape: vec![tokens, 4] });
    } else {
        t.set("token/logp", Data::F64((0..tokens).map(|_| -r.unit() * 3.0).collect()));
        t.set("token/entropy", Data::F64((0..tokens).map(|_| r.unit()).collect()));
    }
    t.set("group/size", Data::I64(groups));
    t.set("rollout/size", Data::I64(rollouts));
    t.set("turn/size", Data::I64(turns));
    t.set("rollout/turns", Data::I64(per_rollout));
    t
}

fn run(
    objective: &mut Objective,
    table: &Table,
    cut: Option<usize>,
) -> Result<Outcome, ObjectiveError> {
    let mut step = objective.begin(table, Logits::InTable)?;
    let pieces = match cut {
        None => step.exact_pieces(usize::MAX / 2)?,
        Some(n) => step.exact_pieces(n)?,
    };
    for piece in pieces {
        step.live(piece, None)?;
    }
    step.finish()
}

fn compare(what: &str, a: &Outcome, b: &Outcome, tolerance: f64) -> Result<(), String> {
    let close = |x: f64, y: f64, scale: f64| {
        (x - y).abs() <= tolerance * scale.max(1e-6) || x == y || (x.is_nan() && y.is_nan())
    };
    if !close(a.loss, b.loss, a.loss.abs().max(1.0)) {
        return Err(format!("{what}: loss {} and {}", a.loss, b.loss));
    }
    let (m, n) = (a.metrics.get("m"), b.metrics.get("m"));
    if let (Some(m), Some(n)) = (m, n)
        && m.is_finite()
        && !close(*m, *n, m.abs().max(1.0))
    {
        return Err(format!("{what}: metric {m} and {n}"));
    }
    for (name, x) in &a.grads {
        let Some(y) = b.grads.get(name) else { return Err(format!("{what}: no grad/{name}")) };
        let scale = (0..x.data.len()).map(|i| x.data.get(i).abs()).fold(0.0, f64::max);
        for i in 0..x.data.len() {
            if !close(x.data.get(i), y.data.get(i), scale) {
                return Err(format!(
                    "{what}: grad/{name}[{i}] {} and {}",
                    x.data.get(i),
                    y.data.get(i)
                ));
            }
        }
    }
    Ok(())
}

/// The slope along a random direction against the gradients. Kinks show as slopes that disagree
/// between two step sizes, and are passed over.
fn slopes(
    r: &mut Random,
    objective: &mut Objective,
    table: &Table,
    whole: &Outcome,
) -> Result<bool, String> {
    let names: BTreeMap<&str, &str> =
        [("logits", "vocab/logits"), ("logp", "token/logp"), ("entropy", "token/entropy")].into();
    let mut direction = Vec::new();
    let mut expected = 0.0;
    for (name, grad) in &whole.grads {
        let d: Vec<f64> = (0..grad.data.len()).map(|_| r.normal()).collect();
        expected += (0..d.len()).map(|i| d[i] * grad.data.get(i)).sum::<f64>();
        direction.push((names[name.as_str()], d));
    }
    let mut slope = |h: f64| -> Option<f64> {
        let mut ends = [0.0; 2];
        for (end, sign) in ends.iter_mut().zip([1.0, -1.0]) {
            let mut moved = table.clone();
            for (path, d) in &direction {
                let Some(Array { data: Data::F64(x), .. }) = moved.arrays.get_mut(*path) else {
                    continue;
                };
                x.iter_mut().zip(d).for_each(|(x, d)| *x += sign * h * d);
            }
            *end = run(objective, &moved, None).ok()?.loss;
        }
        Some((ends[0] - ends[1]) / (2.0 * h))
    };
    let (Some(a), Some(b)) = (slope(1e-5), slope(4e-6)) else { return Ok(false) };
    let scale = expected.abs().max(whole.loss.abs()).max(1.0);
    if (a - b).abs() > 1e-5 * scale {
        return Ok(false);
    }
    if (a - expected).abs() > 1e-4 * scale {
        return Err(format!("the slope is {a} (or {b}), the gradient gives {expected}"));
    }
    Ok(true)
}

#[derive(Default)]
struct Tally {
    ran: usize,
    slopes: usize,
    cuts: usize,
    refused: usize,
}

fn law(seed: u64, tally: &mut Tally) -> Result<(), String> {
    let r = &mut Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x1234_5678);
    for _ in 0..8 {
        r.below(2);
    }
    let text = program(r);
    let mut sources = Sources::default();
    let root = sources.add(Source { name: "law.rl".into(), text: text.clone(), library: false });
    let (checked, diagnostics) = rlc_compiler::check(&mut sources, root, &NoFiles);
    let Some(checked) = checked else {
        // A turn and another segmentation never meet here, so only these are legal refusals.
        let known =
            diagnostics.iter().all(|d| matches!(d.code, "E0201" | "E0203" | "E0202" | "E0401"));
        return if known { Ok(()) } else { Err(format!("{text}\n{diagnostics:?}")) };
    };
    checked.graph.verify().map_err(|e| format!("{text}\n{e}"))?;
    let logits = r.below(2) == 0;
    let table = batch(r, logits);
    let mut interp = Objective::new(checked.clone(), Backend::Interp);
    let mut cpu = Objective::new(checked, Backend::Cpu);
    let whole = match run(&mut interp, &table, None) {
        Ok(whole) => whole,
        // exp of exp of … may leave the range: then both must say so.
        Err(ObjectiveError::NotFinite(_)) => {
            let refused = matches!(run(&mut cpu, &table, None), Err(ObjectiveError::NotFinite(_)));
            return if refused {
                Ok(())
            } else {
                Err(format!("{text}\nonly the interpreter refused"))
            };
        }
        Err(ObjectiveError::Specialize(_)) => return Ok(()),
        Err(e) => return Err(format!("{text}\n{e}")),
    };
    tally.ran += 1;
    let fail = |e: String| format!("seed {seed}:\n{text}\n{e}");
    let compiled = run(&mut cpu, &table, None).map_err(|e| fail(e.to_string()))?;
    compare("compiled", &whole, &compiled, 2e-5).map_err(fail)?;
    let total = table.get("rollout/size").map_or(0, |a| a.data.len());
    for n in 1..total {
        for (objective, tolerance) in [(&mut interp, 1e-9), (&mut cpu, 2e-5)] {
            match run(objective, &table, Some(n)) {
                Ok(cut) => compare(&format!("cut {n}"), &whole, &cut, tolerance).map_err(fail)?,
                Err(ObjectiveError::Cut(_)) => tally.refused += 1,
                Err(e) => return Err(fail(e.to_string())),
            }
            tally.cuts += 1;
        }
    }
    // `detach` hides a slope from the gradient: that is its purpose.
    if !text.contains("detach") {
        tally.slopes += usize::from(slopes(r, &mut interp, &table, &whole).map_err(fail)?);
    }
    Ok(())
}

#[test]
fn laws_hold_for_random_programs() {
    let mut tally = Tally::default();
    if let Ok(seed) = std::env::var("RLC_LAW_SEED") {
        law(seed.parse().unwrap(), &mut tally).unwrap_or_else(|e| panic!("{e}"));
        return;
    }
    let count: u64 = std::env::var("RLC_LAWS").ok().map_or(300, |n| n.parse().unwrap());
    let failures: Vec<String> = (0..count).filter_map(|seed| law(seed, &mut tally).err()).collect();
    println!(
        "{count} programs: {} ran, {} slopes, {} cuts of which {} refused",
        tally.ran, tally.slopes, tally.cuts, tally.refused
    );
    assert!(
        failures.is_empty(),
        "{} of {count}:\n{}",
        failures.len(),
        failures[..failures.len().min(5)].join("\n\n")
    );
    assert!(tally.ran * 2 > count as usize, "too few programs are worth anything: {}", tally.ran);
    assert!(tally.slopes * 4 > tally.ran, "too few slopes were measurable: {}", tally.slopes);
}
