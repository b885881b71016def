//! A batch as plain named arrays, exactly as a batch file holds them. Nothing here is checked: see
//! [`crate::shape`], which turns the structure arrays into a ragged tree or says what does not add up.

use std::collections::BTreeMap;
use std::ops::Bound;

/// The numbers of one array, in the type the file has.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit floats.
    F64(Vec<f64>),
    /// bfloat16, as raw bits.
    Bf16(Vec<u16>),
    /// half precision, as raw bits.
    F16(Vec<u16>),
    /// 64-bit integers (32-bit ones are widened on reading).
    I64(Vec<i64>),
    /// Bytes and booleans.
    U8(Vec<u8>),
}

impl Default for Data {
    fn default() -> Self {
        Data::F64(Vec::new())
    }
}

impl Data {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Data::F32(v) => v.len(),
            Data::F64(v) => v.len(),
            Data::Bf16(v) | Data::F16(v) => v.len(),
            Data::I64(v) => v.len(),
            Data::U8(v) => v.len(),
        }
    }

    /// True without elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file's name for the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Data::F32(_) => "F32",
            Data::F64(_) => "F64",
            Data::Bf16(_) => "BF16",
            Data::F16(_) => "F16",
            Data::I64(_) => "I64",
            Data::U8(_) => "U8",
        }
    }

    /// Element `i` as f64 (exact for every type but large i64).
    pub fn get(&self, i: usize) -> f64 {
        match self {
            Data::F32(v) => f64::from(v[i]),
            Data::F64(v) => v[i],
            Data::Bf16(v) => f64::from(bf16_to_f32(v[i])),
            Data::F16(v) => f64::from(f16_to_f32(v[i])),
            Data::I64(v) => v[i] as f64,
            Data::U8(v) => f64::from(v[i]),
        }
    }

    /// The elements as floats, without a copy; none for integers and bytes.
    pub fn floats(&self) -> Option<Floats<'_>> {
        match self {
            Data::F32(v) => Some(Floats::F32(v)),
            Data::F64(v) => Some(Floats::F64(v)),
            Data::Bf16(v) => Some(Floats::Bf16(v)),
            Data::F16(v) => Some(Floats::F16(v)),
            Data::I64(_) | Data::U8(_) => None,
        }
    }
}

/// Borrowed floats in the type their owner has.
#[derive(Debug, Clone, Copy)]
pub enum Floats<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// 64-bit floats.
    F64(&'a [f64]),
    /// bfloat16, as raw bits.
    Bf16(&'a [u16]),
    /// half precision, as raw bits.
    F16(&'a [u16]),
}

impl<'a> Floats<'a> {
    /// Element `i`.
    pub fn get(&self, i: usize) -> f64 {
        match self {
            Floats::F32(v) => f64::from(v[i]),
            Floats::F64(v) => v[i],
            Floats::Bf16(v) => f64::from(bf16_to_f32(v[i])),
            Floats::F16(v) => f64::from(f16_to_f32(v[i])),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Floats::F32(v) => v.len(),
            Floats::F64(v) => v.len(),
            Floats::Bf16(v) | Floats::F16(v) => v.len(),
        }
    }

    /// True without elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements `range`.
    #[must_use]
    pub fn slice(&self, range: std::ops::Range<usize>) -> Floats<'a> {
        match self {
            Floats::F32(v) => Floats::F32(&v[range]),
            Floats::F64(v) => Floats::F64(&v[range]),
            Floats::Bf16(v) => Floats::Bf16(&v[range]),
            Floats::F16(v) => Floats::F16(&v[range]),
        }
    }
}

/// bfloat16 bits to f32: the upper half of its bits.
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// IEEE half bits to f32.
pub fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let exponent = u32::from(bits >> 10) & 0x1f;
    let fraction = u32::from(bits) & 0x3ff;
    match exponent {
        0 => {
            // Subnormal: fraction * 2^-24, exact in f32.
            let magnitude = fraction as f32 * f32::from_bits(0x3380_0000);
            f32::from_bits(sign | magnitude.to_bits())
        }
        31 => f32::from_bits(sign | 0x7f80_0000 | (fraction << 13)),
        e => f32::from_bits(sign | ((e + 112) << 23) | (fraction << 13)),
    }
}

/// One array with its shape; empty by default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Array {
    /// Numbers, row-major.
    pub data: Data,
    /// Length along each axis.
    pub shape: Vec<usize>,
}

impl Array {
    /// A one-dimensional array.
    pub fn vector(data: Data) -> Self {
        let shape = vec![data.len()];
        Array { data, shape }
    }
}

/// A batch: arrays by the names of `language.md` section 8 (`group/size`, `token/action`,
/// `batch/train.step`, `state/v`, …).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// All arrays.
    pub arrays: BTreeMap<String, Array>,
}

impl Table {
    /// Sets a one-dimensional array.
    pub fn set(&mut self, name: impl Into<String>, data: Data) {
        self.arrays.insert(name.into(), Array::vector(data));
    }

    /// An array by name.
    pub fn get(&self, name: &str) -> Option<&Array> {
        self.arrays.get(name)
    }

    /// An array by the parts of its name, which are nowhere put together.
    pub fn joined(&self, parts: &[&str]) -> Option<&Array> {
        let is = |name: &str| {
            let rest = parts.iter().try_fold(name, |rest, part| rest.strip_prefix(part));
            rest == Some("")
        };
        let first = *parts.first()?;
        let from = (Bound::Included(first), Bound::Unbounded);
        let near = self.arrays.range::<str, _>(from);
        near.take_while(|(name, _)| name.starts_with(first)).find(|(n, _)| is(n)).map(|(_, a)| a)
    }
}
