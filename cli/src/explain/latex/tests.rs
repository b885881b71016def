//! What is typeset stays inside the part of LaTeX that KaTeX renders. The table below was read off a run
//! of it: `RLC_KATEX=folder cargo test -p rlc --lib latex`, with the folder that holds
//! `node_modules/katex`, lets it render every text here again.

use rlc_compiler::link::{NoFiles, link};
use rlc_compiler::source::{Source, Sources};
use rlc_compiler::stdlib::library;

use super::typeset;

/// Commands, their arguments in braces, and how many macro expansions each costs.
const COMMANDS: &[(&str, usize, usize)] = &[
    ("begin", 0, 0),
    ("end", 0, 0),
    ("left", 0, 0),
    ("middle", 0, 0),
    ("right", 0, 0),
    ("\\", 0, 0),
    (" ", 0, 0),
    ("_", 0, 0),
    ("quad", 0, 1),
    ("text", 1, 0),
    ("mathrm", 1, 0),
    ("mathop", 1, 0),
    ("phantom", 1, 0),
    ("frac", 2, 0),
    ("sqrt", 1, 0),
    ("exp", 0, 0),
    ("log", 0, 0),
    ("min", 0, 0),
    ("max", 0, 0),
    ("sin", 0, 0),
    ("cos", 0, 0),
    ("tanh", 0, 0),
    ("cdot", 0, 0),
    ("bmod", 0, 1),
    ("ne", 0, 5),
    ("le", 0, 0),
    ("ge", 0, 0),
    ("lnot", 0, 0),
    ("land", 0, 0),
    ("lor", 0, 0),
    ("lfloor", 0, 0),
    ("rfloor", 0, 0),
    ("infty", 0, 0),
    ("alpha", 0, 0),
    ("beta", 0, 0),
    ("gamma", 0, 0),
    ("delta", 0, 0),
    ("epsilon", 0, 0),
    ("lambda", 0, 0),
    ("tau", 0, 0),
    ("pi", 0, 0),
];

/// Where KaTeX gives up.
const EXPANSIONS: usize = 1000;

/// Reads a text as KaTeX does, as far as it goes here.
struct Reader<'a> {
    rest: &'a str,
    expansions: usize,
}

impl<'a> Reader<'a> {
    /// Reads to the `}`, `\right`, `\middle` or `\end` that closes what was opened.
    fn until(&mut self, close: &str, cells: bool) -> Result<(), String> {
        // Scripts that the last atom has.
        let mut scripts = String::new();
        loop {
            self.rest = self.rest.trim_start();
            if let Some(rest) = self.rest.strip_prefix(close) {
                self.rest = rest;
                return Ok(());
            }
            let c = self.rest.chars().next().ok_or_else(|| format!("no `{close}`"))?;
            if c == '_' || c == '^' {
                self.rest = &self.rest[1..];
                if scripts.contains(c) {
                    return Err(format!("two `{c}` before {:.40}", self.rest));
                }
                scripts.push(c);
                self.group()?;
                continue;
            }
            scripts.clear();
            match c {
                '\\' => self.command(close, cells)?,
                '{' => self.group()?,
                '&' if cells => self.rest = &self.rest[1..],
                '}' | '&' | '#' | '%' | '$' | '~' => return Err(format!("a bare `{c}`")),
                _ if c.is_ascii() => self.rest = &self.rest[1..],
                _ => return Err(format!("`{c}` in mathematics")),
            }
        }
    }

    fn group(&mut self) -> Result<(), String> {
        let rest = self.rest.trim_start().strip_prefix('{');
        self.rest = rest.ok_or_else(|| format!("no group at {:.40}", self.rest))?;
        self.until("}", false)
    }

