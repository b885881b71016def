//! Objectives with gradients written by hand, to drive the training loop without a compiler.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use rlc_compiler::table::Table;
use rlc_runtime::train::error::Result;
use rlc_runtime::train::learner::{Learner, Outcome, Reads, State, StateValue, Update};

/// Which objective.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    Sft,
    Grpo,
    Calib,
    Dapo,
    DrGrpo,
    Gspo,
    Rloo,
    /// GRPO that says it needs `token/ref_logp` and a step label.
    Reference,
}

pub struct StandIn {
    pub kind: Kind,
    pub state: State,
}

impl StandIn {
    pub fn boxed(kind: Kind) -> Box<dyn Learner> {
        let counter = StateValue { keys: vec![], values: vec![0.0] };
        Box::new(StandIn { kind, state: State::from([("seen".to_string(), counter)]) })
    }
}

impl Learner for StandIn {
    fn reads(&mut self, offered: &BTreeSet<String>) -> Result<Reads> {
        let mut needs = vec!["vocab/logits"];
        if self.kind != Kind::Sft {
            needs.extend(["token/old_logp", "rollout/reward"]);
        }
        if self.kind == Kind::Calib {
            needs.push("turn/step_correct");
        }
        if self.kind == Kind::Reference {
            needs.push("token/ref_logp");
        }
        let (columns, missing): (Vec<String>, Vec<String>) =
            needs.iter().map(|n| (*n).to_string()).partition(|n| offered.contains(n));
        Ok(Reads { columns: columns.into_iter().collect(), missing, ..Reads::default() })
    }
    fn set_temperature(&mut self, _: f64) -> Result<()> {
        Ok(())
    }
    fn begin<'a>(&'a mut self, table: &'a Table, vocab: usize) -> Result<Box<dyn Update + 'a>> {
        let numbers = |name: &str| -> Vec<f64> {
            let data = &table.get(name).unwrap_or_else(|| panic!("no {name}")).data;
            (0..data.len()).map(|i| data.get(i)).collect()
        };
        let sizes: Vec<usize> = numbers("rollout/size").iter().map(|x| *x as usize).collect();
        let total: usize = sizes.iter().sum();
        let mut advantage = vec![1.0; sizes.len()];
        if self.kind != Kind::Sft {
            let reward = numbers("rollout/reward");
            let mut start = 0;
            for g in numbers("group/size") {
                let group = &reward[start..start + g as usize];
                let mean = group.iter().sum::<f64>() / g;
                let var =
                    group.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / (g - 1.0).max(1.0);
                for (i, r) in group.iter().enumerate() {
                    advantage[start + i] = match self.kind {
                        Kind::DrGrpo => r - mean,
                        Kind::Rloo => (r - mean) * g / (g - 1.0).max(1.0),
                        _ => (r - mean) / (var.sqrt() + 1e-4),
                    };
                }
                start += g as usize;
            }
        }
        let mut per_token: Vec<f64> =
            sizes.iter().zip(&advantage).flat_map(|(n, a)| vec![*a; *n]).collect();
        if self.kind == Kind::Calib {
            calib(&mut per_token, table, &sizes, &numbers);
        }
        if self.kind == Kind::Reference {
            assert_eq!(numbers("token/ref_logp").len(), total);
        }
        Ok(Box::new(Pass {
            kind: self.kind,
            vocab,
            actions: numbers("token/action").iter().map(|x| *x as usize).collect(),
            old: table.get("token/old_logp").map(|_| numbers("token/old_logp")),
            advantage: per_token,
            sizes,
            total,
            loss: 0.0,
            kl: 0.0,
            clipped: 0.0,
            seen: self.state["seen"].values[0],
        }))
    }
    fn state(&self) -> State {
        self.state.clone()
    }
    fn set_state(&mut self, state: State) -> Result<()> {
        self.state = state;
        Ok(())
    }
}

/// `language.md` section 9.
fn calib(a: &mut [f64], table: &Table, sizes: &[usize], numbers: &dyn Fn(&str) -> Vec<f64>) {
    let turns: Vec<usize> = numbers("turn/size").iter().map(|x| *x as usize).collect();
    let q = numbers("turn/step_correct");
    let (mut token, mut turn) = (0, 0);
    let mut last = vec![false; a.len()];
    for size in sizes {
        let end = token + size;
        while token < end {
            let is_last = token + turns[turn] == end;
            for t in token..token + turns[turn] {
                last[t] = is_last;
                if !is_last && a[t] < 0.0 {
                    a[t] *= 1.0 - q[turn];
                }
            }
            token += turns[turn];
            turn += 1;
        }
    }
    let (mut start, mut rollout) = (0, 0);
    for g in 0..table.get("group/size").unwrap().data.len() {
        let count = table.get("group/size").unwrap().data.get(g) as usize;
        let size: usize = sizes[rollout..rollout + count].iter().sum();
        rollout += count;
        let range = start..start + size;
        start += size;
        let (mut n, mut p) = (0.0, 0.0);
        for t in range.clone().filter(|t| last[*t]) {
            if a[t] < 0.0 { n -= a[t] } else { p += a[t] }
        }
        for t in range {
            if last[t] && a[t] > 0.0 && n > 0.0 && p > 0.0 {
                a[t] *= n / p;
            }
            if last[t] && (n == 0.0 || p == 0.0) {
                a[t] = 0.0;
            }
        }
    }
}

