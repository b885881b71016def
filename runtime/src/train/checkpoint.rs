//! The run's folder: what is written, in which order, so that a kill at any moment leaves a folder
//! from which the run continues.
//!
//! ```text
//! runs/calib-1/config.resolved.toml      every setting
//!              metrics.jsonl             one line per step
//!              metrics.svg               the same as curves, written at the end
//!              reference/                initial weights, only where the objective reads ref_logp
//!              checkpoints/step-000010/  model/ (Hugging Face folder, f32)
//!                                        optimizer.safetensors, trainer.json
//! ```
//! A checkpoint is written under another name, flushed and renamed; older ones go only after that.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use rlc_model::{Dtype, Model};
use serde::{Deserialize, Serialize};

use super::error::{Result, TrainError, at};
use super::learner::State;
use super::optimizer::AdamW;
use super::report::{Evaluation, StepReport};
use super::rollouts::model as model_error;

/// What a checkpoint keeps besides weights and moments. Every random draw follows from `seed` and
/// `step`, and every prompt from `seed` and `position`: these numbers *are* the generators.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// Steps done.
    pub step: u64,
    /// Prompts (or groups of a file) used.
    pub position: u64,
    /// Optimiser steps done.
    pub optimizer_steps: u64,
    /// The run's seed.
    pub seed: u64,
    /// Where the run was started: the paths of its settings are relative to it.
    pub started_in: PathBuf,
    /// Of the data, so that a resumed run cannot silently read another file.
    pub data: u64,
    /// Of the objective.
    pub program: u64,
    /// Measurement before training.
    pub before: Option<Evaluation>,
    /// The objective's states.
    pub state: State,
    /// What its `sample` statements said of prompts.
    #[serde(default, skip_serializing_if = "State::is_empty")]
    pub sampling: State,
}

/// The file with every setting.
pub fn config_file(dir: &Path) -> PathBuf {
    dir.join("config.resolved.toml")
}

/// The initial weights.
pub fn reference_dir(dir: &Path) -> PathBuf {
    dir.join("reference")
}

fn checkpoints(dir: &Path) -> PathBuf {
    dir.join("checkpoints")
}

/// Creates the run's folder. One that holds a run is refused, or with `force` emptied of that run.
pub fn create(dir: &Path, config: &str, force: bool) -> Result<()> {
    let file = config_file(dir);
    if file.exists() || checkpoints(dir).exists() {
        if !force {
            return Err(TrainError::Checkpoint(format!(
                "{0} already holds a run: continue it with --resume {0}, replace it with --force, or \
                 choose another --out",
                dir.display()
            )));
        }
        for old in [checkpoints(dir), reference_dir(dir)] {
            if old.exists() {
                fs::remove_dir_all(&old).map_err(at("remove", &old))?;
            }
        }
        for old in [dir.join("metrics.jsonl"), dir.join("metrics.svg"), file.clone()] {
            if old.exists() {
                fs::remove_file(&old).map_err(at("remove", &old))?;
            }
        }
    }
    let folder = checkpoints(dir);
    fs::create_dir_all(&folder).map_err(at("create the folder", &folder))?;
    write_synced(&file, config.as_bytes())
}

