//! `rlc lsp`: a language server over stdio. Editors start it; it reads whole texts, checks them as
//! `rlc check` does, and answers from what the compiler found. It changes no file and runs nothing.
//!
//! One message at a time: a program is checked in milliseconds, so that answers are never out of date.

mod analysis;
mod complete;
mod marks;
mod meaning;
mod place;
mod rename;
mod types;
mod uses;
mod wire;
mod words;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use lsp_types::{
    CompletionParams, DidChangeTextDocumentParams, DidCloseTextDocumentParams,
    DidOpenTextDocumentParams, DocumentFormattingParams, DocumentHighlight,
    DocumentHighlightParams, GotoDefinitionParams, Hover, HoverContents, HoverParams,
    MarkupContent, MarkupKind, Position, Range, ReferenceParams, RenameParams,
    TextDocumentPositionParams, TextEdit, Uri,
};
use rlc_compiler::format::format;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::failure::{Failure, Outcome, RUNNING};
use analysis::{Analysis, Texts};
use marks::Role;
use wire::Incoming;

/// Run a language server on stdin and stdout, for editors
///
/// Diagnostics while typing; hover with type, level, stage, documentation and definition, also of
/// expressions; go to definition and references through `extend` (library files open as read-only
/// copies in the user's cache folder); completion, rename through all files, formatting.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  rlc lsp                                  what an editor starts
  vim.lsp.start({ cmd = { 'rlc', 'lsp' } }) in Neovim
  editors/vscode                           the extension for VS Code

Exit codes: 0 after shutdown and exit; 1 without shutdown, or when what arrives is no protocol; 2 bad usage.")]
pub struct Args {
    /// Talk on stdin and stdout, the default; editors pass it
    #[arg(long)]
    stdio: bool,
}

const NOT_INITIALIZED: i64 = -32002;
const PARSE: i64 = -32700;
const REQUEST: i64 = -32600;
const METHOD: i64 = -32601;
const PARAMS: i64 = -32602;
const INTERNAL: i64 = -32603;
const FAILED: i64 = -32803;

/// Runs the command.
pub fn run(_args: &Args) -> Outcome {
    let mut input = std::io::stdin().lock();
    let mut output = std::io::stdout().lock();
    let mut server = Server::default();
    loop {
        let incoming = wire::read(&mut input).map_err(|e| Failure::running(e.to_string(), ""))?;
        let replies = match incoming {
            Incoming::End => return Err(Failure::Reported(RUNNING)),
            Incoming::Broken(why) => vec![error(&Value::Null, PARSE, &why)],
            Incoming::Message(message) => {
                if message["method"] == "exit" {
                    return if server.down { Ok(()) } else { Err(Failure::Reported(RUNNING)) };
                }
                let known = server.texts.clone();
                let handled = catch_unwind(AssertUnwindSafe(|| server.handle(&message)));
                handled.unwrap_or_else(|_| {
                    // A fault of the compiler's; the editor goes on with the rest.
                    server.texts = known;
                    let why = "this is a fault of rlc; please report it with the program";
                    message.get("id").map(|id| error(id, INTERNAL, why)).into_iter().collect()
                })
            }
        };
        for reply in &replies {
            wire::write(&mut output, reply).map_err(|_| Failure::ReaderGone)?;
        }
    }
}

fn error(id: &Value, code: i64, why: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": why } })
}

/// An answer, or a code and why there is none.
type Answer = Result<Value, (i64, String)>;

/// What the server knows between messages.
#[derive(Default)]
struct Server {
    up: bool,
    down: bool,
    texts: Texts,
    versions: HashMap<String, i32>,
    /// The last versions without errors.
    good: HashMap<String, Good>,
}

/// A text without errors.
struct Good {
    text: String,
    /// What it said of its names.
    facts: HashMap<String, String>,
}

