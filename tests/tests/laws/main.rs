//! Laws over random programs and random ragged batches, and over the library on the corners of
//! ragged batches:
//!
//! * a printed graph is read back as the same graph;
//! * simplification keeps every value;
//! * the interpreter and the compiled kernels agree;
//! * every legal cut gives the whole batch's numbers;
//! * gradients are the slopes that small changes of the inputs show;
//! * the order of groups, and of rollouts in a group, means nothing unless the program asks for it.
//!
//! A failing case is made small and printed as a file for `filetests/laws`, where it stays.
//! `RLC_LAWS=n` runs so many seeds, `RLC_LAW_SEED=n` one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

mod programs;
mod simplified;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use programs::{Writer, reads_order};
use rlc_compiler::check::Checked;
use rlc_compiler::hir::{E, Graph};
use rlc_compiler::program::Program;
use rlc_compiler::simplify::compact;
use rlc_compiler::stdlib;
use rlc_compiler::table::{Array, Data, Table};
use rlc_runtime::objective::{Backend, Objective, ObjectiveError, Outcome};
use rlc_tests::batches::Random;
use rlc_tests::compare::differ;
use rlc_tests::tree::{Ratios, Tree};
use rlc_tests::{check_text, files, run, short};

/// Before the lines of a batch in a file.
const MARK: &str = "#: ";

/// A program and a batch.
#[derive(Clone)]
struct Case {
    text: String,
    tree: Tree,
    /// What else is drawn: permutations, directions.
    seed: u64,
}

impl Case {
    /// As a file of `filetests/laws`.
    fn file(&self) -> String {
        format!("# test: laws\n# seed: {}\n{}{}", self.seed, self.tree.print(MARK), self.text)
    }

    fn read(text: &str) -> Case {
        let seed = text.lines().find_map(|l| l.strip_prefix("# seed: ")).expect("a seed");
        let program = text.lines().filter(|l| !l.starts_with('#')).map(|l| format!("{l}\n"));
        Case { text: program.collect(), tree: Tree::parse(text, MARK), seed: seed.parse().unwrap() }
    }
}

/// A law that does not hold.
struct Fault {
    law: String,
    how: String,
}

#[derive(Default)]
struct Tally {
    ran: usize,
    slopes: usize,
    cuts: usize,
    refused: usize,
    permuted: usize,
    corners: BTreeMap<&'static str, usize>,
}

/// Whether `b` has the numbers of `a`.
fn compare(a: &Outcome, b: &Outcome, tolerance: f64) -> Result<(), String> {
    near("loss", &[b.loss], &[a.loss], tolerance, 1.0)?;
    for (name, x) in &a.metrics {
        let Some(y) = b.metrics.get(name) else { return Err(format!("no metric {name}")) };
        // A metric need not be finite.
        if x.is_finite() {
            near(name, &[*y], &[*x], tolerance, 1.0)?;
        }
    }
    for (name, x) in &a.grads {
        let Some(y) = b.grads.get(name) else { return Err(format!("no grad/{name}")) };
        near(&format!("grad/{name}"), &numbers(y), &numbers(x), tolerance, 1e-6)?;
    }
    Ok(())
}

fn near(name: &str, got: &[f64], want: &[f64], tolerance: f64, floor: f64) -> Result<(), String> {
    differ(got, want, tolerance, floor).map_or(Ok(()), |how| Err(format!("{name}{how}")))
}

fn numbers(array: &Array) -> Vec<f64> {
    (0..array.data.len()).map(|i| array.data.get(i)).collect()
}

