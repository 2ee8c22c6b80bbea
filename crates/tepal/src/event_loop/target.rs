use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tepal_driver::{Address, SocketOption};
use tepal_layers::{LayerSpec, Stack};

use super::host::RustHost;
use super::{Loop, Resolver};
use crate::engine::{Outbound, Peer};
use crate::names::Family;
use crate::{Addresses, Backoff, Handshakes, Timeouts};

/// Where to connect to, from where, through which layers, and for how long to try.
///
/// ```
/// use std::time::Duration;
/// use tepal::{Addresses, Backoff, Lines, Target, Timeouts};
///
/// let target = Target::host("irc.example.org", 6667)
///     .layer(Lines::new(512))
///     .addresses(Addresses::Race)
///     .timeouts(Timeouts { dns: Some(Duration::from_secs(5)), ..Timeouts::default() })
///     .backoff(Backoff::default());
/// assert_eq!(target.to_string(), "irc.example.org:6667");
/// ```
#[derive(Clone, Debug)]
pub struct Target {
    peer: Peer,
    local: Vec<Address>,
    resolver: Option<Resolver>,
    addresses: Addresses,
    timeouts: Timeouts,
    backoff: Option<Backoff>,
    options: Vec<SocketOption>,
    label: Option<Box<str>>,
    handshakes: Handshakes,
    pub(super) stack: Stack,
}

impl Target {
    /// A host by name, or by any literal that getaddrinfo(3) knows, and a port. Its addresses are
    /// looked up when the attempt begins, and tried one after another.
    pub fn host(host: &str, port: u16) -> Target {
        let family = Family::Unspecified;
        Target::to(Peer::Host { host: host.into(), port, family })
    }

    /// An IP address and port.
    pub fn address(peer: SocketAddr) -> Target {
        Target::from(Address::Ip(peer))
    }

    /// Several addresses of one peer, in the order of trying.
    pub fn any_of(addresses: impl IntoIterator<Item = SocketAddr>) -> Target {
        Target::to(Peer::Addresses(addresses.into_iter().map(Address::Ip).collect()))
    }

    /// The file of a Unix socket.
    pub fn unix(path: impl AsRef<Path>) -> Target {
        Target::from(Address::unix(path))
    }

    fn to(peer: Peer) -> Target {
        Target {
            peer,
            local: Vec::new(),
            resolver: None,
            addresses: Addresses::default(),
            timeouts: Timeouts::default(),
            backoff: None,
            options: Vec::new(),
            label: None,
            handshakes: Handshakes::default(),
            stack: Stack::new(),
        }
    }

    /// Only addresses of this family count, where the peer is a name.
    pub fn family(mut self, only: Family) -> Target {
        if let Peer::Host { family, .. } = &mut self.peer {
            *family = only;
        }
        self
    }

    /// In which way several addresses are tried: one after another, or as a race.
    pub fn addresses(mut self, addresses: Addresses) -> Target {
        self.addresses = addresses;
        self
    }

    /// What a failed handshake means for the addresses that are left: by default the next one is
    /// tried.
    ///
    /// ```
    /// use tepal::{Addresses, Handshakes, Socks5, Target};
    ///
    /// // Of several proxies under one name, the one that answers first.
    /// let target = Target::host("proxies.example.org", 1080)
    ///     .layer(Socks5::new("irc.example.org", 6697)?)
    ///     .addresses(Addresses::Race)
    ///     .handshakes(Handshakes::Race);
    /// # Ok::<(), tepal::layers::Error>(())
    /// ```
    pub fn handshakes(mut self, handshakes: Handshakes) -> Target {
        self.handshakes = handshakes;
        self
    }

