//! Programs damaged token by token, and what must hold of the compiler's answer to any text.

use std::time::{Duration, Instant};

use rlc_cli::report::{Look, as_json, render};
use rlc_compiler::diagnostic::Diagnostic;
use rlc_compiler::source::Sources;
use rlc_compiler::specialize::{Settings, specialize};

use crate::batches::Random;
use crate::check_text;

/// Longer than any check of a page of text may take, on a busy machine and without optimisation.
const LIMIT: Duration = Duration::from_secs(5);

/// Words, numbers, strings, signs, comments, and line ends with the indentation that follows.
pub fn tokens(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let while_ = |f: &dyn Fn(char) -> bool| rest.find(|c| !f(c)).unwrap_or(rest.len());
        let len = match first {
            '\n' => 1 + rest[1..].find(|c| c != ' ').unwrap_or(rest.len() - 1),
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '"' => rest[1..].find(['"', '\n']).map_or(rest.len(), |i| i + 2),
            c if c.is_alphanumeric() || c == '_' => {
                while_(&|c| c.is_alphanumeric() || c == '_' || c == '.')
            }
            c if c.is_whitespace() => while_(&|c| c.is_whitespace() && c != '\n'),
            _ => {
                let two = ["==", "!=", "<=", ">=", "|>", "//", ".."]
                    .iter()
                    .find(|t| rest.starts_with(**t));
                two.map_or(first.len_utf8(), |t| t.len())
            }
        };
        let (token, next) = rest.split_at(len);
        out.push(token);
        rest = next;
    }
    out
}

/// A text with one to four tokens gone, doubled, exchanged or replaced by another of the corpus.
pub fn mutate(r: &mut Random, text: &str, corpus: &[&str]) -> String {
    let mut all = tokens(text);
    for _ in 0..=r.below(4) {
        // Blanks and comments are no places to damage.
        let places: Vec<usize> = (0..all.len())
            .filter(|i| !all[*i].starts_with([' ', '#']) && !all[*i].is_empty())
            .collect();
        if places.is_empty() {
            break;
        }
        let at = places[r.below(places.len())];
        match r.below(5) {
            0 => drop(all.remove(at)),
            1 => all.insert(at, all[at]),
            2 => all.swap(at, places[r.below(places.len())]),
            3 => all[at] = corpus[r.below(corpus.len())],
            // A stretch is put elsewhere: a clause in another call, a statement in another order.
            _ => {
                let to = (at + 1 + r.below(12)).min(all.len());
                let stretch: Vec<&str> = all[at..to].to_vec();
                let place = places[r.below(places.len())];
                all.splice(place..place, stretch);
            }
        }
    }
    all.concat()
}

/// Reads, links, checks and specialises a text, and looks at everything that was said. What is
/// wrong, if anything; a panic is the caller's to catch.
pub fn survives(text: &str) -> Result<(), String> {
    let start = Instant::now();
    let (checked, found, sources) = check_text("mutant.rl", text);
    for diagnostic in &found {
        whole(diagnostic, &sources).map_err(|why| format!("{why}\n{diagnostic:#?}"))?;
    }
    if let Some(checked) = checked {
        checked.graph.verify().map_err(|why| format!("checked: {why}"))?;
        if let Ok(specialized) = specialize(&checked, &Settings::default()) {
            let graph = &specialized.program.graph;
            graph.verify().map_err(|why| format!("specialised: {why}"))?;
        }
    } else if found.is_empty() {
        return Err("refused without a word".to_owned());
    }
    if start.elapsed() > LIMIT {
        return Err(format!("took {:?}", start.elapsed()));
    }
    Ok(())
}

/// Whether a finding says what it must, and can be shown.
fn whole(diagnostic: &Diagnostic, sources: &Sources) -> Result<(), String> {
    let Diagnostic { code, message, labels, help, .. } = diagnostic;
    if code.is_empty() || message.is_empty() || labels.is_empty() || help.is_empty() {
        return Err("a part is missing".to_owned());
    }
    if message.contains('\n') || message.ends_with(['.', '!']) {
        return Err("the title is no title".to_owned());
    }
    for label in labels {
        let text = &sources.get(label.span.file).text;
        let (start, end) = (label.span.start as usize, label.span.end as usize);
        let written = text.trim_start_matches('\u{feff}').lines().any(|l| {
            let l = l.trim();
            !l.is_empty() && !l.starts_with('#')
        });
        // What is missing from the file as a whole stands at its beginning.
        let nowhere = start == end && written;
        if label.text.is_empty() || text.get(start..end).is_none() || nowhere {
            return Err("a label points nowhere or says nothing".to_owned());
        }
    }
    let report = render(diagnostic, sources, Look { color: false, width: Some(80) });
    if !report.contains(code) || as_json(diagnostic, sources).is_null() {
        return Err("the report does not show it".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_the_text() {
        let text = "x = f(a.b, 1e-3 @ token)  # é\n  \"p\" |> g\n\n";
        assert_eq!(tokens(text).concat(), text);
        assert!(tokens(text).contains(&"\n  "));
        assert_eq!(tokens("\"open").concat(), "\"open");
    }
}
