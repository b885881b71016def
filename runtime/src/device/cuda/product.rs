//! Products of candle's tensors into a tensor that is there: on a GPU by cuBLASLt, on the CPU by gemm, both from one
//! description in the column-major form that cuBLASLt takes.

use std::cell::RefCell;

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::{CpuStorage, DType, InplaceOp3, Layout, Result, Tensor, bail};
use half::{bf16, f16};
use rlc_model::gemm;

#[cfg(feature = "cuda")]
use super::lt::Lt;

/// `out [m, n] = left [m, k] right [k, n]`, or that added to `out`; all packed, row by row. Numbers are multiplied as they are
/// and summed in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Product {
    m: usize,
    n: usize,
    k: usize,
    /// Stored as `[k, m]`.
    left_turned: bool,
    /// Stored as `[n, k]`.
    right_turned: bool,
    operands: DType,
    out: DType,
    add: bool,
}

/// A factor or a result in column-major form: `rows` x `columns` numbers as they are stored, a column `rows` after the one
/// before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stored {
    /// Numbers of a column.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// Whether the product takes it with rows and columns exchanged.
    pub turned: bool,
    /// Type of its numbers.
    pub dtype: DType,
}

/// `c = a b`, or that added to `c`, in column-major form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ColumnMajor {
    /// The first factor: the right one of the [`Product`].
    pub a: Stored,
    /// The second factor: the left one.
    pub b: Stored,
    /// The result.
    pub c: Stored,
    /// Whether it is added to what is there.
    pub add: bool,
}

/// A factor, and whether rows and columns are exchanged.
#[derive(Debug, Clone, Copy)]
pub struct Factor<'a>(pub &'a Tensor, pub bool);

impl Product {
    fn of(out: &Tensor, left: Factor<'_>, right: Factor<'_>, add: bool) -> Result<Product> {
        let ((rows, columns), (k, n)) = (left.0.dims2()?, right.0.dims2()?);
        let (m, inner) = if left.1 { (columns, rows) } else { (rows, columns) };
        let (k, n) = if right.1 { (n, k) } else { (k, n) };
        let (operands, float) = (left.0.dtype(), out.dtype());
        if inner != k || out.dims2()? != (m, n) {
            let (left, right) = (left.0.dims(), right.0.dims());
            bail!("a product of {left:?} and {right:?} into {:?}", out.dims());
        }
        if right.0.dtype() != operands || !(float == operands || float == DType::F32) {
            bail!("a product of {operands:?} and {:?} into {float:?}", right.0.dtype());
        }
        if !matches!(operands, DType::F32 | DType::BF16 | DType::F16) {
            bail!("products are of f32, bf16 or f16, not {operands:?}");
        }
        let (left_turned, right_turned) = (left.1, right.1);
        Ok(Product { m, n, k, left_turned, right_turned, operands, out: float, add })
    }

    /// What lies row by row lies column by column as its transpose, so the transposes are multiplied in the other order.
    pub fn column_major(&self) -> ColumnMajor {
        let &Product { m, n, k, left_turned, right_turned, operands, out, add } = self;
        let stored = |(rows, columns), turned, dtype| Stored { rows, columns, turned, dtype };
        ColumnMajor {
            a: stored(if right_turned { (k, n) } else { (n, k) }, right_turned, operands),
            b: stored(if left_turned { (m, k) } else { (k, m) }, left_turned, operands),
            c: stored((n, m), false, out),
            add,
        }
    }
}

/// Multiplies; keeps what a GPU's library needs from product to product.
#[derive(Default)]
pub struct Products {
    #[cfg(feature = "cuda")]
    lt: RefCell<Option<Lt>>,
    /// Operands in f32, on the CPU.
    room: RefCell<[Vec<f32>; 2]>,
}

impl std::fmt::Debug for Products {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Products")
    }
}

