//! What a text or a file is known by.

/// FNV-1a of some bytes, to notice that they changed: the same on every machine and for ever, which the standard library's
/// hash does not promise.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}
