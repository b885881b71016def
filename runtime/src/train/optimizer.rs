//! AdamW with state that can be saved: candle's own keeps its moments private.

use std::collections::HashMap;

use candle_core::{Tensor, Var};

use super::config::OptimizerConfig;
use super::error::{Result, TrainError};

mod moments;

use moments::{Moments, Sweep, squares};

/// First and second moments of each parameter, and the number of steps taken.
pub struct AdamW {
    vars: Vec<(String, Var)>,
    moments: Vec<Moments>,
    steps: u64,
    settings: OptimizerConfig,
    total: u64,
}

/// What one optimiser step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Applied {
    /// Length of the gradient before clipping.
    pub grad_norm: f64,
    /// Learning rate used.
    pub lr: f64,
}

impl AdamW {
    /// An optimiser for `vars` (sorted by name here) over `total` optimiser steps.
    pub fn new(
        mut vars: Vec<(String, Var)>,
        settings: &OptimizerConfig,
        total: u64,
    ) -> Result<Self> {
        vars.sort_by(|a, b| a.0.cmp(&b.0));
        let moments = vars.iter().map(|(_, v)| Moments::zeros(v)).collect();
        Ok(AdamW { vars, moments, steps: 0, settings: settings.clone(), total })
    }

    /// The same, with moments on the device and candle's ops, as on any device but the CPU: before its first step.
    #[must_use]
    pub fn with_candle_ops(mut self) -> Self {
        self.moments.iter_mut().for_each(|m| *m = Moments::Device(None));
        self
    }

    /// The parameters, sorted by name.
    pub fn vars(&self) -> &[(String, Var)] {
        &self.vars
    }

    /// Optimiser steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Learning rate of optimiser step `step`, from 0.
    pub fn lr(&self, step: u64) -> f64 {
        let s = &self.settings;
        let peak = s.lr.unwrap_or(0.0);
        if step < s.warmup {
            return peak * (step + 1) as f64 / s.warmup as f64;
        }
        let span = self.total.saturating_sub(s.warmup).max(1) as f64;
        let done = ((step - s.warmup) as f64 / span).min(1.0);
        let share = match s.schedule.as_str() {
            "linear" => 1.0 - done,
            "cosine" => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            _ => return peak,
        };
        peak * (s.final_lr + (1.0 - s.final_lr) * share)
    }

    /// Clips the gradients (one per parameter, in order; none is zero) and moves the weights.
    pub fn step(&mut self, grads: &[Option<Tensor>]) -> Result<Applied> {
        let s = self.settings.clone();
        let mut sum = 0.0;
        let squares = squares(grads)?;
        for ((name, _), square) in self.vars.iter().zip(squares) {
            if !square.is_finite() {
                return Err(TrainError::Objective(format!(
                    "the gradient of {name} is not finite: lower optimizer.lr ({}) or set \
                     optimizer.max_grad_norm; the weights of the last checkpoint are unharmed",
                    s.lr.unwrap_or(0.0)
                )));
            }
            sum += square;
        }
        let grad_norm = sum.sqrt();
        let clip = if s.max_grad_norm > 0.0 && grad_norm > s.max_grad_norm {
            s.max_grad_norm / grad_norm
        } else {
            1.0
        };
        let lr = self.lr(self.steps);
        self.steps += 1;
        let [beta1, beta2] = s.betas;
        let correct1 = 1.0 - beta1.powf(self.steps as f64);
        let correct2 = 1.0 - beta2.powf(self.steps as f64);
        for (((_, var), grad), moments) in self.vars.iter().zip(grads).zip(&mut self.moments) {
            let Some(grad) = grad else { continue };
            let decays = s.weight_decay > 0.0 && var.dims().len() > 1;
            let sweep = Sweep {
                clip: clip as f32,
                betas: [beta1 as f32, beta2 as f32],
                rest: [(1.0 - beta1) as f32, (1.0 - beta2) as f32],
                rate: (lr / correct1) as f32,
                correct: (1.0 / correct2) as f32,
                eps: s.eps as f32,
                keep: if decays { (1.0 - lr * s.weight_decay) as f32 } else { 1.0 },
            };
            moments.step(var, grad, sweep)?;
        }
        Ok(Applied { grad_norm, lr })
    }

    /// The moments by name: `first/NAME`, `second/NAME`.
    pub fn state(&self) -> Result<HashMap<String, Tensor>> {
        let mut state = HashMap::new();
        for ((name, var), moments) in self.vars.iter().zip(&self.moments) {
            let [first, second] = moments.tensors(var)?;
            state.insert(format!("first/{name}"), first);
            state.insert(format!("second/{name}"), second);
        }
        Ok(state)
    }

