//! Prompts with answers: the built-in problems or a JSONL file. The order is a function of the seed
//! and the position alone, so a position is all that a checkpoint has to keep.

use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::arithmetic;
use super::config::{Config, DataConfig};
use super::error::{Result, TrainError, at};

/// A prompt and what the verifier compares with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stable identity across steps (`group/prompt`).
    pub id: i64,
    /// Text given to the model.
    pub prompt: String,
    /// Gold answer, where the file has one; it may be empty.
    pub answer: Option<String>,
    /// Line in the file, for messages.
    pub line: Option<usize>,
}

/// Mixes two numbers into one (splitmix64): every derived seed of a run goes through it.
pub fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(b).wrapping_add(0x9e37_79b9);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Where prompts come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// The built-in task.
    Arithmetic {
        /// Digits of each number.
        digits: u32,
    },
    /// Prompts from a file, held-out ones removed.
    Prompts {
        /// The file, for messages.
        file: PathBuf,
        /// Training problems.
        train: Vec<Problem>,
        /// Held-out problems.
        held_out: Vec<Problem>,
        /// Of the file's bytes.
        fingerprint: u64,
    },
}

impl Source {
    /// Opens the source that the run file names.
    pub fn open(config: &Config) -> Result<Self> {
        let data = &config.data;
        let Some(file) = data.file.as_ref().filter(|_| data.task == "prompts") else {
            return Ok(Source::Arithmetic { digits: data.digits });
        };
        let file = PathBuf::from(file);
        let (mut train, fingerprint) = read_problems(&file, data)?;
        let held_out = match &data.eval_file {
            Some(eval) => read_problems(Path::new(eval), data)?.0,
            None if data.held_out >= train.len() => {
                return Err(TrainError::Config(format!(
                    "data.held_out = {} leaves nothing of the {} problems in {} to train on",
                    data.held_out,
                    train.len(),
                    file.display()
                )));
            }
            // The last lines: simple to say, and a file in random order loses nothing.
            None => train.split_off(train.len() - data.held_out),
        };
        Ok(Source::Prompts { file, train, held_out, fingerprint })
    }

    /// Problems `position .. position + count` of the run's order.
    pub fn training(&self, seed: u64, position: u64, count: usize) -> Vec<Problem> {
        self.order(seed, position).take(count).collect()
    }

    /// The run's order from `position` on, without end.
    pub fn order(&self, seed: u64, position: u64) -> Box<dyn Iterator<Item = Problem> + '_> {
        match self {
            Source::Arithmetic { digits } => {
                Box::new((position..).map(move |i| arithmetic::training_problem(*digits, seed, i)))
            }
            Source::Prompts { train, .. } => {
                Box::new(shuffled(train.len(), seed, position).map(|i| train[i].clone()))
            }
        }
    }

    /// How many different problems can be drawn for training.
    pub fn count(&self) -> u64 {
        match self {
            Source::Arithmetic { digits } => arithmetic::training_count(*digits),
            Source::Prompts { train, .. } => train.len() as u64,
        }
    }

    /// The training problem of an identity that [`Self::order`] gave.
    pub fn problem(&self, id: i64) -> Problem {
        match self {
            Source::Arithmetic { digits } => arithmetic::problem(*digits, id),
            Source::Prompts { train, .. } => train[id as usize].clone(),
        }
    }

    /// A prompt in an error: its text and where it stands.
    pub fn describe(&self, id: i64) -> String {
        let Problem { prompt, line, .. } = self.problem(id);
        let text: String = prompt.chars().take(60).collect();
        let text = if text.len() < prompt.len() { format!("{text}...") } else { text };
        let line = line.map_or(String::new(), |line| format!(", line {line}"));
        format!("the prompt {text:?} ({id}{line})")
    }

    /// The first `count` held-out problems.
    pub fn held_out(&self, count: usize) -> Vec<Problem> {
        match self {
            Source::Arithmetic { digits } => arithmetic::held_out_problems(*digits, count),
            Source::Prompts { held_out, .. } => held_out.iter().take(count).cloned().collect(),
        }
    }

    /// Identity of the data, kept in checkpoints.
    pub fn fingerprint(&self) -> u64 {
        match self {
            Source::Arithmetic { digits } => u64::from(*digits),
            Source::Prompts { fingerprint, .. } => *fingerprint,
        }
    }
}

/// An endless sequence of epochs, each in its own order, from `position` on.
pub(crate) fn shuffled(len: usize, seed: u64, position: u64) -> impl Iterator<Item = usize> {
    let mut epoch_order: Option<(u64, Vec<usize>)> = None;
    (position..).map(move |p| {
        let (epoch, within) = (p / len as u64, (p % len as u64) as usize);
        if epoch_order.as_ref().is_none_or(|(e, _)| *e != epoch) {
            let mut order: Vec<usize> = (0..len).collect();
            order.shuffle(&mut ChaCha8Rng::seed_from_u64(mix(mix(seed, 0x6570_6f63), epoch)));
            epoch_order = Some((epoch, order));
        }
        epoch_order.as_ref().map_or(within, |(_, order)| order[within])
    })
}

