//! Every primitive on every width against plain f64 loops.
//!
//! `RLC_WIDTH=portable|avx2|avx512` leaves the other widths out.

use half::{bf16, f16};
use rlc_compiler::table::{Floats, f16_to_f32};

use super::simd::{Kernel, Simd, run};
use super::{Beside, Gradient, Out, Row, Statistics, Stores, Target, Wanted, Width, gradient};
use super::{Place, Source, Terms, block, ends, gradient_at, statistics};

mod exponentials;

const INF: f64 = f64::INFINITY;

fn widths() -> Vec<Width> {
    let name = |w: &Width| format!("{w:?}").to_lowercase();
    let only = std::env::var("RLC_WIDTH").ok();
    Width::ALL
        .into_iter()
        .filter(|w| w.available() && only.as_ref().is_none_or(|o| *o == name(w)))
        .collect()
}

/// Numbers between 0 and 1.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Bell-shaped, with standard deviation 1.
    fn bell(&mut self) -> f64 {
        (0..12).map(|_| self.next()).sum::<f64>() - 6.0
    }
}

/// A row in the types that primitives read.
struct Stored {
    f32: Vec<f32>,
    bf16: Vec<u16>,
    f16: Vec<u16>,
    f64: Vec<f64>,
}

impl Stored {
    fn new(x: &[f64]) -> Stored {
        Stored {
            f32: x.iter().map(|v| *v as f32).collect(),
            bf16: x.iter().map(|v| bf16::from_f64(*v).to_bits()).collect(),
            f16: x.iter().map(|v| f16::from_f64(*v).to_bits()).collect(),
            f64: x.to_vec(),
        }
    }

    /// From entry `from` on, so that addresses are of every alignment.
    fn rows(&self, from: usize, scale: f64) -> [Row<'_>; 4] {
        [
            Floats::F32(&self.f32[from..]),
            Floats::Bf16(&self.bf16[from..]),
            Floats::F16(&self.f16[from..]),
            Floats::F64(&self.f64[from..]),
        ]
        .map(|logits| Row { logits, scale })
    }
}

fn entries(row: Row) -> Vec<f64> {
    (0..row.logits.len()).map(|i| row.logits.get(i) * row.scale).collect()
}

fn top(x: &[f64]) -> f64 {
    x.iter().copied().fold(-INF, f64::max)
}

fn lse(x: &[f64]) -> f64 {
    let m = top(x);
    m + x.iter().map(|v| (v - m).exp()).sum::<f64>().ln()
}

fn close(found: f64, exact: f64, room: f64, what: &str) {
    let same = found == exact || (found.is_nan() && exact.is_nan());
    assert!(
        same || (found - exact).abs() <= room + 1e-30,
        "{what}: {found}, not {exact} (+- {room})"
    );
}

/// `e * f`, nothing where e is what counts as 0.
fn weighted(e: f64, f: f64) -> f64 {
    if e < 1e-38 { 0.0 } else { e * f }
}

