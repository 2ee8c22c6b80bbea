use std::sync::Arc;

use super::engine::Engine;
use super::spec::{CloseMode, PeerClose};
use crate::hello::{self, Hello};
use crate::{
    Error, ErrorKind, FromAbove, How, Info, Io, Layer, Passed, Status, TlsInfo, ToAbove, ToBelow,
    WriteEof,
};

/// The most plaintext that fits one record (RFC 8446, section 5.1).
const RECORD: usize = 16 * 1024;

/// Pieces below this are gathered into one record: a record costs about as much as encrypting it.
const GATHER: usize = 2048;

/// A server that sends more tickets than this wants our memory and time. Real ones send 2 to 4.
const MOST_TICKETS: u32 = 64;

/// TLS as a layer, over any engine.
pub(super) struct TlsLayer<E> {
    engine: E,
    server_name: Option<String>,
    // A server reads the name asked for out of the ClientHello by itself.
    sniffs: bool,
    close: CloseMode,
    peer_close: PeerClose,
    handshake_limit: usize,
    handshake_len: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct State {
    ready: bool,
    sent_close: bool,
    told_eof: bool,
}

impl<E: Engine> TlsLayer<E> {
    pub(super) fn new(
        engine: E,
        server_name: Option<String>,
        sniffs: bool,
        (close, peer_close): (CloseMode, PeerClose),
        handshake_limit: usize,
    ) -> TlsLayer<E> {
        TlsLayer {
            engine,
            server_name,
            sniffs,
            close,
            peer_close,
            handshake_limit,
            handshake_len: 0,
            state: State::default(),
        }
    }

    fn read(&mut self, io: &mut Io<'_>) -> Result<(), Error> {
        if self.sniffs {
            self.sniff(io);
        }
        let before = io.from_below.bytes().len();
        self.engine.process(&mut io.from_below, &mut io.to_above, &mut io.to_below)?;
        if !self.state.ready {
            let left = io.from_below.bytes().len();
            self.handshake_len += before - left.min(before);
            if self.handshake_len + left > self.handshake_limit && self.engine.is_handshaking() {
                let message = "the peer's handshake is longer than allowed";
                return Err(Error::remote(ErrorKind::LimitExceeded, message));
            }
        } else if self.engine.tickets() > MOST_TICKETS {
            let message = "the peer sends session tickets without end";
            return Err(Error::remote(ErrorKind::LimitExceeded, message));
        }
        Ok(())
    }

    fn sniff(&mut self, io: &mut Io<'_>) {
        match hello::read(io.from_below.bytes()) {
            Hello::Need(_) => {}
            Hello::Other => self.sniffs = false,
            Hello::Client { server_name, .. } => {
                self.sniffs = false;
                self.server_name = server_name;
            }
        }
    }

    fn write(&mut self, io: &mut Io<'_>, all: bool) -> Result<(), Error> {
        while !io.from_above.is_empty() && (io.to_below.room() > 0 || all) {
            let piece = io.from_above.bytes();
            let inward = (&mut io.from_below, &mut io.to_above);
            let count = if wants_gathering(&io.from_above) {
                let mut gathered = io.to_below.block(RECORD);
                for piece in io.from_above.pieces() {
                    let room = RECORD - gathered.len();
                    gathered.extend_from_slice(piece.get(..room).unwrap_or(piece));
                }
                let count = gathered.len();
                let encrypted = self.engine.encrypt(&gathered, inward, &mut io.to_below);
                io.to_below.give(gathered);
                encrypted?;
                count
            } else {
                let piece = piece.get(..RECORD).unwrap_or(piece);
                self.engine.encrypt(piece, inward, &mut io.to_below)?;
                piece.len()
            };
            io.from_above.consume(count);
        }
        Ok(())
    }

