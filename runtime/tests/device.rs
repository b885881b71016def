//! Compiled kernels against the interpreter.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod device_support;

use std::sync::Arc;

use device_support::compare::{compare, compare_within, kernel, vocab_of};
use device_support::{Rng, batch, program};
use rlc_compiler::program::Program;
use rlc_compiler::stdlib::OBJECTIVES;
use rlc_compiler::table::{Data, Table};
use rlc_runtime::device::cpu::float;

/// Several random batches, each in several divisions.
fn check(name: &str, program: &Arc<Program>) {
    let mut rng = Rng(0x9e37_79b9 + name.len() as u64);
    let tables: Vec<Table> = [(1, 3), (4, 5), (6, 11), (3, 2)]
        .into_iter()
        .map(|(groups, width)| batch(&mut rng, groups, width))
        .collect();
    let floats: Vec<_> =
        vocab_of(program, &tables[0]).iter().map(|(c, r)| (*c, float(r.data))).collect();
    let mut kernel = kernel(name, program, &floats);
    for table in &tables {
        for rows in [1, 2, usize::MAX / 2] {
            compare(name, program, &mut kernel, table, rows);
        }
    }
}

#[test]
fn library_matches_interpreter() {
    for (name, _, text) in OBJECTIVES {
        check(name, &program(text));
    }
}

#[test]
fn print_plans() {
    let library = OBJECTIVES.iter().map(|(name, _, text)| (name, text));
    for (name, text) in library.chain(OTHERS.iter().map(|(n, t)| (n, t))) {
        let program = program(text);
        let plan = rlc_compiler::fuse::fuse(&program).unwrap();
        println!("==== {name}\n{}\n{}", program.print(), plan.print());
    }
}

