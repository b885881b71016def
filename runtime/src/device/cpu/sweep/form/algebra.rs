//! Operators over formulas in the entries of vocab columns.

use rlc_compiler::op::{Binary, Unary};

use super::tape::{N, ONE, Tape, ZERO};

/// Columns that a sweep of known form may read.
pub(super) const COLUMNS: usize = 3;

/// Single entries that a formula may name.
const HITS: usize = 2;

/// A number and multiples of the columns' entries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct Linear {
    pub c0: N,
    pub c: [N; COLUMNS],
}

/// `factor * exp(exponent)`.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Term {
    pub exponent: Linear,
    pub factor: Linear,
    /// The product is NaN where the exponential is 0 and the factor infinite, and not 0.
    pub loose: bool,
}

/// What every entry of a row is.
#[derive(Debug, Clone)]
pub(in super::super) struct Form {
    pub plain: Linear,
    /// With different exponents.
    pub terms: Vec<Term>,
    /// Numbers of entries, and what these have on top.
    pub hits: Vec<(N, N)>,
    /// What counts only where the exponential of an exponent, the first, is above 0.
    pub held: Vec<(Linear, Linear)>,
}

/// What an operator gives for every entry of a row.
#[derive(Debug, Clone)]
pub(super) enum Of {
    Number(N),
    Form(Form),
    /// The entry's number.
    Index,
    /// Whether that is this.
    Hit(N),
    /// Whether the exponential of this is above 0.
    Above(Linear),
    /// Whether an entry of a column is above a number, equal to it, or numbered at most this.
    Over(Linear, N),
    Equal(Linear, N),
    UpTo,
    /// Equal to a number, and numbered at most some other.
    Tied(Linear, N),
    Unknown,
}

/// The entries whose formula, of one column, is above a number, and some of those that are equal to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct Inside {
    pub x: Linear,
    pub least: N,
}

impl Linear {
    pub(super) const NONE: Linear = Linear { c0: ZERO, c: [ZERO; COLUMNS] };

    pub(super) fn number(n: N) -> Linear {
        Linear { c0: n, ..Linear::NONE }
    }

    pub(super) fn entry(column: usize) -> Linear {
        let mut out = Linear::NONE;
        out.c[column] = ONE;
        out
    }

    pub(super) fn is_number(self) -> bool {
        self.c == [ZERO; COLUMNS]
    }

    /// All its coefficients.
    pub(super) fn numbers(self) -> impl Iterator<Item = N> {
        std::iter::once(self.c0).chain(self.c)
    }

    fn map2(self, other: Linear, mut f: impl FnMut(N, N) -> N) -> Linear {
        let mut out = Linear { c0: f(self.c0, other.c0), ..self };
        for (out, other) in out.c.iter_mut().zip(other.c) {
            *out = f(*out, other);
        }
        out
    }

    fn plus(self, other: Linear, tape: &mut Tape) -> Linear {
        self.map2(other, |a, b| tape.add(a, b))
    }

    fn scaled(self, by: N, tape: &mut Tape) -> Linear {
        self.map2(Linear::NONE, |a, _| tape.mul(a, by))
    }

    /// None where both have entries.
    fn times(self, other: Linear, tape: &mut Tape) -> Option<Linear> {
        if other.is_number() {
            return Some(self.scaled(other.c0, tape));
        }
        self.is_number().then(|| other.scaled(self.c0, tape))
    }
}

impl Form {
    pub(super) fn linear(plain: Linear) -> Form {
        Form { plain, terms: Vec::new(), hits: Vec::new(), held: Vec::new() }
    }

    pub(super) fn is_linear(&self) -> bool {
        self.terms.is_empty() && self.hits.is_empty() && self.held.is_empty()
    }

    /// Whether an entry of minus infinity makes it infinite or NaN.
    fn unbounded(&self) -> bool {
        !self.plain.is_number() || self.terms.iter().any(|t| t.loose)
    }

    /// Adds a term to those that are there.
    fn insert(&mut self, term: Term, tape: &mut Tape) {
        match self.terms.iter_mut().find(|t| t.exponent == term.exponent) {
            Some(own) => {
                own.factor = own.factor.plus(term.factor, tape);
                own.loose |= term.loose;
            }
            None => self.terms.push(term),
        }
    }

    fn plus(mut self, other: Form, tape: &mut Tape) -> Option<Form> {
        self.plain = self.plain.plus(other.plain, tape);
        for term in other.terms {
            self.insert(term, tape);
        }
        self.hits.extend(other.hits);
        for (exponent, plain) in other.held {
            self.hold(exponent, plain, tape);
        }
        (self.hits.len() <= HITS).then_some(self)
    }