    fn say_goodbye(&mut self, io: &mut Io<'_>) -> Result<(), Error> {
        if !self.state.sent_close {
            self.state.sent_close = true;
            let inward = (&mut io.from_below, &mut io.to_above);
            self.engine.close_notify(inward, &mut io.to_below)?;
        }
        Ok(())
    }

    // After the handshake: what the peer's and the owner's closing mean.
    fn end(&mut self, io: &mut Io<'_>) -> Result<Status, Error> {
        let peer_closed = self.engine.peer_has_closed();
        if io.finishing() {
            if io.closing() && self.close == CloseMode::None {
                return Ok(Status::Done(How::Unconfirmed));
            }
            self.say_goodbye(io)?;
            if peer_closed {
                return Ok(Status::Done(How::Closed));
            }
            let wire_ended = io.from_below.ended() && !io.to_above.refused;
            if io.closing() && (self.close == CloseMode::Notify || wire_ended) {
                return Ok(Status::Done(How::Unconfirmed));
            }
        }
        if peer_closed {
            if self.peer_close == PeerClose::Pop && !self.state.sent_close {
                self.write(io, true)?;
                self.say_goodbye(io)?;
                return Ok(Status::Done(How::ByPeer));
            }
            if !self.state.told_eof {
                self.state.told_eof = true;
                io.to_above.push_eof();
            }
            if !io.from_below.bytes().is_empty() {
                io.from_below.hold(); // what stands behind the end is the next layer's
            }
        } else if io.from_below.ended() && !io.to_above.refused {
            let message = "the bytes ended without close_notify";
            return Err(Error::remote(ErrorKind::TlsTruncated, message));
        }
        Ok(Status::Open)
    }
}

/// Whether the first piece is short and others follow it.
fn wants_gathering(from: &FromAbove<'_>) -> bool {
    let first = from.bytes().len();
    first < GATHER && first < from.len()
}

impl<E: Engine> Layer for TlsLayer<E> {
    fn name(&self) -> &'static str {
        "tls"
    }

    fn step(&mut self, io: &mut Io<'_>) -> Result<Status, Error> {
        self.read(io)?;
        if !self.state.ready {
            if self.engine.is_handshaking() {
                let gone = self.engine.peer_has_closed();
                if gone || io.from_below.ended() {
                    let message = match gone {
                        true => "the peer closed during the handshake",
                        false => "the bytes ended during the handshake",
                    };
                    return Err(Error::remote(ErrorKind::EofInHandshake, message));
                }
                return Ok(Status::Open);
            }
            self.state.ready = true;
            let info = TlsInfo { server_name: self.server_name.take(), ..self.engine.info() };
            io.ready(Info::Tls(Arc::new(info)));
        }
        if !self.state.sent_close {
            self.write(io, false)?;
            if io.from_above.ended() {
                self.say_goodbye(io)?;
                io.from_above.take_eof();
            }
        }
        self.end(io)
    }

    fn receive_only(&mut self, bytes: &mut [u8], to_above: &mut ToAbove<'_>) -> Option<Passed> {
        match self.state.ready && !self.state.sent_close {
            true => self.engine.open(bytes, to_above),
            false => None,
        }
    }

    fn send_only(
        &mut self,
        from_above: &mut FromAbove<'_>,
        to_below: &mut ToBelow<'_>,
    ) -> Result<bool, Error> {
        let plain = self.state.ready && !(self.state.sent_close || self.engine.peer_has_closed());
        let mut sent = false;
        while plain && !from_above.is_empty() && !wants_gathering(from_above) && to_below.room() > 0
        {
            let piece = from_above.bytes();
            let piece = piece.get(..RECORD).unwrap_or(piece);
            if !self.engine.seal(piece, to_below)? {
                break;
            }
            let count = piece.len();
            from_above.consume(count);
            sent = true;
        }
        Ok(sent)
    }

    fn write_eof(&self) -> WriteEof {
        match self.state.ready && self.engine.can_half_close() {
            true => WriteEof::Taken,
            false => WriteEof::Refused,
        }
    }
}
