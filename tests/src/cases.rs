//! The cases of `reference/objectives`: a program, a batch and what torch made of it.

use std::path::PathBuf;

use rlc_cli::params;
use rlc_compiler::check::Checked;
use rlc_compiler::table::{Data, Table};
use rlc_runtime::batch;
use rlc_runtime::objective::{Backend, Objective, Outcome};
use serde_json::Value;

use crate::compare::differ;
use crate::{root, try_open};

/// One case.
pub struct Case {
    /// Of its folder.
    pub name: String,
    folder: PathBuf,
    /// What `case.json` says.
    pub json: Value,
    /// The batch.
    pub table: Table,
}

/// Every case, in order.
pub fn cases() -> Vec<Case> {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(root().join("tests/reference/objectives/cases"))
            .unwrap()
            .map(|f| f.unwrap().path())
            .collect();
    folders.sort();
    assert!(folders.len() > 200);
    folders.into_iter().map(Case::read).collect()
}

impl Case {
    fn read(folder: PathBuf) -> Case {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(folder.join("case.json")).unwrap();
        let json = serde_json::from_str(&text).unwrap();
        let table = batch::read(&folder.join("batch.safetensors")).unwrap();
        Case { name, folder, json, table }
    }

    /// What it should come to: `grad/…`, `value/…`, `state/…`.
    pub fn expected(&self) -> Table {
        batch::read(&self.folder.join("expected.safetensors")).unwrap()
    }

    /// Its program, or what is wrong with it.
    pub fn checked(&self) -> Result<Checked, String> {
        match self.json["program"].as_str().unwrap() {
            "program.rl" => try_open(self.folder.join("program.rl").to_str().unwrap()),
            stdlib => try_open(stdlib),
        }
    }

    /// The program with the params and the emitted definitions of the case.
    pub fn objective(&self, checked: Checked, backend: Backend) -> Objective {
        let mut objective = Objective::new(checked, backend);
        let set = self.json["set"].as_object().unwrap().iter().map(|(name, value)| match value {
            Value::String(text) => format!("{name}={text}"),
            other => format!("{name}={other}"),
        });
        let graph = &objective.checked().graph;
        let names: Vec<String> = graph.params.iter().map(|p| p.name.clone()).collect();
        let values = params::values(graph, &set.collect::<Vec<_>>()).unwrap();
        for (param, value) in names.iter().zip(values) {
            objective.set_param(param, value).unwrap();
        }
        let emit = self.json["emit"].as_array().unwrap().iter();
        objective.emit(emit.map(|n| n.as_str().unwrap().to_owned()).collect());
        objective
    }

    /// What differs from what it should come to.
    pub fn compare(&self, outcome: &Outcome, expected: &Table, tolerance: f64) -> Vec<String> {
        let case = &self.json;
        let mut faults = Vec::new();
        let mut note = |what: &str, found: Option<String>| {
            faults.extend(found.map(|f| format!("{what}: {f}")));
        };
        let loss = case["loss"].as_f64().unwrap();
        note("loss", differ(&[outcome.loss], &[loss], tolerance, 1.0));
        let metrics = case["metrics"].as_object().unwrap();
        for (name, want) in metrics {
            let found = match outcome.metrics.get(name) {
                Some(&got) => differ(&[got], &[want.as_f64().unwrap()], tolerance, 1.0),
                None => Some("absent".into()),
            };
            note(&format!("metric {name}"), found);
        }
        for name in outcome.metrics.keys().filter(|n| !metrics.contains_key(*n)) {
            note(&format!("metric {name}"), Some("not expected".into()));
        }
        let coupling = case["coupling"].as_str().unwrap();
        if outcome.coupling != coupling {
            note("coupling", Some(format!("{} for {coupling}", outcome.coupling)));
        }
        for (level, want) in case["kept"].as_object().unwrap() {
            if outcome.kept.get(level) != want.as_u64().as_ref() {
                note("kept", Some(format!("{level}: {:?} for {want}", outcome.kept.get(level))));
            }
        }
        for (name, want) in &expected.arrays {
            let (got, floor) = match name.split_once('/') {
                Some(("grad", input)) => (outcome.grads.get(input), 0.0),
                Some(("value", definition)) => (outcome.values.get(definition), 1.0),
                Some(("state", _)) => (outcome.state.get(name), 1.0),
                _ => continue,
            };
            let numbers = |data: &Data| (0..data.len()).map(|i| data.get(i)).collect::<Vec<f64>>();
            let found = match got {
                Some(got) => differ(&numbers(&got.data), &numbers(&want.data), tolerance, floor),
                None => Some("absent".into()),
            };
            note(name, found);
        }
        faults
    }
}
