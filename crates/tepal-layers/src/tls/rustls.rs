use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ::rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use ::rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use ::rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, UnbufferedConnectionCommon, UnbufferedStatus,
};
use ::rustls::{CommonState, HandshakeKind, ProtocolVersion};

use super::engine::{Engine, Inward};
use crate::{Error, ErrorKind, FromBelow, Passed, TlsInfo, ToAbove, ToBelow};

/// The two sides, which rustls makes two types of.
pub(super) trait Machine: Deref<Target = UnbufferedConnectionCommon<Self::Data>> {
    type Data;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn tickets(&self) -> u32 {
        0
    }
}

impl Machine for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }

    fn tickets(&self) -> u32 {
        self.tls13_tickets_received()
    }
}

impl Machine for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }
}

pub(super) struct RustlsEngine<M> {
    machine: M,
    peer_closed: bool,
    // Something is to be processed though no bytes have come: the first flight.
    fresh: bool,
    // We have said close_notify.
    said_goodbye: bool,
    // A handshake message is spread over records of which not all have come. rustls keeps places
    // in the buffer until then, so it must be shown the same bytes again whatever is asked of it.
    retained: bool,
    // What `open` met and could not tell: a message to send, an error.
    answer: Vec<u8>,
    failed: Option<Error>,
}

impl<M: Machine> RustlsEngine<M> {
    pub(super) fn new(machine: M) -> RustlsEngine<M> {
        let (peer_closed, said_goodbye, fresh, retained) = (false, false, true, false);
        let (answer, failed) = (Vec::new(), None);
        RustlsEngine { machine, peer_closed, fresh, said_goodbye, retained, answer, failed }
    }

    // Whether the session has nothing to do but to take or give data.
    fn is_calm(&self) -> bool {
        !(self.retained | self.fresh | self.peer_closed | self.said_goodbye)
            && self.answer.is_empty()
            && self.failed.is_none()
    }

    // What `open` has left to tell.
    fn tell_left(&mut self, out: &mut ToBelow<'_>) -> Result<(), Error> {
        if !self.answer.is_empty() {
            out.send(&std::mem::take(&mut self.answer));
        }
        match self.failed.take() {
            None => Ok(()),
            Some(error) => {
                self.last_words(out);
                Err(error)
            }
        }
    }

    fn common(&self) -> &CommonState {
        &self.machine
    }

    /// Gets to the state in which bytes can be written and gives it to `act`; what has to leave
    /// before goes to `out`.
    fn writing(
        &mut self,
        (from, to): Inward<'_, '_>,
        out: &mut ToBelow<'_>,
        mut act: impl FnMut(
            &mut ::rustls::unbuffered::WriteTraffic<'_, M::Data>,
            &mut ToBelow<'_>,
        ) -> Result<(), EncryptError>,
    ) -> Result<(), Error> {
        loop {
            let bytes = if self.retained { from.bytes() } else { &mut [] };
            let UnbufferedStatus { mut discard, state } = self.machine.process(bytes);
            let written = match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    Some(act(&mut traffic, out).map_err(|_| exhausted()))
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, out);
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        discard += record.discard;
                        to.push(record.payload);
                    }
                    None
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.peer_closed = true;
                    None
                }
                Ok(_) => Some(Err(exhausted())),
                Err(error) => Some(Err(translate(&error, false))),
            };
            if discard > 0 {
                from.consume(discard);
                self.retained = false;
            }
            if let Some(result) = written {
                return result;
            }
        }
    }
}

