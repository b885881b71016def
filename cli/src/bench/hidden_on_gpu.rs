//! Passes from hidden states on a device, the way training takes them, in turns with the bare matrix products of the same
//! library.

use std::fmt::Write as _;
use std::ops::Range;
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use rlc_compiler::level::{ROLLOUT, TOKEN};
use rlc_compiler::shape::Shape;
use rlc_compiler::table::{Array, Data, Table};
use rlc_runtime::device::cuda::gpu::Gpu;
use rlc_runtime::device::cuda::product::{Factor, Products};
use rlc_runtime::objective::Objective;
use rlc_runtime::train::TrainError;
use rlc_runtime::train::compiled::Compiled;
use rlc_runtime::train::config::ModelConfig;
use rlc_runtime::train::gradients::Gradients;
use rlc_runtime::train::learner::Learner;
use rlc_runtime::train::place::Place;
use serde_json::{Value, json};

use super::hidden::{STATES, WEIGHT, wrong};
use super::progress::Progress;
use super::text;
use crate::failure::{Failure, Outcome};

/// What was measured. Times in seconds, by the clock, each once the device has come so far.
#[derive(Debug)]
pub struct Measured {
    /// From the batch to loss and gradients.
    pass: Vec<f64>,
    /// Logits, d hidden, d projection: whole products.
    products: [Vec<f64>; 3],
    /// Bytes that a pass takes at most beside its batch, d hidden and d projection, where the device says.
    extra: Option<u64>,
    loss: f64,
    /// Tokens, entries, numbers of a hidden state.
    sizes: [usize; 3],
    dtype: DType,
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::running(error.to_string(), "`rlc doctor` says what this machine has")
}

/// Runs passes and products in turns on a device (see [`ModelConfig::device`]), in the number type of the batch's hidden states.
pub fn measure(
    objective: Objective,
    mut table: Table,
    device: &str,
    time: Duration,
    progress: &Progress,
) -> Outcome<Measured> {
    let (states, weight) = (taken(&mut table, STATES)?, taken(&mut table, WEIGHT)?);
    let dtype = match (&states.data, &weight.data) {
        (Data::F32(_), Data::F32(_)) => "f32",
        (Data::Bf16(_), Data::Bf16(_)) => "bf16",
        (a, b) => {
            let (a, b) = (a.type_name(), b.type_name());
            let why = format!("`{STATES}` is {a} and `{WEIGHT}` {b}: both are F32 or both BF16");
            return Err(wrong(why));
        }
    };
    let config =
        ModelConfig { device: device.into(), dtype: Some(dtype.into()), ..ModelConfig::default() };
    let place = Place::open(&config).map_err(|e| Failure::input(e.to_string(), ""))?;
    let on = place.device();
    let (rows, head) = (tensor(states, on)?, tensor(weight, on)?);
    let (&[tokens, width], &[vocab, other]) = (rows.dims(), head.dims()) else {
        return Err(wrong(format!("`{STATES}` is [tokens, H] and `{WEIGHT}` is [V, H]")));
    };
    let bad = |e: rlc_compiler::shape::TableError| Failure::input(e.to_string(), "");
    let levels = &objective.checked().graph.level_table;
    let shape = Shape::new(levels, &table).map_err(bad)?;
    if width != other || shape.count(TOKEN) != tokens {
        let count = shape.count(TOKEN);
        return Err(wrong(format!(
            "`{STATES}` is [{tokens}, {width}] and `{WEIGHT}` is [{vocab}, {other}], for {count} tokens"
        )));
    }
    let of = |r: Range<usize>| shape.range(ROLLOUT, r, TOKEN).len();
    let mut learner = Compiled::new(objective);
    learner.set_place(&place).map_err(failed)?;
    let gradients = Gradients::default();
    let mut run = || {
        let begin = Instant::now();
        let d_head = Tensor::zeros(head.shape(), DType::F32, on)?;
        let mut update = learner.begin(&table, vocab)?;
        let pieces = update.pieces();
        gradients.through_head((&rows, &head), &d_head, &mut *update, &pieces, &of)?;
        let loss = update.finish()?.loss;
        on.synchronize()?;
        Ok::<_, TrainError>((begin.elapsed().as_secs_f64(), loss))
    };

    progress.say("warming up");
    let gpu = place.gpu().map_err(failed)?;
    let before = gpu.as_ref().map(Gpu::forget_peak).transpose().map_err(failed)?.flatten();
    let (_, mut loss) = run().map_err(failed)?;
    let peak = gpu.as_ref().map(Gpu::peak).transpose().map_err(failed)?.flatten();
    let own = rows.elem_count() * rows.dtype().size_in_bytes() + head.elem_count() * 4;
    let extra = before.zip(peak).map(|(b, p)| p.saturating_sub(b).saturating_sub(own as u64));

    let logits = Tensor::zeros((tokens, vocab), rows.dtype(), on).map_err(failed)?;
    let d_rows = rows.zeros_like().map_err(failed)?;
    let d_head = Tensor::zeros(head.shape(), DType::F32, on).map_err(failed)?;
    let by = Products::default();
    let (plain, turned) = (|t| Factor(t, false), |t| Factor(t, true));
    let bare = [
        (&logits, plain(&rows), turned(&head)),
        (&d_rows, plain(&logits), plain(&head)),
        (&d_head, turned(&logits), plain(&rows)),
    ];
    let (mut pass, mut products): (Vec<f64>, [Vec<f64>; 3]) = Default::default();
    let started = Instant::now();
    // The first product of a form looks for an algorithm.
    while pass.len() < 4 || started.elapsed() < time {
        for ((out, left, right), all) in bare.iter().zip(&mut products) {
            on.synchronize().map_err(failed)?;
            let begin = Instant::now();
            by.multiply(out, *left, *right, false).map_err(failed)?;
            on.synchronize().map_err(failed)?;
            all.push(begin.elapsed().as_secs_f64());
        }
        let (seconds, of_pass) = run().map_err(failed)?;
        pass.push(seconds);
        loss = of_pass;
        progress.pass(&pass, "in turns with bare products");
    }
    pass.remove(0);
    for all in &mut products {
        all.remove(0);
    }
    let (sizes, dtype) = ([tokens, vocab, width], rows.dtype());
    Ok(Measured { pass, products, extra, loss, sizes, dtype })
}

