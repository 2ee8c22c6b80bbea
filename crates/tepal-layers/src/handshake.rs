//! What layers share whose only work is a handshake at the start of a connection.

use std::any::Any;

use zeroize::Zeroizing;

use crate::{Error, ErrorKind, How, Info, Io, Layer, Notice, Status};

/// What a handshake makes of the bytes at the head of its input.
#[derive(Debug)]
pub(crate) enum Step {
    /// Nothing before this many bytes are there.
    Need(usize),
    /// Nothing before the owner answers, or the peer hangs up.
    Wait,
    /// So many bytes are dealt with; go on.
    Used(usize),
    /// The same, and something for the owner.
    Tell(usize, Notice),
    /// So many bytes are dealt with, and they were the last: what follows is not ours.
    Done(usize, Info),
}

/// Bytes of a peer that is not answered yet, up to which its wire is read: a TLS hello fits many
/// times.
const MOST_EARLY: usize = 16 << 10;

pub(crate) trait Handshake {
    const NAME: &'static str;

    /// Called with what has come and is not dealt with, first with nothing. Bytes to be sent are
    /// appended to `out`, also when it fails. The same bytes are shown again, with more behind
    /// them, until they are dealt with, so it must decide by their order and not by their number.
    fn advance(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step, Error>;

    fn command(&mut self, _command: &dyn Any) -> Result<(), Error> {
        Err(Error::misuse(ErrorKind::NoSuchCommand, "the layer takes no such command"))
    }
}

pub(crate) struct Handshaking<H> {
    machine: H,
}

impl<H: Handshake> Handshaking<H> {
    pub(crate) fn new(machine: H) -> Handshaking<H> {
        Handshaking { machine }
    }
}

impl<H: Handshake> Layer for Handshaking<H> {
    fn name(&self) -> &'static str {
        H::NAME
    }

    fn step(&mut self, io: &mut Io<'_>) -> Result<Status, Error> {
        loop {
            let mut out = Vec::new();
            let step = self.machine.advance(io.from_below.bytes(), &mut out);
            if !out.is_empty() {
                io.to_below.send_vec(out);
            }
            match step? {
                Step::Used(count) => io.from_below.consume(count),
                Step::Tell(count, notice) => {
                    io.from_below.consume(count);
                    io.notify(notice);
                }
                Step::Done(count, info) => {
                    io.from_below.consume(count);
                    io.ready(info);
                    return Ok(Status::Done(How::Finished));
                }
                // What comes early is for later, its end too. It is read all the same: who ends with
                // nothing said has hung up.
                Step::Wait => {
                    let (early, ended) = (io.from_below.bytes().len(), io.from_below.ended());
                    if early == 0 && ended {
                        let message = "the peer hung up before it was answered";
                        return Err(Error::remote(ErrorKind::EofInHandshake, message));
                    }
                    match early < MOST_EARLY && !ended {
                        true => io.from_below.need(early + 1),
                        false => io.from_below.hold(),
                    }
                    return Ok(Status::Open);
                }
                Step::Need(count) => {
                    if io.from_below.ended() {
                        let message = "the bytes ended during the handshake";
                        return Err(Error::remote(ErrorKind::EofInHandshake, message));
                    }
                    io.from_below.need(count);
                    return Ok(Status::Open);
                }
            }
        }
    }

    fn handle_command(&mut self, command: &dyn Any) -> Result<(), Error> {
        self.machine.command(command)
    }
}

/// A secret that is never shown, and cleared when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Secret {
        Secret(Zeroizing::new(text.into()))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}
