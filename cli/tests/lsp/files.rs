//! Names through several files: rename, references, highlights, definitions of levels and keys.

use serde_json::{Value, json};

use crate::editor::{Editor, edited};

const BASE: &str = "## Softened.\nbonus = 0.1 * entropy\nparam weight = 0.5\nlevel item in rollout\n\
                    fn mix(x, share = 1 per L = group) = bonus * x * share + mean(x per L)\n\
                    advantage = center(reward) * weight\n\
                    token_loss = base.token_loss - mix(bonus, share = 0.0) - 0.0 * mean(logp @ token per item)\n";
const MINE: &str = "extend \"base.rl\"\nbonus = 2 * base.bonus\nparam weight = 0.25\n\
                    metric m = mean(mix(bonus, share = weight)) + real(count(item per batch))\n\
                    metric spread = mean(bonus)\n";

fn pair() -> Editor {
    let mut editor = Editor::new();
    std::fs::write(editor.folder.path().join("base.rl"), BASE).unwrap();
    let found = editor.open("mine.rl", MINE);
    assert!(found.as_array().unwrap().iter().all(|d| d["severity"] != 1), "{found}");
    editor
}

/// The texts after a rename, the base's first.
fn renamed(
    editor: &mut Editor,
    name: &str,
    line: usize,
    character: usize,
    new: &str,
) -> (String, String) {
    let answer = editor.rename(name, line, character, new);
    assert!(answer.get("error").is_none(), "{answer}");
    let changes = &answer["result"]["changes"];
    let apply = |text: &str, file: &str| {
        let edits = &changes[&editor.uri(file)];
        if edits.is_null() { text.to_owned() } else { edited(text, edits) }
    };
    (apply(BASE, "base.rl"), apply(MINE, "mine.rl"))
}

#[test]
fn rename_goes_through_files() {
    let mut editor = pair();
    let both = |old: &str, new: &str| (BASE.replace(old, new), MINE.replace(old, new));
    // From a use, from a definition, from `base.x`: the base is a file on disk, which is not open.
    for (line, character) in [(1, 1), (1, 16), (3, 21), (4, 22)] {
        assert_eq!(
            renamed(&mut editor, "mine.rl", line, character, "prize"),
            both("bonus", "prize")
        );
    }
    assert_eq!(renamed(&mut editor, "mine.rl", 3, 36, "w"), both("weight", "w"));
    assert_eq!(renamed(&mut editor, "mine.rl", 3, 17, "blend"), both("mix", "blend"));
    assert_eq!(renamed(&mut editor, "mine.rl", 3, 30, "part"), both("share", "part"));
    assert_eq!(renamed(&mut editor, "mine.rl", 3, 58, "piece"), both("item", "piece"));
    // From the base, whose extending file is open, and from one that lies beside it, unopened.
    editor.open("base.rl", BASE);
    assert_eq!(renamed(&mut editor, "base.rl", 1, 1, "prize"), both("bonus", "prize"));
    let uri = editor.uri("mine.rl");
    editor.tell("textDocument/didClose", json!({ "textDocument": { "uri": uri } }));
    std::fs::write(editor.folder.path().join("mine.rl"), MINE).unwrap();
    assert_eq!(renamed(&mut editor, "base.rl", 4, 10, "part"), both("share", "part"));
    // What holds in one program may be wrong in another that shares the file.
    let third = editor.folder.path().join("third.rl");
    std::fs::write(&third, "extend \"base.rl\"\nprize = 3.0\nadvantage = prize * base.advantage\n")
        .unwrap();
    let answer = editor.rename("base.rl", 1, 1, "prize");
    assert!(answer["error"]["message"].as_str().unwrap().contains("has a meaning"), "{answer}");
    assert_eq!(renamed(&mut editor, "base.rl", 1, 1, "gift"), both("bonus", "gift"));
    assert_eq!(editor.close(), (0, String::new()));
}

#[test]
fn names_of_the_library_stay() {
    let mut editor = pair();
    editor.open("base.rl", BASE);
    for (name, line, character, new, why) in [
        ("base.rl", 5, 1, "adv", "takes the place of the library's (`stdlib/objectives/grpo.rl`)"),
        ("base.rl", 5, 14, "middle", "belongs to the library (`stdlib/prelude.rl`)"),
        ("base.rl", 5, 20, "score", "belongs to the language"),
        ("base.rl", 6, 18, "x", "takes the place of the library's"),
        ("mine.rl", 3, 12, "average", "belongs to the language"),
        ("mine.rl", 3, 67, "all", "belongs to the language"),
        ("mine.rl", 1, 1, "reward", "has a meaning here already"),
        ("mine.rl", 1, 1, "x", "has a meaning here already"),
        ("mine.rl", 3, 17, "center", "has a meaning here already"),
        ("mine.rl", 3, 58, "turn", "has a meaning here already"),
    ] {
        let answer = editor.rename(name, line, character, new);
        let message = answer["error"]["message"].as_str().unwrap_or("");
        assert!(message.contains(why), "{new}: {answer}");
    }
    let params = editor.at("base.rl", 5, 1);
    assert!(editor.answer("textDocument/prepareRename", params)["error"].is_object());
    let params = editor.at("mine.rl", 1, 17);
    let range = editor.ask("textDocument/prepareRename", params);
    assert_eq!(range["start"], json!({ "line": 1, "character": 17 }));
    assert_eq!(editor.close(), (0, String::new()));
}

