//! The numbers of a plot: the objective run on batches in which only one thing changes.

use std::collections::BTreeSet;

use rlc_compiler::check::Checked;
use rlc_compiler::level::{TOKEN, VOCAB};
use rlc_compiler::link::Loader;
use rlc_compiler::op::Ty;
use rlc_compiler::shape::Shape;
use rlc_compiler::source::{Source, Sources};
use rlc_compiler::stdlib;
use rlc_compiler::table::{Array, Data, Table};
use rlc_runtime::objective::{Backend, Logits, Objective, ObjectiveError};

use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::program::{Files, Program};
use crate::synthetic::{self, Read, Sizes};
use crate::{check, params};

/// Log-probability of every token when it was sampled; low enough that no ratio drawn leads above 0.
const OLD: f64 = -3.0;
/// For programs that read whole distributions: how the entries that were not sampled share what the
/// sampled one, entry 0, leaves. They keep these shares at every ratio.
pub const OTHERS: [f64; 7] =
    [64.0 / 127.0, 32.0 / 127.0, 16.0 / 127.0, 8.0 / 127.0, 4.0 / 127.0, 2.0 / 127.0, 1.0 / 127.0];
/// Entries of such a distribution.
const ENTRIES: usize = OTHERS.len() + 1;
/// What columns that stand for definitions are called: this and the definition's name.
const STAND_IN: &str = "plot_";
/// Log-probs that a program may define from columns of its own. Numbers stand for those too.
const LOGPS: [&str; 4] = ["logp", "old_logp", "ref_logp", "sampler_logp"];
/// What columns of no known meaning hold, numbers and truth values: the first of these with which the loss is finite and
/// has a gradient.
const FILLERS: [(f64, f64); 6] =
    [(0.0, 0.0), (1.0, 0.0), (0.5, 0.0), (0.0, 1.0), (1.0, 1.0), (0.5, 1.0)];
/// Points of a curve against the ratio.
const POINTS: usize = 401;
/// Lengths of the rollouts of the right panel.
const LENGTHS: [usize; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

/// One curve.
#[derive(Debug, Clone)]
pub struct Curve {
    /// The advantage; none where the program has none, or where it makes no difference.
    pub advantage: Option<f64>,
    /// x and y; what is not finite is left out.
    pub points: Vec<(f64, f64)>,
}

/// What a plot shows.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Minus the loss against the ratio.
    pub surrogate: Vec<Curve>,
    /// -d loss/d logp against the ratio.
    pub weight: Vec<Curve>,
    /// |d loss/d logp| against length.
    pub length: Vec<Curve>,
    /// What both curves against the ratio were multiplied by, so that the weight at ratio 1 is 1.
    pub scale: f64,
    /// The tokens were entries of distributions.
    pub distribution: bool,
}

/// An objective, and how to make batches for it.
pub struct Probe {
    objective: Objective,
    /// Columns the batches have besides their structure.
    columns: Vec<Read>,
    /// Numbers stand for `advantage`.
    advantage: bool,
    /// The program reads distributions: the batches have logits in the place of log-probs.
    logits: bool,
    /// What other columns hold: numbers, truth values.
    filler: (f64, f64),
}

/// Reads the program itself for `extend`, and the files that it extends.
struct Around<'a> {
    inner: &'a Files,
    source: Source,
}

const WRAPPER: &str = "<plot>";

impl Loader for Around<'_> {
    fn load(&self, from: &str, path: &str) -> Result<(String, String), String> {
        if from == WRAPPER {
            return Ok((self.source.name.clone(), self.source.text.clone()));
        }
        self.inner.load(from, path)
    }
}