impl<M: Machine> Engine for RustlsEngine<M> {
    fn process(
        &mut self,
        from: &mut FromBelow<'_>,
        to: &mut ToAbove<'_>,
        out: &mut ToBelow<'_>,
    ) -> Result<(), Error> {
        self.tell_left(out)?;
        let bytes = from.bytes();
        if (bytes.is_empty() && !self.fresh) || self.peer_closed {
            return Ok(());
        }
        self.fresh = false;
        let (mut used, len) = (0, bytes.len());
        let handshaking = self.machine.is_handshaking();
        let mut blocked = false;
        let result = loop {
            // During a handshake nothing goes up; afterwards a record is decrypted only if its
            // plaintext has somewhere to go.
            if !handshaking && !to.may_push() {
                blocked = !self.retained;
                break Ok(());
            }
            let rest = bytes.get_mut(used..).unwrap_or_default();
            let Some(status) = look(&mut self.machine, rest, self.said_goodbye) else {
                let message = "the peer sent a bad record behind our close_notify";
                return Err(Error::remote(ErrorKind::TlsProtocol, message));
            };
            let UnbufferedStatus { mut discard, state } = status;
            let done = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                    match traffic.next_record() {
                        Some(Ok(record)) => {
                            discard += record.discard;
                            // No more comes of what is left than that.
                            to.push_of(record.payload, len - used);
                        }
                        Some(Err(error)) => break Err(translate(&error, false)),
                        // With all bytes used there is nothing more to ask for.
                        None => break Ok(used + discard >= len),
                    }
                },
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, out);
                    Ok(false)
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    Ok(false)
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.peer_closed = true;
                    Ok(true)
                }
                Ok(_) => Ok(true),
                Err(error) => Err(translate(&error, handshaking)),
            };
            used += discard;
            self.retained &= discard == 0;
            match done {
                Ok(false) => {}
                Ok(true) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let left = len - used.min(len);
        let need = next_record(bytes.get(used..).unwrap_or_default());
        self.retained = left >= need && !blocked;
        from.consume(used);
        if result.is_err() {
            self.last_words(out);
        } else if left > 0 && need > left && !self.machine.is_handshaking() && !self.peer_closed {
            from.need(need);
        }
        result
    }

    fn open(&mut self, bytes: &mut [u8], to: &mut ToAbove<'_>) -> Option<Passed> {
        let len = bytes.len();
        let one = bytes.first() == Some(&APPLICATION_DATA) && next_record(bytes) == len;
        if !one || !self.is_calm() || self.common().wants_write() {
            return None;
        }
        let UnbufferedStatus { discard: mut used, state } = self.machine.process(bytes);
        let mut more = true;
        match state {
            // One record, so one piece.
            Ok(ConnectionState::ReadTraffic(mut traffic)) => match traffic.next_record() {
                Some(Ok(record)) => {
                    used += record.discard;
                    to.push(record.payload);
                    more = false;
                }
                Some(Err(error)) => self.failed = Some(translate(&error, false)),
                None => {}
            },
            // A key was changed: the rest is for a step.
            Ok(ConnectionState::EncodeTlsData(mut message)) => {
                encode_to(&mut message, &mut self.answer);
                self.fresh = true;
            }
            Ok(ConnectionState::TransmitTlsData(message)) => {
                message.done();
                self.fresh = true;
            }
            Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
            // A ticket has been read.
            Ok(_) => {}
            Err(error) => self.failed = Some(translate(&error, false)),
        }
        let left = len - used.min(len);
        self.retained = left >= next_record(bytes.get(used..).unwrap_or_default());
        Some(Passed { used: len - left, more })
    }

    fn seal(&mut self, plain: &[u8], out: &mut ToBelow<'_>) -> Result<bool, Error> {
        if !self.is_calm() {
            return Ok(false);
        }
        loop {
            match self.machine.process(&mut []).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let room = plain.len() + RECORD_OVERHEAD;
                    let sealed = put(out, room, |place| traffic.encrypt(plain, place));
                    return sealed.map(|()| true).map_err(|_| exhausted());
                }
                // What the session itself has to say goes first.
                Ok(ConnectionState::EncodeTlsData(mut message)) => encode(&mut message, out),
                Ok(ConnectionState::TransmitTlsData(message)) => message.done(),
                Ok(_) => return Ok(false),
                Err(error) => return Err(translate(&error, false)),
            }
        }
    }

    fn encrypt(
        &mut self,
        plain: &[u8],
        inward: Inward<'_, '_>,
        out: &mut ToBelow<'_>,
    ) -> Result<(), Error> {
        self.writing(inward, out, |traffic, out| {
            put(out, plain.len() + RECORD_OVERHEAD, |place| traffic.encrypt(plain, place))
        })
    }

    fn close_notify(&mut self, inward: Inward<'_, '_>, out: &mut ToBelow<'_>) -> Result<(), Error> {
        self.said_goodbye = true;
        self.writing(inward, out, |traffic, out| {
            put(out, 64, |place| traffic.queue_close_notify(place))
        })
    }

    fn is_handshaking(&self) -> bool {
        self.common().is_handshaking()
    }

    fn peer_has_closed(&self) -> bool {
        self.peer_closed
    }

    fn can_half_close(&self) -> bool {
        self.common().protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    fn info(&self) -> TlsInfo {
        let common = self.common();
        let suite = common.negotiated_cipher_suite();
        TlsInfo {
            version: match common.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "",
            },
            // IANA's names have no version in them, as rustls' names of TLS 1.3's suites do.
            cipher: suite
                .and_then(|suite| suite.suite().as_str())
                .map(|name| match name.strip_prefix("TLS13_") {
                    Some(rest) => ["TLS_", rest].concat(),
                    None => name.to_owned(),
                })
                .unwrap_or_default(),
            alpn: common.alpn_protocol().map(<[u8]>::to_vec),
            resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
            server_name: None,
            peer_certificates: common
                .peer_certificates()
                .unwrap_or_default()
                .iter()
                .map(|certificate| certificate.to_vec())
                .collect(),
        }
    }

    fn tickets(&self) -> u32 {
        self.machine.tickets()
    }
}

