//! Plans: how many loops and sweeps a program takes, and what a plan may never do.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use rlc_compiler::fuse::fuse;
use rlc_compiler::level::{BATCH, TOKEN};
use rlc_compiler::link::NoFiles;
use rlc_compiler::loops::{EntryFold, Item, Loop, Op, Plan, SlotKind, Step, V};
use rlc_compiler::program::Phase;
use rlc_compiler::source::{Source, Sources};
use rlc_compiler::specialize::{Settings, specialize};
use rlc_compiler::stdlib::OBJECTIVES;

fn plan(text: &str) -> Plan {
    let mut sources = Sources::default();
    let root = sources.add(Source { name: "test.rl".into(), text: text.into(), library: false });
    let (checked, diagnostics) = rlc_compiler::check(&mut sources, root, &NoFiles);
    let checked = checked.unwrap_or_else(|| panic!("{:?}", diagnostics[0].message));
    let program = specialize(&checked, &Settings::default()).unwrap().program;
    let plan = fuse(&program).unwrap();
    plan.verify().unwrap();
    plan
}

fn sweeps(of: &Loop) -> usize {
    of.body.iter().filter(|i| matches!(i, Item::Sweep(_))).count()
}

/// The live loops: level, and sweeps where there are some.
fn live(plan: &Plan) -> Vec<String> {
    let loops = plan.steps(Phase::Live).iter().map(|step| match step {
        Step::Loop(l) => match sweeps(l) {
            0 => plan.levels.name(l.level).to_owned(),
            n => format!("{} {n}", plan.levels.name(l.level)),
        },
        Step::Call(_) => "call".to_owned(),
    });
    loops.collect()
}

#[test]
fn token_losses_take_one_loop_and_two_sweeps() {
    for name in ["grpo", "dapo", "bnpo", "dr_grpo", "cispo", "sapo", "calibadv", "sft"] {
        let plan = plan(&format!("extend {name}"));
        assert_eq!(live(&plan)[0], "token 2", "{name}\n{}", plan.print());
        assert_eq!(live(&plan).iter().filter(|l| l.starts_with("token")).count(), 1, "{name}");
    }
}

#[test]
fn rollout_ratios_take_two_token_loops() {
    for name in ["gspo", "gmpo"] {
        let plan = plan(&format!("extend {name}"));
        assert_eq!(live(&plan)[..3], ["token 1", "rollout", "token 1"], "{name}\n{}", plan.print());
    }
}

#[test]
fn entropy_runs_beside_the_log_sum_exp() {
    let plan = plan("loss = seq_mean(token_loss - 0.01 * entropy)");
    assert_eq!(live(&plan), ["token 2", "rollout"], "{}", plan.print());
    let means = plan.loops().flat_map(|l| &l.body).filter_map(|i| match i {
        Item::Sweep(s) => Some(s.folds.iter().map(|f| match f {
            EntryFold::LogSumExp { means, .. } => means.len(),
            EntryFold::Plain { .. } | EntryFold::Nth { .. } => 100,
        })),
        _ => None,
    });
    assert_eq!(means.flatten().sum::<usize>(), 1, "{}", plan.print());
}

/// A full KL needs both log-sum-exps and their difference's mean: one sweep for all three.
#[test]
fn full_kl_takes_two_sweeps() {
    let plan = plan(
        "gap = log_softmax(logits) - log_softmax(ref_logits)\n\
         loss = token_mean(sum(softmax(logits) * gap per token))",
    );
    assert_eq!(live(&plan)[0], "token 2", "{}", plan.print());
}

/// Nothing is read per token that could be read per rollout, and no token value is stored that
/// one loop alone needs.
#[test]
fn one_loop_stores_nothing_per_token() {
    let plan = plan("loss = seq_mean(token_loss - 0.01 * entropy)");
    let stored = plan.slots.iter().filter(|s| s.level == TOKEN && s.kind == SlotKind::Stored);
    assert_eq!(stored.count(), 0, "{}", plan.print());
}