/// The slope along a random direction against the gradients. Kinks show as slopes that disagree
/// between two step sizes or two sides, and are passed over.
fn slopes(
    r: &mut Random,
    objective: &mut Objective,
    table: &Table,
    whole: &Outcome,
) -> Result<bool, String> {
    let names: BTreeMap<&str, &str> =
        [("logits", "vocab/logits"), ("logp", "token/logp"), ("entropy", "token/entropy")].into();
    let mut direction = Vec::new();
    let mut expected: f64 = 0.0;
    for (name, grad) in &whole.grads {
        let d: Vec<f64> = (0..grad.data.len()).map(|_| r.between(-2.0, 2.0)).collect();
        expected += (0..d.len()).map(|i| d[i] * grad.data.get(i)).sum::<f64>();
        direction.push((names[name.as_str()], d));
    }
    let mut at = |h: f64| -> Option<f64> {
        let mut moved = table.clone();
        for (path, d) in &direction {
            let Some(Array { data: Data::F64(x), .. }) = moved.arrays.get_mut(*path) else {
                continue;
            };
            x.iter_mut().zip(d).for_each(|(x, d)| *x += h * d);
        }
        run(objective, &moved, None).ok().map(|o| o.loss)
    };
    let mut sides = |h: f64| {
        let (up, down) = (at(h)?, at(-h)?);
        Some(((up - whole.loss) / h, (whole.loss - down) / h))
    };
    let (Some(far), Some(near)) = (sides(1e-5), sides(4e-6)) else { return Ok(false) };
    let (a, b) = (f64::midpoint(far.0, far.1), f64::midpoint(near.0, near.1));
    let scale = expected.abs().max(whole.loss.abs()).max(1.0);
    // A kink nearby, or right here.
    if (a - b).abs() > 1e-5 * scale || (near.0 - near.1).abs() > 1e-4 * scale {
        return Ok(false);
    }
    if (a - expected).abs() > 1e-4 * scale {
        return Err(format!("the slope is {a} (or {b}), the gradient gives {expected}"));
    }
    Ok(true)
}

/// Printing a graph and reading it gives the graph.
fn read_back(graph: &Graph, roots: &[(String, E)]) -> Result<(), String> {
    let handles: Vec<E> = roots.iter().map(|r| r.1).collect();
    let (graph, handles) = compact(graph, &handles);
    let roots: Vec<(String, E)> = roots.iter().map(|r| r.0.clone()).zip(handles).collect();
    let text = graph.print(&roots);
    let (again, same) = Graph::parse(&text).map_err(|e| format!("{e}\n{text}"))?;
    let printed = again.print(&same);
    if printed != text {
        return Err(format!("{text}\nis read as\n{printed}"));
    }
    for e in graph.all() {
        let of = |g: &Graph| (g.level(e), g.ty(e), g.name(e).map(str::to_owned));
        if of(&graph) != of(&again) || graph.operands(e).ne(again.operands(e)) {
            return Err(format!("%{} is another expression in\n{text}", e.0));
        }
    }
    Ok(())
}

fn texts(checked: &Checked, program: &Program) -> Result<(), String> {
    let mut roots = vec![("loss".to_owned(), checked.loss)];
    roots.extend(checked.metrics.iter().map(|m| (format!("metric/{}", m.name), m.value)));
    roots.extend(checked.definitions.iter().map(|d| (d.name.clone(), d.value)));
    read_back(&checked.graph, &roots)?;
    read_back(&program.graph, &program.outputs())
}

/// The groups, and the rollouts of each, in another order: the same loss and metrics, and the same
/// gradient for every token.
fn permuted(case: &Case, interp: &mut Objective, whole: &Outcome) -> Result<(), String> {
    let other = case.tree.permuted(&mut Random::new(case.seed));
    let mut outcome = run(interp, &other.table(), None).map_err(|e| e.to_string())?;
    let order = other.order();
    for array in outcome.grads.values_mut() {
        let width = array.data.len() / order.len().max(1);
        let moved = numbers(array);
        let mut back = vec![0.0; moved.len()];
        for (at, token) in order.iter().enumerate() {
            let (to, from) = (token * width, at * width);
            back[to..to + width].copy_from_slice(&moved[from..from + width]);
        }
        array.data = Data::F64(back);
    }
    compare(whole, &outcome, 1e-9)
}

/// Whether float32 cannot hold what the interpreter computed.
fn huge(outcome: &Outcome) -> bool {
    let grads = outcome.grads.values().flat_map(numbers);
    grads.chain([outcome.loss]).any(|x| x.abs() > 1e30)
}

/// Errors that a random program may have: levels that do not meet, types, nothing to train, what this
/// release does not compile.
const REFUSALS: [&str; 4] = ["E0201", "E0202", "E0203", "E0401"];

