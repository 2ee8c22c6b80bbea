use std::ffi::CString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use tepal::layers::Network;
use tepal::names::Family;
use tepal::{Address, Addresses, SocketOption, Target, Timeouts};

use super::element::Word;
use super::options::Options;
use super::{Element, End, Mistake, NAMES, values};
use crate::near::suggestion;

/// The lowest element of a chain: what the bytes travel on.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) place: Place,
    pub(crate) family: Family,
    pub(crate) timeouts: Timeouts,
    /// Whose credentials a proxy is given, for messages.
    pub(super) label: Option<String>,
    addresses: Addresses,
    local: Vec<SocketAddr>,
    options: Vec<SocketOption>,
    /// How many connections the kernel may hold before they are accepted.
    pub(crate) backlog: Option<u32>,
    pub(crate) reuse_port: bool,
    /// Whose connections are accepted; everybody's if there are none.
    allowed: Vec<Network>,
    /// The permissions of a Unix socket's file.
    pub(crate) mode: Option<u32>,
}

/// Where that is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// A host, by name or address; `*` for all of this machine's.
    Tcp(String, u16),
    /// The same, for datagrams.
    Udp(String, u16),
    /// The file of a Unix socket.
    Unix(PathBuf),
}

// The address of a Unix socket has 108 bytes, the last a NUL (unix(7)).
const MAX_PATH: usize = 107;

impl Wire {
    pub(super) fn parse(element: &Element, end: End) -> Result<Wire, Mistake> {
        let mut wire = Wire {
            place: Wire::place(element, end)?,
            family: Family::Unspecified,
            timeouts: Timeouts::default(),
            label: None,
            addresses: Addresses::default(),
            local: Vec::new(),
            options: Vec::new(),
            backlog: None,
            reuse_port: false,
            allowed: Vec::new(),
            mode: None,
        };
        let mut options = Options::of(element);
        let unix = matches!(wire.place, Place::Unix(_));
        if !unix {
            let families = [("4", Family::V4), ("6", Family::V6)];
            wire.family = options.choice("family", &families)?.unwrap_or(Family::Unspecified);
        }
        if wire.is_udp() {
            wire.read_datagrams(end, &mut options)?;
        } else {
            match end {
                End::Connects => wire.read_connecting(!unix, &mut options)?,
                End::Accepts => wire.read_accepting(!unix, &mut options)?,
            }
            wire.read_timeouts(!unix, end, &mut options)?;
        }
        options.finish()?;
        Ok(wire)
    }

    fn place(element: &Element, end: End) -> Result<Place, Mistake> {
        match element.name.as_str() {
            name @ ("tcp" | "udp") => {
                let (host, port) = values::host_and_port(element, "an address")?;
                if host == "*" && end == End::Connects {
                    return Err(element.mistake_at(4, "'*' can be listened at only"));
                }
                if port == 0 && end == End::Connects {
                    return Err(element.mistake_at(4, "nobody listens at port 0"));
                }
                Ok(match name {
                    "tcp" => Place::Tcp(host.to_owned(), port),
                    _ => Place::Udp(host.to_owned(), port),
                })
            }
            "unix" => match element.rest.as_ref().filter(|rest| !rest.text.is_empty()) {
                Some(path) if !path.text.contains('\0') && path.text.len() <= MAX_PATH => {
                    Ok(Place::Unix(PathBuf::from(&path.text)))
                }
                Some(path) => {
                    let text = "the path of a Unix socket has at most 107 bytes and no NUL";
                    Err(element.mistake_at(path.column, text))
                }
                None => Err(element.mistake("a Unix socket is written unix:PATH")),
            },
            name if NAMES.contains(&name) => {
                let text =
                    format!("{name} is a layer: a chain begins with tcp, udp or unix below it");
                Err(element.mistake_of_name(text))
            }
            name => {
                let text = format!(
                    "a chain begins with tcp:HOST:PORT, udp:HOST:PORT or unix:PATH, not with '{name}'"
                );
                let near = match &element.rest {
                    // A host and a port, as other programs take them.
                    Some(Word { text: port, .. }) if port.parse::<u16>().is_ok() => {
                        format!("; did you mean 'tcp:{name}:{port}'?")
                    }
                    _ => suggestion(name, ["tcp", "udp", "unix"]),
                };
                Err(element.mistake_of_name(format!("{text}{near}")))
            }
        }
    }

