//! AdamW with state that can be saved: candle's own keeps its moments private. Plain tensor
//! arithmetic, one parameter after the other in the order of their names, so that the result is the
//! same on every run.

use std::collections::HashMap;

use candle_core::{DType, Tensor, Var};

use super::config::OptimizerConfig;
use super::error::{Result, TrainError};

/// First and second moments of each parameter, and the number of steps taken.
pub struct AdamW {
    vars: Vec<(String, Var)>,
    first: Vec<Tensor>,
    second: Vec<Tensor>,
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
        let zeros = |v: &Var| v.as_tensor().zeros_like();
        let first = vars.iter().map(|(_, v)| zeros(v)).collect::<candle_core::Result<Vec<_>>>()?;
        let second = vars.iter().map(|(_, v)| zeros(v)).collect::<candle_core::Result<Vec<_>>>()?;
        Ok(AdamW { vars, first, second, steps: 0, settings: settings.clone(), total })
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
        let mut squares = 0.0;
        for ((name, _), grad) in self.vars.iter().zip(grads) {
            let Some(grad) = grad else { continue };
            let square =
                f64::from(grad.sqr()?.sum_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?);
            if !square.is_finite() {
                return Err(TrainError::Objective(format!(
                    "the gradient of {name} is not finite: lower optimizer.lr ({}) or set \
                     optimizer.max_grad_norm; the weights of the last checkpoint are unharmed",
                    s.lr.unwrap_or(0.0)
                )));
            }
            squares += square;
        }
        let grad_norm = squares.sqrt();
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
        for (i, (_, var)) in self.vars.iter().enumerate() {
            let Some(grad) = &grads[i] else { continue };
            let grad = (grad.detach() * clip)?;
            self.first[i] = ((&self.first[i] * beta1)? + (&grad * (1.0 - beta1))?)?;
            self.second[i] = ((&self.second[i] * beta2)? + (grad.sqr()? * (1.0 - beta2))?)?;
            let step = ((&self.first[i] * (lr / correct1))?
                / ((&self.second[i] / correct2)?.sqrt()? + s.eps)?)?;
            let mut next = var.as_tensor().detach();
            if s.weight_decay > 0.0 && var.dims().len() > 1 {
                next = (next * (1.0 - lr * s.weight_decay))?;
            }
            var.set(&(next - step)?)?;
        }
        Ok(Applied { grad_norm, lr })
    }

    /// The moments by name: `first/NAME`, `second/NAME`.
    pub fn state(&self) -> HashMap<String, Tensor> {
        let mut state = HashMap::new();
        for (i, (name, _)) in self.vars.iter().enumerate() {
            state.insert(format!("first/{name}"), self.first[i].clone());
            state.insert(format!("second/{name}"), self.second[i].clone());
        }
        state
    }

    /// Takes up saved moments after `steps` optimiser steps.
    pub fn restore(&mut self, mut state: HashMap<String, Tensor>, steps: u64) -> Result<()> {
        for (i, (name, var)) in self.vars.iter().enumerate() {
            for (kind, slot) in [("first", &mut self.first[i]), ("second", &mut self.second[i])] {
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
                *slot = saved;
            }
        }
        self.steps = steps;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

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
        let start = [[0.5f32, -1.0], [2.0, 0.25]];
        let var = Var::from_tensor(&Tensor::new(&start, &Device::Cpu).unwrap()).unwrap();
        let mut adam = AdamW::new(vec![("w".into(), var.clone())], &settings(), 10).unwrap();
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
