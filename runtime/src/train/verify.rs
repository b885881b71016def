//! Final answers in text: where they stand, and when two of them are the same.

/// The final answer of a text: the last `\boxed{…}`, else what follows the last `####`, else what
/// follows the last `A:` or `answer is` on its line, else the last number.
pub fn final_answer(text: &str) -> Option<&str> {
    if let Some(inside) = boxed(text) {
        return Some(inside);
    }
    for marker in ["####", "A:", "answer is", "Answer:"] {
        if let Some(at) = text.rfind(marker) {
            let rest = text[at + marker.len()..].lines().next().unwrap_or("").trim();
            if !rest.is_empty() {
                return Some(rest);
            }
        }
    }
    last_number(text)
}

/// The inside of the last `\boxed{…}`, braces counted.
fn boxed(text: &str) -> Option<&str> {
    let start = text.rfind("\\boxed{")? + "\\boxed{".len();
    let mut depth = 1;
    for (i, c) in text[start..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&text[start..start + i]);
        }
    }
    None
}

/// The last run of digits, with its sign, point and thousands commas.
fn last_number(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let end = bytes.iter().rposition(u8::is_ascii_digit)? + 1;
    let mut start = end;
    while start > 0 {
        let c = bytes[start - 1];
        let inside = c.is_ascii_digit()
            || (matches!(c, b'.' | b',') && start >= 2 && bytes[start - 2].is_ascii_digit());
        if !inside {
            break;
        }
        start -= 1;
    }
    if start > 0 && bytes[start - 1] == b'.' {
        start -= 1;
    }
    // A minus is a sign only where it does not follow an operand: `5-3` ends in 3.
    if start > 0
        && bytes[start - 1] == b'-'
        && (start == 1 || !bytes[start - 2].is_ascii_alphanumeric() && bytes[start - 2] != b')')
    {
        start -= 1;
    }
    Some(&text[start..end])
}

/// The value of an answer: `1,234`, `$5.00`, `-7`, `50%`, `3/4`, `\frac{3}{4}`, `18 dollars`.
pub fn value(answer: &str) -> Option<f64> {
    let mut text = answer.trim().to_string();
    for (from, to) in [("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"), ("\\$", ""), ("\\%", "")] {
        text = text.replace(from, to);
    }
    text.retain(|c| !matches!(c, '$' | ',' | '%' | ' ' | '€' | '£'));
    if let Some(x) = plain(&text) {
        return Some(x);
    }
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.as_str()),
    };
    if let Some(inside) = rest.strip_prefix("\\frac{").and_then(|r| r.strip_suffix('}')) {
        let (a, b) = inside.split_once("}{")?;
        return ratio(plain(a)?, plain(b)?).map(|x| sign * x);
    }
    if let Some((a, b)) = rest.split_once('/')
        && let (Some(a), Some(b)) = (plain(a), plain(b))
    {
        return ratio(a, b).map(|x| sign * x);
    }
    // A number with words around it: the only number of the answer.
    let number = last_number(answer)?;
    plain(&number.replace(',', ""))
}

fn ratio(a: f64, b: f64) -> Option<f64> {
    (b != 0.0).then(|| a / b)
}

/// A decimal number and nothing else: `f64::from_str` would also take `inf` and `nan`.
fn plain(text: &str) -> Option<f64> {
    let text = text.trim_end_matches('.');
    let ok = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit() || b"+-.eE".contains(&c));
    let value: f64 = if ok { text.parse().ok()? } else { return None };
    value.is_finite().then_some(value)
}

/// True when the completion's final answer is the gold answer: as numbers where both are, else as
/// text without its spaces.
pub fn same_answer(completion: &str, gold: &str) -> bool {
    let Some(given) = final_answer(completion) else { return false };
    let gold = if gold.contains("####") || gold.contains("\\boxed") {
        final_answer(gold).unwrap_or(gold)
    } else {
        gold
    };
    match (value(given), value(gold)) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-6 * b.abs().max(1.0),
        _ => {
            let squeeze = |s: &str| s.split_whitespace().collect::<String>();
            squeeze(given) == squeeze(gold)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        for (text, gold) in [
            ("so 1,234 apples", "1234"),
            ("#### $5.00", "5"),
            ("He has \\boxed{\\frac{3}{4}}.", "0.75"),
            ("\\boxed{-\\frac{1}{2}}", "-1/2"),
            ("The answer is 18 dollars.", "18"),
            ("A: -7", "-7"),
            ("we get 5-3 = 2", "2"),
            ("in all: 50%", "50"),
            ("\\boxed{x + 1}", "x+1"),
            ("= 3.", "3"),
            ("#### 12", "long text with 99\n#### 12"),
        ] {
            assert!(same_answer(text, gold), "{text} {gold} {:?}", final_answer(text));
        }
        for (text, gold) in
            [("12", "13"), ("", "0"), ("no number", "0"), ("1/0", "1"), ("nan", "1")]
        {
            assert!(!same_answer(text, gold), "{text} {gold}");
        }
    }
}
