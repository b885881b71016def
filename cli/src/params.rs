//! `--set name=value`: values of the program's params, checked against their types and ranges.

use rlc_compiler::diagnostic::nearest;
use rlc_compiler::hir::{Graph, ParamInfo};
use rlc_compiler::op::{INT_END, Ty};

use crate::failure::{Failure, Outcome};

/// One value per param of `graph`: its default, or what `sets` say. The last `--set` of a name
/// counts; a family's name sets all its members.
pub fn values(graph: &Graph, sets: &[String]) -> Outcome<Vec<f64>> {
    let mut values: Vec<f64> = graph.params.iter().map(|p| p.value).collect();
    for set in sets {
        let Some((name, text)) = set.split_once('=') else {
            return Err(Failure::input(
                format!("`--set {set}` has no `=`"),
                "write `--set name=value`, such as `--set beta=0.04`",
            ));
        };
        let (name, text) = (name.trim(), text.trim());
        let family = format!("{name}.");
        let mut found = false;
        for (param, value) in graph.params.iter().zip(&mut values) {
            if param.name == name || param.name.starts_with(&family) {
                *value = parse(param, text)?;
                found = true;
            }
        }
        if !found {
            return Err(no_such_param(graph, name));
        }
    }
    Ok(values)
}

fn no_such_param(graph: &Graph, name: &str) -> Failure {
    let names = || graph.params.iter().map(|p| p.name.as_str());
    let help = match nearest(name, names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if graph.params.is_empty() => "it has no params at all".into(),
        None => format!("it has {}", names().collect::<Vec<_>>().join(", ")),
    };
    Failure::input(format!("the program has no param `{name}`"), help)
}

fn parse(param: &ParamInfo, text: &str) -> Outcome<f64> {
    let name = &param.name;
    let value = match (param.ty, text) {
        (Ty::Bool, "true" | "1") => Some(1.0),
        (Ty::Bool, "false" | "0") => Some(0.0),
        (Ty::Bool, _) => None,
        (Ty::Int, _) => {
            let int = text.parse::<i64>().ok().filter(|i| i.unsigned_abs() <= INT_END as u64);
            int.map(|i| i as f64)
        }
        // As in programs, what is infinite says so: `1e999` is a slip.
        (Ty::Real, "inf") => Some(f64::INFINITY),
        (Ty::Real, "-inf") => Some(f64::NEG_INFINITY),
        (Ty::Real, _) => text.parse::<f64>().ok().filter(|v| v.is_finite()),
    };
    let Some(value) = value else {
        let (kind, help) = match param.ty {
            Ty::Bool => ("a truth value", format!("write `--set {name}=true` or `{name}=false`")),
            Ty::Int => (
                "an int",
                format!(
                    "its default is one; `param {name} = {:.1}` would make it a real",
                    param.value
                ),
            ),
            Ty::Real => ("a number", format!("its default is {}", param.value)),
        };
        return Err(Failure::input(format!("param `{name}` is {kind}, not `{text}`"), help));
    };
    if let Some((low, high)) = param.range
        && !(low..=high).contains(&value)
    {
        return Err(Failure::input(
            format!("param `{name}` is {value}, outside its range"),
            format!("it goes from {low} to {high}, both included; its default is {}", param.value),
        ));
    }
    Ok(value)
}