/// All that can be wanted.
fn all(y: Row<'_>, share: f64) -> Wanted<'_> {
    Wanted { moment: true, square: true, beside: Some(Beside { row: y.logits, share }) }
}

fn check_statistics(width: Width, x: Row, y: Row, what: &str) {
    let share = [1.0, 0.0, 0.7][x.logits.len() % 3];
    let both = statistics(width, x, &all(y, share));
    let alone = Wanted { beside: None, ..all(y, share) };
    let alone = statistics(width, x, &alone);
    let (xs, ys) = (entries(x), entries(Row { scale: 1.0, ..y }));
    let mx = top(&xs);
    let sum = |f: &dyn Fn(f64, f64) -> f64| xs.iter().zip(&ys).map(|(x, y)| f(*x, *y)).sum::<f64>();
    for found in [both, alone, statistics(width, x, &Wanted::default())] {
        close(found.max, mx, 0.0, &format!("{what}: max"));
        let exact = sum(&|x, _| (x - mx).exp());
        close(found.sum, exact, 1e-6 * exact, &format!("{what}: sum"));
        assert!(found.sum >= 1.0, "{what}: {}", found.sum);
    }
    for found in [both, alone] {
        let exact = sum(&|x, _| weighted((x - mx).exp(), x - mx));
        close(found.moment, exact, 1e-6 * exact.abs() + 1e-12, &format!("{what}: moment"));
        let exact = sum(&|x, _| (2.0 * (x - mx)).exp());
        close(found.square, exact, 1e-6 * exact, &format!("{what}: square"));
    }
    let (low, high) = ends(width, x.logits);
    let lowest = |x: &[f64]| x.iter().copied().fold(INF, f64::min);
    let raw = entries(Row { scale: 1.0, ..x });
    assert_eq!((low, high), (lowest(&raw), top(&raw)), "{what}: ends");
    assert_eq!(both.lowest, lowest(&raw).min(lowest(&ys)), "{what}: lowest");
    assert!(both.origin == 0.0 || ys.contains(&both.origin), "{what}: {}", both.origin);
    let of = |size: bool| {
        sum(&|x, y| {
            let (y, x_part) = (y - both.origin, share * (x - mx) / x_scale(&raw, &xs));
            weighted((x - mx).exp(), if size { y.abs() + x_part.abs() } else { y - x_part })
        })
    };
    let room = if of(false).is_finite() { 1e-6 * of(true) + 1e-12 * (1.0 + mx.abs()) } else { 0.0 };
    close(both.beside, of(false), room, &format!("{what}: beside"));
    // What follows from the sums.
    let lx = lse(&xs);
    close(both.lse(), lx, 1e-6 + 1e-15 * lx.abs(), &format!("{what}: lse"));
    let p = |x: f64| (x - lx).exp();
    let entropy = sum(&|x, _| -weighted(p(x), x - lx));
    close(alone.entropy(), entropy, 2e-6 * (1.0 + entropy), &format!("{what}: entropy"));
    close(alone.collision(), sum(&|x, _| p(x) * p(x)), 3e-6, &format!("{what}: collision"));
}

/// What the logits were multiplied with.
fn x_scale(raw: &[f64], scaled: &[f64]) -> f64 {
    let of = raw.iter().zip(scaled).find(|(r, _)| r.is_finite() && **r != 0.0);
    of.map_or(1.0, |(r, s)| s / r)
}

/// Half a unit in the last of the 8 bits of bf16.
fn half_unit(x: f64) -> f64 {
    x.abs() / 256.0
}

/// Bits of `which`: p log p, p^2, p y, another distribution.
fn check_gradient(width: Width, x: Row, y: Row, which: u32, what: &str) {
    let (xs, ys) = (entries(x), entries(y));
    let (lx, ly) = (lse(&xs), lse(&ys));
    let n = xs.len();
    let has = |bit: u32| which & (1 << bit) != 0;
    let term = |bit: u32, value: f64| if has(bit) { value } else { 0.0 };
    let (p_log_p, p_squared, p_y, q) = (term(0, -0.4), term(1, 1.3), term(2, 0.3), term(3, -0.9));
    // As of a divergence: near 0 where both rows are alike.
    let p = if has(2) { -0.3 * ly } else { -0.7 };
    let first = Gradient {
        logits: Some(x.logits),
        scale: x.scale,
        lse: lx,
        p,
        p_log_p,
        p_squared,
        other: has(2).then_some((y.logits, p_y)),
    };
    let second =
        Gradient { logits: Some(y.logits), scale: y.scale, lse: ly, p: q, ..Gradient::default() };
    let terms = if has(3) { vec![first, second] } else { vec![first] };
    let add = [(n / 2, 0.7), (n - 1, -0.25), (n / 2, 0.125), (n, 9.0)];
    let mut largest = 0.0f64;
    let exact: Vec<f64> = (0..n)
        .map(|i| {
            let (log_p, log_q) = (xs[i] - lx, ys[i] - ly);
            let at_p = log_p.exp();
            let mut parts = vec![p, p_squared * at_p];
            if p_log_p != 0.0 {
                parts.push(p_log_p * log_p);
            }
            if p_y != 0.0 {
                parts.push(p_y * y.logits.get(i));
            }
            let factor: f64 = parts.iter().sum();
            let size: f64 = parts.iter().map(|v| v.abs()).sum();
            if weighted(at_p, size).is_finite() {
                largest = largest.max(weighted(at_p, size)).max((q * log_q.exp()).abs());
            }
            let single: f64 = add.iter().filter(|a| a.0 == i).map(|a| a.1).sum();
            weighted(at_p, factor) + q * log_q.exp() + single
        })
        .collect();
    let largest = largest.max(0.7);
    let compare = |found: &[f64], half: bool, how: &str| {
        for (i, (found, exact)) in found.iter().zip(&exact).enumerate() {
            let room = 2e-6 * largest + if half { half_unit(*exact) } else { 0.0 };
            close(*found, *exact, room, &format!("{what}: terms {which}, {how} entry {i} of {n}"));
        }
    };
    let wide = |v: &[f32]| -> Vec<f64> { v.iter().map(|v| f64::from(*v)).collect() };
    let short =
        |v: &[u16]| -> Vec<f64> { v.iter().map(|v| bf16::from_bits(*v).to_f64()).collect() };
    let mut out = vec![7.0f32; n];
    gradient(width, &terms, &add, Out::F32(&mut out));
    compare(&wide(&out), false, "f32");
    let mut out = vec![7u16; n];
    gradient(width, &terms, &add, Out::Bf16(&mut out));
    compare(&short(&out), true, "bf16");
    let mut own = terms.clone();
    own[0].logits = None;
    match x.logits {
        Floats::F32(v) => {
            let mut v = v.to_vec();
            gradient(width, &own, &add, Out::F32(&mut v));
            compare(&wide(&v), false, "f32 in place");
        }
        Floats::Bf16(v) => {
            let mut v = v.to_vec();
            gradient(width, &own, &add, Out::Bf16(&mut v));
            compare(&short(&v), true, "bf16 in place");
        }
        Floats::F16(_) | Floats::F64(_) => {}
    }
}

/// Rows of `n` logits to try: usual ones, and all that is unusual but finite in sum.
fn kinds(n: usize, random: &mut Random) -> Vec<(&'static str, Vec<f64>)> {
    let mut bell =
        |spread: f64, shift: f64| (0..n).map(|_| shift + spread * random.bell()).collect();
    let usual: Vec<f64> = bell(2.0, 0.5);
    let mut out = vec![
        ("flat", bell(0.01, -3.0)),
        ("peaked", bell(12.0, 40.0)),
        ("wide", bell(5000.0, 0.0)),
        ("far up", bell(3.0, 1e4)),
        ("far down", bell(3.0, -1e4)),
        ("equal", vec![1.234_567; n]),
        ("rising", (0..n).map(|i| i as f64 * 0.01 - 20.0).collect()),
        ("falling", (0..n).map(|i| -0.02 * i as f64).collect()),
    ];
    let mut one = vec![-9.3; n];
    one[n / 3] = 3.1;
    out.push(("one above", one));
    let mut holes = usual.clone();
    holes.iter_mut().enumerate().filter(|(i, _)| i % 3 != n % 3).for_each(|(_, v)| *v = -INF);
    if holes.iter().any(|v| v.is_finite()) {
        out.push(("holes", holes));
    }
    let mut late = vec![-INF; n];
    late[n - 1] = -2.5;
    out.push(("late", late));
    out.push(("usual", usual));
    out
}

#[test]
fn rows_of_every_small_length() {
    let mut random = Random(1);
    for n in 1..=70usize {
        let kinds = kinds(n + 3, &mut random);
        for (k, (name, x)) in kinds.iter().enumerate() {
            let y = &kinds[(k + 1) % kinds.len()];
            let scale = [1.0, 1.0 / 0.7, 0.3][n % 3];
            let (xs, ys) = (Stored::new(x), Stored::new(&y.1));
            for (x, y) in xs.rows(n % 4, scale).into_iter().zip(ys.rows((n + 1) % 4, 1.0)) {
                let (x, y) = (head(x, n), head(y, n));
                if !top(&entries(x)).is_finite() || !top(&entries(y)).is_finite() {
                    continue;
                }
                for width in widths() {
                    let what = format!("{width:?} {n} {name} {:?}", float(x));
                    check_statistics(width, x, y, &what);
                    check_gradient(width, x, y, (n + 3 * k) as u32 % 16, &what);
                }
            }
        }
    }
}

fn head(row: Row, n: usize) -> Row {
    Row { logits: row.logits.slice(0..n), ..row }
}

fn float(row: Row) -> &'static str {
    match row.logits {
        Floats::F32(_) => "f32",
        Floats::F64(_) => "f64",
        Floats::Bf16(_) => "bf16",
        Floats::F16(_) => "f16",
    }
}

