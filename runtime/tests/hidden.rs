//! Pieces from hidden states: loss and gradients are those of the interpreter for the same logits, whatever the
//! room for logits, the cut and the number of threads; and those of logits given whole.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod device_support;

use device_support::{Rng, batch};
use rlc_compiler::link::NoFiles;
use rlc_compiler::source::{Source, Sources};
use rlc_compiler::stdlib::OBJECTIVES;
use rlc_compiler::table::{Data, Table};
use rlc_runtime::objective::{
    Backend, Head, HeadGrads, Hidden, Logits, Lora, LoraGrads, Objective, Room,
};

fn objective(text: &str, backend: Backend) -> Objective {
    let mut sources = Sources::default();
    let root = sources.add(Source { name: "t.rl".into(), text: text.into(), library: true });
    let (checked, found) = rlc_compiler::check(&mut sources, root, &NoFiles);
    Objective::new(checked.unwrap_or_else(|| panic!("{found:?}")), backend)
}

/// Hidden states of a batch's tokens and a head, with everything a head may have.
struct Given {
    tokens: usize,
    width: usize,
    vocab: usize,
    rank: usize,
    rows: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    a: Vec<f32>,
    b: Vec<f32>,
}

impl Given {
    fn new(rng: &mut Rng, table: &Table, vocab: usize, scale: f64) -> Given {
        let (tokens, width, rank) = (tokens(table), 12, 3);
        let mut some = |n: usize, s: f64| rng.normals(n, s).iter().map(|x| *x as f32).collect();
        Given {
            tokens,
            width,
            vocab,
            rank,
            rows: some(tokens * width, scale),
            weight: some(vocab * width, 0.5),
            bias: some(vocab, 0.5),
            a: some(rank * width, 0.3),
            b: some(vocab * rank, 0.3),
        }
    }

    fn head(&self, kind: Kind) -> Head<'_> {
        Head {
            weight: &self.weight,
            bias: (kind != Kind::Plain).then_some(&self.bias[..]),
            lora: (kind == Kind::Lora).then_some(Lora { a: &self.a, b: &self.b, scale: 0.7 }),
        }
    }

    /// Logits in f64, by the formula.
    fn logits(&self, kind: Kind) -> Vec<f32> {
        let head = self.head(kind);
        let dot = |x: &[f32], y: &[f32]| -> f64 {
            x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
        };
        let mut out = Vec::new();
        for h in self.rows.chunks_exact(self.width) {
            let low: Vec<f32> = self.a.chunks_exact(self.width).map(|a| dot(h, a) as f32).collect();
            for v in 0..self.vocab {
                let w = &self.weight[v * self.width..(v + 1) * self.width];
                let lora = head.lora.map_or(0.0, |l| {
                    f64::from(l.scale) * dot(&low, &self.b[v * self.rank..(v + 1) * self.rank])
                });
                out.push((dot(h, w) + lora + head.bias.map_or(0.0, |b| f64::from(b[v]))) as f32);
            }
        }
        out
    }
}

fn tokens(table: &Table) -> usize {
    let Data::I64(sizes) = &table.get("rollout/size").unwrap().data else { panic!() };
    sizes.iter().sum::<i64>() as usize
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Plain,
    Bias,
    /// Bias and a low-rank addition, W frozen.
    Lora,
}

