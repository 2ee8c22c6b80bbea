use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::address::{self, Found};
use crate::handshake::{Handshake, Handshaking, Secret, Step};
use crate::{Error, ErrorKind, Host, Info, Layer, LayerSpec, Site, SocksReply};

const NO_AUTH: u8 = 0;
const PASSWORD: u8 = 2;
const NONE_ACCEPTED: u8 = 0xff;

/// A SOCKS5 proxy's client (RFC 1928, RFC 1929). Command name `socks5`.
///
/// The proxy resolves the host, so nothing about it reaches a resolver of ours. The credentials
/// leave only after the proxy has chosen to be given them. Every refusal is an error of its own,
/// [`Socks5`](ErrorKind::Socks5); the address that the proxy connects from is told by
/// [`Info::Bound`]. The layer leaves the chain when it is done.
#[derive(Clone, Debug)]
pub struct Socks5 {
    host: Host,
    port: u16,
    credentials: Option<(String, Secret)>,
}

impl Socks5 {
    /// To `host:port` by way of the proxy below.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](ErrorKind::InvalidSetting) if the host is none.
    pub fn new(host: &str, port: u16) -> Result<Socks5, Error> {
        Ok(Socks5 { host: Host::parse(host)?, port, credentials: None })
    }

    /// A user name and a password, 1 to 255 bytes each, offered beside "no authentication".
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](ErrorKind::InvalidSetting) if one is empty or too long.
    pub fn credentials(mut self, username: &str, password: &str) -> Result<Socks5, Error> {
        if ![username, password].iter().all(|text| (1..=255).contains(&text.len())) {
            let message = "a SOCKS5 user name and password have 1 to 255 bytes";
            return Err(Error::local(ErrorKind::InvalidSetting, message));
        }
        self.credentials = Some((username.to_owned(), Secret::new(password)));
        Ok(self)
    }
}

impl LayerSpec for Socks5 {
    fn name(&self) -> &'static str {
        Client::NAME
    }

    fn build(&self, site: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        // What the proxy chose last time is the only method offered this time.
        let known = site.keepsake.as_ref().and_then(|kept| kept.downcast_ref::<Arc<AtomicU8>>());
        let chosen = match known {
            Some(kept) => Arc::clone(kept),
            None => {
                let chosen = Arc::new(AtomicU8::new(NONE_ACCEPTED));
                *site.keepsake = Some(Box::new(Arc::clone(&chosen)));
                chosen
            }
        };
        Ok(Box::new(Handshaking::new(Client { spec: self.clone(), chosen, state: State::Start })))
    }

    fn target(&self) -> Option<(&Host, u16)> {
        Some((&self.host, self.port))
    }
}

struct Client {
    spec: Socks5,
    chosen: Arc<AtomicU8>,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Start,
    Method,
    Auth,
    Reply,
}

impl Client {
    fn offers(&self) -> Vec<u8> {
        let all: &[u8] = match self.spec.credentials {
            Some(_) => &[NO_AUTH, PASSWORD],
            None => &[NO_AUTH],
        };
        let last = self.chosen.load(Ordering::Relaxed);
        if all.contains(&last) { vec![last] } else { all.to_vec() }
    }

    fn send_request(&mut self, out: &mut Vec<u8>) {
        out.extend([5, 1, 0]);
        address::write(&self.spec.host, self.spec.port, out);
        self.state = State::Reply;
    }
}

impl Handshake for Client {
    const NAME: &'static str = "socks5";

    fn advance(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step, Error> {
        match self.state {
            State::Start => {
                let methods = self.offers();
                out.extend([5, methods.len() as u8]);
                out.extend(methods);
                self.state = State::Method;
                Ok(Step::Used(0))
            }
            State::Method => match *bytes {
                [version, ..] if version != 5 => Err(wrong_version(version)),
                [_, method, ..] if self.offers().contains(&method) => {
                    self.chosen.store(method, Ordering::Relaxed);
                    match &self.spec.credentials {
                        Some((username, password)) if method == PASSWORD => {
                            out.push(1);
                            for text in [username, password.expose()] {
                                out.push(text.len() as u8);
                                out.extend(text.bytes());
                            }
                            self.state = State::Auth;
                        }
                        _ => self.send_request(out),
                    }
                    Ok(Step::Used(2))
                }
                [_, NONE_ACCEPTED, ..] => {
                    self.chosen.store(NONE_ACCEPTED, Ordering::Relaxed);
                    let message = "the proxy accepts no authentication method that we offer";
                    Err(Error::remote(ErrorKind::NoAuthMethod, message))
                }
                [_, _, ..] => {
                    let message = "the proxy chose an authentication method that was not offered";
                    Err(Error::remote(ErrorKind::Malformed, message))
                }
                _ => Ok(Step::Need(2)),
            },
            State::Auth => match *bytes {
                [version, ..] if version != 1 => {
                    let message = "the proxy's answer to the credentials is malformed";
                    Err(Error::remote(ErrorKind::Malformed, message))
                }
                [_, 0, ..] => {
                    self.send_request(out);
                    Ok(Step::Used(2))
                }
                [_, _, ..] => {
                    let message = "the proxy refused the credentials";
                    Err(Error::remote(ErrorKind::AuthRefused, message))
                }
                _ => Ok(Step::Need(2)),
            },
            // A refusal is taken as one as soon as its code is there: some proxies send no more.
            State::Reply => match *bytes {
                [version, ..] if version != 5 => Err(wrong_version(version)),
                [_, code, ..] if code != 0 => Err(refused(code)),
                [_, _, _, ref rest @ ..] => match address::read(rest)? {
                    Found::Need(count) => Ok(Step::Need(3 + count)),
                    Found::Address(host, port, len) => {
                        Ok(Step::Done(3 + len, Info::Bound(host, port)))
                    }
                    Found::UnknownType => {
                        let message = "the proxy's reply has an unknown address type";
                        Err(Error::remote(ErrorKind::Malformed, message))
                    }
                },
                _ => Ok(Step::Need(4)),
            },
        }
    }
}

fn wrong_version(version: u8) -> Error {
    let message = format!("the proxy speaks version {version} of SOCKS, or something else");
    Error::remote(ErrorKind::Version(version), message)
}

fn refused(code: u8) -> Error {
    let reply = SocksReply::from_code(code).unwrap_or(SocksReply::GeneralFailure);
    let text = match reply {
        SocksReply::GeneralFailure => "general failure",
        SocksReply::NotAllowed => "not allowed by its rules",
        SocksReply::NetworkUnreachable => "network unreachable",
        SocksReply::HostUnreachable => "host unreachable",
        SocksReply::ConnectionRefused => "connection refused",
        SocksReply::TtlExpired => "TTL expired",
        SocksReply::CommandNotSupported => "command not supported",
        SocksReply::AddressTypeNotSupported => "address type not supported",
        SocksReply::Unassigned(_) => "unassigned reply code",
    };
    Error::remote(ErrorKind::Socks5(reply), format!("the proxy refused: {text} ({code})"))
}
