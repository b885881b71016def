//! The few instructions of x86-64 with AVX-512 that blocks are compiled to, as bytes.
//!
//! Vectors are 512 bits: eight f64. Encodings are those of Intel's manual, volume 2: EVEX prefixes for vectors, VEX for
//! mask registers, displacements always of 32 bits.

use super::simplify::MOST_COUNTS;

/// A 64-bit register that addresses are made of, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base(pub u8);

/// Holds a pointer for one access.
pub const RAX: Base = Base(0);
/// The folds' lanes.
pub const RDX: Base = Base(2);
/// Constants.
pub const RBP: Base = Base(5);
/// Numbers of the segment.
pub const RSI: Base = Base(6);
/// Room for values that no register holds.
pub const R9: Base = Base(9);
/// Counts, by number: registers that are the caller's.
pub const COUNTS: [u8; MOST_COUNTS] = [3, 12, 13, 14, 15];
/// The row, the only index.
const R10: u8 = 10;

/// Memory.
#[derive(Debug, Clone, Copy)]
pub struct Mem {
    /// Where it starts.
    pub base: Base,
    /// Bytes from there.
    pub disp: i32,
    /// Bytes of an element, where the element of the row is meant: 1, 2, 4 or 8.
    pub element: Option<u8>,
}

/// The last operand.
#[derive(Debug, Clone, Copy)]
pub enum Rm {
    /// A vector register.
    Zmm(u8),
    /// A vector in memory.
    Mem(Mem),
    /// One number in memory, for every lane.
    Every(Mem),
}

/// Opcode of a vector instruction: map, prefix, width bit, byte.
#[derive(Debug, Clone, Copy)]
pub struct Op(u8, u8, u8, u8);

/// Instructions `into = a op b`.
pub const ADD: Op = Op(1, 1, 1, 0x58);
pub const MUL: Op = Op(1, 1, 1, 0x59);
pub const SUB: Op = Op(1, 1, 1, 0x5c);
/// a where a < b, else b.
pub const MIN: Op = Op(1, 1, 1, 0x5d);
pub const DIV: Op = Op(1, 1, 1, 0x5e);
/// a where a > b, else b.
pub const MAX: Op = Op(1, 1, 1, 0x5f);
pub const AND: Op = Op(1, 1, 1, 0xdb);
pub const XOR: Op = Op(1, 1, 1, 0xef);
/// a * 2^floor(b).
pub const SCALE: Op = Op(2, 1, 1, 0x2c);
/// `into = into * a + b`
pub const FMA: Op = Op(2, 1, 1, 0xa8);
/// `into = into - a * b`
pub const FMA_FROM: Op = Op(2, 1, 1, 0xbc);
/// `into = b - into * a`
pub const FMA_LESS: Op = Op(2, 1, 1, 0xac);
/// Sums of whole numbers.
pub const ADD_WHOLE: Op = Op(1, 1, 1, 0xd4);
/// `into` = the number of a, then b, at the place in the low four bits of `into`.
pub const PICK: Op = Op(2, 1, 1, 0x77);
/// b where the mask, else a.
pub const BLEND: Op = Op(2, 1, 1, 0x65);
/// Instructions of one operand.
pub const MOVE: Op = Op(1, 1, 1, 0x28);
pub const LOAD: Op = Op(1, 1, 1, 0x10);
pub const STORE: Op = Op(1, 1, 1, 0x11);
pub const SQRT: Op = Op(1, 1, 1, 0x51);
pub const EVERY: Op = Op(2, 1, 1, 0x19);
/// f64 of f32, of i64, and i64 of u8.
pub const FROM_F32: Op = Op(1, 0, 0, 0x5a);
pub const FROM_I64: Op = Op(1, 2, 1, 0xe6);
pub const WIDEN_U8: Op = Op(2, 1, 0, 0x32);
/// f64 of an i64 in a general register.
const ROUND: Op = Op(3, 1, 1, 0x09);
const COMPARE: Op = Op(1, 1, 1, 0xc2);
const SHIFT: Op = Op(1, 1, 1, 0x73);
const RANGE: Op = Op(3, 1, 1, 0x50);
/// Mask of lanes in which a & b is not 0.
const TEST: Op = Op(2, 1, 1, 0x27);

/// Which lanes an instruction writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lanes {
    /// All.
    All,
    /// Those of the mask; the others stay.
    Keep(u8),
    /// Those of the mask; the others become 0.
    Zero(u8),
}

/// How numbers are compared, NaN as in Rust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    Eq = 0x00,
    Unordered = 0x03,
    Ne = 0x04,
    Lt = 0x11,
    Le = 0x12,
    Ge = 0x1d,
    Gt = 0x1e,
}