/// Everything that comes of a batch.
#[derive(Debug, Clone, PartialEq)]
struct Came {
    loss: f64,
    metrics: Vec<f64>,
    grads: Vec<(&'static str, Vec<f32>)>,
}

/// Runs a batch in pieces of so many rollouts, where the objective allows it.
fn run(
    objective: &mut Objective,
    table: &Table,
    given: &Given,
    kind: Kind,
    room: &mut Room,
    cut: usize,
) -> Came {
    let zeros = |x: &[f32]| vec![0.0f32; x.len()];
    let mut d_rows = vec![f32::NAN; given.rows.len()];
    let (mut d_weight, mut d_bias) = (zeros(&given.weight), zeros(&given.bias));
    let (mut d_a, mut d_b) = (zeros(&given.a), zeros(&given.b));
    let mut step = objective.begin(table, Logits::Live { vocab: given.vocab }).unwrap();
    let mut at = 0;
    for piece in step.pieces(cut, usize::MAX) {
        let Data::I64(sizes) = &table.get("rollout/size").unwrap().data else { panic!() };
        let count = sizes[piece.clone()].iter().sum::<i64>() as usize * given.width;
        let rows = &given.rows[at..at + count];
        let hidden = Hidden { rows, width: given.width, head: given.head(kind) };
        let mut grads = HeadGrads {
            weight: (kind != Kind::Lora).then_some(&mut d_weight[..]),
            bias: (kind != Kind::Plain).then_some(&mut d_bias[..]),
            lora: (kind == Kind::Lora).then(|| LoraGrads { a: &mut d_a, b: &mut d_b }),
        };
        step.live_hidden(piece, hidden, &mut d_rows[at..at + count], &mut grads, room).unwrap();
        at += count;
    }
    assert_eq!(at, given.rows.len());
    let outcome = step.finish().unwrap();
    let mut grads = vec![("hidden", d_rows)];
    match kind {
        Kind::Plain => grads.push(("weight", d_weight)),
        Kind::Bias => grads.extend([("weight", d_weight), ("bias", d_bias)]),
        Kind::Lora => grads.extend([("bias", d_bias), ("a", d_a), ("b", d_b)]),
    }
    Came { loss: outcome.loss, metrics: outcome.metrics.clone().into_values().collect(), grads }
}

fn near(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let size = want.iter().filter(|x| x.is_finite()).fold(1e-3f64, |a, b| a.max(b.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let same = g == w || (g.is_nan() && w.is_nan()) || (g - w).abs() <= tolerance * size;
        assert!(same, "{what}[{i}]: {g} instead of {w}, largest {size}");
    }
}

fn same(what: &str, got: &Came, want: &Came, tolerance: f64) {
    near(&format!("{what} loss"), &[got.loss], &[want.loss], tolerance);
    near(&format!("{what} metrics"), &got.metrics, &want.metrics, tolerance);
    for ((name, g), (_, w)) in got.grads.iter().zip(&want.grads) {
        let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        near(&format!("{what} d {name}"), &wide(g), &wide(w), tolerance);
    }
}

/// Programs with one loop over vocab rows, several, reversed ones, and ones that carry values along.
const OTHERS: &[(&str, &str)] = &[
    (
        "entropy",
        "loss = seq_mean(token_loss - 0.01 * entropy)\nmetric entropy = token_mean(entropy)",
    ),
    (
        "full_kl",
        "kl = sum(softmax(logits) * (log_softmax(logits) - log_softmax(ref_logits)) per token)\n\
         loss = seq_mean(token_loss + 0.1 * kl)\nmetric kl = token_mean(kl)",
    ),
    (
        "scans",
        "delta = logp - old_logp\nahead = rcumsum(delta in rollout)\nbehind = cumsum(delta in rollout)\n\
         following = next(delta, 0.5 in rollout)\nbefore = prev(delta, 0.25, by = 2 in rollout)\n\
         loss = token_mean(tanh(ahead) * following + sin(behind) * before)",
    ),
    (
        "group_coupling",
        "score = sum(logp per rollout)\nshare = exp(score - logsumexp(score per group))\n\
         loss = mean(-share * reward)",
    ),
    (
        "batch_coupling",
        "score = mean(logp per rollout)\n\
         loss = logsumexp(score * reward * 0.1) + std(score) + 0.1 * max(score)",
    ),
    (
        "cells",
        "key cell = (group, position)\nkey half = (index(rollout in group) % 2)\n\
         gain = reward @ token - mean(reward @ token per cell)\n\
         loss = seq_mean(-logp * gain) + 0.1 * mean(mean(old_logp per half))\n\
         metric live = mean(mean(logp per half))\nmetric odds = max(logsumexp(logp per half))",
    ),
    (
        "along_cells",
        "key odd = (group, index(token in rollout) % 2)\nahead = discounted(logp - old_logp, 0.9 in odd)\n\
         before = prev(logp, 0.25, by = 2 in odd)\n\
         loss = mean(tanh(ahead) * before + 0.01 * cumsum(logp in odd))",
    ),
    (
        "most_likely",
        "inside = top(logits, 2 in token)\nown = log_softmax(if inside then logits else -inf)\n\
         middle = quantile(logits, 0.3 per token)\n\
         loss = mean(sum(if inside then exp(own) * own else 0 per token) + 0.1 * middle)\n\
         metric chosen = mean(real(argmax(logits in token) == action))",
    ),
    ("values", "loss = mean((value - reward @ token) ^ 2)"),
];

fn programs() -> impl Iterator<Item = (&'static str, &'static str)> {
    let library = OBJECTIVES.iter().map(|(name, _, text)| (*name, *text));
    library.chain(OTHERS.iter().copied())
}

/// A batch without logits of its own, but with those of a reference.
fn table(rng: &mut Rng, groups: usize, vocab: usize) -> Table {
    let mut table = batch(rng, groups, vocab);
    table.arrays.remove("vocab/logits");
    table
}

/// Room for so many tokens' logits and gradients.
fn room(tokens: usize, vocab: usize) -> Room {
    Room::of(tokens * vocab * 2 * size_of::<f32>())
}

#[test]
fn every_objective_gives_what_the_interpreter_gives() {
    let mut rng = Rng(11);
    for (name, text) in programs() {
        let (mut kernel, mut meaning) =
            (objective(text, Backend::Cpu), objective(text, Backend::Interp));
        for (groups, vocab) in [(1, 3), (4, 7), (2, 300)] {
            let table = table(&mut rng, groups, vocab);
            for kind in [Kind::Plain, Kind::Bias, Kind::Lora] {
                let given = Given::new(&mut rng, &table, vocab, 1.0);
                let all = usize::MAX;
                let want = run(&mut meaning, &table, &given, kind, &mut Room::default(), all);
                for (tokens, cut) in [(1, all), (2, 1), (5, 3), (16, all), (1000, all)] {
                    let mut room = room(tokens, vocab);
                    let got = run(&mut kernel, &table, &given, kind, &mut room, cut);
                    let what = format!("{name} {groups} x {vocab} {kind:?} {tokens} {cut}");
                    same(&what, &got, &want, 1e-5);
                }
            }
        }
    }
}

#[test]
fn hidden_states_and_their_logits_give_the_same() {
    let mut rng = Rng(5);
    for (name, text) in programs() {
        let table = table(&mut rng, 3, 9);
        let mut objective = objective(text, Backend::Cpu);
        for kind in [Kind::Plain, Kind::Bias, Kind::Lora] {
            let given = Given::new(&mut rng, &table, 9, 1.0);
            let logits = given.logits(kind);
            let mut step = objective.begin(&table, Logits::Live { vocab: 9 }).unwrap();
            let rollouts = table.get("rollout/size").unwrap().data.len();
            let d_logits = step.live(0..rollouts, Some(&logits)).unwrap().logits;
            let outcome = step.finish().unwrap().clone();
            let got = run(&mut objective, &table, &given, kind, &mut room(4, 9), usize::MAX);
            near(name, &[got.loss], &[outcome.loss], 1e-5);
            // d bias is the sum over tokens, d hidden its way through W and A.
            let (w, v) = (given.width, given.vocab);
            let head = given.head(kind);
            let mut d_hidden = vec![0.0f64; given.rows.len()];
            for (t, d) in d_logits.chunks_exact(v).enumerate() {
                for (i, d) in d.iter().enumerate() {
                    for j in 0..w {
                        let mut through = f64::from(head.weight[i * w + j]);
                        if let Some(lora) = head.lora {
                            let sum: f32 = (0..given.rank)
                                .map(|r| lora.b[i * 3 + r] * lora.a[r * w + j])
                                .sum();
                            through += f64::from(lora.scale * sum);
                        }
                        d_hidden[t * w + j] += f64::from(*d) * through;
                    }
                }
            }
            let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
            near(&format!("{name} d hidden"), &wide(&got.grads[0].1), &d_hidden, 1e-5);
            if let Some((_, bias)) = got.grads.iter().find(|g| g.0 == "bias") {
                let sum =
                    |i: usize| d_logits.iter().skip(i).step_by(v).map(|g| f64::from(*g)).sum();
                let want: Vec<f64> = (0..v).map(sum).collect();
                // Of tokens whose gradients all but cancel only rounding is left.
                let size = d_logits.iter().fold(0f64, |a, g| a.max(f64::from(g.abs())));
                for (g, w) in wide(bias).iter().zip(want) {
                    assert!((g - w).abs() <= 1e-5 * size, "{name} d bias: {g} instead of {w}");
                }
            }
        }
    }
}

#[test]
fn corners_of_the_logits() {
    let mut rng = Rng(21);
    let text = OBJECTIVES.iter().find(|o| o.0 == "gspo").unwrap().2;
    for (name, text) in [("grpo", "extend grpo\n"), ("gspo", text), OTHERS[0]] {
        let (mut kernel, mut meaning) =
            (objective(text, Backend::Cpu), objective(text, Backend::Interp));
        for vocab in [5, 260] {
            let table = table(&mut rng, 3, vocab);
            let Data::I64(action) = table.get("token/action").unwrap().data.clone() else {
                panic!()
            };
            // Logits of 1e4 and beyond, and entries that cannot be.
            for (scale, impossible) in [(1e4, false), (1.0, true), (1e-3, false)] {
                let mut given = Given::new(&mut rng, &table, vocab, scale);
                if impossible {
                    for (i, b) in given.bias.iter_mut().enumerate() {
                        if i % 2 == 1 && !action.contains(&(i as i64)) {
                            *b = f32::NEG_INFINITY;
                        }
                    }
                }
                let want = run(&mut meaning, &table, &given, Kind::Bias, &mut Room::default(), 99);
                let got = run(&mut kernel, &table, &given, Kind::Bias, &mut room(3, vocab), 99);
                same(&format!("{name} {vocab} {scale} {impossible}"), &got, &want, 2e-5);
            }
        }
    }
}

#[test]
fn gradients_take_the_place_of_logits() {
    let mut rng = Rng(31);
    for (name, text) in programs() {
        for vocab in [5, 300] {
            let table = table(&mut rng, 3, vocab);
            let given = Given::new(&mut rng, &table, vocab, 1.0);
            let logits = given.logits(Kind::Bias);
            for backend in [Backend::Cpu, Backend::Interp] {
                let mut objective = objective(text, backend);
                let mut both = [logits.clone(), Vec::new()];
                let losses = [true, false].map(|over| {
                    let mut step = objective.begin(&table, Logits::Live { vocab }).unwrap();
                    let mut at = 0;
                    for piece in step.pieces(2, usize::MAX) {
                        let Data::I64(sizes) = &table.get("rollout/size").unwrap().data else {
                            panic!()
                        };
                        let count = sizes[piece.clone()].iter().sum::<i64>() as usize * vocab;
                        if over {
                            step.live_in_place(piece, &mut both[0][at..at + count]).unwrap();
                        } else {
                            let own = Some(&logits[at..at + count]);
                            let grads = step.live(piece, own).unwrap().logits;
                            // Empty where the loss reads no logits.
                            let none = vec![0.0; count - grads.len()];
                            both[1].extend(grads.into_iter().chain(none));
                        }
                        at += count;
                    }
                    step.finish().unwrap().loss
                });
                assert_eq!(losses[0].to_bits(), losses[1].to_bits(), "{name} {vocab}");
                let size = both[1].iter().fold(0f32, |a, b| a.max(b.abs()));
                for (i, (over, apart)) in both[0].iter().zip(&both[1]).enumerate() {
                    let near = (over - apart).abs() <= 1e-6 * size;
                    assert!(near, "{name} {vocab} [{i}]: {over} instead of {apart}");
                }
            }
        }
    }
}

#[test]
fn what_is_not_finite_in_place_has_a_place() {
    let mut rng = Rng(4);
    let table = table(&mut rng, 2, 5);
    let mut objective = objective("loss = token_mean(-logp)\n", Backend::Cpu);
    let mut step = objective.begin(&table, Logits::Live { vocab: 5 }).unwrap();
    let mut logits = vec![f32::NAN; tokens(&table) * 5];
    logits[..5].fill(0.0);
    let rollouts = table.get("rollout/size").unwrap().data.len();
    let said = step.live_in_place(0..rollouts, &mut logits).err().unwrap().to_string();
    assert!(said.contains("NaN at token 1 of the batch, entry 0"), "{said}");
}

/// Large enough for several runs of rows, and for several panels of the vocabulary.
fn large(rng: &mut Rng) -> (Table, usize) {
    let vocab = 4700;
    (table(rng, 24, vocab), vocab)
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let mut rng = Rng(3);
    let (table, vocab) = large(&mut rng);
    let given = Given::new(&mut rng, &table, vocab, 1.0);
    assert!(given.tokens * vocab > 1 << 19, "not worth a cut");
    for (name, text) in programs() {
        let mut one = None;
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let came = pool.install(|| {
                let mut objective = objective(text, Backend::Cpu);
                run(&mut objective, &table, &given, Kind::Bias, &mut room(64, vocab), usize::MAX)
            });
            let one = one.get_or_insert_with(|| came.clone());
            assert!(bits(one) == bits(&came), "{name}: {threads} threads give other bits");
        }
    }
}

fn bits(came: &Came) -> Vec<u64> {
    let numbers = came.metrics.iter().chain([&came.loss]).map(|x| x.to_bits());
    let grads = came.grads.iter().flat_map(|g| &g.1).map(|x| u64::from(x.to_bits()));
    numbers.chain(grads).collect()
}

#[test]
fn runs_of_rows_give_what_the_interpreter_gives() {
    let mut rng = Rng(8);
    let (table, vocab) = large(&mut rng);
    let given = Given::new(&mut rng, &table, vocab, 1.0);
    for name in ["grpo", "gspo", "scans", "cells", "along_cells", "batch_coupling", "most_likely"] {
        let text = programs().find(|p| p.0 == name).unwrap().1;
        let mut meaning = objective(text, Backend::Interp);
        let want = run(&mut meaning, &table, &given, Kind::Plain, &mut Room::default(), 99);
        let mut kernel = objective(text, Backend::Cpu);
        let got = run(&mut kernel, &table, &given, Kind::Plain, &mut Room::default(), usize::MAX);
        same(name, &got, &want, 2e-5);
    }
}

#[test]
fn panels_of_a_large_vocabulary_give_what_the_interpreter_gives() {
    let mut rng = Rng(17);
    let vocab = 5300;
    let table = table(&mut rng, 3, vocab);
    for name in ["grpo", "gspo", "scans", "full_kl"] {
        let text = programs().find(|p| p.0 == name).unwrap().1;
        let (mut kernel, mut meaning) =
            (objective(text, Backend::Cpu), objective(text, Backend::Interp));
        for kind in [Kind::Plain, Kind::Bias, Kind::Lora] {
            let given = Given::new(&mut rng, &table, vocab, 1.0);
            let want = run(&mut meaning, &table, &given, kind, &mut Room::default(), 99);
            for tokens in [1, 3, 8, 17, 1000] {
                let got = run(&mut kernel, &table, &given, kind, &mut room(tokens, vocab), 99);
                same(&format!("{name} {kind:?} {tokens}"), &got, &want, 2e-5);
            }
        }
    }
}

#[test]
fn memory_stays_within_the_room() {
    let mut rng = Rng(2);
    let (table, vocab) = large(&mut rng);
    let given = Given::new(&mut rng, &table, vocab, 1.0);
    for text in ["extend grpo\n", "extend gspo\n"] {
        let all = given.tokens * vocab * size_of::<f32>();
        let mut room = Room::of(all / 4);
        let mut objective = objective(text, Backend::Cpu);
        run(&mut objective, &table, &given, Kind::Plain, &mut room, usize::MAX);
        assert!(room.bytes() > 0 && room.bytes() <= all / 4, "{} of {all}", room.bytes());
    }
}

#[test]
fn what_does_not_fit_is_said() {
    let mut rng = Rng(4);
    let table = table(&mut rng, 2, 5);
    let given = Given::new(&mut rng, &table, 5, 1.0);
    let mut objective = objective("loss = token_mean(-logp)\n", Backend::Cpu);
    let mut refused = |rows: &[f32], grads: &mut HeadGrads<'_>| {
        let mut step = objective.begin(&table, Logits::Live { vocab: 5 }).unwrap();
        let rollouts = table.get("rollout/size").unwrap().data.len();
        let hidden = Hidden { rows, width: given.width, head: given.head(Kind::Plain) };
        let mut d = vec![0.0; given.rows.len()];
        let room = &mut Room::default();
        step.live_hidden(0..rollouts, hidden, &mut d, grads, room).err().unwrap().to_string()
    };
    let said = refused(&given.rows[1..], &mut HeadGrads::default());
    assert!(said.contains("hidden states") && said.contains("are needed"), "{said}");
    let said =
        refused(&given.rows, &mut HeadGrads { bias: Some(&mut [0.0; 5]), ..HeadGrads::default() });
    assert!(said.contains("bias: the head has none"), "{said}");
    let mut short = [0.0; 7];
    let said =
        refused(&given.rows, &mut HeadGrads { weight: Some(&mut short), ..HeadGrads::default() });
    assert!(said.contains("d projection: 7 numbers"), "{said}");
    let nan = vec![f32::NAN; given.rows.len()];
    let said = refused(&nan, &mut HeadGrads::default());
    assert!(said.contains("gradient of `logits` is NaN at rollout 0, token 0"), "{said}");
}
