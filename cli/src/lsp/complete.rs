//! Completion: what may stand where the cursor is, by the tokens before it. Which of it begins like what
//! was typed is the editor's to find.

use lsp_types::{
    CompletionItem, CompletionItemKind, CompletionTextEdit, Documentation, MarkupContent,
    MarkupKind, TextEdit,
};
use rlc_compiler::check::{LINTS, builtins, standard_inputs};
use rlc_compiler::level::Levels;
use rlc_compiler::link::{Function, Item};
use rlc_compiler::parse::tokens::{Kind, Token, lines};
use rlc_compiler::parse::{INNER_WORDS, STATEMENT_WORDS};

use super::analysis::Analysis;
use super::marks::Role;
use super::{marks, meaning, place, words};

/// What may be written at a byte.
pub fn complete(
    analysis: &Analysis,
    offset: usize,
    facts: impl Fn(&str) -> Option<String>,
) -> Vec<CompletionItem> {
    let text = analysis.text();
    let before: Vec<Token<'_>> = lines(text.get(..offset).unwrap_or("")).pop().unwrap_or_default();
    if before.last().is_some_and(|t| matches!(t.kind, Kind::Comment)) {
        return Vec::new();
    }
    // The word that is being typed, and the token before it.
    let typed = before.last().filter(|t| {
        t.end() == offset && matches!(t.kind, Kind::Name | Kind::Reserved | Kind::Number)
    });
    let from = typed.map_or(offset, |t| t.start);
    let dotted =
        text[..from].ends_with("base.") || typed.is_some_and(|t| t.text.starts_with("base"));
    let at = before.len() - usize::from(typed.is_some());
    let previous = at.checked_sub(1).and_then(|i| before.get(i)).map_or("", |t| t.text);
    let column_one = from == 0 || text[..from].ends_with(['\n', '\r']);
    let mut list = List { items: Vec::new(), edit: place::range(text, from, offset) };
    match previous {
        "extend" => list.all(meaning::objectives(), CompletionItemKind::MODULE, "objective"),
        "allow" => list.all(LINTS.iter().copied(), CompletionItemKind::CONSTANT, "warning"),
        ":" => list.all(["real", "int", "bool"], CompletionItemKind::KEYWORD, "type"),
        "sample" => list.all(["weight", "rollouts"], CompletionItemKind::KEYWORD, "drawn next"),
        "per" => {
            levels(analysis, offset, &mut list);
            for (name, about) in words::PARTITIONS {
                list.plain(name, CompletionItemKind::FUNCTION, about);
            }
        }
        "@" | "in" | "keep" | "drop" => levels(analysis, offset, &mut list),
        _ => {
            if column_one {
                for word in STATEMENT_WORDS {
                    list.plain(word, CompletionItemKind::KEYWORD, words::word(word).unwrap_or(""));
                }
            } else {
                for word in INNER_WORDS {
                    list.plain(word, CompletionItemKind::KEYWORD, words::word(word).unwrap_or(""));
                }
            }
            if !column_one {
                bound(analysis, offset, false, &mut list);
            }
            values(analysis, &facts, &mut list);
            functions(analysis, &mut list);
            unread(analysis, from, &mut list);
            if dotted {
                bases(analysis, &mut list);
            }
            // `count(token per rollout)`, `index(turn in rollout)`.
            if previous == "(" || in_partition(&before[..at]) {
                levels(analysis, offset, &mut list);
            }
        }
    }
    list.items
}

struct List {
    items: Vec<CompletionItem>,
    edit: lsp_types::Range,
}

impl List {
    fn all<'n>(
        &mut self,
        labels: impl IntoIterator<Item = &'n str>,
        kind: CompletionItemKind,
        detail: &str,
    ) {
        for label in labels {
            self.plain(label, kind, detail);
        }
    }

    fn plain(&mut self, label: &str, kind: CompletionItemKind, detail: &str) {
        self.add(label, kind, detail.to_owned(), None);
    }

    fn add(&mut self, label: &str, kind: CompletionItemKind, detail: String, doc: Option<&str>) {
        if self.items.iter().any(|i| i.label == label && i.kind == Some(kind)) {
            return;
        }
        let markup =
            |value: &str| MarkupContent { kind: MarkupKind::Markdown, value: value.to_owned() };
        let edit = TextEdit { range: self.edit, new_text: label.to_owned() };
        self.items.push(CompletionItem {
            label: label.to_owned(),
            kind: Some(kind),
            detail: Some(detail).filter(|d| !d.is_empty()),
            documentation: doc.map(|d| Documentation::MarkupContent(markup(d))),
            text_edit: Some(CompletionTextEdit::Edit(edit)),
            ..CompletionItem::default()
        });
    }
}

