//! Writes the scheduled nodes as loops: slots for what crosses loops, then each loop's code.

mod row;
mod sweep;

use std::collections::HashMap;

use super::nodes::{NodeId, Nodes, Task};
use super::normal::Normal;
use super::schedule::{Schedule, Step};
use super::sweeps::{self, Stages};
use crate::hir::{ColumnId, E, Expr, ParamId, ReduceOp};
use crate::level::{BATCH, Level, VOCAB};
use crate::loops::{self, Item, Loop, Op, Output, Plan, Slot, SlotId, SlotKind, V};
use crate::program::{Phase, Program};

pub(super) fn lower(
    program: &Program,
    normal: &Normal,
    nodes: &Nodes,
    schedule: &Schedule,
) -> Plan {
    let mut slots =
        Slots { normal, list: Vec::new(), columns: HashMap::new(), params: HashMap::new() };
    let places = places(normal, nodes, schedule, &mut slots);
    let mut plan = Plan {
        levels: normal.graph.level_table.clone(),
        piece: program.piece,
        slots: Vec::new(),
        recorded: Vec::new(),
        live: Vec::new(),
        after: Vec::new(),
        outputs: Vec::new(),
    };
    for step in &schedule.steps {
        let list = match step.phase {
            Phase::Recorded => &mut plan.recorded,
            Phase::Live => &mut plan.live,
            Phase::After => &mut plan.after,
        };
        let name = format!("{}_{}", phase_name(step.phase), list.len());
        let code = Code::new(normal, nodes, &places, &mut slots, step);
        list.push(code.step(name, step));
    }
    for (name, expr) in program.outputs() {
        let slot = normal.map[expr.index()].and_then(|e| {
            if normal.graph.level(e) == VOCAB {
                let column = program
                    .grads
                    .iter()
                    .find(|g| g.1 == Some(expr) && name == grad_name(program, g.0));
                return column.and_then(|c| places.gradients.get(&c.0).copied());
            }
            match normal.graph.expr(e) {
                Expr::Column(c) => Some(slots.column(c)),
                Expr::Const(_)
                | Expr::Param(_)
                | Expr::Choose(..)
                | Expr::Unary(..)
                | Expr::Binary(..)
                | Expr::Select(..)
                | Expr::Broadcast(_)
                | Expr::Reduce(..)
                | Expr::Scan { .. }
                | Expr::Shift { .. }
                | Expr::Rank { .. }
                | Expr::Scatter { .. }
                | Expr::Gather { .. }
                | Expr::Find { .. }
                | Expr::Prefix(..)
                | Expr::Side(_)
                | Expr::Row
                | Expr::Nth(..)
                | Expr::Spread { .. }
                | Expr::At(..)
                | Expr::VocabIndex
                | Expr::Detach(_) => nodes.of.get(&e).and_then(|n| places.values.get(n)).copied(),
            }
        });
        if let Some(slot) = slot {
            plan.outputs.push(Output { name, expr, slot });
        }
    }
    plan.slots = slots.list;
    add_parents(&mut plan);
    plan
}

fn grad_name(program: &Program, column: ColumnId) -> String {
    format!("grad/{}", program.graph.columns[column.0 as usize].name)
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Recorded => "recorded",
        Phase::Live => "live",
        Phase::After => "after",
    }
}

/// Adds the maps to coarser levels that loops use.
fn add_parents(plan: &mut Plan) {
    let mut wanted: Vec<(Level, Level)> = Vec::new();
    for l in plan.loops() {
        for coarse in l.scopes(plan) {
            if !wanted.contains(&(coarse, l.level)) {
                wanted.push((coarse, l.level));
            }
        }
    }
    for (coarse, fine) in wanted {
        plan.slots.push(Slot {
            name: format!("{} row", plan.levels.name(coarse)),
            level: fine,
            kind: SlotKind::Parents(coarse),
        });
    }
}

/// The slots, made when first needed.
struct Slots<'a> {
    normal: &'a Normal,
    list: Vec<Slot>,
    columns: HashMap<ColumnId, SlotId>,
    params: HashMap<ParamId, SlotId>,
}

impl Slots<'_> {
    fn add(&mut self, name: String, level: Level, kind: SlotKind) -> SlotId {
        self.list.push(Slot { name, level, kind });
        SlotId((self.list.len() - 1) as u16)
    }

    fn column(&mut self, column: ColumnId) -> SlotId {
        if let Some(&slot) = self.columns.get(&column) {
            return slot;
        }
        let info = &self.normal.graph.columns[column.0 as usize];
        let kind =
            if info.level == VOCAB { SlotKind::Entries(column) } else { SlotKind::Column(column) };
        let slot = self.add(info.name.clone(), info.level, kind);
        self.columns.insert(column, slot);
        slot
    }

    fn param(&mut self, param: ParamId) -> SlotId {
        if let Some(&slot) = self.params.get(&param) {
            return slot;
        }
        let name = self.normal.graph.params[param.0 as usize].name.clone();
        let slot = self.add(name, BATCH, SlotKind::Param(param));
        self.params.insert(param, slot);
        slot
    }
}

/// The user's name of an expression with its number, `ratio_3`; `v3` without one.
fn label(normal: &Normal, e: E) -> String {
    match normal.graph.name(e) {
        Some(name) => format!("{name}_{}", e.0),
        None => format!("v{}", e.0),
    }
}

