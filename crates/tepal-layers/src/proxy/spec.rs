use std::net::SocketAddr;

use super::{read, write};
use crate::handshake::{Handshake, Handshaking, Step};
use crate::{Error, ErrorKind, Info, Layer, LayerSpec, Network, ProxyInfo, Side, Site};

/// What becomes of a connection from an address that is not trusted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Untrusted {
    /// It fails with [`Untrusted`](ErrorKind::Untrusted).
    #[default]
    Close,
    /// Its bytes are taken as they are: a header it sends is the protocol's to see.
    Pass,
}

/// The PROXY protocol's header: a client sends it, a server takes it. Command name `proxy`.
///
/// On the server it is mandatory and nothing is guessed: a connection from a trusted address that
/// does not begin with a header fails with [`HeaderMissing`](ErrorKind::HeaderMissing). Whom to
/// trust must be said. What the header tells comes as [`Info::Proxy`]; then the layer leaves the
/// chain, and what follows in the same segment is the next layer's.
///
/// ```
/// # fn main() -> Result<(), tepal_layers::Error> {
/// use tepal_layers::ProxyHeader;
///
/// let accept = ProxyHeader::new().trust("10.0.0.0/8")?.trust("fd00::1")?;
/// let send = ProxyHeader::new().version_1();
/// # let _ = (accept, send);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ProxyHeader {
    version: u8,
    addresses: Option<(SocketAddr, SocketAddr)>,
    local: bool,
    tlvs: Vec<(u8, Vec<u8>)>,
    checksum: bool,
    trusted: Vec<Network>,
    trust_all: bool,
    untrusted: Untrusted,
    most: usize,
}

impl ProxyHeader {
    /// Version 2 is sent; both are taken, from nobody yet.
    pub fn new() -> ProxyHeader {
        ProxyHeader {
            version: 2,
            addresses: None,
            local: false,
            tlvs: Vec::new(),
            checksum: false,
            trusted: Vec::new(),
            trust_all: false,
            untrusted: Untrusted::Close,
            most: 4096,
        }
    }

    /// Version 1 is sent.
    #[must_use]
    pub fn version_1(mut self) -> ProxyHeader {
        self.version = 1;
        self
    }

    /// The source and the destination that are told; the socket's own unless set.
    #[must_use]
    pub fn addresses(mut self, source: SocketAddr, destination: SocketAddr) -> ProxyHeader {
        self.addresses = Some((source, destination));
        self
    }

    /// The header says that the connection is the proxy's own (LOCAL, or UNKNOWN in version 1).
    #[must_use]
    pub fn local(mut self) -> ProxyHeader {
        self.local = true;
        self
    }

    /// One more extension of version 2, at most 65,000 bytes in all.
    #[must_use]
    pub fn extension(mut self, kind: u8, value: &[u8]) -> ProxyHeader {
        self.tlvs.push((kind, value.to_vec()));
        self
    }

    /// Version 2 is sent with a checksum.
    #[must_use]
    pub fn checksum(mut self) -> ProxyHeader {
        self.checksum = true;
        self
    }

    /// Trusts an address, or all of a network written as `10.0.0.0/8`.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](ErrorKind::InvalidSetting) if it is neither.
    pub fn trust(mut self, network: &str) -> Result<ProxyHeader, Error> {
        self.trusted.push(network.parse()?);
        Ok(self)
    }

    /// Trusts whoever connects: for sockets that only the proxy can reach.
    #[must_use]
    pub fn danger_trust_all(mut self) -> ProxyHeader {
        self.trust_all = true;
        self
    }

    /// What becomes of others.
    #[must_use]
    pub fn untrusted(mut self, untrusted: Untrusted) -> ProxyHeader {
        self.untrusted = untrusted;
        self
    }

    /// The most bytes of a header of version 2 behind its first 16; 4096 unless set.
    #[must_use]
    pub fn max_length(mut self, bytes: usize) -> ProxyHeader {
        self.most = bytes;
        self
    }

    fn trusts(&self, peer: Option<SocketAddr>) -> bool {
        let trusted = |peer: SocketAddr| self.trusted.iter().any(|net| net.contains(peer.ip()));
        self.trust_all || peer.is_some_and(trusted)
    }

    fn header(&self, site: &Site<'_>) -> Result<Vec<u8>, Error> {
        let own = site.local.zip(site.peer);
        let addresses = self.addresses.or(own).filter(|_| !self.local);
        if self.version == 1 {
            return Ok(write::v1(addresses));
        }
        if self.tlvs.iter().map(|(_, value)| value.len() + 3).sum::<usize>() > 65_000 {
            let message = "the extensions are longer than 65,000 bytes";
            return Err(Error::local(ErrorKind::InvalidSetting, message));
        }
        Ok(write::v2(addresses, &self.tlvs, self.checksum))
    }
}

impl Default for ProxyHeader {
    fn default() -> Self {
        ProxyHeader::new()
    }
}

impl LayerSpec for ProxyHeader {
    fn name(&self) -> &'static str {
        Machine::NAME
    }

    fn build(&self, site: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        let machine = match site.side {
            Side::Client => Machine::Send(self.header(site)?),
            Side::Server if self.trusted.is_empty() && !self.trust_all => {
                let message = "nobody is trusted to send a PROXY header";
                return Err(Error::local(ErrorKind::InvalidSetting, message));
            }
            Side::Server if self.trusts(site.peer) => Machine::Accept { most: self.most },
            Side::Server if self.untrusted == Untrusted::Pass => Machine::Pass,
            Side::Server => Machine::Refuse,
        };
        Ok(Box::new(Handshaking::new(machine)))
    }
}

enum Machine {
    Send(Vec<u8>),
    Accept { most: usize },
    Pass,
    Refuse,
}

impl Handshake for Machine {
    const NAME: &'static str = "proxy";

    fn advance(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step, Error> {
        match self {
            Machine::Send(header) => {
                out.append(header);
                Ok(Step::Done(0, Info::None))
            }
            Machine::Accept { most } => read::read(bytes, *most),
            Machine::Pass => {
                let info = ProxyInfo { version: 0, addresses: None, tlvs: Vec::new() };
                Ok(Step::Done(0, Info::Proxy(info.into())))
            }
            Machine::Refuse => {
                let message = "the connection is from an address that is not trusted";
                Err(Error::remote(ErrorKind::Untrusted, message))
            }
        }
    }
}