fn levels(analysis: &Analysis, offset: usize, list: &mut List) {
    bound(analysis, offset, true, list);
    let standard = Levels::default();
    for level in standard.all() {
        list.plain(
            standard.name(level),
            CompletionItemKind::STRUCT,
            &words::level(standard.name(level)),
        );
    }
    for (ident, about) in analysis.levels() {
        list.plain(&ident.name, CompletionItemKind::STRUCT, &about);
        if about.contains("pairs(") {
            for side in ["left", "right"] {
                let label = format!("{}.{side}", ident.name);
                list.plain(&label, CompletionItemKind::STRUCT, "one side of the pairs");
            }
        }
    }
}

/// Whether the innermost open bracket is that of a partition: `per (group, |`, `key cell = (|`.
fn in_partition(before: &[Token<'_>]) -> bool {
    let mut depth = 0usize;
    for (i, token) in before.iter().enumerate().rev() {
        match token.kind {
            Kind::Close => depth += 1,
            Kind::Open if depth > 0 => depth -= 1,
            Kind::Open => {
                let text = |back: usize| i.checked_sub(back).map_or("", |j| before[j].text);
                return text(1) == "per" || (text(1) == "=" && text(3) == "key");
            }
            _ => {}
        }
    }
    false
}

fn bound(analysis: &Analysis, offset: usize, level: bool, list: &mut List) {
    for binding in marks::bound_at(analysis.text(), offset) {
        if binding.level == level {
            list.plain(binding.name, CompletionItemKind::VARIABLE, "local");
        }
    }
}

fn values(analysis: &Analysis, facts: impl Fn(&str) -> Option<String>, list: &mut List) {
    for (name, entries) in &analysis.linked.values {
        let Some(entry) = entries.last() else { continue };
        let (kind, what) = match &entry.item {
            Item::Param { .. } => (CompletionItemKind::PROPERTY, "param".to_owned()),
            Item::Column { .. } => (CompletionItemKind::FIELD, "column".to_owned()),
            Item::State { .. } => (CompletionItemKind::FIELD, "state".to_owned()),
            Item::Def(_) => (CompletionItemKind::VARIABLE, facts(name).unwrap_or_default()),
        };
        list.add(name, kind, what, entry.doc.as_deref());
    }
    for name in standard_inputs() {
        if !analysis.linked.values.contains_key(name) {
            list.plain(name, CompletionItemKind::FIELD, "column of the batch");
        }
    }
    list.plain("pi", CompletionItemKind::CONSTANT, "");
    list.plain("inf", CompletionItemKind::CONSTANT, "");
}

fn functions(analysis: &Analysis, list: &mut List) {
    for (name, all) in &analysis.linked.functions {
        let Some(function) = all.last() else { continue };
        list.add(
            name,
            CompletionItemKind::FUNCTION,
            signature(analysis, function),
            function.doc.as_deref(),
        );
    }
    for name in builtins() {
        if !analysis.linked.functions.contains_key(name) {
            let (call, about) = words::call(name);
            list.add(name, CompletionItemKind::FUNCTION, call, Some(about));
        }
    }
}

/// What statements define that cannot be read, perhaps because they are being written.
fn unread(analysis: &Analysis, typed: usize, list: &mut List) {
    let broken = &analysis.linked.broken;
    for mark in marks::marks(analysis.text()) {
        let other = mark.token.start != typed && broken.contains(mark.name);
        match mark.role {
            Role::Function if other => list.plain(mark.name, CompletionItemKind::FUNCTION, ""),
            Role::Value if other => list.plain(mark.name, CompletionItemKind::VARIABLE, ""),
            _ => {}
        }
    }
}

/// `base.x`, for each name that this file gives a new meaning.
fn bases(analysis: &Analysis, list: &mut List) {
    let depth = analysis.depth();
    let own =
        analysis.linked.values.iter().filter(|(_, e)| e.last().is_some_and(|e| e.depth == depth));
    for (name, _) in own.filter(|(name, _)| analysis.linked.base_value(name, depth).is_some()) {
        let label = format!("base.{name}");
        list.plain(&label, CompletionItemKind::VARIABLE, "what it meant in the extended file");
    }
}

/// `f(x, eps = 1e-4 per L = group)`, as written.
fn signature(analysis: &Analysis, function: &Function) -> String {
    let source = &analysis.sources.get(function.ident.span.file).text;
    let rest = source.get(function.ident.span.start as usize..).unwrap_or("");
    let mut depth = 0usize;
    for (i, c) in rest.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => {
                return rest[..=i].split_whitespace().collect::<Vec<_>>().join(" ");
            }
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    function.ident.name.clone()
}