/// Where nodes leave what others read.
#[derive(Default)]
struct Places {
    /// Slots of values that cross loops, and of folds.
    values: HashMap<NodeId, SlotId>,
    /// The second slot of a log-sum-exp.
    scales: HashMap<NodeId, SlotId>,
    gradients: HashMap<ColumnId, SlotId>,
}

fn places(normal: &Normal, nodes: &Nodes, schedule: &Schedule, slots: &mut Slots) -> Places {
    let mut crosses: Vec<bool> = nodes.list.iter().map(|n| n.output).collect();
    for (n, node) in nodes.list.iter().enumerate() {
        for &o in &node.needs {
            crosses[o] |= schedule.at[o] != schedule.at[n];
        }
    }
    let mut out = Places::default();
    for (n, node) in nodes.list.iter().enumerate() {
        match node.task {
            Task::Value(e) | Task::Rank(e) => {
                if crosses[n] {
                    let slot = slots.add(label(normal, e), node.level, SlotKind::Stored);
                    out.values.insert(n, slot);
                }
            }
            Task::Fold(e) => {
                let level = normal.graph.level(e);
                let op = match normal.graph.expr(e) {
                    Expr::Reduce(op, ..) => op,
                    _ => ReduceOp::Sum,
                };
                let name = label(normal, e);
                if op == ReduceOp::LogSumExp {
                    let most = SlotKind::Folded(f64::NEG_INFINITY);
                    out.values.insert(n, slots.add(format!("{name}.max"), level, most));
                    let scale = SlotKind::Folded(0.0);
                    out.scales.insert(n, slots.add(format!("{name}.sum"), level, scale));
                } else {
                    let kind = SlotKind::Folded(op.identity());
                    out.values.insert(n, slots.add(name, level, kind));
                }
            }
            Task::Gradient(column, _) => {
                let name = normal.graph.columns[column.0 as usize].name.clone();
                let slot = slots.add(name, VOCAB, SlotKind::Gradient(column));
                out.gradients.insert(column, slot);
            }
        }
    }
    out
}

/// The code of one loop while it is written.
struct Code<'a, 's> {
    normal: &'a Normal,
    nodes: &'a Nodes,
    places: &'a Places,
    slots: &'s mut Slots<'a>,
    level: Level,
    stages: Stages,
    head: Vec<(V, Op)>,
    body: Vec<Item>,
    names: Vec<String>,
    /// Values of the row, by expression.
    known: HashMap<E, V>,
    /// Numbers, by their bits.
    constants: HashMap<u64, V>,
    /// Vocab-level expressions at one entry, by the entry's number.
    entries: HashMap<(E, V), V>,
}

impl<'a, 's> Code<'a, 's> {
    fn new(
        normal: &'a Normal,
        nodes: &'a Nodes,
        places: &'a Places,
        slots: &'s mut Slots<'a>,
        step: &Step,
    ) -> Self {
        Code {
            normal,
            nodes,
            places,
            slots,
            level: step.level,
            stages: sweeps::stages(normal, nodes, &step.nodes),
            head: Vec::new(),
            body: Vec::new(),
            names: Vec::new(),
            known: HashMap::new(),
            constants: HashMap::new(),
            entries: HashMap::new(),
        }
    }

    fn step(mut self, name: String, step: &Step) -> loops::Step {
        if let [only] = step.nodes[..]
            && let Task::Rank(e) = self.nodes.list[only].task
            && let Expr::Rank { x, filter, scope, within: None } = self.normal.graph.expr(e)
        {
            return loops::Step::Rank(loops::Rank {
                level: step.level,
                x: self.stored(x),
                filter: filter.map(|f| self.stored(f)),
                scope,
                into: self.places.values.get(&only).copied().unwrap_or(SlotId(0)),
            });
        }
        for stage in 0..=self.stages.last {
            let here = |n: &&NodeId| self.stages.of.get(*n) == Some(&stage);
            let inside: Vec<NodeId> = step.nodes.iter().filter(here).copied().collect();
            if stage > 0 {
                self.sweep(&inside);
            }
            for &n in &inside {
                self.node(n);
            }
        }
        loops::Step::Loop(Loop {
            name: format!("{name}_{}", self.normal.graph.level_table.name(step.level)),
            level: step.level,
            direction: step.direction,
            head: self.head,
            body: self.body,
            names: self.names,
        })
    }

    /// The slot in which an operand of a rank lies.
    fn stored(&mut self, e: E) -> SlotId {
        if let Expr::Column(c) = self.normal.graph.expr(e) {
            return self.slots.column(c);
        }
        self.slot_of(e)
    }

    /// The slot of a value that another loop computes; nodes give every such value one.
    fn slot_of(&self, e: E) -> SlotId {
        let slot = self.nodes.of.get(&e).and_then(|n| self.places.values.get(n));
        slot.copied().unwrap_or(SlotId(u16::MAX))
    }

    fn name(&mut self, name: String) -> V {
        self.names.push(name);
        V((self.names.len() - 1) as u32)
    }

    fn constant(&mut self, value: f64) -> V {
        if let Some(&v) = self.constants.get(&value.to_bits()) {
            return v;
        }
        let v = self.name(format!("{value:?}"));
        self.head.push((v, Op::Const(value)));
        self.constants.insert(value.to_bits(), v);
        v
    }

    fn define(&mut self, name: String, op: Op) -> V {
        let v = self.name(name);
        self.body.push(Item::Let(v, op));
        v
    }
}
