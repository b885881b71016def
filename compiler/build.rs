//! Lists the standard library's files, so that a recipe is added by adding its file.
#![allow(clippy::disallowed_methods, reason = "a build script reads files; the core does not")]

use std::fmt::Write as _;
use std::path::Path;

fn main() {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let out = std::env::var("OUT_DIR").expect("cargo sets it");
    let mut text = String::new();
    for (list, folder) in [("OBJECTIVES", "objectives"), ("RECIPES", "recipes")] {
        let path = Path::new(&root).join("../stdlib").join(folder);
        println!("cargo:rerun-if-changed={}", path.display());
        let mut names: Vec<String> = std::fs::read_dir(&path)
            .expect("a readable folder of the library")
            .map(|f| f.expect("a readable folder").file_name())
            .filter_map(|f| f.to_str()?.strip_suffix(".rl").map(str::to_owned))
            .collect();
        names.sort();
        let place = format!("stdlib/{folder}");
        let _ =
            writeln!(text, "/// Name, source name and text of every file of `{place}`, by name.");
        let _ = writeln!(text, "pub const {list}: &[(&str, &str, &str)] = &[");
        for name in names {
            let file = path.join(format!("{name}.rl"));
            let _ = writeln!(
                text,
                "    ({name:?}, \"{place}/{name}.rl\", include_str!({:?})),",
                file.display().to_string()
            );
        }
        let _ = writeln!(text, "];");
    }
    std::fs::write(Path::new(&out).join("stdlib.rs"), text).expect("OUT_DIR is writable");
}
