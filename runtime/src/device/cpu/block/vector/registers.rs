//! Which register holds what while a block's machine code is written.

use super::super::code::{Arg, Value};
use super::super::x64::{self as x, Asm, Compare, Lanes, Mem, R9, RBP, RSI, Rm};
use super::{COPIES, Each, Emit, LANES};

impl Emit<'_> {
    pub(super) fn forget(&mut self, v: u16, copy: usize) {
        let place = std::mem::take(&mut self.values[v as usize][copy]);
        if let Some(r) = place.vector {
            self.vectors[r as usize] = None;
        }
        if let Some(k) = place.mask {
            self.masks[k as usize] = None;
        }
    }

    /// The next step that reads a copy's value.
    pub(super) fn next_use(&self, (v, copy): (u16, usize)) -> usize {
        let uses = &self.uses[v as usize];
        let next = uses.partition_point(|u| *u < self.at[copy]);
        uses.get(next).copied().unwrap_or(usize::MAX)
    }

    pub(super) fn room((v, copy): (u16, usize)) -> Mem {
        let vectors = usize::from(v) * COPIES + copy;
        Mem { base: R9, disp: (vectors * 8 * LANES) as i32, element: None }
    }

    pub(super) fn number(n: u16) -> Mem {
        Mem { base: RSI, disp: 8 * i32::from(n), element: None }
    }

    pub(super) fn constant(&mut self, c: f64) -> Mem {
        let known = self.constants.iter().position(|k| k.to_bits() == c.to_bits());
        let at = known.unwrap_or_else(|| {
            self.constants.push(c);
            self.constants.len() - 1
        });
        Self::constant_at(at)
    }

    /// A vector in memory, which lies as vectors do.
    pub(super) fn row_of(&mut self, all: [f64; LANES]) -> Mem {
        let all = all.map(f64::to_bits);
        let rows = self.constants.as_chunks::<LANES>().0;
        let at = match rows.iter().position(|row| row.map(f64::to_bits) == all) {
            Some(row) => row * LANES,
            None => {
                let at = self.constants.len().next_multiple_of(LANES);
                self.constants.resize(at, 0.0);
                self.constants.extend(all.map(f64::from_bits));
                at
            }
        };
        Self::constant_at(at)
    }

    fn constant_at(at: usize) -> Mem {
        Mem { base: RBP, disp: 8 * at as i32, element: None }
    }

    /// A register that is free until the step ends.
    pub(super) fn vector(&mut self, asm: &mut Asm) -> u8 {
        let free = |r: &u8| self.pinned >> r & 1 == 0;
        let r = match (0..32u8).find(|r| free(r) && self.vectors[*r as usize].is_none()) {
            Some(r) => r,
            None => {
                // What is read last goes to the room.
                let far = (0..32u8).filter(free).max_by_key(|r| {
                    self.vectors[*r as usize].map_or(usize::MAX, |v| self.next_use(v))
                });
                self.lacks |= far.is_none();
                let r = far.unwrap_or(0);
                self.put_away(asm, r);
                r
            }
        };
        self.pinned |= 1 << r;
        r
    }

    /// Such a register for each copy.
    pub(super) fn vectors(&mut self, asm: &mut Asm) -> Each<u8> {
        let mut each = [0; COPIES];
        for r in &mut each[self.now.clone()] {
            *r = self.vector(asm);
        }
        each
    }

    pub(super) fn put_away(&mut self, asm: &mut Asm, r: u8) {
        let Some((v, copy)) = self.vectors[r as usize].take() else { return };
        let place = &mut self.values[v as usize][copy];
        place.vector = None;
        let again = matches!(self.code.values[v as usize], Value::Load(_));
        let known = place.truth && place.mask.is_some();
        if !place.stored && !known && !again {
            place.stored = true;
            asm.one(x::STORE, r, Rm::Mem(Self::room((v, copy))), Lanes::All);
        }
    }

    pub(super) fn mask(&mut self, asm: &mut Asm) -> u8 {
        let free = |k: &u8| self.pinned_masks >> k & 1 == 0;
        let k = match (1..7u8).find(|k| free(k) && self.masks[*k as usize].is_none()) {
            Some(k) => k,
            None => {
                let far = (1..7u8).filter(free).max_by_key(|k| {
                    self.masks[*k as usize].map_or(usize::MAX, |v| self.next_use(v))
                });
                self.lacks |= far.is_none();
                let k = far.unwrap_or(1);
                if let Some((v, copy)) = self.masks[k as usize] {
                    let place = self.values[v as usize][copy];
                    if place.truth && place.vector.is_none() && !place.stored {
                        self.numbers_of(asm, v, copy);
                    }
                    self.masks[k as usize] = None;
                    self.values[v as usize][copy].mask = None;
                }
                k
            }
        };
        self.pinned_masks |= 1 << k;
        k
    }

    pub(super) fn are_vectors(&mut self, v: u16, each: Each<u8>) {
        for copy in self.now.clone() {
            self.is_vector(v, copy, each[copy]);
        }
    }

    pub(super) fn is_vector(&mut self, v: u16, copy: usize, r: u8) {
        self.vectors[r as usize] = Some((v, copy));
        self.values[v as usize][copy].vector = Some(r);
    }

    pub(super) fn is_mask(&mut self, v: u16, copy: usize, k: u8) {
        self.masks[k as usize] = Some((v, copy));
        let place = &mut self.values[v as usize][copy];
        (place.mask, place.truth) = (Some(k), true);
    }

    /// A value as numbers in a register.
    pub(super) fn numbers_of(&mut self, asm: &mut Asm, v: u16, copy: usize) -> u8 {
        let place = self.values[v as usize][copy];
        if let Some(r) = place.vector {
            self.pinned |= 1 << r;
            return r;
        }
        let r = self.vector(asm);
        if let (Some(k), true) = (place.mask, place.truth) {
            let one = self.constant(1.0);
            asm.one(x::EVERY, r, Rm::Mem(one), Lanes::Zero(k));
        } else if let (false, Value::Load(column)) = (place.stored, self.code.values[v as usize]) {
            self.load(asm, r, column, copy);
        } else {
            asm.one(x::LOAD, r, Rm::Mem(Self::room((v, copy))), Lanes::All);
        }
        self.is_vector(v, copy, r);
        r
    }

    /// An operand as registers.
    pub(super) fn registers(&mut self, asm: &mut Asm, arg: Arg) -> Each<u8> {
        match arg {
            Arg::Row(v) => {
                let mut each = [0; COPIES];
                for copy in self.now.clone() {
                    each[copy] = self.numbers_of(asm, v, copy);
                }
                each
            }
            Arg::Number(n) => {
                let r = self.vector(asm);
                asm.one(x::EVERY, r, Rm::Mem(Self::number(n)), Lanes::All);
                [r; COPIES]
            }
        }
    }

    /// An operand as whatever an instruction takes last.
    pub(super) fn operands(&mut self, asm: &mut Asm, arg: Arg) -> Each<Rm> {
        let mut each = [Rm::Zmm(0); COPIES];
        for copy in self.now.clone() {
            each[copy] = match arg {
                Arg::Number(n) => Rm::Every(Self::number(n)),
                Arg::Row(v) => {
                    let place = self.values[v as usize][copy];
                    if place.stored && place.vector.is_none() {
                        Rm::Mem(Self::room((v, copy)))
                    } else {
                        Rm::Zmm(self.numbers_of(asm, v, copy))
                    }
                }
            };
        }
        each
    }

    /// An operand as a condition: not 0, or NaN.
    pub(super) fn condition(&mut self, asm: &mut Asm, arg: Arg) -> Each<u8> {
        let mut each = [0; COPIES];
        for copy in self.now.clone() {
            each[copy] = self.condition_of(asm, arg, copy);
        }
        each
    }

    pub(super) fn condition_of(&mut self, asm: &mut Asm, arg: Arg, copy: usize) -> u8 {
        if let Arg::Row(v) = arg
            && let Some(k) = self.values[v as usize][copy].mask
        {
            self.pinned_masks |= 1 << k;
            return k;
        }
        let r = match arg {
            Arg::Row(v) => self.numbers_of(asm, v, copy),
            Arg::Number(_) => self.registers(asm, arg)[copy],
        };
        let zero = self.constant(0.0);
        let k = self.mask(asm);
        asm.compare(Compare::Ne, k, r, Rm::Every(zero), None);
        if let Arg::Row(v) = arg {
            self.masks[k as usize] = Some((v, copy));
            self.values[v as usize][copy].mask = Some(k);
        }
        k
    }
}