/// A reverse and a forward scan cannot share a loop; a log-prob is computed once all the same.
#[test]
fn directions_have_their_own_loops() {
    let plan = plan(
        "loss = token_mean(logp * (rcumsum(old_logp in rollout) + cumsum(old_logp in rollout)))",
    );
    assert_eq!(live(&plan), ["token 2"], "{}", plan.print());
    let recorded = plan.steps(Phase::Recorded).iter().filter(|s| match s {
        Step::Loop(l) => l.body.iter().any(|i| matches!(i, Item::Scan { .. })),
        Step::Call(_) => false,
    });
    assert_eq!(recorded.count(), 2, "{}", plan.print());
}

#[test]
fn names_are_the_users() {
    let text = plan("").print();
    for name in ["ratio_", "advantage_", "logp_", "token_loss_", "clip_low"] {
        assert!(text.contains(name), "{name}\n{text}");
    }
}

#[test]
fn library_plans_verify() {
    for (_, _, text) in OBJECTIVES {
        plan(text);
    }
}

fn live_token(plan: &mut Plan) -> &mut Loop {
    let found = plan.live.iter_mut().find_map(|s| match s {
        Step::Loop(l) if l.level == TOKEN => Some(l),
        Step::Loop(_) | Step::Call(_) => None,
    });
    found.unwrap()
}

/// Each fault breaks one invariant, and the verifier names it.
#[test]
fn verifier_finds_faults() {
    type Fault = fn(&mut Plan);
    let faults: &[(&str, Fault)] = &[
        ("used where it is not defined", |p| {
            live_token(p).body.remove(0);
        }),
        ("is defined twice", |p| {
            let l = live_token(p);
            let first = l.body[0].clone();
            l.body.insert(1, first);
        }),
        ("is written twice", |p| {
            let l = live_token(p);
            let fold = l.body.iter().find(|i| matches!(i, Item::Fold { .. })).unwrap().clone();
            l.body.push(fold);
        }),
        ("is read but never written", |p| {
            live_token(p).body.retain(|i| !matches!(i, Item::Fold { .. }));
        }),
        ("used where it is not defined", |p| {
            // A value of a sweep, kept per token.
            let slot = p.slots.len() as u16;
            p.slots.push(rlc_compiler::loops::Slot {
                name: "leak".into(),
                level: TOKEN,
                kind: SlotKind::Stored,
            });
            let l = live_token(p);
            let inner = l.body.iter().find_map(|i| match i {
                Item::Sweep(s) => s.body.first().map(|b| b.0),
                _ => None,
            });
            l.body.push(Item::Store(rlc_compiler::loops::SlotId(slot), inner.unwrap()));
        }),
        ("entry number outside a sweep", |p| {
            let l = live_token(p);
            l.names.push("n".into());
            l.body.push(Item::Let(V(l.names.len() as u32 - 1), Op::EntryIndex));
        }),
        ("is complete only after the last piece", |p| {
            // The sum over the batch, read in the loop over rollouts that follows.
            let slots: Vec<_> = live_token(p)
                .body
                .iter()
                .filter_map(|i| match i {
                    Item::Fold { into, .. } => Some(*into),
                    _ => None,
                })
                .collect();
            let batch = slots.into_iter().find(|s| p.slot(*s).level.0 == 0).unwrap();
            let Some(Step::Loop(last)) = p.live.last_mut() else { panic!("no loop") };
            last.names.push("early".into());
            last.head.push((V(last.names.len() as u32 - 1), Op::Whole(batch)));
        }),
        ("is read before it is complete", |p| {
            // A fold, read by the loop that folds it.
            let l = live_token(p);
            let into = l.body.iter().find_map(|i| match i {
                Item::Fold { into, .. } => Some(*into),
                _ => None,
            });
            l.names.push("early".into());
            l.body.push(Item::Let(V(l.names.len() as u32 - 1), Op::Parent(into.unwrap())));
        }),
        ("is read but never written", |p| {
            let Some(Step::Loop(last)) = p.live.pop() else { panic!("no loop") };
            p.live.insert(0, Step::Loop(last));
        }),
    ];
    for (i, (why, fault)) in faults.iter().enumerate() {
        let mut plan = plan("");
        fault(&mut plan);
        let found = plan.verify().expect_err(why);
        assert!(found.contains(why), "fault {i}: {found} instead of {why}");
    }
}

