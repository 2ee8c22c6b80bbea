use std::any::Any;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tepal_base::Instant;

use crate::{Error, ErrorKind, Layer};

/// Which end of the connection a layer is on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// We connected.
    Client,
    /// We accepted.
    Server,
}

/// A host as a user or a peer names it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Host {
    /// A name, 1 to 255 bytes of printable ASCII.
    Name(String),
    /// An address.
    Ip(IpAddr),
}

impl Host {
    /// A name or a literal address; IPv6 may be in brackets.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](ErrorKind::InvalidSetting) if it is empty, longer than 255 bytes, or
    /// holds a byte that is no printable ASCII (so nothing can be smuggled into a header).
    pub fn parse(text: &str) -> Result<Host, Error> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse() {
            return Ok(Host::Ip(address));
        }
        let fine = |byte: u8| byte.is_ascii_graphic() && !b"[]:/@\\\"<>".contains(&byte);
        if text.is_empty() || text.len() > 255 || !text.bytes().all(fine) {
            let message = "a host is 1 to 255 printable ASCII characters";
            return Err(Error::local(ErrorKind::InvalidSetting, message));
        }
        Ok(Host::Name(text.to_owned()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Ip(address) => address.fmt(f),
        }
    }
}

/// A recipe for one layer: an immutable value that builds a fresh layer for each connection
/// attempt.
///
/// It is shared by all connections that use it, also from several threads. Its `Debug` must show
/// no secret.
pub trait LayerSpec: fmt::Debug + Send + Sync {
    /// The command name of the layers it builds.
    fn name(&self) -> &'static str;

    /// Builds a layer.
    ///
    /// # Errors
    ///
    /// What is wrong with the recipe on this side of a connection. Found before any byte is sent.
    fn build(&self, site: &mut Site<'_>) -> Result<Box<dyn Layer>, Error>;

    /// Whether [`build`](LayerSpec::build) looks at the addresses of the socket on this side
    /// ([`Site::peer`], [`Site::local`], and the peer's as [`Site::host`] where none is named).
    ///
    /// A connection in whose stack nobody does spares the two system calls that tell them.
    fn wants_addresses(&self, side: Side) -> bool {
        let _ = side;
        true
    }

    /// Where the bytes above the layer go, if the layer is a proxy's: the host that a TLS layer
    /// above it verifies.
    fn target(&self) -> Option<(&Host, u16)> {
        None
    }
}

/// Where a layer is to stand: what its spec may want to know when it builds it.
#[derive(Debug)]
pub struct Site<'a> {
    /// Which end we are.
    pub side: Side,
    /// The host that the layer talks to, or talks through to: the nearest target below it.
    pub host: Option<Host>,
    /// The address of the socket's peer.
    pub peer: Option<SocketAddr>,
    /// The address of the socket itself.
    pub local: Option<SocketAddr>,
    /// Now.
    pub now: Instant,
    /// What an earlier layer of this spec left behind on this transport, to be kept for the next.
    pub keepsake: &'a mut Option<Box<dyn Any + Send>>,
}

/// The place where a connection is made: what [`Site`] is filled from.
#[derive(Clone, Debug)]
pub struct Place {
    /// Which end we are.
    pub side: Side,
    /// The host that the wire connects to.
    pub host: Option<Host>,
    /// The address of the socket's peer.
    pub peer: Option<SocketAddr>,
    /// The address of the socket itself.
    pub local: Option<SocketAddr>,
}

impl Place {
    /// A place of which no address is known.
    pub fn new(side: Side) -> Place {
        Place { side, host: None, peer: None, local: None }
    }
}

/// Layer specs in order, from the wire upward. Cheap to clone.
///
/// ```
/// use tepal_layers::{Lines, RateLimit, Stack};
///
/// let stack = Stack::new().with(RateLimit::new().write(65_536)).with(Lines::new(65_536));
/// assert_eq!(stack.names().collect::<Vec<_>>(), ["rate", "lines"]);
/// ```
#[derive(Clone, Default)]
pub struct Stack {
    specs: Vec<Arc<dyn LayerSpec>>,
}

impl Stack {
    /// No layer.
    pub const fn new() -> Stack {
        Stack { specs: Vec::new() }
    }

    /// The stack with one more layer on top.
    #[must_use]
    pub fn with(self, spec: impl LayerSpec + 'static) -> Stack {
        self.with_shared(Arc::new(spec))
    }

    /// The stack with one more layer on top, of a spec that others hold too. A keepsake is found
    /// again by the shared value, so clones of the `Arc` are one spec.
    #[must_use]
    pub fn with_shared(mut self, spec: Arc<dyn LayerSpec>) -> Stack {
        self.specs.push(spec);
        self
    }

    /// The specs, from the wire upward.
    pub fn specs(&self) -> &[Arc<dyn LayerSpec>] {
        &self.specs
    }

    /// The layers' names, from the wire upward.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.specs.iter().map(|spec| spec.name())
    }

    /// Whether there is no layer.
    pub fn is_empty(&self) -> bool {
        self.specs.is_empty()
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.specs).finish()
    }
}

/// What layers leave behind for the next attempt on the same transport, by spec.
///
/// The owner of the connection keeps it for the transport's life and hands it to each chain. It holds
/// no more than there are keepsakes: most layers leave none.
#[derive(Default)]
pub struct Keepsakes {
    kept: Vec<(Arc<dyn LayerSpec>, Keepsake)>,
}

type Keepsake = Box<dyn Any + Send>;

impl Keepsakes {
    /// Takes out what a layer of this spec has left.
    pub fn take(&mut self, spec: &Arc<dyn LayerSpec>) -> Option<Keepsake> {
        let place = self.kept.iter().position(|(owner, _)| Arc::ptr_eq(owner, spec))?;
        Some(self.kept.swap_remove(place).1)
    }

    /// Keeps what a layer of this spec has left, if anything; returns what it stands for, which is a
    /// user's and may do anything when it is dropped.
    pub fn keep(
        &mut self,
        spec: &Arc<dyn LayerSpec>,
        keepsake: Option<Keepsake>,
    ) -> Option<Keepsake> {
        let keepsake = keepsake?;
        let before = self.take(spec);
        self.kept.push((Arc::clone(spec), keepsake));
        before
    }

    /// Takes over what `other` has; where both have something, `other`'s is the later one.
    pub fn merge(&mut self, other: Keepsakes) {
        for (spec, keepsake) in other.kept {
            drop(self.keep(&spec, Some(keepsake)));
        }
    }
}

impl fmt::Debug for Keepsakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keepsakes({})", self.kept.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_cannot_smuggle_a_line_end_or_a_space() {
        for bad in ["", "a b", "a\r\nb", "a\0", "é.example", "a/b", "u@h", "a:1", &"x".repeat(256)]
        {
            assert!(Host::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Host::parse("a").unwrap(), Host::Name("a".into()));
        assert_eq!(Host::parse("[::1]").unwrap(), Host::Ip("::1".parse().unwrap()));
    }
}