impl Compare {
    /// The same with its sides exchanged.
    pub fn swapped(self) -> Compare {
        match self {
            Compare::Lt => Compare::Gt,
            Compare::Le => Compare::Ge,
            Compare::Gt => Compare::Lt,
            Compare::Ge => Compare::Le,
            Compare::Eq | Compare::Unordered | Compare::Ne => self,
        }
    }
}

/// How whole numbers are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// The even one where two are as near.
    Nearest = 8,
    Down = 9,
    Up = 10,
    Zero = 11,
}

/// A jump whose target is not known yet.
#[derive(Debug)]
pub struct Jump(usize);

/// Machine code in the making.
#[derive(Debug, Default)]
pub struct Asm {
    pub bytes: Vec<u8>,
}

impl Asm {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn evex(&mut self, op: Op, reg: u8, a: u8, rm: Rm, lanes: Lanes) {
        self.evex_of(op, reg, a, rm, lanes, 0b10);
    }

    /// `length`: 0 for 128 bits, 2 for 512.
    fn evex_of(&mut self, op: Op, reg: u8, a: u8, rm: Rm, lanes: Lanes, length: u8) {
        let Op(map, prefix, wide, code) = op;
        let (x, b, every) = match rm {
            Rm::Zmm(r) => (r >> 4 & 1, r >> 3 & 1, 0),
            Rm::Mem(m) => (u8::from(m.element.is_some()), m.base.0 >> 3 & 1, 0),
            Rm::Every(m) => (u8::from(m.element.is_some()), m.base.0 >> 3 & 1, 1),
        };
        let (mask, zero) = match lanes {
            Lanes::All => (0, 0),
            Lanes::Keep(k) => (k, 0),
            Lanes::Zero(k) => (k, 1),
        };
        let not = |bit: u8| !bit & 1;
        self.put(&[
            0x62,
            not(reg >> 3) << 7 | not(x) << 6 | not(b) << 5 | not(reg >> 4) << 4 | map,
            wide << 7 | (!a & 0xf) << 3 | 1 << 2 | prefix,
            zero << 7 | length << 5 | every << 4 | not(a >> 4) << 3 | mask,
            code,
        ]);
        self.operands(reg, rm);
    }

    fn operands(&mut self, reg: u8, rm: Rm) {
        let reg = (reg & 7) << 3;
        match rm {
            Rm::Zmm(r) => self.put(&[0xc0 | reg | r & 7]),
            Rm::Mem(m) | Rm::Every(m) => {
                let base = m.base.0 & 7;
                match m.element {
                    Some(bytes) => {
                        let scale = bytes.trailing_zeros() as u8;
                        self.put(&[0x80 | reg | 4, scale << 6 | (R10 & 7) << 3 | base]);
                    }
                    None => self.put(&[0x80 | reg | base]),
                }
                self.put(&m.disp.to_le_bytes());
            }
        }
    }

    /// `into = a op b`
    pub fn two(&mut self, op: Op, into: u8, a: u8, b: Rm, lanes: Lanes) {
        self.evex(op, into, a, b, lanes);
    }

    /// `into = op x`; a store's vector is `into`.
    pub fn one(&mut self, op: Op, into: u8, x: Rm, lanes: Lanes) {
        self.evex(op, into, 0, x, lanes);
    }

    /// Whole numbers.
    pub fn round(&mut self, how: Rounding, into: u8, x: Rm) {
        self.evex(ROUND, into, 0, x, Lanes::All);
        self.put(&[how as u8]);
    }

    /// Whole numbers times 2^bits.
    pub fn shift(&mut self, into: u8, x: u8, bits: u8) {
        // The destination stands where the first operand does, and 6 stands for the instruction.
        self.evex(SHIFT, 6, into, Rm::Zmm(x), Lanes::All);
        self.put(&[bits]);
    }

    /// The size of the larger of two; of the other where one is NaN.
    pub fn larger(&mut self, into: u8, a: u8, b: u8) {
        self.evex(RANGE, into, a, Rm::Zmm(b), Lanes::All);
        self.put(&[0b1011]);
    }

    /// Mask `into` of the lanes in which `a how b`; only of those of `among`, if given.
    pub fn compare(&mut self, how: Compare, into: u8, a: u8, b: Rm, among: Option<u8>) {
        self.evex(COMPARE, into, a, b, among.map_or(Lanes::All, Lanes::Keep));
        self.put(&[how as u8]);
    }

    /// Mask `into` of the lanes of whole numbers that are not 0.
    pub fn test(&mut self, into: u8, x: u8) {
        self.evex(TEST, into, x, Rm::Zmm(x), Lanes::All);
    }

