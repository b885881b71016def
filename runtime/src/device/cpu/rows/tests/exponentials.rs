//! Exponentials, alone and as gradients, over all that they may be taken of.

use half::bf16;
use rlc_compiler::table::Floats;

use super::{close, widths};
use crate::device::cpu::rows::{Gradient, Out, exp, gradient};

#[test]
fn exp_is_exact_enough() {
    for width in widths() {
        let mut worst = 0.0f64;
        let points = 1_000_000;
        let xs: Vec<f32> = (0..=points).map(|i| -87.0 * (i as f32 / points as f32)).collect();
        let mut ys = xs.clone();
        exp(width, &mut ys);
        for (x, y) in xs.iter().zip(&ys) {
            let exact = f64::from(*x).exp();
            let room = 2e-7 + 8e-8 * f64::from(x.abs());
            worst = worst.max((f64::from(*y) - exact).abs() / exact / room);
        }
        println!("{width:?}: exp within {worst:.3} of what is promised");
        assert!(worst <= 1.0, "{width:?}: {worst:e}");
        let mut ends = [0.0, -0.0, -88.0, -1e4, -3e38, f32::NEG_INFINITY, f32::NAN];
        exp(width, &mut ends);
        assert_eq!(ends[..6], [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
        assert!(ends[6].is_nan());
    }
}

#[test]
fn a_multiple_of_p_is_exact_enough() {
    // Up to 80 above the number that is given for lse.
    for (from, to, lse) in [(-87.0, 0.0, 0.0), (30.0, 80.0, 0.0), (9_800.0, 10_000.0, 10_003.5)] {
        let span = to - from;
        let x: Vec<f64> = (0..=100_000).map(|i| from + span * f64::from(i) / 1e5).collect();
        let short: Vec<u16> = x.iter().map(|v| bf16::from_f64(*v).to_bits()).collect();
        let long: Vec<f32> = x.iter().map(|v| *v as f32).collect();
        for width in widths() {
            for p in [1.0, -0.7, 3e-9, 250.0, 1e-25, 1e6] {
                for logits in [Floats::F32(&long), Floats::Bf16(&short)] {
                    let mut out = vec![f32::NAN; x.len()];
                    let terms = Gradient { logits: Some(logits), lse, p, ..Gradient::default() };
                    gradient(width, &[terms], &[], Out::F32(&mut out));
                    for (i, found) in out.iter().enumerate() {
                        let apart = logits.get(i) - lse;
                        let exact = p * apart.exp();
                        if exact.abs() > 1e38 {
                            continue;
                        }
                        let room =
                            (4e-7 + 8e-8 * apart.abs()) * exact.abs() + 1.2e-38 * p.abs().max(1.0);
                        close(
                            f64::from(*found),
                            exact,
                            room,
                            &format!("{width:?}: {p} at {apart}"),
                        );
                    }
                }
            }
        }
    }
    let x = [0.0, -0.0, -88.0, -1e4, -3e38, f32::NEG_INFINITY, f32::NAN];
    let short = x.map(|v| bf16::from_f32(v).to_bits());
    for width in widths() {
        for logits in [Floats::F32(&x), Floats::Bf16(&short)] {
            let mut out = [7.0; 7];
            let row = Gradient { logits: Some(logits), p: 1.0, ..Gradient::default() };
            gradient(width, &[row], &[], Out::F32(&mut out));
            assert_eq!(out[..6], [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
            assert!(out[6].is_nan());
        }
    }
}