    fn read_connecting(&mut self, tcp: bool, options: &mut Options<'_>) -> Result<(), Mistake> {
        if !tcp {
            return Ok(());
        }
        let ways = [("linear", Addresses::Linear), ("race", Addresses::Race)];
        self.addresses = options.choice("addresses", &ways)?.unwrap_or_default();
        self.read_local(options)?;
        let device = options.parsed("interface", |text| {
            let name = CString::new(text).ok().filter(|name| !name.is_empty());
            name.ok_or_else(|| "is the name of a network interface".to_owned())
        })?;
        self.options.extend(device.map(SocketOption::BindToDevice));
        self.options.extend(options.flag("keepalive")?.then_some(SocketOption::KeepAlive(true)));
        Ok(())
    }

    fn read_local(&mut self, options: &mut Options<'_>) -> Result<(), Mistake> {
        for word in options.all("local")? {
            let address = word.text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0));
            let address = address.or_else(|_| word.text.parse()).map_err(|_| {
                let text = "is an IP address, or one with a port: 192.0.2.1:4000 or [::1]:4000";
                options.wrong(word, "local", text)
            })?;
            self.local.push(address);
        }
        Ok(())
    }

    fn read_accepting(&mut self, tcp: bool, options: &mut Options<'_>) -> Result<(), Mistake> {
        self.backlog = options.parsed("backlog", values::count)?;
        if !tcp {
            self.mode = options.parsed("mode", values::mode)?;
            return Ok(());
        }
        self.reuse_port = options.flag("reuse-port")?;
        self.read_allowed(options)
    }

    fn read_allowed(&mut self, options: &mut Options<'_>) -> Result<(), Mistake> {
        for word in options.all("allow")? {
            let network = word.text.parse().map_err(|_| {
                options.wrong(word, "allow", "is an IP address or a network: 10.0.0.0/8")
            })?;
            self.allowed.push(network);
        }
        Ok(())
    }

    fn read_datagrams(&mut self, end: End, options: &mut Options<'_>) -> Result<(), Mistake> {
        match end {
            End::Connects => self.read_local(options)?,
            End::Accepts => self.read_allowed(options)?,
        }
        let times = &mut self.timeouts;
        for (key, place) in [("timeout-dns", &mut times.dns), ("timeout-idle", &mut times.idle)] {
            if let Some(limit) = options.parsed(key, values::limit)? {
                *place = limit;
            }
        }
        Ok(())
    }

    fn read_timeouts(
        &mut self,
        tcp: bool,
        end: End,
        options: &mut Options<'_>,
    ) -> Result<(), Mistake> {
        let times = &mut self.timeouts;
        let mut places = Vec::new();
        if end == End::Connects {
            places.push(("timeout", &mut times.total));
            places.push(("timeout-connecting", &mut times.connecting));
        }
        if tcp {
            places.push(("timeout-dns", &mut times.dns));
        }
        places.extend([
            ("timeout-handshake", &mut times.handshake),
            ("timeout-idle", &mut times.idle),
            ("timeout-read", &mut times.read),
            ("timeout-write", &mut times.write),
            ("timeout-session", &mut times.session),
            ("timeout-closing", &mut times.closing),
        ]);
        for (key, place) in places {
            if let Some(limit) = options.parsed(key, values::limit)? {
                *place = limit;
            }
        }
        Ok(())
    }

    /// Whether it carries datagrams.
    pub(crate) fn is_udp(&self) -> bool {
        matches!(self.place, Place::Udp(..))
    }

    /// Whether a connection from there is accepted.
    pub(crate) fn allows(&self, peer: &Address) -> bool {
        let named = |ip: IpAddr| self.allowed.iter().any(|network| network.contains(ip));
        self.allowed.is_empty() || peer.as_ip().is_some_and(|peer| named(peer.ip()))
    }

    pub(crate) fn target(&self) -> Target {
        let target = match &self.place {
            Place::Tcp(host, port) | Place::Udp(host, port) => Target::host(host, *port),
            Place::Unix(path) => Target::from(Address::unix(path)),
        };
        let target = target.family(self.family).addresses(self.addresses);
        let target = target.timeouts(self.timeouts);
        let target = self.local.iter().fold(target, |target, local| target.local(*local));
        let target = self.options.iter().cloned().fold(target, Target::option);
        match &self.label {
            Some(label) => target.label(label),
            None => target,
        }
    }
}

/// As it is written in a chain.
impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, host, port) = match self {
            Place::Tcp(host, port) => ("tcp", host, port),
            Place::Udp(host, port) => ("udp", host, port),
            Place::Unix(path) => return write!(f, "unix:{}", path.display()),
        };
        match host.contains(':') {
            true => write!(f, "{name}:[{host}]:{port}"),
            false => write!(f, "{name}:{host}:{port}"),
        }
    }
}