/// What the library does not use: every reduction, ordered operators, other scopes and couplings.
const OTHERS: &[(&str, &str)] = &[
    (
        "entropy",
        "loss = seq_mean(token_loss - 0.01 * entropy)\nmetric entropy = token_mean(entropy)",
    ),
    (
        "full_kl",
        "gap = log_softmax(logits) - log_softmax(ref_logits)\n\
         kl = sum(softmax(logits) * gap per token)\n\
         loss = seq_mean(token_loss + 0.1 * kl)\n\
         metric kl = token_mean(kl)",
    ),
    (
        "forward_kl",
        "kl = sum(softmax(ref_logits) * (log_softmax(ref_logits) - log_softmax(logits)) per token)\n\
         loss = token_mean(kl)",
    ),
    (
        "vocab_reductions",
        "most = max(logits per token)\nleast = min(logits per token)\nspread = var(logits per token)\n\
         many = count(logits where logits > 0.3 per token)\n\
         lift = logsumexp(logits where ref_logits > 0.2 per token)\n\
         safe = if isfinite(lift) then lift else 0.5\n\
         both = prod(1 + 0.1 * tanh(logits) per token)\n\
         loss = token_mean(most * 0.3 - least * spread + safe + many * both)",
    ),
    (
        "sum_of_squares",
        "p = softmax(logits / temperature)\n\
         collision = sum(p * p per token)\n\
         loss = token_mean(collision - 0.1 * entropy)",
    ),
    (
        "scans",
        "delta = logp - old_logp\n\
         ahead = rcumsum(delta in rollout)\nbehind = cumsum(delta in rollout)\n\
         following = next(delta, 0.5 in rollout)\nbefore = prev(delta, 0.25, by = 2 in rollout)\n\
         loss = token_mean(tanh(ahead) * following + sin(behind) * before)",
    ),
    (
        "turns",
        "delta = sum(logp - old_logp per turn)\n\
         ratio = exp(delta * 0.1)\n\
         other = prev(ratio, 1.0 in rollout) * index(turn in rollout)\n\
         late = if is_last(turn in rollout) then ratio else other\n\
         loss = mean(late * step_reward + rcumsum(late in rollout) * 0.1)",
    ),
    (
        "group_coupling",
        "score = sum(logp per rollout)\n\
         share = exp(score - logsumexp(score per group))\n\
         loss = mean(-share * reward)",
    ),
    (
        "batch_coupling",
        "score = mean(logp per rollout)\n\
         loss = logsumexp(score * reward * 0.1) + std(score) + 0.1 * max(score)",
    ),
    (
        "after_metrics",
        "metric most = max(logp)\nmetric least = min(logp where mask)\nmetric spread = std(logp)\n\
         metric odds = logsumexp(logp)\nmetric product = prod(1 + 0.01 * logp)\n\
         metric of_groups = mean(max(logp per group))",
    ),
    (
        "group_scan",
        "drift = cumsum(sum(logp - old_logp per rollout) in group)\nloss = mean(tanh(drift) * reward)",
    ),
    (
        "filters",
        "keep rollout where reward > -0.5\nkeep token where position > 0\n\
         metric steps = mean(count(turn per rollout))\n\
         loss = seq_mean(next(logp, 0 in rollout) * advantage - cumsum(logp in rollout))",
    ),
    (
        "pairs_of_entries",
        "other = at(log_softmax(logits), (action + 1) % 2)\n\
         loss = token_mean(-logp + 0.5 * other * detach(entropy))",
    ),
    (
        "cells",
        "key cell = (group, position)\nkey half = (index(rollout in group) % 2)\n\
         gain = reward @ token - mean(reward @ token per cell)\n\
         loss = seq_mean(-logp * gain) + 0.1 * mean(mean(old_logp per half))\n\
         metric live = mean(mean(logp per half))\nmetric odds = max(logsumexp(logp per half))",
    ),
    (
        "live_cells",
        "key side = (group, logp > -1)\nkey hot = runs(logp > old_logp in rollout)\n\
         loss = mean(mean(logp per side) ^ 2) + mean(mean(prod(1 + 0.1 * logp per hot) per rollout))",
    ),
    (
        "along_cells",
        "key odd = (group, index(token in rollout) % 2)\n\
         ahead = discounted(logp - old_logp, 0.9 in odd)\n\
         before = prev(logp, 0.25, by = 2 in odd)\n\
         place = rank(old_logp in odd) + index(token in odd)\n\
         loss = mean(tanh(ahead) * before + 0.01 * place * cumsum(logp in odd))",
    ),
    (
        "splits_and_prefixes",
        "key step = splits(old_logp > 0.5 in rollout)\nkey node = prefix(action in group)\n\
         shared = (sum(logp per step) @ token) * mean(reward @ token per node)\n\
         loss = mean(tanh(mean(shared per node))) + 0.1 * mean(max(logp per step))",
    ),
    (
        "duels",
        "key duel = pairs(rollout in group)\nscore = mean(logp per rollout)\n\
         won = left(reward in duel) > right(reward in duel)\n\
         gap = left(score in duel) - right(score in duel)\n\
         loss = mean(-log_sigmoid(gap) where won) + 0.1 * mean(sum(gap ^ 2 per duel.left))",
    ),
    (
        "sorted",
        "low = sort(logp in rollout)\nbest = pick(logp, argmax(old_logp in rollout), 0 in rollout)\n\
         loss = mean(index(token in rollout) * low) + mean(best)",
    ),
    (
        "most_likely",
        "inside = top(logits, 2 in token)\n\
         own = log_softmax(if inside then logits else -inf)\n\
         middle = quantile(logits, 0.3 per token)\n\
         loss = mean(sum(if inside then exp(own) * own else 0 per token) + 0.1 * middle)\n\
         metric chosen = mean(real(argmax(logits in token) == action))",
    ),
    ("per_group_max", "loss = mean(max(logp per group)) + mean(min(logp per turn))"),
    (
        "products",
        "loss = mean(prod(1 + 0.1 * logp per rollout)) + mean(prod(old_logp + 0.1 * logp per turn))",
    ),
];

#[test]
fn other_programs_match_interpreter() {
    for (name, text) in OTHERS {
        check(name, &program(text));
    }
}

/// Makes every seventh entry impossible and every eleventh all but certain, actions excepted.
fn unlikely(table: &mut Table, width: usize) {
    let Data::I64(action) = table.arrays["token/action"].data.clone() else { panic!("no actions") };
    let Data::F32(x) = &mut table.arrays.get_mut("vocab/logits").unwrap().data else { return };
    for (i, x) in x.iter_mut().enumerate() {
        if action[i / width] as usize == i % width {
            continue;
        }
        match i % 77 {
            7 | 14 | 21 | 70 => *x = f32::NEG_INFINITY,
            33 => *x += 30.0,
            _ => {}
        }
    }
}

/// Rows long enough for the row primitives, which are f32; what has another form stays f64.
#[test]
fn long_rows_match_interpreter() {
    let mut rng = Rng(77);
    let library = OBJECTIVES.iter().map(|(name, _, text)| (name, text));
    for (name, text) in library.chain(OTHERS.iter().map(|(n, t)| (n, t))) {
        let program = program(text);
        let mut tables = [256, 301].map(|width| batch(&mut rng, 2, width));
        unlikely(&mut tables[1], 301);
        let floats: Vec<_> =
            vocab_of(&program, &tables[0]).iter().map(|(c, r)| (*c, float(r.data))).collect();
        let mut kernel = kernel(name, &program, &floats);
        for table in &tables {
            compare_within(name, &program, &mut kernel, table, 2, 4e-6);
        }
        println!("{name}: {}", kernel.rows_by_form());
    }
}