struct Pass {
    kind: Kind,
    vocab: usize,
    actions: Vec<usize>,
    old: Option<Vec<f64>>,
    advantage: Vec<f64>,
    sizes: Vec<usize>,
    total: usize,
    loss: f64,
    kl: f64,
    clipped: f64,
    seen: f64,
}

impl Update for Pass {
    fn pieces(&self) -> Vec<Range<usize>> {
        (0..self.sizes.len()).map(|i| i..i + 1).collect()
    }
    fn live(&mut self, rollouts: Range<usize>, logits: &[f32]) -> Result<Vec<f32>> {
        let mut start: usize = self.sizes[..rollouts.start].iter().sum();
        let count = self.sizes.len() as f64;
        let mut grads = vec![0f32; logits.len()];
        let mut row = 0;
        for r in rollouts {
            let n = self.sizes[r];
            let softmax: Vec<Vec<f64>> = (0..n)
                .map(|t| {
                    let x = &logits[(row + t) * self.vocab..(row + t + 1) * self.vocab];
                    let top = x.iter().copied().fold(f32::MIN, f32::max);
                    let e: Vec<f64> = x.iter().map(|v| f64::from(v - top).exp()).collect();
                    let sum: f64 = e.iter().sum();
                    e.iter().map(|v| v / sum).collect()
                })
                .collect();
            let logp: Vec<f64> = (0..n).map(|t| softmax[t][self.actions[start + t]].ln()).collect();
            let old: Vec<f64> =
                (0..n).map(|t| self.old.as_ref().map_or(logp[t], |o| o[start + t])).collect();
            let log_ratio: f64 = (0..n).map(|t| logp[t] - old[t]).sum();
            let (low, high) = match self.kind {
                Kind::Gspo => (3e-4, 4e-4),
                Kind::Dapo => (0.2, 0.28),
                _ => (0.2, 0.2),
            };
            for t in 0..n {
                let a = self.advantage[start + t];
                let (ratio, scale, weight) = match self.kind {
                    Kind::Gspo => ((log_ratio / n as f64).exp(), 1.0 / n as f64, 1.0 / count),
                    Kind::Rloo => (log_ratio.exp(), 1.0, 1.0 / count),
                    Kind::Sft => (1.0, 1.0, 1.0 / self.total as f64),
                    Kind::Dapo => ((logp[t] - old[t]).exp(), 1.0, 1.0 / self.total as f64),
                    Kind::DrGrpo => ((logp[t] - old[t]).exp(), 1.0, 1.0 / (count * 512.0)),
                    _ => ((logp[t] - old[t]).exp(), 1.0, 1.0 / (count * n as f64)),
                };
                let clip =
                    self.kind != Kind::Sft && ratio.clamp(1.0 - low, 1.0 + high) * a < ratio * a;
                let d = if clip { 0.0 } else { -weight * scale * a * ratio };
                self.loss -= match self.kind {
                    Kind::Sft => weight * logp[t],
                    Kind::Gspo | Kind::Rloo => weight * a * ratio / n as f64,
                    _ => weight * a * ratio,
                };
                self.kl += (old[t] - logp[t]) / self.total as f64;
                self.clipped += f64::from(clip) / self.total as f64;
                for v in 0..self.vocab {
                    let hot = f64::from(v == self.actions[start + t]);
                    grads[(row + t) * self.vocab + v] = (d * (hot - softmax[t][v])) as f32;
                }
            }
            row += n;
            start += n;
        }
        Ok(grads)
    }
    fn finish(&mut self) -> Result<Outcome> {
        let metrics = BTreeMap::from([
            ("approx_kl".to_string(), self.kl),
            ("clip_fraction".to_string(), self.clipped),
        ]);
        let seen = StateValue { keys: vec![], values: vec![self.seen + self.sizes.len() as f64] };
        let state = State::from([("seen".into(), seen)]);
        let loss = self.loss;
        (self.loss, self.kl, self.clipped) = (0.0, 0.0, 0.0);
        Ok(Outcome { loss, metrics, state, ..Outcome::default() })
    }
}
