use super::codec::{Head, too_long, written_too_long};
use super::{Codec, Found, Framing};
use crate::{Error, ErrorKind, Layer, LayerSpec, Site};

/// Netstrings: `5:hello,` (<https://cr.yp.to/proto/netstrings.txt>). Command name `netstrings`.
///
/// The length is decimal without leading zeros. Anything else fails the connection with
/// [`FrameMalformed`](ErrorKind::FrameMalformed).
#[derive(Clone, Debug)]
pub struct Netstrings {
    most: usize,
}

impl Netstrings {
    /// Netstrings of at most `max_length` bytes.
    pub fn new(max_length: usize) -> Netstrings {
        Netstrings { most: max_length }
    }
}

impl LayerSpec for Netstrings {
    fn name(&self) -> &'static str {
        NetstringCodec::NAME
    }

    fn wants_addresses(&self, _: crate::Side) -> bool {
        false
    }

    fn build(&self, _: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        Ok(Box::new(Framing::new(NetstringCodec { most: self.most })))
    }
}

struct NetstringCodec {
    most: usize,
}

impl Codec for NetstringCodec {
    const NAME: &'static str = "netstrings";

    fn find(&mut self, bytes: &[u8]) -> Result<Found, Error> {
        let mut len = 0usize;
        for (index, &byte) in bytes.iter().enumerate() {
            match byte {
                b'0'..=b'9' if index > 0 && len == 0 => return Err(malformed()),
                b'0'..=b'9' => {
                    let next =
                        len.checked_mul(10).and_then(|len| len.checked_add((byte - b'0').into()));
                    len =
                        next.filter(|len| *len <= self.most).ok_or_else(|| too_long(self.most))?;
                }
                b':' if index > 0 => {
                    let head = index + 1;
                    return match bytes.get(head..).and_then(|rest| rest.get(len)) {
                        Some(b',') => Ok(Found::Frame { head, len, tail: 1 }),
                        Some(_) => Err(malformed()),
                        None => Ok(Found::Need(head + len + 1)),
                    };
                }
                _ => return Err(malformed()),
            }
        }
        Ok(Found::Need(bytes.len() + 1))
    }

    fn head(&self, len: usize, out: &mut Head) -> Result<bool, Error> {
        if len > self.most {
            return Err(written_too_long(self.most));
        }
        out.put(len.to_string().as_bytes());
        out.put(b":");
        Ok(true)
    }

    fn tail(&self) -> &[u8] {
        b","
    }
}

fn malformed() -> Error {
    Error::remote(ErrorKind::FrameMalformed, "the peer's bytes are no netstring")
}