    fn hold(&mut self, exponent: Linear, plain: Linear, tape: &mut Tape) {
        match self.held.iter_mut().find(|h| h.0 == exponent) {
            Some(own) => own.1 = own.1.plus(plain, tape),
            None => self.held.push((exponent, plain)),
        }
    }

    fn scaled(mut self, by: N, tape: &mut Tape) -> Form {
        self.plain = self.plain.scaled(by, tape);
        for held in &mut self.held {
            held.1 = held.1.scaled(by, tape);
        }
        for term in &mut self.terms {
            term.factor = term.factor.scaled(by, tape);
        }
        for hit in &mut self.hits {
            hit.1 = tape.mul(hit.1, by);
        }
        self
    }

    /// The parts as factors of exponentials.
    fn parts(&self) -> Vec<Term> {
        let plain = Term { exponent: Linear::NONE, factor: self.plain, loose: false };
        let plain = (self.plain != Linear::NONE).then_some(plain);
        plain.into_iter().chain(self.terms.iter().copied()).collect()
    }

    fn times(&self, other: &Form, tape: &mut Tape) -> Option<Form> {
        if !self.hits.is_empty() || !other.hits.is_empty() {
            return None;
        }
        let mut out = Form::linear(Linear::NONE);
        for a in self.parts() {
            for b in other.parts() {
                let factor = a.factor.times(b.factor, tape)?;
                let exponent = a.exponent.plus(b.exponent, tape);
                if exponent == Linear::NONE {
                    out.plain = out.plain.plus(factor, tape);
                } else {
                    let loose = a.loose || b.loose || !factor.is_number();
                    out.insert(Term { exponent, factor, loose }, tape);
                }
            }
        }
        for (a, b) in [(self, other), (other, self)] {
            for (exponent, held) in &a.held {
                if !b.held.is_empty() {
                    return None;
                }
                for b in b.parts() {
                    let factor = b.factor.times(*held, tape)?;
                    if b.exponent == Linear::NONE {
                        out.hold(*exponent, factor, tape);
                    } else if b.exponent == *exponent {
                        out.insert(Term { factor, ..b }, tape);
                    } else {
                        return None;
                    }
                }
            }
        }
        Some(out)
    }

    /// An exponential and nothing else.
    fn exponential(&self) -> Option<Linear> {
        let [term] = self.terms.as_slice() else { return None };
        let alone = self.plain == Linear::NONE && self.hits.is_empty() && self.held.is_empty();
        (alone && term.factor == Linear::number(ONE)).then_some(term.exponent)
    }
}

/// Runs operators over formulas.
pub(super) struct Algebra {
    pub tape: Tape,
    /// Numbers that must not be 0 for what the last operator gave to hold, since they multiply what may be infinite.
    pub nonzero: Vec<N>,
    /// Entries for which the formulas do not hold: those of which a condition is taken to be false.
    pub inside: Vec<Inside>,
}

fn form(found: Option<Form>) -> Of {
    found.map_or(Of::Unknown, Of::Form)
}

impl Algebra {
    /// As a formula.
    fn lift(of: Of) -> Option<Form> {
        match of {
            Of::Number(n) => Some(Form::linear(Linear::number(n))),
            Of::Form(f) => Some(f),
            Of::Index
            | Of::Hit(_)
            | Of::Above(_)
            | Of::Over(..)
            | Of::Equal(..)
            | Of::UpTo
            | Of::Tied(..)
            | Of::Unknown => None,
        }
    }

    pub(super) fn unary(&mut self, op: Unary, x: Of) -> Of {
        match (op, x) {
            (_, Of::Number(x)) => Of::Number(self.tape.unary(op, x)),
            (Unary::Neg, Of::Form(f)) => {
                let minus = self.tape.constant(-1.0);
                Of::Form(f.scaled(minus, &mut self.tape))
            }
            (Unary::Cast, x) => x,
            (Unary::Exp, Of::Form(f)) if f.is_linear() => {
                let term = Term { exponent: f.plain, factor: Linear::number(ONE), loose: false };
                Of::Form(Form { terms: vec![term], ..Form::linear(Linear::NONE) })
            }
            _ => Of::Unknown,
        }
    }

    fn scaled(&mut self, f: Form, by: N) -> Of {
        // 0 times infinity is NaN.
        if f.unbounded() && !self.nonzero.contains(&by) {
            self.nonzero.push(by);
        }
        Of::Form(f.scaled(by, &mut self.tape))
    }

