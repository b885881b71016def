//! The standard library's sources, part of the compiler so that a program needs no files beside it.

/// Root of every program: functions, `temperature`, `logp`, `entropy`.
pub const PRELUDE: (&str, &str) = ("stdlib/prelude.rl", include_str!("../../stdlib/prelude.rl"));

macro_rules! objectives {
    ($($name:literal),* $(,)?) => {
        &[$(($name, concat!("stdlib/objectives/", $name, ".rl"), include_str!(concat!("../../stdlib/objectives/", $name, ".rl")))),*]
    };
}

/// Name, source name and text of every objective.
pub const OBJECTIVES: &[(&str, &str, &str)] = objectives![
    "grpo",
    "dr_grpo",
    "bnpo",
    "dapo",
    "gspo",
    "gspo_token",
    "cispo",
    "sapo",
    "gmpo",
    "rloo",
    "reinforce_pp",
    "calibadv",
    "sft",
];

/// Source name and text of a library objective.
pub fn objective(name: &str) -> Option<(&'static str, &'static str)> {
    OBJECTIVES.iter().find(|o| o.0 == name).map(|o| (o.1, o.2))
}
