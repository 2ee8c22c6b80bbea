use std::fmt;
use std::sync::Arc;

use ::rustls::client::{Resumption, UnbufferedClientConnection};
use ::rustls::crypto::{CryptoProvider, ring};
use ::rustls::pki_types::ServerName;
use ::rustls::server::{NoServerSessionStorage, UnbufferedServerConnection, WebPkiClientVerifier};
use ::rustls::time_provider::TimeProvider;
use ::rustls::version::{TLS12, TLS13};
use ::rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};

use super::adapters::{AcceptAny, Clock, Logged};
use super::certificate::{Certificate, Roots};
use super::layer::TlsLayer;
use super::resolver::Resolver;
use super::rustls::{RustlsEngine, translate};
use crate::{Error, ErrorKind, Host, Layer, LayerSpec, Side, Site};

/// How a TLS layer ends when the connection is closed. A layer that is popped always waits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum CloseMode {
    /// It says close_notify and waits for the peer's.
    #[default]
    Wait,
    /// It says close_notify and leaves, as RFC 8446, section 6.1 allows.
    Notify,
    /// It says nothing, as large sites do: the peer takes it for a truncation.
    None,
}

/// What the peer's close_notify means when nobody here has closed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum PeerClose {
    /// It is the end of input.
    #[default]
    End,
    /// The layer answers and leaves, and what is below it goes on.
    Pop,
}

/// A version of TLS.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2, RFC 5246.
    V1_2,
    /// TLS 1.3, RFC 8446.
    V1_3,
}

/// Takes lines for a key log file (NSS format), with which a recorded connection can be decrypted.
pub trait KeyLog: Send + Sync + fmt::Debug {
    /// One line without its end.
    fn log(&self, line: &str);
}

/// Tells the wall time, for the dates in certificates.
pub trait WallClock: Send + Sync + fmt::Debug {
    /// Seconds since 1970, if they are known.
    fn unix_seconds(&self) -> Option<u64>;
}

/// TLS 1.2 and 1.3, client or server by the side of the connection. Command name `tls`.
///
/// It holds one configuration for its life, and with it the sessions of earlier connections: clones
/// share it, so a reconnect, a second push and another connection to the same host all resume.
///
/// ```
/// # fn main() -> Result<(), tepal_layers::Error> {
/// use tepal_layers::{Roots, Tls};
///
/// # let pem = include_bytes!("../../tests/data/ca.pem");
/// let tls = Tls::builder().roots(Roots::from_pem(pem)?).alpn(["h2", "http/1.1"]).build()?;
/// # let _ = tls;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Tls(Arc<Configured>);

struct Configured {
    settings: TlsBuilder,
    client: Result<Arc<ClientConfig>, Error>,
    server: Result<Arc<ServerConfig>, Error>,
    resolver: Arc<Resolver>,
}

impl Tls {
    /// Settings to make one of.
    pub fn builder() -> TlsBuilder {
        TlsBuilder {
            server_name: None,
            roots: None,
            certificates: Vec::new(),
            client_roots: None,
            client_optional: false,
            alpn: Vec::new(),
            resume: true,
            key_log: None,
            side: None,
            close: CloseMode::default(),
            peer_close: PeerClose::default(),
            accept_invalid: false,
            versions: (TlsVersion::V1_2, TlsVersion::V1_3),
            clock: None,
            // A chain of ten certificates with large keys has about 30 KiB.
            handshake_limit: 128 << 10,
        }
    }

    /// Uses other certificates from the next handshake on. Running connections keep theirs.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](ErrorKind::InvalidSetting) if there were none before, or are none now.
    pub fn reload(&self, certificates: &[Certificate]) -> Result<(), Error> {
        if certificates.is_empty() || self.0.settings.certificates.is_empty() {
            return Err(invalid("certificates can only be replaced by certificates"));
        }
        let keys = certificates.iter().map(|certificate| Arc::clone(&certificate.0));
        self.0.resolver.replace(keys.collect());
        Ok(())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.settings.fmt(f)
    }
}

impl LayerSpec for Tls {
    fn name(&self) -> &'static str {
        "tls"
    }

    fn wants_addresses(&self, side: Side) -> bool {
        let settings = &self.0.settings;
        settings.side.unwrap_or(side) == Side::Client && settings.server_name.is_none()
    }

    fn build(&self, site: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        let settings = &self.0.settings;
        let modes = (settings.close, settings.peer_close);
        let limit = settings.handshake_limit;
        match settings.side.unwrap_or(site.side) {
            Side::Client => {
                let config = self.0.client.clone()?;
                let host = settings.server_name.clone().map(Ok).unwrap_or_else(|| {
                    let host = site.host.as_ref();
                    host.map(Host::to_string).ok_or_else(|| invalid("no host name to verify"))
                })?;
                let name = ServerName::try_from(host.trim_end_matches('.').to_owned());
                let name = name.map_err(|_| invalid("the host name is not one of DNS"))?;
                let machine = UnbufferedClientConnection::new(config, name);
                let machine = machine.map_err(|error| translate(&error, true))?;
                let engine = RustlsEngine::new(machine);
                Ok(Box::new(TlsLayer::new(engine, Some(host), false, modes, limit)))
            }
            Side::Server => {
                let machine = UnbufferedServerConnection::new(self.0.server.clone()?);
                let machine = machine.map_err(|error| translate(&error, true))?;
                let engine = RustlsEngine::new(machine);
                Ok(Box::new(TlsLayer::new(engine, None, true, modes, limit)))
            }
        }
    }
}

