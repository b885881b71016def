//! The pages of `docs/errors`, embedded. A test compares this list with the folder and with the codes
//! the compiler gives.

macro_rules! pages {
    ($($code:literal),* $(,)?) => {
        &[$(($code, include_str!(concat!("../../../docs/errors/", $code, ".md")))),*]
    };
}

/// Code and page.
pub const PAGES: &[(&str, &str)] = pages![
    "E0001",
    "E0002",
    "E0003",
    "E0004",
    "E0005",
    "E0006",
    "E0007",
    "E0008",
    "E0009",
    "E0010",
    "E0011",
    "E0012",
    "E0013",
    "E0014",
    "E0015",
    "E0016",
    "E0017",
    "E0101",
    "E0102",
    "E0103",
    "E0104",
    "E0105",
    "E0106",
    "E0107",
    "E0108",
    "E0109",
    "E0110",
    "E0111",
    "E0112",
    "E0113",
    "E0114",
    "E0201",
    "E0202",
    "E0203",
    "E0204",
    "E0205",
    "E0206",
    "E0401",
    "E0601",
    "E0602",
    "E0701",
    "advantage_gradient",
    "coupling_raised",
    "empty_extremum",
    "missing_detach",
    "param_without_effect",
    "two_values",
    "unmasked_condition",
    "unnormalised_ratio",
    "unused_definition",
];