    pub(super) fn binary(&mut self, op: Binary, a: Of, b: Of) -> Of {
        match (op, a, b) {
            (_, Of::Number(a), Of::Number(b)) => Of::Number(self.tape.binary(op, a, b)),
            (Binary::Add, a, b) => self.sum(a, b),
            (Binary::Sub, a, b) => {
                let b = self.unary(Unary::Neg, b);
                self.sum(a, b)
            }
            // A chain that begins with 0 is 0, whatever the factor.
            (Binary::Chain, Of::Number(x), Of::Form(f)) => Of::Form(f.scaled(x, &mut self.tape)),
            (Binary::Mul | Binary::Chain, Of::Form(f), Of::Number(x))
            | (Binary::Mul, Of::Number(x), Of::Form(f)) => self.scaled(f, x),
            (Binary::Mul | Binary::Chain, Of::Form(a), Of::Form(b)) => {
                form(a.times(&b, &mut self.tape))
            }
            (Binary::Pow, Of::Form(f), Of::Number(n)) if self.tape.constant_of(n) == Some(2.0) => {
                form(f.times(&f, &mut self.tape))
            }
            (Binary::Div, Of::Form(f), Of::Number(x)) => {
                let by = self.tape.binary(Binary::Div, ONE, x);
                self.scaled(f, by)
            }
            (Binary::Eq, Of::Index, Of::Number(at)) | (Binary::Eq, Of::Number(at), Of::Index) => {
                Of::Hit(at)
            }
            (Binary::Gt, Of::Form(f), Of::Number(ZERO)) if f.exponential().is_some() => {
                f.exponential().map_or(Of::Unknown, Of::Above)
            }
            (Binary::Gt, Of::Form(f), Of::Number(n)) if f.is_linear() => Of::Over(f.plain, n),
            (Binary::Eq, Of::Form(f), Of::Number(n)) if f.is_linear() => Of::Equal(f.plain, n),
            (Binary::Le, Of::Index, Of::Number(_)) => Of::UpTo,
            (Binary::And, Of::Equal(x, n), Of::UpTo) => Of::Tied(x, n),
            (Binary::Or, Of::Over(x, least), Of::Tied(y, n)) if (x, least) == (y, n) => {
                let inside = Inside { x, least };
                if !self.inside.contains(&inside) {
                    self.inside.push(inside);
                }
                Of::Number(ZERO)
            }
            _ => Of::Unknown,
        }
    }

    fn sum(&mut self, a: Of, b: Of) -> Of {
        match (Algebra::lift(a), Algebra::lift(b)) {
            (Some(a), Some(b)) => form(a.plus(b, &mut self.tape)),
            _ => Of::Unknown,
        }
    }

    pub(super) fn select(&mut self, c: Of, a: Of, b: Of) -> Of {
        match (c, a, b) {
            (Of::Number(c), a, b) if self.tape.constant_of(c).is_some() => {
                if self.tape.constant_of(c) == Some(0.0) { b } else { a }
            }
            (Of::Number(c), Of::Number(a), Of::Number(b)) => Of::Number(self.tape.select(c, a, b)),
            (Of::Number(c), a, b) => match (Algebra::lift(a), Algebra::lift(b)) {
                (Some(a), Some(b)) => {
                    let (a, b) = (self.only_if(c, a, true), self.only_if(c, b, false));
                    form(a.plus(b, &mut self.tape))
                }
                _ => Of::Unknown,
            },
            (Of::Hit(at), Of::Number(value), Of::Number(ZERO)) => {
                Of::Form(Form { hits: vec![(at, value)], ..Form::linear(Linear::NONE) })
            }
            (Of::Above(_), Of::Number(ZERO), Of::Number(ZERO)) => Of::Number(ZERO),
            // Where the exponential is 0 the formula is 0 too.
            (Of::Above(exponent), Of::Form(mut f), Of::Number(ZERO)) => {
                let twice = exponent.plus(exponent, &mut self.tape);
                let covered = |t: &Term| t.exponent == exponent || t.exponent == twice;
                let held = f.held.iter().all(|h| h.0 == exponent);
                if !f.hits.is_empty() || !f.terms.iter().all(covered) || !held {
                    return Of::Unknown;
                }
                if f.plain != Linear::NONE {
                    f.hold(exponent, f.plain, &mut self.tape);
                    f.plain = Linear::NONE;
                }
                f.terms.iter_mut().for_each(|t| t.loose = false);
                Of::Form(f)
            }
            _ => Of::Unknown,
        }
    }

    /// The formula where the number is not 0 (or is, for `when` false), else 0.
    fn only_if(&mut self, c: N, mut f: Form, when: bool) -> Form {
        let mut pick =
            |n: N| if when { self.tape.select(c, n, ZERO) } else { self.tape.select(c, ZERO, n) };
        f.plain = f.plain.map2(Linear::NONE, |n, _| pick(n));
        for term in &mut f.terms {
            term.factor = term.factor.map2(Linear::NONE, |n, _| pick(n));
        }
        for hit in &mut f.hits {
            hit.1 = pick(hit.1);
        }
        for held in &mut f.held {
            held.1 = held.1.map2(Linear::NONE, |n, _| pick(n));
        }
        f
    }
}