    fn command(&mut self, close: &str, cells: bool) -> Result<(), String> {
        let text = &self.rest[1..];
        let word = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (name, rest) = text.split_at(word.max(1));
        self.rest = rest;
        let known = COMMANDS.iter().find(|c| c.0 == name);
        let (_, arguments, cost) = known.ok_or_else(|| format!("`\\{name}` is not known"))?;
        self.expansions += cost;
        match name {
            "text" => {
                let body = rest.strip_prefix('{').and_then(|r| r.split_once('}'));
                let (body, rest) = body.ok_or("a `\\text` without an end")?;
                let plain = body.replace("\\_", "");
                let odd = plain.find(|c: char| !c.is_ascii() || "_^&#%$~\\{".contains(c));
                self.rest = rest;
                odd.map_or(Ok(()), |_| Err(format!("`{body}` in a text")))
            }
            "begin" => {
                let (name, rest) = self.environment()?;
                self.rest = rest;
                self.until(&format!("\\end{{{name}}}"), true)
            }
            "left" => {
                self.delimiter()?;
                self.until("\\right", false)?;
                self.delimiter()
            }
            "middle" if close == "\\right" => self.delimiter(),
            "\\" if cells => {
                self.rest = self.rest.strip_prefix("[4pt]").unwrap_or(self.rest);
                Ok(())
            }
            "\\" | "end" | "right" | "middle" => Err(format!("`\\{name}` closes nothing")),
            _ => (0..*arguments).try_for_each(|_| self.group()),
        }
    }

    fn environment(&self) -> Result<(&'a str, &'a str), String> {
        let found = ["aligned", "cases"].into_iter().find_map(|name| {
            let rest = self.rest.strip_prefix(&format!("{{{name}}}"))?;
            Some((name, rest))
        });
        found.ok_or_else(|| format!("an environment at {:.40}", self.rest))
    }

    fn delimiter(&mut self) -> Result<(), String> {
        let rest = self.rest.trim_start();
        let mut known = ["(", ")", "|", "\\lfloor", "\\rfloor"].iter();
        let found = known.find_map(|d| rest.strip_prefix(d));
        self.rest = found.ok_or_else(|| format!("no delimiter at {rest:.40}"))?;
        Ok(())
    }
}

fn renders(text: &str) -> Result<(), String> {
    let mut reader = Reader { rest: text, expansions: 0 };
    let rest = reader.rest.strip_prefix("\\begin{aligned}").ok_or("no `aligned`")?;
    reader.rest = rest;
    reader.until("\\end{aligned}", true)?;
    if !reader.rest.trim().is_empty() {
        return Err(format!("more behind the end: {:.40}", reader.rest));
    }
    if reader.expansions > EXPANSIONS {
        return Err(format!("{} macro expansions", reader.expansions));
    }
    Ok(())
}

fn of(text: &str) -> String {
    let mut sources = Sources::default();
    let source = Source { name: "a.rl".into(), text: text.to_owned(), library: false };
    let root = sources.add(source);
    let mut found = Vec::new();
    let linked = link(&mut sources, root, &NoFiles, &mut found);
    typeset(&linked).unwrap_or_else(|_| panic!("{text}\n{found:#?}"))
}

/// Statements over `grpo`, each with something of its own; also what the compiler does not run yet.
const PROGRAMS: &[&str] = &[
    "advantage = calib(group_norm(reward), step_correct)",
    "token_loss = base.token_loss - 1e-3 * entropy",
    "advantage = -1.5 ^ 2 - -(reward - 2) * --reward",
    "advantage = (-reward) ^ (2 ^ -length) ^ 0.5",
    "advantage = 7 // 2 % 3 + length % 2 // 3",
    "advantage = if reward != 0 and not (correct or truncated) then 1 else if correct then inf else -inf",
    "advantage = (if correct then 1.0 else 0.0) ^ 2 / (if truncated then 2.0 else 3.0)",
    "advantage = reward |> center |> clip(-1, 1)",
    "fn softly(x, tau = 1e-6 per L = group) =\n  beta_2 = mean(x per L)\n  x / (beta_2 + tau)\nadvantage = softly(reward, tau = 2.5e10 per group)",
    "key cell = (group, position)\nadvantage = center(token_reward) - mean(mean(token_reward per cell) per group)",
    "advantage = mean(token_reward per (group, position // 4, mask))",
    "advantage = mean(token_reward where mask and position > 3 per runs(mask in rollout))",
    "advantage = sum(token_reward per splits(token_reward > 0 in rollout))",
    "advantage = mean(reward @ token per prefix(action in group))",
    "advantage = mean(left(reward in duel) - right(reward in duel) per duel.left)\nkey duel = pairs(rollout in group)",
    "advantage = mean(reward per pairs(rollout in group))",
    "param weights[3] = 1.0\ninput rewards[3] : real @ rollout\nadvantage = sum(weights[k] * center(rewards[k]) for k in 1..3) + weights[1]",
    "advantage = next(reward, 0.0, by = 2 in group) + rcumsum(token_reward in rollout) + index(turn in rollout)",
    "loss_mask = base.loss_mask and isfinite(logp)\nadvantage = max(reward, default = -1 where correct per group)",
    "level item in rollout\ninput w_1 : real @ item\nadvantage = sum(w_1 @ token per item) + quantile(reward, 0.25 per group)",
    "gamma = 0.99\nlambda = 0.95\nalpha = pi\nepsilon = 1e-12\ndelta = inf\nadvantage = gamma * lambda * alpha * epsilon * delta * train.progress",
    "ratio = at(softmax(logits / temperature), action) / exp(old_logp)",
    "advantage = with_grad(detach(reward), of = logp) == 1 or reward >= 0 and reward <= 1",
    "state best[prompt] : real @ group = 0.5\nupdate best = max(reward per group)\nadvantage = reward - best",
    "advantage = true and false",
    "extend nothing\nmaximize mean(logp)",
];

