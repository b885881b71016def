//! The language server, driven as an editor drives it: the binary, its stdin and its stdout.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

mod editor;
mod files;
mod types;

use std::path::Path;

use editor::{Editor, edited, labels};
use serde_json::{Value, json};

#[test]
fn findings_come_and_go_as_one_types() {
    let mut editor = Editor::new();
    let found = editor.open("a.rl", "# 😀 é\nadvantage = \"😀\" * rewrd\n");
    assert_eq!(found[0]["code"], "E0009", "{found}");
    let found = editor.change("a.rl", "# 😀\nadvantage = center(rewrd)\nx = 1.0\n");
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found[0]["code"], "E0101");
    assert_eq!(found[0]["severity"], 1);
    assert_eq!(found[0]["range"]["start"], json!({ "line": 1, "character": 19 }));
    assert_eq!(found[0]["range"]["end"], json!({ "line": 1, "character": 24 }));
    assert!(found[0]["message"].as_str().unwrap().contains("`rewrd`"));
    let found = editor.change("a.rl", "advantage = center(reward)\nbonus = 1.0\n");
    assert_eq!(
        (&found[0]["code"], &found[0]["severity"]),
        (&json!("unused_definition"), &json!(2))
    );
    assert_eq!(editor.change("a.rl", "advantage = center(reward)\n"), json!([]));
    // Closing takes the findings away.
    editor.change("a.rl", "x = (");
    let uri = editor.uri("a.rl");
    editor.tell("textDocument/didClose", json!({ "textDocument": { "uri": uri } }));
    assert_eq!(editor.published("a.rl"), json!([]));
    assert_eq!(editor.close(), (0, String::new()));
}

#[test]
fn hover_says_type_level_stage_and_where_from() {
    let mut editor = Editor::new();
    let text = "extend dapo\n## Softer.\nadvantage = 0.5 * base.advantage\n\
                metric m = mean(ratio * advantage)\nlevel item in rollout\ninput w : real @ item\n\
                metric k = mean(group_norm(w, eps = clip_high))\n";
    assert_eq!(editor.open("a.rl", text), json!([]));
    let own = editor.hover("a.rl", 2, 3);
    assert!(own.contains("advantage = 0.5 * base.advantage") && own.contains("Softer."), "{own}");
    assert!(own.contains("real, one per rollout; recorded"), "{own}");
    assert!(own.contains("in place of `stdlib/objectives/grpo.rl`"), "{own}");
    let base = editor.hover("a.rl", 2, 25);
    assert!(base.contains("advantage  = group_norm(reward)"), "{base}");
    let ratio = editor.hover("a.rl", 3, 17);
    assert!(ratio.contains("ratio      = exp(logp - old_logp)"), "{ratio}");
    assert!(ratio.contains("real, one per token; live"), "{ratio}");
    assert!(ratio.contains("from `stdlib/objectives/grpo.rl`"), "{ratio}");
    assert!(ratio.contains("Probability of the token"), "{ratio}");
    assert!(editor.hover("a.rl", 3, 7).contains("real, one for the batch; live"));
    assert!(editor.hover("a.rl", 3, 12).contains("Mean over the elements"));
    assert!(editor.hover("a.rl", 6, 17).contains("fn group_norm(x, eps = 1e-4)"));
    assert!(editor.hover("a.rl", 6, 27).contains("real, one per item; recorded"));
    assert!(editor.hover("a.rl", 6, 31).contains("an argument of `group_norm`"));
    let clip = editor.hover("a.rl", 6, 37);
    assert!(clip.contains("param clip_high = 0.28") && clip.contains("in place of"), "{clip}");
    assert!(editor.hover("a.rl", 4, 16).contains("one completion"));
    assert!(editor.hover("a.rl", 0, 8).contains("Decoupled Clip"));
    assert!(editor.hover("a.rl", 0, 1).contains("the file that this one changes"));
    assert_eq!(editor.hover("a.rl", 40, 0), "");
    // While a statement is half typed, the last good version's facts stay.
    editor.change("a.rl", &format!("{text}metric n = mean(\n"));
    assert!(editor.hover("a.rl", 3, 17).contains("real, one per token; live"));
    assert_eq!(editor.close(), (0, String::new()));
}