    /// Takes up saved moments after `steps` optimiser steps.
    pub fn restore(&mut self, mut state: HashMap<String, Tensor>, steps: u64) -> Result<()> {
        for ((name, var), moments) in self.vars.iter().zip(&mut self.moments) {
            let mut take = |kind: &str| {
                let key = format!("{kind}/{name}");
                let saved = state.remove(&key).ok_or_else(|| {
                    TrainError::Checkpoint(format!(
                        "optimizer.safetensors has no {key}: it belongs to another model"
                    ))
                })?;
                if saved.dims() != var.dims() {
                    return Err(TrainError::Checkpoint(format!(
                        "optimizer.safetensors: {key} is {:?}, the model's is {:?}",
                        saved.dims(),
                        var.dims()
                    )));
                }
                Ok(saved)
            };
            let saved = [take("first")?, take("second")?];
            *moments = Moments::from(var, &saved)?;
        }
        self.steps = steps;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::moments::BLOCK;
    use super::*;
    use candle_core::{DType, Device};

    fn settings() -> OptimizerConfig {
        OptimizerConfig {
            lr: Some(0.1),
            weight_decay: 0.01,
            warmup: 0,
            schedule: "constant".into(),
            max_grad_norm: 1.0,
            ..Default::default()
        }
    }

    /// The formula of Loshchilov and Hutter, one number at a time in f64.
    #[test]
    fn equals_the_formula() {
        formula(|adam| adam);
        formula(AdamW::with_candle_ops);
    }

    fn formula(how: impl Fn(AdamW) -> AdamW) {
        let start = [[0.5f32, -1.0], [2.0, 0.25]];
        let var = Var::from_tensor(&Tensor::new(&start, &Device::Cpu).unwrap()).unwrap();
        let adam = AdamW::new(vec![("w".into(), var.clone())], &settings(), 10).unwrap();
        let mut adam = how(adam);
        let mut w: Vec<f64> = start.iter().flatten().map(|x| f64::from(*x)).collect();
        let (mut m, mut v) = (vec![0.0; 4], vec![0.0; 4]);
        for t in 1..=5i32 {
            let g: Vec<f64> = (0..4).map(|i| f64::from(t) * 0.5 - f64::from(i)).collect();
            let tensor = Tensor::from_vec(g.clone(), (2, 2), &Device::Cpu).unwrap();
            let tensor = tensor.to_dtype(DType::F32).unwrap();
            let applied = adam.step(&[Some(tensor)]).unwrap();
            let norm = g.iter().map(|x| x * x).sum::<f64>().sqrt();
            assert!((applied.grad_norm - norm).abs() < 1e-5);
            for i in 0..4 {
                let gi = g[i] * (1.0 / norm).min(1.0);
                m[i] = 0.9 * m[i] + 0.1 * gi;
                v[i] = 0.95 * v[i] + 0.05 * gi * gi;
                let (mh, vh) = (m[i] / (1.0 - 0.9f64.powi(t)), v[i] / (1.0 - 0.95f64.powi(t)));
                w[i] -= 0.1 * (mh / (vh.sqrt() + 1e-8) + 0.01 * w[i]);
            }
        }
        let got = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (a, b) in got.iter().zip(&w) {
            assert!((f64::from(*a) - b).abs() < 1e-5, "{got:?} {w:?}");
        }
    }

    /// A parameter of several blocks: the same bits in one thread and in three, and the norm in f64.
    #[test]
    fn threads_change_nothing() {
        let n = 3 * BLOCK + 17;
        let values = |speed: f32| (0..n).map(|i| (i as f32 * speed).sin()).collect::<Vec<f32>>();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let start = Tensor::from_vec(values(0.3), n, &Device::Cpu).unwrap();
                let var = Var::from_tensor(&start).unwrap();
                let mut adam = AdamW::new(vec![("w".into(), var.clone())], &settings(), 9).unwrap();
                let grad = Tensor::from_vec(values(0.7), n, &Device::Cpu).unwrap();
                let applied = adam.step(&[Some(grad)]).unwrap();
                (
                    applied.grad_norm,
                    var.to_vec1::<f32>().unwrap(),
                    adam.state().unwrap()["second/w"].to_vec1::<f32>().unwrap(),
                )
            })
        };
        let one = run(1);
        let norm = values(0.7).iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        assert!((one.0 - norm).abs() < 1e-12 * norm);
        assert_ne!(one.1, values(0.3));
        assert_eq!(one, run(3));
    }

    #[test]
    fn schedule() {
        let var = Var::zeros(1, DType::F32, &Device::Cpu).unwrap();
        let mut s = settings();
        (s.warmup, s.schedule, s.final_lr) = (2, "linear".into(), 0.5);
        let adam = AdamW::new(vec![("w".into(), var)], &s, 12).unwrap();
        let lrs: Vec<f64> = [0, 1, 2, 7, 12].iter().map(|i| adam.lr(*i)).collect();
        for (a, b) in lrs.iter().zip([0.05, 0.1, 0.1, 0.075, 0.05]) {
            assert!((a - b).abs() < 1e-12, "{lrs:?}");
        }
    }

    #[test]
    fn a_gradient_that_is_not_finite_is_named() {
        let var = Var::zeros(1, DType::F32, &Device::Cpu).unwrap();
        let mut adam = AdamW::new(vec![("head".into(), var)], &settings(), 1).unwrap();
        let bad = Tensor::new(&[f32::NAN], &Device::Cpu).unwrap();
        assert!(adam.step(&[Some(bad)]).unwrap_err().to_string().contains("head"));
    }
}
