//! The GPU for commands that take one.

use rlc_runtime::device::cuda::{self, cache::Cache};
use rlc_runtime::objective::Maker;

use crate::output::Output;

/// Makes the live stage on the first GPU, with the user's cache of kernels.
pub fn maker(output: &Output) -> Maker {
    let warn = output.warner();
    Box::new(move |plan, floats| cuda::on_gpu(plan, floats, &Cache::of_user(), &warn))
}