#[test]
fn definitions_lead_through_extend() {
    let mut editor = Editor::new();
    let base = editor.folder.path().join("base é.rl");
    std::fs::write(&base, "# 😀\nbonus = 0.1 * entropy\ntoken_loss = base.token_loss - bonus\n")
        .unwrap();
    let text = "extend \"base é.rl\"\nadvantage = center(reward)\nmetric m = mean(bonus) + mean(advantage)\n";
    let found = editor.open("a.rl", text);
    assert!(found.as_array().unwrap().iter().all(|d| d["severity"] != 1), "{found}");
    let uri = editor.uri("base%20%C3%A9.rl");
    let (at, start) = editor.definition("a.rl", 2, 18);
    assert_eq!((at, start), (uri.clone(), json!({ "line": 1, "character": 0 })));
    let (at, start) = editor.definition("a.rl", 2, 35);
    assert_eq!((at, start), (editor.uri("a.rl"), json!({ "line": 1, "character": 0 })));
    assert_eq!(editor.definition("a.rl", 0, 9).0, uri);
    // A library file opens as a copy, whose text and place agree with the library's.
    let (at, start) = editor.definition("a.rl", 1, 13);
    let path = at.strip_prefix("file://").unwrap();
    let copy = std::fs::read_to_string(path).unwrap();
    let line = copy.lines().nth(start["line"].as_u64().unwrap() as usize).unwrap();
    assert!(line.starts_with("fn center(x)"), "{line}");
    assert!(Path::new(path).metadata().unwrap().permissions().readonly());
    let document = json!({ "uri": at, "languageId": "rl", "version": 1, "text": copy });
    editor.tell("textDocument/didOpen", json!({ "textDocument": document }));
    editor.answer("rlc/nothing", Value::Null);
    assert_eq!(editor.found[&at], json!([]));
    // The open text of a base counts, not the file; its errors show where it is extended.
    editor.open("base%20%C3%A9.rl", "bonus = nonsense\n");
    let found = editor.found[&editor.uri("a.rl")].clone();
    assert_eq!(found[0]["range"]["start"]["line"], 0, "{found}");
    assert_eq!(found[0]["relatedInformation"][0]["location"]["uri"], uri);
    assert_eq!(editor.close(), (0, String::new()));
}

#[test]
fn completion_knows_what_fits() {
    let mut editor = Editor::new();
    let text = "extend dapo\nfn soft(x, tau = 1 per L = group) =\n  scaled = x / tau\n  \nlevel item in rollout\n\
                advantage = gro\nm = mean(reward per \nallow \nextend d\n# é 😀\nx = \"\" + cl\n";
    editor.open("a.rl", text);
    let names = editor.complete("a.rl", 5, 15);
    let all = labels(&names);
    for name in ["group_norm", "reward", "clip_high", "ratio", "soft", "mean", "if", "loss_mask"] {
        assert!(all.contains(&name), "{name} is not in {all:?}");
    }
    assert!(!all.contains(&"minimize"));
    let norm = names.iter().find(|i| i["label"] == "group_norm").unwrap();
    assert_eq!(norm["detail"], "group_norm(x, eps = 1e-4)");
    assert!(norm["documentation"]["value"].as_str().unwrap().contains("standard deviations"));
    assert_eq!(norm["textEdit"]["range"]["start"], json!({ "line": 5, "character": 12 }));
    let items = editor.complete("a.rl", 6, 20);
    assert!(labels(&items).contains(&"item") && labels(&items).contains(&"rollout"));
    assert!(!labels(&items).contains(&"reward"));
    assert!(labels(&editor.complete("a.rl", 7, 6)).contains(&"missing_detach"));
    assert!(labels(&editor.complete("a.rl", 8, 8)).contains(&"dr_grpo"));
    let inside = editor.complete("a.rl", 3, 2);
    assert!(
        ["x", "tau", "scaled"].iter().all(|n| labels(&inside).contains(n)),
        "{:?}",
        labels(&inside)
    );
    assert!(labels(&editor.complete("a.rl", 4, 0)).contains(&"minimize"));
    assert_eq!(editor.complete("a.rl", 9, 3), Vec::<Value>::new());
    assert_eq!(editor.close(), (0, String::new()));
}