/// What runs along elements, and what goes by number.
#[test]
fn verifier_finds_faults_of_elements() {
    type Fault = fn(&mut Plan);
    let text = "key odd = (rollout, position % 2)\n\
        loss = seq_mean(-logp * cumsum(logp in odd)) + mean(mean(logp per odd))";
    let faults: &[(&str, Fault)] = &[
        ("is read before it is complete", |p| {
            // Sums of elements, looked up by the loop that folds them.
            let numbered = |i: &Item| match i {
                Item::Fold { into, index: Some((v, scope)), .. } => Some((*into, *v, *scope)),
                _ => None,
            };
            let mut loops = p.live.iter_mut().filter_map(|s| match s {
                Step::Loop(l) => Some(l),
                Step::Call(_) => None,
            });
            let l = loops.find(|l| l.body.iter().any(|i| numbered(i).is_some())).unwrap();
            let (into, index, scope) = l.body.iter().find_map(numbered).unwrap();
            l.names.push("early".into());
            let early = V(l.names.len() as u32 - 1);
            l.body.push(Item::Let(early, Op::Indexed(into, index, scope)));
        }),
        ("does not carry 1 numbers", |p| {
            for slot in &mut p.slots {
                if slot.kind == SlotKind::Carried(1) {
                    slot.kind = SlotKind::Stored;
                }
            }
        }),
        ("a piece is less than a batch", |p| {
            for step in &mut p.live {
                let Step::Loop(l) = step else { continue };
                for item in &mut l.body {
                    if let Item::Scan { scope, .. } = item {
                        *scope = BATCH;
                    }
                }
            }
        }),
        ("is read but never written", |p| {
            p.recorded.retain(|s| matches!(s, Step::Loop(_)));
        }),
    ];
    for (i, (why, fault)) in faults.iter().enumerate() {
        let mut plan = plan(text);
        assert_eq!(plan.verify(), Ok(()));
        fault(&mut plan);
        let found = plan.verify().expect_err(why);
        assert!(found.contains(why), "fault {i}: {found} instead of {why}");
    }
}

#[test]
fn gradients_take_the_place_of_what_is_read_no_more() {
    let logits = |plan: &Plan| {
        let of = |kind| match kind {
            SlotKind::Gradient(column) => Some(column),
            _ => None,
        };
        plan.slots.iter().find_map(|s| of(s.kind)).unwrap()
    };
    let in_place = |text: &str| {
        let plan = plan(text);
        plan.in_place(logits(&plan))
    };
    for (name, _, text) in OBJECTIVES {
        assert!(in_place(text), "{name}");
    }
    for text in [
        "loss = token_mean(-logp - 0.1 * entropy)",
        // Read by the sweep that writes.
        "g = log_softmax(logits) - log_softmax(ref_logits)\n\
         loss = token_mean(sum(softmax(logits) * g per token))",
        "loss = token_mean(-logp)\nmetric most = max(max(logits per token))",
    ] {
        assert!(in_place(text), "{text}");
    }
    // What is detached is read when the loss, and with it the gradient, has been computed over all tokens.
    let late = "far = sum(abs(logits - detach(mean(logp))) per token)\n\
                loss = token_mean(-logp)\nmetric far = token_mean(far)";
    assert!(!in_place(late), "{}", plan(late).print());
    let mut twice = plan("loss = token_mean(-logp)");
    let column = logits(&twice);
    assert!(twice.in_place(column));
    let again = twice.live[0].clone();
    twice.after.push(again);
    assert!(!twice.in_place(column), "a gradient that is written twice");
    let mut chosen = plan("loss = token_mean(-logp)");
    let Some(Step::Loop(of)) = chosen.live.first_mut() else { panic!("a call") };
    let read = of.body.iter().find(|i| matches!(i, Item::Let(_, Op::EntryAt(..)))).unwrap().clone();
    of.body.push(read);
    assert!(!chosen.in_place(column), "an entry that is read late");
    let none = plan("extend sft");
    assert!(!none.in_place(rlc_compiler::hir::ColumnId(999)), "no gradient");
}