impl Server {
    /// Everything to be sent for one message.
    fn handle(&mut self, message: &Value) -> Vec<Value> {
        let Some(method) = message["method"].as_str() else {
            // An answer to a question that was never asked, or no message at all.
            let odd = message.get("id").filter(|_| message.get("result").is_none());
            let odd = odd.filter(|_| message.get("error").is_none());
            return odd
                .map(|id| error(id, REQUEST, "a message has a method"))
                .into_iter()
                .collect();
        };
        let params = &message["params"];
        let Some(id) = message.get("id") else { return self.notified(method, params) };
        vec![match self.answer(method, params) {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err((code, why)) => error(id, code, &why),
        }]
    }

    fn answer(&mut self, method: &str, params: &Value) -> Answer {
        match method {
            _ if self.down => Err((REQUEST, "the server was shut down".to_owned())),
            "initialize" if self.up => Err((REQUEST, "initialized already".to_owned())),
            "initialize" => {
                self.up = true;
                Ok(capabilities())
            }
            _ if !self.up => Err((NOT_INITIALIZED, "`initialize` comes first".to_owned())),
            "shutdown" => {
                self.down = true;
                Ok(Value::Null)
            }
            "textDocument/hover" => self.hover(&read(params)?),
            "textDocument/definition" => self.definition(&read(params)?),
            "textDocument/completion" => self.completion(&read(params)?),
            "textDocument/references" => self.references(&read(params)?),
            "textDocument/documentHighlight" => self.highlight(&read(params)?),
            "textDocument/prepareRename" => self.prepare_rename(&read(params)?),
            "textDocument/rename" => self.rename(&read(params)?),
            "textDocument/formatting" => self.formatting(&read(params)?),
            _ => Err((METHOD, format!("`{method}` is not offered"))),
        }
    }

    fn notified(&mut self, method: &str, params: &Value) -> Vec<Value> {
        if !self.up || self.down {
            return Vec::new();
        }
        match method {
            "textDocument/didOpen" => {
                let Ok(open) = read::<DidOpenTextDocumentParams>(params) else { return Vec::new() };
                let document = open.text_document;
                self.put(&document.uri, document.text, document.version);
            }
            "textDocument/didChange" => {
                let Ok(change) = read::<DidChangeTextDocumentParams>(params) else {
                    return Vec::new();
                };
                let uri = &change.text_document.uri;
                let mut text = self.texts.get(uri.as_str()).cloned().unwrap_or_default();
                for change in change.content_changes {
                    match change.range {
                        None => text = change.text,
                        // Not asked for; but what it means is clear.
                        Some(range) => {
                            let start = place::offset(&text, range.start);
                            let end = place::offset(&text, range.end).max(start);
                            text.replace_range(start..end, &change.text);
                        }
                    }
                }
                self.put(uri, text, change.text_document.version);
            }
            "textDocument/didClose" => {
                let Ok(close) = read::<DidCloseTextDocumentParams>(params) else {
                    return Vec::new();
                };
                let uri = close.text_document.uri;
                self.texts.remove(uri.as_str());
                self.versions.remove(uri.as_str());
                self.good.remove(uri.as_str());
                let mut all = self.publish();
                all.push(published(uri.as_str(), None, &json!([])));
                return all;
            }
            _ => return Vec::new(),
        }
        self.publish()
    }

    fn put(&mut self, uri: &Uri, text: String, version: i32) {
        self.texts.insert(uri.as_str().to_owned(), text);
        self.versions.insert(uri.as_str().to_owned(), version);
    }

    /// The findings in every open text: any of them may extend the one that changed.
    fn publish(&mut self) -> Vec<Value> {
        let mut uris: Vec<String> = self.texts.keys().cloned().collect();
        uris.sort();
        let mut all = Vec::new();
        for name in uris {
            let Ok((uri, analysis)) = self.analysis(&name) else { continue };
            let (found, facts) = analysis.check(&self.texts);
            let found = json!(analysis.diagnostics(&found, &uri, &self.texts));
            all.push(published(&name, self.versions.get(&name).copied(), &found));
            if let Some(facts) = facts {
                let text = analysis.text().to_owned();
                self.good.insert(name, Good { text, facts });
            }
        }
        all
    }

