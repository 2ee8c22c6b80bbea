use tepal_base::Instant;

use super::{Encoder, Way};

pub(super) struct Text;

impl Encoder for Text {
    fn encode(&mut self, at: Instant, way: Way, bytes: &[u8], out: &mut Vec<u8>) {
        let arrow = if way == Way::Down { ">" } else { "<" };
        let nanos = at.as_nanos();
        let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        out.extend(format!("{arrow} {seconds}.{rest:09} {} bytes\n", bytes.len()).into_bytes());
        for (index, row) in bytes.chunks(16).enumerate() {
            out.extend(format!("  {:06x} ", index * 16).into_bytes());
            for at in 0..16 {
                match row.get(at) {
                    Some(byte) => out.extend(format!(" {byte:02x}").into_bytes()),
                    None => out.extend(b"   "),
                }
            }
            out.extend(b"  ");
            let shown = |byte: &u8| match byte {
                b' '..=b'~' => *byte,
                _ => b'.',
            };
            out.extend(row.iter().map(shown));
            out.push(b'\n');
        }
    }
}