/// Settings of a [`Tls`] value.
#[derive(Clone)]
pub struct TlsBuilder {
    server_name: Option<String>,
    roots: Option<Roots>,
    certificates: Vec<Certificate>,
    client_roots: Option<Roots>,
    client_optional: bool,
    alpn: Vec<Vec<u8>>,
    resume: bool,
    key_log: Option<Arc<dyn KeyLog>>,
    side: Option<Side>,
    close: CloseMode,
    peer_close: PeerClose,
    accept_invalid: bool,
    // The oldest and the newest.
    versions: (TlsVersion, TlsVersion),
    clock: Option<Arc<dyn WallClock>>,
    handshake_limit: usize,
}

impl TlsBuilder {
    /// The host that a client asks for and verifies; the nearest target below unless set.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> TlsBuilder {
        self.server_name = Some(name.into());
        self
    }

    /// Whom a client trusts. This crate opens no file: the loop passes the platform's roots.
    #[must_use]
    pub fn roots(mut self, roots: Roots) -> TlsBuilder {
        self.roots = Some(roots);
        self
    }

    /// Our certificate: a server's, or a client's if the server asks for one. Given several, a
    /// server shows the first that has the name asked for, else the first of all.
    #[must_use]
    pub fn certificate(mut self, certificate: Certificate) -> TlsBuilder {
        self.certificates.push(certificate);
        self
    }

    /// Clients must show a certificate of one of these authorities.
    #[must_use]
    pub fn client_roots(mut self, roots: Roots) -> TlsBuilder {
        self.client_roots = Some(roots);
        self
    }

    /// Clients without a certificate are let in too; one that is shown must still be good.
    #[must_use]
    pub fn client_certificate_optional(mut self) -> TlsBuilder {
        self.client_optional = true;
        self
    }

    /// Protocols for ALPN, the preferred one first.
    #[must_use]
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> TlsBuilder {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Whether sessions are resumed; they are unless set. A client keeps those of up to 256 servers, a server
    /// none: it gives each client its own, encrypted, with keys that live for twelve hours at most.
    #[must_use]
    pub fn resume(mut self, resume: bool) -> TlsBuilder {
        self.resume = resume;
        self
    }

    /// Where secrets are logged.
    #[must_use]
    pub fn key_log(mut self, log: Arc<dyn KeyLog>) -> TlsBuilder {
        self.key_log = Some(log);
        self
    }

    /// Which side of TLS we are, whoever connected.
    #[must_use]
    pub fn side(mut self, side: Side) -> TlsBuilder {
        self.side = Some(side);
        self
    }

    /// How the layer ends when the connection is closed.
    #[must_use]
    pub fn close(mut self, mode: CloseMode) -> TlsBuilder {
        self.close = mode;
        self
    }

    /// What the peer's close_notify means.
    #[must_use]
    pub fn peer_close(mut self, mode: PeerClose) -> TlsBuilder {
        self.peer_close = mode;
        self
    }

    /// Believes any certificate for any name, so that anybody on the way can read and change
    /// everything. For tests.
    #[must_use]
    pub fn danger_accept_invalid_certificates(mut self) -> TlsBuilder {
        self.accept_invalid = true;
        self
    }

    /// The oldest version that is spoken; TLS 1.2 unless set.
    #[must_use]
    pub fn min_version(mut self, version: TlsVersion) -> TlsBuilder {
        self.versions.0 = version;
        self
    }

    /// The newest version that is spoken; TLS 1.3 unless set.
    #[must_use]
    pub fn max_version(mut self, version: TlsVersion) -> TlsBuilder {
        self.versions.1 = version;
        self
    }

    /// The wall clock for certificates' dates; the system's unless set.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn WallClock>) -> TlsBuilder {
        self.clock = Some(clock);
        self
    }

    /// The most bytes of a peer's handshake; 128 KiB unless set.
    #[must_use]
    pub fn handshake_limit(mut self, bytes: usize) -> TlsBuilder {
        self.handshake_limit = bytes;
        self
    }

    /// Makes the value, and with it the configuration that it holds for its life.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](ErrorKind::InvalidSetting) if the settings are good for neither side.
    /// What is missing for one of them is told when a layer is built there.
    pub fn build(self) -> Result<Tls, Error> {
        let keys = self.certificates.iter().map(|certificate| Arc::clone(&certificate.0));
        let resolver = Arc::new(Resolver::new(keys.collect()));
        let client = self.client(&resolver);
        let server = self.server(&resolver);
        match (client, server) {
            (Err(error), Err(_)) if self.side != Some(Side::Server) => Err(error),
            (Err(_), Err(error)) => Err(error),
            (client, server) => {
                Ok(Tls(Arc::new(Configured { settings: self, client, server, resolver })))
            }
        }
    }

    fn client(&self, resolver: &Arc<Resolver>) -> Result<Arc<ClientConfig>, Error> {
        let builder = ClientConfig::builder_with_details(provider(), self.time());
        let builder = builder.with_protocol_versions(&self.spoken()?).map_err(|_| no_versions())?;
        let builder = match &self.roots {
            _ if self.accept_invalid => {
                let algorithms = provider().signature_verification_algorithms;
                let verifier = Arc::new(AcceptAny(algorithms));
                builder.dangerous().with_custom_certificate_verifier(verifier)
            }
            Some(roots) if !roots.is_empty() => {
                builder.with_root_certificates(Arc::clone(&roots.0))
            }
            _ => return Err(invalid("a TLS client needs trust roots")),
        };
        let mut config = match self.certificates.is_empty() {
            true => builder.with_no_client_auth(),
            false => builder.with_client_cert_resolver(Arc::clone(resolver) as _),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        if !self.resume {
            config.resumption = Resumption::disabled();
        }
        if let Some(log) = &self.key_log {
            config.key_log = Arc::new(Logged(Arc::clone(log)));
        }
        Ok(Arc::new(config))
    }

    fn server(&self, resolver: &Arc<Resolver>) -> Result<Arc<ServerConfig>, Error> {
        if self.certificates.is_empty() {
            return Err(invalid("a TLS server needs a certificate"));
        }
        let builder = ServerConfig::builder_with_details(provider(), self.time());
        let builder = builder.with_protocol_versions(&self.spoken()?).map_err(|_| no_versions())?;
        let builder = match &self.client_roots {
            None => builder.with_no_client_auth(),
            Some(roots) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots.0), provider());
                let verifier = match self.client_optional {
                    true => verifier.allow_unauthenticated(),
                    false => verifier,
                };
                let verifier = verifier.build();
                let verifier = verifier.map_err(|_| invalid("the client roots are not usable"))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::clone(resolver) as _);
        config.alpn_protocols.clone_from(&self.alpn);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if self.resume {
            // A ticket holds its session, encrypted: a server keeps nothing for clients that may
            // never come again, and none of them is forgotten because others came after it. Its
            // keys live for six hours, and as long again for tickets that were given out.
            let ticketer = ring::Ticketer::new();
            config.ticketer = ticketer.map_err(|_| invalid("there is no randomness for keys"))?;
        } else {
            config.send_tls13_tickets = 0;
        }
        if let Some(log) = &self.key_log {
            config.key_log = Arc::new(Logged(Arc::clone(log)));
        }
        Ok(Arc::new(config))
    }

    fn spoken(&self) -> Result<Vec<&'static SupportedProtocolVersion>, Error> {
        match self.versions {
            (TlsVersion::V1_2, TlsVersion::V1_2) => Ok(vec![&TLS12]),
            (TlsVersion::V1_2, TlsVersion::V1_3) => Ok(vec![&TLS13, &TLS12]),
            (TlsVersion::V1_3, TlsVersion::V1_3) => Ok(vec![&TLS13]),
            (TlsVersion::V1_3, TlsVersion::V1_2) => {
                Err(invalid("the oldest version of TLS is newer than the newest"))
            }
        }
    }

    fn time(&self) -> Arc<dyn TimeProvider> {
        match &self.clock {
            Some(clock) => Arc::new(Clock(Arc::clone(clock))),
            None => Arc::new(::rustls::time_provider::DefaultTimeProvider),
        }
    }
}

impl fmt::Debug for TlsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("server_name", &self.server_name)
            .field("roots", &self.roots)
            .field("certificates", &self.certificates)
            .field("client_roots", &self.client_roots)
            .field("close", &self.close)
            .field("peer_close", &self.peer_close)
            .field("danger_accept_invalid_certificates", &self.accept_invalid)
            .finish_non_exhaustive()
    }
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

pub(super) fn invalid(message: &'static str) -> Error {
    Error::local(ErrorKind::InvalidSetting, message)
}

fn no_versions() -> Error {
    invalid("the cryptography has no cipher for TLS 1.2 and 1.3")
}
