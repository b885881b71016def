//! Type, level and stage of what has no name, and of what is being typed.

use serde_json::{Value, json};

use crate::editor::Editor;

/// Line and character of the first byte of `part` in `text`.
fn at(text: &str, part: &str) -> (usize, usize) {
    let start = text.find(part).unwrap();
    let line = text[..start].matches('\n').count();
    (line, start - text[..start].rfind('\n').map_or(0, |i| i + 1))
}

#[test]
fn expressions_have_types() {
    let mut editor = Editor::new();
    let text = "param w = 0.5\nparam n = 3\nparam flag = true\nparam ws[2] = 0.5\n\
                input extra : real @ turn\nstate v[prompt] : real @ group = 0.5\nupdate v = mean(reward per group)\n\
                advantage =\n  low   = min(reward, 0.0)\n  high  =\n    (reward - v) * w\n  low * 2 + high + ws[1] - ws[2]\n\
                token_loss = base.token_loss * (1 - w) + (if flag then extra else 0) * n\n\
                fn f(x) = x * (x + 1)\n\
                metric m = mean(f(logp) - old_logp) + mean(sum(token_reward per rollout))\n\
                keep rollout where length > 1 and not truncated\n";
    let found = editor.open("a.rl", text);
    assert!(found.as_array().unwrap().iter().all(|d| d["severity"] != 1), "{found}");
    for (around, within, said) in [
        ("- v) * w", "* w", "real, one per rollout; recorded"),
        ("reward - v", "- v", "real, one per rollout; recorded"),
        ("* 2 + high", "+ high", "real, one per rollout; recorded"),
        ("low * 2", "* 2", "real, one per rollout; recorded"),
        ("token_loss * (1", "* (1", "real, one per token; live"),
        ("1 - w", "- w", "real, one for the batch; recorded"),
        ("if flag then extra", "if flag", "real, one per turn; recorded"),
        ("(logp) - old_logp", "- old", "real, one per token; live"),
        ("f(logp)", "f(", "this call: real, one per token; live"),
        ("mean(f(", "mean", "this call: real, one for the batch; live"),
        ("sum(token_reward", "sum", "this call: real, one per rollout; recorded"),
        ("length > 1", "> 1", "bool, one per rollout; recorded"),
        ("low   =", "low", "real, one per rollout; recorded"),
        ("high  =", "high", "real, one per rollout; recorded"),
        ("low * 2", "low", "real, one per rollout; recorded"),
        ("w) + (if", "w", "real, one for the batch; a param"),
        ("n = 3", "n", "int, one for the batch; a param"),
        ("flag then", "flag", "bool, one for the batch; a param"),
        ("ws[1]", "ws", "a family of 2; a param"),
        ("extra else", "extra", "real, one per turn; recorded; a column of the batch"),
        ("v) * w", "v", "real, one per group; a state"),
        ("length > 1", "length", "`length`: int, one per rollout; recorded"),
        ("m = mean", "m", "real, one for the batch; live"),
    ] {
        let (line, start) = at(text, around);
        let inner = around.find(within).unwrap();
        let shown = editor.hover("a.rl", line, start + inner);
        assert!(shown.contains(said), "{around}: {said:?} is not in\n{shown}");
    }
    // The argument of a function has the type of each call.
    let (line, start) = at(text, "x * (x + 1)");
    let shown = editor.hover("a.rl", line, start + 2);
    assert!(shown.contains("in a call of this program: real, one per token; live"), "{shown}");
    let params = editor.at("a.rl", at(text, "* w").0, at(text, "* w").1);
    let range = editor.ask("textDocument/hover", params)["range"].clone();
    assert_eq!(range["start"]["character"], at(text, "reward - v) * w").1 - 1);
    assert_eq!(editor.close(), (0, String::new()));
}

#[test]
fn broken_text_keeps_its_meanings() {
    let mut editor = Editor::new();
    let text = "extend dapo\nratio = exp(clip(logp - old_logp, -2, 2))\nfn half(x) = x / 2\n\
                param w = 0.5\nadvantage = half(center(reward)) * w\nmetric m = mean(ratio)\n";
    assert_eq!(editor.open("a.rl", text), json!([]));
    let uri = editor.uri("a.rl");
    // Statement by statement, each is cut short here and there; the others keep their meanings.
    let lines: Vec<&str> = text.lines().collect();
    for broken in 1..lines.len() {
        for cut in (1..lines[broken].len()).step_by(3) {
            let mut now = lines.clone();
            now[broken] = &lines[broken][..cut];
            let now = now.join("\n") + "\n";
            editor.change("a.rl", &now);
            if broken != 5 {
                let shown = editor.hover("a.rl", 5, 17);
                assert!(shown.contains("one per token; live"), "{now}\n{shown}");
                if broken != 1 || cut > 5 {
                    let (file, start) = editor.definition("a.rl", 5, 17);
                    assert_eq!((file, &start["line"]), (uri.clone(), &json!(1)), "{now}");
                }
            }
            if broken != 4 {
                let shown = editor.hover("a.rl", 4, 33);
                assert!(shown.contains("real, one per rollout; recorded"), "{now}\n{shown}");
                if broken != 2 || cut > 8 {
                    let (file, start) = editor.definition("a.rl", 4, 13);
                    assert_eq!((file, &start["line"]), (uri.clone(), &json!(2)), "{now}");
                }
            }
        }
    }
    editor.change("a.rl", text);
    assert_eq!(editor.found[&uri], json!([]));
    let hover = editor.hover("a.rl", 5, 17);
    assert!(hover.contains("ratio = exp(clip"), "{hover}");
    assert_eq!(editor.close(), (0, String::new()));
}

#[test]
fn places_of_the_library_can_be_asked() {
    let mut editor = Editor::new();
    for (name, text) in [
        ("calib.rl", include_str!("../../../stdlib/objectives/calibadv.rl")),
        ("p.rl", include_str!("../../../stdlib/prelude.rl")),
    ] {
        editor.open(name, text);
        let lines: Vec<&str> = text.lines().collect();
        for (line, words) in lines.iter().enumerate().step_by(9) {
            for character in (0..words.len()).step_by(17) {
                let params = editor.at(name, line, character);
                for method in ["hover", "definition", "documentHighlight", "completion"] {
                    let answer = editor.answer(&format!("textDocument/{method}"), params.clone());
                    assert!(answer.get("error").is_none(), "{name}:{line}:{character}: {answer}");
                }
                let _: Value = editor.rename(name, line, character, "zz");
            }
        }
    }
    assert_eq!(editor.close(), (0, String::new()));
}
