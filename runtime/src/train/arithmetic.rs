//! The built-in task: addition of two n-digit numbers with the working written out.
//!
//! ```text
//! 47+85=            prompt
//! 7+5+0=12          one line per place, lowest first: digit + digit + carry = sum
//! 4+8+1=13
//! 132               the answer
//! ```
//! Each line is a turn. A line is a correct step when it is the right working for its place *given
//! the carry that the line before it wrote*, so one slip is one wrong step; the answer line is
//! correct when it reads off the digits that the lines wrote. The reward looks at the last line
//! alone: 1 for the true sum, else 0.
//!
//! Which problems are held out depends on the problem, not on a seed: neither a demonstration nor a
//! training prompt of any run is ever a held-out problem.

use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::data::{Problem, mix};
use super::error::{Result, at};

/// One problem in eight is held out.
const HELD_OUT_SHARE: u64 = 8;

/// The two numbers of `a+b=`.
pub fn operands(prompt: &str) -> Option<(u64, u64)> {
    let (a, b) = prompt.strip_suffix('=')?.split_once('+')?;
    Some((number(a)?, number(b)?))
}

/// Digits only: `str::parse` would also take a sign.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > 18 || !text.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn held_out(a: u64, b: u64) -> bool {
    mix(a, b).is_multiple_of(HELD_OUT_SHARE)
}

/// Problem number `index` of the training stream of `seed`.
pub fn training_problem(digits: u32, seed: u64, index: u64) -> Problem {
    draw(digits, mix(mix(seed, 0x7261_696e), index), false)
}

/// The first `count` distinct held-out problems: the same ones for every run.
pub fn held_out_problems(digits: u32, count: usize) -> Vec<Problem> {
    let mut seen = std::collections::BTreeSet::new();
    let mut problems = Vec::new();
    // Small spaces may hold fewer than `count`; the bound on draws ends the search.
    for index in 0..(count as u64 * 64) {
        if problems.len() == count {
            break;
        }
        let problem = draw(digits, mix(0x6865_6c64, index), true);
        if seen.insert(problem.id) {
            problems.push(problem);
        }
    }
    problems
}

fn draw(digits: u32, seed: u64, want_held_out: bool) -> Problem {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let std::ops::Range { start: low, end: high } = numbers(digits);
    // One-digit sums may by chance have no problem of the wanted kind nearby: give up after a while.
    let mut pair = (low, low);
    for _ in 0..10_000 {
        pair = (rng.random_range(low..high), rng.random_range(low..high));
        if held_out(pair.0, pair.1) == want_held_out {
            break;
        }
    }
    problem(digits, (pair.0 * high + pair.1) as i64)
}

/// The numbers of so many digits.
fn numbers(digits: u32) -> std::ops::Range<u64> {
    let high = 10u64.pow(digits);
    if digits == 1 { 0..high } else { high / 10..high }
}

/// The problem of an identity.
pub fn problem(digits: u32, id: i64) -> Problem {
    let high = 10i64.pow(digits);
    let (a, b) = (id / high, id % high);
    Problem { id, prompt: format!("{a}+{b}="), answer: Some((a + b).to_string()), line: None }
}

/// How many different problems are not held out: exact up to three digits, from there on the share of
/// all, which no run exhausts.
pub fn training_count(digits: u32) -> u64 {
    let numbers = numbers(digits);
    if digits > 3 {
        let all = (numbers.end - numbers.start).pow(2);
        return all - all / HELD_OUT_SHARE;
    }
    let rows = numbers.clone().map(|a| numbers.clone().filter(|b| !held_out(a, *b)).count() as u64);
    rows.sum()
}

/// The working of a problem, in which each line goes wrong with probability `slip`; what follows a
/// slip is consistent with it.
pub fn demonstration(problem: &Problem, slip: f64, rng: &mut impl Rng) -> Option<String> {
    let (mut a, mut b) = operands(&problem.prompt)?;
    let places = a.max(b).max(1).ilog10() + 1;
    let (mut carry, mut written, mut text) = (0, 0, String::new());
    for place in 0..places {
        let mut sum = a % 10 + b % 10 + carry;
        if rng.random_bool(slip) {
            sum = (sum + rng.random_range(1..20)) % 20;
        }
        text += &format!("{}+{}+{carry}={sum}\n", a % 10, b % 10);
        written += sum % 10 * 10u64.pow(place);
        carry = sum / 10;
        (a, b) = (a / 10, b / 10);
    }
    written += carry * 10u64.pow(places);
    if rng.random_bool(slip) {
        let place = 10u64.pow(rng.random_range(0..places));
        let digit = written / place % 10;
        written = written - digit * place + (digit + rng.random_range(1..10)) % 10 * place;
    }
    Some(text + &written.to_string())
}

