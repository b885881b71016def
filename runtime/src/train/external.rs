//! A reward computed by a process of the user's: started once, asked in JSON lines.
//!
//! ```text
//! -> {"id": 7, "prompt": "…", "completion": "…", "answer": "…", "turns": ["…"], "truncated": false}
//! <- {"id": 7, "reward": 0.5, "correct": true, "step_correct": [1, 0, 1]}
//! ```
//! `correct` and `step_correct` (one number for each turn) are optional, but a process that gives
//! them must give them on every line; whether it does is asked at the start with `{"id": 0, "probe":
//! true}`, to which it may answer `{"id": 0, "gives": ["correct"]}` or any reward. A line that does
//! not come in time, is not of this form, or an exit ends the run with what the process wrote to stderr.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rlc_model::error::plain;
use serde_json::{Value, json};

use super::error::{Result, TrainError};
use super::reward::{Judged, Score};

/// How much of stderr is kept for a message.
const STDERR_KEPT: usize = 4096;

/// A running reward process.
pub struct Process {
    name: String,
    child: Child,
    to: Sender<String>,
    from: Receiver<std::io::Result<String>>,
    stderr: Arc<Mutex<VecDeque<u8>>>,
    limit: Duration,
    next: u64,
    gives: Vec<String>,
}

impl Process {
    /// Starts the process and asks what it gives.
    pub fn start(command: &[String], seconds: f64) -> Result<Self> {
        let name = command.join(" ");
        let fail = |what: String| TrainError::Config(format!("reward command `{name}`: {what}"));
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => fail(format!(
                    "there is no program `{}`: name one on the PATH, or a path to it",
                    command[0]
                )),
                _ => fail(format!("cannot be started: {}", plain(&e))),
            })?;
        let missing = || fail("has no pipes".into());
        let mut stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let mut errors = child.stderr.take().ok_or_else(missing)?;
        // Threads, because a pipe that nobody empties blocks its writer, on either side.
        let (to, lines) = channel::<String>();
        thread::spawn(move || {
            for line in lines {
                if stdin.write_all(line.as_bytes()).and_then(|()| stdin.flush()).is_err() {
                    break;
                }
            }
        });
        let (answers, from) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                if answers.send(line).is_err() {
                    break;
                }
            }
        });
        let stderr = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&stderr);
        thread::spawn(move || {
            let mut buffer = [0u8; 1024];
            while let Ok(n) = errors.read(&mut buffer) {
                if n == 0 {
                    break;
                }
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(&buffer[..n]);
                let over = kept.len().saturating_sub(STDERR_KEPT);
                kept.drain(..over);
            }
        });
        let limit = Duration::from_secs_f64(seconds);
        let mut process =
            Process { name, child, to, from, stderr, limit, next: 0, gives: Vec::new() };
        let answer = process.ask(json!({ "probe": true }))?;
        process.gives = match answer.get("gives") {
            Some(Value::Array(names)) => {
                names.iter().filter_map(|n| n.as_str().map(str::to_string)).collect()
            }
            _ => ["correct", "step_correct"]
                .into_iter()
                .filter(|k| answer.get(*k).is_some())
                .map(str::to_string)
                .collect(),
        };
        Ok(process)
    }

    /// True when the process said at the start that it gives `name`.
    pub fn announced(&self, name: &str) -> bool {
        self.gives.iter().any(|g| g == name)
    }

    /// Asks for one completion's reward.
    pub fn score(&mut self, judged: &Judged) -> Result<Score> {
        let answer = self.ask(json!({
            "prompt": judged.problem.prompt,
            "completion": judged.text,
            "answer": judged.problem.answer,
            "turns": judged.turns,
            "truncated": judged.truncated,
        }))?;
        let text = || Value::Object(answer.clone()).to_string();
        let Some(reward) = answer.get("reward").and_then(Value::as_f64).filter(|r| r.is_finite())
        else {
            return Err(self.fail(&format!("no finite \"reward\" in its answer {}", text())));
        };
        let correct = match answer.get("correct") {
            Some(Value::Bool(b)) => Some(*b),
            None if !self.announced("correct") => None,
            _ => return Err(self.fail(&format!("no \"correct\": true or false in {}", text()))),
        };
        let steps = match answer.get("step_correct") {
            Some(Value::Array(steps)) => {
                let steps: Vec<f64> = steps.iter().filter_map(Value::as_f64).collect();
                if steps.len() != judged.turns.len()
                    || steps.iter().any(|s| !(0.0..=1.0).contains(s))
                {
                    return Err(self.fail(&format!(
                        "\"step_correct\" must hold {} numbers in [0, 1], one for each turn: {}",
                        judged.turns.len(),
                        text()
                    )));
                }
                Some(steps)
            }
            None if !self.announced("step_correct") => None,
            _ => return Err(self.fail(&format!("no list \"step_correct\" in {}", text()))),
        };
        Ok(Score { reward, correct, steps })
    }

    fn ask(&mut self, mut question: Value) -> Result<serde_json::Map<String, Value>> {
        let id = self.next;
        self.next += 1;
        question["id"] = json!(id);
        if self.to.send(format!("{question}\n")).is_err() {
            return Err(self.fail("it closed its input"));
        }
        let line = match self.from.recv_timeout(self.limit) {
            Ok(Ok(line)) => line,
            Ok(Err(e)) => {
                return Err(self.fail(&format!("its output cannot be read: {}", plain(&e))));
            }
            Err(RecvTimeoutError::Timeout) => {
                let seconds = self.limit.as_secs_f64();
                return Err(self.fail(&format!(
                    "no answer within {seconds} s; raise `timeout` if it is only slow, and flush \
                     its output after every line"
                )));
            }
            Err(RecvTimeoutError::Disconnected) => {
                // Give the system a moment to report how it ended.
                let mut status = None;
                for _ in 0..20 {
                    status = self.child.try_wait().ok().flatten();
                    if status.is_some() {
                        break;
                    }
                    thread::sleep(Duration::from_millis(10));
                }
                return Err(self.fail(&match status {
                    Some(status) => format!("it ended ({status})"),
                    None => "it closed its output".into(),
                }));
            }
        };
        match serde_json::from_str::<Value>(&line) {
            Ok(Value::Object(o)) if o.get("id").is_none_or(|i| *i == json!(id)) => Ok(o),
            Ok(Value::Object(_)) => {
                Err(self.fail(&format!("answer to another id than {id}: {}", shorten(&line))))
            }
            _ => Err(self.fail(&format!("its answer is not a JSON object: {}", shorten(&line)))),
        }
    }

    /// Ends the process and words the error with its stderr.
    fn fail(&mut self, what: &str) -> TrainError {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The reader of stderr is a moment behind the end of the process.
        thread::sleep(Duration::from_millis(30));
        let kept = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = kept.iter().copied().collect();
        let stderr = String::from_utf8_lossy(&bytes);
        let stderr = stderr.trim();
        let tail = if stderr.is_empty() {
            "\nit wrote nothing to stderr".to_string()
        } else {
            format!("\nits stderr:\n{stderr}")
        };
        TrainError::Reward {
            name: format!("command `{}`", self.name),
            what: format!("{what}{tail}"),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn shorten(line: &str) -> String {
    if line.chars().count() <= 200 {
        return line.to_string();
    }
    line.chars().take(200).collect::<String>() + "…"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::data::Problem;

    fn start(script: &str, seconds: f64) -> Result<Process> {
        Process::start(&["sh".into(), "-c".into(), script.into()], seconds)
    }

    fn ask(process: &mut Process) -> Result<Score> {
        let problem = Problem { id: 0, prompt: "p".into(), answer: Some("a".into()), line: None };
        process.score(&Judged {
            problem: &problem,
            text: "c".into(),
            turns: vec!["c".into()],
            tokens: 1,
            truncated: false,
        })
    }

    const PROBE: &str = "read l; echo '{\"reward\": 0}'; ";

    #[test]
    fn answers_arrive() {
        let mut p = start(
            "read l; echo '{\"gives\": [\"correct\"]}'; \
             while read l; do echo '{\"reward\": 0.5, \"correct\": true}'; done",
            5.0,
        )
        .unwrap();
        for _ in 0..3 {
            let s = ask(&mut p).unwrap();
            assert_eq!((s.reward, s.correct), (0.5, Some(true)));
        }
    }

    #[test]
    fn every_failure_shows_stderr() {
        for (script, wanted) in [
            ("read l; echo oh dear >&2; exit 3", "ended"),
            ("read l; echo oh dear >&2; echo nonsense; sleep 5", "not a JSON object: nonsense"),
            ("read l; echo oh dear >&2; echo '{\"reward\": \"x\"}'; sleep 5", "no finite"),
            ("read l; echo oh dear >&2; echo '{\"id\": 9, \"reward\": 1}'; sleep 5", "another id"),
            ("read l; echo oh dear >&2; sleep 30", "no answer within 0.5 s"),
        ] {
            let mut p = start(&format!("{PROBE}{script}"), 0.5).unwrap();
            let e = ask(&mut p).unwrap_err().to_string();
            assert!(e.contains(wanted) && e.contains("oh dear"), "{e}");
        }
        let e = start("echo gone >&2; exit 1", 5.0).err().unwrap().to_string();
        assert!(e.contains("gone"), "{e}");
    }
}