#[test]
fn rows_of_real_length() {
    let mut random = Random(2);
    for (n, only) in [(1000, 4), (1025, 4), (32_000, 2), (151_936, 1), (262_144, 1)] {
        let kinds = kinds(n + 1, &mut random);
        let step = if n > 100_000 { 3 } else { 1 };
        for (k, (name, x)) in kinds.iter().enumerate().step_by(step) {
            let (xs, ys) = (Stored::new(x), Stored::new(&kinds[(k + 1) % kinds.len()].1));
            let rows = xs.rows(1, 1.0 / 0.9).into_iter().zip(ys.rows(0, 1.0)).take(only);
            for (x, y) in rows.map(|(x, y)| (head(x, n), head(y, n))) {
                if !top(&entries(x)).is_finite() || !top(&entries(y)).is_finite() {
                    continue;
                }
                for width in widths() {
                    let what = format!("{width:?} {n} {name} {:?}", float(x));
                    check_statistics(width, x, y, &what);
                    check_gradient(width, x, y, (k as u32 * 5) % 16, &what);
                }
            }
        }
    }
}

#[test]
fn every_choice_of_terms() {
    let mut random = Random(3);
    let mut row = || -> Vec<f64> { (0..1100).map(|_| 3.0 * random.bell()).collect() };
    let (x, y) = (Stored::new(&row()), Stored::new(&row()));
    for which in 0..16 {
        for width in widths() {
            for x in x.rows(1, 1.25) {
                for y in y.rows(1, 0.8) {
                    check_gradient(width, x, y, which, &format!("{width:?} {}", float(x)));
                }
            }
        }
    }
}