/// Everything that is typeset here, by name.
fn texts() -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    for (name, _, _) in library() {
        out.push(((*name).to_owned(), of(&format!("extend {name}\n"))));
    }
    for program in PROGRAMS {
        out.push(((*program).to_owned(), of(&format!("{program}\n"))));
    }
    // As long and as deep as programs get.
    let mut long = String::new();
    for i in 0..200 {
        let last = if i == 0 { "reward".to_owned() } else { format!("d{}", i - 1) };
        long += &format!(
            "d{i} = mean(clip({last}, 0, {i}) where mask per rollout) + f_{i}({last}, 1)\n"
        );
        long += &format!("fn f_{i}(x, y) =\n  z = max(x, y)\n  z + 1\n");
    }
    out.push(("long".into(), of(&format!("{long}advantage = d199\n"))));
    for (open, close) in [("exp(", ")"), ("1 / (1 + ", ")"), ("(1 + ", ") ^ 2")] {
        let deep = format!("advantage = {}reward{}\n", open.repeat(60), close.repeat(60));
        out.push((format!("deep {open}"), of(&deep)));
    }
    out
}

#[test]
fn everything_renders() {
    let texts = texts();
    for (name, text) in &texts {
        renders(text).unwrap_or_else(|e| panic!("{name}: {e}\n{text}"));
    }
    if let Ok(folder) = std::env::var("RLC_KATEX") {
        let script = "const katex = require(process.argv[1] + '/node_modules/katex');
            const texts = JSON.parse(require('fs').readFileSync(0, 'utf8'));
            const strict = (code, why) => { throw new Error(code + ': ' + why); };
            for (const [name, text] of texts) {
                try { katex.renderToString(text, { displayMode: true, strict }); }
                catch (e) { console.log(name + ': ' + e.message + '\\n' + text); process.exitCode = 1; }
            }";
        let mut node = std::process::Command::new("node")
            .args(["-e", script, &folder])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("node");
        let texts = serde_json::to_string(&texts).expect("JSON");
        std::io::Write::write_all(&mut node.stdin.take().expect("a pipe"), texts.as_bytes())
            .expect("all written");
        assert!(node.wait().expect("an end").success());
    }
}

#[test]
fn what_katex_refuses_is_refused() {
    for (text, why) in [
        ("x_{a}_{b}", "two `_`"),
        ("\\text{a_b}", "in a text"),
        ("a & \\left( b & c \\right)", "a bare `&`"),
        ("\\foo", "not known"),
        ("\\left( a ]", "closes nothing"),
        ("a \\middle| b", "closes nothing"),
        ("\\frac{a} b", "no group"),
        ("a # b", "a bare `#`"),
        ("\\begin{cases} a", "closes nothing"),
        ("é", "in mathematics"),
    ] {
        let error = renders(&format!("\\begin{{aligned}}{text}\\end{{aligned}}")).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
    let many = "\\ne".repeat(300);
    assert!(renders(&format!("\\begin{{aligned}}{many}\\end{{aligned}}")).is_err());
}