/// The first free `runs/NAME-N`.
pub fn default_dir(objective: &str) -> PathBuf {
    let stem = Path::new(objective).file_stem().map_or("run".into(), |s| s.to_string_lossy());
    let mut n = 1;
    loop {
        let dir = PathBuf::from(format!("runs/{stem}-{n}"));
        if !dir.exists() {
            return dir;
        }
        n += 1;
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = fs::File::create(path).map_err(at("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at("write", path))
}

/// Flushes a folder's entries: without it a rename may be lost with the power.
fn sync_dir(path: &Path) -> Result<()> {
    fs::File::open(path).and_then(|f| f.sync_all()).map_err(at("flush", path))
}

/// Writes a checkpoint and removes those beyond the newest `keep`.
pub fn save(
    dir: &Path,
    model: &Model,
    optimizer: &AdamW,
    saved: &Saved,
    keep: usize,
) -> Result<PathBuf> {
    let folder = checkpoints(dir);
    let done = folder.join(format!("step-{:06}", saved.step));
    if done.exists() {
        return Ok(done);
    }
    let fresh = folder.join(format!(".step-{:06}.new", saved.step));
    if fresh.exists() {
        fs::remove_dir_all(&fresh).map_err(at("remove", &fresh))?;
    }
    fs::create_dir_all(&fresh).map_err(at("create the folder", &fresh))?;
    model.save(&fresh.join("model"), Dtype::F32).map_err(model_error)?;
    let moments = fresh.join("optimizer.safetensors");
    candle_core::safetensors::save(&optimizer.state()?, &moments)?;
    fs::File::open(&moments).and_then(|f| f.sync_all()).map_err(at("flush", &moments))?;
    let text = serde_json::to_string_pretty(saved)
        .map_err(|e| TrainError::Checkpoint(format!("trainer.json cannot be written: {e}")))?;
    write_synced(&fresh.join("trainer.json"), text.as_bytes())?;
    sync_dir(&fresh)?;
    fs::rename(&fresh, &done).map_err(at("rename a checkpoint to", &done))?;
    sync_dir(&folder)?;
    let all = list(dir)?;
    for (_, old) in &all[..all.len().saturating_sub(keep)] {
        fs::remove_dir_all(old).map_err(at("remove", old))?;
    }
    Ok(done)
}

/// Complete checkpoints of a run by step.
fn list(dir: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let folder = checkpoints(dir);
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).map_err(at("read", &folder))? {
        let path = entry.map_err(at("read", &folder))?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if let Some(step) = name.strip_prefix("step-").and_then(|s| s.parse().ok()) {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}

/// The newest checkpoint of a run.
pub fn latest(dir: &Path) -> Result<PathBuf> {
    if !config_file(dir).exists() {
        return Err(TrainError::Checkpoint(format!(
            "{} is not a run's folder: it has no config.resolved.toml",
            dir.display()
        )));
    }
    list(dir)?.pop().map(|(_, path)| path).ok_or_else(|| {
        TrainError::Checkpoint(format!(
            "{} has no complete checkpoint: {}",
            dir.display(),
            again(dir)
        ))
    })
}

/// Reads a checkpoint's numbers.
pub fn read(path: &Path) -> Result<Saved> {
    let file = path.join("trainer.json");
    let text = fs::read_to_string(&file).map_err(at("read", &file))?;
    serde_json::from_str(&text).map_err(|e| {
        TrainError::Checkpoint(format!("`{}` is cut off or damaged: {e}", file.display()))
    })
}

/// Reads a checkpoint's weights.
pub fn read_model(path: &Path, device: &Device) -> Result<Model> {
    // A damaged checkpoint is bad input, not a failure of the run.
    Model::load(&path.join("model"), device).map_err(|e| TrainError::Checkpoint(e.to_string()))
}

/// Reads a checkpoint's moments, for [`AdamW::restore`].
pub fn read_moments(path: &Path) -> Result<HashMap<String, Tensor>> {
    let file = path.join("optimizer.safetensors");
    let bytes = fs::read(&file).map_err(at("read", &file))?;
    candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|e| {
        // candle appends where in itself it happened.
        let why = e.to_string().lines().next().unwrap_or_default().to_owned();
        TrainError::Checkpoint(format!(
            "`{}` is not a complete safetensors file: {why}",
            file.display()
        ))
    })
}

/// Reads the initial weights of a run.
pub fn read_reference(dir: &Path, device: &Device) -> Result<Model> {
    Model::load(&reference_dir(dir), device).map_err(|e| {
        TrainError::Checkpoint(format!(
            "{e}: these are the weights that the run began with, and the objective reads `ref_logp` \
             from them; {}",
            again(dir)
        ))
    })
}

/// The newest checkpoint of a run, and its numbers.
pub fn newest(dir: &Path) -> Result<(PathBuf, Saved)> {
    let path = latest(dir)?;
    let saved = read(&path).map_err(|e| damaged(dir, &path, &e))?;
    Ok((path, saved))
}

/// The error of a checkpoint that cannot be read: with the newest older one that can be, and how to go on from it. That is
/// never done unasked: the steps between would be lost without a word.
pub fn damaged(dir: &Path, path: &Path, error: &TrainError) -> TrainError {
    let older = list(dir).unwrap_or_default();
    let older = older.into_iter().rev().skip_while(|(_, p)| p != path).skip(1);
    let mut aside = vec![path.to_path_buf()];
    let mut good = None;
    for (step, older) in older {
        if whole(&older) {
            good = Some(step);
            break;
        }
        aside.push(older);
    }
    let Some(good) = good else {
        return TrainError::Checkpoint(format!(
            "the checkpoint {} is damaged, and {} has no older one that is whole: {error}\n{}",
            path.display(),
            dir.display(),
            again(dir)
        ));
    };
    let mut text = format!(
        "the checkpoint {} is damaged: {error}\nthe newest whole one is of step {good}; to go on from \
         it, put what is damaged aside:",
        path.display()
    );
    for path in aside {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let to = path.with_file_name(format!("damaged-{name}"));
        text += &format!("\n    mv {} {}", path.display(), to.display());
    }
    text += &format!("\n    rlc run --resume {}", dir.display());
    TrainError::Checkpoint(text)
}

/// Whether everything in a checkpoint can be read.
fn whole(path: &Path) -> bool {
    read(path).is_ok() && read_model(path, &Device::Cpu).is_ok() && read_moments(path).is_ok()
}

fn again(dir: &Path) -> String {
    format!(
        "start the run anew: rlc run --config {} --out {} --force",
        config_file(dir).display(),
        dir.display()
    )
}

/// Draws `metrics.svg` from `metrics.jsonl`.
pub fn plot(dir: &Path, title: &str) -> Result<()> {
    let metrics = dir.join("metrics.jsonl");
    let text = fs::read_to_string(&metrics).map_err(at("read", &metrics))?;
    let steps: Vec<StepReport> =
        text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let Some(svg) = super::plot::svg(title, &steps) else { return Ok(()) };
    let path = dir.join("metrics.svg");
    fs::write(&path, svg).map_err(at("write", &path))
}

/// As much of a line of metrics as resuming needs: a metric that is not finite is `null` in the rest.
#[derive(Deserialize)]
struct Line {
    step: u64,
}

/// `metrics.jsonl`, open for appending.
pub struct Metrics {
    file: fs::File,
    path: PathBuf,
}

impl Metrics {
    /// Opens the file and drops lines after step `step`: a resumed run writes them again.
    pub fn open(dir: &Path, step: u64) -> Result<Self> {
        let path = dir.join("metrics.jsonl");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(at("read", &path)(e)),
        };
        let kept: String = text
            .split_inclusive('\n')
            .take_while(|line| {
                line.ends_with('\n')
                    && serde_json::from_str::<Line>(line).is_ok_and(|l| l.step <= step)
            })
            .collect();
        if kept.len() != text.len() || text.is_empty() {
            // Through a rename: a kill here must not lose the lines that are kept.
            let fresh = dir.join(".metrics.jsonl.new");
            write_synced(&fresh, kept.as_bytes())?;
            fs::rename(&fresh, &path).map_err(at("write", &path))?;
        }
        let file = fs::OpenOptions::new().append(true).open(&path).map_err(at("write", &path))?;
        Ok(Metrics { file, path })
    }

    /// Adds a step's line in one write.
    pub fn append(&mut self, report: &StepReport) -> Result<()> {
        let line = serde_json::to_string(report).map_err(|e| {
            TrainError::Checkpoint(format!("metrics.jsonl: step {}: {e}", report.step))
        })?;
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(at("write", &self.path))
    }

    /// Flushes to disk: before each checkpoint, so that none is ahead of its metrics.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(at("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_after_the_checkpoint_are_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("metrics.jsonl");
        let kept = "{\"step\":1,\"loss\":null}\n{\"step\":2}\n";
        fs::write(&file, format!("{kept}{{\"step\":3}}\n{{\"step\":4,\"lo")).unwrap();
        Metrics::open(dir.path(), 2).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), kept);
        Metrics::open(dir.path(), 0).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "");
    }
}
