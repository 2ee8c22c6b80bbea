use std::any::Any;

use crate::link::WORTH_MOVING;
use crate::{Error, ErrorKind, How, Info, Io, Layer, Status};

/// What stands at the head of the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// A whole frame: `len` bytes between `head` bytes before and `tail` bytes behind.
    Frame { head: usize, len: usize, tail: usize },
    /// Bytes that are no frame's and pass as they are.
    Raw(usize),
    /// Nothing whole: not before this many bytes are there.
    Need(usize),
}

/// How frames look on the wire.
pub(crate) trait Codec {
    const NAME: &'static str;

    /// Looks at the head of the input. It is asked again with the same bytes and more behind them
    /// until a frame or raw bytes are found.
    fn find(&mut self, bytes: &[u8]) -> Result<Found, Error>;

    /// What goes before a frame of `len` bytes; `None` writes bytes as they are.
    fn head(&self, len: usize, out: &mut Head) -> Result<bool, Error>;

    /// What goes behind.
    fn tail(&self) -> &[u8];

    /// Whether the bytes of a frame, which come in these pieces, are allowed.
    fn check<'a>(&self, _pieces: impl Iterator<Item = &'a [u8]>) -> Result<(), Error> {
        Ok(())
    }

    fn command(&mut self, _command: &dyn Any) -> Result<(), Error> {
        Err(Error::misuse(ErrorKind::NoSuchCommand, "the layer takes no such command"))
    }
}

/// Room for what goes before a frame: at most 20 digits and a colon.
#[derive(Default)]
pub(crate) struct Head {
    bytes: [u8; 24],
    len: usize,
}

impl Head {
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(room) = self.bytes.get_mut(self.len..end) {
            room.copy_from_slice(bytes);
            self.len = end;
        }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The layer around a codec.
pub(crate) struct Framing<C> {
    codec: C,
}

impl<C: Codec> Framing<C> {
    pub(crate) fn new(codec: C) -> Framing<C> {
        Framing { codec }
    }

    fn read(&mut self, io: &mut Io<'_>) -> Result<(), Error> {
        while !io.from_below.bytes().is_empty() && io.to_above.may_push_frame() {
            let bytes = io.from_below.bytes();
            match self.codec.find(bytes)? {
                Found::Need(count) => {
                    io.from_below.need(count);
                    break;
                }
                Found::Frame { head, len, tail } if len < WORTH_MOVING => {
                    io.to_above.push_frame(bytes.get(head..head + len).unwrap_or_default());
                    io.from_below.consume(head + len + tail);
                }
                Found::Frame { head, len, tail } => {
                    io.to_above.push_frame_of(&mut io.from_below, (head, len, tail));
                }
                Found::Raw(count) => {
                    io.to_above.push(bytes.get(..count).unwrap_or_default());
                    io.from_below.consume(count);
                }
            }
        }
        if io.from_below.ended() && !io.to_above.refused && !io.from_below.bytes().is_empty() {
            let message = "the bytes ended inside a frame";
            return Err(Error::remote(ErrorKind::EofInFrame, message));
        }
        Ok(())
    }

    fn write(&mut self, io: &mut Io<'_>) -> Result<(), Error> {
        while io.from_above.is_frame() && io.to_below.room() > 0 {
            let len = io.from_above.len();
            let mut head = Head::default();
            if self.codec.head(len, &mut head)? {
                self.codec.check(io.from_above.pieces())?;
                if !head.bytes().is_empty() {
                    io.to_below.send(head.bytes());
                }
                io.to_below.take(&mut io.from_above, len);
                io.to_below.send(self.codec.tail());
            } else {
                io.to_below.take(&mut io.from_above, len);
            }
            io.from_above.take_frame();
            io.to_below.end_frame();
        }
        Ok(())
    }
}

impl<C: Codec> Layer for Framing<C> {
    fn name(&self) -> &'static str {
        C::NAME
    }

    fn step(&mut self, io: &mut Io<'_>) -> Result<Status, Error> {
        io.ready(Info::None);
        self.write(io)?;
        if io.finishing() {
            return Ok(Status::Done(How::Closed));
        }
        self.read(io)?;
        Ok(Status::Open)
    }

    fn keeps_writes(&self) -> bool {
        true
    }

    fn handle_command(&mut self, command: &dyn Any) -> Result<(), Error> {
        self.codec.command(command)
    }
}

pub(crate) fn too_long(most: usize) -> Error {
    Error::remote(ErrorKind::FrameTooLong, format!("the peer's frame is longer than {most} bytes"))
}

pub(crate) fn written_too_long(most: usize) -> Error {
    let message = format!("a written frame is longer than {most} bytes");
    Error::local(ErrorKind::FrameTooLong, message)
}
