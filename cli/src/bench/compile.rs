//! How long compilation takes: text to program, and program to machine code.

use std::time::Instant;

use rlc_compiler::diagnostic::Severity;
use rlc_compiler::link::{Loader, NoFiles};
use rlc_compiler::source::{Source, Sources};
use rlc_compiler::specialize::{Settings, specialize};
use rlc_compiler::stdlib;
use rlc_runtime::device::cpu::{self, Kernel};
use serde_json::{Value, json};

use super::text::{milliseconds, spread};
use crate::failure::{Failure, Outcome};
use crate::output::Output;

/// Most seconds that `rlc check` should take, and text to kernel.
const LIMITS: [f64; 2] = [0.02, 0.05];
/// How often each is measured.
const REPEATS: usize = 3;

/// Seconds, one entry per repetition; the first found everything cold.
#[derive(Debug, Clone, Default)]
pub struct Compiling {
    /// Text to checked program: what `rlc check` does.
    pub check: Vec<f64>,
    /// To gradients and phases.
    pub specialize: Vec<f64>,
    /// To machine code.
    pub kernel: Vec<f64>,
    /// To a kernel whose machine code this process has already.
    pub again: Vec<f64>,
}

impl Compiling {
    /// Text to machine code.
    fn whole(&self) -> Vec<f64> {
        let parts = self.check.iter().zip(&self.specialize).zip(&self.kernel);
        parts.map(|((a, b), c)| a + b + c).collect()
    }

    /// For `--json`.
    pub fn json(&self) -> Value {
        json!({
            "check": spread(&self.check),
            "specialize": spread(&self.specialize),
            "kernel": spread(&self.kernel),
            "again": spread(&self.again),
            "whole": spread(&self.whole()),
        })
    }

    /// One line.
    pub fn line(&self) -> String {
        let best = |of: &[f64]| milliseconds(of.iter().copied().fold(f64::INFINITY, f64::min));
        format!(
            "{} text to checked program, {} to gradients and phases, {} to machine code, {} again",
            best(&self.check),
            best(&self.specialize),
            best(&self.kernel),
            best(&self.again)
        )
    }
}

/// Compiles a program a few times. It has no errors.
pub fn measure(source: &Source, files: &dyn Loader, settings: &Settings) -> Outcome<Compiling> {
    let mut times = Compiling::default();
    for _ in 0..REPEATS {
        let begin = Instant::now();
        let mut sources = Sources::default();
        let root = sources.add(source.clone());
        let (checked, found) = rlc_compiler::check(&mut sources, root, files);
        times.check.push(begin.elapsed().as_secs_f64());
        let Some(checked) = checked else {
            let error = found.iter().find(|d| d.severity == Severity::Error);
            let why = error.map_or(String::new(), |d| format!(": {}", d.message));
            return Err(Failure::input(format!("`{}` has an error{why}", source.name), ""));
        };
        let begin = Instant::now();
        let ready =
            specialize(&checked, settings).map_err(|e| Failure::input(e.to_string(), ""))?;
        times.specialize.push(begin.elapsed().as_secs_f64());
        cpu::forget();
        for times in [&mut times.kernel, &mut times.again] {
            let begin = Instant::now();
            Kernel::new(&ready.program, &[]).map_err(super::device)?;
            times.push(begin.elapsed().as_secs_f64());
        }
    }
    Ok(times)
}

/// `--compile-times`: the whole library.
pub fn library(as_json: bool, output: &Output) -> Outcome {
    let mut rows: Vec<(&str, Compiling)> = Vec::new();
    for (name, path, text) in stdlib::library() {
        let source = Source { name: (*path).into(), text: (*text).into(), library: true };
        rows.push((name, measure(&source, &NoFiles, &Settings::default())?));
    }
    if as_json {
        let all: serde_json::Map<String, Value> =
            rows.iter().map(|(name, times)| ((*name).to_owned(), times.json())).collect();
        return output.print(&format!("{}\n", json!({"limits": LIMITS, "compile": all})));
    }
    let width = rows.iter().map(|r| r.0.len()).max().unwrap_or(0).max("objective".len());
    let mut text = format!(
        "{:width$}  {:>9}  {:>10}  {:>9}  {:>9}  {:>9}  {:>9}\n",
        "objective", "check", "specialize", "kernel", "again", "whole", "first"
    );
    let median = |of: &[f64]| super::text::median(of);
    for (name, times) in &rows {
        let whole = times.whole();
        let over = median(&times.check) > LIMITS[0] || median(&whole) > LIMITS[1];
        text.push_str(&format!(
            "{name:width$}  {:>9}  {:>10}  {:>9}  {:>9}  {:>9}  {:>9}{}\n",
            milliseconds(median(&times.check)),
            milliseconds(median(&times.specialize)),
            milliseconds(median(&times.kernel)),
            milliseconds(median(&times.again)),
            milliseconds(median(&whole)),
            milliseconds(whole.first().copied().unwrap_or(0.0)),
            if over { "  over" } else { "" },
        ));
    }
    text.push_str(&output.dim(&format!(
        "medians of {REPEATS}, and the first of them; again: code of the same content; to stay under: {} to check, {} in all\n",
        milliseconds(LIMITS[0]),
        milliseconds(LIMITS[1])
    )));
    output.print(&text)
}
