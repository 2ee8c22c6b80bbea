use std::any::Any;

use super::codec::{Head, too_long, written_too_long};
use super::{Codec, Found, Framing};
use crate::scan::{find, find_byte};
use crate::{Error, ErrorKind, Layer, LayerSpec, Site};

/// Lines: frames that end with a delimiter, `\n` unless another is set. Command name `lines`.
///
/// The delimiter is no part of what is read, and is added to what is written. A peer's line longer
/// than the maximum fails the connection with [`FrameTooLong`](ErrorKind::FrameTooLong), found
/// before it is whole; bytes without a delimiter at the end with
/// [`EofInFrame`](ErrorKind::EofInFrame). A written line that holds the delimiter, or whose end begins
/// one that the delimiter behind it completes, would be two: it fails the connection with
/// [`FrameMalformed`](ErrorKind::FrameMalformed), whose fault is local, and nothing of it leaves.
///
/// With [`LinesMode`] the protocol switches to raw bytes in mid-stream, and back.
#[derive(Clone, Debug)]
pub struct Lines {
    delimiter: Vec<u8>,
    most: usize,
}

impl Lines {
    /// Lines that end with `\n`, of at most `max_length` bytes without it.
    pub fn new(max_length: usize) -> Lines {
        Lines { delimiter: b"\n".to_vec(), most: max_length }
    }

    /// Lines that end with `delimiter`, such as `\r\n`. It must not be empty.
    #[must_use]
    pub fn delimiter(mut self, delimiter: &[u8]) -> Lines {
        self.delimiter = delimiter.to_vec();
        self
    }
}

impl LayerSpec for Lines {
    fn name(&self) -> &'static str {
        LinesCodec::NAME
    }

    fn wants_addresses(&self, _: crate::Side) -> bool {
        false
    }

    fn build(&self, _: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        Ok(Box::new(Framing::new(LinesCodec::new(&self.delimiter, self.most)?)))
    }
}

/// Frames that end with any delimiter: [`Lines`] under another name, `delimiter`.
#[derive(Clone, Debug)]
pub struct Delimiter {
    delimiter: Vec<u8>,
    most: usize,
}

impl Delimiter {
    /// Frames that end with `delimiter`, which must not be empty, of at most `max_length` bytes
    /// without it.
    pub fn new(delimiter: &[u8], max_length: usize) -> Delimiter {
        Delimiter { delimiter: delimiter.to_vec(), most: max_length }
    }
}

impl LayerSpec for Delimiter {
    fn name(&self) -> &'static str {
        "delimiter"
    }

    fn wants_addresses(&self, _: crate::Side) -> bool {
        false
    }

    fn build(&self, _: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        Ok(Box::new(Framing::new(DelimiterCodec(LinesCodec::new(&self.delimiter, self.most)?))))
    }
}

/// What a [`Lines`] layer makes of what follows, in both directions; given to
/// [`Chain::command`](crate::Chain::command).
///
/// The bytes behind the line that is being told are the first to be treated so, however many of
/// them have come already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum LinesMode {
    /// Lines, as at first.
    Lines,
    /// Bytes as they come, until told otherwise.
    Raw,
    /// As many bytes as they come, and then lines. Writes are raw until the last of them was read.
    RawFor(usize),
}

pub(super) struct LinesCodec {
    delimiter: Vec<u8>,
    most: usize,
    // No delimiter begins in the first `scanned` bytes.
    scanned: usize,
    mode: LinesMode,
}

impl LinesCodec {
    fn new(delimiter: &[u8], most: usize) -> Result<LinesCodec, Error> {
        if delimiter.is_empty() {
            let message = "the delimiter is empty";
            return Err(Error::local(ErrorKind::InvalidSetting, message));
        }
        Ok(LinesCodec { delimiter: delimiter.to_vec(), most, scanned: 0, mode: LinesMode::Lines })
    }
}

impl Codec for LinesCodec {
    const NAME: &'static str = "lines";

