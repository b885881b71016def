//! Long vocab rows through row primitives: every known form against the interpreter, and that none falls back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod device_support;

use device_support::compare::{compare_within, kernel, vocab_of};
use device_support::{Rng, batch, program};
use rlc_compiler::level::TOKEN;
use rlc_compiler::loops::Loop;
use rlc_compiler::program::Program;
use rlc_compiler::shape::Shape;
use rlc_compiler::table::{Data, Table};
use rlc_runtime::device::cpu::{Kernel, float};

/// What a loss may be made of; each is a number of the token.
const PARTS: &[(&str, &str)] = &[
    ("logp", "logp"),
    ("entropy", "entropy"),
    ("ref_kl", "sum(softmax(logits) * (log_softmax(logits) - log_softmax(ref_logits)) per token)"),
    ("old_kl", "sum(softmax(logits) * (log_softmax(logits) - log_softmax(old_logits)) per token)"),
    (
        "reverse_kl",
        "sum(softmax(ref_logits) * (log_softmax(ref_logits) - log_softmax(logits)) per token)",
    ),
    (
        "both_kl",
        "sum((softmax(logits) - softmax(old_logits)) * (log_softmax(logits) - \
         log_softmax(old_logits)) per token)",
    ),
    ("squares", "sum(softmax(logits) * softmax(logits) per token)"),
    ("cool_squares", "sum(softmax(logits / temperature) ^ 2 per token)"),
    ("cross", "sum(softmax(logits / temperature) * log_softmax(old_logits) per token)"),
    ("target", "logsumexp(2 * logits per token)"),
];

/// Losses among the n largest entries, and on the rest as a whole.
const TOPS: &[(&str, &str)] = &[
    (
        "top_policy",
        "inside = top(logits, 3 in token)\n\
         narrow = if inside then logits else -inf\n\
         own = log_softmax(narrow)\n\
         other = log_softmax(if inside then ref_logits else -inf)\n\
         mass = sum(softmax(logits) where inside per token)\n\
         gap = sum(if inside then exp(own) * (own - other) else 0 per token)\n\
         loss = token_mean(gap - 0.2 * log(mass) - 0.1 * logp)",
    ),
    (
        "top_teacher",
        "inside = top(ref_logits, 4 in token)\n\
         teacher = softmax(ref_logits)\nstudent = softmax(logits)\n\
         rest_t = sum(teacher where not inside per token)\n\
         rest_s = sum(student where not inside per token)\n\
         kl = sum(teacher * (log(teacher) - log(student)) where inside per token)\n\
         loss = token_mean(kl + rest_t * (log(rest_t) - log(rest_s)))",
    ),
    (
        "top_kl",
        "kept = top(ref_logits, 4 in token)\n\
         lp = log_softmax(logits)\n\
         lq = log_softmax(if kept then ref_logits else -inf)\n\
         loss = token_mean(sum(if kept then exp(lq) * (lq - lp) else 0 per token) - 0.1 * logp)",
    ),
    (
        "top_of_both",
        "kept = top(ref_logits, 2 in token)\nown = top(logits / temperature, 2 in token)\n\
         p = softmax(logits / temperature)\n\
         loss = token_mean(sum(if kept then p * p * p else p * 0.5 per token) \
         + sum(if own then sqrt(p) else 0 per token) - 0.1 * logp)",
    ),
];

/// `loss` is the sum of some parts.
fn text(parts: &[(usize, f64)], temperature: f64) -> String {
    let sum: Vec<String> =
        parts.iter().map(|(p, by)| format!("{by:.3} * {}", PARTS[*p].0)).collect();
    let own = parts.iter().filter(|(p, _)| *p > 1).map(|(p, _)| {
        let (name, value) = PARTS[*p];
        format!("{name} = {value}\n")
    });
    let own: String = own.collect();
    format!("{own}param temperature = {temperature}\nloss = token_mean({})", sum.join(" + "))
}

/// As the policy is early on: everything likely.
fn usual(rng: &mut Rng, width: usize) -> Table {
    batch(rng, 2, width)
}

fn change(table: &mut Table, column: &str, mut by: impl FnMut(usize, &mut f32)) {
    let Data::F32(x) = &mut table.arrays.get_mut(column).unwrap().data else { panic!("not f32") };
    x.iter_mut().enumerate().for_each(|(i, x)| by(i, x));
}

/// Rows that try the vectors: far from 0, spread far, certain, with impossible entries.
fn corners(rng: &mut Rng, width: usize) -> Vec<(&'static str, Table)> {
    let mut out = Vec::new();
    let columns = ["vocab/logits", "vocab/ref_logits", "vocab/old_logits"];
    for (name, shift, spread) in [("up", 1e4, 1.0), ("down", -1e4, 1.0), ("wide", 0.0, 700.0)] {
        let mut table = batch(rng, 1, width);
        for column in columns {
            change(&mut table, column, |_, x| *x = *x * spread + shift);
        }
        out.push((name, table));
    }
    let mut certain = batch(rng, 1, width);
    change(&mut certain, columns[0], |i, x| *x += if i % 97 == 13 { 60.0 } else { 0.0 });
    out.push(("certain", certain));
    let mut alike = batch(rng, 1, width);
    let Data::F32(own) = alike.arrays[columns[0]].data.clone() else { panic!("not f32") };
    for column in &columns[1..] {
        change(&mut alike, column, |i, x| *x = own[i] + 1e-3 * *x);
    }
    out.push(("alike", alike));
    out
}

