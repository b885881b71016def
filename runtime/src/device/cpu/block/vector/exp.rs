//! Exponentials of a block as instructions: for arguments that nothing can go wrong with, and after the end of the code
//! for all others, where one in any lane leads to.

use std::f64::consts::LOG2_E;
use std::ops::Range;

use super::super::math;
use super::super::x64::{self as x, Asm, Compare, Jump, Lanes, Rm};
use super::{Each, Emit, LANES};

/// Powers of two below which, and above whose inverse, results and factors are normal numbers.
const FAR: f64 = 1021.0;

/// Exponentials of arguments that may be large, written after the end of the code.
pub(super) struct Far {
    jump: Jump,
    /// Where the code goes on.
    back: usize,
    now: Range<usize>,
    less_one: bool,
    arguments: Each<u8>,
    temporary: Temporary,
}

/// Registers of the step; the last of each copy is the result's.
#[derive(Clone, Copy)]
struct Temporary {
    sum: Each<u8>,
    k: Each<u8>,
    r: Each<u8>,
    middle: Each<u8>,
    part: Each<u8>,
    /// For all copies.
    table: u8,
    mask: u8,
}

/// 2^(j/16), less j where a shifted number of sixteenths has it.
fn powers_less_shifted() -> [f64; 2 * LANES] {
    std::array::from_fn(|j| f64::from_bits(math::POWERS[j].to_bits() - ((j as u64) << 48)))
}

