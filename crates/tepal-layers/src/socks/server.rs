use std::any::Any;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::address::{self, Found};
use crate::handshake::{Handshake, Handshaking, Step};
use crate::scan::find_byte;
use crate::{Error, ErrorKind, Host, Info, Layer, LayerSpec, Notice, Site, SocksReply};

/// Where a client of our proxy wants to go.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ProxyRequest {
    /// The host, to be resolved by us.
    pub host: Host,
    /// The port.
    pub port: u16,
    /// The user name, if the client gave one: verified if there is an auth hook.
    pub user: Option<String>,
}

/// The owner's answer to a [`Notice::Request`], given to [`Chain::command`](crate::Chain::command).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProxyAnswer {
    /// The connection stands; the client is told the address that it was made from.
    Accept(IpAddr, u16),
    /// It does not. CONNECT tells it as 403 (not allowed), 504 (TTL expired) or 502 (the others).
    Refuse(SocksReply),
}

/// Whether a user name and a password are good.
pub(crate) type AuthHook = Arc<dyn Fn(&str, &str) -> bool + Send + Sync>;

/// Whether a client may go where it wants.
pub(crate) type RuleHook = Arc<dyn Fn(&ProxyRequest) -> Result<(), SocksReply> + Send + Sync>;

/// A SOCKS proxy's server side: versions 5, 4 and 4a, CONNECT only. Command name `socks`.
///
/// When a client has said where it wants to go, [`Notice::Request`] tells the owner, who makes the
/// connection and gives its [`ProxyAnswer`]. Then the layer answers the client and leaves the
/// chain. With an auth hook, SOCKS4, which cannot carry a password, is refused.
///
/// Until then the client is read on, up to 16 KiB, and what it sends early waits, an end behind it
/// included. If it ends with nothing sent behind its request, it has hung up, and the connection
/// fails with [`EofInHandshake`](ErrorKind::EofInHandshake): give up what you are connecting to.
#[derive(Clone, Default)]
pub struct SocksServer {
    auth: Option<AuthHook>,
    rule: Option<RuleHook>,
}

impl SocksServer {
    /// A proxy for everybody to everywhere.
    pub fn new() -> SocksServer {
        SocksServer::default()
    }

    /// Clients must give a user name and a password that the hook finds good.
    #[must_use]
    pub fn auth(mut self, good: impl Fn(&str, &str) -> bool + Send + Sync + 'static) -> Self {
        self.auth = Some(Arc::new(good));
        self
    }

    /// Requests that the hook refuses are answered with its reply and told to nobody else.
    #[must_use]
    pub fn rule(
        mut self,
        rule: impl Fn(&ProxyRequest) -> Result<(), SocksReply> + Send + Sync + 'static,
    ) -> Self {
        self.rule = Some(Arc::new(rule));
        self
    }
}

impl fmt::Debug for SocksServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (auth, rule) = (self.auth.is_some(), self.rule.is_some());
        write!(f, "SocksServer(auth={auth}, rule={rule})")
    }
}

impl LayerSpec for SocksServer {
    fn name(&self) -> &'static str {
        Server::NAME
    }

    fn build(&self, _: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        let (spec, state) = (self.clone(), State::Start);
        Ok(Box::new(Handshaking::new(Server {
            spec,
            state,
            user: None,
            answer: None,
            target: None,
        })))
    }
}

struct Server {
    spec: SocksServer,
    state: State,
    user: Option<String>,
    answer: Option<ProxyAnswer>,
    target: Option<(Host, u16)>,
}

#[derive(Clone, Copy)]
enum State {
    Start,
    Auth,
    Request,
    Waiting { version: u8 },
}

