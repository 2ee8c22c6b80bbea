use std::net::IpAddr;

use crate::handshake::{Handshake, Handshaking, Step};
use crate::{Error, ErrorKind, Host, Info, Layer, LayerSpec, Site};

/// A SOCKS4 proxy's client; for a host name it speaks 4a, so that the proxy resolves it. Command
/// name `socks4`.
///
/// Every refusal is [`Socks4`](ErrorKind::Socks4) with its code. The layer leaves the chain when
/// it is done.
#[derive(Clone, Debug)]
pub struct Socks4 {
    host: Host,
    port: u16,
    user_id: String,
}

impl Socks4 {
    /// To `host:port` by way of the proxy below.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](ErrorKind::InvalidSetting) if the host is none, or an IPv6 address,
    /// which SOCKS4 cannot say.
    pub fn new(host: &str, port: u16) -> Result<Socks4, Error> {
        let host = Host::parse(host)?;
        if matches!(host, Host::Ip(IpAddr::V6(_))) {
            let message = "SOCKS4 knows no IPv6 address";
            return Err(Error::local(ErrorKind::InvalidSetting, message));
        }
        Ok(Socks4 { host, port, user_id: String::new() })
    }

    /// The user that the proxy is told; at most 255 bytes, without NUL.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`](ErrorKind::InvalidSetting) otherwise.
    pub fn user_id(mut self, user_id: &str) -> Result<Socks4, Error> {
        if user_id.len() > 255 || user_id.contains('\0') {
            let message = "a SOCKS4 user id has at most 255 bytes and no NUL";
            return Err(Error::local(ErrorKind::InvalidSetting, message));
        }
        self.user_id = user_id.to_owned();
        Ok(self)
    }
}

impl LayerSpec for Socks4 {
    fn name(&self) -> &'static str {
        Client::NAME
    }

    fn build(&self, _: &mut Site<'_>) -> Result<Box<dyn Layer>, Error> {
        Ok(Box::new(Handshaking::new(Client { spec: self.clone(), asked: false })))
    }

    fn target(&self) -> Option<(&Host, u16)> {
        Some((&self.host, self.port))
    }
}

struct Client {
    spec: Socks4,
    asked: bool,
}

impl Handshake for Client {
    const NAME: &'static str = "socks4";

    fn advance(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step, Error> {
        if !self.asked {
            self.asked = true;
            out.extend([4, 1]);
            out.extend(self.spec.port.to_be_bytes());
            // 4a: an address 0.0.0.x that cannot be means that a name follows.
            out.extend(match self.spec.host {
                Host::Ip(IpAddr::V4(address)) => address.octets(),
                _ => [0, 0, 0, 1],
            });
            out.extend(self.spec.user_id.bytes());
            out.push(0);
            if let Host::Name(name) = &self.spec.host {
                out.extend(name.bytes());
                out.push(0);
            }
            return Ok(Step::Used(0));
        }
        match *bytes {
            // The version of the reply is 0; some proxies say 4.
            [version, ..] if version != 0 && version != 4 => {
                let message = format!("the proxy's reply is of version {version}");
                Err(Error::remote(ErrorKind::Version(version), message))
            }
            [_, code, ..] if code != 90 => {
                let text = match code {
                    91 => "rejected or failed",
                    92 => "it cannot reach identd on our host",
                    93 => "identd tells another user id",
                    _ => "unassigned reply code",
                };
                let message = format!("the proxy refused: {text} ({code})");
                Err(Error::remote(ErrorKind::Socks4(code), message))
            }
            [_, _, high, low, a, b, c, d, ..] => {
                let host = Host::Ip(IpAddr::from([a, b, c, d]));
                Ok(Step::Done(8, Info::Bound(host, u16::from_be_bytes([high, low]))))
            }
            _ => Ok(Step::Need(if bytes.len() < 2 { 2 } else { 8 })),
        }
    }
}