    /// Eight bytes; the others become 0.
    pub fn load_bytes(&mut self, into: u8, m: Mem) {
        self.evex_of(Op(1, 2, 1, 0x7e), into, 0, Rm::Mem(m), Lanes::All, 0); // vmovq
    }

    /// Mask `into` of the first eight bytes that are not 0, of which the others are 0.
    pub fn test_bytes(&mut self, into: u8, x: u8) {
        self.evex_of(Op(2, 1, 0, 0x26), into, x, Rm::Zmm(x), Lanes::All, 0); // vptestmb
    }

    fn mask(&mut self, code: u8, into: u8, a: u8, b: u8, two: bool) {
        let (l, vvvv) = if two { (1, !a & 0xf) } else { (0, 0xf) };
        self.put(&[0xc5, 0x80 | vvvv << 3 | l << 2 | 1, code, 0xc0 | into << 3 | b]);
    }

    /// Both.
    pub fn mask_and(&mut self, into: u8, a: u8, b: u8) {
        self.mask(0x41, into, a, b, true);
    }

    /// Any.
    pub fn mask_or(&mut self, into: u8, a: u8, b: u8) {
        self.mask(0x45, into, a, b, true);
    }

    /// The other lanes.
    pub fn mask_not(&mut self, into: u8, x: u8) {
        self.mask(0x44, into, 0, x, false);
    }

    /// Saves [`RBP`] and loads it with the n-th pointer of the table.
    pub fn begin_constants(&mut self, n: usize) {
        self.put(&[0x55, 0x48, 0x8b, 0xaf]); // push rbp; mov rbp, [rdi + 8 * n]
        self.put(&(8 * n as i32).to_le_bytes());
    }

    /// Restores it.
    pub fn end_constants(&mut self) {
        self.put(&[0x5d]); // pop rbp
    }

    /// Saves a count's register, which begins at 0.
    pub fn begin_count(&mut self, r: u8) {
        let (high, low) = (r >> 3, r & 7);
        self.put(&[0x40 | high, 0x50 | low]); // push r
        self.put(&[0x40 | high << 2 | high, 0x31, 0xc0 | low << 3 | low]); // xor r, r
    }

    /// Adds the lanes of a mask to a count.
    pub fn count(&mut self, r: u8, k: u8) {
        self.put(&[0xc5, 0xf9, 0x93, 0xc0 | k]); // kmovb eax, k
        self.put(&[0xf3, 0x0f, 0xb8, 0xc0]); // popcnt eax, eax
        self.put(&[0x48 | r >> 3, 0x01, 0xc0 | r & 7]); // add r, rax
    }

    /// Adds to a count the bytes of 64 rows that are not 0.
    pub fn count_bytes(&mut self, r: u8, at: Mem, lanes: Lanes) {
        self.evex(Op(1, 3, 0, 0x6f), 0, 0, Rm::Mem(at), lanes); // vmovdqu8 zmm0, [at]
        self.evex(Op(2, 1, 0, 0x26), 1, 0, Rm::Zmm(0), Lanes::All); // vptestmb k1, zmm0, zmm0
        self.put(&[0xc4, 0xe1, 0xfb, 0x93, 0xc1]); // kmovq rax, k1
        self.put(&[0xf3, 0x48, 0x0f, 0xb8, 0xc0]); // popcnt rax, rax
        self.put(&[0x48 | r >> 3, 0x01, 0xc0 | r & 7]); // add r, rax
    }

    /// Rows `rcx..r8`, 256 at a time and 64 in each mask `left`, without jumps for the last ones: segments are short, and
    /// where one ends is hard to foresee. `body` is given the first of 64.
    pub fn rows_of_bytes(&mut self, left: u8, body: &mut impl FnMut(&mut Asm, i32)) {
        self.put(&[0x49, 0x89, 0xca]); // mov r10, rcx
        let begin = self.bytes.len();
        self.put(&[0x4c, 0x89, 0xc1, 0x4c, 0x29, 0xd1]); // mov rcx, r8; sub rcx, r10
        for first in [0, 64, 128, 192] {
            self.put(&[0x4c, 0x8d, 0x99]); // lea r11, [rcx - first]
            self.put(&i32::to_le_bytes(-first));
            self.put(&[0x31, 0xc0, 0x4d, 0x85, 0xdb, 0x4c, 0x0f, 0x48, 0xd8]); // xor eax, eax; test r11, r11; cmovs r11, rax
            self.put(&[0xb8, 64, 0, 0, 0, 0x49, 0x39, 0xc3, 0x4c, 0x0f, 0x4f, 0xd8]); // mov eax, 64; cmp r11, rax; cmovg r11, rax
            self.put(&[0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff]); // mov rax, -1
            self.put(&[0xc4, 0xe2, 0xa0, 0xf5, 0xc0]); // bzhi rax, rax, r11
            self.put(&[0xc4, 0xe1, 0xfb, 0x92, 0xc0 | left << 3]); // kmovq left, rax
            body(self, first);
        }
        self.put(&[0x49, 0x81, 0xc2, 0, 1, 0, 0]); // add r10, 256
        self.put(&[0x4d, 0x39, 0xc2]); // cmp r10, r8
        let again = self.jump(&[0x0f, 0x82]); // jb
        self.land_at(&again, begin);
    }