/// Writes `count` demonstrations on training problems as an offline file.
pub fn write_demonstrations(
    path: &Path,
    count: u64,
    digits: u32,
    slip: f64,
    seed: u64,
) -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(mix(seed, 0x6465_6d6f));
    let mut text = String::new();
    for index in 0..count {
        let problem = training_problem(digits, seed, index);
        if let Some(completion) = demonstration(&problem, slip, &mut rng) {
            let line = serde_json::json!({ "prompt": problem.prompt, "completion": completion });
            text += &format!("{line}\n");
        }
    }
    std::fs::write(path, text).map_err(at("write", path))
}

/// Judges a completion given as its lines, the end token left out. Returns whether the answer is
/// right and, for each line, whether the step is.
pub fn verify(prompt: &str, lines: &[String]) -> (bool, Vec<bool>) {
    let Some((a, b)) = operands(prompt) else { return (false, vec![false; lines.len()]) };
    let places = (a.max(b).max(1).ilog10() + 1) as usize;
    let (mut carry, mut true_carry, mut written) = (0, 0, 0);
    let mut steps = Vec::with_capacity(lines.len());
    for (i, line) in lines.iter().enumerate() {
        let ended = line.ends_with('\n');
        let line = line.trim_end_matches('\n');
        if i < places {
            let scale = 10u64.pow(i as u32);
            let (x, y) = (a / scale % 10, b / scale % 10);
            true_carry = (x + y + true_carry) / 10;
            steps.push(ended && line == format!("{x}+{y}+{carry}={}", x + y + carry));
            match line.split_once('=').and_then(|(_, s)| number(s)).filter(|s| *s < 20) {
                Some(sum) => {
                    written += sum % 10 * scale;
                    carry = sum / 10;
                }
                // Nothing legible was written: the next line is judged by the true carry.
                None => carry = true_carry,
            }
        } else {
            let value = written + carry * 10u64.pow(places as u32);
            steps.push(i == places && !ended && line == value.to_string());
        }
    }
    let right = lines.last().is_some_and(|l| *l == (a + b).to_string());
    (right, steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split_inclusive('\n').map(str::to_string).collect()
    }

    #[test]
    fn true_working_is_right() {
        let (right, steps) = verify("47+85=", &lines("7+5+0=12\n4+8+1=13\n132"));
        assert!(right);
        assert_eq!(steps, [true; 3]);
    }

    #[test]
    fn one_slip_is_one_wrong_step() {
        let (right, steps) = verify("47+85=", &lines("7+5+0=13\n4+8+1=13\n133"));
        assert!(!right);
        assert_eq!(steps, [false, true, true]);
        // A wrong carry: the next line is right given what was written.
        let (_, steps) = verify("47+85=", &lines("7+5+0=2\n4+8+0=12\n122"));
        assert_eq!(steps, [false, true, true]);
        // The answer alone is enough for the reward, not for the steps.
        let (right, steps) = verify("47+85=", &lines("132"));
        assert!(right);
        assert_eq!(steps, [false]);
        let (right, steps) = verify("47+85=", &lines("7+5+0=12\n4+8+1=13\n132\n"));
        assert!(!right);
        assert_eq!(steps, [true, true, false]);
    }

    #[test]
    fn demonstrations_verify_and_splits_are_disjoint() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let held: std::collections::BTreeSet<i64> =
            held_out_problems(2, 300).iter().map(|p| p.id).collect();
        assert_eq!(held.len(), 300);
        for index in 0..500 {
            let p = training_problem(2, 3, index);
            assert!(!held.contains(&p.id));
            let text = demonstration(&p, 0.0, &mut rng).unwrap();
            let (right, steps) = verify(&p.prompt, &lines(&text));
            assert!(right && steps.iter().all(|s| *s), "{} {text}", p.prompt);
        }
        let slipped = (0..300)
            .filter(|i| {
                let p = training_problem(3, 1, *i);
                let text = demonstration(&p, 0.2, &mut rng).unwrap();
                verify(&p.prompt, &lines(&text)).0
            })
            .count();
        assert!((80..190).contains(&slipped), "{slipped}");
    }
}