fn taken(table: &mut Table, name: &str) -> Outcome<Array> {
    table.arrays.remove(name).ok_or_else(|| wrong(format!("it has no `{name}`")))
}

fn tensor(array: Array, on: &Device) -> Outcome<Tensor> {
    let Array { data, shape } = array;
    let made = match data {
        Data::F32(x) => Tensor::from_vec(x, shape, on),
        Data::Bf16(x) => {
            Tensor::from_vec(x.into_iter().map(bf16::from_bits).collect::<Vec<_>>(), shape, on)
        }
        Data::F16(x) => {
            Tensor::from_vec(x.into_iter().map(f16::from_bits).collect::<Vec<_>>(), shape, on)
        }
        other => return Err(wrong(format!("states are F32 or BF16, not {}", other.type_name()))),
    };
    made.map_err(failed)
}

impl Measured {
    /// Seconds of the three products.
    fn floor(&self) -> f64 {
        self.products.iter().map(|all| text::median(all)).sum()
    }

    /// Seconds and bytes.
    pub fn json(&self, objective: &str) -> Value {
        let [tokens, vocab, width] = self.sizes;
        let [logits, hidden, weight] = &self.products;
        json!({
            "objective": objective,
            "tokens": tokens,
            "vocab": vocab,
            "hidden": width,
            "dtype": format!("{:?}", self.dtype).to_lowercase(),
            "loss": self.loss,
            "time": { "pass": { "median": text::median(&self.pass), "passes": self.pass.len() } },
            "products": {
                "logits": text::median(logits),
                "d_hidden": text::median(hidden),
                "d_projection": text::median(weight),
            },
            "floor": self.floor(),
            "extra": self.extra,
        })
    }

    /// For people.
    pub fn text(&self, objective: &str) -> String {
        let ([tokens, vocab, width], pass) = (self.sizes, text::median(&self.pass));
        let mut out = format!(
            "{objective}: {tokens} tokens, {width} numbers to {vocab} entries, {:?}, loss {}\n",
            self.dtype, self.loss
        );
        let _ = writeln!(
            out,
            "pass    {}, {:.2} times the bare products' {}",
            text::seconds(pass),
            pass / self.floor(),
            text::seconds(self.floor()),
        );
        if let Some(extra) = self.extra {
            let _ = writeln!(
                out,
                "memory  {} at most beside the batch, d hidden and d projection",
                text::size(extra as usize)
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use rlc_compiler::check::Checked;
    use rlc_compiler::source::{Source, Sources};
    use rlc_compiler::stdlib;
    use rlc_runtime::objective::Backend;

    use super::super::batch::{Wanted, build};
    use super::super::{Dtype, hidden};
    use super::*;

    fn grpo() -> Checked {
        let (name, text) = stdlib::objective("grpo").unwrap();
        let mut sources = Sources::default();
        let source = Source { name: name.into(), text: text.into(), library: true };
        let root = sources.add(source);
        rlc_compiler::check(&mut sources, root, &rlc_compiler::link::NoFiles).0.unwrap()
    }

    /// The path of a GPU, on the CPU: the loss is that of the passes from hidden states that the CPU has.
    #[test]
    fn a_pass_on_a_device_is_a_pass() {
        let mut objective = Objective::new(grpo(), Backend::Cpu);
        let offered = ["vocab/logits".to_owned()].into_iter().collect();
        let program = objective.specialized(Some(offered)).unwrap().program.clone();
        let wanted = Wanted {
            tokens: 40,
            vocab: 30,
            dtype: Dtype::F32,
            hidden: Some(8),
            groups: None,
            rollouts: None,
            temperature: 1.0,
        };
        let table = build(&program, &wanted).unwrap();
        let progress = Progress::new();
        let mut own = table.clone();
        let states = hidden::States::take(&mut own).unwrap().unwrap();
        let of = hidden::Wanted {
            micro_batch: usize::MAX,
            share: None,
            time: Duration::ZERO,
            keep: false,
        };
        let (cpu, _) = hidden::measure(&mut objective, &own, &states, &of, &progress).unwrap();
        let new = || Objective::new(grpo(), Backend::Cpu);
        let found = measure(new(), table.clone(), "cpu-candle", Duration::ZERO, &progress).unwrap();
        let (got, want) = (found.loss, cpu.loss);
        assert!((got - want).abs() <= 1e-5 * want.abs().max(1e-3), "{got} for {want}");
        assert_eq!((found.sizes, found.extra), ([40, 30, 8], None));
        assert_eq!((found.pass.len(), found.products[2].len()), (3, 3));
        assert!(found.text("grpo").contains("times the bare products'"));

        let mut short = table;
        let all = short.arrays.get_mut(WEIGHT).unwrap();
        all.data = Data::Bf16(vec![0; all.data.len()]);
        let why = measure(new(), short, "cpu-candle", Duration::ZERO, &progress).unwrap_err();
        assert!(format!("{why:?}").contains("both BF16"), "{why:?}");
    }
}
