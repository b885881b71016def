//! Names of a kernel: the user's where there are any, each once, and none that C knows.

use std::collections::HashSet;

/// Words that mean something in CUDA C or in the prelude.
const TAKEN: &[&str] = &[
    "auto",
    "bool",
    "break",
    "case",
    "char",
    "class",
    "const",
    "continue",
    "default",
    "delete",
    "do",
    "double",
    "else",
    "enum",
    "explicit",
    "extern",
    "false",
    "float",
    "for",
    "goto",
    "if",
    "inline",
    "int",
    "long",
    "namespace",
    "new",
    "operator",
    "private",
    "protected",
    "public",
    "real",
    "register",
    "return",
    "short",
    "signed",
    "sizeof",
    "static",
    "struct",
    "switch",
    "template",
    "this",
    "throw",
    "true",
    "try",
    "typedef",
    "union",
    "unsigned",
    "using",
    "virtual",
    "void",
    "volatile",
    "while",
    "row",
    "unit",
    "begin",
    "end",
    "base",
    "vocab",
    "i",
    "k",
    "lane",
    "min",
    "max",
    "exp",
    "log",
    "first",
    "i64",
    "u32",
    "NAN",
    "INFINITY",
];

/// Hands out names.
#[derive(Default)]
pub(super) struct Names {
    given: HashSet<String>,
}

impl Names {
    /// A name like `wanted` that nothing else has.
    pub(super) fn unique(&mut self, wanted: &str) -> String {
        let mut name: String =
            wanted.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        // Two underscores are the compiler's, and rlc_ the prelude's.
        while name.contains("__") {
            name = name.replace("__", "_");
        }
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit() || c == '_') {
            name.insert(0, 'v');
        }
        let taken = |n: &str| TAKEN.contains(&n) || n.starts_with("rlc_");
        let mut found = name.clone();
        let mut n = 1;
        while taken(&found) || self.given.contains(&found) {
            n += 1;
            found = format!("{name}_{n}");
        }
        self.given.insert(found.clone());
        found
    }
}