#[test]
fn sums_that_are_not_wanted_are_not_there() {
    let x = Row { logits: Floats::F32(&[1.0, 2.0, 0.5]), scale: 1.0 };
    for width in widths() {
        let full = statistics(width, x, &all(x, 1.0));
        for bits in 0..8u32 {
            let wanted = Wanted {
                moment: bits & 1 != 0,
                square: bits & 2 != 0,
                beside: all(x, 1.0).beside.filter(|_| bits & 4 != 0),
            };
            let found = statistics(width, x, &wanted);
            assert_eq!(found.max, full.max);
            close(found.sum, full.sum, 3e-7 * full.sum, "sum");
            let given = |is: bool, found: f64, full: f64| {
                assert!(if is { found == full } else { found.is_nan() }, "{bits}: {found}");
            };
            given(wanted.moment, found.moment, full.moment);
            given(wanted.square, found.square, full.square);
            given(wanted.beside.is_some(), found.beside, full.beside);
            given(wanted.beside.is_some(), found.lowest, full.lowest);
        }
    }
}

#[test]
fn rows_without_a_softmax() {
    let plain = Wanted { moment: true, square: true, beside: None };
    let policy = |x: Row, lse: f64, out: &mut [f32], width: Width| {
        let (logits, scale) = (Some(x.logits), x.scale);
        let how = Gradient { logits, scale, lse, p: 1.0, ..Gradient::default() };
        gradient(width, &[how], &[], Out::F32(out));
    };
    for width in widths() {
        for n in [0, 1, 5, 100, 3000] {
            let none = Stored::new(&vec![-INF; n]);
            let one = Stored::new(&vec![1.5; n]);
            for (none, one) in none.rows(0, 0.9).into_iter().zip(one.rows(0, 0.9)) {
                let found = statistics(width, none, &plain);
                assert_eq!((found.max, found.sum, found.lse()), (-INF, 0.0, -INF));
                assert_eq!((found.moment, found.square), (0.0, 0.0));
                assert!(found.entropy().is_nan() && found.collision().is_nan());
                assert_eq!(statistics(width, none, &all(one, 1.0)).beside, 0.0);
                let found = statistics(width, one, &all(none, 1.0));
                assert_eq!(found.beside, if n == 0 { 0.0 } else { -INF });
                assert_eq!(found.lowest, if n == 0 { INF } else { -INF });
                let mut out = vec![0.0f32; n];
                policy(none, -INF, &mut out, width);
                assert!(out.iter().all(|v| v.is_nan()));
            }
        }
        for (n, at) in [(1, 0), (40, 39), (2500, 0), (2500, 1700)] {
            for broken in [f64::NAN, INF] {
                for padding in [0.0, -INF, 1e30] {
                    let mut x = vec![padding; n];
                    x[at] = broken;
                    let (x, y) = (Stored::new(&x), Stored::new(&vec![0.5; n]));
                    // Half precision has no 1e30.
                    let rows = x.rows(0, 1.0).into_iter().zip(y.rows(0, 1.0)).enumerate();
                    for (_, (x, y)) in rows.filter(|r| r.0 != 2 || padding != 1e30) {
                        let found = statistics(width, x, &plain);
                        close(found.max, broken, 0.0, "max");
                        close(found.lse(), broken, 0.0, "lse");
                        for v in [found.sum, found.moment, found.square, found.entropy()] {
                            assert!(v.is_nan());
                        }
                        let beside = |found: Statistics| !found.beside.is_finite();
                        assert!(beside(statistics(width, x, &all(y, 1.0))));
                        assert!(beside(statistics(width, y, &all(x, 1.0))));
                        let mut out = vec![0.0f32; n];
                        policy(x, found.lse(), &mut out, width);
                        assert!(out[at].is_nan());
                    }
                }
            }
        }
    }
}