/// All laws for one case.
fn laws(case: &Case, tally: &mut Tally) -> Result<(), Fault> {
    let fault = |law: &'static str| move |how: String| Fault { law: law.to_owned(), how };
    let (checked, found, _) = check_text("law.rl", &case.text);
    let Some(checked) = checked else {
        let unknown = found.iter().find(|d| !REFUSALS.contains(&d.code));
        return match unknown {
            None => Ok(()),
            Some(d) => Err(Fault { law: format!("check: {}", d.code), how: format!("{found:#?}") }),
        };
    };
    checked.graph.verify().map_err(fault("verify"))?;
    let table = case.tree.table();
    let mut interp = Objective::new(checked.clone(), Backend::Interp);
    let mut cpu = Objective::new(checked.clone(), Backend::Cpu);
    let present: BTreeSet<String> = table.arrays.keys().cloned().collect();
    let program = match interp.specialized(Some(present)) {
        Ok(specialized) => specialized.program.clone(),
        Err(ObjectiveError::Specialize(_)) => return Ok(()),
        Err(e) => return Err(fault("specialize")(e.to_string())),
    };
    program.graph.verify().map_err(fault("verify"))?;
    texts(&checked, &program).map_err(fault("text"))?;
    simplified::check(&checked, &program, &table).map_err(fault("simplify"))?;
    let whole = match run(&mut interp, &table, None) {
        Ok(whole) => whole,
        // exp of exp of … may leave the range: then both must say so.
        Err(ObjectiveError::NotFinite(_)) => {
            return match run(&mut cpu, &table, None) {
                Err(ObjectiveError::NotFinite(_)) => Ok(()),
                _ => Err(fault("refusal")("only the interpreter refused".to_owned())),
            };
        }
        Err(e) => return Err(fault("interpreter")(e.to_string())),
    };
    tally.ran += 1;
    for corner in case.tree.corners() {
        *tally.corners.entry(corner).or_default() += 1;
    }
    let compiled = match run(&mut cpu, &table, None) {
        Ok(compiled) => compiled,
        Err(ObjectiveError::NotFinite(_)) if huge(&whole) => return Ok(()),
        Err(e) => return Err(fault("compiled")(e.to_string())),
    };
    compare(&whole, &compiled, 2e-5).map_err(fault("compiled"))?;
    for n in 1..case.tree.rollouts() {
        for (objective, tolerance) in [(&mut interp, 1e-9), (&mut cpu, 2e-5)] {
            match run(objective, &table, Some(n)) {
                Ok(cut) => compare(&whole, &cut, tolerance)
                    .map_err(|how| fault("cut")(format!("in pieces of {n}: {how}")))?,
                Err(ObjectiveError::Cut(_)) => tally.refused += 1,
                Err(e) => return Err(fault("cut")(e.to_string())),
            }
            tally.cuts += 1;
        }
    }
    if !reads_order(&case.text) {
        permuted(case, &mut interp, &whole).map_err(fault("permuted"))?;
        tally.permuted += 1;
    }
    // `detach` hides a slope from the gradient: that is its purpose. The library's slopes are
    // measured elsewhere, more closely.
    if case.text.starts_with("extend nothing") && !case.text.contains("detach") {
        let r = &mut Random::new(case.seed ^ 0x5eed);
        let measured = slopes(r, &mut interp, &table, &whole);
        tally.slopes += usize::from(measured.map_err(fault("slopes"))?);
    }
    Ok(())
}

/// The case, or nothing if all is well: the smallest found that breaks the same law.
fn smallest(mut case: Case, tally: &mut Tally) -> Option<String> {
    let mut fault = laws(&case, tally).err()?;
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let texts = programs::simpler(&case.text);
        let texts = texts.into_iter().map(|text| Case { text, ..case.clone() });
        let trees = case.tree.simpler();
        let trees = trees.into_iter().map(|tree| Case { tree, ..case.clone() });
        let smaller = texts.chain(trees).take_while(|_| Instant::now() < end).find_map(|c| {
            let found = laws(&c, &mut Tally::default()).err()?;
            (found.law == fault.law).then_some((c, found))
        });
        match smaller {
            Some(next) => (case, fault) = next,
            None => break,
        }
    }
    let Fault { law, how } = fault;
    Some(format!("the law of `{law}` is broken: {how}\n\n{}", case.file()))
}

