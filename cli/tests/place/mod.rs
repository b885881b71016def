//! A folder of its own for each test, and the binary run in it.
#![allow(dead_code, reason = "each test file uses a part")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder of its own for each test.
pub struct Place(tempfile::TempDir);

/// How a command ended.
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Place {
    pub fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> &Place {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rlc"));
        command.args(args).current_dir(self.0.path()).env_remove("NO_COLOR");
        command
    }

    pub fn rlc(&self, args: &[&str]) -> Done {
        finish(self.command(args).stdin(Stdio::null()).output().unwrap())
    }

    pub fn rlc_with(&self, args: &[&str], input: &str) -> Done {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        finish(child.wait_with_output().unwrap())
    }
}

pub fn finish(output: std::process::Output) -> Done {
    Done {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Done {
    /// Ended with this code and said this on stderr.
    #[track_caller]
    pub fn fails(&self, code: i32, said: &str) {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        assert!(self.err.contains(said), "{said:?} is not in:\n{}", self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }

    /// Ended well and printed this.
    #[track_caller]
    pub fn prints(&self, said: &str) {
        assert_eq!(self.code, 0, "{}\n{}", self.out, self.err);
        assert!(self.out.contains(said), "{said:?} is not in:\n{}", self.out);
    }
}

pub fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/objectives/cases").join(name)
}

pub fn batch(case_name: &str) -> String {
    case(case_name).join("batch.safetensors").to_str().unwrap().to_owned()
}
