//! The differences for a reader.

use super::compare::{Change, Difference};
use super::side::{Meaning, Side};
use crate::output::Output;
use crate::recipes::wrap;
use crate::statement::KINDS;

/// All of it.
pub fn text(a: &Side, b: &Side, difference: &Difference<'_>, output: &Output) -> String {
    let mut text = format!("{}\n", output.bold(&format!("{} -> {}", a.name, b.name)));
    for side in [a, b] {
        if !side.extends.is_empty() {
            let chain = side.extends.join(", which extends ");
            text.push_str(&format!("{} extends {chain}\n", side.name));
        }
    }
    if difference.nothing() {
        text.push_str("no difference: after linking they are the same program\n");
        return text;
    }
    for kind in KINDS {
        let own: Vec<&Change<'_>> =
            difference.changes.iter().filter(|c| c.kind() == kind).collect();
        if !own.is_empty() {
            text.push_str(&format!("\n{}\n", output.bold(&capital(kind))));
            changes(&own, output, &mut text);
        }
    }
    if !difference.follows.is_empty() {
        text.push_str(&format!("\n{}\n", output.bold("Reads as before, and changes with these")));
        for line in wrap(&difference.follows.join(", "), 76) {
            text.push_str(&format!("  {line}\n"));
        }
    }
    let (gone, new) = &difference.columns;
    if !gone.is_empty() || !new.is_empty() {
        text.push_str(&format!("\n{}\n", output.bold("Columns of a batch")));
        for (sign, columns) in [("-", gone), ("+", new)] {
            for column in columns {
                text.push_str(&format!("  {sign} {column}\n"));
            }
        }
    }
    if difference.coupling {
        text.push_str(&format!("\n{}\n", output.bold("Coupling")));
        text.push_str(&format!("  {} -> {}\n", a.coupling, b.coupling));
        if let Some(cause) = &b.cause {
            text.push_str(&format!("  cause: {cause}\n"));
        }
    }
    text.push_str(&same(b, difference));
    text
}

fn changes(own: &[&Change<'_>], output: &Output, text: &mut String) {
    let values = |c: &Change<'_>| match (c.a, c.b) {
        (Some(a), Some(b)) if a.kind == "params" && b.kind == "params" => {
            let value = |m: &Meaning| m.text.split_once('=').map(|(_, v)| v.trim().to_owned());
            value(a).zip(value(b))
        }
        _ => None,
    };
    let wide = |m: &Meaning| m.text.lines().map(|l| l.chars().count()).max().unwrap_or(0);
    let meanings = own.iter().flat_map(|c| c.a.into_iter().chain(c.b));
    let width = meanings.map(wide).max().unwrap_or(0).min(76);
    for change in own {
        if let Some((was, is)) = values(change) {
            text.push_str(&format!("  {}  {was} -> {is}\n", change.name));
            continue;
        }
        for (sign, meaning) in [("-", change.a), ("+", change.b)] {
            let Some(meaning) = meaning else { continue };
            for (i, line) in meaning.text.lines().enumerate() {
                if i == 0 {
                    let file = output.dim(&meaning.file);
                    text.push_str(&format!("  {sign} {line:width$}  {file}\n"));
                } else {
                    text.push_str(&format!("  {sign} {line}\n"));
                }
            }
            if let Some(base) = &meaning.base {
                for line in wrap(base, 72) {
                    text.push_str(&format!("        {}\n", output.dim(&line)));
                }
            }
        }
    }
}

/// What is the same in both.
fn same(b: &Side, difference: &Difference<'_>) -> String {
    let mut parts: Vec<String> = ["filters", "goal", "metrics"]
        .into_iter()
        .filter(|k| !difference.changes.iter().any(|c| c.kind() == *k))
        .map(str::to_owned)
        .collect();
    if difference.columns.0.is_empty() && difference.columns.1.is_empty() {
        parts.push("columns".into());
    }
    if !difference.coupling {
        parts.push(format!("coupling ({})", b.coupling));
    }
    if parts.is_empty() { String::new() } else { format!("\nThe same: {}\n", parts.join(", ")) }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
