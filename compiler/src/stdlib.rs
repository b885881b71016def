//! The standard library's sources, part of the compiler so that a program needs no files beside it.

include!(concat!(env!("OUT_DIR"), "/stdlib.rs"));

/// Root of every program: functions, `temperature`, `logp`, `entropy`.
pub const PRELUDE: (&str, &str) = ("stdlib/prelude.rl", include_str!("../../stdlib/prelude.rl"));

/// Name, source name and text of every program of the library: objectives, then recipes.
pub fn library() -> impl Iterator<Item = &'static (&'static str, &'static str, &'static str)> + Clone
{
    OBJECTIVES.iter().chain(RECIPES)
}

/// Source name and text of a library program.
pub fn objective(name: &str) -> Option<(&'static str, &'static str)> {
    library().find(|o| o.0 == name).map(|o| (o.1, o.2))
}
