//! What the language does not have: other languages' operators, other scripts, malformed numbers. Each
//! with what to write instead.

use super::clip;

/// Text that is no token.
pub(super) struct Bad {
    pub length: usize,
    pub code: &'static str,
    pub title: String,
    pub label: &'static str,
    /// What to put in its place, where that is known.
    pub instead: Option<String>,
    /// The help: what to do, and code for when the statement itself cannot be corrected.
    pub lead: String,
    pub sample: String,
}

/// An operator or bracket of another language at the start of `rest`.
pub(super) fn operator(rest: &str) -> Option<Bad> {
    let (text, is_not, new, lead, sample) =
        NOT_OURS.into_iter().find(|(text, ..)| rest.starts_with(text))?;
    Some(Bad {
        length: text.len(),
        code: "E0009",
        title: format!("`{text}` {is_not}"),
        label: "not in the language",
        instead: new.map(str::to_owned),
        lead: lead.to_owned(),
        sample: sample.to_owned(),
    })
}

/// A text that begins with a digit and is no number.
pub(super) fn number(text: &str) -> Bad {
    let plain = text.replace('_', "");
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    let (lead, new) = if plain != text && digits(&plain) {
        ("write the digits without `_`", Some(plain))
    } else if text.strip_suffix('.').is_some_and(digits) {
        ("give the point a digit on both sides", Some(format!("{text}0")))
    } else {
        ("a number is written like `2`, `0.5` or `1e-6`, and a name begins\nwith a letter", None)
    };
    Bad {
        length: text.len(),
        code: "E0014",
        title: format!("`{}` is not a number", clip(text)),
        label: "begins like a number",
        sample: new.clone().filter(|n| n.len() < 16).unwrap_or_else(|| "x2 = 0.5".to_owned()),
        instead: new,
        lead: lead.to_owned(),
    }
}

/// A dot that begins a token.
pub(super) fn dot(rest: &str) -> Bad {
    let digits = rest[1..].bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Bad {
            length: 1,
            code: "E0009",
            title: "a `.` stands alone".to_owned(),
            label: "joins nothing",
            instead: None,
            lead: "a dot joins the parts of a name, without blanks".to_owned(),
            sample: "ratio = base.ratio".to_owned(),
        };
    }
    let text = &rest[..=digits];
    Bad {
        length: digits + 1,
        code: "E0014",
        title: format!("`{}` has no digit before its point", clip(text)),
        label: "begins with the point",
        instead: Some(format!("0{text}")),
        lead: "write the zero".to_owned(),
        sample: "x = 0.5".to_owned(),
    }
}

/// A character that no token begins with.
pub(super) fn character(rest: &str) -> Bad {
    let c = rest.chars().next().unwrap_or(' ');
    let ours = match c {
        '\u{a0}' | '\u{2000}'..='\u{200b}' | '\u{202f}' | '\u{3000}' => " ",
        '\u{2212}' | '\u{2010}'..='\u{2015}' => "-",
        '×' | '·' | '⋅' | '∗' => "*",
        '÷' => "/",
        '≤' => "<=",
        '≥' => ">=",
        '≠' => "!=",
        '∧' => "and",
        '∨' => "or",
        '¬' => "not ",
        '∞' => "inf",
        'π' => "pi",
        '“' | '”' | '„' => "\"",
        '←' => "=",
        'α' => "alpha",
        'β' => "beta",
        'γ' => "gamma",
        'λ' => "lam",
        'ε' | 'ϵ' => "eps",
        'τ' => "tau",
        _ => "",
    };
    let shown = if c.is_control() || c.is_whitespace() || ours == " " {
        format!("the character U+{:04X}", c as u32)
    } else {
        format!("`{c}`")
    };
    let lead = match ours {
        " " => "put a plain blank there".to_owned(),
        "" if c.is_alphabetic() => "spell the name with the letters a to z".to_owned(),
        "" => "delete it, or move it into a comment".to_owned(),
        ours => format!("write `{}`", ours.trim_end()),
    };
    let long = lead.len() > 24;
    let is_not =
        if c.is_ascii() { "is not part of the language" } else { "is not an ASCII character" };
    Bad {
        length: c.len_utf8(),
        code: "E0009",
        title: format!("{shown} {is_not}"),
        label: "not in the language",
        instead: Some(ours.to_owned()).filter(|ours| !ours.is_empty()),
        lead: format!(
            "{lead};{}other scripts may stand in comments only",
            if long { "\n" } else { " " }
        ),
        sample: "alpha = 0.5  # a comment".to_owned(),
    }
}

