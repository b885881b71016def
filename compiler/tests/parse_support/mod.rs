//! Shared by the parser's tests.

use std::path::{Path, PathBuf};

use rlc_compiler::ast::Module;
use rlc_compiler::diagnostic::Diagnostic;
use rlc_compiler::parse::parse;
use rlc_compiler::source::{Source, Sources};

/// Parses one text.
pub fn read(text: &str) -> (Sources, Module, Vec<Diagnostic>) {
    let mut sources = Sources::default();
    let source = Source { name: "test.rl".into(), text: text.to_owned(), library: false };
    let file = sources.add(source);
    let (module, found) = parse(&sources, file);
    (sources, module, found)
}

/// What every message must be: short, lower case, with code in its help that can be read.
#[allow(dead_code, reason = "not every test binary checks it")]
pub fn assert_form(d: &Diagnostic) {
    let first = d.message.chars().next().unwrap_or('A');
    assert!(first.is_lowercase() || "`\"".contains(first), "{}", d.message);
    assert!(d.message.chars().count() <= 72, "{}", d.message);
    assert!(!d.message.ends_with(['.', '!', ':']), "{}", d.message);
    assert!(d.labels.iter().all(|l| !l.text.is_empty() && l.text.len() <= 60), "{d:?}");
    assert!(d.help.lines().all(|l| l.chars().count() <= 70), "{}", d.help);
    // The indented lines are statements, or expressions, or one block.
    let lines: Vec<&str> = d.help.lines().filter_map(|l| l.strip_prefix("    ")).collect();
    assert!(!lines.is_empty(), "no code in: {}", d.help);
    let reads = |text: &str| read(text).2.is_empty();
    let block = format!("x =\n    {}", lines.join("\n    "));
    let each = || lines.iter().all(|l| reads(&format!("x = {l}")) || reads(l));
    assert!(reads(&lines.join("\n")) || reads(&block) || each(), "{}", d.help);
}

/// Every objective in the standard library and the examples.
#[allow(dead_code, reason = "not every test binary reads them")]
pub fn objectives() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, out: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "rl") {
                let text = std::fs::read_to_string(&path).expect("a readable objective");
                out.push((path, text));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut out = Vec::new();
    walk(&root.join("stdlib"), &mut out);
    walk(&root.join("examples"), &mut out);
    out.sort();
    out
}

/// One of everything that the language can say.
#[allow(dead_code, reason = "not every test binary reads it")]
pub const EVERYTHING: &str = r#"# All statements.
## The lower bound.
##
##   Indented.
param clip_low = 0.2 in [0, 1]
param weights[3] = -1.0
param flag = true
param top = inf in [-inf, inf]
extend nothing
extend dapo
extend "../other file.rl"
input score : real @ turn = 0.0
input rewards[3] : real @ rollout
policy mtp_logits[4] : real @ vocab
level item in rollout
list comparison in rollout
key cell = (group, position)
key kind = (position > 3, not mask,)
key same = group
key stretch = runs(mask and not cut in rollout)
key piece = splits(is_first(turn in rollout) in rollout)
key node = prefix(action in group)
key duel = pairs(rollout in group)
state seen[prompt] : real @ group = 0.5
state count = 0
state c : int = -3
update seen = 0.9 * seen + 0.1 * mean(reward per group)
update count =
    old = count
    old + 1
keep token where loss_mask
drop rollout where truncated or length > 4096
fn centered(x) = x - mean(x per group)
fn norm(x, eps = 1e-6 per L = group) = (x - mean(x per L)) / (std(x per L) + eps)
fn scoped(per L) = count(token per L)
fn bare(x, y = 2, per L,) = mean(x per L) + y
fn cells(x per L = (group, position)) = mean(x per L)
fn none() = 1
fn block(a, b = 1) =
    low = max(
  a,
  b,
)
    # a comment

    high = low
        + 1
    if low < high
    then low * 2
    else high
advantage =
    reward
    |> norm(eps = 1e-4 per cell)
    |> base.group_norm
minimize loss
maximize token_mean(surrogate)
metric advantage
metric kl = token_mean(old_logp - logp)
sample weight = std(reward per group)
sample rollouts = 8
allow missing_detach

a = 1 + 2 * 3 - -4 // x % y / z
b = -x ^ 2 ^ -y @ token @ vocab
c = not a == b and c != d or e <= f
d = (if a then b else c) + 1
e = if a then b else if c then d else e |> f
f = sum(f(mtp_logits[k], k) for k in 1..4) + weights[2] + base.weights[1]
g = mean(x, q = 0.5 where mask and x > 0 per duel.left) # a comment
h = quantile(x, 0.9, where mask, per (group, position > 0), )
i = mean(x per runs(c in rollout)) + mean(x per pairs(rollout in group) in L)
j = base.token_loss + train.step * base.x.y
k = x ** 2
l = (((a)))
m = f(where a, q = 1, in rollout)
n = 1e-6 + 3e-4 + 1E5 + 0.5 + 10 + true + false + inf + pi
format = inner + permute + notx + basex + iffy + forx + ending + allowed + for + runs + pairs
o = max(a, (b), if c then d else e)
p = a - (b - c) - d / (e / f) ^ (g ^ h) ^ i
q = (a == b) == (not c) and (not d)
r = (-x) ^ 2 + (a |> f) * 2 + -(a * b) + (-a) * b
"#;