/// Runs so many cases and shows the first that fail.
fn all(count: u64, case: impl Fn(u64) -> Case) -> Tally {
    let mut tally = Tally::default();
    let one = std::env::var("RLC_LAW_SEED").ok().map(|n| n.parse().unwrap());
    let seeds = one.map_or(0..count, |n| n..n + 1);
    let mut faults = Vec::new();
    for seed in seeds {
        if let Some(fault) = smallest(case(seed), &mut tally) {
            faults.push(format!("seed {seed}: {fault}"));
        }
        if faults.len() == 3 {
            break;
        }
    }
    let Tally { ran, slopes, cuts, refused, permuted, corners } = &tally;
    println!(
        "{count} cases: {ran} ran, {slopes} slopes, {permuted} permuted, {cuts} cuts of which \
         {refused} refused; {corners:?}"
    );
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
    tally
}

/// How many cases to run, and whether they are enough to ask what they cover.
fn asked(usual: u64) -> (u64, bool) {
    let asked = std::env::var("RLC_LAWS").ok().map_or(usual, |n| n.parse().unwrap());
    (asked, asked >= usual && std::env::var("RLC_LAW_SEED").is_err())
}

/// Each of the corners came up at least so often.
#[track_caller]
fn seen(tally: &Tally, corners: &[&str], least: usize) {
    for corner in corners {
        let n = tally.corners.get(corner).copied().unwrap_or(0);
        assert!(n >= least, "{corner} came up {n} times");
    }
}

const CORNERS: [&str; 11] = [
    "an empty group",
    "a singleton group",
    "equal rewards",
    "an empty rollout",
    "a rollout of one token",
    "a masked rollout",
    "a masked batch",
    "an empty turn",
    "no tokens",
    "no rollouts",
    "ratio 1",
];

#[test]
fn random_programs() {
    let (count, enough) = asked(300);
    let tally = all(count, |seed| {
        let r = &mut Random::new(seed);
        let tree = Tree::random(r, Ratios::Usual);
        let text = Writer { ordered: r.below(2) == 0, logits: tree.logits, r }.program();
        Case { text, tree, seed }
    });
    if enough {
        assert!(tally.ran * 2 > count as usize, "too few ran: {}", tally.ran);
        assert!(tally.slopes * 4 > tally.ran, "too few slopes: {}", tally.slopes);
        assert!(tally.permuted * 4 > tally.ran, "too few permuted: {}", tally.permuted);
        seen(&tally, &CORNERS, 3);
    }
}

#[test]
fn the_library_on_corners() {
    let (count, enough) = asked(130);
    let names: Vec<&str> = stdlib::OBJECTIVES.iter().map(|o| o.0).collect();
    let tally = all(count, |seed| {
        let name = names[seed as usize % names.len()];
        let tree = Tree::random(&mut Random::new(seed), Ratios::Extreme);
        Case { text: format!("extend {name}\n"), tree, seed }
    });
    if enough {
        seen(&tally, &CORNERS, 3);
        seen(&tally, &["a huge ratio", "a tiny ratio"], 10);
    }
}

/// What the laws found before.
#[test]
fn found_before() {
    for path in files("tests/filetests/laws", ".rl") {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# test: laws\n"), "{} does not say what it tests", short(&path));
        if let Err(Fault { law, how }) = laws(&Case::read(&text), &mut Tally::default()) {
            panic!("{}: the law of `{law}`: {how}", short(&path));
        }
    }
}

/// The machinery itself: a law that is broken on purpose is found small.
#[test]
fn cases_are_written_and_read() {
    let r = &mut Random::new(7);
    let tree = Tree::random(r, Ratios::Usual);
    let text = Writer { ordered: true, logits: tree.logits, r }.program();
    let case = Case { text, tree, seed: 7 };
    let again = Case::read(&case.file());
    assert_eq!((&again.text, &again.tree, again.seed), (&case.text, &case.tree, 7));
    // Whatever mentions `logp` is kept: the smallest program is a line.
    let mut text = case.text;
    while let Some(smaller) = programs::simpler(&text).into_iter().find(|t| t.contains("logp")) {
        text = smaller;
    }
    assert!(text.len() < 40, "{text}");
}