impl Products {
    /// `out = left right`, or with `add` that added to `out`, which nobody else has. The factors are of one type; `out` is of
    /// that type too, or f32: then no sum is rounded to less.
    pub fn multiply(
        &self,
        out: &Tensor,
        left: Factor<'_>,
        right: Factor<'_>,
        add: bool,
    ) -> Result<()> {
        let product = Product::of(out, left, right, add)?;
        match product {
            Product { m: 0, .. } | Product { n: 0, .. } | Product { k: 0, add: true, .. } => Ok(()),
            Product { k: 0, .. } => out.zero_set(),
            _ => out.inplace_op3(left.0, right.0, &Multiply { products: self, product }),
        }
    }
}

struct Multiply<'a> {
    products: &'a Products,
    product: Product,
}

impl InplaceOp3 for Multiply<'_> {
    fn name(&self) -> &'static str {
        "product"
    }

    fn cpu_fwd(
        &self,
        out: &mut CpuStorage,
        out_at: &Layout,
        left: &CpuStorage,
        left_at: &Layout,
        right: &CpuStorage,
        right_at: &Layout,
    ) -> Result<()> {
        let of = self.product.column_major();
        let mut room = self.products.room.borrow_mut();
        let [a_room, b_room] = &mut *room;
        let a = floats(right, packed(right_at)?, a_room)?;
        let b = floats(left, packed(left_at)?, b_room)?;
        let (from, to) = packed(out_at)?;
        match out {
            CpuStorage::F32(out) => on_host(&of, a, b, &mut out[from..to]),
            CpuStorage::BF16(out) => {
                rounded(&of, a, b, &mut out[from..to], bf16::to_f32, bf16::from_f32);
            }
            CpuStorage::F16(out) => {
                rounded(&of, a, b, &mut out[from..to], f16::to_f32, f16::from_f32);
            }
            _ => bail!("a product into {:?}", self.product.out),
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        out: &mut CudaStorage,
        out_at: &Layout,
        left: &CudaStorage,
        left_at: &Layout,
        right: &CudaStorage,
        right_at: &Layout,
    ) -> Result<()> {
        for at in [out_at, left_at, right_at] {
            packed(at)?;
        }
        let mut lt = self.products.lt.borrow_mut();
        let stream = out.device.cuda_stream();
        let lt = match &mut *lt {
            Some(lt) if lt.is_on(&stream) => lt,
            other => other.insert(Lt::new(stream)?),
        };
        let at = |storage, layout| super::tensors::start(storage, layout);
        let (a, b, c) = (at(right, right_at)?, at(left, left_at)?, at(out, out_at)?);
        // SAFETY: the layouts are packed and of the sizes that the product was made from; candle lends `out` to nobody else
        // and computes on this stream.
        unsafe { lt.multiply(&self.product.column_major(), [a, b, c]) }
    }
}

/// Where the numbers of a packed tensor begin and end.
fn packed(layout: &Layout) -> Result<(usize, usize)> {
    match layout.contiguous_offsets() {
        Some(range) => Ok(range),
        None => bail!("a product of a tensor that is not packed: {layout:?}"),
    }
}

fn floats<'a>(
    storage: &'a CpuStorage,
    (from, to): (usize, usize),
    room: &'a mut Vec<f32>,
) -> Result<&'a [f32]> {
    room.clear();
    match storage {
        CpuStorage::F32(x) => return Ok(&x[from..to]),
        CpuStorage::BF16(x) => room.extend(x[from..to].iter().map(|x| x.to_f32())),
        CpuStorage::F16(x) => room.extend(x[from..to].iter().map(|x| x.to_f32())),
        _ => bail!("a product of numbers that are not f32, bf16 or f16"),
    }
    Ok(room)
}

