//! The documentation says what is so: every program in it compiles, and every page of `docs/errors`
//! shows exactly the report that its example gets. `RLC_BLESS=1` rewrites the reports.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};

use rlc_cli::explain::PAGES;
use rlc_cli::report::{Look, render};
use rlc_compiler::diagnostic::{Diagnostic, Severity};
use rlc_compiler::link::Loader;
use rlc_compiler::source::{Source, Sources};
use rlc_tests::{files, root, short};

/// A fenced block: its info line, its text, and where the text is in the page.
struct Block {
    info: String,
    text: String,
    start: usize,
    line: usize,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut out = Vec::new();
    let mut open: Option<Block> = None;
    let mut at = 0;
    for (number, line) in page.split_inclusive('\n').enumerate() {
        let end = at + line.len();
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => out.extend(open.take()),
            (Some(info), None) => {
                let info = info.trim().to_owned();
                open = Some(Block { info, text: String::new(), start: end, line: number + 2 });
            }
            (None, Some(block)) => block.text.push_str(line),
            (None, None) => {}
        }
        at = end;
    }
    assert!(open.is_none(), "a block is never closed");
    out
}

/// The `rl file=NAME` blocks of a page.
struct Beside(BTreeMap<String, String>);

impl Beside {
    fn of(blocks: &[Block]) -> Beside {
        let named = blocks
            .iter()
            .filter_map(|b| Some((b.info.strip_prefix("rl file=")?.to_owned(), b.text.clone())));
        let mut all: BTreeMap<String, String> = named.collect();
        if let Some(example) = blocks.iter().find(|b| b.info == "rl error") {
            all.insert("example.rl".to_owned(), example.text.clone());
        }
        Beside(all)
    }
}

impl Loader for Beside {
    fn load(&self, _from: &str, path: &str) -> Result<(String, String), String> {
        let text = self.0.get(path).ok_or("there is no such file or folder")?;
        Ok((path.to_owned(), text.clone()))
    }
}

/// `<<+ 1 x 4097>>` in an example: so many times, on lines of bearable length.
fn expand(text: &str) -> String {
    let Some((before, rest)) = text.split_once("<<") else { return text.to_owned() };
    let (repeat, after) = rest.split_once(">>").unwrap();
    let (what, times) = repeat.rsplit_once(" x ").unwrap();
    let mut out = before.to_owned();
    for i in 0..times.parse::<usize>().unwrap() {
        out.push_str(what);
        if i % 16 == 15 {
            out.push_str("\n  ");
        }
    }
    out + &expand(after)
}

fn check(text: &str, beside: &Beside) -> (Vec<Diagnostic>, Sources) {
    let mut sources = Sources::default();
    let name = "example.rl".to_owned();
    let root = sources.add(Source { name, text: text.to_owned(), library: false });
    let (_, mut found) = rlc_compiler::check(&mut sources, root, beside);
    rlc_cli::check::in_order(&mut found);
    (found, sources)
}

