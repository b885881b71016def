//! A pass from hidden states beside the bare matrix products, in alternation, buffers reused.
//!
//!     RAYON_NUM_THREADS=2 cargo run --release -p rlc-runtime --example hidden_speed -- \
//!         [tokens] [hidden] [vocab] [rounds] [objective ...]
//!
//! The products are those of any implementation: logits, d hidden and d W of all tokens at once, and the
//! logits again for objectives that couple tokens. Shares are of the memory of all logits.
#![allow(clippy::unwrap_used, reason = "a measurement, not a library")]

use std::time::Instant;

use rlc_compiler::link::NoFiles;
use rlc_compiler::source::{Source, Sources};
use rlc_compiler::stdlib;
use rlc_compiler::table::{Data, Table};
use rlc_model::gemm::{Matrix, product};
use rlc_runtime::objective::{Backend, Head, HeadGrads, Hidden, Logits, Objective, Room};

struct Times(Vec<f64>);

impl Times {
    fn add(&mut self, work: impl FnOnce()) {
        let begin = Instant::now();
        work();
        self.0.push(begin.elapsed().as_secs_f64() * 1e3);
    }

    fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }
}

fn random(n: usize, scale: f32) -> Vec<f32> {
    let mut state = 1u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale
    };
    (0..n).map(|_| next()).collect()
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, or: usize| args.get(at).map_or(or, |a| a.parse().unwrap());
    let (tokens, hidden, vocab) = (number(0, 2048), number(1, 896), number(2, 32_000));
    let rounds = number(3, 5);
    let mut names: Vec<&str> = args.iter().skip(4).map(String::as_str).collect();
    if names.is_empty() {
        names = vec!["grpo", "gspo"];
    }
    let (rollouts, groups) = (16, 2);
    let mut table = Table::default();
    table.set("group/size", Data::I64(vec![(rollouts / groups) as i64; groups]));
    table.set("rollout/size", Data::I64(vec![(tokens / rollouts) as i64; rollouts]));
    table.set("rollout/reward", Data::F64((0..rollouts).map(|i| (i % 3) as f64).collect()));
    table.set("token/old_logp", Data::F64(vec![-10.0; tokens]));
    table.set("token/ref_logp", Data::F64(vec![-10.0; tokens]));
    table.set("token/action", Data::I64((0..tokens).map(|t| (t * 37 % vocab) as i64).collect()));
    let rows = random(tokens * hidden, 1.0);
    let weight = random(vocab * hidden, 0.05);
    let mut d_hidden = vec![0.0f32; rows.len()];
    let mut d_weight = vec![0.0f32; weight.len()];
    let mut logits = vec![0.0f32; tokens * vocab];
    let all = logits.len() * size_of::<f32>();
    println!(
        "{tokens} x {hidden} to {vocab}, {} threads, {rounds} rounds; ms: minimum (median)",
        rayon::current_num_threads()
    );
    let h = Matrix::new(&rows, tokens, hidden);
    let w = Matrix::new(&weight, vocab, hidden);
    for name in names {
        let (_, text) = stdlib::objective(name).unwrap();
        let mut sources = Sources::default();
        let source = Source { name: name.into(), text: text.to_owned(), library: true };
        let root = sources.add(source);
        let (checked, _) = rlc_compiler::check(&mut sources, root, &NoFiles);
        let mut objective = Objective::new(checked.unwrap(), Backend::Cpu);
        let shares = [4, 16];
        let mut rooms = shares.map(|share| Room::of(all / share));
        let mut bare = [Times(Vec::new()), Times(Vec::new()), Times(Vec::new())];
        let mut ours = [Times(Vec::new()), Times(Vec::new())];
        for round in 0..=rounds {
            let mut now = [Times(Vec::new()), Times(Vec::new()), Times(Vec::new())];
            now[0].add(|| product(&mut logits, vocab, h, w.turned(), false));
            let d = Matrix::new(&logits, tokens, vocab);
            now[1].add(|| product(&mut d_hidden, hidden, d, w, false));
            now[2].add(|| product(&mut d_weight, hidden, d.turned(), h, true));
            let mut own = [0.0; 2];
            for (room, own) in rooms.iter_mut().zip(&mut own) {
                let begin = Instant::now();
                let mut step = objective.begin(&table, Logits::Live { vocab }).unwrap();
                let given = Hidden {
                    rows: &rows,
                    width: hidden,
                    head: Head { weight: &weight, bias: None, lora: None },
                };
                let mut grads = HeadGrads { weight: Some(&mut d_weight), ..HeadGrads::default() };
                step.live_hidden(0..rollouts, given, &mut d_hidden, &mut grads, room).unwrap();
                let outcome = step.finish().unwrap();
                std::hint::black_box(outcome.loss);
                *own = begin.elapsed().as_secs_f64() * 1e3;
            }
            // The first round touches every page for the first time.
            if round > 0 {
                bare.iter_mut().zip(now).for_each(|(all, one)| all.0.extend(one.0));
                ours.iter_mut().zip(own).for_each(|(all, one)| all.0.push(one));
            }
        }
        let [forward, d_h, d_w] = bare.each_ref().map(Times::least);
        let least = forward + d_h + d_w;
        let flops = 2e-6 * tokens as f64 * hidden as f64 * vocab as f64;
        let medians: f64 = bare.each_ref().map(Times::median).iter().sum();
        println!(
            "{name}: products {least:.0} ({medians:.0}), {forward:.0} + {d_h:.0} + {d_w:.0}; {:.0} GFLOP/s",
            3.0 * flops / least
        );
        for ((share, ours), room) in shares.iter().zip(&ours).zip(&rooms) {
            println!(
                "    1/{share}: {:.0} ({:.0}), {:.2} x three products, {:.2} x four; {:.4} of the logits' memory",
                ours.least(),
                ours.median(),
                ours.least() / least,
                ours.least() / (least + forward),
                room.bytes() as f64 / all as f64,
            );
        }
    }
}
