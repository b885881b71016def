//! A compiled objective as the loop's [`Learner`].

use std::collections::BTreeSet;
use std::ops::Range;

use candle_core::Tensor;
use rlc_compiler::check::SampleKind;
use rlc_compiler::clif::Float;
use rlc_compiler::table::{Data, Table};
#[cfg(feature = "cuda")]
use rlc_model::Dtype;

use super::error::{Result, TrainError};
use super::learner::{Learner, Outcome, Reads, State, StateValue, Update, on_host};
#[cfg(feature = "cuda")]
use super::place::Place;
use crate::objective::{HeadGrads, Hidden, Logits, Objective, ObjectiveError, Room, Step};

/// A compiled objective.
pub struct Compiled {
    objective: Objective,
    /// Number type of logits in the memory of the device that runs the live stage; none: they come from the host.
    resident: Option<Float>,
}

impl Compiled {
    /// An objective for the training loop.
    pub fn new(objective: Objective) -> Self {
        Compiled { objective, resident: None }
    }
}

/// A batch that does not fit, or a number that is not finite: the run stops with the reason.
fn objective(e: ObjectiveError) -> TrainError {
    TrainError::Objective(e.to_string())
}

impl Learner for Compiled {
    fn reads(&mut self, offered: &BTreeSet<String>) -> Result<Reads> {
        let needs = self.objective.needs(offered).map_err(|e| TrainError::Config(e.to_string()))?;
        Ok(Reads {
            columns: needs.columns,
            missing: needs.missing,
            left_out: needs.left_out,
            coupling: needs.coupling,
            sample_weight: needs.samples.contains(&SampleKind::Weight),
            sample_rollouts: needs.samples.contains(&SampleKind::Rollouts),
        })
    }

    fn set_temperature(&mut self, temperature: f64) -> Result<()> {
        // A program may replace the param by a definition; then its temperature is its own affair.
        if self.objective.param("temperature").is_none() {
            return Ok(());
        }
        self.objective.set_param("temperature", temperature).map_err(objective)
    }

    fn begin<'a>(&'a mut self, table: &'a Table, vocab: usize) -> Result<Box<dyn Update + 'a>> {
        let logits = match self.resident {
            Some(float) => Logits::OnDevice { vocab, float },
            None => Logits::Live { vocab },
        };
        let step = self.objective.begin(table, logits).map_err(objective)?;
        Ok(Box::new(Pass { step, resident: self.resident.is_some() }))
    }

    #[cfg(feature = "cuda")]
    fn set_place(&mut self, place: &Place) -> Result<()> {
        use crate::device::cuda::{self, cache::Cache, tensors};

        let device = place.device().clone();
        if !device.is_cuda() {
            return Ok(());
        }
        self.resident = Some(match place.dtype() {
            Dtype::F32 => Float::F32,
            Dtype::Bf16 => Float::Bf16,
            Dtype::F16 => Float::F16,
        });
        self.objective.set_device(Some(Box::new(move |plan, floats| {
            // A cache that cannot be written costs a compilation and nothing else.
            cuda::on(tensors::gpu(&device)?, plan, floats, &Cache::of_user(), &|_| {})
        })));
        Ok(())
    }

    fn state(&self) -> State {
        states(self.objective.state())
    }

    fn set_state(&mut self, state: State) -> Result<()> {
        let mut table = Table::default();
        for (name, value) in state {
            if !value.keys.is_empty() {
                table.set(format!("state/{name}.key"), Data::I64(value.keys));
            }
            table.set(format!("state/{name}"), Data::F64(value.values));
        }
        self.objective.set_state(table);
        Ok(())
    }
}

/// States by name, from arrays `state/name` and `state/name.key`.
fn states(table: &Table) -> State {
    let mut out = State::new();
    for (path, array) in &table.arrays {
        let Some(name) = path.strip_prefix("state/").filter(|n| n.strip_suffix(".key").is_none())
        else {
            continue;
        };
        let keys = match table.get(&format!("{path}.key")).map(|k| &k.data) {
            Some(Data::I64(keys)) => keys.clone(),
            _ => Vec::new(),
        };
        let values = (0..array.data.len()).map(|i| array.data.get(i)).collect();
        out.insert(name.to_owned(), StateValue { keys, values });
    }
    out
}

/// A batch under way.
struct Pass<'a> {
    step: Step<'a>,
    resident: bool,
}

impl Update for Pass<'_> {
    fn pieces(&self) -> Vec<Range<usize>> {
        self.step.pieces(1, usize::MAX).collect()
    }

    fn live(&mut self, rollouts: Range<usize>, logits: &[f32]) -> Result<Vec<f32>> {
        Ok(self.step.live(rollouts, Some(logits)).map_err(objective)?.logits)
    }

    fn live_hidden(
        &mut self,
        rollouts: Range<usize>,
        hidden: Hidden<'_>,
        d_hidden: &mut [f32],
        d_head: &mut [f32],
        room: &mut Room,
    ) -> Result<()> {
        let mut grads = HeadGrads { weight: Some(d_head), ..HeadGrads::default() };
        self.step.live_hidden(rollouts, hidden, d_hidden, &mut grads, room).map_err(objective)
    }

    fn live_logits(&mut self, rollouts: Range<usize>, logits: Tensor) -> Result<Tensor> {
        if self.resident {
            return resident(&mut self.step, rollouts, logits);
        }
        on_host(self, rollouts, &logits)
    }

    fn in_place(&self) -> bool {
        self.resident && self.step.in_place()
    }

    fn finish(&mut self) -> Result<Outcome> {
        let outcome = self.step.finish().map_err(objective)?;
        Ok(Outcome {
            loss: outcome.loss,
            metrics: outcome.metrics.clone(),
            state: states(&outcome.state),
            samples: outcome.samples.clone(),
        })
    }
}

/// The gradient of logits in the device's memory, in their place where the program allows it.
#[cfg(feature = "cuda")]
fn resident(step: &mut Step<'_>, rollouts: Range<usize>, logits: Tensor) -> Result<Tensor> {
    let device = |e: crate::device::DeviceError| TrainError::Objective(e.to_string());
    let gradient = if step.in_place() { logits.clone() } else { logits.zeros_like()? };
    let at = crate::device::cuda::tensors::resident(&logits, &gradient).map_err(device)?;
    let written = step.live_on_device(rollouts, at).map_err(objective)?;
    Ok(if written { gradient } else { logits.zeros_like()? })
}

#[cfg(not(feature = "cuda"))]
fn resident(_: &mut Step<'_>, _: Range<usize>, _: Tensor) -> Result<Tensor> {
    Err(TrainError::Objective("this rlc has no CUDA: build it with scripts/build_cuda.sh".into()))
}
