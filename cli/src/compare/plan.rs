//! What is compared: programs with metrics added, one set of settings for all, and the folder that holds them. A second
//! call finds the folder and must mean the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rlc_compiler::check::Checked;
use rlc_compiler::level::{Levels, TOKEN, VOCAB};
use rlc_compiler::source::Sources;
use rlc_runtime::fingerprint;
use rlc_runtime::train::config::Config;
use serde::{Deserialize, Serialize};

use super::Args;
use super::measure::{ADDED, Kept};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, write_file};
use crate::{check, new, params, program};

/// Held-out measurements during a run.
const MEASUREMENTS: u64 = 8;
/// Held-out problems of each, unless a run file says otherwise.
const PROBLEMS: usize = 400;

/// One program.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it is called: a library name, or a file's without its ending.
    pub name: String,
    /// Its own `--set`s.
    pub sets: Vec<String>,
    /// The text that is trained: it extends the program and adds metrics.
    pub text: String,
    /// Of its sources and settings.
    pub identity: String,
    /// The file of that text.
    pub file: PathBuf,
}

/// Everything that is compared.
#[derive(Debug)]
pub struct Plan {
    /// In the order of the command line; the first is what others are compared with.
    pub programs: Vec<Entry>,
    /// Seeds.
    pub seeds: Vec<u64>,
    /// Settings of every run.
    pub config: Config,
    /// Most processor time of a run.
    pub seconds: f64,
    /// The folder.
    pub out: PathBuf,
    /// Lines of the run file, and what the data's files are known by.
    resolved: String,
    data: String,
}

/// `compare.json`: what the folder's runs were made with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: String,
    seconds: f64,
    /// Lines of the run file.
    settings: String,
    /// Of the data's file.
    data: String,
    /// Identities.
    programs: BTreeMap<String, String>,
}

impl Plan {
    /// Checks everything that can be checked before a run.
    pub fn new(args: &Args, output: &Output) -> Outcome<Plan> {
        if args.programs.len() < 2 {
            return Err(Failure::input(
                "a comparison needs two programs at least",
                "write `rlc compare grpo calibadv`; `rlc recipes` lists the library",
            ));
        }
        if args.seeds == 0 {
            return Err(Failure::input("--seeds 0 compares nothing", "write `--seeds 5`"));
        }
        if !(args.seconds.is_finite() && args.seconds > 0.0) {
            return Err(Failure::input(
                format!("--seconds {} is no time", args.seconds),
                "write `--seconds 60`",
            ));
        }
        let config = config(args)?;
        let shared: Vec<&String> = args.set.iter().filter(|s| owner(s, args).is_none()).collect();
        let mut programs: Vec<Entry> = Vec::new();
        for given in &args.programs {
            let name = label(given);
            if programs.iter().any(|p| p.name == name) {
                return Err(Failure::input(
                    format!("there are two programs `{name}`"),
                    "a comparison names runs by their program: rename one file",
                ));
            }
            let own = args.set.iter().filter_map(|s| owner(s, args).filter(|o| o.0 == name));
            let sets = shared.iter().map(|s| (*s).clone()).chain(own.map(|o| o.1)).collect();
            programs.push(Entry::read(given, name, sets, &args.out, output)?);
        }
        let resolved = config.to_toml().map_err(super::failure)?;
        let mut data = String::new();
        for file in [&config.data.file, &config.data.eval_file].into_iter().flatten() {
            let bytes = std::fs::read(file).map_err(|e| cannot("read", Path::new(file), &e))?;
            data.push_str(&format!("{:016x}", fingerprint(&bytes)));
        }
        let (seeds, seconds, out) = ((0..args.seeds).collect(), args.seconds, args.out.clone());
        Ok(Plan { programs, seeds, config, seconds, out, resolved, data })
    }

    /// Makes the folder, or takes up the one that is there.
    pub fn prepare(&self, force: bool) -> Outcome {
        let path = self.out.join("compare.json");
        if force {
            for old in ["runs", "programs"].map(|f| self.out.join(f)) {
                if old.exists() {
                    std::fs::remove_dir_all(&old).map_err(|e| cannot("remove", &old, &e))?;
                }
            }
        }
        let mut saved = self.saved();
        if path.exists() && !force {
            let text = program::text_at(&path).map_err(|why| unreadable(&path, &why))?;
            let old: Saved =
                serde_json::from_str(&text).map_err(|e| unreadable(&path, &e.to_string()))?;
            self.same(&old, &saved)?;
            let mut programs = old.programs;
            programs.append(&mut saved.programs);
            saved.programs = programs;
        }
        for folder in ["runs", "programs"].map(|f| self.out.join(f)) {
            std::fs::create_dir_all(&folder).map_err(|e| cannot("create", &folder, &e))?;
        }
        for entry in &self.programs {
            write_file(&entry.file, entry.text.as_bytes())?;
        }
        write_file(&self.settings(), saved.settings.as_bytes())?;
        let text = serde_json::to_string_pretty(&saved)
            .map_err(|e| Failure::running(e.to_string(), ""))?;
        write_file(&path, format!("{text}\n").as_bytes())
    }