    fn analysis(&self, uri: &str) -> Result<(Uri, Analysis), (i64, String)> {
        let text = self.texts.get(uri);
        let text = text.ok_or_else(|| (PARAMS, format!("`{uri}` is not open")))?;
        let uri: Uri = uri.parse().map_err(|_| (PARAMS, "no URI".to_owned()))?;
        let analysis = Analysis::of(&uri, text, &self.texts);
        Ok((uri, analysis))
    }

    fn fact(&self, uri: &Uri, name: &str) -> Option<String> {
        self.good.get(uri.as_str()).and_then(|g| g.facts.get(name)).cloned()
    }

    fn hover(&self, params: &HoverParams) -> Answer {
        let place = &params.text_document_position_params;
        let (uri, analysis) = self.analysis(place.text_document.uri.as_str())?;
        let text = analysis.text();
        let offset = place::offset(text, place.position);
        let marks = marks::marks(text);
        let mark = meaning::at(&marks, offset);
        let meaning = mark.and_then(|m| meaning::meaning(&analysis, m));
        let mut value = String::new();
        let mut range = mark.map(|m| (m.token.start, m.token.end()));
        if let Some(meaning) = &meaning {
            value = meaning::hover(&analysis, meaning, |name| self.fact(&uri, name));
        }
        let last = self.good.get(uri.as_str()).map_or("", |g| g.text.as_str());
        let fact = |found: &types::Found| types::fact(&analysis, &self.texts, last, found);
        match (&meaning, mark.map(|m| m.role)) {
            (Some(meaning::Meaning::Local(at, _)), _) => {
                if let Some(fact) = types::local(&analysis, *at).and_then(|found| fact(&found)) {
                    value.push_str(&format!("\n\n{fact}"));
                }
            }
            (_, Some(Role::Function | Role::BaseFunction)) => {
                let call = types::expression(&analysis, offset, true);
                if let Some(fact) = call.and_then(|found| fact(&found)) {
                    value.push_str(&format!("\n\nthis call: {fact}"));
                }
            }
            (None | Some(meaning::Meaning::Language(_)), None | Some(Role::Other)) => {
                if let Some(found) = types::expression(&analysis, offset, false)
                    && let Some(fact) = fact(&found)
                {
                    let code = text.get(found.start..found.end).unwrap_or("");
                    value = format!("```rl\n{code}\n```\n\n{fact}\n\n{value}");
                    range = Some((found.start, found.end));
                }
            }
            _ => {}
        }
        if value.is_empty() {
            return Ok(Value::Null);
        }
        let value = value.trim_end().to_owned();
        let contents = HoverContents::Markup(MarkupContent { kind: MarkupKind::Markdown, value });
        let range = range.map(|(start, end)| place::range(text, start, end));
        Ok(json!(Hover { contents, range }))
    }

    fn definition(&self, params: &GotoDefinitionParams) -> Answer {
        let place = &params.text_document_position_params;
        let (uri, analysis) = self.analysis(place.text_document.uri.as_str())?;
        let marks = marks::marks(analysis.text());
        let span = meaning::at(&marks, place::offset(analysis.text(), place.position))
            .and_then(|mark| meaning::meaning(&analysis, mark)?.span(&analysis));
        let location = span.and_then(|span| analysis.location(span, &uri, &self.texts));
        Ok(json!(location))
    }

    fn completion(&self, params: &CompletionParams) -> Answer {
        let place = &params.text_document_position;
        let (uri, analysis) = self.analysis(place.text_document.uri.as_str())?;
        let offset = place::offset(analysis.text(), place.position);
        Ok(json!(complete::complete(&analysis, offset, |name| self.fact(&uri, name))))
    }

