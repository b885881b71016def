//! Runs as processes: as many at once as there are cores, each on one thread, each ended where its time is over.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rlc_runtime::train::report::Evaluation;
use serde::Deserialize;

use super::measure::{End, Kept};
use super::plan::{Entry, Plan};
use super::progress::Progress;
use crate::failure::{Failure, INPUT, Outcome, RUNNING};
use crate::output::write_file;

/// Between two looks at the processes.
const PAUSE: Duration = Duration::from_millis(100);

/// A run to do.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// Its program.
    pub program: &'a Entry,
    /// Its seed.
    pub seed: u64,
}

/// A run under way.
struct Running<'a> {
    job: Job<'a>,
    child: Child,
    started: Instant,
    core_seconds: f64,
}

/// What a run prints at its end.
#[derive(Deserialize)]
struct Printed {
    before: Option<Evaluation>,
    after: Option<Evaluation>,
}

/// Ends its processes, whatever ends the pool.
struct Pool<'a> {
    running: Vec<Running<'a>>,
}

impl Drop for Pool<'_> {
    fn drop(&mut self) {
        for run in &mut self.running {
            // One that has ended by itself cannot be ended again.
            let _ = run.child.kill();
            let _ = run.child.wait();
        }
    }
}

/// Does all jobs; false where `stop` was set before the end.
pub fn work(
    plan: &Plan,
    jobs: Vec<Job<'_>>,
    at_once: usize,
    stop: &Arc<AtomicBool>,
    progress: &mut Progress,
) -> Outcome<bool> {
    let mut waiting: VecDeque<Job<'_>> = jobs.into();
    let mut pool = Pool { running: Vec::new() };
    loop {
        if stop.load(Ordering::SeqCst) {
            return Ok(false);
        }
        while pool.running.len() < at_once
            && let Some(job) = waiting.pop_front()
        {
            pool.running.push(start(plan, job)?);
        }
        if pool.running.is_empty() {
            return Ok(true);
        }
        let mut i = 0;
        while i < pool.running.len() {
            let run = &mut pool.running[i];
            let ended = run.child.try_wait().map_err(|e| broken(run.job, &e.to_string()))?;
            if ended.is_none() {
                run.core_seconds = core_seconds(run.child.id(), run.started);
            }
            let over = run.core_seconds > plan.seconds;
            match ended {
                // Ctrl-C reaches the runs too, perhaps before us.
                Some(_) if stop.load(Ordering::SeqCst) => return Ok(false),
                Some(status) => {
                    keep(plan, run, status.code())?;
                    progress.done(&run.job, run.core_seconds);
                    pool.running.swap_remove(i);
                }
                None if over => {
                    run.child.kill().map_err(|e| broken(run.job, &e.to_string()))?;
                    run.child.wait().map_err(|e| broken(run.job, &e.to_string()))?;
                    cut(plan, run)?;
                    progress.done(&run.job, run.core_seconds);
                    pool.running.swap_remove(i);
                }
                None => i += 1,
            }
        }
        progress.under_way(pool.running.iter().map(|r| &r.job), plan);
        std::thread::sleep(PAUSE);
    }
}

fn start<'a>(plan: &Plan, job: Job<'a>) -> Outcome<Running<'a>> {
    let folder = plan.folder(job.program, job.seed);
    // What an interrupted run left; with a lock of a process that still lives, `rlc run` says so.
    std::fs::create_dir_all(&folder).map_err(|e| broken(job, &e.to_string()))?;
    let [out, err] =
        logs(&folder).map(|path| File::create(path).map_err(|e| broken(job, &e.to_string())));
    let program = std::env::current_exe().map_err(|e| broken(job, &e.to_string()))?;
    let mut command = Command::new(program);
    command
        .args(["run", "--quiet", "--json", "--force", "--seed", &job.seed.to_string()])
        .arg(&job.program.file)
        .arg("--config")
        .arg(plan.settings())
        .arg("--out")
        .arg(&folder)
        .args(job.program.sets.iter().flat_map(|s| ["--set", s.as_str()]))
        .env("RAYON_NUM_THREADS", "1")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(out?)
        .stderr(err?);
    let child = command.spawn().map_err(|e| broken(job, &e.to_string()))?;
    Ok(Running { job, child, started: Instant::now(), core_seconds: 0.0 })
}

