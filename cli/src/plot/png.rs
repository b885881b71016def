//! A plot as PNG, on white, at twice the size. Words are drawn from a font that is part of the
//! program, since the machine may have none.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use tiny_skia::{Color, FillRule, Paint, PathBuilder, Pixmap, Stroke, StrokeDash, Transform};

use super::scene::{Anchor, Mark, Pen, Role, SIZE};
use crate::failure::{Failure, Outcome};

const SCALE: f32 = 2.0;
const INK: [u8; 3] = [0x24, 0x29, 0x2f];

/// The file's bytes.
pub fn render(marks: &[Mark]) -> Outcome<Vec<u8>> {
    let failed = || Failure::running("the picture could not be drawn", "");
    let (width, height) = (SIZE.0 as f32 * SCALE, SIZE.1 as f32 * SCALE);
    let mut map = Pixmap::new(width as u32, height as u32).ok_or_else(failed)?;
    map.fill(Color::WHITE);
    for mark in marks {
        match mark {
            Mark::Line { points, role, pen } => stroke(points, *role, *pen, &mut map),
            Mark::Area { points, role } => area(points, *role, &mut map),
            Mark::Text { at, anchor, large, text } => words(*at, *anchor, *large, text, &mut map),
        }
    }
    map.encode_png().map_err(|_| failed())
}

fn color(role: Role) -> [u8; 3] {
    match role {
        Role::Ink => [0x57, 0x60, 0x6a],
        Role::Grid => [0xd8, 0xdc, 0xe0],
        Role::Plus => [0x09, 0x69, 0xda],
        Role::Minus => [0xbc, 0x4c, 0x00],
        Role::Any => [0x1a, 0x7f, 0x37],
    }
}

fn path(points: &[(f64, f64)]) -> Option<tiny_skia::Path> {
    let mut path = PathBuilder::new();
    for (i, (x, y)) in points.iter().enumerate() {
        let (x, y) = (*x as f32 * SCALE, *y as f32 * SCALE);
        if i == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
    }
    path.finish()
}

fn paint(role: Role, strength: u8) -> Paint<'static> {
    let [r, g, b] = color(role);
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color_rgba8(r, g, b, strength);
    paint
}

fn area(points: &[(f64, f64)], role: Role, map: &mut Pixmap) {
    let Some(path) = path(points) else { return };
    map.fill_path(&path, &paint(role, 51), FillRule::Winding, Transform::identity(), None);
}

fn stroke(points: &[(f64, f64)], role: Role, pen: Pen, map: &mut Pixmap) {
    let Some(path) = path(points) else { return };
    let paint = paint(role, if pen == Pen::Broad { 102 } else { 255 });
    let dash = if pen == Pen::Dashed {
        StrokeDash::new(vec![7.0 * SCALE, 5.0 * SCALE], 0.0)
    } else {
        None
    };
    let stroke = Stroke { width: pen.width() as f32 * SCALE, dash, ..Stroke::default() };
    map.stroke_path(&path, &paint, &stroke, Transform::identity(), None);
}

fn words(at: (f64, f64), anchor: Anchor, large: bool, text: &str, map: &mut Pixmap) {
    let size = if large { RasterHeight::Size32 } else { RasterHeight::Size24 };
    let step = get_raster_width(FontWeight::Regular, size);
    let wide = (step * text.chars().count()) as f64;
    let left = at.0 * f64::from(SCALE)
        - match anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => wide / 2.0,
            Anchor::End => wide,
        };
    // A glyph's baseline is about four fifths down its box.
    let top = at.1 * f64::from(SCALE) - size.val() as f64 * 0.8;
    for (i, c) in text.chars().enumerate() {
        let glyph = get_raster(c, FontWeight::Regular, size)
            .or_else(|| get_raster('?', FontWeight::Regular, size));
        let Some(glyph) = glyph else { continue };
        for (row, line) in glyph.rows().enumerate() {
            for (column, &strength) in line.iter().enumerate() {
                let x = left + (i * step + column) as f64;
                let y = top + row as f64;
                dot(x, y, strength, map);
            }
        }
    }
}

/// Ink of some strength over what is there.
fn dot(x: f64, y: f64, strength: u8, map: &mut Pixmap) {
    let (width, height) = (map.width() as usize, map.height() as usize);
    if strength == 0 || x < 0.0 || y < 0.0 || x as usize >= width || y as usize >= height {
        return;
    }
    let start = (y as usize * width + x as usize) * 4;
    let Some(pixel) = map.data_mut().get_mut(start..start + 3) else { return };
    for (byte, ink) in pixel.iter_mut().zip(INK) {
        let share = u32::from(strength);
        let mixed = (u32::from(*byte) * (255 - share) + u32::from(ink) * share) / 255;
        *byte = mixed as u8;
    }
}