impl Probe {
    /// Checks the program and finds what its batches need.
    pub fn new(program: &mut Program, sets: &[String], output: &Output) -> Outcome<Probe> {
        let mut checked = check::or_stop(program, output)?;
        let mut advantage = checked.graph.columns.iter().any(|c| c.name == "advantage");
        let mut stand_ins = Vec::new();
        for definition in &checked.definitions {
            let of = checked.graph.level(definition.value);
            let levels = &checked.graph.level_table;
            let level = if of == VOCAB { "token" } else { levels.name(of) }.to_owned();
            // A program that defines its log-probs names them like the prelude's.
            let own_logp = LOGPS.contains(&definition.name.as_str())
                && checked.files.get(definition.depth).is_some_and(|f| *f != stdlib::PRELUDE.0);
            if definition.name == "advantage" || own_logp {
                stand_ins.push((definition.name.clone(), level));
            }
        }
        if !stand_ins.is_empty() {
            advantage |= stand_ins.iter().any(|s| s.0 == "advantage");
            checked = replaced(program, &stand_ins)?;
        }
        let values = params::values(&checked.graph, sets)?;
        let names: Vec<String> = checked.graph.params.iter().map(|p| p.name.clone()).collect();
        let mut objective = Objective::new(checked, Backend::Interp);
        for (name, value) in names.iter().zip(values) {
            objective.set_param(name, value).map_err(failure)?;
        }
        // Log-probs alone where they are enough: then a token is a number and nothing else.
        let alone = read(&mut objective, &["token/logp", "token/entropy"])?;
        let logits = alone.iter().any(|c| c.level == VOCAB || c.path == "token/entropy");
        let columns = if logits { read(&mut objective, &["vocab/logits"])? } else { alone };
        let policy = |p: &str| p == "vocab/logits" || named(p) == Some("logp");
        if !columns.iter().any(|c| policy(&c.path)) {
            return Err(Failure::input(
                "the program does not read `logp`, so there is no ratio to draw it against",
                "a plot shows d loss/d logp",
            ));
        }
        let filler = FILLERS[0];
        Ok(Probe { objective, columns, advantage, logits, filler })
    }

    /// Finds numbers for columns of no known meaning.
    fn fill(&mut self, advantage: Option<f64>) -> Outcome {
        let mut finite = None;
        for filler in FILLERS {
            self.filler = filler;
            match self.at(1.0, advantage)? {
                Some((_, weight)) if weight != 0.0 => return Ok(()),
                Some(_) => finite = finite.or(Some(filler)),
                None => {}
            }
        }
        self.filler = finite.unwrap_or(FILLERS[0]);
        Ok(())
    }

    /// Runs the objective for every point.
    pub fn measure(mut self) -> Outcome<Measured> {
        let signs: &[Option<f64>] = if self.advantage { &[Some(1.0), Some(-1.0)] } else { &[None] };
        self.fill(signs[0])?;
        let first = self.at(1.0, signs[0])?.map_or(0.0, |p| p.1);
        let scale = if first.abs() > 1e-12 { 1.0 / first.abs() } else { 1.0 };
        // A weight of 1 up to rounding needs no scale.
        let scale = if (scale - 1.0).abs() < 1e-6 { 1.0 } else { scale };
        let (low, high) = self.window(signs)?;
        let mut measured = Measured {
            surrogate: vec![],
            weight: vec![],
            length: vec![],
            scale,
            distribution: self.logits,
        };
        for &advantage in signs {
            let mut surrogate = Curve { advantage, points: vec![] };
            let mut weight = Curve { advantage, points: vec![] };
            for i in 0..POINTS {
                let ratio = low + (high - low) * i as f64 / (POINTS - 1) as f64;
                if let Some((value, slope)) = self.at(ratio, advantage)? {
                    surrogate.points.push((ratio, value * scale));
                    weight.points.push((ratio, slope * scale));
                }
            }
            measured.surrogate.push(surrogate);
            measured.weight.push(weight);
            measured.length.push(self.lengths(advantage)?);
        }
        if measured.surrogate.iter().all(|c| c.points.is_empty()) {
            return Err(Failure::running(
                "the loss is not finite at any ratio",
                "`rlc eval` on a batch of yours names where that begins",
            ));
        }
        if let [a, b] = &measured.length[..]
            && a.points.len() == b.points.len()
            && a.points.iter().zip(&b.points).all(|(a, b)| (a.1 - b.1).abs() <= 1e-9 * a.1.abs())
        {
            measured.length.truncate(1);
            measured.length.iter_mut().for_each(|c| c.advantage = None);
        }
        Ok(measured)
    }

    /// Minus the loss and -d loss/d log ratio when every token has this ratio.
    fn at(&mut self, ratio: f64, advantage: Option<f64>) -> Outcome<Option<(f64, f64)>> {
        // One token a rollout: the ratio of the rollout is then the token's, however it is made.
        let Some((loss, grads)) = self.run(&[1, 1], ratio, advantage)? else { return Ok(None) };
        Ok(Some((-loss, -grads.iter().sum::<f64>())))
    }