    /// How long each phase may take.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Target {
        self.timeouts = timeouts;
        self
    }

    /// A failed or lost connection is made anew by this plan, unless the owner closed it.
    pub fn backoff(mut self, backoff: Backoff) -> Target {
        self.backoff = Some(backoff);
        self
    }

    /// Who looks the name up, instead of the loop's own resolver: one of the same loop.
    pub fn resolver(mut self, resolver: &Resolver) -> Target {
        self.resolver = Some(resolver.clone());
        self
    }

    /// Set on each socket before it is bound: `BindToDevice`, `Transparent`, buffer sizes.
    ///
    /// An option that the kernel refuses (`Transparent` without the privilege, a device that is not
    /// there) fails the address with an error that names it.
    pub fn option(mut self, option: SocketOption) -> Target {
        self.options.push(option);
        self
    }

    /// Whose credentials are used, for messages. No secret: it is printed.
    pub fn label(mut self, label: &str) -> Target {
        self.label = Some(label.into());
        self
    }

    /// Binds the local side first, with its IPv6 scope; port 0 lets the kernel choose. Given once
    /// for each family, the one of the address that is tried counts; an address of a family that
    /// none was given for is not tried.
    pub fn local(mut self, local: SocketAddr) -> Target {
        self.local.push(Address::Ip(local));
        self
    }

    /// One more layer, on top of those that were named before: from the wire upward.
    ///
    /// ```
    /// use tepal::{Lines, RateLimit, Target};
    ///
    /// let target = Target::address("127.0.0.1:6667".parse().unwrap())
    ///     .layer(RateLimit::new().write(1 << 16))
    ///     .layer(Lines::new(512));
    /// ```
    pub fn layer(mut self, spec: impl LayerSpec + 'static) -> Target {
        self.stack = self.stack.with(spec);
        self
    }

    /// All layers at once, from the wire upward.
    pub fn stack(mut self, stack: Stack) -> Target {
        self.stack = stack;
        self
    }

    /// How long the handshake of each layer may take; 30 seconds unless set.
    pub fn handshaking(mut self, timeout: Duration) -> Target {
        self.timeouts.handshake = Some(timeout);
        self
    }

    /// How long the connect may take; 30 seconds unless set, `None`: as long as the kernel tries.
    pub fn connecting(mut self, timeout: Option<Duration>) -> Target {
        self.timeouts.connecting = timeout;
        self
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(super) fn times(&self) -> &Timeouts {
        &self.timeouts
    }

    pub(super) fn locals(&self) -> &[Address] {
        &self.local
    }

    pub(super) fn options(&self) -> &[SocketOption] {
        &self.options
    }

    pub(super) fn label_text(&self) -> Option<&str> {
        self.label.as_deref()
    }

    pub(super) fn chosen_resolver(&self) -> Option<&Resolver> {
        self.resolver.as_ref()
    }

    /// The peer as layers are told of it: a name, or nothing beyond the address.
    pub(super) fn host_name(&self) -> Option<tepal_layers::Host> {
        match &self.peer {
            Peer::Host { host, .. } => tepal_layers::Host::parse(host).ok(),
            Peer::Addresses(_) => None,
        }
    }

    pub(super) fn outbound(self, lp: &Loop) -> Outbound<RustHost> {
        let mut to = Outbound::to(self.peer);
        to.local = self.local;
        to.resolver = self.resolver.as_ref().map(|resolver| resolver.key_in(lp));
        to.addresses = self.addresses;
        to.handshakes = self.handshakes;
        to.timeouts = self.timeouts;
        to.backoff = self.backoff;
        to.options = self.options;
        to.label = self.label;
        to.keep = self.resolver.map(|resolver| Rc::new(resolver) as Rc<dyn std::any::Any>);
        to
    }
}

impl From<Address> for Target {
    fn from(peer: Address) -> Target {
        Target::to(Peer::Addresses(vec![peer]))
    }
}

impl From<SocketAddr> for Target {
    fn from(peer: SocketAddr) -> Target {
        Target::address(peer)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.peer {
            Peer::Host { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Peer::Host { host, port, .. } => write!(f, "{host}:{port}"),
            Peer::Addresses(addresses) => {
                for (index, address) in addresses.iter().enumerate() {
                    write!(f, "{}{address}", if index == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
        }
    }
}