    /// Writes a count to memory and restores its register: the last that was saved first.
    pub fn end_count(&mut self, r: u8, into: Mem) {
        let (high, low) = (r >> 3, r & 7);
        self.put(&[0x48 | high << 2, 0x89, 0x80 | low << 3 | into.base.0]); // mov [into], r
        self.put(&into.disp.to_le_bytes());
        self.put(&[0x40 | high, 0x58 | low]); // pop r
    }

    /// A jump where a mask has any lane.
    pub fn jump_if_any(&mut self, k: u8) -> Jump {
        self.put(&[0xc5, 0xf9, 0x98, 0xc0 | k << 3 | k]); // kortestb
        self.jump(&[0x0f, 0x85]) // jnz
    }

    /// A jump to code that has been written.
    pub fn jump_back(&mut self, target: usize) {
        let jump = self.jump(&[0xe9]);
        self.land_at(&jump, target);
    }

    /// Loads the n-th pointer of the table into [`RAX`].
    pub fn pointer(&mut self, n: usize) {
        self.put(&[0x48, 0x8b, 0x87]);
        self.put(&(8 * n as i32).to_le_bytes());
    }

    /// The row number in every lane: `vpbroadcastq into, r10`.
    pub fn row(&mut self, into: u8) {
        // The general register takes the place of the vector operand, with the same extension bits.
        self.evex(Op(2, 1, 1, 0x7c), into, 0, Rm::Zmm(R10), Lanes::All);
    }

    /// Rows `rcx..r8`: `copies` vectors of them at a time, then as many as are left, the last of which has the lanes of
    /// mask `left`. `body` is given how many, and whether some may be missing.
    pub fn rows(&mut self, left: u8, copies: u8, body: &mut impl FnMut(&mut Asm, usize, bool)) {
        let many = copies * 8;
        self.put(&[0x49, 0x89, 0xca]); // mov r10, rcx
        let begin = self.bytes.len();
        self.put(&[0x4d, 0x8d, 0x5a, many]); // lea r11, [r10 + many]
        self.put(&[0x4d, 0x39, 0xc3]); // cmp r11, r8
        let few = self.jump(&[0x0f, 0x87]); // ja
        body(self, copies.into(), false);
        self.put(&[0x49, 0x83, 0xc2, many]); // add r10, many
        self.jump_back(begin);
        self.land(&few);
        self.put(&[0x4c, 0x89, 0xc1, 0x4c, 0x29, 0xd1]); // mov rcx, r8; sub rcx, r10
        let mut ends = vec![self.jump(&[0x0f, 0x86])]; // jbe
        self.put(&[0xff, 0xc9, 0x41, 0x89, 0xcb, 0x83, 0xe1, 0x07]); // dec ecx; mov r11d, ecx; and ecx, 7
        self.put(&[0xb8, 2, 0, 0, 0, 0xd3, 0xe0, 0xff, 0xc8]); // mov eax, 2; shl eax, cl; dec eax
        self.put(&[0xc5, 0xf9, 0x92, 0xc0 | left << 3]); // kmovb left, eax
        self.put(&[0x41, 0xc1, 0xeb, 3]); // shr r11d, 3
        for more in 1..copies {
            self.put(&[0x41, 0x83, 0xfb, more]); // cmp r11d, more
            let other = self.jump(&[0x0f, 0x83]); // jae
            body(self, more.into(), true);
            ends.push(self.jump(&[0xe9])); // jmp
            self.land(&other);
        }
        body(self, copies.into(), true);
        for end in &ends {
            self.land(end);
        }
    }

    /// Back to the caller.
    pub fn end(&mut self) {
        self.put(&[0xc5, 0xf8, 0x77, 0xc3]); // vzeroupper; ret
    }

    fn jump(&mut self, code: &[u8]) -> Jump {
        self.put(code);
        self.put(&[0; 4]);
        Jump(self.bytes.len())
    }

    /// Lets a jump lead to what comes next.
    pub fn land(&mut self, jump: &Jump) {
        self.land_at(jump, self.bytes.len());
    }

    fn land_at(&mut self, jump: &Jump, target: usize) {
        let far = target as i32 - jump.0 as i32;
        self.bytes[jump.0 - 4..jump.0].copy_from_slice(&far.to_le_bytes());
    }
}
