//! `rlc compare`: trains programs on one task under one budget, with several seeds each, and says what separates them.

mod measure;
mod page;
mod plan;
mod pool;
mod progress;
mod stats;
mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rlc_runtime::train::error::TrainError;

use crate::failure::{Failure, Outcome};
use crate::output::{Output, between, write_file};
use crate::program;
use measure::Run;
use plan::Plan;
use pool::Job;
use progress::Progress;
use table::Found;

/// Stopped by Ctrl-C, as shells count signals.
const STOPPED: u8 = 130;
/// What a page of documentation calls the part that `--markdown` writes.
const PART: &str = "rlc compare";

/// Train several programs alike and say what separates them
///
/// Every program is trained with every seed, on the same problems, for the same number of steps: single-threaded processes,
/// as many at once as there are cores. Runs that are over are kept in --out, so the same command continues a comparison that
/// was stopped; programs and seeds may be added to it, other settings are refused there. The report has accuracies and
/// learning curves with 95 % intervals over the seeds, paired differences to the first program, and how stable runs were.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rlc compare grpo calibadv
  rlc compare grpo dapo gspo mine.rl --seeds 5 --steps 60
  rlc compare grpo dapo --set dapo.clip_high=0.4 --set beta=0
  rlc compare grpo rloo --task run.toml --seconds 600

Writes report.html, runs.csv and every run's metrics to --out.
Exit codes: 0 done; 1 failed while running; 2 bad input; 130 stopped by Ctrl-C.")]
pub struct Args {
    /// Files or library names; differences are to the first
    #[arg(value_name = "PROGRAM", required = true)]
    programs: Vec<String>,
    /// Runs of each program, with seeds 0 to N - 1
    #[arg(long, value_name = "N", default_value_t = 5)]
    seeds: u64,
    /// `arithmetic`, or a run file with another task, model or rollouts
    #[arg(long, value_name = "TASK|FILE.toml", default_value = "arithmetic")]
    task: String,
    /// Rollout batches of a run [default: 100, or what the run file says]
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Most processor time of a run; one that needs more ends there, which the report says
    #[arg(long, value_name = "S", default_value_t = 60.0)]
    seconds: f64,
    /// Learning rate of every run
    #[arg(long, value_name = "RATE")]
    lr: Option<f64>,
    /// Value of a param, of every program or of one
    #[arg(long, value_name = "[PROGRAM.]NAME=VALUE")]
    set: Vec<String>,
    /// Runs at once [default: the number of cores]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// The comparison's folder
    #[arg(long, value_name = "DIR", default_value = "runs/compare")]
    out: PathBuf,
    /// Drop the runs that --out holds
    #[arg(long)]
    force: bool,
    /// Write the table into a Markdown file too, between its lines `<!-- rlc compare -->` and `<!-- /rlc compare -->`
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// No progress display
    #[arg(long, short)]
    quiet: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args, output: &Output) -> Outcome {
    if args.jobs == Some(0) {
        return Err(Failure::input("--jobs 0 runs nothing", "leave it out, or write `--jobs 1`"));
    }
    let plan = Plan::new(args, output)?;
    let page = args.markdown.as_deref().map(Page::open).transpose()?;
    plan.prepare(args.force)?;
    let mut jobs = Vec::new();
    let mut kept = 0;
    // All programs' first seeds before any second one: what is stopped early compares like with like.
    for &seed in &plan.seeds {
        for program in &plan.programs {
            match plan.kept(program, seed)? {
                Some(_) => kept += 1,
                None => jobs.push(Job { program, seed }),
            }
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    let handler = Arc::clone(&stop);
    // A failure here means that a handler exists already: then Ctrl-C does what that one does.
    let _ = ctrlc::set_handler(move || handler.store(true, Ordering::SeqCst));
    let all = kept + jobs.len() as u64;
    if !args.quiet {
        output.say(&format!(
            "{} programs x {} seeds, {} steps each, into {}{}\n",
            plan.programs.len(),
            plan.seeds.len(),
            plan.config.total_steps(),
            plan.out.display(),
            if kept > 0 { format!("; {kept} of {all} runs are there") } else { String::new() }
        ));
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut progress = Progress::new(args.quiet, kept, all, plan.config.total_steps());
    let ended = pool::work(&plan, jobs, args.jobs.unwrap_or(cores), &stop, &mut progress);
    progress.clear();
    if !ended? {
        let mut over = 0;
        for (program, seed) in pairs(&plan) {
            over += u64::from(plan.kept(program, seed)?.is_some());
        }
        output.say(&format!(
            "stopped; {over} of {all} runs are kept, and the same command continues\n"
        ));
        return Err(Failure::Reported(STOPPED));
    }
    let found = found(&plan)?;
    let report = plan.out.join("report.html");
    write_file(&report, page::html(&found).as_bytes())?;
    write_file(&plan.out.join("runs.csv"), found.csv().as_bytes())?;
    if let Some(page) = page {
        page.write(&found.markdown())?;
    }
    if args.json {
        return output.print(&format!("{:#}\n", found.as_json()));
    }
    output.print(&found.text())?;
    output.say(&format!("\nreport  {}\n", report.display()));
    Ok(())
}

fn pairs(plan: &Plan) -> impl Iterator<Item = (&plan::Entry, u64)> {
    plan.programs.iter().flat_map(|p| plan.seeds.iter().map(move |s| (p, *s)))
}

/// Reads all runs.
fn found(plan: &Plan) -> Outcome<Found> {
    let mut all: Vec<(String, Vec<Run>)> = Vec::new();
    for program in &plan.programs {
        let mut runs = Vec::new();
        for &seed in &plan.seeds {
            if let Some(kept) = plan.kept(program, seed)? {
                runs.push(Run::read(&plan.folder(program, seed), seed, kept)?);
            }
        }
        all.push((program.name.clone(), runs));
    }
    Ok(Found::new(plan, all))
}

/// A Markdown file, of which one part is ours.
struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    /// Reads it before anything is trained, so that its faults are known then.
    fn open(path: &Path) -> Outcome<Page> {
        let text = if path.exists() {
            program::text_of(&path.display().to_string())?
        } else {
            format!("# Comparison\n\n<!-- {PART} -->\n<!-- /{PART} -->\n")
        };
        between(&text, PART, "").ok_or_else(|| {
            Failure::input(
                format!("`{}` does not say where the table goes", path.display()),
                format!("put the lines `<!-- {PART} -->` and `<!-- /{PART} -->` into it"),
            )
        })?;
        Ok(Page { path: path.to_owned(), text })
    }

    fn write(self, part: &str) -> Outcome {
        let text = between(&self.text, PART, part).unwrap_or(self.text);
        write_file(&self.path, text.as_bytes())
    }
}

fn failure(error: TrainError) -> Failure {
    Failure::Said { code: error.exit_code(), message: error.to_string(), help: String::new() }
}
