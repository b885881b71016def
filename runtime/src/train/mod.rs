//! Training: prompts to completions to rewards to a batch, the objective's gradients to the weights,
//! and everything of it to disk, so that a killed run continues as if nothing had happened.
pub mod arithmetic;
pub mod config;
pub mod data;
pub mod error;
pub mod external;
pub mod optimizer;
pub mod reward;
pub mod verify;
