//! Random numbers from a seed: ids, case patterns and cookies that nobody can predict.

/// ChaCha20 (RFC 8439) as a generator with key erasure: the first 32 bytes of each refill become
/// the next key, so that a later leak of the state tells nothing about numbers already used.
pub(crate) struct Random {
    key: [u32; 8],
    buffer: [u8; BUFFER_LEN],
    // buffer[used..] is still to be handed out; the first KEY_LEN bytes never are.
    used: usize,
}

const BLOCK_LEN: usize = 64;
const BUFFER_LEN: usize = 8 * BLOCK_LEN;
const KEY_LEN: usize = 32;

impl Random {
    pub(crate) fn new(seed: [u8; 32]) -> Random {
        Random { key: words(&seed), buffer: [0; BUFFER_LEN], used: BUFFER_LEN }
    }

    pub(crate) fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            if self.used == BUFFER_LEN {
                self.refill();
            }
            *byte = std::mem::take(&mut self.buffer[self.used]);
            self.used += 1;
        }
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }

    fn refill(&mut self) {
        for (counter, chunk) in (0u32..).zip(self.buffer.chunks_exact_mut(BLOCK_LEN)) {
            chunk.copy_from_slice(&block(&self.key, counter));
        }
        let mut key = [0; KEY_LEN];
        key.copy_from_slice(&self.buffer[..KEY_LEN]);
        self.key = words(&key);
        self.buffer[..KEY_LEN].fill(0);
        self.used = KEY_LEN;
    }
}

fn words(key: &[u8; 32]) -> [u32; 8] {
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(key.chunks_exact(4)) {
        *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    words
}

/// The block function of RFC 8439, section 2.3, with a nonce of zeros: each key is used once.
fn block(key: &[u32; 8], counter: u32) -> [u8; BLOCK_LEN] {
    let mut state = [0u32; 16];
    state[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
    state[4..12].copy_from_slice(key);
    state[12] = counter;
    let start = state;
    for _ in 0..10 {
        for [a, b, c, d] in [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]] {
            quarter(&mut state, a, b, c, d);
        }
        for [a, b, c, d] in [[0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]] {
            quarter(&mut state, a, b, c, d);
        }
    }
    let mut out = [0; BLOCK_LEN];
    for ((bytes, word), first) in out.chunks_exact_mut(4).zip(state).zip(start) {
        bytes.copy_from_slice(&word.wrapping_add(first).to_le_bytes());
    }
    out
}

fn quarter(state: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    for (x, y, z, shift) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
        state[x] = state[x].wrapping_add(state[y]);
        state[z] = (state[z] ^ state[x]).rotate_left(shift);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_function_gives_the_keystream_of_the_rfc() {
        // RFC 8439, appendix A.1, test vectors 1 and 2: key and nonce zero, counters 0 and 1.
        let first = block(&[0; 8], 0);
        assert_eq!(first[..8], [0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90]);
        assert_eq!(first[56..], [0xc3, 0x87, 0xb6, 0x69, 0xb2, 0xee, 0x65, 0x86]);
        assert_eq!(block(&[0; 8], 1)[..4], [0x9f, 0x07, 0xe7, 0xbe]);
    }

    #[test]
    fn numbers_do_not_repeat_across_refills() {
        let mut random = Random::new([7; 32]);
        let numbers: std::collections::HashSet<u64> =
            (0..10_000).map(|_| u64::from_le_bytes(random.bytes())).collect();
        assert_eq!(numbers.len(), 10_000);
    }
}