    /// A token's share by the length of its rollout, all ratios 1.
    fn lengths(&mut self, advantage: Option<f64>) -> Outcome<Curve> {
        let mut curve = Curve { advantage, points: vec![] };
        let Some((_, grads)) = self.run(&LENGTHS, 1.0, advantage)? else { return Ok(curve) };
        let mean = grads.iter().map(|g| g.abs()).sum::<f64>() / grads.len() as f64;
        let mut start = 0;
        for length in LENGTHS {
            let own = grads.get(start..start + length).unwrap_or(&[]);
            let share = own.iter().map(|g| g.abs()).sum::<f64>() / length as f64;
            start += length;
            if mean > 0.0 {
                curve.points.push((length as f64, share / mean));
            }
        }
        Ok(curve)
    }

    /// The ratios worth drawing: around where the weight leaves that of an unclipped surrogate.
    fn window(&mut self, signs: &[Option<f64>]) -> Outcome<(f64, f64)> {
        let mut bends: Vec<f64> = Vec::new();
        for &advantage in signs {
            let unit = match self.at(1.0, advantage)? {
                Some((_, weight)) if weight.abs() > 1e-12 => weight,
                _ => continue,
            };
            for side in [1.0, -1.0] {
                let mut distance = 1e-6;
                while distance < 12.0 && (side > 0.0 || distance < 1.0) {
                    let ratio = 1.0 + side * distance;
                    // Per ratio: an unclipped weight is proportional to it.
                    let point = self.at(ratio, advantage)?;
                    if point.is_some_and(|(_, w)| (w / unit / ratio - 1.0).abs() > 0.3) {
                        bends.push(distance);
                        break;
                    }
                    distance *= 1.2;
                }
            }
        }
        // Where some bends are very near, as those of a rollout's ratio, they are what to look at.
        let near = bends.iter().copied().filter(|d| *d < 0.05).fold(0.0, f64::max);
        if near > 0.0 {
            return Ok((1.0 - 4.0 * near, 1.0 + 4.0 * near));
        }
        let far = bends.iter().copied().fold(0.0, f64::max);
        Ok((0.005, (1.0 + 1.3 * far).max(2.0)))
    }

    /// Loss and d loss/d logp of one group of rollouts of these lengths; none where not finite.
    fn run(
        &mut self,
        lengths: &[usize],
        ratio: f64,
        advantage: Option<f64>,
    ) -> Outcome<Option<(f64, Vec<f64>)>> {
        let table = self.table(lengths, ratio, advantage.unwrap_or(0.0))?;
        let temperature = self.temperature();
        let mut step = self.objective.begin(&table, Logits::InTable).map_err(failure)?;
        let done = step.live(0..lengths.len(), None).and_then(|_| step.finish());
        let outcome = match done {
            Ok(outcome) => outcome,
            Err(ObjectiveError::NotFinite(_)) => return Ok(None),
            Err(error) => return Err(failure(error)),
        };
        let stand_in = outcome.grads.get(&format!("{STAND_IN}logp"));
        // Log-probs that the program defines are numbers, also where it reads distributions beside them.
        let logits = self.logits && stand_in.is_none();
        let input = if logits { "logits" } else { "logp" };
        let grads: Vec<f64> = match stand_in.or(outcome.grads.get(input)) {
            Some(array) => {
                // A logit t * log(P / (1 - P)) moves logp = log P by (1 - P) / t.
                let (step, unit) = if logits {
                    (ENTRIES, temperature / (1.0 - OLD.exp() * ratio))
                } else {
                    (1, 1.0)
                };
                (0..array.data.len()).step_by(step).map(|i| array.data.get(i) * unit).collect()
            }
            None => vec![0.0; lengths.iter().sum()],
        };
        let finite = outcome.loss.is_finite() && grads.iter().all(|g| g.is_finite());
        Ok(finite.then_some((outcome.loss, grads)))
    }

    fn temperature(&self) -> f64 {
        self.objective.param("temperature").unwrap_or(1.0)
    }

