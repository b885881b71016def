//! Training: prompts to completions to rewards to a batch, the objective's gradients to the weights,
//! and everything of it to disk, so that a killed run continues as if nothing had happened.
//!
//! [`trainer`] is the loop. What it needs comes from [`config`] (settings), [`data`] and [`offline`]
//! (prompts, recorded rollouts), [`prompts`] (which come next), [`rollouts`] (sampling), [`reward`] (verdicts), [`batch`] (the
//! table), [`learner`] (the objective), [`forward`], [`gradients`] and [`optimizer`] (the weights),
//! [`place`] (the device), [`checkpoint`] (the folder), [`signal`] (whether rewards differ) and [`report`] (what is said). Nothing here prints or parses flags.
pub mod arithmetic;
pub mod assets;
pub mod batch;
pub mod checkpoint;
pub mod compiled;
pub mod config;
pub mod data;
pub mod error;
pub mod evaluate;
pub mod external;
pub mod forward;
pub mod gradients;
pub mod learner;
mod lock;
pub mod offline;
pub mod optimizer;
pub mod place;
pub mod plot;
pub mod prompts;
pub mod report;
pub mod reward;
pub mod rollouts;
pub mod signal;
pub mod trainer;
pub mod verify;

pub use config::Config;
pub use error::TrainError;
pub use trainer::{Ended, Trainer};