    fn find(&mut self, bytes: &[u8]) -> Result<Found, Error> {
        match self.mode {
            LinesMode::Raw => return Ok(Found::Raw(bytes.len())),
            LinesMode::RawFor(left) => {
                let count = left.min(bytes.len());
                self.mode = match left - count {
                    0 => LinesMode::Lines,
                    left => LinesMode::RawFor(left),
                };
                return Ok(Found::Raw(count));
            }
            LinesMode::Lines => {}
        }
        let unseen = bytes.get(self.scanned..).unwrap_or_default();
        let at = match *self.delimiter {
            [single] => find_byte(unseen, single),
            _ => find(unseen, &self.delimiter),
        };
        let tail = self.delimiter.len();
        match at.map(|at| self.scanned + at) {
            Some(len) if len <= self.most => {
                self.scanned = 0;
                Ok(Found::Frame { head: 0, len, tail })
            }
            Some(_) => Err(too_long(self.most)),
            // The last bytes may begin a delimiter.
            None if bytes.len() - bytes.len().min(tail - 1) > self.most => Err(too_long(self.most)),
            None => {
                self.scanned = bytes.len() - bytes.len().min(tail - 1);
                Ok(Found::Need(bytes.len() + 1))
            }
        }
    }

    fn head(&self, len: usize, _: &mut Head) -> Result<bool, Error> {
        if self.mode != LinesMode::Lines {
            return Ok(false);
        }
        if len > self.most {
            return Err(written_too_long(self.most));
        }
        Ok(true)
    }

    fn tail(&self) -> &[u8] {
        &self.delimiter
    }

    fn check<'a>(&self, mut pieces: impl Iterator<Item = &'a [u8]>) -> Result<(), Error> {
        let found = match *self.delimiter {
            [single] => pieces.any(|piece| find_byte(piece, single).is_some()),
            _ => holds(&self.delimiter, pieces),
        };
        match found {
            false => Ok(()),
            true => {
                let message = "a written line holds the delimiter";
                Err(Error::local(ErrorKind::FrameMalformed, message))
            }
        }
    }

    fn command(&mut self, command: &dyn Any) -> Result<(), Error> {
        let Some(mode) = command.downcast_ref::<LinesMode>() else {
            let message = "lines take a LinesMode";
            return Err(Error::misuse(ErrorKind::NoSuchCommand, message));
        };
        self.mode = if *mode == LinesMode::RawFor(0) { LinesMode::Lines } else { *mode };
        self.scanned = 0;
        Ok(())
    }
}

/// Whether a delimiter of several bytes begins in what comes in these pieces, also where one of them
/// ends, and before the delimiter that follows the last one.
fn holds<'a>(delimiter: &[u8], pieces: impl Iterator<Item = &'a [u8]>) -> bool {
    let most = delimiter.len() - 1;
    let mut pieces = pieces.peekable();
    // The last bytes of the pieces before; one piece, as most lines are, needs none.
    let mut seam = Vec::new();
    while let Some(piece) = pieces.next() {
        if find(piece, delimiter).is_some() {
            return true;
        }
        if seam.is_empty() && pieces.peek().is_none() {
            return begins_at_end(delimiter, piece);
        }
        seam.extend_from_slice(piece.get(..most).unwrap_or(piece));
        if find(&seam, delimiter).is_some() {
            return true;
        }
        match piece.len().checked_sub(most).and_then(|from| piece.get(from..)) {
            Some(last) => {
                seam.clear();
                seam.extend_from_slice(last);
            }
            None => drop(seam.drain(..seam.len().saturating_sub(most))),
        }
    }
    begins_at_end(delimiter, &seam)
}

/// Whether the end of a line begins a delimiter that the one behind the line would complete.
fn begins_at_end(delimiter: &[u8], line: &[u8]) -> bool {
    (1..delimiter.len()).any(|count| {
        let (begun, rest) = delimiter.split_at(count);
        line.ends_with(begun) && delimiter.starts_with(rest)
    })
}

struct DelimiterCodec(LinesCodec);

impl Codec for DelimiterCodec {
    const NAME: &'static str = "delimiter";

    fn find(&mut self, bytes: &[u8]) -> Result<Found, Error> {
        self.0.find(bytes)
    }

    fn head(&self, len: usize, out: &mut Head) -> Result<bool, Error> {
        self.0.head(len, out)
    }

    fn tail(&self) -> &[u8] {
        self.0.tail()
    }

    fn check<'a>(&self, pieces: impl Iterator<Item = &'a [u8]>) -> Result<(), Error> {
        self.0.check(pieces)
    }

    fn command(&mut self, command: &dyn Any) -> Result<(), Error> {
        self.0.command(command)
    }
}