/// Impossible entries, in one column or in all, the actions excepted.
fn impossible(rng: &mut Rng, width: usize, columns: &[&str]) -> Table {
    let mut table = batch(rng, 1, width);
    let Data::I64(action) = table.arrays["token/action"].data.clone() else { panic!("no actions") };
    for column in columns {
        change(&mut table, column, |i, x| {
            if action[i / width] as usize != i % width && i % 7 == 3 {
                *x = f32::NEG_INFINITY;
            }
        });
    }
    table
}

fn tokens(program: &Program, table: &Table) -> usize {
    Shape::new(&program.graph.level_table, table).unwrap().count(TOKEN)
}

/// Rows that all sweeps over a whole batch have.
fn rows(kernel: &Kernel, program: &Program, table: &Table) -> u64 {
    let sweeps = kernel.plan().loops().flat_map(Loop::sweeps).count();
    (sweeps * tokens(program, table)) as u64
}

fn check(name: &str, text: &str, rng: &mut Rng, widths: &[usize]) {
    let program = program(text);
    let first = usual(rng, widths[0]);
    let floats: Vec<_> =
        vocab_of(&program, &first).iter().map(|(c, r)| (*c, float(r.data))).collect();
    let mut kernel = kernel(name, &program, &floats);
    for &width in widths {
        let table = usual(rng, width);
        let before = kernel.rows_by_form();
        let passes = compare_within(name, &program, &mut kernel, &table, 2, 4e-6);
        let by_form = kernel.rows_by_form() - before;
        let all = passes * rows(&kernel, &program, &table);
        assert_eq!(by_form, all, "{name} falls back\n{text}\n{}", kernel.plan().print());
        for (corner, table) in corners(rng, width) {
            // Small divergences are differences of log-sum-exps, small gradients of terms: 1e-7 whatever they are.
            // Where log-probs are thousands, f32 has them to 1e-3, and sums of terms cancel.
            let tolerance = match corner {
                "wide" if name.starts_with("seed") => 1e-3,
                "alike" | "wide" | "certain" => 1e-4,
                _ => 4e-6,
            };
            let name = format!("{name} {corner}");
            compare_within(&name, &program, &mut kernel, &table, 2, tolerance);
        }
    }
}

#[test]
fn every_part_has_a_form() {
    let mut rng = Rng(99);
    for (part, (name, _)) in PARTS.iter().enumerate() {
        for temperature in [1.0, 0.8] {
            check(name, &text(&[(part, 1.0)], temperature), &mut rng, &[256, 1301]);
        }
    }
}

#[test]
fn the_largest_entries_may_be_special() {
    let mut rng = Rng(17);
    for (name, text) in TOPS {
        let text = format!("param temperature = 0.8\n{text}");
        check(name, &text, &mut rng, &[256, 1301]);
        // Ties everywhere, and rows with fewer numbers than are asked for.
        let program = program(&text);
        let mut kernel = kernel(name, &program, &[]);
        let mut table = usual(&mut rng, 600);
        for column in ["vocab/logits", "vocab/ref_logits"] {
            change(&mut table, column, |_, x| *x = x.round());
        }
        compare_within(name, &program, &mut kernel, &table, 2, 4e-6);
    }
}

#[test]
fn sums_of_parts_have_a_form() {
    let count = std::env::var("RLC_RANDOM").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    for seed in 1..=count {
        let mut rng = Rng(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15) | 1);
        let mut parts: Vec<(usize, f64)> = Vec::new();
        for part in 0..PARTS.len() {
            if rng.below(10) < 4 {
                parts.push((part, rng.normal()));
            }
        }
        parts.push((0, -1.0));
        let temperature = [1.0, 0.7, 1.3][rng.below(3)];
        check(&format!("seed {seed}"), &text(&parts, temperature), &mut rng, &[700]);
    }
}

/// The interpreter says what becomes of a product of 0 and infinity: NaN, unless the program guards it.
#[test]
fn impossible_entries_are_as_the_interpreter_has_them() {
    let mut rng = Rng(5);
    let all = ["vocab/logits", "vocab/ref_logits", "vocab/old_logits"];
    for (part, (name, _)) in PARTS.iter().enumerate() {
        let text = text(&[(part, 1.0), (0, 0.5)], 0.9);
        let program = program(&text);
        for columns in [&all[..1], &all[1..], &all[..]] {
            let table = impossible(&mut rng, 301, columns);
            let mut kernel = kernel(name, &program, &[]);
            let passes = compare_within(name, &program, &mut kernel, &table, 2, 4e-6);
            // What is guarded, or has no such product, stays with the primitives.
            if ["logp", "entropy", "target"].contains(name) {
                let all = passes * rows(&kernel, &program, &table);
                assert_eq!(kernel.rows_by_form(), all, "{name}");
            }
        }
    }
}

/// The benchmark of the whole distribution, and the library's long rows.
#[test]
fn benchmarks_have_a_form() {
    let text = include_str!("../../benches/programs/grpo_entropy_kl.rl");
    check("grpo_entropy_kl", text, &mut Rng(3), &[512]);
    for name in ["grpo", "gspo", "dapo", "cispo", "sft"] {
        check(name, &format!("extend {name}"), &mut Rng(4), &[300]);
    }
}
