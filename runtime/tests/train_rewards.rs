//! The answer verifier against 5,276 real model outputs with known labels.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;

use rlc_runtime::train::verify::same_answer;

#[test]
fn gsm8k_labels_agree() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let file = root.join("gsm8k/model_solutions.jsonl");
    if !file.exists() {
        // Not eprintln: the test runner swallows what passing tests print with it.
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            b"SKIPPED: gsm8k_labels_agree: ../shared/data is absent\n",
        );
        return;
    }
    let (mut total, mut agree) = (0u32, 0u32);
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let gold = row["ground_truth"].as_str().unwrap().rsplit("A: ").next().unwrap();
        for solution in row["solutions"].as_array().unwrap() {
            let verdict = same_answer(solution["solution"].as_str().unwrap(), gold);
            total += 1;
            agree += u32::from(verdict == solution["is_correct"].as_bool().unwrap());
        }
    }
    println!("{agree} of {total} labels agree");
    assert_eq!(total, 5276);
    assert!(f64::from(agree) >= 0.99 * f64::from(total), "{agree} of {total}");
}
