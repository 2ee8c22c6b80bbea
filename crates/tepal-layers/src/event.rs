use std::net::SocketAddr;
use std::sync::Arc;

use crate::{Error, Host};

/// What a chain has to tell the protocol, in order with the bytes.
#[derive(Debug)]
pub enum Event {
    /// Bytes for the protocol: look at [`Chain::data`](crate::Chain::data), then say how many were
    /// used with [`Chain::took`](crate::Chain::took).
    Data,
    /// No byte will follow. Comes once, after the last byte.
    Eof,
    /// Something happened to a layer.
    Layer(Notice),
    /// All layers have finished their handshakes: bytes may flow. Comes once.
    Established,
    /// The connection is broken. Comes once, after all bytes that came before it, and is the last
    /// event. What is left to send (an alert) should still be sent, and then the wire closed.
    Failed(Error),
    /// All bytes before a `write_eof` have left: end the writing side of the wire.
    WriteEof,
    /// After [`Chain::close`](crate::Chain::close): every layer has closed and all bytes have
    /// left. Close the wire.
    Closed,
}

/// Something that happened to a layer.
#[derive(Clone, PartialEq, Debug)]
pub enum Notice {
    /// Its handshake is done.
    Ready {
        /// The layer's name.
        layer: &'static str,
        /// What the handshake found out.
        info: Info,
    },
    /// It was put in by a push.
    Added {
        /// The layer's name.
        layer: &'static str,
    },
    /// It is gone: what comes now comes from the layer below it.
    Removed {
        /// The layer's name.
        layer: &'static str,
        /// How it ended.
        how: How,
    },
    /// A client of our proxy has said where it wants to go: make the connection, and give the
    /// layer a [`ProxyAnswer`](crate::ProxyAnswer).
    Request {
        /// The layer's name.
        layer: &'static str,
        /// Where to.
        request: crate::ProxyRequest,
    },
    /// Nothing has passed an [`Idle`](crate::Idle) layer for its time. The connection stays up.
    Idle {
        /// The layer's name.
        layer: &'static str,
    },
}

/// How a layer left its chain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum How {
    /// Its handshake was its work (SOCKS, CONNECT, PROXY).
    Finished,
    /// Closed by its owner, and the peer has answered or needs not to.
    Closed,
    /// Closed without waiting for the peer's answer, as it was told to.
    Unconfirmed,
    /// The peer closed it, and it has answered.
    ByPeer,
    /// The peer did not answer in time; the layer was dropped and the rest goes on.
    TimedOut,
}

impl How {
    /// It in one word: `finished`, `closed`, `unconfirmed`, `by_peer` or `timed_out`.
    pub const fn as_str(self) -> &'static str {
        match self {
            How::Finished => "finished",
            How::Closed => "closed",
            How::Unconfirmed => "unconfirmed",
            How::ByPeer => "by_peer",
            How::TimedOut => "timed_out",
        }
    }
}

/// What a handshake found out.
#[derive(Clone, PartialEq, Debug, Default)]
#[non_exhaustive]
pub enum Info {
    /// Nothing.
    #[default]
    None,
    /// TLS.
    Tls(Arc<TlsInfo>),
    /// SOCKS client: the address the proxy connects from, as it says.
    Bound(Host, u16),
    /// HTTP CONNECT client: the status, always 2xx.
    HttpStatus(u16),
    /// SOCKS or CONNECT server: where the client wants to go.
    Request(Host, u16),
    /// PROXY: what the header told.
    Proxy(Arc<ProxyInfo>),
    /// Detect: the name of the stack that was chosen.
    Detected(Arc<str>),
}

/// What a TLS handshake found out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct TlsInfo {
    /// `"TLSv1.3"` or `"TLSv1.2"`, as OpenSSL spells them.
    pub version: &'static str,
    /// The cipher suite by its IANA name.
    pub cipher: String,
    /// The protocol agreed on by ALPN.
    pub alpn: Option<Vec<u8>>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// The host name: on the client the one verified, on the server the one asked for by SNI.
    pub server_name: Option<String>,
    /// The peer's certificates in DER, its own first; empty if it sent none.
    pub peer_certificates: Vec<Vec<u8>>,
}

/// What a PROXY header told.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ProxyInfo {
    /// The header's version, 1 or 2.
    pub version: u8,
    /// Source and destination of the connection that the proxy accepted; `None` for LOCAL,
    /// UNKNOWN and address families other than IPv4 and IPv6: keep the socket's addresses.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// Type and value of each extension, in order (version 2).
    pub tlvs: Vec<(u8, Vec<u8>)>,
}