impl Emit<'_> {
    /// e^a, or e^a - 1, with the bits of [`math`]; `part` is the result.
    pub(super) fn exp(&mut self, asm: &mut Asm, part: Each<u8>, a: Each<u8>, less_one: bool) {
        let [sum, k, r, middle] = [(); 4].map(|()| self.vectors(asm));
        let (table, mask) = (self.vector(asm), self.mask(asm));
        let t = Temporary { sum, k, r, middle, part, table, mask };
        self.sixteenths(asm, t, a);
        let (first, others) =
            (self.now.start, self.now.start + 1..self.now.end.max(self.now.start + 2) - 1);
        asm.larger(table, k[first], k[self.now.end - 1]);
        for k in &k[others] {
            asm.larger(table, table, *k);
        }
        let far = self.constant(FAR);
        asm.compare(Compare::Gt, mask, table, Rm::Every(far), None);
        let jump = asm.jump_if_any(mask);
        self.fill(asm, r, math::LN2_HIGH);
        self.two(asm, x::FMA_LESS, r, k, a);
        self.polynomial(asm, t);
        for copy in self.now.clone() {
            asm.shift(r[copy], sum[copy], 48);
        }
        if less_one {
            self.add_rest(asm, t);
        }
        self.pick(asm, table, sum, &powers_less_shifted());
        self.two(asm, x::ADD_WHOLE, sum, sum, r);
        if less_one {
            self.with(asm, x::SUB, middle, sum, 1.0);
            self.two(asm, x::FMA, part, sum, middle);
        } else {
            self.two(asm, x::FMA, part, sum, sum);
        }
        self.far.push(Far {
            jump,
            back: asm.bytes.len(),
            now: self.now.clone(),
            less_one,
            arguments: a,
            temporary: t,
        });
    }

    /// The code of all arguments that may be large.
    pub(super) fn far(&mut self, asm: &mut Asm) {
        for far in std::mem::take(&mut self.far) {
            asm.land(&far.jump);
            self.now = far.now;
            self.exp_of_any(asm, far.temporary, far.arguments, far.less_one);
            asm.jump_back(far.back);
        }
    }

    fn exp_of_any(&mut self, asm: &mut Asm, t: Temporary, a: Each<u8>, less_one: bool) {
        let Temporary { sum, k, r, middle, part, table, mask } = t;
        let (least, most) = if less_one { (math::LEAST, math::MOST) } else { (-1e3, 1e3) };
        self.fill(asm, r, most);
        self.fill(asm, k, least);
        // The second operand where either is NaN.
        self.two(asm, x::MIN, r, r, a);
        self.two(asm, x::MAX, r, k, r);
        self.sixteenths(asm, t, r);
        self.with(asm, x::FMA_FROM, r, k, math::LN2_HIGH);
        self.polynomial(asm, t);
        if !less_one {
            self.with(asm, x::SUB, k, sum, math::ROUND);
            self.pick(asm, table, sum, &math::POWERS);
            self.two(asm, x::FMA, part, sum, sum);
            self.two(asm, x::SCALE, part, part, k);
            return;
        }
        self.add_rest(asm, t);
        self.with(asm, x::SUB, k, sum, math::ROUND);
        self.pick(asm, table, sum, &math::POWERS);
        self.fill(asm, middle, 1.0);
        let [one, half, halved] = [1.0, 0.5, math::HALVED].map(|c| self.constant(c));
        let large = Lanes::Keep(mask);
        for copy in self.now.clone() {
            let (sum, k, middle, part) = (sum[copy], k[copy], middle[copy], part[copy]);
            asm.compare(Compare::Ge, mask, k, Rm::Every(halved), None);
            asm.two(x::SUB, k, k, Rm::Every(one), large);
            asm.two(x::SCALE, sum, sum, Rm::Zmm(k), Lanes::All);
            asm.one(x::EVERY, middle, Rm::Mem(half), large);
            asm.two(x::SUB, middle, sum, Rm::Zmm(middle), Lanes::All);
            asm.two(x::FMA, part, sum, Rm::Zmm(middle), Lanes::All);
            asm.two(x::ADD, part, part, Rm::Zmm(part), large);
        }
    }

    /// `k`, in sixteenths, and the number of them in the low bits of `sum`.
    fn sixteenths(&mut self, asm: &mut Asm, t: Temporary, a: Each<u8>) {
        self.fill(asm, t.sum, LOG2_E);
        let round = self.constant(math::ROUND);
        for copy in self.now.clone() {
            asm.two(x::FMA, t.sum[copy], a[copy], Rm::Every(round), Lanes::All);
        }
        self.with(asm, x::SUB, t.k, t.sum, math::ROUND);
    }

    /// e^r - 1 in `part`; `r` lacks the lower part of k ln 2 yet.
    fn polynomial(&mut self, asm: &mut Asm, t: Temporary) {
        let Temporary { k, r, middle, part, .. } = t;
        self.with(asm, x::FMA_FROM, r, k, math::LN2_LOW);
        let square = k;
        self.two(asm, x::MUL, square, r, r);
        for (sum, from) in [(part, 4), (middle, 2), (middle, 0)] {
            self.fill(asm, sum, math::TAYLOR[from + 1]);
            self.with(asm, x::FMA, sum, r, math::TAYLOR[from]);
            if from < 4 {
                self.two(asm, x::FMA, part, square, middle);
            }
        }
        self.two(asm, x::FMA, part, square, r);
    }

    /// Adds to `part` what the power lacks.
    fn add_rest(&mut self, asm: &mut Asm, t: Temporary) {
        for copy in self.now.clone() {
            asm.one(x::MOVE, t.k[copy], Rm::Zmm(t.sum[copy]), Lanes::All);
        }
        self.pick(asm, t.table, t.k, &math::RESTS);
        self.two(asm, x::ADD, t.part, t.part, t.k);
    }

    /// The entries of a table at the places that the registers hold.
    fn pick(&mut self, asm: &mut Asm, first: u8, into: Each<u8>, table: &[f64; 2 * LANES]) {
        let [low, high] = [0, LANES].map(|at| {
            let half: [f64; LANES] = std::array::from_fn(|i| table[at + i]);
            Rm::Mem(self.row_of(half))
        });
        asm.one(x::LOAD, first, low, Lanes::All);
        for r in &into[self.now.clone()] {
            asm.two(x::PICK, *r, first, high, Lanes::All);
        }
    }

    /// A constant in each copy's register: a whole vector, as one number for all lanes takes arithmetic units.
    fn fill(&mut self, asm: &mut Asm, into: Each<u8>, c: f64) {
        let c = self.row_of([c; LANES]);
        for r in &into[self.now.clone()] {
            asm.one(x::LOAD, *r, Rm::Mem(c), Lanes::All);
        }
    }
}
