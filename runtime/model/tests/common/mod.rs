//! What the tests share: where data lies, and how a test says that it did not run.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

use std::path::PathBuf;

/// A folder of the shared data, or nothing (and a line that says so) where it is not mounted.
pub fn shared_data(test: &str, folder: &str) -> Option<PathBuf> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    if root.is_dir() {
        return Some(root.join(folder));
    }
    // Not eprintln: the test runner swallows what passing tests print with it.
    let _ = std::io::Write::write_all(
        &mut std::io::stderr(),
        format!("SKIPPED: {test}: ../shared/data is absent\n").as_bytes(),
    );
    None
}

/// Folder of the committed reference models.
pub fn reference(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/reference/models")).join(name)
}

/// The four reference models.
pub const REFERENCES: [&str; 4] = ["llama", "llama3_rope", "qwen2", "qwen3"];

/// The sequences the reference numbers belong to: their ids and lengths.
pub fn sequences() -> (Vec<u32>, Vec<usize>) {
    let parts: [&[u32]; 3] =
        [&[3, 17, 4, 9, 31, 2, 60, 8, 8, 1, 44], &[5], &[12, 47, 33, 6, 21, 7]];
    (parts.concat(), parts.iter().map(|p| p.len()).collect())
}

/// All f32 arrays of a safetensors file.
pub fn arrays(path: &std::path::Path) -> std::collections::BTreeMap<String, Vec<f32>> {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    file.tensors()
        .into_iter()
        .map(|(name, view)| {
            let values = view
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect();
            (name, values)
        })
        .collect()
}

/// Largest difference, divided by the largest expected magnitude.
pub fn relative(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
    let worst = found.iter().zip(expected).fold(0f32, |m, (a, b)| {
        assert!(a.is_finite());
        m.max((a - b).abs())
    });
    worst / largest.max(1e-30)
}
