use super::codec::{Head, too_long, written_too_long};
use super::{Codec, Found, Framing};
use crate::{Error, ErrorKind, Layer, LayerSpec, Site};

/// Which byte of a number comes first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ByteOrder {
    /// The most significant one, as in network protocols.
    Big,
    /// The least significant one.
    Little,
}

/// Frames with their length before them. Command name `length`.
///
/// The length counts the bytes behind it, is unsigned, and has 1 to 8 bytes; 4 in network order
/// unless set otherwise. A peer's frame longer than the maximum fails the connection with
/// [`FrameTooLong`](ErrorKind::FrameTooLong) as soon as its length is read.
#[derive(Clone, Debug)]
pub struct LengthPrefixed {
    width: usize,
    order: ByteOrder,
    most: usize,
}

impl LengthPrefixed {
    /// Frames of at most `max_length` bytes behind a length of 4 bytes in network order.
    pub fn new(max_length: usize) -> LengthPrefixed {
        LengthPrefixed { width: 4, order: ByteOrder::Big, most: max_length }
    }

    /// The length has `width` bytes, 1 to 8.
    #[must_use]
    pub fn width(mut self, width: usize) -> LengthPrefixed {
        self.width = width;
        self
    }

    /// The order of the length's bytes.
    #[must_use]
    pub fn byte_order(mut self, order: ByteOrder) -> LengthPrefixed {
        self.order = order;
        self
    }
}

impl LayerSpec for LengthPrefixed {
    fn name(&self) -> &'static str {
        LengthCodec::NAME
    }

    fn wants_addresses(&self, _: crate::Side) -> bool {
        false
    }

    fn build(&self, _: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        if !(1..=8).contains(&self.width) {
            let message = "a length prefix has 1 to 8 bytes";
            return Err(Error::local(ErrorKind::InvalidSetting, message));
        }
        // What the prefix cannot say is too long, too.
        let can_say = u64::MAX >> (64 - 8 * self.width);
        let most = self.most.min(usize::try_from(can_say).unwrap_or(usize::MAX));
        Ok(Box::new(Framing::new(LengthCodec { width: self.width, order: self.order, most })))
    }
}

struct LengthCodec {
    width: usize,
    order: ByteOrder,
    most: usize,
}

impl Codec for LengthCodec {
    const NAME: &'static str = "length";

    fn find(&mut self, bytes: &[u8]) -> Result<Found, Error> {
        let Some(prefix) = bytes.get(..self.width) else { return Ok(Found::Need(self.width)) };
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        let len = match self.order {
            ByteOrder::Big => prefix.iter().fold(0, add),
            ByteOrder::Little => prefix.iter().rev().fold(0, add),
        };
        let len = usize::try_from(len).ok().filter(|len| *len <= self.most);
        let len = len.ok_or_else(|| too_long(self.most))?;
        if bytes.len() - self.width < len {
            return Ok(Found::Need(self.width + len));
        }
        Ok(Found::Frame { head: self.width, len, tail: 0 })
    }

    fn head(&self, len: usize, out: &mut Head) -> Result<bool, Error> {
        if len > self.most {
            return Err(written_too_long(self.most));
        }
        match self.order {
            ByteOrder::Big => out.put(&(len as u64).to_be_bytes()[8 - self.width..]),
            ByteOrder::Little => out.put(&(len as u64).to_le_bytes()[..self.width]),
        }
        Ok(true)
    }

    fn tail(&self) -> &[u8] {
        &[]
    }
}
