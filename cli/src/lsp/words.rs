//! One line on each word, operator and level of the language, for hover and completion.

/// Functions that are part of the language: name, how it is called, what it is.
const BUILTINS: &[(&str, &str, &str)] = &[
    ("sum", "sum(x [where cond] [per L])", "Sum over the elements of x; of nothing 0."),
    ("mean", "mean(x [where cond] [per L])", "Mean over the elements of x; of nothing 0."),
    (
        "max",
        "max(x [where cond] [, default = d] [per L]), max(a, b)",
        "Largest element; of two values the larger.",
    ),
    (
        "min",
        "min(x [where cond] [, default = d] [per L]), min(a, b)",
        "Smallest element; of two values the smaller.",
    ),
    ("std", "std(x [, ddof = 1] [where cond] [per L])", "Standard deviation."),
    ("var", "var(x [, ddof = 1] [where cond] [per L])", "Variance."),
    (
        "count",
        "count(L per P), count(x [where cond] [per L])",
        "How many elements; of a bool, how many are true.",
    ),
    ("any", "any(cond [per L])", "Whether one is true; of nothing false."),
    ("all", "all(cond [per L])", "Whether all are true; of nothing true."),
    ("first", "first(x [where cond] [per L])", "The first element."),
    ("last", "last(x [where cond] [per L])", "The last element."),
    ("prod", "prod(x [where cond] [per L])", "Product; of nothing 1."),
    ("logsumexp", "logsumexp(x [where cond] [per L])", "log of the sum of exp, without overflow."),
    ("quantile", "quantile(x, q [where cond] [per L])", "Quantile, interpolated linearly."),
    ("next", "next(x, default [, by = k] in L)", "The element after this one."),
    ("prev", "prev(x, default [, by = k] in L)", "The element before this one."),
    ("cumsum", "cumsum(x in L)", "Running sum."),
    ("rcumsum", "rcumsum(x in L)", "Running sum from the end."),
    ("discounted", "discounted(x, gamma in L)", "Reverse discounted sum."),
    ("scan_and", "scan_and(cond in L)", "True up to the first false."),
    ("rscan_and", "rscan_and(cond in L)", "True after the last false."),
    ("index", "index(level in L)", "Number of the element in L, from 0."),
    ("is_first", "is_first(level in L)", "Whether it is the first in L."),
    ("is_last", "is_last(level in L)", "Whether it is the last in L."),
    ("rank", "rank(x in L)", "Rank in L; 0 is the smallest, ties by order."),
    ("top", "top(x, k in L)", "Whether it is among the k largest in L."),
    ("argmax", "argmax(x in L)", "Whether it is the largest in L."),
    ("sort", "sort(x in L)", "The values of L in order."),
    ("pick", "pick(x, i, default in L)", "Element i of L."),
    ("left", "left(x in P)", "The value at the first of a pair."),
    ("right", "right(x in P)", "The value at the second of a pair."),
    ("softmax", "softmax(x)", "Softmax over a vocab row."),
    ("log_softmax", "log_softmax(x)", "Log of the softmax over a vocab row."),
    ("at", "at(x, i)", "Entry i of a vocab row."),
    ("clip", "clip(x, lo, hi)", "x, but at least lo and at most hi."),
    ("detach", "detach(x)", "x without its gradient."),
    ("uniform", "uniform(level)", "A number in [0, 1) for each element, from the batch's seed."),
    ("real", "real(x)", "As a real number; of a bool 0 or 1."),
    ("int", "int(x)", "As a whole number."),
];

/// Partitions that are no level by name.
pub const PARTITIONS: [(&str, &str); 4] = [
    ("runs", "runs(cond in rollout): maximal runs of tokens where cond holds"),
    ("splits", "splits(cond in rollout): a new element at every token where cond holds"),
    ("prefix", "prefix(x in group): what agrees up to here"),
    ("pairs", "pairs(rollout in group): ordered pairs of different rollouts"),
];

/// Words that begin a statement or stand inside one.
const WORDS: &[(&str, &str)] = &[
    (
        "extend",
        "`extend dapo`, `extend \"other.rl\"`, `extend nothing`: the file that this one changes.",
    ),
    ("param", "`param name = 0.2 in [0, 1]`: a hyperparameter; setting it recompiles nothing."),
    ("input", "`input name : real @ turn`: a column of the batch."),
    ("policy", "`policy name : real @ token`: a differentiable column."),
    ("level", "`level item in rollout`: a segmentation of rollouts."),
    ("list", "`list comparison in rollout`: rows beside the tokens."),
    ("key", "`key cell = (group, position)`: a derived level."),
    ("state", "`state v[prompt] : real @ group = 0.5`: a value kept between steps."),
    ("update", "`update v = e`: the state's value after this batch."),
    ("keep", "`keep token where cond`: removes the other elements."),
    ("drop", "`drop rollout where cond`: removes these elements."),
    ("fn", "`fn f(x, eps = 1e-6 per L = group) = e`: a function, inlined."),
    ("minimize", "`minimize e`: the goal, one number."),
    ("maximize", "`maximize e`: the goal, one number."),
    ("metric", "`metric name = e`: one number, logged."),
    ("sample", "`sample weight = e`, `sample rollouts = e`: what is drawn next."),
    ("allow", "`allow NAME`: silences a warning in this file."),
    ("if", "`if c then a else b`: neither value nor gradient of the branch not taken."),
    ("then", "`if c then a else b`"),
    ("else", "`if c then a else b`"),
    ("and", "`a and b`, of truth values."),
    ("or", "`a or b`, of truth values."),
    ("not", "`not a`, of a truth value."),
    ("per", "`mean(x per L)`: one result for each element of L."),
    ("in", "`cumsum(x in L)`: the scope of an ordered operator."),
    ("where", "`mean(x where cond)`: only these elements."),
    ("base", "`base.name`: what the name meant in the extended file, where this file replaces it."),
    ("true", "A truth value."),
    ("false", "A truth value."),
];

/// How a function of the language is called, and what it is.
pub fn builtin(name: &str) -> String {
    let (call, about) = call(name);
    format!("```rl\n{call}\n```\n\n{about}")
}

/// The parts of [`builtin`].
pub fn call(name: &str) -> (String, &'static str) {
    match BUILTINS.iter().find(|b| b.0 == name) {
        Some((_, call, about)) => ((*call).to_owned(), about),
        None => (format!("{name}(x)"), "Elementwise."),
    }
}

/// What a reserved word does.
pub fn word(word: &str) -> Option<&'static str> {
    WORDS.iter().find(|w| w.0 == word).map(|w| w.1)
}

/// What a level is that is always there.
pub fn level(name: &str) -> String {
    let about = match name {
        "batch" => "all rollouts of one step",
        "group" => "the rollouts of one prompt",
        "rollout" => "one completion",
        "turn" => "one model message and the observation after it",
        "token" => "one token of a completion",
        _ => "one entry of the distribution that a token was drawn from",
    };
    format!("`{name}`, a level: {about}.")
}