impl<M: Machine> RustlsEngine<M> {
    // After an error the alert that tells the peer is still to be fetched.
    fn last_words(&mut self, out: &mut ToBelow<'_>) {
        // While something is queued rustls looks at no input, so it need not be shown any.
        while self.common().wants_write() {
            match self.machine.process(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, out),
                _ => return,
            }
        }
    }
}

/// Gives records to rustls; `None` if it panicked over them, and then it must not be asked again.
///
/// A build with debug assertions asserts that no fatal alert follows our close_notify, although
/// any peer can make it want to send one by a bad record (<https://github.com/rustls/rustls/issues/959>).
/// Nothing that comes from a peer may panic, so there it is an error, as it is without assertions.
fn look<'c, 'i, M: Machine>(
    machine: &'c mut M,
    bytes: &'i mut [u8],
    said_goodbye: bool,
) -> Option<UnbufferedStatus<'c, 'i, M::Data>> {
    if cfg!(debug_assertions) && said_goodbye {
        let look = move || {
            let (machine, bytes) = (machine, bytes); // moved in, so that what borrows them may leave
            machine.process(bytes)
        };
        catch_unwind(AssertUnwindSafe(look)).ok()
    } else {
        Some(machine.process(bytes))
    }
}

/// The type of records that carry data, and in TLS 1.3 whatever is encrypted.
const APPLICATION_DATA: u8 = 23;

/// Room for a message of a handshake: most need less, and a larger one finds it.
const ENCODED: usize = 512;

/// What encrypting one record adds at most.
const RECORD_OVERHEAD: usize = 5 + 8 + 16;

/// Sends what `write` writes into the place it is given: `room` bytes, or as many as it says that it
/// needs.
fn put(
    out: &mut ToBelow<'_>,
    room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), EncryptError> {
    match out.send_within(room, &mut write) {
        Err(EncryptError::InsufficientSize(size)) => out.send_within(size.required_size, write),
        result => result,
    }
}

fn encode<D>(data: &mut ::rustls::unbuffered::EncodeTlsData<'_, D>, out: &mut ToBelow<'_>) {
    let Ok(()) = out.send_with(ENCODED, |out| {
        encode_to(data, out);
        Ok::<(), std::convert::Infallible>(())
    });
}

fn encode_to<D>(data: &mut ::rustls::unbuffered::EncodeTlsData<'_, D>, out: &mut Vec<u8>) {
    // The first try only asks for the size.
    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
        let start = out.len();
        out.resize(start + size.required_size, 0);
        // It cannot fail now; if it did, its next state would say so.
        let written = data.encode(out.get_mut(start..).unwrap_or_default()).unwrap_or(0);
        out.truncate(start + written);
    }
}

/// How long the record at the head of `bytes` is, or its header if that is not there yet.
fn next_record(bytes: &[u8]) -> usize {
    match bytes {
        [_, _, _, high, low, ..] => 5 + usize::from(u16::from_be_bytes([*high, *low])),
        _ => 5,
    }
}

fn exhausted() -> Error {
    Error::local(ErrorKind::TlsProtocol, "the TLS session cannot encrypt any more")
}

/// rustls' errors, as ours. Their texts name no secret.
pub(super) fn translate(error: &::rustls::Error, handshaking: bool) -> Error {
    use ::rustls::Error as E;
    let broken = if handshaking { ErrorKind::TlsHandshake } else { ErrorKind::TlsProtocol };
    match error {
        E::AlertReceived(alert) => {
            let kind = ErrorKind::TlsAlert(u8::from(*alert));
            Error::remote(kind, format!("the peer sent the alert {alert:?}"))
        }
        E::InvalidCertificate(_) | E::NoCertificatesPresented | E::InvalidCertRevocationList(_) => {
            Error::remote(ErrorKind::TlsCertificate, error.to_string())
        }
        E::PeerIncompatible(_) | E::NoApplicationProtocol => {
            Error::remote(ErrorKind::TlsHandshake, error.to_string())
        }
        E::InappropriateMessage { .. }
        | E::InappropriateHandshakeMessage { .. }
        | E::InvalidEncryptedClientHello(_)
        | E::InvalidMessage(_)
        | E::DecryptError
        | E::PeerMisbehaved(_)
        | E::PeerSentOversizedRecord => Error::remote(broken, error.to_string()),
        _ => Error::local(broken, error.to_string()),
    }
}
