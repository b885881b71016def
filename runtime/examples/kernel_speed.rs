//! How fast compiled objectives run on this machine: nanoseconds per logit, one thread.
//!
//!     cargo run --release -p rlc-runtime --example kernel_speed -- [tokens] [vocab] [objective ...]
#![allow(clippy::unwrap_used, reason = "a measurement, not a library")]

use std::time::Instant;

use rlc_compiler::columns;
use rlc_compiler::hir::ColumnId;
use rlc_compiler::interp::{Vocab, VocabRows};
use rlc_compiler::level::{TOKEN, VOCAB};
use rlc_compiler::link::NoFiles;
use rlc_compiler::shape::Shape;
use rlc_compiler::source::{Source, Sources};
use rlc_compiler::specialize::{Settings, specialize};
use rlc_compiler::stdlib;
use rlc_compiler::table::{Data, Floats, Table};
use rlc_runtime::device::Gradient;
use rlc_runtime::device::cpu::Kernel;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let tokens: usize = args.first().map_or(512, |a| a.parse().unwrap());
    let width: usize = args.get(1).map_or(32_000, |a| a.parse().unwrap());
    let mut names: Vec<&str> = args.iter().skip(2).map(String::as_str).collect();
    if names.is_empty() {
        names = vec!["grpo", "gspo", "sft"];
    }
    let (rollouts, groups) = (8, 2);
    let mut table = Table::default();
    table.set("group/size", Data::I64(vec![(rollouts / groups) as i64; groups]));
    table.set("rollout/size", Data::I64(vec![(tokens / rollouts) as i64; rollouts]));
    table.set("rollout/reward", Data::F64((0..rollouts).map(|i| (i % 3) as f64).collect()));
    table.set("token/mask", Data::U8(vec![1; tokens]));
    table.set("token/old_logp", Data::F64(vec![-10.0; tokens]));
    table.set("token/ref_logp", Data::F64(vec![-10.0; tokens]));
    table.set("token/action", Data::I64((0..tokens).map(|t| (t * 37 % width) as i64).collect()));
    let mut state = 1u64;
    let logits: Vec<f32> = (0..tokens * width)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 22) as f32 - 2.0
        })
        .collect();
    let mut out = vec![0.0f32; logits.len()];
    for name in names {
        let begin = Instant::now();
        let mut sources = Sources::default();
        let text = match stdlib::objective(name) {
            Some((_, text)) => text.to_owned(),
            None => std::fs::read_to_string(name).unwrap(),
        };
        let root = sources.add(Source { name: name.into(), text, library: true });
        let (checked, _) = rlc_compiler::check(&mut sources, root, &NoFiles);
        let program = specialize(&checked.unwrap(), &Settings::default()).unwrap().program;
        let front = begin.elapsed();
        let begin = Instant::now();
        let mut kernel = Kernel::new(&program, &[]).unwrap();
        let back = begin.elapsed();
        let mut shape = Shape::new(&program.graph.level_table, &table).unwrap();
        shape.vocab = width;
        let columns = columns::load(&program, &table, &Table::default(), &shape, true).unwrap();
        let given: Vec<(ColumnId, &[f64])> =
            columns::needed(&program).into_iter().map(|c| (c, columns.get(c))).collect();
        let params: Vec<f64> = program.graph.params.iter().map(|p| p.value).collect();
        let mut best = f64::INFINITY;
        let repeat = (200_000_000 / (tokens * width)).clamp(5, 500);
        for _ in 0..repeat {
            let begin = Instant::now();
            let mut run = kernel.start(&shape, &given, &params).unwrap();
            run.recorded(&Vocab::default()).unwrap();
            let pieces = shape.count(program.piece);
            for row in 0..pieces {
                let t = shape.range(program.piece, row..row + 1, TOKEN);
                let range = t.start * width..t.end * width;
                let column = program.grads[0].0;
                assert_eq!(program.graph.columns[column.0 as usize].level, VOCAB);
                let rows = VocabRows { data: Floats::F32(&logits[range.clone()]), first: t.start };
                let vocab = Vocab::from_iter([(column, rows)]);
                let mut gradients = [Gradient { column, data: (&mut out[range]).into() }];
                run.live(row..row + 1, &vocab, &mut gradients).unwrap();
            }
            run.after(&Vocab::default()).unwrap();
            best = best.min(begin.elapsed().as_secs_f64());
            std::hint::black_box(run.value(program.loss));
        }
        println!(
            "{name}: {:.2} ns per logit, {:.1} ms a batch of {tokens} x {width}; front end {front:.1?}, code {back:.1?}, {} loops",
            best * 1e9 / (tokens * width) as f64,
            best * 1e3,
            kernel.plan().loops().count(),
        );
    }
}