    /// The logits of a distribution whose entry 0 has this ratio to that of sampling.
    fn logits(&self, ratio: f64) -> [f64; ENTRIES] {
        let sampled = OLD.exp() * ratio;
        let mut row = [(sampled / (1.0 - sampled)).ln(); ENTRIES];
        for (logit, share) in row[1..].iter_mut().zip(OTHERS) {
            *logit = share.ln();
        }
        row.map(|logit| logit * self.temperature())
    }

    fn table(&self, lengths: &[usize], ratio: f64, advantage: f64) -> Outcome<Table> {
        let levels = &self.objective.checked().graph.level_table;
        let (groups, rollouts) = (vec![lengths.len()], lengths.to_vec());
        let mut table =
            synthetic::structure(levels, &Sizes { groups, rollouts, segments: 1, rows: 1 });
        let shape = Shape::new(levels, &table).map_err(|e| Failure::input(e.to_string(), ""))?;
        for read in &self.columns {
            let path = read.path.as_str();
            if read.level == VOCAB {
                let row = self.logits(if path == "vocab/logits" { ratio } else { 1.0 });
                let tokens = shape.count(TOKEN);
                let data = Data::F64(row.repeat(tokens));
                table.arrays.insert(path.to_owned(), Array { data, shape: vec![tokens, ENTRIES] });
                continue;
            }
            let count = shape.count(read.level);
            let value = |i: usize| match (path, named(path)) {
                (_, Some("logp")) => OLD + ratio.ln(),
                (_, Some("old_logp" | "ref_logp" | "sampler_logp")) => OLD,
                ("token/mask" | "token/entropy", _) => 1.0,
                // Groups in which all are equal are often dropped.
                ("rollout/reward" | "rollout/correct", _) => ((i + 1) % 2) as f64,
                ("turn/step_correct", _) => 0.5,
                ("batch/train.total", _) => 100.0,
                (_, Some("advantage")) => advantage,
                _ => match read.ty {
                    Ty::Real => self.filler.0,
                    Ty::Int => 0.0,
                    Ty::Bool => self.filler.1,
                },
            };
            synthetic::set(&mut table, read, (0..count).map(value).collect());
        }
        Ok(table)
    }
}

/// What the program reads of batches with these policy columns.
fn read(objective: &mut Objective, policy: &[&str]) -> Outcome<Vec<Read>> {
    let offered: BTreeSet<String> = policy.iter().map(|p| (*p).to_owned()).collect();
    let specialized = objective.specialized(Some(offered)).map_err(failure)?;
    Ok(synthetic::reads(&specialized.program))
}

/// What a column is or stands for, where that is a log-prob or the advantage.
fn named(path: &str) -> Option<&str> {
    let (level, name) = path.split_once('/')?;
    if name == "advantage" || level == "token" && LOGPS.contains(&name) {
        return Some(name);
    }
    name.strip_prefix(STAND_IN)
}

/// The program with columns, at these levels, in the place of some of its definitions.
fn replaced(program: &Program, stand_ins: &[(String, String)]) -> Outcome<Checked> {
    let mut text = "extend \"program\"\n".to_owned();
    for (name, level) in stand_ins {
        let kind = if name == "logp" { "policy" } else { "input" };
        text.push_str(&format!(
            "{kind} {STAND_IN}{name} : real @ {level}\n{name} = {STAND_IN}{name}\n"
        ));
    }
    let mut sources = Sources::default();
    let root = sources.add(Source { name: WRAPPER.into(), text, library: true });
    let source = program.sources.get(program.root).clone();
    let around = Around { inner: &program.files, source };
    let (checked, found) = rlc_compiler::check(&mut sources, root, &around);
    checked.ok_or_else(|| {
        let why = found.first().map_or(String::new(), |d| format!(": {}", d.message));
        Failure::input(
            format!(
                "numbers cannot stand in the place of this program's {}{why}",
                stand_ins.iter().map(|s| format!("`{}`", s.0)).collect::<Vec<_>>().join(", ")
            ),
            "a plot sets the advantage to +1 and -1, and log-probs that the program defines",
        )
    })
}

fn failure(error: ObjectiveError) -> Failure {
    match error {
        ObjectiveError::NotFinite(text) => Failure::running(text, ""),
        other => Failure::input(other.to_string(), ""),
    }
}