    /// What is asked of the name at a place.
    fn at<T>(
        &self,
        place: &TextDocumentPositionParams,
        ask: impl FnOnce(&Uri, Analysis, &marks::Mark<'_>) -> Result<T, (i64, String)>,
    ) -> Result<Option<T>, (i64, String)> {
        let (uri, analysis) = self.analysis(place.text_document.uri.as_str())?;
        let text = analysis.text().to_owned();
        let marks = marks::marks(&text);
        let mark = meaning::at(&marks, place::offset(&text, place.position));
        let mark = mark.filter(|m| m.role != Role::Other);
        mark.map(|mark| ask(&uri, analysis, mark)).transpose()
    }

    fn prepare_rename(&self, params: &TextDocumentPositionParams) -> Answer {
        let range = self.at(params, |uri, analysis, mark| {
            let (start, end) = (mark.token.end() - mark.name.len(), mark.token.end());
            let range = place::range(analysis.text(), start, end);
            let plan = rename::plan(analysis, uri, &self.texts, mark);
            plan.map(|_| range).map_err(|why| (FAILED, why))
        })?;
        Ok(json!(range))
    }

    fn rename(&self, params: &RenameParams) -> Answer {
        let edits = self.at(&params.text_document_position, |uri, analysis, mark| {
            let plan = rename::plan(analysis, uri, &self.texts, mark);
            plan.and_then(|p| p.edits(uri, &self.texts, &params.new_name))
                .map_err(|why| (FAILED, why))
        })?;
        let edits = edits.ok_or_else(|| (FAILED, "there is no name here".to_owned()))?;
        Ok(json!({ "changes": edits }))
    }

    fn references(&self, params: &ReferenceParams) -> Answer {
        let found = self.at(&params.text_document_position, |uri, analysis, mark| {
            let defined = params.context.include_declaration;
            Ok(uses::references(analysis, uri, &self.texts, mark, defined))
        })?;
        Ok(json!(found))
    }

    fn highlight(&self, params: &DocumentHighlightParams) -> Answer {
        let place = &params.text_document_position_params;
        let found = self.at(place, |_, analysis, mark| {
            let text = analysis.text();
            let Some(subject) = uses::subject(&analysis, mark) else { return Ok(Vec::new()) };
            let name = uses::name(&subject, mark);
            let all = uses::uses(&analysis, &subject, name);
            let here = all.into_iter().filter(|u| u.file == analysis.root);
            let range = |u: uses::Use| place::range(text, u.start, u.end);
            Ok(here.map(|u| DocumentHighlight { range: range(u), kind: None }).collect())
        })?;
        Ok(json!(found))
    }

    fn formatting(&self, params: &DocumentFormattingParams) -> Answer {
        let uri = params.text_document.uri.as_str();
        let text = self.texts.get(uri).ok_or_else(|| (PARAMS, format!("`{uri}` is not open")))?;
        // The errors that stand in the way are shown already.
        let Ok(new) = format(text) else { return Ok(Value::Null) };
        if new == *text {
            return Ok(json!([]));
        }
        let start = Position::default();
        let end = place::position(text, text.len());
        Ok(json!([TextEdit { range: Range { start, end }, new_text: new }]))
    }
}

fn read<T: DeserializeOwned>(params: &Value) -> Result<T, (i64, String)> {
    T::deserialize(params).map_err(|e| (PARAMS, e.to_string()))
}

fn published(uri: &str, version: Option<i32>, found: &Value) -> Value {
    let mut params = json!({ "uri": uri, "diagnostics": found });
    if let Some(version) = version {
        params["version"] = json!(version);
    }
    json!({ "jsonrpc": "2.0", "method": "textDocument/publishDiagnostics", "params": params })
}

fn capabilities() -> Value {
    json!({
        "capabilities": {
            "positionEncoding": "utf-16",
            "textDocumentSync": { "openClose": true, "change": 1 },
            "hoverProvider": true,
            "definitionProvider": true,
            "completionProvider": { "triggerCharacters": [".", "@"] },
            "referencesProvider": true,
            "documentHighlightProvider": true,
            "renameProvider": { "prepareProvider": true },
            "documentFormattingProvider": true,
        },
        "serverInfo": { "name": "rlc", "version": env!("CARGO_PKG_VERSION") },
    })
}
