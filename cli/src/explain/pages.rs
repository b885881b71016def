//! The pages of `docs/errors`, embedded. A test compares this list with the folder and with the codes
//! the compiler gives.

macro_rules! pages {
    ($($code:literal),* $(,)?) => {
        &[$(($code, include_str!(concat!("../../../docs/errors/", $code, ".md")))),*]
    };
}

/// Code and page.
pub const PAGES: &[(&str, &str)] = pages![];