/// The objects of a file, each with its line.
type Rows = Vec<(usize, serde_json::Map<String, Value>)>;

/// The objects of a JSONL file with their line numbers, empty lines left out, and the file's
/// fingerprint.
pub(crate) fn read_jsonl(file: &Path) -> Result<(Rows, u64)> {
    let bytes = std::fs::read(file).map_err(at("read", file))?;
    let fault = |line, what: String| TrainError::Data { file: file.to_path_buf(), line, what };
    let text = std::str::from_utf8(&bytes).map_err(|e| {
        let line = bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        fault(line, "not UTF-8 text: save the file as UTF-8".into())
    })?;
    let mut rows = Vec::new();
    for (i, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<Value>(line) {
            Ok(Value::Object(object)) => rows.push((i + 1, object)),
            Ok(_) => {
                return Err(fault(
                    i + 1,
                    "not a JSON object: write {\"prompt\": …} per line".into(),
                ));
            }
            Err(e) => {
                return Err(fault(i + 1, format!("not JSON: {e}; write one JSON object per line")));
            }
        }
    }
    if rows.is_empty() {
        return Err(TrainError::Config(format!("{}: the file has no lines", file.display())));
    }
    Ok((rows, crate::fingerprint(&bytes)))
}

/// A field as text; numbers are taken as they are written.
pub(crate) fn text_field(
    file: &Path,
    line: usize,
    object: &serde_json::Map<String, Value>,
    key: &str,
) -> Result<String> {
    match object.get(key) {
        Some(Value::String(s)) => Ok(s.clone()),
        Some(Value::Number(n)) => Ok(n.to_string()),
        Some(_) => Err(TrainError::Data {
            file: file.to_path_buf(),
            line,
            what: format!("field \"{key}\" is neither text nor a number"),
        }),
        None => {
            let known: Vec<&str> = object.keys().map(String::as_str).collect();
            Err(TrainError::Data {
                file: file.to_path_buf(),
                line,
                what: format!(
                    "no field \"{key}\" (the line has {}); set data.prompt_key, data.answer_key or \
                     data.completion_key to the file's names",
                    if known.is_empty() { "none".into() } else { known.join(", ") }
                ),
            })
        }
    }
}

fn read_problems(file: &Path, data: &DataConfig) -> Result<(Vec<Problem>, u64)> {
    let (rows, fingerprint) = read_jsonl(file)?;
    let mut problems = Vec::with_capacity(rows.len());
    for (line, object) in &rows {
        let prompt = text_field(file, *line, object, &data.prompt_key)?;
        let answer = match object.get(&data.answer_key) {
            // Rewards that look at the completion alone need no answer; `Scorer` checks.
            None => None,
            Some(_) => Some(text_field(file, *line, object, &data.answer_key)?),
        };
        problems.push(Problem {
            id: problems.len() as i64,
            prompt: data.template.replace("{prompt}", &prompt),
            answer,
            line: Some(*line),
        });
    }
    Ok((problems, fingerprint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_cover_everything_once() {
        let items = |position| shuffled(10, 1, position);
        let mut first: Vec<usize> = items(0).take(10).collect();
        let second: Vec<usize> = items(10).take(10).collect();
        assert_ne!(first, second);
        assert_eq!(items(7).take(3).collect::<Vec<_>>(), first[7..]);
        first.sort_unstable();
        assert_eq!(first, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn malformed_lines_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p.jsonl");
        let mut config = Config::default();
        config.data.task = "prompts".into();
        config.data.file = Some(file.display().to_string());
        for (text, wanted) in [
            ("{\"prompt\": \"a\"}\n{oops\n", "p.jsonl:2: not JSON"),
            ("\n\n[1]\n", "p.jsonl:3: not a JSON object"),
            ("{\"question\": \"a\"}\n", "p.jsonl:1: no field \"prompt\" (the line has question)"),
            ("{\"prompt\": [1]}\n", "p.jsonl:1: field \"prompt\" is neither"),
            ("\n", "the file has no lines"),
        ] {
            std::fs::write(&file, text).unwrap();
            let e = Source::open(&config).unwrap_err().to_string();
            assert!(e.contains(wanted), "{e}");
        }
        std::fs::write(&file, "{\"prompt\": \"a\", \"answer\": \"\"}\n{\"prompt\": 7}\n").unwrap();
        let answers = Source::open(&config).unwrap().training(0, 0, 2);
        let mut answers: Vec<_> = answers.into_iter().map(|p| p.answer).collect();
        answers.sort();
        assert_eq!(answers, [None, Some(String::new())]);
        std::fs::write(&file, b"{\"prompt\": \"\xff\"}").unwrap();
        assert!(Source::open(&config).unwrap_err().to_string().contains("p.jsonl:1: not UTF-8"));
    }
}