#[test]
fn references_and_highlights() {
    let mut editor = pair();
    let ask =
        |editor: &mut Editor, line: usize, character: usize, defined: bool| -> Vec<(String, u64)> {
            let mut params = editor.at("mine.rl", line, character);
            params["context"] = json!({ "includeDeclaration": defined });
            let found = editor.ask("textDocument/references", params);
            let place = |l: &Value| {
                let uri = l["uri"].as_str().unwrap();
                (
                    uri.rsplit('/').next().unwrap().to_owned(),
                    l["range"]["start"]["line"].as_u64().unwrap(),
                )
            };
            found.as_array().unwrap().iter().map(place).collect()
        };
    let at = |places: &[(&str, u64)]| -> Vec<(String, u64)> {
        places.iter().map(|(f, l)| ((*f).to_owned(), *l)).collect()
    };
    let all = [
        ("base.rl", 1),
        ("base.rl", 4),
        ("base.rl", 6),
        ("mine.rl", 1),
        ("mine.rl", 1),
        ("mine.rl", 3),
        ("mine.rl", 4),
    ];
    assert_eq!(ask(&mut editor, 1, 1, true), at(&all));
    let reads = [("base.rl", 4), ("base.rl", 6), ("mine.rl", 1), ("mine.rl", 3), ("mine.rl", 4)];
    assert_eq!(ask(&mut editor, 1, 1, false), at(&reads));
    assert_eq!(
        ask(&mut editor, 3, 58, true),
        at(&[("base.rl", 3), ("base.rl", 6), ("mine.rl", 3)])
    );
    // A name of the library is looked for there, too.
    let params = editor.at("mine.rl", 3, 17);
    let here = editor.ask("textDocument/documentHighlight", params);
    assert_eq!(here.as_array().unwrap().len(), 1);
    let params = editor.at("mine.rl", 1, 1);
    let here = editor.ask("textDocument/documentHighlight", params);
    assert_eq!(here.as_array().unwrap().len(), 4, "{here}");
    assert_eq!(editor.close(), (0, String::new()));
}

#[test]
fn levels_and_keys_lead_to_their_statements() {
    let mut editor = Editor::new();
    let base = "level item in rollout\n## Where they stand.\nkey cell = (group, position)\n";
    std::fs::write(editor.folder.path().join("base.rl"), base).unwrap();
    let text = "extend \"base.rl\"\nkey duel = pairs(rollout in group)\n\
                advantage = mean(reward @ token per cell) + mean(left(reward in duel) per duel.left)\n\
                metric n = real(count(item per batch))\nmetric g = mean(mean(reward per group))\n";
    editor.open("mine.rl", text);
    for (line, character, file, at) in [
        (2, 38, "base.rl", (2, 4)),
        (2, 65, "mine.rl", (1, 4)),
        (2, 78, "mine.rl", (1, 4)),
        (3, 23, "base.rl", (0, 6)),
    ] {
        let found = editor.definition("mine.rl", line, character);
        let start = json!({ "line": at.0, "character": at.1 });
        assert_eq!(found, (editor.uri(file), start), "{line}:{character}");
    }
    assert!(editor.hover("mine.rl", 2, 38).contains("key cell = (group, position)"));
    assert!(editor.hover("mine.rl", 2, 38).contains("Where they stand."));
    let answer = editor.rename("mine.rl", 2, 78, "match_up");
    let edits = &answer["result"]["changes"][&editor.uri("mine.rl")];
    assert_eq!(edited(text, edits), text.replace("duel", "match_up"));
    for (line, character, wanted) in [
        (2, 36, &["cell", "duel", "duel.left", "item", "runs", "group"][..]),
        (2, 23, &["reward"]),
        (2, 26, &["cell", "token", "item"]),
        (2, 64, &["cell", "duel", "rollout"]),
        (1, 17, &["rollout", "reward"]),
    ] {
        let found = editor.complete("mine.rl", line, character);
        let labels = crate::editor::labels(&found);
        for name in wanted {
            assert!(labels.contains(name), "{line}:{character}: no {name} in {labels:?}");
        }
    }
    editor.change("mine.rl", "extend \"base.rl\"\nkey node = (group, )\nm = mean(reward per (\n");
    for (line, character) in [(1, 19), (2, 21)] {
        let found = editor.complete("mine.rl", line, character);
        let labels = crate::editor::labels(&found);
        for name in ["group", "item", "cell", "position", "mask"] {
            assert!(labels.contains(&name), "no {name} in {labels:?}");
        }
    }
    assert_eq!(editor.close(), (0, String::new()));
}