    /// The run file of every run.
    pub fn settings(&self) -> PathBuf {
        self.out.join("settings.toml")
    }

    /// A run's folder.
    pub fn folder(&self, program: &Entry, seed: u64) -> PathBuf {
        self.out.join("runs").join(&program.name).join(format!("seed-{seed}"))
    }

    /// What a run that is over is kept as.
    pub fn result(&self, program: &Entry, seed: u64) -> PathBuf {
        self.folder(program, seed).join("result.json")
    }

    /// What is kept of a run of this program, where it is over. One that belongs to something else is an error.
    pub fn kept(&self, program: &Entry, seed: u64) -> Outcome<Option<Kept>> {
        let path = self.result(program, seed);
        if !path.exists() {
            return Ok(None);
        }
        let text = program::text_at(&path).map_err(|why| unreadable(&path, &why))?;
        let kept: Kept =
            serde_json::from_str(&text).map_err(|e| unreadable(&path, &e.to_string()))?;
        if kept.identity != self.identity(program) {
            return Err(Failure::input(
                format!("`{}` is of another program or of other settings", path.display()),
                "`--force` starts the comparison anew; `--out DIR` starts one elsewhere",
            ));
        }
        Ok(Some(kept))
    }

    /// Identity of program and settings together.
    pub fn identity(&self, program: &Entry) -> String {
        let all = [&program.identity, &self.resolved, &self.data, &format!("{}", self.seconds)];
        hash(&all.map(String::as_str).join("\0"))
    }

    fn saved(&self) -> Saved {
        let programs = self.programs.iter().map(|p| (p.name.clone(), p.identity.clone()));
        Saved {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seconds: self.seconds,
            settings: self.resolved.clone(),
            data: self.data.clone(),
            programs: programs.collect(),
        }
    }

    /// Finds what the folder's runs were made with otherwise.
    fn same(&self, old: &Saved, new: &Saved) -> Outcome {
        let mut differs: Vec<String> = Vec::new();
        if old.version != new.version {
            differs.push(format!("made by rlc {}, this is {}", old.version, new.version));
        }
        if old.seconds != new.seconds {
            differs.push(format!("--seconds {} there, {} here", old.seconds, new.seconds));
        }
        let lines = |text: &str| -> Vec<(String, String)> {
            let mut section = String::new();
            let mut all = Vec::new();
            for line in text.lines().map(str::trim) {
                match line.split_once(" = ") {
                    Some((key, value)) => all.push((format!("{section}{key}"), value.to_owned())),
                    None if line.starts_with('[') => {
                        section = format!("{}.", line.trim_matches(['[', ']']));
                    }
                    None => {}
                }
            }
            all
        };
        let (before, now) = (lines(&old.settings), lines(&new.settings));
        for (key, value) in &now {
            let was = before.iter().find(|(k, _)| k == key).map_or("nothing", |(_, v)| v.as_str());
            if was != value {
                differs.push(format!("{key} = {was} there, {value} here"));
            }
        }
        let lost = before.iter().filter(|(k, _)| now.iter().all(|(n, _)| n != k));
        differs.extend(lost.map(|(k, v)| format!("{k} = {v} there, nothing here")));
        if old.data != new.data {
            differs.push("the data's file changed".to_owned());
        }
        for (name, identity) in &new.programs {
            if old.programs.get(name).is_some_and(|o| o != identity) {
                differs.push(format!("`{name}` changed, or its --set"));
            }
        }
        if differs.is_empty() {
            return Ok(());
        }
        Err(Failure::input(
            format!(
                "`{}` holds a comparison with other settings: {}",
                self.out.display(),
                differs.join("; ")
            ),
            "take the same again to continue it (programs and seeds may be added); `--force` starts it anew, `--out DIR` \
             starts one elsewhere",
        ))
    }
}

impl Entry {
    fn read(
        given: &str,
        name: String,
        sets: Vec<String>,
        out: &Path,
        output: &Output,
    ) -> Outcome<Entry> {
        if given == "-" {
            return Err(Failure::input(
                "a comparison is continued from its programs, which stdin cannot give twice",
                "write the program to a file and name that",
            ));
        }
        let mut opened = program::open(given)?;
        let checked = check::or_stop(&mut opened, output)?;
        params::values(&checked.graph, &sets).map_err(|e| match e {
            Failure::Said { code, message, help } => {
                let help =
                    format!("{help}; `--set {name}.param=value` sets it for one program only");
                Failure::Said { code, message: format!("{name}: {message}"), help }
            }
            other => other,
        })?;
        let file = out.join("programs").join(format!("{name}.rl"));
        let library = opened.sources.get(opened.root).library;
        let base =
            if library { given.to_owned() } else { format!("\"{}\"", new::relative(given, &file)) };
        let text = text(&base, &checked);
        let identity = hash(&format!("{}\0{text}\0{}", texts(&opened.sources), sets.join("\0")));
        Ok(Entry { name, sets, text, identity, file })
    }
}

