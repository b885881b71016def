//! What was measured, as a table with units and as JSON.

use rlc_compiler::clif::Float;
use serde_json::{Value, json};

use super::compile::Compiling;
use super::hidden::Products;
use super::machine::{self, Copying};
use super::pass::Measured;
use super::work::{FUNCTION, Work};
use crate::output::Output;

/// A whole measurement.
pub struct Report<'a> {
    /// What the command line calls the objective.
    pub objective: &'a str,
    /// Passes and plan.
    pub measured: Measured,
    /// Threads that passes use.
    pub threads: usize,
    /// What this machine does.
    pub speed: Speed,
    /// Compile times.
    pub compiling: Compiling,
    /// How busy the machine was before.
    pub load: Option<f64>,
    /// The most bytes this process held before copies were measured.
    pub peak: Option<usize>,
}

/// What the machine does at best with the threads in use.
#[derive(Debug, Clone, Copy)]
pub struct Speed {
    /// What memory copies reach.
    pub copying: Copying,
    /// Operations per second of a product of f32 matrices.
    pub multiplying: f64,
    /// Rows and columns of those matrices.
    pub size: usize,
}

impl Report<'_> {
    /// Seconds that copying as many bytes takes.
    fn floor(&self) -> f64 {
        self.measured.bytes.least() as f64 / self.speed.copying.used
    }

    /// Operations of all phases and products.
    fn flops(&self) -> u64 {
        let m = &self.measured;
        let one = |p: &Products| p.flops(m.rows.tokens, m.rows.vocab);
        let products = m.products.as_ref().map_or(0, |p| p.count as u64 * one(p));
        m.work.iter().map(|w| w.flops()).sum::<u64>() + products
    }

    /// Bytes of all logits, in f32.
    fn logits(&self) -> f64 {
        4.0 * self.measured.rows.tokens as f64 * self.measured.rows.vocab as f64
    }

    /// What passes from hidden states are compared with.
    fn hidden(&self, of: &Products) -> Value {
        let whole = of.whole();
        let [logits, hidden, weight] = &of.times;
        let one = of.flops(self.measured.rows.tokens, self.measured.rows.vocab);
        let extra = self.measured.grown.unwrap_or(of.room);
        json!({
            "width": of.width,
            "products": {
                "count": of.count,
                "flops": one,
                "median": median(&whole),
                "min": least(&whole),
                "logits": spread(logits),
                "d_hidden": spread(hidden),
                "d_weight": spread(weight),
            },
            "ratio": median(&self.measured.reused.pass) / median(&whole),
            "share": of.share,
            "room": of.room,
            "extra": extra,
            "extra_ratio": extra as f64 / self.logits(),
            "logits": self.logits(),
        })
    }

    fn dtype(&self) -> Option<&'static str> {
        self.measured.dtype.map(|float| match float {
            Float::F32 => "f32",
            Float::F64 => "f64",
            Float::Bf16 => "bf16",
            Float::F16 => "f16",
        })
    }

    /// The JSON object. Times in seconds, rates in bytes per second.
    pub fn json(&self) -> Value {
        let m = &self.measured;
        let (rows, bytes) = (m.rows, m.bytes);
        let pass = median(&m.reused.pass);
        let per_logit = (rows.vocab > 0).then(|| 1e9 * pass / (rows.tokens * rows.vocab) as f64);
        json!({
            "objective": self.objective,
            "coupling": m.coupling,
            "loss": m.loss,
            "groups": rows.groups,
            "rollouts": rows.rollouts,
            "tokens": rows.tokens,
            "vocab": rows.vocab,
            "dtype": self.dtype(),
            "pieces": m.pieces,
            "threads": self.threads,
            "time": {
                "recorded": spread(&m.reused.recorded),
                "live": spread(&m.reused.live),
                "after": spread(&m.reused.after),
                "pass": spread(&m.reused.pass),
                "fresh": if m.fresh.is_empty() { Value::Null } else { spread(&m.fresh) },
            },
            "ns_per_logit": per_logit,
            "ns_per_token": 1e9 * pass / rows.tokens as f64,
            "hidden": m.products.as_ref().map(|p| self.hidden(p)),
            "bytes": {
                "logits": bytes.logits,
                "gradients": bytes.gradients,
                "columns": bytes.columns,
                "outputs": bytes.outputs,
                "least": bytes.least(),
                "read": bytes.read,
                "written": bytes.written,
            },
            "flops": {
                "recorded": counted(m.work[0]),
                "live": counted(m.work[1]),
                "after": counted(m.work[2]),
                "function": FUNCTION,
                "all": self.flops(),
                "per_second": self.flops() as f64 / pass,
            },
            "copy": {
                "one_thread": self.speed.copying.one,
                "used": self.speed.copying.used,
                "buffer": self.speed.copying.buffer,
            },
            "matrix": { "flops_per_second": self.speed.multiplying, "size": self.speed.size },
            "cores": machine::cores(),
            "floor": self.floor(),
            "floor_ratio": pass / self.floor(),
            "memory": { "plan": m.memory, "grown": m.grown, "peak": self.peak },
            "compile": self.compiling.json(),
            "sweeps": m.sweeps,
            "plan": m.plan,
            "load": self.load,
            "processor": machine::processor(),
            "version": env!("CARGO_PKG_VERSION"),
            "optimised": !cfg!(debug_assertions),
        })
    }

    /// The table.
    pub fn text(&self, output: &Output) -> String {
        let m = &self.measured;
        let (rows, b) = (m.rows, m.bytes);
        let mut text = format!("{}  ", output.bold(self.objective));
        text.push_str(&plural(rows.tokens, "token"));
        if let Some(dtype) = self.dtype() {
            text.push_str(&format!(" x {} logits in {dtype}", grouped(rows.vocab)));
        }
        text.push_str(&format!(
            ", {} in {}, {}; coupling: {}\n\n",
            plural(rows.rollouts, "rollout"),
            plural(rows.groups, "group"),
            plural(m.pieces, "piece"),
            m.coupling
        ));
        text.push_str(&output.dim(&format!("{:10}{:>12}{:>12}\n", "", "min", "median")));
        let note = if m.products.is_some() { ", with checks, in turns with products" } else { "" };
        let times = [
            ("recorded", &m.reused.recorded, String::new()),
            ("live", &m.reused.live, String::new()),
            ("after", &m.reused.after, String::new()),
            ("pass", &m.reused.pass, format!("{}, buffers reused{note}", m.reused.pass.len())),
            ("fresh", &m.fresh, format!("{}, whole runtime, with checks", m.fresh.len())),
        ];
        for (name, times, note) in times.into_iter().filter(|t| !t.1.is_empty()) {
            let (low, mid) = (seconds(least(times)), seconds(median(times)));
            text.push_str(format!("{name:10}{low:>12}{mid:>12}  {note}").trim_end());
            text.push('\n');
        }
        let pass = median(&m.reused.pass);
        let mut line = |name: &str, rest: String| {
            text.push_str(&format!("{name:10}{rest}\n"));
        };
        let mut speed = format!("{} a token", seconds(pass / rows.tokens as f64));
        if rows.vocab > 0 {
            let each = 1e9 * pass / (rows.tokens * rows.vocab) as f64;
            speed = format!("{each:.2} ns a logit, {speed}");
        }
        line("speed", speed);
        line(
            "bytes",
            format!(
                "{} at least: {} {}, their gradient {}, columns {}, outputs {}",
                size(b.least()),
                if m.products.is_some() { "hidden states and projection" } else { "logits" },
                size(b.logits),
                size(b.gradients),
                size(b.columns),
                size(b.outputs)
            ),
        );
        line("", format!("{} read and {} written by the loops", size(b.read), size(b.written)));
        let of_phase = |w: &Work| amount(w.flops() as f64, "FLOP");
        line(
            "work",
            format!(
                "{}: recorded {}, live {}, after {}; a function counts {FUNCTION}",
                amount(self.flops() as f64, "FLOP"),
                of_phase(&m.work[0]),
                of_phase(&m.work[1]),
                of_phase(&m.work[2])
            ),
        );
        if let Some(products) = &m.products {
            let whole = median(&products.whole());
            let flops = products.count as f64 * products.flops(rows.tokens, rows.vocab) as f64;
            let [logits, hidden, weight] = products.times.each_ref().map(|t| seconds(median(t)));
            line(
                "products",
                format!(
                    "{} whole and bare, {}; a pass takes {:.2} times that",
                    seconds(whole),
                    amount(flops / whole, "FLOP/s"),
                    pass / whole
                ),
            );
            let twice = if products.count == 4 { " twice" } else { "" };
            let each = format!("logits {logits}{twice}, d hidden {hidden}, d projection {weight}");
            line("", format!("{each}; {} each", amount(flops / products.count as f64, "FLOP")));
            let extra = m.grown.unwrap_or(products.room) as f64;
            let room = format!("{} of logits at a time", size(products.room));
            let share = extra / self.logits();
            line(
                "",
                format!(
                    "{room}; extra memory {share:.3} of all logits' {}",
                    size(self.logits() as usize)
                ),
            );
        }
        let c = &self.speed.copying;
        let more = format!(", {:.1} by {}", c.used / 1e9, self.threads);
        let more = if self.threads == 1 { "" } else { &more };
        line("copy", format!("{:.1} GB/s by one thread{more}", c.one / 1e9));
        let rate = |of: f64| amount(of, "FLOP/s");
        line(
            "matrix",
            format!(
                "{} in products of f32 matrices by {}; this pass {}",
                rate(self.speed.multiplying),
                plural(self.threads, "thread"),
                rate(self.flops() as f64 / pass)
            ),
        );
        line(
            "floor",
            format!(
                "{}: the bytes at least, copied by {}; a pass takes {:.1} times that",
                seconds(self.floor()),
                plural(self.threads, "thread"),
                pass / self.floor()
            ),
        );
        let grown = m.grown.map_or(String::new(), |g| format!(" (measured: {})", size(g)));
        let peak = self.peak.map_or(String::new(), |p| format!("; process at most {}", size(p)));
        line(
            "memory",
            format!("{} beyond the batch and its gradient{grown}{peak}", size(m.memory)),
        );
        line("compile", self.compiling.line());
        for (i, plan) in m.plan.iter().enumerate() {
            line(if i == 0 { "plan" } else { "" }, plan.clone());
        }
        if let Some(load) = self.load.filter(|l| *l > 0.7 * machine::cores() as f64) {
            line("note", format!("the machine was busy (load {load:.1}): the minima say more"));
        }
        if cfg!(debug_assertions) {
            line("note", "this rlc was built without optimisation".to_owned());
        }
        text
    }
}