#[test]
fn rename_follows_meanings_and_refuses_to_change_them() {
    let mut editor = Editor::new();
    let text = "bonus = 0.1 * entropy  # bonus\n\
                fn mix(bonus, w = 1) = bonus * w\n\
                token_loss = base.token_loss - mix(bonus, w = 2)\n\
                fn near(x) =\n  bonus = bonus - x\n  bonus * 2\n\
                metric n = mean(near(bonus))\n";
    let found = editor.open("a.rl", text);
    assert!(found.as_array().unwrap().iter().all(|d| d["severity"] != 1), "{found}");
    let uri = editor.uri("a.rl");
    let mut renamed = |line, character, new: &str| {
        let answer = editor.rename("a.rl", line, character, new);
        assert!(answer.get("error").is_none(), "{answer}");
        edited(text, &answer["result"]["changes"][&uri])
    };
    let value = "prize = 0.1 * entropy  # bonus\n\
                 fn mix(bonus, w = 1) = bonus * w\n\
                 token_loss = base.token_loss - mix(prize, w = 2)\n\
                 fn near(x) =\n  bonus = prize - x\n  bonus * 2\n\
                 metric n = mean(near(prize))\n";
    assert_eq!(renamed(0, 1, "prize"), value);
    assert_eq!(renamed(2, 36, "prize"), value);
    assert_eq!(renamed(1, 9, "z"), text.replace("mix(bonus, w = 1) = bonus", "mix(z, w = 1) = z"));
    let weight = text.replace("w = 1) = bonus * w", "v = 1) = bonus * v").replace("w = 2", "v = 2");
    assert_eq!(renamed(1, 14, "v"), weight);
    assert_eq!(renamed(2, 42, "v"), weight);
    let local = text.replace("  bonus = bonus - x\n  bonus", "  y = bonus - x\n  y");
    assert_eq!(renamed(4, 3, "y"), local);
    assert_eq!(renamed(3, 4, "far"), text.replace("near", "far"));
    let levels =
        "level item in rollout\nmetric i = mean(index(item in rollout) @ token per item)\n";
    editor.open("b.rl", levels);
    for (line, character) in [(0, 7), (1, 22), (1, 51)] {
        let answer = editor.rename("b.rl", line, character, "step");
        let renamed = edited(levels, &answer["result"]["changes"][&editor.uri("b.rl")]);
        assert_eq!(renamed, levels.replace("item", "step"));
    }
    for (line, character, new, why) in [
        (0, 1, "reward", "has a meaning here already"),
        (0, 1, "if", "cannot be a name"),
        (0, 1, "a b", "cannot be a name"),
        (0, 1, "x", "has a meaning here already"),
        (1, 9, "w", "has a meaning here already"),
        (0, 15, "h", "cannot be renamed here"),
        (2, 1, "loss_of_token", "takes the place"),
    ] {
        let answer = editor.rename("a.rl", line, character, new);
        let message = answer["error"]["message"].as_str().unwrap_or("");
        assert!(message.contains(why), "{new}: {answer}");
    }
    assert_eq!(editor.close(), (0, String::new()));
}

#[test]
fn formatting_replaces_the_text() {
    let mut editor = Editor::new();
    let text = "advantage=center( reward )   \n\n\n\n# end";
    editor.open("a.rl", text);
    let options = json!({ "tabSize": 2, "insertSpaces": true });
    let params = json!({ "textDocument": { "uri": editor.uri("a.rl") }, "options": options });
    let edits = editor.ask("textDocument/formatting", params.clone());
    let neat = edited(text, &edits);
    assert_eq!(neat, "advantage = center(reward)\n\n# end\n");
    editor.change("a.rl", &neat);
    assert_eq!(editor.ask("textDocument/formatting", params.clone()), json!([]));
    editor.change("a.rl", "x = (");
    assert_eq!(editor.ask("textDocument/formatting", params), Value::Null);
    assert_eq!(editor.close(), (0, String::new()));
}

#[test]
fn what_is_no_protocol_is_refused_and_survived() {
    let mut editor = Editor::bare();
    assert_eq!(editor.answer("textDocument/hover", json!({}))["error"]["code"], -32002);
    editor.ask("initialize", json!({ "capabilities": {} }));
    editor.raw(b"Content-Length: 5\r\n\r\n{nope");
    assert_eq!(editor.receive()["error"]["code"], -32700);
    for (method, params, code) in [
        ("textDocument/hover", json!({ "textDocument": 3 }), -32602),
        ("textDocument/hover", json!(null), -32602),
        ("textDocument/foldingRange", json!({}), -32601),
    ] {
        assert_eq!(editor.answer(method, params)["error"]["code"], code, "{method}");
    }
    let nowhere = editor.at("none.rl", 0, 0);
    assert_eq!(editor.answer("textDocument/hover", nowhere)["error"]["code"], -32602);
    for odd in [json!([]), json!(3), json!({ "jsonrpc": "2.0" }), json!({ "method": 7 })] {
        editor.send(&odd);
    }
    editor.tell("textDocument/didOpen", json!({ "textDocument": { "uri": "untitled:1" } }));
    // Every place of odd texts, in every way.
    let texts = [
        "",
        "\u{feff}x = 😀\r\n\ty",
        "fn f(",
        "fn f(a, per L =\n  b = \n",
        "extend\nallow\nbase.",
        "😀",
    ];
    for text in texts {
        editor.open("odd.rl", text);
        for line in 0..3 {
            for character in [0, 1, 3, 9, 4_000_000_000_usize] {
                let params = editor.at("odd.rl", line, character);
                for method in ["hover", "definition", "completion", "prepareRename"] {
                    editor.answer(&format!("textDocument/{method}"), params.clone());
                }
                editor.rename("odd.rl", line, character, "zz");
            }
        }
    }
    assert_eq!(editor.close(), (0, String::new()));
    // Framing that is lost ends the server, with words and without a panic.
    for bytes in [
        &b"Content-Length: 99999999999999\r\n\r\n"[..],
        b"hello\r\n\r\n",
        b"Content-Length: 9\r\n\r\n{",
    ] {
        let mut editor = Editor::bare();
        editor.raw(bytes);
        let (code, said) = editor.end();
        assert_eq!(code, 1);
        assert!(said.starts_with("error: ") && !said.contains("panicked"), "{said}");
    }
    let mut editor = Editor::new();
    editor.tell("exit", Value::Null);
    assert_eq!(editor.end().0, 1);
}
