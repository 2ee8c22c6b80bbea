use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, send, sockopt};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

use crate::options::Failure;

/// What all sessions of a load share, with the tickets of earlier ones if they are to resume.
pub(super) fn settings(resumes: bool) -> Result<Arc<ClientConfig>, Failure> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(TakeAny(Arc::clone(&provider)));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failure)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    if !resumes {
        config.resumption = Resumption::disabled();
    }
    Ok(Arc::new(config))
}

/// Makes one connection after another, each with one echo, until the time is up; how many.
pub(super) fn keep_connecting(
    settings: &Arc<ClientConfig>,
    address: SocketAddr,
    size: usize,
    span: Duration,
) -> Result<u64, Failure> {
    let until = Instant::now() + span;
    let message = vec![7; size];
    let mut buffer = vec![0; size.max(32 << 10)];
    let mut count = 0;
    while Instant::now() < until {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        rustix::net::connect(&socket, &address)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        let mut session = Session::shake_hands(settings, &socket)?;
        session.encrypt(&message)?;
        while !session.send(&socket)? {}
        let mut received = 0;
        while received < size {
            let (count, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
            if count == 0 {
                return Err(Failure::run("the server closed a connection"));
            }
            received += session.decrypt(&mut buffer, count)?;
        }
        count += 1;
    }
    Ok(count)
}

/// The TLS of one connection of the load.
pub(super) struct Session {
    tls: ClientConnection,
    // Ciphertext that the kernel has not taken yet.
    output: Vec<u8>,
}

impl Session {
    /// Makes the session on a socket that still blocks.
    pub(super) fn shake_hands(
        settings: &Arc<ClientConfig>,
        socket: &OwnedFd,
    ) -> Result<Box<Session>, Failure> {
        let name = ServerName::try_from("localhost").map_err(failure)?;
        let tls = ClientConnection::new(Arc::clone(settings), name).map_err(failure)?;
        let mut session = Box::new(Session { tls, output: Vec::new() });
        let mut buffer = vec![0; 32 << 10];
        loop {
            session.tls.write_tls(&mut session.output)?;
            while !session.send(socket)? {}
            if !session.tls.is_handshaking() {
                return Ok(session);
            }
            let (count, _) = recv(socket, &mut buffer[..], RecvFlags::empty())?;
            if count == 0 {
                return Err(Failure::run("the server closed a connection in the handshake"));
            }
            let mut rest = &buffer[..count];
            while !rest.is_empty() {
                session.feed_some(&mut rest)?;
            }
        }
    }

    pub(super) fn encrypt(&mut self, mut message: &[u8]) -> Result<(), Failure> {
        while !message.is_empty() {
            let count = self.tls.writer().write(message)?;
            message = &message[count..];
            while self.tls.wants_write() {
                self.tls.write_tls(&mut self.output)?;
            }
        }
        Ok(())
    }

    /// Whether everything has been given to the kernel.
    pub(super) fn send(&mut self, socket: &OwnedFd) -> Result<bool, Failure> {
        while !self.output.is_empty() {
            match send(socket, &self.output, SendFlags::NOSIGNAL) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Turns `count` bytes of ciphertext at the front of `buffer` into plaintext, in place.
    pub(super) fn decrypt(&mut self, buffer: &mut [u8], count: usize) -> Result<usize, Failure> {
        let input = buffer[..count].to_vec();
        let mut rest = &input[..];
        let mut filled = 0;
        while !rest.is_empty() {
            // It takes no more than a record or two before its plaintext is read.
            self.feed_some(&mut rest)?;
            loop {
                match self.tls.reader().read(&mut buffer[filled..]) {
                    Ok(0) => break,
                    Ok(more) => filled += more,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(filled)
    }

    fn feed_some(&mut self, bytes: &mut &[u8]) -> Result<(), Failure> {
        self.tls.read_tls(bytes)?;
        self.tls.process_new_packets().map_err(failure)?;
        Ok(())
    }
}

/// A load measures its server and trusts it.
#[derive(Debug)]
struct TakeAny(Arc<CryptoProvider>);

impl ServerCertVerifier for TakeAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn failure(error: impl std::fmt::Display) -> Failure {
    Failure::run(error.to_string())
}