#[test]
fn error_pages_show_what_their_examples_get() {
    let bless = std::env::var_os("RLC_BLESS").is_some();
    let mut faults = Vec::new();
    for path in files("docs/errors", ".md") {
        let code = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let page = std::fs::read_to_string(&path).unwrap();
        let mut fault = |what: String| faults.push(format!("{}: {what}", short(&path)));
        if !page.starts_with(&format!("# {code}: ")) {
            fault(format!("does not begin with `# {code}: `"));
        }
        if let Some(line) = page.lines().find(|l| l.chars().count() > 110) {
            fault(format!("a line of over 110 characters: {line}"));
        }
        let blocks = blocks(&page);
        let beside = Beside::of(&blocks);
        let (Some(example), Some(report)) = (
            blocks.iter().find(|b| b.info.starts_with("rl error")),
            blocks.iter().find(|b| b.info == "text"),
        ) else {
            fault("has no `rl error` block or no `text` block".into());
            continue;
        };
        let text = if example.info.ends_with("expand") {
            expand(&example.text)
        } else {
            example.text.clone()
        };
        let (found, sources) = check(&text, &beside);
        if found.len() != 1 || found[0].code != code {
            let codes: Vec<&str> = found.iter().map(|d| d.code).collect();
            fault(format!("the example gets {codes:?}"));
            continue;
        }
        let long = found[0].help.lines().find(|l| l.chars().count() > 70);
        if let Some(line) = long {
            fault(format!("a help line of over 70 columns: {line}"));
        }
        if found[0].message.chars().count() > 72 {
            fault(format!("a title of over 72 columns: {}", found[0].message));
        }
        let look = Look { color: false, width: Some(80) };
        let rendered = render(&found[0], &sources, look);
        if rendered != report.text {
            if bless {
                let end = report.start + report.text.len();
                let new = format!("{}{rendered}{}", &page[..report.start], &page[end..]);
                std::fs::write(&path, new).unwrap();
            } else {
                fault(format!("the report is now\n{rendered}"));
            }
        }
        for block in blocks.iter().filter(|b| b.info == "rl") {
            let (found, _) = check(&block.text, &beside);
            if let Some(d) = found.iter().find(|d| d.severity == Severity::Error || d.code == code)
            {
                fault(format!("line {}: gets {} {}", block.line, d.code, d.message));
            }
        }
    }
    assert!(faults.is_empty(), "{}\n(RLC_BLESS=1 rewrites reports)", faults.join("\n"));
}

#[test]
fn every_code_has_its_page() {
    let mut codes = BTreeSet::new();
    for path in files("compiler/src", ".rs") {
        let text = std::fs::read_to_string(&path).unwrap();
        for (i, _) in text.match_indices("\"E0") {
            let code = text.get(i + 1..i + 6).unwrap_or("");
            if code[1..].bytes().all(|b| b.is_ascii_digit()) && text[i + 6..].starts_with('"') {
                codes.insert(code.to_owned());
            }
        }
    }
    assert!(codes.len() > 30);
    codes.extend(rlc_compiler::check::LINTS.iter().map(|l| (*l).to_owned()));
    let pages: BTreeSet<String> = files("docs/errors", ".md")
        .iter()
        .map(|p| p.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let embedded: BTreeSet<String> = PAGES.iter().map(|p| p.0.to_owned()).collect();
    let missing: Vec<_> = codes.difference(&pages).collect();
    let stale: Vec<_> = pages.difference(&codes).collect();
    assert!(missing.is_empty(), "codes without a page in docs/errors: {missing:?}");
    assert!(stale.is_empty(), "pages of codes that nothing gives: {stale:?}");
    let lost: Vec<_> = pages.symmetric_difference(&embedded).collect();
    assert!(lost.is_empty(), "not in the list of cli/src/explain/pages.rs: {lost:?}");
}

#[test]
fn programs_in_the_documentation_compile() {
    let mut pages = vec![root().join("README.md")];
    pages.extend(
        files("docs", ".md").into_iter().filter(|p| !p.to_str().unwrap().contains("errors")),
    );
    let mut faults = Vec::new();
    for path in pages {
        let page = std::fs::read_to_string(&path).unwrap();
        let blocks = blocks(&page);
        let beside = Beside::of(&blocks);
        for block in &blocks {
            let (found, _) = check(&block.text, &beside);
            let errors: Vec<&str> = found
                .iter()
                .filter(|d| d.severity == Severity::Error)
                .map(|d| d.message.as_str())
                .collect();
            let wrong = match block.info.as_str() {
                "rl" => !errors.is_empty(),
                "rl error" => errors.is_empty(),
                _ => false,
            };
            if wrong {
                faults.push(format!("{}:{}: {errors:?}", short(&path), block.line));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn links_in_the_documentation_lead_somewhere() {
    let mut pages = vec![root().join("README.md")];
    pages.extend(files("docs", ".md"));
    let mut faults = Vec::new();
    for path in pages {
        let page = std::fs::read_to_string(&path).unwrap();
        for part in page.split("](").skip(1) {
            let target = part.split(')').next().unwrap();
            let file = target.split('#').next().unwrap();
            let elsewhere = file.is_empty() || file.contains("://") || file.contains(' ');
            if !elsewhere && !path.parent().unwrap().join(file).exists() {
                faults.push(format!("{}: {target}", short(&path)));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