/// What cuBLASLt does, on the CPU and in f32.
fn on_host(of: &ColumnMajor, a: &[f32], b: &[f32], c: &mut [f32]) {
    // A column-major matrix is the turned one of what lies row by row.
    let factor = |data, stored: Stored| {
        let lying = gemm::Matrix::new(data, stored.columns, stored.rows);
        if stored.turned { lying } else { lying.turned() }
    };
    // Its result is turned too: c^T = b^T a^T.
    gemm::product(c, of.c.rows, factor(b, of.b).turned(), factor(a, of.a).turned(), of.add);
}

fn rounded<T: Copy>(
    of: &ColumnMajor,
    a: &[f32],
    b: &[f32],
    c: &mut [T],
    read: impl Fn(T) -> f32,
    round: impl Fn(f32) -> T,
) {
    let mut sums: Vec<f32> = c.iter().map(|x| read(*x)).collect();
    on_host(of, a, b, &mut sums);
    c.iter_mut().zip(sums).for_each(|(c, sum)| *c = round(sum));
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn numbers(rows: usize, columns: usize, seed: usize, dtype: DType) -> Tensor {
        let of = |i: usize| (((i * 7919 + seed * 104_729) % 1009) as f32 / 500.0) - 1.0;
        let x =
            Tensor::from_vec((0..rows * columns).map(of).collect(), (rows, columns), &Device::Cpu);
        x.unwrap().to_dtype(dtype).unwrap()
    }

    fn values(x: &Tensor) -> Vec<f32> {
        x.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    /// A product by its definition, straight from the row-major tensors.
    fn plain(left: Factor<'_>, right: Factor<'_>, m: usize, n: usize, k: usize) -> Vec<f64> {
        let (l, r) = (values(left.0), values(right.0));
        let at_left = |i: usize, p: usize| if left.1 { l[p * m + i] } else { l[i * k + p] };
        let at_right = |p: usize, j: usize| if right.1 { r[j * k + p] } else { r[p * n + j] };
        let entry = |i: usize, j: usize| {
            (0..k).map(|p| f64::from(at_left(i, p)) * f64::from(at_right(p, j))).sum::<f64>()
        };
        (0..m * n).map(|of| entry(of / n, of % n)).collect()
    }

    #[test]
    fn every_form_is_the_product_it_says() {
        let products = Products::default();
        let (m, n, k) = (5, 7, 11);
        for (operands, tolerance) in [(DType::F32, 1e-5), (DType::BF16, 8e-3), (DType::F16, 1e-3)] {
            for form in 0..16 {
                let (lt, rt, add, wide) =
                    (form & 1 != 0, form & 2 != 0, form & 4 != 0, form & 8 != 0);
                let dims = |turned, a, b| if turned { (b, a) } else { (a, b) };
                let ((a, b), (c, d)) = (dims(lt, m, k), dims(rt, k, n));
                let (left, right) = (numbers(a, b, 1, operands), numbers(c, d, 2, operands));
                let (left, right) = (Factor(&left, lt), Factor(&right, rt));
                let out = numbers(m, n, 3, if wide { DType::F32 } else { operands });
                let mut want = plain(left, right, m, n, k);
                if add {
                    want.iter_mut().zip(values(&out)).for_each(|(w, x)| *w += f64::from(x));
                }
                products.multiply(&out, left, right, add).unwrap();
                // Into f32 nothing is rounded to less.
                let near = if wide { 1e-5 } else { tolerance };
                for (got, want) in values(&out).into_iter().zip(want) {
                    let off = (f64::from(got) - want).abs();
                    assert!(off <= near * want.abs().max(1.0), "{operands:?} {form}: {got} {want}");
                }
            }
        }
    }

    #[test]
    fn rows_of_larger_tensors_take_part() {
        let products = Products::default();
        let (all, right) = (numbers(9, 4, 1, DType::F32), numbers(4, 3, 2, DType::F32));
        let out = Tensor::zeros((9, 3), DType::F32, &Device::Cpu).unwrap();
        for (first, count) in [(0, 2), (2, 6), (8, 1)] {
            let rows = |x: &Tensor| x.narrow(0, first, count).unwrap();
            products
                .multiply(&rows(&out), Factor(&rows(&all), false), Factor(&right, false), false)
                .unwrap();
        }
        let want = plain(Factor(&all, false), Factor(&right, false), 9, 3, 4);
        for (got, want) in values(&out).into_iter().zip(want) {
            assert!((f64::from(got) - want).abs() < 1e-5);
        }
        // No rows add nothing, and a product of none is zero.
        let none = numbers(0, 9, 1, DType::F32);
        let (of, to) = (numbers(0, 3, 1, DType::F32), numbers(9, 3, 4, DType::F32));
        let before = values(&to);
        products.multiply(&to, Factor(&none, true), Factor(&of, false), true).unwrap();
        assert_eq!(values(&to), before);
        products.multiply(&to, Factor(&none, true), Factor(&of, false), false).unwrap();
        assert_eq!(values(&to), [0.0; 27]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let products = Products::default();
        let refused = |out: &Tensor, left: Factor<'_>, right: Factor<'_>, said: &str| {
            let why = products.multiply(out, left, right, false).unwrap_err().to_string();
            assert!(why.contains(said), "{why}");
        };
        let of = |rows, columns, dtype| numbers(rows, columns, 1, dtype);
        let (x, y, z) = (of(2, 3, DType::BF16), of(3, 4, DType::BF16), of(2, 4, DType::BF16));
        refused(
            &z,
            Factor(&x, false),
            Factor(&y, true),
            "a product of [2, 3] and [3, 4] into [2, 4]",
        );
        refused(&x, Factor(&x, false), Factor(&y, false), "into [2, 3]");
        refused(&z, Factor(&x, false), Factor(&of(3, 4, DType::F32), false), "BF16 and F32");
        refused(&of(2, 4, DType::F16), Factor(&x, false), Factor(&y, false), "into F16");
        let turned = of(3, 2, DType::BF16).t().unwrap();
        refused(&z, Factor(&turned, false), Factor(&y, false), "not packed");
        refused(
            &z,
            Factor(&of(2, 4, DType::F64), false),
            Factor(&of(4, 4, DType::F64), false),
            "F64",
        );
    }

    #[test]
    fn the_three_products_of_a_head_in_column_major_form() {
        let (tokens, vocab, width) = (3, 8, 4);
        let of = |rows, columns| numbers(rows, columns, 1, DType::BF16);
        let (hidden, head, logits) = (of(tokens, width), of(vocab, width), of(tokens, vocab));
        let form = |out: &Tensor, left, right, add| {
            Product::of(out, left, right, add).unwrap().column_major()
        };
        let stored = |rows, columns, turned, dtype| Stored { rows, columns, turned, dtype };
        // logits = hidden head^T
        let found = form(&logits, Factor(&hidden, false), Factor(&head, true), false);
        assert_eq!(found.a, stored(width, vocab, true, DType::BF16));
        assert_eq!(found.b, stored(width, tokens, false, DType::BF16));
        assert_eq!(found.c, stored(vocab, tokens, false, DType::BF16));
        // d hidden = d logits head
        let found = form(&hidden, Factor(&logits, false), Factor(&head, false), false);
        assert_eq!(found.a, stored(width, vocab, false, DType::BF16));
        assert_eq!(found.b, stored(vocab, tokens, false, DType::BF16));
        // d head += d logits^T hidden
        let d_head = numbers(vocab, width, 1, DType::F32);
        let found = form(&d_head, Factor(&logits, true), Factor(&hidden, false), true);
        assert_eq!(found.a, stored(width, tokens, false, DType::BF16));
        assert_eq!(found.b, stored(vocab, tokens, true, DType::BF16));
        assert_eq!(found.c, stored(width, vocab, false, DType::F32));
        assert!(found.add);
    }
}
