use crate::{Error, ErrorKind};

/// Bytes that a protocol has been shown and has not used, for a connection without layers.
///
/// The rules are those of a chain's top: a count of bytes used, the rest offered again at once if
/// the count is above zero, else when more bytes have come; nothing below a low mark except at the
/// end; a limit at which a connection without progress fails. While everything is used the bytes
/// stay in the buffer they were read into and nothing is copied.
///
/// ```
/// # fn main() -> Result<(), tepal_layers::Error> {
/// use tepal_layers::Unread;
///
/// let mut unread = Unread::new(1024);
/// let read = b"abcdef";
/// let mut rest = &read[..];
/// while !rest.is_empty() && unread.is_empty() {
///     let used = 4.min(rest.len()); // what the protocol says of `rest`
///     unread.check(used, rest.len())?;
///     rest = &rest[used..];
///     if used == 0 { break }
/// }
/// unread.keep(rest)?;
/// assert!(unread.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Unread {
    // The bytes are buffer[start..].
    buffer: Vec<u8>,
    start: usize,
    // How many of them the protocol has seen and left.
    offered: usize,
    low: usize,
    limit: usize,
}

impl Unread {
    /// Nothing yet; at most `limit` bytes without progress.
    pub const fn new(limit: usize) -> Unread {
        Unread { buffer: Vec::new(), start: 0, offered: 0, low: 0, limit }
    }

    /// Keeps what the protocol left of a buffer and has seen (it used none of it).
    ///
    /// # Errors
    ///
    /// [`InputStalled`](ErrorKind::InputStalled) at the limit.
    pub fn keep(&mut self, rest: &[u8]) -> Result<(), Error> {
        self.append(rest);
        self.offered = self.len();
        self.check_stalled()
    }

    /// Adds bytes that the protocol has not seen.
    pub fn append(&mut self, bytes: &[u8]) {
        if self.start >= self.len() {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// What to show the protocol now, if anything; `at_end` if no byte will follow.
    #[inline]
    pub fn offer(&self, at_end: bool) -> Option<&[u8]> {
        let len = self.len();
        (len > self.offered && (len >= self.low || at_end)).then(|| self.bytes())
    }

    /// Tells how many bytes of the offer were used.
    ///
    /// # Errors
    ///
    /// [`WrongCount`](ErrorKind::WrongCount), [`InputStalled`](ErrorKind::InputStalled).
    pub fn took(&mut self, count: usize) -> Result<(), Error> {
        self.check(count, self.len())?;
        self.start += count;
        self.offered = if count > 0 { 0 } else { self.len() };
        if self.is_empty() {
            self.buffer = Vec::new();
            self.start = 0;
        }
        self.check_stalled()
    }

    /// Whether a count is in range.
    ///
    /// # Errors
    ///
    /// [`WrongCount`](ErrorKind::WrongCount).
    #[inline]
    pub fn check(&self, count: usize, shown: usize) -> Result<(), Error> {
        if count > shown {
            let message = format!("the protocol used {count} bytes of {shown}");
            return Err(Error::local(ErrorKind::WrongCount, message));
        }
        Ok(())
    }

    /// Shows nothing below `count` bytes, except at the end.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](ErrorKind::InvalidSetting) above the limit, which would stall.
    pub fn set_low(&mut self, count: usize) -> Result<(), Error> {
        if count > self.limit {
            let message = "the low mark of reading is above the input limit";
            return Err(Error::local(ErrorKind::InvalidSetting, message));
        }
        self.low = count;
        Ok(())
    }

    /// The low mark.
    #[inline]
    pub fn low(&self) -> usize {
        self.low
    }

    /// All bytes kept.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// How many bytes are kept.
    #[inline]
    pub fn len(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Whether none is kept.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.buffer.len() == self.start
    }

    fn check_stalled(&self) -> Result<(), Error> {
        if self.offered >= self.limit && self.offered > 0 {
            let message = "the input buffer is full and the protocol takes nothing out of it";
            return Err(Error::local(ErrorKind::InputStalled, message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_that_takes_one_message_per_call_gets_every_byte_once_in_order() {
        for piece in 1..20 {
            let input: Vec<u8> = (0..100).collect();
            let (mut unread, mut got) = (Unread::new(64), Vec::new());
            for chunk in input.chunks(piece) {
                unread.append(chunk);
                while let Some(bytes) = unread.offer(false) {
                    let used = if bytes.len() >= 7 { 7 } else { 0 };
                    got.extend_from_slice(&bytes[..used]);
                    unread.took(used).unwrap();
                }
            }
            assert_eq!((got.len(), unread.len()), (98, 2));
            assert_eq!(got, input[..98]);
        }
    }

    #[test]
    fn nothing_is_shown_below_the_low_mark_except_at_the_end() {
        let mut unread = Unread::new(64);
        unread.set_low(4).unwrap();
        unread.append(b"abc");
        assert_eq!(unread.offer(false), None);
        assert_eq!(unread.offer(true), Some(&b"abc"[..]));
        unread.append(b"d");
        assert_eq!(unread.offer(false), Some(&b"abcd"[..]));
        assert_eq!(unread.set_low(65).unwrap_err().kind(), ErrorKind::InvalidSetting);
    }

    #[test]
    fn a_miscount_and_a_stall_are_told_apart() {
        let mut unread = Unread::new(4);
        unread.append(b"abcd");
        assert_eq!(unread.took(5).unwrap_err().kind(), ErrorKind::WrongCount);
        assert_eq!(unread.took(0).unwrap_err().kind(), ErrorKind::InputStalled);
    }
}
