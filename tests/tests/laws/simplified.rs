//! Simplification keeps the meaning: a program put together without it, and the same after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rlc_compiler::check::Checked;
use rlc_compiler::columns;
use rlc_compiler::hir::{E, Expr, Graph, Prefer};
use rlc_compiler::interp::{Run, Vocab, VocabRows};
use rlc_compiler::level::VOCAB;
use rlc_compiler::program::Program;
use rlc_compiler::shape::Shape;
use rlc_compiler::simplify::rebuild;
use rlc_compiler::table::Table;
use rlc_compiler::{autodiff, stage};
use rlc_tests::compare::differ;

/// Outputs by name: the loss, gradients, metrics.
type Numbers = BTreeMap<String, Vec<f64>>;

/// What is wrong, if anything.
pub fn check(checked: &Checked, specialized: &Arc<Program>, table: &Table) -> Result<(), String> {
    let before = unsimplified(checked, table);
    before.graph.verify()?;
    let after = simplified(&before);
    after.graph.verify()?;
    let before = numbers(&Arc::new(before), table)?;
    let after = numbers(&Arc::new(after), table)?;
    for (name, x) in &before {
        let y = &after[name];
        let same = |(x, y): (&f64, &f64)| x == y || (x.is_nan() && y.is_nan());
        if x.len() != y.len() || !x.iter().zip(y).all(same) {
            return Err(format!("{name} is {x:?}, simplified {y:?}"));
        }
    }
    // Differentiated after simplification, sums of adjoints may have another order.
    for (name, x) in numbers(specialized, table)? {
        let Some(y) = before.get(&name) else { return Err(format!("no {name} without")) };
        if let Some(how) = differ(&x, y, 1e-9, 1e-3) {
            return Err(format!("{name}, simplified before it was differentiated: {how}"));
        }
    }
    Ok(())
}

/// The program as it was written, with the columns that the batch has.
fn unsimplified(checked: &Checked, table: &Table) -> Program {
    let old = &checked.graph;
    let mut graph = Graph::like(old);
    let mut map: Vec<E> = Vec::new();
    for e in old.all() {
        let chosen = match old.expr(e) {
            Expr::Choose(column, x, Prefer::ComputedWith(with)) => {
                Some((table.get(&old.column_path(with)).is_none(), column, x))
            }
            Expr::Choose(column, x, Prefer::Column) => {
                Some((table.get(&old.column_path(column)).is_some(), column, x))
            }
            _ => None,
        };
        map.push(match chosen {
            Some((true, column, _)) => graph.column(column),
            Some((false, _, x)) => graph.cast(map[x.index()], old.ty(e)),
            None => {
                let expr = old.map_operands(e, |o| map[o.index()]);
                graph.add(expr, old.level(e), old.ty(e))
            }
        });
    }
    let loss = map[checked.loss.index()];
    let metrics = checked.metrics.iter().map(|m| (m.name.clone(), map[m.value.index()])).collect();
    let grads = autodiff::differentiate(&mut graph, loss);
    staged(graph, loss, grads, metrics)
}

fn staged(
    graph: Graph,
    loss: E,
    grads: Vec<(rlc_compiler::hir::ColumnId, Option<E>)>,
    metrics: Vec<(String, E)>,
) -> Program {
    let reads = stage::Reads::of(&graph);
    let (coupling, cause) = stage::coupling(&graph, &reads, loss);
    let piece = stage::piece_level(coupling);
    let phases = stage::phases(&graph, &reads, piece);
    let (values, updates, samples, kept) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    Program {
        graph,
        phases,
        loss,
        grads,
        metrics,
        values,
        updates,
        samples,
        kept,
        coupling,
        cause,
        piece,
    }
}

fn simplified(program: &Program) -> Program {
    let mut roots = vec![program.loss];
    roots.extend(program.grads.iter().filter_map(|g| g.1));
    roots.extend(program.metrics.iter().map(|m| m.1));
    let (graph, roots) = rebuild(&program.graph, &roots);
    let mut roots = roots.into_iter();
    let loss = roots.next().unwrap();
    let grads = program.grads.iter().map(|(c, g)| (*c, g.and_then(|_| roots.next()))).collect();
    let metrics = program.metrics.iter().map(|(n, _)| (n.clone(), roots.next().unwrap())).collect();
    staged(graph, loss, grads, metrics)
}

fn numbers(program: &Arc<Program>, table: &Table) -> Result<Numbers, String> {
    let graph = &program.graph;
    let shape = Shape::new(&graph.level_table, table).map_err(|e| e.to_string())?;
    let state = Table::default();
    let columns =
        columns::load(program, table, &state, &shape, false).map_err(|e| e.to_string())?;
    let mut vocab = Vocab::default();
    for id in columns::needed(program) {
        if graph.columns[id.0 as usize].level == VOCAB
            && let Some(data) = table.get(&graph.column_path(id)).and_then(|a| a.data.floats())
        {
            vocab.insert(id, VocabRows { data, first: 0 });
        }
    }
    let mut run = Run::new(Arc::clone(program), Arc::new(shape), &columns, &[]);
    run.whole(&vocab);
    let mut out = Numbers::new();
    out.insert("loss".to_owned(), run.value(program.loss).to_vec());
    for (name, e) in &program.metrics {
        out.insert(format!("metric/{name}"), run.value(*e).to_vec());
    }
    for (column, _) in &program.grads {
        let name = &graph.columns[column.0 as usize].name;
        out.insert(format!("grad/{name}"), run.grad(*column));
    }
    Ok(out)
}
