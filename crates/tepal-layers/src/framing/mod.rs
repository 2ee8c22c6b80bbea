//! Framing layers: one write is one frame, and one `data` is one frame, without what marks it on
//! the wire.
//!
//! A frame is pushed up only once the one before has been taken. So what stands behind a frame is
//! still as it came when the protocol changes the mode or the stack, and nothing has to be put
//! back together.

pub(crate) mod codec;
mod length;
mod lines;
mod netstring;

pub(crate) use codec::{Codec, Found, Framing};
pub use length::{ByteOrder, LengthPrefixed};
pub use lines::{Delimiter, Lines, LinesMode};
pub use netstring::Netstrings;
