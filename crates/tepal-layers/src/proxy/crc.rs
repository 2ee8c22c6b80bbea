/// CRC32C (RFC 9260, appendix A), as the extension 0x03 wants it. A header has a few dozen bytes,
/// so a bit at a time is fast enough.
pub(super) fn crc32c(pieces: &[&[u8]]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let start = crc ^ u32::from(*byte);
        (0..8).fold(start, |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    };
    !pieces.iter().copied().flatten().fold(!0, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_sums_come_out() {
        assert_eq!(crc32c(&[b"123456789"]), 0xe306_9283);
        assert_eq!(crc32c(&[b"1234", b"56789"]), 0xe306_9283);
        assert_eq!(crc32c(&[&[0; 32]]), 0x8a91_36aa);
    }
}
