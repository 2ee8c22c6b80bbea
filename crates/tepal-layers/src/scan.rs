//! Searching for a byte, eight at a time, without unsafe code.

const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);

/// Where `byte` first is.
#[inline]
pub(crate) fn find_byte(bytes: &[u8], byte: u8) -> Option<usize> {
    let pattern = u64::from_ne_bytes([byte; 8]);
    let (chunks, tail) = bytes.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        // A byte of `word` is zero where the wanted byte is. The lowest bit found is exact: only
        // bytes above a zero byte can be reported falsely.
        let word = u64::from_le_bytes(*chunk) ^ pattern;
        let zeros = word.wrapping_sub(LOW) & !word & HIGH;
        if zeros != 0 {
            return Some(index * 8 + zeros.trailing_zeros() as usize / 8);
        }
    }
    let at = tail.iter().position(|&each| each == byte)?;
    Some(chunks.len() * 8 + at)
}

/// Where `pattern` first is; `None` also for an empty pattern.
pub(crate) fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    let (&first, rest) = pattern.split_first()?;
    let mut from = 0;
    loop {
        let at = from + find_byte(bytes.get(from..)?, first)?;
        if bytes.get(at + 1..)?.starts_with(rest) {
            return Some(at);
        }
        from = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_several_is_found_wherever_it_is() {
        for len in 0..40 {
            for at in 0..len {
                for other in [0u8, 1, b'\n' - 1, b'\n' + 1, 0x80 | b'\n', 0xff] {
                    let mut bytes = vec![other; len];
                    bytes[at] = b'\n';
                    if at + 2 < len {
                        bytes[at + 2] = b'\n';
                    }
                    assert_eq!(find_byte(&bytes, b'\n'), Some(at));
                    assert_eq!(find(&bytes, b"\n"), Some(at));
                }
            }
            assert_eq!(find_byte(&vec![b'\r'; len], b'\n'), None);
        }
        assert_eq!(find(b"a\r\r\n", b"\r\n"), Some(2));
        assert_eq!(find(b"a\r", b"\r\n"), None);
        assert_eq!(find(b"abc", b""), None);
    }
}