/// Where a run's words go: stdout, stderr.
fn logs(folder: &Path) -> [PathBuf; 2] {
    [folder.join("stdout.txt"), folder.join("stderr.txt")]
}

/// Keeps a run that ended by itself, or says why it could not be done.
fn keep(plan: &Plan, run: &Running<'_>, code: Option<i32>) -> Outcome {
    let folder = plan.folder(run.job.program, run.job.seed);
    let [out, err] = logs(&folder).map(|p| std::fs::read_to_string(p).unwrap_or_default());
    let (end, printed, message) = match code {
        Some(0) => {
            let printed: Printed =
                serde_json::from_str(&out).map_err(|e| broken(run.job, &e.to_string()))?;
            (End::Finished, printed, String::new())
        }
        // Numbers that are not finite, after the run began: an outcome, like another.
        Some(code) if code == i32::from(RUNNING) && err.contains("finite") => {
            (End::Broken, Printed { before: None, after: None }, first_line(&err))
        }
        Some(code) => {
            let code = u8::try_from(code).unwrap_or(RUNNING).clamp(RUNNING, INPUT);
            let message =
                format!("{}, seed {}: {}", run.job.program.name, run.job.seed, err.trim());
            let help = "nothing that has finished is lost; the same command continues".to_owned();
            return Err(Failure::Said { code, message: message.replace("error: ", ""), help });
        }
        None => return Err(broken(run.job, "the process was ended from outside")),
    };
    let kept = Kept {
        identity: plan.identity(run.job.program),
        end,
        core_seconds: run.core_seconds,
        before: printed.before,
        after: printed.after,
        message,
    };
    write(plan, run.job, &kept)
}

/// Keeps a run that was ended at its time; what it measured last is its end.
fn cut(plan: &Plan, run: &Running<'_>) -> Outcome {
    let kept = Kept {
        identity: plan.identity(run.job.program),
        end: End::Cut,
        core_seconds: run.core_seconds,
        before: None,
        after: None,
        message: format!("ended after {:.0} s of processor time", run.core_seconds),
    };
    write(plan, run.job, &kept)
}

fn write(plan: &Plan, job: Job<'_>, kept: &Kept) -> Outcome {
    let folder = plan.folder(job.program, job.seed);
    // Moments and weights of 65 runs are hundreds of megabytes that nobody reads.
    for spent in ["checkpoints", "reference"].map(|f| folder.join(f)) {
        if spent.exists() {
            std::fs::remove_dir_all(&spent).map_err(|e| broken(job, &e.to_string()))?;
        }
    }
    let text = serde_json::to_string_pretty(kept).map_err(|e| broken(job, &e.to_string()))?;
    write_file(&plan.result(job.program, job.seed), format!("{text}\n").as_bytes())
}

fn first_line(text: &str) -> String {
    text.trim().trim_start_matches("error: ").lines().next().unwrap_or("").to_owned()
}

fn broken(job: Job<'_>, why: &str) -> Failure {
    Failure::running(
        format!("the run of {} with seed {} failed: {why}", job.program.name, job.seed),
        "nothing that has finished is lost; the same command continues",
    )
}

/// Processor time of a process: what the system counts where it says so in /proc, else the time since its start, which
/// is no less on one thread.
fn core_seconds(id: u32, started: Instant) -> f64 {
    // Linux counts in hundredths of a second there, whatever its own clock.
    let counted = std::fs::read_to_string(format!("/proc/{id}/stat")).ok().and_then(|text| {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |i: usize| fields.get(i)?.parse::<f64>().ok();
        Some((ticks(11)? + ticks(12)?) / 100.0)
    });
    counted.unwrap_or_else(|| started.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_no_more_than_the_time_on_one_thread() {
        let started = Instant::now();
        let mut child = Command::new("sleep").arg("5").spawn().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let used = core_seconds(child.id(), started);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(used < 1.0, "{used}");
    }
}
