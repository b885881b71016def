//! Messages of the language server protocol on a pair of streams. Written here, and not taken from a
//! library, because a client's mistake must end neither the process nor its memory: a body that is not
//! JSON is skipped, and a length is believed only up to a bound.

use std::io::{BufRead, Error, ErrorKind, Read, Result, Write};

use serde_json::Value;

/// The longest message that is read, in bytes.
const LONGEST: usize = 64 << 20;
/// The longest line of a header.
const LINE: u64 = 4096;

/// What came in.
#[derive(Debug)]
pub enum Incoming {
    /// A message.
    Message(Value),
    /// A body that is not JSON, and why.
    Broken(String),
    /// The stream is at its end.
    End,
}

/// Reads one message. An error means that the stream's framing is lost.
pub fn read(input: &mut impl BufRead) -> Result<Incoming> {
    let lost = |why: &str| Error::new(ErrorKind::InvalidData, why.to_owned());
    let mut length: Option<usize> = None;
    let mut begun = false;
    loop {
        let mut line = Vec::new();
        input.by_ref().take(LINE).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return if begun { Err(lost("the header has no end")) } else { Ok(Incoming::End) };
        }
        if line.last() != Some(&b'\n') {
            return Err(lost("a header line is too long"));
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim();
        if line.is_empty() {
            // Blank lines between messages are no header.
            if begun {
                break;
            }
            continue;
        }
        begun = true;
        if let Some((name, value)) = line.split_once(':')
            && name.trim().eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok();
        }
    }
    let length = length.ok_or_else(|| lost("the header has no Content-Length"))?;
    if length > LONGEST {
        return Err(lost("the message is too long"));
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body)?;
    Ok(match serde_json::from_slice(&body) {
        Ok(value) => Incoming::Message(value),
        Err(why) => Incoming::Broken(why.to_string()),
    })
}

/// Writes one message.
pub fn write(output: &mut impl Write, message: &Value) -> Result<()> {
    let body = message.to_string();
    write!(output, "Content-Length: {}\r\n\r\n{body}", body.len())?;
    output.flush()
}