fn counted(work: Work) -> Value {
    json!({ "operators": work.operators, "functions": work.functions })
}

/// A large number with three digits and a unit.
fn amount(x: f64, unit: &str) -> String {
    let prefixes = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let (scale, prefix) = prefixes.into_iter().find(|p| x >= p.0).unwrap_or((1.0, ""));
    digits(x / scale, &format!("{prefix}{unit}"))
}

/// Least and median.
pub fn spread(times: &[f64]) -> Value {
    json!({ "min": least(times), "median": median(times), "count": times.len() })
}

fn least(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The middle one, or the mean of the middle two.
pub fn median(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// A time with three digits and a unit.
pub fn seconds(s: f64) -> String {
    let units = [(1.0, "s"), (1e-3, "ms"), (1e-6, "us")];
    let (scale, unit) = units.into_iter().find(|u| s >= u.0).unwrap_or((1e-9, "ns"));
    digits(s / scale, unit)
}

/// A time in milliseconds.
pub fn milliseconds(s: f64) -> String {
    format!("{:.2} ms", 1e3 * s)
}

/// A number of bytes with three digits and a unit.
pub fn size(bytes: usize) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match units.into_iter().find(|u| bytes as f64 >= u.0) {
        Some((scale, unit)) => digits(bytes as f64 / scale, unit),
        None => format!("{bytes} B"),
    }
}

fn digits(x: f64, unit: &str) -> String {
    let places = if x >= 99.95 {
        0
    } else if x >= 9.995 {
        1
    } else {
        2
    };
    format!("{x:.places$} {unit}")
}

fn plural(n: usize, what: &str) -> String {
    format!("{} {what}{}", grouped(n), if n == 1 { "" } else { "s" })
}

/// 32000 as 32,000.
pub fn grouped(n: usize) -> String {
    let text = n.to_string();
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i > 0 && (text.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}
