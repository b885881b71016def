//! Why a command stops, and the exit code that says so.

/// What a command comes to.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Failed while running.
pub const RUNNING: u8 = 1;
/// Bad input.
pub const INPUT: u8 = 2;

/// Why a command stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Everything was said already.
    Reported(u8),
    /// To be printed as an error.
    Said {
        /// Exit code.
        code: u8,
        /// What is wrong; may have several lines.
        message: String,
        /// What to do; may be empty.
        help: String,
    },
    /// Whoever read our output has gone away (`| head -1`): not a failure.
    ReaderGone,
}

impl Failure {
    /// Bad input.
    pub fn input(message: impl Into<String>, help: impl Into<String>) -> Failure {
        Failure::Said { code: INPUT, message: message.into(), help: help.into() }
    }

    /// Failed while running.
    pub fn running(message: impl Into<String>, help: impl Into<String>) -> Failure {
        Failure::Said { code: RUNNING, message: message.into(), help: help.into() }
    }
}