/// The program with the metrics that all compared programs have.
fn text(base: &str, checked: &Checked) -> String {
    let mut text =
        format!("# Written by `rlc compare`: the program, with metrics.\nextend {base}\n\n");
    let mut add = |metric: (&str, &str), value: &str| {
        text.push_str(&format!("## {}\nmetric {} = {value}\n", metric.1, metric.0));
    };
    add(ADDED[0], "mean(entropy)");
    add(ADDED[1], "mean(kl_k3(logp, old_logp))");
    let levels: &Levels = &checked.graph.level_table;
    let advantage = checked.definitions.iter().find(|d| d.name == "advantage");
    let level = advantage.map(|d| checked.graph.level(d.value));
    if let Some(level) = level.filter(|l| *l != VOCAB && levels.contains(*l, TOKEN)) {
        let down = if level == TOKEN { "advantage" } else { "advantage @ token" };
        add(ADDED[2], &format!("mean({down} < 0 where step_correct @ token > 0.5)"));
    }
    text
}

/// The settings of every run.
fn config(args: &Args) -> Outcome<Config> {
    let mut config = match args.task.as_str() {
        "arithmetic" => {
            let mut config = Config::default();
            config.eval.problems = PROBLEMS;
            config.eval.greedy = false;
            config
        }
        file if Path::new(file).extension().is_some_and(|e| e == "toml") => {
            Config::read(Path::new(file)).map_err(super::failure)?
        }
        other => {
            return Err(Failure::input(
                format!("there is no task `{other}`"),
                "`--task arithmetic` is built in; `--task run.toml` takes task, model, rewards and rollouts from a run \
                 file, as `rlc run --config` does",
            ));
        }
    };
    config.objective.clear();
    config.checkpoint.dir = None;
    config.steps = args.steps.or(config.steps);
    config.optimizer.lr = args.lr.or(config.optimizer.lr);
    let mut config = config.resolve().map_err(super::failure)?;
    if config.data.task == "offline" {
        return Err(Failure::input(
            "recorded rollouts have no seeds to compare over",
            "a comparison samples: data.task = \"arithmetic\" or \"prompts\"",
        ));
    }
    let steps = config.total_steps();
    if config.eval.every == 0 {
        config.eval.every = steps.div_ceil(MEASUREMENTS);
    }
    if config.eval.problems == 0 {
        return Err(Failure::input(
            "eval.problems = 0 measures nothing",
            "leave it out, or give it a number of held-out problems",
        ));
    }
    // A run is begun again rather than resumed.
    (config.checkpoint.every, config.checkpoint.keep) = (steps, 1);
    Ok(config)
}

/// The program that `PROGRAM.NAME=VALUE` is for, and the rest.
fn owner(set: &str, args: &Args) -> Option<(String, String)> {
    let (name, value) = set.split_once('=')?;
    let (program, param) = name.split_once('.')?;
    let known = args.programs.iter().any(|p| label(p) == program.trim());
    known.then(|| (program.trim().to_owned(), format!("{param}={value}")))
}

/// A program's name in the report.
fn label(given: &str) -> String {
    let stem = Path::new(given).file_stem().and_then(|s| s.to_str());
    stem.filter(|_| program::is_path(given)).unwrap_or(given).to_owned()
}

fn texts(sources: &Sources) -> String {
    let texts: Vec<&str> = sources.iter().map(|(_, s)| s.text.as_str()).collect();
    texts.join("\0")
}

fn hash(text: &str) -> String {
    format!("{:016x}", fingerprint(text.as_bytes()))
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    let why = crate::output::plain(error);
    Failure::input(format!("cannot {what} `{}`: {why}", path.display()), "")
}

fn unreadable(path: &Path, why: &str) -> Failure {
    Failure::input(
        format!("cannot read `{}`: {why}", path.display()),
        "`--force` starts the comparison anew",
    )
}

#[cfg(test)]
mod tests {
    use rlc_compiler::link::NoFiles;
    use rlc_compiler::source::Source;
    use rlc_compiler::stdlib;

    use super::*;

    #[test]
    fn every_program_of_the_library_takes_the_metrics() {
        let mut punished = 0;
        for (name, _, _) in stdlib::library() {
            let checked = check::check(&mut program::open(name).unwrap()).0.unwrap();
            let text = text(name, &checked);
            punished += usize::from(text.contains(ADDED[2].0));
            let mut sources = Sources::default();
            let root = sources.add(Source { name: "compared.rl".into(), text, library: false });
            let (checked, found) = rlc_compiler::check(&mut sources, root, &NoFiles);
            assert!(checked.is_some(), "{name}: {found:?}");
        }
        assert!(punished > 10, "{punished} have an advantage");
    }
}
