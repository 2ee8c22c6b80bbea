use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::hello::{self, Hello};
use crate::spec::{Host, LayerSpec, Side, Site, Stack};
use crate::{Error, ErrorKind, Info, Io, Layer, Status};

/// The most bytes that are looked at before the last choice is taken: a large ClientHello.
const MOST: usize = 16 * 1024;

/// Looks at the first bytes that a client sends and becomes the stack that fits them. Command
/// name `detect`.
///
/// So one port serves TLS and plain text, or several hosts. The bytes are not taken: the chosen
/// stack sees all of them. The choices are tried in the order given; the first that fits is taken
/// as soon as no earlier one can fit any more. If none fits the connection fails with
/// [`Malformed`](ErrorKind::Malformed). Which one it was is told by [`Info::Detected`].
///
/// ```
/// use tepal_layers::{Detect, Lines, Stack};
///
/// let lines = Stack::new().with(Lines::new(1024));
/// let detect = Detect::new().prefix("chat", b"HELLO ", lines).otherwise("raw", Stack::new());
/// # let _ = detect;
/// ```
#[derive(Clone, Default)]
pub struct Detect {
    choices: Vec<Choice>,
}

#[derive(Clone)]
struct Choice {
    name: Arc<str>,
    test: Test,
    stack: Stack,
}

#[derive(Clone)]
enum Test {
    Tls,
    Sni(String),
    Alpn(Vec<u8>),
    Prefix(Vec<u8>),
    Always,
}

impl Detect {
    /// No choice yet.
    pub fn new() -> Detect {
        Detect::default()
    }

    /// For any TLS ClientHello.
    #[must_use]
    pub fn tls(self, name: impl Into<Arc<str>>, stack: Stack) -> Detect {
        self.choice(name, Test::Tls, stack)
    }

    /// For a ClientHello that asks for this host, or, written `*.example.org`, for one of its
    /// direct subdomains.
    #[must_use]
    pub fn sni(self, name: impl Into<Arc<str>>, host: &str, stack: Stack) -> Detect {
        self.choice(name, Test::Sni(host.to_ascii_lowercase()), stack)
    }

    /// For a ClientHello that offers this protocol.
    #[must_use]
    pub fn alpn(self, name: impl Into<Arc<str>>, protocol: &[u8], stack: Stack) -> Detect {
        self.choice(name, Test::Alpn(protocol.to_vec()), stack)
    }

    /// For connections that begin with these bytes.
    #[must_use]
    pub fn prefix(self, name: impl Into<Arc<str>>, bytes: &[u8], stack: Stack) -> Detect {
        self.choice(name, Test::Prefix(bytes.to_vec()), stack)
    }

    /// For all others.
    #[must_use]
    pub fn otherwise(self, name: impl Into<Arc<str>>, stack: Stack) -> Detect {
        self.choice(name, Test::Always, stack)
    }

    fn choice(mut self, name: impl Into<Arc<str>>, test: Test, stack: Stack) -> Detect {
        self.choices.push(Choice { name: name.into(), test, stack });
        self
    }
}

impl fmt::Debug for Detect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.choices.iter().map(|each| (&*each.name, &each.stack))).finish()
    }
}

impl LayerSpec for Detect {
    fn name(&self) -> &'static str {
        "detect"
    }

    fn build(&self, site: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        if self.choices.is_empty() {
            return Err(Error::local(ErrorKind::InvalidSetting, "there is nothing to choose from"));
        }
        Ok(Box::new(DetectLayer {
            choices: Arc::from(self.choices.as_slice()),
            side: site.side,
            host: site.host.clone(),
            addresses: (site.peer, site.local),
        }))
    }
}

struct DetectLayer {
    choices: Arc<[Choice]>,
    side: Side,
    host: Option<Host>,
    addresses: (Option<SocketAddr>, Option<SocketAddr>),
}

/// What a test says of the bytes so far.
enum Verdict {
    Fits,
    Not,
    Need(usize),
}

impl Test {
    fn verdict(&self, bytes: &[u8], hello: &Hello, last: bool) -> Verdict {
        let verdict = match (self, hello) {
            (Test::Always, _) => Verdict::Fits,
            (Test::Prefix(prefix), _) => match bytes.len() >= prefix.len() {
                true if bytes.starts_with(prefix) => Verdict::Fits,
                false if prefix.starts_with(bytes) => Verdict::Need(prefix.len()),
                _ => Verdict::Not,
            },
            (_, Hello::Other) => Verdict::Not,
            (_, Hello::Need(count)) => Verdict::Need(*count),
            (Test::Tls, _) => Verdict::Fits,
            (Test::Sni(host), Hello::Client { server_name: Some(name), .. }) => {
                let sub = host.strip_prefix("*.").zip(name.split_once('.'));
                match name == host || sub.is_some_and(|(host, (_, parent))| host == parent) {
                    true => Verdict::Fits,
                    false => Verdict::Not,
                }
            }
            (Test::Alpn(wanted), Hello::Client { alpn, .. }) if alpn.contains(wanted) => {
                Verdict::Fits
            }
            _ => Verdict::Not,
        };
        match verdict {
            Verdict::Need(_) if last => Verdict::Not,
            verdict => verdict,
        }
    }
}

impl DetectLayer {
    // The choice, or how many bytes are needed to make it.
    fn choose(&self, bytes: &[u8], last: bool) -> Result<Result<&Choice, usize>, Error> {
        let hello = hello::read(bytes);
        for choice in self.choices.iter() {
            match choice.test.verdict(bytes, &hello, last) {
                Verdict::Fits => return Ok(Ok(choice)),
                Verdict::Not => {}
                Verdict::Need(count) => return Ok(Err(count)),
            }
        }
        let message = "the first bytes are of no protocol that is served here";
        Err(Error::remote(ErrorKind::Malformed, message))
    }
}

impl Layer for DetectLayer {
    fn name(&self) -> &'static str {
        "detect"
    }

    fn step(&mut self, io: &mut Io<'_>) -> Result<Status, Error> {
        let last = io.from_below.ended() || io.from_below.bytes().len() >= MOST;
        let now = io.now();
        let bytes = io.from_below.bytes();
        if bytes.is_empty() && !last {
            return Ok(Status::Open);
        }
        let choice = match self.choose(bytes, last)? {
            Ok(choice) => choice,
            Err(count) => {
                io.from_below.need(count.min(MOST));
                return Ok(Status::Open);
            }
        };
        let mut layers = Vec::new();
        for spec in choice.stack.specs() {
            let mut site = Site {
                side: self.side,
                host: self.host.clone(),
                peer: self.addresses.0,
                local: self.addresses.1,
                now,
                // There is no attempt before or after on a connection that was accepted.
                keepsake: &mut None,
            };
            layers.push(spec.build(&mut site).map_err(|error| error.in_layer(spec.name()))?);
        }
        io.ready(Info::Detected(Arc::clone(&choice.name)));
        Ok(Status::Become(layers))
    }
}
