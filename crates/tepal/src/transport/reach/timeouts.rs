use std::time::Duration;

/// How long each phase of a connection may take. `None`: no limit.
///
/// ```
/// use std::time::Duration;
/// use tepal::Timeouts;
///
/// let timeouts = Timeouts { idle: Some(Duration::from_secs(60)), ..Timeouts::default() };
/// assert_eq!(timeouts.dns, Some(Duration::from_secs(15)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// One attempt as a whole: from its begin until the connection is established. Default: none,
    /// since each phase has its own.
    pub total: Option<Duration>,
    /// Resolving the name. Default 15 s: three servers of 5 s each.
    pub dns: Option<Duration>,
    /// Connecting, all addresses together. Default 30 s: room for five SYNs of Linux's (at 0, 1,
    /// 3, 7 and 15 s).
    pub connecting: Option<Duration>,
    /// Each layer's handshake, from when the layer below it is ready. Default 30 s.
    pub handshake: Option<Duration>,
    /// Quiet in both directions. The protocol is told, each time anew, and the connection stays
    /// up. Default: none.
    pub idle: Option<Duration>,
    /// Nothing came from the peer: the connection is lost. Default: none.
    pub read: Option<Duration>,
    /// Bytes wait to be sent and the peer took none: the connection is lost. Default: none.
    pub write: Option<Duration>,
    /// The connection's whole life: then it is lost. Default: none.
    pub session: Option<Duration>,
    /// A close while the peer takes no byte. Default 5 s.
    pub closing: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            total: None,
            dns: Some(Duration::from_secs(15)),
            connecting: Some(Duration::from_secs(30)),
            handshake: Some(Duration::from_secs(30)),
            idle: None,
            read: None,
            write: None,
            session: None,
            closing: Some(Duration::from_secs(5)),
        }
    }
}

impl Timeouts {
    /// No limit anywhere, as asyncio's entry points have it.
    pub const NONE: Timeouts = Timeouts {
        total: None,
        dns: None,
        connecting: None,
        handshake: None,
        idle: None,
        read: None,
        write: None,
        session: None,
        closing: None,
    };

    /// Whether an established connection is to be watched.
    pub(crate) fn watches(&self) -> bool {
        self.idle.is_some() || self.read.is_some() || self.write.is_some() || self.session.is_some()
    }
}
