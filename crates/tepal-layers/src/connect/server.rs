use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::base64;
use super::head::{HeadReader, field, is_version, malformed};
use crate::handshake::{Handshake, Handshaking, Step};
use crate::socks::{AuthHook, RuleHook};
use crate::{
    Error, ErrorKind, Host, Info, Layer, LayerSpec, Notice, ProxyAnswer, ProxyRequest, Site,
    SocksReply,
};

/// A HTTP proxy's server side, CONNECT only. Command name `http-proxy`.
///
/// When a client has said where it wants to go, [`Notice::Request`] tells the owner, who makes the
/// connection and gives its [`ProxyAnswer`]. Then the layer answers 200, 403, 502 or 504; after a
/// 200 it leaves the chain. A client that hangs up meanwhile is told as by
/// [`SocksServer`](crate::SocksServer).
#[derive(Clone, Default)]
pub struct HttpConnectServer {
    auth: Option<AuthHook>,
    rule: Option<RuleHook>,
}

impl HttpConnectServer {
    /// A proxy for everybody to everywhere.
    pub fn new() -> HttpConnectServer {
        HttpConnectServer::default()
    }

    /// Clients must give a user name and a password (Basic) that the hook finds good; others get
    /// a 407 and are closed upon.
    #[must_use]
    pub fn auth(mut self, good: impl Fn(&str, &str) -> bool + Send + Sync + 'static) -> Self {
        self.auth = Some(Arc::new(good));
        self
    }

    /// Requests that the hook refuses get a 403 and are told to nobody else.
    #[must_use]
    pub fn rule(
        mut self,
        rule: impl Fn(&ProxyRequest) -> Result<(), SocksReply> + Send + Sync + 'static,
    ) -> Self {
        self.rule = Some(Arc::new(rule));
        self
    }
}

impl fmt::Debug for HttpConnectServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (auth, rule) = (self.auth.is_some(), self.rule.is_some());
        write!(f, "HttpConnectServer(auth={auth}, rule={rule})")
    }
}

impl LayerSpec for HttpConnectServer {
    fn name(&self) -> &'static str {
        Server::NAME
    }

    fn build(&self, _: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        let (spec, head) = (self.clone(), HeadReader::default());
        Ok(Box::new(Handshaking::new(Server { spec, head, waiting: None, answer: None })))
    }
}

struct Server {
    spec: HttpConnectServer,
    head: HeadReader,
    waiting: Option<(Host, u16)>,
    answer: Option<ProxyAnswer>,
}

impl Server {
    fn read(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step, Error> {
        let check = |line: &str| target(line).map(|_| ());
        let read = self.head.read(bytes, check).inspect_err(|_| {
            status(out, "400 Bad Request", "");
        });
        let Some((lines, used)) = read? else { return Ok(Step::Need(bytes.len() + 1)) };
        let (host, port) = target(lines.first().map(String::as_str).unwrap_or_default())?;
        let given = field(&lines, "Proxy-Authorization").and_then(credentials);
        let (user, password) = given.unzip();
        if let Some(good) = &self.spec.auth {
            let known = user.as_deref().zip(password.as_deref());
            if !known.is_some_and(|(user, password)| good(user, password)) {
                let field = "Proxy-Authenticate: Basic realm=\"proxy\"\r\n";
                status(out, "407 Proxy Authentication Required", field);
                let message = "the client gave no credentials, or wrong ones";
                return Err(Error::remote(ErrorKind::AuthRefused, message));
            }
        }
        let request = ProxyRequest { host, port, user };
        if let Some(Err(reply)) = self.spec.rule.as_ref().map(|rule| rule(&request)) {
            refuse(reply, out);
            let message = "a rule refused where the client wanted to go";
            return Err(Error::remote(ErrorKind::Forbidden, message));
        }
        self.waiting = Some((request.host.clone(), port));
        Ok(Step::Tell(used, Notice::Request { layer: Self::NAME, request }))
    }
}

impl Handshake for Server {
    const NAME: &'static str = "http-proxy";

    fn advance(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step, Error> {
        let Some((host, port)) = &self.waiting else { return self.read(bytes, out) };
        match self.answer.take() {
            None => Ok(Step::Wait),
            Some(ProxyAnswer::Accept(..)) => {
                out.extend(b"HTTP/1.1 200 Connection established\r\n\r\n");
                Ok(Step::Done(0, Info::Request(host.clone(), *port)))
            }
            Some(ProxyAnswer::Refuse(reply)) => {
                refuse(reply, out);
                let message = "where the client wanted to go could not be reached";
                Err(Error::local(ErrorKind::Socks5(reply), message))
            }
        }
    }

    fn command(&mut self, command: &dyn Any) -> Result<(), Error> {
        match command.downcast_ref::<ProxyAnswer>() {
            Some(answer) if self.waiting.is_some() => {
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

/// The target of `CONNECT host:port HTTP/1.1`.
fn target(line: &str) -> Result<(Host, u16), Error> {
    let bad = || malformed("a request line that is no CONNECT");
    let mut words = line.split(' ');
    let (Some("CONNECT"), Some(authority), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad());
    };
    let (host, port) = authority.rsplit_once(':').ok_or_else(bad)?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let digits = !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    if !is_version(version) || !digits || (host.contains(':') && !bracketed) {
        return Err(bad());
    }
    let host = Host::parse(host).map_err(|_| bad())?;
    if bracketed != matches!(host, Host::Ip(std::net::IpAddr::V6(_))) {
        return Err(bad());
    }
    Ok((host, port.parse().map_err(|_| bad())?))
}

fn credentials(value: &str) -> Option<(String, String)> {
    let (scheme, text) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let text = String::from_utf8(base64::decode(text.trim())?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn refuse(reply: SocksReply, out: &mut Vec<u8>) {
    match reply {
        SocksReply::NotAllowed => status(out, "403 Forbidden", ""),
        SocksReply::TtlExpired => status(out, "504 Gateway Timeout", ""),
        _ => status(out, "502 Bad Gateway", ""),
    }
}

fn status(out: &mut Vec<u8>, line: &str, fields: &str) {
    let rest = "Content-Length: 0\r\nConnection: close\r\n\r\n";
    out.extend(format!("HTTP/1.1 {line}\r\n{fields}{rest}").into_bytes());
}