#[test]
fn a_nan_of_any_bits_stays() {
    for width in widths() {
        for bits in [0x7fc0_0000, 0x7f80_0001, 0xffff_ffff, 0x7fc0_01ff, 0xff80_0200u32] {
            let mut x = vec![0.5f32; 50];
            x[33] = f32::from_bits(bits);
            let row = Row { logits: Floats::F32(&x), scale: 1.0 };
            assert!(statistics(width, row, &Wanted::default()).sum.is_nan());
            let mut out = vec![0.0; 50];
            let logits = Some(row.logits);
            let how = Gradient { logits, lse: 4.0, p: 1.0, p_log_p: 1.0, ..Gradient::default() };
            gradient(width, &[how], &[], Out::F32(&mut out));
            assert!(out.iter().enumerate().all(|(i, v)| v.is_nan() == (i == 33)));
            let mut out = vec![0; 50];
            gradient(width, &[how], &[], Out::Bf16(&mut out));
            assert!(out.iter().enumerate().all(|(i, v)| bf16::from_bits(*v).is_nan() == (i == 33)));
        }
    }
}

#[test]
fn numbers_beyond_the_vectors_are_computed_in_f64() {
    let x = vec![2.9e30f32, 3e30, -3e38, 1e7, 2e30];
    let row = Row { logits: Floats::F32(&x), scale: 1.0 };
    for width in widths() {
        check_statistics(width, row, row, "huge");
        check_gradient(width, row, row, 1, "huge");
        // One at the top, and the others far beyond what an exponent holds.
        let x = vec![2e6f32 * std::f32::consts::LN_2, -3e38, -1e30, -5e6, -1e5];
        let row = Row { logits: Floats::F32(&x), scale: 1.0 };
        check_statistics(width, row, row, "edge");
        check_gradient(width, row, row, 1, "edge");
    }
}

struct WidenHalf<'a>(&'a [u16], &'a mut [f32]);

impl Kernel for WidenHalf<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (from, to) in self.0.chunks_exact(S::LANES).zip(self.1.chunks_exact_mut(S::LANES)) {
            // SAFETY: chunks have as many numbers as a vector.
            unsafe { s.store(to.as_mut_ptr(), s.load_f16(from.as_ptr())) };
        }
    }
}

#[test]
fn every_half_is_widened() {
    let bits: Vec<u16> = (0..=u16::MAX).collect();
    for width in widths() {
        let mut out = vec![0.0; bits.len()];
        run(width, WidenHalf(&bits, &mut out));
        for (bits, found) in bits.iter().zip(out) {
            let exact = f16_to_f32(*bits);
            assert!(found.to_bits() == exact.to_bits() || (found.is_nan() && exact.is_nan()));
        }
    }
}

#[test]
fn bf16_is_rounded_to_even() {
    let mut random = Random(5);
    let mut tried: Vec<f32> = vec![0.0, -0.0, f32::MAX, f32::MIN, f32::INFINITY, 1e-40, f32::NAN];
    tried.extend((0..100_000).map(|_| f32::from_bits((random.next() * 4_294_967_296.0) as u32)));
    tried.extend((0..70_000u32).map(|i| f32::from_bits(0x3f80_0000 + i * 0x4000)));
    for x in tried {
        let (found, exact) = (bf16::from_bits(block::bf16(x)), bf16::from_f32(x));
        assert!(found.to_bits() == exact.to_bits() || (found.is_nan() && exact.is_nan()), "{x}");
    }
}

struct Round<'a>(&'a [f32], &'a mut [u16]);