/// What other languages write, longest first: the text, what it is not, what to put in its place, what
/// to do about it, a sample.
type NotOurs = (&'static str, &'static str, Option<&'static str>, &'static str, &'static str);
const NOT_OURS: [NotOurs; 27] = [
    ("===", OPERATOR, Some("=="), "equality is written `==`", "x = (a == b)"),
    ("!==", OPERATOR, Some("!="), "inequality is written `!=`", "x = (a != b)"),
    ("...", OPERATOR, Some(".."), "a range has two dots", "x = sum(weights[k] for k in 1..4)"),
    ("&&", OPERATOR, Some("and"), "both conditions hold", "x = a and b"),
    ("||", OPERATOR, Some("or"), "one of the conditions holds", "x = a or b"),
    ("<>", OPERATOR, Some("!="), "inequality is written `!=`", "x = (a != b)"),
    (":=", ASSIGNS, Some("="), "a definition has a plain `=`", "x = 1"),
    ("=>", OPERATOR, Some(">="), "at least is written `>=`", "x = (a >= b)"),
    ("=<", OPERATOR, Some("<="), "at most is written `<=`", "x = (a <= b)"),
    ("->", OPERATOR, None, "a function has no result type", "fn f(x) = x + 1"),
    ("+=", ASSIGNS, None, ONCE, BUILT_ON),
    ("-=", ASSIGNS, None, ONCE, BUILT_ON),
    ("*=", ASSIGNS, None, ONCE, BUILT_ON),
    ("/=", ASSIGNS, None, ONCE, BUILT_ON),
    ("++", OPERATOR, Some("+"), "a sum has one `+`", "x = a + b"),
    ("!", OPERATOR, Some("not "), "a condition is negated with `not`", "x = not truncated"),
    ("&", OPERATOR, Some("and"), "both conditions hold", "x = a and b"),
    ("|", OPERATOR, Some("or"), "one of the conditions holds", "x = a or b"),
    (";", "does not end a statement", Some(""), "a statement ends with its line", "x = 1"),
    ("{", "does not open a block", None, INDENTED, BLOCK),
    ("}", "does not close a block", None, INDENTED, BLOCK),
    ("?", OPERATOR, None, "a choice is written", "x = if correct then 1 else 0"),
    ("~", OPERATOR, Some("not "), "a condition is negated with `not`", "x = not truncated"),
    ("'", "does not quote", Some("\""), "a path stands in double quotes", "extend \"other.rl\""),
    ("`", "does not quote", Some(""), "write the name without it", "x = ratio"),
    ("$", "does not begin a name", Some(""), "write the name without it", "x = ratio"),
    ("\\", "does not continue a line", Some(""), CONTINUED, "x = a\n        + b"),
];
const OPERATOR: &str = "is not an operator";
const ASSIGNS: &str = "does not define a name";
const ONCE: &str = "a name is defined once; to build on what the base objective says";
const BUILT_ON: &str = "token_loss = base.token_loss + 0.1 * entropy";
const INDENTED: &str = "a block is a group of indented lines, the last of them its value";
const BLOCK: &str = "scale =\n        spread = std(reward per group)\n        1 / (spread + 1e-4)";
const CONTINUED: &str = "an indented line continues the one above";
