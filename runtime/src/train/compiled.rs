//! A compiled objective as the loop's [`Learner`].

use std::collections::BTreeSet;
use std::ops::Range;

use rlc_compiler::check::SampleKind;
use rlc_compiler::table::{Data, Table};

use super::error::{Result, TrainError};
use super::learner::{Learner, Outcome, Reads, State, StateValue, Update};
use crate::objective::{HeadGrads, Hidden, Logits, Objective, ObjectiveError, Room, Step};

/// A compiled objective.
pub struct Compiled(pub Objective);

/// A batch that does not fit, or a number that is not finite: the run stops with the reason.
fn objective(e: ObjectiveError) -> TrainError {
    TrainError::Objective(e.to_string())
}

impl Learner for Compiled {
    fn reads(&mut self, offered: &BTreeSet<String>) -> Result<Reads> {
        let needs = self.0.needs(offered).map_err(|e| TrainError::Config(e.to_string()))?;
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
        if self.0.param("temperature").is_none() {
            return Ok(());
        }
        self.0.set_param("temperature", temperature).map_err(objective)
    }

    fn begin<'a>(&'a mut self, table: &'a Table, vocab: usize) -> Result<Box<dyn Update + 'a>> {
        Ok(Box::new(Pass(self.0.begin(table, Logits::Live { vocab }).map_err(objective)?)))
    }

    fn state(&self) -> State {
        states(self.0.state())
    }

    fn set_state(&mut self, state: State) -> Result<()> {
        let mut table = Table::default();
        for (name, value) in state {
            if !value.keys.is_empty() {
                table.set(format!("state/{name}.key"), Data::I64(value.keys));
            }
            table.set(format!("state/{name}"), Data::F64(value.values));
        }
        self.0.set_state(table);
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

struct Pass<'a>(Step<'a>);

impl Update for Pass<'_> {
    fn pieces(&self) -> Vec<Range<usize>> {
        self.0.pieces(1, usize::MAX)
    }

    fn live(&mut self, rollouts: Range<usize>, logits: &[f32]) -> Result<Vec<f32>> {
        Ok(self.0.live(rollouts, Some(logits)).map_err(objective)?.logits)
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
        self.0.live_hidden(rollouts, hidden, d_hidden, &mut grads, room).map_err(objective)
    }

    fn finish(&mut self) -> Result<Outcome> {
        let outcome = self.0.finish().map_err(objective)?;
        Ok(Outcome {
            loss: outcome.loss,
            metrics: outcome.metrics,
            state: states(&outcome.state),
            samples: outcome.samples,
        })
    }
}
