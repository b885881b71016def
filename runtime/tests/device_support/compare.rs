//! Runs a kernel and the interpreter, and compares everything they give.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "a test fails by panicking")]

use std::sync::Arc;

use rlc_compiler::clif::Float;
use rlc_compiler::columns;
use rlc_compiler::hir::{ColumnId, E};
use rlc_compiler::interp::{self, Vocab, VocabRows};
use rlc_compiler::level::{TOKEN, VOCAB};
use rlc_compiler::program::Program;
use rlc_compiler::shape::Shape;
use rlc_compiler::table::Table;
use rlc_runtime::device::Gradient;
use rlc_runtime::device::cpu::{Kernel, ROW_FROM, Width};

/// A kernel of a program, its plan verified.
pub fn kernel(name: &str, program: &Program, floats: &[(ColumnId, Float)]) -> Kernel {
    let plan = rlc_compiler::fuse::fuse(program).unwrap_or_else(|e| panic!("{name}: {e}"));
    plan.verify().unwrap_or_else(|e| panic!("{name}: {e}\n{}\n{}", program.print(), plan.print()));
    Kernel::new(program, floats).unwrap_or_else(|e| panic!("{name}: {e}"))
}

pub fn vocab_of<'t>(program: &Program, table: &'t Table) -> Vocab<'t> {
    let graph = &program.graph;
    columns::needed(program)
        .into_iter()
        .filter(|c| graph.columns[c.0 as usize].level == VOCAB)
        .filter_map(|c| {
            let data = table.get(&graph.column_path(c))?.data.floats()?;
            Some((c, VocabRows { data, first: 0 }))
        })
        .collect()
}

fn close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let size = want.iter().filter(|x| x.is_finite()).fold(1e-3f64, |a, b| a.max(b.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let same = g == w || (g.is_nan() && w.is_nan()) || (g - w).abs() <= tolerance * size;
        assert!(same, "{what}[{i}]: {g} instead of {w}");
    }
}

/// Runs a program on a batch in pieces of `rows` rows and compares everything with the interpreter.
pub fn compare(
    name: &str,
    program: &Arc<Program>,
    kernel: &mut Kernel,
    table: &Table,
    rows: usize,
) {
    compare_within(name, program, kernel, table, rows, 1e-9);
}

/// The same, to a tolerance relative to the largest value. Returns how many times the batch ran.
pub fn compare_within(
    name: &str,
    program: &Arc<Program>,
    kernel: &mut Kernel,
    table: &Table,
    rows: usize,
    tolerance: f64,
) -> u64 {
    let shape = Arc::new(Shape::new(&program.graph.level_table, table).unwrap());
    let columns = columns::load(program, table, &Table::default(), &shape, false).unwrap();
    let vocab = vocab_of(program, table);
    let mut want = interp::Run::new(Arc::clone(program), Arc::clone(&shape), &columns, &[]);
    want.whole(&vocab);

    let given: Vec<(ColumnId, &[f64])> =
        columns::needed(program).into_iter().map(|c| (c, columns.get(c))).collect();
    let params: Vec<f64> = program.graph.params.iter().map(|p| p.value).collect();
    let width = shape.vocab;
    let differentiable: Vec<ColumnId> = program
        .grads
        .iter()
        .filter(|(c, g)| g.is_some() && program.graph.columns[c.0 as usize].level == VOCAB)
        .map(|g| g.0)
        .collect();
    let all = |kernel: &mut Kernel| {
        let mut grads: Vec<Vec<f32>> =
            differentiable.iter().map(|_| vec![f32::NAN; shape.count(VOCAB)]).collect();
        let mut run = kernel.start(&shape, &given, &params).unwrap();
        run.recorded(&vocab).unwrap();
        let total = shape.count(program.piece);
        let mut start = 0;
        while start < total {
            let end = (start + rows).min(total);
            let tokens = shape.range(program.piece, start..end, TOKEN);
            let mut out: Vec<Gradient> = differentiable
                .iter()
                .zip(&mut grads)
                .map(|(c, g)| Gradient {
                    column: *c,
                    data: (&mut g[tokens.start * width..tokens.end * width]).into(),
                })
                .collect();
            run.live(start..end, &vocab, &mut out).unwrap();
            start = end;
        }
        run.after(&vocab).unwrap();
        let outputs = program.outputs().into_iter().filter(|o| program.graph.level(o.1) != VOCAB);
        let outputs: Vec<(String, E, Vec<f64>)> = outputs
            .map(|(output, e)| {
                let got = run.value(e).unwrap_or_else(|| panic!("{name}: no {output}"));
                (output, e, got.to_vec())
            })
            .collect();
        (outputs, grads)
    };
    let mut passes = 0;
    // Short segments go row by row of themselves; here they go by blocks too.
    for short in [1, usize::MAX, 8] {
        kernel.set_short(short);
        let (outputs, grads) = all(kernel);
        passes += 1;
        for (output, e, got) in &outputs {
            close(&format!("{name} {output}"), got, want.value(*e), tolerance);
        }
        for (c, g) in differentiable.iter().zip(&grads) {
            let got: Vec<f64> = g.iter().map(|x| f64::from(*x)).collect();
            close(&format!("{name} grad"), &got, &want.grad(*c), tolerance.max(1e-6));
        }
        // Every width of vector instructions gives the same bits.
        let others = Width::ALL.into_iter().filter(|w| w.available() && *w != Width::widest());
        for other in others {
            kernel.set_width(other);
            let (narrow, narrow_grads) = all(kernel);
            passes += 1;
            if width >= ROW_FROM {
                // Row primitives are f32: the same to rounding.
                for ((output, e, _), (_, _, got)) in outputs.iter().zip(&narrow) {
                    close(&format!("{name} {output} {other:?}"), got, want.value(*e), tolerance);
                }
                for (c, g) in differentiable.iter().zip(&narrow_grads) {
                    let got: Vec<f64> = g.iter().map(|x| f64::from(*x)).collect();
                    close(&format!("{name} grad {other:?}"), &got, &want.grad(*c), tolerance);
                }
                continue;
            }
            let bits = |x: &[f64]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            for ((output, _, a), (_, _, b)) in outputs.iter().zip(&narrow) {
                assert!(bits(a) == bits(b), "{name} {output}: {other:?} gives {b:?} for {a:?}");
            }
            let bits = |x: &[Vec<f32>]| x.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert!(bits(&grads) == bits(&narrow_grads), "{name}: {other:?} gives other gradients");
        }
        kernel.set_width(Width::widest());
    }
    passes
}