impl Kernel for Round<'_> {
    type Output = ();
    const ROUNDS: bool = true;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (from, to) in self.0.chunks_exact(S::LANES).zip(self.1.chunks_exact_mut(S::LANES)) {
            // SAFETY: chunks have as many numbers as a vector.
            unsafe { s.store_bf16(to.as_mut_ptr(), s.load(from.as_ptr())) };
        }
    }
}

#[test]
fn vectors_are_rounded_to_bf16_as_numbers_are() {
    let mut random = Random(6);
    let mut tried: Vec<f32> = vec![0.0, -0.0, f32::MAX, f32::MIN, f32::INFINITY, -f32::INFINITY];
    tried.extend([f32::NAN, f32::from_bits(0x7f80_0001), f32::MIN_POSITIVE, 1e-40, -1e-45]);
    tried.extend((0..100_000).map(|_| f32::from_bits((random.next() * 4_294_967_296.0) as u32)));
    tried.extend((0..70_000u32).map(|i| f32::from_bits(0x3f80_0000 + i * 0x4000)));
    tried.truncate(tried.len() / 16 * 16);
    for width in widths() {
        let mut out = vec![7; tried.len()];
        run(width, Round(&tried, &mut out));
        for (x, found) in tried.iter().zip(out) {
            let exact = block::bf16(*x);
            // Some machines round with an instruction that takes subnormal numbers for 0.
            let zero = x.is_subnormal() && found == exact & 0x8000;
            assert!(found == exact || zero, "{width:?}: {x:e} to {found:x}, not {exact:x}");
        }
    }
}

/// A target of some type that begins here.
type Of = fn(*mut u8) -> Target;

/// A gradient over the entries from `from` on of a target with `room` bytes, which the other bytes show to be untouched.
fn written(
    (width, stores): (Width, Stores),
    terms: &[Terms],
    add: &[(usize, f64)],
    (len, from, bytes): (usize, usize, usize),
    target: Of,
) -> Vec<u8> {
    let mut room = vec![0xa5u8; 192 + bytes * (len + from)];
    let begin = room.as_ptr().align_offset(64) + from * bytes;
    // SAFETY: there is room for all entries, apart from the rows.
    unsafe {
        gradient_at(width, len, terms, add, (target(room.as_mut_ptr().add(begin)), stores));
    }
    let end = begin + len * bytes;
    assert!(room[..begin].iter().chain(&room[end..]).all(|b| *b == 0xa5), "{len} from {from}");
    room[begin..end].to_vec()
}

#[test]
fn streamed_gradients_have_the_bits_of_others() {
    let mut random = Random(7);
    let lens = [1, 15, 16, 40, 1000, 1024, 1040, 1100, 2048, 5003];
    let mut row = || -> Vec<f32> { (0..5003).map(|_| 3.0 * random.bell() as f32).collect() };
    let (x, y) = (row(), row());
    let short: Vec<u16> = y.iter().map(|v| bf16::from_f32(*v).to_bits()).collect();
    let f32s = Source::F32(x.as_ptr());
    let term = |logits, p_log_p, other| {
        let row = Place { logits, scale: 1.25 };
        Terms { row, lse: 14.0, p: -0.7, p_log_p, p_squared: 0.0, other }
    };
    let both = [term(f32s, 0.0, None), term(Source::Bf16(short.as_ptr()), 0.3, None)];
    let beside = [term(f32s, 0.4, Some((Source::F32(y.as_ptr()), -0.2)))];
    let targets: [(usize, Of); 3] = [
        (4, |at| Target::F32(at.cast())),
        (2, |at| Target::Bf16(at.cast())),
        (2, |at| Target::F16(at.cast())),
    ];
    for width in widths() {
        for (n, len) in lens.into_iter().enumerate() {
            let add = [(len / 2, 0.7), (len - 1, -0.25), (len / 2, 0.125)];
            for terms in [&both[..1], &both[1..], &both, &beside, &[]] {
                for (bytes, target) in targets {
                    for (from, add) in [(0, &add[..]), (3, &[]), (n, &add), (16, &[]), (31, &add)] {
                        let how = |stores| {
                            written((width, stores), terms, add, (len, from, bytes), target)
                        };
                        let same = how(Stores::Streaming) == how(Stores::Cached);
                        assert!(same, "{width:?} {len} from {from}, {bytes} bytes");
                    }
                }
            }
        }
    }
}
