//! An editor's side of the protocol.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// An editor with one folder.
pub struct Editor {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub folder: tempfile::TempDir,
    last: i64,
    /// The findings as last published, by URI.
    pub found: HashMap<String, Value>,
}

impl Editor {
    pub fn bare() -> Editor {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_rlc"))
            .arg("lsp")
            .env("XDG_CACHE_HOME", folder.path().join("cache"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Editor { child, input, output, folder, last: 0, found: HashMap::new() }
    }

    pub fn new() -> Editor {
        let mut editor = Editor::bare();
        let params = json!({ "processId": null, "rootUri": null, "capabilities": {} });
        let result = editor.ask("initialize", params);
        assert_eq!(result["capabilities"]["hoverProvider"], true);
        assert_eq!(result["capabilities"]["textDocumentSync"]["change"], 1);
        editor.tell("initialized", json!({}));
        editor
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.input.write_all(bytes).unwrap();
        self.input.flush().unwrap();
    }

    pub fn send(&mut self, message: &Value) {
        let body = message.to_string();
        self.raw(format!("Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    }

    pub fn receive(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the server has gone");
            if line == "\r\n" {
                break;
            }
            length = line.strip_prefix("Content-Length: ").unwrap().trim().parse().unwrap();
        }
        let mut body = vec![0; length];
        self.output.read_exact(&mut body).unwrap();
        let message: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(message["jsonrpc"], "2.0");
        if message["method"] == "textDocument/publishDiagnostics" {
            let uri = message["params"]["uri"].as_str().unwrap().to_owned();
            self.found.insert(uri, message["params"]["diagnostics"].clone());
        }
        message
    }

    /// The answer to a request, errors included.
    pub fn answer(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let id = self.last;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let message = self.receive();
            if message["id"] == id {
                return message;
            }
            assert!(message.get("method").is_some(), "{message}");
        }
    }

    #[track_caller]
    pub fn ask(&mut self, method: &str, params: Value) -> Value {
        let answer = self.answer(method, params);
        assert!(answer.get("error").is_none(), "{answer}");
        answer["result"].clone()
    }

    pub fn tell(&mut self, method: &str, params: Value) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    pub fn uri(&self, name: &str) -> String {
        let folder = std::fs::canonicalize(self.folder.path()).unwrap();
        format!("file://{}/{name}", folder.display())
    }

    pub fn open(&mut self, name: &str, text: &str) -> Value {
        let uri = self.uri(name);
        let document = json!({ "uri": uri, "languageId": "rl", "version": 1, "text": text });
        self.tell("textDocument/didOpen", json!({ "textDocument": document }));
        self.published(name)
    }

    pub fn change(&mut self, name: &str, text: &str) -> Value {
        let document = json!({ "uri": self.uri(name), "version": 2 });
        let changes = json!([{ "text": text }]);
        let params = json!({ "textDocument": document, "contentChanges": changes });
        self.tell("textDocument/didChange", params);
        self.published(name)
    }

    /// The findings of a text, once everything sent so far was handled.
    pub fn published(&mut self, name: &str) -> Value {
        self.answer("rlc/nothing", Value::Null);
        self.found[&self.uri(name)].clone()
    }

    pub fn at(&self, name: &str, line: usize, character: usize) -> Value {
        let position = json!({ "line": line, "character": character });
        json!({ "textDocument": { "uri": self.uri(name) }, "position": position })
    }

    /// What hovering shows; empty for nothing.
    pub fn hover(&mut self, name: &str, line: usize, character: usize) -> String {
        let params = self.at(name, line, character);
        let result = self.ask("textDocument/hover", params);
        result["contents"]["value"].as_str().unwrap_or("").to_owned()
    }

    pub fn definition(&mut self, name: &str, line: usize, character: usize) -> (String, Value) {
        let params = self.at(name, line, character);
        let result = self.ask("textDocument/definition", params);
        (result["uri"].as_str().unwrap_or("").to_owned(), result["range"]["start"].clone())
    }

    pub fn complete(&mut self, name: &str, line: usize, character: usize) -> Vec<Value> {
        let params = self.at(name, line, character);
        self.ask("textDocument/completion", params).as_array().unwrap().clone()
    }

    pub fn rename(&mut self, name: &str, line: usize, character: usize, new: &str) -> Value {
        let mut params = self.at(name, line, character);
        params["newName"] = json!(new);
        self.answer("textDocument/rename", params)
    }

    /// Ends the server as the protocol says; the exit code and what it said on stderr.
    pub fn close(mut self) -> (i32, String) {
        self.ask("shutdown", Value::Null);
        self.tell("exit", Value::Null);
        self.end()
    }

    pub fn end(self) -> (i32, String) {
        let Editor { child, input, output, .. } = self;
        drop((input, output));
        let done = child.wait_with_output().unwrap();
        (done.status.code().unwrap(), String::from_utf8(done.stderr).unwrap())
    }
}

/// A text with edits of a `WorkspaceEdit` or a formatting applied; ASCII only.
pub fn edited(text: &str, edits: &Value) -> String {
    let mut all: Vec<(usize, usize, String)> = edits
        .as_array()
        .unwrap()
        .iter()
        .map(|e| {
            let byte = |p: &Value| {
                let before = text.split_inclusive('\n').take(p["line"].as_u64().unwrap() as usize);
                before.map(str::len).sum::<usize>() + p["character"].as_u64().unwrap() as usize
            };
            let (start, end) = (byte(&e["range"]["start"]), byte(&e["range"]["end"]));
            (start, end, e["newText"].as_str().unwrap().to_owned())
        })
        .collect();
    all.sort();
    let mut out = text.to_owned();
    for (start, end, new) in all.into_iter().rev() {
        out.replace_range(start..end, &new);
    }
    out
}

pub fn labels(items: &[Value]) -> Vec<&str> {
    items.iter().map(|i| i["label"].as_str().unwrap()).collect()
}