impl Server {
    fn request(
        &mut self,
        version: u8,
        (host, port): (Host, u16),
        used: usize,
        out: &mut Vec<u8>,
    ) -> Result<Step, Error> {
        let request = ProxyRequest { host, port, user: self.user.take() };
        if let Some(Err(reply)) = self.spec.rule.as_ref().map(|rule| rule(&request)) {
            refuse(version, reply, out);
            let message = "a rule refused where the client wanted to go";
            return Err(Error::remote(ErrorKind::Forbidden, message));
        }
        self.target = Some((request.host.clone(), port));
        self.state = State::Waiting { version };
        Ok(Step::Tell(used, Notice::Request { layer: Self::NAME, request }))
    }

    fn start(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step, Error> {
        match *bytes {
            [] => Ok(Step::Need(1)),
            [5, count, ref rest @ ..] => {
                let count = usize::from(count);
                let Some(methods) = rest.get(..count) else { return Ok(Step::Need(2 + count)) };
                let (wanted, next) = match self.spec.auth {
                    Some(_) => (2, State::Auth),
                    None => (0, State::Request),
                };
                if !methods.contains(&wanted) {
                    out.extend([5, 0xff]);
                    let message = "the client offers no authentication method that we accept";
                    return Err(Error::remote(ErrorKind::NoAuthMethod, message));
                }
                out.extend([5, wanted]);
                self.state = next;
                Ok(Step::Used(2 + count))
            }
            [5] => Ok(Step::Need(2)),
            [4, ..] if self.spec.auth.is_some() => {
                refuse(4, SocksReply::NotAllowed, out);
                let message = "a SOCKS4 client cannot give the password that we ask for";
                Err(Error::remote(ErrorKind::NoAuthMethod, message))
            }
            [4, ..] => self.start4(bytes, out),
            [version, ..] => {
                let message = format!("the client speaks version {version} of SOCKS, or no SOCKS");
                Err(Error::remote(ErrorKind::Version(version), message))
            }
        }
    }

    fn start4(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step, Error> {
        let [_, command, high, low, a, b, c, d, rest @ ..] = bytes else {
            return Ok(Step::Need(9));
        };
        if *command != 1 {
            refuse(4, SocksReply::CommandNotSupported, out);
            return Err(Error::remote(ErrorKind::Forbidden, "only CONNECT is supported"));
        }
        let Some(user_end) = end_of_text(rest)? else { return Ok(Step::Need(bytes.len() + 1)) };
        let (mut used, port) = (8 + user_end + 1, u16::from_be_bytes([*high, *low]));
        let user = rest.get(..user_end).filter(|user| !user.is_empty());
        let address = Ipv4Addr::new(*a, *b, *c, *d);
        let host = if matches!(address.octets(), [0, 0, 0, last] if last > 0) {
            let name = bytes.get(used..).unwrap_or_default();
            let Some(end) = end_of_text(name)? else { return Ok(Step::Need(bytes.len() + 1)) };
            used += end + 1;
            let name = String::from_utf8_lossy(name.get(..end).unwrap_or_default());
            Host::parse(&name).map_err(|_| bad_name())?
        } else {
            Host::Ip(address.into())
        };
        self.user = user.map(|user| String::from_utf8_lossy(user).into_owned());
        self.request(4, (host, port), used, out)
    }

    fn auth(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step, Error> {
        let [version, rest @ ..] = bytes else { return Ok(Step::Need(2)) };
        if *version != 1 {
            let message = "the client's credentials are malformed";
            return Err(Error::remote(ErrorKind::Malformed, message));
        }
        let [user_len, rest @ ..] = rest else { return Ok(Step::Need(2)) };
        let user_len = usize::from(*user_len);
        let Some((user, rest)) = rest.split_at_checked(user_len) else {
            return Ok(Step::Need(3 + user_len));
        };
        let [password_len, rest @ ..] = rest else { return Ok(Step::Need(3 + user_len)) };
        let used = 3 + user_len + usize::from(*password_len);
        let Some(password) = rest.get(..usize::from(*password_len)) else {
            return Ok(Step::Need(used));
        };
        let user = String::from_utf8_lossy(user).into_owned();
        let good = self.spec.auth.as_ref();
        if !good.is_some_and(|good| good(&user, &String::from_utf8_lossy(password))) {
            out.extend([1, 1]);
            let message = "the client's credentials were refused";
            return Err(Error::remote(ErrorKind::AuthRefused, message));
        }
        out.extend([1, 0]);
        self.user = Some(user);
        self.state = State::Request;
        Ok(Step::Used(used))
    }

    fn request5(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step, Error> {
        match *bytes {
            [version, ..] if version != 5 => {
                let message = "the client's request is malformed";
                Err(Error::remote(ErrorKind::Malformed, message))
            }
            [_, command, ..] if command != 1 => {
                refuse(5, SocksReply::CommandNotSupported, out);
                Err(Error::remote(ErrorKind::Forbidden, "only CONNECT is supported"))
            }
            [_, _, _, ref rest @ ..] => match address::read(rest)? {
                Found::Need(count) => Ok(Step::Need(3 + count)),
                Found::Address(host, port, len) => {
                    let host = Host::parse(&host.to_string()).map_err(|_| bad_name())?;
                    self.request(5, (host, port), 3 + len, out)
                }
                Found::UnknownType => {
                    refuse(5, SocksReply::AddressTypeNotSupported, out);
                    let message = "the client's request has an unknown address type";
                    Err(Error::remote(ErrorKind::Malformed, message))
                }
            },
            _ => Ok(Step::Need(4)),
        }
    }

    fn answer(&mut self, version: u8, out: &mut Vec<u8>) -> Result<Step, Error> {
        match self.answer.take() {
            None => Ok(Step::Wait),
            Some(ProxyAnswer::Refuse(reply)) => {
                refuse(version, reply, out);
                let message = "where the client wanted to go could not be reached";
                Err(Error::local(ErrorKind::Socks5(reply), message))
            }
            Some(ProxyAnswer::Accept(address, port)) => {
                if version == 5 {
                    out.extend([5, 0, 0]);
                    address::write(&Host::Ip(address), port, out);
                } else {
                    out.extend([0, 90]);
                    out.extend(port.to_be_bytes());
                    out.extend(match address {
                        IpAddr::V4(four) => four.octets(),
                        IpAddr::V6(_) => [0; 4],
                    });
                }
                let (host, port) = self.target.take().unwrap_or((Host::Name(String::new()), 0));
                Ok(Step::Done(0, Info::Request(host, port)))
            }
        }
    }
}

impl Handshake for Server {
    const NAME: &'static str = "socks";

    fn advance(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step, Error> {
        match self.state {
            State::Start => self.start(bytes, out),
            State::Auth => self.auth(bytes, out),
            State::Request => self.request5(bytes, out),
            State::Waiting { version } => self.answer(version, out),
        }
    }

    fn command(&mut self, command: &dyn Any) -> Result<(), Error> {
        match (command.downcast_ref::<ProxyAnswer>(), self.state) {
            (Some(answer), State::Waiting { .. }) => {
                self.answer = Some(answer.clone());
                Ok(())
            }
            _ => {
                let message = "a proxy's server takes a ProxyAnswer, after the request";
                Err(Error::misuse(ErrorKind::NoSuchCommand, message))
            }
        }
    }
}

fn refuse(version: u8, reply: SocksReply, out: &mut Vec<u8>) {
    match version {
        5 => out.extend([5, reply.code(), 0, 1, 0, 0, 0, 0, 0, 0]),
        _ => out.extend([0, 91, 0, 0, 0, 0, 0, 0]),
    }
}

// Where the NUL is that ends a text; `None` if it has not come.
fn end_of_text(bytes: &[u8]) -> Result<Option<usize>, Error> {
    match find_byte(bytes.get(..256).unwrap_or(bytes), 0) {
        None if bytes.len() > 255 => {
            let message = "a text in the client's request is longer than 255 bytes";
            Err(Error::remote(ErrorKind::LimitExceeded, message))
        }
        found => Ok(found),
    }
}

fn bad_name() -> Error {
    Error::remote(ErrorKind::Malformed, "the client's host name is none")
}
